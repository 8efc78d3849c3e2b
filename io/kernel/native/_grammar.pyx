# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Texts to the numbers that they stand for by the grammar of penstock.io.columns.grammar."""

import numpy as np
import pyarrow as pa

from penstock.io.kernel.pure import grammar as pure

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


# What became of a text. `parse_float` also gives HARD: a FLOAT by its form, whose value it does not find.
GOOD, BAD, ABSENT = NUMBER_GOOD, NUMBER_BAD, _ABSENT
cdef enum:
    _ABSENT = 3

# Where the texts lie when there is no byte of them.
cdef uint8_t NOWHERE = 0


def ints(text not None, bint boolean):
    """The integers that texts are written as.

    Args:
      text: string or binary, also large.
      boolean: whether the spellings of true and false count.

    Returns:
      int64[n], arbitrary where there is none, and uint8[n], what became of each; None when all are GOOD.

    Raises:
      TypeError: for an array of another type.
    """
    cdef Columns columns = _open(text)
    cdef const Values* texts = _texts(columns)
    cdef const uint8_t* data = texts.data if texts.data else &NOWHERE
    values, states = np.empty(columns.rows, np.int64), np.empty(columns.rows, np.uint8)
    cdef int64_t[::1] out = values
    cdef uint8_t[::1] state = states
    cdef uint8_t any_state = 0
    cdef int64_t row
    cdef Span span
    with nogil:
        for row in range(columns.rows):
            span = text_at(texts, row)
            if is_null(texts, row):
                state[row] = _ABSENT
            elif boolean:
                state[row] = parse_boolean(data + span.start, data + span.end, &out[row])
            else:
                state[row] = parse_int(data + span.start, data + span.end, &out[row])
            any_state |= state[row]
    return values, states if any_state else None


def floats(text not None):
    """The same as float64[n]; the few values that take more than this module has are Arrow's."""
    cdef Columns columns = _open(text)
    cdef const Values* texts = _texts(columns)
    cdef const uint8_t* data = texts.data if texts.data else &NOWHERE
    values, states = np.empty(columns.rows, np.float64), np.empty(columns.rows, np.uint8)
    cdef double[::1] out = values
    cdef uint8_t[::1] state = states
    cdef uint8_t any_state = 0
    cdef int64_t row, hard = 0
    cdef Span span
    with nogil:
        for row in range(columns.rows):
            span = text_at(texts, row)
            if is_null(texts, row):
                state[row] = _ABSENT
            else:
                state[row] = parse_float(data + span.start, data + span.end, &out[row])
            any_state |= state[row]
            hard += state[row] == NUMBER_HARD
    if hard:
        _find_hard(text, values, states)
    return values, states if any_state else None


def _find_hard(text, values, states):
    """Sets the values and the states of the texts that are HARD."""
    rows = np.flatnonzero(states == NUMBER_HARD)
    values[rows], found = pure.floats(text.take(pa.array(rows)))
    states[rows] = GOOD if found is None else found


cdef Columns _open(text):
    return Columns(pa.RecordBatch.from_arrays([text], ["text"]))


cdef const Values* _texts(Columns columns) except NULL:
    if columns.columns[0].kind != BYTES or columns.columns[0].is_list:
        raise TypeError("the array must be one of texts")
    return &columns.columns[0].items
