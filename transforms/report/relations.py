"""How features belong together: their correlation, and the rows in which several of them are missing."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from penstock.transforms.report.features import Dataset, baseline_label, feature_name, path_name
from penstock.transforms.report.text import visible

# A heat map with more rows has cells that cannot be read.
MAX_HEATED = 40
MAX_PAIRS = 30


class Pair(NamedTuple):
    """Two features and a number: paths and names, both in the order in which they are shown."""

    paths: tuple[str, str]
    names: tuple[str, str]
    value: float


class HeatMap(NamedTuple):
    """Correlations of the features that have the strongest ones.

    Attributes:
      dataset: the label of the dataset that they are of.
      names: of the features, in the order of the statistics.
      cells: row, column (less than the row) and correlation.
      features: how many features have correlations at all.
      pairs: the strongest correlations of all features.
    """

    dataset: str
    names: list[str]
    cells: list[tuple[int, int, float]]
    features: int
    pairs: list[Pair]


class Changed(NamedTuple):
    """A pair of features whose correlation is another one than in the baseline: `pair.value` is the difference."""

    pair: Pair
    before: float
    now: float


class Together(NamedTuple):
    """Two features that are missing in the same rows.

    Attributes:
      pair: the features, with the rows in which both are missing.
      either: rows in which at least one is.
    """

    pair: Pair
    either: float


def heat_map(datasets: Sequence[Dataset]) -> HeatMap | None:
    """The correlations of the first dataset that has any; None if none has."""
    for dataset in datasets:
        if found := _correlations(dataset):
            return _heat_map(dataset, found)
    return None


def correlation_changes(datasets: Sequence[Dataset]) -> list[Changed]:
    """Pairs whose correlation differs most between the first dataset that has any and its baseline."""
    for dataset in datasets:
        found = _correlations(dataset)
        before = next((_correlations(one) for one in datasets if one.label == baseline_label(dataset.label)), {})
        if found and before:
            changed = [
                Changed(_pair(pair, found[pair] - before[pair]), before[pair], found[pair])
                for pair in found.keys() & before.keys()
            ]
            changed.sort(key=lambda one: (-abs(one.pair.value), one.pair.paths))
            return [one for one in changed[:MAX_PAIRS] if one.pair.value]
    return []


def _correlations(dataset: Dataset) -> dict[tuple[str, str], float]:
    found = {}
    for cross in dataset.statistics.cross_features:
        if cross.WhichOneof("cross_stats") == "num_cross_stats":
            value = cross.num_cross_stats.correlation
            if not np.isnan(value) and cross.path_x != cross.path_y:
                found[path_name(cross.path_x), path_name(cross.path_y)] = value
    return found


def _heat_map(dataset: Dataset, found: Mapping[tuple[str, str], float]) -> HeatMap:
    order = [feature_name(feature) for feature in dataset.statistics.features]
    known = {
        path: place for place, path in enumerate(dict.fromkeys([*order, *(path for pair in found for path in pair)]))
    }
    strongest = sorted(found, key=lambda pair: (-abs(found[pair]), pair))
    heated = dict.fromkeys(path for pair in strongest for path in pair)
    shown = sorted(list(heated)[:MAX_HEATED], key=known.__getitem__)
    place = {path: index for index, path in enumerate(shown)}
    cells = sorted(
        (max(place[x], place[y]), min(place[x], place[y]), value)
        for (x, y), value in found.items()
        if x in place and y in place
    )
    pairs = [_pair(pair, found[pair]) for pair in strongest[:MAX_PAIRS]]
    return HeatMap(dataset.label, [visible(path) for path in shown], cells, len(heated), pairs)


def _pair(paths: tuple[str, str], value: float) -> Pair:
    return Pair(paths, (visible(paths[0]), visible(paths[1])), value)


def missing_together(dataset: Dataset) -> list[Together]:
    """Pairs of features that are missing in the same rows, those first that are hardly ever missing alone."""
    missing, both = {}, {}
    for feature in dataset.statistics.features:
        name = feature_name(feature)
        if kind := feature.WhichOneof("stats"):
            missing[name] = getattr(feature, kind).common_stats.num_missing
        for custom in feature.custom_stats:
            if custom.name == "missing_with":
                for bucket in custom.rank_histogram.buckets:
                    both[_sorted(name, bucket.label)] = bucket.sample_count
    found = [
        Together(_pair(pair, rows), missing.get(pair[0], 0) + missing.get(pair[1], 0) - rows)
        for pair, rows in both.items()
        if rows > 0
    ]
    found.sort(key=lambda one: (-one.pair.value / max(one.either, 1), -one.pair.value, one.pair.paths))
    return found[:MAX_PAIRS]


def _sorted(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)


def shade(correlation: float) -> str:
    """The class of the colour of a correlation: `n5` to `n1` below zero, `z`, `p1` to `p5` above.

    >>> shade(-1.0), shade(-0.3), shade(0.05), shade(0.31), shade(1)
    ('n5', 'n2', 'z', 'p2', 'p5')
    """
    step = min(5, int(abs(correlation) * 5 + 0.5))
    return f"{'p' if correlation > 0 else 'n'}{step}" if step else "z"
