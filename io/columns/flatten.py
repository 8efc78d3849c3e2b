"""Flattens nested records: the fields of a struct column become columns with dotted names."""

from collections import Counter
from collections.abc import Iterable

import pyarrow as pa

from penstock.io.batches import check_column_names
from penstock.io.errors import InputError
from penstock.io.reserved import RESERVED


def flatten_batch(batch: pa.RecordBatch, uri: str = "input") -> pa.RecordBatch:
    """Replaces each struct column of a batch by one column for each of its fields, at any depth.

    A null struct gives null fields. A struct without fields has no values and leaves no column. Lists of structs and
    reserved columns stay as they are. A batch without struct columns is returned as it is.

    >>> point = pa.array([{"x": 1, "y": 2}, None])
    >>> flatten_batch(pa.record_batch([point], names=["point"])).to_pydict()
    {'point.x': [1, None], 'point.y': [2, None]}

    Args:
      batch: the rows.
      uri: the file that a message should name.

    Raises:
      InputError: when two columns have the same name afterwards (`a: {b}` beside a column named `a.b`).
    """
    if not any(_is_nested(field) for field in batch.schema):
        return batch
    columns: list[tuple[pa.Field, pa.Array]] = []
    for field, values in zip(batch.schema, batch.columns, strict=True):
        columns.extend(_flatten_column(field, values) if _is_nested(field) else [(field, values)])
    schema = pa.schema([field for field, _ in columns], metadata=batch.schema.metadata)
    check_column_names([name for name in schema.names if name not in RESERVED], uri)
    if not columns:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
    return pa.RecordBatch.from_arrays([values for _, values in columns], schema=schema)


def flatten_schema(schema: pa.Schema, uri: str = "input") -> pa.Schema:
    """Returns the schema that `flatten_batch` gives to batches of a file's `schema`.

    Raises:
      InputError: as `flatten_batch`, and for a column with a reserved name.
    """
    _check_siblings(schema, uri)
    fields: list[pa.Field] = []
    for field in schema:
        fields.extend(_flatten_field(field) if _is_nested(field) else [field])
    check_column_names([field.name for field in fields], uri)
    return pa.schema(fields, metadata=schema.metadata)


def _check_siblings(fields: Iterable[pa.Field], uri: str, prefix: str = "") -> None:
    """Refuses names that appear twice at one level, even if one is that of a struct, whose own name is lost.

    Raises:
      InputError: for such a name.
    """
    fields = list(fields)
    for name, count in Counter(field.name for field in fields).items():
        if count > 1:
            raise InputError(f"{uri}: column name {prefix + name!r} appears more than once; rename one")
    for field in fields:
        if pa.types.is_struct(field.type):
            _check_siblings(field.type, uri, f"{prefix}{field.name}.")


def _is_nested(field: pa.Field) -> bool:
    return pa.types.is_struct(field.type) and field.name not in RESERVED


def _flatten_column(field: pa.Field, values: pa.StructArray) -> list[tuple[pa.Field, pa.Array]]:
    columns: list[tuple[pa.Field, pa.Array]] = []
    for child, child_values in zip(_children(field), values.flatten(), strict=True):
        nested = pa.types.is_struct(child.type)
        columns.extend(_flatten_column(child, child_values) if nested else [(child, child_values)])
    return columns


def _flatten_field(field: pa.Field) -> list[pa.Field]:
    fields: list[pa.Field] = []
    for child in _children(field):
        fields.extend(_flatten_field(child) if pa.types.is_struct(child.type) else [child])
    return fields


def _children(field: pa.Field) -> list[pa.Field]:
    """Returns the fields of a struct under dotted names; all nullable, since the struct may be null."""
    return [child.with_name(f"{field.name}.{child.name}").with_nullable(True) for child in field.type]
