import numpy as np
import pyarrow as pa
import pytest

from penstock.io.columns.lists import kernel_columns, list_column
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import list_lengths


def test_positions_of_values_are_rows_and_indices_in_their_lists():
    lists = list_column(pa.array([["a", "b"], [], None, ["c"], ["d", "e", "f"]]))
    rows, positions = lists.positions_of(np.array([0, 1, 2, 5]))
    assert rows.tolist() == [0, 0, 3, 4]
    assert positions.tolist() == [0, 1, 0, 2]


def test_positions_of_scalars_are_their_rows():
    rows, positions = list_column(pa.array([1, None, 3])).positions_of(np.array([0, 2]))
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
def test_values_of_lists_are_the_values_in_row_order(column):
    lists = list_column(column)
    assert lists.values.to_pylist() == [1, 2, 3]
    assert lists.lengths.tolist() == [2, 0, 0, 1]


def test_values_hidden_below_a_null_list_are_left_out():
    hidden = pa.ListArray.from_arrays([0, 1, 3], pa.array([1, 2, 3]), mask=pa.array([False, True]))
    lists = list_column(hidden)
    assert (lists.values.to_pylist(), lists.lengths.tolist()) == ([1], [1, 0])


def test_null_rows_and_null_values_are_told_apart():
    lists = list_column(pa.array([[1, None], None, [], [None, None], [2]]))
    assert lists.owners.tolist() == [0, 0, 3, 3, 4]
    assert lists.present.tolist() == [True, False, True, True, True]
    assert lists.counts.tolist() == [2, 0, 0, 2, 1]
    assert lists.null_values().tolist() == [False, True, True, True, False]
    assert lists.rows_with_null_values().tolist() == [0, 3]
    scalars = list_column(pa.array([1, None, 3]))
    assert (scalars.lengths, scalars.counts.tolist()) == (None, [1, 0, 1])
    assert not scalars.null_values().any()


def test_lists_of_one_are_single_values():
    assert list_column(pa.array([[1], [2, 3], None, [], [4]])).single_values().to_pylist() == [1, None, None, None, 4]
    assert list_column(pa.array([1, None])).single_values().to_pylist() == [1, None]


def test_lengths_are_int64_whatever_the_lists():
    for list_type in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_view(pa.int8())):
        lengths = list_lengths(pa.array([[1, 2], None, []], list_type))
        assert (lengths.dtype, lengths.tolist()) == (np.int64, [2, 0, 0])


def test_columns_become_what_the_kernel_reads():
    batch = pa.record_batch(
        {
            "half": pa.array([0.5, None], pa.float16()),
            "small": pa.array([[1], None], pa.list_view(pa.uint8())),
            "text": pa.array(["a", None], pa.dictionary(pa.int8(), pa.string())),
        }
    )
    columns = kernel_columns(batch, ["text", "small", "lacking", "half"])
    assert columns.schema.names == ["text", "small", "lacking", "half"]
    assert columns.to_pydict() == {**batch.to_pydict(), "text": ["a", None], "lacking": [None, None]}
    with pytest.raises(ConfigError, match="column 'x' has type date32"):
        kernel_columns(pa.record_batch({"x": pa.nulls(1, pa.date32())}), ["x"])
