import io

import google_crc32c
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.dataset import shard
from penstock.io.kernel import native
from penstock.io.sort import records
from penstock.io.sort.records import (
    NO_TIME,
    RECORDS,
    BlockWriter,
    EncodedRecords,
    concat_records,
    read_into,
    sort_records,
)

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 7, 2**63, 2**64 - 1]))
ROWS = st.lists(
    st.tuples(st.sampled_from([0, 1, 300]), KEYS, st.binary(max_size=40), st.none() | st.integers(0, 9)), max_size=60
)
FEW_KEYS = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.integers(0, 1), st.binary(max_size=2), st.none()), min_size=2, max_size=60
)

needs_kernel = pytest.mark.skipif(not native.ENABLED, reason="the kernel is off")


def batch_of(rows):
    """A batch of (split, key, bytes, event time) rows."""
    columns = zip(*rows, strict=True) if rows else [()] * 4
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, RECORDS, strict=True)],
                           schema=RECORDS)  # fmt: skip


def as_parts(found):
    return found.splits, found.keys, found.data, found.offsets


@needs_kernel
@given(rows=ROWS | FEW_KEYS)
def test_order_is_the_same_in_the_kernel(rows):
    parts = as_parts(EncodedRecords.of(batch_of(rows)))
    native, twin = records._runs.sort_order(*parts), records._order_in_python(*parts)
    assert (native is None) == (twin is None)
    assert native is None or native.tolist() == twin.tolist()


@given(rows=ROWS | FEW_KEYS)
def test_order_is_that_of_split_key_and_bytes(rows):
    order = records.sorted_order(EncodedRecords.of(batch_of(rows)))
    expected = sorted(range(len(rows)), key=lambda row: rows[row][:3])
    assert (list(range(len(rows))) if order is None else order.tolist()) == expected
    assert sort_records(batch_of(rows)).to_pylist() == batch_of([rows[row] for row in expected]).to_pylist()


@given(rows=ROWS, start=st.integers(0, 60), block=st.integers(1, 100), before=st.binary(max_size=100), data=st.data())
def test_blocks_are_the_same_however_the_bytes_come(rows, start, block, before, data):
    found = EncodedRecords.of(batch_of(rows).slice(start))
    order = np.array(data.draw(st.permutations(range(len(found)))), np.int64)
    blocks = []
    for gather in (BlockWriter._gather, BlockWriter._gather_in_python, None)[0 if native.ENABLED else 1 :]:
        blocks.append([])
        writer = BlockWriter(lambda piece: blocks[-1].append(bytes(piece)), block)
        if gather is not None:
            writer.write(np.frombuffer(before, np.uint8))
            gather(writer, found, order)
        else:
            writer.write(np.frombuffer(before + b"".join(rows[start + row][2] for row in order), np.uint8))
        writer.flush()
    assert all(one == blocks[0] for one in blocks)
    assert all(len(piece) == block for piece in blocks[0][:-1])


def test_part_of_a_file_is_written_in_blocks(tmp_path):
    (tmp_path / "file").write_bytes(b"0123456789")
    blocks = []
    writer = BlockWriter(lambda piece: blocks.append(bytes(piece)), 4)
    with io.FileIO(f"{tmp_path}/file") as file:
        for start, end in ((1, 4), (4, 4), (2, 9)):
            writer.read_from(file, start, end)
        writer.flush()
        with pytest.raises(OSError, match=r"file' ends 3 bytes too early"):
            writer.read_from(file, 9, 13)
        file.seek(9)
        with pytest.raises(OSError, match=r"file' ends 15 bytes too early"):
            read_into(file, np.empty(2, np.int64))
    assert blocks == [b"1232", b"3456", b"78"]


def test_records_are_views_of_a_batch():
    batch = batch_of([(0, 5, b"aa", None), (1, 2, b"bbb", 7), (0, 2, b"", None), (1, 0, b"c", 1)])
    found = EncodedRecords.of(batch.slice(1))
    assert (len(found), found.nbytes, found.content.tobytes()) == (3, 4, b"bbbc")
    assert (found.keys.tolist(), found.times.tolist()) == ([2, 2, 0], [7, NO_TIME, 1])
    assert found.data.ctypes.data == batch.column("record").buffers()[2].address
    assert EncodedRecords.of(batch.slice(0, 1)).times is None
    assert list(found.by_split()) == [(1, 0, 1), (0, 1, 2), (1, 2, 3)]
    assert list(found.by_split(np.array([1, 0, 2]))) == [(0, 0, 1), (1, 1, 3)]
    assert len(EncodedRecords.of(batch.slice(4))) == 0


def test_parts_become_one():
    parts = [
        EncodedRecords.of(batch_of(rows)) for rows in ([(0, 1, b"ab", None)], [(1, 2, b"", 3), (0, 3, b"c", None)])
    ]
    whole = concat_records(parts, np.frombuffer(b"abc...", np.uint8))
    assert (whole.splits.tolist(), whole.keys.tolist()) == ([0, 1, 0], [1, 2, 3])
    assert (whole.content.tobytes(), whole.offsets.tolist()) == (b"abc", [0, 2, 2, 3])
    assert whole.times.tolist() == [NO_TIME, 3, NO_TIME]


@needs_kernel
@pytest.mark.parametrize("offsets", [[0, 5], [0, 2, 1, 3], [-1, 0], []])
def test_kernel_refuses_offsets_that_lead_out_of_the_data(offsets):
    count = max(len(offsets) - 1, 0)
    parts = np.zeros(count, np.uint16), np.zeros(count, np.uint64), np.zeros(3, np.uint8), np.array(offsets, np.int64)
    with pytest.raises(ValueError, match="offsets must"):
        records._runs.sort_order(*parts)


@needs_kernel
@pytest.mark.parametrize(
    "arguments", [([0, 9], 0, 0, 0), ([2], 0, 0, 0), ([-1], 0, 0, 0), ([0], 0, 3, 0), ([0], -1, 0, 0)]
)
def test_kernel_refuses_to_copy_what_is_not_there(arguments):
    order, index, skip, filled = arguments
    data, offsets = np.zeros(3, np.uint8), np.array([0, 2, 9], np.int64)
    with pytest.raises(IndexError, match="no such record"):
        records._runs.gather(data, offsets, np.array(order), index, skip, np.zeros(8, np.uint8), filled)


def test_crc_goes_on():
    assert shard._extended_crc32c(shard._extended_crc32c(0, b"1234"), memoryview(b"56789")) == 0xE3069283
    assert shard._extended_crc32c(7, b"") == google_crc32c.extend(7, b"") == 7
