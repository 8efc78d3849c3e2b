"""What is told of data: why rows are rejected, and what else became of values on the way."""

import dataclasses
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Reason:
    """Why a row is rejected.

    Attributes:
      code: stable, such as `schema.type`.
      detail: a sentence with column and value.
    """

    code: str
    detail: str


def codes_of(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Returns the codes of a row's reasons, each once: a row that has one for two columns counts once for it.

    >>> codes_of([Reason("b", "x"), Reason("a", "x"), Reason("b", "y")])
    ('b', 'a')
    """
    return tuple(dict.fromkeys(reason.code for reason in reasons))


# The code of notes about constraints of the schema that are not checked, with the number of features that have them.
UNCHECKED = "schema.unchecked"

# The stage of dead letters of rows that a flag keeps out of a dataset: no faults, whatever their number.
EXCLUDED = "excluded"

# The code of notes about members that a reader leaves out, since no column can hold them.
LEFT_OUT = "left_out"


@dataclasses.dataclass(frozen=True)
class Note:
    """What became of values on the way, where no row is rejected for it.

    So is told, too, what rows only warn of, and what of a schema is not checked.

    Attributes:
      code: stable, such as `float32.rounded`.
      subject: the column, or the member of objects, that it is about.
      count: how many values, or as many rows; of what is not checked, how many features.
      detail: a sentence with an example, and what can be done; without the count, since notes are merged.
    """

    code: str
    subject: str
    count: int
    detail: str


def merge_notes(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Merges notes of different rows: one for each code and subject, sorted by these.

    Counts are summed, and the first detail in the order of texts stays: the result does not depend on the order.

    >>> merge_notes([Note("left_out", "b", 2, "x"), Note("left_out", "a", 1, "y"), Note("left_out", "b", 3, "w")])
    (Note(code='left_out', subject='a', count=1, detail='y'), Note(code='left_out', subject='b', count=5, detail='w'))
    """
    merged: dict[tuple[str, str], Note] = {}
    for note in notes:
        old = merged.get((note.code, note.subject), dataclasses.replace(note, count=0))
        count, detail = old.count + note.count, min(old.detail, note.detail)
        merged[note.code, note.subject] = dataclasses.replace(note, count=count, detail=detail)
    return tuple(merged[key] for key in sorted(merged))


def complete_notes(known: Iterable[Note], found: Iterable[Note]) -> tuple[Note, ...]:
    """Adds to notes of a whole input what was found in its rows one by one, unless they tell of it already."""
    known = tuple(known)
    told = {(note.code, note.subject) for note in known}
    return known + merge_notes(note for note in found if (note.code, note.subject) not in told)
