"""Two columns of one name, which a program's own batches may have: each transform refuses them and names the column."""

import datetime

import apache_beam as beam
import pyarrow as pa
import pytest
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock import transforms
from penstock.io.errors import ConfigError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import schema_features
from penstock.io.write import WriteDataset
from penstock.transforms.features.functions import parse_features
from penstock.transforms.rolling.file import parse_rolling

SCHEMA = text_format.Parse(
    """
    feature { name: "a" type: INT presence { min_fraction: 0 } shape {} }
    feature { name: "b" type: INT presence { min_fraction: 0 } shape {} }
    """,
    schema_pb2.Schema(),
)
FEATURES = "features:\n  f:\n    input: a\n    ops: [scale_to_z_score]\n"
ROLLING = "rolling: {key: a, window: 10s, features: {n: {op: count}}}"


def rows(*names):
    times = pa.array([0, 1, 2], pa.timestamp("us", "UTC"))
    return pa.record_batch([times if name == EVENT_TIME else pa.array([1, 2, 3]) for name in names], list(names))


def run(batch, transform):
    pipeline = local_pipeline()
    _ = pipeline | beam.Create([0]) | beam.Map(lambda _: batch).with_output_types(pa.RecordBatch) | transform
    pipeline.run().wait_until_finish()


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("graph") / "graph")
    run(rows("a", "b"), transforms.FitTransform(parse_features(FEATURES), SCHEMA, folder, engine="arrow"))
    return folder


TRANSFORMS = {
    "WriteDataset": lambda folder, graph: WriteDataset(f"{folder}/out", num_shards=1),
    "WriteDataset of Parquet": lambda folder, graph: WriteDataset(
        f"{folder}/out", num_shards=1, format="parquet", columns=pa.schema({"a": pa.int64(), "b": pa.int64()})
    ),
    "ValidateRecords": lambda folder, graph: transforms.ValidateRecords(SCHEMA),
    "RejectDuplicates": lambda folder, graph: transforms.RejectDuplicates([transforms.UniqueKey(("b",))]),
    "AssignSplit": lambda folder, graph: transforms.AssignSplit({"x": 0.5, "y": 0.5}, key=["a"]),
    "AssignSplit by others": lambda folder, graph: transforms.AssignSplit({"x": 0.5, "y": 0.5}, key=["b"]),
    "SplitByTime": lambda folder, graph: transforms.AssignSplit(
        by=transforms.SplitByTime({"x": datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC), "y": None})
    ),
    "AssignShuffleKey": lambda folder, graph: transforms.AssignShuffleKey(columns=["b"]),
    "AssignEventTime": lambda folder, graph: transforms.AssignEventTime("b:s"),
    "KeepSource": lambda folder, graph: transforms.KeepSource(),
    "InferSchema": lambda folder, graph: transforms.InferSchema(),
    "ComputeStatistics": lambda folder, graph: transforms.ComputeStatistics(),
    "GatherEvidence": lambda folder, graph: transforms.GatherEvidence(SCHEMA),
    "FitTransform": lambda folder, graph: transforms.FitTransform(
        parse_features(FEATURES), SCHEMA, f"{folder}/fitted", engine="arrow"
    ),
    "ApplyTransform": lambda folder, graph: transforms.ApplyTransform(graph),
    "RollingFeatures": lambda folder, graph: transforms.RollingFeatures(
        parse_rolling(ROLLING), schema_features(SCHEMA)
    ),
    "ToRows": lambda folder, graph: transforms.ToRows(SCHEMA),
    "ToDicts": lambda folder, graph: transforms.ToDicts(),
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_transform_names_the_column(name, tmp_path, graph):
    with pytest.raises(ConfigError, match=r"more than one column named 'a'; rename or drop one"):
        run(rows("a", "b", EVENT_TIME, "a"), TRANSFORMS[name](tmp_path, graph))


def test_statistics_of_batches_at_hand_do_so_too():
    with pytest.raises(ConfigError, match="more than one column named 'é'"):
        transforms.compute_statistics([rows("é", "b", "é")])


def test_reserved_columns_are_no_exception(tmp_path, graph):
    with pytest.raises(ConfigError, match=f"more than one column named '{EVENT_TIME}'"):
        run(rows(EVENT_TIME, "a", EVENT_TIME), TRANSFORMS["ValidateRecords"](tmp_path, graph))
