"""Lays out the bytes of rows that are hashed; `penstock.io.columns.hashing` describes them."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel.pure.columns import Column, Kind, open_columns
from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import (
    Bytes,
    put_constant,
    put_fixed,
    put_slices,
    sums_per_row,
    value_positions,
)

_KIND_BYTES = {Kind.INT: b"\1", Kind.FLOAT: b"\2", Kind.BYTES: b"\3"}
_HEADER_BYTES = 5
_LENGTH_BYTES = 4


def canonical_rows(batch: pa.RecordBatch) -> tuple[Bytes, Ints]:
    """Returns the bytes of all rows, and int64[rows + 1], the start of each row in them and the end of the last."""
    columns = open_columns(batch)
    sizes = [_row_sizes(column) for column in columns]
    starts = starts_of(sum(sizes, np.zeros(batch.num_rows, np.int64)))
    data = np.zeros(starts[-1], np.uint8)
    positions = starts[:-1]
    for column, size in zip(columns, sizes, strict=True):
        _put_column(data, positions, column)
        positions = positions + size
    return data, starts


def _row_sizes(column: Column) -> Ints:
    """Returns the size of each row; a null is one zero byte."""
    return np.where(column.present, _HEADER_BYTES + sums_per_row(_value_sizes(column), column.counts), 1)


def _value_sizes(column: Column) -> Ints:
    if column.kind is Kind.BYTES:
        return column.lengths + _LENGTH_BYTES
    return np.full(len(column.values), 8, np.int64)


def _put_column(data: Bytes, row_starts: Ints, column: Column) -> None:
    present = row_starts[column.present]
    put_constant(data, present, _KIND_BYTES[column.kind])
    put_fixed(data, present + 1, column.counts[column.present].astype("<u4"))
    positions = value_positions(row_starts + _HEADER_BYTES, _value_sizes(column), column.counts)
    match column.kind:
        case Kind.INT:
            put_fixed(data, positions, column.values.astype("<i8", copy=False))
        case Kind.FLOAT:
            put_fixed(data, positions, _canonical_floats(column.values))
        case Kind.BYTES:
            put_fixed(data, positions, column.lengths.astype("<u4"))
            put_slices(data, positions + _LENGTH_BYTES, column.values, column.starts, column.lengths)


def _canonical_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Widens floats, with one zero and one NaN for all."""
    wide = values.astype("<f8") + 0.0  # -0.0 + 0.0 is 0.0
    wide[np.isnan(wide)] = np.nan
    return wide
