"""Headers of members of tar files, USTAR (POSIX.1-1988), and members that were found; for both sides of the kernel."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from penstock.io.kernel.shared.offsets import Ints

BLOCK = 512
NAME = slice(0, 100)
SIZE = slice(124, 135)

# Why the next member is not among those that were found: its bytes are not all there, it begins a record behind the
# limit, zeros stand in place of its header, or it is too long.
IS_CUT, IS_NEXT, IS_ZEROS, IS_LONG = range(4)


class Members(NamedTuple):
    """Members that lie behind each other.

    Attributes:
      sizes: int64[n], bytes of the data of each, without the zeros that fill them up.
      are_first: bool[n], which begin a record.
      crcs: uint32[n], CRC32C of the data of each, with these zeros.
      end: where the last one ends.
      stop: why there are no more.
      missing: where the next one is cut, the bytes that its header lacks, or else its data.
    """

    sizes: Ints
    are_first: npt.NDArray[np.bool_]
    crcs: npt.NDArray[np.uint32]
    end: int
    stop: int
    missing: int


def member_size(header: bytes | bytearray) -> int:
    """Returns the size in a header; 0 if there is none."""
    digits = bytes(header[SIZE])
    return int(digits, 8) if digits.isdigit() and not digits.strip(b"01234567") else 0
