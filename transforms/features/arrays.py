"""Columns of a batch as flat arrays, the form in which they enter a TensorFlow graph, and back."""

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.values import is_list, is_text
from penstock.io.errors import DataError
from penstock.io.schema import Kind

Ints = npt.NDArray[np.int64]

_DTYPES: dict[Kind, Any] = {Kind.INT: np.int64, Kind.FLOAT: np.float32, Kind.BYTES: object}


@dataclasses.dataclass(frozen=True)
class FlatColumn:
    """The values of n rows one after the other.

    Attributes:
      values: int64, float32, or object (bytes).
      counts: int64[n], how many values each row has; None where each has one, which is the usual case.
    """

    values: npt.NDArray[Any]
    counts: Ints | None = None

    def __len__(self) -> int:
        return len(self.values) if self.counts is None else len(self.counts)

    @functools.cached_property
    def starts(self) -> Ints:
        """int64[n + 1]; the values of row i are `values[starts[i]:starts[i + 1]]`."""
        return np.arange(len(self.values) + 1) if self.counts is None else starts_of(self.counts)

    @property
    def places(self) -> Ints:
        """int64: the place of each value among those of its row, from 0."""
        if self.counts is None:
            return np.zeros(len(self.values), np.int64)
        return np.arange(len(self.values)) - np.repeat(self.starts[:-1], self.counts)

    @property
    def owners(self) -> Ints:
        """int64: the row of each value."""
        rows = np.arange(len(self))
        return rows if self.counts is None else np.repeat(rows, self.counts)

    def count(self, row: int) -> int:
        """How many values a row has."""
        return 1 if self.counts is None else int(self.counts[row])

    def rows_without(self, count: int) -> Ints:
        """The rows that have another number of values."""
        if self.counts is None:
            return np.arange(0 if count == 1 else len(self))
        return np.flatnonzero(self.counts != count)

    def slice(self, start: int, end: int) -> "FlatColumn":
        """Rows `start` to `end`."""
        if self.counts is None:
            return FlatColumn(self.values[start:end])
        return FlatColumn(self.values[self.starts[start] : self.starts[end]], self.counts[start:end])

    def take(self, rows: Ints) -> "FlatColumn":
        """Some rows, in any order, also several times."""
        if self.counts is None:
            return FlatColumn(self.values[rows])
        counts = self.counts[rows]
        starts = starts_of(counts)
        return FlatColumn(
            self.values[np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)], counts
        )

    def append(self, rows: Ints) -> "FlatColumn":
        """All rows, and behind them some of them again."""
        again = self.take(rows)
        values = np.concatenate([self.values, again.values])
        if self.counts is None or again.counts is None:
            return FlatColumn(values)
        return FlatColumn(values, np.concatenate([self.counts, again.counts]))


def empty_column(kind: Kind, rows: int) -> FlatColumn:
    """A column without any value."""
    return FlatColumn(np.zeros(0, _DTYPES[kind]), np.zeros(rows, np.int64))


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
    counts, items = _flatten(batch.column(name))
    if not _has_kind(items.type, kind):
        raise DataError(
            f"column {name!r} holds {items.type}, where the features were fitted on {kind.value}; "
            "apply them under the schema of the fit, or fit again"
        )
    is_missing = items.is_null() if items.null_count else None
    values = _to_numpy(items if is_missing is None else items.fill_null(b"" if kind is Kind.BYTES else 0), kind)
    column = FlatColumn(values, counts)
    faults: dict[int, str] = {}
    if is_missing is not None:
        faults = _faults(column, is_missing.to_numpy(zero_copy_only=False), f"a value of the list {name!r} is missing")
    if kind is Kind.FLOAT and (infinite := np.isinf(values)).any():
        overflow = infinite & np.isfinite(items.to_numpy(zero_copy_only=False))
        faults |= _faults(column, overflow, f"a value of {name!r} is too large for float32")
    return column, faults


def _flatten(array: pa.Array) -> tuple[Ints | None, pa.Array]:
    """The values of each row and (counts of `FlatColumn`) how many; nulls are left out, except those inside lists."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if is_list(array.type):
        counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        return counts, pc.list_flatten(array)
    if not array.null_count:
        return None, array
    return array.is_valid().to_numpy(zero_copy_only=False).astype(np.int64), array.drop_null()


def _has_kind(arrow_type: pa.DataType, kind: Kind) -> bool:
    types = pa.types
    match kind:
        case _ if types.is_null(arrow_type):
            return True
        case Kind.INT:
            return types.is_signed_integer(arrow_type) or types.is_boolean(arrow_type)
        case Kind.FLOAT:
            return types.is_floating(arrow_type)
        case Kind.BYTES:
            return is_text(arrow_type)


def _faults(column: FlatColumn, bad: npt.NDArray[np.bool_], text: str) -> dict[int, str]:
    return dict.fromkeys(column.owners[bad].tolist(), text)


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
    present = column.counts == 1
    return _values_array(column.values).take(pa.array(np.where(present, column.starts[:-1], 0), mask=~present))


def list_array(column: FlatColumn, dense: bool = False) -> pa.Array:
    """A list a row; null where it has no value, unless the column is dense."""
    return pa.ListArray.from_arrays(
        pa.array(column.starts.astype(np.int32)), _values_array(column.values), mask=None if dense else _empty(column)
    )


def large_list_array(column: FlatColumn) -> pa.Array:
    """A list a row, null where it has no value, as tensorflow-transform takes it."""
    return pa.LargeListArray.from_arrays(pa.array(column.starts), _values_array(column.values), mask=_empty(column))


def _empty(column: FlatColumn) -> pa.Array | None:
    return None if column.counts is None else pa.array(column.counts == 0)


def _values_array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, pa.binary() if values.dtype == object else None)
