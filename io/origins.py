"""Where a record came from, kept in the record itself: two columns beside its data, which loaders leave out.

=====================  ======================================================================
column                 what
=====================  ======================================================================
`_origin.uri`          the file, or the partition of a topic, that the row was read from
`_origin.position`     where in it: a byte, a row, an offset, as `_origin` (`penstock.io.reserved`) has it
=====================  ======================================================================

They are no features: no schema, statistics or hash of rows knows them, so splits and order are those of the rows
without them. `provenance.origin_columns` of the manifest names them.
"""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.reserved import ORIGIN_NAMES
from penstock.io.schema import Feature, Kind

ORIGIN_COLUMNS = pa.schema(list(zip(ORIGIN_NAMES, (pa.string(), pa.int64()), strict=True)))
ORIGIN_FEATURES = tuple(
    Feature(name, kind, multivalued=False) for name, kind in zip(ORIGIN_NAMES, (Kind.BYTES, Kind.INT), strict=True)
)

_PROVENANCE = "origin_columns"


def origin_provenance() -> dict[str, Any]:
    """What the manifest of a dataset says that keeps origins."""
    return {_PROVENANCE: list(ORIGIN_NAMES)}


def keeps_origins(provenance: Mapping[str, Any]) -> bool:
    """Whether the manifest with this provenance says that records keep their origins."""
    return bool(provenance.get(_PROVENANCE))


def origin_schema() -> schema_pb2.Schema:
    """The schema of the two columns."""
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
