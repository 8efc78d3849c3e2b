"""Prints the result of a job: for a person the numbers of rows, the paths and the next step; for a program JSON."""

import sys
from collections.abc import Iterator, Mapping, Sequence

import yaml
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from penstock.io.files.sizes import byte_text
from penstock.io.reasons import Note
from penstock.transforms.checks.unchecked import UNCHECKED
from penstock.transforms.verify import LEFTOVER, Fault
from pipelines._report.printable import mapped, masked, printable, shell_word
from pipelines._report.result import (
    DatasetResult,
    DescribedResult,
    FitResult,
    LettersResult,
    RelaxResult,
    Result,
    VerifyResult,
)

_MAX_REASONS = 12
_MAX_LINES = 100

# Paths and commands are for copying: a terminal wraps what is too long for it, nothing is cut.
_WIDTH = 10_000
_INDENT, _GAP = 2, 3


def tell(result: Result, as_json: bool) -> int:
    """Prints how a job ended, to stdout, and gives its exit code."""
    if as_json:
        print(result.to_json())
    else:
        output = result.output if isinstance(result, DatasetResult) else ""
        _print_text(mapped(result, printable), output)
    return result.exit_code


def _print_text(result: Result, output: str) -> None:
    """Prints a result without control characters; `output` is its folder as it is, for a command."""
    match result:
        case DatasetResult(status="too_many_rejects"):
            _print(_reasons(result.rows_in, result.rejected_by_reason))
        case DatasetResult(status="translated"):
            print("The graph was translated and not submitted; nothing was written.")
        case DatasetResult(status="nothing_to_do"):
            print("nothing to replay")
        case DatasetResult():
            _print(*_dataset(result, output))
            if result.letters is not None:
                print(_letters(result.letters))
        case FitResult():
            rows = "" if result.rows_fitted is None else f"{result.rows_fitted:,} rows of "
            print(f"fitted {result.features} on {rows}{result.input}; the graph is in {result.transform}")
            _print(*_notes(result.notes))
        case RelaxResult():
            _print(*_relaxed(result))
        case VerifyResult():
            print(_verified(result))
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
    if result.rejected_by_reason:
        yield _reasons(result.rows_in, result.rejected_by_reason)
    yield from _notes(result.notes)
    if result.windows is None:
        yield _places(result)
    yield f"Next: check every byte\n  penstock verify --dataset {shell_word(masked(output))}"


def _rows(result: DatasetResult) -> Table:
    table = _table("rows", "", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    table.add_row("out", f"{result.rows_out:,}", _percent(result.rows_out, result.rows_in))
    table.add_row("rejected", f"{result.rows_rejected:,}", _percent(result.rows_rejected, result.rows_in))
    return table


def _windows(result: DatasetResult) -> Table:
    windows = result.windows or ()
    table = _table("windows", f"{len(windows):,}", "")
    table.add_row("in", f"{result.rows_in:,}", "")
    counts = {"on time": result.rows_on_time or 0, "late": result.rows_late or 0, "rejected": result.rows_rejected}
    for name, rows in counts.items():
        table.add_row(name, f"{rows:,}", _percent(rows, result.rows_in))
    quarantined = sum(window.status == "quarantined" for window in windows)
    table.add_row("windows with too many rejects", f"{quarantined:,}", _percent(quarantined, len(windows)))
    return table


def _splits(result: DatasetResult) -> Table:
    table = _table("split", "rows", "shards", "bytes")
    for name, split in result.splits.items():
        table.add_row(name, f"{split.rows:,}", str(split.shards), byte_text(split.bytes))
    return table


def _reasons(rows_in: int, rejected: Mapping[str, int]) -> Table:
    table = _table("rejected for (a row may have several reasons)", "rows", "")
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for reason, rows in ranked[:_MAX_REASONS]:
        table.add_row(reason, f"{rows:,}", _percent(rows, rows_in))
    if len(ranked) > _MAX_REASONS:
        table.add_row(f"and {len(ranked) - _MAX_REASONS} more", "", "")
    return table


# What notes are about, by the beginnings of their codes; the others are about values.
_TITLES = {
    ("schema.", "rule."): "passed with a warning (a row may have several)",
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
    places = [(f"{result.output}/{name}/", "the shards of this split") for name in result.splits]
    places.append((f"{result.manifest}", "counts, digests, inputs, options, versions"))
    if result.schema:
        places.append((result.schema, "the schema of the rows; curate it and pass it back with --schema"))
    if result.transform:
        places.append((f"{result.transform}/", "the graph of the features; --transform applies it to other rows"))
    if result.dead_letters:
        places.append((f"{result.dead_letters}/", "rejected rows with all their reasons"))
    path_width, text_width = (max(map(len, texts)) for texts in zip(*places, strict=True))
    if sys.stdout.isatty() and _INDENT + path_width + _GAP + text_width > Console().width:
        lines = [Text.assemble((path, "bold"), f"\n  {what}") for path, what in places]
        return Text("\n").join([Text("where", "bold"), *lines])
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0))
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
    lines = [f"{name}: {LEFTOVER}" for name in result.leftovers]
    if result.faults:
        lines += [str(Fault(**fault)) for fault in result.faults]
        return "\n".join([*lines, f"{result.dataset}: {result.error}"])
    windows = "" if result.windows is None else f" of {counted(result.windows, 'window')}"
    records = f"{result.rows_out or 0:,} records in {counted(result.shards or 0, 'shard')}{windows}"
    return "\n".join([*lines, f"{result.dataset}: good: {records}, {byte_text(result.bytes or 0)}"])


def _described(result: DescribedResult) -> str:
    stages = "\n".join(f"  {number}. {stage}" for number, stage in enumerate(result.stages, 1))
    flags = yaml.safe_dump(dict(result.flags), sort_keys=False, allow_unicode=True)
    return f"{flags}\nstages:\n{stages}\n\nNothing was read or written."


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(2, "fault")
    '2 faults'
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
    table.add_column(first)
    for number in numbers:
        table.add_column(number, justify="right")
    return table


def _percent(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else ""
