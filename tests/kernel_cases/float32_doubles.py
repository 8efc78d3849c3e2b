"""Doubles at the borders of what float32 keeps, and what numpy says of them."""

import math

import numpy as np
from hypothesis import strategies as st


def python_losing(value):
    """By numpy's shortest decimals."""
    with np.errstate(over="ignore"):
        image = np.float32(value)
    return bool(np.isfinite(image)) and float(image) != value and float(str(image)) != value


KEPT = [0.0, -0.0, 0.1, -12.35, 99999.9, 16777216.0, 1e11, 123456700.0, 1e20, 3.4028235e38, 1e-40, 1.5, 9999.99]
LOST = [20000001.0, -16777217.0, 1748736094.501, 40.7488171, math.pi, 123456789.0, 1.00000012e-5, 2.0**53 - 1, 1e-46]
UNTOUCHED = [math.nan, math.inf, -math.inf, 1e39]

decimals = st.builds(lambda value, digits: float(f"{value:.{digits}g}"), st.floats(-1e30, 1e30), st.integers(1, 12))
prices = st.builds(lambda cents, places: cents / 10**places, st.integers(-(10**12), 10**12), st.integers(0, 9))
near_powers = st.builds(
    lambda power, ulps: float(2.0**power) * (1 + ulps * 2.0**-24), st.integers(-149, 127), st.integers(-3, 3)
)
doubles = st.one_of(
    st.floats(), st.floats(width=32), decimals, prices, near_powers, st.integers(-(2**60), 2**60).map(float)
)
