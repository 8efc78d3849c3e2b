import numpy as np
import pyarrow as pa
import pytest
from apache_beam import coders

from penstock.io.batches import (
    ORIGIN_TYPE,
    RecordBatchCoder,
    check_column_names,
    feature_names,
    join_batches,
    notes_of,
    origin_array,
    set_column,
    slice_rows,
    split_batch,
    with_notes,
)
from penstock.io.errors import InputError
from penstock.io.reasons import Note
from penstock.io.reserved import ORIGIN


def batch_of(rows, **columns):
    data = {"x": pa.array(range(rows), pa.int64()), **columns, ORIGIN: origin_array("a.csv", np.arange(rows) * 7)}
    return pa.record_batch(data)


@pytest.mark.parametrize("rows", [0, 1, 1000])
def test_coder_round_trips_batches_with_origin(rows):
    batch = batch_of(rows, s=pa.array([None, "é", ""][i % 3] for i in range(rows)))
    decoded = RecordBatchCoder().decode(RecordBatchCoder().encode(batch))
    assert decoded.equals(batch)
    assert decoded.schema.field(ORIGIN).type == ORIGIN_TYPE


def test_coder_encodes_only_the_rows_of_a_slice():
    batch = batch_of(100_000)
    assert len(RecordBatchCoder().encode(batch.slice(5, 2))) < 4096
    assert RecordBatchCoder().decode(RecordBatchCoder().encode(batch.slice(5, 2))).equals(batch.slice(5, 2))


def test_coder_is_registered_for_record_batches():
    assert isinstance(coders.registry.get_coder(pa.RecordBatch), RecordBatchCoder)


def test_origin_survives_slice_filter_take_and_concat():
    batch = batch_of(4)
    other = pa.record_batch({"x": pa.array([9], pa.int64()), ORIGIN: origin_array("b.csv", np.array([3]))})
    kept = pa.concat_batches([batch.slice(1, 2), other]).take(pa.array([2, 0]))
    assert kept.column(ORIGIN).to_pylist() == [{"uri": "b.csv", "position": 3}, {"uri": "a.csv", "position": 7}]


@pytest.mark.parametrize(("rows", "max_rows", "max_bytes"), [(10, 3, 1 << 20), (10, 100, 40), (1, 1, 1), (0, 5, 5)])
def test_split_batch_keeps_all_rows_in_order_within_the_limits(rows, max_rows, max_bytes):
    batch = pa.record_batch({"x": pa.array(range(rows), pa.int64())})
    pieces = list(split_batch(batch, max_rows, max_bytes))
    assert [value for piece in pieces for value in piece.column("x").to_pylist()] == list(range(rows))
    assert all(0 < piece.num_rows <= max_rows for piece in pieces)
    assert all(piece.num_rows == 1 or piece.nbytes <= max_bytes for piece in pieces)


def test_feature_names_leave_reserved_columns_out():
    assert feature_names(batch_of(1)) == ["x"]


def test_set_column_replaces_or_appends():
    batch = set_column(batch_of(1), "x", pa.array([5]))
    assert set_column(batch, "y", pa.array([6])).select(["x", "y"]).to_pylist() == [{"x": 5, "y": 6}]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", ""], r"f.csv: column 2 has no name; name it"),
        (["a", "b", "a"], r"f.csv: column name 'a' appears more than once"),
        (["_origin"], r"f.csv: column name '_origin' is reserved"),
    ],
)
def test_unusable_column_names_are_refused(names, message):
    with pytest.raises(InputError, match=message):
        check_column_names(names, "f.csv")


def test_small_batches_are_joined_within_the_limits():
    rows = pa.record_batch({"x": np.arange(138_304)})
    sizes = [1, 60_000, 5535, 1, 65_536, 5, 7226]
    ends = np.cumsum(sizes).tolist()
    batches = [rows.slice(end - size, size) for size, end in zip(sizes, ends, strict=True)]
    joined = list(join_batches(batches))
    assert [batch.num_rows for batch in joined] == [65_536, 1, 65_536, 7231]
    assert pa.Table.from_batches(joined).equals(pa.Table.from_batches([rows]))
    large = pa.record_batch({"x": [b"z" * (5 << 20)]})
    assert [batch.num_rows for batch in join_batches([large, large])] == [1, 1]
    assert not list(join_batches([]))


@pytest.mark.parametrize(("size", "slices"), [(8 << 20, 1), (9 << 20, 1), (10 << 20, 2), (18 << 20, 2), (20 << 20, 3)])
def test_a_little_too_much_is_not_cut(size, slices):
    assert len(list(slice_rows(1000, size))) == slices


def test_notes_travel_with_a_batch_beside_other_metadata():
    notes = (Note("left_out", "événements", 3, "a list of objects"), Note("left_out", "", 1, "no name"))
    batch = with_notes(batch_of(3).replace_schema_metadata({"k": "v"}), notes)
    decoded = RecordBatchCoder().decode(RecordBatchCoder().encode(batch))
    assert notes_of(decoded) == notes_of(batch.slice(1)) == notes
    assert decoded.schema.metadata[b"k"] == b"v"
    assert notes_of(batch_of(3)) == ()


def test_notes_stay_with_the_first_slice_of_a_batch():
    batch = with_notes(batch_of(3).replace_schema_metadata({"k": "v"}), [Note("left_out", "x", 3, "a list")])
    slices = list(split_batch(batch, max_rows=1))
    assert [len(notes_of(piece)) for piece in slices] == [1, 0, 0]
    assert {piece.schema.metadata[b"k"] for piece in slices} == {b"v"}


def test_joined_batches_have_the_notes_of_all():
    notes = [Note("left_out", name, 1, "a list") for name in "xyx"]
    (whole,) = join_batches([batch_of(1), *(with_notes(batch_of(1), [note]) for note in notes)])
    assert whole.num_rows == 4
    assert [(note.subject, note.count) for note in notes_of(whole)] == [("x", 2), ("y", 1)]
