"""Rolling features on Prism, whose timers are those of Beam's protocol, as on Flink and Dataflow."""

import random

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing import test_stream as beam_stream
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from rolling_rows import FEATURES, SECOND, SPEC, batch_of, expected, table

from penstock.io.batches import RecordBatchCoder
from penstock.io.reserved import EVENT_TIME
from penstock.transforms.rolling.transform import RollingFeatures

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def many_rows(count):
    draw = random.Random(11)
    return [
        {
            "card": f"card {draw.randrange(9)}" if draw.random() > 0.05 else None,
            "time": draw.randrange(600) * SECOND + draw.choice([0, 250_000]),
            "amount": draw.choice([None, round(draw.lognormvariate(3, 2), 2), 0.1]),
            "points": draw.choice([None, draw.randrange(-9, 9)]),
            "merchant": draw.choice([None, "x", "y", "z"]),
        }
        for _ in range(count)
    ]


def arrivals(rows, size=25):
    """The rows up to 8 seconds out of order, and watermarks that none of them is behind."""
    order = random.Random(3)
    rows = sorted(rows, key=lambda row: row["time"] / SECOND + order.uniform(0, 8))
    stream, watermark = beam_stream.TestStream(coder=BytesCoder()), -1.0
    for start in range(0, len(rows), size):
        part, left = rows[start : start + size], rows[start + size :]
        first = min(row["time"] for row in part) / SECOND
        stream = stream.add_elements([TimestampedValue(RecordBatchCoder().encode(batch_of(part)), first)])
        if left and min(row["time"] for row in left) / SECOND > watermark:
            watermark = min(row["time"] for row in left) / SECOND
            stream = stream.advance_watermark_to(watermark)
    return stream.advance_watermark_to_infinity()


@pytest.fixture
def on_prism(prism):
    return {
        "runner": "PrismRunner",
        "options": PipelineOptions([f"--prism_location={prism}", "--streaming", "--allow_unsafe_triggers"]),
    }


def rolled(pipeline, rows):
    return (
        pipeline
        | arrivals(rows)
        | beam.Map(RecordBatchCoder().decode).with_output_types(pa.RecordBatch)
        | RollingFeatures(SPEC, FEATURES, buckets=3, every="1s")
    )


def test_a_stream_gives_what_plain_python_gives(on_prism):
    rows = many_rows(300)
    wanted = expected(rows)

    def check(batches):
        assert table(batches) == wanted
        assert len(batches) > 5

    with beam.Pipeline(**on_prism) as pipeline:
        assert_that(rolled(pipeline, rows), check)


def test_no_row_comes_out_behind_the_watermark(on_prism):
    """Beam drops what is late for its windows: the timers must hold the watermark at the rows that wait for them."""
    rows = many_rows(300)

    def check(counts):
        assert sum(counts) == 300

    with beam.Pipeline(**on_prism) as pipeline:
        counts = (
            rolled(pipeline, rows)
            | "Times" >> beam.FlatMap(times).with_output_types(int)
            | "Stamp"
            >> beam.Map(lambda time: TimestampedValue((0, 1), time / SECOND)).with_output_types(tuple[int, int])
            | "Windows" >> beam.WindowInto(FixedWindows(5))
            | beam.CombinePerKey(sum)
            | beam.Values()
            | "Global" >> beam.WindowInto(GlobalWindows())
        )
        assert_that(counts, check)


def times(batch):
    return batch.column(EVENT_TIME).cast(pa.int64()).to_pylist()
