"""Sums of floats that are exact, so that no order of the values, or of merging, changes a bit of the result."""

import math
from typing import Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The least float is 2^-1074. A mantissa of 53 bits is a whole number, and so are both of its halves.
_LEAST_EXPONENT = -1074
_MANTISSA = 53
_HALF = 26
_HALF_MASK = (1 << _HALF) - 1


class ExactSum:
    """The sum of finite floats: a whole number of 2^-1074, of any size.

    The idea is that of Kulisch's accumulator. The value is the exact sum, rounded once, as that of `math.fsum`; it is
    infinite where a float cannot hold it.
    """

    __slots__ = ("scaled",)

    def __init__(self, scaled: int = 0) -> None:
        """Makes the sum of nothing, or that which is `scaled` times 2^-1074."""
        self.scaled = scaled

    def add(self, values: Floats) -> None:
        """Adds float64[n], all finite; n is at most 2^26."""
        if not len(values):
            return
        fractions, exponents = np.frexp(values)
        mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
        # Subnormal floats have fewer bits: their mantissas end with zeros, which are shifted out below.
        places = exponents.astype(np.int64) - (_MANTISSA + _LEAST_EXPONENT)
        least = int(places.min())
        # A bin sums at most 2^26 numbers of at most 27 bits: exact as float64.
        lows = np.bincount(places - least, mantissas & _HALF_MASK)
        highs = np.bincount(places - least, mantissas >> _HALF)
        for index in np.flatnonzero((lows != 0) | (highs != 0)).tolist():
            whole = (int(highs[index]) << _HALF) + int(lows[index])
            place = least + index
            self.scaled += whole << place if place >= 0 else whole >> -place

    def add_int(self, value: int) -> None:
        """Adds a whole number."""
        self.scaled += value << -_LEAST_EXPONENT

    def merge(self, other: Self) -> None:
        """Adds another sum."""
        self.scaled += other.scaled

    def __eq__(self, other: object) -> bool:
        """Whether both sums are the same."""
        return isinstance(other, ExactSum) and self.scaled == other.scaled

    __hash__ = None  # type: ignore[assignment]

    @property
    def value(self) -> float:
        """The sum, rounded to the nearest float."""
        return ratio(self.scaled, 1 << -_LEAST_EXPONENT)


def ratio(numerator: int, denominator: int) -> float:
    """Returns the nearest float to a quotient of whole numbers, infinite where it is too large, NaN for 0 / 0."""
    if not denominator:
        return math.nan if not numerator else math.copysign(math.inf, numerator)
    try:
        return numerator / denominator
    except OverflowError:
        return math.copysign(math.inf, numerator)
