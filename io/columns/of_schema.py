"""Derives a dataset's Arrow columns from its schema, for shard formats that need to know them."""

import difflib
from collections.abc import Collection

import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.reserved import ORIGIN_NAMES
from penstock.io.schema import Feature, Kind, named_features, schema_features

# What `_origin` becomes in records that keep it.
ORIGIN_COLUMNS = pa.schema(list(zip(ORIGIN_NAMES, (pa.string(), pa.int64()), strict=True)))
ORIGIN_FEATURES = tuple(
    Feature(name, kind, multivalued=False) for name, kind in zip(ORIGIN_NAMES, (Kind.BYTES, Kind.INT), strict=True)
)

# The annotation tag of a feature whose bytes are not text.
BINARY_TAG = "binary"


def dataset_columns(schema: schema_pb2.Schema, floats: pa.DataType | None = None, lists: bool = False) -> pa.Schema:
    """Returns a column for each feature, in the schema's order.

    INT becomes int64, and FLOAT becomes `floats` (float64 by default). BYTES becomes string, or binary if the feature
    has an `image_domain` or an `annotation` with the tag `binary`. A feature becomes a list if the schema allows other
    than one value in a row. If the schema does not say how many values there are, it becomes a list only with `lists`,
    as in the schema of a graph.

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
        is_list = lists if feature.multivalued is None else feature.multivalued
        columns.append((feature.name, pa.list_(value) if is_list else value))
    return pa.schema(columns)


def with_required(columns: pa.Schema, schema: schema_pb2.Schema) -> pa.Schema:
    """Returns the columns, of which those are not nullable that have a value in every row, as the schema demands."""
    complete = {feature.name for feature in schema_features(schema) if feature.complete}
    return pa.schema([field.with_nullable(field.name not in complete) for field in columns])


def with_lists(columns: pa.Schema, names: Collection[str]) -> pa.Schema:
    """Returns the columns with lists of just these names.

    Raises:
      ConfigError: for a name that is no column.
    """
    for name in names:
        if name not in columns.names:
            nearest = difflib.get_close_matches(name, columns.names, n=1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            raise ConfigError(
                f"--sequence_features {name!r} is no column of the dataset; {hint}the columns are "
                f"{', '.join(columns.names)}"
            )
    types = [field.type.value_type if pa.types.is_list(field.type) else field.type for field in columns]
    return pa.schema(
        (name, pa.list_(value) if name in names else value) for name, value in zip(columns.names, types, strict=True)
    )


def _is_binary(feature: schema_pb2.Feature) -> bool:
    return feature.HasField("image_domain") or BINARY_TAG in feature.annotation.tag


def origin_schema() -> schema_pb2.Schema:
    """Returns the schema of the columns that origins become."""
    schema = schema_pb2.Schema()
    for feature in ORIGIN_FEATURES:
        kind = schema_pb2.FeatureType.Value(feature.kind.value)
        schema.feature.append(schema_pb2.Feature(name=feature.name, type=kind))
        schema.feature[-1].value_count.min = schema.feature[-1].value_count.max = 1
    return schema


def check_no_origin_columns(names: list[str]) -> None:
    """Refuses data columns whose names the origins need.

    Raises:
      ConfigError: names the column.
    """
    for name in ORIGIN_NAMES:
        if name in names:
            raise ConfigError(
                f"column {name!r} has the name of one that keep_origin adds, as rows of a dataset do that keeps its "
                "origins already: leave the column out of the schema, or leave keep_origin out"
            )
