import apache_beam as beam
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from penstock.io.batches import source_rows
from penstock.transforms.keep_source import KeepSource


def test_rows_are_kept_as_they_are():
    batch = pa.record_batch({"x": pa.array([1, None]), "s": pa.array(["a", "b"])})
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        kept = pipeline | beam.Create([0]) | beam.Map(lambda _: batch).with_output_types(pa.RecordBatch) | KeepSource()
        assert_that(kept | beam.FlatMap(lambda rows: source_rows(rows).to_pylist()), equal_to(batch.to_pylist()))
