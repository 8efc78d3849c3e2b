"""Operations on flat arrays of numbers, int64 or float32, with TensorFlow's values.

Curves (`log`, `log1p`, `exp`, `sqrt`, `pow`) are computed in float64 and rounded once, so each is the nearest float32
or its neighbour; TensorFlow's own differ from it by a few units in the last place. Subnormal numbers, below 1.2e-38,
are numbers here; TensorFlow takes them as 0.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.float32 import MAX_EXACT_WHOLE
from penstock.transforms.features.analyses.exact_integers import whole_bound
from penstock.transforms.features.arrow.compute.columns import Column, check_values
from penstock.transforms.features.arrow.compute.moments import difference

Numbers = npt.NDArray[Any]

# The greatest integer whose square int64 holds.
_MAX_ROOT = 3_037_000_499
_NO_DIVISION = "Integer division by zero"


def second(x: Numbers, y: Numbers | None, value: Any) -> Any:
    """Returns the second of two values: an input, or the argument in the type of the first."""
    return x.dtype.type(value) if y is None else y


def unary(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
    """Makes an operation of a function that keeps the type."""

    def call(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x)

    return call


def binary(function: Callable[[Numbers, Any], Numbers]) -> Callable[..., Numbers]:
    """Makes an operation of a function of two values, the second of which may be an argument."""

    def call(x: Numbers, y: Numbers | None = None, value: Any = None) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x, second(x, y, value))

    return call


def comparison(function: Callable[[Numbers, Any], Any], texts: Callable[[Any, Any], Any]) -> Callable[..., Numbers]:
    """Makes an operation that gives 1 or 0; `texts` compares those."""

    def call(x: Any, y: Any = None, value: Any = None) -> Numbers:
        if isinstance(x, pa.Array):
            found = texts(x, pa.scalar(value, x.type) if y is None else y)
            return found.to_numpy(zero_copy_only=False).astype(np.int64)
        with np.errstate(invalid="ignore"):
            return np.asarray(function(x, second(x, y, value)), np.int64)

    return call


def curve(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
    """Makes a transcendental function of float32 of one of float64."""

    def call(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x.astype(np.float32).astype(np.float64)).astype(np.float32)

    return call


def power(x: Numbers, exponent: float) -> Numbers:
    """Returns x to the power of the exponent, float32."""
    with np.errstate(all="ignore"):
        base = x.astype(np.float32).astype(np.float64)
        return (base ** np.float64(np.float32(exponent))).astype(np.float32)


def floordiv(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns the quotient, rounded down.

    Raises:
      ValueFaultsError: where an INT is divided by 0.
    """
    divisor = second(x, y, value)
    if x.dtype == np.int64:
        check_values(np.broadcast_to(divisor == 0, x.shape), _NO_DIVISION)
    with np.errstate(all="ignore"):
        return np.floor(x / divisor) if x.dtype == np.float32 else x // divisor


def floormod(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns what `floordiv` leaves.

    Raises:
      ValueFaultsError: where an INT is divided by 0.
    """
    divisor = second(x, y, value)
    if x.dtype == np.int64:
        check_values(np.broadcast_to(divisor == 0, x.shape), _NO_DIVISION)
    with np.errstate(all="ignore"):
        return np.mod(x, divisor)


def divide(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns the quotient, float32; integers are divided as float64."""
    with np.errstate(all="ignore"):
        return (x / second(x, y, value)).astype(np.float32)


def square(x: Numbers) -> Numbers:
    """Returns x * x.

    Raises:
      ValueFaultsError: where int64 cannot hold it.
    """
    if x.dtype == np.int64:
        check_values((x > _MAX_ROOT) | (x < -_MAX_ROOT), "the square of an INT is beyond int64")
    with np.errstate(all="ignore"):
        return x * x


def clip(x: Numbers, min: Any = None, max: Any = None) -> Numbers:
    """Returns the value, or the bound that it exceeds."""
    raised = x if min is None else np.maximum(x, x.dtype.type(min))
    return raised if max is None else np.minimum(raised, x.dtype.type(max))


def cast(x: Numbers, to: str) -> Numbers:
    """Returns the number as int64 (cut towards 0) or float32."""
    with np.errstate(invalid="ignore"):
        return x.astype(np.int64 if to == "int" else np.float32)


def logical_and(*inputs: Numbers) -> Numbers:
    """Returns 1 where no input is 0."""
    return np.logical_and.reduce([item != 0 for item in inputs]).astype(np.int64)


def logical_or(*inputs: Numbers) -> Numbers:
    """Returns 1 where an input is not 0."""
    return np.logical_or.reduce([item != 0 for item in inputs]).astype(np.int64)


def logical_not(x: Numbers) -> Numbers:
    """Returns 1 where the value is 0."""
    return (x == 0).astype(np.int64)


def apply_buckets(column: Column, boundaries: Sequence[float]) -> Column:
    """Returns the number of the bucket of each number, int64; NaN is in the last one."""
    values = column.values
    bounds: Any = list(map(whole_bound, boundaries)) if values.dtype == np.int64 else boundaries
    found = np.searchsorted(np.array(bounds, values.dtype), values, side="right")
    return column.with_values(found.astype(np.int64))


def apply_buckets_with_interpolation(column: Column, boundaries: Sequence[float]) -> Column:
    """Returns the place among the boundaries, float32; large integers are taken less the first boundary."""
    first, x = 0, column.values
    if x.dtype == np.int64:
        first = 0 if max(map(abs, boundaries)) <= MAX_EXACT_WHOLE else whole_bound(boundaries[0])
        x = difference(x, np.int64(first)).astype(np.float32)
    bounds = np.array([bound - first for bound in boundaries], np.float32)
    found: Numbers = np.asarray(np.searchsorted(bounds, x, side="right"))
    if len(bounds) == 1:
        return column.with_values((found != 0).astype(np.float32))
    return column.with_values(_interpolated(x, bounds, found))


def _interpolated(x: Numbers, bounds: Numbers, found: Numbers) -> Numbers:
    highs, lows = np.append(bounds, bounds[-1])[found], np.append(bounds[:1], bounds)[found]
    with np.errstate(all="ignore"):
        width = highs - lows
        inside = np.where(width == 0, np.float32(0.5), (x - lows) / width)
        inside = np.where((found == 0) | (found == len(bounds)), np.float32(0), inside)
        places = np.maximum(found - 1, 0).astype(np.float32) + inside
        result = places / np.float32(len(bounds) - 1)
    return np.where(np.isnan(x), np.float32(0.5), result).astype(np.float32)


COMPARISONS = {
    "equal": comparison(np.equal, pc.equal),
    "not_equal": comparison(np.not_equal, pc.not_equal),
    "less": comparison(np.less, pc.less),
    "less_equal": comparison(np.less_equal, pc.less_equal),
    "greater": comparison(np.greater, pc.greater),
    "greater_equal": comparison(np.greater_equal, pc.greater_equal),
}
