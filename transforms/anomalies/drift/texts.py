"""Lengths that changed: of texts, and of lists."""

import numpy as np

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.explain import tolerance
from penstock.transforms.anomalies.measures.bounds import distribution_bound
from penstock.transforms.anomalies.measures.distances import kolmogorov_smirnov, least_kolmogorov_smirnov
from penstock.transforms.anomalies.measures.histograms import Buckets, buckets_of, length_histogram, stack


def length_change(comparison: Comparison, pair: Pair) -> Change | None:
    """Returns that texts are of other lengths, or cut off: then all lengths above the greatest became the greatest."""
    now, before = length_histogram(pair.now), length_histogram(pair.before)
    if now is None or before is None or not _differs(comparison, pair, now, before):
        return None
    distance = float(kolmogorov_smirnov(stack([now]), stack([before]))[0])
    most = now.high[-1]
    if most < before.high[-1]:
        cut = before.map(lambda length: np.minimum(length, most))
        left = float(kolmogorov_smirnov(stack([cut]), stack([now]))[0])
        if left <= min(tolerance(*pair.rows), distance / 2):
            text = f"up to {most:,.0f}, at which longer ones are cut off"
            return _change(comparison, pair, "truncated", f"up to {before.high[-1]:,.0f} characters", text, distance)
    return _change(comparison, pair, "lengths", f"{_told(before)} characters", _told(now), distance)


def count_change(comparison: Comparison, pair: Pair) -> Change | None:
    """Returns that rows have other numbers of values."""
    histograms = [buckets_of(side.common.num_values_histogram) for side in (pair.now, pair.before)]
    now, before = histograms
    if now is None or before is None or not _differs(comparison, pair, now, before):
        return None
    distance = float(kolmogorov_smirnov(stack([now]), stack([before]))[0])
    return _change(comparison, pair, "value_count", f"{_told(before)} values in a row", _told(now), distance)


def _differs(comparison: Comparison, pair: Pair, now: Buckets, before: Buckets) -> bool:
    these, others = stack([now]), stack([before])
    rows, rows_before = (np.array([count], np.float64) for count in pair.rows)
    is_sure = least_kolmogorov_smirnov(these, others) > distribution_bound(rows, rows_before, comparison.chance)
    return bool(is_sure[0] and kolmogorov_smirnov(these, others)[0] >= comparison.thresholds.distribution)


def _told(histogram: Buckets) -> str:
    mean, _ = histogram.mean_and_std()
    return f"{histogram.low[0]:,.0f} to {histogram.high[-1]:,.0f}, {mean:,.1f} on average"


def _change(comparison: Comparison, pair: Pair, code: str, before: str, now: str, distance: float) -> Change:
    excess = distance / max(comparison.thresholds.distribution, 1e-9)
    return Change(pair.path, code, before, now, distance, excess, "distribution", distance * pair.rows[0])
