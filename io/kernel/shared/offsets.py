"""Where lists lie when they lie one after the other."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]


def list_lengths(lists: pa.Array) -> Ints:
    """int64[n], how many values each list has; 0 where it is null."""
    return pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)


def starts_of(sizes: Ints) -> Ints:
    """int64[n + 1], where each list or piece of bytes starts, and at the end where all end.

    >>> starts_of(np.array([2, 0, 1])).tolist()
    [0, 2, 2, 3]
    """
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts
