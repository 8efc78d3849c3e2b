"""Arrow arrays over the memory of numpy arrays. `pa.array` would import pandas, which takes half a second."""

import numpy as np
import pyarrow as pa


def array_of(values: np.ndarray) -> pa.Array:
    """Returns numbers as an array of the same type, without copying if they lie side by side."""
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, data], null_count=0)


def flags_of(flags: np.ndarray) -> pa.BooleanArray:
    """Returns bool[n] as an array.

    >>> flags_of(np.array([True, False])).to_pylist()
    [True, False]
    """
    bits = pa.py_buffer(np.packbits(flags, bitorder="little"))
    return pa.Array.from_buffers(pa.bool_(), len(flags), [None, bits], null_count=0)


def indices_of(indices: np.ndarray, missing: np.ndarray) -> pa.Array:
    """Returns int64 indices for `take`, null where bool[n] says that there is none."""
    valid = pa.py_buffer(np.packbits(~missing, bitorder="little"))
    return pa.Array.from_buffers(pa.int64(), len(indices), [valid, pa.py_buffer(np.ascontiguousarray(indices))])
