"""ComputeStatistics in pipelines."""

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import FixedWindows, TimestampedValue
from apache_beam.typehints.decorators import TypeCheckError

from penstock.transforms import ComputeStatistics, compute_statistics

BATCHES = [pa.record_batch({"x": [index, None], "s": ["a", f"{index}"]}) for index in range(6)]


def test_all_rows_have_the_bytes_of_a_single_pass():
    expected = compute_statistics(BATCHES).to_bytes()
    with beam.Pipeline() as pipeline:
        batches = pipeline | beam.Create(BATCHES).with_output_types(pa.RecordBatch)
        found = batches | ComputeStatistics() | beam.Map(lambda statistics: statistics.to_bytes())
        assert_that(found, equal_to([expected]))


def test_each_window_has_its_own():
    expected = [compute_statistics(BATCHES[start : start + 3]).to_bytes() for start in (0, 3)]
    with beam.Pipeline() as pipeline:
        numbered = pipeline | beam.Create(enumerate(BATCHES))
        stamp = beam.MapTuple(lambda index, batch: TimestampedValue(batch, index * 20))
        batches = numbered | stamp.with_output_types(pa.RecordBatch) | beam.WindowInto(FixedWindows(60))
        found = batches | ComputeStatistics() | beam.Map(lambda statistics: statistics.to_bytes())
        assert_that(found, equal_to(expected))


def test_other_elements_are_refused():
    with (
        pytest.raises(TypeCheckError, match=r"ComputeStatistics takes pyarrow\.RecordBatch"),
        beam.Pipeline() as pipeline,
    ):
        _ = pipeline | beam.Create([{"x": 1}]) | ComputeStatistics()
