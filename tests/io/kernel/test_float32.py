"""Losses of float32: the kernel against its twin."""

import numpy as np
import pytest
from depth import scaled
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_cases import twins
from kernel_cases.float32_doubles import KEPT, LOST, UNTOUCHED, doubles, python_losing

MODULES = twins.both("grammar")


@settings(max_examples=scaled(300))
@given(st.lists(doubles, max_size=40))
@example([*KEPT, *LOST, *UNTOUCHED])
@example([float(f"{2.0**power:.{digits}g}") for power in range(-149, 128) for digits in range(1, 12)])
@example([])
def test_both_say_what_numpy_says(values):
    array = np.array(values, np.float64)
    array.flags.writeable = False
    for module in MODULES:
        found = module.losing(array)
        assert found.dtype == bool
        assert found.tolist() == [python_losing(value) for value in values]


@pytest.mark.parametrize("digits", range(1, 13))
def test_both_are_right_for_decimals_of_any_size(digits):
    random = np.random.default_rng(digits)
    values = np.array([float(f"{value:.{digits}g}") for value in np.exp(random.normal(0, 25, 2000))])
    for module in MODULES:
        assert module.losing(values).tolist() == [python_losing(value) for value in values.tolist()]
