"""Laying out bytes without a loop over rows: positions are computed first, then all pieces of one size move at once."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.kernel.shared.offsets import Ints, starts_of

Bytes = npt.NDArray[np.uint8]

# Longer pieces are rare, so that copying them one by one is as fast as sorting them by length.
_MAX_WINDOW_BYTES = 4096


def sums_per_row(sizes: Ints, counts: Ints) -> Ints:
    """The sum of the sizes of each row's values: int64[n]."""
    return np.diff(starts_of(sizes)[starts_of(counts)])


def value_positions(row_starts: Ints, sizes: Ints, counts: Ints) -> Ints:
    """Where each value lies, if those of row i lie one after the other from `row_starts[i]`: int64[m]."""
    flat = starts_of(sizes)
    return flat[:-1] + np.repeat(row_starts - flat[starts_of(counts)[:-1]], counts)


def group_equal(values: Ints) -> Iterator[tuple[int, Ints]]:
    """Each distinct value, ascending, with the ascending indices where it occurs."""
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
    """Every `width` bytes of `data` as one item, overlapping, without a copy: one item assignment is one memcpy."""
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
