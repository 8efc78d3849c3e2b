"""The page as a parser sees it: what a browser shows of it is tested in tests/integration/test_report_browser.py."""

import base64
import collections
import hashlib
import html.parser
import json
import os
import pathlib
import re
import webbrowser

import pytest
import report_samples as samples
from tensorflow_metadata.proto.v0 import anomalies_pb2, statistics_pb2

from penstock.io.errors import ConfigError, StorageError
from penstock.transforms.report.report import Report

# Elements without an end.
_VOID = {"meta", "input", "link", "br", "img", "hr", "base", "source", "embed"}


class Page(html.parser.HTMLParser):
    """Elements with their attributes and texts, after a check that they are nested as they should be."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = collections.defaultdict(list)
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.texts[self.open[-1]].append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> str:
        return "".join(self.texts[tag])


def full() -> Report:
    """A report with all that it can show."""
    statistics = samples.statistics_of(samples.small())
    samples.add_dataset(statistics, samples.small(200, 8), "eval")
    anomalies = samples.anomalies_of(month="WARNING", delay="ERROR", gone="ERROR")
    samples.add_distance(anomalies, "delay", 0.3, 0.1)
    return Report(
        statistics=statistics,
        baseline=samples.statistics_of(samples.small(500, 9, 30.0)),
        schema=samples.schema(),
        anomalies=anomalies,
        manifest=samples.MANIFEST,
        history=samples.history(),
        dead_letters=[samples.letter()],
        title="Flights",
    )


def hostile() -> Report:
    """A report in which all texts are hostile."""
    anomalies = anomalies_pb2.Anomalies()
    for text in samples.HOSTILE:
        samples.add_anomaly(anomalies, text or "blank", "ERROR", text)
        samples.add_distance(anomalies, text or "blank", 1, 0.5)
    return Report(
        statistics=samples.statistics_of(samples.hostile(), samples.HOSTILE[1]),
        anomalies=anomalies,
        manifest={
            **samples.MANIFEST,
            "rejected_by_reason": dict.fromkeys(samples.HOSTILE, 1),
            "splits": dict.fromkeys(samples.HOSTILE, 1),
            "provenance": {text: text for text in samples.HOSTILE},
        },
        dead_letters=[samples.letter(text, text, detail=text, uri=text, stage=text) for text in samples.HOSTILE],
        title=samples.HOSTILE[1],
    )


@pytest.fixture(scope="module", params=[full, hostile], ids=["full", "hostile"])
def text(request) -> str:
    return request.param().to_html()


@pytest.fixture(scope="module")
def parsed(text) -> Page:
    return Page(text)


def test_every_link_leads_to_an_element_of_the_page_and_ids_are_unique(parsed):
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in parsed.all("a")]
    assert len(links) > 20
    assert {link.removeprefix("#") for link in links} <= set(ids)
    labelled = [attributes["aria-labelledby"] for _, attributes in parsed.elements if "aria-labelledby" in attributes]
    assert set(labelled) <= set(ids)


def test_nothing_in_the_page_can_ask_for_anything(parsed):
    assert not {"link", "img", "iframe", "object", "embed", "base", "video", "audio", "use", "image"} & {
        tag for tag, _ in parsed.elements
    }
    for tag, attributes in parsed.elements:
        assert not {"src", "srcset", "action", "formaction", "ping", "style", "background", "xlink:href"} & set(
            attributes
        )
        assert not any(name.startswith("on") for name in attributes), f"{tag} has a handler"
    assert "url(" not in parsed.text("style")
    assert "@import" not in parsed.text("style")


def test_the_policy_lets_this_style_and_these_scripts_in_and_nothing_else(parsed, text):
    [policy] = [m["content"] for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert "unsafe" not in policy
    [style] = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    [script] = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    for name, content in (("style-src", style), ("script-src", script)):
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'"
    assert [attributes.get("type") for attributes in parsed.all("script")] == ["application/json", None]


def test_the_data_of_the_script_is_json(text):
    [data] = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    fields = json.loads(data)
    ids = [feature["id"] for feature in fields["features"]]
    assert ids == [f"f{index}" for index in range(len(ids))]
    for feature in fields["features"]:
        assert len(feature["m"]) == len(fields["datasets"])
        assert {len(numbers) for numbers in feature["m"] if numbers} <= {len(fields["metrics"])}


def test_tables_have_captions_and_headers_have_scopes(parsed):
    assert len(parsed.all("table")) == len(parsed.all("caption"))
    assert {attributes.get("scope") for attributes in parsed.all("th")} == {"col", "row"}
    for attributes in parsed.all("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


@pytest.mark.parametrize("value", [value for value in samples.HOSTILE if value.strip() and value.isprintable()])
def test_hostile_texts_are_texts(value):
    page = Page(hostile().to_html())
    shown = value if len(value) <= 200 else value[:200]
    assert any(shown in text for texts in page.texts.values() for text in texts)


def test_no_character_that_reorders_or_hides_text_is_left(text):
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028\u2029\x00\u200b]", text)


def test_alerts_come_first_and_a_feature_without_statistics_is_no_link():
    text = full().to_html()
    order = [text.index(f'<section id="{name}"') for name in ("alerts", "rows", "features", "distances", "details")]
    assert order == sorted(order)
    alerts = text[order[0] : order[1]]
    assert alerts.index(">delay</a>") < alerts.index(">gone</span>") < alerts.index(">month</a>")


def test_a_distance_without_a_threshold_is_drawn_beside_the_greatest_of_its_measure():
    anomalies = anomalies_pb2.Anomalies()
    for path, value, threshold in (("a", 0.4, None), ("b", 0.1, None), ("c", 0.1, 0.2)):
        samples.add_distance(anomalies, path, value, threshold)
    text = Report(statistics=samples.statistics_of({"a": [1]}), anomalies=anomalies).to_html()
    assert re.findall(r'<rect y="2" height="8" width="([\d.]+)"/>', text) == ["48.0", "96.0", "24.0"]


def test_what_is_not_given_is_not_shown():
    page = Page(Report(statistics=samples.statistics_of({"x": [1, 2]})).to_html())
    assert [attributes["id"] for attributes in page.all("section")] == ["alerts", "features", "details", "definitions"]
    assert "The data was not checked" in page.text("p")


def test_a_check_without_a_finding_says_so():
    found = Report(statistics=samples.statistics_of({"x": [1]}), anomalies=anomalies_pb2.Anomalies()).to_html()
    assert "No anomaly was found." in found


@pytest.mark.parametrize(
    "statistics",
    [
        pytest.param(statistics_pb2.DatasetFeatureStatisticsList(), id="no dataset"),
        pytest.param(samples.statistics_of({}), id="no column"),
        pytest.param(samples.statistics_of({"x": []}), id="no row"),
        pytest.param(samples.statistics_of({"x": [None]}), id="null"),
        pytest.param(samples.statistics_of({"x": [float("nan"), float("inf")]}), id="not finite"),
        pytest.param(samples.statistics_of({"größe": ["ü"]}), id="unicode"),
    ],
)
def test_a_page_of_hardly_anything(statistics):
    Page(Report(statistics=statistics).to_html())


def test_the_same_arguments_make_the_same_page():
    assert full().to_html() == full().to_html()


def test_2000_columns_are_less_than_5_megabytes():
    statistics = samples.statistics_of(samples.wide(2000))
    size = len(Report(statistics=statistics, baseline=statistics).to_html().encode())
    assert 1_000_000 < size < 5_000_000


def test_more_datasets_than_can_be_shown_are_counted():
    statistics = samples.statistics_of({"x": [1]})
    for index in range(9):
        samples.add_dataset(statistics, {"x": [1]}, f"slice {index}")
    assert "4 more datasets are in the statistics; 6 are shown." in Report(statistics=statistics).to_html()


def test_what_makes_a_proto_is_taken_for_it():
    class Statistics:
        def to_proto(self):
            return samples.statistics_of({"x": [1]})

    made = Report(statistics=Statistics()).to_html()
    assert made == Report(statistics=samples.statistics_of({"x": [1]})).to_html()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"statistics": b"bytes"}, "statistics must be a DatasetFeatureStatisticsList, or have a to_proto"),
        ({"baseline": anomalies_pb2.Anomalies()}, "baseline must be a DatasetFeatureStatisticsList"),
        ({"schema": "x"}, "schema must be a Schema"),
        ({"anomalies": samples.statistics_of({})}, "anomalies must be a Anomalies"),
        ({"manifest": {}}, "manifest must have rows_in"),
        ({"history": samples.history(1).drop(["value"])}, "a history must have the columns"),
    ],
)
def test_wrong_arguments_are_refused_when_the_report_is_made(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Report(**{"statistics": samples.statistics_of({}), **arguments})


def test_a_file_is_replaced_at_once(tmp_path):
    target = tmp_path / "report.html"
    report = Report(statistics=samples.statistics_of({"x": [1]}))
    target.write_text("before")
    report.write(target)
    assert target.read_text(encoding="utf-8") == report.to_html()
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_that_cannot_be_replaced_stays_and_no_part_of_the_new_one(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("before")
    monkeypatch.setattr(os, "replace", _fail)
    with pytest.raises(StorageError, match=r"report\.html"):
        Report(statistics=samples.statistics_of({})).write(str(target))
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def _fail(*_: object) -> None:
    raise PermissionError(13, "Permission denied")


def test_show_opens_a_file_in_the_browser(monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    report = Report(statistics=samples.statistics_of({"x": [1]}))
    path = pathlib.Path(report.show())
    assert opened == [path.as_uri()]
    assert path.read_text(encoding="utf-8") == report.to_html()
    path.unlink()


def test_a_notebook_gets_the_page_in_a_frame_that_may_run_its_script_and_nothing_else():
    report = hostile()
    page = Page(report._repr_html_())
    [(tag, attributes)] = page.elements
    assert (tag, attributes["sandbox"]) == ("iframe", "allow-scripts")
    assert attributes["srcdoc"] == report.to_html()


def test_the_assets_have_no_address_and_no_way_to_make_markup():
    for path in (pathlib.Path(__file__).parents[3] / "transforms" / "report" / "assets").iterdir():
        text = path.read_text()
        assert not re.search(
            r"https?://|innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|</script.*</script", text
        )
        assert "|safe" not in text
