"""Sums of products of columns are exact, whatever the sizes of numbers, and however rows are cut."""

import random
from fractions import Fraction

import numpy as np
import pytest

from penstock.transforms.statistics.relations.pairs import NumericPairs

_UNIT = Fraction(1, 1 << 1074)

KINDS = {
    "whole": [0.0, 3.0, -7.0, 524_287.0, -524_288.0, 2.0**53],
    "fractions": [0.1, -2.5, 1e-3, 524_287.9, 3.0],
    "subnormal": [5e-324, -5e-324, 2.5e-310, 1e-300, 0.0],
    "far apart": [1.7976931348623157e308, -1e-320, 1.0, 2.0**-1022, -(2.0**1023)],
    "whole, then not": [*[1.0] * 300, 0.5, 1e16 + 2],
}


def columns(values, rows=400):
    """Three columns of these values in any order: one without gaps, two with their own."""
    draw = random.Random(repr(values))
    found = {}
    for name, gaps in (("a", 0), ("b", 0.3), ("c", 0.5)):
        numbers = np.array([draw.choice(values) for _ in range(rows - len(values))] + values)
        known = np.array([draw.random() >= gaps for _ in range(rows)])
        found[name] = np.where(known, numbers, np.nan if gaps else 0.0), known
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_sums_are_those_of_fractions(kind):
    given = columns(KINDS[kind])
    pairs = NumericPairs(64)
    pairs.add(given)
    for i, (first, known) in enumerate(given.values()):
        for j, (second, also) in enumerate(given.values()):
            both = known & also
            x, y = ([Fraction(value) for value in numbers[both].tolist()] for numbers in (first, second))
            assert pairs.counts[i, j] == len(x)
            assert pairs.sums[i, j] * _UNIT == sum(x)
            assert pairs.squares[i, j] * _UNIT**2 == sum(value * value for value in x)
            assert pairs.products[i, j] * _UNIT**2 == sum(a * b for a, b in zip(x, y, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_change_nothing(kind):
    given = columns(KINDS[kind])
    whole, parts = NumericPairs(64), NumericPairs(64)
    whole.add(given)
    for start in range(0, 400, 70):
        parts.add(
            {name: (numbers[start : start + 70], known[start : start + 70]) for name, (numbers, known) in given.items()}
        )
    assert parts.to_state() == whole.to_state()
