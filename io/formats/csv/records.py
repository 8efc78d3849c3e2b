"""Finds CSV records whose quoted fields may hold line breaks, and their faults.

`penstock.io.kernel.shared.quoting` has the rules of quoting.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from penstock.io.errors import InputError
from penstock.io.formats.lines import Block, Lines, PendingBytes
from penstock.io.kernel import csv
from penstock.io.kernel.shared import quoting
from penstock.io.kernel.shared.quoting import Dialect


def split_record(record: bytes, dialect: Dialect) -> list[bytes]:
    """Splits one well-quoted record into unquoted fields; for headers, not for data.

    >>> split_record(b'a,"b,""c"" d"', Dialect(b","))
    [b'a', b'b,"c" d']
    """
    fields = quoting.fields(record, dialect)
    return [plain if quoted is None else quoted.replace(b'""', b'"') for quoted, plain in fields]


@dataclasses.dataclass(frozen=True)
class CsvRecords:
    """The records of a block (`lines`), and masks of those that are misquoted or have a lone CR outside quotes."""

    lines: Lines
    misquoted: np.ndarray
    lone_cr: np.ndarray


class RecordCutter:
    """Cuts the text of a file into records when quoted fields may hold line breaks.

    Records are found one after the other, since only the quotes before a line break decide whether it ends a record.
    When text follows a closing quote, the record is misquoted, and ends at the next line end after the fault. When a
    quoted field never ends, the rest of the file cannot be cut: this raises an `InputError`.
    """

    def __init__(self, uri: str, delimiter: str, max_record_bytes: int):
        self._uri = uri
        self._delimiter = delimiter
        self._limit = max_record_bytes
        self._pending = PendingBytes()

    def feed(self, position: int, chunk: bytes) -> Iterator[CsvRecords]:
        """Yields the records that end in the chunk.

        Raises:
          InputError: when a record is over the limit.
        """
        if self._pending.add(position, chunk):
            yield from self._cut(final=False)

    def finish(self) -> Iterator[CsvRecords]:
        """Yields the last record, with or without a line end.

        Raises:
          InputError: when a quoted field is not closed.
        """
        if self._pending.size:
            yield from self._cut(final=True)
        if self._pending.size:
            raise InputError(
                f"{self._uri}: the record at byte {self._pending.offset} has a quoted field that is not closed by the "
                "end of the file; the file may be cut off, or read it without --csv_multiline to reject single lines"
            )

    def _cut(self, final: bool) -> Iterator[CsvRecords]:
        block = self._pending.joined()
        records = cut_records(block, self._delimiter, final)
        consumed = int(records.lines.nexts[-1]) if len(records.lines) else 0
        self._pending.keep(block.data[consumed:], block.offset + consumed)
        longest = max(self._pending.size, int(records.lines.lengths().max(initial=0)))
        if longest > self._limit:
            raise InputError(
                f"{self._uri}: a record between bytes {block.offset} and {block.offset + len(block.data)} is over the "
                f"limit of {self._limit} bytes; a quote that is not closed swallows what follows"
            )
        if consumed:
            yield records


def cut_records(block: Block, delimiter: str, final: bool) -> CsvRecords:
    """Finds the records of a block that begins with a record; drops the bytes after the last complete one.

    Args:
      block: some text.
      delimiter: the character between fields.
      final: whether the block is the end of the file, which also ends a record.
    """
    (starts, ends, nexts), (misquoted, lone_cr) = csv.cut_records(block.data, ord(delimiter), final)
    return CsvRecords(Lines(block.data, block.offset, starts, ends, nexts), misquoted, lone_cr)
