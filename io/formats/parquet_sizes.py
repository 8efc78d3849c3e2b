"""How much memory rows of a Parquet row group take when they are decoded, found before they are.

A few bytes of a file may stand for gigabytes: a page may be compressed a thousandfold, a dictionary holds a text once
that every row repeats, and a run of equal values takes two bytes, whatever its length. The footer has only encoded
sizes, so where these leave room for too much, the headers of pages and the dictionaries themselves are looked at.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import types

from penstock.io.batches import MAX_BATCH_BYTES
from penstock.io.errors import InputError
from penstock.io.formats.columnar import is_part_of

# The most rows that are decoded at once; they are then joined to larger batches.
MAX_ROWS_AT_A_TIME = 8192

# Page by page, only chunks are looked at that are compressed more than this: others are as large as their bytes say.
_USUAL_RATIO = 100

# Texts are looked up in dictionaries if otherwise fewer rows than this could be decoded at once, which takes as long.
FEW_ROWS = 2048

# A dictionary of many short texts may be as large as one of a single text. So many times the limit of a row may be
# decoded at once, in case that all rows have the one text.
_ROWS_AT_WORST = 4

# The header of a page takes some dozens of bytes, unless its statistics hold long texts.
_HEADER_BYTES = 512
_MAX_HEADER_BYTES = 16 << 20

# A file ends with the size of its footer, in 4 bytes, and `PAR1`.
_TAIL_BYTES = 8

# Nearly all footers are in the last bytes of this number.
_USUAL_FOOTER_BYTES = 64 << 10

# How the footer says that a column has a key: field 8 of a column (a struct) has field 2 (a struct), of which field 1
# is a list of texts. The number of a field is the step from the one before, or, rarely, follows the type. Patterns
# that begin with plain bytes are found several times as fast.
_KEYS = [
    re.compile(key + rb"(?=[\x08\x18\x28\x38\x48\x58\x68\x78\x88\x98\xa8\xb8\xc8\xd8\xe8\xf8])")
    for key in (rb"\x2c\x19", rb"\x2c\x09\x02", rb"\x0c\x04\x19", rb"\x0c\x04\x09\x02")
]

_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}

# Offsets of a text, or the codes of one in a dictionary.
_CODE_BYTES = 4


class Readable(Protocol):
    """The bytes of a file."""

    def seek(self, position: int, /) -> object:
        """Goes to a byte."""

    def read(self, nbytes: int, /) -> bytes:
        """Reads up to `nbytes` bytes."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What the footer says about one column of the file in a row group.

    Attributes:
      path: the column, such as `a.b.list.element`.
      index: its place among the columns of the file.
      rows: how many rows the row group has.
      values: how many values; more than `rows` in lists.
      value_bytes: bytes of each value; 0 for texts, whose bytes vary.
      plain_bytes: bytes of its pages, decompressed.
      stored_bytes: bytes of its pages in the file.
      offset: where its first page is.
      is_list: whether a row may have several values.
      has_dictionary: whether values are codes into a dictionary.
      has_prefixes: whether texts are stored as what differs from the text before (`DELTA_BYTE_ARRAY`).
    """

    path: str
    index: int
    rows: int
    values: int
    value_bytes: int
    plain_bytes: int
    stored_bytes: int
    offset: int
    is_list: bool
    has_dictionary: bool
    has_prefixes: bool

    @property
    def fixed_bytes(self) -> int:
        """Bytes of all values, decoded, but for those of texts."""
        return self.values * (self.value_bytes or _CODE_BYTES)


def wanted_chunks(parquet: pq.ParquetFile, group: int, names: Collection[str]) -> list[Chunk]:
    """Describes the named columns in a row group.

    For an encrypted column Arrow ends the process here, so it must be known that none of these is.
    """
    metadata = parquet.metadata.row_group(group)
    return [
        _chunk(metadata, parquet.schema.column(index), index)
        for index in range(metadata.num_columns)
        if is_part_of(parquet.schema.column(index).path, names)
    ]


def _chunk(group: pq.RowGroupMetaData, column: pq.ColumnSchema, index: int) -> Chunk:
    chunk = group.column(index)
    fixed = column.length if chunk.physical_type == "FIXED_LEN_BYTE_ARRAY" else _VALUE_BYTES.get(chunk.physical_type, 0)
    starts = [at for at in (chunk.dictionary_page_offset, chunk.data_page_offset) if at]
    return Chunk(
        path=column.path,
        index=index,
        rows=group.num_rows,
        values=chunk.num_values,
        value_bytes=fixed,
        plain_bytes=chunk.total_uncompressed_size,
        stored_bytes=chunk.total_compressed_size,
        offset=min(starts, default=0),
        is_list=column.max_repetition_level > 0,
        has_dictionary=chunk.has_dictionary_page or "RLE_DICTIONARY" in chunk.encodings,
        has_prefixes="DELTA_BYTE_ARRAY" in chunk.encodings,
    )


def rows_at_a_time(chunks: Sequence[Chunk], rows: int, limit: int) -> int:
    """Returns how many rows to decode at once: fewer if they are long, since all are in memory before they are cut."""
    size = sum(max(chunk.plain_bytes, chunk.fixed_bytes) for chunk in chunks)
    widest = max((chunk.value_bytes for chunk in chunks), default=0)
    return max(min(rows_within(rows, size), limit // max(widest, 1)), 1)


def rows_within(rows: int, size: int) -> int:
    """Returns how many of `rows` rows of `size` bytes make a batch."""
    return min(max(MAX_BATCH_BYTES * rows // max(size, 1), 1), MAX_ROWS_AT_A_TIME)


def check_types(schema: pa.Schema, uri: str, limit: int) -> None:
    """Refuses columns of which one value alone is over the limit, such as a list of a fixed size of 2^31.

    Raises:
      InputError: for such a column.
    """
    for field in schema:
        if (size := _fixed_bytes(field.type)) > limit:
            raise InputError(
                f"{uri}: each value of column {field.name!r} ({field.type}) has {size} bytes, over the limit of "
                f"{limit}; pass a schema without it, or write it anew as a column of shorter values"
            )


def _fixed_bytes(arrow_type: pa.DataType) -> int:
    """Returns how many bytes any value of a type takes, a null too."""
    if types.is_fixed_size_list(arrow_type):
        return int(arrow_type.list_size) * _fixed_bytes(arrow_type.value_type)
    if types.is_fixed_size_binary(arrow_type):
        return int(arrow_type.byte_width)
    return 1


def check_rows(chunks: Sequence[Chunk], stream: Readable, where: str, limit: int) -> None:
    """Refuses a row group whose rows cannot be read one by one within `limit` bytes.

    Args:
      chunks: the columns that are read.
      stream: the bytes of the file.
      where: the file and the row group, for the message.
      limit: the most bytes of a row, and of a page.

    Raises:
      InputError: for a list column of which a row has more on average, or a page has; or for a page of that many bytes.
    """
    for chunk in chunks:
        if chunk.fixed_bytes > limit * max(chunk.rows, 1):
            raise InputError(
                _too_large(where, chunk, "its rows, on average", chunk.fixed_bytes // max(chunk.rows, 1), limit)
            )
        is_long_list = chunk.is_list and chunk.fixed_bytes > limit
        is_squeezed = chunk.plain_bytes > limit and chunk.plain_bytes > _USUAL_RATIO * chunk.stored_bytes
        if is_long_list or is_squeezed:
            _check_pages(chunk, stream, where, limit)


def _check_pages(chunk: Chunk, stream: Readable, where: str, limit: int) -> None:
    for page in read_pages(chunk, stream):
        if page.plain_bytes > limit:
            raise InputError(_too_large(where, chunk, "one of its pages", page.plain_bytes, limit))
        values = page.values * (chunk.value_bytes or _CODE_BYTES)
        if chunk.is_list and values > limit:
            raise InputError(_too_large(where, chunk, "the lists in one of its pages", values, limit))


def _too_large(where: str, chunk: Chunk, what: str, size: int, limit: int) -> str:
    return (
        f"{where}, column {chunk.path!r}: decoded, {what} would have {size} bytes, over the limit of {limit}; pass a "
        "schema without the column, or write the file with smaller pages and shorter rows"
    )


def rows_of_prefixes(chunks: Sequence[Chunk], stream: Readable, limit: int) -> int:
    """Returns how many rows to decode at once when texts share prefixes: each text may be as long as its page."""
    rows = MAX_ROWS_AT_A_TIME
    for chunk in chunks:
        if chunk.has_prefixes and rows * chunk.plain_bytes > limit:
            longest = max((page.plain_bytes for page in read_pages(chunk, stream)), default=0)
            # Arrow holds the texts twice.
            rows = min(rows, max(limit // max(2 * longest, 1), 1))
    return rows


def longest_text(chunk: Chunk, stream: Readable, values: int, limit: int) -> int:
    """Returns how long a text of the dictionary may be at most; 0 if `values` of them keep to the limit anyway."""
    if not chunk.has_dictionary or chunk.value_bytes or values * chunk.plain_bytes <= limit:
        return 0
    first = next(read_pages(chunk, stream), None)
    longest = first.plain_bytes if first is not None and first.is_dictionary else chunk.plain_bytes
    return longest if values * longest > limit else 0


def rows_of_texts(longest: Collection[int], limit: int) -> int:
    """Returns how many rows to decode at once if the texts of these columns may be so long."""
    return min(_ROWS_AT_WORST * limit // max(sum(longest), 1), MAX_ROWS_AT_A_TIME)


def has_long_texts(first: pa.Array, values: int, limit: int) -> bool:
    """Returns whether the longest text of a dictionary, in all values that are read at once, is over the limit.

    Args:
      first: the first row of the column, not decoded: dictionary codes, or lists of them.
      values: how many values are read at once.
      limit: in bytes.
    """
    codes = first if types.is_dictionary(first.type) else first.values
    lengths = pc.binary_length(codes.dictionary)
    # A dictionary of one text may be that of a page without one: Arrow makes it of what it has read.
    return len(lengths) < 2 or (pc.max(lengths).as_py() or 0) * values > limit


@dataclasses.dataclass(frozen=True)
class Page:
    """What the header of a page says: bytes when decompressed, number of values, and whether it is the dictionary."""

    plain_bytes: int
    values: int
    is_dictionary: bool


def read_pages(chunk: Chunk, stream: Readable) -> Iterator[Page]:
    """Reads the headers of the pages of a chunk, and stops at one that is damaged: Arrow will say what is wrong."""
    position, end = chunk.offset, chunk.offset + chunk.stored_bytes
    while position < end and (header := _read_header(stream, position)) is not None:
        fields, size = header
        plain, stored = fields.get(2), fields.get(3)
        counts = fields.get(5) or fields.get(7) or fields.get(8) or {}
        if not isinstance(plain, int) or not isinstance(stored, int) or stored < 0:
            return
        yield Page(plain, int(counts.get(1, 0)), 7 in fields)
        position += size + stored


def _read_header(stream: Readable, position: int) -> tuple[dict[int, Any], int] | None:
    wanted = _HEADER_BYTES
    while True:
        stream.seek(position)
        data = stream.read(wanted)
        try:
            return _Thrift(data).struct_and_size()
        except IndexError:
            if len(data) < wanted or wanted >= _MAX_HEADER_BYTES:
                return None
            wanted *= 16
        except (ValueError, RecursionError):
            return None


def read_footer(stream: Readable, file_bytes: int) -> bytes:
    """Reads the footer of a file that Arrow has opened."""
    at = max(file_bytes - _USUAL_FOOTER_BYTES, 0)
    stream.seek(at)
    end = stream.read(file_bytes - at)
    size = int.from_bytes(end[-_TAIL_BYTES:][:4], "little")
    if size + _TAIL_BYTES > len(end):
        stream.seek(file_bytes - _TAIL_BYTES - size)
        return stream.read(size)
    return end[-_TAIL_BYTES - size : -_TAIL_BYTES]


def encrypted_columns(footer: bytes) -> Sequence[Collection[int]]:
    """Returns for each row group the indices of the columns that are encrypted with keys of their own; () for none.

    The footer is read in Python only if it has the bytes of such a key, since this takes a second for a megabyte.

    Raises:
      ValueError: when the footer is damaged.
    """
    if not _may_have_keys(footer):
        return ()
    try:
        fields, _ = _Thrift(footer).struct_and_size()
        return [{index for index, column in enumerate(group[1]) if 8 in column} for group in fields[4]]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(f"the footer cannot be read: {error!r}") from error


def _may_have_keys(footer: bytes) -> bool:
    starts = (found.start() for key in _KEYS for found in key.finditer(footer))
    return any(footer[at - 1] & 15 == 12 or footer[at - 2 : at] == b"\x0c\x10" for at in starts)


class _Thrift:
    """Reads one struct of Thrift's compact protocol, the form of headers and footers in Parquet."""

    def __init__(self, data: bytes):
        self._data = data
        self._at = 0

    def struct_and_size(self) -> tuple[dict[int, Any], int]:
        """The fields by number, and how many bytes they took; IndexError where the bytes end before the struct."""
        return self._struct(), self._at

    def _struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._int()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind)
        return fields

    def _value(self, kind: int) -> Any:
        match kind:
            case 1 | 2 | 3:
                return self._byte()
            case 4 | 5 | 6:
                return self._int()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._varint())
            case 9 | 10:
                return self._list()
            case 12:
                return self._struct()
        raise ValueError(f"no Thrift type {kind}")

    def _list(self) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._varint()
        return [self._value(head & 15) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._data):
            raise IndexError
        return self._data[self._at - size : self._at]

    def _varint(self) -> int:
        value = shift = 0
        while (byte := self._byte()) & 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number without end")
        return value | byte << shift

    def _int(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
