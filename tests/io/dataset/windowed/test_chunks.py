import json
import os

import numpy as np
import pyarrow as pa
import pytest
from apache_beam import coders

from penstock.io.batches import origin_array
from penstock.io.beam.coverage import InputRange, SeenPositions
from penstock.io.beam.windows import parse_window
from penstock.io.dataset.shuffle import hash_bound
from penstock.io.dataset.windowed.chunks import (
    Chunk,
    ChunkPart,
    ChunkWriter,
    SeenRows,
    merge_inputs,
    read_bytes,
    read_part,
    read_sources,
)
from penstock.io.dead_letters.source import keep_source, payloads_of
from penstock.io.reserved import EVENT_TIME, ORIGIN, SOURCE, SPLIT
from penstock.io.sort.records import RECORDS, EncodedRecords, records_batch

SECOND = 1_000_000
MINUTES = parse_window("fixed:60s")


def batch_of(seconds, uri="kafka://h/t/0", first=0, splits=None):
    """Records and source rows: record i is `<position>` with a key that alternates between two shards."""
    count = len(seconds)
    positions = np.arange(first, first + count)
    times = pa.array([second * SECOND for second in seconds], pa.timestamp("us", "UTC"))
    texts = [b"%d" % position for position in positions]
    keys = np.array([(i % 2 << 63) + 10**6 - i for i in positions.tolist()], np.uint64)
    offsets = np.cumsum([0, *map(len, texts)])
    data = np.frombuffer(b"".join(texts), np.uint8)
    records = records_batch(np.array(splits or [0] * count, np.uint16), keys, data, offsets, times)
    rows = {"x": pa.array(positions), ORIGIN: origin_array(uri, positions), EVENT_TIME: times}
    return records, pa.record_batch({**rows, SPLIT: pa.array(["a"] * count)})


def write(tmp_path, *batches, windows=MINUTES, **options):
    writer = ChunkWriter(str(tmp_path), windows, 2, **options)
    return [chunk for batch in batches for chunk in writer.add(*batch)] + list(writer.flush())


def parts(chunk):
    read = {(part.split, part.shard): read_part(chunk.path, part.offset, part.length) for part in chunk.parts}
    assert all(batch.schema.equals(RECORDS) for batch in read.values())
    assert [len(batch) for batch in read.values()] == [part.rows for part in chunk.parts]
    return {key: [int(value) for value in batch.column("record").to_pylist()] for key, batch in read.items()}


def sources(chunk):
    return [row["x"] for batch in read_sources(chunk) for row in batch.to_pylist()]


def test_rows_lie_by_window_split_and_shard_in_order(tmp_path):
    chunks = write(tmp_path, batch_of([1, 61, 2, 3, 62, 4], splits=[1, 0, 0, 1, 0, 0]), batch_of([5], first=6))
    assert [(chunk.window, chunk.rows) for chunk in chunks] == [(0, 5), (60 * SECOND, 2)]
    assert parts(chunks[0]) == {(0, 0): [6, 2], (0, 1): [5], (1, 0): [0], (1, 1): [3]}
    assert parts(chunks[1]) == {(0, 0): [4], (0, 1): [1]}
    assert [sources(chunk) for chunk in chunks] == [[0, 2, 3, 5, 6], [1, 4]]
    assert os.path.dirname(chunks[1].path) == f"{tmp_path}/19700101T000100Z_19700101T000200Z"
    assert chunks[0].inputs == (InputRange("kafka://h/t/0", 0, 5, 4), InputRange("kafka://h/t/0", 6, 6, 1))


class Numbers:
    """Summaries that are the column x."""

    def begin(self):
        return Gathered()


class Gathered:
    def __init__(self):
        self.found = []

    def add(self, rows):
        self.found += rows.column("x").to_pylist()

    def to_bytes(self):
        return json.dumps(self.found).encode()


@pytest.mark.parametrize("max_bytes", [1, 1 << 20])
def test_a_chunk_has_the_summary_of_its_rows(tmp_path, max_bytes):
    seen = SeenRows({0: {"kafka://h/t/0": ((0, 2),)}}, SeenPositions.of([("kafka://h/t/0", 4)]))
    batches = batch_of([1, 61, 2, 3, 62, 4]), batch_of([5, 63], first=6)
    options = {"summaries": Numbers(), "seen": seen, "windows": parse_window("sliding:60s/30s"), "max_bytes": max_bytes}
    chunks = write(tmp_path, *batches, **options)
    assert sorted(row for chunk in chunks if chunk.window == 0 for row in sources(chunk)) == [2, 3, 5, 6]
    for chunk in chunks:
        assert json.loads(read_bytes(chunk.path, *chunk.summary)) == sources(chunk)
        assert sum(part.rows for part in chunk.parts) == chunk.rows == len(sources(chunk))


def test_parts_are_ranges_of_keys(tmp_path):
    (chunk,) = write(tmp_path, batch_of([1, 2, 3, 4]))
    for part in chunk.parts:
        keys = EncodedRecords.of(read_part(chunk.path, part.offset, part.length)).keys
        assert keys.tolist() == sorted(keys.tolist())
        assert hash_bound(part.shard, 2) <= keys.min() <= keys.max() < hash_bound(part.shard + 1, 2)


def test_rows_are_in_each_of_their_sliding_windows(tmp_path):
    chunks = write(tmp_path, batch_of([1, 40]), windows=parse_window("sliding:60s/30s"))
    assert {chunk.window // SECOND: sources(chunk) for chunk in chunks} == {-30: [0], 0: [0, 1], 30: [1]}


def test_full_buffers_are_written_and_nothing_writes_nothing(tmp_path):
    chunks = write(tmp_path, *(batch_of([1, 2, 3], first=i * 3) for i in range(4)), max_bytes=1)
    assert [chunk.rows for chunk in chunks] == [3, 3, 3, 3]
    assert write(tmp_path) == []
    assert write(tmp_path, batch_of([])) == []


def test_a_chunk_holds_what_was_read_and_no_columns_beside_it(tmp_path):
    records, rows = batch_of([1, 2])
    (chunk,) = write(tmp_path, (records, keep_source(rows)))
    (kept,) = read_sources(chunk)
    assert set(kept.schema.names) == {SOURCE, ORIGIN, EVENT_TIME}
    assert payloads_of(kept.column(SOURCE)).texts == ['{"x": 0}', '{"x": 1}']


def test_source_rows_keep_their_columns_when_batches_differ(tmp_path):
    records, rows = batch_of([1, 2])
    other = rows.append_column("y", pa.array(["a", "b"]))
    (chunk,) = write(tmp_path, (records, rows), (records, other), (records, other), (records, rows))
    assert [batch.num_rows for batch in read_sources(chunk)] == [2, 4, 2]
    assert [set(batch.schema.names) for batch in read_sources(chunk)] == [
        {"x", ORIGIN, EVENT_TIME}, {"x", "y", ORIGIN, EVENT_TIME}, {"x", ORIGIN, EVENT_TIME}
    ]  # fmt: skip


def test_inputs_of_several_sources(tmp_path):
    (chunk,) = write(tmp_path, batch_of([1, 2], "b", 5), batch_of([1], "a", 7), batch_of([1], "b", 2))
    assert chunk.inputs == (InputRange("b", 5, 6, 2), InputRange("a", 7, 7, 1), InputRange("b", 2, 2, 1))
    assert merge_inputs([*chunk.inputs, InputRange("a", 1, 1, 1)])[0] == InputRange("a", 1, 7, 2)


def test_file_that_ends_too_early(tmp_path):
    (chunk,) = write(tmp_path, batch_of([1]))
    with open(chunk.path, "r+b") as file:
        file.truncate(10)
    with pytest.raises(OSError, match="ends before byte"):
        read_part(chunk.path, chunk.parts[0].offset, chunk.parts[0].length)


def test_references_cross_stages_as_json():
    coder = coders.registry.get_coder(Chunk)
    chunk = Chunk(-60, "p", 3, (ChunkPart(0, 1, 2, 3, 3),), (5, 7), (InputRange("u", 1, 2, 3),))
    assert coder.decode(coder.encode(chunk)) == chunk
    assert coder.is_deterministic()
    assert coder.encode(chunk) == (
        b'{"window":-60,"path":"p","rows":3,"parts":[{"split":0,"shard":1,"offset":2,"length":3,"rows":3}],'
        b'"source":[5,7],"inputs":[{"uri":"u","first":1,"last":2,"rows":3}]}'
    )


def test_a_folder_that_is_removed_while_a_file_is_created_in_it(tmp_path, monkeypatch):
    """The sweeper does so with the empty folder of a final window, for which too late rows come."""
    real, removed = os.makedirs, []

    def swept(path, *args, **options):
        real(path, *args, **options)
        if len(removed) < 3:
            os.rmdir(path)
            removed.append(path)

    monkeypatch.setattr(os, "makedirs", swept)
    (chunk,) = write(tmp_path, batch_of([1, 2]))
    assert (sources(chunk), len(removed)) == ([0, 1], 3)
