"""The summary of the jobs about spans and versions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from penstock.io.files.sizes import byte_text
from pipelines._report.result import SpansResult
from pipelines._report.summary.parts import listed, new_table
from pipelines._report.summary.statistics import told_pairs


def told_spans(result: SpansResult) -> Iterator[RenderableType]:
    """Versions, or spans and what has changed of them."""
    if result.versions:
        versions = new_table("version", "spans", "rows", "added", "removed", "published", "by")
        for one in result.versions:
            numbers = (f"{one[name]:,}" for name in ("spans", "rows_out", "rows_added", "rows_removed"))
            gone = "" if one["readable"] else " (its files are deleted)"
            versions.add_row(str(one["version"]), *numbers, one["created"], f"{one['operation']}{gone}")
        yield versions
        return
    if result.version is None:
        yield from _sets(result)
    elif result.compared is None:
        yield f"{result.dataset}, version {result.version}"
    else:
        yield f"{result.dataset}, from version {result.compared[0]} to {result.compared[1]}"
        table = new_table("split", "before", "after", "")
        for split, (before, after) in result.splits.items():
            table.add_row(split, f"{before:,}", f"{after:,}", f"{after - before:+,}")
        yield table
    title = "spans" if result.compared is None else "spans that were added"
    if result.spans:
        yield _span_table(title, result.spans)
    if result.removed:
        yield _span_table("would be dropped" if result.status == "described" else "no longer in it", result.removed)
    yield from listed("schema", result.schema)
    yield from told_pairs(result.statistics)
    if result.not_compared is not None:
        yield f"statistics are not compared: {result.not_compared}"


def _sets(result: SpansResult) -> Iterator[RenderableType]:
    table = new_table("windows from", "windows", "rows", "shards", "bytes")
    for one in result.sets:
        numbers = (f"{one[name]:,}" for name in ("windows", "rows_out", "shards"))
        table.add_row(one["window"][0], *numbers, byte_text(one["bytes"]))
    yield table if result.sets else f"{result.dataset}: no windows are to be put together"
    yield from listed("windows that are not final", result.open)
    yield from listed("windows with too many rejects", result.quarantined)


def _span_table(title: str, spans: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table(title, "rows in", "out", "rejected", "date", "published")
    for one in spans:
        counts = (f"{one[name]:,}" for name in ("rows_in", "rows_out", "rows_rejected"))
        table.add_row(one["name"], *counts, one["date"], one["created"])
    return table
