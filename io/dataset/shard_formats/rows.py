"""Encodes table rows as records and decodes them: the sort moves these records for formats that keep Arrow's types.

A record holds one row of a known schema, and repeats nothing that is in the schema. It depends on the row alone, so
equal rows have equal bytes. All numbers are little-endian::

    record = flags | fixed parts of all columns | pieces of all columns
    flags  = two bits for each column: whether the row has a value; whether its list has null items
    fixed  = a value of fixed width, 0 if it is null; or uint32, the length of a text, bytes or list
    pieces = for lists of lists or of texts: uint32 lengths, 0xFFFFFFFF for a null, level by level
             for lists of fixed-width values, if there are null items: one byte for each item, 1 for a null
             the values, or the bytes of all texts

Each piece of all rows is one array; the kernel joins the pieces and takes them apart (`penstock.io.kernel.runs`).
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.columns.lists import Flags
from penstock.io.errors import ConfigError, DataError
from penstock.io.kernel import runs
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of
from penstock.io.sort.records import Bytes

_LENGTH_BYTES = 4
_NULL = np.uint32(0xFFFFFFFF)

# The texts of a group of records must fit Arrow's 32-bit offsets, and the last record of a group may exceed its size.
_MAX_RECORD_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The layout of a column in a record.

    Attributes:
      levels: number of lists around its values; texts and bytes count as lists of bytes.
      leaf: the type of the values.
      width: bytes of a value; 1 for texts and bytes.
      is_bytes: whether the values are texts or bytes.
    """

    levels: int
    leaf: pa.DataType
    width: int
    is_bytes: bool


def check_types(columns: pa.Schema) -> None:
    """Rejects columns that a record cannot hold.

    Raises:
      ConfigError: for such a column, with its name and type, or if there are no columns.
    """
    if not len(columns):
        raise ConfigError("columns must name at least one column, got none")
    for field in columns:
        leaf = field.type
        while types.is_list(leaf):
            leaf = leaf.value_type
        if not (_is_fixed(leaf) or types.is_string(leaf) or types.is_binary(leaf)):
            raise ConfigError(
                f"column {field.name!r} has type {field.type}; a column must hold integers, floats, decimals, "
                "booleans, dates, times, strings or bytes, or lists of them, at any depth"
            )


def _is_fixed(leaf: pa.DataType) -> bool:
    is_number = types.is_integer(leaf) or types.is_floating(leaf) or types.is_decimal(leaf) or types.is_boolean(leaf)
    return is_number or (types.is_temporal(leaf) and not types.is_interval(leaf))


class RowCodec:
    """Encodes and decodes rows of one schema.

    Attributes:
      columns: the schema: plain types, and lists of them.

    Raises:
      ConfigError: for a type that a record cannot hold.
    """

    def __init__(self, columns: pa.Schema):
        check_types(columns)
        self.columns = columns
        self._flag_bytes = -(-2 * len(columns) // 8)
        self._layouts = [_layout(field.type) for field in columns]

    def encode(self, rows: pa.RecordBatch) -> tuple[Bytes, Ints]:
        """Encodes rows of the schema; returns uint8, the records, and int64[n + 1], where each starts, and the end.

        Raises:
          DataError: for a row of more than a GiB.
        """
        flags = np.zeros((1, 2 * len(self.columns)), bool)
        flags[:, ::2] = True
        nulls: list[tuple[int, Flags]] = []
        fixed: list[Bytes] = []
        pieces: list[tuple[Bytes, Ints]] = []
        for index, (column, layout) in enumerate(zip(rows.columns, self._layouts, strict=True)):
            part, behind, has_nulls = _encode_column(column, layout)
            fixed.append(part)
            pieces += behind
            if column.null_count:
                nulls.append((2 * index, pc.is_valid(column).to_numpy(zero_copy_only=False)))
            if has_nulls is not None:
                nulls.append((2 * index + 1, has_nulls))
        if nulls:
            flags = np.repeat(flags, rows.num_rows, axis=0)
            for bit, values in nulls:
                flags[:, bit] = values
        packed = np.packbits(flags, axis=1, bitorder="little")
        data, offsets = runs.join_parts(rows.num_rows, [packed, *fixed], pieces)
        if len(offsets) > 1 and (size := int(np.diff(offsets).max())) > _MAX_RECORD_BYTES:
            raise DataError(f"a row must have at most {_MAX_RECORD_BYTES} bytes, got one of {size}")
        return data, offsets

    def decode(self, data: Bytes, offsets: Ints) -> pa.RecordBatch:
        """Decodes records that `encode` made."""
        rows = len(offsets) - 1
        if not rows:
            return pa.RecordBatch.from_pylist([], schema=self.columns)
        shapes = [(layout.levels, layout.width, layout.is_bytes) for layout in self._layouts]
        packed, fixed, pieces = runs.take_apart(data, offsets, self._flag_bytes, shapes)
        arrays = []
        for index, layout in enumerate(self._layouts):
            flags = packed[:, index >> 2] >> (2 * (index & 3))
            valid, has_nulls = (flags & 1).astype(bool), (flags & 2).astype(bool)
            arrays.append(_decode_column(layout, fixed[index], valid, has_nulls, pieces[index]))
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)


def _layout(arrow_type: pa.DataType) -> _Layout:
    levels = 0
    while types.is_list(arrow_type):
        levels, arrow_type = levels + 1, arrow_type.value_type
    if types.is_string(arrow_type) or types.is_binary(arrow_type):
        return _Layout(levels + 1, arrow_type, 1, True)
    return _Layout(levels, arrow_type, max(1, arrow_type.bit_width // 8), False)


def _encode_column(column: pa.Array, layout: _Layout) -> tuple[Bytes, list[tuple[Bytes, Ints]], Flags | None]:
    """Returns the fixed part of a column, its pieces, and its flags of null items, if there are any."""
    if not layout.levels:
        return fixed_values(column, layout.width), [], None
    # Row r has the items from bounds[r] to bounds[r + 1] of `column`. Each level opens the lists by one step::
    #
    #     column  [[1, 2], []]  [[3]]      bounds  0 1 2
    #             [1, 2]  []  [3]                  0 2 3
    #             1  2  3                          0 2 3
    lengths, column = _opened(column)
    fixed, bounds = lengths.astype("<u4").view(np.uint8).reshape(-1, _LENGTH_BYTES), starts_of(lengths)
    pieces: list[tuple[Bytes, Ints]] = []
    for _ in range(layout.levels - 1):
        is_null = pc.is_null(column).to_numpy(zero_copy_only=False)
        lengths, column = _opened(column)
        marked = np.where(is_null, _NULL, lengths.astype("<u4")).astype("<u4")
        pieces.append((marked.view(np.uint8), bounds * _LENGTH_BYTES))
        bounds = starts_of(lengths)[bounds]
    if layout.is_bytes:
        return fixed, [*pieces, (column, bounds)], None
    has_nulls = None
    if column.null_count:
        nulls = pc.is_null(column).to_numpy(zero_copy_only=False)
        has_nulls = np.diff(starts_of(nulls.astype(np.int64))[bounds]) > 0
        counts = np.diff(bounds)
        kept = nulls[np.repeat(has_nulls, counts)]
        pieces.append((kept.view(np.uint8), starts_of(np.where(has_nulls, counts, 0))))
    values = fixed_values(column, layout.width).reshape(-1)
    return fixed, [*pieces, (values, bounds * layout.width)], has_nulls


def _opened(column: Any) -> tuple[Ints, Any]:
    """Returns the lengths of lists, texts or bytes, 0 for nulls, and their concatenated items or bytes."""
    if types.is_list(column.type):
        return list_lengths(column), column.flatten()
    if column.null_count:
        column = pc.fill_null(column, "" if types.is_string(column.type) else b"")
    _, offsets, data = column.buffers()
    if not len(column):
        return np.zeros(0, np.int64), np.zeros(0, np.uint8)
    starts = np.frombuffer(offsets, np.int32)[column.offset :][: len(column) + 1].astype(np.int64)
    content = np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[starts[0] : starts[-1]]
    return np.diff(starts), content


def fixed_values(column: pa.Array, width: int) -> Bytes:
    """Returns uint8[n, width], the values of a fixed-width column; 0 for nulls."""
    if types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    if not len(column):
        return np.zeros((0, width), np.uint8)
    content = np.frombuffer(column.buffers()[1], np.uint8)[column.offset * width :][: len(column) * width]
    values = content.reshape(-1, width)
    if column.null_count:
        values = values.copy()
        values[pc.is_null(column).to_numpy(zero_copy_only=False)] = 0
    return values


def _decode_column(layout: _Layout, fixed: Bytes, valid: Flags, has_nulls: Flags, pieces: Sequence[Bytes]) -> pa.Array:
    if not layout.levels:
        return _fixed_array(layout, fixed, valid)
    # `levels` has the lengths and the validity of the lists, from the outermost level inwards.
    levels = [(fixed.view("<u4")[:, 0].astype(np.int64), valid)]
    for piece in pieces[: layout.levels - 1]:
        marked = piece.view("<u4")
        is_value = marked != _NULL
        levels.append((np.where(is_value, marked, 0).astype(np.int64), is_value))
    if layout.is_bytes:
        array = bytes_array(layout.leaf, pieces[-1], *levels.pop())
    else:
        nulls, values = pieces[-2:]
        are_valid = np.ones(len(values) // layout.width, bool)
        if len(nulls):
            counts = levels[0][0]
            for lengths, _ in levels[1:]:
                counts = np.diff(starts_of(lengths)[starts_of(counts)])
            are_valid[np.repeat(has_nulls, counts)] = ~nulls.astype(bool)
        array = _fixed_array(layout, values, are_valid)
    for lengths, are_lists in reversed(levels):
        array = list_array(array, lengths, are_lists)
    return array


def _validity(valid: Flags) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _fixed_array(layout: _Layout, values: Bytes, valid: Flags) -> pa.Array:
    stored = pa.uint8() if types.is_boolean(layout.leaf) else layout.leaf
    array = pa.Array.from_buffers(stored, len(valid), [_validity(valid), pa.py_buffer(np.ascontiguousarray(values))])
    return array.cast(layout.leaf) if stored != layout.leaf else array


def bytes_array(leaf: pa.DataType, data: Bytes, lengths: Ints, valid: Flags) -> pa.Array:
    """Returns texts or bytes of these lengths, which lie behind each other."""
    offsets = starts_of(lengths).astype(np.int32)
    return pa.Array.from_buffers(leaf, len(lengths), [_validity(valid), pa.py_buffer(offsets), pa.py_buffer(data)])


def list_array(items: pa.Array, lengths: Ints, valid: Flags) -> pa.Array:
    """Returns lists of these lengths."""
    offsets = pa.py_buffer(starts_of(lengths).astype(np.int32))
    return pa.Array.from_buffers(pa.list_(items.type), len(lengths), [_validity(valid), offsets], children=[items])
