"""Turns JSON objects into columns, row by row and exactly; the fast path of JSON Lines must give the same result.

Numbers keep their spelling until the column is built: no integer passes through a float. A column gets one Arrow type
that holds all its values without loss. If there is none (a number here, a text there), the values become text, as they
are spelled: inference takes the column for BYTES, and where a schema says that they are numbers, the text grammar
(`penstock.io.columns.grammar`) reads them.
"""

import base64
import binascii
import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from penstock.io.columns.grammar import MAX_EXACT_INT, parse_whole
from penstock.io.reasons import Reason
from penstock.io.schema import Feature, Kind

# No record needs deeper nesting; Python's parser would overflow its stack at some depth.
MAX_DEPTH = 200

# The most bytes that the rows of one object may take together, when a list in it is exploded.
MAX_EXPLODED_BYTES = 256 << 20

Path = tuple[str, ...]

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_INT64_DIGITS = 20
_DEFAULT_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.BYTES: pa.string(), None: pa.null()}
_NESTING = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)
_STEPS = {b"[": 1, b"{": 1, b"]": -1, b"}": -1}


class RowError(Exception):
    """A row that has no faithful form."""

    def __init__(self, code: str, detail: str):
        super().__init__(detail)
        self.reason = Reason(code, detail)


class Number(str):
    """A JSON number as it is spelled."""

    __slots__ = ()

    @property
    def is_int(self) -> bool:
        """Whether it has neither a fraction nor an exponent."""
        return self.lstrip("-").isdigit()

    @property
    def in_int64(self) -> bool:
        """Whether it is an integer within int64."""
        return self.is_int and len(self) <= _INT64_DIGITS and _INT64_MIN <= int(self) <= _INT64_MAX


class JsonObject(list[tuple[str, Any]]):
    """The members of a JSON object, duplicates included."""


# A scalar of a row: text, number, truth value, bytes (spelled {"base64": "..."}), or null.
Scalar = str | Number | bool | bytes | None
Value = Scalar | list[Scalar]


def parse_object(line: bytes) -> JsonObject:
    """Parses the text of one object, such as a line.

    Raises:
      RowError: when the text is not JSON, not an object, or nested more than 200 levels deep.
    """
    if is_too_deep(line):
        raise RowError("jsonl.parse", f"nested over {MAX_DEPTH} levels deep")
    try:
        found = _DECODER.decode(line.decode())
    except ValueError as error:
        raise RowError("jsonl.parse", f"not JSON: {error}") from error
    if not isinstance(found, JsonObject):
        raise RowError("jsonl.not_object", f"not a JSON object but {_kind_name(found)}")
    return found


def is_too_deep(line: bytes) -> bool:
    """Returns whether arrays and objects are nested over 200 levels deep."""
    if line.count(b"{") + line.count(b"[") <= MAX_DEPTH:
        return False
    depth = 0
    for match in _NESTING.finditer(line):
        depth += _STEPS.get(match[0], 0)
        if depth > MAX_DEPTH:
            return True
    return False


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number; write null, or the text {text!r} in quotes")


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)


class WantedColumns:
    """Decides which members of a row are read: those that features name, or all.

    A feature `a.b` is the member `b` of the object `a`, or a member that is itself named `a.b`.
    """

    def __init__(self, features: Sequence[Feature] | None):
        self.features = None if features is None else {feature.name: feature for feature in features}
        names = self.features or {}
        self._prefixes = {name[:index] for name in names for index, char in enumerate(name) if char == "."}

    def is_value(self, name: str) -> bool:
        """Returns whether the values of this name are read."""
        return self.features is None or name in self.features

    def is_prefix(self, name: str) -> bool:
        """Returns whether members of this object may be read."""
        return self.features is None or name in self._prefixes

    def kind(self, name: str) -> Kind | None:
        """Returns the kind that the schema gives a name."""
        return None if self.features is None else self.features[name].kind


@dataclasses.dataclass(frozen=True)
class FlatRow:
    """The members of an object that are values.

    Attributes:
      values: by path.
      left_out: the paths of members that no column can hold: lists of objects or of lists. Empty under a schema.
    """

    values: dict[Path, Value] = dataclasses.field(default_factory=dict)
    left_out: list[Path] = dataclasses.field(default_factory=list)


def explode_object(row: JsonObject, name: str, size: int) -> list[JsonObject]:
    """Makes an object of each item of a list, as `explode` does; `size` is the number of bytes of the object.

    Raises:
      RowError: when the objects would take more than 256 MiB together.
    """
    rows = explode(row, name)
    if size * len(rows) <= MAX_EXPLODED_BYTES:
        return rows
    total = 0
    for exploded in rows:
        total += _size(exploded)
        if total > MAX_EXPLODED_BYTES:
            detail = f"{name!r} has {len(rows)} items, and to repeat the other members for each of them takes more than"
            raise RowError("jsonl.too_long", f"{detail} {MAX_EXPLODED_BYTES} bytes")
    return rows


def _size(value: Any) -> int:
    """Returns about how many bytes a parsed value takes."""
    return len(value) if isinstance(value, str) else sum(map(_size, value)) if isinstance(value, list | tuple) else 1


def explode(row: JsonObject, name: str) -> list[JsonObject]:
    """Makes an object of each item of the list of this name, which may be dotted; the other members are repeated.

    A list that is empty or missing leaves one object, and a member that is no list stays. An item that is null is a
    missing member.

    >>> explode(parse_object(b'{"id": 1, "a": {"b": [2, 3]}}'), "a.b")
    [[('id', '1'), ('a', [('b', '2')])], [('id', '1'), ('a', [('b', '3')])]]
    """
    for index, (key, value) in enumerate(row):
        if key == name and not isinstance(value, JsonObject):
            items = [[] if item is None else [(key, item)] for item in _items(value)]
        elif name.startswith(f"{key}.") and isinstance(value, JsonObject):
            items = [[(key, item)] for item in explode(value, name[len(key) + 1 :])]
        else:
            continue
        if len(items) != 1 or items[0] != [(key, value)]:
            return [JsonObject([*row[:index], *item, *row[index + 1 :]]) for item in items]
    return [row]


def _items(value: Any) -> list[Any]:
    return (value or [None]) if isinstance(value, list) else [value]


def flatten(row: JsonObject, wanted: WantedColumns) -> FlatRow:
    """Collects the wanted values of a row by path.

    Raises:
      RowError: when a member appears twice, there is a value where the schema has an object or the other way round,
        the schema has a value where a list holds lists or objects, or a text or a name is not Unicode.
    """
    flat = FlatRow()
    _flatten(row, (), wanted, flat)
    return flat


def _flatten(row: JsonObject, prefix: Path, wanted: WantedColumns, flat: FlatRow) -> None:
    seen = set()
    for key, value in row:
        path = (*prefix, key)
        name = ".".join(path)
        if not _is_unicode(key):
            raise RowError("jsonl.encoding", f"the name {name!r} has a lone surrogate, which is no Unicode text")
        is_value, is_prefix = wanted.is_value(name), wanted.is_prefix(name)
        if not is_value and not is_prefix:
            continue
        if key in seen:
            raise RowError("jsonl.duplicate_key", f"{name!r} appears more than once")
        seen.add(key)
        if isinstance(value, JsonObject) and is_prefix:
            _flatten(value, path, wanted, flat)
        elif wanted.features is None and _is_nested_list(value):
            flat.left_out.append(path)
        elif is_value:
            flat.values[path] = _checked(name, value, wanted.kind(name))
        elif value is not None:
            raise RowError("jsonl.type", f"{name!r} is {_kind_name(value)}, but the schema has an object there")


def _is_nested_list(value: Any) -> bool:
    """Returns whether a value is a list of objects or lists."""
    return isinstance(value, list) and any(isinstance(item, list) for item in value)  # an object is a list too


def _checked(name: str, value: Any, kind: Kind | None) -> Value:
    if isinstance(value, JsonObject):
        if kind is Kind.BYTES and len(value) == 1 and value[0][0] == "base64":
            return _from_base64(name, value[0][1])
        raise RowError("jsonl.type", f"{name!r} is an object, but the schema has a value there")
    if not isinstance(value, list):
        return _checked_scalar(name, value, kind)
    if _is_nested_list(value):
        nested = next(item for item in value if isinstance(item, list))
        raise RowError(
            "jsonl.type",
            f"{name!r} is a list that holds {_kind_name(nested)}; only scalars can be values "
            f"(--explode {name} makes a row of each item)",
        )
    return [_checked_scalar(name, item, kind) for item in value]


def _checked_scalar(name: str, value: Scalar, kind: Kind | None) -> Scalar:
    if isinstance(value, Number):
        if kind is Kind.FLOAT and math.isinf(float(value)):
            raise RowError("jsonl.type", f"{name!r} holds a number that overflows a double: {value[:40]}")
    elif isinstance(value, str) and not _is_unicode(value):
        raise RowError("jsonl.encoding", f"{name!r} holds a lone surrogate, which is no Unicode text")
    return value


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _from_base64(name: str, text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise RowError("jsonl.type", f"{name!r} is not base64: {error}") from error


def _kind_name(value: Any) -> str:
    match value:
        case JsonObject():
            return "an object"
        case list():
            return "a list"
        case Number():
            return "a number"
        case str():
            return "a text"
        case None:
            return "null"
        case _:
            return "true or false"


def by_name(values: Mapping[Path, Value]) -> dict[str, Value]:
    """Maps values to dotted names.

    Raises:
      RowError: when two paths with one name both hold a value, such as `{"a.b": 1, "a": {"b": 2}}`.
    """
    named: dict[str, Value] = {}
    for path, value in values.items():
        name = ".".join(path)
        if named.get(name) is not None and value is not None:
            raise RowError("jsonl.duplicate_key", f"{name!r} has a value both nested and under its dotted name")
        if named.get(name) is None:
            named[name] = value
    return named


def fit_valency(name: str, value: Value, feature: Feature) -> Value:
    """Makes a value a scalar if the schema has exactly one value a row, and a list if it allows other numbers.

    Raises:
      RowError: when the schema has exactly one value, and a list does not.
    """
    if feature.multivalued and value is not None and not isinstance(value, list):
        return [value]
    if feature.multivalued is False and isinstance(value, list):
        if len(value) != 1 or value[0] is None:
            raise RowError("jsonl.type", f"{name!r} is a list of {len(value)}, but the schema has exactly one value")
        return value[0]
    return value


def build_column(values: Sequence[Value], kind: Kind | None, as_list: bool = False) -> pa.Array:
    """Builds one Arrow column that holds all values exactly; a list column if any value is a list, or with `as_list`.

    In a list column a scalar becomes a list of one.

    Args:
      values: values of `by_name`.
      kind: the kind in the schema; None while the schema is being inferred.
      as_list: always build a list column.
    """
    if not as_list and not any(isinstance(value, list) for value in values):
        return _build_scalars(values, kind)  # type: ignore[arg-type]
    lists = [value if value is None or isinstance(value, list) else [value] for value in values]
    counts = [0 if value is None else len(value) for value in lists]
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts))), pa.int32())
    items = _build_scalars([item for value in lists for item in value or ()], kind)
    missing = pa.array([value is None for value in lists], pa.bool_())
    return pa.ListArray.from_arrays(offsets, items, mask=missing)


def _build_scalars(values: Sequence[Scalar], kind: Kind | None) -> pa.Array:
    present = [value for value in values if value is not None]
    if not present:
        return pa.nulls(len(values), _DEFAULT_TYPES[kind])
    match kind:
        case Kind.INT:
            return _build_ints(values, present)
        case Kind.FLOAT:
            return _build_floats(values, present)
        case Kind.BYTES:
            return _build_bytes([_spelled(value) for value in values])
        case _:
            return _build_any(values, present)


def _build_ints(values: Sequence[Scalar], present: Sequence[Scalar]) -> pa.Array:
    if all(_as_int(value) is not None for value in present):
        return pa.array([_as_int(value) for value in values], pa.int64())
    texts = [_spelled(value) if _as_int(value) is None else str(_as_int(value)) for value in values]
    return pa.array(texts, pa.string())


def _as_int(value: Scalar) -> int | None:
    """Returns a number or truth value as int64.

    A number with a fraction or an exponent counts as its nearest double below 2^53, as JSON's readers have it; from
    there on, where not every whole number is a double, it is exact.
    """
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, Number):
        return None
    if value.is_int:
        return int(value) if value.in_int64 else None
    nearest = float(value)
    if abs(nearest) < MAX_EXACT_INT:
        return int(nearest) if nearest.is_integer() else None
    whole = parse_whole(value)
    return whole if whole is not None and _INT64_MIN <= whole <= _INT64_MAX else None


def _build_floats(values: Sequence[Scalar], present: Sequence[Scalar]) -> pa.Array:
    if all(isinstance(value, bool | Number) for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    texts = [repr(float(value)) if isinstance(value, bool | Number) else value for value in values]
    return pa.array(texts, pa.string())


def _build_bytes(texts: list[str | bytes | None]) -> pa.Array:
    if any(isinstance(text, bytes) for text in texts):
        return pa.array([text.encode() if isinstance(text, str) else text for text in texts], pa.binary())
    return pa.array(texts, pa.string())


def _build_any(values: Sequence[Scalar], present: Sequence[Scalar]) -> pa.Array:
    """Builds a column without a schema: the narrowest of bool, int64, float64 that loses nothing, else text."""
    if all(isinstance(value, bool) for value in present):
        return pa.array(values, pa.bool_())
    if all(isinstance(value, bool) or (isinstance(value, Number) and value.in_int64) for value in present):
        return pa.array([None if value is None else int(value) for value in values], pa.int64())
    if all(isinstance(value, bool) or (isinstance(value, Number) and _is_double(value)) for value in present):
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    if all(_as_int(value) is not None for value in present):
        return pa.array([_as_int(value) for value in values], pa.int64())
    return pa.array([_spelled(value) for value in values], pa.string())


def _is_double(number: Number) -> bool:
    """Returns whether a double can hold the number: what INT could hold exactly, all else without overflow."""
    nearest = float(number)
    if abs(nearest) < MAX_EXACT_INT:
        return True
    return not number.is_int and math.isfinite(nearest) and _as_int(number) in (None, int(nearest))


def _spelled(value: Scalar) -> str | bytes | None:
    """Returns a scalar as text: numbers as spelled (but -0 is 0), truth values as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "0" if isinstance(value, Number) and value == "-0" else value


def as_values(column: pa.Array) -> list[Value]:
    """Returns the values that `build_column` built a column from, except for the spelling of floats."""
    return [
        [_as_scalar(item) for item in value] if isinstance(value, list) else _as_scalar(value)
        for value in column.to_pylist()
    ]


def _as_scalar(value: int | float | str | bytes | bool | None) -> Scalar:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Number(repr(value))
    return value
