"""Operations that choose between values, or look them up; those that make a list of a row, or one value of a list."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.transforms.features.arrow.compute.columns import Column, Flags, Ints, RowFaultsError, keep_values, taken
from penstock.transforms.features.arrow.compute.numbers import BEYOND, has_wrapped

_TYPES = {bytes: pa.binary(), float: pa.float32(), int: pa.int64()}


def is_missing(column: Column) -> Column:
    """Returns 1 where the row has no value."""
    return Column((column.lengths == 0).astype(np.int64))


def list_count(column: Column) -> Column:
    """Returns how many values each row has."""
    return Column(column.lengths)


def coalesce(*columns: Column) -> Column:
    """Returns the first value of each row that is there."""
    chosen = np.full(len(columns[0]), -1)
    for at, column in enumerate(columns):
        chosen = np.where((chosen < 0) & (column.lengths > 0), at, chosen)
    return _chosen(columns, chosen)


def where(condition: Column, *columns: Column, **constants: Any) -> Column:
    """Returns the first of two values where the condition is not 0, else the second; missing where that is."""
    left = list(columns)
    like = columns[0].values if columns else _array(list(constants.values()))
    values = [
        Column(_filled(like, constants[name], len(condition))) if name in constants else left.pop(0)
        for name in ("then", "else")
    ]
    present = condition.lengths > 0
    is_first = np.zeros(len(condition), bool)
    is_first[present] = condition.values[condition.starts[:-1][present]] != 0
    chosen = np.where(present, np.where(is_first, 0, 1), -1)
    lengths = np.where(is_first, values[0].lengths, values[1].lengths)
    return _chosen(values, np.where(lengths > 0, chosen, -1))


def _array(values: Sequence[Any]) -> Any:
    """Returns arguments as values of their kind."""
    kind = bytes if isinstance(values[0], bytes) else float if any(isinstance(item, float) for item in values) else int
    array = pa.array([kind(item) for item in values], _TYPES[kind])
    return array if kind is bytes else array.to_numpy()


def _filled(like: Any, value: Any, rows: int) -> Any:
    if isinstance(like, pa.Array):
        return pa.repeat(pa.scalar(value, like.type), rows)
    return np.full(rows, value, like.dtype)


def _chosen(columns: Sequence[Column], chosen: Ints) -> Column:
    """Returns in each row the value of the column that is chosen; none for -1."""
    values = [column.values for column in columns]
    whole = pa.concat_arrays(values) if columns[0].is_text else np.concatenate(values)
    offset, places = 0, np.zeros(len(chosen), np.int64)
    for at, column in enumerate(columns):
        places = np.where(chosen == at, offset + column.starts[:-1], places)
        offset += len(column.values)
    present = chosen >= 0
    if present.all():
        return Column(taken(whole, places))
    return Column(taken(whole, places[present]), present.astype(np.int64))


def index_in(x: Any, values: Sequence[Any]) -> Ints:
    """Returns the position of each value in the list, or -1."""
    array = x if isinstance(x, pa.Array) else pa.array(x)
    found = pc.index_in(array, value_set=pa.array(values, array.type)).fill_null(-1)
    return found.to_numpy(zero_copy_only=False).astype(np.int64)


def is_in(x: Any, values: Sequence[Any]) -> Ints:
    """Returns 1 where the value is in the list."""
    return (index_in(x, values) >= 0).astype(np.int64)


def lookup(column: Column, keys: Sequence[Any], values: Sequence[Any], default: Any = None) -> Column:
    """Returns what the map has for each value; without a default, others are dropped."""
    places = index_in(column.values, keys)
    held = _array([*values, values[0] if default is None else default])
    found = taken(held, np.where(places < 0, len(values), places))
    if default is not None:
        return column.with_values(found)
    return keep_values(column, found, places >= 0)


def one_hot(column: Column, depth: int, complete: bool = False) -> Column:
    """Returns 1.0 at each position that the row holds, and 0.0 elsewhere."""
    counted = _counted(column, depth)
    return _vectors(column, (counted > 0).astype(np.float32))


def count_hot(column: Column, depth: int, complete: bool = False) -> Column:
    """Returns how often the row holds each position."""
    return _vectors(column, _counted(column, depth))


def _counted(column: Column, depth: int) -> npt.NDArray[np.int64]:
    """Returns int64[rows, depth]."""
    values = column.values
    within = (values >= 0) & (values < depth)
    places = column.owners[within] * depth + values[within]
    return np.bincount(places, minlength=len(column) * depth).astype(np.int64).reshape(-1, depth)


def _vectors(column: Column, matrix: npt.NDArray[Any]) -> Column:
    """Returns the rows of a matrix as lists, none where the column is missing."""
    present = column.lengths > 0
    return Column(matrix[present].reshape(-1), np.where(present, matrix.shape[1], 0))


def reducer(function: Any) -> Callable[[Column], Column]:
    """Makes a function that reduces the list of each row to one of its values."""
    return lambda column: _reduced(column, _over_rows(function, column.values, column))


def list_sum(column: Column) -> Column:
    """Returns the sum; that of floats is rounded once.

    Raises:
      RowFaultsError: where int64 cannot hold that of integers.
    """
    return _reduced(column, _sums(column).astype(column.values.dtype))


def list_mean(column: Column) -> Column:
    """Returns the mean, float32; of integers, of their exact sum.

    Raises:
      RowFaultsError: where int64 cannot hold the sum of integers.
    """
    counts = column.lengths[column.lengths > 0]
    return _reduced(column, (_sums(column).astype(np.float64) / counts).astype(np.float32))


def _sums(column: Column) -> npt.NDArray[Any]:
    """Sums the values of each row that has any: integers as int64, floats as float64."""
    real = _over_rows(np.add, column.values.astype(np.float64), column)
    if column.values.dtype != np.int64:
        return real
    sums = _over_rows(np.add, column.values, column)
    wrapped = np.flatnonzero(column.lengths > 0)[has_wrapped(sums, real)]
    if len(wrapped):
        raise RowFaultsError(dict.fromkeys(wrapped.tolist(), BEYOND))
    return sums


def _over_rows(function: Any, values: npt.NDArray[Any], column: Column) -> npt.NDArray[Any]:
    """Reduces the values of each row that has any."""
    present: Flags = column.lengths > 0
    if not present.any():
        return values[:0]
    with np.errstate(all="ignore"):
        found: npt.NDArray[Any] = function.reduceat(values, column.starts[:-1][present])
        return found


def _reduced(column: Column, values: npt.NDArray[Any]) -> Column:
    present = column.lengths > 0
    return Column(values, None if present.all() else present.astype(np.int64))
