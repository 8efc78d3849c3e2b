"""CRC32C, by the kernel and by Google's library."""

import google_crc32c
import numpy as np
import pytest
from kernel_cases import twins

MODULES = twins.each("crc32c")


@pytest.mark.parametrize("crc32c", MODULES)
def test_crc_goes_on(crc32c):
    assert crc32c.extend(crc32c.extend(0, b"1234"), memoryview(b"56789")) == 0xE3069283
    assert crc32c.extend(7, b"") == google_crc32c.extend(7, b"") == 7
    assert crc32c.extend(0, np.frombuffer(b"123456789", np.uint8)) == 0xE3069283
