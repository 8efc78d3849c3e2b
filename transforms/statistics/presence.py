"""How many rows have a value, and how many values they have: TFDV's `CommonStatistics`.

Of lists of lists, each level is counted: the values of a level are the lists of the next.
"""

import dataclasses
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.transforms.statistics.sketches.sums import ExactSum
from penstock.transforms.statistics.values import ColumnValues, Level

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# A row has so many different numbers of values, at most; with more, neighbours are counted together.
MAX_LENGTHS = 4096


class Lengths:
    """How often each length occurs; exact up to 4,096 distinct ones.

    With more, the lowest bits are dropped until so many are left: a length is then known to a relative error that
    `error` states. How many bits are dropped follows from all lengths alone, so counts merge in any order.

    Attributes:
      counts: the number of occurrences by `length >> dropped`.
      dropped: how many bits are dropped.
      least, most: the least and greatest length, exact; None for none.
      total: the sum of all lengths, exact.
    """

    __slots__ = ("counts", "dropped", "least", "most", "total")

    def __init__(self) -> None:
        """Counts nothing."""
        self.counts: dict[int, int] = {}
        self.dropped = 0
        self.least: int | None = None
        self.most: int | None = None
        self.total = 0

    def add(self, lengths: Ints) -> None:
        """Adds int64[n], none negative."""
        if len(lengths):
            distinct, counts = np.unique(lengths, return_counts=True)
            self.add_counts(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))

    def add_counts(self, counts: dict[int, int]) -> None:
        """Adds lengths, each so many times; there is at least one."""
        least, most = min(counts), max(counts)
        self.least = least if self.least is None else min(self.least, least)
        self.most = most if self.most is None else max(self.most, most)
        self.total += sum(length * count for length, count in counts.items())
        for length, count in counts.items():
            key = length >> self.dropped
            self.counts[key] = self.counts.get(key, 0) + count
        self._coarsen()

    def merge(self, other: Self) -> None:
        """Adds the lengths of another."""
        if other.least is None or other.most is None:
            return
        self.least = other.least if self.least is None else min(self.least, other.least)
        self.most = other.most if self.most is None else max(self.most, other.most)
        self.total += other.total
        self._drop(max(other.dropped - self.dropped, 0))
        for key, count in other.counts.items():
            key >>= self.dropped - other.dropped
            self.counts[key] = self.counts.get(key, 0) + count
        self._coarsen()

    def _coarsen(self) -> None:
        while len(self.counts) > MAX_LENGTHS:
            self._drop(1)

    def _drop(self, bits: int) -> None:
        if not bits:
            return
        coarse: dict[int, int] = {}
        for key, count in self.counts.items():
            coarse[key >> bits] = coarse.get(key >> bits, 0) + count
        self.counts, self.dropped = coarse, self.dropped + bits

    @property
    def count(self) -> int:
        """How many lengths were added."""
        return sum(self.counts.values())

    @property
    def error(self) -> float:
        """The most by which a quantile differs from the true one, as a part of the greatest length."""
        return 0.0 if not self.dropped or not self.most else ((1 << self.dropped) - 1) / self.most

    def quantiles(self, buckets: int) -> list[float]:
        """Returns the lengths at ranks ceil(i * count / buckets) of all in order, for i from 0 to `buckets`."""
        keys = sorted(self.counts)
        ranks = np.cumsum([self.counts[key] for key in keys])
        wanted = [max(-(-index * int(ranks[-1]) // buckets), 1) for index in range(buckets + 1)]
        values = [keys[index] << self.dropped for index in np.searchsorted(ranks, wanted).tolist()]
        least, most = self.least or 0, self.most or 0
        return [float(min(max(value, least), most)) for value in values]

    def ranks(self, values: Floats) -> Floats:
        """Returns float64[n], for each value how many lengths are at most that."""
        keys = sorted(self.counts)
        ends = np.cumsum([0, *(self.counts[key] for key in keys)])
        return ends[np.searchsorted(keys, np.array(values, np.int64) >> self.dropped, side="right")].astype(np.float64)

    def to_state(self) -> list[Any]:
        """Returns plain values."""
        return [self.dropped, self.least, self.most, self.total, self.counts]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        lengths = cls()
        lengths.dropped, lengths.least, lengths.most, lengths.total, lengths.counts = state
        return lengths


@dataclasses.dataclass
class Valency:
    """Counts one level.

    Attributes:
      lengths: how many values each row or list has that is not null.
      weight: the sum of the weights of the rows that are not null.
      weighted_values: the sum over all values of the weight of their row.
    """

    lengths: Lengths = dataclasses.field(default_factory=Lengths)
    weight: ExactSum = dataclasses.field(default_factory=ExactSum)
    weighted_values: ExactSum = dataclasses.field(default_factory=ExactSum)

    def add(self, level: Level, counts: Ints | None, weights: Floats | None) -> None:
        """Adds rows, or lists.

        Args:
          level: n of them.
          counts: int64[n], how many values each has; None for one.
          weights: float64[n], of the row of each; None for none.
        """
        if counts is None:
            if total := level.known:
                self.lengths.add_counts({1: total})
        else:
            self.lengths.add(counts[level.present])
        if weights is not None:
            self.weight.add(weights[level.present])
            self.weighted_values.add(weights[level.present] if counts is None else np.repeat(weights, counts))

    def merge(self, other: Self) -> None:
        """Adds the counts of another."""
        self.lengths.merge(other.lengths)
        self.weight.merge(other.weight)
        self.weighted_values.merge(other.weighted_values)

    @property
    def present(self) -> int:
        """How many are not null."""
        return self.lengths.count

    def to_state(self) -> list[Any]:
        """Returns plain values."""
        return [self.lengths.to_state(), self.weight.scaled, self.weighted_values.scaled]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        lengths, weight, values = state
        return cls(Lengths.from_state(lengths), ExactSum(weight), ExactSum(values))


@dataclasses.dataclass
class Presence:
    """Counts the rows of one column.

    Attributes:
      rows: the rows, each with the number of its innermost values.
      levels: of lists of lists, each level from the outermost, with the number of its own values; else none.
    """

    rows: Valency = dataclasses.field(default_factory=Valency)
    levels: list[Valency] = dataclasses.field(default_factory=list)

    def add(self, column: ColumnValues, weights: Floats | None) -> None:
        """Adds a column of n rows; `weights` is float64[n], None for none."""
        rows = column.rows
        is_scalar = rows.lengths is None
        self.rows.add(rows, None if is_scalar else column.values_of_rows(), weights)
        if len(column.levels) > 1:
            self._add_levels(column.levels, weights)

    def _add_levels(self, levels: tuple[Level, ...], weights: Floats | None) -> None:
        while len(self.levels) < len(levels):
            self.levels.append(Valency())
        for valency, level in zip(self.levels, levels, strict=False):
            valency.add(level, level.counts, weights)
            weights = None if weights is None else np.repeat(weights, level.counts)

    def merge(self, other: Self) -> None:
        """Adds the counts of another."""
        self.rows.merge(other.rows)
        while len(self.levels) < len(other.levels):
            self.levels.append(Valency())
        for level, theirs in zip(self.levels, other.levels, strict=False):
            level.merge(theirs)

    def to_state(self) -> list[Any]:
        """Returns plain values."""
        return [self.rows.to_state(), [level.to_state() for level in self.levels]]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        rows, levels = state
        return cls(Valency.from_state(rows), [Valency.from_state(level) for level in levels])
