"""tf.Examples and tf.SequenceExamples as no writer makes them: all that the wire format allows, and damage.

They are the same for the same seed.
"""

import random
import struct
from collections.abc import Callable, Sequence

import google_crc32c
import numpy as np

from penstock.io.examples.frames import Frames

VARINT, FIXED64, SIZED, GROUP, END_GROUP, FIXED32 = range(6)

KEYS = ("n", "m", "é", "", "fare_amount", "pickup_datetime", "pickup_location", "x" * 130)
_BROKEN_KEYS = (b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"n\xe2\x82", b"\xf0\x9f\x98\x80\x80")
_NUMBERS = (0, 1, 127, 128, 300, -1, -(1 << 63), (1 << 63) - 1, 1 << 31, 1700000000)
# Where protobuf's limit of nested groups lies, less the messages around them.
_DEPTHS = (1, 2, 3, 94, 95, 96, 97, 98, 99, 100, 101, 130)


def as_frames(records: Sequence[bytes]) -> Frames:
    """The records one after the other, with nothing in front and behind: a sanitizer sees each byte read too far."""
    lengths = np.array([len(record) for record in records], np.int64)
    data = np.frombuffer(b"".join(records), np.uint8).copy()
    return Frames(memoryview(data), np.cumsum([0, *lengths], dtype=np.int64)[:-1], lengths, 0)


def masked_crc(data: bytes) -> int:
    """CRC32C as TFRecord files store it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def frame(record: bytes, length: int | None = None) -> bytes:
    """One frame of a TFRecord file, which may claim another length; its CRCs are right."""
    header = struct.pack("<Q", len(record) if length is None else length)
    return header + struct.pack("<I", masked_crc(header)) + record + struct.pack("<I", masked_crc(record))


def varint(value: int, spare: int = 0) -> bytes:
    """A base-128 varint with so many bytes more than it needs."""
    value %= 1 << 64
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F)
    digits += [0] * spare
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def field(number: int, wire: int, content: bytes = b"", spare: int = 0) -> bytes:
    """One field; a length in front of the content where its wire type has one."""
    size = varint(len(content), spare) if wire == SIZED else b""
    return varint(number << 3 | wire, spare) + size + content


def example(rng: random.Random) -> bytes:
    """One that protobuf reads, mostly."""
    pieces = [_message(rng, 1, _features(rng)) for _ in range(rng.choice((1, 1, 1, 1, 1, 0, 2)))]
    if rng.random() < 0.03:
        pieces += [field(2, SIZED, rng.choice((b"", b"x"))) for _ in range(rng.choice((1, 2)))]
    return _joined(rng, pieces)


def sequence_example(rng: random.Random) -> bytes:
    """One that protobuf reads, mostly."""
    pieces = [_message(rng, 1, _features(rng)) for _ in range(rng.choice((1, 1, 1, 0, 2)))]
    pieces += [_message(rng, 2, _feature_lists(rng)) for _ in range(rng.choice((1, 1, 1, 0, 2)))]
    if rng.random() < 0.1:
        rng.shuffle(pieces)
    return _joined(rng, pieces)


def plain_example(rng: random.Random) -> bytes:
    """One as any writer makes them."""
    entries = [
        field(1, SIZED, key.encode()) + field(2, SIZED, field(kind, SIZED, _list(rng, kind, is_plain=True)))
        for key, kind in zip(KEYS, (3, 2, 1, 1, 2, 1, 3, 3), strict=True)
        if rng.random() < 0.9
    ]
    return field(1, SIZED, b"".join(field(1, SIZED, entry) for entry in entries))


def damaged(rng: random.Random, record: bytes, other: bytes) -> bytes:
    """The record with some bytes changed, lost, added, or taken from the other one."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        record = _damaged(rng, record, other)
    return record


def any_record(rng: random.Random) -> bytes:
    """One of all that this module makes, or noise."""
    make = rng.choice((example, plain_example, sequence_example))
    match rng.randrange(12):
        case 0:
            return rng.randbytes(rng.randrange(30))
        case 1 | 2 | 3 | 4:
            return damaged(rng, make(rng), make(rng))
        case _:
            return make(rng)


def _damaged(rng: random.Random, record: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(record) + 1)
    to = min(len(record), at + rng.randrange(1, 9))
    match rng.randrange(7):
        case 0:
            return record[:at]
        case 1:
            return record[:at] + record[to:]
        case 2:
            return record[:at] + rng.randbytes(rng.randrange(1, 6)) + record[at:]
        case 3:
            return record[:at] + record[at:to] * 2 + record[to:]
        case 4:
            cut = rng.randrange(len(other) + 1)
            return record[:at] + other[cut : cut + rng.randrange(1, 40)] + record[at:]
        case 5 if record:
            at = min(at, len(record) - 1)
            return record[:at] + bytes([record[at] ^ 1 << rng.randrange(8)]) + record[at + 1 :]
        case _ if record:
            at = min(at, len(record) - 1)
            return record[:at] + bytes([(record[at] + rng.choice((-1, 1))) % 256]) + record[at + 1 :]
        case _:
            return b"\x0a"


def _features(rng: random.Random) -> bytes:
    return _joined(rng, [_message(rng, 1, _entry(rng)) for _ in range(rng.randrange(8))])


def _feature_lists(rng: random.Random) -> bytes:
    return _joined(rng, [_message(rng, 1, _entry(rng, _feature_list)) for _ in range(rng.randrange(5))])


def _feature_list(rng: random.Random) -> bytes:
    kind = rng.randint(1, 3)
    steps = [
        _feature(rng) if rng.random() < 0.1 else field(kind, SIZED, _list(rng, kind)) for _ in range(rng.randrange(6))
    ]
    return _joined(rng, [_message(rng, 1, step) for step in steps])


def _entry(rng: random.Random, value: Callable[[random.Random], bytes] | None = None) -> bytes:
    counts = (1, 1, 1, 1, 1, 1, 1, 1, 0, 2)
    keys = [rng.choice(KEYS).encode() for _ in range(rng.choice(counts))]
    if rng.random() < 0.01:
        keys.append(rng.choice(_BROKEN_KEYS))
    pieces = [_message(rng, 1, key) for key in keys]
    pieces += [_message(rng, 2, (value or _feature)(rng)) for _ in range(rng.choice(counts))]
    if rng.random() < 0.1:
        rng.shuffle(pieces)
    return _joined(rng, pieces)


def _feature(rng: random.Random) -> bytes:
    kinds = [rng.randint(1, 3) for _ in range(rng.choice((1, 1, 1, 1, 1, 1, 0, 2, 3)))]
    return _joined(rng, [_message(rng, kind, _list(rng, kind)) for kind in kinds])


def _list(rng: random.Random, kind: int, is_plain: bool = False) -> bytes:
    count = rng.choice((1, 1, 1, 1, 0, 2, 3, 20))
    if kind == 1:
        longest = rng.choice((40, 40, 40, 40, 900))
        return _joined(rng, [field(1, SIZED, rng.randbytes(rng.randrange(longest))) for _ in range(count)], is_plain)
    if kind == 2:
        values, wire = [rng.choice((bytes(4), b"\0\0\xc0\x7f", rng.randbytes(4))) for _ in range(count)], FIXED32
    else:
        spare = 0 if is_plain or rng.random() < 0.95 else rng.randrange(4)
        values, wire = [varint(rng.choice((*_NUMBERS, rng.getrandbits(64))), spare) for _ in range(count)], VARINT
    pieces = [field(1, SIZED, b"".join(values))]
    if not is_plain and rng.random() < 0.15:
        pieces = [field(1, wire, value) for value in values] + rng.choice((pieces, []))
    return _joined(rng, pieces, is_plain)


def _message(rng: random.Random, number: int, content: bytes) -> bytes:
    return field(number, SIZED, content, 1 if rng.random() < 0.02 else 0)


def _joined(rng: random.Random, pieces: list[bytes], is_plain: bool = False) -> bytes:
    """The pieces, and sometimes an unknown field among them."""
    if not is_plain and rng.random() < 0.04:
        pieces.insert(rng.randint(0, len(pieces)), _unknown(rng))
    return b"".join(pieces)


def _unknown(rng: random.Random, depth: int = 0) -> bytes:
    number = rng.choice((1, 2, 3, 4, 15, 16, 2047, (1 << 29) - 1, 0 if rng.random() < 0.1 else 5))
    match rng.choice((VARINT, FIXED64, SIZED, GROUP, FIXED32, 7 if rng.random() < 0.1 else FIXED32)):
        case 0:
            return field(number, VARINT, varint(rng.getrandbits(64), rng.choice((0, 0, 0, 1))))
        case 1:
            return field(number, FIXED64, rng.randbytes(8))
        case 2:
            return field(number, SIZED, rng.randbytes(rng.randrange(5)))
        case 3:
            levels = 1 if depth else rng.choice(_DEPTHS)
            inside = _unknown(rng, depth + 1) if depth < 3 and rng.random() < 0.5 else b""
            end = number if rng.random() < 0.95 else number + 1
            return field(number, GROUP) * levels + inside + field(end, END_GROUP) * levels
        case 5:
            return field(number, FIXED32, rng.randbytes(4))
        case _:
            return field(number, 7)
