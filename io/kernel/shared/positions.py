"""Finds bytes in a text, as numpy arrays of indices."""

import numpy as np

LF, CR = 10, 13


def occurrences(data: bytes, byte: int) -> np.ndarray:
    """Returns the int64 indices of a byte; cheap when there is none."""
    if bytes([byte]) not in data:
        return np.empty(0, np.int64)
    return np.flatnonzero(np.frombuffer(data, np.uint8) == byte)


def counts_between(indices: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Counts the sorted indices in each range from a start up to its end: int64[n]."""
    if not len(indices):
        return np.zeros(len(starts), np.int64)
    return np.searchsorted(indices, ends) - np.searchsorted(indices, starts)


def lone_crs(data: bytes) -> np.ndarray:
    """Returns the indices of CRs that no LF follows."""
    crs = occurrences(data, CR)
    if not len(crs):
        return crs
    array = np.frombuffer(data, np.uint8)
    followed = array[np.minimum(crs + 1, len(array) - 1)] == LF
    return crs[~followed]


def without_cr(data: bytes, starts: np.ndarray, ends: np.ndarray, nexts: np.ndarray) -> np.ndarray:
    """Moves line ends before the CR of a CRLF; a CR at the end of a file, without LF, stays in its line."""
    if b"\r" not in data:
        return ends
    array = np.frombuffer(data, np.uint8)
    has_cr = (ends > starts) & (nexts > ends) & (array[np.maximum(ends - 1, 0)] == CR)
    return ends - has_cr
