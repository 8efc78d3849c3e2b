"""Finds what changed between two datasets, and measures how far each feature lies from what it was."""

import dataclasses

from tensorflow_metadata.proto.v0 import statistics_pb2

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.columns import (
    column_changes,
    with_explained_types,
    with_swaps,
    without_followers,
)
from penstock.transforms.anomalies.drift.correlations import (
    Correlated,
    correlation_changes,
    measure_correlations,
)
from penstock.transforms.anomalies.drift.keys import distinct_change, is_running, repeated_rows, running_change
from penstock.transforms.anomalies.drift.numbers import Numbers, measure_numbers, number_changes
from penstock.transforms.anomalies.drift.psi import psi_change, psi_of_pair
from penstock.transforms.anomalies.drift.shares import share_changes
from penstock.transforms.anomalies.drift.texts import count_change, length_change
from penstock.transforms.anomalies.drift.values import listed_counts, value_changes
from penstock.transforms.anomalies.measures.distances import l_infinity
from penstock.transforms.anomalies.measures.divergence import jensen_shannon_of_histograms, jensen_shannon_of_values
from penstock.transforms.anomalies.measures.views import Path


@dataclasses.dataclass(frozen=True)
class Gaps:
    """How far a feature lies from what it was; what cannot be measured is None (`measures.distances`)."""

    path: Path
    kolmogorov_smirnov: float | None
    wasserstein: float | None
    psi: float | None
    jensen_shannon: float | None
    l_infinity: float | None
    missing: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class Found:
    """What changed between two datasets.

    Attributes:
      changes: each with its cause, as far as it is known.
      gaps: the distances of all features that both datasets have values of.
      correlations: of all pairs of columns that both datasets have correlations of, those first that changed most.
    """

    changes: list[Change] = dataclasses.field(default_factory=list)
    gaps: list[Gaps] = dataclasses.field(default_factory=list)
    correlations: list[Correlated] = dataclasses.field(default_factory=list)


def find_changes(comparison: Comparison) -> Found:
    """Returns what changed, and how far all features and their correlations are apart."""
    if not comparison.now.proto.num_examples or not comparison.before.proto.num_examples:
        return Found()
    pairs = list(comparison.pairs())
    running = {pair.path for pair in pairs if is_running(pair)}
    numbers = {found.pair.path: found for found in measure_numbers(comparison, pairs)}
    changes = [*column_changes(comparison), *share_changes(comparison)]
    for pair in pairs:
        if pair.path in running:
            changes += filter(None, [running_change(comparison, pair), distinct_change(comparison, pair)])
        else:
            changes += _changes_of(comparison, pair, numbers.get(pair.path))
    changes = with_swaps(with_explained_types(changes), pairs)
    repeats = repeated_rows(comparison, changes)
    if repeats is not None:
        followers = ("repeated", "precision", "distinct")
        changes = [repeats, *(change for change in changes if change.code not in followers)]
    correlations = measure_correlations(comparison, pairs)
    if correlations is not None:
        changes += correlation_changes(comparison, correlations, changes)
    gaps = [_gaps(pair, numbers.get(pair.path)) for pair in pairs]
    return Found(without_followers(changes), gaps, [] if correlations is None else correlations.each())


def _changes_of(comparison: Comparison, pair: Pair, numbers: Numbers | None) -> list[Change]:
    changes: list[Change] = []
    counts = listed_counts(pair)
    if numbers is not None:
        changes += number_changes(comparison, numbers)
    if counts is not None:
        changes += value_changes(comparison, pair, counts)
    changes += filter(None, [length_change(comparison, pair), count_change(comparison, pair)])
    changes += filter(None, [distinct_change(comparison, pair), psi_change(comparison, pair, numbers, counts)])
    return changes


def _gaps(pair: Pair, numbers: Numbers | None) -> Gaps:
    now, before = pair.now, pair.before
    rows, rows_before = now.dataset.proto.num_examples, before.dataset.proto.num_examples
    missing = before.common.num_missing / rows_before, now.common.num_missing / rows
    if numbers is not None:
        bits = _bits(pair)
        return Gaps(pair.path, numbers.distance, numbers.wasserstein, numbers.psi, bits, None, missing)
    if now.values and before.values:
        bits = jensen_shannon_of_values(now.values, before.values)
        index = psi_of_pair(pair)
        return Gaps(pair.path, None, None, index, bits, l_infinity(now.values, before.values)[1], missing)
    return Gaps(pair.path, None, None, None, None, None, missing)


def _bits(pair: Pair) -> float | None:
    """Returns the Jensen-Shannon divergence of the histograms that TFDV compares, those of equal widths."""
    kind = statistics_pb2.Histogram.STANDARD
    now, before = pair.now.histogram(kind), pair.before.histogram(kind)
    if now is None or before is None:
        return None
    bits = jensen_shannon_of_histograms(now, before)
    return bits if bits == bits else None
