"""Reading CSV: first the lines of a block and the faults of their bytes, then the fields of the good lines.

Other parsers report no positions, and their reading of a stray quote depends on where the block ends. So this module
finds the lines of a block and their faults. `penstock.io.formats.csv.fields` splits the good lines and reports the
misquoted ones. Faulty lines become dead letters. The result is the same for any part and block size.

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
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import as_untyped, check_column_names, origin_array, slice_rows
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Parsed, Part, select_names, text_tail
from penstock.io.formats.csv.fields import CsvColumns, FieldReader, misquoted_lines
from penstock.io.formats.csv.records import CsvRecords, RecordCutter, split_record
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
    read_blocks,
    read_chunks,
    split_part,
)
from penstock.io.kernel.shared.positions import occurrences
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

# Faults by code: a mask of the lines that have the fault.
Faults = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    r"""CSV files as RFC 4180 has them, in UTF-8.

    Each file has a header, unless `column_names` are given.

    Attributes:
      delimiter: one ASCII character; a backslash and a t stand for a tab. No suffix chooses it: pass it for .tsv files.
      multiline: quoted fields may hold line breaks. Such a file is not split.
      column_names: names of the columns of files without a header.
      null_values: texts that mean null if unquoted; the empty text always does.
      part_bytes: size of the byte ranges of a plain file; None derives it from the file's size (`text_part_bytes`).
      block_bytes: how many bytes are parsed at once.
      max_line_bytes: a longer line becomes a dead letter.

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
        """Returns the column names of the header, or the given ones; None for an empty file."""
        return self._header(file).names

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans byte ranges of a plain file; one part for a compressed file, or with `multiline`."""
        return split_part(file, self.part_bytes, splittable=not self.multiline)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of one part; columns are in the order of `features` if given, else of the header.

        Columns are text; with features, a column whose values are all of the feature's kind may have its type.

        Raises:
          InputError: when the header cannot be used or lacks a required column, the file is UTF-16, a compressed file
            is corrupt, or with `multiline` a quoted field is not closed.
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
        """Returns the end of a plain file that can be split."""
        return text_tail(file, splittable=not self.multiline)

    def _lines(self, file: InputFile, part: Part, block_bytes: int) -> Iterator[tuple[Lines, Faults] | LongLine]:
        """Yields lines with the faults of their bytes; with `multiline`, records with all faults, also of quotes."""
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
            faults = {**faults, "csv.quote": misquoted_lines(line, self.delimiter)}
        for code, mask in faults.items():
            if mask.any():
                raise InputError(f"{uri}: the header at byte {line.position(0)} is faulty: {_DETAILS[code]}")
        names = [field.decode() for field in split_record(line.line(0), self.delimiter)]
        check_column_names(names, uri)
        return _Header(tuple(names), line.offset + int(line.nexts[0]))


# Each part reads the header; this is how many bytes it reads at a time.
_HEADER_BLOCK_BYTES = 8 << 10


@dataclasses.dataclass(frozen=True)
class _Header:
    """Column names, None for an empty file; the data begins at byte `end`."""

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
    """Finds faults of single bytes: NUL bytes, and bytes that are not UTF-8."""
    return {
        "csv.nul_byte": counts_per_line(lines, occurrences(lines.data, 0)) > 0,
        "csv.encoding": invalid_utf8(lines),
    }


def _record_faults(records: CsvRecords) -> Faults:
    return {**byte_faults(records.lines), "csv.lone_cr": records.lone_cr, "csv.quote": records.misquoted}


class RecordReader:
    """Reads records, none of them blank."""

    def __init__(self, columns: CsvColumns):
        self._columns = columns
        self._fields = FieldReader(columns)

    def read(
        self, lines: Lines, faults: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, pa.Array], dict[int, list[Reason]]]:
        """Reads the wanted columns of the lines that are rows; also returns all faults of each of the other lines.

        Args:
          lines: some lines.
          faults: the faults found so far, by code; with `multiline` also faults of quotes.
        """
        fields = self._fields.read(lines, ~_any_fault(faults))
        if not self._columns.multiline:
            faults = {**faults, "csv.quote": fields.misquoted}
        good = ~_any_fault(faults)
        reasons = {
            row: [Reason(code, _DETAILS[code]) for code, mask in faults.items() if mask[row]]
            for row in np.flatnonzero(~good).tolist()
        }
        width = len(self._columns.names)
        for row in np.flatnonzero(good & (fields.counts != width)).tolist():
            detail = f"expected {width} columns, got {fields.counts[row]}"
            reasons[row] = [Reason("csv.column_count", detail)]
        return fields.columns, reasons


def _any_fault(faults: Mapping[str, np.ndarray]) -> np.ndarray:
    mask: np.ndarray = np.logical_or.reduce(list(faults.values()))
    return mask


class _Parser:
    """Parses blocks of one file."""

    def __init__(self, layout: CsvColumns, max_line_bytes: int):
        self._layout = layout
        self._max_line_bytes = max_line_bytes
        self._reader = RecordReader(layout)
        self._columns = json.dumps(list(layout.names), ensure_ascii=False)

    def empty(self) -> pa.RecordBatch:
        """Makes a batch without rows."""
        arrays = {name: pa.array([], pa.string()) for name in self._layout.selected}
        return self._batch(arrays, np.empty(0, np.int64))

    def parse(self, lines: Lines, faults: Mapping[str, np.ndarray]) -> Iterator[Parsed]:
        """Parses lines, none of them blank, into rows; faulty lines become dead letters with all their faults."""
        too_long = longer_than(lines, self._max_line_bytes)
        columns, reasons = self._reader.read(lines, {**faults, "csv.too_long": too_long})
        letters = [self._letter(lines, row, reasons[row], too_long[row]) for row in sorted(reasons)]
        good = np.ones(len(lines), bool)
        good[list(reasons)] = False
        kept = lines.select(good)
        batch, source = self._batch(columns, kept.positions()), kept.source(self._columns)
        for start, stop in slice_rows(len(kept), len(kept.data)):
            yield Parsed(batch.slice(start, stop - start), letters, source.slice(start, stop - start))
            letters = []
        if letters:
            yield Parsed(self.empty(), letters)

    def _letter(self, lines: Lines, row: int, reasons: list[Reason], too_long: bool) -> DeadLetter:
        position, line = lines.position(row), lines.line(row)
        if too_long:
            long_line = LongLine(position, line)
            return long_line_letter(long_line, self._layout.uri, "csv.too_long", self._max_line_bytes)
        return raw_letter(reasons, "read", self._layout.uri, position, line, self._columns)

    def _batch(self, columns: dict[str, pa.Array], positions: np.ndarray) -> pa.RecordBatch:
        origin = origin_array(self._layout.uri, positions)
        batch = pa.RecordBatch.from_arrays([*columns.values(), origin], names=[*columns, ORIGIN])
        without_schema = {name for name, feature in self._layout.selected.items() if feature is None}
        return as_untyped(batch, without_schema) if without_schema else batch
