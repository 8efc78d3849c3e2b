"""Prints the result of a job: for a person the numbers of rows, the paths and the next step; for a program JSON."""

import datetime
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from penstock.io.files.sizes import byte_text
from penstock.io.reasons import UNCHECKED, Note
from pipelines._report.printable import mapped, masked, printable, shell_word
from pipelines._report.result import (
    CheckResult,
    CompareResult,
    DatasetResult,
    DescribedResult,
    ExportResult,
    FitResult,
    HistoryResult,
    LettersResult,
    ProfileResult,
    RelaxResult,
    Result,
    ShowResult,
    SpansResult,
    StatusResult,
    VerifyResult,
)
from pipelines._report.statistics import GAP, counted, new_table, percent, told_pairs, told_report, told_statistics

_MAX_REASONS = 12
_MAX_LINES = 100

# Paths and commands are for copying: a terminal wraps what is too long for it, nothing is cut.
_WIDTH = 10_000
_INDENT = 2


def tell(result: Result, as_json: bool) -> int:
    """Prints how a job ended, to stdout, and gives its exit code."""
    if as_json:
        print(result.to_json())
    else:
        output = result.output if isinstance(result, DatasetResult) else ""
        _print_text(mapped(result, printable), output)
    return result.exit_code


_NO_SAVED_MODEL = "; not as a SavedModel (--export_saved_model, or penstock export)"


def _print_text(result: Result, output: str) -> None:
    """Prints a result without control characters; `output` is its folder as it is, for a command."""
    match result:
        case DatasetResult(status="too_many_rejects" | "too_much_drift"):
            if result.rejected_by_reason:
                _print(_reasons(result.rows_in, result.rejected_by_reason))
        case DatasetResult(status="translated"):
            print("The graph was translated and not submitted; nothing was written.")
        case DatasetResult(status="nothing_to_do"):
            skipped = counted(len(result.skipped), "input")
            print(f"nothing to add: {skipped} in the dataset already" if result.skipped else "nothing to replay")
        case DatasetResult():
            _print(*_dataset(result, output))
            if result.letters is not None:
                print(_letters(result.letters))
        case FitResult():
            rows = "" if result.rows_fitted is None else f"{result.rows_fitted:,} rows of "
            print(f"fitted {result.features} ({result.features_engine}) on {rows}{result.input}; ", end="")
            print(f"they are in {result.transform}{'' if result.saved_model else _NO_SAVED_MODEL}")
            _print(*_notes(result.notes), *told_report(result.report))
        case ExportResult():
            print(f"exported {result.transform} as a SavedModel: tft.TFTransformOutput loads {result.output}")
        case RelaxResult():
            _print(*_relaxed(result))
        case ProfileResult() | CheckResult() | CompareResult():
            _print(*told_statistics(result))
        case VerifyResult():
            print(_verified(result))
            _print(*told_report(result.report))
        case StatusResult():
            _print(*_status(result), *told_report(result.report))
        case HistoryResult():
            _print(*_history(result))
        case SpansResult():
            _print(*_spans(result))
        case ShowResult():
            _print(*_shown(result))
        case DescribedResult():
            print(_described(result))


def _print(*parts: RenderableType) -> None:
    """Prints parts with an empty line after each, and no space at the end of any line."""
    console = Console(highlight=False, markup=False, emoji=False, width=_WIDTH)  # brackets are part of names
    padded = (Padding(part, (0, 0, 1, _INDENT), expand=False) for part in parts)
    for line in console.render_lines(Group(*padded), pad=False):
        console.print(Segments([*_stripped(line), Segment.line()]), end="")


def _stripped(line: list[Segment]) -> list[Segment]:
    """A line without the spaces that it ends in."""
    line = list(line)
    while line and not line[-1].text.rstrip():
        line.pop()
    return [*line[:-1], Segment(line[-1].text.rstrip(), line[-1].style)] if line else []


def _dataset(result: DatasetResult, output: str) -> Iterator[RenderableType]:
    yield f"Done in {result.seconds:,.1f} s, {result.rows_in / result.seconds:,.0f} rows/s"
    yield _rows(result) if result.windows is None else _windows(result)
    if result.windows is None:
        yield _splits(result)
    if result.whole is not None:
        yield _whole(result, result.whole)
    yield from _listed("left out, since they are in the dataset", result.skipped)
    if result.rejected_by_reason:
        yield _reasons(result.rows_in, result.rejected_by_reason)
    yield from _notes(result.notes)
    if result.read_twice:
        yield f"The input was read twice, to fit features and to write: {result.read_twice}"
    yield from _listed("unusual about the rows", map(_anomaly, result.anomalies))
    if result.windows is None:
        yield _places(result)
    else:
        yield from told_report(result.report)
    if result.load:
        yield _loading(result.load)
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


def _reasons(rows_in: int, rejected: Mapping[str, int]) -> Table:
    table = new_table("rejected for (a row may have several reasons)", "rows", "")
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for reason, rows in ranked[:_MAX_REASONS]:
        table.add_row(reason, f"{rows:,}", percent(rows, rows_in))
    if len(ranked) > _MAX_REASONS:
        table.add_row(f"and {len(ranked) - _MAX_REASONS} more", "", "")
    return table


# What notes are about, by the beginnings of their codes; the others are about values.
_TITLES = {
    ("schema.", "rule."): "passed with a warning (a row may have several)",
    ("kafka.",): "in the dataset, and not in the topic",
    ("transform.",): "features that are left out",
    ("split.",): "look at the splits (no row is rejected for it)",
    ("",): "not as they were read (no row is rejected for it)",
}


def _notes(notes: Sequence[Note]) -> Iterator[RenderableType]:
    """What only warns, what splits are like, what became of values; what is not checked was logged at the beginning."""
    left = [note for note in notes if note.code != UNCHECKED]
    for prefixes, title in _TITLES.items():
        found = [note for note in left if note.code.startswith(prefixes)]
        left = [note for note in left if note not in found]
        if found:
            yield _told(title, found)


def _told(title: str, notes: Sequence[Note]) -> RenderableType:
    """A line for each note and a sentence below it."""
    lines = [
        Text.assemble((f"{note.code} {note.subject}", "bold"), f"   {note.count:,}\n  {note.detail}")
        for note in notes[:_MAX_REASONS]
    ]
    if len(notes) > _MAX_REASONS:
        lines.append(Text(f"and {len(notes) - _MAX_REASONS} more, in the manifest"))
    return Text("\n").join([Text(title, "bold"), *lines])


def _relaxed(result: RelaxResult) -> Iterator[RenderableType]:
    """What rows break, what became of the schema, and the lines that differ."""
    if not result.changes:
        yield f"{result.rows_in:,} rows meet {result.schema}; {result.output} is the same"
    else:
        lines = [
            Text.assemble(
                (f"{change['code']} {change['subject']}", "bold"),
                f"   {change['rows']:,} of {result.rows_in:,} rows\n  {change['example']}\n  -> {change['change']}",
            )
            for change in result.changes
        ]
        yield Text("\n").join([Text(f"what rows break of {result.schema}", "bold"), *lines])
    if result.rows_unread:
        yield f"{result.rows_unread:,} rows cannot be read, whatever the schema says; prepare rejects them"
    if result.difference:
        shown = result.difference[:_MAX_LINES]
        more = (
            [f"and {len(result.difference) - len(shown):,} lines more"] if len(shown) < len(result.difference) else []
        )
        yield Text("\n").join([Text("difference", "bold"), *map(Text, [*shown, *more])])
    yield f"the relaxed schema: {result.output}"


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
    if sys.stdout.isatty() and _INDENT + path_width + GAP + text_width > Console().width:
        lines = [Text.assemble((path, "bold"), f"\n  {what}") for path, what in places]
        return Text("\n").join([Text("where", "bold"), *lines])
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column("where", style="bold")
    table.add_column("")
    for path, what in places:
        table.add_row(path, what)
    return table


def _letters(letters: LettersResult) -> str:
    """How many letters were repaired, rejected and parked."""
    total = letters.repaired + letters.rejected + letters.parked
    return f"{total:,} letters: {letters.repaired:,} repaired, {letters.rejected:,} rejected, {letters.parked:,} parked"


def _verified(result: VerifyResult) -> str:
    from penstock.transforms.leftovers import LEFTOVER
    from penstock.transforms.verify import Fault

    lines = [f"{name}: deleted" for name in result.cleaned] + [f"{name}: {LEFTOVER}" for name in result.leftovers]
    if result.faults:
        lines += [str(Fault(**fault)) for fault in result.faults]
        return "\n".join([*lines, f"{result.dataset}: {result.error}"])
    windows = "" if result.windows is None else f" of {counted(result.windows, 'window')}"
    records = f"{result.rows_out or 0:,} records in {counted(result.shards or 0, 'shard')}{windows}"
    return "\n".join([*lines, f"{result.dataset}: good: {records}, {byte_text(result.bytes or 0)}"])


# So many of each kind are shown; `--json` has all.
_MAX_SHOWN = 10


def _status(result: StatusResult) -> Iterator[RenderableType]:
    """The state, the rows, and what one may have to look at; nothing of what is as it should be."""
    yield Text("\n").join([Text(result.output, "bold"), *map(Text, _state(result))])
    if result.state != "unpublished":
        yield _status_rows(result)
    if result.rejected_by_reason:
        yield _reasons(result.rows_in, result.rejected_by_reason)
    yield from _listed(
        "gaps, in which no window is published", [_range(gap["start"], gap["end"]) for gap in result.gaps]
    )
    yield from _listed("windows that are not final yet", [_range(*window) for window in result.not_final])
    yield from _listed("windows with too many rejects", map(_quarantined, result.quarantined))
    title = "windows with anomalies" if result.window_count is not None else "unusual about the rows"
    yield from _listed(title, map(_unusual, result.unusual))
    yield from _listed("folders of runs", map(_staged, result.staging))
    if result.earlier_files:
        files = counted(result.earlier_files, "file")
        size = byte_text(result.earlier_bytes)
        yield f"{files} that were replaced ({size}); penstock verify --clean deletes them"
    title = f"files that no manifest names ({byte_text(result.unknown_bytes)})"
    yield from _listed(title, result.unknown)
    yield from _listed("files that are missing", result.missing)
    yield from _listed("files that cannot be read", [f"{one['path']}: {one['detail']}" for one in result.damaged])


def _state(result: StatusResult) -> Iterator[str]:
    match result.state:
        case "unpublished":
            yield "nothing is published yet"
        case "whole":
            yield "a dataset without windows"
            if result.spans:
                spans = counted(len(result.spans), "span")
                yield f"version {result.version}, {spans}, the newest {result.spans[-1]['name']}"
        case _:
            span = _range(
                *(window[end] for end, window in enumerate((result.first_window, result.last_window)) if window)
            )
            yield f"{counted(result.window_count or 0, 'window')}, {span}"
    if result.stream is not None and "generation" in result.stream:
        started = result.stream.get("started", "an unknown time")
        yield f"a stream, started {counted(result.stream['generation'], 'time')}, the last time at {started}"
    if result.last_event_time:
        yield f"last event {result.last_event_time}"
    if result.last_published:
        yield f"last published {result.last_published}"


def _status_rows(result: StatusResult) -> Table:
    table = new_table("rows", "", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    counts = {"on time": result.rows_on_time, "late": result.rows_late, "rejected": result.rows_rejected}
    if result.state == "whole":
        counts = {"out": result.rows_out, "rejected": result.rows_rejected}
    for name, rows in counts.items():
        table.add_row(name, f"{rows:,}", percent(rows, result.rows_in))
    return table


def _spans(result: SpansResult) -> Iterator[RenderableType]:
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
    yield from _listed("schema", result.schema)
    yield from told_pairs(result.statistics)
    if result.not_compared is not None:
        yield f"statistics are not compared: {result.not_compared}"


def _sets(result: SpansResult) -> Iterator[RenderableType]:
    table = new_table("windows from", "windows", "rows", "shards", "bytes")
    for one in result.sets:
        numbers = (f"{one[name]:,}" for name in ("windows", "rows_out", "shards"))
        table.add_row(one["window"][0], *numbers, byte_text(one["bytes"]))
    yield table if result.sets else f"{result.dataset}: no windows are to be put together"
    yield from _listed("windows that are not final", result.open)
    yield from _listed("windows with too many rejects", result.quarantined)


def _span_table(title: str, spans: Sequence[Mapping[str, Any]]) -> Table:
    table = new_table(title, "rows in", "out", "rejected", "date", "published")
    for one in spans:
        counts = (f"{one[name]:,}" for name in ("rows_in", "rows_out", "rows_rejected"))
        table.add_row(one["name"], *counts, one["date"], one["created"])
    return table


def _listed(title: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    """A list under its title and number; nothing for an empty one."""
    lines = list(lines)
    if lines:
        more = [f"and {len(lines) - _MAX_SHOWN:,} more, with --json"] if len(lines) > _MAX_SHOWN else []
        yield Text("\n").join([Text(f"{title}: {len(lines):,}", "bold"), *map(Text, [*lines[:_MAX_SHOWN], *more])])


def _range(start: str, end: str) -> str:
    return f"{start} to {end}"


def _quarantined(window: Mapping[str, Any]) -> str:
    reasons = sorted(window["rejected_by_reason"].items(), key=lambda item: (-item[1], item[0]))[:3]
    why = ", ".join(f"{reason} {rows:,}" for reason, rows in reasons)
    return f"{_range(*window['window'])}: {window['rows_rejected']:,} of {window['rows_in']:,} rows rejected ({why})"


def _unusual(window: Mapping[str, Any]) -> str:
    first, *more = window["anomalies"]
    of = f"{first['feature']}: " if first["feature"] else ""
    others = f" (and {len(more)} more)" if more else ""
    where = f"{_range(*window['window'])}: " if window["window"] else ""
    return f"{where}{first['severity']}: {of}{first['description']}{others}"


def _anomaly(found: Mapping[str, Any]) -> str:
    where = [_range(*found["window"])] if found["window"] else []
    where += [part for part in (found["dataset"], found["feature"]) if part and found["against"] != "history"]
    return ": ".join([*where, found["severity"], found["description"]])


_OWNERS = {
    "running": "a run is at work in it",
    "ended": "its run has ended, and the next run removes it",
    "unknown": "whose run is not known: on a cluster or another machine it may go on",
}


def _staged(folder: Mapping[str, Any]) -> str:
    age = datetime.timedelta(seconds=int(folder["age_seconds"]))
    text = f"{folder['name']}: {counted(folder['files'], 'file')}, {byte_text(folder['bytes'])}, last written {age} ago"
    orphaned = folder["orphaned"]
    if orphaned["files"]:
        text += f", of which {counted(orphaned['files'], 'chunk')} ({byte_text(orphaned['bytes'])}) nobody needs"
    return f"{text}; {_OWNERS[folder['owner']]}"


# The points that a line shows, and how high each stands.
_MAX_POINTS = 60
_BARS = "▁▂▃▄▅▆▇█"

# Up to so many metrics are all shown, and of more only those that have ever changed.
_FEW_SERIES = 12
_MAX_SERIES = 40


def _history(result: HistoryResult) -> Iterator[RenderableType]:
    """What has left its history, and a line for each metric: those that have left first."""
    newest = _range(*result.window) if result.window else f"run {result.run}"
    yield Text("\n").join(
        [Text(result.dataset, "bold"), Text(f"{counted(result.points, 'point')}, the newest {newest}")]
    )
    yield from _listed("metrics that have left their history", [str(one["text"]) for one in result.left])
    if not result.left:
        yield "no metric has left its history"
    names = ("split", "feature", "metric")
    left = {tuple(one[name] for name in names) for one in result.left}
    ordered = sorted(result.series, key=lambda one: tuple(one[name] for name in names) not in left)
    if len(ordered) > _FEW_SERIES:
        ordered = [one for one in ordered if min(one["values"]) < max(one["values"])]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in (*names, "least", "", "greatest", "newest"):
        table.add_column(column, justify="right" if column in ("least", "greatest", "newest") else "left")
    for one in ordered[:_MAX_SERIES]:
        values = one["values"][-_MAX_POINTS:]
        style = "bold" if tuple(one[name] for name in names) in left else ""
        numbers = (f"{min(values):.6g}", sparkline(values), f"{max(values):.6g}", f"{values[-1]:.6g}")
        table.add_row(*(one[name] for name in names), *numbers, style=style)
    yield table
    if len(ordered) < len(result.series):
        yield f"and {counted(len(result.series) - len(ordered), 'metric')} that never changed"
    if len(ordered) > _MAX_SERIES:
        yield f"and {len(ordered) - _MAX_SERIES:,} more: name some with --feature, --metric, --split, or see --json"


def sparkline(values: Sequence[float]) -> str:
    """Numbers as bars, from the least to the greatest of them; half as high where all are equal.

    >>> sparkline([1, 2, 3, 8])
    '▁▂▃█'
    """
    low, high = min(values), max(values)
    if high == low:
        return _BARS[3] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value / 2 - low / 2) / (high / 2 - low / 2) * top)] for value in values)


# What is longer is cut; `--json` has all of it.
_MAX_TEXT = 24


def _shown(result: ShowResult) -> Iterator[RenderableType]:
    """Sizes, columns with the first records side by side, and the lines that load them."""
    kind = f"{result.format}, {result.compression}"
    windows = "" if len(result.dataset_ids) == 1 else f", {counted(len(result.dataset_ids), 'window')}"
    yield Text("\n").join([Text(result.dataset, "bold"), Text(f"{kind}{windows}")])
    splits = new_table("split", "rows", "shards", "bytes")
    for name, found in result.splits.items():
        splits.add_row(name, f"{found['rows']:,}", f"{found['shards']:,}", byte_text(found["bytes"]))
    yield splits
    yield _records(result)
    yield _loading(result.load)


def _loading(lines: Sequence[str]) -> RenderableType:
    """The lines that load a dataset, below a title."""
    return Text("\n").join([Text("how to load it", "bold"), *map(Text, lines)])


def _records(result: ShowResult) -> Table:
    """A row for each column, so that many columns need no wide terminal: its type, and its first values."""
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    made.add_column("column")
    made.add_column("type")
    for number in range(1, len(result.rows) + 1):
        made.add_column(f"{result.split} {number}", justify="right")
    for column in result.columns:
        made.add_row(column["name"], column["type"], *(_value(row[column["name"]]) for row in result.rows))
    return made


def _value(value: Any) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 3]}..."


def _described(result: DescribedResult) -> str:
    stages = "\n".join(f"  {number}. {stage}" for number, stage in enumerate(result.stages, 1))
    flags = yaml.safe_dump(dict(result.flags), sort_keys=False, allow_unicode=True)
    return f"{flags}\nstages:\n{stages}\n\nNothing was read or written."
