"""Transforms that look at all rows together refuse windows when the pipeline is built."""

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.transforms.window import FixedWindows
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.transforms.features.fit import FitTransform
from penstock.transforms.features.functions import parse_features
from penstock.transforms.infer import InferSchema
from penstock.transforms.relax import GatherEvidence

SCHEMA = text_format.Parse('feature { name: "x" type: FLOAT value_count { min: 1 max: 1 } }', schema_pb2.Schema())
FEATURES = parse_features("features: {x: {ops: [scale_to_z_score]}}")


@pytest.mark.parametrize(
    "transform",
    [
        InferSchema(),
        GatherEvidence(SCHEMA),
        FitTransform(FEATURES, SCHEMA, "fitted", engine="arrow"),
        FitTransform(FEATURES, SCHEMA, "fitted", engine="tft"),
    ],
    ids=["infer", "gather", "fit-arrow", "fit-tft"],
)
def test_windows_are_refused(transform):
    batches = beam.Pipeline() | beam.Create([pa.record_batch({"x": [1.0]})]).with_output_types(pa.RecordBatch)
    message = (
        f"^{type(transform).__name__} takes batches in the global window, got FixedWindows; put it before WindowInto$"
    )
    with pytest.raises(ConfigError, match=message):
        _ = batches | beam.WindowInto(FixedWindows(60)) | transform
