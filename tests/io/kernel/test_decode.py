"""Decoding tf.Examples in the kernel; the fuzzer holds it against protobuf."""

import numpy as np
import pytest
from kernel_cases import twins

compiled, _ = twins.both("decode")


@pytest.mark.parametrize(("start", "length"), [(-1, 1), (0, 4), (3, 1), (0, -1), (4, 0), (1, (1 << 63) - 1)])
def test_the_kernel_refuses_records_that_are_not_in_the_data(start, length):
    with pytest.raises(ValueError, match="record 0 is not in the data"):
        compiled.read(b"abc", np.array([start]), np.array([length]), None)
