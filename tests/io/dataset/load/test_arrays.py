"""From Arrow to numpy: slices of any buffers, texts as bytes, what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.dataset.load.arrays import Ragged, ToArrays
from penstock.io.errors import ConfigError

TEXTS = ["aä", None, "", "xyz"]


def arrays_of(column: pa.Array, **options):
    batch = pa.RecordBatch.from_arrays([column], ["x"])
    return ToArrays(batch.schema, **{"missing": "mask", "pad": {}, "lengths": {}, **options})(batch)


@pytest.mark.parametrize("kind", [pa.string(), pa.binary(), pa.large_string(), pa.large_binary()], ids=str)
@pytest.mark.parametrize("first", [0, 1, 4])
def test_texts_are_bytes_in_one_array(kind, first):
    texts = [None if text is None else text.encode() for text in TEXTS]
    column = pa.array(texts, pa.binary()).cast(kind)[first:]
    found = arrays_of(column, texts="ragged")
    assert found["x"].values.dtype == np.uint8
    assert found["x"].values.flags.writeable
    pieces = np.split(found["x"].values, found["x"].row_splits[1:-1]) if len(column) else []
    assert [piece.tobytes() for piece in pieces] == [text or b"" for text in texts[first:]]
    assert found["x$present"].tolist() == [text is not None for text in TEXTS[first:]]


def test_lists_of_texts_are_ragged_twice():
    found = arrays_of(pa.array([["a", "bc"], None, ["d"]]), texts="ragged", lengths={"x": 2})["x"]
    assert isinstance(found.values, Ragged)
    assert found.row_splits.tolist() == [0, 2, 2, 3]
    assert found.values.row_splits.tolist() == [0, 1, 3, 4]
    assert found.values.values.tobytes() == b"abcd"


def test_a_buffer_may_have_more_bytes_than_numbers():
    data = pa.py_buffer(np.arange(3, dtype=np.int64).tobytes() + b"abc")
    assert arrays_of(pa.Array.from_buffers(pa.int64(), 3, [None, data])[1:])["x"].tolist() == [1, 2]
    offsets = pa.py_buffer(np.array([0, 1, 3], np.int32).tobytes() + b"x")
    column = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"abc")])
    assert arrays_of(column)["x"].tolist() == ["a", "bc"]


@pytest.mark.parametrize("part", [4, 5])
def test_a_good_part_of_a_buffer_is_not_copied(part):
    memory = np.frombuffer(bytearray(b"ab" * 40), np.uint8)
    offsets = pa.py_buffer(np.arange(0, 81, 2, "i4"))
    texts = pa.Array.from_buffers(pa.binary(), 40, [None, offsets, pa.py_buffer(memory)])
    found = arrays_of(texts[10 : 10 + 40 // part], texts="ragged")["x"].values
    assert found.tobytes() == b"ab" * (40 // part)
    assert found.flags.writeable
    assert np.shares_memory(found, memory) == (part == 4)


def test_what_others_may_have_is_copied():
    texts = pa.Array.from_buffers(pa.binary(), 1, [None, pa.py_buffer(np.array([0, 2], "i4")), pa.py_buffer(b"ab")])
    assert arrays_of(texts, texts="ragged")["x"].values.flags.writeable


def test_lists_of_one_length_are_rows():
    found = arrays_of(pa.array([[0, 0], [1, 2], [3, 4]])[1:], lengths={"x": 2})["x"]
    assert found.tolist() == [[1, 2], [3, 4]]
    assert arrays_of(pa.array([[1, 2], None]), lengths={"x": 2})["x"].tolist() == [[1, 2], [0, 0]]
    assert arrays_of(pa.array([], pa.list_(pa.int64())), lengths={"x": 2})["x"].shape == (0, 2)


def test_nulls_of_other_rows_do_not_count():
    assert arrays_of(pa.array([[None], [1, 2], [3], [None]])[1:3])["x"].values.tolist() == [1, 2, 3]


_COLUMNS = {
    "numbers": pa.array([1.5, 2.5, 3.5, 4.5, 5.5], pa.float32()),
    "missing": pa.array([1, None, 3, 4, None]),
    "texts": pa.array(["aä", "", "xyz", "b", "c"]),
    "some_texts": pa.array(["a", "b", "xyz", None, "c"]),
    "lists": pa.array([[1], [], [2, 3], [4], [5, 6, 7]]),
    "some_lists": pa.array([[1], [2], None, [4], [5]]),
    "lists_of_texts": pa.array([["a"], [], ["b", "cd"], ["e"], ["f"]]),
    "even": pa.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]]),
}


@pytest.mark.parametrize("missing", ["mask", {"missing": 7, "some_texts": "-"}])
@pytest.mark.parametrize("texts", ["objects", "ragged"])
@pytest.mark.parametrize("place", [0, 2])
def test_parts_are_those_of_slices(missing, texts, place):
    batch = pa.RecordBatch.from_pydict(_COLUMNS)
    if missing != "mask":  # lists cannot be given
        batch = batch.drop_columns(["some_lists"])
    rule = ToArrays(batch.schema, missing, {"lists": 3}, {"even": 2}, texts)
    batch = batch.slice(place)
    part = rule.parts(batch)
    for first in range(batch.num_rows + 1):
        for count in range(batch.num_rows - first + 1):
            np.testing.assert_equal(part(first, count), rule(batch.slice(first, count)))


def test_columns_of_other_types_than_expected_are_taken_as_they_are():
    rule = ToArrays(pa.schema([("x", pa.int64())]), "error", {}, {})
    assert rule(pa.RecordBatch.from_pydict({"y": ["a"]}))["y"].tolist() == ["a"]


def test_what_cannot_be_is_refused():
    lists = pa.array([["a"]])
    with pytest.raises(ConfigError, match="texts must be one of objects, ragged, got 'bytes'"):
        arrays_of(lists, texts="bytes")
    with pytest.raises(ConfigError, match="pad: column 'x' has lists of texts, which cannot be padded"):
        arrays_of(lists, texts="ragged", pad={"x": 2})


@pytest.mark.parametrize(("value", "kind"), [(1.5, pa.int64()), (1e300, pa.float32()), (2**53 + 1, pa.float64())])
def test_a_value_for_missing_ones_is_not_changed(value, kind):
    with pytest.raises(ConfigError, match=r"missing: column 'x' is of .*, which cannot be"):
        arrays_of(pa.array([1, None], kind), missing={"x": value})


@pytest.mark.parametrize(("value", "kind"), [(2.0, pa.int64()), (0.1, pa.float32()), (float("nan"), pa.float32())])
def test_a_value_for_missing_ones_is_rounded_as_its_column_is(value, kind):
    assert str(arrays_of(pa.array([1, None], kind), missing={"x": value})["x"][1]) == str(kind.to_pandas_dtype()(value))
