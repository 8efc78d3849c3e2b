"""Quantiles, ranks and histograms of numbers, from a histogram whose buckets the data alone decides."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.io.kernel import statistics
from penstock.transforms.statistics.sketches.state import Reader, Writer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

MAX_BUCKETS = 4096

# A weight is counted in whole numbers of this.
WEIGHT_UNIT = 2.0**-24
_MAX_WEIGHT = 2.0**32

_TAG = b"Q1"
_SIGN = np.uint64(1 << 63)
_LEAST_NUMBER = 2.0**-1074
# Bits of the 64 that are no mantissa.
_HEAD_BITS = 12


class QuantileSketch:
    """A histogram of numbers, each of them as a double; no NaN, but infinities.

    A double's 64 bits, with the sign turned around, have the order of the numbers. A bucket holds the numbers that have
    the same upper bits; as many bits are kept as leave at most 4,096 buckets filled. Up to 4,096 different numbers are
    exact. With more, a bucket spans numbers that differ relatively by less than `error`, 2^(12 - bits): 0.8 % for
    normally distributed numbers, 0.2 % for evenly distributed ones, 3 * 10^-8 for the seconds of a day as they are
    counted since 1970, and a factor of two at worst, where the numbers fill every exponent. Subnormal numbers differ by
    less than that of the least normal number.

    Ranks at the borders of buckets are exact; within one, numbers are taken to lie evenly. Integers beyond 2^53 are
    rounded to the nearest double.

    Counts may be weights: see `fixed_point`. Memory: at most 128 KiB, 16 bytes for each of twice as many slots as there
    are buckets.
    """

    __slots__ = ("_buckets", "_filled", "_greatest", "_least", "_limit")

    def __init__(self, limit: int = MAX_BUCKETS) -> None:
        """Makes the sketch of nothing; `limit` is another number of buckets instead of 4,096, at least as large."""
        self._limit = limit
        self._buckets = statistics.Buckets(limit)
        self._least = np.inf
        self._greatest = -np.inf
        # What `buckets` has returned, until something is added.
        self._filled: tuple[Floats, Floats, Ints] | None = None

    def update(self, values: Floats, counts: Ints | None = None) -> None:
        """Adds float64[n], of which none is NaN, each `counts` times (int64[n], not negative), or once.

        Raises:
          ValueError: when `counts` are not as many as `values`.
        """
        if counts is not None and len(counts) != len(values):
            raise ValueError(f"counts must be as many as the values, got {len(counts)} for {len(values)}")
        finite = values[np.isfinite(values)] if counts is None else values[np.isfinite(values) & (counts != 0)]
        self.update_within(values, counts, float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf)))

    def update_within(self, values: Floats, counts: Ints | None, least: float, greatest: float) -> None:
        """Does the same where the least and greatest finite value are known (infinity and -infinity without any)."""
        self._widen(least, greatest)
        self._buckets.add(np.ascontiguousarray(values), None if counts is None else np.ascontiguousarray(counts))

    def _widen(self, least: float, greatest: float) -> None:
        self._filled = None
        self._least = min(self._least, least + 0.0)
        self._greatest = max(self._greatest, greatest + 0.0)

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        self._widen(other._least, other._greatest)
        self._buckets.merge(*other._buckets.items(), other._buckets.bits())

    @property
    def count(self) -> int:
        """How many numbers there are, or the sum of their counts."""
        return int(self._buckets.items()[1].sum())

    @property
    def error(self) -> float:
        """By how much a number and the answer that stands for it differ at most, relatively; 0 where exact."""
        bits = self._buckets.bits()
        return 0.0 if bits == 64 else 2.0 ** (_HEAD_BITS - bits)

    def buckets(self) -> tuple[Floats, Floats, Ints]:
        """Returns the filled buckets in ascending order: least and greatest number that may be in each, and its count.

        float64[m], float64[m], int64[m]. Both numbers are the same where a bucket holds only one, and lie within the
        least and greatest finite number that was added. Infinities have buckets of their own. The arrays must not be
        changed.
        """
        if self._filled is None:
            self._filled = self._fill()
        return self._filled

    def _fill(self) -> tuple[Floats, Floats, Ints]:
        keys, counts = self._buckets.items()
        spread = np.uint64((1 << (64 - self._buckets.bits())) - 1)
        lows, highs = _numbers(keys), _numbers(keys | spread)
        # What lies beyond an infinity in its bucket is NaN, and what below 0 is nearest to it in form is -0.0.
        is_least, is_greatest = ~(lows > -np.inf), ~(highs < np.inf)
        highs = np.where((highs == 0) & (lows < 0), -_LEAST_NUMBER, highs)
        lows, highs = np.maximum(lows, self._least), np.minimum(highs, self._greatest)
        for ends in (lows, highs):
            ends[is_least], ends[is_greatest] = -np.inf, np.inf
        return lows, highs, counts

    def quantile(self, q: float) -> float:
        """Returns a number of about rank q * count: see `quantiles_at`."""
        return float(self.quantiles_at(np.array([q]))[0])

    def quantiles(self, n: int) -> Floats:
        """Returns float64[n + 1], the borders of n buckets of equal mass; the first and last are least and greatest."""
        return self.quantiles_at(np.arange(n + 1) / n)

    def quantiles_at(self, q: Floats) -> Floats:
        """Returns float64[n], numbers of about rank q * count, for q in [0, 1]; NaN where there are no numbers.

        The number of rank ceil(q * count) in ascending order, counted from 1, lies in the same bucket, so the answer
        differs from it by at most `error`, relatively.
        """
        lows, highs, counts = self.buckets()
        if not counts.sum():
            return np.full(len(q), np.nan)
        ends = np.cumsum(counts)
        targets = np.asarray(q, np.float64) * float(ends[-1])
        places = np.minimum(np.searchsorted(ends, targets), len(ends) - 1)
        shares = np.clip((targets - (ends - counts)[places]) / counts[places], 0.0, 1.0)
        return _between(lows[places], highs[places], shares)

    def rank(self, value: float) -> float:
        """Returns about how many numbers are at most `value`; exact at the borders of buckets."""
        return float(self.ranks(np.array([value]))[0])

    def ranks(self, values: Floats) -> Floats:
        """Returns float64[n], for each value about how many numbers are at most that."""
        return self._masses(values, include_equal=True)

    def cdf(self, values: Floats) -> Floats:
        """Returns float64[n], for each value the share of the numbers that are at most that; NaN without numbers."""
        return self.ranks(values) / self.count if self.count else np.full(len(values), np.nan)

    def histogram(self, edges: Floats) -> Floats:
        """Returns float64[n - 1], about how many numbers lie from each edge up to the next.

        The last edge belongs to the last range. What is outside the edges is in none. A bucket that an edge cuts is
        shared out as if its numbers lay evenly; where the sketch is exact, so is the result.
        """
        below = self._masses(edges[:-1], include_equal=False)
        return np.diff(np.append(below, self._masses(edges[-1:], include_equal=True)))

    def _masses(self, values: Floats, include_equal: bool) -> Floats:
        lows, highs, counts = self.buckets()
        values = np.asarray(values, np.float64)
        ends = np.concatenate([[0], np.cumsum(counts)])
        # Buckets do not overlap, so only the last that begins at or below a value can hold more than it.
        begun = np.searchsorted(lows, values, side="right" if include_equal else "left")
        last = np.maximum(begun - 1, 0)
        if not len(counts):
            return np.zeros(len(values))
        with np.errstate(invalid="ignore"):
            widths = highs[last] - lows[last]
            shares = np.where(widths > 0, (values - lows[last]) / np.where(widths > 0, widths, 1.0), 1.0)
        return np.where(begun > 0, ends[last] + counts[last] * np.clip(shares, 0.0, 1.0), 0.0)

    def to_bytes(self) -> bytes:
        """Returns the state, about 3 to 6 bytes a bucket."""
        keys, counts = self._buckets.items()
        bits = self._buckets.bits()
        steps = np.diff(keys >> np.uint64(64 - bits), prepend=np.uint64(0))
        writer = Writer(_TAG).put_int(bits).put_uints(steps).put_uints(counts)
        return writer.put_float(self._least).put_float(self._greatest).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes, limit: int = MAX_BUCKETS) -> Self:
        """Returns the sketch of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        reader = Reader(data, _TAG)
        bits = reader.take_count(_HEAD_BITS, 64)
        keys = np.cumsum(reader.take_uints(), dtype=np.uint64) << np.uint64(64 - bits)
        counts = reader.take_ints()
        reader.check(len(keys) == len(counts))
        sketch = cls(limit)
        sketch._buckets.merge(keys, counts, bits)
        sketch._least, sketch._greatest = reader.take_float(), reader.take_float()
        reader.end()
        return sketch

    def __eq__(self, other: object) -> bool:
        """Whether both were given the same numbers, as far as they can tell."""
        return isinstance(other, QuantileSketch) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(), self._limit)


def fixed_point(weights: Floats) -> Ints:
    """Returns weights as int64[n], each the nearest whole number of WEIGHT_UNIT (2^-24).

    Sums of them depend on no order. A weight of 1 or a small fraction such as 0.25 is exact; one below 2^-25 becomes 0,
    so weights should be scaled to be near 1. In all, weights may sum to 2^39.

    Raises:
      ValueError: for a weight that is negative, not finite, or 2^32 or more.
    """
    bad = ~((weights >= 0) & (weights < _MAX_WEIGHT))
    if bad.any():
        raise ValueError(f"weights must be finite, not negative and below 2^32, got {weights[bad][0]}")
    return np.rint(weights / WEIGHT_UNIT).astype(np.int64)


def _numbers(keys: Keys) -> Floats:
    """Returns the doubles of the 64-bit forms."""
    return np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float64)


def _between(lows: Floats, highs: Floats, shares: Floats) -> Floats:
    with np.errstate(invalid="ignore"):
        inner = lows + (highs - lows) * shares
    return np.where(lows == highs, lows, np.clip(inner, lows, highs))
