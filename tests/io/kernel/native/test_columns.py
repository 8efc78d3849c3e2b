import numpy as np
import pyarrow as pa
import pytest

Columns = pytest.importorskip("penstock.io.kernel.native._columns").Columns


def texts(offsets):
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32)), pa.py_buffer(b"abcd")]
    return pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)


def lists(offsets):
    buffers = [None, pa.py_buffer(np.array(offsets, np.int32))]
    return pa.Array.from_buffers(pa.list_(pa.int64()), len(offsets) - 1, buffers, children=[pa.array([1, 2, 3, 4])])


BROKEN = {
    "texts_descend": texts([0, 4, 2, 4]),
    "texts_behind_the_data": texts([0, 100, 4]),
    "texts_before_the_data": texts([0, -100, 4]),
    "lists_descend": lists([0, 4, 2, 4]),
    "lists_behind_the_items": lists([0, 100, 4]),
    "items_descend": pa.ListArray.from_arrays(pa.array([0, 1, 2], pa.int32()), texts([0, 3, 1, 4])),
}


@pytest.mark.parametrize("array", BROKEN.values(), ids=BROKEN)
def test_broken_arrays_are_refused(array):
    with pytest.raises(ValueError, match="do not ascend"):
        Columns(pa.RecordBatch.from_arrays([array], ["c"]))


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="no columns of Arrow format 'tsu:'"):
        Columns(pa.record_batch({"c": pa.nulls(1, pa.timestamp("us"))}))


def test_slices_rely_on_their_own_offsets_alone():
    array = texts([0, 4, 2, 4])
    columns = Columns(pa.RecordBatch.from_arrays([array.slice(2, 1)], ["c"]))
    assert (columns.rows, columns.size) == (1, 1)
