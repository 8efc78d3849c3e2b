"""Reading JSON: Arrow parses the lines that it parses exactly, the others are read row by row.

A line is one line of JSON Lines, or one value of a document (`penstock.io.formats.json.document`).

Nested objects become columns with dotted names, and lists of scalars become list columns. A missing member and a null
are both null; an empty list is not. Arrow gets the type of each column: the types that it infers depend on the block
(and turn texts into timestamps, large integers into floats). Lines that Arrow fails on are halved until it parses them
or few are left, which `penstock.io.formats.json.rows` reads. Both ways give the same values, whatever the parts and
blocks are.

========================  =============================================================================================
dead letter               the line
========================  =============================================================================================
`jsonl.parse`             is not JSON (NaN and Infinity are not), or is nested over 200 levels deep
`jsonl.not_object`        is JSON, but not an object
`jsonl.encoding`          is not UTF-8, or a wanted text, or a name beside wanted ones, has a lone surrogate
`jsonl.duplicate_key`     has a wanted member twice, or a value both as `"a.b"` and as `{"a": {"b": ...}}`
`jsonl.type`              has an object where the schema has a value or the other way round, a list of lists or objects,
                          not exactly one value for a feature with exactly one, a number that overflows a double
`jsonl.too_long`          is over 256 MiB, or so are its rows when a list in it is exploded
========================  =============================================================================================

Blank lines are skipped and not counted. Members that the schema does not name are ignored, whatever they hold. Without
a schema, a member with an empty or reserved name is an `InputError`, since it cannot be a column; lists of objects or
lists are left out, which notes of the batches say (`penstock.io.batches.with_notes`).
"""

import dataclasses
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import origin_array, with_notes
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Parsed, Part, text_tail
from penstock.io.formats.json.arrow import ArrowReader, ArrowRows
from penstock.io.formats.json.document import read_document, reads_as_document
from penstock.io.formats.json.rows import (
    MAX_DEPTH,
    FlatRow,
    Path,
    RowError,
    Value,
    WantedColumns,
    as_values,
    build_column,
    by_name,
    explode_object,
    fit_valency,
    flatten,
    is_too_deep,
    parse_object,
)
from penstock.io.formats.lines import (
    BLOCK_BYTES,
    MAX_LINE_BYTES,
    Lines,
    LongLine,
    blank_lines,
    counts_per_line,
    index_lines,
    invalid_utf8,
    long_line_letter,
    longer_than,
    parsed_slices,
    read_blocks,
    split_part,
)
from penstock.io.kernel import lines as kernel_lines
from penstock.io.reasons import LEFT_OUT, Note, Reason
from penstock.io.reserved import ORIGIN, RESERVED
from penstock.io.schema import Feature, feature_map

# How many rows are read one by one to learn the types for Arrow.
_SAMPLE_ROWS = 32

# Fewer rows than this are not worth another try with Arrow.
_LEAF_ROWS = 16

# JSON has neither, but Arrow accepts both as numbers.
_CONSTANTS = re.compile(rb"[\s:,\[\-](?:NaN|Inf)")

# The most white space around an object that is skipped; lines with more are read row by row.
_MAX_MARGIN = 8
_SPACES = np.frombuffer(b" \t\r\n", np.uint8)  # line breaks are inside messages, not inside lines

# `Row`: values of a row by name. `FastRows`: the lines of rows, and their columns.
Row = dict[str, Value]
FastRows = tuple[np.ndarray, dict[str, pa.Array]]


@dataclasses.dataclass(frozen=True)
class JsonlFormat:
    """JSON files in UTF-8: one object a line, or an array of objects.

    Objects may also lie on several lines, or side by side. The first lines of a file tell which.
    A broken array, or an object that is cut off, is an `InputError`.

    Attributes:
      part_bytes: size of the byte ranges of a plain file; None derives it from the file's size (`text_part_bytes`).
      block_bytes: how many bytes are parsed at once.
      max_line_bytes: a longer line becomes a dead letter; a longer value of a document is an error.
      explode: the name of a list, each item of which becomes a row.
    """

    part_bytes: int | None = None
    block_bytes: int = BLOCK_BYTES
    max_line_bytes: int = MAX_LINE_BYTES
    explode: str | None = None

    def columns(self, file: InputFile) -> Sequence[str] | None:
        """Returns None: each line has its own members."""
        return None

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans byte ranges of a plain file of lines; one part for a compressed file, and for a document."""
        parts = list(split_part(file, self.part_bytes))
        return iter([Part()] if len(parts) > 1 and reads_as_document(file) else parts)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of one part.

        With features, each has a column: int64, float64, string or binary by its kind, or string if a value is spelled
        as text or is out of range. If the schema says exactly one value a row, it is a scalar column; if the schema
        allows other numbers of values, a list column; else whichever the block needs. Without features, columns are
        bool, int64, float64, string, lists of those, or null.

        Raises:
          InputError: when the file is UTF-16, a compressed file is corrupt, a document is broken, or a member cannot be
            a column.
        """
        reader = JsonRowReader(features, self.explode)
        for lines in self._lines(file, part):
            if isinstance(lines, LongLine):
                letter = long_line_letter(lines, file.uri, "jsonl.too_long", self.max_line_bytes)
                yield Parsed(_batch({}, file.uri, np.empty(0, np.int64)), [letter])
                continue
            letters = self._fault_letters(lines, file.uri)
            good = np.ones(len(lines), bool)
            good[list(letters)] = False
            yield from _parsed(reader, lines.select(good), file.uri, list(letters.values()))

    def tail(self, file: InputFile) -> Part | None:
        """Returns the end of a plain file of lines; None for a document."""
        return text_tail(file, not reads_as_document(file))

    def _lines(self, file: InputFile, part: Part) -> Iterator[Lines | LongLine]:
        """Yields what may be rows: the lines that are not blank, or the values of a document."""
        if part == Part() and reads_as_document(file):
            yield from read_document(file, self.block_bytes, self.max_line_bytes)
            return
        for block in read_blocks(file, part, self.block_bytes, self.max_line_bytes):
            if isinstance(block, LongLine):
                yield block
                continue
            lines = index_lines(block)
            yield lines.select(~blank_lines(lines, whitespace=True))

    def _fault_letters(self, lines: Lines, uri: str) -> dict[int, DeadLetter]:
        too_long = longer_than(lines, self.max_line_bytes)
        letters = {}
        for row in np.flatnonzero(too_long | invalid_utf8(lines)).tolist():
            position, line = lines.position(row), lines.line(row)
            if too_long[row]:
                letters[row] = long_line_letter(LongLine(position, line), uri, "jsonl.too_long", self.max_line_bytes)
            else:
                reason = Reason("jsonl.encoding", "not UTF-8")
                letters[row] = raw_letter([reason], "read", uri, position, line)
        return letters


def _parsed(reader: "JsonRowReader", lines: Lines, uri: str, rejected: Sequence[DeadLetter]) -> Iterator[Parsed]:
    """Parses lines; adds the dead letters in `rejected`, whose lines are not among them."""
    found = reader.read(lines)
    kept = lines.select(found.indices)
    letters = [
        raw_letter([reason], "read", uri, lines.position(row), lines.line(row)) for row, reason in found.faults.items()
    ]
    _check_names(found.columns, uri, kept)
    batch = _batch(found.columns, uri, kept.positions())
    batch = with_notes(batch, left_out_notes(found.left_out)) if found.left_out else batch
    for parsed in parsed_slices(batch, sorted([*rejected, *letters], key=lambda letter: letter.position), kept):
        # The bytes of a line are not those of one of its items.
        yield dataclasses.replace(parsed, source=None) if reader.explodes else parsed


def left_out_notes(counts: Mapping[str, int]) -> tuple[Note, ...]:
    """Makes the notes of members that are left out, from the number of their rows by name."""
    detail = (
        "a list of objects or of lists, which no column can hold, is left out; --explode {} makes a row of each item"
    )
    return tuple(Note(LEFT_OUT, name, count, detail.format(name)) for name, count in counts.items())


def _check_names(columns: Mapping[str, pa.Array], uri: str, rows: Lines) -> None:
    """Refuses members that cannot be columns, which are there without a schema only.

    Raises:
      InputError: for a name that is empty or reserved.
    """
    for name, column in columns.items():
        if name and name not in RESERVED:
            continue
        first = int(np.argmax(column.is_valid().to_numpy(zero_copy_only=False)))
        fault = "is reserved by Penstock" if name else "is empty"
        raise InputError(
            f"{uri}: the object at byte {rows.position(first)} has a member {name!r}, a name that {fault}; rename it, "
            "or pass --schema: members that the schema does not name are left out"
        )


def _batch(columns: Mapping[str, pa.Array], uri: str, positions: np.ndarray) -> pa.RecordBatch:
    arrays = [*columns.values(), origin_array(uri, positions)]
    return pa.RecordBatch.from_arrays(arrays, names=[*columns, ORIGIN])


@dataclasses.dataclass(frozen=True)
class JsonRows:
    """The rows of some lines.

    Attributes:
      indices: int64, the line of each row, ascending.
      columns: the columns of the rows, by name.
      faults: the reason of each line that has no row.
      left_out: in how many rows a list of objects or lists is left out, by name; none under a schema.
    """

    indices: np.ndarray
    columns: dict[str, pa.Array]
    faults: dict[int, Reason]
    left_out: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class _SlowRow:
    """The values of a row by name, and the paths of members that are left out."""

    named: Row
    left_out: Sequence[Path]


class JsonRowReader:
    """Reads lines, none of them blank and all in UTF-8; learns the types for Arrow from them.

    A line may itself hold line breaks. `lines.joined()` must have nothing but white space between the lines.

    Args:
      features: the features to read; None for all members.
      explode: the name of a list, each item of which becomes a row; a line with a fault in one of them has no rows.
    """

    def __init__(self, features: Sequence[Feature] | None, explode: str | None = None):
        self._features = None if features is None else feature_map(features)
        self._explode = explode
        self._wanted = WantedColumns(features)
        self._arrow = ArrowReader(features, explode)
        self._sampled = False

    @property
    def explodes(self) -> bool:
        """Whether a line may have several rows."""
        return self._explode is not None

    def read(self, lines: Lines) -> JsonRows:
        """Reads lines into rows."""
        if not self._sampled and len(lines):
            self._read_slow(lines, range(min(_SAMPLE_ROWS, len(lines))))
            self._sampled = True
        fast, left = self._read_fast(lines, ~_only_row_by_row(lines))
        slow, faults = self._read_slow(lines, sorted(left))
        rows = np.concatenate([*(rows for rows, _ in fast), np.array([line for line, _ in slow], np.int64)])
        order = np.argsort(rows, kind="stable")
        left_out: Counter[str] = Counter()
        for _, found in fast:
            left_out.update(found.left_out)
        left_out.update(".".join(path) for _, row in slow for path in row.left_out)
        columns = self._merge([(rows, found.columns) for rows, found in fast], [row.named for _, row in slow], order)
        return JsonRows(rows[order], columns, faults, {name: count for name, count in left_out.items() if count})

    def _read_fast(self, lines: Lines, candidates: np.ndarray) -> tuple[list[tuple[np.ndarray, ArrowRows]], list[int]]:
        """Reads the candidates with Arrow as far as it can; also returns the indices of the other lines."""
        candidates = candidates & self._arrow.prepare()
        slow = np.flatnonzero(~candidates).tolist()
        fast = []
        pieces = [np.flatnonzero(candidates)]
        while pieces:
            rows = pieces.pop()
            is_worth_it = len(rows) > _LEAF_ROWS or 0 < len(rows) == len(lines)
            found = self._arrow.parse(lines.select(rows).joined(), len(rows)) if is_worth_it else None
            if found is not None:
                fast.append((rows[found.lines], found))
            elif len(rows) <= _LEAF_ROWS:
                slow.extend(rows.tolist())
            else:
                pieces += [rows[len(rows) // 2 :], rows[: len(rows) // 2]]
        return fast, slow

    def _read_slow(self, lines: Lines, rows: Iterable[int]) -> tuple[list[tuple[int, _SlowRow]], dict[int, Reason]]:
        """Reads lines one by one; also returns the reasons of those that cannot be read."""
        read: list[tuple[int, _SlowRow]] = []
        faults: dict[int, Reason] = {}
        learned = []
        for row in rows:
            try:
                found = self._read_line(lines.line(row))
                read.extend((row, _SlowRow(self._fit(by_name(flat.values)), flat.left_out)) for flat in found)
                learned += found
            except RowError as error:
                faults[row] = error.reason
        self._arrow.observe(learned)
        return read, faults

    def _read_line(self, line: bytes) -> list[FlatRow]:
        found = parse_object(line)
        rows = [found] if self._explode is None else explode_object(found, self._explode, len(line))
        return [flatten(row, self._wanted) for row in rows]

    def _fit(self, values: Row) -> Row:
        if self._features is None:
            return values
        return {name: fit_valency(name, value, self._features[name]) for name, value in values.items()}

    def _merge(self, fast: Sequence[FastRows], slow: Sequence[Row], order: np.ndarray) -> dict[str, pa.Array]:
        """Merges the columns of all rows, in the order of the file."""
        names: Iterable[str] = self._features or {}
        if self._features is None:
            names = dict.fromkeys(name for row in [*(columns for _, columns in fast), *slow] for name in row)
        return {name: self._merge_column(name, fast, slow, order) for name in names}

    def _merge_column(self, name: str, fast: Sequence[FastRows], slow: Sequence[Row], order: np.ndarray) -> pa.Array:
        feature = None if self._features is None else self._features[name]
        kind, as_list = (None, False) if feature is None else (feature.kind, feature.multivalued is True)
        values = [row.get(name) for row in slow]
        arrays = [columns[name] for _, columns in fast if name in columns]
        if not arrays:
            nulls: list[Value] = [None] * (len(order) - len(values))
            return build_column([*nulls, *values], kind, as_list).take(order)
        if len(arrays) == 1 and not values:
            return arrays[0]
        read = build_column(values, kind, as_list or pa.types.is_list(arrays[0].type))
        if read.type == arrays[0].type:
            return pa.concat_arrays([*arrays, read]).take(order)
        known = [value for array in arrays for value in as_values(array)]
        return build_column([*known, *values], kind, as_list).take(order)


def _only_row_by_row(lines: Lines) -> np.ndarray:
    """Masks the lines that Arrow must not get; see `penstock.io.formats.json.arrow`."""
    if not len(lines):
        return np.zeros(0, bool)
    first, last = _outer_bytes(lines)
    mask = (first != ord("{")) | (last != ord("}"))
    if kernel_lines.has_nan_or_inf(lines.data):
        constants = np.array([match.start() for match in _CONSTANTS.finditer(lines.data)], np.int64)
        mask |= counts_per_line(lines, constants) > 0
    for row in np.flatnonzero(lines.lengths() > 2 * MAX_DEPTH).tolist():
        mask[row] = mask[row] or is_too_deep(lines.line(row))
    return mask


def _outer_bytes(lines: Lines) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and last byte of each line, after skipping up to `_MAX_MARGIN` bytes of white space."""
    array = np.frombuffer(lines.data, np.uint8)
    starts, lasts = lines.starts.copy(), lines.ends - 1
    for _ in range(_MAX_MARGIN):
        at_space = np.isin(array[starts], _SPACES)
        ends_in_space = np.isin(array[lasts], _SPACES)
        if not at_space.any() and not ends_in_space.any():
            break
        # No line is blank, so neither index leaves its line.
        starts += at_space
        lasts -= ends_in_space
    return array[starts], array[lasts]
