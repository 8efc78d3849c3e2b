"""The population stability index beyond a threshold, for who goes by it."""

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.drift.numbers import Numbers
from penstock.transforms.anomalies.drift.values import Counts, is_beyond_chance
from penstock.transforms.anomalies.measures.distances import psi_of_values


def psi_change(comparison: Comparison, pair: Pair, numbers: Numbers | None, counts: Counts | None) -> Change | None:
    """Returns that the index is too high, where a threshold is set and the difference is more than chance.

    Chance bounds the distribution itself, by its Kolmogorov-Smirnov distance or by the shares of values.
    """
    limit = comparison.thresholds.psi
    if limit is None:
        return None
    if numbers is not None:
        index, is_sure = numbers.psi, numbers.is_beyond_chance
    elif counts is not None:
        index, is_sure = psi_of_pair(pair) or 0.0, is_beyond_chance(comparison, counts)
    else:
        return None
    if index < limit or not is_sure:
        return None
    bins = "tenths" if numbers is not None else "the most frequent values"
    size = min(index, 1.0)
    return Change(
        pair.path, "psi", f"a population stability index below {limit:g}", f"{index:.3f} over {bins} of before", size,
        index / max(limit, 1e-9), "psi", pair.rows[0],
    )  # fmt: skip


def psi_of_pair(pair: Pair) -> float | None:
    """Returns the index of a feature of texts or categories; None where the statistics list no values."""
    if not pair.now.values or not pair.before.values:
        return None
    return psi_of_values(
        pair.now.values, pair.before.values, pair.now.common.tot_num_values, pair.before.common.tot_num_values
    )
