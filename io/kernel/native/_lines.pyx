# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The line index of a block of text."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr


cdef extern from "words.h" nogil:
    size_t count_byte(const uint8_t* at, const uint8_t* end, uint8_t byte)


def index_lines(const unsigned char[::1] data not None):
    """Where the lines of a block start, where they end without and with their line ends: int64, one for each line."""
    if not data.shape[0]:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    cdef const uint8_t* first = &data[0]
    cdef const uint8_t* end = first + data.shape[0]
    cdef Py_ssize_t lines
    with nogil:
        lines = <Py_ssize_t>count_byte(first, end, b"\n") + ((end - 1)[0] != b"\n")
    index = np.empty((3, lines), np.int64)
    cdef int64_t[:, ::1] found = index
    with nogil:
        _index(first, end, &found[0, 0], &found[1, 0], &found[2, 0])
    return index[0], index[1], index[2]


cdef void _index(const uint8_t* first, const uint8_t* end, int64_t* starts, int64_t* ends, int64_t* nexts) noexcept nogil:
    cdef const uint8_t* at = first
    cdef const uint8_t* found
    while at < end:
        starts[0] = at - first
        found = <const uint8_t*>memchr(at, b"\n", end - at)
        if not found:
            ends[0] = nexts[0] = end - first
            return
        ends[0] = found - first - (found > at and (found - 1)[0] == b"\r")
        at = found + 1
        nexts[0] = at - first
        starts += 1
        ends += 1
        nexts += 1


def has_nan_or_inf(const unsigned char[::1] data not None):
    """Whether the letters NaN or Inf are anywhere in a block."""
    cdef const uint8_t* at = &data[0] if data.shape[0] else NULL
    cdef Py_ssize_t index
    cdef uint8_t found = 0
    with nogil:
        for index in range(data.shape[0] - 2):
            found |= (at[index] == 78) & (at[index + 1] == 97) & (at[index + 2] == 78)
            found |= (at[index] == 73) & (at[index + 1] == 110) & (at[index + 2] == 102)
    return bool(found)


def has_lone_cr(const unsigned char[::1] data not None):
    """Whether a block has a CR that no LF follows."""
    cdef const uint8_t* bytes = &data[0] if data.shape[0] else NULL
    cdef Py_ssize_t index
    cdef uint8_t lone = 0
    with nogil:
        for index in range(data.shape[0] - 1):
            lone |= (bytes[index] == 13) & (bytes[index + 1] != 10)
    return bool(lone or (data.shape[0] and bytes[data.shape[0] - 1] == 13))
