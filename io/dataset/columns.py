"""The columns of a dataset from its schema, for formats of shards that have typed columns."""

import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.schema import Kind, named_features, schema_features

# A tag of a feature's annotation: its bytes are no text.
BINARY_TAG = "binary"


def dataset_columns(schema: schema_pb2.Schema, floats: pa.DataType | None = None) -> pa.Schema:
    """A column for each feature, in the schema's order.

    INT is int64, FLOAT is `floats` (float64 by default), and BYTES is string: binary where the feature has an
    `image_domain`, or an `annotation` with the tag `binary`. A feature that may have other than one value in a row is a
    list; one of which the schema does not say how many is not.

    Raises:
      ConfigError: for an invalid schema.
    """
    messages = named_features(schema)
    types = {Kind.INT: pa.int64(), Kind.FLOAT: floats or pa.float64(), Kind.BYTES: pa.string()}
    columns = []
    for feature in schema_features(schema):
        value = types[feature.kind]
        if feature.kind is Kind.BYTES and _is_binary(messages[feature.name]):
            value = pa.binary()
        columns.append((feature.name, pa.list_(value) if feature.multivalued else value))
    return pa.schema(columns)


def _is_binary(feature: schema_pb2.Feature) -> bool:
    return feature.HasField("image_domain") or BINARY_TAG in feature.annotation.tag
