"""Statistics of windows: those of the same rows at once, whatever came when; and what is unusual about a window."""

import datetime

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from window_sinks import Events, batch_of, write_bounded, write_stream

from penstock.io.batches import drop_rows
from penstock.io.beam.windows import FlushWindows, parse_window
from penstock.io.dataset.observer import WindowVersion
from penstock.io.dead_letters.handler import (
    REJECTED,
    DeadLetterHandler,
    RejectingTransform,
    reject,
    split_rejected,
)
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError
from penstock.io.reasons import Reason
from penstock.io.schema import schema_features
from penstock.transforms.history.store import read
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.files import list_files, read_list
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.verify import verify_dataset
from penstock.transforms.window_statistics import RejectedStatistics, WindowHistory, WindowStatistics

TENS = parse_window("fixed:10s")
OPTIONS = StatisticsOptions()


def rows(random, count, start, mean=0.0):
    """Rows of a window of 10 s."""
    return batch_of(
        range(start, start + count),
        (start // 1000 * 10 + np.sort(random.uniform(0, 9.9, count))).tolist(),
        fare=pa.array(random.normal(mean, 1, count), mask=random.random(count) < 0.1),
        word=pa.array(random.choice(["a", "b", "ü"], count)),
    )


def values(*batches):
    """The statistics of the features of rows."""
    whole = pa.concat_batches(batches).select(["id", "fare", "word"])
    return list_files(compute_statistics([whole], OPTIONS).to_proto())


def published(output, manifest):
    return {suffix: (output / manifest.statistics).with_suffix(suffix).read_bytes() for suffix in (".pb", ".json")}


@pytest.fixture
def random():
    return np.random.default_rng(3)


def test_a_stream_with_late_rows_has_the_statistics_of_the_same_rows_in_batch(tmp_path, random):
    first, second, late = rows(random, 500, 0), rows(random, 500, 1000), rows(random, 50, 500)
    pieces = [first.slice(0, 200), first.slice(200)]
    events = Events().add(*pieces).at(12).add(second, late)
    summaries = WindowStatistics(OPTIONS, TENS)
    windows = write_stream(tmp_path / "stream", events, allowed_lateness="20s", summaries=summaries)
    assert (windows[0].rows_on_time, windows[0].rows_late) == (500, 50)
    assert published(tmp_path / "stream", windows[0]) == values(first, late)
    assert published(tmp_path / "stream", windows[10]) == values(second)
    batch = [late, *pieces[::-1], second]
    bounded = write_bounded(tmp_path / "batch", batch, summaries=summaries)
    for start in (0, 10):
        assert published(tmp_path / "batch", bounded[start]) == published(tmp_path / "stream", windows[start])
    assert list(verify_dataset(str(tmp_path / "stream"))) == []


def test_windows_and_splits_add_up_to_the_whole(tmp_path, random):
    batches = [rows(random, 300, start) for start in (0, 1000, 2000)]
    summaries = WindowStatistics(OPTIONS, TENS)
    windows = write_bounded(tmp_path, batches, summaries=summaries)
    states = [summaries.restore((tmp_path / window.statistics).read_bytes()) for window in windows.values()]
    for order in (states, states[::-1]):
        assert dict(summaries.files(summaries.merge(order))) == values(*batches)


@pytest.mark.parametrize("before", [None, "previous"])
def test_a_drift_is_in_the_manifest_of_its_window(tmp_path, random, before):
    batches = [rows(random, 2000, 0), rows(random, 2000, 2000), rows(random, 2000, 4000, mean=3.0)]
    batches = [
        batch_of(batch.column("id").to_pylist(), [10 * number + 5] * 2000,
                 fare=batch.column("fare"), word=batch.column("word"))
        for number, batch in enumerate(batches)
    ]  # fmt: skip
    baseline = list_files(compute_statistics([batches[0].select(["fare", "word"])], OPTIONS).to_proto())
    against = {"before": before} if before else {"baseline": ("may.pb", baseline[".pb"])}
    events = Events()
    for number, batch in enumerate(batches):
        events = events.add(batch.drop_columns(["id"])).at(10 * number + 12)
    windows = write_stream(tmp_path, events, summaries=WindowStatistics(OPTIONS, TENS, **against))
    assert [bool(window.anomalies) for window in windows.values()] == [False, False, True]
    worst = windows[20].anomalies[0]
    assert (worst.feature, worst.against) == ("fare", windows[10].statistics if before else "may.pb")
    assert windows[20].compared_with == (worst.against,)
    assert windows[0].compared_with == (() if before else ("may.pb",))


def test_what_a_schema_demands_of_a_window_as_a_whole(tmp_path):
    schema = schema_pb2.Schema()
    feature = schema.feature.add(name="id", type=schema_pb2.INT)
    feature.presence.min_fraction = 1.0
    feature.unique_constraints.min = feature.unique_constraints.max = 4
    summaries = WindowStatistics(OPTIONS, TENS, schema=schema.SerializeToString())
    windows = write_bounded(tmp_path, [batch_of([1, 2, 3, 4], 5), batch_of([1, 1, 2, 2], 15)], summaries=summaries)
    assert [[found.reason for found in window.anomalies] for window in windows.values()] == [
        [], ["FEATURE_TYPE_LOW_UNIQUE"],
    ]  # fmt: skip
    assert windows[10].anomalies[0].severity == "error"


def test_the_week_before(random):
    hours = parse_window("fixed:1h")
    week, asked = 7 * 86_400_000_000, []
    summaries = WindowStatistics(OPTIONS, hours, before="week")
    assert (
        summaries.judge(
            WindowVersion("", 2 * week, 2 * week + week // 168, "r", "2026-01-01T00:00:00Z"),
            summaries.merge([]),
            asked.append,
        ).compared_with
        == ()
    )
    assert asked == [week]
    with pytest.raises(ConfigError, match=r"windows of fixed:11s do not begin at the same times each week"):
        WindowStatistics(OPTIONS, parse_window("fixed:11s"), before="week")


def test_too_many_anomalies_are_counted(random):
    names = [f"f{number}" for number in range(105)]
    old, new = (
        compute_statistics([pa.record_batch({name: random.normal(mean, 1, 200) for name in names})], OPTIONS)
        for mean in (0, 9)
    )
    baseline = list_files(old.to_proto())[".pb"]
    summaries = WindowStatistics(OPTIONS, TENS, baseline=("old.pb", baseline))
    judged = summaries.judge(
        WindowVersion("", 0, 10_000_000, "r", "2026-01-01T00:00:00Z"), new.to_bytes(complete=True), lambda start: None
    )
    assert len(judged.anomalies) == 101
    assert "anomalies more: see the statistics" in judged.anomalies[-1].description


def test_what_is_published_is_the_proto_of_tfdv(tmp_path, random):
    windows = write_bounded(tmp_path, [rows(random, 100, 0)], summaries=WindowStatistics(OPTIONS, TENS))
    proto = read_list(str(tmp_path / windows[0].statistics))
    assert isinstance(proto, statistics_pb2.DatasetFeatureStatisticsList)
    (dataset,) = proto.datasets
    assert (dataset.name, dataset.num_examples) == ("All Examples", 100)


def version(number, created=0, length=10, run="r"):
    """A version of the window of so many seconds, made in its minute."""
    made = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(minutes=number, seconds=created)
    start = number * length * 1_000_000
    return WindowVersion(f"w{number}", start, start + length * 1_000_000, run, made.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))


def state(random, mean=10.0, count=200):
    return compute_statistics([pa.record_batch({"fare": random.normal(mean, 1, count)})], OPTIONS).to_bytes(
        complete=True
    )


def nothing(start):
    return None


def rows_in(path):
    return read(str(path), feature="", metrics=["rows"])["value"].to_pylist()


def test_the_history_has_each_window_once_with_its_late_rows(tmp_path, random):
    first, second, late = rows(random, 500, 0), rows(random, 400, 1000), rows(random, 50, 500)
    summaries = WindowStatistics(OPTIONS, TENS, history=WindowHistory(str(tmp_path / "out" / "_history")))
    events = Events().add(first).at(12).add(second, late)
    windows = write_stream(tmp_path / "out", events, allowed_lateness="20s", summaries=summaries)
    assert [window.rows_late for window in windows.values()] == [50, 0]
    history = read(str(tmp_path / "out" / "_history"))
    assert rows_in(tmp_path / "out" / "_history") == [550, 400]
    starts = set(history["window_start"].cast(pa.int64()).to_pylist())
    assert starts == {0, 10_000_000}
    assert set(history["feature"].to_pylist()) == {"", "id", "fare", "word"}
    assert list(verify_dataset(str(tmp_path / "out"))) == []


def test_a_version_that_is_tried_again_is_one_file(tmp_path, random):
    summaries = WindowStatistics(OPTIONS, TENS, history=WindowHistory(str(tmp_path)))
    found = state(random)
    for _ in range(3):
        summaries.judge(version(0), found, nothing)
    assert len(list(tmp_path.iterdir())) == 1
    summaries.judge(version(0, created=30), state(random, count=250), nothing)
    summaries.judge(version(0), found, nothing)  # a worker that was believed dead
    assert rows_in(tmp_path) == [250]


@pytest.mark.parametrize(("windows", "severity"), [(TENS, "warning"), (FlushWindows(rows=100), "error")], ids=str)
def test_what_leaves_the_history_is_an_anomaly_of_its_window(tmp_path, random, windows, severity):
    summaries = WindowStatistics(OPTIONS, windows, history=WindowHistory(str(tmp_path), severity))
    judged = [summaries.judge(version(number), state(random), nothing) for number in range(30)]
    judged.append(summaries.judge(version(30), state(random, mean=13.0), nothing))
    # A version of an earlier window is not compared with what came after it, nor with itself.
    judged.append(summaries.judge(version(29, created=600), state(random), nothing))
    assert [number for number, found in enumerate(judged) if found.anomalies] == [30]
    assert {(one.feature, one.reason) for one in judged[30].anomalies} == {
        ("fare", "HISTORY_LEVEL"),
    }
    worst = judged[30].anomalies[0]
    assert (worst.severity, worst.against, worst.dataset) == (severity, "history", "All Examples")
    assert "mean of fare is 1" in worst.description or "median of fare is 1" in worst.description


def test_ids_and_times_that_grow_leave_no_history(tmp_path, random):
    summaries = WindowStatistics(OPTIONS, TENS, history=WindowHistory(str(tmp_path), "warning"))
    for number in range(70):
        ids = pa.record_batch(
            {"id": np.arange(200) + 200 * number, "at": number * 10_000 + random.integers(0, 9999, 200)}
        )
        found = compute_statistics([ids], OPTIONS).to_bytes(complete=True)
        assert summaries.judge(version(number), found, nothing).anomalies == ()


def test_a_history_that_cannot_be_read_is_said_and_stops_nothing(tmp_path, random):
    (tmp_path / "L0-1-0123456789abcdef.parquet").write_bytes(b"PAR1")
    summaries = WindowStatistics(OPTIONS, TENS, history=WindowHistory(str(tmp_path), "warning"))
    (anomaly,) = summaries.judge(version(0), state(random), nothing).anomalies
    assert (anomaly.reason, anomaly.against) == ("HISTORY_UNREADABLE", "history")
    assert "L0-1-0123456789abcdef.parquet: is no file of a history, or damaged" in anomaly.description
    assert len(list(tmp_path.iterdir())) == 2


def test_windows_of_processing_time_are_compared_with_the_one_before(tmp_path, random):
    asked = []
    summaries = WindowStatistics(OPTIONS, FlushWindows(rows=100), before="previous")

    def published(start):
        asked.append(start)
        return state(random), "statistics/before.1.pb"

    judged = summaries.judge(version(7), state(random, mean=20.0), published)
    assert asked == [7 * 10_000_000 - 1]
    assert judged.compared_with == ("statistics/before.1.pb",)
    assert judged.anomalies[0].feature == "fare"
    with pytest.raises(ConfigError, match="compare each with the previous one, or with fixed statistics"):
        WindowStatistics(OPTIONS, FlushWindows(rows=100), before="week")


def features():
    schema = schema_pb2.Schema()
    for name, kind in (("id", schema_pb2.INT), ("fare", schema_pb2.FLOAT), ("word", schema_pb2.BYTES)):
        schema.feature.add(name=name, type=kind)
    return tuple(schema_features(schema))


class RejectOdd(RejectingTransform):
    """Rejects rows of odd ids, whose values are known."""

    def expand(self, batches):
        good, rejected = split_rejected(batches | beam.ParDo(_RejectOddFn()).with_outputs(REJECTED, main="out"))
        good.element_type = pa.RecordBatch
        self._reject(rejected)
        return good


class _RejectOddFn(beam.DoFn):
    def process(self, batch):
        odd = {row: [Reason("odd", "is odd")] for row, one in enumerate(batch.column("id").to_pylist()) if one % 2}
        yield from reject(row_letters(batch, odd, "validate"))
        yield drop_rows(batch, odd)


def rejected_values(*batches):
    whole = pa.concat_batches(batches).select(["id", "fare", "word"])
    odd = pa.array([one % 2 == 1 for one in whole.column("id").to_pylist()])
    return list_files(compute_statistics([whole.filter(odd)], OPTIONS).to_proto())


@pytest.mark.parametrize("write", [write_bounded, write_stream])
def test_dead_letters_of_a_window_have_statistics(tmp_path, random, write):
    first, second, late = rows(random, 301, 0), rows(random, 300, 1000), rows(random, 50, 500)
    handler = DeadLetterHandler(str(tmp_path / "out" / ".tmp-r" / "dead_letters"), "r")
    summaries = WindowStatistics(OPTIONS, TENS, rejected=RejectedStatistics(OPTIONS, features()))
    given = [first, second] if write is write_bounded else Events().add(first).at(12).add(second, late)
    late_flags = {} if write is write_bounded else {"allowed_lateness": "20s"}
    steps = [RejectOdd().with_error_handler(handler)]
    options = {"dead_letters": handler, "run_id": "r", "summaries": summaries, **late_flags}
    windows = write(tmp_path / "out", given, steps, **options)
    found = {start: (window.rows_out, window.rows_rejected) for start, window in windows.items()}
    assert found[10] == ((150, 150) if write is write_bounded else (150, 175))
    for window in windows.values():
        assert read_list(str(tmp_path / "out" / window.statistics_rejected)).datasets[0].num_examples == (
            window.rows_rejected
        )
    if write is write_bounded:
        path = tmp_path / "out" / windows[0].statistics_rejected
        assert {suffix: path.with_suffix(suffix).read_bytes() for suffix in (".pb", ".json")} == rejected_values(first)
    assert list(verify_dataset(str(tmp_path / "out"))) == []
    assert not list((tmp_path / "out").glob("**/*.summary"))
    other = tmp_path / "out" / windows[0].statistics
    (tmp_path / "out" / windows[0].statistics_rejected).write_bytes(other.read_bytes())
    assert "statistics.rows" in {fault.code for fault in verify_dataset(str(tmp_path / "out"))}
