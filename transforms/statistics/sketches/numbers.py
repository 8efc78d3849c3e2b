"""What is known of a column of numbers."""

import fractions
import math
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from penstock.io.kernel import statistics
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch, fixed_point
from penstock.transforms.statistics.sketches.state import Reader, Writer

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Sums are whole numbers of 2^-1074, the least float; sums of products have a multiple of the exponent.
_EXPONENT = 1074
# No integer of a column is as large.
_MAX_INT = 2.0**64
# No product of three doubles is as large, in units of 2^-3222.
_MOST_ZEROS = 6400
# Roots are computed from so many bits at least, more than twice those of a double.
_ROOT_BITS = 128


class _Moments:
    """Exact sums of weights w, of w * x and of w * x^2, and quantiles: what mean and variance follow from.

    Sums are exact, of any size: integers of arbitrary size take the mantissas, shifted by their exponents (Kulisch's
    accumulator). The properties are the exact quotients and roots, rounded once to the nearest float.

    Attributes:
      quantiles: of the numbers.
    """

    __slots__ = ("_squares", "_total", "quantiles")

    # The sum of the weights is in units of 2^-_SHIFT, and those of products in units smaller by 2^-1074 each.
    _SHIFT: ClassVar[int]
    _TAG: ClassVar[bytes]

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        self.quantiles = QuantileSketch()
        self._total = self._squares = 0

    @property
    def _mass(self) -> int:
        """The sum of the weights of the finite numbers."""
        raise NotImplementedError

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        self._total += other._total
        self._squares += other._squares
        self.quantiles.merge(other.quantiles)

    @property
    def sum(self) -> float:
        """The sum of w * x over the finite numbers; infinite where no float can hold it."""
        return _ratio(self._total, 1 << (self._SHIFT + _EXPONENT))

    @property
    def mean(self) -> float:
        """The mean of the finite numbers, sum(w * x) / sum(w); NaN where the weights sum to 0."""
        return _ratio(self._total, self._mass << _EXPONENT)

    @property
    def variance(self) -> float:
        """The variance of the finite numbers, sum(w * (x - mean)^2) / sum(w); NaN where the weights sum to 0."""
        return _ratio(*self._variance())

    @property
    def std_dev(self) -> float:
        """The root of the exact variance; finite even where the variance is not."""
        return _root(*self._variance())

    def _variance(self) -> tuple[int, int]:
        return self._mass * self._squares - self._total**2, self._mass**2 << (2 * _EXPONENT)

    def to_bytes(self) -> bytes:
        """Returns the state, about 200 bytes and that of the quantiles."""
        writer = Writer(self._TAG)
        self._put(writer)
        for total in (self._total, self._squares):
            _put_shifted(writer, total)
        return writer.put_blob(self.quantiles.to_bytes()).to_bytes()

    def _put(self, writer: Writer) -> None:
        """Writes what the sums of numbers are not."""
        raise NotImplementedError

    def _take(self, reader: Reader) -> None:
        """Reads what `_put` wrote."""
        raise NotImplementedError

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the sketch of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        reader = Reader(data, cls._TAG)
        sketch = cls()
        sketch._take(reader)
        sketch._total, sketch._squares = _take_shifted(reader), _take_shifted(reader)
        sketch.quantiles = QuantileSketch.from_bytes(reader.take_blob())
        reader.end()
        return sketch

    def __eq__(self, other: object) -> bool:
        """Whether both were given the same numbers and weights, as far as they can tell."""
        return isinstance(other, type(self)) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)


class NumberSketch(_Moments):
    """Counts, bounds, exact sums and quantiles of integers or floats.

    Each number has the weight 1. Integers, uint64 too, never pass through a float, but for the quantiles. NaN and
    infinities are counted and are in no sum. Zeros have one sign. Integers that are exact as floats give the same
    sketch as these floats.

    Memory: about 1 KiB, and that of the `QuantileSketch`.

    Attributes:
      quantiles: of all numbers but NaN, with infinities.
      count: how many numbers there are, NaN and infinities with them.
      nan: how many are NaN.
      positive_infinity: how many are infinite and positive.
      negative_infinity: how many are infinite and negative.
      zeros: how many are 0.
    """

    __slots__ = (
        "_greatest",
        "_least",
        "count",
        "nan",
        "negative_infinity",
        "positive_infinity",
        "zeros",
    )

    _SHIFT = 0
    _TAG = b"N1"

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        super().__init__()
        self.count = self.nan = self.positive_infinity = self.negative_infinity = self.zeros = 0
        self._least: int | float = math.inf
        self._greatest: int | float = -math.inf

    def update(self, values: pa.Array, counts: Ints | None = None) -> None:
        """Adds numbers.

        Args:
          values: integers or floats of any width, or booleans as 0 and 1, without nulls.
          counts: int64[n], how often each is there; None for once. `count_values` gives both, and with few different
            values, all of this takes less time.

        Raises:
          TypeError: for an array of another type.
          ValueError: for nulls; when there are not as many counts as values.
        """
        numbers = _as_numpy(values)
        counts = None if counts is None else np.ascontiguousarray(counts)
        self.count += len(numbers) if counts is None else int(counts.sum())
        if numbers.dtype == np.float64:
            self._update_floats(numbers, counts)
        elif len(numbers) and (counts is None or counts.any()):
            self._update_ints(numbers, counts)

    def _update_floats(self, values: Floats, counts: Ints | None) -> None:
        nan, positive, negative, zeros, least, greatest, total, squares = statistics.describe_floats(values, counts)
        self.nan += nan
        self.positive_infinity += positive
        self.negative_infinity += negative
        self.zeros += zeros
        self._widen(_canonical(least), _canonical(greatest))
        self._total += total
        self._squares += squares
        if nan or counts is not None:
            numbers = ~np.isnan(values)
            values, counts = values[numbers], None if counts is None else counts[numbers]
        self.quantiles.update_within(values, counts, least, greatest)

    def _update_ints(self, values: npt.NDArray[Any], counts: Ints | None) -> None:
        zeros, least, greatest, total, squares = statistics.describe_ints(values, counts)
        self.zeros += zeros
        self._widen(least, greatest)
        self._total += total << _EXPONENT
        self._squares += squares << (2 * _EXPONENT)
        self.quantiles.update_within(values.astype(np.float64), counts, float(least), float(greatest))

    def _widen(self, least: int | float, greatest: int | float) -> None:
        self._least = min(self._least, least)
        self._greatest = max(self._greatest, greatest)

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        super().merge(other)
        self.count += other.count
        self.nan += other.nan
        self.positive_infinity += other.positive_infinity
        self.negative_infinity += other.negative_infinity
        self.zeros += other.zeros
        self._widen(other._least, other._greatest)

    @property
    def finite(self) -> int:
        """How many numbers are finite."""
        return self.count - self.nan - self.positive_infinity - self.negative_infinity

    @property
    def _mass(self) -> int:
        return self.finite

    @property
    def finite_min(self) -> int | float | None:
        """The least finite number, an int where it is whole and below 2^64; None without any."""
        return self._least if self.finite else None

    @property
    def finite_max(self) -> int | float | None:
        """The greatest finite number, an int where it is whole and below 2^64; None without any."""
        return self._greatest if self.finite else None

    @property
    def min(self) -> int | float | None:
        """The least number but NaN, an int where it is whole and below 2^64; None without any."""
        if self.negative_infinity:
            return -math.inf
        return self.finite_min if self.finite else math.inf if self.positive_infinity else None

    @property
    def max(self) -> int | float | None:
        """The greatest number but NaN, an int where it is whole and below 2^64; None without any."""
        if self.positive_infinity:
            return math.inf
        return self.finite_max if self.finite else -math.inf if self.negative_infinity else None

    @property
    def exact_sum(self) -> fractions.Fraction:
        """The sum of the finite numbers."""
        return fractions.Fraction(self._total, 1 << _EXPONENT)

    @property
    def exact_sum_of_squares(self) -> fractions.Fraction:
        """The sum of the squares of the finite numbers."""
        return fractions.Fraction(self._squares, 1 << (2 * _EXPONENT))

    @property
    def sum_of_squares(self) -> float:
        """The sum of the squares of the finite numbers, rounded to the nearest float."""
        return _ratio(self._squares, 1 << (2 * _EXPONENT))

    def _put(self, writer: Writer) -> None:
        for count in (self.count, self.nan, self.positive_infinity, self.negative_infinity, self.zeros):
            writer.put_int(count)
        for bound in (self._least, self._greatest):
            writer.put_int(isinstance(bound, int))
            writer.put_int(bound) if isinstance(bound, int) else writer.put_float(bound)

    def _take(self, reader: Reader) -> None:
        self.count, self.nan = reader.take_count(), reader.take_count()
        self.positive_infinity, self.negative_infinity = reader.take_count(), reader.take_count()
        self.zeros = reader.take_count()
        self._least, self._greatest = _take_bound(reader), _take_bound(reader)


class WeightedNumbers(_Moments):
    """Weighted sums and quantiles of the finite numbers of a column.

    Sums are of weights and numbers as doubles: the products too are exact. Quantiles
    take weights rounded by `fixed_point`.

    Attributes:
      quantiles: whose counts are weights in units of WEIGHT_UNIT.
    """

    __slots__ = ("_weight",)

    _SHIFT = _EXPONENT
    _TAG = b"W1"

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        super().__init__()
        self._weight = 0

    def update(self, values: pa.Array, weights: Floats) -> None:
        """Adds numbers with their weights.

        Args:
          values: as in `NumberSketch.update`; what is not finite is left out, with its weight.
          weights: float64[n].

        Raises:
          TypeError: for an array of another type.
          ValueError: for nulls; for weights that `fixed_point` refuses; when there are not as many as values.
        """
        numbers = _as_numpy(values).astype(np.float64)
        if len(weights) != len(numbers):
            raise ValueError(f"weights must be as many as the values, got {len(weights)} for {len(numbers)}")
        counts = fixed_point(weights)
        finite = np.isfinite(numbers)
        if not finite.all():
            numbers, weights, counts = numbers[finite], weights[finite], counts[finite]
        weight, total, squares = statistics.weighted_sums(numbers, np.ascontiguousarray(weights))
        self._weight += weight
        self._total += total
        self._squares += squares
        self.quantiles.update(numbers, counts)

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        super().merge(other)
        self._weight += other._weight

    @property
    def weight(self) -> float:
        """The sum of the weights of the finite numbers, rounded to the nearest float."""
        return _ratio(self._weight, 1 << _EXPONENT)

    @property
    def _mass(self) -> int:
        return self._weight

    def _put(self, writer: Writer) -> None:
        _put_shifted(writer, self._weight)

    def _take(self, reader: Reader) -> None:
        self._weight = _take_shifted(reader)


def _as_numpy(values: pa.Array) -> npt.NDArray[Any]:
    """Returns numbers as float64[n], int64[n] or uint64[n]."""
    if values.null_count:
        raise ValueError(f"numbers must have no nulls, got {values.null_count}; drop and count them before")
    if types.is_floating(values.type):
        return values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if types.is_uint64(values.type):
        return values.to_numpy(zero_copy_only=False)
    if types.is_integer(values.type) or types.is_boolean(values.type):
        return values.cast(pa.int64()).to_numpy(zero_copy_only=False)
    raise TypeError(f"numbers must be integers, floats or booleans, got {values.type}")


def _canonical(bound: float) -> int | float:
    """Returns a whole number as an int where an int column may hold it, so that equal bounds of both are the same."""
    return int(bound) if bound.is_integer() and abs(bound) < _MAX_INT else bound


def _ratio(numerator: int, denominator: int) -> float:
    """Returns the nearest float to a quotient, infinite where none is near, NaN for 0 / 0."""
    if not denominator:
        return math.nan
    try:
        return numerator / denominator
    except OverflowError:
        return math.inf if numerator > 0 else -math.inf


def _root(numerator: int, denominator: int) -> float:
    """Returns the nearest float to the root of a quotient that is not negative; NaN for 0 / 0."""
    if not denominator:
        return math.nan
    # Scale by a power of four, so that the whole part of the root has more bits than a float. A last bit stands for
    # all that is cut off, as in `float`.
    shift = max(0, _ROOT_BITS + denominator.bit_length() - numerator.bit_length()) // 2 + 1
    quotient, rest = divmod(numerator << (2 * shift), denominator)
    root = math.isqrt(quotient)
    is_inexact = rest or root * root != quotient
    return _ratio(2 * root + bool(is_inexact), 2 << shift)


def _put_shifted(writer: Writer, total: int) -> None:
    """Writes a sum without the zeros at its end, of which there are a thousand."""
    zeros = (total & -total).bit_length() - 1 if total else 0
    writer.put_int(zeros).put_int(total >> zeros)


def _take_shifted(reader: Reader) -> int:
    zeros = reader.take_count(0, _MOST_ZEROS)
    return reader.take_int() << zeros


def _take_bound(reader: Reader) -> int | float:
    return reader.take_int() if reader.take_int() else reader.take_float()
