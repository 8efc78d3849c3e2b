"""Sorts encoded records, and copies them in a given order."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel.shared.offsets import Ints
from penstock.io.kernel.shared.pieces import Bytes, put_slices


def discard(file: int, start: int, end: int) -> None:
    """Does nothing: Python cannot free the disk space and cached pages between two offsets of a file."""


def sort_order(splits: npt.NDArray[np.uint16], keys: npt.NDArray[np.uint64], data: Bytes, offsets: Ints) -> Ints | None:
    """Sorts records by split, key and bytes, stable; returns the order, int64[n], or None when they are sorted already.

    Args:
      splits: uint16[n].
      keys: uint64[n].
      data: uint8, the bytes of the records.
      offsets: int64[n + 1], the start of each record in `data`, and the end of the last.

    Raises:
      ValueError: when the sizes of the arrays do not match (`pyarrow.ArrowInvalid` here).
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
    """Copies records in `order` to `out[filled:]`, until `out` is full or all are copied.

    Args:
      data: uint8, the bytes of all records.
      offsets: int64[n + 1], the start of each record in `data`, and the end of the last.
      order: int64, the wanted records.
      index: how many of them are already copied.
      skip: how many bytes of the next one are already copied.
      out: uint8, the output.
      filled: how many bytes of the output are already filled.

    Returns:
      `index`, `skip` and `filled` after the copy.
    """
    while index < len(order) and filled < len(out):
        # Try as many records as would fit if all had the mean size; copy those that fit whole, and of the next one the
        # bytes that fit.
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
