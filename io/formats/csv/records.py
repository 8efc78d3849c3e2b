"""Records of CSV whose quoted fields may hold line breaks: where they end, and which of them are at fault.

`penstock.io.kernel.shared.quoting` says how fields are quoted.
"""

import dataclasses
from collections.abc import Iterator

import numpy as np

from penstock.io.errors import InputError
from penstock.io.formats.lines import Block, Lines
from penstock.io.kernel import csv
from penstock.io.kernel.shared import quoting


def split_record(record: bytes, delimiter: str) -> list[bytes]:
    """The fields of one well-quoted record, unquoted; for headers, not for data.

    >>> split_record(b'a,"b,""c"" d"', ",")
    [b'a', b'b,"c" d']
    """
    fields = quoting.fields(record, delimiter.encode())
    return [plain if quoted is None else quoted.replace(b'""', b'"') for quoted, plain in fields]


@dataclasses.dataclass(frozen=True)
class CsvRecords:
    """The records of a block, which are `lines`, and which of them are misquoted or have a lone CR outside quotes."""

    lines: Lines
    misquoted: np.ndarray
    lone_cr: np.ndarray


class RecordCutter:
    """Cuts the text of a file into records when quoted fields may hold line breaks.

    Records are found one after the other, since only the quotes before a line break tell whether it ends a record. A
    record in which text follows a closing quote is misquoted up to the line end behind the fault. A quoted field that
    never ends has no such place: it makes all that follows uncountable, hence an `InputError`.
    """

    def __init__(self, uri: str, delimiter: str, max_record_bytes: int):
        self._uri = uri
        self._delimiter = delimiter
        self._limit = max_record_bytes
        self._pending: list[bytes] = []
        self._size = 0
        self._wanted = 0
        self._offset = 0

    def feed(self, position: int, chunk: bytes) -> Iterator[CsvRecords]:
        """The records that end in the chunk.

        Raises:
          InputError: when the one that does not is over the limit.
        """
        if not self._size:
            self._offset = position
        self._pending.append(chunk)
        self._size += len(chunk)
        # A long record is looked at again only when twice as much is there: linear work.
        if self._size >= self._wanted:
            yield from self._cut(final=False)

    def finish(self) -> Iterator[CsvRecords]:
        """The last record, with or without a line end.

        Raises:
          InputError: when a quoted field is not closed.
        """
        if self._size:
            yield from self._cut(final=True)
        if self._size:
            raise InputError(
                f"{self._uri}: the record at byte {self._offset} has a quoted field that is not closed by the end of "
                "the file; the file may be cut off, or read it without --csv_multiline to reject single lines"
            )

    def _cut(self, final: bool) -> Iterator[CsvRecords]:
        data = b"".join(self._pending)
        records = cut_records(Block(data, self._offset), self._delimiter, final)
        consumed = int(records.lines.nexts[-1]) if len(records.lines) else 0
        rest = data[consumed:]
        self._pending, self._size, self._offset = [rest] if rest else [], len(rest), self._offset + consumed
        self._wanted = 2 * len(rest)
        longest = max(self._size, int(records.lines.lengths().max(initial=0)))
        if longest > self._limit:
            raise InputError(
                f"{self._uri}: a record between bytes {records.lines.offset} and {self._offset + self._size} is over "
                f"the limit of {self._limit} bytes; a quote that is not closed swallows what follows"
            )
        if consumed:
            yield records


def cut_records(block: Block, delimiter: str, final: bool) -> CsvRecords:
    """The records of a block that begins with one; what is behind the last complete one is left out.

    Args:
      block: some text.
      delimiter: between fields.
      final: whether the block is the end of the file, which ends a record too.
    """
    (starts, ends, nexts), (misquoted, lone_cr) = csv.cut_records(block.data, ord(delimiter), final)
    return CsvRecords(Lines(block.data, block.offset, starts, ends, nexts), misquoted, lone_cr)
