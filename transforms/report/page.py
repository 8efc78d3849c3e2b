"""The page: the template with all views, the data for its script, and a policy that lets nothing else in or out."""

import base64
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import markupsafe

from penstock.transforms.report.alerts import Distance
from penstock.transforms.report.charts import bar, spark
from penstock.transforms.report.definitions import KEYS, MEANINGS, METRICS
from penstock.transforms.report.features import SHARES, Dataset, Feature
from penstock.transforms.report.history_lines import Line
from penstock.transforms.report.relations import shade
from penstock.transforms.report.text import number, script_json, share

_ASSETS = pathlib.Path(__file__).with_name("assets")
_SCRIPTS = ("format.js", "charts.js", "sections.js", "table.js", "page.js")

# The numbers that the table of features has as columns, in their order.
COLUMNS = ("missing_share", "distinct", "mean", "std", "least", "median", "greatest", "zero_share")

# With more features than this, their sections are closed at first, so that the page is not endless.
_OPEN_FEATURES = 30


class Row(NamedTuple):
    """A feature in the table: its numbers as texts, its top value, and how many findings name it."""

    feature: Feature
    cells: tuple[str, ...]
    top: str
    alerts: int


def render(
    title: str,
    datasets: Sequence[Dataset],
    features: Sequence[Feature],
    alerts_by_path: Mapping[str, int],
    distances: Sequence[Distance],
    lines: Mapping[str, Sequence[Line]],
    **views: Any,
) -> str:
    """Returns the HTML of the page; `views` are what the template has beside the features."""
    rows = [row(feature, alerts_by_path.get(feature.path, 0)) for feature in features]
    style, script = _asset("page.css"), "\n".join(_asset(name) for name in _SCRIPTS)
    return _template().render(
        title=title,
        policy=policy(style, script),
        style=markupsafe.Markup(style),
        script=markupsafe.Markup(script),
        data=markupsafe.Markup(script_json(page_data(datasets, rows, distances, lines))),
        datasets=datasets,
        rows=rows,
        ids={feature.path: feature.id for feature in features},
        columns=[METRICS[KEYS[key]] for key in COLUMNS],
        types=sorted({kind for feature in features for kind in feature.types}),
        are_open=len(features) <= _OPEN_FEATURES,
        meanings=MEANINGS,
        distances=distances,
        greatest=_greatest(distances),
        **views,
    )


def _greatest(distances: Sequence[Distance]) -> dict[str, float]:
    """The greatest distance by each measure."""
    found: dict[str, float] = {}
    for one in distances:
        found[one.measure] = max(found.get(one.measure, 0.0), one.value)
    return found


@functools.cache
def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_asset),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "shade": shade}
    environment.globals |= {"share": share, "spark": spark, "bar": bar}
    return environment.get_template("page.html.j2")


def policy(style: str, script: str) -> str:
    """A Content-Security-Policy under which this style and this script work, and nothing is fetched or sent.

    With `require-trusted-types-for`, browsers that know it also refuse that the script makes markup out of a text.
    """
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'"
    )


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def row(feature: Feature, alerts: int) -> Row:
    """A feature as the table shows it for the first dataset."""
    numbers = feature.numbers[0] or [None] * len(METRICS)
    cells = tuple(_cell(METRICS[KEYS[key]].form, numbers[KEYS[key]]) for key in COLUMNS)
    return Row(feature, cells, _top(feature, numbers[KEYS["values"]]), alerts)


def _cell(form: str, value: float | None) -> str:
    if form == "share" and value is not None:
        return share(value, 1)
    return number(value)


def _top(feature: Feature, values: float | None) -> str:
    for ranks in feature.ranks:
        if ranks.key == "top" and (counts := ranks.counts[0]):
            known = [(count, -place) for place, count in enumerate(counts) if count is not None]
            count, place = max(known, default=(0, 0))
            return f"{ranks.labels[-place]} ({share(count, values)})" if count and values else ""
    return ""


def page_data(
    datasets: Sequence[Dataset],
    rows: Sequence[Row],
    distances: Sequence[Distance],
    lines: Mapping[str, Sequence[Line]],
) -> dict[str, Any]:
    """What the script draws from. Keys of features are short, since there may be thousands of them."""
    used = [index for index in range(len(METRICS)) if any(_has(row.feature, index) for row in rows)]
    by_path: dict[str, list[Distance]] = {}
    for distance in distances:
        by_path.setdefault(distance.path, []).append(distance)
    # Most lines have the times of all others.
    times = list(dict.fromkeys(tuple(line.times) for found in lines.values() for line in found))
    places = {one: place for place, one in enumerate(times)}
    drawn = {
        path: [(line.label, places[tuple(line.times)], line.values) for line in found] for path, found in lines.items()
    }
    return {
        "datasets": [dataset.label for dataset in datasets],
        "metrics": [METRICS[index][:3] for index in used],
        "columns": COLUMNS,
        "shares": SHARES,
        "labels": {key: label for key, (label, _) in MEANINGS.items()},
        "times": times,
        "features": [
            _data(one, used, by_path.get(one.feature.path, ())) | _history(drawn.get(one.feature.path)) for one in rows
        ],
    }


def _has(feature: Feature, index: int) -> bool:
    return any(numbers[index] is not None for numbers in feature.numbers if numbers)


def _history(lines: Sequence[tuple[str, int, list[float]]] | None) -> dict[str, Any]:
    """Lines of a feature: each a label, the index of its times, and its values."""
    return {"h": lines} if lines else {}


def _data(one: Row, used: Sequence[int], distances: Sequence[Distance]) -> dict[str, Any]:
    feature = one.feature
    fields = {
        "id": feature.id,
        "n": feature.name,
        "t": feature.types,
        "a": one.alerts,
        "m": [numbers and [numbers[index] for index in used] for numbers in feature.numbers],
        "c": [[chart.key, *chart.bins] for chart in feature.charts],
        "q": feature.quantiles if any(feature.quantiles) else (),
        "r": feature.ranks,
        "x": feature.more if any(feature.more) else (),
        "d": [[one.kind, one.measure, one.value, one.threshold] for one in distances],
    }
    return {key: value for key, value in fields.items() if value or key in ("a", "m")}
