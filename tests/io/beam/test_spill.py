"""The spill by key: every row once, in its bucket, by files and by the runner."""

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from apache_beam.utils.timestamp import Timestamp

from penstock.io.batches import notes_of, with_notes
from penstock.io.beam import spill
from penstock.io.beam.spill import GroupByBucket, SpillFile, cut_by_bucket, earliest_time, read_pieces
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.reasons import Note
from penstock.io.reserved import EVENT_TIME


def batch_of(*numbers):
    return pa.record_batch({"n": pa.array(numbers, pa.int64())})


def numbers(batches):
    return [batch.column("n").to_pylist() for batch in batches]


def all_numbers(pieces):
    return sorted(number for found in numbers(read_pieces(pieces)) for number in found)


def buckets_of(batch):
    return batch.column("n").to_numpy() % 3


def test_rows_of_a_bucket_keep_their_order():
    found = [
        (bucket, part.column("n").to_pylist())
        for bucket, part in cut_by_bucket(batch_of(5, 3, 8, 4, 2), np.array([2, 0, 2, 1, 2]))
    ]
    assert found == [(0, [3]), (1, [4]), (2, [5, 8, 2])]
    assert list(cut_by_bucket(batch_of(), np.zeros(0, np.int64))) == []


def test_batches_come_back_from_a_file_as_few(tmp_path, monkeypatch):
    with SpillFile(str(tmp_path / "new" / "folder")) as file:
        pieces = [file.add(batch) for batch in (batch_of(1, 2), batch_of(), batch_of(3))]
    other = pa.record_batch({"n": [4], "m": [5]})
    assert numbers(read_pieces([*pieces, other])) == [[1, 2, 3], [4]]
    monkeypatch.setattr(spill, "MAX_COLLECTED_ROWS", 2)
    assert numbers(read_pieces(pieces)) == [[1, 2], [3]]


def test_notes_of_batches_are_counted_once():
    noted = [
        with_notes(batch_of(*range(count)), [Note("left_out", "x", count, "a list"), Note("k", f"{count}", 1, "")])
        for count in (5, 4)
    ]
    parts = [part for batch in noted for _, part in cut_by_bucket(batch, buckets_of(batch))]
    (whole,) = read_pieces(parts)
    assert [(note.subject, note.count) for note in notes_of(whole)] == [("4", 1), ("5", 1), ("x", 9)]
    assert whole.num_rows == 9


@pytest.mark.parametrize("spilled", [True, False], ids=["files", "runner"])
def test_each_bucket_has_all_its_rows_once(tmp_path, monkeypatch, spilled):
    monkeypatch.setattr(spill, "MAX_COLLECTED_ROWS", 7)

    def check(found):
        assert dict(found) == {bucket: list(range(bucket, 50, 3)) for bucket in range(3)}

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        batches = pipeline | beam.Create([batch_of(*range(start, start + 5)) for start in range(0, 50, 5)])
        grouped = batches | GroupByBucket(buckets_of, "Test", str(tmp_path) if spilled else None)
        assert_that(grouped | beam.MapTuple(lambda key, pieces: (key, all_numbers(pieces))), check)
    assert bool(list(tmp_path.iterdir())) == spilled


def test_the_earliest_time_is_that_of_the_rows():
    default = Timestamp(7)
    assert earliest_time(batch_of(1), default) == default
    times = pa.array([None, 3_000_000, 2_000_000], pa.int64()).cast(TIME_TYPE)
    assert earliest_time(pa.record_batch({EVENT_TIME: times}), default) == Timestamp(2)
    assert earliest_time(pa.record_batch({EVENT_TIME: times.slice(0, 1)}), default) == default
