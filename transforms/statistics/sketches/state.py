"""The bytes of sketches: a tag that names kind and version, then fields of a known order.

=========  ==========================================================================================================
field      bytes
=========  ==========================================================================================================
int        a size, then two's complement, little-endian, as few bytes as hold it; any size
float      as the int of its 64 bits
uints      their number, the size of what follows, and varints (LEB128) of unsigned 64 bits each
words      the size of what follows, and 8 bytes each, little-endian
blob       a size and the bytes
=========  ==========================================================================================================

Sizes are varints.
"""

import struct
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.io.errors import InputError
from penstock.io.kernel import statistics

# A byte of a varint has 7 bits, and one that says whether there are more.
_GROUP = 7
_LOW = 0x7F
_MORE = 0x80
_MOST_BITS = 64


class Writer:
    """Writes the fields of one sketch."""

    __slots__ = ("_out",)

    def __init__(self, tag: bytes) -> None:
        """Begins with a tag."""
        self._out = bytearray(tag)

    def put_int(self, value: int) -> Self:
        """Writes a whole number of any size."""
        size = (value + (value < 0)).bit_length() // 8 + 1
        return self.put_blob(value.to_bytes(size, "little", signed=True))

    def put_float(self, value: float) -> Self:
        """Writes a float."""
        return self.put_int(struct.unpack("<q", struct.pack("<d", value))[0])

    def put_uints(self, values: npt.NDArray[Any]) -> Self:
        """Writes an array of whole numbers that are not negative."""
        return self._put_size(len(values)).put_blob(statistics.pack_uints(values.astype(np.uint64, copy=False)))

    def put_words(self, values: npt.NDArray[np.uint64]) -> Self:
        """Writes uint64[n] that are about evenly distributed, so that varints would not be shorter."""
        return self.put_blob(values.astype("<u8").tobytes())

    def put_blob(self, data: bytes) -> Self:
        """Writes bytes."""
        self._put_size(len(data))
        self._out += data
        return self

    def _put_size(self, size: int) -> Self:
        while size > _LOW:
            self._out.append(size & _LOW | _MORE)
            size >>= _GROUP
        self._out.append(size)
        return self

    def to_bytes(self) -> bytes:
        """Returns all that was written."""
        return bytes(self._out)


class Reader:
    """Reads the fields of one sketch.

    All methods raise InputError for bytes that end too early, or hold something else.
    """

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes, tag: bytes) -> None:
        """Checks the tag.

        Raises:
          InputError: for another kind of sketch, or a version that is not known.
        """
        if not data.startswith(tag):
            raise InputError(
                f"the state of a sketch begins with {bytes(data[: len(tag)])!r} instead of {tag!r}: it was written by "
                "another version, or is not one; compute the statistics anew"
            )
        self._data = data
        self._position = len(tag)

    def take_int(self) -> int:
        """Reads a whole number."""
        return int.from_bytes(self.take_blob(), "little", signed=True)

    def take_float(self) -> float:
        """Reads a float."""
        return float(struct.unpack("<d", struct.pack("<q", self.take_count(-(1 << 63), (1 << 63) - 1)))[0])

    def take_uints(self) -> npt.NDArray[np.uint64]:
        """Reads uint64[n]."""
        count = self._take_size()
        try:
            values = statistics.unpack_uints(self.take_blob())
        except ValueError as error:
            raise _broken() from error
        self.check(len(values) == count)
        return values

    def take_ints(self) -> npt.NDArray[np.int64]:
        """Reads int64[n], none of them negative."""
        values = self.take_uints().astype(np.int64)
        self.check(not len(values) or int(values.min()) >= 0)
        return values

    def take_count(self, least: int = 0, most: int = 1 << 64) -> int:
        """Reads a whole number within bounds."""
        value = self.take_int()
        self.check(least <= value <= most)
        return value

    def take_words(self) -> npt.NDArray[np.uint64]:
        """Reads uint64[n]."""
        data = self.take_blob()
        self.check(len(data) % 8 == 0)
        return np.frombuffer(data, "<u8").astype(np.uint64)

    def take_blob(self) -> bytes:
        """Reads bytes."""
        size = self._take_size()
        start, self._position = self._position, self._position + size
        self.check(self._position <= len(self._data))
        return self._data[start : self._position]

    def _take_size(self) -> int:
        size = shift = 0
        byte = _MORE
        while byte & _MORE:
            self.check(self._position < len(self._data) and shift < _MOST_BITS)
            byte = self._data[self._position]
            size |= (byte & _LOW) << shift
            shift += _GROUP
            self._position += 1
        return size

    def check(self, is_sound: bool) -> None:
        """Raises InputError where what was read cannot be."""
        if not is_sound:
            raise _broken()

    def end(self) -> None:
        """Checks that nothing is left."""
        self.check(self._position == len(self._data))


def _broken() -> InputError:
    return InputError("the state of a sketch is broken: it was cut, or never written; compute the statistics anew")
