"""Looks at the first lines of a CSV file for signs that it is not what the options say.

What cannot be right is an `InputError`, raised before a row is read. What is only suspicious is told in a line each,
and the file is read as the options say.
"""

import collections
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator

import numpy as np

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Part
from penstock.io.formats.csv.fields import misquoted_lines
from penstock.io.formats.csv.header import RENAME, Header
from penstock.io.formats.csv.records import cut_records
from penstock.io.formats.csv.torn import Text, Torn, TornRecords
from penstock.io.formats.lines import Block, LongLine, blank_lines, index_lines, read_blocks
from penstock.io.kernel.shared import quoting
from penstock.io.kernel.shared.quoting import Dialect

# How much of a file is looked at: for line breaks all of this, for the fields only the first rows of it.
_BYTES = 256 << 10
_MAX_ROWS = 200
_MAX_ROW_BYTES = 64 << 10

# The characters that may separate fields, as they are spelled on a command line.
_SEPARATORS = {",": "','", ";": "';'", "\t": "'\\t'", "|": "'|'"}

# So many rows must be alike to count as all.
_NEARLY_ALL = 0.9

# The most columns that a message names.
_MAX_NAMED = 10

_HTML = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_NUMBER = re.compile(rb"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_COMMA_NUMBER = re.compile(rb"[+-]?\d+(?:[.,]\d{3})*,\d+")

# A field without its quotes, and whether it had some.
_Field = tuple[bytes, bool]


@dataclasses.dataclass(frozen=True)
class Beginning:
    """The first lines of a file.

    Attributes:
      uri: the file.
      header: its header.
      block: the lines.
      first: the first line that is not blank.
      rows: some of the next lines, all well quoted; with `multiline` records.
      dialect: how a line holds its fields.
    """

    uri: str
    header: Header
    block: Block
    first: bytes
    rows: tuple[bytes, ...]
    dialect: Dialect

    @property
    def mark(self) -> str:
        """The character between fields."""
        return self.dialect.delimiter.decode()

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return self.header.names or ()

    @functools.cached_property
    def first_fields(self) -> list[bytes]:
        """The fields of the first line."""
        return [field for field, _ in self.split(self.first)]

    @functools.cached_property
    def fields(self) -> list[list[_Field]]:
        """The fields of each row."""
        return [self.split(row) for row in self.rows]

    @functools.cached_property
    def columns(self) -> list[list[_Field]]:
        """The fields of each column that are not empty."""
        rows = [fields for fields in self.fields if len(fields) == len(self.names)]
        columns = zip(*rows, strict=True) if rows else [()] * len(self.names)
        return [[field for field in column if field[0]] for column in columns]

    @functools.cached_property
    def values(self) -> list[list[bytes]]:
        """What the unquoted fields of each column hold."""
        return [[text for text, quoted in column if not quoted] for column in self.columns]

    def split(self, line: bytes) -> list[_Field]:
        """Splits a line into fields."""
        found = quoting.fields(line, self.dialect)
        return [(plain, False) if quoted is None else (quoted.replace(b'""', b'"'), True) for quoted, plain in found]


def first_block(file: InputFile, max_line_bytes: int) -> Block | None:
    """Reads the first lines of a file; None if there are none, or the first one is too long."""
    data, offset = b"", 0
    for found in read_blocks(file, Part(), _BYTES, max_line_bytes):
        if isinstance(found, LongLine):
            break
        data, offset = data + found.data, offset if data else found.offset
        if len(data) > _BYTES // 2:
            break
    return Block(data, offset) if data else None


def read_beginning(block: Block, uri: str, header: Header, dialect: Dialect, multiline: bool) -> Beginning | None:
    """Takes some rows of a block that a file begins with; None if all of its lines are blank."""
    if multiline:
        records = cut_records(block, dialect.delimiter.decode(), final=False)
        lines, misquoted = records.lines, records.misquoted
    else:
        lines = index_lines(block)
        misquoted = misquoted_lines(lines, dialect)
    filled = np.flatnonzero(~blank_lines(lines))
    if not len(filled):
        return None
    near = filled[1 : _MAX_ROWS + 1]
    near = near[(lines.ends[near] < _MAX_ROW_BYTES) & ~misquoted[near]]
    rows = tuple(lines.line(row) for row in near.tolist())
    return Beginning(uri, header, block, lines.line(int(filled[0])), rows, dialect)


def check_html(beginning: Beginning) -> None:
    """Refuses a page of the web: often the answer to a download that failed.

    Raises:
      InputError: says so.
    """
    if _HTML.match(beginning.first):
        raise InputError(f"{beginning.uri}: the file is an HTML page, not CSV; perhaps a download failed")


def check_line_breaks(file: InputFile, beginning: Beginning, torn: TornRecords) -> None:
    """Refuses a file whose first lines have a record that line breaks in quotes have torn.

    A record is one if it has a field for each column, and its first or its last line does not: otherwise the quotes at
    both ends may be stray ones (`5" pipe`), and only the lines are rejected.

    Raises:
      InputError: names the lines of the record.
    """
    block, mark = beginning.block, beginning.dialect.delimiter
    if b'"' not in block.data or not beginning.dialect.quoting:
        return
    lines = index_lines(block)
    for record in _torn_records(file, beginning, torn):
        inside = lines.select((lines.starts >= record.start) & (lines.starts < record.stop))
        widths = {inside.line(row).count(mark) + 1 for row in (0, -1)}
        width = len(beginning.names)
        whole = block.data[record.start : record.stop].rstrip(b"\r\n")
        if len(beginning.split(whole)) == width and widths != {width}:
            number = int(np.searchsorted(lines.starts, record.start)) + 1
            raise InputError(
                f"{file.uri}: quoted fields hold line breaks: lines {number} to {number + len(inside) - 1}, from byte "
                f"{block.offset + record.start} on, are one record; pass --csv_multiline"
            )


def _torn_records(file: InputFile, beginning: Beginning, torn: TornRecords) -> list[Torn]:
    block = beginning.block
    lines = index_lines(block)
    misquoted = misquoted_lines(lines, beginning.dialect) & (lines.positions() >= beginning.header.end)
    bounds = zip(lines.starts[misquoted].tolist(), lines.nexts[misquoted].tolist(), strict=True)
    is_end = file.codec is None and block.offset + len(block.data) >= file.size
    return torn.find(Text(block.data, is_end=is_end), bounds)[0]


def check_separator(beginning: Beginning, is_given: bool) -> Iterator[str]:
    """Yields a warning, or raises, when another character than the delimiter seems to separate the fields.

    Args:
      beginning: the first lines.
      is_given: the user chose the delimiter, and may be right.

    Raises:
      InputError: when nobody chose the delimiter.
    """
    if len(beginning.first_fields) > 1:
        return
    lines = (beginning.first, *beginning.rows)
    for mark, spelled in _SEPARATORS.items():
        count = beginning.first.count(mark.encode())
        alike = sum(line.count(mark.encode()) == count for line in lines)
        if mark == beginning.mark or not count or alike < _NEARLY_ALL * len(lines):
            continue
        own = _SEPARATORS.get(beginning.mark, repr(beginning.mark))
        looks = (
            f"{beginning.uri}: the file looks as if {spelled} separates {count + 1} columns, and the delimiter is "
            f"{own}: pass --csv_delimiter {spelled}"
        )
        if not is_given:
            raise InputError(f"{looks}, or --csv_delimiter {own} if there is one column")
        yield looks


def check_given_names(beginning: Beginning) -> None:
    """Refuses a row that repeats the names of the columns.

    Raises:
      InputError: names the flag that skips it.
    """
    first = [field.strip().lower() for field in beginning.first_fields]
    if not beginning.header.end and first == [name.strip().lower().encode() for name in beginning.names]:
        raise InputError(
            f"{beginning.uri}: line 1 repeats the names of --columns; pass --header skip to leave it out, or --header "
            "none if it is a row"
        )


def suspicions(beginning: Beginning, is_default: bool) -> Iterator[str]:
    """Yields what looks wrong about a file that can be read as the options say.

    Args:
      beginning: its first lines.
      is_default: whether nobody said what line 1 is.
    """
    yield from _renamed(beginning)
    if is_default:
        yield from _header_or_row(beginning)
    yield from _other_widths(beginning)
    yield from _spaces(beginning)
    yield from _commas(beginning)


def _renamed(beginning: Beginning) -> Iterator[str]:
    renamed = beginning.header.renamed
    if renamed:
        named = [f"column {position} is {name!r}" for position, name in renamed.items()]
        yield (f"{beginning.uri}: line 1 gives some columns no name, or one that another has: {_some(named)}; {RENAME}")


def _header_or_row(beginning: Beginning) -> Iterator[str]:
    """Tells when line 1 looks like a header and is read as a row, or the other way round."""
    first = [_is_number(field) for field in beginning.first_fields]
    if len(first) != len(beginning.values):
        return
    numbers = [bool(values) and all(map(_is_number, values)) for values in beginning.values]
    if not beginning.header.end and not any(first) and any(numbers):
        yield f"{beginning.uri}: line 1 looks like a header, and is read as a row; --header skip leaves it out"
    if beginning.header.end and any(numbers) and first == numbers and not _is_counted(beginning.first_fields):
        yield (
            f"{beginning.uri}: line 1 looks like a row, and names the columns; --header none reads it as a row, with "
            "--columns for the names"
        )


def _is_counted(names: list[bytes]) -> bool:
    """Whether the numbers among some names count up by one, as years and indices do."""
    numbers = [name for name in names if _is_number(name)]
    if not all(number.isdigit() for number in numbers):
        return False
    return all(int(after) == int(before) + 1 for before, after in itertools.pairwise(numbers))


def _other_widths(beginning: Beginning) -> Iterator[str]:
    """Tells when the rows have another number of fields than there are names."""
    if not beginning.rows:
        return
    width = len(beginning.names)
    most, rows = collections.Counter(map(len, beginning.fields)).most_common(1)[0]
    if most == width or rows < _NEARLY_ALL * len(beginning.rows):
        return
    ends_empty = all(row[-1] == (b"", False) for row in beginning.fields if len(row) == most)
    hint = f"--header skip --columns with {most} names reads them"
    if width == 1:
        hint = f"remove the text above the header, or {hint}"
    elif most == width + 1 and ends_empty:
        hint = f"each row ends with a delimiter, and the header does not: {hint}"
    elif most == width + 1:
        hint = f"perhaps the first column has no name: {hint}"
    names = "is a name for 1 column" if width == 1 else f"are names for {width} columns"
    yield (
        f"{beginning.uri}: there {names}, but {rows} of the first {len(beginning.rows)} rows "
        f"have {most}, and will be rejected; {hint}"
    )


def _spaces(beginning: Beginning) -> Iterator[str]:
    """Tells of numbers and quotes behind spaces, which are texts."""
    values = beginning.values
    numbers = _columns(beginning, values, _is_spaced_number, _is_number)
    if numbers:
        yield f"{beginning.uri}: {numbers} numbers beside spaces, which make them texts; pass --csv_trim"
    quoted = _columns(beginning, values, _is_quoted_behind_space, lambda _: True)
    if quoted:
        yield f"{beginning.uri}: {quoted} spaces before quotes, which then quote nothing; pass --csv_trim"


def _is_spaced_number(text: bytes) -> bool:
    stripped = text.strip(b" ")
    return text != stripped and _is_number(stripped)


def _is_quoted_behind_space(text: bytes) -> bool:
    stripped = text.strip(b" ")
    return text.startswith(b" ") and len(stripped) > 1 and stripped.startswith(b'"') and stripped.endswith(b'"')


def _commas(beginning: Beginning) -> Iterator[str]:
    values = [[text for text, _ in column] for column in beginning.columns]
    found = _columns(beginning, values, lambda text: _COMMA_NUMBER.fullmatch(text) is not None, _is_number)
    if found:
        yield (
            f"{beginning.uri}: {found} numbers with commas, which make them texts; write fractions with a point, and "
            "thousands without a mark"
        )


def _columns(
    beginning: Beginning,
    columns: list[list[bytes]],
    is_odd: Callable[[bytes], bool],
    is_fine: Callable[[bytes], bool],
) -> str:
    """Names the columns where some values are odd and all others fine: `column 'a' holds`; empty if there are none."""
    found = [
        repr(name)
        for name, values in zip(beginning.names, columns, strict=True)
        if any(map(is_odd, values)) and all(is_odd(value) or is_fine(value) for value in values)
    ]
    if not found:
        return ""
    return f"column {found[0]} holds" if len(found) == 1 else f"columns {_some(found)} hold"


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - _MAX_NAMED} more" if len(texts) > _MAX_NAMED else ""
    return ", ".join(texts[:_MAX_NAMED]) + more


def _is_number(value: bytes) -> bool:
    return _NUMBER.fullmatch(value) is not None
