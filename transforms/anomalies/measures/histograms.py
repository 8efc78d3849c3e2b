"""Histograms of statistics as arrays, one feature a row, so that many features are compared at once."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.anomalies.measures.views import FeatureView

Floats = npt.NDArray[np.float64]

# Temporary arrays of a comparison have no more numbers than this: 32 MB.
_MAX_NUMBERS = 4_000_000


@dataclasses.dataclass(frozen=True)
class Buckets:
    """A histogram of one feature: parts of the values that lie from `low` to `high`, both included.

    Attributes:
      low, high: bounds of each bucket, finite and ascending; equal for a single value.
      mass: the part of the values in each; sums to 1.
    """

    low: Floats
    high: Floats
    mass: Floats

    def map(self, function: Callable[[Floats], Floats]) -> "Buckets":
        """Returns the histogram of what a monotone function makes of the values."""
        low, high = function(self.low), function(self.high)
        low, high = np.minimum(low, high), np.maximum(low, high)
        order = np.lexsort((high, low))
        return Buckets(low[order], high[order], self.mass[order])

    def mean_and_std(self) -> tuple[float, float]:
        """Returns mean and standard deviation, with values spread evenly in each bucket."""
        middle = (self.low + self.high) / 2
        mean = float(np.sum(self.mass * middle))
        spread = (middle - mean) ** 2 + (self.high - self.low) ** 2 / 12
        return mean, float(np.sqrt(np.sum(self.mass * spread)))

    def atoms(self) -> dict[float, float]:
        """Returns the mass of the buckets that hold a single value."""
        found: dict[float, float] = {}
        for index in np.flatnonzero(self.low == self.high):
            value = float(self.low[index])
            found[value] = found.get(value, 0.0) + float(self.mass[index])
        return found


def buckets_of(histogram: statistics_pb2.Histogram) -> Buckets | None:
    """Returns the buckets that hold something; None if none does.

    A bucket with one infinite bound counts at the other; infinite values, NaN and what is undefined do not count.
    """
    rows = [(b.low_value, b.high_value, b.sample_count) for b in histogram.buckets if b.sample_count > 0]
    low, high, mass = np.array(rows, np.float64).reshape(-1, 3).T
    low, high = np.where(np.isinf(low), high, low), np.where(np.isinf(high), low, high)
    kept = np.isfinite(low) & np.isfinite(high)
    low, high, mass = low[kept], high[kept], mass[kept]
    if not len(mass):
        return None
    order = np.lexsort((high, low))
    return Buckets(low[order], high[order], mass[order] / mass.sum())


def finest_histogram(view: FeatureView) -> Buckets | None:
    """Returns the histogram that resolves most: `distribution`, else quantiles, else that of equal widths."""
    if "distribution" in view.custom:
        return buckets_of(view.custom["distribution"].histogram)
    for kind in (statistics_pb2.Histogram.QUANTILES, statistics_pb2.Histogram.STANDARD):
        histogram = view.histogram(kind)
        if histogram is not None:
            return buckets_of(histogram)
    return None


def length_histogram(view: FeatureView) -> Buckets | None:
    """Returns the histogram of lengths of texts: `length_histogram`, else of all values if they are listed."""
    if "length_histogram" in view.custom:
        return buckets_of(view.custom["length_histogram"].histogram)
    if not lists_all_values(view):
        return None
    lengths: dict[int, float] = {}
    for value, count in view.values.items():
        lengths[len(value)] = lengths.get(len(value), 0.0) + count
    keys = np.array(sorted(lengths), np.float64)
    mass = np.array([lengths[int(key)] for key in keys])
    return Buckets(keys, keys, mass / mass.sum())


def lists_all_values(view: FeatureView) -> bool:
    """Whether the statistics list all values of a feature, and not only the frequent ones."""
    total = view.total_values
    return bool(view.values) and sum(view.values.values()) >= total * (1 - 1e-9)


def share_beyond(buckets: Buckets, bound: float, side: int) -> float:
    """Returns the part of the values above (side 1) or below (-1) a bound."""
    below = cumulative(stack([buckets]), np.array([[bound]]), from_left=side < 0)[0, 0]
    return float(1 - below if side > 0 else below)


def tails(buckets: Buckets, mean: float, square: float) -> tuple[float, float]:
    """Returns the most that the mean of (x - mean)^4 is, and that of |x - mean|, wherever values lie in their buckets.

    With their squares between a and b, the mean of the fourth powers in a bucket is at most a^2 + (a + b) (s - a), with
    s that of the squares. What all squares have above their a goes to the buckets where it counts most.

    Args:
      buckets: of the values.
      mean: from which distances are taken.
      square: the mean of (x - mean)^2.
    """
    ends = np.stack([buckets.low - mean, buckets.high - mean]) ** 2
    inside = (buckets.low <= mean) & (buckets.high >= mean)
    least, most = np.where(inside, 0.0, ends.min(axis=0)), ends.max(axis=0)
    left = max(square - float(buckets.mass @ least), 0.0)
    order = np.argsort(-(least + most), kind="stable")
    room = (buckets.mass * (most - least))[order]
    filled = np.clip(left - (np.cumsum(room) - room), 0.0, room)
    return float(buckets.mass @ least**2 + filled @ (least + most)[order]), float(np.sqrt(most.max()))


@dataclasses.dataclass(frozen=True)
class Stack:
    """Histograms of several features: arrays of shape (features, buckets), filled up with buckets without mass."""

    low: Floats
    high: Floats
    mass: Floats

    def __len__(self) -> int:
        """Counts the features."""
        return len(self.mass)

    def rows(self, part: slice) -> "Stack":
        """Returns some of the features."""
        return Stack(self.low[part], self.high[part], self.mass[part])

    @property
    def edges(self) -> Floats:
        """All bounds, of shape (features, 2 * buckets)."""
        return np.concatenate([self.low, self.high], axis=1)


def stack(histograms: Sequence[Buckets]) -> Stack:
    """Puts histograms under one another."""
    width = max((len(one.mass) for one in histograms), default=1)
    low, high, mass = (np.zeros((len(histograms), width)) for _ in range(3))
    for row, one in enumerate(histograms):
        size = len(one.mass)
        low[row, :size], high[row, :size], mass[row, :size] = one.low, one.high, one.mass
        low[row, size:] = high[row, size:] = one.high[-1]
    return Stack(low, high, mass)


def chunks(features: int, points: int, buckets: int) -> list[slice]:
    """Cuts features into pieces whose temporary arrays stay small."""
    size = max(1, _MAX_NUMBERS // max(1, points * buckets))
    return [slice(start, start + size) for start in range(0, features, size)]


def cumulative(histograms: Stack, points: Floats, from_left: bool = False) -> Floats:
    """Returns the part of the values up to each point, spread evenly within buckets; of shape (features, points).

    Args:
      histograms: F of them.
      points: of shape (F, P).
      from_left: whether the point itself is left out.
    """
    result = np.empty(points.shape)
    for part in chunks(len(histograms), points.shape[1], histograms.mass.shape[1]):
        some, at = histograms.rows(part), points[part][:, :, None]
        low, high = some.low[:, None, :], some.high[:, None, :]
        width = high - low
        inside = np.clip((at - low) / np.where(width > 0, width, 1.0), 0.0, 1.0)
        whole = low < at if from_left else low <= at
        result[part] = np.sum(np.where(width > 0, inside, whole) * some.mass[:, None, :], axis=2)
    return result


def cumulative_bounds(histograms: Stack, points: Floats, from_left: bool = False) -> tuple[Floats, Floats]:
    """Returns the least and the greatest part of the values that may lie up to each point.

    Nothing is assumed of where values lie within a bucket.
    """
    least, most = np.empty(points.shape), np.empty(points.shape)
    for part in chunks(len(histograms), points.shape[1], histograms.mass.shape[1]):
        some, at = histograms.rows(part), points[part][:, :, None]
        low, high, mass = some.low[:, None, :], some.high[:, None, :], some.mass[:, None, :]
        least[part] = np.sum((high < at if from_left else high <= at) * mass, axis=2)
        most[part] = np.sum((low < at if from_left else low <= at) * mass, axis=2)
    return least, most


def quantiles(buckets: Buckets, levels: Floats) -> Floats:
    """Returns the values below which these parts lie, spread evenly within buckets."""
    ends = np.cumsum(buckets.mass)
    index = np.minimum(np.searchsorted(ends, levels * ends[-1], side="left"), len(ends) - 1)
    before = ends[index] - buckets.mass[index]
    inside = np.clip((levels * ends[-1] - before) / buckets.mass[index], 0.0, 1.0)
    return buckets.low[index] + inside * (buckets.high[index] - buckets.low[index])
