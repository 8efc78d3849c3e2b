"""Operations on flat arrays of numbers, int64 or float32, with TensorFlow's values.

Curves (`log`, `log1p`, `exp`, `sqrt`, `pow`) are computed in float64 and rounded once, so each is the nearest float32
or its neighbour; TensorFlow's own differ from it by a few units in the last place.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.transforms.features.arrow.columns import check_values

Numbers = npt.NDArray[Any]


def curve(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
    """Makes a transcendental function of float32 of one of float64."""

    def call(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x.astype(np.float32).astype(np.float64)).astype(np.float32)

    return call


def floordiv(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns the quotient, rounded down.

    Raises:
      ValueFaultsError: where an INT is divided by 0.
    """
    divisor = second(x, y, value)
    if x.dtype == np.int64:
        check_values(np.broadcast_to(divisor == 0, x.shape), "Integer division by zero")
    with np.errstate(all="ignore"):
        return np.floor(x / divisor) if x.dtype == np.float32 else x // divisor


def second(x: Numbers, y: Numbers | None, value: Any) -> Any:
    """Returns the second of two values: an input, or the argument in the type of the first."""
    return x.dtype.type(value) if y is None else y
