"""Pairs of columns: which are present together, and how numbers vary together; both exact.

Only the first columns by name are looked at, since the number of pairs grows with the square of the columns. As columns
may differ from batch to batch, each batch takes its first ones; those that are not among the first of all are left out
when it is merged. The first ones of all are among the first of each batch that has them, so nothing is missed.
"""

import dataclasses
import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.transforms.statistics.sketches.sums import ratio

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
# Matrices of Python's integers, of any size.
Objects = npt.NDArray[np.object_]

# A slice of a number has so many bits: the product of two, summed over so many rows, is exact as float64.
_SLICE_BITS = 19
_BLOCK_ROWS = 1 << (53 - 2 * _SLICE_BITS)

# The units of sums and of sums of products: the least float, and its square.
_UNIT = -1074
_SQUARE_UNIT = 2 * _UNIT

# If so many numbers are whole, the others may be.
_FEW = 256

# Beyond it, a power of two is no float.
_LARGEST_POWER = 1023


@dataclasses.dataclass
class PresentTogether:
    """Counts the rows in which both of two columns are present. An empty list is present.

    Attributes:
      limit: how many columns are looked at.
      names: sorted.
      counts: int64[k, k], by the order of names.
    """

    limit: int
    names: list[str] = dataclasses.field(default_factory=list)
    counts: Ints = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.int64))

    def add(self, present: dict[str, Flags]) -> None:
        """Adds rows: for each column, bool[n]."""
        names = sorted(present)[: self.limit]
        if not names:
            return
        counts = np.zeros((len(names), len(names)), np.int64)
        partial = [index for index, name in enumerate(names) if not present[name].all()]
        sizes = np.array([np.count_nonzero(present[name]) for name in names], np.int64)
        # Beside a column that is present in each row, the other is present as often as it is.
        counts[:] = np.minimum(sizes[:, None], sizes[None, :])
        if partial:
            flags = np.stack([present[names[index]] for index in partial]).astype(np.float32)
            # Sums of ones are exact as float32 up to 2^24 rows.
            counts[np.ix_(partial, partial)] = np.rint(flags @ flags.T).astype(np.int64)
        self.merge(PresentTogether(self.limit, names, counts))

    def merge(self, other: Self) -> None:
        """Adds the counts of another."""
        names = sorted({*self.names, *other.names})[: self.limit]
        if names == self.names == other.names:
            self.counts = self.counts + other.counts
            return
        self.counts = _placed(self.counts, self.names, names) + _placed(other.counts, other.names, names)
        self.names = names

    def missing_with(self, name: str, rows: int) -> dict[str, int]:
        """Returns, by the other column, in how many of all `rows` rows both are missing; without zeros."""
        if name not in self.names:
            return {}
        index = self.names.index(name)
        sizes = np.diagonal(self.counts)
        both = rows - sizes[index] - sizes + self.counts[index]
        return {
            other: count for other, count in zip(self.names, both.tolist(), strict=True) if other != name and count > 0
        }

    def to_state(self) -> list[Any]:
        """Returns plain values."""
        return [self.names, [row[index:] for index, row in enumerate(self.counts.tolist())]]

    @classmethod
    def from_state(cls, limit: int, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        names, rows = state
        counts = np.zeros((len(names), len(names)), np.int64)
        for index, row in enumerate(rows):
            counts[index, index:] = counts[index:, index] = row
        return cls(limit, list(names), counts)


@dataclasses.dataclass(frozen=True)
class Covariance:
    """How two columns of numbers vary together.

    Attributes:
      first, second: their names, in order.
      count: the rows that have exactly one finite number in each.
      covariance: E[xy] - E[x] E[y] over these rows, from exact sums, rounded once.
      correlation: Pearson's; NaN if either column is constant in these rows.
    """

    first: str
    second: str
    count: int
    covariance: float
    correlation: float


@dataclasses.dataclass
class NumericPairs:
    """Sums of products of columns of numbers, over the rows that have one finite number in each of the two.

    Integers beyond 2^53 are taken as the nearest doubles. All sums are exact.

    Attributes:
      limit: how many columns are looked at.
      names: sorted.
      counts: int64[k, k], the rows.
      sums: [k, k], at i, j the sum of column i over these rows, in units of 2^-1074.
      squares: the sum of its squares, in units of 2^-2148.
      products: the sum of the products of i and j, in the same units.
    """

    limit: int
    names: list[str] = dataclasses.field(default_factory=list)
    counts: Ints = dataclasses.field(default_factory=lambda: np.zeros((0, 0), np.int64))
    sums: Objects = dataclasses.field(default_factory=lambda: np.zeros((0, 0), object))
    squares: Objects = dataclasses.field(default_factory=lambda: np.zeros((0, 0), object))
    products: Objects = dataclasses.field(default_factory=lambda: np.zeros((0, 0), object))

    def add(self, columns: dict[str, tuple[Floats, Flags]]) -> None:
        """Adds n rows: for each column float64[n], finite where the bool[n] is True."""
        names = sorted(columns)[: self.limit]
        if len(names) < 1:
            return
        rows = len(columns[names[0]][0])
        for start in range(0, rows, _BLOCK_ROWS):
            block = slice(start, start + _BLOCK_ROWS)
            masks = [columns[name][1][block] for name in names]
            numbers = [_known(columns[name][0][block], mask) for name, mask in zip(names, masks, strict=True)]
            self.merge(NumericPairs(self.limit, names, *_sums_of_block(numbers, masks)))

    def merge(self, other: Self) -> None:
        """Adds the sums of another."""
        names = sorted({*self.names, *other.names})[: self.limit]
        for field in ("counts", "sums", "squares", "products"):
            ours, theirs = getattr(self, field), getattr(other, field)
            if not names == self.names == other.names:
                ours, theirs = _placed(ours, self.names, names), _placed(theirs, other.names, names)
            setattr(self, field, ours + theirs)
        self.names = names

    def covariances(self, names: list[str]) -> list[Covariance]:
        """Returns one for each pair of these columns that has rows, in order."""
        indices = [index for index, name in enumerate(self.names) if name in set(names)]
        return [
            self._covariance(first, second)
            for place, first in enumerate(indices)
            for second in indices[place + 1 :]
            if self.counts[first, second]
        ]

    def _covariance(self, first: int, second: int) -> Covariance:
        count = int(self.counts[first, second])
        sum_x, sum_y = self.sums[first, second], self.sums[second, first]
        # n^2 times the moments, as whole numbers of 2^-2148.
        cross = count * self.products[first, second] - sum_x * sum_y
        spread_x = count * self.squares[first, second] - sum_x * sum_x
        spread_y = count * self.squares[second, first] - sum_y * sum_y
        covariance = ratio(cross, (count * count) << -_SQUARE_UNIT)
        return Covariance(
            self.names[first], self.names[second], count, covariance, _correlation(cross, spread_x, spread_y)
        )

    def to_state(self) -> list[Any]:
        """Returns plain values: whole numbers as odd ones and the exponents of two that they are multiplied by."""
        upper = [[list(row[i:]) for i, row in enumerate(matrix.tolist())] for matrix in (self.counts, self.products)]
        full = [matrix.tolist() for matrix in (self.sums, self.squares)]
        return [
            self.names,
            upper[0],
            *([[_shortened(value) for value in row] for row in matrix] for matrix in (upper[1], *full)),
        ]

    @classmethod
    def from_state(cls, limit: int, state: list[Any]) -> Self:
        """Returns what `to_state` gave."""
        names, counts, products, sums, squares = state
        size = len(names)
        matrices: list[Any] = [np.zeros((size, size), np.int64), *(np.zeros((size, size), object) for _ in range(3))]
        for index in range(size):
            matrices[0][index, index:] = matrices[0][index:, index] = counts[index]
            for matrix, rows in zip(matrices[1:3], (sums, squares), strict=True):
                matrix[index, :] = [odd << shift for odd, shift in rows[index]]
            both = [odd << shift for odd, shift in products[index]]
            matrices[3][index, index:] = matrices[3][index:, index] = both
        return cls(limit, list(names), *matrices)


def _placed(matrix: Any, names: list[str], wanted: list[str]) -> Any:
    """Returns a matrix in the order of other names: without those that are not wanted, and 0 for new ones."""
    result = np.zeros((len(wanted), len(wanted)), matrix.dtype)
    places = {name: index for index, name in enumerate(wanted)}
    kept = [index for index, name in enumerate(names) if name in places]
    targets = [places[names[index]] for index in kept]
    result[np.ix_(targets, targets)] = matrix[np.ix_(kept, kept)]
    return result


def _correlation(cross: int, spread_x: int, spread_y: int) -> float:
    if not spread_x or not spread_y:
        return math.nan
    # The root of a whole number of at least 128 bits is known to 64.
    product = spread_x * spread_y
    shift = max(128 - product.bit_length(), 0)
    shift += shift % 2
    root = math.isqrt(product << shift)
    return min(max(ratio(cross << shift // 2, root), -1.0), 1.0)


def _shortened(value: int) -> tuple[int, int]:
    shift = (value & -value).bit_length() - 1 if value else 0
    return value >> shift, shift


def _sums_of_block(numbers: list[Floats], masks: list[Flags]) -> tuple[Ints, Objects, Objects, Objects]:
    """Returns counts, sums, squares and products of at most 2^15 rows, as `NumericPairs` holds them.

    Each number is cut into slices of 19 bits, as in the scheme of Ozaki, Ogita, Oishi and Rump (2012): the sums of
    products of slices are whole numbers below 2^53, so that a multiplication of matrices of floats makes no error::

        number     0.1100 1011 0000 0001          slices     1100 1011 ......... 0001
        exponents                                            -4   -8             -16
    """
    slices = [_slices(values) for values in numbers]
    owners = np.repeat(np.arange(len(numbers)), [len(parts) for parts in slices])
    exponents = [exponent for parts in slices for exponent, _ in parts]
    stacked = np.stack([part for parts in slices for _, part in parts]) if exponents else np.zeros((0, len(numbers[0])))
    groups, flags = _distinct_masks(masks)
    counts = np.rint(flags @ flags.T).astype(np.int64)[np.ix_(groups, groups)]
    size = len(numbers)
    sums, squares, products = (np.zeros((size, size), object) for _ in range(3))
    by_mask, crossed = stacked @ flags.T, stacked @ stacked.T
    for row, (owner, exponent) in enumerate(zip(owners.tolist(), exponents, strict=True)):
        sums[owner] += _scaled(by_mask[row], exponent - _UNIT)[groups]
        _add_products(products, crossed[row], owner, exponent, owners, exponents)
    if len(flags) == 1:  # all rows count for all pairs
        squares[:] = np.diagonal(products)[:, None]
    else:
        for owner, parts in enumerate(slices):
            squares[owner] += _squares(parts, flags)[groups]
    return counts, sums, squares, products


def _add_products(
    products: Objects, crossed: Floats, owner: int, exponent: int, owners: Ints, exponents: list[int]
) -> None:
    for other, value, other_exponent in zip(owners.tolist(), crossed.tolist(), exponents, strict=True):
        products[owner, other] += int(value) << (exponent + other_exponent - _SQUARE_UNIT)


def _slices(values: Floats) -> list[tuple[int, Floats]]:
    """Cuts finite floats into slices: exponents, and whole numbers below 2^19, whose scaled sum is the values."""
    slices: list[tuple[int, Floats]] = []
    rest = values
    while len(rest) and (largest := max(float(rest.max()), -float(rest.min()))) > 0:
        exponent = max(math.frexp(largest)[1] - _SLICE_BITS, _UNIT)
        if exponent <= 0 and _are_whole(rest[:_FEW]) and _are_whole(rest):
            return [*slices, (0, rest)]
        part = _times_power(rest, -exponent)
        np.trunc(part, out=part)
        slices.append((exponent, part))
        rest = rest - _times_power(part, exponent)
    return slices


def _are_whole(values: Floats) -> bool:
    return bool((np.trunc(values) == values).all())


def _times_power(values: Floats, exponent: int) -> Floats:
    """Returns values times 2^exponent; a multiplication takes a fraction of the time of `ldexp`."""
    # A power below the normal ones is exact too.
    return values * math.ldexp(1.0, exponent) if exponent <= _LARGEST_POWER else np.ldexp(values, exponent)


def _known(values: Floats, mask: Flags) -> Floats:
    """Returns the values, 0 where the mask is False."""
    return values if mask.all() else np.where(mask, values, 0.0)


def _distinct_masks(masks: list[Flags]) -> tuple[Ints, Floats]:
    """Returns which of the distinct masks each one is, and these as float64[groups, rows]."""
    found: dict[bytes, int] = {}
    groups = np.array([found.setdefault(mask.tobytes(), len(found)) for mask in masks], np.int64)
    return groups, np.stack([np.frombuffer(mask, np.bool_) for mask in found]).astype(np.float64)


def _squares(parts: list[tuple[int, Floats]], flags: Floats) -> Objects:
    """Returns the sums of the squares over the rows of each mask, in units of 2^-2148."""
    total = np.zeros(len(flags), object)
    for index, (exponent, part) in enumerate(parts):
        for second, (other_exponent, other) in enumerate(parts[index:]):
            twice = int(second > 0)
            total += _scaled(flags @ (part * other), exponent + other_exponent - _SQUARE_UNIT + twice)
    return total


def _scaled(values: Floats, shift: int) -> Objects:
    """Returns whole numbers, given as floats, times 2^shift."""
    return np.array([int(value) << shift for value in values.tolist()], object)
