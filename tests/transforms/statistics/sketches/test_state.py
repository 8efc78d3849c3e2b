import contextlib
import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import InputError
from penstock.transforms.statistics.sketches import (
    DistinctSketch,
    FrequentSketch,
    NumberSketch,
    QuantileSketch,
    TextSketch,
    WeightedNumbers,
    count_values,
)
from penstock.transforms.statistics.sketches.state import Reader, Writer


def sketches():
    """One of each, with some values."""
    numbers, weighted, quantiles = NumberSketch(), WeightedNumbers(), QuantileSketch()
    numbers.update(pa.array([1.5, -2.0, 1e300]))
    weighted.update(pa.array([1.5, -2.0]), np.array([0.5, 2.0]))
    quantiles.update(np.arange(50.0))
    texts, distinct, frequent, frequent_ints = TextSketch(), DistinctSketch(), FrequentSketch(), FrequentSketch()
    counted = count_values(pa.array(["a", "bc", "", "2024-01-01", "a"]))
    texts.update(counted)
    frequent.update(counted)
    distinct.update(counted.hashes)
    frequent_ints.update(count_values(pa.array([5, -7, 5])))
    return [numbers, weighted, quantiles, texts, distinct, frequent, frequent_ints]


SKETCHES = sketches()


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda sketch: type(sketch).__name__)
@given(st.data())
def test_broken_bytes_are_an_error_or_another_sketch(sketch, data):
    state = bytearray(sketch.to_bytes())
    place = data.draw(st.integers(0, len(state) - 1))
    state[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with contextlib.suppress(InputError):
        found = type(sketch).from_bytes(bytes(state))
        assert type(sketch).from_bytes(found.to_bytes()) == found


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda sketch: type(sketch).__name__)
def test_bytes_that_end_too_early_are_an_error(sketch):
    state = sketch.to_bytes()
    for size in range(len(state)):
        with pytest.raises(InputError, match="the state of a sketch"):
            type(sketch).from_bytes(state[:size])


@given(st.lists(st.integers(0, 2**64 - 1)), st.integers(), st.floats(allow_nan=False), st.binary())
def test_fields_are_read_as_they_were_written(values, number, real, blob):
    uints = np.array(values, np.uint64)
    writer = Writer(b"X1").put_uints(uints).put_int(number).put_float(real).put_blob(blob).put_words(uints)
    reader = Reader(writer.to_bytes(), b"X1")
    assert reader.take_uints().tolist() == values
    assert reader.take_int() == number
    assert reader.take_float() == real
    assert reader.take_blob() == blob
    assert reader.take_words().tolist() == values
    reader.end()


# What files of statistics hold: change a state only with a new tag.
DIGESTS = {
    "NumberSketch": ["743784213a488628"],
    "WeightedNumbers": ["b7abffffa40606ff"],
    "QuantileSketch": ["e4fe082891a9e56d"],
    "TextSketch": ["8ffa0cf1e199bdf8"],
    "DistinctSketch": ["8e59ecac6a95ecc6"],
    "FrequentSketch": ["9014be5b50779726", "94707fc6b8ebbbed"],
}


@pytest.mark.parametrize("sketch", SKETCHES, ids=lambda sketch: type(sketch).__name__)
def test_states_never_change(sketch):
    assert hashlib.sha256(sketch.to_bytes()).hexdigest()[:16] in DIGESTS[type(sketch).__name__]
