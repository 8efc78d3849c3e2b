"""How much a column says about the label: mutual information, from counts of pairs of buckets.

A value is a code of 64 bits: numbers in their order, texts by their hash. A bucket is the upper bits of codes, as
many as leave at most 256 buckets of the column and 64 of the label filled. How many bits that is follows from all
codes alone, so that counts merge in any order; the more codes come, the fewer bits are left. For columns of few
distinct values a bucket is a value.
"""

import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]

MAX_COLUMN_BUCKETS = 256
MAX_LABEL_BUCKETS = 64

# Numbers of more buckets are put into so many of about equal mass: in small samples, each bucket adds to what chance
# makes look like information.
_BINS = 16

_CODE_BITS = 64
# Stands for the bucket of rows that do not have one value; other buckets are not negative.
_NONE = -1


def number_codes(values: npt.NDArray[np.float64]) -> Codes:
    """Returns codes of floats in their order, -0 as 0 and every NaN as one.

    >>> number_codes(np.array([1.0, 0.0, -0.0, -1.0])).argsort(kind="stable").tolist()
    [3, 1, 2, 0]
    """
    values = np.where(np.isnan(values), np.nan, values + 0.0)
    bits = np.ascontiguousarray(values).view(np.uint64)
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


@dataclasses.dataclass
class JointCounts:
    """Counts pairs of a column's bucket and the label's.

    Attributes:
      dropped: how many of the lowest bits of the column's codes are dropped.
      label_dropped: how many of the label's.
      counts: rows by buckets; -1 is the bucket of rows in which the column has no value, or several.
    """

    dropped: int = 0
    label_dropped: int = 0
    counts: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)

    def add(self, codes: Codes, single: Flags, labels: Codes) -> None:
        """Adds n rows that have a label.

        Args:
          codes: uint64[n], of the column; any where it has none.
          single: bool[n], whether the column has exactly one value.
          labels: uint64[n], codes of the label.
        """
        if not len(labels):
            return
        label_dropped = _bits_to_drop(labels, self.label_dropped, MAX_LABEL_BUCKETS)
        dropped = _bits_to_drop(codes[single], self.dropped, MAX_COLUMN_BUCKETS)
        label_buckets, label_index = np.unique(_shifted(labels, label_dropped), return_inverse=True)
        buckets, index = np.unique(_shifted(codes, dropped), return_inverse=True)
        index = np.where(single, index, len(buckets))
        cells, counts = np.unique(index * len(label_buckets) + label_index, return_counts=True)
        columns, rows = np.divmod(cells, len(label_buckets))
        names = [*buckets.tolist(), _NONE]
        labels_of = label_buckets.tolist()
        added = {
            (names[column], labels_of[row]): count
            for column, row, count in zip(columns.tolist(), rows.tolist(), counts.tolist(), strict=True)
        }
        self.merge(JointCounts(dropped, label_dropped, added))

    def merge(self, other: Self) -> None:
        """Adds the counts of another."""
        dropped = max(self.dropped, other.dropped)
        label_dropped = max(self.label_dropped, other.label_dropped)
        self._drop(dropped, label_dropped)
        for pair, count in _coarse(other.counts, dropped - other.dropped, label_dropped - other.label_dropped).items():
            self.counts[pair] = self.counts.get(pair, 0) + count
        while len({column for column, _ in self.counts if column != _NONE}) > MAX_COLUMN_BUCKETS:
            self._drop(self.dropped + 1, self.label_dropped)
        while len({label for _, label in self.counts}) > MAX_LABEL_BUCKETS:
            self._drop(self.dropped, self.label_dropped + 1)

    def _drop(self, dropped: int, label_dropped: int) -> None:
        if (dropped, label_dropped) != (self.dropped, self.label_dropped):
            self.counts = _coarse(self.counts, dropped - self.dropped, label_dropped - self.label_dropped)
            self.dropped, self.label_dropped = dropped, label_dropped

    def mutual_information(self, ordered: bool, ordered_label: bool) -> float:
        """Returns the mutual information of the column and the label in nats; NaN without rows.

        I = sum over pairs of buckets of p(x, y) ln(p(x, y) / (p(x) p(y))), less the bias (c - x - y + 1) / 2n of n rows
        with c pairs, x and y buckets that occur (Miller and Madow, 1955), and at least 0. Rows in which the column does
        not have exactly one value are a bucket of their own: that it is missing may say something. As buckets are
        coarser than values, the true information is at least this, but for what chance adds.

        Args:
          ordered: whether the column is of numbers, whose neighbouring buckets are joined into at most 16.
          ordered_label: the same of the label.
        """
        if not self.counts:
            return math.nan
        counts = _table(self.counts, ordered, ordered_label)
        total = counts.sum()
        share = counts / total
        expected = share.sum(axis=1, keepdims=True) * share.sum(axis=0, keepdims=True)
        filled = share > 0
        plain = math.fsum((share[filled] * np.log(share[filled] / expected[filled])).tolist())
        bias = (int(filled.sum()) - counts.shape[0] - counts.shape[1] + 1) / (2 * total)
        return max(float(plain - bias), 0.0)

    def to_state(self) -> list[Any]:
        """Returns plain values."""
        return [self.dropped, self.label_dropped, [[*pair, count] for pair, count in sorted(self.counts.items())]]

    @classmethod
    def from_state(cls, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        dropped, label_dropped, counts = state
        return cls(dropped, label_dropped, {(column, label): count for column, label, count in counts})


def _shifted(codes: Codes, bits: int) -> Codes:
    return codes >> np.uint64(bits) if bits < _CODE_BITS else np.zeros(len(codes), np.uint64)


def _bits_to_drop(codes: Codes, least: int, limit: int) -> int:
    """Returns the fewest bits, at least `least`, that must be dropped to fill no more than `limit` buckets."""
    distinct = np.unique(codes)
    bits = least
    while len(distinct) > limit and len(np.unique(_shifted(distinct, bits))) > limit:
        bits += 1
    return bits


def _coarse(counts: dict[tuple[int, int], int], bits: int, label_bits: int) -> dict[tuple[int, int], int]:
    if not bits and not label_bits:
        return counts
    coarse: dict[tuple[int, int], int] = {}
    for (column, label), count in counts.items():
        pair = (column if column == _NONE else column >> bits, label >> label_bits)
        coarse[pair] = coarse.get(pair, 0) + count
    return coarse


def _table(counts: dict[tuple[int, int], int], ordered: bool, ordered_label: bool) -> npt.NDArray[np.int64]:
    """Returns the counts as a table of the column's bins by the label's."""
    columns = _bins([(column, count) for (column, _), count in counts.items()], ordered)
    labels = _bins([(label, count) for (_, label), count in counts.items()], ordered_label)
    table = np.zeros((len(set(columns.values())), len(set(labels.values()))), np.int64)
    for (column, label), count in counts.items():
        table[columns[column], labels[label]] += count
    return table


def _bins(buckets: list[tuple[int, int]], ordered: bool) -> dict[int, int]:
    """Returns the bin of each bucket: its own, or, if they are ordered and many, one of 16 of about equal mass."""
    totals: dict[int, int] = {}
    for bucket, count in buckets:
        totals[bucket] = totals.get(bucket, 0) + count
    names = sorted(totals)
    if not ordered or len(names) <= _BINS:
        return {name: index for index, name in enumerate(names)}
    known = [name for name in names if name != _NONE]
    before = np.cumsum([0, *(totals[name] for name in known)])
    bins = (before[:-1] + before[1:]) * _BINS // (2 * before[-1])
    places = np.unique(bins, return_inverse=True)[1] + (len(known) < len(names))
    found = dict(zip(known, places.tolist(), strict=True))
    return found if len(known) == len(names) else {_NONE: 0, **found}
