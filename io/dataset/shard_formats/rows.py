"""Encodes table rows as records and decodes them: the sort moves these records for formats that keep Arrow's types.

A record holds one row of a known schema, and repeats nothing that is in the schema. It depends on the row alone, so
equal rows have equal bytes. All numbers are little-endian::

    record = flags | fixed parts of all columns | pieces of all columns
    flags  = two bits for each column: whether the row has a value; whether its list has null items
    fixed  = a value of fixed width, 0 if it is null; or uint32, the length of a text, bytes or list
    pieces = for lists of lists or of texts: uint32 lengths, 0xFFFFFFFF for a null, level by level
             for lists of fixed-width values, if there are null items: one byte for each item, 1 for a null
             the values, or the bytes of all texts

Encoding and decoding work column by column: each piece of all rows is one array. Arrow joins the pieces and takes them
apart.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.columns.lists import Flags
from penstock.io.columns.of_numpy import array_of
from penstock.io.errors import ConfigError, DataError
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
      start: byte offset of its fixed part.
      fixed: bytes of its fixed part.
    """

    levels: int
    leaf: pa.DataType
    width: int
    is_bytes: bool
    start: int

    @property
    def fixed(self) -> int:
        return _LENGTH_BYTES if self.levels else self.width


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
        self._layouts: list[_Layout] = []
        self._fixed_bytes = self._flag_bytes
        for field in columns:
            self._layouts.append(_layout(field.type, self._fixed_bytes))
            self._fixed_bytes += self._layouts[-1].fixed

    def encode(self, rows: pa.RecordBatch) -> tuple[Bytes, Ints]:
        """Encodes rows of the schema; returns uint8, the records, and int64[n + 1], where each starts, and the end.

        Raises:
          DataError: for a row of more than a GiB.
        """
        fixed = np.zeros((rows.num_rows, self._fixed_bytes), np.uint8)
        flags = np.zeros((rows.num_rows, 2 * len(self.columns)), bool)
        pieces: list[pa.Array] = []
        for index, (column, layout) in enumerate(zip(rows.columns, self._layouts, strict=True)):
            flags[:, 2 * index] = pc.is_valid(column).to_numpy(zero_copy_only=False)
            part = fixed[:, layout.start : layout.start + layout.fixed]
            pieces += _encode_column(column, layout, part, flags[:, 2 * index + 1])
        fixed[:, : self._flag_bytes] = np.packbits(flags, axis=1, bitorder="little")
        offsets: Ints = np.arange(rows.num_rows + 1) * self._fixed_bytes
        if not pieces:
            return fixed.reshape(-1), offsets
        parts = [slices(fixed.reshape(-1), offsets), *pieces]
        data, offsets = content_of(pc.binary_join_element_wise(*parts, pa.scalar(b"", pa.large_binary())))
        if len(offsets) > 1 and (size := int(np.diff(offsets).max())) > _MAX_RECORD_BYTES:
            raise DataError(f"a row must have at most {_MAX_RECORD_BYTES} bytes, got one of {size}")
        return data, offsets

    def decode(self, data: Bytes, offsets: Ints) -> pa.RecordBatch:
        """Decodes records that `encode` made."""
        rows = len(offsets) - 1
        if not rows:
            return pa.RecordBatch.from_pylist([], schema=self.columns)
        fixed = _gathered(data, offsets[:-1], self._fixed_bytes)
        flags = np.unpackbits(fixed[:, : self._flag_bytes], axis=1, bitorder="little").astype(bool)
        pieces = Pieces(data, offsets[:-1] + self._fixed_bytes)
        arrays = []
        for index, layout in enumerate(self._layouts):
            part = np.ascontiguousarray(fixed[:, layout.start : layout.start + layout.fixed])
            arrays.append(_decode_column(layout, part, flags[:, 2 * index], flags[:, 2 * index + 1], pieces))
        return pa.RecordBatch.from_arrays(arrays, schema=self.columns)


def _layout(arrow_type: pa.DataType, start: int) -> _Layout:
    levels = 0
    while types.is_list(arrow_type):
        levels, arrow_type = levels + 1, arrow_type.value_type
    if types.is_string(arrow_type) or types.is_binary(arrow_type):
        return _Layout(levels + 1, arrow_type, 1, True, start)
    return _Layout(levels, arrow_type, max(1, arrow_type.bit_width // 8), False, start)


def _encode_column(column: pa.Array, layout: _Layout, fixed: Bytes, has_nulls: Flags) -> Iterator[pa.Array]:
    """Fills the fixed part of a column and its flags of null items; yields its pieces."""
    if not layout.levels:
        fixed[:] = fixed_values(column, layout.width)
        return
    # Row r has the items from bounds[r] to bounds[r + 1] of `column`. Each level opens the lists by one step::
    #
    #     column  [[1, 2], []]  [[3]]      bounds  0 1 2
    #             [1, 2]  []  [3]                  0 2 3
    #             1  2  3                          0 2 3
    bounds: Ints = np.arange(len(column) + 1)
    for level in range(layout.levels):
        is_null = pc.is_null(column).to_numpy(zero_copy_only=False)
        lengths, column = _opened(column)
        marked = np.where(is_null if level else False, _NULL, lengths.astype("<u4")).astype("<u4")
        if level:
            yield slices(marked.view(np.uint8), bounds * _LENGTH_BYTES)
        else:
            fixed[:] = marked.view(np.uint8).reshape(-1, _LENGTH_BYTES)
        bounds = starts_of(lengths)[bounds]
    if layout.is_bytes:
        yield slices(column, bounds)
        return
    if column.null_count:
        nulls = pc.is_null(column).to_numpy(zero_copy_only=False)
        has_nulls[:] = np.diff(starts_of(nulls.astype(np.int64))[bounds]) > 0
        counts = np.diff(bounds)
        kept = nulls[np.repeat(has_nulls, counts)]
        yield slices(kept.view(np.uint8), starts_of(np.where(has_nulls, counts, 0)))
    yield slices(fixed_values(column, layout.width).reshape(-1), bounds * layout.width)


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


def slices(data: Bytes, offsets: Ints) -> pa.Array:
    """Returns adjacent slices of `data` as an array of binary values."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def _gathered(data: Bytes, starts: Ints, width: int) -> Bytes:
    """Returns uint8[n, width], the bytes at these offsets; items of `width` bytes are copied faster than bytes."""
    windows: npt.NDArray[Any] = np.ndarray((len(data) - width + 1,), f"V{width}", data, strides=(1,))
    return windows[starts].view(np.uint8).reshape(-1, width)


def content_of(array: pa.Array) -> tuple[Bytes, Ints]:
    """Returns the bytes of an array that is not a slice, and where each value starts, and the end."""
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[: len(array) + 1] if len(array) else np.zeros(1, np.int64)
    return (np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[: starts[-1]]), starts


class Pieces:
    """Reads the pieces of all records, one after the other."""

    def __init__(self, data: Bytes, starts: Ints):
        self._data = pa.py_buffer(data)
        self._starts = starts
        self._indices = array_of(np.arange(0, 2 * len(starts) - 1, 2))

    def take(self, sizes: Ints) -> Bytes:
        """Returns the next piece of all records, concatenated; `sizes` has its bytes in each record."""
        ends = self._starts + sizes
        # Of the slices between these bounds, every other one is a piece; the rest are the gaps between pieces.
        bounds = np.stack([self._starts, ends], axis=1).reshape(-1)
        self._starts = ends
        slices = [None, pa.py_buffer(bounds), self._data]
        all_slices = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, slices)
        return content_of(all_slices.take(self._indices))[0]


def _decode_column(layout: _Layout, fixed: Bytes, valid: Flags, has_nulls: Flags, pieces: Pieces) -> pa.Array:
    if not layout.levels:
        return _fixed_array(layout, fixed, valid)
    # `levels` has the lengths and the validity of the lists, from the outermost level inwards.
    levels = [(fixed.view("<u4")[:, 0].astype(np.int64), valid)]
    items = levels[0][0]  # number of items in each row, at the level that is read next
    for _ in range(layout.levels - 1):
        marked = pieces.take(items * _LENGTH_BYTES).view("<u4")
        is_value = marked != _NULL
        levels.append((np.where(is_value, marked, 0).astype(np.int64), is_value))
        items = np.diff(starts_of(levels[-1][0])[starts_of(items)])
    if layout.is_bytes:
        array = bytes_array(layout.leaf, pieces.take(items), *levels.pop())
    else:
        are_valid = np.ones(int(items.sum()), bool)
        if has_nulls.any():
            nulls = pieces.take(np.where(has_nulls, items, 0)).astype(bool)
            are_valid[np.repeat(has_nulls, items)] = ~nulls
        array = _fixed_array(layout, pieces.take(items * layout.width), are_valid)
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
