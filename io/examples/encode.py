"""RecordBatches to the bytes of TFRecord files of tf.Example: in the kernel, or here without a loop over rows.

The encoding is canonical: features in name order, numbers packed, shortest varints; what C++ protobuf's deterministic
serialisation gives. Reserved columns are left out. A null leaves the feature out, an empty list writes an empty one;
float64 is narrowed to float32. Without the kernel only the CRC of each record is a call per row.

One column of one row is::

    entry  = 0A len(entry) | 0A len(name) name | 12 len(feature) feature
    feature = tag len(list) list,    tag 0A bytes, 12 float, 1A int64
    list   = 0A len value, for each value (bytes);   0A len packed values (numbers; nothing if there are none)

All in front of the values depends on nothing but their size in bytes: the header, made once for each size.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import TypeAlias

import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import drop_rows, feature_names
from penstock.io.columns.lists import (
    Bytes,
    Ints,
    Ragged,
    group_equal,
    is_supported,
    kernel_columns,
    put_constant,
    put_fixed,
    put_slices,
    starts_of,
    sums_per_row,
    to_ragged,
    value_positions,
    without_views,
)
from penstock.io.errors import ConfigError, DataError
from penstock.io.examples.frames import FOOTER_BYTES, HEADER_BYTES
from penstock.io.kernel import native
from penstock.io.reasons import Reason
from penstock.io.schema import Kind

if native.ENABLED:
    from penstock.io.kernel.native import _columns, _examples

_TAGS = {Kind.BYTES: b"\x0a", Kind.FLOAT: b"\x12", Kind.INT: b"\x1a"}
_FLOAT_BYTES = 4
# From these values on a varint needs one byte more.
_VARINT_STEPS = np.array([1 << bits for bits in range(7, 64, 7)], np.uint64)
_CRC_MASK_DELTA = 0xA282EAD8
# protobuf refuses longer messages.
_MAX_EXAMPLE_BYTES = (1 << 31) - 1


@dataclasses.dataclass(frozen=True)
class EncodedExamples:
    """Framed records, one after the other.

    Attributes:
      data: uint8, the bytes as a TFRecord file has them.
      offsets: int64[n + 1], where in `data` each frame starts, and the end.
    """

    data: Bytes
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1


def check_encodable(schema: pa.Schema) -> None:
    """Checks that every column has a tf.Example form.

    Raises:
      ConfigError: for one that has not, naming the column and its type.
    """
    for field in schema:
        if not is_supported(field.type):
            to_ragged(field.name, pa.nulls(0, field.type))


def encode_examples(batch: pa.RecordBatch) -> EncodedExamples:
    """The rows as framed tf.Examples, in order.

    Raises:
      ConfigError: for a column of a type without a tf.Example form, or two columns of one name.
      DataError: for a row that `try_encode_examples` leaves out.
    """
    encoded, faults = try_encode_examples(batch)
    if faults:
        row, reasons = min(faults.items())
        raise DataError(f"row {row} of the batch cannot be written: {reasons[0].detail}")
    return encoded


def allocate_bytes(size: int) -> Bytes:
    """Memory for the records of a batch, uint8[size]: of Arrow's pool, which gives the same memory again soonest."""
    return np.frombuffer(pa.allocate_buffer(size), np.uint8)


def try_encode_examples(
    batch: pa.RecordBatch, allocate: Callable[[int], Bytes] = allocate_bytes
) -> tuple[EncodedExamples, dict[int, list[Reason]]]:
    """The rows that have a faithful form as framed tf.Examples, in order, and why the others have none.

    Args:
      batch: the rows.
      allocate: gives the uint8[size] that the records are written to, from their size in bytes.

    Returns:
      The encoded rows, and for each row left out its index and reasons: `write.null_in_list`, `write.int_overflow`
      (above 2^63 - 1), `write.float_overflow` (finite, but infinite as float32).

    Raises:
      ConfigError: for a column of a type without a tf.Example form, or two columns of one name.
    """
    return _try_encode(batch, allocate, _encode_natively if native.ENABLED else _encode_in_python)


_Allocate: TypeAlias = Callable[[int], Bytes]
_Encode: TypeAlias = Callable[[pa.RecordBatch, list[str], _Allocate], EncodedExamples]


def _try_encode(
    batch: pa.RecordBatch, allocate: _Allocate, encode: _Encode
) -> tuple[EncodedExamples, dict[int, list[Reason]]]:
    names = _unique_names(batch)
    try:
        return encode(batch, names, allocate), {}
    except _FaultyRowsError:
        faults = _faults(batch, names)
        return encode(drop_rows(without_views(batch), faults), names, allocate), faults


class _FaultyRowsError(Exception):
    """Some row has no faithful form."""


def _unique_names(batch: pa.RecordBatch) -> list[str]:
    names = sorted(feature_names(batch))
    for one, other in itertools.pairwise(names):
        if one == other:
            raise ConfigError(f"column names must be unique, got {one!r} twice")
    return names


def _faults(batch: pa.RecordBatch, names: list[str]) -> dict[int, list[Reason]]:
    faults: dict[int, list[Reason]] = {}
    for name in names:
        column = to_ragged(name, batch.column(name))
        code, limit = (
            ("write.int_overflow", "an integer above 9223372036854775807, which int64 cannot hold")
            if column.kind is Kind.INT
            else ("write.float_overflow", "a finite value that overflows float32")
        )
        for row in column.null_items.tolist():
            detail = f"column {name!r} has a null inside a list, which a tf.Example cannot hold"
            faults.setdefault(row, []).append(Reason("write.null_in_list", detail))
        for row in column.overflows.tolist():
            faults.setdefault(row, []).append(Reason(code, f"column {name!r} has {limit}"))
    return faults


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How one column lies in its rows.

    Attributes:
      value_sizes: int64[m], bytes of each value.
      headers: the bytes in front of the values, with the rows that have them.
      header_sizes: int64[n], 0 where the feature is absent.
      sizes: int64[n], header and values.
    """

    column: Ragged
    value_sizes: Ints
    headers: list[tuple[bytes, Ints]]
    header_sizes: Ints
    sizes: Ints


def _encode_natively(batch: pa.RecordBatch, names: list[str], allocate: _Allocate) -> EncodedExamples:
    examples = _examples.Examples(_columns.Columns(kernel_columns(batch, names)), names)
    offsets = np.empty(batch.num_rows + 1, np.int64)
    largest = examples.measure(offsets)
    if largest < 0:
        raise _FaultyRowsError
    _check_size(largest)
    data = allocate(int(offsets[-1]))
    examples.write(data)
    return EncodedExamples(data, offsets)


def _encode_in_python(batch: pa.RecordBatch, names: list[str], allocate: _Allocate) -> EncodedExamples:
    columns = [to_ragged(name, batch.column(name)) for name in names]
    if any(len(column.null_items) or len(column.overflows) for column in columns):
        raise _FaultyRowsError
    rows = batch.num_rows
    layouts = [_layout(name.encode(), column) for name, column in zip(names, columns, strict=True)]
    feature_sizes = sum((layout.sizes for layout in layouts), np.zeros(rows, np.int64))
    prefixes = [(_record_prefix(size), group) for size, group in group_equal(feature_sizes)]
    prefix_sizes = _sizes_of(prefixes, rows)
    offsets = starts_of(prefix_sizes + feature_sizes + FOOTER_BYTES)
    data = allocate(int(offsets[-1]))
    for prefix, group in prefixes:
        put_constant(data, offsets[group], prefix)
    positions = offsets[:-1] + prefix_sizes
    for layout in layouts:
        _put_column(data, positions, layout)
        positions = positions + layout.sizes
    put_fixed(data, offsets[1:] - FOOTER_BYTES, _masked_crcs(data, offsets))
    return EncodedExamples(data, offsets)


def _layout(name: bytes, column: Ragged) -> _Layout:
    value_sizes = _value_sizes(column)
    payloads = sums_per_row(value_sizes, column.counts)
    headers = _grouped(payloads, np.flatnonzero(column.present), lambda size: _header(name, column.kind, size))
    header_sizes = _sizes_of(headers, len(column.counts))
    return _Layout(column, value_sizes, headers, header_sizes, header_sizes + payloads)


def _grouped(values: Ints, rows: Ints, make: Callable[[int], bytes]) -> list[tuple[bytes, Ints]]:
    return [(make(value), rows[group]) for value, group in group_equal(values[rows])]


def _sizes_of(pieces: list[tuple[bytes, Ints]], rows: int) -> Ints:
    sizes = np.zeros(rows, np.int64)
    for piece, group in pieces:
        sizes[group] = len(piece)
    return sizes


def _value_sizes(column: Ragged) -> Ints:
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
    """The bytes of an entry up to its values, which take `payload` bytes."""
    packed = b"\n" + _varint(payload) if kind is not Kind.BYTES and payload else b""
    feature = _TAGS[kind] + _varint(len(packed) + payload) + packed
    entry = b"\n" + _varint(len(name)) + name + b"\x12" + _varint(len(feature) + payload) + feature
    return b"\n" + _varint(len(entry) + payload) + entry


def _record_prefix(features: int) -> bytes:
    """The frame's header and the bytes of an Example up to its features, which take `features` bytes."""
    example = b"\n" + _varint(features)
    size = len(example) + features
    _check_size(size)
    length = size.to_bytes(8, "little")
    crc = mask_crcs(np.array([google_crc32c.value(length)], np.uint32))
    return length + crc.astype("<u4").tobytes() + example


def _check_size(example: int) -> None:
    if example > _MAX_EXAMPLE_BYTES:
        raise DataError(f"a row takes {example} bytes as a tf.Example; protobuf's limit is {_MAX_EXAMPLE_BYTES}")


def _varint(value: int) -> bytes:
    """A base-128 varint.

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
    for size, group in group_equal(sizes):
        shifts = np.arange(size, dtype=np.uint64) * np.uint64(7)
        digits = (values[group, None] >> shifts).astype(np.uint8) | np.uint8(0x80)
        digits[:, -1] &= 0x7F
        put_fixed(data, positions[group], digits)


def _masked_crcs(data: Bytes, offsets: Ints) -> npt.NDArray[np.uint32]:
    content = data.tobytes()  # slices of bytes are what google_crc32c takes fastest
    starts, ends = (offsets[:-1] + HEADER_BYTES).tolist(), (offsets[1:] - FOOTER_BYTES).tolist()
    crcs = (google_crc32c.value(content[start:end]) for start, end in zip(starts, ends, strict=True))
    return mask_crcs(np.fromiter(crcs, np.uint32, len(starts))).astype("<u4")


def mask_crcs(crcs: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """CRC32C values as TFRecord files store them: rotated, plus a constant."""
    rotated = (crcs >> np.uint32(15)) | (crcs << np.uint32(17))
    return rotated + np.uint32(_CRC_MASK_DELTA)
