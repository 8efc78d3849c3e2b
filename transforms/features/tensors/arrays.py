"""Converts columns of a batch to flat arrays, as they enter a TensorFlow graph, and back."""

import dataclasses
import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.columns.lists import list_column
from penstock.io.columns.values import kind_of
from penstock.io.errors import DataError
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.schema import Kind

Ints = npt.NDArray[np.int64]

_DTYPES: dict[Kind, Any] = {Kind.INT: np.int64, Kind.FLOAT: np.float32, Kind.BYTES: object}
_ARROW_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


@dataclasses.dataclass(frozen=True)
class GraphColumn:
    """Holds the values of n rows, one after the other, as they enter or leave a graph.

    Unlike a `ListColumn` it consists of numpy arrays, without Arrow's buffers and without nulls; a graph has neither.

    Attributes:
      values: int64, float32, or object (bytes).
      counts: int64[n], the number of values of each row; None where each row has one, as is usual.
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
    def positions(self) -> Ints:
        """int64: the position of each value among those of its row."""
        if self.counts is None:
            return np.zeros(len(self.values), np.int64)
        return np.arange(len(self.values)) - np.repeat(self.starts[:-1], self.counts)

    @property
    def owners(self) -> Ints:
        """int64: the row of each value."""
        rows = np.arange(len(self))
        return rows if self.counts is None else np.repeat(rows, self.counts)

    @property
    def lengths(self) -> Ints:
        """int64[n]: the number of values of each row."""
        return np.ones(len(self.values), np.int64) if self.counts is None else self.counts

    @property
    def indices(self) -> Ints:
        """int64[m, 2]: the row of each value, and its position there, as a sparse tensor has them."""
        if self.counts is None:
            return _one_each(len(self))
        return np.stack([self.owners, self.positions], axis=1)

    @property
    def sums(self) -> Ints:
        """int64[n]: the sum of the values of each row."""
        ends = starts_of(self.values)[self.starts]
        return ends[1:] - ends[:-1]

    def any_below(self, least: int) -> npt.NDArray[np.bool_]:
        """Returns bool[n]: which rows have a value below this one."""
        bad = np.zeros(len(self), np.bool_)
        bad[self.owners[self.values < least]] = True
        return bad

    def count(self, row: int) -> int:
        """Returns the number of values of a row."""
        return 1 if self.counts is None else int(self.counts[row])

    def rows_without(self, count: int) -> Ints:
        """Returns the rows whose number of values is not `count`."""
        if self.counts is None:
            return np.arange(0 if count == 1 else len(self))
        return np.flatnonzero(self.counts != count)

    def slice(self, start: int, end: int) -> "GraphColumn":
        """Returns the rows from `start` up to `end`."""
        if self.counts is None:
            return GraphColumn(self.values[start:end])
        return GraphColumn(self.values[self.starts[start] : self.starts[end]], self.counts[start:end])

    def take(self, rows: Ints) -> "GraphColumn":
        """Returns the given rows, in any order; a row may occur several times."""
        if self.counts is None:
            return GraphColumn(self.values[rows])
        counts = self.counts[rows]
        starts = starts_of(counts)
        # An arange, shifted in each row to the start of the row's values.
        return GraphColumn(
            self.values[np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)], counts
        )

    def reordered(self, order: Ints) -> "GraphColumn":
        """Returns the values in another order, which must leave each in its row."""
        return GraphColumn(self.values[order], self.counts)

    def filled(self, default: Any, length: int) -> "GraphColumn":
        """Returns a column in which each row without values has `length` times the default."""
        if self.counts is None or not (empty := self.counts == 0).any():
            return self
        counts = np.where(empty, length, self.counts)
        values = np.full(counts.sum(), default, self.values.dtype)
        values[np.repeat(~empty, counts)] = self.values
        return GraphColumn(values, counts)

    def append(self, rows: Ints) -> "GraphColumn":
        """Returns all rows, followed by the given rows once more."""
        again = self.take(rows)
        values = np.concatenate([self.values, again.values])
        if self.counts is None or again.counts is None:
            return GraphColumn(values)
        return GraphColumn(values, np.concatenate([self.counts, again.counts]))


@functools.lru_cache(maxsize=8)
def _one_each(rows: int) -> Ints:
    """Returns the indices of a sparse tensor with one value in each row."""
    indices = np.zeros((rows, 2), np.int64)
    indices[:, 0] = np.arange(rows)
    return indices


def empty_column(kind: Kind, rows: int) -> GraphColumn:
    """Makes a column without any value."""
    return GraphColumn(np.zeros(0, _DTYPES[kind]), np.zeros(rows, np.int64))


def graph_column(batch: pa.RecordBatch, name: str, kind: Kind) -> tuple[GraphColumn, dict[int, str]]:
    """Reads a column of a batch; also returns, with a sentence, the rows with a value that the graph cannot hold.

    A column that the batch lacks has no value in any row.

    Raises:
      DataError: when the column is not of this kind.
    """
    if name not in batch.schema.names:
        return empty_column(kind, batch.num_rows), {}
    items, counts, faults = arrow_values(batch, name, kind)
    values = _to_numpy(items, kind)
    column = GraphColumn(values, counts)
    if kind is Kind.FLOAT and (infinite := np.isinf(values)).any():
        overflow = infinite & np.isfinite(items.to_numpy(zero_copy_only=False))
        faults |= _faults(column, overflow, f"a value of {name!r} is too large for float32")
    return column, faults


def arrow_values(batch: pa.RecordBatch, name: str, kind: Kind) -> tuple[pa.Array, Ints | None, dict[int, str]]:
    """Reads a column of a batch: its values without nulls, `counts` as in `GraphColumn`, and the faults in lists.

    In a row with a fault, a null inside a list, a zero or an empty text stands for it.

    Raises:
      DataError: when the column is not of this kind.
    """
    if name not in batch.schema.names:
        return pa.array([], _ARROW_TYPES[kind]), np.zeros(batch.num_rows, np.int64), {}
    counts, items = _flatten(batch.column(name))
    if not _has_kind(items.type, kind):
        raise DataError(
            f"column {name!r} holds {items.type}, where the features were fitted on {kind.value}; "
            "apply them under the schema of the fit, or fit again"
        )
    if not items.null_count:
        return items, counts, {}
    if pa.types.is_null(items.type):
        items = items.cast(_ARROW_TYPES[kind])
    is_missing = items.is_null().to_numpy(zero_copy_only=False)
    lists = GraphColumn(is_missing, counts)
    faults = _faults(lists, is_missing, f"a value of the list {name!r} is missing")
    return items.fill_null(b"" if kind is Kind.BYTES else 0), counts, faults


def _flatten(array: pa.Array) -> tuple[Ints | None, pa.Array]:
    """Returns `counts` as in `GraphColumn`, and the values; the only nulls among them are those inside lists."""
    lists = list_column(array)
    if lists.lengths is not None:
        return lists.lengths, lists.values
    return (lists.counts, lists.values.drop_null()) if lists.values.null_count else (None, lists.values)


def _has_kind(arrow_type: pa.DataType, kind: Kind) -> bool:
    """Whether values of the type are of the kind; unsigned integers are not, since a graph has none."""
    is_kind = kind_of(arrow_type) is kind and not pa.types.is_unsigned_integer(arrow_type)
    return is_kind or pa.types.is_null(arrow_type)


def _faults(column: GraphColumn, bad: npt.NDArray[np.bool_], text: str) -> dict[int, str]:
    return dict.fromkeys(column.owners[bad].tolist(), text)


def _to_numpy(items: pa.Array, kind: Kind) -> npt.NDArray[Any]:
    if pa.types.is_null(items.type):
        return np.zeros(0, _DTYPES[kind])
    if kind is Kind.BYTES:
        return items.cast(pa.large_binary()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        return items.to_numpy(zero_copy_only=False).astype(_DTYPES[kind], copy=False)


def scalar_array(column: GraphColumn) -> pa.Array:
    """Makes an array of one value or null a row; no row may have more than one value."""
    if len(column.values) == len(column):
        return _values_array(column.values)
    present = column.counts == 1
    return _values_array(column.values).take(pa.array(np.where(present, column.starts[:-1], 0), mask=~present))


def list_array(column: GraphColumn, dense: bool = False) -> pa.Array:
    """Makes an array of one list a row; null where it has no value, unless the column is dense."""
    return pa.ListArray.from_arrays(
        pa.array(column.starts.astype(np.int32)), _values_array(column.values), mask=None if dense else _empty(column)
    )


def large_list_array(column: GraphColumn) -> pa.Array:
    """Makes an array of one large list a row, null where it has no value, as tensorflow-transform takes it."""
    return pa.LargeListArray.from_arrays(pa.array(column.starts), _values_array(column.values), mask=_empty(column))


def _empty(column: GraphColumn) -> pa.Array | None:
    return None if column.counts is None else pa.array(column.counts == 0)


def _values_array(values: npt.NDArray[Any]) -> pa.Array:
    return pa.array(values, pa.binary() if values.dtype == object else None)
