"""Files as a stream; what needs a clock that runs is in tests/integration/test_watch.py."""

import collections
import datetime
import gzip
import json
import pathlib
import uuid

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners import sdf_utils
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from helpers import write_csv, write_jsonl, write_parquet, write_tfrecord

from penstock.io.beam.local import stopping
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import match_files
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.formats.parquet import ParquetFormat
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.schema import Feature, Kind
from penstock.io.sources.seen import LookTracker, Watched
from penstock.io.sources.watch import Clock, WatchRecords, _WatchFilesFn, latest_event_time

SECOND = 1_000_000
MICROSECOND = datetime.timedelta(microseconds=1)
FEATURES = [Feature("t", Kind.INT, multivalued=False), Feature("x", Kind.BYTES, multivalued=False)]


def make_rows(count, start=0):
    return [{"t": start + row, "x": f"row {row}"} for row in range(count)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def watched(patterns, tmp_path, **options):
    """Rows by file, and dead letters, of three looks."""
    (tmp_path / "rows").mkdir()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        handler = DeadLetterHandler(str(tmp_path / "letters"), "run")
        batches = pipeline | WatchRecords(patterns, "1s", looks=3, **options).with_error_handler(handler)
        _ = batches | beam.Map(_note_files, str(tmp_path / "rows"))
        handler.close()
    names = [line for path in (tmp_path / "rows").iterdir() for line in path.read_text().splitlines()]
    lines = [line for path in (tmp_path / "letters").glob("*") for line in path.read_text().splitlines()]
    return dict(collections.Counter(names)), [json.loads(line) for line in lines]


def _note_files(batch, directory):
    names = [row["uri"].rsplit("/", 1)[1] for row in batch.column("_origin").to_pylist()]
    pathlib.Path(directory, uuid.uuid4().hex).write_text("\n".join(names))


def test_all_files_are_read_once_and_a_broken_one_does_not_end_the_stream(folder, tmp_path):
    write_csv(folder / "a.csv", make_rows(10), ["t", "x"])
    write_csv(folder / "b.csv", make_rows(20), ["t", "x"])
    (folder / "c.csv.gz").write_bytes(gzip.compress(b"t,x\n1,a\n2,b\n")[:-6])
    (folder / "d.csv").write_text("t,_split\n1,a\n")
    pattern = f"{folder}/*.csv*"
    rows, letters = watched([pattern, f"{folder}/a*"], tmp_path, format="csv", features=FEATURES)
    assert rows["a.csv"] == 10
    assert rows["b.csv"] == 20
    assert sorted((letter["reason"], letter["uri"][-8:].strip("/")) for letter in letters) == [
        ("file.broken", "c.csv.gz"),
        ("file.broken", "in/d.csv"),
    ]
    assert all(letter["stage"] == "read" and "read" in letter["detail"] for letter in letters)


def test_rejected_rows_are_dead_letters_as_ever(folder, tmp_path):
    (folder / "a.csv").write_text("t,x\n1,a\nzwei,b\n3\n")
    rows, letters = watched([f"{folder}/*.csv"], tmp_path, features=FEATURES)
    assert rows == {"a.csv": 1}
    assert {letter["reason"]: letter["position"] for letter in letters} == {"schema.type": 8, "csv.column_count": 15}


def test_nothing_there_is_no_error(folder, tmp_path):
    assert watched([f"{folder}/*.csv"], tmp_path) == ({}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patterns": ["in/*"]}, "no format is known"),
        ({"interval": "0s"}, "interval must be at least 1ms"),
        ({"interval": 1}, "interval must be a duration, .* got 1"),
        ({"patterns": []}, "patterns must name at least one"),
        ({"looks": 1}, "looks must be >= 2"),
        ({"event_time": "nope", "features": FEATURES}, "nope"),
        ({"event_time": "t", "features": FEATURES}, "name its unit"),
    ],
    ids=["format", "interval", "number", "patterns", "looks", "event_time", "unit"],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        _ = beam.Pipeline() | WatchRecords(**{"patterns": ["in/*.csv"], "interval": "1s", **arguments})


def test_the_stream_is_unbounded():
    batches = beam.Pipeline() | WatchRecords(["in/*.csv"], "1s").with_error_handler(DiscardingHandler())
    assert not batches.is_bounded


def test_files_come_with_the_watermark_before_them(folder):
    write_csv(folder / "a.csv", make_rows(3, start=1000), ["t", "x"])
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        batches = pipeline | WatchRecords([f"{folder}/*.csv"], "1s", features=FEATURES, event_time="t:s", looks=3)
        times = batches | beam.Map(lambda _, time=beam.DoFn.TimestampParam: time.micros < 1000 * SECOND)
        assert_that(times, equal_to([True]))


@pytest.mark.parametrize("features", [FEATURES, None], ids=["schema", "no_schema"])
@pytest.mark.parametrize(
    ("name", "write", "reader", "expected"),
    [
        ("a.csv", lambda path: write_csv(path, make_rows(70_000), ["t", "x"]), CsvFormat(), 69_999),
        ("a.jsonl", lambda path: write_jsonl(path, make_rows(70_000)), JsonlFormat(), 69_999),
        ("a.tfrecord", lambda path: write_tfrecord(path, make_rows(20)), TFRecordFormat(), 19),
    ],
    ids=["csv", "jsonl", "tfrecord"],
)
def test_the_latest_event_time_is_that_of_the_last_rows(tmp_path, name, write, reader, expected, features):
    write(tmp_path / name)
    (file,) = match_files([str(tmp_path / name)])
    column = "t:s"
    if name.endswith("csv") and features is None:
        features = FEATURES  # untyped CSV is text
    assert latest_event_time(reader, file, column, features) == expected * SECOND


def test_what_cannot_be_entered_at_its_end_tells_the_time_of_its_first_rows(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in make_rows(100_000)).encode()))
    (file,) = match_files([str(path)])
    found = latest_event_time(JsonlFormat(), file, "t:s", FEATURES)
    assert 0 < found < 99_999 * SECOND


def test_parquet_tells_the_time_of_its_last_row_groups(tmp_path):
    write_parquet(tmp_path / "a.parquet", pa.table({"t": list(range(1000)), "x": ["x"] * 1000}))
    (file,) = match_files([str(tmp_path / "a.parquet")])
    assert latest_event_time(ParquetFormat(), file, "t:s", FEATURES) == 999 * SECOND


@pytest.mark.parametrize("content", ["", "t,x\n", "t,x\nnever,a\n", "x\na\n", "t,t\n"])
def test_files_without_times_tell_none(tmp_path, content):
    (tmp_path / "a.csv").write_text(content)
    (file,) = match_files([str(tmp_path / "a.csv")])
    assert latest_event_time(CsvFormat(), file, "t:s", FEATURES) is None


@pytest.mark.parametrize(
    ("clock", "state", "expected"),
    [
        ({}, {"latest": 50}, 45),
        ({}, {"latest": None}, None),
        ({}, {"latest": 50, "growing": {b"a": b"b"}}, None),
        ({}, {"latest": 5000}, 995),
        ({"event_time": None}, {"latest": None, "growing": {b"a": b"b"}}, 995),
        ({"idle_timeout": 400 * MICROSECOND}, {"latest": 50, "found": 700}, 45),
        ({"idle_timeout": 200 * MICROSECOND}, {"latest": 50, "found": 700}, 795),
        ({"idle_timeout": 200 * MICROSECOND}, {"latest": 50, "found": 700, "growing": {b"a": b"b"}}, 795),
    ],
    ids=["rows", "no_rows_yet", "growing", "future", "clock", "not_idle", "idle", "idle_and_growing"],
)
def test_the_watermark_follows_rows_then_the_clock(clock, state, expected):
    options = {"event_time": "t:us", "out_of_orderness": 5 * MICROSECOND, **clock}
    assert Clock(CsvFormat(), **options).watermark(Watched(**state), 1000) == expected


def test_of_many_files_the_newest_tell_the_time(folder):
    for hour in range(20):
        write_csv(folder / f"{hour:02d}.csv", make_rows(1, start=hour * 3600), ["t", "x"])
    files = match_files([f"{folder}/*.csv"])
    clock = Clock(CsvFormat(), "t:s", FEATURES)
    assert clock.latest(files, 20 * 3600 * SECOND) == 19 * 3600 * SECOND
    assert clock.latest(files, 9 * 3600 * SECOND) == 10 * 3600 * SECOND, "what is over an hour ahead does not count"


def test_a_time_far_ahead_in_an_old_checkpoint_is_forgotten():
    clock = Clock(CsvFormat(), "t:s", FEATURES)
    hour = 3600 * SECOND
    assert clock.believed(Watched(latest=3 * hour), now=2 * hour) == 3 * hour
    assert clock.believed(Watched(latest=3 * hour + 1), now=2 * hour) is None
    assert clock.believed(Watched(), now=2 * hour) is None
    assert clock.latest([], now=2 * hour) is None


def test_a_stream_that_stops_looks_no_more(folder):
    write_jsonl(folder / "a.jsonl", make_rows(3))
    with stopping.stream() as name:
        fn = _WatchFilesFn(datetime.timedelta(seconds=1), Clock(JsonlFormat()))
        stopping.stop_reading(name)
        tracker = sdf_utils.ThreadsafeRestrictionTracker(LookTracker(Watched(looks_left=-1)))
        view = sdf_utils.RestrictionTrackerView(tracker)
        assert list(fn.process(((f"{folder}/*",), -1), view, None)) == []
        left, pause = tracker.deferred_status()
    assert (left, round(pause.micros / 1e6)) == (Watched(looks_left=-1), 3600)
