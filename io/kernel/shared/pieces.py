"""Lays out bytes without a loop over rows: computes positions first, then copies all pieces of one size at once."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel.shared.offsets import Ints, starts_of

Bytes = npt.NDArray[np.uint8]

# Longer pieces are rare: copying them one by one is as fast as sorting them by length.
_MAX_WINDOW_BYTES = 4096


def sums_per_row(sizes: Ints, counts: Ints) -> Ints:
    """Sums the sizes of each row's values: int64[n].

    `starts_of(counts)` has the index of each row's first value, `starts_of(sizes)` the sum of all sizes before it.
    """
    return np.diff(starts_of(sizes)[starts_of(counts)])


def value_positions(row_starts: Ints, sizes: Ints, counts: Ints) -> Ints:
    """Returns the position of each value, if those of row i lie in sequence from `row_starts[i]`: int64[m].

    `flat` has the positions if all values lay in sequence from 0; each row is then shifted to its start::

        row            0     1
        counts         2     1
        sizes          3 4   5
        row_starts     10    40
        flat           0 3   7
        shift          10    33
        positions      10 13 40
    """
    flat = starts_of(sizes)
    return flat[:-1] + np.repeat(row_starts - flat[starts_of(counts)[:-1]], counts)


def group_equal(values: Ints) -> Iterator[tuple[int, Ints]]:
    """Yields each distinct value, ascending, with the ascending indices where it occurs."""
    if not len(values):
        return
    low, high = int(values.min()), int(values.max())
    if low == high:
        yield low, np.arange(len(values))
        return
    # A stable sort of 16-bit integers is a radix sort.
    narrow = (values - low).astype(np.uint16) if high - low < 1 << 16 else values
    order = np.argsort(narrow, kind="stable")
    ordered = values[order]
    bounds = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(values)]
    for start, end in itertools.pairwise(bounds):
        yield int(ordered[start]), order[start:end]


def _windows(data: Bytes, width: int) -> npt.NDArray[np.void]:
    """Views every `width` bytes of `data` as one item, overlapping: item i begins at byte i, and one assignment to it
    is one memcpy.
    """
    return np.ndarray((max(len(data) - width + 1, 0),), f"V{width}", data, strides=(1,))


def put_constant(out: Bytes, positions: Ints, piece: bytes) -> None:
    """Writes the same bytes at every position."""
    if piece and len(positions):
        _windows(out, len(piece))[positions] = np.frombuffer(piece, f"V{len(piece)}")


def put_fixed(out: Bytes, positions: Ints, pieces: npt.NDArray[Any]) -> None:
    """Writes row i of `pieces`, an array of one or two dimensions, at `positions[i]`, as its bytes in memory."""
    if len(positions):
        width = pieces.itemsize * (pieces.shape[1] if pieces.ndim == 2 else 1)
        _windows(out, width)[positions] = np.ascontiguousarray(pieces).view(f"V{width}").reshape(-1)


def put_slices(out: Bytes, positions: Ints, data: Bytes, starts: Ints, lengths: Ints) -> None:
    """Writes `data[starts[i]:][:lengths[i]]` at `positions[i]`."""
    for length, group in group_equal(lengths):
        if length > _MAX_WINDOW_BYTES:
            for position, start in zip(positions[group].tolist(), starts[group].tolist(), strict=True):
                out[position : position + length] = data[start : start + length]
        elif length:
            _windows(out, length)[positions[group]] = _windows(data, length)[starts[group]]


def slices(data: Bytes, offsets: Ints) -> pa.Array:
    """Returns adjacent slices of `data` as an array of binary values."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets, np.int64)), pa.py_buffer(np.ascontiguousarray(data))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)


def content_of(array: pa.Array) -> tuple[Bytes, Ints]:
    """Returns the bytes of an array that is not a slice, and where each value starts, and the end."""
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int64)[: len(array) + 1] if len(array) else np.zeros(1, np.int64)
    return (np.zeros(0, np.uint8) if data is None else np.frombuffer(data, np.uint8)[: starts[-1]]), starts


def gathered(data: Bytes, starts: Ints, width: int) -> Bytes:
    """Returns uint8[n, width], the bytes at these offsets; items of `width` bytes are copied faster than bytes."""
    return _windows(data, width)[starts].view(np.uint8).reshape(-1, width)


class Pieces:
    """Reads the pieces of all records, one after the other.

    Attributes:
      starts: int64[n], where the next piece of each record starts in the data.
    """

    def __init__(self, data: Bytes, starts: Ints):
        self._data = pa.py_buffer(data)
        self.starts = starts
        indices = pa.py_buffer(np.arange(0, 2 * len(starts) - 1, 2))
        self._indices = pa.Array.from_buffers(pa.int64(), len(starts), [None, indices])

    def take(self, sizes: Ints) -> Bytes:
        """Returns the next piece of all records, concatenated; `sizes` has its bytes in each record."""
        ends = self.starts + sizes
        # Of the slices between these bounds, every other one is a piece; the rest are the gaps between pieces.
        bounds = np.stack([self.starts, ends], axis=1).reshape(-1)
        self.starts = ends
        buffers = [None, pa.py_buffer(bounds), self._data]
        all_slices = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(bounds) - 1, buffers)
        return content_of(all_slices.take(self._indices))[0]
