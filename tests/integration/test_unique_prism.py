"""Unique keys on Prism, whose state, timers and groups are those of Beam's protocol, as on Flink and Dataflow."""

import random

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream as beam_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.error_handling import ErrorHandler
from apache_beam.transforms.window import TimestampedValue

from penstock.io.batches import RecordBatchCoder, set_column
from penstock.io.beam.windows import parse_window
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.unique.transform import RejectDuplicates

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SECOND = 1_000_000
WINDOWS = parse_window("fixed:60s")
KEY = UniqueKey(("user",))


def many_rows(count):
    draw = random.Random(4)
    times = sorted(draw.randrange(300) for _ in range(count))
    return [(draw.choice("abcdefghij"), time, position) for position, time in enumerate(times)]


def batch_of(rows):
    users, times, positions = zip(*rows, strict=True)
    batch = pa.record_batch({"user": pa.array(users)})
    uris = pa.array(["/rows.csv"] * len(rows)).dictionary_encode()
    batch = set_column(batch, ORIGIN, pa.StructArray.from_arrays([uris, pa.array(positions)], ["uri", "position"]))
    return set_column(batch, EVENT_TIME, pa.array([time * SECOND for time in times], pa.int64()).cast(TIME_TYPE))


def firsts(rows, window):
    """Positions of the first row of each key, in each window."""
    first = {}
    for user, time, position in rows:
        first.setdefault((user, time // window), position)
    return sorted(first.values())


class Count(beam.PTransform):
    """Takes the rejects, and checks how many there are."""

    def __init__(self, wanted):
        super().__init__()
        self._wanted = wanted

    def expand(self, letters):
        wanted = self._wanted

        def check(found):
            assert len(found) == wanted
            assert {letter.reasons[0].code for letter in found} == {"unique.user"}

        assert_that(letters, check, label="Letters")
        return letters


def check_positions(wanted):
    def check(batches):
        found = [value["position"] for batch in batches for value in batch.column(ORIGIN).to_pylist()]
        assert sorted(found) == wanted

    return check


def options(prism, *flags):
    return {
        "runner": "PrismRunner",
        "options": PipelineOptions([f"--prism_location={prism}", "--allow_unsafe_triggers", *flags]),
    }


def arrivals(rows, size=25):
    stream = beam_stream.TestStream(coder=BytesCoder())
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        stream = stream.advance_watermark_to(part[0][1]) if start else stream
        stream = stream.add_elements([TimestampedValue(RecordBatchCoder().encode(batch_of(part)), part[0][1])])
    return stream.advance_watermark_to_infinity()


def test_on_a_stream_a_key_is_unique_in_each_window(prism):
    rows = many_rows(400)
    good = firsts(rows, 60)
    with beam.Pipeline(**options(prism, "--streaming")) as pipeline:
        batches = pipeline | arrivals(rows) | beam.Map(RecordBatchCoder().decode).with_output_types(pa.RecordBatch)
        with ErrorHandler(Count(len(rows) - len(good))) as handler:
            out = batches | RejectDuplicates(KEY, WINDOWS, lateness="1s", buckets=3).with_error_handler(handler)
        assert_that(out, check_positions(good), label="Good")


@pytest.mark.parametrize("spilled", [True, False], ids=["files", "runner"])
@pytest.mark.parametrize("windows", [None, WINDOWS], ids=["all", "windows"])
def test_bounded_input(prism, tmp_path, spilled, windows):
    rows = many_rows(400)
    good = firsts(rows, 60 if windows else 1000)
    batches = [batch_of(rows[start : start + 30]) for start in range(0, len(rows), 30)]
    random.Random(1).shuffle(batches)
    with beam.Pipeline(**options(prism)) as pipeline:
        with ErrorHandler(Count(len(rows) - len(good))) as handler:
            spill = str(tmp_path / "spill") if spilled else None
            transform = RejectDuplicates(KEY, windows, spill=spill, buckets=4).with_error_handler(handler)
            out = pipeline | beam.Create(batches) | transform
        assert_that(out, check_positions(good), label="Good")
