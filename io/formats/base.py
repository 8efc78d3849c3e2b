"""The interface of file formats: a plan of a file's parts, and the rows of a part."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import pyarrow as pa

from penstock.io.batches import set_column
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch
from penstock.io.dead_letters.source import keep_source
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, open_plain
from penstock.io.files.suffixes import compressed_inside
from penstock.io.reserved import SOURCE
from penstock.io.schema import Feature

# The most bytes of a file in one part, roughly; parts can be read in parallel.
PART_BYTES = 64 << 20

# Small text files are cut finer, to keep all workers busy to the end.
_TEXT_PARTS = 32
_MIN_TEXT_PART_BYTES = 4 << 20

# How much of the end of a text file is read to find its last rows.
_TEXT_TAIL_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True)
class Part:
    """A range of a file, `start` to `end`, in the unit of its format: bytes, row groups or stripes.

    `end` None means the end of the file. `first_row` is the index of the part's first row, for a format that cannot
    find it from the part alone (Avro).
    """

    start: int = 0
    end: int | None = None
    first_row: int = 0

    def __str__(self) -> str:
        return f"part {self.start} to {'the end' if self.end is None else self.end}"


@dataclasses.dataclass(frozen=True)
class Parsed:
    """Some rows of a part as they are in the file, with `_origin`; untyped if the format has no types.

    Attributes:
      batch: the rows that were parsed.
      rejected: the rows that could not be parsed.
      source: the bytes of each row of `batch`, as `penstock.io.dead_letters.source` makes them; None for a format whose
        rows have no bytes of their own.
    """

    batch: pa.RecordBatch
    rejected: Sequence[DeadLetter] | RejectedBatch = ()
    source: pa.StructArray | None = None

    def with_source(self) -> pa.RecordBatch:
        """Returns the rows with `_source`: their bytes, or else their columns as they were read."""
        return keep_source(self.batch) if self.source is None else set_column(self.batch, SOURCE, self.source)


class Format(Protocol):
    """One file format and its options: a small frozen dataclass that pickles.

    `features` is None while a schema is being inferred: then all columns are read. Otherwise columns that the schema
    does not name are left out, and a file that lacks a required column raises an `InputError`.
    """

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """Returns the columns that the file declares; None for a format without (JSON Lines, tf.Example)."""

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans parts that cover the file without overlap; a file that cannot be split is one part."""

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of one part, in order, in batches of the size that `split_batch` allows."""

    def tail(self, file: InputFile) -> Part | None:
        """Returns a small part with the last rows of a file, where `--watch` looks for its latest event time.

        Returns None when reading can only start at the beginning; `--watch` then looks in the first batch of the file.
        """


@runtime_checkable
class CheckedFormat(Protocol):
    """A format that looks at the beginning of a file before its rows are read."""

    def check(self, file: InputFile) -> None:
        """Raises an `InputError` when the file cannot be what the options say."""

    def look(self, file: InputFile) -> Sequence[str]:
        """Checks a file as `check` does, and returns what is only suspicious, a line each."""


def reads_alike(reader: Format) -> bool:
    """Whether rows that are read without features and then typed by features are those that are read with them.

    A format says so by its `reads_alike`. JSON does not: without features, it makes numbers of texts that a feature of
    bytes would keep as they are written.
    """
    return bool(getattr(reader, "reads_alike", False))


def text_tail(file: InputFile, splittable: bool = True) -> Part | None:
    """Returns a part with the last rows of a text file; None for a file that cannot be split."""
    if not splittable or file.codec is not None:
        return None
    return Part(max(file.size - _TEXT_TAIL_BYTES, 0), None)


@contextlib.contextmanager
def open_uncompressed(file: InputFile, title: str) -> Iterator[pa.PythonFile]:
    """Opens a file of a format that compresses inside its files.

    Raises:
      InputError: when the file is also compressed as a whole.
    """
    if file.codec is not None:
        raise compressed_inside(file.uri, title)
    with open_plain(file) as plain:
        yield plain


def text_part_bytes(file_bytes: int) -> int:
    """Returns the part size for a text file, from the file's size alone: the plan is the same on every machine.

    >>> [text_part_bytes(megabytes << 20) >> 20 for megabytes in (1, 320, 5000)]
    [4, 10, 64]
    """
    return min(max(-(-file_bytes // _TEXT_PARTS), _MIN_TEXT_PART_BYTES), PART_BYTES)


def select_names(names: Sequence[str], features: Sequence[Feature] | None, uri: str) -> list[str]:
    """Returns the columns of a file to read: all without `features`, else those of the features, in their order.

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
