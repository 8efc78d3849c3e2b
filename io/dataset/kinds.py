"""The kind of each feature over all batches of a dataset: one kind, or no parser of tf.Example reads the records.

A batch knows its own types only. Each bundle therefore says what kinds its features have, and where it met them first
(`SeenKinds`); this is merged before anything is published. Kinds follow from the types of columns, so a batch costs a
look at each column and none at its rows.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import feature_names, row_origin
from penstock.io.beam.json_coder import register_json
from penstock.io.columns.lists import list_column
from penstock.io.columns.of_schema import BINARY_TAG
from penstock.io.columns.values import is_list, is_readable, is_text, item_type, kind_of, shown
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import DataError
from penstock.io.kernel.shared.numbers import float32_overflow
from penstock.io.schema import Kind, schema_features

_MAX_INT = (1 << 63) - 1

_REMEDY = (
    "a dataset has one kind for each feature: give the source a schema, as ReadRecords(features=...) and "
    "FromDicts(schema=...) take it, or cast the column in all batches"
)


@dataclasses.dataclass(frozen=True)
class SeenFeature:
    """What some rows tell about a feature.

    Attributes:
      kind: the name of its `Kind`; empty for columns of nulls without a type.
      origin: where a row with a value was first met.
      present: the number of rows with a value (an empty list is one); without any, the kind binds nobody.
      min_values: the fewest values in a row that has any.
      max_values: the most values in a row.
      is_binary: whether values came as bytes, not as texts.
      is_beyond: whether a number is beyond its kind, as Parquet shards may hold it.
    """

    kind: str
    origin: str = ""
    present: int = 0
    min_values: int = 1
    max_values: int = 1
    is_binary: bool = False
    is_beyond: bool = False

    def merge(self, name: str, other: "SeenFeature") -> "SeenFeature":
        """Returns what the rows of both tell.

        Raises:
          DataError: if both have values, of different kinds.
        """
        if not (self.present and other.present):
            return other if other.present or not self.kind else self
        if self.kind != other.kind:
            raise DataError(
                f"column {name!r} is {self.kind} in {self.origin}, and {other.kind} in {other.origin}; {_REMEDY}"
            )
        return SeenFeature(
            self.kind,
            self.origin,
            self.present + other.present,
            min(self.min_values, other.min_values),
            max(self.max_values, other.max_values),
            self.is_binary or other.is_binary,
            self.is_beyond or other.is_beyond,
        )


@dataclasses.dataclass(frozen=True)
class KindGroup:
    """Features of one kind that were first met by one row: what a bundle of a stream says of its features."""

    kind: str
    origin: str
    names: tuple[str, ...]


@register_json
@dataclasses.dataclass(frozen=True)
class SeenKinds:
    """What some rows tell about their features. `SeenKinds()`, of no rows, changes nothing when it is merged."""

    rows: int = 0
    features: Mapping[str, SeenFeature] = dataclasses.field(default_factory=dict)

    def merge(self, other: "SeenKinds") -> "SeenKinds":
        """Returns what the rows of both tell; the order decides only which origin is told.

        Raises:
          DataError: for a feature of two kinds; the message has an origin of both.
        """
        features = dict(self.features)
        for name, new in other.features.items():
            features[name] = features[name].merge(name, new) if name in features else new
        return SeenKinds(self.rows + other.rows, features)

    def groups(self) -> tuple[KindGroup, ...]:
        """Returns the kinds that bind others, in few texts: a stream keeps them for each chunk of its rows."""
        found: dict[tuple[str, str], list[str]] = {}
        for name, seen in self.features.items():
            if seen.present and seen.kind:
                found.setdefault((seen.kind, seen.origin), []).append(name)
        return tuple(KindGroup(kind, origin, tuple(names)) for (kind, origin), names in found.items())

    @classmethod
    def of_groups(cls, groups: Iterable[KindGroup]) -> "SeenKinds":
        """Inverts `groups`, as of no rows: nothing is known but kinds and origins."""
        features = {name: SeenFeature(group.kind, group.origin, 1) for group in groups for name in group.names}
        return cls(0, features)


def merge_kinds(seen: Iterable[SeenKinds]) -> SeenKinds:
    """Merges what bundles have seen.

    Raises:
      DataError: for a feature of two kinds.
    """
    return functools.reduce(SeenKinds.merge, seen, SeenKinds())


class KindCounter:
    """Gathers the kinds of the batches of a bundle. Columns that no kind can hold, such as nested lists, are left out.

    Attributes:
      expected: the kind of each feature that there may be, by a schema; None if there is none.
      has_columns: whether shards have columns of Arrow types, which may hold numbers that are beyond their kind.
    """

    def __init__(self, expected: Mapping[str, Kind] | None = None, has_columns: bool = False):
        self._expected = expected
        self._has_columns = has_columns
        self.seen = SeenKinds()

    @classmethod
    def of_spec(cls, spec: DatasetSpec) -> Self:
        """Makes a counter for one bundle of a dataset."""
        return cls(_expected_kinds(spec.schema), SHARD_FORMATS[spec.format].has_columns)

    def add(self, rows: pa.RecordBatch) -> None:
        """Adds rows that were encoded.

        Raises:
          DataError: for a feature of two kinds, or of another kind than expected, or one that is not expected.
        """
        names = [name for name in feature_names(rows) if is_readable(item_type(rows.schema.field(name).type))]
        features = {name: _seen(rows, name, self.seen.features.get(name)) for name in names}
        if self._has_columns:
            features = {name: _with_range(seen, rows.column(name)) for name, seen in features.items()}
        if self._expected is not None:
            _check_expected(features, self._expected)
        self.seen = self.seen.merge(SeenKinds(rows.num_rows, features))


def _expected_kinds(schema: schema_pb2.Schema | None) -> dict[str, Kind] | None:
    """Returns the kinds that a schema gives to its features; None without a schema.

    Raises:
      ConfigError: for an invalid schema.
    """
    return None if schema is None else {feature.name: feature.kind for feature in schema_features(schema)}


def kinds_of_schema(schema: schema_pb2.Schema) -> SeenKinds:
    """Returns the kinds of a dataset's schema, as of no rows."""
    features = schema_features(schema)
    return SeenKinds(0, {each.name: SeenFeature(each.kind.value, "its schema", 1) for each in features})


def _check_expected(features: Mapping[str, SeenFeature], expected: Mapping[str, Kind]) -> None:
    for name, seen in features.items():
        if not seen.present:
            continue
        if name not in expected:
            raise DataError(
                f"column {name!r} of {seen.origin} is not a feature of the schema of the dataset "
                f"({', '.join(expected)}): name it there, or drop it before it is written"
            )
        if expected[name].value != seen.kind:
            raise DataError(
                f"column {name!r} is {expected[name].value} in the schema of the dataset, and {seen.kind} in "
                f"{seen.origin}: cast the column, or read it under that schema"
            )


def _seen(rows: pa.RecordBatch, name: str, known: SeenFeature | None) -> SeenFeature:
    """Looks at a column; where a row with a value comes from is found out only if that is not known yet."""
    column = rows.column(name)
    item = item_type(column.type)
    kind = _stored_kind(item)
    present = len(column) - column.null_count
    if not present:
        return SeenFeature(kind.value if kind else "")
    least = most = 1
    if is_list(column.type):
        lengths = pc.min_max(pc.list_value_length(column))
        least, most = lengths["min"].as_py(), lengths["max"].as_py()
        # Of an empty list without a type, the encoders have to write some kind, and it is this one.
        kind = kind or Kind.INT
    text = kind.value if kind else ""
    is_new = known is None or not known.present or known.kind != text
    is_binary = kind is Kind.BYTES and is_text(item) and not _is_string(item)
    return SeenFeature(text, _origin(rows, column) if is_new else "", present, least, most, is_binary)


def _with_range(seen: SeenFeature, column: pa.Array) -> SeenFeature:
    item = item_type(column.type)
    if not (types.is_uint64(item) or types.is_float64(item)):
        return seen
    values = list_column(column).values.drop_null()
    if types.is_uint64(item):
        is_beyond = bool(pc.any(pc.greater(values, pa.scalar(_MAX_INT, pa.uint64()))).as_py())
    else:
        is_beyond = bool(float32_overflow(values.to_numpy(zero_copy_only=False)).any())
    return dataclasses.replace(seen, is_beyond=is_beyond)


def _is_string(item: pa.DataType) -> bool:
    return types.is_string(item) or types.is_large_string(item) or types.is_string_view(item)


def _stored_kind(item: pa.DataType) -> Kind | None:
    """Returns the kind of readable values as verification reads them; None for nulls."""
    return Kind.INT if types.is_temporal(item) else Kind.BYTES if types.is_decimal(item) else kind_of(item)


def _origin(rows: pa.RecordBatch, column: pa.Array) -> str:
    """Describes the first row with a value: by its origin, or else by the value."""
    row = 0 if column[0].is_valid else int(np.argmax(column.is_valid().to_numpy(zero_copy_only=False)))
    origin = row_origin(rows, row) or f"a row with {shown(_python_value(column[row]))}"
    is_untyped = types.is_null(item_type(column.type))
    return f"{origin} (an empty list without a type)" if is_untyped else origin


def _python_value(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except (ValueError, OverflowError, ImportError):
        return str(value)


def dataset_schema(
    seen: SeenKinds, schema: schema_pb2.Schema | None = None, columns: pa.Schema | None = None
) -> schema_pb2.Schema:
    """Returns the schema to publish: the given one, or one of all rows and the declared columns."""
    return schema if schema is not None else seen_schema(_kinds_of_columns(columns).merge(seen))


def _kinds_of_columns(columns: pa.Schema | None) -> SeenKinds:
    """Returns the kinds of declared columns, as of no rows; no features if nothing is declared."""
    items = {field.name: item_type(field.type) for field in columns or ()}
    found = {name: _stored_kind(item) for name, item in items.items() if is_readable(item)}
    return SeenKinds(0, {name: SeenFeature(kind.value if kind else "") for name, kind in found.items()})


def seen_schema(seen: SeenKinds) -> schema_pb2.Schema:
    """Makes the schema that all rows seen meet; features are sorted by name.

    The sink checks no values, so NaN and infinity are allowed. A feature with a number that is beyond its kind is left
    out. Kinds as of no rows (`SeenKinds.of_groups`) make a
    schema that says nothing of presence and numbers of values: rows still to come may be different.
    """
    schema = schema_pb2.Schema()
    for name, feature in sorted(seen.features.items()):
        if not feature.is_beyond:
            schema.feature.append(_schema_feature(name, feature, seen.rows))
    return schema


def _schema_feature(name: str, seen: SeenFeature, rows: int) -> schema_pb2.Feature:
    kind = Kind(seen.kind or Kind.BYTES)
    feature = schema_pb2.Feature(name=name, type=schema_pb2.FeatureType.Value(kind.value))
    if not seen.present:
        feature.annotation.comment.append("no value" if seen.kind else "no value: the type is not known")
    elif rows:
        feature.presence.min_count = 1
        if seen.present == rows:
            feature.presence.min_fraction = 1
        feature.value_count.min = seen.min_values
        if seen.max_values:
            feature.value_count.max = seen.max_values
    if kind is Kind.FLOAT:
        feature.float_domain.disallow_nan = feature.float_domain.disallow_inf = False
    if seen.is_binary:
        feature.annotation.tag.append(BINARY_TAG)
    return feature
