import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.columns.lists import list_column
from penstock.io.columns.values import (
    as_text,
    column_of,
    decimal_text,
    has_kind,
    is_readable,
    item_type,
    mixed_column,
    not_utf8,
    own_unit,
    plain,
    shown,
    split_mixed,
)
from penstock.io.schema import Kind


def test_wrappings_of_a_type_are_taken_off_at_any_depth():
    wrapped = pa.list_(pa.dictionary(pa.int32(), pa.large_string()))
    assert item_type(wrapped) == pa.large_string()
    assert item_type(pa.run_end_encoded(pa.int32(), pa.bool8())) == pa.int8()
    rows = pa.array([["a"], ["b", "a"]], wrapped)
    assert list_column(rows).values.type == pa.string()
    assert plain(pa.array([b"ab"], pa.binary(2))).type == pa.binary()


@pytest.mark.parametrize(
    "item",
    [pa.struct([]), pa.list_(pa.int64()), pa.map_(pa.string(), pa.int64()), pa.month_day_nano_interval()],
    ids=str,
)
def test_nested_values_and_intervals_are_not_readable(item):
    assert not is_readable(item)


def test_own_unit_and_text_keep_nulls_of_a_slice():
    times = pa.array([0, 1_500, None], pa.int64()).cast(pa.timestamp("ms", "UTC")).slice(1)
    assert own_unit(times).to_pylist() == [1500, None]
    assert as_text(times).to_pylist() == ["1970-01-01T00:00:01.500Z", None]
    assert decimal_text(pa.array([None], pa.decimal128(3, -1))).to_pylist() == [None]


def test_a_column_of_a_batch():
    batch = pa.record_batch({"a": pa.array(["x", None]).dictionary_encode()})
    assert column_of(batch, "a").equals(pa.array(["x", None]))
    assert column_of(batch, "b") is None


def test_long_values_are_cut():
    assert len(shown(b"\0" * 1000)) < 150
    assert len(shown(["x" * 1000])) < 150
    assert shown([1, None]) == "[1, None]"


def test_kinds():
    assert not has_kind(pa.timestamp("s"), Kind.INT)
    assert not has_kind(pa.int64(), Kind.FLOAT)
    assert has_kind(pa.list_(pa.dictionary(pa.int8(), pa.string())), Kind.BYTES)
    assert has_kind(pa.null(), Kind.FLOAT)


MIXED = mixed_column(pa.array([1, None, 3, None, None, 6]), np.array([1, 4]), pa.array(["x", "y"]))


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        pytest.param(MIXED, ([1, None, 3, None, None, 6], [1, 4], ["x", "y"]), id="whole"),
        pytest.param(MIXED.slice(1, 4), ([None, 3, None, None], [0, 3], ["x", "y"]), id="slice"),
        pytest.param(MIXED.slice(2, 2), ([3, None], [], []), id="no_texts"),
        pytest.param(MIXED.take(pa.array([4, 0, 5])), ([None, 1, 6], [0], ["y"]), id="taken"),
        pytest.param(MIXED.take(pa.array([0, 2, 1])), ([1, 3, None], [2], ["x"]), id="texts_last"),
        pytest.param(
            pa.UnionArray.from_dense(
                pa.array([0, 0, 1], pa.int8()),
                pa.array([0, 1, 0], pa.int32()),
                [pa.array([1, 2, 3]), pa.array(["x"])],
            ).slice(1),
            ([2, None], [1], ["x"]),
            id="number_below_a_text",
        ),
    ],
)
def test_mixed_columns_are_split_into_numbers_and_texts(column, expected):
    numbers, rows, texts = split_mixed(column)
    assert (numbers.to_pylist(), rows.tolist(), texts.to_pylist()) == expected


def is_utf8(value: bytes | None) -> bool:
    return value is None or value.decode(errors="replace").encode() == value


@given(st.lists(st.none() | st.binary(max_size=4) | st.text(max_size=4).map(str.encode)), st.integers(0, 3))
def test_values_that_are_not_utf8_are_those_that_python_cannot_decode(values, skipped):
    array = pa.array(values, pa.binary())[skipped:]
    assert not_utf8(array).tolist() == [not is_utf8(value) for value in values[skipped:]]
