"""Exact sums, held against `math.fsum` and Python's integers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.transforms.rolling.exact_sums import ExactSums

INT64 = (-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False) | st.floats(-1000, 1000) | st.sampled_from([0.1, -0.1, 1e16])


def ranges(count):
    return np.array([(start, end) for start in range(count + 1) for end in range(start, count + 1)]).T


def fsum(values):
    try:
        return math.fsum(values)
    except OverflowError:  # too large on the way, or in the end
        return float(sum(map(int, values))) if abs(sum(map(int, values))) < 2**1024 - 2**970 else None


@given(st.lists(FLOATS, max_size=8))
def test_floats_are_summed_exactly_and_rounded_once(values):
    starts, ends = ranges(len(values))
    found = ExactSums.of_floats(np.array(values, np.float64)).floats(starts, ends)
    for start, end, total in zip(starts, ends, found, strict=True):
        expected = fsum(values[start:end])
        assert total == expected if expected is not None else math.isinf(total), values[start:end]


@given(st.lists(FLOATS, min_size=2, max_size=30), st.randoms())
def test_the_order_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    sums = [
        ExactSums.of_floats(np.array(row)).floats(np.array([0]), np.array([len(row)])) for row in (values, shuffled)
    ]
    assert sums[0].tobytes() == sums[1].tobytes()


@given(st.lists(st.integers(*INT64) | st.integers(-9, 9), max_size=8))
def test_integers_are_summed_exactly_where_they_fit(values):
    starts, ends = ranges(len(values))
    sums = ExactSums.of_ints(np.array(values, np.int64))
    totals, fits = sums.ints(starts, ends)
    floats = sums.floats(starts, ends)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        expected = sum(values[start:end])
        assert fits[row] == (INT64[0] <= expected <= INT64[1])
        assert totals[row] == (expected if fits[row] else 0)
        assert floats[row] == float(expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param([1e16, 1.0, -1e16], 1.0, id="cancelled"),
        pytest.param([1.0, 2.0**-53], 1.0, id="half_to_even_down"),
        pytest.param([1.0 + 2.0**-52, 2.0**-53], 1.0 + 2.0**-51, id="half_to_even_up"),
        pytest.param([1.0, 2.0**-53, 5e-324], 1.0 + 2.0**-52, id="a_trace_above_half"),
        pytest.param([5e-324, 5e-324], 1e-323, id="subnormal"),
        pytest.param([1.7e308, 1.7e308, -1.7e308], 1.7e308, id="too_large_on_the_way"),
        pytest.param([-1.7e308, -1.7e308], -math.inf, id="too_large"),
        pytest.param([-0.0], 0.0, id="zero"),
    ],
)
def test_rounding(values, expected):
    assert ExactSums.of_floats(np.array(values)).floats(np.array([0]), np.array([len(values)])).tolist() == [expected]


def test_a_million_floats():
    values = np.random.default_rng(7).lognormal(3, 2, 1_000_000)
    found = ExactSums.of_floats(values).floats(np.array([0, 10]), np.array([1_000_000, 999_999]))
    assert found.tolist() == [math.fsum(values), math.fsum(values[10:999_999])]
