"""How numbers vary together: pairs of columns that lost or gained their correlation, and columns that this swaps."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.explain import tolerance
from penstock.transforms.anomalies.drift.keys import is_running
from penstock.transforms.anomalies.measures.bounds import correlation_bound
from penstock.transforms.anomalies.measures.distances import kolmogorov_smirnov
from penstock.transforms.anomalies.measures.histograms import finest_histogram, stack, tails
from penstock.transforms.anomalies.measures.views import DatasetView, Path

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

# With fewer rows, a correlation says nothing.
_LEAST_ROWS = 20
# Of so many columns whose correlations changed, each is tried as swapped with each.
_MAX_TRIED = 60
# So many other columns are named.
_MAX_NAMED = 5

# What turns the sign of a correlation: x became -x, or two values changed roles.
_TURNING = frozenset({"sign", "flipped"})
# What leaves a correlation as it is: the values of a column are mapped by a line, hardly moved, or some are missing.
_KEEPING = frozenset(
    {"mean", "scale", "precision", "distinct", "repeated", "type", "value_count", "psi"} | {"nulls", "nan", "infinity"}
)


@dataclasses.dataclass(frozen=True)
class Correlated:
    """Pearson's correlation of two columns, over the rows that have one finite number in each.

    Attributes:
      first, second: the columns, in the order of their names.
      now, before: the correlations.
      rows: how many rows they are of, now and before.
    """

    first: Path
    second: Path
    now: float
    before: float
    rows: tuple[float, float]

    @property
    def difference(self) -> float:
        """By how much it changed, from 0 to 2."""
        return abs(self.now - self.before)


@dataclasses.dataclass(frozen=True)
class Correlations:
    """The correlations of columns of both datasets, as symmetric matrices by the order of `pairs`.

    Attributes:
      pairs: the columns.
      now, before: the correlations; NaN where a pair has none, as of constant columns.
      rows, rows_before: how many rows they are of.
      chance: what chance does at most to each of them (`correlation_bound`).
    """

    pairs: Sequence[Pair]
    now: Floats
    before: Floats
    rows: Floats
    rows_before: Floats
    chance: Floats

    def each(self) -> list[Correlated]:
        """Returns all that both datasets have, those first that changed most."""
        first, second = np.nonzero(np.triu(np.isfinite(self.now) & np.isfinite(self.before), 1))
        found = [
            Correlated(
                self.pairs[x].path, self.pairs[y].path, float(self.now[x, y]), float(self.before[x, y]),
                (float(self.rows[x, y]), float(self.rows_before[x, y])),
            )
            for x, y in zip(first.tolist(), second.tolist(), strict=True)
        ]  # fmt: skip
        return sorted(found, key=lambda one: (-one.difference, one.first, one.second))


def measure_correlations(comparison: Comparison, pairs: Sequence[Pair]) -> Correlations | None:
    """Reads the correlations of all columns of numbers; None where the datasets have none in common.

    Columns that are constant in either dataset have none, and running numbers are others in each span.
    """
    found = sorted((pair for pair in pairs if _has_spread(pair) and not is_running(pair)), key=lambda pair: pair.path)
    places = {".".join(pair.path): place for place, pair in enumerate(found)}
    (now, rows), (before, rows_before) = (_matrices(side, places) for side in (comparison.now, comparison.before))
    known = np.isfinite(now) & np.isfinite(before)
    tests = int(np.count_nonzero(np.triu(known, 1)))
    if not tests:
        return None
    enough = np.minimum(rows, rows_before) >= _LEAST_ROWS
    moments, most = _tails(found)
    # Rows in which the other column is missing may be those without tails.
    parts = [
        np.clip(counts / np.array([pair.rows[side] for pair in found])[:, None], 1e-9, 1.0)
        for side, counts in enumerate((rows, rows_before))
    ]
    of_pairs = moments[:, None] / np.minimum(*parts)
    bound = correlation_bound(now, before, rows, rows_before, of_pairs, most, comparison.chance_of(tests))
    return Correlations(found, now, before, rows, rows_before, np.where(enough & known, bound, np.inf))


def _has_spread(pair: Pair) -> bool:
    sides = pair.now, pair.before
    return all(view.is_numeric and view.proto.num_stats.std_dev > 0 for view in sides)


def _matrices(dataset: DatasetView, places: Mapping[str, int]) -> tuple[Floats, Floats]:
    """Returns correlations and rows of pairs of columns that have a place."""
    values, rows = np.full((len(places), len(places)), np.nan), np.zeros((len(places), len(places)))
    for cross in dataset.proto.cross_features:
        x, y = (places.get(".".join(path.step)) for path in (cross.path_x, cross.path_y))
        if x is None or y is None or x == y or not cross.HasField("num_cross_stats"):
            continue
        values[x, y] = values[y, x] = cross.num_cross_stats.correlation
        rows[x, y] = rows[y, x] = cross.count
    return values, rows


def _tails(pairs: Sequence[Pair]) -> tuple[Floats, Floats]:
    """Returns the most that fourth moments, and the greatest values, are in both datasets together.

    Both are in standard deviations from the mean, of the rows of both.
    """
    moments, most = zip(*(_tails_of(pair) for pair in pairs), strict=True)
    return np.array(moments), np.array(most)


def _tails_of(pair: Pair) -> tuple[float, float]:
    views = pair.now, pair.before
    parts = np.array(pair.rows) / sum(pair.rows)
    stats = [view.proto.num_stats for view in views]
    mean = float(parts @ np.array([one.mean for one in stats]))
    squares = np.array([one.std_dev**2 + (one.mean - mean) ** 2 for one in stats])
    deviation = float(np.sqrt(parts @ squares))
    histograms = [finest_histogram(view) for view in views]
    known = [one for one in histograms if one is not None]
    if len(known) < len(views) or not np.isfinite(deviation):
        return np.inf, np.inf
    found = [tails(one, mean, float(square)) for one, square in zip(known, squares, strict=True)]
    moments, most = zip(*found, strict=True)
    return float(parts @ np.array(moments)) / deviation**4, max(most) / deviation


def correlation_changes(comparison: Comparison, found: Correlations, changes: Sequence[Change]) -> list[Change]:
    """Returns columns that were swapped, and pairs that lost or gained their correlation for no other reason.

    A column whose values changed has other correlations; then only the values are said. What swapped or turned columns
    do to correlations is expected of them.

    Args:
      comparison: of the datasets.
      found: their correlations.
      changes: of the columns by themselves.
    """
    expected = _expected(found, changes)
    swaps = _swaps(comparison, found, expected)
    for first, second in swaps:
        expected = _swapped(expected, first, second)
    changed = _changed(comparison, found, expected)
    return [_swap(found, *swap) for swap in swaps] + _by_column(comparison, found, expected, changed)


def _expected(found: Correlations, changes: Sequence[Change]) -> Floats:
    """Returns what correlations should be now, from those of before; NaN where the values of a column changed."""
    expected = found.before.copy()
    places = {pair.path: place for place, pair in enumerate(found.pairs)}
    for change in changes:
        place, other = places.get(change.path), places.get(change.other)
        if place is None or change.code in _KEEPING:
            continue
        if change.code in _TURNING:
            expected[place, :] *= -1
            expected[:, place] *= -1
        elif change.code == "swapped" and other is not None:
            expected = _swapped(expected, place, other)
        else:
            expected[place, :] = expected[:, place] = np.nan
    return expected


def _swapped(matrix: Floats, first: int, second: int) -> Floats:
    """Returns a symmetric matrix with two columns in the places of each other."""
    order = np.arange(len(matrix))
    order[[first, second]] = second, first
    return matrix[np.ix_(order, order)]


def _changed(comparison: Comparison, found: Correlations, expected: Floats) -> Flags:
    gaps = np.nan_to_num(np.abs(found.now - expected))
    return (gaps > found.chance) & (gaps >= comparison.thresholds.correlation)


def _swaps(comparison: Comparison, found: Correlations, expected: Floats) -> list[tuple[int, int]]:
    """Returns columns with alike values that have changed places, as only their correlations show."""
    changed = _changed(comparison, found, expected)
    tried = [place for place in np.argsort(-changed.sum(axis=1), kind="stable").tolist() if changed[place].any()]
    swaps: list[tuple[int, int]] = []
    for first, second in itertools.combinations(sorted(tried[:_MAX_TRIED]), 2):
        if any(place in swap for swap in swaps for place in (first, second)):
            continue
        other = _changed(comparison, found, _swapped(expected, first, second))
        # Both columns must agree with the rest again, and not only with each other.
        if other[[first, second]].any() or not _are_alike(found.pairs[first], found.pairs[second]):
            continue
        if all(np.delete(changed[place], [first, second]).any() for place in (first, second)):
            swaps.append((first, second))
    return swaps


def _are_alike(one: Pair, other: Pair) -> bool:
    """Whether each has values as the other had."""
    for now, before in ((one.now, other.before), (other.now, one.before)):
        sides = finest_histogram(now), finest_histogram(before)
        if now.schema_type != before.schema_type or sides[0] is None or sides[1] is None:
            return False
        distance = float(kolmogorov_smirnov(stack([sides[0]]), stack([sides[1]]))[0])
        if distance > tolerance(now.common.num_non_missing, before.common.num_non_missing):
            return False
    return True


def _swap(found: Correlations, first: int, second: int) -> Change:
    one, other = found.pairs[first], found.pairs[second]
    names = ".".join(one.path), ".".join(other.path)
    gaps = np.abs(found.now - found.before)[[first, second]]
    row, column = divmod(int(np.argmax(np.nan_to_num(gaps))), gaps.shape[1])
    place = (first, second)[row]
    most, witness = float(gaps[row, column]), ".".join(found.pairs[column].path)
    text = (
        f"{names[0]} goes together with the others as {names[1]} did, and the other way round: the correlation of "
        f"{names[row]} with {witness} was {found.before[place, column]:.3f}, and is {found.now[place, column]:.3f}"
    )
    before = f"{names[0]} and {names[1]} as before"
    return Change(one.path, "swapped", before, text, min(1.0, most), rows=one.rows[0], other=other.path)


def _by_column(comparison: Comparison, found: Correlations, expected: Floats, changed: Flags) -> list[Change]:
    """Returns a change for as few columns as name all pairs: of one that lost its rows, all correlations change."""
    gaps, left = np.nan_to_num(np.abs(found.now - expected)), changed.copy()
    changes = []
    while left.any():
        # Of columns with as many pairs, the one with the greatest differences.
        place = int(np.argmax(left.sum(axis=1) + np.where(left, gaps, 0.0).sum(axis=1) / (2 * len(left) + 1)))
        others = sorted(np.flatnonzero(left[place]).tolist(), key=lambda other: -gaps[place, other])
        changes.append(_change(comparison, found, expected, place, others))
        left[place, :] = left[:, place] = False
    return changes


def _change(comparison: Comparison, found: Correlations, expected: Floats, place: int, others: Sequence[int]) -> Change:
    names = [".".join(found.pairs[other].path) for other in others]
    was = [f"{expected[place, other]:.3f} with {name}" for other, name in zip(others, names, strict=True)]
    is_now = [f"{found.now[place, other]:.3f} with {name}" for other, name in zip(others, names, strict=True)]
    gap = float(abs(found.now[place, others[0]] - expected[place, others[0]]))
    return Change(
        found.pairs[place].path, "correlation", f"a correlation of {_listed(was)}", _listed(is_now), min(1.0, gap),
        gap / max(comparison.thresholds.correlation, 1e-9), "correlation", float(found.rows[place, others[0]]),
        other=found.pairs[others[0]].path,
    )  # fmt: skip


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _MAX_NAMED} more" if len(texts) > _MAX_NAMED else ""
    return ", ".join(texts[:_MAX_NAMED]) + more
