"""Lengths and offsets of lists that lie in sequence."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def list_lengths(lists: pa.Array) -> Ints:
    """Returns the number of values of each list, int64[n]; 0 for a null."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def starts_of(sizes: Ints) -> Ints:
    """Returns int64[n + 1]: the start of each list or piece of bytes of these sizes, and the end of the last.

    >>> starts_of(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts
