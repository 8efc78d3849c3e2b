"""The quoting of CSV (RFC 4180): where records end, and which lines Arrow's parser would misread.

A field is quoted when its first byte is a quote; then it ends at the next quote that is not doubled, and a delimiter
or the end of the record must follow. Quotes elsewhere in an unquoted field stand for themselves, as every reader has
it. Lines whose quotes all open or close fields, or are doubled in one, are told in numpy; the few others are looked at
one by one.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator

import numpy as np

from penstock.io.errors import InputError
from penstock.io.formats.lines import Block, Lines, counts_per_line, lone_crs, occurrences, without_cr
from penstock.io.kernel import native

if native.ENABLED:
    from penstock.io.kernel.native import _csv

_QUOTE, _LF = 34, 10


@functools.cache
def _line_pattern(delimiter: str) -> re.Pattern[bytes]:
    """Fields of one line: quoted, or not beginning with a quote."""
    mark = re.escape(delimiter.encode())
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"%b][^%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _record_pattern(delimiter: str) -> re.Pattern[bytes]:
    """One record from its start up to its line end, which may follow line breaks in quotes."""
    mark = re.escape(delimiter.encode())
    field = rb'(?:"[^"]*+(?:""[^"]*+)*+"|[^"\n%b][^\n%b]*+)?+' % (mark, mark)
    return re.compile(rb"%b(?:%b%b)*+" % (field, mark, field))


@functools.cache
def _field_pattern(delimiter: str) -> re.Pattern[bytes]:
    mark = re.escape(delimiter.encode())
    return re.compile(rb'"([^"]*+(?:""[^"]*+)*+)"(%b|\Z)|([^%b]*+)(%b|\Z)' % (mark, mark, mark))


def split_record(record: bytes, delimiter: str) -> list[bytes]:
    """The fields of one well-quoted record, unquoted; for headers, not for data.

    >>> split_record(b'a,"b,""c"" d"', ",")
    [b'a', b'b,"c" d']
    """
    return [plain if quoted is None else quoted.replace(b'""', b'"') for quoted, plain in _fields(record, delimiter)]


def _fields(record: bytes, delimiter: str) -> Iterator[tuple[bytes | None, bytes]]:
    """Each field of a well-quoted record as (what is in its quotes, b"") or (None, its text)."""
    for match in _field_pattern(delimiter).finditer(record):
        quoted, quoted_mark, plain, plain_mark = match.groups()
        yield quoted, plain or b""
        if not (quoted_mark or plain_mark):
            return


def is_misquoted(line: bytes, delimiter: str) -> bool:
    """Whether the line is not one record: it has an odd number of quotes, or text around a quoted field."""
    return line.count(b'"') % 2 == 1 or not is_well_quoted(line, delimiter)


def is_well_quoted(record: bytes, delimiter: str) -> bool:
    """Whether each field is either quoted as a whole or does not begin with a quote."""
    return _line_pattern(delimiter).fullmatch(record) is not None


@dataclasses.dataclass(frozen=True)
class _Quotes:
    """All quotes of a block: their indices, and whether each could open a field or close one."""

    indices: np.ndarray
    opens: np.ndarray
    closes: np.ndarray


def _find_quotes(data: bytes, delimiter: str) -> _Quotes:
    indices = occurrences(data, _QUOTE)
    array = np.frombuffer(data, np.uint8)
    border = np.zeros(256, bool)
    border[[_QUOTE, _LF, ord(delimiter)]] = True
    before = (indices == 0) | border[array[np.maximum(indices - 1, 0)]]
    following = np.minimum(indices + 1, len(array) - 1)
    after = (indices == len(array) - 1) | border[array[following]]
    # CRLF ends a record too; a lone CR does not.
    crlf = (array[following] == 13) & (array[np.minimum(indices + 2, len(array) - 1)] == _LF)
    return _Quotes(indices, before, after | crlf)


def misquoted_lines(lines: Lines, delimiter: str) -> np.ndarray:
    """Mask of the lines that are not one record each: an odd number of quotes, or text around a quoted field."""
    mask = np.zeros(len(lines), bool)
    if not len(lines) or b'"' not in lines.data:
        return mask
    quotes = _find_quotes(lines.data, delimiter)
    firsts = np.searchsorted(quotes.indices, lines.starts)
    counts = np.searchsorted(quotes.indices, lines.ends) - firsts
    mask = counts % 2 == 1
    # The rank of a quote in its line tells whether it opens or closes; quotes in none of the lines do not count.
    owner = np.searchsorted(lines.starts, quotes.indices, side="right") - 1
    ranks = np.arange(len(quotes.indices)) - firsts[owner]
    strays = np.where(ranks % 2 == 0, ~quotes.opens, ~quotes.closes) & (owner >= 0) & (ranks < counts[owner])
    for index in np.unique(owner[strays]).tolist():
        mask[index] = mask[index] or not is_well_quoted(lines.line(index), delimiter)
    return mask


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
    return (_native_records if native.ENABLED else _numpy_records)(block, delimiter, final)


def _native_records(block: Block, delimiter: str, final: bool) -> CsvRecords:
    (starts, ends, nexts), (misquoted, lone_cr) = _csv.cut_records(block.data, ord(delimiter), final)
    return CsvRecords(Lines(block.data, block.offset, starts, ends, nexts), misquoted, lone_cr)


def _numpy_records(block: Block, delimiter: str, final: bool) -> CsvRecords:
    data = block.data
    quotes = _find_quotes(data, delimiter)
    breaks = occurrences(data, _LF)
    if final and data and not data.endswith(b"\n"):
        breaks = np.append(breaks, len(data))
    # A CR at the very end may be half of a CRLF, and a quote there half of a doubled one.
    rank_of_break = np.searchsorted(quotes.indices, breaks)
    faults = [np.flatnonzero(_strays(quotes, parity)) for parity in (0, 1)]
    ends: list[np.ndarray] = []
    bad_ends: list[int] = []
    start, done = 0, 0
    while done < len(breaks):
        first = int(np.searchsorted(quotes.indices, start))
        stray = _next(faults[first % 2], first)
        limit = len(breaks) if stray is None else int(np.searchsorted(breaks, quotes.indices[stray]))
        good = done + np.flatnonzero((rank_of_break[done:limit] - first) % 2 == 0)
        if len(good):
            ends.append(breaks[good])
            start, done = int(breaks[good[-1]]) + 1, int(good[-1]) + 1
        if stray is None:
            break
        end, misquoted = _record_end(data, start, delimiter, final)
        if end is None:
            break
        if misquoted:
            bad_ends.append(end)
        ends.append(np.array([end], np.int64))
        start, done = end + 1, int(np.searchsorted(breaks, end, side="right"))
    return _records(block, np.concatenate([np.empty(0, np.int64), *ends]), bad_ends, delimiter)


def _strays(quotes: _Quotes, parity: int) -> np.ndarray:
    """Which quotes neither open nor close a field where they should, when those of this parity open."""
    opening = np.arange(len(quotes.indices)) % 2 == parity
    return np.where(opening, ~quotes.opens, ~quotes.closes)


def _next(candidates: np.ndarray, first: int) -> int | None:
    index = int(np.searchsorted(candidates, first))
    return int(candidates[index]) if index < len(candidates) else None


def _record_end(data: bytes, start: int, delimiter: str, final: bool) -> tuple[int | None, bool]:
    """Index of the line end of the record at `start`, and whether it is misquoted; None when it is not there yet."""
    match = _record_pattern(delimiter).match(data, start)
    stop = match.end() if match else start
    if stop == len(data):
        return (stop, False) if final else (None, False)
    if data[stop] == _LF:
        return stop, False
    if data[stop : stop + 2] == b"\r\n":
        return stop + 1, False
    if data[stop] == _QUOTE:  # only a field that is not closed stops the pattern here
        return None, False
    end = data.find(b"\n", stop)
    if end < 0:
        return (len(data), True) if final else (None, False)
    return end, True


def _records(block: Block, breaks: np.ndarray, bad_ends: list[int], delimiter: str) -> CsvRecords:
    """Records that end at the given line breaks."""
    data = block.data
    nexts = np.minimum(breaks + 1, len(data))
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(nexts)]
    ends = without_cr(data, starts, breaks, nexts)
    lines = Lines(data, block.offset, starts, ends, nexts)
    misquoted = np.isin(breaks, np.array(bad_ends, np.int64))
    return CsvRecords(lines, misquoted, _unquoted_crs(lines, misquoted, delimiter))


def _unquoted_crs(lines: Lines, misquoted: np.ndarray, delimiter: str) -> np.ndarray:
    """Mask of the well-quoted records with a lone CR outside quotes."""
    mask = np.zeros(len(lines), bool)
    crs = lone_crs(lines.data)
    for index in np.flatnonzero((counts_per_line(lines, crs) > 0) & ~misquoted).tolist():
        mask[index] = any(b"\r" in plain for _, plain in _fields(lines.line(index), delimiter))
    return mask
