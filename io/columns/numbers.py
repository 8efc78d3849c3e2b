"""Counts the numbers of a column, so that inference can say which kinds hold all of them."""

import dataclasses
from typing import Self

import numpy as np
import numpy.typing as npt

from penstock.io.columns.float32 import MAX_EXACT_WHOLE, Distinct, Doubles, Images, losing
from penstock.io.columns.grammar import MAX_EXACT_INT, TextNumbers, beyond_exact
from penstock.io.kernel.shared.numbers import Mask, float32_overflow

# Up to so many distinct values, or float32 images of values, are all known; beyond, their number is an estimate.
MAX_DISTINCT = 1024

Ints = npt.NDArray[np.int64]

_NO_INTS: Ints = np.zeros(0, np.int64)
_NO_FLOATS: Doubles = np.zeros(0)


@dataclasses.dataclass(frozen=True, eq=False)
class NumberCounts:
    """Counts the numbers of a column. `NumberCounts()`, of none, changes nothing when it is merged.

    A number is counted in one of the first four; the others are parts of these.

    Attributes:
      ints: whole numbers within int64, spelled without fraction and exponent, or of an integer type.
      wholes: whole numbers that are spelled with one, or of a floating type, and that INT holds exactly.
      beyond: other whole numbers that only FLOAT holds.
      fractions: all other FLOATs, NaN, infinity and -0 among them.
      specials: NaN and infinity.
      wide: ints and wholes beyond 2^53 either way, which would lose digits among doubles.
      inexact: ints and wholes that float32 does not hold exactly.
      large: whole numbers beyond 2^24 either way, up to which float32 holds all.
      large_losing: those that lose digits as FLOAT (`penstock.io.columns.float32`).
      fractions_losing: fractions that do.
      least_losing: the least number that does; infinity for none.
      distinct, images: the distinct numbers and their float32 images, of the batches in which any loses digits that
        only FLOAT can hold; whole numbers up to 2^24 are left out.
    """

    ints: int = 0
    wholes: int = 0
    beyond: int = 0
    fractions: int = 0
    specials: int = 0
    wide: int = 0
    inexact: int = 0
    large: int = 0
    large_losing: int = 0
    fractions_losing: int = 0
    least_losing: float = np.inf
    distinct: Distinct = dataclasses.field(default_factory=lambda: Distinct.of(_NO_FLOATS, MAX_DISTINCT))
    images: Images = dataclasses.field(default_factory=lambda: Images.of(_NO_FLOATS, MAX_DISTINCT))

    @property
    def total(self) -> int:
        """The number of numbers."""
        return self.ints + self.wholes + self.beyond + self.fractions

    @property
    def losing(self) -> int:
        """How many lose digits as FLOAT."""
        return self.large_losing + self.fractions_losing

    @property
    def are_ids(self) -> bool:
        """Whether FLOAT would make other numbers of what may be ids: most are large and whole, and some lose digits."""
        return self.large_losing > 0 and 2 * self.large > self.total - self.specials

    def merge(self, other: Self) -> Self:
        """Counts the numbers of both; commutative and associative."""
        merged = {
            field.name: getattr(self, field.name) + getattr(other, field.name)
            for field in dataclasses.fields(self)
            if isinstance(getattr(self, field.name), int)
        }
        return dataclasses.replace(
            self,
            **merged,
            least_losing=min(self.least_losing, other.least_losing),
            distinct=self.distinct.merge(other.distinct),
            images=self.images.merge(other.images),
        )


def count_texts(numbers: TextNumbers) -> NumberCounts:
    """Counts the numbers that texts are spelled as."""
    return _count(numbers.ints, numbers.wholes, numbers.beyond, numbers.fractions)


def count_ints(values: Ints) -> NumberCounts:
    """Counts int64[n] of an integer type."""
    return _count(values, _NO_INTS, _NO_FLOATS, _NO_FLOATS)


def count_doubles(values: Doubles) -> tuple[NumberCounts, int]:
    """Counts float64[n] of a floating type; also returns how many finite ones are beyond float32, and not counted."""
    overflows = float32_overflow(values)
    if overflows.any():
        values = values[~overflows]
    whole = np.isfinite(values) & (np.floor(values) == values) & ~((values == 0) & np.signbit(values))
    exact = whole & (np.abs(values) <= MAX_EXACT_INT)
    counts = _count(_NO_INTS, values[exact].astype(np.int64), values[whole & ~exact], values[~whole])
    return counts, int(overflows.sum())


def _count(ints: Ints, wholes: Ints, beyond: Doubles, fractions: Doubles) -> NumberCounts:
    counts = NumberCounts(len(ints), len(wholes), len(beyond), len(fractions))
    if len(fractions):
        counts = counts.merge(_count_fractions(fractions))
    for integers in (ints, wholes):
        if _are_large(integers):
            counts = counts.merge(_count_large(integers))
    if len(beyond):
        lost = losing(beyond)
        least = beyond[lost].min(initial=np.inf)
        counts = counts.merge(NumberCounts(large=len(beyond), large_losing=int(lost.sum()), least_losing=float(least)))
    if counts.losing and (len(beyond) or len(fractions)):
        counts = counts.merge(_collect(np.concatenate([ints, wholes, beyond, fractions], dtype=np.float64)))
    return counts


def _are_large(values: Ints) -> bool:
    return len(values) > 0 and max(int(values.max()), -int(values.min())) > MAX_EXACT_WHOLE


def _count_fractions(values: Doubles) -> NumberCounts:
    lost = losing(values)
    return NumberCounts(
        specials=int((~np.isfinite(values)).sum()),
        fractions_losing=int(lost.sum()),
        least_losing=float(values[lost].min(initial=np.inf)),
    )


def _count_large(values: Ints) -> NumberCounts:
    """Counts whole numbers, some of which are beyond 2^24."""
    doubles = values.astype(np.float64)
    inexact, lost = losing_wholes(values, doubles)
    return NumberCounts(
        wide=int(beyond_exact(values).sum()),
        inexact=int(inexact.sum()),
        large=int((np.abs(doubles) > MAX_EXACT_WHOLE).sum()),
        large_losing=int(lost.sum()),
        least_losing=float(doubles[lost].min(initial=np.inf)),
    )


def losing_wholes(values: Ints, doubles: Doubles) -> tuple[Mask, Mask]:
    """Marks whole numbers that float32 does not hold exactly, and those of them that lose digits.

    Args:
      values: int64[n].
      doubles: float64[n], the nearest ones.
    """
    inexact = doubles.astype(np.float32) != doubles
    rows = np.flatnonzero(inexact)
    lost = inexact.copy()
    # The shortest decimal of a float32 beyond 2^24 either is the number itself, or ends in a zero.
    hard = rows[values[rows] % 10 == 0]
    lost[hard] = losing(doubles[hard])
    return inexact, lost


def _collect(values: Doubles) -> NumberCounts:
    small = (np.abs(values) <= MAX_EXACT_WHOLE) & (np.floor(values) == values)
    values = values[~small & np.isfinite(values)]
    return NumberCounts(distinct=Distinct.of(values, MAX_DISTINCT), images=Images.of(values, MAX_DISTINCT))
