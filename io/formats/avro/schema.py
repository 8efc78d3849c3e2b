"""Avro schemas as Arrow types.

======================================  ==========================  ======================================
Avro                                    Arrow                       remark
======================================  ==========================  ======================================
boolean int long float double           bool int32 int64 float32
                                        float64
string, enum, uuid                      string
bytes, fixed, duration                  binary
decimal                                 decimal128, decimal256      precision up to 76
date                                    date32
time-millis, time-micros                time32[ms], time64[us]
timestamp-millis, -micros, -nanos       timestamp[ms, us, ns, UTC]
local-timestamp-millis, ...             timestamp[ms, us, ns]
record                                  its fields, dotted names
array                                   list
null, union with null                   null, nullable              all columns are nullable
union of int and long,                  int64,                      the type that holds both faithfully
of float and double                     float64
map, other unions, recursive records    rejected by name            only if the column is needed
======================================  ==========================  ======================================
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import fastavro
import fastavro.schema
import pyarrow as pa

from penstock.io.batches import check_column_names
from penstock.io.columns.flatten import flatten_schema
from penstock.io.errors import ConfigError, InputError
from penstock.io.formats.avro.sizes import RowSizes, row_sizes

_MAX_DECIMAL_DIGITS = 76

_PRIMITIVES = {
    "null": pa.null(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
    "fixed": pa.binary(),
}

_LOGICAL = {
    ("int", "date"): pa.date32(),
    ("int", "time-millis"): pa.time32("ms"),
    ("long", "time-micros"): pa.time64("us"),
    ("long", "timestamp-millis"): pa.timestamp("ms", "UTC"),
    ("long", "timestamp-micros"): pa.timestamp("us", "UTC"),
    ("long", "timestamp-nanos"): pa.timestamp("ns", "UTC"),
    ("long", "local-timestamp-millis"): pa.timestamp("ms"),
    ("long", "local-timestamp-micros"): pa.timestamp("us"),
    ("long", "local-timestamp-nanos"): pa.timestamp("ns"),
}

# Unions with one type that holds all members faithfully.
_WIDENED = {
    frozenset({pa.int32(), pa.int64()}): pa.int64(),
    frozenset({pa.float32(), pa.float64()}): pa.float64(),
}


@dataclasses.dataclass(frozen=True)
class AvroSchema:
    """The schema of one file.

    Attributes:
      decoding: the schema for fastavro. It leaves times as numbers: Arrow takes those faster, and beyond year 9999.
      fields: the columns that have an Arrow type, nested.
      refused: the columns without an Arrow type: dotted name, and what the column is.
      names: all columns, flattened.
      sizes: measures rows before they are decoded.
    """

    decoding: Any
    fields: pa.Schema
    refused: Mapping[str, str]
    names: tuple[str, ...]
    sizes: RowSizes

    def select(self, names: list[str], uri: str) -> pa.StructType:
        """Returns a row type with the top-level fields of the named columns.

        Raises:
          ConfigError: when a named column has no Arrow type.
        """
        for name in names:
            if name in self.refused:
                raise ConfigError(
                    f"{uri}: column {name!r} is {self.refused[name]}, which has no faithful column type; "
                    "pass a schema without it, or convert it before it is read"
                )
        tops = {name.split(".", 1)[0] for name in names}
        return pa.struct([field for field in self.fields if field.name in tops])


def arrow_schema(schema: Any, uri: str) -> AvroSchema:
    """Translates the schema that an Avro file was written with.

    Raises:
      InputError: when the schema is not valid or not a record, or its columns cannot be addressed.
    """
    try:
        expanded = fastavro.schema.expand_schema(schema)
        decoding = fastavro.parse_schema(_without_times(schema))
    except Exception as error:  # fastavro raises errors of many types for schemas that are none
        raise InputError(f"{uri}: the file's Avro schema is not valid: {error!r}") from error
    if not isinstance(expanded, dict) or expanded["type"] not in ("record", "error"):
        raise InputError(f"{uri}: the rows must be Avro records, but the file's schema is {str(schema)[:80]}")
    refused: dict[str, str] = {}
    fields = pa.schema(list(_record_type(expanded, "", refused)))
    names = [*flatten_schema(fields, uri).names, *refused]
    check_column_names(names, uri)
    return AvroSchema(decoding, fields, refused, tuple(names), row_sizes(decoding))


def _without_times(node: Any) -> Any:
    """Removes all logical types except decimals from a schema."""
    if isinstance(node, list):
        return [_without_times(member) for member in node]
    if not isinstance(node, dict):
        return node
    logical = node.get("logicalType")
    kept = {key: value for key, value in node.items() if key != "logicalType" or logical == "decimal"}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = _without_times(kept[key])
    if "fields" in kept:
        kept["fields"] = [_without_times(field) for field in kept["fields"]]
    return kept


def _record_type(node: Mapping[str, Any], path: str, refused: dict[str, str]) -> pa.StructType:
    fields = []
    for field in node["fields"]:
        name = f"{path}.{field['name']}" if path else field["name"]
        arrow_type = _arrow_type(field["type"], name, refused)
        if arrow_type is not None:
            fields.append(pa.field(field["name"], arrow_type))
    return pa.struct(fields)


def _arrow_type(node: Any, path: str, refused: dict[str, str]) -> pa.DataType | None:
    """Returns the type of the column at `path`; if it has none, adds it to `refused` and returns None."""
    match node:
        case list():
            return _union_type(node, path, refused)
        case {"type": "record" | "error"}:
            return _record_type(node, path, refused)
        case {"type": "array"}:
            return _list_type(node, path, refused)
        case {"type": dict() | list() as nested}:
            return _arrow_type(nested, path, refused)
        case {"type": str() as name} | str(name):
            attributes = node if isinstance(node, dict) else {}
            return _plain_type(name, attributes, path, refused)
    refused[path] = f"of Avro type {node}"
    return None


def _plain_type(name: str, node: Mapping[str, Any], path: str, refused: dict[str, str]) -> pa.DataType | None:
    if node.get("logicalType") == "decimal" and name in ("bytes", "fixed"):
        return _decimal_type(node, path, refused)
    found = _LOGICAL.get((name, node.get("logicalType", "")), _PRIMITIVES.get(name))
    if found is None:
        refused[path] = "a map" if name == "map" else f"a recursive record ({name})"
    return found


def _decimal_type(node: Mapping[str, Any], path: str, refused: dict[str, str]) -> pa.DataType | None:
    precision, scale = node["precision"], node.get("scale", 0)
    if precision > _MAX_DECIMAL_DIGITS:
        refused[path] = f"a decimal of {precision} digits"
        return None
    return pa.decimal128(precision, scale) if precision <= 38 else pa.decimal256(precision, scale)


def _list_type(node: Mapping[str, Any], path: str, refused: dict[str, str]) -> pa.DataType | None:
    inside: dict[str, str] = {}
    item = _arrow_type(node["items"], path, inside)
    if inside:
        refused[path] = f"an array that holds {next(iter(inside.values()))}"
        return None
    return pa.list_(item)


def _union_type(members: list[Any], path: str, refused: dict[str, str]) -> pa.DataType | None:
    others = [member for member in members if member != "null" and member != {"type": "null"}]
    if len(others) == 0:
        return pa.null()
    if len(others) == 1:
        return _arrow_type(others[0], path, refused)
    inside: dict[str, str] = {}
    types = {_arrow_type(member, path, inside) for member in others}
    if not inside and len(types) == 1 and not pa.types.is_nested(only := next(iter(types))):
        return only
    if not inside and (widened := _WIDENED.get(frozenset(types))) is not None:
        return widened
    refused[path] = f"a union of {' and '.join(map(_type_name, others))}"
    return None


def _type_name(node: Any) -> str:
    return str(node.get("logicalType", node["type"])) if isinstance(node, dict) else str(node)
