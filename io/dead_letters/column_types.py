"""The types of columns, as dead letters note them beside rows that are JSON.

JSON has texts and numbers, and a source has more: a decimal, a time, a float of 32 bits. What becomes of a value under
a schema depends on its type, so a dead letter names the types of its columns, and a replay reads the values as what
they were. The note is a JSON object of type names by column, such as `{"fare": "decimal128(10, 2)"}`. Columns that are
not in it are texts. Of a list, it has the type of the items.
"""

import json
import re

import pyarrow as pa
from pyarrow import types

from penstock.io.columns.values import is_readable, is_text, item_type

_DECIMAL = re.compile(r"decimal(?P<bits>32|64|128|256)\((?P<precision>\d+), (?P<scale>-?\d+)\)")
_ZONED = re.compile(r"timestamp\[(?P<unit>s|ms|us|ns), tz=(?P<zone>.+)\]")


def column_types(schema: pa.Schema) -> str:
    """Returns the note for columns; leaves out texts, and what no feature can hold.

    >>> column_types(pa.schema([("a", pa.list_(pa.int64())), ("b", pa.string())]))
    '{"a": "int64"}'
    """
    return json.dumps({field.name: _name(item_type(field.type)) for field in schema if _is_noted(field.type)})


def _is_noted(arrow_type: pa.DataType) -> bool:
    item = item_type(arrow_type)
    return is_readable(item) and not is_string(item)


def is_string(item: pa.DataType) -> bool:
    """Whether this is a type of texts, of any flavour."""
    return types.is_string(item) or types.is_large_string(item) or types.is_string_view(item)


def _name(item: pa.DataType) -> str:
    return "binary" if is_text(item) else str(item)


def noted_types(note: str) -> dict[str, pa.DataType]:
    """Returns the types by column; inverts `column_types`.

    Raises:
      ValueError: when it is no such note.
    """
    found = json.loads(note)
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise ValueError(f"{note} is no JSON object of types by column")
    return {column: _type(name) for column, name in found.items()}


def _type(name: str) -> pa.DataType:
    if match := _DECIMAL.fullmatch(name):
        return getattr(pa, f"decimal{match['bits']}")(int(match["precision"]), int(match["scale"]))
    if match := _ZONED.fullmatch(name):
        return pa.timestamp(match["unit"], match["zone"])
    return pa.type_for_alias(name)
