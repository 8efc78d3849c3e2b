import itertools
import os
import resource
import sys

import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.kernel import native
from penstock.io.sort import merge, records, runs
from penstock.io.sort.merge import KEYS_END, MergedRuns, Written
from penstock.io.sort.records import RECORDS, BlockWriter
from penstock.io.sort.runs import RunWriter

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 7, 2**63, 2**64 - 1]))
ROWS = st.lists(st.tuples(KEYS, st.binary(max_size=40), st.none() | st.integers(0, 9)), max_size=60)


def batch_of(rows, split=0):
    """A batch of (key, bytes, event time) rows."""
    columns = [[split] * len(rows), *(zip(*rows, strict=True) if rows else [()] * 3)]
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, RECORDS, strict=True)],
                           schema=RECORDS)  # fmt: skip


def spill(directory, rows, chunk, buffer_bytes=1 << 20, run_bytes=0):
    writer = RunWriter(str(directory), ("train",), buffer_bytes, run_bytes)
    rows, found = list(rows), []
    for start in range(0, len(rows), chunk):
        found += writer.add(batch_of(rows[start : start + chunk]))
    return [*found, *writer.flush()]


def read(merged, low=0, high=KEYS_END, block=7):
    """The bytes of a range, and what is said about them."""
    out = bytearray()
    blocks = BlockWriter(out.extend, block)
    written = merged.write(low, high, blocks)
    blocks.flush()
    return bytes(out), written


def expected(rows):
    times = [row[2] for row in rows if row[2] is not None]
    content = b"".join(record for _, record, _ in sorted(rows, key=lambda row: row[:2]))
    return content, Written(len(rows), (min(times), max(times)) if times else None)


@settings(max_examples=scaled(100))
@given(
    rows=ROWS,
    is_ordered=st.booleans(),
    chunk=st.integers(1, 20),
    buffer_bytes=st.integers(0, 200),
    run_bytes=st.sampled_from([0, 50, 1000]),
    index=st.integers(1, 100),
    piece=st.integers(1, 300),
    data=st.data(),
)
def test_any_range_is_that_of_a_sort(
    tmp_path_factory, rows, is_ordered, chunk, buffer_bytes, run_bytes, index, piece, data
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_INDEX_BYTES", index)
        rows = sorted(rows, key=lambda row: row[:2]) if is_ordered else rows
        found = spill(tmp_path_factory.mktemp("runs"), rows, chunk, buffer_bytes, run_bytes)
    merged = MergedRuns(found, piece)
    low, high = sorted(data.draw(st.tuples(KEYS, st.just(KEYS_END) | KEYS)))
    assert read(merged, low, high) == expected([row for row in rows if low <= row[0] < high])
    assert read(merged) == expected(rows)
    assert merged.count_below(low) == sum(row[0] < low for row in rows)


@settings(max_examples=scaled(60))
@given(
    rows=ROWS,
    is_ordered=st.booleans(),
    buffer_bytes=st.integers(0, 200),
    index=st.integers(1, 100),
    piece=st.integers(1, 300),
    hole=st.sampled_from([1, 100, 1000]),
    cuts=st.lists(KEYS, max_size=5),
)
def test_shards_that_are_written_once_are_those_of_a_sort(
    tmp_path_factory, rows, is_ordered, buffer_bytes, index, piece, hole, cuts
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_INDEX_BYTES", index)
        patch.setattr(merge, "_DISCARD_BYTES", hole)
        rows = sorted(rows, key=lambda row: row[:2]) if is_ordered else rows
        found = spill(tmp_path_factory.mktemp("runs"), rows, 7, buffer_bytes, 50)
        for low, high in itertools.pairwise(sorted({0, *cuts, KEYS_END})):
            merged = MergedRuns(found, piece, once=True)
            assert read(merged, low, high) == expected([row for row in rows if low <= row[0] < high])


@pytest.mark.skipif(not native.ENABLED or sys.platform != "linux", reason="the kernel does it, on Linux")
@pytest.mark.parametrize("is_ordered", [True, False])
def test_what_is_written_once_takes_no_disk_any_more(tmp_path, is_ordered):
    rows = [(row * (1 if is_ordered else 0x9E3779B97F4A7C15) % 2**64, bytes(1000), None) for row in range(5000)]
    found = spill(tmp_path, rows, 500, 1 << 20)
    before = used(tmp_path)
    merged = MergedRuns(found, once=True)
    read(merged, 0, 2**63 if not is_ordered else 2500)
    assert used(tmp_path) < 0.6 * before
    read(merged, 2**63 if not is_ordered else 2500)
    assert used(tmp_path) < 0.1 * before


def used(directory):
    """Bytes on the disk."""
    return sum(path.stat().st_blocks * 512 for path in directory.iterdir())


@settings(max_examples=scaled(60))
@given(rows=ROWS, rank=st.integers(0, 60))
def test_key_at_a_rank(tmp_path_factory, rows, rank):
    merged = MergedRuns(spill(tmp_path_factory.mktemp("runs"), rows, 7, 100))
    keys = sorted(row[0] for row in rows)
    assert merged.key_at(rank) == (keys[rank] if rank < len(keys) else KEYS_END)


@pytest.fixture
def sorted_bytes(monkeypatch):
    """Bytes of each piece that is sorted."""
    found = []
    for module in (runs, merge):
        monkeypatch.setattr(
            module, "sorted_order", lambda parts: (found.append(parts.nbytes), records.sorted_order(parts))[1]
        )
    return found


@pytest.mark.parametrize("repeats", [[b"x" * 100] * 3000, [b"%0100d" % i for i in range(3000)]], ids=["same", "other"])
def test_pieces_are_bounded_also_where_one_key_repeats(tmp_path, monkeypatch, sorted_bytes, repeats):
    monkeypatch.setattr(runs, "_INDEX_BYTES", 1000)
    rows = [*((5, record, 1) for record in repeats), *((key << 50, b"y" * 100, None) for key in range(1000))]
    np.random.default_rng(1).shuffle(rows)
    found = spill(tmp_path, rows, 500, 50_000)
    assert len(found) > 3
    sorted_bytes.clear()
    assert read(MergedRuns(found, 20_000)) == expected(rows)
    # A run may add a block that only begins in the range of a piece.
    assert max(sorted_bytes) <= 20_000 + len(found) * 1100
    assert len(sorted_bytes) > 10


def test_large_run_is_cut_into_blocks_and_one_huge_record_is_a_block(tmp_path):
    rows = [*((key << 40, bytes(1000), None) for key in range(300)), (2**63, bytes(300_000), None)]
    (run,) = spill(tmp_path, rows, 301)
    assert len(run.first_keys) == len(run.last_keys) == 301_000 // 65_000 + 1
    assert (run.records[-1], run.bytes[-1], run.has_times) == (301, 600_000, False)
    assert read(MergedRuns([run]), 10 << 40, 12 << 40) == expected(rows[10:12])


def test_rows_in_order_are_neither_sorted_nor_cut_into_many_runs(tmp_path, sorted_bytes):
    rows = [(key, b"%d" % key, key if key % 3 else None) for key in range(2000)]
    parts = [rows[:700], rows[700:1100], rows[1100:]]
    writers = [[parts[0], parts[2]], [parts[1]]]
    found = [run for part in writers for run in spill(tmp_path, itertools.chain(*part), 100, 100, 1 << 20)]
    sorted_bytes.clear()
    assert len(found) == 2
    assert read(MergedRuns(found)) == expected(rows)
    assert read(MergedRuns(found), 650, 1150) == expected(rows[650:1150])
    assert not sorted_bytes


def test_rows_in_order_begin_a_run_when_one_is_full(tmp_path):
    rows = [(key, b"12345", None) for key in range(100)]
    assert [run.records[-1] for run in spill(tmp_path, rows, 10, 0, 200)] == [40, 40, 20]


def test_splits_are_kept_apart(tmp_path):
    writer = RunWriter(str(tmp_path), ("a", "b"), 4)
    rows = {"a": [(1, b"12", None), (7, b"7", None)], "b": [(2, b"34", None), (3, b"5", 1)]}
    mixed = pa.concat_batches([batch_of(rows["b"][1:], 1), batch_of(rows["a"]), batch_of(rows["b"][:1], 1)])
    found = [*writer.add(mixed.slice(0, 1)), *writer.add(mixed.slice(1)), *writer.flush()]
    for split in ("a", "b"):
        assert read(MergedRuns([run for run in found if run.split == split])) == expected(rows[split])


@pytest.mark.parametrize("rows", [[], [(1, b"", None)], [(2**64 - 1, b"", 3)]])
def test_nothing_and_the_empty_record(tmp_path, rows):
    assert read(MergedRuns(spill(tmp_path, rows, 1, 1))) == expected(rows)


def test_row_that_repeats_in_many_runs_needs_few_open_files(tmp_path):
    rows = [(7, b"the same row", None)] * 3
    found = [run for _ in range(150) for run in spill(tmp_path, rows, 3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 30, hard))
    try:
        merged = read(MergedRuns(found, max_piece_bytes=600))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(found) == 150
    assert merged == expected(rows * 150)


def test_runs_without_a_key_of_the_range_are_not_opened(tmp_path, monkeypatch):
    found = [run for key in (10, 20, 30) for run in spill(tmp_path, [(key, b"x", None), (key + 5, b"y", None)], 2)]
    opened = set()
    real = merge._RunReader._open
    monkeypatch.setattr(merge._RunReader, "_open", lambda self: (opened.add(self._run.path), real(self))[1])
    assert read(MergedRuns(found), 20, 26) == expected([(20, b"x", None), (25, b"y", None)])
    assert opened == {found[1].path}


def test_run_that_was_cut_short_fails(tmp_path):
    found = spill(tmp_path, [(1, b"12", None), (2, b"34", None)], 2)
    os.truncate(found[0].path, 30)
    with pytest.raises(OSError, match="bytes too early"):
        read(MergedRuns(found))
