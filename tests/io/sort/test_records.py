import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases.record_rows import FEW_KEYS, ROWS, batch_of

from penstock.io.sort import records
from penstock.io.sort.records import (
    NO_TIME,
    BlockWriter,
    EncodedRecords,
    concat_records,
    read_into,
    sort_records,
)


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
    for is_ordered in (True, False):
        blocks.append([])
        writer = BlockWriter(lambda piece: blocks[-1].append(bytes(piece)), block)
        if is_ordered:
            writer.write(np.frombuffer(before, np.uint8))
            writer.write_ordered(found, order)
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
