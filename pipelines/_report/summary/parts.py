"""What all summaries are made of: numbers in words, tables, lists, notes, the lines that load a dataset."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from penstock.io.reasons import UNCHECKED, Note

GAP = 3


def counted(count: int, noun: str) -> str:
    """A number of things.

    >>> counted(2, "fault")
    '2 faults'
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def new_table(first: str, *numbers: str) -> Table:
    """A table of a text and numbers."""
    made = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    made.add_column(first)
    for number in numbers:
        made.add_column(number, justify="right")
    return made


def percent(part: float, whole: float) -> str:
    """A part of a whole; nothing of nothing.

    >>> percent(1, 8), percent(0, 0)
    ('12.50%', '')
    """
    return f"{part / whole:.2%}" if whole else ""


MAX_REASONS = 12

# So many of each kind are shown; `--json` has all.
_MAX_SHOWN = 10


def listed(title: str, lines: Iterable[str]) -> Iterator[RenderableType]:
    """A list under its title and number; nothing for an empty one."""
    lines = list(lines)
    if lines:
        more = [f"and {len(lines) - _MAX_SHOWN:,} more, with --json"] if len(lines) > _MAX_SHOWN else []
        yield Text("\n").join([Text(f"{title}: {len(lines):,}", "bold"), *map(Text, [*lines[:_MAX_SHOWN], *more])])


def time_range(start: str, end: str) -> str:
    """A window in words."""
    return f"{start} to {end}"


def told_reasons(rows_in: int, rejected: Mapping[str, int]) -> Table:
    """The reasons of rejected rows, the most frequent first."""
    table = new_table("rejected for (a row may have several reasons)", "rows", "")
    ranked = sorted(rejected.items(), key=lambda item: (-item[1], item[0]))
    for reason, rows in ranked[:MAX_REASONS]:
        table.add_row(reason, f"{rows:,}", percent(rows, rows_in))
    if len(ranked) > MAX_REASONS:
        table.add_row(f"and {len(ranked) - MAX_REASONS} more", "", "")
    return table


# What notes are about, by the beginnings of their codes; the others are about values.
_TITLES = {
    ("schema.", "rule."): "passed with a warning (a row may have several)",
    ("kafka.",): "in the dataset, and not in the topic",
    ("transform.",): "features that are left out",
    ("split.",): "look at the splits (no row is rejected for it)",
    ("",): "not as they were read (no row is rejected for it)",
}


def told_notes(notes: Sequence[Note]) -> Iterator[RenderableType]:
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
        for note in notes[:MAX_REASONS]
    ]
    if len(notes) > MAX_REASONS:
        lines.append(Text(f"and {len(notes) - MAX_REASONS} more, in the manifest"))
    return Text("\n").join([Text(title, "bold"), *lines])


def told_loading(lines: Sequence[str]) -> RenderableType:
    """The lines that load a dataset, below a title."""
    return Text("\n").join([Text("how to load it", "bold"), *map(Text, lines)])


def told_report(report: str | None) -> Iterator[RenderableType]:
    """Where the report is, if there is one."""
    return told_files({"the report": report})


def told_files(files: Mapping[str, str | None]) -> Iterator[RenderableType]:
    """Where files are, by what they are."""
    lines = [f"{what}: {path}" for what, path in files.items() if path]
    if lines:
        yield "\n".join(lines)
