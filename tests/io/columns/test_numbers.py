import dataclasses
import functools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.columns.grammar import text_numbers
from penstock.io.columns.numbers import NumberCounts, count_doubles, count_ints, count_texts


def counted(counts):
    """The counts that are not 0, without the sketches."""
    plain = {field.name: getattr(counts, field.name) for field in dataclasses.fields(counts)}
    return {name: value for name, value in plain.items() if isinstance(value, int) and value}


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["1", "2.0", "x"], {"ints": 1, "wholes": 1}),
        (["0.5", "nan", "-0"], {"fractions": 3, "specials": 1}),
        (["1e20", "123456789012345678901.0"], {"beyond": 2, "large": 2, "large_losing": 1}),
        (["16777216", "16777217"], {"ints": 2, "large": 1, "inexact": 1, "large_losing": 1}),
        (["123456700", "1e11"], {"ints": 1, "wholes": 1, "large": 2, "inexact": 2}),
        (["9007199254740993.0"], {"wholes": 1, "large": 1, "wide": 1}),
        (["40.7488171"], {"fractions": 1, "fractions_losing": 1}),
    ],
)
def test_counts_of_texts(texts, expected):
    assert counted(count_texts(text_numbers(pa.array(texts)))) == expected


def test_counts_of_doubles():
    values = np.array([5.0, -0.0, 2.0**53, 2.0**53 + 2, 0.5, np.nan, -np.inf, 1e39, 20000001.0])
    counts, overflows = count_doubles(values)
    assert overflows == 1
    assert counted(counts) == {
        "wholes": 3,
        "beyond": 1,
        "fractions": 4,
        "specials": 2,
        "inexact": 1,
        "large": 3,
        "large_losing": 2,
    }
    assert counts.total == 8
    assert counts.least_losing == 20000001.0


def test_small_and_no_integers_lose_nothing():
    assert counted(count_ints(np.array([], np.int64))) == {}
    assert counted(count_ints(np.array([0, -(2**24), 2**24]))) == {"ints": 3}
    assert counted(count_ints(np.array([-(2**63), 2**63 - 1])))["wide"] == 2


def test_ids_are_large_whole_mostly_and_lose():
    ids = count_ints(np.arange(20_000_000, 20_000_010))
    assert ids.are_ids
    assert ids.merge(count_doubles(np.full(9, 0.5))[0]).are_ids
    assert not ids.merge(count_doubles(np.full(10, 0.5))[0]).are_ids
    assert ids.merge(count_doubles(np.full(99, np.nan))[0]).are_ids
    assert not count_ints(np.arange(20_000_000, 30_000_000, 1 << 20)).are_ids
    assert not count_ints(np.arange(100)).are_ids


@given(st.lists(st.lists(st.floats(-1e30, 1e30) | st.integers(-(10**9), 10**9).map(float), max_size=5), max_size=6))
def test_merging_is_counting_all_at_once(pieces):
    arrays = [np.array(piece, np.float64) for piece in pieces]
    parts = [count_doubles(array)[0] for array in arrays]
    whole = count_doubles(np.concatenate([np.zeros(0), *arrays]))[0]
    forwards, backwards = (functools.reduce(NumberCounts.merge, some, NumberCounts()) for some in (parts, parts[::-1]))
    np.testing.assert_equal(dataclasses.asdict(forwards), dataclasses.asdict(backwards))
    assert counted(forwards) == counted(whole)
    assert forwards.least_losing == whole.least_losing
