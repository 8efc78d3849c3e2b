"""Numbers of distinct values, and running numbers: keys that repeat, ids that start anew, values that lost digits."""

import math

import numpy as np

from penstock.transforms.anomalies.drift.changes import Change, Comparison, Pair
from penstock.transforms.anomalies.measures.bounds import distinct_bounds, share_evidence
from penstock.transforms.anomalies.measures.histograms import finest_histogram, share_beyond
from penstock.transforms.anomalies.measures.views import FeatureView, Stats

# A column with at least this share of distinct values is one of keys, or of measurements that hardly repeat.
_UNIQUE = 0.9
# How far the moments of a running number may be from those of evenly spread ones, in parts of its range.
_EVEN = 0.03
_LEAST_ROWS = 20
# An estimate of distinct values is taken to be no more than so many standard errors off.
_SIGMAS = 5.0


def is_running(pair: Pair) -> bool:
    """Whether a feature is a running number: whole, hardly ever twice, and evenly spread over its range, in both.

    Its values are others in each span; that is no change.
    """
    return _runs(pair.now) and _runs(pair.before)


def _runs(view: FeatureView) -> bool:
    numbers, rows = view.proto.num_stats, view.common.num_non_missing
    if view.type != Stats.INT or not view.is_numeric or rows < _LEAST_ROWS or not view.unique:
        return False
    length = numbers.max - numbers.min
    middle, spread = (numbers.max + numbers.min) / 2, length / math.sqrt(12)
    is_even = abs(numbers.mean - middle) <= 2 * _EVEN * length and abs(numbers.std_dev - spread) <= _EVEN * length
    return view.unique >= _UNIQUE * rows and length > 0 and is_even


def running_change(comparison: Comparison, pair: Pair) -> Change | None:
    """Returns that a running number started anew: it ends before the old one did, and begins no later.

    A part of the same rows, such as another split, covers the same range. So the end must lie lower by more than the
    tenth part of the range, and there must be more numbers beyond it than chance leaves to one side.
    """
    now, before = pair.now.proto.num_stats, pair.before.proto.num_stats
    length = before.max - before.min
    if now.max >= before.max - length / 10 or now.min > before.min + length / 10:
        return None
    (rows, rows_before), histogram = pair.rows, finest_histogram(pair.before)
    beyond = 0.0 if histogram is None else share_beyond(histogram, now.max, 1) * rows_before
    evidence = share_evidence(*(np.array(count) for count in (0.0, rows, beyond, rows_before)))
    if evidence <= math.log(2 / comparison.chance):
        return None
    share = min(1.0, (before.max - now.max) / length)
    return Change(
        pair.path, "restarted", f"numbers from {before.min:,.0f} to {before.max:,.0f}, or above",
        f"from {now.min:,.0f} to {now.max:,.0f}", max(share, 0.5), rows=pair.rows[0], example=f"{now.min:.0f}",
    )  # fmt: skip


def distinct_change(comparison: Comparison, pair: Pair) -> Change | None:
    """Returns that the number of distinct values is not what sampling explains (`distinct_bounds`)."""
    if pair.now.unique is None or pair.before.unique is None:
        return None
    now, before = float(pair.now.unique), float(pair.before.unique)
    rows, rows_before = pair.now.common.tot_num_values, pair.before.common.tot_num_values
    least, most = distinct_bounds(rows_before, before, rows)
    chance = math.sqrt(-2 * math.log(comparison.chance / 2) * (max(least, now) + before))
    errors = _SIGMAS * (pair.now.unique_error * now + pair.before.unique_error * before * max(1.0, rows / rows_before))
    allowed = comparison.thresholds.distinct
    slack = max(chance + errors, allowed * least), max(chance + errors, allowed * most)
    if least - slack[0] <= now <= most + slack[1]:
        return None
    was_unique = before >= _UNIQUE * rows_before
    code = "distinct"
    if now < least and was_unique:
        code = "precision" if pair.now.type == Stats.FLOAT else "repeated"
    bound = least if now < least else most
    told = f"{least:,.0f} to {most:,.0f}" if round(least) < round(most) else f"{most:,.0f}"
    difference = abs(now - bound) / max(bound, now, 1.0)
    return Change(
        pair.path, code, f"{told} distinct values in {rows:,.0f}, since there were {before:,.0f} in {rows_before:,.0f}",
        f"{now:,.0f}", difference, difference / max(allowed, 1e-9), "distinct",
        (rows - now if code == "repeated" else rows) * pair.rows[0] / rows,
    )  # fmt: skip


def repeated_rows(comparison: Comparison, changes: list[Change]) -> Change | None:
    """Returns that rows repeat, if every feature that was unique has repeated values now, and two or more have."""
    unique = [pair for pair in comparison.pairs() if _was_unique(pair)]
    low = {change.path: change for change in changes if change.code in ("repeated", "precision")}
    if len(unique) < 2 or any(pair.path not in low for pair in unique):
        return None
    most = min((low[pair.path] for pair in unique), key=lambda change: change.size)
    names = ", ".join(".".join(pair.path) for pair in unique[:5])
    repeats = max(0.0, most.rows or 0.0) if most.code == "repeated" else most.size * comparison.now.proto.num_examples
    return Change(
        (), "repeated_rows", f"rows that differ in {names}", f"{most.size:.1%} of the rows have a twin in all of them",
        most.size, rows=repeats,
    )  # fmt: skip


def _was_unique(pair: Pair) -> bool:
    values = pair.before.common.tot_num_values
    return pair.before.unique is not None and values >= _LEAST_ROWS and pair.before.unique >= _UNIQUE * values
