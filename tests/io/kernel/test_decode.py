"""Decoding tf.Examples in the kernel; the fuzzer holds it against protobuf."""

import numpy as np
import pytest
from fuzz import wire
from kernel_cases import twins

from penstock.io.kernel.shared.faults import BAD_CRC

compiled, _ = twins.both("decode")


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 4), (3, 1), (0, -1), (4, 0), (1, (1 << 63) - 1)])
def test_the_kernel_refuses_records_that_are_not_in_the_data(start, length):
    with pytest.raises(ValueError, match="record 0 is not in the data"):
        compiled.read(b"abc", np.array([start]), np.array([length]), None)


@pytest.mark.parametrize("place", range(12, 19))
@pytest.mark.parametrize("module", twins.each("decode"))
def test_a_record_that_does_not_match_the_crc_behind_it_is_a_fault(module, place):
    good = b"".join(map(wire.frame, [b"", b"\x0a\x00", b"abc"]))
    starts, lengths = np.array([12, 28, 46]), np.array([0, 2, 3])
    data = bytearray(good)
    data[34 + place] ^= 1
    _, _, faults, _ = module.read(bytes(data), starts, lengths, None, False, True)
    assert faults == {2: BAD_CRC}
    _, _, faults, _ = module.read(good, starts, lengths, None, False, True)
    assert list(faults) == [2], "it matches, and is no tf.Example"
    assert faults[2] != BAD_CRC


@pytest.mark.parametrize("module", twins.each("decode"))
def test_a_record_without_bytes_has_a_crc_too(module):
    *_, faults, _ = module.read(bytes(4), np.array([0]), np.array([0]), None, False, True)
    assert faults == {0: BAD_CRC}


def test_the_kernel_refuses_a_record_without_a_crc_behind_it():
    with pytest.raises(ValueError, match="record 0 is not in the data"):
        compiled.read(b"abc" + bytes(3), np.array([0]), np.array([3]), None, False, True)
