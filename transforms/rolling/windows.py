"""Computes rolling features of sorted events, a whole column at a time.

Events are sorted by (key, time, order), so an event sees a range of rows: from the start of its window up to itself.
Every result is an integer, a comparison or an exact sum over such a range. So it does not depend on which other events
there are, nor on how many are computed at once.
"""

import functools
import itertools

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.beam.durations import micros
from penstock.transforms.rolling.exact_sums import ExactSums
from penstock.transforms.rolling.file import RollingFeature
from penstock.transforms.rolling.rows import ORDER, TIME, Rolling

Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64] | npt.NDArray[np.float64]

_MICROS = 1_000_000
# The greatest length of one time line (see `_find_starts`), and of one key: 10,000 years are 3e17 microseconds.
_LINE_MICROS = 1 << 61


def feature_columns(
    history: pa.RecordBatch, events: pa.RecordBatch, rolling: Rolling, late: Mask | None = None
) -> list[pa.Array]:
    """Returns the features of `events`, in their order: int64 or float64, null where a row has no key.

    Args:
      history: other events, in any order, which `events` see; they get no features.
      events: events in any order.
      rolling: what to compute.
      late: for each event, whether it came late; None if none did.
    """
    everything = pa.concat_batches([history, events])
    present = _has_key(everything, rolling)
    rows = np.flatnonzero(present)
    ordered = _Ordered.sort(everything.take(pa.array(rows)) if len(rows) < len(present) else everything, rolling)
    ranks = np.full(len(present), -1)
    ranks[rows] = ordered.ranks
    ranks = ranks[history.num_rows :]
    known = ranks >= 0
    marks = np.zeros(len(ranks), bool) if late is None else late
    return [_spread(_feature(ordered, feature, ranks[known], marks[known]), known) for feature in rolling.features]


def _has_key(events: pa.RecordBatch, rolling: Rolling) -> Mask:
    present = np.ones(events.num_rows, bool)
    for name in rolling.key:
        present &= events.column(f"key.{name}").is_valid().to_numpy(zero_copy_only=False)
    return present


def _spread(values: pa.Array, known: Mask) -> pa.Array:
    if known.all():
        return values
    return values.take(pa.array(np.cumsum(known) - 1, mask=~known))


class _Ordered:
    """Holds events sorted by (key, time, order).

    Attributes:
      events: the sorted events.
      ranks: int64[n], the sorted index of each original event.
      codes: int64[n], ascending, equal for events of one key.
      times: int64[n], microseconds.
    """

    def __init__(self, events: pa.RecordBatch, ranks: Ints, codes: Ints):
        self.events = events
        self.ranks = ranks
        self.codes = codes
        self.times: Ints = events.column(TIME).to_numpy()
        self._starts: dict[int, Ints] = {}
        self._columns: dict[str, _Column] = {}

    @classmethod
    def sort(cls, events: pa.RecordBatch, rolling: Rolling) -> "_Ordered":
        codes = _key_codes(events, rolling)
        order = np.lexsort((events.column(ORDER).to_numpy(), events.column(TIME).to_numpy(), codes))
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        return cls(events.take(pa.array(order)), ranks, codes[order])

    def starts(self, window: int) -> Ints:
        """Returns where the window of each event starts: at its key's first event less than `window` older."""
        if window not in self._starts:
            self._starts[window] = self._find_starts(window)
        return self._starts[window]

    def _find_starts(self, window: int) -> Ints:
        """Finds the starts by one search on a time line on which all keys follow each other, a window apart.

        Gaps longer than the window are cut to its length, which keeps the line short. Where it would still exceed
        int64, a new line begins with the next key. With a window of 10::

            key     a   a   a   b   b
            time    3   5  40   1   4
            gap    10   2  10  10   3      first of a key: the window
            line   10  12  22  32  35      start: the first position > line - window
            start   0   0   2   3   3
        """
        firsts = np.flatnonzero(np.diff(self.codes, prepend=-1))
        gaps = np.minimum(np.diff(self.times, prepend=self.times[:1]), window)
        gaps[firsts] = window
        lines = np.cumsum(gaps, dtype=np.float64)[firsts] // _LINE_MICROS
        starts = np.empty(len(gaps), np.int64)
        for first, end in itertools.pairwise([*firsts[np.flatnonzero(np.diff(lines, prepend=-1))], len(gaps)]):
            line = np.cumsum(gaps[first:end])
            starts[first:end] = first + np.searchsorted(line, line - window, side="right")
        return starts

    def column(self, name: str) -> "_Column":
        """Returns the values of a column."""
        if name not in self._columns:
            self._columns[name] = _Column(self.events.column(f"value.{name}"))
        return self._columns[name]


def _key_codes(events: pa.RecordBatch, rolling: Rolling) -> Ints:
    """Returns numbers for the keys: equal only for equal values, not just for equal hashes."""
    first, *others = rolling.key
    codes = _codes(events.column(f"key.{first}"))
    for name in others:
        pairs = codes * (events.num_rows + 1) + _codes(events.column(f"key.{name}"))
        codes = np.unique(pairs, return_inverse=True)[1]
    return codes


def _codes(values: pa.Array) -> Ints:
    return values.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)


class _Column:
    """A column of values, with what is computed from it once for all features.

    Attributes:
      array: the values.
      present: which rows have a value.
    """

    def __init__(self, array: pa.Array):
        # Make all zeros one: -0.0 + 0.0 is 0.0.
        self.array = pc.add(array, 0.0) if pa.types.is_floating(array.type) else array
        self.present: Mask = array.is_valid().to_numpy(zero_copy_only=False)
        self._float_sums: dict[int, npt.NDArray[np.float64]] = {}

    @functools.cached_property
    def values(self) -> Numbers:
        """int64 or float64, 0 where there is no value; not for texts."""
        return self.array.fill_null(0).to_numpy()

    @functools.cached_property
    def counts(self) -> Ints:
        """int64[n + 1], the number of values before each row."""
        return _running(self.present)

    @functools.cached_property
    def finite(self) -> Mask:
        return np.isfinite(self.values)

    @functools.cached_property
    def sums(self) -> ExactSums:
        if self.values.dtype == np.int64:
            return ExactSums.of_ints(self.values.astype(np.int64, copy=False))
        return ExactSums.of_floats(np.where(self.finite, self.values, 0.0))

    def float_sums(self, window: int, starts: Ints, ends: Ints) -> npt.NDArray[np.float64]:
        """Returns the sums over the ranges of a window; `sum` and `mean` share them."""
        if window not in self._float_sums:
            self._float_sums[window] = _float_sums(self, starts, ends)
        return self._float_sums[window]

    @functools.cached_property
    def next_equal(self) -> Ints:
        """The next row with the same value, in any key; n where there is none."""
        codes = self.array.dictionary_encode().indices.fill_null(-1).to_numpy()
        order = np.argsort(codes, kind="stable")
        following = np.full(len(codes), len(codes))
        same = codes[order[1:]] == codes[order[:-1]]
        following[order[:-1][same]] = order[1:][same]
        return following


def _running(mask: Mask) -> Ints:
    totals = np.zeros(len(mask) + 1, np.int64)
    np.cumsum(mask, out=totals[1:])
    return totals


def _feature(ordered: _Ordered, feature: RollingFeature, ranks: Ints, late: Mask) -> pa.Array:
    """Computes the feature of the events at these sorted indices (`ranks`)."""
    if feature.op == "late":
        return pa.array(late.astype(np.int64))
    window = micros(feature.window)
    all_starts = ordered.starts(window)
    starts, ends = all_starts[ranks], ranks + 1
    if feature.op == "count":
        return pa.array(ends - starts)
    if feature.op == "time_since_last":
        return _time_since_last(ordered, starts, ranks)
    column = ordered.column(feature.column or "")
    match feature.op:
        case "distinct":
            return pa.array(_distinct(column, all_starts)[ranks])
        case "sum" if column.values.dtype == np.int64:
            return _int_sum(column, starts, ends)
        case "sum":
            counts = column.counts[ends] - column.counts[starts]
            return pa.array(column.float_sums(window, starts, ends), mask=counts == 0)
        case "mean":
            counts = column.counts[ends] - column.counts[starts]
            sums = column.float_sums(window, starts, ends)
            return pa.array(sums / np.maximum(counts, 1), mask=counts == 0)
        case _:
            return _extreme(column, starts, ends, feature.op == "max")


def _time_since_last(ordered: _Ordered, starts: Ints, ranks: Ints) -> pa.Array:
    first = ranks == starts
    seconds = (ordered.times[ranks] - ordered.times[ranks - 1]) / _MICROS
    return pa.array(np.where(first, 0.0, seconds), mask=first)


def _distinct(column: _Column, starts: Ints) -> Ints:
    """Counts the distinct values in the window of each row.

    Each value counts in the windows that hold it but not its next equal. Since `starts` ascends, these are the windows
    of consecutive rows: from the value's own row until the next equal row, or until it has left the window. So add 1
    at the first of them, subtract 1 after the last, and take the running sum.
    """
    rows = np.flatnonzero(column.present)
    leaves = np.searchsorted(starts, rows, side="right")
    ends = np.minimum(column.next_equal[rows], leaves)
    changes = np.zeros(len(starts) + 1, np.int64)
    changes[rows] += 1
    changes -= np.bincount(ends, minlength=len(changes))
    return np.cumsum(changes)[:-1]


def _int_sum(column: _Column, starts: Ints, ends: Ints) -> pa.Array:
    totals, fits = column.sums.ints(starts, ends)
    return pa.array(totals, mask=~fits | (column.counts[ends] == column.counts[starts]))


def _float_sums(column: _Column, starts: Ints, ends: Ints) -> npt.NDArray[np.float64]:
    sums = column.sums.floats(starts, ends)
    if column.finite.all():
        return sums
    for found, result in ((np.inf, np.inf), (-np.inf, -np.inf)):
        sums = np.where(_any(column.values == found, starts, ends), result, sums)
    both = _any(column.values == np.inf, starts, ends) & _any(column.values == -np.inf, starts, ends)
    return np.where(both | _any(np.isnan(column.values), starts, ends), np.nan, sums)


def _any(mask: Mask, starts: Ints, ends: Ints) -> Mask:
    running = _running(mask)
    return running[ends] > running[starts]


def _extreme(column: _Column, starts: Ints, ends: Ints, greatest: bool) -> pa.Array:
    """Returns the least or greatest value of each range.

    At level k, `table[i]` is the best of the 2^k rows from i on. A range of 2^k to 2^(k+1) - 1 rows is covered by two
    such entries, one from its start and one up to its end::

        start                    end
          |------ 2^k ------|     |
          |     |------ 2^k ------|
    """
    best = np.maximum if greatest else np.minimum
    table = np.where(column.present, column.values, _worst(column.values.dtype, greatest))
    levels = np.frexp(ends - starts)[1] - 1
    result = np.zeros(len(starts), table.dtype)
    for level in range(int(levels.max(initial=-1)) + 1):
        rows = np.flatnonzero(levels == level)
        result[rows] = best(table[starts[rows]], table[ends[rows] - (1 << level)])
        table = best(table[: -(1 << level)], table[1 << level :])
    return pa.array(result, mask=column.counts[ends] == column.counts[starts])


def _worst(dtype: np.dtype, greatest: bool) -> float | int:
    if dtype == np.int64:
        limits = np.iinfo(np.int64)
        return limits.min if greatest else limits.max
    return -np.inf if greatest else np.inf
