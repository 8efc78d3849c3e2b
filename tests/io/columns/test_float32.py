import functools
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_cases.float32_doubles import KEPT, LOST, UNTOUCHED, doubles, python_losing

from penstock.io.batches import origin_array
from penstock.io.columns.float32 import Distinct, Images, losing, lost_digits, rounding_notes
from penstock.io.reasons import Note
from penstock.io.reserved import ORIGIN


@pytest.mark.parametrize(
    ("values", "expected"), [(KEPT, False), (LOST, True), (UNTOUCHED, False)], ids=["kept", "lost", "untouched"]
)
def test_table_of_losses(values, expected):
    assert losing(np.array(values)).tolist() == [expected] * len(values)
    assert [python_losing(value) for value in values] == [expected] * len(values)


@given(st.lists(doubles, max_size=40))
@example([float(f"{2.0**power:.{digits}g}") for power in range(-149, 128) for digits in range(1, 12)])
def test_losses_are_what_numpy_says(values):
    assert losing(np.array(values, np.float64)).tolist() == [python_losing(value) for value in values]


def test_losses_of_many_decimals():
    random = np.random.default_rng(0)
    for digits in range(1, 13):
        values = np.array([float(f"{value:.{digits}g}") for value in np.exp(random.normal(0, 25, 1000))])
        assert losing(values).tolist() == [python_losing(value) for value in values.tolist()], digits


def test_what_is_lost_is_told_with_what_it_becomes():
    assert lost_digits(20000001.0) == "20000001.0 becomes 20000000.0"
    assert lost_digits(1748736094.501, 1748736095.502) == ("1748736094.501 and 1748736095.502 both become 1748736128.0")


def merged(kind, pieces, size):
    return functools.reduce(
        kind.merge, (kind.of(np.array(piece, np.float64), size) for piece in pieces), kind.of(np.zeros(0), size)
    )


@given(st.lists(st.lists(st.sampled_from([0.1, 0.5, 20000000.0, 20000001.0, 1e10 / 3, 1e10 / 3 + 1e-3]))))
def test_sketches_are_exact_up_to_their_size_in_any_order(pieces):
    flat = [value for piece in pieces for value in piece]
    for found in (merged(Distinct, pieces, 16), merged(Distinct, pieces[::-1], 16), Distinct.of(np.array(flat), 16)):
        assert (found.count, found.is_exact) == (len(set(flat)), True)
    for images in (merged(Images, pieces, 16), merged(Images, pieces[::-1], 16)):
        assert images.count == len(set(np.float32(flat).tolist()))
        collide = {
            np.float32(value) for value in flat if len({x for x in flat if np.float32(x) == np.float32(value)}) > 1
        }
        assert (images.example is None) == (not collide)
        if images.example:
            low, high = images.example
            assert low < high
            assert np.float32(low) == np.float32(high) in collide


def test_sketches_of_many_values_are_bounded_and_near():
    random = np.random.default_rng(1)
    values = 1748736094 + np.round(random.random(200_000) * 1e7, 3)
    pieces = np.array_split(values, 7)
    distinct, images = merged(Distinct, pieces, 1024), merged(Images, pieces, 1024)
    assert len(distinct.hashes) == len(images.hashes) == 1024
    assert not distinct.is_exact
    assert distinct.count == pytest.approx(len(np.unique(values)), rel=0.1)
    assert images.count == pytest.approx(len(np.unique(values.astype(np.float32))), rel=0.1)
    again = Images.of(random.permutation(values), 1024)
    assert again.example == images.example
    assert again.hashes.tolist() == images.hashes.tolist()


def test_few_distinct_values_among_many_are_all_found():
    values = np.repeat(np.arange(3) + 0.1, 20_000)
    assert Distinct.of(values, 16).count == 3


def test_notes_of_rows_name_columns_that_lose():
    rows = pa.record_batch(
        {
            "a": pa.array([1748736094.501, None, 0.1]),
            "b": pa.array([[20000003.0, 20000001.0], None, []]),
            "fine": pa.array([12.35, None, math.nan]),
            "narrow": pa.array([0.1, 0.2, 0.3], pa.float32()),
            "whole": pa.array([20000001, 2, 3]),
            ORIGIN: origin_array("f", np.arange(3)),
        }
    )
    assert [(note.code, note.subject, note.count) for note in rounding_notes(rows)] == [
        ("float32.rounded", "a", 1),
        ("float32.rounded", "b", 2),
    ]
    first, second = rounding_notes(rows)
    assert first.detail.startswith("1748736094.501 becomes 1748736128.0; to keep all digits, write times as whole")
    assert second.detail.startswith("20000001.0 becomes 20000000.0; ")
    assert isinstance(first, Note)
    assert rounding_notes(rows.slice(2)) == []
