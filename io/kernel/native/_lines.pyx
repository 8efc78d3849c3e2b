# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The line index of a block of text."""

import numpy as np

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memchr, memcpy


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


def suspects(const unsigned char[::1] data not None):
    """Whether a block has a NUL, a byte beyond ASCII, and a CR that no LF follows."""
    cdef const uint8_t* at = &data[0] if data.shape[0] else NULL
    cdef Py_ssize_t index, last = data.shape[0] - 1
    cdef uint8_t nul = 0, high = 0, lone = 0
    if last < 0:
        return False, False, False
    with nogil:
        for index in range(last):
            nul |= at[index] == 0
            high |= at[index]
            lone |= (at[index] == 13) & (at[index + 1] != 10)
    return bool(nul or at[last] == 0), (high | at[last]) >= 128, bool(lone or at[last] == 13)


def joined(list pieces not None, Py_ssize_t stop):
    """The bytes of the pieces, one after the other, of the last one only those up to an index."""
    cdef Py_ssize_t size = 0, last = len(pieces) - 1, index
    cdef bytes piece
    if last < 0 or not 0 <= stop <= len(<bytes?>pieces[last]):
        raise ValueError("the last piece must have as many bytes as are wanted of it")
    if not last and stop == len(pieces[0]):
        return pieces[0]
    for index in range(last):
        size += len(<bytes?>pieces[index])
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size + stop)
    cdef char* at = PyBytes_AS_STRING(out)
    cdef const char* source
    for index in range(last + 1):
        piece = pieces[index]
        source = PyBytes_AS_STRING(piece)
        size = stop if index == last else len(piece)
        with nogil:
            memcpy(at, source, size)
        at += size
    return out
