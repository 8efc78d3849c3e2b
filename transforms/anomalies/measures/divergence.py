"""Jensen-Shannon divergence of histograms and of values, as TFDV defines it."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

Floats = npt.NDArray[np.float64]


def jensen_shannon(mass: Floats, other: Floats) -> float:
    """Returns the divergence of two masses over the same bins, in bits, from 0 to 1; NaN if one has none."""
    if not mass.sum() or not other.sum():
        return float("nan")
    p, q = mass / mass.sum(), other / other.sum()
    middle = (p + q) / 2
    return min(float((_bits(p, middle) + _bits(q, middle)) / 2), 1.0)


def _bits(p: Floats, q: Floats) -> float:
    some = p > 0
    return float(np.sum(p[some] * np.log2(p[some] / q[some])))


def jensen_shannon_of_values(these: Mapping[str, float], others: Mapping[str, float]) -> float:
    """Returns the divergence of counts of values; NaN if one side has none."""
    keys = sorted({*these, *others})
    return jensen_shannon(*(np.array([side.get(key, 0.0) for key in keys]) for side in (these, others)))


def jensen_shannon_of_histograms(these: statistics_pb2.Histogram, others: statistics_pb2.Histogram) -> float:
    """Returns the divergence of two histograms; NaN if one has nothing in it.

    Both are cut at the bounds of both, with values spread evenly within buckets. Single values count apart, and so do
    NaN. Values in buckets without an end never count as equal. TFDV leaves NaN out where the bounds differ, and counts
    them as different where they do not.
    """
    sides = [_split(histogram) for histogram in (these, others)]
    bounds = np.unique(np.concatenate([side[0][:, :2].ravel() for side in sides]))
    points = sorted({*sides[0][1], *sides[1][1]})
    masses = []
    for index, (buckets, singles, endless, nans) in enumerate(sides):
        ends = [endless, 0.0] if index == 0 else [0.0, endless]
        at_points = [singles.get(point, 0.0) for point in points]
        masses.append(np.concatenate([_cut(buckets, bounds), at_points, ends, [nans]]))
    return jensen_shannon(*masses)


def _split(histogram: statistics_pb2.Histogram) -> tuple[Floats, dict[float, float], float, float]:
    """Returns the buckets with a width, the single values, and the counts in endless buckets and of NaN."""
    rows = np.array([(b.low_value, b.high_value, b.sample_count) for b in histogram.buckets]).reshape(-1, 3)
    finite = np.isfinite(rows[:, :2]).all(axis=1)
    endless = float(rows[~finite, 2].sum())
    rows = rows[finite]
    is_single = rows[:, 0] == rows[:, 1]
    singles: dict[float, float] = {}
    for low, _, count in rows[is_single]:
        singles[float(low)] = singles.get(float(low), 0.0) + float(count)
    return rows[~is_single], singles, endless, float(histogram.num_nan)


def _cut(buckets: Floats, bounds: Floats) -> Floats:
    """Spreads buckets over the pieces between bounds."""
    if len(bounds) < 2:
        return np.zeros(0)
    low, high, count = (column[:, None] for column in buckets.T)
    overlap = np.clip(np.minimum(high, bounds[1:]) - np.maximum(low, bounds[:-1]), 0.0, None)
    return np.sum(overlap / (high - low) * count, axis=0) if len(buckets) else np.zeros(len(bounds) - 1)
