"""Rows that become long lists: computed some at a time, with the same values."""

from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.testing.util import assert_that
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.features.apply import ApplyTransform, load_graph
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import parse_features

SCHEMA = text_format.Parse('feature { name: "n" type: INT value_count { min: 1 max: 1 } }', schema_pb2.Schema())
ENTRIES = "features: {n: {}, at: {input: n, ops: [{one_hot: 4000}]}, sum: {input: n, ops: [{one_hot: 1000}, list_sum]}}"
ROWS = 5_000


def batch() -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array([None, *range(1, ROWS)], pa.int64())})


def told(found: pa.RecordBatch) -> tuple[list[int], int, float]:
    lists = found["at"].drop_null()
    return [item or 0 for item in found["n"].to_pylist()], found.nbytes, sum(lists.flatten().to_pylist())


def check(pieces: list[tuple[list[int], int, float]]) -> None:
    rows, sizes, sums = zip(*sorted(pieces), strict=True)
    assert [row for part in rows for row in part] == list(range(ROWS))
    assert len(sizes) == 3
    assert max(sizes) < 36 << 20
    assert sum(sums) == 3999


def test_lists_of_a_batch_are_computed_in_pieces(tmp_path: Path) -> None:
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([None]) | beam.Map(lambda _: batch()).with_output_types(pa.RecordBatch)
        _ = rows | FitTransform(parse_features(ENTRIES), SCHEMA, str(tmp_path), engine="arrow")
    assert load_graph(str(tmp_path)).width == 5000
    with local_pipeline() as pipeline:
        rows = pipeline | beam.Create([None]) | beam.Map(lambda _: batch()).with_output_types(pa.RecordBatch)
        assert_that(rows | ApplyTransform(str(tmp_path)) | beam.Map(told), check)
