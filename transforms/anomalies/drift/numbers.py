"""Numbers whose distribution changed, and what happened to them."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.explain import Explanation, explain, tolerance
from penstock.transforms.anomalies.drift.values import number_counts, value_changes
from penstock.transforms.anomalies.measures.bounds import distribution_bound, mean_bound, share_evidence
from penstock.transforms.anomalies.measures.distances import (
    kolmogorov_smirnov,
    least_kolmogorov_smirnov,
    psi,
    wasserstein,
)
from penstock.transforms.anomalies.measures.histograms import Buckets, cumulative_bounds, finest_histogram, stack
from penstock.transforms.anomalies.measures.views import Stats

Floats = npt.NDArray[np.float64]

# Up to so many numbers are looked at one by one.
_MAX_DISCRETE = 64
# Hours of a day, which a time zone turns, and which part of the difference a turn may leave.
_DAY = 24
_LEFT = 0.25
# About what part of a normal distribution a shift of one standard deviation moves, for small shifts.
_PER_DEVIATION = 0.4


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A numeric feature of both datasets, and how far they are apart.

    Attributes:
      pair: the feature.
      now, before: its histograms.
      distance: Kolmogorov-Smirnov.
      least: what that is at least, wherever values lie within buckets.
      wasserstein: in standard deviations of before.
      psi: over tenths of before.
      mean: difference of means, in standard deviations of both together.
      is_beyond_chance: whether the distribution differs by more than chance.
      is_sure: whether the distribution differs by more than chance and the threshold.
      is_moved: whether the mean does.
    """

    pair: Pair
    now: Buckets
    before: Buckets
    distance: float
    least: float
    wasserstein: float
    psi: float
    mean: float
    is_beyond_chance: bool
    is_sure: bool
    is_moved: bool


def measure_numbers(comparison: Comparison, pairs: Sequence[Pair]) -> list[Numbers]:
    """Measures all numeric features at once."""
    found = [
        (pair, now, before)
        for pair in pairs
        if pair.now.is_numeric
        and pair.before.is_numeric
        and (now := finest_histogram(pair.now)) is not None
        and (before := finest_histogram(pair.before)) is not None
    ]
    if not found:
        return []
    these, others = stack([now for _, now, _ in found]), stack([before for _, _, before in found])
    rows, rows_before = (
        np.array(column, np.float64) for column in zip(*(pair.rows for pair, _, _ in found), strict=True)
    )
    thresholds, chance = comparison.thresholds, comparison.chance
    distance, least = kolmogorov_smirnov(these, others), least_kolmogorov_smirnov(these, others)
    means, deviations = _means([pair for pair, _, _ in found], rows, rows_before)
    deviation = np.array([max(pair.before.proto.num_stats.std_dev, 1e-300) for pair, _, _ in found])
    work = np.where(deviations[:, 1] > 0, wasserstein(these, others) / deviation, 0.0)
    is_beyond_chance = least > distribution_bound(rows, rows_before, chance)
    is_sure = is_beyond_chance & (distance >= thresholds.distribution)
    is_moved = (means > mean_bound(rows, rows_before, chance)) & (means >= thresholds.mean)
    index = psi(these, others, rows, rows_before)
    columns = (distance, least, work, index, means, is_beyond_chance, is_sure, is_moved)
    return [Numbers(*one, *(column[row].item() for column in columns)) for row, one in enumerate(found)]


def _means(pairs: Sequence[Pair], rows: Floats, rows_before: Floats) -> tuple[Floats, Floats]:
    """Returns differences of means in standard deviations of both together, and the deviations of now and before."""
    stats = [(pair.now.proto.num_stats, pair.before.proto.num_stats) for pair in pairs]
    mean, mean_before = (np.array([side[index].mean for side in stats]) for index in (0, 1))
    deviations = np.array([[now.std_dev, before.std_dev] for now, before in stats])
    total = rows + rows_before
    variance = (rows * deviations[:, 0] ** 2 + rows_before * deviations[:, 1] ** 2) / total
    variance += rows * rows_before * (mean - mean_before) ** 2 / total**2
    finite = np.isfinite(variance) & (variance > 0)
    return np.where(finite, np.abs(mean - mean_before) / np.sqrt(np.where(finite, variance, 1.0)), 0.0), deviations


def number_changes(comparison: Comparison, numbers: Numbers) -> list[Change]:
    """Returns what happened to the numbers of a feature."""
    discrete = _discrete(numbers)
    if discrete is not None:
        counts = number_counts(numbers.pair, *discrete)
        changes = value_changes(comparison, numbers.pair, counts, is_number=True)
        if any(change.code == "flipped" for change in changes):
            return changes
    elif not (numbers.is_sure or numbers.is_moved):
        return []
    else:
        changes = []
    if numbers.is_sure or numbers.is_moved:
        found = _explained(comparison, numbers, has_values=bool(changes))
        if found is not None:
            return [found]
    return changes


def _discrete(numbers: Numbers) -> tuple[dict[float, float], dict[float, float]] | None:
    """Returns the numbers and the part that each makes up, where there are few in both."""
    sides = numbers.now.atoms(), numbers.before.atoms()
    are_all = all(
        len(atoms) <= _MAX_DISCRETE and len(atoms) == len(histogram.mass)
        for atoms, histogram in zip(sides, (numbers.now, numbers.before), strict=True)
    )
    return sides if are_all else None


def _explained(comparison: Comparison, numbers: Numbers, has_values: bool) -> Change | None:
    """Returns the change that explains the distance; None where changes of single values do it better."""
    now, before = numbers.pair.now.proto.num_stats, numbers.pair.before.proto.num_stats
    if now.min == now.max != before.max and before.min != before.max:
        return _change(comparison, numbers, "stuck", _range(before), f"only {now.max:.9g}")
    if numbers.is_sure:
        hours = _turned(numbers)
        if hours:
            text = f"all hours moved by {hours:+d} of {_DAY}, as in another time zone"
            return _change(comparison, numbers, "rotated", _range(before), text)
        allowed = tolerance(*numbers.pair.rows)
        found: Explanation | None = explain(numbers.now, numbers.before, numbers.distance, allowed)
        if found is not None:
            return _change(comparison, numbers, found.code, _range(before), f"{_range(now)}: {found.text}")
    if has_values:
        return None
    if numbers.is_sure and (stuck := _stuck(comparison, numbers)) is not None:
        return stuck
    if numbers.is_sure:
        return _change(comparison, numbers, "distribution", _moments(before), f"{_moments(now)}, {_distances(numbers)}")
    return _moved(comparison, numbers)


def _turned(numbers: Numbers) -> int:
    """Returns by how many hours the hours of a day turned; 0 if these are none, or it does not explain the change."""
    sides = numbers.now, numbers.before
    is_whole = numbers.pair.now.type == numbers.pair.before.type == Stats.INT
    if not is_whole or any(side.low[0] < 0 or side.high[-1] >= _DAY for side in sides):
        return 0
    now, before = (_by_hour(side) for side in sides)
    gaps = [float(np.abs(np.roll(before, turn) - now).sum()) for turn in range(_DAY)]
    turn = int(np.argmin(gaps))
    if gaps[turn] > _LEFT * gaps[0]:
        return 0
    return turn if turn <= _DAY // 2 else turn - _DAY


def _by_hour(histogram: Buckets) -> Floats:
    """Returns the mass of each hour, spread evenly over those of a bucket."""
    hours = np.arange(_DAY)
    inside = (hours >= histogram.low[:, None]) & (hours <= histogram.high[:, None])
    return np.sum(inside / np.maximum(inside.sum(axis=1, keepdims=True), 1) * histogram.mass[:, None], axis=0)


def _moved(comparison: Comparison, numbers: Numbers) -> Change:
    """Says that the mean moved, though the distribution as a whole did not: its ends did."""
    now, before = numbers.pair.now.proto.num_stats, numbers.pair.before.proto.num_stats
    size = min(1.0, _PER_DEVIATION * numbers.mean)
    excess = numbers.mean / max(comparison.thresholds.mean, 1e-9)
    text = f"{_moments(now)}: {numbers.mean:.3g} standard deviations"
    return Change(numbers.pair.path, "mean", _moments(before), text, size, excess, "mean", size * numbers.pair.rows[0])


def _stuck(comparison: Comparison, numbers: Numbers) -> Change | None:
    """Says that one value is there too often, if the others are as they were."""
    (rows, rows_before), now = numbers.pair.rows, numbers.now
    most_before = _most_between(numbers.before, now)
    index = int(np.argmax(now.mass - most_before))
    share, share_before = float(now.mass[index]), float(most_before[index])
    extra = (share - share_before) / (1 - share_before) if share_before < 1 else 0.0
    evidence = share_evidence(*(np.array(x) for x in (share * rows, rows, share_before * rows_before, rows_before)))
    if extra < comparison.thresholds.distribution or evidence < np.log(2 * len(now.mass) / comparison.chance):
        return None
    rest = _without(now, index, extra)
    left = float(kolmogorov_smirnov(stack([rest]), stack([numbers.before]))[0])
    if left > min(tolerance(rows * (1 - extra), rows_before), numbers.distance / 2):
        return None
    low, high = now.low[index], now.high[index]
    value = f"{low:.9g}" if low == high else f"a value from {low:.9g} to {high:.9g}"
    text = f"{value} in {share:.2%} of the rows, the others as before"
    change = _change(comparison, numbers, "stuck", f"{value} in {share_before:.2%} or less", text)
    return dataclasses.replace(change, size=extra, rows=extra * rows, example=f"{low:.9g}")


def _most_between(histogram: Buckets, others: Buckets) -> Floats:
    """Returns the greatest part of a histogram that may lie within each bucket of another one."""
    one = stack([histogram])
    below, _ = cumulative_bounds(one, others.low[None, :], from_left=True)
    _, most = cumulative_bounds(one, others.high[None, :])
    return (most - below)[0]


def _without(histogram: Buckets, index: int, part: float) -> Buckets:
    """Returns a histogram without a part that lies in one bucket."""
    mass = histogram.mass.copy()
    mass[index] = max(mass[index] - part, 0.0)
    return Buckets(histogram.low, histogram.high, mass / mass.sum())


def _change(comparison: Comparison, numbers: Numbers, code: str, before: str, now: str) -> Change:
    excess = numbers.distance / max(comparison.thresholds.distribution, 1e-9)
    rows = numbers.distance * numbers.pair.rows[0]
    return Change(numbers.pair.path, code, before, now, min(numbers.distance, 1.0), excess, "distribution", rows)


def _range(stats: statistics_pb2.NumericStatistics) -> str:
    return f"{stats.min:.6g} to {stats.max:.6g}, median {stats.median:.6g}"


def _moments(stats: statistics_pb2.NumericStatistics) -> str:
    return f"mean {stats.mean:.6g} and standard deviation {stats.std_dev:.6g}"


def _distances(numbers: Numbers) -> str:
    return (
        f"Kolmogorov-Smirnov {numbers.distance:.3f}, PSI {numbers.psi:.3f}, "
        f"Wasserstein {numbers.wasserstein:.3g} standard deviations"
    )
