"""The windowed sink, on streams and on bounded input; also run on Prism by tests/integration."""

import collections
import datetime
import json
import pathlib

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, Sessions, TimestampedValue
from window_sinks import (
    SECOND,
    Events,
    batch_of,
    counts,
    ids,
    letters,
    same,
    stream_pipeline,
    windows_of,
    write_bounded,
    write_stream,
)

import penstock
from penstock.io.batches import drop_rows, set_column
from penstock.io.dataset.layout import Staging
from penstock.io.dead_letters.handler import REJECTED, DeadLetterHandler, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.dead_letters.source import keep_source
from penstock.io.errors import ConfigError
from penstock.io.files.folders import list_files
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN, SPLIT
from penstock.io.schema import Kind, load_schema, schema_features
from penstock.io.write import WriteDataset
from penstock.transforms.splits.assign import AssignSplit
from penstock.transforms.splits.by_time import SplitByTime
from penstock.transforms.verify import verify_dataset


@pytest.mark.each_runner
def test_two_late_panes_worth_of_rows_18_in_18_out(tmp_path):
    events = Events().add(batch_of(range(10), 5)).at(12).add(batch_of(range(10, 14), 5)).at(15)
    windows = write_stream(tmp_path, events.add(batch_of(range(14, 18), 5)), allowed_lateness="20s", index=True)
    assert counts(windows) == {0: (10, 8, 0)}
    assert ids(tmp_path, windows[0]) == list(range(18))
    assert (windows[0].final, windows[0].sequence, windows[0].status) == (True, 2, "published")
    assert windows[0].window == ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:10.000000Z")
    panes = collections.Counter((shard.pane, pathlib.Path(shard.path).name[:4]) for shard in windows[0].shards)
    assert panes == {("on_time", "part"): 2, ("late", "late"): 2}
    assert {shard.index.path for shard in windows[0].shards} <= {*list_files(str(tmp_path))}
    assert list(verify_dataset(str(tmp_path))) == []


@pytest.mark.each_runner
def test_windows_are_final_when_both_panes_close_at_once(tmp_path):
    """As after a pause of the source. On Prism, bundles of both versions of a window would run side by side."""
    count = 30
    rows = batch_of(range(count), [10 * window + 1 for window in range(count)])
    windows = write_stream(tmp_path, Events().add(rows), num_shards=1, allowed_lateness="1s")
    assert counts(windows) == {10 * window: (1, 0, 0) for window in range(count)}
    assert {(manifest.final, manifest.sequence) for manifest in windows.values()} == {(True, 2)}


@pytest.mark.each_runner
def test_out_of_order_late_and_too_late(tmp_path):
    events = (
        Events()
        .add(batch_of([0, 1, 2, 3], [3, 14, 1, 25]))
        .at(15)
        .add(batch_of([4, 5], [2, 12]), batch_of([6], 31))
        .at(31)
        .add(batch_of([7, 8, 9], [4, 18, 29]))
    )
    windows = write_stream(tmp_path, events, allowed_lateness=datetime.timedelta(seconds=20))
    assert counts(windows) == {0: (2, 1, 0), 10: (2, 1, 0), 20: (1, 1, 0), 30: (1, 0, 1)}
    (letter,) = letters(tmp_path, windows[30])
    assert (letter["reason"], letter["stage"], letter["uri"], letter["position"]) == (
        "late",
        "write",
        "kafka://h/t/0",
        7,
    )
    assert letter["detail"] == "came after the window 19700101T000000Z_19700101T000010Z had closed, 20 s after its end"
    assert (json.loads(letter["payload"]), letter["event_time"][:19]) == ({"id": 7}, "1970-01-01T00:00:04")
    assert windows[30].rejected_by_reason == {"late": 1}
    assert windows[30].rejected_by_stage == {"write": 1}
    assert [(item.uri, item.first, item.last, item.rows) for item in windows[0].inputs] == [("kafka://h/t/0", 0, 4, 3)]


def with_values(number, seconds, values):
    return batch_of([number], seconds, value=pa.array([values]))


@pytest.mark.each_runner
def test_windows_of_a_stream_share_one_schema_that_grows(tmp_path):
    events = Events().add(batch_of([0], 5)).at(12).add(with_values(1, 15, 2.5))
    windows = write_stream(tmp_path, events)
    assert {manifest.extras for manifest in windows.values()} == {("schema.pbtxt",)}
    schema = load_schema(str(tmp_path / "schema.pbtxt"))
    assert {feature.name: feature.kind for feature in schema_features(schema)} == {"id": Kind.INT, "value": Kind.FLOAT}
    assert list(verify_dataset(str(tmp_path))) == []


@pytest.mark.each_runner
def test_window_of_another_kind_than_an_earlier_one_is_not_published(tmp_path):
    events = Events().add(with_values(0, 5, 2)).at(12).add(with_values(1, 15, 2.5))
    with pytest.raises(
        Exception, match=r"column 'value' is INT in kafka://h/t/0 at 0, and FLOAT in kafka://h/t/0 at 1;"
    ):
        write_stream(tmp_path, events)
    assert set(windows_of(tmp_path)) <= {0}


@pytest.mark.each_runner
def test_row_that_is_too_late_may_be_of_another_kind(tmp_path):
    events = Events().add(with_values(0, 5, 2)).at(12).add(with_values(1, 5, 2.5)).add(with_values(2, 15, 3))
    assert counts(write_stream(tmp_path, events)) == {0: (1, 0, 0), 10: (1, 0, 1)}


@pytest.mark.each_runner
def test_stream_of_dead_letters_alone_has_a_schema_too(tmp_path):
    events = Events().add(batch_of([0], 5, bad=pa.array([[None, 1]])))
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    windows = write_stream(tmp_path, events, dead_letters=handler, run_id="r1")
    assert counts(windows) == {0: (0, 0, 1)}
    assert [fault.code for fault in verify_dataset(str(tmp_path))] == []


def test_bounded_windows_of_two_kinds_publish_nothing(tmp_path):
    with pytest.raises(Exception, match=r"column 'value' is INT in .* at 0, and FLOAT in .* at 1;"):
        write_bounded(tmp_path, [with_values(0, 5, 2), with_values(1, 15, 2.5)])
    assert windows_of(tmp_path) == {}
    write_bounded(tmp_path / "good", [with_values(0, 5, 2), with_values(1, 15, 3)])
    assert [feature.name for feature in load_schema(str(tmp_path / "good" / "schema.pbtxt")).feature] == ["id", "value"]
    assert list(verify_dataset(str(tmp_path / "good"))) == []


def test_windows_of_bounded_input_say_how_many_they_are(tmp_path):
    windows = write_bounded(tmp_path, [batch_of([0, 1, 2], [5, 15, 16])])
    assert [window.windows_in_all for window in windows.values()] == [2, 2]
    assert sum(map(len, penstock.load(str(tmp_path)).follow(0.001).batches(10))) == 3
    windows = write_bounded(tmp_path, [batch_of([3], 25)], resume=True)
    assert [window.windows_in_all for window in windows.values()] == [2, 2, 0]
    windows = write_stream(tmp_path / "stream", Events().add(batch_of([0], 5)).at(40))
    assert [window.windows_in_all for window in windows.values()] == [0]


def test_run_that_goes_on_keeps_the_kinds_of_the_one_before(tmp_path):
    write_bounded(tmp_path, [with_values(0, 5, 2)])
    with pytest.raises(Exception, match="column 'value' is INT in its schema, and FLOAT in kafka://h/t/0 at 1;"):
        write_bounded(tmp_path, [with_values(1, 15, 2.5)], resume=True)
    write_bounded(tmp_path, [batch_of([1], 15)], resume=True)
    assert [feature.name for feature in load_schema(str(tmp_path / "schema.pbtxt")).feature] == ["id", "value"]


@pytest.mark.each_runner
def test_lateness_0(tmp_path):
    events = Events().add(batch_of([0], 5)).at(10).add(batch_of([1, 2], [9, 11])).at(20)
    windows = write_stream(tmp_path, events)
    assert counts(windows) == {0: (1, 0, 0), 10: (1, 0, 1)}
    assert [(manifest.final, manifest.sequence) for manifest in windows.values()] == [(True, 1)] * 2
    assert letters(tmp_path, windows[10])[0]["position"] == 1


@pytest.mark.each_runner
def test_window_whose_first_row_is_late_has_an_empty_pane_on_time(tmp_path):
    events = Events().add(batch_of([0], 25)).at(30).add(batch_of([1], 5)).at(31)
    windows = write_stream(tmp_path, events, allowed_lateness="1m")
    assert counts(windows) == {0: (0, 1, 0), 20: (1, 0, 0)}
    assert [(shard.pane, shard.records) for shard in windows[0].shards] in (
        [("on_time", 0), ("on_time", 0), ("late", 1)],
    )


@pytest.mark.each_runner
@pytest.mark.parametrize(("empty_windows", "starts"), [(False, [0, 30]), (True, [0, 10, 20, 30])])
def test_empty_windows(tmp_path, empty_windows, starts):
    events = Events().add(batch_of([0], 5)).at(10).add(batch_of([1], 35)).at(50)
    streamed = write_stream(tmp_path / "stream", events, empty_windows=empty_windows, allowed_lateness="5s")
    bounded = write_bounded(tmp_path / "bounded", [batch_of([0, 1], [5, 35])], empty_windows=empty_windows)
    for windows in (streamed, bounded):
        assert list(windows) == starts
        assert {manifest.final for manifest in windows.values()} == {True}
        assert all(manifest.rows_in == 0 for start, manifest in windows.items() if start in (10, 20))
    assert [shard.records for shard in streamed[30].shards] == [shard.records for shard in bounded[30].shards]


@pytest.mark.each_runner
def test_sliding_windows_count_a_row_once_for_each(tmp_path):
    options = {"window": "sliding:20s/10s", "allowed_lateness": "10s"}
    events = Events().add(batch_of([0, 1], [5, 15])).at(21).add(batch_of([2], 12)).at(41).add(batch_of([3], 18))
    windows = write_stream(tmp_path / "stream", events, **options)
    assert counts(windows) == {-10: (1, 0, 0), 0: (2, 1, 0), 10: (2, 0, 0), 40: (0, 0, 2)}
    assert {letter["position"] for letter in letters(tmp_path / "stream", windows[40])} == {3}
    assert windows[0].windows == "sliding:20s/10s"
    bounded = write_bounded(tmp_path / "bounded", [batch_of([0, 1, 2], [5, 15, 12])], **options)
    assert counts(bounded) == {-10: (1, 0, 0), 0: (3, 0, 0), 10: (2, 0, 0)}


def shards_of(output):
    return {
        shard.path: (output / shard.path).read_bytes()
        for manifest in windows_of(output).values()
        for shard in manifest.shards
    }


@pytest.mark.parametrize("window", ["fixed:10s", "sliding:20s/10s"])
def test_a_stream_and_bounded_input_give_the_same_bytes(tmp_path, window):
    rows = 500
    random = np.random.default_rng(5)
    times = np.sort(random.uniform(1, 60, rows)).round(3)
    splits = pa.array(["train" if i % 5 else "eval" for i in range(rows)]).dictionary_encode()
    batch = batch_of(range(rows), times.tolist(), name=pa.array([f"näme {i}" for i in range(rows)]), **{SPLIT: splits})
    events = Events()
    for start in range(0, rows, 40):
        piece = batch.slice(start, 40)
        events = events.at(float(times[start])).add(piece.take(pa.array(random.permutation(piece.num_rows))))
    options = {"window": window, "splits": ("train", "eval"), "num_shards": 3}
    streamed = write_stream(tmp_path / "stream", events, **options)
    pieces = [batch.slice(start, 70) for start in range(0, rows, 70)]
    bounded = write_bounded(tmp_path / "bounded", pieces[::-1], allowed_lateness="5s", **options)
    assert shards_of(tmp_path / "stream") == shards_of(tmp_path / "bounded")
    assert [manifest.dataset_id for manifest in streamed.values()] == [item.dataset_id for item in bounded.values()]
    if window.startswith("fixed"):
        assert sum(manifest.rows_out for manifest in bounded.values()) == rows
        parts = [(manifest, split) for manifest in bounded.values() for split in ("train", "eval")]
        assert sorted(row for part in parts for row in ids(tmp_path / "bounded", *part)) == list(range(rows))


@pytest.mark.parametrize(
    ("shard_format", "columns"),
    [("parquet", pa.schema([("id", pa.int64()), ("x", pa.float64())])), ("arrayrecord", None)],
)
def test_a_stream_gives_the_files_of_bounded_input_in_other_formats_too(tmp_path, shard_format, columns):
    batches = [batch_of([i, i + 1], [3 * i + 1, 3 * i + 2], x=pa.array([i / 7, None])) for i in range(0, 12, 2)]
    events = Events()
    for index, batch in enumerate(batches):
        events = events.at(6 * index + 1).add(batch)
    late = batch_of([90], 31, x=pa.array([0.1]))
    options = {"format": shard_format, "columns": columns}
    streamed = write_stream(tmp_path / "stream", events.at(41).add(late), allowed_lateness="20s", **options)
    bounded = write_bounded(tmp_path / "bounded", batches[::-1], **options)
    assert counts(streamed)[30] == (counts(bounded)[30][0], 1, 0)
    stream_files, bounded_files = shards_of(tmp_path / "stream"), shards_of(tmp_path / "bounded")
    assert {path: stream_files[path] for path in bounded_files} == bounded_files
    late_files = sorted(set(stream_files) - set(bounded_files))
    assert [path.split("/")[2].partition("-")[0] for path in late_files] == ["late"]
    assert list(verify_dataset(str(tmp_path / "stream"))) == []


class RejectSome(RejectingTransform):
    """Rejects rows whose id is a multiple of a number."""

    def __init__(self, divisor):
        super().__init__()
        self._divisor = divisor

    def expand(self, batches):
        good, rejected = split_rejected(
            batches | beam.ParDo(_RejectSomeFn(self._divisor)).with_outputs(REJECTED, main="out")
        )
        good.element_type = pa.RecordBatch
        self._reject(rejected)
        return good


class _RejectSomeFn(beam.DoFn):
    def __init__(self, divisor):
        self._divisor = divisor

    def process(self, batch):
        bad = [row for row, number in enumerate(batch.column("id").to_pylist()) if number % self._divisor == 0]
        yield from reject(row_letters(batch, {row: [Reason("rule.some", "no")] for row in bad}, "validate"))
        yield drop_rows(batch, bad)


@pytest.mark.each_runner
@pytest.mark.parametrize("write", ["stream", "bounded"])
def test_rejects_of_other_steps_are_counted_in_their_window(tmp_path, write):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    options = {
        "steps": [RejectSome(3).with_error_handler(handler)],
        "dead_letters": handler,
        "run_id": "r1",
        "max_reject_fraction": 0.3,
    }
    batch = batch_of(range(12), [i * 2 for i in range(12)])
    if write == "stream":
        windows = write_stream(tmp_path, Events().add(batch.slice(0, 6)).at(3).add(batch.slice(6)), **options)
    else:
        windows = write_bounded(tmp_path, [batch], **options)
    assert counts(windows) == {0: (3, 0, 2), 10: (3, 0, 2), 20: (2, 0, 0)}
    assert [manifest.status for manifest in windows.values()] == ["quarantined", "quarantined", "published"]
    assert [letter["position"] for letter in letters(tmp_path, windows[0])] == [0, 3]
    assert windows[0].rejected_by_reason == {"rule.some": 2}


@pytest.mark.each_runner
@pytest.mark.parametrize("write", ["stream", "bounded"])
def test_job_whose_rows_are_all_rejected_publishes_windows_with_them(tmp_path, write):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    options = {"steps": [RejectSome(1).with_error_handler(handler)], "dead_letters": handler, "run_id": "r1"}
    batch = batch_of(range(4), [1, 2, 3, 14])
    if write == "stream":
        windows = write_stream(tmp_path, Events().add(batch).at(20), **options)
    else:
        windows = write_bounded(tmp_path, [batch], **options)
    assert counts(windows) == {0: (0, 0, 3), 10: (0, 0, 1)}
    assert {manifest.status for manifest in windows.values()} == {"quarantined"}
    assert len(windows[0].shards) == 2


@pytest.mark.each_runner
def test_rejects_without_any_time_are_published_all_the_same(tmp_path):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    options = {"steps": [RejectSome(1).with_error_handler(handler)], "dead_letters": handler, "run_id": "r1"}
    windows = write_bounded(tmp_path, [batch_of(range(3), 4).select(["id", ORIGIN])], **options)
    assert counts(windows) == {0: (0, 0, 3)}


def test_splits_by_time_are_the_same_on_a_stream_and_in_batch(tmp_path):
    kind = SplitByTime.parse("train<1970-01-01T00:00:15,eval<1970-01-01T00:00:30,test", gap="4s")
    batches = [batch_of(range(start, start + 8), list(range(start, start + 8))) for start in (0, 8, 16, 24, 32)]
    events = Events().add(*batches[:2]).at(4).add(batches[3], batches[2]).at(20).add(batches[4])
    found = []
    for name, write, rows in (("stream", write_stream, events), ("batch", write_bounded, batches[::-1])):
        output = tmp_path / name
        handler = DeadLetterHandler(Staging(str(output), "r1").dead_letters, "r1")
        steps = [AssignSplit(by=kind).with_error_handler(handler)]
        options = {"splits": kind.names, "allowed_lateness": "20s", "max_reject_fraction": 0}
        windows = write(output, rows, steps, **options, dead_letters=handler, run_id="r1")
        assert {window.status for window in windows.values()} == {"published"}, "a gap is no fault"
        assert sum(window.rows_in for window in windows.values()) == 40
        rejected = [(w.rejected_by_reason, w.rejected_by_stage) for w in windows.values() if w.rows_rejected]
        assert rejected == [({"split.gap": 4}, {"excluded": 4})] * 2
        found.append([sorted(n for w in windows.values() for n in ids(output, w, split)) for split in kind.names])
        assert [fault.code for fault in verify_dataset(str(output))] == []
    assert found == [[list(range(11)), list(range(15, 26)), list(range(30, 40))]] * 2


def test_row_that_cannot_be_written_becomes_its_source_row(tmp_path):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    batch = set_column(keep_source(batch_of([1, 2], 5)), "id", pa.array([[1, None], [2]]))
    windows = write_bounded(tmp_path, [batch], dead_letters=handler, run_id="r1")
    assert counts(windows) == {0: (1, 0, 1)}
    assert [json.loads(letter["payload"]) for letter in letters(tmp_path, windows[0])] == [{"id": 1}]


@pytest.mark.each_runner
def test_too_late_rows_become_their_source_rows_though_they_were_transformed(tmp_path):
    late = set_column(keep_source(batch_of([1], 5)), "id", pa.array([[1.5]]))
    events = Events().add(batch_of([0], 15)).at(20).add(late)
    windows = write_stream(tmp_path, events)
    assert counts(windows) == {10: (1, 0, 0), 20: (0, 0, 1)}
    assert json.loads(letters(tmp_path, windows[20])[0]["payload"]) == {"id": 1}


def _append(rejected, path):
    with path.open("a") as file:
        file.writelines(f"{letter.reasons[0].code} {letter.payload}\n" for letter in rejected)


def test_too_late_rows_go_where_other_rejects_go_as_well(tmp_path):
    output, sink = tmp_path / "out", tmp_path / "sink"
    handler = DeadLetterHandler(Staging(str(output), "r1").dead_letters, "r1").also_to(beam.Map(_append, path=sink))
    batch = set_column(keep_source(batch_of([0, 1], 15)), "id", pa.array([[0], [None]]))
    events = Events().add(batch).at(20).add(batch_of([2], 5))
    windows = write_stream(output, events, dead_letters=handler, run_id="r1")
    assert sum(window.rows_rejected for window in windows.values()) == 2
    assert sorted(sink.read_text().splitlines()) == ['late {"id": 2}', 'write.null_in_list {"id": 1}']


def test_row_without_event_time_is_rejected(tmp_path):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    times = pa.array([5 * SECOND, None], pa.timestamp("us", "UTC"))
    windows = write_bounded(tmp_path, [set_column(batch_of([1, 2], 0), EVENT_TIME, times)], dead_letters=handler)
    assert counts(windows) == {0: (1, 0, 1)}
    assert windows[0].rejected_by_reason == {"event_time.missing": 1}


@pytest.mark.each_runner
def test_batches_without_event_times_count_by_their_timestamps_and_windows_of_beam_do(tmp_path):
    stream = (
        test_stream.TestStream()
        .advance_watermark_to(0)
        .add_elements([TimestampedValue(batch_of([1], 0).select(["id"]), 17)])
    )
    with stream_pipeline() as pipeline:
        batches = pipeline | stream.advance_watermark_to(99).advance_watermark_to_infinity()
        batches = batches | beam.Map(same).with_output_types(pa.RecordBatch) | beam.WindowInto(FixedWindows(5))
        published = batches | WriteDataset(str(tmp_path), num_shards=1)
        assert_that(published | beam.Map(lambda manifest: manifest.window[0]), _starts_at_15)
    assert counts(windows_of(tmp_path)) == {15: (1, 0, 0)}


def _starts_at_15(found):
    assert found == ["1970-01-01T00:00:15.000000Z"]


def test_batches_without_any_time_fail(tmp_path):
    with pytest.raises(Exception, match="rows have no event time, so that nothing tells their window"):
        write_bounded(tmp_path, [batch_of([1], 0).select(["id"])])


def test_bounded_run_leaves_nothing_behind_and_replaces_what_is_there_when_told(tmp_path):
    first = write_bounded(tmp_path, [batch_of(range(50), [i for i in range(50)])])
    assert not [path for path in list_files(str(tmp_path)) if path.startswith(".tmp-")]
    with pytest.raises(ConfigError, match="is not empty"):
        write_bounded(tmp_path, [batch_of([0], 5)])
    second = write_bounded(tmp_path, [batch_of(range(3), [105] * 3)], overwrite=True)
    assert (list(first), list(second)) == ([0, 10, 20, 30, 40], [100])
    assert set(list_files(str(tmp_path))) == {
        "schema.pbtxt",
        "windows/19700101T000140Z_19700101T000150Z.json",
        *(shard.path for shard in second[100].shards),
    }


@pytest.mark.each_runner
def test_another_run_does_not_write_into_a_window_that_is_published(tmp_path):
    write_bounded(tmp_path, [batch_of([0], 5)])
    with pytest.raises(Exception, match="a job goes on into its output from a savepoint or checkpoint only"):
        write_bounded(tmp_path, [batch_of([1], 6)], resume=True)
    write_bounded(tmp_path, [batch_of([1], 16)], resume=True)
    assert counts(windows_of(tmp_path)) == {0: (1, 0, 0), 10: (1, 0, 0)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_shards": None}, "windows need num_shards"),
        ({"shuffle": "none"}, "windows need shuffle 'global'"),
        ({"window": "session:5s"}, "session: is refused"),
        ({"window": "5s"}, "must be fixed:SIZE or sliding"),
        ({"allowed_lateness": datetime.timedelta(-1)}, "allowed_lateness must be at least 0"),
        ({"allowed_lateness": datetime.timedelta(microseconds=1)}, "in whole milliseconds, got .*microseconds=1"),
        ({"allowed_lateness": 5}, "allowed_lateness must be a duration, .* got 5"),
        ({"allowed_lateness": "5"}, "allowed_lateness: a duration must be a whole number"),
        ({"overwrite": True, "resume": True}, "overwrite replaces a dataset by one that is whole"),
        ({"window": None, "resume": True}, "resume is for datasets with windows"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        write_bounded(tmp_path, [batch_of([0], 5)], **options)


def test_streams_that_cannot_be_written_are_refused(tmp_path):
    rows = beam.Pipeline() | test_stream.TestStream()
    with pytest.raises(ConfigError, match=r"pass --window \(WriteDataset\(window='fixed:60s'\)\)"):
        _ = rows | "a" >> WriteDataset(str(tmp_path), num_shards=1)
    with pytest.raises(ConfigError, match="overwrite replaces a dataset by one that is whole, which a stream never is"):
        _ = rows | "b" >> WriteDataset(str(tmp_path), num_shards=1, window="fixed:5s", overwrite=True)
    with pytest.raises(ConfigError, match="unbounded input is written window by window"):
        _ = rows | beam.WindowInto(Sessions(5)) | "c" >> WriteDataset(str(tmp_path), num_shards=1)
