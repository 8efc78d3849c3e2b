"""The summary of a job that wrote a dataset."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from penstock.io.files.sizes import byte_text
from pipelines._report.printable import masked, shell_word
from pipelines._report.result import DatasetResult, LettersResult
from pipelines._report.summary.parts import (
    GAP,
    counted,
    listed,
    new_table,
    percent,
    time_range,
    told_loading,
    told_notes,
    told_reasons,
    told_report,
)

INDENT = 2


def told_dataset(result: DatasetResult, output: str) -> Iterator[RenderableType]:
    """Rows, splits, what was rejected and noted, where it lies, how to load it; `output` is its folder as it is."""
    yield f"Done in {result.seconds:,.1f} s, {result.rows_in / result.seconds:,.0f} rows/s"
    yield _rows(result) if result.windows is None else _windows(result)
    if result.windows is None:
        yield _splits(result)
        yield from listed("splits with more shards than rows, so with empty ones", _empty_shards(result))
    if result.whole is not None:
        yield _whole(result, result.whole)
    yield from listed("left out, since they are or were in the dataset", result.skipped)
    if result.rejected_by_reason:
        yield told_reasons(result.rows_in, result.rejected_by_reason)
    yield from told_notes(result.notes)
    if result.read_twice:
        yield f"The input was read twice, to fit features and to write: {result.read_twice}"
    yield from listed("unusual about the rows", map(_anomaly, result.anomalies))
    if result.windows is None:
        yield _places(result)
    else:
        yield from told_report(result.report)
    if result.load:
        yield told_loading(result.load)
    if result.openlineage:
        yield f"OpenLineage's events of the run went to {result.openlineage}"
    yield f"Next: check every byte\n  penstock verify --dataset {shell_word(masked(output))}"


def _rows(result: DatasetResult) -> Table:
    table = new_table("rows", "", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    table.add_row("out", f"{result.rows_out:,}", percent(result.rows_out, result.rows_in))
    table.add_row("rejected", f"{result.rows_rejected:,}", percent(result.rows_rejected, result.rows_in))
    return table


def _whole(result: DatasetResult, whole: Mapping[str, Any]) -> Table:
    """The dataset that a span was added to."""
    spans = counted(whole["spans"], "span")
    table = new_table(f"the dataset with span {result.span}", f"version {result.version}, {spans}", "")
    for name, rows in (("in", whole["rows_in"]), ("out", whole["rows_out"]), ("rejected", whole["rows_rejected"])):
        table.add_row(name, f"{rows:,}", percent(rows, whole["rows_in"]))
    return table


def _windows(result: DatasetResult) -> Table:
    windows = result.windows or ()
    table = new_table("windows", f"{len(windows):,}", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    counts = {"on time": result.rows_on_time or 0, "late": result.rows_late or 0, "rejected": result.rows_rejected}
    for name, rows in counts.items():
        table.add_row(name, f"{rows:,}", percent(rows, result.rows_in))
    quarantined = sum(window.status == "quarantined" for window in windows)
    table.add_row("windows with too many rejects", f"{quarantined:,}", percent(quarantined, len(windows)))
    return table


def _splits(result: DatasetResult) -> Table:
    table = new_table("split", "rows", "shards", "bytes")
    for name, split in result.splits.items():
        table.add_row(name, f"{split.rows:,}", str(split.shards), byte_text(split.bytes))
    return table


def _empty_shards(result: DatasetResult) -> list[str]:
    """Says which splits must have empty shards; one without rows has one in any case."""
    return [
        f"{name}: {split.shards:,} shards of {counted(split.rows, 'row')}: pass a smaller --num_shards, or none"
        for name, split in result.splits.items()
        if split.shards > max(split.rows, 1)
    ]


def _anomaly(found: Mapping[str, Any]) -> str:
    where = [time_range(*found["window"])] if found["window"] else []
    where += [part for part in (found["dataset"], found["feature"]) if part and found["against"] != "history"]
    return ": ".join([*where, found["severity"], found["description"]])


def _places(result: DatasetResult) -> RenderableType:
    """What lies at which path; on a terminal too narrow for a table each description stands below its path."""
    places = [(f"{split.folder}/", "the shards of this split") for split in result.splits.values()]
    places.append((f"{result.manifest}", "counts, digests, inputs, options, versions"))
    if result.schema:
        places.append((result.schema, "the schema of the rows; curate it and pass it back with --schema"))
    if result.transform:
        engine = f" ({result.features_engine})" if result.features_engine else ""
        export = "" if result.saved_model else ", penstock export makes a SavedModel"
        use = f"; --transform applies them to other rows{export}"
        places.append((f"{result.transform}/", f"the fitted features{engine}{use}"))
        if result.features_engine == "arrow" and result.saved_model:
            places.append((f"{result.saved_model}/", "the same as a SavedModel; tft.TFTransformOutput loads it"))
    if result.dead_letters:
        places.append((f"{result.dead_letters}/", "rejected rows with all their reasons"))
    if result.statistics:
        places.append((f"{result.statistics}/", "statistics of the rows in, out and rejected"))
    if result.report:
        places.append((result.report, "the report: open it in a browser"))
    path_width, text_width = (max(map(len, texts)) for texts in zip(*places, strict=True))
    if sys.stdout.isatty() and INDENT + path_width + GAP + text_width > Console().width:
        lines = [Text.assemble((path, "bold"), f"\n  {what}") for path, what in places]
        return Text("\n").join([Text("where", "bold"), *lines])
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column("where", style="bold")
    table.add_column("")
    for path, what in places:
        table.add_row(path, what)
    return table


def told_letters(letters: LettersResult) -> str:
    """How many letters were repaired, rejected and parked."""
    total = letters.repaired + letters.rejected + letters.parked
    return f"{total:,} letters: {letters.repaired:,} repaired, {letters.rejected:,} rejected, {letters.parked:,} parked"
