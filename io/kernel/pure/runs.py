"""Sorting encoded records, and copying them in that order."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel.pure.pieces import Bytes, put_slices
from penstock.io.kernel.shared.offsets import Ints


def discard(file: int, start: int, end: int) -> None:
    """Would give back the disk and the cached pages between two places of a file: Python has no call for it."""


def sort_order(splits: npt.NDArray[np.uint16], keys: npt.NDArray[np.uint64], data: Bytes, offsets: Ints) -> Ints | None:
    """int64[n], the order of records by split, key and bytes, stable; None where they lie in it.

    Args:
      splits: uint16[n].
      keys: uint64[n].
      data: uint8, their bytes.
      offsets: int64[n + 1], where in `data` each starts, and the end.

    Raises:
      ValueError: for arrays that do not fit together (`pyarrow.ArrowInvalid` here).
    """
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    record = pa.Array.from_buffers(pa.large_binary(), len(keys), buffers)
    names = ["split", "key", "record"]
    rows = pa.record_batch([pa.array(splits, pa.uint16()), pa.array(keys, pa.uint64()), record], names)
    order = pc.sort_indices(rows, sort_keys=[(name, "ascending") for name in names]).to_numpy().astype(np.int64)
    return None if (order == np.arange(len(order))).all() else order


def gather(
    data: Bytes, offsets: Ints, order: Ints, index: int, skip: int, out: Bytes, filled: int
) -> tuple[int, int, int]:
    """Copies records in `order`, from byte `skip` of number `index` on, to `out[filled:]` until one of them ends.

    Args:
      data: uint8, the bytes of all records.
      offsets: int64[n + 1], where in `data` each starts, and the end.
      order: int64, which records are wanted.
      index: how many of these are copied already.
      skip: how many bytes of the next one are.
      out: uint8, where they go to.
      filled: how much of it is taken.

    Returns:
      `index`, `skip` and `filled` as they are then.
    """
    while index < len(order) and filled < len(out):
        # So many would fit if all were of the mean size.
        count = max(1, (len(out) - filled) * (len(offsets) - 1) // max(1, int(offsets[-1] - offsets[0])))
        rows = order[index : index + count]
        starts, sizes = offsets[rows], offsets[rows + 1] - offsets[rows]
        starts[0] += skip
        sizes[0] -= skip
        ends = filled + np.cumsum(sizes)
        whole = int(ends.searchsorted(len(out), side="right"))
        put_slices(out, (ends - sizes)[:whole], data, starts[:whole], sizes[:whole])
        if whole:
            index, skip, filled = index + whole, 0, int(ends[whole - 1])
        if whole < len(rows):
            part = len(out) - filled
            out[filled:] = data[starts[whole] : starts[whole] + part]
            skip, filled = skip + part, len(out)
    return index, skip, filled
