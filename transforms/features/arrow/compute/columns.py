"""Columns between two operations, and how functions of flat values are applied to them."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.columns.values import shown
from penstock.io.errors import DataError
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.schema import Kind
from penstock.transforms.features.tensors.arrays import arrow_values, graph_column

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
# Numbers are numpy's int64 or float32; texts are Arrow's binary. There are no nulls among either.
Values = Any


class RowFaultsError(DataError):
    """Some rows cannot be computed; `faults` has a sentence for each."""

    def __init__(self, faults: dict[int, str]):
        super().__init__(next(iter(faults.values())))
        self.faults = faults


class ValueFaultsError(DataError):
    """Some of the flat values cannot be computed; `places` are their positions, `texts` has a sentence for each."""

    def __init__(self, places: npt.NDArray[Any], texts: Sequence[str]):
        super().__init__(texts[0])
        self.places = places
        self.texts = texts


def check_values(wrong: Flags, text: str, values: pa.Array | None = None) -> None:
    """Refuses values.

    Args:
      wrong: which.
      text: a sentence, or what it says behind each of the values.
      values: texts.

    Raises:
      ValueFaultsError: when some are wrong.
    """
    if wrong.any():
        places = np.flatnonzero(wrong)
        if values is None:
            raise ValueFaultsError(places, [text] * len(places))
        found = [value.decode(errors="backslashreplace") for value in taken(values, places).to_pylist()]
        raise ValueFaultsError(places, [f"{shown(value)} {text}" for value in found])


@dataclasses.dataclass(frozen=True)
class Column:
    """Holds the values of n rows, one after the other.

    Attributes:
      values: int64 or float32 in numpy, or texts as an Arrow array (binary); without nulls.
      counts: int64[n], the number of values of each row; None where each row has one.
    """

    values: Values
    counts: Ints | None = None

    def __len__(self) -> int:
        return len(self.values) if self.counts is None else len(self.counts)

    @functools.cached_property
    def starts(self) -> Ints:
        """int64[n + 1]; the values of row i are `values[starts[i]:starts[i + 1]]`."""
        return np.arange(len(self.values) + 1) if self.counts is None else starts_of(self.counts)

    @property
    def owners(self) -> Ints:
        """int64[m], the row of each value."""
        rows = np.arange(len(self))
        return rows if self.counts is None else np.repeat(rows, self.counts)

    @property
    def lengths(self) -> Ints:
        """int64[n], the number of values of each row."""
        return np.ones(len(self.values), np.int64) if self.counts is None else self.counts

    @property
    def is_text(self) -> bool:
        """Whether the values are texts."""
        return isinstance(self.values, pa.Array)

    def with_values(self, values: Values) -> "Column":
        """Returns a column with as many values in each row."""
        return Column(values, self.counts)

    def take(self, rows: Ints) -> "Column":
        """Returns some rows."""
        if self.counts is None:
            return Column(taken(self.values, rows))
        counts = self.counts[rows]
        starts = starts_of(counts)
        places = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return Column(taken(self.values, places), counts)

    def fill(self, default: Any) -> "Column":
        """Returns a column in which each row without values has the default."""
        if self.counts is None or not (empty := self.counts == 0).any():
            return self
        counts = np.where(empty, 1, self.counts)
        places = np.full(int(counts.sum()), len(self.values))
        places[np.repeat(~empty, counts)] = np.arange(len(self.values))
        values = taken(appended(self.values, default), places)
        return Column(values, None if (counts == 1).all() else counts)

    def array(self, single: bool) -> pa.Array:
        """Returns an Arrow array: of one value or null a row if `single`, else of a list, null where it is empty."""
        values = self.values if self.is_text else pa.array(self.values)
        if not single:
            mask = None if self.counts is None else pa.array(self.counts == 0)
            return pa.ListArray.from_arrays(pa.array(self.starts.astype(np.int32)), values, mask=mask)
        if self.counts is None:
            return values
        present = self.counts == 1
        return values.take(pa.array(np.where(present, self.starts[:-1], 0), mask=~present))


def taken(values: Values, places: Ints) -> Values:
    """Returns the values at some places."""
    return values.take(pa.array(places)) if isinstance(values, pa.Array) else values[places]


def appended(values: Values, value: Any) -> Values:
    """Returns the values with one more behind them."""
    if isinstance(values, pa.Array):
        return pa.concat_arrays([values, pa.array([value], values.type)])
    return np.append(values, np.array([value], values.dtype))


def column_of(batch: pa.RecordBatch, name: str, kind: Kind) -> tuple[Column, dict[int, str]]:
    """Reads a column of a batch; also returns, with a sentence, the rows with a value that no feature can hold.

    A column that the batch lacks has no value in any row.

    Raises:
      DataError: when the column is not of this kind.
    """
    if kind is not Kind.BYTES:
        numbers, faults = graph_column(batch, name, kind)
        return Column(numbers.values, numbers.counts), faults
    texts, counts, faults = arrow_values(batch, name, kind)
    return Column(texts.cast(pa.binary()), counts), faults


def map_values(columns: Sequence[Column], function: Callable[..., Values]) -> Column:
    """Applies a function of flat values to the rows of columns; of several, to rows where none is missing.

    Raises:
      RowFaultsError: with the rows of values that the function refuses.
    """
    if len(columns) == 1:
        (column,) = columns
        return column.with_values(_called(function, [column.values], lambda places: column.owners[places]))
    present = rows_with_all(columns)
    if present is None:
        return Column(_called(function, [column.values for column in columns], _same))
    rows = np.flatnonzero(present)
    parts = [taken(column.values, column.starts[rows]) for column in columns]
    return Column(_called(function, parts, rows.__getitem__), present.astype(np.int64))


def map_items(
    columns: Sequence[Column], singles: Sequence[bool], length: int, function: Callable[..., Values]
) -> Column:
    """Applies a function of flat values to lists of one fixed length, item by item, single values to each item.

    Raises:
      RowFaultsError: with the rows of lists of another length, or of values that the function refuses.
    """
    faults: dict[int, str] = {}
    for column, single in zip(columns, singles, strict=True):
        if not single:
            wrong = np.flatnonzero((column.lengths != 0) & (column.lengths != length)).tolist()
            faults |= {row: f"a list has {column.lengths[row]} values, and not {length}" for row in wrong}
    if faults:
        raise RowFaultsError(faults)
    present = np.logical_and.reduce([column.lengths > 0 for column in columns])
    rows = np.flatnonzero(present)
    parts = [
        taken(column.values, np.repeat(column.starts[rows], length)) if single else column.take(rows).values
        for column, single in zip(columns, singles, strict=True)
    ]
    values = _called(function, parts, lambda places: rows[places // length])
    return Column(values, np.where(present, length, 0))


def rows_with_all(columns: Sequence[Column]) -> Flags | None:
    """Returns bool[n], the rows that have a value in each column; None for all rows."""
    found = [column.counts > 0 for column in columns if column.counts is not None]
    return np.logical_and.reduce(found) if found else None


def keep_values(column: Column, values: Values, kept: Flags) -> Column:
    """Returns a column with the values that are kept, of all that a function made of the column's values."""
    left = values.filter(pa.array(kept)) if isinstance(values, pa.Array) else values[kept]
    counts = np.bincount(column.owners[kept], minlength=len(column))
    return Column(left, counts.astype(np.int64))


def _same(places: Ints) -> Ints:
    return places


def _called(function: Callable[..., Values], parts: list[Values], rows_of: Callable[[Ints], Ints]) -> Values:
    try:
        return function(*parts)
    except ValueFaultsError as error:
        rows = rows_of(error.places).tolist()
        # Of several values of a row, the first is told.
        raise RowFaultsError(dict(zip(reversed(rows), reversed(error.texts), strict=True))) from error


def by_code(encoded: Ints, size: int) -> Iterator[tuple[int, Ints]]:
    """Yields each of `size` codes that occurs with the places of its values, in their order."""
    order = np.argsort(encoded, kind="stable")
    counts = np.bincount(encoded, minlength=size)
    ends = np.cumsum(counts)
    for code in np.flatnonzero(counts).tolist():
        yield code, order[ends[code] - counts[code] : ends[code]]
