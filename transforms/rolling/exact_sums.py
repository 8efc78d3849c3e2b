"""Sums ranges of rows exactly and rounds once, so the result does not depend on the order of the rows.

Each number is split into digits of 32 bits, at positions that are the same for all floats. Digits are integers and are
summed without error, so the digits of a range are the difference of two running totals, whatever came before the range.
This is the idea of Kulisch's accumulator, and the result is that of `math.fsum`.
"""

import dataclasses
from typing import Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_BITS = 32
_DIGIT = (1 << _BITS) - 1
# Blocks of this many rows stay in a processor's cache.
_BLOCK_ROWS = 8192
# Bits of a float's mantissa.
_MANTISSA = 53
# The exponent of the lowest digit. The least float, 2**-1074, is a mantissa of 53 bits times 2**-1126.
_LEAST_EXPONENT = -1152


@dataclasses.dataclass(frozen=True)
class ExactSums:
    """Holds the running totals of a column.

    Attributes:
      totals: for each digit, int64[n + 1]: the totals of all rows before each row. The least digit comes first; only
        the greatest has a sign.
      exponent: the exponent of the least digit's lowest bit.
    """

    totals: tuple[Ints, ...]
    exponent: int

    @classmethod
    def of_ints(cls, values: Ints) -> Self:
        """Makes the totals of integers."""
        return cls(_totals([values & _DIGIT, values >> _BITS]), 0)

    @classmethod
    def of_floats(cls, values: Floats) -> Self:
        """Makes the totals of finite floats."""
        digits, exponent = _float_digits(values)
        return cls(_totals(digits), exponent)

    def ints(self, starts: Ints, ends: Ints) -> tuple[Ints, Mask]:
        """Returns the sums of integers over [start, end), and which fit int64; the others are 0."""
        digits = self._digits(starts, ends)
        low, high, top = digits[0], digits[1], digits[2]
        fits = np.where(top == 0, high < 1 << 31, (top == -1) & (high >= 1 << 31))
        return np.where(fits, (high << _BITS) | low, 0), fits

    def floats(self, starts: Ints, ends: Ints) -> Floats:
        """Returns the sums over [start, end), rounded to the nearest float, half to even; infinite where too large."""
        sums = np.empty(len(starts))
        for first in range(0, len(starts), _BLOCK_ROWS):
            block = slice(first, first + _BLOCK_ROWS)
            sums[block] = self._floats(starts[block], ends[block])
        return sums

    def _floats(self, starts: Ints, ends: Ints) -> Floats:
        digits = self._digits(starts, ends)
        sign = np.where(digits[-1] < 0, -1, 1)
        digits *= sign
        _carry(digits)
        return _round(digits, self.exponent) * sign

    def _digits(self, starts: Ints, ends: Ints) -> Ints:
        digits = np.empty((len(self.totals), len(starts)), np.int64)
        for index, totals in enumerate(self.totals):
            np.subtract(totals.take(ends), totals.take(starts), out=digits[index])
        _carry(digits)
        return digits


def _totals(digits: list[Ints]) -> tuple[Ints, ...]:
    """Returns running totals, with one more digit for carries: up to 2**29 rows may be summed."""
    rows = len(digits[0])
    return (*(np.concatenate([[0], np.cumsum(values)]) for values in digits), np.zeros(rows + 1, np.int64))


def _carry(digits: Ints) -> None:
    """Carries, so that all digits but the greatest lie in [0, 2**32)."""
    for index in range(len(digits) - 1):
        digits[index + 1] += digits[index] >> _BITS
        digits[index] &= _DIGIT


def _float_digits(values: Floats) -> tuple[list[Ints], int]:
    """Splits floats into the digits that any of them uses; returns these and the exponent of the first.

    A mantissa of 53 bits, shifted to its position, spans up to three digits of 32 bits::

        mantissa                [ high: 21 bits | low: 32 bits ] << shift
        digits    [   part 2   |     part 1     |    part 0    ]
    """
    fractions, exponents = np.frexp(values)
    mantissas = np.ldexp(np.abs(fractions), _MANTISSA).astype(np.int64)
    lowest, shifts = np.divmod(exponents.astype(np.int64) - _MANTISSA - _LEAST_EXPONENT, _BITS)
    low, high = (mantissas & _DIGIT) << shifts, (mantissas >> _BITS) << shifts
    sign = np.where(values < 0, -1, 1)
    parts = [low & _DIGIT, (low >> _BITS) + (high & _DIGIT), high >> _BITS]
    first, last = (int(lowest.min()), int(lowest.max())) if len(values) else (0, 0)
    digits = [np.zeros(len(values), np.int64) for _ in range(first, last + len(parts))]
    for index in range(first, last + 1):
        rows = lowest == index
        for offset, part in enumerate(parts):
            digits[index - first + offset] += np.where(rows, sign * part, 0)
    return digits, _LEAST_EXPONENT + _BITS * first


def _round(digits: Ints, exponent: int) -> Floats:
    """Rounds numbers, given as non-negative digits, to floats.

    The greatest 64 bits of each are rounded by the processor. Their last bit is set if any lower bit is: that decides
    ties as well as all lower bits would, since a float has only 53::

        digits, greatest first    0000001x | xxxxxxxx | xxxxxxxx | ...
                                     first     second      third
        64 bits                         1x   xxxxxxxx   xxxxxx?        ?: whether any bit below is set
    """
    padded = np.concatenate([np.zeros((2, digits.shape[1]), np.int64), digits]).astype(np.uint64)
    columns = np.arange(digits.shape[1])
    used = padded != 0
    top = np.maximum(len(padded) - 1 - np.argmax(used[::-1], axis=0), 2)
    first, second, third = (padded[top - below, columns] for below in range(3))
    shift = (_BITS - np.frexp(first.astype(np.float64))[1]).astype(np.uint64)
    rest = np.uint64(_BITS) - shift
    below = (third & ((np.uint64(1) << rest) - np.uint64(1))) != 0
    below |= np.argmax(used, axis=0) < top - 2
    bits = (first << (np.uint64(_BITS) + shift)) | (second << shift) | (third >> rest) | below
    scale = exponent + _BITS * (top - 4) + rest.astype(np.int64)
    with np.errstate(over="ignore"):
        return np.ldexp(np.where(first == 0, np.uint64(0), bits).astype(np.float64), scale.astype(np.int32))
