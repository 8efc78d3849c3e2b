"""How much memory Avro rows take when they are decoded, found without decoding them.

An item of a list may take one byte of the file and 60 of memory, or none and 8: nulls have no bytes, so a few bytes may
claim 2^60 of them.
"""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

# Returns where the value at a position ends, and about how many bytes of memory Python takes for it.
Weigh = Callable[[bytes, int], tuple[int, int]]

# Bytes of Python's objects: a pointer to one, a number, an empty text or list, a dict.
_POINTER, _NUMBER, _EMPTY, _DICT = 8, 32, 56, 184

_MAX_VARINT_BYTES = 10

_FIXED = {"null": (0, 0), "boolean": (1, 0), "float": (4, _NUMBER), "double": (8, _NUMBER)}


@dataclasses.dataclass(frozen=True)
class RowSizes:
    """Measures rows of one schema.

    Attributes:
      weigh: measures the row at a position; IndexError or ValueError when the bytes are damaged.
      has_empty_items: whether a list may have any number of items in a few bytes.
    """

    weigh: Weigh
    has_empty_items: bool


def row_sizes(schema: Any) -> RowSizes:
    """Makes the measure for rows of a schema as fastavro has parsed it, names resolved."""
    compiler = _Compiler({})
    return RowSizes(compiler.weigh(schema), _has_empty_items(schema, set()))


def _has_empty_items(node: Any, seen: set[str]) -> bool:
    match node:
        case list():
            return any(_has_empty_items(member, seen) for member in node)
        case {"type": "array", "items": items}:
            return _is_empty(items) or _has_empty_items(items, seen)
        case {"type": "map", "values": values}:
            return _has_empty_items(values, seen)
        case {"fields": fields}:
            return any(_has_empty_items(field["type"], seen) for field in fields)
        case {"type": dict() | list() as nested}:
            return _has_empty_items(nested, seen)
    return False


def _is_empty(node: Any) -> bool:
    """Returns whether values of a type take no bytes; recursive types do."""
    match node:
        case "null" | {"type": "null"} | {"type": "fixed", "size": 0}:
            return True
        case {"fields": fields}:
            return all(_is_empty(field["type"]) for field in fields)
        case {"type": dict() | list() as nested}:
            return _is_empty(nested)
    return False


@dataclasses.dataclass(frozen=True)
class _Compiler:
    """Makes a `Weigh` for each type of a schema; `named` has those that have a name."""

    named: dict[str, Weigh]

    def weigh(self, node: Any) -> Weigh:
        match node:
            case list():
                return _union([self.weigh(member) for member in node])
            case {"type": "record" | "error", "name": name, "fields": fields}:
                # A record may hold itself, so its name is known before its fields are.
                members: list[Weigh] = []
                self.named[name] = _record(members)
                members.extend(self.weigh(field["type"]) for field in fields)
                return self.named[name]
            case {"type": "fixed", "name": name, "size": size}:
                self.named[name] = _fixed(size, _EMPTY + size)
                return self.named[name]
            case {"type": "enum", "name": name}:
                self.named[name] = _varint
                return self.named[name]
            case {"type": "array", "items": items}:
                return _array(self.weigh(items), _step(items))
            case {"type": "map", "values": values}:
                return _array(_record([_text, self.weigh(values)]), None)
            case {"type": dict() | list() as nested}:
                return self.weigh(nested)
            case {"type": str() as name} | str(name):
                return self._plain(name)
        raise ValueError(f"no Avro type: {node}")

    def _plain(self, name: str) -> Weigh:
        if name in _FIXED:
            return _fixed(*_FIXED[name])
        if name in ("int", "long"):
            return _varint
        return _text if name in ("bytes", "string") else self.named[name]


def _step(items: Any) -> int | None:
    """Returns how many bytes each item of a list takes, -1 for a varint, None if that varies otherwise."""
    match items:
        case "int" | "long" | {"type": "int" | "long" | "enum"}:
            return -1
        case {"type": "fixed", "size": size}:
            return int(size)
        case {"type": str() as name} | str(name) if name in _FIXED:
            return _FIXED[name][0]
    return 0 if _is_empty(items) else None


def _fixed(size: int, memory: int) -> Weigh:
    return lambda data, at: (at + size, memory)


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at + index + 1
    raise ValueError("a number has no end")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    return _read_long(data, at)[1], _NUMBER


def _text(data: bytes, at: int) -> tuple[int, int]:
    size, at = _read_long(data, at)
    if not 0 <= size <= len(data) - at:
        raise ValueError("a text has no end")
    return at + size, _EMPTY + size


def _union(members: list[Weigh]) -> Weigh:
    def weigh(data: bytes, at: int) -> tuple[int, int]:
        index, at = _read_long(data, at)
        return members[index](data, at)

    return weigh


def _record(members: Iterable[Weigh]) -> Weigh:
    def weigh(data: bytes, at: int) -> tuple[int, int]:
        memory = _DICT
        for member in members:
            at, size = member(data, at)
            memory += size
        return at, memory

    return weigh


def _array(item: Weigh, step: int | None) -> Weigh:
    """Measures blocks of items, each with their number, which is negative if their size follows; the last one has 0."""

    def weigh(data: bytes, at: int) -> tuple[int, int]:
        memory = _EMPTY
        while True:
            count, at = _read_long(data, at)
            if count == 0:
                return at, memory
            if count < 0:
                count, at = -count, _read_long(data, at)[1]
            at, size = _items(data, at, count, item, step)
            memory += size + count * _POINTER

    return weigh


def _items(data: bytes, at: int, count: int, item: Weigh, step: int | None) -> tuple[int, int]:
    if step == 0:
        return at, count * item(data, at)[1]
    if count > len(data) - at:
        raise ValueError("a list has no end")
    if step == -1:
        return _after_varints(data, at, count), count * _NUMBER
    if step is not None:
        return at + count * step, count * item(data, at)[1]
    memory = 0
    for _ in range(count):
        at, size = item(data, at)
        memory += size
    return at, memory


def _after_varints(data: bytes, at: int, count: int) -> int:
    """Returns where `count` varints end: each with a byte below 128."""
    while count:
        ends = np.flatnonzero(
            np.frombuffer(data, np.uint8, min(max(2 * count, _MAX_VARINT_BYTES), len(data) - at), at) < 0x80
        )
        if not len(ends):
            raise ValueError("a number has no end")
        at += int(ends[min(count, len(ends)) - 1]) + 1
        count -= min(count, len(ends))
    return at
