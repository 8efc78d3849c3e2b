"""Reading CSV: the lines of a block and their faults are found first, then the fields of the good ones.

The parsers of others name no positions, and what they make of a stray quote depends on where the block ends. So the
line ends, the quotes and the faulty lines of a block are found here, faulty lines are taken out as dead letters, and
`penstock.io.formats.csv.fields` parses the rest, of which each line is known to be one record. The result is the same
for any part and block size.

==================  ===================================================================================================
dead letter         the line (with `multiline` the record)
==================  ===================================================================================================
`csv.quote`         has an odd number of quotes, or text after a closing quote
`csv.lone_cr`       has a CR that is not part of a CRLF (with `multiline`: outside of quotes)
`csv.nul_byte`      has a NUL byte
`csv.encoding`      is not UTF-8
`csv.column_count`  has more or fewer fields than the header
`csv.too_long`      is over 256 MiB
==================  ===================================================================================================

Blank lines are skipped and not counted. An unquoted empty field is null, `""` is an empty string.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import check_column_names, origin_array, slice_rows
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Parsed, Part, select_names, text_tail
from penstock.io.formats.csv.fields import CsvColumns, fields_of
from penstock.io.formats.csv.records import CsvRecords, RecordCutter, is_misquoted, split_record
from penstock.io.formats.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    Lines,
    LongLine,
    blank_lines,
    counts_per_line,
    index_lines,
    invalid_utf8,
    lone_cr_lines,
    long_line_letter,
    longer_than,
    occurrences,
    read_blocks,
    read_chunks,
    split_part,
)
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, feature_map

_DETAILS = {
    "csv.nul_byte": "the line has a NUL byte",
    "csv.encoding": "the line is not UTF-8",
    "csv.lone_cr": "the line has a CR without LF",
    "csv.quote": "a quoted field does not end in this line, or text follows its closing quote",
    "csv.several_records": "the message holds more than one line, outside of quotes",
    "csv.too_long": "the line is too long",
}

# Faults by code: the mask of the lines that have it.
Faults = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    r"""CSV as RFC 4180 has it, in UTF-8, with a header in each file unless `column_names` are given.

    Attributes:
      delimiter: one ASCII character; `\t` may be spelled out.
      multiline: quoted fields may hold line breaks. Such a file is not split.
      column_names: names of the columns of files without a header.
      null_values: texts that, unquoted, mean null; the empty text always does.
      part_bytes: size of the byte ranges of a plain file; None goes by its size (`text_part_bytes`).
      block_bytes: how much is parsed at once.
      max_line_bytes: a longer line is a dead letter.

    Raises:
      ConfigError: when an option is wrong.
    """

    delimiter: str = ","
    multiline: bool = False
    column_names: tuple[str, ...] | None = None
    null_values: tuple[str, ...] = ()
    part_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES

    def __post_init__(self) -> None:
        delimiter = "\t" if self.delimiter == "\\t" else self.delimiter
        object.__setattr__(self, "delimiter", delimiter)
        if len(delimiter) != 1 or not delimiter.isascii() or delimiter in '"\r\n\0':
            raise ConfigError(f"the CSV delimiter must be one ASCII character, no quote or line end, got {delimiter!r}")
        if self.column_names is not None:
            object.__setattr__(self, "column_names", tuple(self.column_names))
            _check_given_names(self.column_names)
        object.__setattr__(self, "null_values", tuple(self.null_values))

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """The column names of the header, or the given ones; None for an empty file."""
        return self._header(file).names

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Byte ranges of a plain file; one part for a compressed one, and with `multiline`."""
        return split_part(file, self.part_bytes, splittable=not self.multiline)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """The rows of one part, in the order of `features` where given, else of the header.

        Columns are text; with features, one whose values all are of their kind may be typed by it.

        Raises:
          InputError: for a header that cannot be used or lacks a required column, UTF-16, a corrupt compressed file,
            and with `multiline` for a quoted field that is not closed.
        """
        header = self._header(file)
        if header.names is None:
            return
        selected = select_names(header.names, features, file.uri)
        by_name = {} if features is None else feature_map(features)
        wanted = {name: by_name.get(name) for name in selected}
        layout = CsvColumns(file.uri, header.names, wanted, self.delimiter, self.null_values, self.multiline)
        parser = _Parser(layout, self.max_line_bytes)
        for found in self._lines(file, part, self.block_bytes):
            if isinstance(found, LongLine):
                letter = long_line_letter(found, file.uri, "csv.too_long", self.max_line_bytes)
                yield Parsed(parser.empty(), [letter])
            else:
                lines, faults = found
                filled = ~blank_lines(lines)
                filled[: np.searchsorted(lines.starts, header.end - lines.offset)] = False
                yield from parser.parse(lines.select(filled), {code: mask[filled] for code, mask in faults.items()})

    def tail(self, file: InputFile) -> Part | None:
        """The end of a plain file that can be split."""
        return text_tail(file, splittable=not self.multiline)

    def _lines(self, file: InputFile, part: Part, block_bytes: int) -> Iterator[tuple[Lines, Faults] | LongLine]:
        """Lines, or records with `multiline`, with their faults; of quotes only those of records."""
        if self.multiline:
            yield from self._records(file, block_bytes)
            return
        for block in read_blocks(file, part, block_bytes, self.max_line_bytes):
            if isinstance(block, LongLine):
                yield block
                continue
            lines = index_lines(block)
            yield lines, {**byte_faults(lines), "csv.lone_cr": lone_cr_lines(lines)}

    def _records(self, file: InputFile, block_bytes: int) -> Iterator[tuple[Lines, Faults]]:
        cutter = RecordCutter(file.uri, self.delimiter, self.max_line_bytes)
        for position, chunk in read_chunks(file, block_bytes):
            for records in cutter.feed(position, chunk):
                yield records.lines, _record_faults(records)
        for records in cutter.finish():
            yield records.lines, _record_faults(records)

    def _header(self, file: InputFile) -> "_Header":
        if self.column_names is not None:
            return _Header(self.column_names, 0)
        for found in self._lines(file, Part(), min(self.block_bytes, _HEADER_BLOCK_BYTES)):
            if isinstance(found, LongLine):
                raise InputError(f"{file.uri}: the header is over {self.max_line_bytes} bytes; is this a text file?")
            lines, faults = found
            first = np.flatnonzero(~blank_lines(lines))[:1]
            if len(first):
                return self._parse_header(
                    lines.select(first), {code: mask[first] for code, mask in faults.items()}, file.uri
                )
        return _Header(None, 0)

    def _parse_header(self, line: Lines, faults: Faults, uri: str) -> "_Header":
        if not self.multiline:
            faults = {**faults, "csv.quote": np.array([is_misquoted(line.line(0), self.delimiter)])}
        for code, mask in faults.items():
            if mask.any():
                raise InputError(f"{uri}: the header at byte {line.position(0)} is faulty: {_DETAILS[code]}")
        names = [field.decode() for field in split_record(line.line(0), self.delimiter)]
        check_column_names(names, uri)
        return _Header(tuple(names), line.offset + int(line.nexts[0]))


# A header is looked up for each part; so much is read for it.
_HEADER_BLOCK_BYTES = 8 << 10


@dataclasses.dataclass(frozen=True)
class _Header:
    """Column names, None in an empty file; data begins at byte `end`."""

    names: tuple[str, ...] | None
    end: int


def _check_given_names(names: Sequence[str]) -> None:
    if not names:
        raise ConfigError("--columns must name at least one column, got none")
    try:
        check_column_names(list(names), "--columns")
    except InputError as error:
        raise ConfigError(str(error)) from error


def byte_faults(lines: Lines) -> Faults:
    """Faults of single bytes, that no line may have."""
    return {
        "csv.nul_byte": counts_per_line(lines, occurrences(lines.data, 0)) > 0,
        "csv.encoding": invalid_utf8(lines),
    }


def _record_faults(records: CsvRecords) -> Faults:
    return {**byte_faults(records.lines), "csv.lone_cr": records.lone_cr, "csv.quote": records.misquoted}


class RecordReader:
    """Reads records, none of them blank, one block after the other."""

    def __init__(self, layout: CsvColumns):
        self._layout = layout
        self._fields = fields_of(layout)

    def reject(self, lines: Lines, faults: Mapping[str, np.ndarray]) -> dict[int, list[Reason]]:
        """Why some of these lines are no rows: all faults of each; `columns` gives the others.

        Args:
          lines: the next block.
          faults: those known already, by code; with `multiline` also those of the quotes.
        """
        misquoted = self._fields.split(lines)
        if not self._layout.multiline:
            faults = {**faults, "csv.quote": misquoted}
        good = ~np.logical_or.reduce(list(faults.values()))
        reasons = {
            row: [Reason(code, _DETAILS[code]) for code, mask in faults.items() if mask[row]]
            for row in np.flatnonzero(~good).tolist()
        }
        return reasons | {row: [self._count_reason(found)] for row, found in self._fields.keep(good).items()}

    def columns(self, start: int, stop: int) -> list[pa.Array]:
        """A column for each name that is wanted, of this range of the lines that are left."""
        return self._fields.columns(start, stop)

    def _count_reason(self, columns: int) -> Reason:
        return Reason("csv.column_count", f"expected {len(self._layout.names)} columns, got {columns}")


class _Parser:
    """Parses blocks of one file."""

    def __init__(self, layout: CsvColumns, max_line_bytes: int):
        self._layout = layout
        self._max_line_bytes = max_line_bytes
        self._reader = RecordReader(layout)

    def empty(self) -> pa.RecordBatch:
        """No rows."""
        arrays = [pa.array([], pa.string()) for _ in self._layout.selected]
        return self._batch(arrays, origin_array(self._layout.uri, np.empty(0, np.int64)))

    def parse(self, lines: Lines, faults: Mapping[str, np.ndarray]) -> Iterator[Parsed]:
        """The rows of some lines, none of them blank; faulty ones become dead letters with all their faults."""
        too_long = longer_than(lines, self._max_line_bytes)
        reasons = self._reader.reject(lines, {**faults, "csv.too_long": too_long})
        letters = [self._letter(lines, row, reasons[row], too_long[row]) for row in sorted(reasons)]
        good = np.ones(len(lines), bool)
        good[list(reasons)] = False
        yield from self._slices(lines.select(good), letters)

    def _slices(self, kept: Lines, rejected: Sequence[DeadLetter]) -> Iterator[Parsed]:
        """The rows that are left, in slices as `split_batch` makes them; the dead letters go with the first."""
        origin = origin_array(self._layout.uri, kept.positions())
        for start, stop in slice_rows(len(kept), len(kept.data)):
            batch = self._batch(self._reader.columns(start, stop), origin.slice(start, stop - start))
            yield Parsed(batch, rejected, kept.payload_from(start))
            rejected = ()
        if rejected:
            yield Parsed(self.empty(), rejected)

    def _letter(self, lines: Lines, row: int, reasons: list[Reason], too_long: bool) -> DeadLetter:
        position, line = lines.position(row), lines.line(row)
        if too_long:
            long_line = LongLine(position, line)
            return long_line_letter(long_line, self._layout.uri, "csv.too_long", self._max_line_bytes)
        return raw_letter(reasons, "read", self._layout.uri, position, line)

    def _batch(self, arrays: list[pa.Array], origin: pa.StructArray) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*arrays, origin], names=[*self._layout.selected, ORIGIN])
