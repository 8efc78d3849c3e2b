import apache_beam as beam
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to

from penstock.io.dead_letters.source import payloads_of
from penstock.io.reserved import SOURCE
from penstock.transforms.keep_source import KeepSource


def test_rows_are_kept_as_they_are():
    batch = pa.record_batch({"x": pa.array([1, None]), "s": pa.array(["a", "b"])})
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        kept = pipeline | beam.Create([0]) | beam.Map(lambda _: batch).with_output_types(pa.RecordBatch) | KeepSource()
        texts = kept | beam.FlatMap(lambda rows: payloads_of(rows.column(SOURCE)).texts)
        assert_that(texts, equal_to(['{"x": 1, "s": "a"}', '{"s": "b"}']))
