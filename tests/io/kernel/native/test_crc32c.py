import google_crc32c
import numpy as np
import pytest

crc32c = pytest.importorskip("penstock.io.kernel.native._crc32c")


@pytest.mark.parametrize("size", [*range(20), 63, 64, 65, 1000, 100_003])
def test_both_ways_agree_with_googles(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc32c.value(data) == crc32c.value_by_table(data) == google_crc32c.value(data)


def test_the_check_value_of_the_standard():
    assert crc32c.value(b"123456789") == 0xE3069283
