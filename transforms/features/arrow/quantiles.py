"""Quantiles of numbers, with the ranks of tensorflow-transform's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.columns import Column
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch

# So many different numbers are exact; beyond, those are taken together that agree in their upper bits. 32 MiB at most.
MAX_EXACT = 1 << 20

# The greatest double below 2^63: int64 holds no greater one.
_MAX_WHOLE_DOUBLE = float(2**63 - 1024)


def quantiles(sketch: QuantileSketch, buckets: int) -> npt.NDArray[np.float64]:
    """Returns the borders of buckets of equally many numbers with least and greatest, float64[buckets + 1].

    The border of rank r is the number with more than r * n / buckets numbers below or equal to it, the least such one.
    That of `tft.quantiles` is the same as long as its sketch has room for all different numbers. Zeros without any.
    """
    lows, highs, counts = sketch.buckets()
    if not len(counts):
        return np.zeros(buckets + 1)
    ends = np.cumsum(counts)
    ranks = np.arange(buckets + 1) * float(ends[-1]) / buckets
    places = np.minimum(np.searchsorted(ends, ranks, side="right"), len(ends) - 1)
    shares = (ranks - (ends - counts)[places]) / counts[places]
    with np.errstate(invalid="ignore"):
        inner = lows[places] + (highs - lows)[places] * shares
    return np.where(lows[places] == highs[places], lows[places], inner)


class Quantiles(Analysis):
    """The boundaries between buckets of equally many numbers; NaN is in none."""

    def __init__(self, kinds: Sequence[Kind], num_buckets: int, **_: Any) -> None:
        self._kind = kinds[0]
        self._buckets = num_buckets
        self._sketch = QuantileSketch(MAX_EXACT)

    def add(self, columns: Sequence[Column]) -> None:
        """Adds the numbers of the first column; integers beyond 2^53 as the nearest double."""
        values = columns[0].values.astype(np.float64)
        self._sketch.update(values[~np.isnan(values)] if columns[0].values.dtype == np.float32 else values)

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        self._sketch.merge(other._sketch)

    def finish(self) -> Fitted:
        """Returns `boundaries`, one less than buckets, and by what share of the rows they may be off."""
        inner = quantiles(self._sketch, self._buckets)[1:-1]
        if self._kind is Kind.INT:
            whole: list[Any] = np.minimum(inner, _MAX_WHOLE_DOUBLE).astype(np.int64).tolist()
        else:
            with np.errstate(over="ignore"):
                whole = inner.astype(np.float32).tolist()
        return {"boundaries": whole, "rank_error": rank_error(self._sketch)}


def rank_error(sketch: QuantileSketch) -> float:
    """Returns by what share of the numbers a quantile may be off: the most that lie between two that are told apart."""
    lows, highs, counts = sketch.buckets()
    together = counts[lows != highs]
    return float(together.max() / counts.sum()) if len(together) else 0.0


def bucketize(column: Column, fitted: Fitted, num_buckets: int) -> Column:
    """Returns the number of the bucket of each number, int64; NaN is in the last one."""
    boundaries = np.array(fitted["boundaries"], column.values.dtype)
    return column.with_values(np.searchsorted(boundaries, column.values, side="right").astype(np.int64))
