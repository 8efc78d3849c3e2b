"""Lays out the bytes of rows that are hashed; `penstock.io.columns.hashing` describes them."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

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

_LEAST, _GREATEST = np.iinfo(np.int64).min, np.iinfo(np.int64).max

# As the grammar of INT reads them, but without exponents.
_WHOLE_TEXT = re.compile(rb"(0|-?[1-9][0-9]{0,18})(?:\.0+)?")


def canonical_rows(batch: pa.RecordBatch, whole: bool = False) -> tuple[Bytes, Ints]:
    """Returns the bytes of all rows, and int64[rows + 1], the start of each row in them and the end of the last.

    With `whole`, whole numbers of any kind are laid out as integers.
    """
    columns = [open_columns(part) for part in (map(_whole_parts, batch.columns) if whole else _alone(batch))]
    sizes = [_row_sizes(parts, batch.num_rows) for parts in columns]
    starts = starts_of(sum(sizes, np.zeros(batch.num_rows, np.int64)))
    data = np.zeros(starts[-1], np.uint8)
    positions = starts[:-1]
    for parts, size in zip(columns, sizes, strict=True):
        for part in parts:
            _put_column(data, positions, part)
        positions = positions + size
    return data, starts


def _alone(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    return (batch.select([index]) for index in range(batch.num_columns))


def _row_sizes(parts: Sequence[Column], rows: int) -> Ints:
    """Returns the size of each row of a column, of whose parts at most one has the row; a null is one zero byte."""
    sizes = np.ones(rows, np.int64)
    for part in parts:
        filled = _HEADER_BYTES + sums_per_row(_value_sizes(part), part.counts)
        sizes = np.where(part.present, filled, sizes)
    return sizes


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


def _whole_parts(array: pa.Array) -> pa.RecordBatch:
    """Returns two columns: the rows whose values are all whole numbers, as lists of int64, and the other rows.

    Each row is null in the other column. A column of integers is returned as it is.
    """
    item_type = array.type.value_type if types.is_list(array.type) or types.is_large_list(array.type) else array.type
    if types.is_integer(item_type) or types.is_boolean(item_type):
        return pa.record_batch([array], ["whole"])
    rows = [_whole_row(row) for row in _values_of(array)]
    others = pa.array([None if row is not None else index for index, row in enumerate(rows)], pa.int64())
    return pa.record_batch([pa.array(rows, pa.list_(pa.int64())), array.take(others)], ["whole", "other"])


def _values_of(array: pa.Array) -> list[Any]:
    """Returns lists, or None, of floats or bytes."""
    if types.is_list(array.type) or types.is_large_list(array.type):
        values = _plain_values(array.flatten())
        bounds = np.cumsum([0, *array.value_lengths().fill_null(0).to_pylist()])
        lists = [values[bounds[row] : bounds[row + 1]] for row in range(len(array))]
        return [row if valid else None for row, valid in zip(lists, array.is_valid().to_pylist(), strict=True)]
    return [None if value is None else [value] for value in _plain_values(array)]


def _plain_values(array: pa.Array) -> list[Any]:
    """Returns floats, or the bytes of texts, which need not be UTF-8."""
    return (array if types.is_floating(array.type) else array.cast(pa.large_binary())).to_pylist()


def _whole_row(values: list[Any] | None) -> list[int] | None:
    if values is None:
        return None
    whole = [_whole(value) for value in values if value is not None]
    return None if None in whole else whole  # type: ignore[return-value]


def _whole(value: float | bytes) -> int | None:
    if isinstance(value, bytes):
        found = _WHOLE_TEXT.fullmatch(value)
        number = int(found[1]) if found else None
    else:
        number = next((int(number) for number in (value, _narrowed(value)) if number.is_integer()), None)
    return number if number is not None and _LEAST <= number <= _GREATEST else None


def _narrowed(value: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(value))
