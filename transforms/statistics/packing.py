"""The state of accumulators as bytes: nested plain values, of which equal ones have equal bytes.

==========  =================================================================================
value       bytes
==========  =================================================================================
None        `n`
int         `i`, its length, two's complement, little-endian, of the fewest bytes; any size
float       `f`, 8 bytes, little-endian; one NaN stands for all
bytes, str  `b` or `s`, its length, the bytes (UTF-8, with surrogates)
list        `l`, its length, the items; a tuple is read again as a list
dict        `d`, its length, keys and values by turns, sorted by the bytes of their keys
==========  =================================================================================

A length is a varint, as in Protocol Buffers.
"""

import math
import struct
from collections.abc import Callable
from typing import Any

from penstock.io.errors import InputError

_NAN = struct.pack("<d", math.nan)


def pack(value: Any) -> bytes:
    """Packs a value.

    >>> unpack(pack({"b": [1, -2.5, None], "a": "ü"}))
    {'a': 'ü', 'b': [1, -2.5, None]}

    Raises:
      TypeError: for a type that the table lacks.
    """
    out = bytearray()
    _pack(value, out)
    return bytes(out)


def unpack(data: bytes) -> Any:
    """Returns what was packed.

    Raises:
      InputError: when these are not the bytes of one value.
    """
    try:
        value, end = _unpack(data, 0)
    except (IndexError, struct.error, UnicodeDecodeError, KeyError, RecursionError) as error:
        raise InputError("the state of statistics is broken: it ends within a value, or was never written") from error
    if end != len(data):
        raise InputError(f"the state of statistics is broken: {len(data) - end} bytes follow its end")
    return value


def _pack(value: Any, out: bytearray) -> None:
    match value:
        case None:
            out += b"n"
        case int():
            _pack_bytes(b"i", _int_bytes(int(value)), out)
        case float():
            out += b"f"
            out += _NAN if math.isnan(value) else struct.pack("<d", value)
        case bytes() | bytearray() | memoryview():
            _pack_bytes(b"b", bytes(value), out)
        case str():
            _pack_bytes(b"s", value.encode("utf-8", "surrogatepass"), out)
        case list() | tuple():
            out += b"l"
            _pack_length(len(value), out)
            for item in value:
                _pack(item, out)
        case dict():
            out += b"d"
            _pack_length(len(value), out)
            for key, item in sorted((pack(key), item) for key, item in value.items()):
                out += key
                _pack(item, out)
        case _:
            raise TypeError(f"no state can hold a {type(value).__name__}")


def _int_bytes(value: int) -> bytes:
    return value.to_bytes((value + (value < 0)).bit_length() // 8 + 1, "little", signed=True)


def _pack_bytes(tag: bytes, value: bytes, out: bytearray) -> None:
    out += tag
    _pack_length(len(value), out)
    out += value


def _pack_length(length: int, out: bytearray) -> None:
    while length > 0x7F:
        out.append(length & 0x7F | 0x80)
        length >>= 7
    out.append(length)


def _unpack(data: bytes, start: int) -> tuple[Any, int]:
    tag = data[start : start + 1]
    start += 1
    if tag == b"n":
        return None, start
    if tag == b"f":
        return struct.unpack_from("<d", data, start)[0], start + 8
    length, start = _unpack_length(data, start)
    if tag in _SCALARS:
        end = start + length
        if end > len(data):
            raise IndexError(end)
        return _SCALARS[tag](data[start:end]), end
    if tag == b"l":
        return _unpack_items(data, start, length)
    if tag == b"d":
        items, start = _unpack_items(data, start, 2 * length)
        return dict(zip(items[::2], items[1::2], strict=True)), start
    raise KeyError(tag)


def _unpack_items(data: bytes, start: int, count: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(count):
        item, start = _unpack(data, start)
        items.append(item)
    return items, start


def _unpack_length(data: bytes, start: int) -> tuple[int, int]:
    length = shift = 0
    while True:
        byte = data[start]
        start += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            return length, start
        shift += 7


_SCALARS: dict[bytes, Callable[[bytes], Any]] = {
    b"i": lambda data: int.from_bytes(data, "little", signed=True),
    b"b": bytes,
    b"s": lambda data: data.decode("utf-8", "surrogatepass"),
}
