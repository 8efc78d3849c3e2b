import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline as testing
from apache_beam.testing.util import assert_that, equal_to

from penstock.io.batches import origin_array
from penstock.io.reserved import ORIGIN, SHUFFLE_KEY
from penstock.transforms.shuffle_key import AssignShuffleKey, assign_shuffle_key


def keys(batch, seed=0, columns=None):
    return assign_shuffle_key(batch, seed, columns).column(SHUFFLE_KEY).to_pylist()


def test_a_key_depends_on_the_row_and_the_seed_alone():
    batch = pa.record_batch({"id": np.arange(1000) % 500, ORIGIN: origin_array("a", np.arange(1000))})
    found = keys(batch)
    assert found[:500] == found[500:]
    assert len(set(found)) == 500
    assert keys(batch.slice(100, 50)) == found[100:150]
    assert set(keys(batch, seed=1)).isdisjoint(found)


def test_an_absent_column_is_a_column_of_nulls():
    with_nulls = pa.record_batch({"a": [1, 2], "b": pa.nulls(2, pa.string())})
    assert keys(with_nulls, columns=["a", "b"]) == keys(with_nulls.select(["a"]), columns=["a", "b"])


def test_the_key_of_the_source_is_kept():
    batch = pa.record_batch({"a": [1], SHUFFLE_KEY: pa.array([42], pa.uint64())})
    assert assign_shuffle_key(batch) is batch


def test_pipeline():
    batch = pa.record_batch({"id": np.arange(6)})
    with testing.TestPipeline(runner=FnApiRunner()) as pipeline:
        found = pipeline | beam.Create([batch.slice(0, 2), batch.slice(2)]) | AssignShuffleKey(5, ["id"])
        assert found.element_type is pa.RecordBatch
        assert_that(
            found | beam.FlatMap(lambda out: out.column(SHUFFLE_KEY).to_pylist()),
            equal_to(keys(batch, 5)),
        )
