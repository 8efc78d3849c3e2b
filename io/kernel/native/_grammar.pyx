# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Texts to the numbers that they stand for by the grammar of penstock.io.columns.grammar, and which float32 changes."""

import numpy as np
import pyarrow as pa

from penstock.io.kernel.pure import grammar as pure

from libc.math cimport fabs, frexp, isfinite, rint
from libc.stdint cimport int64_t, uint8_t, uint64_t

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


cdef enum:
    KEPT
    LOST
    # Only the shortest decimal tells.
    HARD
    MAX_POWER = 22

cdef double MAX_DIGITS = <double>(<uint64_t>1 << 53)
cdef double MIN_SCALED = 1e-12
cdef double CENTS = 1e6
cdef double TIE = 1e-4
cdef double LOG10_OF_2 = 0.30102999566398120

cdef double[MAX_POWER + 1] POWERS
for _power in range(MAX_POWER + 1):
    POWERS[_power] = 10.0**_power


def losing(const double[::1] values not None):
    """Marks the doubles that lose digits as float32; NaN, infinity and what is beyond float32 are not marked.

    Args:
      values: float64[n].
    """
    cdef Py_ssize_t row, rows = values.shape[0], hard = 0
    found = np.empty(rows, np.uint8)
    cdef uint8_t[::1] state = found
    with nogil:
        for row in range(rows):
            state[row] = _losing(values[row])
            hard += state[row] == HARD
    if hard:
        indices = np.flatnonzero(found == HARD)
        found[indices] = pure.losing(np.asarray(values)[indices])
    return found.view(np.bool_)


cdef inline uint8_t _losing(double value) noexcept nogil:
    cdef float image = <float>value
    cdef double cents
    if image == value or not isfinite(image):
        return KEPT
    value, image = fabs(value), <float>fabs(image)
    cents = rint(value * 100)
    if cents < CENTS and cents / 100 == value:
        return KEPT
    if value < MIN_SCALED or value >= MAX_DIGITS:
        return HARD
    return _losing_long(value, image)


cdef uint8_t _losing_long(double value, float image) noexcept nogil:
    cdef double power = _power_of(value)
    cdef double digits = rint(value * power)
    cdef double unit, scaled, shorter
    cdef int exponent
    if digits / power != value:
        return LOST
    unit = _last_digit(<uint64_t>digits)
    scaled = image * power / unit
    if fabs(fabs(scaled - digits / unit) - 0.5) < TIE or frexp(image, &exponent) == 0.5:
        return HARD
    shorter = 10 * rint(scaled / 10) * unit / power
    return LOST if rint(scaled) * unit != digits or <float>shorter == image else KEPT


cdef inline double _power_of(double value) noexcept nogil:
    """The power of ten that makes a double a whole number if it is a decimal of up to 9 digits."""
    cdef int exponent, power
    frexp(value, &exponent)
    # The floor of the logarithm, or one less.
    power = 9 - <int>((exponent - 1) * LOG10_OF_2 + 400) + 400
    return POWERS[0 if power < 0 else MAX_POWER if power > MAX_POWER else power]


cdef inline double _last_digit(uint64_t digits) noexcept nogil:
    """The power of ten of the last digit that is not 0."""
    cdef double unit = 1
    while digits % 10 == 0:
        digits //= 10
        unit *= 10
    return unit
