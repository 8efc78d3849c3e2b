"""Splits CSV records into columns of fields: numpy finds the faulty records, Arrow parses the others.

Arrow accepts any bytes without an error, so it gets only records that are known to be good. numpy recognizes lines
whose quotes all open or close fields, or are doubled within one; the few other lines are checked one by one.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv as arrow_csv

from penstock.io.kernel.pure import grammar
from penstock.io.kernel.shared import quoting
from penstock.io.kernel.shared.numbers import fits_float32, float32_overflow
from penstock.io.kernel.shared.positions import CR, LF, counts_between, lone_crs, occurrences, without_cr
from penstock.io.kernel.shared.quoting import QUOTE, Dialect, is_well_quoted

# The compiled module accepts no more bytes, since its positions have 30 bits.
MAX_BYTES = 1 << 30
MISQUOTED = -1

_Ints = npt.NDArray[np.int64]
_Flags = npt.NDArray[np.bool_]
_There = npt.NDArray[np.uint8] | None
_Texts = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8], _There]


@dataclasses.dataclass(frozen=True)
class _Quotes:
    """All quotes of a block: their indices, and whether each could open a field or close one."""

    indices: _Ints
    opens: _Flags
    closes: _Flags


class Splitter:
    """Splits records into fields, and keeps the fields until the next call of `split`; for one thread."""

    def __init__(
        self,
        delimiter: int,
        single_lines: bool,
        slots: Sequence[int],
        null_values: Sequence[bytes],
        quoting: bool = True,
        spaces: bool = False,
    ):
        """Takes the layout of all records.

        Args:
          delimiter: the character between fields.
          single_lines: a record with an odd number of quotes is misquoted.
          slots: for each column of the file the slot that keeps its fields, or -1 for an unwanted column.
          null_values: the texts that are null if unquoted; the empty text always is.
          quoting: fields may be quoted.
          spaces: spaces at both ends of a field, or beside its quotes, are no part of it.
        """
        self._dialect = Dialect(bytes([delimiter]), quoting, spaces)
        self._delimiter = delimiter
        self._single_lines = single_lines
        self._names = [str(column) for column in range(len(slots))]
        self._wanted = [self._names[slots.index(slot)] for slot in range(max(slots, default=-1) + 1)]
        self._nulls = ["", *(text.decode() for text in null_values)]
        self._columns: list[pa.StringArray] = []

    def split(self, data: bytes, starts: _Ints, ends: _Ints, good: _Flags) -> _Ints:
        """Keeps the fields of the good records with one field for each column of the file, until the next call.

        Args:
          data: some text.
          starts: int64[n], the start of each record, ascending.
          ends: int64[n], the end of each record, without its line end.
          good: bool[n], False for records with a fault; faults of quotes and of the number of fields are found here.

        Returns:
          int64[n], the number of fields of each record; `MISQUOTED` if it is not one record, else 0 if it is not good.

        Raises:
          ValueError: when Arrow finds other records than these.
        """
        if self._dialect.spaces:
            data, starts, ends = _without_spaces(data, starts, ends, self._dialect)
        counts = np.where(good, len(self._names), 0)
        if self._single_lines and self._dialect.quoting:
            counts[_misquoted_lines(data, starts, ends, self._delimiter)] = MISQUOTED
        if len(self._names) > 1:  # Arrow takes a record without text for one of nulls, whatever its width
            counts[(counts > 0) & (starts == ends)] = 1
        rows = np.flatnonzero((counts > 0) & ((starts < ends) | (len(self._names) == 1)))
        self._columns = [pa.array([], pa.string()) for _ in self._wanted]
        if len(rows):
            for index, columns in self._read(_joined(data, starts[rows], ends[rows]), len(rows)).items():
                counts[rows[index]] = columns
        return counts

    def texts(self, slot: int, only: _Ints | None = None) -> _Texts:
        """Returns the fields of a slot, in Arrow's layout of texts.

        Args:
          slot: a slot of a wanted column.
          only: int64, the wanted records; None for all.

        Returns:
          int32[n + 1] offsets, uint8 bytes, and uint8[n], 0 for a null, or None when there is no null.
        """
        column = self._columns[slot] if only is None else self._columns[slot].take(pa.array(only))
        _, offsets, content = column.buffers()
        bounds = np.zeros(1, np.int32)
        if len(column):
            bounds = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1]
        there = column.is_valid().to_numpy(zero_copy_only=False).view(np.uint8) if column.null_count else None
        return bounds, np.frombuffer(content or b"", np.uint8), there

    def ints(self, slot: int, boolean: bool) -> tuple[_Ints, _There, _Ints]:
        """Returns the fields of a slot as integers.

        Args:
          slot: a slot of a wanted column.
          boolean: whether the spellings of true and false are accepted.

        Returns:
          int64[n], 0 for a field without integer; uint8[n], 1 for a field with one, or None when all have one; and
          int64[], the records whose field is not null and not an INT text.
        """
        values, states = grammar.ints(self._columns[slot], boolean)
        return values, *_by_states(states)

    def floats(self, slot: int) -> tuple[npt.NDArray[np.float64], _There, _Ints]:
        """Like `ints`, but float64; a number beyond float32 is not a FLOAT text."""
        values, states = grammar.floats(self._columns[slot])
        if not fits_float32(values):
            beyond = float32_overflow(values)
            states = np.zeros(len(values), np.uint8) if states is None else states
            states[beyond], values = grammar.BAD, np.where(beyond, 0, values)
        return values, *_by_states(states)

    def _read(self, text: bytes, rows: int) -> dict[int, int]:
        """Reads the wanted columns of a text; returns the widths of rows with another number of fields, by index."""
        ragged: dict[int, int] = {}

        def skip(row: Any) -> str:
            ragged[row.number - 1] = row.actual_columns
            return "skip"

        table = self._read_table(text, skip)
        if table.num_rows + len(ragged) != rows:
            raise ValueError(f"Arrow found {table.num_rows + len(ragged)} rows in {rows} lines")
        self._columns = [table.column(name).combine_chunks() for name in self._wanted]
        return ragged

    def _read_table(self, text: bytes, skip: Callable[[Any], str]) -> pa.Table:
        included = self._wanted or self._names[:1]
        return arrow_csv.read_csv(
            pa.BufferReader(text),
            # One block: Arrow rejects a row that spans more than two blocks.
            arrow_csv.ReadOptions(use_threads=False, block_size=len(text) + 1, column_names=self._names),
            arrow_csv.ParseOptions(
                delimiter=chr(self._delimiter),
                quote_char='"' if self._dialect.quoting else False,
                newlines_in_values=not self._single_lines,
                ignore_empty_lines=False,  # a record of spaces that are no part of its one field
                invalid_row_handler=skip,
            ),
            arrow_csv.ConvertOptions(
                check_utf8=False,  # the good lines are in UTF-8
                column_types={name: pa.string() for name in included},
                include_columns=included,
                null_values=self._nulls,
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )


def _without_spaces(data: bytes, starts: _Ints, ends: _Ints, dialect: Dialect) -> tuple[bytes, _Ints, _Ints]:
    """Writes the records again without the spaces beside fields, each on a line; one by one, which is slow."""
    bounds = zip(starts.tolist(), ends.tolist(), strict=True)
    records = [quoting.strip_fields(data[start:end], dialect) for start, end in bounds]
    sizes = np.array([len(record) for record in records], np.int64)
    stops = np.cumsum(sizes + 1) - 1
    return b"\n".join([*records, b""]), stops - sizes, stops


def _joined(data: bytes, starts: _Ints, ends: _Ints) -> bytes:
    """Joins records, each with a line end of any form."""
    # Copy runs of records, not single ones: a record follows the one before if only LF or CRLF is between them.
    array = np.frombuffer(data, np.uint8)
    gaps = starts[1:] - ends[:-1]
    follows = (gaps == 1) | ((gaps == 2) & (array[ends[:-1]] == CR))
    firsts = np.concatenate(([0], np.flatnonzero(~follows) + 1))
    lasts = np.append(firsts[1:], len(starts)) - 1
    view = memoryview(data)
    runs = [view[start:end] for start, end in zip(starts[firsts].tolist(), ends[lasts].tolist(), strict=True)]
    # Arrow drops one byte order mark at the beginning, and keeps the next as text. And at the end of `"x",` it treats
    # the empty field as quoted unless a line end follows.
    bom = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf", int(starts[0])) else b""
    return bom + b"\n".join([*runs, b""])


def _by_states(states: npt.NDArray[np.uint8] | None) -> tuple[_There, _Ints]:
    if states is None:
        return None, np.empty(0, np.int64)
    return (states == grammar.GOOD).view(np.uint8), np.flatnonzero(states == grammar.BAD)


def cut_records(data: bytes, delimiter: int, final: bool) -> tuple[_Ints, _Flags]:
    """Finds the records of text that begins with a record, as `penstock.io.formats.csv.records` defines them.

    As long as every other quote opens a field and the ones between close it, a line break with an even number of quotes
    before it ends a record. This fails at the first stray quote: a pattern then finds the end of the record with the
    stray quote, and counting starts again after that record::

        text             a,"b"\\n   "c\\n   d",e\\n   "f"g\\n        h\\n
        quotes before        2      3        4      stray quote   0, counted again
        ends a record       yes     no      yes     by pattern   yes

    Args:
      data: the text.
      delimiter: the character between fields.
      final: whether the text is the end of the file, which also ends a record.

    Returns:
      int64[3, n]: the starts of records, and their ends without and with line ends; and bool[2, n]: which records are
      misquoted, and which others have a lone CR outside quotes. Bytes after the last complete record are left out.
    """
    quotes = _find_quotes(data, delimiter)
    breaks = occurrences(data, LF)
    if final and data and not data.endswith(b"\n"):
        breaks = np.append(breaks, len(data))
    rank_of_break = np.searchsorted(quotes.indices, breaks)
    # The stray quotes if quotes of even rank open fields, and if those of odd rank do.
    strays = [np.flatnonzero(_strays(quotes, parity)) for parity in (0, 1)]
    ends: list[_Ints] = []
    bad_ends: list[int] = []
    start, done = 0, 0
    while done < len(breaks):
        # `first`: the rank of the record's first quote. Up to the next stray quote (`limit`), each line break with an
        # even number of quotes since `first` ends a record.
        first = int(np.searchsorted(quotes.indices, start))
        stray = _next(strays[first % 2], first)
        limit = len(breaks) if stray is None else int(np.searchsorted(breaks, quotes.indices[stray]))
        whole = done + np.flatnonzero((rank_of_break[done:limit] - first) % 2 == 0)
        if len(whole):
            ends.append(breaks[whole])
            start, done = int(breaks[whole[-1]]) + 1, int(whole[-1]) + 1
        if stray is None:
            break
        # At the very end of the data, a quote may be half of a doubled one and a CR half of a CRLF: then there is no
        # end yet.
        end, misquoted = quoting.record_end(data, start, Dialect(bytes([delimiter])), final)
        if end is None:
            break
        if misquoted:
            bad_ends.append(end)
        ends.append(np.array([end], np.int64))
        start, done = end + 1, int(np.searchsorted(breaks, end, side="right"))
    return _records(data, np.concatenate([np.empty(0, np.int64), *ends]), bad_ends, delimiter)


def _strays(quotes: _Quotes, parity: int) -> _Flags:
    """Masks the quotes that do not open or close a field as they should, if quotes of this parity open."""
    opening = np.arange(len(quotes.indices)) % 2 == parity
    return np.where(opening, ~quotes.opens, ~quotes.closes)


def _next(candidates: _Ints, first: int) -> int | None:
    index = int(np.searchsorted(candidates, first))
    return int(candidates[index]) if index < len(candidates) else None


def _records(data: bytes, breaks: _Ints, bad_ends: list[int], delimiter: int) -> tuple[_Ints, _Flags]:
    """Makes the records that end at the given line breaks."""
    nexts = np.minimum(breaks + 1, len(data))
    starts = np.concatenate((np.zeros(1, np.int64), nexts[:-1]))[: len(nexts)]
    ends = without_cr(data, starts, breaks, nexts)
    misquoted = np.isin(breaks, np.array(bad_ends, np.int64))
    lone_cr = np.zeros(len(starts), bool)
    for row in np.flatnonzero((counts_between(lone_crs(data), starts, ends) > 0) & ~misquoted).tolist():
        fields = quoting.fields(data[starts[row] : ends[row]], Dialect(bytes([delimiter])))
        lone_cr[row] = any(b"\r" in plain for _, plain in fields)
    return np.array([starts, ends, nexts]), np.array([misquoted, lone_cr])


def _find_quotes(data: bytes, delimiter: int) -> _Quotes:
    """Finds the quotes of a block."""
    # A quote may open a field after a delimiter, a line break or another quote, and close one before them. The other
    # quote is there in `""`, which is either an empty field or a doubled quote: close one, open the next.
    indices = occurrences(data, QUOTE)
    array = np.frombuffer(data, np.uint8)
    border = np.zeros(256, bool)
    border[[QUOTE, LF, delimiter]] = True
    before = (indices == 0) | border[array[np.maximum(indices - 1, 0)]]
    following = np.minimum(indices + 1, len(array) - 1)
    after = (indices == len(array) - 1) | border[array[following]]
    # CRLF ends a record too; a lone CR does not.
    crlf = (array[following] == CR) & (array[np.minimum(indices + 2, len(array) - 1)] == LF)
    return _Quotes(indices, before, after | crlf)


def _misquoted_lines(data: bytes, starts: _Ints, ends: _Ints, delimiter: int) -> _Flags:
    """Masks the lines that are not one record: with an odd number of quotes, or text around a quoted field."""
    mask = np.zeros(len(starts), bool)
    if not len(starts) or b'"' not in data:
        return mask
    quotes = _find_quotes(data, delimiter)
    firsts = np.searchsorted(quotes.indices, starts)
    counts = np.searchsorted(quotes.indices, ends) - firsts
    mask = counts % 2 == 1
    # The rank of a quote in its line decides whether it must open or close a field; quotes outside the lines do not
    # count.
    owner = np.searchsorted(starts, quotes.indices, side="right") - 1
    ranks = np.arange(len(quotes.indices)) - firsts[owner]
    strays = np.where(ranks % 2 == 0, ~quotes.opens, ~quotes.closes) & (owner >= 0) & (ranks < counts[owner])
    for row in np.unique(owner[strays]).tolist():
        mask[row] = mask[row] or not is_well_quoted(data[starts[row] : ends[row]], Dialect(bytes([delimiter])))
    return mask
