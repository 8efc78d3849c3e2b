"""Histograms of several datasets on common bins, and quantiles, from the buckets of statistics.

A bucket says how many values lie between its bounds, not where. Inside a bucket values count as evenly spread, so that
a bin is off by no more than what the buckets hold that it cuts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

Floats = npt.NDArray[np.float64]


class Buckets(NamedTuple):
    """The buckets of a histogram: bounds, and how many values lie between them; three arrays of one length."""

    low: Floats
    high: Floats
    mass: Floats

    @classmethod
    def of(cls, histogram: statistics_pb2.Histogram) -> "Buckets | None":
        """Takes the buckets that hold values; None if none does.

        A bound that is infinite becomes the nearest finite one: a page has no room for infinity.
        """
        rows = [(bucket.low_value, bucket.high_value, bucket.sample_count) for bucket in histogram.buckets]
        low, high, mass = np.asarray(rows, dtype=np.float64).reshape(-1, 3).T
        kept = (mass > 0) & ~np.isnan(low) & ~np.isnan(high)
        bounds = np.concatenate([low[kept], high[kept]])
        finite = bounds[np.isfinite(bounds)]
        if not finite.size:
            return None
        least, greatest = finite.min(), finite.max()
        return cls(np.clip(low[kept], least, greatest), np.clip(high[kept], least, greatest), mass[kept])

    def below(self, values: Floats) -> Floats:
        """How much mass lies below each of some values, values themselves left out."""
        # Quarters: the range of a bucket, and the way to one, may be more than a double can hold.
        low, width = self.low / 4, self.high / 4 - self.low / 4
        flat = width <= 0
        with np.errstate(over="ignore"):  # far outside of a narrow bucket, which is then cut to 1
            inside = (values[:, None] / 4 - low) / np.where(flat, 1.0, width)
        shares = np.where(flat, values[:, None] > self.low, np.clip(inside, 0.0, 1.0))
        result: Floats = shares @ self.mass
        return result


class Bins(NamedTuple):
    """Bins of equal width between `low` and `high`, and for each dataset its counts; None for one that has none."""

    low: float
    high: float
    counts: list[list[float] | None]


def common_bins(histograms: Sequence[Buckets | None], bins: int, whole: bool = False) -> Bins | None:
    """Counts the values of several datasets in the same bins.

    Args:
      histograms: the buckets of each dataset.
      bins: how many bins; 1 where all values are equal.
      whole: values are integers. Where their range has no more than `bins` of them, each has a bin of its own.
    """
    known = [buckets for buckets in histograms if buckets]
    if not known:
        return None
    low = min(float(buckets.low.min()) for buckets in known)
    high = max(float(buckets.high.max()) for buckets in known)
    if low == high:
        return Bins(low, high, [[float(buckets.mass.sum())] if buckets else None for buckets in histograms])
    if whole and high - low < bins:
        low, high, bins = np.floor(low) - 0.5, np.ceil(high) + 0.5, int(np.ceil(high) - np.floor(low)) + 1
    # Halves, for the same reason.
    edges = 2 * np.linspace(low / 2, high / 2, bins + 1)
    return Bins(float(low), float(high), [_counts(buckets, edges) if buckets else None for buckets in histograms])


def _counts(buckets: Buckets, edges: Floats) -> list[float]:
    below = buckets.below(edges)
    below[-1] = buckets.mass.sum()
    return [float(count) for count in np.round(np.diff(below), 1)]


def quantiles(buckets: Buckets, shares: Sequence[float]) -> list[float]:
    """The values below which some shares of the mass lie, interpolated inside a bucket.

    >>> quantiles(Buckets(np.array([0.0, 10.0]), np.array([10.0, 30.0]), np.array([1.0, 1.0])), [0, 0.5, 0.75, 1])
    [0.0, 10.0, 20.0, 30.0]
    """
    ends = np.cumsum(buckets.mass)
    wanted = np.asarray(shares) * ends[-1]
    at = np.minimum(np.searchsorted(ends, wanted), len(ends) - 1)
    inside = np.clip((wanted - (ends[at] - buckets.mass[at])) / buckets.mass[at], 0.0, 1.0)
    return [float(value) for value in buckets.low[at] * (1 - inside) + buckets.high[at] * inside]
