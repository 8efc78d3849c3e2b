"""Columns of a batch as flat arrays, the form in which they enter a TensorFlow graph, and back."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.cells import is_list, is_text
from penstock.io.errors import DataError
from penstock.io.schema import Kind

Ints = npt.NDArray[np.int64]

_DTYPES: dict[Kind, Any] = {Kind.INT: np.int64, Kind.FLOAT: np.float32, Kind.BYTES: object}


@dataclasses.dataclass(frozen=True)
class FlatColumn:
    """The values of n rows one after the other.

    Attributes:
      starts: int64[n + 1]; those of row i are `values[starts[i]:starts[i + 1]]`.
      values: int64, float32, or object (bytes).
    """

    starts: Ints
    values: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def counts(self) -> Ints:
        """Values of each row: int64[n]."""
        return np.diff(self.starts)

    def slice(self, start: int, end: int) -> "FlatColumn":
        """Rows `start` to `end`."""
        starts = self.starts[start : end + 1]
        return FlatColumn(starts - starts[0], self.values[starts[0] : starts[-1]])

    def take(self, rows: Ints) -> "FlatColumn":
        """Some rows, in ascending order."""
        if len(rows) == len(self):
            return self
        keep = np.zeros(len(self), bool)
        keep[rows] = True
        counts = self.counts
        return FlatColumn(starts_of(counts[keep]), self.values[np.repeat(keep, counts)])

    def append(self, rows: Sequence[tuple[int, int]]) -> "FlatColumn":
        """Behind the others, for each (row, times), that row so many times."""
        pieces = [self.values[self.starts[row] : self.starts[row + 1]] for row, _ in rows]
        times = [repeats for _, repeats in rows]
        values = [np.tile(piece, repeats) for piece, repeats in zip(pieces, times, strict=True)]
        counts = np.repeat([len(piece) for piece in pieces], times).astype(np.int64)
        starts = self.starts[-1] + np.cumsum(counts)
        return FlatColumn(np.concatenate([self.starts, starts]), np.concatenate([self.values, *values]))


def empty_column(kind: Kind, rows: int) -> FlatColumn:
    """A column without any value."""
    return FlatColumn(np.zeros(rows + 1, np.int64), np.zeros(0, _DTYPES[kind]))


def starts_of(counts: Ints) -> Ints:
    """Where rows with so many values start, and at the end where all end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])


def flat_column(batch: pa.RecordBatch, name: str, kind: Kind) -> tuple[FlatColumn, dict[int, str]]:
    """One column of a batch, and the rows (with a sentence) that have a value which the graph cannot hold.

    A column that the batch does not have has no value in any row.

    Raises:
      DataError: when the column is of another kind.
    """
    if name not in batch.schema.names:
        return empty_column(kind, batch.num_rows), {}
    starts, items = _flatten(batch.column(name))
    try:
        _check_kind(items.type, kind)
    except TypeError as error:
        raise DataError(
            f"column {name!r} holds {items.type}, where the features were fitted on {kind.value}; "
            "apply them under the schema of the fit, or fit again"
        ) from error
    faults: dict[int, str] = {}
    if items.null_count:
        faults = _faults(starts, pc.is_null(items), f"a value of the list {name!r} is missing")
        items = items.fill_null(b"" if kind is Kind.BYTES else 0)
    values = _to_numpy(items, kind)
    if kind is Kind.FLOAT and pa.types.is_float64(items.type):
        overflow = np.isinf(values) & np.isfinite(items.to_numpy(zero_copy_only=False))
        if overflow.any():
            faults |= _faults(starts, pa.array(overflow), f"a value of {name!r} is too large for float32")
    return FlatColumn(starts, values), faults


def _flatten(array: pa.Array) -> tuple[Ints, pa.Array]:
    """(starts, values) with nulls left out, except those inside lists."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_list(array.type):
        counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        return starts_of(counts), pc.list_flatten(array)
    if not array.null_count:
        return np.arange(len(array) + 1), array
    return starts_of(array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64)), array.drop_null()


def _check_kind(arrow_type: pa.DataType, kind: Kind) -> None:
    types = pa.types
    fits = {
        Kind.INT: types.is_signed_integer(arrow_type) or types.is_boolean(arrow_type),
        Kind.FLOAT: types.is_floating(arrow_type),
        Kind.BYTES: is_text(arrow_type),
    }
    if not fits[kind] and not types.is_null(arrow_type):
        raise TypeError(arrow_type)


def _faults(starts: Ints, bad: pa.Array, text: str) -> dict[int, str]:
    indices = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
    return dict.fromkeys((np.searchsorted(starts, indices, "right") - 1).tolist(), text)


def _to_numpy(items: pa.Array, kind: Kind) -> npt.NDArray[Any]:
    if pa.types.is_null(items.type):
        return np.zeros(0, _DTYPES[kind])
    if kind is Kind.BYTES:
        return items.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return items.to_numpy(zero_copy_only=False).astype(_DTYPES[kind], copy=False)


def scalar_array(column: FlatColumn) -> pa.Array:
    """One value or null a row; no row may have more than one."""
    if len(column.values) == len(column):
        return _values_array(column.values)
    present = column.counts > 0
    positions = np.where(present, column.starts[:-1], 0)
    return _values_array(column.values).take(pa.array(positions, mask=~present))


def list_array(column: FlatColumn, dense: bool = False) -> pa.Array:
    """A list a row; null where it has no value, unless the column is dense."""
    offsets = pa.array(column.starts.astype(np.int32))
    missing = None if dense else pa.array(column.counts == 0)
    return pa.ListArray.from_arrays(offsets, _values_array(column.values), mask=missing)


def large_list_array(column: FlatColumn) -> pa.Array:
    """A list a row, null where it has no value, as tensorflow-transform takes it."""
    return pa.LargeListArray.from_arrays(
        pa.array(column.starts), _values_array(column.values), mask=pa.array(column.counts == 0)
    )


def _values_array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, pa.binary() if values.dtype == object else None)
