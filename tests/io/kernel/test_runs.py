"""Order and copies of records: the kernel against Arrow and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins
from kernel_cases.record_rows import FEW_KEYS, ROWS, batch_of

from penstock.io.sort.records import EncodedRecords

compiled, pure = twins.both("runs")


def as_parts(found):
    return found.splits, found.keys, found.data, found.offsets


@given(rows=ROWS | FEW_KEYS)
def test_order_is_the_same_in_the_kernel(rows):
    parts = as_parts(EncodedRecords.of(batch_of(rows)))
    ours, theirs = compiled.sort_order(*parts), pure.sort_order(*parts)
    assert (ours is None) == (theirs is None)
    assert ours is None or ours.tolist() == theirs.tolist()


@given(rows=ROWS, room=st.integers(1, 100), filled=st.integers(0, 9), data=st.data())
def test_copies_are_the_same_in_the_kernel(rows, room, filled, data):
    found = EncodedRecords.of(batch_of(rows))
    order = np.array(data.draw(st.permutations(range(len(found)))), np.int64)
    expected = b"".join(rows[row][2] for row in order)
    for kernel in (compiled, pure):
        out, copied = np.zeros(filled + room, np.uint8), b""
        index = skip = 0
        while index < len(order):
            index, skip, end = kernel.gather(found.data, found.offsets, order, index, skip, out, filled)
            assert end == len(out) or index == len(order)
            copied += out[filled:end].tobytes()
        assert (copied, skip) == (expected, 0)


@pytest.mark.parametrize("offsets", [[0, 5], [0, 2, 1, 3], [-1, 0], []])
def test_kernel_refuses_offsets_that_lead_out_of_the_data(offsets):
    count = max(len(offsets) - 1, 0)
    parts = np.zeros(count, np.uint16), np.zeros(count, np.uint64), np.zeros(3, np.uint8), np.array(offsets, np.int64)
    with pytest.raises(ValueError, match="offsets must"):
        compiled.sort_order(*parts)


@pytest.mark.parametrize(
    "arguments", [([0, 9], 0, 0, 0), ([2], 0, 0, 0), ([-1], 0, 0, 0), ([0], 0, 3, 0), ([0], -1, 0, 0)]
)
def test_kernel_refuses_to_copy_what_is_not_there(arguments):
    order, index, skip, filled = arguments
    data, offsets = np.zeros(3, np.uint8), np.array([0, 2, 9], np.int64)
    with pytest.raises(IndexError, match="no such record"):
        compiled.gather(data, offsets, np.array(order), index, skip, np.zeros(8, np.uint8), filled)
