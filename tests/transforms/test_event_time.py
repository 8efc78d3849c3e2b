import json
import time

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline as testing
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import CollectingErrorHandler

from penstock.io.batches import origin_array
from penstock.io.errors import ConfigError
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.transforms.event_time import AssignEventTime


def test_a_column_is_needed():
    with pytest.raises(ConfigError, match="must be COLUMN or COLUMN:s"):
        AssignEventTime(":s")


class _StampFn(beam.DoFn):
    def process(self, batch, timestamp=beam.DoFn.TimestampParam):
        yield timestamp.micros, batch.column("t").to_pylist(), batch.column(EVENT_TIME).cast(pa.int64()).to_pylist()


def test_pipeline():
    origin = origin_array("/a.csv", np.arange(3))
    batches = [
        pa.record_batch({"t": pa.array([30, None, 20]), ORIGIN: origin}),
        pa.record_batch({"t": pa.array([-5])}),
        pa.record_batch({"t": pa.array([None], pa.int64()), ORIGIN: origin.slice(0, 1)}),
    ]
    with testing.TestPipeline(runner=FnApiRunner()) as pipeline:
        with CollectingErrorHandler() as handler:
            timed = pipeline | beam.Create(batches) | AssignEventTime("t:s").with_error_handler(handler)
        assert timed.element_type is pa.RecordBatch
        assert_that(
            timed | beam.ParDo(_StampFn()),
            equal_to([(20_000_000, [30, 20], [30_000_000, 20_000_000]), (-5_000_000, [-5], [-5_000_000])]),
        )
        letters = handler.output() | beam.Map(lambda letter: (letter.position, json.loads(letter.to_json())["reason"]))
        assert_that(letters, equal_to([(1, "event_time.missing"), (0, "event_time.missing")]), label="Rejected")


def test_a_row_too_far_ahead_of_the_clock_is_rejected():
    now = int(time.time())
    batch = pa.record_batch({"t": [now, now + 3700, 32_472_144_000, now + 3500]})
    with testing.TestPipeline(runner=FnApiRunner()) as pipeline:
        with CollectingErrorHandler() as handler:
            batches = pipeline | beam.Create([batch])
            timed = batches | AssignEventTime("t:s", max_ahead="1h").with_error_handler(handler)
        assert_that(timed | beam.FlatMap(lambda batch: batch.column("t").to_pylist()), equal_to([now, now + 3500]))
        codes = handler.output() | beam.Map(lambda letter: [reason.code for reason in letter.reasons])
        assert_that(codes, equal_to([["future"], ["future"]]), label="letters")


def test_a_limit_that_is_no_duration_is_refused():
    with pytest.raises(ConfigError, match=r"max_ahead must be a duration, .* got 60"):
        AssignEventTime("t:s", max_ahead=60)
