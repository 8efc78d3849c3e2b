"""Distances between the distributions of two datasets, of many numeric features at once, and of values.

=====================  ======================================================================  ========================
distance               formula                                                                 source
=====================  ======================================================================  ========================
Kolmogorov-Smirnov     max |F(x) - G(x)|, from 0 to 1                                          Smirnov 1939
Wasserstein            integral of |F(x) - G(x)| dx, in standard deviations of the baseline    Vallender 1974
PSI                    sum (p - q) ln(p / q) over tenths of the baseline, or its 9 most        Siddiqi, Credit Risk
                       frequent values and all others, in nats                                 Scorecards, 2006
L-infinity             max |p - q| over values, from 0 to 1                                    TFDV
Jensen-Shannon         (KL(p || m) + KL(q || m)) / 2 with m = (p + q) / 2, in bits, 0 to 1     Lin 1991, as in TFDV
=====================  ======================================================================  ========================

F and G are cumulative distributions, spread evenly within the buckets of a histogram.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from penstock.transforms.anomalies.measures.histograms import Stack, cumulative, cumulative_bounds

Floats = npt.NDArray[np.float64]

_PSI_BINS = 10


def kolmogorov_smirnov(these: Stack, others: Stack) -> Floats:
    """Returns max |F - G| of each feature."""
    points = np.concatenate([these.edges, others.edges], axis=1)
    gaps = [np.abs(cumulative(these, points, left) - cumulative(others, points, left)) for left in (False, True)]
    return np.max(np.concatenate(gaps, axis=1), axis=1)


def least_kolmogorov_smirnov(these: Stack, others: Stack) -> Floats:
    """Returns what max |F - G| is at least, wherever values lie within their buckets."""
    points = np.concatenate([these.edges, others.edges], axis=1)
    gaps = [np.zeros((len(these), 1))]
    for from_left in (False, True):
        least, most = cumulative_bounds(these, points, from_left)
        other_least, other_most = cumulative_bounds(others, points, from_left)
        gaps += [least - other_most, other_least - most]
    return np.max(np.concatenate(gaps, axis=1), axis=1)


def wasserstein(these: Stack, others: Stack) -> Floats:
    """Returns the integral of |F - G|, in the units of each feature."""
    points = np.sort(np.concatenate([these.edges, others.edges], axis=1), axis=1)
    start = cumulative(these, points) - cumulative(others, points)
    end = cumulative(these, points, from_left=True) - cumulative(others, points, from_left=True)
    # Between two points the difference is linear, from its value at one to its limit at the next.
    before, after = start[:, :-1], end[:, 1:]
    crosses = before * after < 0
    total = np.abs(before) + np.abs(after)
    area = np.where(crosses, (before**2 + after**2) / np.where(crosses, 2 * total, 1.0), total / 2)
    return np.sum(area * np.diff(points, axis=1), axis=1)


def psi(these: Stack, baseline: Stack, rows: Floats, baseline_rows: Floats) -> Floats:
    """Returns the population stability index over tenths of the baseline.

    Half a row is added to each bin, so that an empty one is not infinitely far.
    """
    bounds = _tenths(baseline)
    shares = [_smooth(_bins(side, bounds), count) for side, count in ((these, rows), (baseline, baseline_rows))]
    return np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1]), axis=1)


def _tenths(histograms: Stack) -> Floats:
    """Returns the nine inner bounds of tenths, of shape (features, 9)."""
    ends = np.cumsum(histograms.mass, axis=1)
    levels = np.arange(1, _PSI_BINS) / _PSI_BINS
    index = np.sum(ends[:, None, :] < levels[None, :, None] - 1e-12, axis=2)
    index = np.minimum(index, ends.shape[1] - 1)
    row = np.arange(len(ends))[:, None]
    mass, low, high = histograms.mass[row, index], histograms.low[row, index], histograms.high[row, index]
    inside = np.clip((levels - (ends[row, index] - mass)) / np.where(mass > 0, mass, 1.0), 0.0, 1.0)
    return low + inside * (high - low)


def _bins(histograms: Stack, bounds: Floats) -> Floats:
    below = cumulative(histograms, bounds)
    zeros = np.zeros((len(bounds), 1))
    return np.clip(np.diff(np.concatenate([zeros, below, zeros + 1], axis=1), axis=1), 0.0, 1.0)


def _smooth(shares: Floats, rows: Floats) -> Floats:
    count = np.maximum(rows, 1)[:, None]
    return (shares * count + 0.5) / (count + 0.5 * _PSI_BINS)


def psi_of_values(
    these: Mapping[str, float], baseline: Mapping[str, float], total: float, baseline_total: float
) -> float:
    """Returns the population stability index over the 9 most frequent values of the baseline, and all others as one.

    Args:
      these, baseline: counts of values, as far as they are listed.
      total, baseline_total: how many values there are, listed or not.
    """
    frequent = sorted(baseline, key=lambda value: (-baseline[value], value))[: _PSI_BINS - 1]
    shares = []
    for side, count in ((these, total), (baseline, baseline_total)):
        hits = [side.get(value, 0.0) for value in frequent]
        counts = np.array([*hits, max(count - sum(hits), 0.0)])
        shares.append((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))
    return float(np.sum((shares[0] - shares[1]) * np.log(shares[0] / shares[1])))


def l_infinity(these: Mapping[str, float], others: Mapping[str, float]) -> tuple[str, float]:
    """Returns the value whose share differs most, and by how much; of equals the last one, as in TFDV."""
    total, other_total = sum(these.values()), sum(others.values())
    best = ("", 0.0)
    for value in sorted({*these, *others}):
        share = these.get(value, 0.0) / total if total else 0.0
        other = others.get(value, 0.0) / other_total if other_total else 0.0
        if abs(share - other) >= best[1]:
            best = (value, abs(share - other))
    return best


def normalized_difference(these: Mapping[str, float], others: Mapping[str, float]) -> tuple[str, float]:
    """Returns the value whose counts differ most, and by which part of all counts of both, as TFDV computes it."""
    total = sum(these.values()) + sum(others.values())
    best = ("", 0.0)
    for value in sorted({*these, *others}):
        difference = abs(these.get(value, 0.0) - others.get(value, 0.0)) / total if total else 0.0
        if difference >= best[1]:
            best = (value, difference)
    return best
