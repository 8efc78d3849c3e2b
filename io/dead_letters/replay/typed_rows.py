"""Reads rows of typed sources back from dead letters, with the types that their columns had.

The payload is JSON as `penstock.io.dead_letters.payloads` writes it. The types are those that the letter notes
(`penstock.io.dead_letters.column_types`). So a value goes through the schema as it did when it was read.
"""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.columns.values import shown
from penstock.io.dead_letters.column_types import is_string
from penstock.io.dead_letters.payloads import times_of
from penstock.io.messages.base import DecodedMessages
from penstock.io.reasons import Reason
from penstock.io.schema import Feature

_NUMBER = r"^-?\d+$"

# A value of a payload: numbers and booleans as their text, `{"base64": ...}` as bytes.
_Cell = str | bytes | list[str | bytes | None] | None


class TypedRows:
    """Decodes payloads whose columns have these types; a `penstock.io.messages.base.Decoder`."""

    def __init__(self, noted: Mapping[str, pa.DataType], features: Sequence[Feature]):
        """Takes the types that letters note, and the features to read."""
        self._types = noted
        self._names = [feature.name for feature in features]

    def decode(self, values: pa.Array) -> DecodedMessages:
        """Decodes values; a value that is not of its column's type rejects its row (`jsonl.type`)."""
        faults: dict[int, Sequence[Reason]] = {}
        rows: dict[int, dict[str, _Cell]] = {}
        for index, text in enumerate(values.to_pylist()):
            try:
                rows[index] = self._row(text)
            except _FaultError as error:
                faults[index] = [error.reason]
        try:
            columns = self._columns(list(rows.values()))
        except pa.ArrowException:
            faults |= {index: reasons for index, row in rows.items() if (reasons := self._faults(row))}
            rows = {index: row for index, row in rows.items() if index not in faults}
            columns = self._columns(list(rows.values()))
        return DecodedMessages(np.array(list(rows), np.int64), columns, faults)

    def _row(self, text: bytes) -> dict[str, _Cell]:
        """Returns the members that are wanted.

        Raises:
          _FaultError: when the payload is no object, or a value is none of a column.
        """
        try:
            row = json.loads(text, parse_int=str, parse_float=str)
        except (ValueError, RecursionError) as error:
            raise _FaultError("jsonl.parse", f"the payload is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise _FaultError("jsonl.not_object", "the payload is JSON, but not an object")
        return {name: _cell(name, row[name]) for name in self._names if name in row}

    def _columns(self, rows: Sequence[dict[str, _Cell]]) -> dict[str, pa.Array]:
        names = [name for name in self._names if name in self._types or any(name in row for row in rows)]
        return {name: _column([row.get(name) for row in rows], self._type(name)) for name in names}

    def _faults(self, row: dict[str, _Cell]) -> list[Reason]:
        faults = []
        for name, cell in row.items():
            try:
                _column([cell], self._type(name))
            except pa.ArrowException:
                detail = f"column {name!r}: {shown(cell)} is no {self._type(name)}, the type that the letter names"
                faults.append(Reason("jsonl.type", detail))
        return faults

    def _type(self, name: str) -> pa.DataType:
        return self._types.get(name, pa.string())


class _FaultError(Exception):
    def __init__(self, code: str, detail: str):
        super().__init__(detail)
        self.reason = Reason(code, detail)


def _cell(name: str, value: Any) -> _Cell:
    """Returns a value of the JSON parser as a cell; numbers are texts already."""
    match value:
        case None | str():
            return value
        case bool():
            return "true" if value else "false"
        case {"base64": str(text)} if len(value) == 1:
            try:
                return base64.b64decode(text, validate=True)
            except binascii.Error as error:
                raise _FaultError("jsonl.type", f"column {name!r}: {shown(text)} is not base64") from error
        case list() if not any(isinstance(item, list) for item in value):
            return [_cell(name, item) for item in value]  # type: ignore[misc]
        case _:
            raise _FaultError("jsonl.type", f"column {name!r}: {shown(value)} is neither a value nor a list of values")


def _column(cells: Sequence[_Cell], item: pa.DataType) -> pa.Array:
    """Returns a column of this type, or of lists of it when a cell is one.

    Raises:
      ArrowException: when a cell is not of the type.
    """
    if not any(isinstance(cell, list) for cell in cells):
        return _items(cells, item)
    lists = [cell if isinstance(cell, list) or cell is None else [cell] for cell in cells]
    items = _items([value for cell in lists for value in cell or ()], item)
    ends = np.cumsum([0, *(len(cell or ()) for cell in lists)])
    nulls = pa.array([cell is None for cell in lists])
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), items, mask=nulls if nulls.true_count else None)


def _items(cells: Sequence[Any], item: pa.DataType) -> pa.Array:
    if types.is_null(item):
        return pa.array(cells, item)
    if is_string(item) or types.is_binary(item):
        values = pa.array([cell.encode() if isinstance(cell, str) else cell for cell in cells], pa.binary())
        return values.cast(item)  # Arrow checks that texts are UTF-8
    if any(isinstance(cell, bytes) for cell in cells):
        raise pa.ArrowInvalid("bytes are no value of this type")
    texts = pa.array(cells, pa.string())
    if types.is_temporal(item):
        return _times(texts, item)
    return texts.cast(pa.float32()).cast(item) if types.is_float16(item) else texts.cast(item)


def _times(texts: pa.StringArray, item: pa.DataType) -> pa.Array:
    """Returns times from numbers of their own unit and from ISO 8601."""
    is_number = pc.match_substring_regex(texts, _NUMBER)
    width = pa.int32() if item.bit_width == 32 else pa.int64()
    numbers = pc.if_else(is_number, texts, None).cast(width).view(item)
    if types.is_duration(item):
        if pc.any(pc.invert(is_number)).as_py():
            raise pa.ArrowInvalid("durations are numbers")
        return numbers
    others = times_of(pc.if_else(is_number, None, texts), item)
    return pc.coalesce(numbers, others)
