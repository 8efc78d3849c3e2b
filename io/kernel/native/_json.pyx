# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Where the values of a JSON document begin and end; `penstock.io.kernel.pure.json` says what is a value."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t

from penstock.io.kernel.shared import documents

cdef enum:
    BETWEEN = 0
    FIRST = 1
    AFTER = 2
    NEXT = 3

cdef enum:
    NO_VALUE = 1
    NO_COMMA = 2
    TRAILING_COMMA = 3
    LINE_BREAK = 4
    OPEN_VALUE = 5
    OPEN_ARRAY = 6

cdef enum:
    SPACE = 1  # between values
    BORDER = 2  # ends a word
    NESTS = 4  # of interest inside an object: brackets and quotes

cdef uint8_t _kinds[256]


cdef void _fill() noexcept:
    cdef int byte
    for byte in range(256):
        _kinds[byte] = 0
    for byte in (32, 9, 10, 13):
        _kinds[byte] |= SPACE | BORDER
    for byte in b",:":
        _kinds[byte] |= BORDER
    for byte in b'[]{}"':
        _kinds[byte] |= BORDER | NESTS


_fill()


cdef struct Found:
    int64_t values
    int64_t marks
    int64_t state
    int64_t consumed
    int64_t fault
    int64_t place


def cut_values(const uint8_t[::1] data not None, int64_t state, bint final):
    """See `penstock.io.kernel.pure.json.cut_values`."""
    cdef int64_t size = data.shape[0]
    cdef const uint8_t* first = &data[0] if size else NULL
    cdef Found found
    cdef int64_t room = size // 16 + 16
    # Values may be as short as a byte, and are nearly always longer: grow the arrays when they are not.
    while True:
        index = np.empty((3, room), np.int64)
        found = _cut(first, size, state, final, index)
        if found.values >= 0:
            break
        room = size + 1
    starts, ends = index[0, : found.values], index[1, : found.values]
    return starts, ends, index[2, : found.marks], documents.Cut(found.state, found.consumed, found.fault, found.place)


cdef Found _cut(const uint8_t* data, int64_t size, int64_t state, bint final, int64_t[:, ::1] index):
    cdef Found found
    cdef int64_t room = index.shape[1]
    cdef int64_t* starts = &index[0, 0]
    cdef int64_t* ends = &index[1, 0]
    cdef int64_t* marks = &index[2, 0]
    with nogil:
        found = _scan(data, size, state, final, room, starts, ends, marks)
    return found


cdef Found _scan(
    const uint8_t* data, int64_t size, int64_t state, bint final, int64_t room, int64_t* starts, int64_t* ends,
    int64_t* marks
) noexcept nogil:
    cdef Found found
    cdef int64_t at = 0
    cdef int64_t end
    cdef uint8_t byte
    found.values = found.marks = found.fault = 0
    found.place = -1
    found.state = state
    found.consumed = 0
    while at < size:
        byte = data[at]
        if _kinds[byte] & SPACE:
            at += 1
            continue
        if found.values == room or found.marks == room:
            found.values = -1
            return found
        if state == AFTER:
            if byte != b"," and byte != b"]":
                found.fault = NO_COMMA
                break
            state = NEXT if byte == b"," else BETWEEN
            marks[found.marks] = at
            found.marks += 1
            at += 1
        elif byte == b"]" and state == FIRST or byte == b"[" and state == BETWEEN:
            state = BETWEEN if byte == b"]" else FIRST
            marks[found.marks] = at
            found.marks += 1
            at += 1
        elif byte == b"]" and state == NEXT:
            found.fault = TRAILING_COMMA
            break
        elif byte == b"]" or byte == b"}" or byte == b"," or byte == b":":
            found.fault = NO_VALUE
            break
        else:
            end = _value_end(data, at, size, final)
            if end < 0:
                found.fault = LINE_BREAK
                at = -end - 1
                break
            if end > size:
                if final:
                    found.fault = OPEN_VALUE
                    break
                found.state = state
                found.consumed = at
                return found
            starts[found.values] = at
            ends[found.values] = end
            found.values += 1
            at = end
            if state != BETWEEN:
                state = AFTER
    if not found.fault and final and state != BETWEEN:
        found.fault = OPEN_ARRAY
    if found.fault:
        found.place = at
    found.state = state
    found.consumed = at
    return found


cdef int64_t _value_end(const uint8_t* data, int64_t at, int64_t size, bint final) noexcept nogil:
    """The end of the value at `at`; more than `size` when it has none yet; -1 - the index of a text with a line break."""
    cdef int64_t depth = 0
    cdef uint8_t byte = data[at]
    if byte == b'"':
        return _text_end(data, at, size)
    if byte != b"{" and byte != b"[":
        while at < size and not _kinds[data[at]] & BORDER:
            at += 1
        return at if at < size or final else size + 1
    while at < size:
        byte = data[at]
        if not _kinds[byte] & NESTS:
            at += 1
            continue
        if byte == b'"':
            at = _text_end(data, at, size)
            if at < 0:
                return at
            continue
        at += 1
        if byte == b"{" or byte == b"[":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return size + 1


cdef int64_t _text_end(const uint8_t* data, int64_t quote, int64_t size) noexcept nogil:
    """The index after the closing quote; more than `size` without one; -1 - `quote` when a line break comes first."""
    cdef int64_t at = quote + 1
    cdef uint8_t byte
    while at < size:
        byte = data[at]
        at += 1
        if byte == b'"':
            return at
        if byte == b"\n":
            return -1 - quote
        if byte == b"\\" and at < size and data[at] != b"\n":
            at += 1
    return size + 1
