"""Writes rows as JSON: the payload of dead letters whose source has no original bytes for a row.

The JSON Lines reader can read it. Nulls are left out. Bytes become text if they are UTF-8, else `{"base64": "..."}`.
Floats that JSON cannot spell become the strings NaN, Infinity and -Infinity. Dates and times become ISO 8601. Decimals
and all other values become their text.
"""

import base64
import datetime
import json
import math
from collections.abc import Callable, Mapping
from json.encoder import encode_basestring
from typing import Any

import pyarrow as pa

_JSON = json.JSONEncoder(ensure_ascii=False)


# Writes a text as JSON. The JSON encoder calls the same function, with some overhead.
json_text = encode_basestring


def row_payload(row: Mapping[str, Any]) -> str:
    """Writes one row, given its values as Python objects."""
    return _JSON.encode({name: _json_value(value) for name, value in row.items() if value is not None})


def row_payloads(batch: pa.RecordBatch) -> list[str]:
    """Returns `row_payload` of each row. It works column by column: about 3 microseconds for a row of 12 columns."""
    members = [_members(name, column) for name, column in zip(batch.schema.names, batch.columns, strict=True)]
    rows = zip(*members, strict=True) if members else [()] * batch.num_rows
    return [f"{{{', '.join(filter(None, row))}}}" for row in rows]


def _members(name: str, column: pa.Array) -> list[str | None]:
    """Returns `"name": value` for each row; None for a null."""
    begin = f"{json_text(name)}: "
    values = _python_values(column)
    text = _writer(column.type, values)
    return [None if value is None else begin + text(value) for value in values]


def _writer(arrow_type: pa.DataType, values: list[Any]) -> Callable[[Any], str]:
    """Returns a function that writes one of these values as JSON; a faster one for texts and numbers."""
    if pa.types.is_string(arrow_type):
        return encode_basestring
    # `filter` drops nulls and zeros, which need no check.
    if pa.types.is_int64(arrow_type) or (
        pa.types.is_float64(arrow_type) and all(map(math.isfinite, filter(None, values)))
    ):
        return repr
    return _json_any


def _json_any(value: Any) -> str:
    return _JSON.encode(_json_value(value))


def _python_values(column: pa.Array) -> list[Any]:
    try:
        return column.to_pylist()
    except (OverflowError, ValueError, ImportError):
        # Python's datetime ends with the year 9999 and has no nanoseconds: times beyond that stay numbers.
        inner = column.type.value_type if pa.types.is_list(column.type) else column.type
        number = pa.int32() if inner.bit_width == 32 else pa.int64()
        return column.cast(pa.list_(number) if pa.types.is_list(column.type) else number).to_pylist()


def _json_value(value: Any) -> Any:
    match value:
        case str() | int():
            return value
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(value).decode()}
        case float() if not math.isfinite(value):
            return str(value).replace("inf", "Infinity").replace("nan", "NaN")
        case None | float():
            return value
        case datetime.date() | datetime.time():
            return value.isoformat()
        case list():
            return [_json_value(item) for item in value]
        case dict():
            return {key: _json_value(item) for key, item in value.items()}
        case _:
            return str(value)
