import collections

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.transforms.statistics.sketches import count_values

CASES = {
    "empty": pa.array([], pa.string()),
    "one": pa.array(["a"]),
    "texts": pa.array(["a", "b", "a", "", "ä"] * 3),
    "large": pa.array(["a", "b", "a"], pa.large_string()),
    "view": pa.array(["a", "b" * 20, "a"], pa.string_view()),
    "bytes": pa.array([b"\xff", b"", b"\xff"]),
    "fixed bytes": pa.array([b"ab", b"cd", b"ab"], pa.binary(2)),
    "ints": pa.array([3, -1, 3], pa.int32()),
    "booleans": pa.array([True, False, True]),
    "uints": pa.array([2**64 - 1, 0, 2**64 - 1], pa.uint64()),
    "floats": pa.array([1.5, -0.0, 0.0, 1.5]),
    "half floats": pa.array([1.5, 2.5, 1.5], pa.float16()),
    "sliced": pa.array(["x", "a", "b", "a", "x"])[1:4],
    "dictionary": pa.DictionaryArray.from_arrays([2, 0, 2], ["a", "not there", "b"]),
    "many": pa.array([str(index % 1500) for index in range(3000)]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_are_counted(name):
    values = CASES[name]
    found = count_values(values)
    times = [1] * len(found.values) if found.counts is None else found.counts.tolist()
    counted = collections.Counter()
    for value, count in zip(found.values.to_pylist(), times, strict=True):
        counted[value] += count
    assert counted == collections.Counter(values.to_pylist())
    assert len(found.hashes) == len(found.values)
    assert len(set(found.hashes.tolist())) == len(counted)


@pytest.mark.parametrize("name", CASES)
def test_weights_are_summed_by_value(name):
    values = CASES[name]
    found = count_values(values, with_places=True)
    weights = np.arange(len(values)) + 1
    summed = collections.Counter()
    for value, weight in zip(found.values.to_pylist(), found.weights(weights).tolist(), strict=True):
        summed[value] += weight
    wanted = collections.Counter()
    for value, weight in zip(values.to_pylist(), weights.tolist(), strict=True):
        wanted[value] += weight
    assert summed == wanted


@given(st.lists(st.text(max_size=3)))
def test_a_hash_is_of_the_bytes_alone(texts):
    types = [pa.string(), pa.large_string(), pa.binary(), pa.string_view()]
    found = [count_values(pa.array(texts, pa.string()).cast(item)) for item in types]
    assert all(one.hashes.tolist() == found[0].hashes.tolist() for one in found)


def test_where_most_values_differ_they_stay_as_they_are():
    found = count_values(CASES["many"])
    assert found.values.equals(CASES["many"])
    assert (found.counts, found.places) == (None, None)
    assert count_values(pa.array(["a", "b"] * 1500)).counts.tolist() == [1500, 1500]


def test_how_often_values_must_be_there_follows_from_their_kind():
    numbers = np.random.default_rng(0).integers(0, 9000, 32_768)
    prices, texts = pa.array(numbers / 100), pa.array(numbers.astype(str))
    assert count_values(prices).counts is None
    assert count_values(texts).counts.sum() == len(texts)
    assert count_values(texts[:4096]).counts is None
    assert count_values(pa.array(numbers % 2000 / 100)).counts.sum() == len(numbers)


def test_weights_need_places():
    with pytest.raises(ValueError, match="count_values must be called with_places where values have weights"):
        count_values(pa.array(["a", "a"])).weights(np.ones(2, np.int64))


@given(st.lists(st.integers(-(2**53), 2**53)))
def test_an_integer_has_the_hash_of_the_float_that_is_equal_to_it(numbers):
    ints = count_values(pa.array(numbers, pa.int64()))
    floats = count_values(pa.array(numbers, pa.float64()))
    assert sorted(ints.hashes.tolist()) == sorted(floats.hashes.tolist())


def test_integers_beyond_floats_have_hashes_of_their_own():
    near = pa.array([2**53, 2**53 + 1, 2**53 + 2, 2**63 - 1, -(2**53) - 1, -(2**63)])
    assert len(set(count_values(near).hashes.tolist())) == len(near)
    assert len(set(count_values(pa.array([2**64 - 1, 2**64 - 2048, 2**63], pa.uint64())).hashes.tolist())) == 3


def test_a_dictionary_with_a_null_in_it_is_read():
    values = pa.DictionaryArray.from_arrays([0, 2, 0], ["a", None, "b"])
    assert count_values(values).counts.tolist() == [2, 1]


def test_hashes_never_change():
    assert count_values(pa.array(["penstock"])).hashes.tolist() == [6208633515095629237]
    assert count_values(pa.array([42])).hashes.tolist() == [1610766996905116005]
    assert count_values(pa.array([2**53 + 1])).hashes.tolist() == [3795093574296892230]


def test_what_has_no_values_is_refused():
    with pytest.raises(ValueError, match="values must have no nulls, got 1; drop and count them before"):
        count_values(pa.array(["a", None]))
    with pytest.raises(TypeError, match=r"values must be texts, bytes, numbers or booleans, got list<"):
        count_values(pa.array([["a"]]))
