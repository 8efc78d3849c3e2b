"""Reading CSV: first the lines of a block and the faults of their bytes, then the fields of the good lines.

Other parsers report no positions, and their reading of a stray quote depends on where the block ends. So this module
finds the lines of a block and their faults. `penstock.io.formats.csv.fields` splits the good lines and reports the
misquoted ones. Faulty lines become dead letters. The result is the same for any part and block size.

==================  ===================================================================================================
dead letter         the line (with `multiline` the record)
==================  ===================================================================================================
`csv.quote`         has an odd number of quotes, or text after a closing quote
`csv.line_break`    is part of a record whose quoted fields hold line breaks (`penstock.io.formats.csv.torn`)
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
from typing import ClassVar

import numpy as np
import pyarrow as pa

from penstock.io.batches import as_untyped, origin_array, slice_rows, with_notes
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Parsed, Part, select_names, text_tail
from penstock.io.formats.csv import sniff
from penstock.io.formats.csv.fields import CsvColumns, FieldReader, misquoted_lines
from penstock.io.formats.csv.header import Header, check_header, name_columns, numbered_columns, renamed_notes
from penstock.io.formats.csv.records import CsvRecords, RecordCutter, split_record
from penstock.io.formats.csv.torn import Text, Torn, TornRecords
from penstock.io.formats.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    Block,
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
from penstock.io.kernel import lines as kernel_lines
from penstock.io.kernel.shared.positions import occurrences
from penstock.io.kernel.shared.quoting import Dialect
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, feature_map

QUOTINGS = ("standard", "none")

_DETAILS = {
    "csv.nul_byte": "the line has a NUL byte",
    "csv.encoding": "the line is not UTF-8",
    "csv.lone_cr": "the line has a CR without LF",
    "csv.quote": "a quoted field does not end in this line, or text follows its closing quote",
    "csv.line_break": "the line is part of a record whose quoted fields hold line breaks",
    "csv.several_records": "the message holds more than one line, outside of quotes",
    "csv.too_long": "the line is too long",
}

# What may help where the header has a fault.
_HEADER_HINTS = {
    "csv.quote": "; pass --csv_multiline if it holds line breaks",
    "csv.lone_cr": r"; if the lines of the file end in CR alone, convert it, for example with tr '\r' '\n'",
}

# Faults by code: a mask of the lines that have the fault.
Faults = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class CsvFormat:
    r"""CSV files as RFC 4180 has them, in UTF-8.

    Attributes:
      delimiter: one ASCII character; a backslash and a t stand for a tab. None is a comma, and refuses files that look
        as if another one separates their fields. No suffix chooses it: pass it for .tsv files.
      multiline: quoted fields may hold line breaks. Such a file is not split.
      column_names: names of the columns, which are then not taken from the first line.
      quoting: `standard`: a field may be quoted. `none`: a quote is a character like any other.
      trim: spaces at both ends of a field, or beside its quotes, are no part of it; not with `multiline`.
      header: what the first line that is not blank is. `keep`: the names of the columns; those that it lacks or
        repeats are made up (`name_columns`). `skip`: nothing; the columns are called by `column_names`, or
        `column_1` and so on. `none`: a row; the columns are called likewise. None is `none` with `column_names`, else
        `keep`.
      null_values: texts that mean null if unquoted; the empty text always does.
      part_bytes: size of the byte ranges of a plain file; None derives it from the file's size (`text_part_bytes`).
      block_bytes: how many bytes are parsed at once.
      max_line_bytes: a longer line becomes a dead letter.

    Raises:
      ConfigError: when an option is wrong.
    """

    delimiter: str | None = None
    multiline: bool = False
    column_names: tuple[str, ...] | None = None
    null_values: tuple[str, ...] = ()
    part_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES
    header: str | None = None
    quoting: str | None = None
    trim: bool = False

    reads_alike: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "delimiter", "\t" if self.delimiter == "\\t" else self.delimiter)
        mark = self.mark
        if len(mark) != 1 or not mark.isascii() or mark in '"\r\n\0':
            raise ConfigError(f"the CSV delimiter must be one ASCII character, no quote or line end, got {mark!r}")
        if self.column_names is not None:
            object.__setattr__(self, "column_names", tuple(self.column_names))
        self._check_dialect()
        check_header(self.header, self.column_names)
        object.__setattr__(self, "null_values", tuple(self.null_values))

    def _check_dialect(self) -> None:
        if self.quoting not in (None, *QUOTINGS):
            raise ConfigError(f"--csv_quoting must be one of {', '.join(QUOTINGS)}, got {self.quoting!r}")
        if self.multiline and not self.dialect.quoting:
            raise ConfigError("--csv_multiline is about quoted fields: leave it out, or --csv_quoting none")
        if self.multiline and self.trim:
            raise ConfigError("--csv_trim reads a line as a record: leave out --csv_multiline, or remove the spaces")
        if self.trim and self.mark == " ":
            raise ConfigError("--csv_trim cannot be told from the delimiter, which is a space")

    @property
    def dialect(self) -> Dialect:
        """How a line holds its fields."""
        return Dialect(self.mark.encode(), self.quoting != "none", self.trim)

    @property
    def mark(self) -> str:
        """The character between fields."""
        return "," if self.delimiter is None else self.delimiter

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """Returns the column names of the header, or the given ones; None for an empty file."""
        return self.find_header(file).names

    def check(self, file: InputFile) -> None:
        """Checks the first lines of a file against the options.

        Raises:
          InputError: when they contradict each other: line breaks in quoted fields without `multiline`, another
            character that separates fields when there is no `delimiter`, a first line that repeats `column_names` when
            there is no `header`, and a header that cannot be used.
        """
        beginning = self._beginning(file)
        if beginning is not None:
            list(self._checked(file, beginning))

    def look(self, file: InputFile) -> list[str]:
        """Checks the first lines of a file as `check` does, and returns what is only suspicious, a line each."""
        beginning = self._beginning(file)
        if beginning is None:
            return []
        # What the fields hold is of no interest when they are not the right ones.
        return list(self._checked(file, beginning)) or list(sniff.suspicions(beginning, self.header is None))

    def _beginning(self, file: InputFile) -> sniff.Beginning | None:
        header = self.find_header(file)
        block = None if header.names is None else sniff.first_block(file, self.max_line_bytes)
        return None if block is None else sniff.read_beginning(block, file.uri, header, self.dialect, self.multiline)

    def _checked(self, file: InputFile, beginning: sniff.Beginning) -> Iterator[str]:
        sniff.check_html(beginning)
        yield from sniff.check_separator(beginning, self.delimiter is not None)
        if not self.multiline:
            sniff.check_line_breaks(file, beginning, TornRecords(self.dialect, self.max_line_bytes))
        if self.header is None:
            sniff.check_given_names(beginning)

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
        header = self.find_header(file)
        if header.names is None:
            return
        selected = select_names(header.names, features, file.uri)
        by_name = {} if features is None else feature_map(features)
        wanted = {name: by_name.get(name) for name in selected}
        layout = CsvColumns(file.uri, header.names, wanted, self.dialect, self.null_values, self.multiline)
        parser = _Parser(layout, self.max_line_bytes, header.renamed)
        if self.multiline:
            for lines, faults in self._records(file, self.block_bytes):
                yield from parser.parse(*_filled(lines, faults, header.end))
        else:
            yield from _LineReader(parser, file, part, header.end).read(self.block_bytes)

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
            yield _indexed(block)

    def _records(self, file: InputFile, block_bytes: int) -> Iterator[tuple[Lines, Faults]]:
        cutter = RecordCutter(file.uri, self.mark, self.max_line_bytes)
        for position, chunk in read_chunks(file, block_bytes):
            for records in cutter.feed(position, chunk):
                yield records.lines, _record_faults(records)
        for records in cutter.finish():
            yield records.lines, _record_faults(records)

    def find_header(self, file: InputFile) -> Header:
        """Finds the names of the columns, and where the rows begin.

        Raises:
          InputError: when the names are in line 1, and that is faulty or has a reserved name.
        """
        mode = self.header or ("keep" if self.column_names is None else "none")
        if self.column_names is not None and mode == "none":
            return Header(self.column_names, 0)
        first = self._first_line(file)
        if first is None:
            return Header(None, 0)
        line, faults = first
        end = line.offset + int(line.nexts[0])
        if self.column_names is not None:
            return Header(self.column_names, end)
        fields = self._first_fields(line, faults, file.uri)
        if mode == "keep":
            names, renamed = name_columns([field.decode() for field in fields], file.uri)
            return Header(names, end, renamed)
        return Header(numbered_columns(len(fields)), end if mode == "skip" else 0)

    def _first_line(self, file: InputFile) -> tuple[Lines, Faults] | None:
        """Returns the first line that is not blank, or with `multiline` the first record; None if there is none."""
        for found in self._lines(file, Part(), min(self.block_bytes, _HEADER_BLOCK_BYTES)):
            if isinstance(found, LongLine):
                raise InputError(f"{file.uri}: the header is over {self.max_line_bytes} bytes; is this a text file?")
            lines, faults = found
            first = np.flatnonzero(~blank_lines(lines))[:1]
            if len(first):
                return lines.select(first), {code: mask[first] for code, mask in faults.items()}
        return None

    def _first_fields(self, line: Lines, faults: Faults, uri: str) -> list[bytes]:
        if not self.multiline:
            faults = {**faults, "csv.quote": misquoted_lines(line, self.dialect)}
        for code, mask in faults.items():
            if mask.any():
                detail = f"{_DETAILS[code]}{_HEADER_HINTS.get(code, '')}"
                raise InputError(f"{uri}: the header at byte {line.position(0)} is faulty: {detail}")
        return split_record(line.line(0), self.dialect)


# Each part reads the header; this is how many bytes it reads at a time.
_HEADER_BLOCK_BYTES = 8 << 10


def byte_faults(lines: Lines) -> Faults:
    """Finds faults of single bytes: NUL bytes, bytes that are not UTF-8, and CRs without LF."""
    has_nul, has_high, has_lone_cr = kernel_lines.suspects(lines.data)
    none = np.zeros(len(lines), bool)
    return {
        "csv.nul_byte": counts_per_line(lines, occurrences(lines.data, 0)) > 0 if has_nul else none,
        "csv.encoding": invalid_utf8(lines) if has_high else none,
        "csv.lone_cr": lone_cr_lines(lines) if has_lone_cr else none,
    }


def _indexed(block: Block) -> tuple[Lines, Faults]:
    """Returns the lines of a block, blank ones included, with the faults of their bytes."""
    lines = index_lines(block)
    return lines, byte_faults(lines)


def _filled(lines: Lines, faults: Faults, position: int) -> tuple[Lines, Faults]:
    """Selects the lines from a position on that are not blank."""
    filled = ~blank_lines(lines)
    filled[: np.searchsorted(lines.starts, position - lines.offset)] = False
    return lines.select(filled), {code: mask[filled] for code, mask in faults.items()}


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

    def __init__(self, layout: CsvColumns, max_line_bytes: int, renamed: Mapping[int, str]):
        self.layout = layout
        self.max_line_bytes = max_line_bytes
        self._renamed = renamed
        self._reader = RecordReader(layout)
        self._columns = json.dumps(list(layout.names), ensure_ascii=False)

    def empty(self) -> pa.RecordBatch:
        """Makes a batch without rows."""
        arrays = {name: pa.array([], pa.string()) for name in self.layout.selected}
        return self._batch(arrays, np.empty(0, np.int64))

    def long_line(self, line: LongLine) -> Parsed:
        """Makes the dead letter of a line over the limit."""
        return Parsed(self.empty(), [self._long_letter(line)])

    def parse(self, lines: Lines, faults: Mapping[str, np.ndarray]) -> Iterator[Parsed]:
        """Parses lines, none of them blank, into rows; faulty lines become dead letters with all their faults."""
        yield from self.parsed(lines, *self.read(lines, faults))

    def read(
        self, lines: Lines, faults: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, pa.Array], dict[int, list[Reason]]]:
        """Reads the rows and the reasons of the other lines, as `RecordReader` does."""
        return self._reader.read(lines, {**faults, "csv.too_long": longer_than(lines, self.max_line_bytes)})

    def parsed(
        self, lines: Lines, columns: dict[str, pa.Array], reasons: Mapping[int, list[Reason]]
    ) -> Iterator[Parsed]:
        """Makes batches and dead letters of what was read."""
        letters = [self._letter(lines, row, reasons[row]) for row in sorted(reasons)]
        good = np.ones(len(lines), bool)
        good[list(reasons)] = False
        kept = lines.select(good)
        batch, source = self._batch(columns, kept.positions()), kept.source(self._columns)
        for start, stop in slice_rows(len(kept), len(kept.data)):
            rows = with_notes(batch.slice(start, stop - start), renamed_notes(self._renamed, stop - start))
            yield Parsed(rows, letters, source.slice(start, stop - start))
            letters = []
        if letters:
            yield Parsed(self.empty(), letters)

    def _letter(self, lines: Lines, row: int, reasons: list[Reason]) -> DeadLetter:
        position, line = lines.position(row), lines.line(row)
        if len(line) > self.max_line_bytes:
            return self._long_letter(LongLine(position, line))
        return raw_letter(reasons, "read", self.layout.uri, position, line, self._columns)

    def _long_letter(self, line: LongLine) -> DeadLetter:
        return long_line_letter(line, self.layout.uri, "csv.too_long", self.max_line_bytes)

    def _batch(self, columns: dict[str, pa.Array], positions: np.ndarray) -> pa.RecordBatch:
        origin = origin_array(self.layout.uri, positions)
        batch = pa.RecordBatch.from_arrays([*columns.values(), origin], names=[*columns, ORIGIN])
        without_schema = {name for name, feature in self.layout.selected.items() if feature is None}
        return as_untyped(batch, without_schema) if without_schema else batch


class _LineReader:
    """Reads the lines of one part of a file without `multiline`, and rejects torn records."""

    def __init__(self, parser: _Parser, file: InputFile, part: Part, first: int):
        self._parser = parser
        self._file = file
        self._part = part
        self._first = first
        self._torn = TornRecords(parser.layout.dialect, parser.max_line_bytes)
        # What later bytes decide: lines of a record that may be torn.
        self._waiting = Block(b"", 0)
        self._held: Torn | None = None

    def read(self, block_bytes: int) -> Iterator[Parsed]:
        """Reads all lines, in order."""
        if self._part.start:
            self._held = self._torn.holding(self._file, self._part.start, self._first)
        for block in read_blocks(self._file, self._part, block_bytes, self._parser.max_line_bytes):
            if isinstance(block, LongLine):
                yield from self._parse(self._waiting, Text(self._waiting.data))
                yield self._parser.long_line(block)
                continue
            if self._waiting.data:
                block = Block(self._waiting.data + block.data, self._waiting.offset)
            yield from self._parse(block, Text(block.data, grows=True))
        if self._waiting.data:
            yield from self._parse(self._waiting, self._last_text())

    def _last_text(self) -> Text:
        if self._part.end is None or self._file.codec is not None:
            return Text(self._waiting.data, is_end=True)
        return self._torn.with_lines_after(self._file, self._part.end, self._waiting)

    def _parse(self, block: Block, text: Text) -> Iterator[Parsed]:
        """Parses a block; keeps the lines from the first one on that later bytes decide."""
        self._waiting = Block(b"", 0)
        lines, faults = _filled(*_indexed(block), self._first)
        columns, reasons = self._parser.read(lines, faults)
        misquoted = [row for row in sorted(reasons) if any(reason.code == "csv.quote" for reason in reasons[row])]
        if not misquoted and self._held is None:
            yield from self._parser.parsed(lines, columns, reasons)
            return
        records, undecided = self._find_torn(block, text, lines, misquoted)
        if undecided is not None:
            self._waiting = Block(block.data[undecided:], block.offset + undecided)
            decided = lines.starts < undecided
            lines, faults = lines.select(decided), {code: mask[decided] for code, mask in faults.items()}
        columns, reasons = self._read_without(lines, faults, records)
        yield from self._parser.parsed(lines, columns, reasons)

    def _find_torn(
        self, block: Block, text: Text, lines: Lines, misquoted: Sequence[int]
    ) -> tuple[list[Torn], int | None]:
        """Finds the torn records of a block, by their positions; also returns the first index that is undecided."""
        bounds = zip(lines.starts[misquoted].tolist(), lines.nexts[misquoted].tolist(), strict=True)
        first = 0 if self._held is None else self._held.stop - block.offset
        found, undecided = self._torn.find(text, bounds, first)
        records = [Torn(torn.start + block.offset, torn.stop + block.offset) for torn in found]
        if self._held is not None:
            records.insert(0, self._held)
            self._held = self._held if self._held.stop > block.offset + len(block.data) else None
        return records, undecided

    def _read_without(
        self, lines: Lines, faults: Faults, records: Sequence[Torn]
    ) -> tuple[dict[str, pa.Array], dict[int, list[Reason]]]:
        """Reads the lines that no torn record holds, and rejects the others."""
        inside = np.zeros(len(lines), bool)
        details: dict[int, Reason] = {}
        for torn in records:
            first, last = np.searchsorted(lines.positions(), (torn.start, torn.stop))
            inside[first:last] = True
            details |= dict.fromkeys(range(first, last), Reason("csv.line_break", _line_break_detail(torn)))
        columns, reasons = self._parser.read(lines, {**faults, "csv.line_break": inside})
        for row, reason in details.items():
            others = [other for other in reasons[row] if other.code not in ("csv.quote", "csv.line_break")]
            reasons[row] = [reason, *others]
        return columns, reasons


def _line_break_detail(torn: Torn) -> str:
    return (
        f"the lines from byte {torn.start} to byte {torn.stop} are one record whose quoted fields hold line breaks: "
        "pass --csv_multiline, or correct the quote that the first of them does not close"
    )
