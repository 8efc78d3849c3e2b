"""Rows by their numbers, as ranges of them."""

from typing import TypeAlias

import numpy as np

# int64[n, 2]: first row, and the row behind the last one.
Ranges: TypeAlias = np.ndarray


def total_rows(ranges: Ranges) -> int:
    """Returns the number of rows in ranges."""
    return int((ranges[:, 1] - ranges[:, 0]).sum())


def rows_of(ranges: Ranges) -> np.ndarray:
    """Returns int64, each row of the ranges, in their order.

    >>> rows_of(np.array([[5, 7], [0, 1]])).tolist()
    [5, 6, 0]
    """
    lengths = ranges[:, 1] - ranges[:, 0]
    before = np.cumsum(lengths) - lengths
    return np.repeat(ranges[:, 0] - before, lengths) + np.arange(int(lengths.sum()))


def ranges_of(rows: np.ndarray) -> Ranges:
    """Returns the ranges of int64 rows, where neighbours that follow each other are one.

    >>> ranges_of(np.array([5, 6, 0])).tolist()
    [[5, 7], [0, 1]]
    """
    if not len(rows):
        return np.zeros((0, 2), np.int64)
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    firsts, lasts = np.append(0, breaks), np.append(breaks, len(rows)) - 1
    return np.stack([rows[firsts], rows[lasts] + 1], axis=1)


def cut(ranges: Ranges, first: int, last: int) -> Ranges:
    """Returns the part of a sequence from its row `first` to before its row `last`.

    >>> cut(np.array([[10, 20], [0, 5]]), 8, 12).tolist()
    [[18, 20], [0, 2]]
    """
    lengths = ranges[:, 1] - ranges[:, 0]
    starts = np.cumsum(lengths) - lengths
    pieces = np.empty_like(ranges)
    for side, row in enumerate((first, last)):
        np.minimum(np.maximum(row - starts, 0), lengths, out=pieces[:, side])
    has_rows = pieces[:, 0] < pieces[:, 1]
    pieces += ranges[:, :1]
    return pieces[has_rows]
