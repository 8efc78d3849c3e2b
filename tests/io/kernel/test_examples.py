"""Rows as tf.Examples: the kernel against numpy."""

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import batches
from hypothesis import given
from kernel_cases import twins

from penstock.io.examples.encode import _try_encode, allocate_bytes

compiled, pure = twins.both("examples")


def check_same(batch):
    ours, theirs = (
        (encoded.data.tobytes(), encoded.offsets.tolist(), faults)
        for encoded, faults in (_try_encode(batch, allocate_bytes, kernel) for kernel in (compiled, pure))
    )
    assert ours == theirs


@given(batches())
def test_the_kernel_encodes_like_python(batch):
    check_same(batch)


@pytest.mark.parametrize("name_size", [1, 20, *range(50, 60), 100, 130, 20_000])
def test_the_kernel_encodes_pieces_of_any_size(name_size):
    sizes = [*range(140), 16_000, 16_300, 16_400, 70_000]
    name = "é" + "n" * name_size
    columns = {
        "bytes": [b"x" * size for size in sizes],
        "lists of bytes": [[b"y" * size, b""] for size in sizes],
        "floats": pa.array([np.ones(size) for size in sizes], pa.list_(pa.float32())),
        "ints": [1 << size % 63 for size in sizes],
        "lists of ints": [np.full(size, 300) for size in sizes],
    }
    check_same(pa.record_batch({name + key: values for key, values in columns.items()}))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_largest_example_is_measured(rows):
    batch = pa.record_batch({"b": pa.array([b"x" * 300, b"", b"y" * 1000][:rows], pa.binary())})
    for kernel in (compiled, pure):
        offsets = np.empty(rows + 1, np.int64)
        largest = kernel.Examples(batch).measure(offsets)
        assert largest == max((size - 16 for size in np.diff(offsets).tolist()), default=0)
