"""Rows of Beam (`beam.Row`, named tuples, dataclasses) to batches and back: `FromRows`, `ToRows`."""

import dataclasses
import datetime
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Optional, Union, get_args, get_origin, get_type_hints

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint
from apache_beam.typehints.schemas import named_fields_from_element_type
from apache_beam.utils.timestamp import Timestamp
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, drop_rows, is_row_type
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.of_schema import dataset_columns
from penstock.io.dataset.shard_formats.declared import fit_columns
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError, DataError
from penstock.io.schema import schema_features
from penstock.transforms.adapters.bundles import ConvertedRows, ConvertsElements, batch_elements
from penstock.transforms.adapters.dicts import convert_rows, schema_targets, value_size, with_event_times
from penstock.transforms.adapters.plain_values import as_mapping
from penstock.transforms.adapters.python_columns import Target, rows_of_columns

_ARROW_TYPES: Mapping[Any, pa.DataType] = {
    bool: pa.bool_(),
    int: pa.int64(),
    float: pa.float64(),
    str: pa.string(),
    bytes: pa.binary(),
    Timestamp: pa.timestamp("us", "UTC"),
    datetime.date: pa.date32(),
    datetime.timedelta: pa.duration("us"),
}


@dataclasses.dataclass(eq=False)
class FromRows(RejectingTransform):
    """Makes batches of rows of Beam: `beam.Row`, named tuples, dataclasses.

    Columns have the types that the rows declare, so that they are the same in every batch; nested rows become dotted
    names. Where Beam does not know the fields, they are as `FromDicts` makes them. Otherwise this is `FromDicts`: its
    batches, times and reasons. A value that is not of its field's type is rejected (`read.type`).

    Attributes:
      schema: the features to read, in place of the declared types; None for all fields.

    Raises:
      ConfigError: for an invalid schema; for a field of a type that no column can hold; behind sliding windows.
      DataError: on the workers, for an element that is no row.
    """

    schema: schema_pb2.Schema | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._targets = schema_targets(self.schema)

    def expand(self, rows: beam.PCollection[Any]) -> beam.PCollection[pa.RecordBatch]:
        """Gathers the rows of a bundle."""
        targets = declared_types(rows.element_type) if self._targets is None else self._targets
        batches, rejected = batch_elements(self, rows, _ConvertsRows(targets))
        self._reject(rejected)
        return batches


@dataclasses.dataclass(frozen=True)
class _ConvertsRows(ConvertsElements):
    targets: Mapping[str, Target] | None

    def convert(self, elements: Sequence[Any], times: pa.Array) -> ConvertedRows:
        return convert_rows([_fields(element) for element in elements], self.targets, times)

    def size(self, element: Any) -> int:
        return value_size(element if isinstance(element, tuple) else _fields(element))


def _fields(element: Any) -> Mapping[Any, Any]:
    fields = None if isinstance(element, Mapping) else as_mapping(element)
    if fields is None:
        remedy = "put FromDicts() in its place" if isinstance(element, Mapping) else "make a beam.Row of it before"
        raise DataError(f"FromRows takes rows of Beam, got {type(element).__name__}: {remedy}")
    return fields


def declared_types(element_type: Any) -> dict[str, Target] | None:
    """Returns the columns of rows by the fields that Beam knows of a type of elements; None if it knows none.

    Raises:
      ConfigError: for a field of a type that no column can hold.
    """
    if element_type is beam.Row or not is_row_type(element_type):
        return None
    return dict(_columns_of_fields(element_type, ""))


def _columns_of_fields(row_type: Any, prefix: str) -> Iterator[tuple[str, Target]]:
    for field, hint in _fields_of(row_type):
        name, plain = f"{prefix}{field}", _not_optional(hint)
        if is_row_type(plain):
            yield from _columns_of_fields(plain, f"{name}.")
        else:
            yield name, _arrow_type(name, plain)


def _fields_of(row_type: Any) -> list[tuple[str, Any]]:
    """Returns names and type hints; Beam's own answer knows no `X | None` of a class."""
    if not isinstance(row_type, type):
        return named_fields_from_element_type(row_type)
    hints = get_type_hints(row_type)
    return [(name, hints[name]) for name, _ in named_fields_from_element_type(row_type)]


def _not_optional(hint: Any) -> Any:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint
    others = [part for part in get_args(hint) if part is not type(None)]
    return others[0] if len(others) == 1 else Any


def _arrow_type(name: str, hint: Any) -> Target:
    """Returns the type of a field; None if its values tell, as of decimals and what is any type."""
    if hint in _ARROW_TYPES:
        return _ARROW_TYPES[hint]
    if isinstance(hint, type) and issubclass(hint, np.number | np.bool_):
        return pa.from_numpy_dtype(hint)
    origin = get_origin(hint)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        raise ConfigError(f"field {name!r} is a map, which no column can hold: make fields of its keys, or drop it")
    if not isinstance(origin, type) or not issubclass(origin, Sequence):
        return None
    item = _not_optional(get_args(hint)[0])
    if is_row_type(item) or get_origin(item) is not None:
        raise ConfigError(
            f"field {name!r} is a list of {item}, which no column can hold: a list holds values; flatten it, or drop it"
        )
    value = _arrow_type(name, item)
    return pa.list_(value) if isinstance(value, pa.DataType) else None


@dataclasses.dataclass(eq=False)
class ToRows(TakesBatches, RejectingTransform):
    """Makes a `beam.Row` of each row, of a type that Beam knows.

    Beam's SQL and its transforms in other languages take such rows. INT is int, FLOAT float, BYTES str, or bytes if the
    schema calls it binary (as the schema of a dataset does if its values were bytes). A feature that may have other
    than one value is a sequence. All fields but those with a value in each row are optional. Dotted names become rows
    in rows. Columns that the schema does not name are refused, and features without a column are None. Rows with an
    `_event_time` have it as their timestamp.

    A row is rejected for bytes that are no text (`write.not_utf8`), or a list that its feature does not allow
    (`write.not_one_value`).

    Attributes:
      schema: the features, which are the fields.

    Raises:
      ConfigError: for an invalid schema, or a name that no field can have; on the workers, for a column that the schema
        does not name, or one of another type.
    """

    schema: schema_pb2.Schema

    def __post_init__(self) -> None:
        super().__init__()
        columns = dataset_columns(self.schema)
        complete = {feature.name for feature in schema_features(self.schema) if feature.complete}
        self._columns = columns
        self._row_type = _row_type(_nested({field.name: (field, field.name in complete) for field in columns}))

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Any]:
        """Adds one step."""
        to_rows = beam.ParDo(_ToRowsFn(self._columns)).with_output_types(self._row_type)
        rows, rejected = split_rejected(batches | "ToRows" >> to_rows.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        rows.element_type = self._row_type
        return rows


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Makes dicts in dicts of dotted names.

    >>> _nested({"a.b": 1, "a.c": 2, "d": 3})
    {'a': {'b': 1, 'c': 2}, 'd': 3}
    """
    nested: dict[str, Any] = {}
    for name, value in values.items():
        *parents, last = name.split(".")
        inner = nested
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"a field cannot be a value and a row as well, got {name!r} and {parent!r}")
        if last in inner:
            raise ConfigError(f"a field cannot be a value and a row as well, got {name!r}")
        inner[last] = value
    return nested


def _row_type(fields: Mapping[str, Any]) -> RowTypeConstraint:
    for name in fields:
        if not name.isidentifier() or name.startswith("_"):
            raise ConfigError(
                f"a field of a row must be named as a variable of Python is, and not begin with '_', got {name!r}: "
                "rename the feature before ToRows"
            )
    return RowTypeConstraint.from_fields([(name, _hint(value)) for name, value in fields.items()])


def _hint(value: Any) -> Any:
    if isinstance(value, dict):
        return _row_type(value)
    field, is_complete = value
    hint: Any = _python_type(field.type)
    return hint if is_complete else Optional[hint]  # noqa: UP045 - Beam does not read `X | None`


def _python_type(arrow_type: pa.DataType) -> Any:
    if pa.types.is_list(arrow_type):
        return Sequence[_python_type(arrow_type.value_type)]  # type: ignore[misc]
    return {pa.int64(): int, pa.float64(): float, pa.string(): str, pa.binary(): bytes}[arrow_type]


class _ToRowsFn(beam.DoFn):
    def __init__(self, columns: pa.Schema):
        self._columns = columns
        self._counters = RowCounters("ToRows")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        fitted, faults = fit_columns(batch, self._columns)
        self._counters.add(in_rows=batch.num_rows, bad_rows=len(faults))
        if faults:
            yield from reject(row_letters(batch, faults, "write"))
            fitted, batch = drop_rows(fitted, faults), drop_rows(batch, faults)
        rows = [_row(_nested(row)) for row in rows_of_columns(fitted)]
        yield from with_event_times(rows, batch)


def _row(fields: Mapping[str, Any]) -> beam.Row:
    return beam.Row(**{name: _row(value) if isinstance(value, dict) else value for name, value in fields.items()})
