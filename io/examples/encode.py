"""Encodes RecordBatches as the bytes of TFRecord files of tf.Example; the kernel makes the records.

The encoding is canonical: features in name order, numbers packed, shortest varints. It equals the deterministic
serialisation of C++ protobuf. Reserved columns are left out. A null leaves the feature out, and an empty list writes an
empty one. float64 is narrowed to float32.

One column of one row is::

    entry  = 0A len(entry) | 0A len(name) name | 12 len(feature) feature
    feature = tag len(list) list,    tag 0A bytes, 12 float, 1A int64
    list   = 0A len value for each value, for bytes; 0A len packed values, for numbers (nothing if there are none)
"""

import dataclasses
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows, feature_names
from penstock.io.columns.lists import check_supported, kernel_columns, list_column, without_views
from penstock.io.errors import DataError
from penstock.io.kernel import examples
from penstock.io.kernel.shared.numbers import float32_overflow
from penstock.io.reasons import Reason

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

# protobuf rejects longer messages.
_MAX_EXAMPLE_BYTES = (1 << 31) - 1
_MAX_INT = (1 << 63) - 1


@dataclasses.dataclass(frozen=True)
class EncodedExamples:
    """Framed records, one after the other.

    Attributes:
      data: uint8, the bytes as in a TFRecord file.
      offsets: int64[n + 1], where in `data` each frame starts, and the end.
    """

    data: Bytes
    offsets: Ints

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclasses.dataclass(frozen=True)
class PackedExamples(EncodedExamples):
    """Framed records without what the names and kinds of their columns say of them (`penstock.io.kernel.examples`).

    Attributes:
      layout: these names and kinds.
    """

    layout: bytes


def check_encodable(schema: pa.Schema) -> None:
    """Checks that every column has a tf.Example form.

    Raises:
      ConfigError: for a column that has none, with its name and type.
    """
    for field in schema:
        check_supported(field.name, field.type)


def encode_examples(batch: pa.RecordBatch) -> EncodedExamples:
    """Encodes rows as framed tf.Examples, in order.

    Raises:
      ConfigError: for a column of a type without a tf.Example form, or two columns of one name.
      DataError: for a row that `try_encode_examples` would leave out.
    """
    encoded, faults = try_encode_examples(batch)
    if faults:
        row, reasons = min(faults.items())
        raise DataError(f"row {row} of the batch cannot be written: {reasons[0].detail}")
    return encoded


def allocate_bytes(size: int) -> Bytes:
    """Allocates uint8[size] for the records of a batch, from Arrow's pool, which reuses freed memory soonest."""
    return np.frombuffer(pa.allocate_buffer(size), np.uint8)


def try_encode_examples(
    batch: pa.RecordBatch, allocate: Callable[[int], Bytes] = allocate_bytes, kernel: ModuleType = examples
) -> tuple[EncodedExamples, dict[int, list[Reason]]]:
    """Encodes the rows that have a faithful form as framed tf.Examples, in order, and reports why the others have none.

    Args:
      batch: the rows.
      allocate: returns the uint8[size] to write the records to, given their size in bytes.
      kernel: the kernel's module of this process, or its twin.

    Returns:
      The encoded rows, and for each row that was left out, its index and reasons: `write.null_in_list`,
      `write.int_overflow` (above 2^63 - 1), `write.float_overflow` (finite, but infinite as float32).

    Raises:
      ConfigError: for a column of a type without a tf.Example form, or two columns of one name.
    """
    return _of_good_rows(batch, lambda columns: encode_columns(columns, allocate, kernel))


def try_pack_examples(
    batch: pa.RecordBatch, kernel: ModuleType = examples
) -> tuple[PackedExamples, dict[int, list[Reason]]]:
    """Packs the rows that `try_encode_examples` encodes."""
    return _of_good_rows(batch, lambda columns: _pack_columns(columns, kernel))


_Encoded = TypeVar("_Encoded")


def _of_good_rows(
    batch: pa.RecordBatch, encode: Callable[[pa.RecordBatch], _Encoded]
) -> tuple[_Encoded, dict[int, list[Reason]]]:
    names = unique_names(batch)
    try:
        return encode(kernel_columns(batch, names)), {}
    except FaultyRowsError:
        faults = faults_of(batch, names)
        return encode(kernel_columns(drop_rows(without_views(batch), faults), names)), faults


class FaultyRowsError(Exception):
    """Some row has no faithful form."""


def unique_names(batch: pa.RecordBatch) -> list[str]:
    """Returns the names of the feature columns, sorted.

    Raises:
      ConfigError: for two columns of one name.
    """
    return sorted(feature_names(batch))


def faults_of(batch: pa.RecordBatch, names: Sequence[str]) -> dict[int, list[Reason]]:
    """Returns why rows have no faithful form, by row index."""
    faults: dict[int, list[Reason]] = {}
    for name in names:
        column = list_column(batch.column(name))
        for row in column.rows_with_null_values().tolist():
            detail = f"column {name!r} has a null inside a list, which a tf.Example cannot hold"
            faults.setdefault(row, []).append(Reason("write.null_in_list", detail))
        overflows, code, limit = _overflows(column.values)
        for row in np.unique(column.rows_of(overflows)).tolist():
            faults.setdefault(row, []).append(Reason(code, f"column {name!r} has {limit}"))
    return faults


def _overflows(values: pa.Array) -> tuple[Ints, str, str]:
    """Returns the indices of values that int64 or float32 cannot hold, the reason's code, and a description."""
    if pa.types.is_floating(values.type):
        wide = values.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)
        limit = "a finite value that overflows float32"
        return np.flatnonzero(float32_overflow(wide)), "write.float_overflow", limit
    limit = f"an integer above {_MAX_INT}, which int64 cannot hold"
    if not pa.types.is_uint64(values.type):
        return np.zeros(0, np.int64), "write.int_overflow", limit
    beyond = pc.greater(values, pa.scalar(_MAX_INT, pa.uint64())).fill_null(False)
    return np.flatnonzero(beyond.to_numpy(zero_copy_only=False)), "write.int_overflow", limit


def encode_columns(
    columns: pa.RecordBatch, allocate: Callable[[int], Bytes], kernel: ModuleType, context: int = -1
) -> EncodedExamples:
    """Encodes columns in types that the kernel reads, in name order, as framed tf.Examples.

    With `context`, so many of them are the context of tf.SequenceExamples, and the others are the feature lists, each a
    list of serialized Features.

    Raises:
      FaultyRowsError: when some row has no faithful form.
      DataError: for a record of more than 2 GiB.
    """
    rows, offsets = _measured(columns, kernel, context)
    data = allocate(int(offsets[-1]))
    rows.write(data)
    return EncodedExamples(data, offsets)


def _pack_columns(columns: pa.RecordBatch, kernel: ModuleType) -> PackedExamples:
    rows, offsets = _measured(columns, kernel)
    rows.measure_packed(offsets := np.empty_like(offsets))
    data = allocate_bytes(int(offsets[-1]))
    rows.write_packed(data)
    return PackedExamples(data, offsets, rows.layout())


def _measured(columns: pa.RecordBatch, kernel: ModuleType, context: int = -1) -> tuple[Any, Ints]:
    """Returns the rows as the kernel has them, and where their frames start, and the end."""
    rows = kernel.Examples(columns, context)
    offsets = np.empty(columns.num_rows + 1, np.int64)
    largest = rows.measure(offsets)
    if largest < 0:
        raise FaultyRowsError
    if largest > _MAX_EXAMPLE_BYTES:
        raise DataError(f"a row takes {largest} bytes as a tf.Example; protobuf's limit is {_MAX_EXAMPLE_BYTES}")
    return rows, offsets
