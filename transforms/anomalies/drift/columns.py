"""Columns that changed as such: missing, new, of another type, or swapped."""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.explain import tolerance
from penstock.transforms.anomalies.measures.distances import kolmogorov_smirnov, l_infinity
from penstock.transforms.anomalies.measures.histograms import finest_histogram, stack
from penstock.transforms.anomalies.measures.views import FeatureView, Path

# Of so many changed columns, each is tried with each.
_MAX_TRIED = 60

# Codes that say which function made the new numbers of the old ones.
_EXPLAINED = frozenset({"sign", "mean", "scale", "clipped"})

# Codes that say that values are others, which a swap would explain.
_OF_VALUES = frozenset(
    {"sign", "mean", "scale", "clipped", "rotated", "flipped", "distribution", "stuck", "new_values", "vanished_values"}
    | {"spelling", "truncated", "lengths", "balance", "distinct", "precision", "repeated", "patterns", "restarted"}
)


def column_changes(comparison: Comparison) -> Iterator[Change]:
    """Yields columns that only one dataset has, and those of another type."""
    now, before = comparison.now.features, comparison.before.features
    rows = comparison.now.proto.num_examples
    for path in sorted({*now, *before}):
        if comparison.ignores(path) or any(
            path[:end] in now and path[:end] not in before for end in range(1, len(path))
        ):
            continue
        view, other = now.get(path), before.get(path)
        if view is None:
            yield Change(path, "missing_column", "a column with values", "no such column", 1.0, rows=rows)
        elif other is None:
            yield Change(path, "new_column", "no such column", "one", 0.0, 1.0, rows=rows)
        elif (
            view.schema_type != other.schema_type and view.proto.WhichOneof("stats") and other.proto.WhichOneof("stats")
        ):
            was, is_now = (f"{schema_pb2.FeatureType.Name(side.schema_type)} values" for side in (other, view))
            yield Change(path, "type", was, is_now, 1.0, rows=rows)


def with_explained_types(changes: list[Change]) -> list[Change]:
    """Puts another type of numbers behind what became of the numbers, such as other units: that may be its cause.

    The type is the smaller news where one function explains the new values: integers times 60 may be fractions, and
    where no row has a value missing, they may be integers again.
    """
    explained = {change.path for change in changes if change.code in _EXPLAINED}
    return [
        dataclasses.replace(change, size=0.0) if change.code == "type" and change.path in explained else change
        for change in changes
    ]


def with_swaps(changes: list[Change], pairs: Sequence[Pair]) -> list[Change]:
    """Says of two columns that were swapped only that, and not how each of them changed."""
    changed = {change.path for change in changes if change.code in _OF_VALUES}
    tried = [pair for pair in pairs if pair.path in changed][:_MAX_TRIED]
    own = {pair.path: _own_distance(pair) for pair in tried}
    swapped: dict[Path, Path] = {}
    found = []
    for one, other in itertools.combinations(tried, 2):
        if one.path in swapped or other.path in swapped:
            continue
        if not _are_swapped(one, other, min(own[one.path], own[other.path])):
            continue
        swapped |= {one.path: other.path, other.path: one.path}
        sizes = [change.size for change in changes if change.path in (one.path, other.path)]
        names = ".".join(one.path), ".".join(other.path)
        text = f"{names[0]} has the values that {names[1]} had, and the other way round"
        before = f"{names[0]} and {names[1]} as before"
        found.append(Change(one.path, "swapped", before, text, max(sizes), rows=one.rows[0], other=other.path))
    explained = _OF_VALUES | {"nulls", "nan", "psi"}
    return found + [change for change in changes if change.path not in swapped or change.code not in explained]


def _are_swapped(one: Pair, other: Pair, own: float) -> bool:
    """Whether each has the values of the other, and was no more like it before.

    Args:
      one: a column.
      other: another one.
      own: how far one of them is at least from what it was.
    """
    if one.now.schema_type != other.now.schema_type:
        return False
    crossed = [(one.now, other.before), (other.now, one.before)]
    if not all(_may_be_alike(view, was) for view, was in crossed):
        return False
    distance = _distance(one.now, one.before)
    if distance is None or distance(one.before, other.before) is None:
        return False
    for view, was in crossed:
        gap = distance(view, was)
        allowed = tolerance(view.common.num_non_missing, was.common.num_non_missing)
        if gap is None or gap > min(allowed, own / 2):
            return False
    return True


def _may_be_alike(view: FeatureView, was: FeatureView) -> bool:
    """Whether the ranges of two columns of numbers meet; else they are as far apart as they can be."""
    if not (view.is_numeric and was.is_numeric):
        return True
    now, before = view.proto.num_stats, was.proto.num_stats
    return now.min <= before.max and before.min <= now.max


def _own_distance(pair: Pair) -> float:
    distance = _distance(pair.now, pair.before)
    return (distance(pair.now, pair.before) if distance else None) or 0.0


def _distance(view: FeatureView, other: FeatureView) -> Callable[[FeatureView, FeatureView], float | None] | None:
    """Returns how two features are compared."""
    if view.is_numeric and other.is_numeric:
        return _of_numbers
    return _of_texts if view.values and other.values else None


def _of_numbers(view: FeatureView, other: FeatureView) -> float | None:
    if not (view.is_numeric and other.is_numeric):
        return None
    now, before = finest_histogram(view), finest_histogram(other)
    return None if now is None or before is None else float(kolmogorov_smirnov(stack([now]), stack([before]))[0])


def _of_texts(view: FeatureView, other: FeatureView) -> float | None:
    """L-infinity, which means nothing where no value is common: then texts are as far apart as they can be."""
    if not view.values or not other.values:
        return None
    common = view.values.keys() & other.values.keys()
    return l_infinity(view.values, other.values)[1] if common else 1.0


def without_followers(changes: list[Change]) -> list[Change]:
    """Leaves out what another change of the same feature explains: other values have other lengths and forms."""
    codes: dict[Path, set[str]] = {}
    for change in changes:
        codes.setdefault(change.path, set()).add(change.code)
    return [change for change in changes if not _follows(change.code, codes[change.path])]


_FOLLOWERS = {
    "distinct": _OF_VALUES - {"distinct", "patterns", "lengths"},
    "precision": _OF_VALUES - {"precision", "distinct", "patterns", "lengths"},
    "repeated": frozenset({"stuck", "truncated"}),
    "lengths": _OF_VALUES - {"lengths", "distinct", "repeated"},
    "patterns": frozenset({"truncated", "spelling", "lengths"}),
    "new_values": frozenset({"truncated"}),
    "vanished_values": frozenset({"truncated"}),
    "balance": frozenset({"truncated"}),
}


def _follows(code: str, others: set[str]) -> bool:
    return bool(_FOLLOWERS.get(code, frozenset()) & others)
