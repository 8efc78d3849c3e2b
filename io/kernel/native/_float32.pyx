# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Finds the doubles that lose digits as float32 (penstock.io.columns.float32), one by one; the twin says how."""

import numpy as np

from penstock.io.kernel.pure import float32 as pure

from libc.math cimport fabs, frexp, isfinite, rint
from libc.stdint cimport uint8_t, uint64_t


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
