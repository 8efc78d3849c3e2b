"""Windows of processing time through the sink, on the tests' runner; on Prism and Flink: tests/integration."""

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing import test_stream
from apache_beam.testing.util import assert_that, equal_to
from helpers import local_pipeline
from window_sinks import batch_of, ids, letters, same, stream_pipeline, write_bounded

from penstock.io.batches import drop_rows
from penstock.io.beam.coverage import InputRange
from penstock.io.beam.windows import FlushWindows
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.windowed.arrivals import Arrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.close import CloseWindows
from penstock.io.dataset.windowed.flush import FlushRules
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dataset.windowed.tasks import HeaderTask
from penstock.io.dead_letters.handler import REJECTED, DeadLetterHandler, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.dead_letters.source import keep_source
from penstock.io.errors import ConfigError
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.io.write import WriteDataset
from penstock.transforms.dataset_status import dataset_status
from penstock.transforms.verify import verify_dataset

AGES = 1 << 33  # seconds: the clock of the runner begins at 0, and the one of the windows is that of the machine


def untimed(*numbers):
    return batch_of(numbers, 0).drop_columns([EVENT_TIME])


class RejectOdd(RejectingTransform):
    def expand(self, batches):
        good, rejected = split_rejected(batches | beam.ParDo(_RejectOddFn()).with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        good.element_type = pa.RecordBatch
        return good


class _RejectOddFn(beam.DoFn):
    def process(self, batch):
        odd = {row: [Reason("odd", "")] for row, number in enumerate(batch["id"].to_pylist()) if number % 2}
        yield from reject(row_letters(batch, odd, "validate"))
        yield drop_rows(batch, odd)


def write(output, stream, window, steps=(), **options):
    with stream_pipeline() as pipeline:
        batches = pipeline | stream | beam.Map(same).with_output_types(pa.RecordBatch)
        for step in steps:
            batches |= step
        _ = batches | WriteDataset(str(output), num_shards=2, window=window, **options)
    return list(read_window_manifests(str(output)))


def ended(stream):
    return stream.advance_watermark_to(9_000).advance_watermark_to_infinity()


def test_a_window_has_the_rows_of_so_many_bundles_as_fill_it(tmp_path):
    stream = test_stream.TestStream()
    for batch in (untimed(1, 2), untimed(3, 4), batch_of([5, 6], [0, 5_000])):
        stream = stream.add_elements([batch])
    windows = write(tmp_path, ended(stream), "flush:3")
    assert ids(tmp_path, windows[0]) == [1, 2, 3, 4]
    assert (windows[0].final, windows[0].rows_late, windows[0].windows) == (True, 0, "flush:3")
    assert "2026" < windows[0].window[0] < windows[0].window[1]
    shards = [shard.path for shard in windows[0].shards]
    assert shards[0] == f"train/{windows[0].name}/part-00000-of-00002.tfrecord.gz"
    assert list(verify_dataset(str(tmp_path))) == []


def test_a_window_ends_by_its_age(tmp_path):
    stream = test_stream.TestStream().add_elements([untimed(1, 2)]).advance_processing_time(AGES)
    stream = stream.add_elements([untimed(3)]).advance_processing_time(AGES)
    windows = write(tmp_path, ended(stream), "flush:1h")
    assert [ids(tmp_path, window) for window in windows] == [[1, 2], [3]]
    assert [window.number for window in windows] == [1, 2]
    status = dataset_status(str(tmp_path), 0)
    assert (status.gaps(), status.is_good, status.not_final()) == ([], True, [])


def test_rows_of_any_event_time_are_in_the_window_they_come_in(tmp_path):
    stream = test_stream.TestStream().advance_watermark_to(5_000)
    stream = stream.add_elements([batch_of([1, 2, 3], [-9_000_000_000, 7, 9_000_000_000])])
    (window,) = write(tmp_path, ended(stream), "flush:3")
    assert ids(tmp_path, window) == [1, 2, 3]
    assert list(verify_dataset(str(tmp_path))) == [], "event times need not lie in the window"


def test_rejects_count_as_rows_and_are_in_the_window_they_come_with(tmp_path):
    handler = DeadLetterHandler(Staging(str(tmp_path), "r1").dead_letters, "r1")
    steps = [RejectOdd().with_error_handler(handler)]
    stream = test_stream.TestStream().add_elements([keep_source(untimed(1, 3, 5))])
    options = {"dead_letters": handler, "run_id": "r1", "max_reject_fraction": 0.5}
    (window,) = write(tmp_path, ended(stream), "flush:3", steps, **options)
    assert (window.rows_in, window.rejected_by_reason, window.status) == (3, {"odd": 3}, "quarantined")
    assert window.dead_letters[0].path == f"dead_letters/{window.name}/part-00000-of-00001.jsonl"
    assert [letter["position"] for letter in letters(tmp_path, window)] == [1, 3, 5]
    assert list(verify_dataset(str(tmp_path))) == []


def test_the_last_window_of_a_stream_that_ends_is_not_lost(tmp_path):
    inputs = (InputRange("k", 0, 4, 5),)
    arrival = WrittenChunks((Chunk(0, "c", 5, (), (0, 0), inputs),), inputs)
    rules = FlushRules(FlushWindows(rows=9), 1, 1, "r1")
    with local_pipeline() as pipeline:
        tasks = pipeline | beam.Create([arrival]).with_output_types(Arrival) | CloseWindows(rules)
        rows = tasks | beam.Map(lambda task: task.header.rows if isinstance(task, HeaderTask) else 0)
        assert_that(rows, equal_to([5, 0]))


def test_input_with_an_end_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"processing time \(flush:3\) are for a stream, and this input has an end"):
        write_bounded(tmp_path, [untimed(1)], window="flush:3")


@pytest.mark.parametrize(("name", "value"), [("allowed_lateness", "3s"), ("empty_windows", True)])
def test_options_of_event_time_are_refused(tmp_path, name, value):
    with pytest.raises(ConfigError, match=f"{name} is about windows of event time, and those of processing time"):
        WriteDataset(str(tmp_path), num_shards=1, window="flush:3", **{name: value})
