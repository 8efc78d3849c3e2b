"""What a file format gives to those who read files: the plan of a file's parts, and the rows of a part."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import pyarrow as pa

from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, open_plain
from penstock.io.files.suffixes import compressed_inside
from penstock.io.schema import Feature

# A part is about so much of a file, at most; parts can be read side by side.
PART_BYTES = 64 << 20

# Text is cut finer where the file is small, so that its parts occupy all workers to the end.
_TEXT_PARTS = 32
_MIN_TEXT_PART_BYTES = 4 << 20

# So much of the end of a text file is read for its last rows.
_TEXT_TAIL_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows `start` to `end` of a file, in the unit of its format: bytes or row groups; `end` None is the end.

    `first_row` is the index of the part's first row, for a format whose parts do not tell it (Avro).
    """

    start: int = 0
    end: int | None = None
    first_row: int = 0


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Some rows of a part, as they were in the file: with `_origin`, untyped where the format has no types.

    Attributes:
      batch: the rows that could be parsed.
      rejected: those that could not.
      payload: the original bytes of a row of `batch`, where the format has them.
    """

    batch: pa.RecordBatch
    rejected: Sequence[DeadLetter] | RejectedBatch = ()
    payload: Callable[[int], bytes] | None = None


class Format(Protocol):
    """One file format and its options: a small frozen dataclass that pickles.

    `features` is None while a schema is being inferred: then all columns are read. With it, columns that the schema
    does not name are left out, and a column that the schema requires but a file lacks is an `InputError`.
    """

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """The columns that the file declares; None for a format that declares none (JSON Lines, tf.Example)."""

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Parts that cover the file, none twice; a file that cannot be split is one part."""

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """The rows of one part, in order, in batches that `split_batch` allows."""

    def tail(self, file: InputFile) -> Part | None:
        """A small part with the last rows of a file, in which `--watch` looks for its latest event time.

        None where reading can only start at the beginning: then it looks in the first batch of the file.
        """


def text_tail(file: InputFile, splittable: bool = True) -> Part | None:
    """The last rows of a text file; None for one that cannot be split."""
    if not splittable or file.codec is not None:
        return None
    return Part(max(file.size - _TEXT_TAIL_BYTES, 0), None)


@contextlib.contextmanager
def open_uncompressed(file: InputFile, title: str) -> Iterator[pa.PythonFile]:
    """The bytes of a file of a format that compresses inside its files.

    Raises:
      InputError: for a file that is compressed as a whole, too.
    """
    if file.codec is not None:
        raise compressed_inside(file.uri, title)
    with open_plain(file) as plain:
        yield plain


def text_part_bytes(file_bytes: int) -> int:
    """Bytes of a part of a text file, by the size of the file alone: the plan is the same on every machine.

    >>> [text_part_bytes(megabytes << 20) >> 20 for megabytes in (1, 320, 5000)]
    [4, 10, 64]
    """
    return min(max(-(-file_bytes // _TEXT_PARTS), _MIN_TEXT_PART_BYTES), PART_BYTES)


def select_names(names: Sequence[str], features: Sequence[Feature] | None, uri: str) -> list[str]:
    """The columns of a file that are to be read: all of them without `features`, else theirs, in their order.

    Raises:
      InputError: when the file lacks a column that the schema requires.
    """
    if features is None:
        return list(names)
    for feature in features:
        if feature.required and feature.name not in names:
            raise InputError(
                f"{uri}: column {feature.name!r} is required by the schema, but the file has only "
                f"{', '.join(names) or 'no columns'}; correct the file (for CSV, its "
                "header line or --columns), or make the feature optional in the schema"
            )
    return [feature.name for feature in features if feature.name in names]
