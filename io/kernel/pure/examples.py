"""Writes rows as framed tf.Examples or tf.SequenceExamples, without a loop over rows.

`penstock.io.examples.encode` and `penstock.io.examples.sequences` show the layout.

The bytes in front of the values, the header, depend only on the size of the values in bytes, so each header is made
once for each size. Only the CRC of each record needs a call per row.
"""

import dataclasses
from collections.abc import Callable, Iterable

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel.pure import runs
from penstock.io.kernel.pure.columns import Column, Kind, open_columns
from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import (
    Bytes,
    group_equal,
    put_constant,
    put_fixed,
    put_slices,
    sums_per_row,
    value_positions,
)
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, mask_crcs

_TAGS = {Kind.BYTES: b"\x0a", Kind.FLOAT: b"\x12", Kind.INT: b"\x1a"}
_FLOAT_BYTES = 4
# From each of these values on, a varint needs one more byte.
_VARINT_STEPS = np.array([1 << bits for bits in range(7, 64, 7)], np.uint64)

# Pieces of bytes, each with the rows that contain it.
_Pieces = list[tuple[bytes, Ints]]


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The layout of one column in its rows.

    Attributes:
      value_sizes: int64[m], the size of each value in bytes.
      headers: the bytes in front of the values, with the rows that have them.
      header_sizes: int64[n], 0 if the feature is absent.
      sizes: int64[n], the size of header and values.
    """

    column: Column
    value_sizes: Ints
    headers: _Pieces
    header_sizes: Ints
    sizes: Ints


class Examples:
    """Encodes rows as framed tf.Examples or tf.SequenceExamples: first `measure`, then `write`."""

    def __init__(self, batch: pa.RecordBatch, context: int = -1):
        """Takes the columns of a batch, which must be sorted by name.

        With `context`, so many columns are features of the context; the others are the feature lists, each a list of
        serialized Features.
        """
        self._rows = batch.num_rows
        self._columns = list(zip(batch.schema.names, open_columns(batch), strict=True))
        self._context = context
        self._headers: _Pieces = []
        # For each part of a record, what stands in front of it, and its columns.
        self._parts: list[tuple[_Pieces, list[_Layout]]] = []
        self._offsets = np.zeros(1, np.int64)

    def measure(self, offsets: Ints) -> int:
        """Computes the start of each frame, and the end of the last.

        Args:
          offsets: int64[rows + 1], which this fills.

        Returns:
          The size of the largest record, without its frame, or -1 if a row has no faithful form.
        """
        if not all(column.is_faithful for _, column in self._columns):
            return -1
        context = len(self._columns) if self._context < 0 else self._context
        layouts = [_layout(name.encode(), column, n >= context) for n, (name, column) in enumerate(self._columns)]
        parts = [(b"\x0a", layouts[:context]), (b"\x12", layouts[context:])][: 1 if self._context < 0 else 2]
        self._parts = [self._part(tag, columns) for tag, columns in parts]
        sizes = sum((self._part_sizes(part) for part in self._parts), np.zeros(self._rows, np.int64))
        # A frame's header depends on the size of the record alone.
        self._headers = [(_frame_header(size), group) for size, group in group_equal(sizes)]
        self._offsets = offsets
        offsets[:] = starts_of(sizes + HEADER_BYTES + FOOTER_BYTES)
        return int(np.diff(offsets).max(initial=HEADER_BYTES + FOOTER_BYTES)) - HEADER_BYTES - FOOTER_BYTES

    def _part(self, tag: bytes, layouts: list[_Layout]) -> tuple[_Pieces, list[_Layout]]:
        features = sum((layout.sizes for layout in layouts), np.zeros(self._rows, np.int64))
        return [(tag + _varint(size), group) for size, group in group_equal(features)], layouts

    def _part_sizes(self, part: tuple[_Pieces, list[_Layout]]) -> Ints:
        prefixes, layouts = part
        return sum((layout.sizes for layout in layouts), _sizes_of(prefixes, self._rows))

    def write(self, data: Bytes) -> None:
        """Writes the measured frames; they fill `data`."""
        offsets = self._offsets
        for header, rows in self._headers:
            put_constant(data, offsets[rows], header)
        positions = offsets[:-1] + HEADER_BYTES
        for prefixes, layouts in self._parts:
            for prefix, rows in prefixes:
                put_constant(data, positions[rows], prefix)
            positions = positions + _sizes_of(prefixes, self._rows)
            for layout in layouts:
                _put_column(data, positions, layout)
                positions = positions + layout.sizes
        put_fixed(data, offsets[1:] - FOOTER_BYTES, _masked_crcs(data, offsets))

    def layout(self) -> bytes:
        """Returns what packed rows leave out: nothing, here."""
        return b""

    def measure_packed(self, offsets: Ints) -> bool:
        """Computes the start of each packed row, and the end of the last; the rows must have been measured.

        A row is packed for a while, to be smaller. The kernel leaves out the names of the columns; here nothing is left
        out, and a packed row is its frame.

        Args:
          offsets: int64[rows + 1], which this fills.

        Returns:
          Whether packed rows take less than their frames behind ids, as which the kernel writes them otherwise.
        """
        offsets[:] = self._offsets
        return True

    def write_packed(self, data: Bytes) -> None:
        """Writes the measured packed rows; they fill `data`."""
        self.write(data)


class Layouts:
    """Makes frames of packed rows again."""

    def __init__(self, layouts: Iterable[bytes]):
        """Takes what `Examples.layout` is for the rows."""
        if any(layouts):
            raise ValueError("rows were packed by the compiled kernel, which this process does not use")

    def lengths(self, data: Bytes, offsets: Ints) -> Ints:
        """Returns int64[n], the sizes of the frames of rows."""
        return np.diff(offsets)

    def gather(
        self, data: Bytes, offsets: Ints, order: Ints, index: int, skip: int, out: Bytes, filled: int
    ) -> tuple[int, int, int]:
        """Writes the frames of rows in an order, as `penstock.io.kernel.runs.gather` copies records."""
        return runs.gather(data, offsets, order, index, skip, out, filled)

    def whole(self, data: Bytes, offsets: Ints) -> tuple[Bytes, Ints]:
        """Returns the same rows such that they need no layout."""
        return data, offsets

    def sort_ties(
        self, splits: npt.NDArray[np.uint16], keys: npt.NDArray[np.uint64], data: Bytes, offsets: Ints, order: Ints
    ) -> None:
        """Sorts rows that share split and key by their frames: so they are, since packed rows are frames."""


class Features:
    """Encodes the rows of one column, each as a serialized Feature: first `measure`, then `write`."""

    def __init__(self, batch: pa.RecordBatch):
        """Takes a batch of one column."""
        (self._column,) = open_columns(batch)
        self._offsets = np.zeros(1, np.int64)

    def measure(self, offsets: Ints) -> bool:
        """Computes the start of each Feature, and the end of the last; a null has no bytes.

        Args:
          offsets: int64[rows + 1], which this fills.

        Returns:
          Whether all rows have a faithful form.
        """
        column = self._column
        self._layout = _laid_out(column, lambda size: _feature_header(column.kind, size))
        self._offsets = offsets
        offsets[:] = starts_of(self._layout.sizes)
        return column.is_faithful

    def write(self, data: Bytes) -> None:
        """Writes the measured Features; they fill `data`."""
        _put_column(data, self._offsets[:-1], self._layout)


def _layout(name: bytes, column: Column, is_list: bool) -> _Layout:
    make = _list_header if is_list else _header
    return _laid_out(column, lambda size: make(name, column.kind, size))


def _laid_out(column: Column, header: Callable[[int], bytes]) -> _Layout:
    value_sizes = _value_sizes(column)
    payloads = sums_per_row(value_sizes, column.counts)
    headers = _grouped(payloads, np.flatnonzero(column.present), header)
    header_sizes = _sizes_of(headers, len(column.counts))
    return _Layout(column, value_sizes, headers, header_sizes, header_sizes + payloads)


def _grouped(values: Ints, rows: Ints, make: Callable[[int], bytes]) -> _Pieces:
    return [(make(value), rows[group]) for value, group in group_equal(values[rows])]


def _sizes_of(pieces: _Pieces, rows: int) -> Ints:
    sizes = np.zeros(rows, np.int64)
    for piece, group in pieces:
        sizes[group] = len(piece)
    return sizes


def _value_sizes(column: Column) -> Ints:
    match column.kind:
        case Kind.FLOAT:
            return np.full(len(column.values), _FLOAT_BYTES, np.int64)
        case Kind.INT:
            return _varint_sizes(column.values.view(np.uint64))
        case Kind.BYTES:
            return 1 + _varint_sizes(column.lengths.astype(np.uint64)) + column.lengths


def _varint_sizes(values: npt.NDArray[np.uint64]) -> Ints:
    return np.searchsorted(_VARINT_STEPS, values, side="right").astype(np.int64) + 1


def _header(name: bytes, kind: Kind, payload: int) -> bytes:
    """Makes the bytes of an entry in front of its values, which take `payload` bytes."""
    return _entry_header(name, _feature_header(kind, payload), payload)


def _list_header(name: bytes, kind: Kind, payload: int) -> bytes:
    """Makes the bytes of an entry in front of its steps, which take `payload` bytes."""
    return _entry_header(name, b"", payload)


def _feature_header(kind: Kind, payload: int) -> bytes:
    packed = b"\n" + _varint(payload) if kind is not Kind.BYTES and payload else b""
    return _TAGS[kind] + _varint(len(packed) + payload) + packed


def _entry_header(name: bytes, feature: bytes, payload: int) -> bytes:
    entry = b"\n" + _varint(len(name)) + name + b"\x12" + _varint(len(feature) + payload) + feature
    return b"\n" + _varint(len(entry) + payload) + entry


def _frame_header(size: int) -> bytes:
    """Makes the header of the frame of a record of `size` bytes."""
    length = size.to_bytes(8, "little")
    crc = mask_crcs(np.array([google_crc32c.value(length)], np.uint32))
    return length + crc.astype("<u4").tobytes()


def _varint(value: int) -> bytes:
    """Encodes a base-128 varint.

    >>> _varint(300)
    b'\\xac\\x02'
    """
    digits = bytearray()
    while value > 0x7F:
        digits.append(value & 0x7F | 0x80)
        value >>= 7
    digits.append(value)
    return bytes(digits)


def _put_column(data: Bytes, row_starts: Ints, layout: _Layout) -> None:
    column = layout.column
    for header, rows in layout.headers:
        put_constant(data, row_starts[rows], header)
    positions = value_positions(row_starts + layout.header_sizes, layout.value_sizes, column.counts)
    match column.kind:
        case Kind.FLOAT:
            put_fixed(data, positions, column.values.astype("<f4", copy=False))
        case Kind.INT:
            _put_varints(data, positions, column.values.view(np.uint64), layout.value_sizes)
        case Kind.BYTES:
            put_constant(data, positions, b"\n")
            _put_varints(data, positions + 1, column.lengths.astype(np.uint64), layout.value_sizes - column.lengths - 1)
            content = positions + layout.value_sizes - column.lengths
            put_slices(data, content, column.values, column.starts, column.lengths)


def _put_varints(data: Bytes, positions: Ints, values: npt.NDArray[np.uint64], sizes: Ints) -> None:
    # All varints of one size at once, as rows of bytes: seven bits each, the lowest first, and the top bit set in all
    # bytes but the last.
    for size, group in group_equal(sizes):
        shifts = np.arange(size, dtype=np.uint64) * np.uint64(7)
        digits = (values[group, None] >> shifts).astype(np.uint8) | np.uint8(0x80)
        digits[:, -1] &= 0x7F
        put_fixed(data, positions[group], digits)


def _masked_crcs(data: Bytes, offsets: Ints) -> npt.NDArray[np.uint32]:
    content = data.tobytes()  # google_crc32c is fastest with slices of bytes
    starts, ends = (offsets[:-1] + HEADER_BYTES).tolist(), (offsets[1:] - FOOTER_BYTES).tolist()
    crcs = (google_crc32c.value(content[start:end]) for start, end in zip(starts, ends, strict=True))
    return mask_crcs(np.fromiter(crcs, np.uint32, len(starts))).astype("<u4")
