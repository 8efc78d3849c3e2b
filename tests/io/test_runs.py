import os
import resource

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.runs import (
    KEYS_END,
    RECORDS,
    MergedRuns,
    RunWriter,
    content,
    record_bytes,
    records_batch,
    sort_records,
    write_run,
)


def batch_of(rows):
    """A batch of (key, bytes, event time) rows."""
    keys, records, times = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [pa.array(keys, pa.uint64()), pa.array(records, pa.large_binary())]
    return pa.record_batch([*columns, pa.array(times, RECORDS.field("event_time").type)], schema=RECORDS)


def rows_of(batches):
    return [tuple(row.values()) for batch in batches for row in batch.cast(UNTIMED).to_pylist()]


UNTIMED = RECORDS.set(2, pa.field("event_time", pa.int64()))

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 7, 2**63, 2**64 - 1]))
ROWS = st.lists(st.tuples(KEYS, st.binary(max_size=40), st.none() | st.integers(0, 9)), max_size=60)


def spill(directory, rows, chunk, max_bytes):
    writer = RunWriter(str(directory), max_bytes)
    runs = []
    for start in range(0, len(rows), chunk):
        runs += writer.add("train", batch_of(rows[start : start + chunk]))
    return [*runs, *writer.flush()]


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, chunk=st.integers(1, 20), max_bytes=st.integers(1, 200), piece=st.integers(1, 300), data=st.data())
def test_merge_of_any_range_is_that_of_a_sort(tmp_path_factory, rows, chunk, max_bytes, piece, data):
    runs = spill(tmp_path_factory.mktemp("runs"), rows, chunk, max_bytes)
    merged = MergedRuns(runs, piece)
    low, high = sorted(data.draw(st.tuples(KEYS, st.just(KEYS_END) | KEYS)))
    expected = sorted(row[:2] for row in rows if low <= row[0] < high)
    assert [row[:2] for row in rows_of(merged.pieces(low, high))] == expected
    assert merged.count_below(low) == sum(row[0] < low for row in rows)
    whole = rows_of(merged.pieces(0, KEYS_END))
    assert sorted(whole, key=str) == sorted(rows, key=str)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, rank=st.integers(0, 60))
def test_key_at_a_rank(tmp_path_factory, rows, rank):
    merged = MergedRuns(spill(tmp_path_factory.mktemp("runs"), rows, 7, 100))
    keys = sorted(row[0] for row in rows)
    assert merged.key_at(rank) == (keys[rank] if rank < len(keys) else KEYS_END)


def test_pieces_are_bounded_also_where_one_row_repeats(tmp_path):
    rows = [(5, b"x" * 100, 1)] * 3000 + [(key << 50, b"y" * 100, None) for key in range(1000)]
    runs = spill(tmp_path, rows, 500, 50_000)
    assert len(runs) > 3
    pieces = list(MergedRuns(runs, 20_000).pieces(0, KEYS_END))
    assert rows_of(pieces) == sorted(rows, key=lambda row: row[:2])
    # A run may add a block that only begins in the range of a piece.
    assert max(record_bytes(piece) for piece in pieces) <= 20_000 + len(runs) * (64 << 10)
    assert len(pieces) > 10


def test_large_run_is_cut_into_blocks_and_one_huge_record_is_a_block(tmp_path):
    rows = [*((key << 40, bytes(1000), None) for key in range(300)), (2**63, bytes(300_000), None)]
    run = write_run(f"{tmp_path}/a.run", "train", batch_of(rows))
    assert len(run.first_keys) == 301_000 // 65_000 + 2
    assert (run.records[-1], run.bytes[-1]) == (301, 600_000)
    assert rows_of(MergedRuns([run]).pieces(10 << 40, 12 << 40)) == rows[10:12]


def test_splits_are_kept_apart(tmp_path):
    writer = RunWriter(str(tmp_path), max_bytes=4)
    runs = [
        *writer.add("a", batch_of([(1, b"12", None)])),
        *writer.add("b", batch_of([(2, b"34", None)])),
        *writer.flush(),
    ]
    assert {run.split: rows_of(MergedRuns([run]).pieces(0, KEYS_END)) for run in runs} == {
        "a": [(1, b"12", None)],
        "b": [(2, b"34", None)],
    }


def test_records_are_views_of_the_encoded_bytes():
    data, offsets = np.frombuffer(b"aabbbc", np.uint8), np.array([0, 2, 5, 6])
    records = records_batch(data, offsets, np.array([2, 1, 1], np.uint64))
    assert records.column("record").to_pylist() == [b"aa", b"bbb", b"c"]
    assert bytes(content(records.slice(1, 2))) == b"bbbc"
    assert bytes(content(sort_records(records))) == b"bbbcaa"
    assert (record_bytes(records), record_bytes(records.slice(0, 0)), bytes(content(records.slice(3, 0)))) == (
        6,
        0,
        b"",
    )


@pytest.mark.parametrize("rows", [[], [(1, b"", None)]])
def test_nothing_and_the_empty_record(tmp_path, rows):
    assert rows_of(MergedRuns(spill(tmp_path, rows, 1, 1)).pieces(0, KEYS_END)) == rows


def test_row_that_repeats_in_many_runs_needs_few_open_files(tmp_path):
    rows = [(7, b"the same row", None)] * 3
    runs = [run for _ in range(150) for run in spill(tmp_path, rows, 3, 1 << 20)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 30, hard))
    try:
        merged = rows_of(MergedRuns(runs, max_piece_bytes=600).pieces(0, KEYS_END))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(runs) == 150
    assert merged == rows * 150


def test_runs_without_a_key_of_the_range_are_not_opened(tmp_path, monkeypatch):
    runs = [
        run for key in (10, 20, 30) for run in spill(tmp_path, [(key, b"x", None), (key + 5, b"y", None)], 2, 1 << 20)
    ]
    opened = []
    real = pa.OSFile
    monkeypatch.setattr(pa, "OSFile", lambda path, mode: (opened.append(path), real(path, mode))[1])
    assert rows_of(MergedRuns(runs).pieces(20, 26)) == [(20, b"x", None), (25, b"y", None)]
    assert opened == [runs[1].path]
