import google_crc32c
import numpy as np
import pytest

crc32c = pytest.importorskip("penstock.io.kernel.native._crc32c")


@pytest.mark.parametrize("size", [*range(20), 63, 64, 65, *range(94, 122), 191, 1000, 3071, 3072, 3175, 100_003])
def test_both_ways_agree_with_googles(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    for start in (0, 7):
        expected = google_crc32c.extend(start, data)
        assert crc32c.extend(start, data) == crc32c.extend_by_table(start, data) == expected


def test_the_check_value_of_the_standard():
    assert crc32c.extend(0, b"123456789") == 0xE3069283
