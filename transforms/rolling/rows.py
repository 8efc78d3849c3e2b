"""Prepares rows for rolling features: binds a spec to a schema, and extracts events from rows."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import set_column
from penstock.io.beam.durations import micros
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.columns.hashing import hash_rows, salted
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import column_of, has_kind, is_list
from penstock.io.errors import ConfigError, DataError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, Kind, feature_map, find_feature
from penstock.transforms.rolling.file import OPERATIONS, RollingFeature, RollingSpec

_KEY_SEED = salted(0, "rolling key")
_ORDER_SEED = salted(0, "rolling order")

_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.BYTES: pa.binary()}

# Columns of an event, besides those of the key and the values.
HASH = "hash"
TIME = "time"
ORDER = "order"


@dataclasses.dataclass(frozen=True)
class Rolling:
    """A spec bound to the columns of a schema. It can be pickled.

    Attributes:
      key: the columns of the key.
      features: the features to compute.
      columns: all columns of the schema; rows that are equal in all of them are the same row.
      kinds: the kinds of the columns that are used, by name.
    """

    key: tuple[str, ...]
    features: tuple[RollingFeature, ...]
    columns: tuple[str, ...]
    kinds: dict[str, Kind]

    @property
    def values(self) -> tuple[str, ...]:
        """The columns that features are computed from, in name order."""
        return tuple(sorted({feature.column for feature in self.features if feature.column}))

    @property
    def aggregate_window(self) -> int:
        """The longest window in which all rows matter, in microseconds."""
        return max((micros(feature.window) for feature in self.features if feature.op != "time_since_last"), default=0)

    @property
    def last_window(self) -> int:
        """The longest window in which only the last row of a key matters, in microseconds."""
        return max((micros(feature.window) for feature in self.features), default=0)

    def kind(self, feature: RollingFeature) -> Kind:
        """Returns the kind of a feature's values: INT or FLOAT."""
        match feature.op:
            case "count" | "distinct" | "late":
                return Kind.INT
            case "sum" | "min" | "max" if feature.column:
                return self.kinds[feature.column]
            case _:
                return Kind.FLOAT


def bind_rolling(spec: RollingSpec, features: Sequence[Feature]) -> Rolling:
    """Binds the spec to columns of these types.

    Raises:
      ConfigError: for a column that the schema lacks or that an operation or key cannot take, or a feature that has the
        name of a column; with file, line and feature.
    """
    columns = feature_map(features)
    kinds = {name: _key_kind(find_feature(name, features, f"{spec.where}: key"), spec) for name in spec.key}
    for feature in spec.features:
        if feature.name in columns:
            raise ConfigError(f"{feature.where}: the schema has a column of this name; choose another")
        if feature.column:
            kinds[feature.column] = _value_kind(feature, find_feature(feature.column, features, str(feature.where)))
    return Rolling(spec.key, spec.features, tuple(columns), kinds)


def _key_kind(column: Feature, spec: RollingSpec) -> Kind:
    if column.multivalued:
        raise ConfigError(f"{spec.where}: key {column.name!r} is multivalued; a row has one key")
    if column.kind is Kind.FLOAT:
        raise ConfigError(f"{spec.where}: key {column.name!r} is FLOAT; a key is INT or BYTES")
    return column.kind


def _value_kind(feature: RollingFeature, column: Feature) -> Kind:
    if column.multivalued:
        raise ConfigError(f"{feature.where}: column {column.name!r} is multivalued; {feature.op} takes one value a row")
    takes = OPERATIONS[feature.op].takes
    if column.kind.value not in takes:
        raise ConfigError(
            f"{feature.where}: {feature.op} takes {' or '.join(takes)}, and {column.name!r} is {column.kind.value}"
        )
    return column.kind


def event_micros(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Returns int64: the event time of each row in microseconds since 1970.

    Raises:
      DataError: when a row has no event time.
    """
    column = column_of(batch, EVENT_TIME)
    if column is None or column.null_count:
        raise DataError(f"rolling features need {EVENT_TIME} in every row; put AssignEventTime before them")
    return _in_type(column, pa.int64()).to_numpy()


def key_hashes(batch: pa.RecordBatch, rolling: Rolling) -> npt.NDArray[np.uint64]:
    """Returns uint64, equal for rows of one key. A row without a key hashes as itself, so such rows spread evenly."""
    hashes = hash_rows(batch, rolling.key, _KEY_SEED)
    lost = np.flatnonzero(~has_key(batch, rolling))
    if len(lost):
        hashes[lost] = row_hashes(batch.take(pa.array(lost)), rolling)
    return hashes


def has_key(batch: pa.RecordBatch, rolling: Rolling) -> npt.NDArray[np.bool_]:
    """Returns which rows have no null in the key."""
    present = np.ones(batch.num_rows, bool)
    for name in rolling.key:
        column = _column(batch, name, rolling)
        if column.null_count:
            present &= pc.is_valid(column).to_numpy(zero_copy_only=False)
    return present


def row_hashes(batch: pa.RecordBatch, rolling: Rolling) -> npt.NDArray[np.uint64]:
    """Returns uint64: a hash of all bits of each row. `hash_rows` alone would see floats as float32."""
    for name in rolling.columns:
        column = column_of(batch, name)
        if column is not None:
            batch = set_column(batch, name, _as_bits(column))
    return hash_rows(batch, rolling.columns, _ORDER_SEED)


def _as_bits(column: pa.Array) -> pa.Array:
    if column.type == pa.float64():
        return column.view(pa.int64())
    if pa.types.is_list(column.type) and column.type.value_type == pa.float64():
        mask = column.is_null() if column.null_count else None
        offsets = column.offsets
        return pa.ListArray.from_arrays(offsets, column.values.view(pa.int64()), mask=mask)
    return column


def event_schema(rolling: Rolling) -> pa.Schema:
    """Returns the schema of events: the values that features are computed from, and what the history keeps.

    Columns are `hash` (uint64, of the key), `time` (int64, microseconds), `order` (uint64, orders rows of equal time),
    and the columns of the key and of the values, whose names get the prefix `key.` or `value.`.
    """
    fields = [(HASH, pa.uint64()), (TIME, pa.int64()), (ORDER, pa.uint64())]
    fields += [(f"key.{name}", _TYPES[rolling.kinds[name]]) for name in rolling.key]
    fields += [(f"value.{name}", _TYPES[rolling.kinds[name]]) for name in rolling.values]
    return pa.schema(fields)


def events_of(batch: pa.RecordBatch, rolling: Rolling) -> pa.RecordBatch:
    """Returns one event for each row, in the order of the rows.

    Raises:
      DataError: when a row has no event time, or a column is not of the kind that the schema says.
    """
    arrays: list[Any] = [key_hashes(batch, rolling), event_micros(batch), row_hashes(batch, rolling)]
    arrays = [pa.array(array) for array in arrays]
    arrays += [_column(batch, name, rolling) for name in (*rolling.key, *rolling.values)]
    return pa.RecordBatch.from_arrays(arrays, schema=event_schema(rolling))


def _column(batch: pa.RecordBatch, name: str, rolling: Rolling) -> pa.Array:
    """Returns a column with one value a row, in the type of its kind; null where a row has no value or several."""
    kind = rolling.kinds[name]
    column = column_of(batch, name)
    if column is None:
        return pa.nulls(batch.num_rows, _TYPES[kind])
    if not has_kind(column.type, kind):
        raise DataError(f"rolling features: column {name!r} is {column.type}, and the schema says {kind.value}")
    if is_list(column.type):
        column = list_column(column).single_values()
    return _in_type(column, _TYPES[kind])


# These types are stored alike, so a batch need not be copied.
_VIEWS = {(pa.string(), pa.binary()), (TIME_TYPE, pa.int64())}


def _in_type(column: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    if column.type == arrow_type:
        return column
    return column.view(arrow_type) if (column.type, arrow_type) in _VIEWS else column.cast(arrow_type)
