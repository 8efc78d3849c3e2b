"""Summaries of `profile`, `check` and `compare`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipelines._report.result import CheckResult, CompareResult, ProfileResult
from pipelines._report.summary.parts import counted, new_table, percent, told_files

# So much is shown; `--json` has all.
_MAX_COLUMNS = 100
_MAX_DATASETS = 10
_MAX_FINDINGS = 20
_MAX_CORRELATIONS = 5
_MAX_TEXT = 30
# What a column has of numbers, by their headings, which are there if a column has one.
_NUMBERS = {
    "distinct": "distinct",
    "min": "min",
    "median": "median",
    "mean": "mean",
    "max": "max",
    "values": "avg_values",
    "length": "avg_length",
}


def told_statistics(result: ProfileResult | CheckResult | CompareResult) -> Iterator[RenderableType]:
    """The parts of a summary."""
    match result:
        case ProfileResult():
            yield from _profile(result)
        case CheckResult():
            yield from _check(result)
        case CompareResult():
            yield from _compare(result)


def _profile(result: ProfileResult) -> Iterator[RenderableType]:
    for dataset in result.datasets[:_MAX_DATASETS]:
        yield Text(f"{dataset['name']}: {counted(dataset['rows'], 'row')}", "bold")
        yield told_columns(dataset["columns"], dataset["rows"])
    if len(result.datasets) > _MAX_DATASETS:
        yield f"and {len(result.datasets) - _MAX_DATASETS} more, with --json"
    if result.rows_unread:
        reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in sorted(result.unread_for.items()))
        yield f"{counted(result.rows_unread, 'row')} could not be read, and are not in it ({reasons})"
    yield from told_files({"the statistics": result.output, "the report": result.report})


def told_columns(columns: Sequence[Mapping[str, Any]], rows: int) -> Table:
    """The statistics of columns, a line for each."""
    numbers = {heading: name for heading, name in _NUMBERS.items() if any(one[name] is not None for one in columns)}
    made = new_table("column", "type", "missing", *numbers, "most frequent")
    for column in columns[:_MAX_COLUMNS]:
        made.add_row(
            column["column"],
            column["type"],
            percent(column["missing"], 1 if rows else 0),
            *(shown(column[name]) for name in numbers.values()),
            _top(column["top"]),
        )
    if len(columns) > _MAX_COLUMNS:
        made.add_row(f"and {len(columns) - _MAX_COLUMNS} more, with --json")
    return made


def _top(top: Sequence[Any] | None) -> str:
    return "" if top is None else f"{_cut(top[0])!r} {top[1]:,}"


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}..."


def shown(value: Any) -> str:
    """A value of a column in few characters.

    >>> shown(None), shown(1234), shown(0.123456), shown(1e20), shown("text"), shown([1, 2])
    ('', '1,234', '0.1235', '1e+20', 'text', '1, 2')
    """
    match value:
        case None:
            return ""
        case list() | tuple():
            return ", ".join(map(shown, value))
        case int():
            return f"{value:,}"
        case float() if math.isfinite(value) and value == int(value) and abs(value) < 1e15:
            return f"{int(value):,}"
        case float():
            return f"{value:.4g}"
        case _:
            return _cut(str(value))


def _check(result: CheckResult) -> Iterator[RenderableType]:
    rows = counted(sum(result.rows.values()), "row")
    against = ", ".join(filter(None, (result.schema, result.baseline, result.serving)))
    if not result.findings:
        yield f"{result.checked}: {rows}, nothing found against {against}"
    for severity in ("error", "warning"):
        found = [finding for finding in result.findings if finding["severity"] == severity]
        if found:
            yield _findings(f"{counted(len(found), severity)} in {result.checked} ({rows})", found)
    yield from told_files({"the findings": result.anomalies, "the report": result.report})


def _findings(title: str, findings: Sequence[Mapping[str, Any]]) -> RenderableType:
    """A few lines for each finding."""
    lines = [Text(title, "bold")]
    for finding in findings[:_MAX_FINDINGS]:
        where = f" of {finding['dataset']}" if finding["dataset"] else ""
        told = [f"  expected {finding['expected']}", f"  seen     {finding['seen']}"]
        if finding["rows"] is not None:
            told.append(f"  in       about {counted(finding['rows'], 'row')}")
        if finding["example"]:
            told.append(f"  such as  {finding['example']}")
        if finding["fix"]:
            told.append(f"  change   {finding['fix']}")
        heading = (f"{finding['subject']}{where}: {finding['title']} [{finding['code']}]", "bold")
        lines.append(Text.assemble(heading, *(f"\n{line}" for line in told)))
    if len(findings) > _MAX_FINDINGS:
        lines.append(Text(f"and {len(findings) - _MAX_FINDINGS} more, with --json"))
    return Text("\n").join(lines)


def _compare(result: CompareResult) -> Iterator[RenderableType]:
    yield from told_pairs(result.datasets)
    yield from told_files({"the report": result.report})


def told_pairs(datasets: Sequence[Mapping[str, Any]]) -> Iterator[RenderableType]:
    """What differs between statistics, pair by pair."""
    for pair in datasets[:_MAX_DATASETS]:
        names = pair["names"][0] if pair["names"][0] == pair["names"][1] else " and ".join(pair["names"])
        before, after = pair["rows"]
        yield Text(f"{names}: {counted(before, 'row')} before, {counted(after, 'row')} after", "bold")
        yield _differences(pair["columns"]) if pair["columns"] else "no column differs"
        if pair["correlations"]:
            yield _correlations(pair["correlations"])
        if pair["findings"]:
            yield _findings("what a check finds", pair["findings"])
    if len(datasets) > _MAX_DATASETS:
        yield f"and {len(datasets) - _MAX_DATASETS} more, with --json"


def _differences(columns: Sequence[Mapping[str, Any]]) -> Table:
    """A line for each value that differs, and for the distances of a column."""
    made = new_table("column", "what", "before", "after")
    for column in columns[:_MAX_COLUMNS]:
        name = column["column"]
        if column["only_in"]:
            sides = ("there", "") if column["only_in"] == "a" else ("", "there")
            made.add_row(name, "the column", *sides)
            continue
        for what, (before, after) in column["differs"].items():
            text = (f"{before:.2%}", f"{after:.2%}") if what == "missing" else (shown(before), shown(after))
            made.add_row(name, what.replace("_", " "), *text)
            name = ""
        for what, distance in column["distances"].items():
            made.add_row(name, what.replace("_", " "), "", shown(distance))
            name = ""
    if len(columns) > _MAX_COLUMNS:
        made.add_row(f"and {len(columns) - _MAX_COLUMNS} more, with --json")
    return made


def _correlations(correlations: Sequence[Mapping[str, Any]]) -> Table:
    """The correlations that changed most."""
    made = new_table("correlation", "before", "after")
    for one in correlations[:_MAX_CORRELATIONS]:
        made.add_row(" and ".join(one["columns"]), f"{one['before']:.3f}", f"{one['after']:.3f}")
    if len(correlations) > _MAX_CORRELATIONS:
        made.add_row(f"and {len(correlations) - _MAX_CORRELATIONS:,} more, with --json")
    return made
