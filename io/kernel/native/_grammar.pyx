# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Texts to the numbers that they stand for by the grammar of penstock.io.columns.grammar."""

import numpy as np

from libc.stdint cimport int64_t, uint8_t

from penstock.io.kernel.native._columns cimport BYTES, Columns, Span, Values, is_null, text_at


cdef extern from "numbers.h" nogil:
    ctypedef enum number "enum number":
        NUMBER_GOOD
        NUMBER_BAD
        NUMBER_HARD
    number parse_int(const uint8_t* at, const uint8_t* end, int64_t* value)
    number parse_boolean(const uint8_t* at, const uint8_t* end, int64_t* value)
    number parse_float(const uint8_t* at, const uint8_t* end, double* value)


# What became of a text that is there; HARD: a FLOAT by its form, whose value is not found here.
GOOD, BAD, HARD = NUMBER_GOOD, NUMBER_BAD, NUMBER_HARD
cdef enum:
    ABSENT = 3

# Where the texts lie when there is no byte of them.
cdef uint8_t NOWHERE = 0


def ints(Columns columns not None, bint boolean):
    """The integers that the texts of the one column are written as.

    Args:
      columns: one column of texts.
      boolean: whether the spellings of true and false count.

    Returns:
      int64[n], arbitrary where there is none, and uint8[n], what became of each; None when all are GOOD.

    Raises:
      TypeError: for other columns.
    """
    cdef const Values* texts = _texts(columns)
    cdef const uint8_t* data = texts.data if texts.data else &NOWHERE
    values, states = np.empty(columns.rows, np.int64), np.empty(columns.rows, np.uint8)
    cdef int64_t[::1] out = values
    cdef uint8_t[::1] state = states
    cdef uint8_t any_state = 0
    cdef int64_t row
    cdef Span text
    with nogil:
        for row in range(columns.rows):
            text = text_at(texts, row)
            if is_null(texts, row):
                state[row] = ABSENT
            elif boolean:
                state[row] = parse_boolean(data + text.start, data + text.end, &out[row])
            else:
                state[row] = parse_int(data + text.start, data + text.end, &out[row])
            any_state |= state[row]
    return values, states if any_state else None


def floats(Columns columns not None):
    """The same as float64[n]."""
    cdef const Values* texts = _texts(columns)
    cdef const uint8_t* data = texts.data if texts.data else &NOWHERE
    values, states = np.empty(columns.rows, np.float64), np.empty(columns.rows, np.uint8)
    cdef double[::1] out = values
    cdef uint8_t[::1] state = states
    cdef uint8_t any_state = 0
    cdef int64_t row
    cdef Span text
    with nogil:
        for row in range(columns.rows):
            text = text_at(texts, row)
            if is_null(texts, row):
                state[row] = ABSENT
            else:
                state[row] = parse_float(data + text.start, data + text.end, &out[row])
            any_state |= state[row]
    return values, states if any_state else None


cdef const Values* _texts(Columns columns) except NULL:
    if columns.size != 1 or columns.columns[0].kind != BYTES or columns.columns[0].is_list:
        raise TypeError("there must be one column, of texts")
    return &columns.columns[0].items
