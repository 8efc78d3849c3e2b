"""CRC32C of bytes."""

import google_crc32c
import numpy as np
import numpy.typing as npt


def extend(crc: int, data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """Extends a CRC32C (`crc`, 0 for no bytes) by `data`.

    >>> hex(extend(extend(0, b"1234"), b"56789"))
    '0xe3069283'
    """
    return int(google_crc32c.extend(crc, bytes(data)))
