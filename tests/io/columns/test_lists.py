import numpy as np
import pyarrow as pa
import pytest

from penstock.io.columns.values import (
    as_text,
    column_cells,
    column_of,
    decimal_text,
    is_readable,
    item_type,
    own_unit,
    plain,
    shown,
)


def test_places_of_values_are_rows_and_indices_in_their_lists():
    cells = column_cells(pa.array([["a", "b"], [], None, ["c"], ["d", "e", "f"]]))
    rows, positions = cells.places(np.array([0, 1, 2, 5]))
    assert rows.tolist() == [0, 0, 3, 4]
    assert positions.tolist() == [0, 1, 0, 2]


def test_places_of_scalars_are_their_rows():
    rows, positions = column_cells(pa.array([1, None, 3])).places(np.array([0, 2]))
    assert (rows.tolist(), positions.tolist()) == ([0, 2], [0, 0])


# Arrow 25 casts the first of these to a list without its last value.
@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1, 2], None, [], [3]], pa.list_view(pa.int64())),
        pa.array([[9], [1, 2], None, [], [3], [9]], pa.large_list_view(pa.int64())).slice(1, 4),
        pa.array([[9], [1, 2], None, [], [3], [9]], pa.list_(pa.int64())).slice(1, 4),
        pa.ListViewArray.from_arrays(
            pa.array([1, 0, 0, 0], pa.int32()), pa.array([2, 0, 0, 1], pa.int32()), pa.array([3, 1, 2])
        ),
    ],
    ids=["nulls", "large_slice", "list_slice", "out_of_order"],
)
def test_cells_of_lists_are_the_values_in_row_order(column):
    cells = column_cells(column)
    assert cells.values.to_pylist() == [1, 2, 3]
    assert cells.lengths.tolist() == [2, 0, 0, 1]


def test_values_hidden_below_a_null_list_are_left_out():
    hidden = pa.ListArray.from_arrays([0, 1, 3], pa.array([1, 2, 3]), mask=pa.array([False, True]))
    cells = column_cells(hidden)
    assert (cells.values.to_pylist(), cells.lengths.tolist()) == ([1], [1, 0])


def test_wrappings_of_a_type_are_taken_off_at_any_depth():
    wrapped = pa.list_(pa.dictionary(pa.int32(), pa.large_string()))
    assert item_type(wrapped) == pa.large_string()
    assert item_type(pa.run_end_encoded(pa.int32(), pa.bool8())) == pa.int8()
    rows = pa.array([["a"], ["b", "a"]], wrapped)
    assert column_cells(rows).values.type == pa.string()
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
