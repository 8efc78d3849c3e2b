"""Operations on flat arrays of numbers, int64 or float32, with TensorFlow's values.

An INT beyond int64 is refused, where TensorFlow's own operations would wrap around; its graphs of ours refuse it too.
Arithmetic of FLOAT is that of IEEE 754 and agrees to the bit. Of two things TensorFlow makes less: it takes subnormal
numbers (below 1.2e-38) for 0, and its graphs divide by a constant, as in `divide: 3`, through the reciprocal, which
gives the quotient or a float32 next to it.

Curves (`log`, `log1p`, `exp`, `sqrt`, `pow`) are computed in float64 and rounded once, so each is the nearest float32
or its neighbour; TensorFlow's own differ from it by a few units in the last place.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.float32 import MAX_EXACT_WHOLE
from penstock.transforms.features.analyses.exact_integers import whole_bound
from penstock.transforms.features.arrow.compute.columns import Flags, Ints, Values, check_values
from penstock.transforms.features.arrow.compute.moments import difference

Numbers = npt.NDArray[Any]

BEYOND = "the result of INTs is beyond int64"

# How far the result of integers lies from that in float64, at least, if it has wrapped around: it is 2 ** 64, less what
# float64 rounds.
_WRAPPED = 2.0**62


def curve(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
    """Makes a transcendental function of float32 of one of float64."""

    def call(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x.astype(np.float32).astype(np.float64)).astype(np.float32)

    return call


def power(x: Numbers, exponent: float) -> Numbers:
    """Returns float32; the exponent is one, too, and 0.5 is the square root, also of what is below 0."""
    rounded = float(np.float32(exponent))
    return curve(lambda base: np.power(base, rounded))(x)


def unary(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
    """Makes an operation of a function of numpy on one array of numbers, without its warnings."""

    def call(x: Numbers) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x)

    return call


def whole(function: Callable[..., Numbers]) -> Callable[..., Numbers]:
    """Makes an operation, as `unary` or `binary` do, that refuses an INT beyond int64."""

    def call(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
        operands = [x] if y is None and value is None else [x, second(x, y, value)]
        with np.errstate(all="ignore"):
            if x.dtype != np.int64:
                return function(*operands)
            return check_whole(function(*operands), function(*(np.asarray(each, np.float64) for each in operands)))

    return call


def check_whole(result: Ints, real: npt.NDArray[np.float64]) -> Ints:
    """Returns results of integers, computed in float64 too.

    Raises:
      ValueFaultsError: where int64 cannot hold one.
    """
    check_values(has_wrapped(result, real), BEYOND)
    return result


def has_wrapped(result: Ints, real: npt.NDArray[np.float64]) -> Flags:
    """Returns where the result of integers is not that of real numbers."""
    return np.abs(real - result) > _WRAPPED


def binary(function: Callable[[Numbers, Any], Numbers]) -> Callable[..., Numbers]:
    """Makes an operation of a function of two arrays of numbers; the second may be an argument instead."""

    def call(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
        with np.errstate(all="ignore"):
            return function(x, second(x, y, value))

    return call


def second(x: Numbers, y: Numbers | None, value: Any) -> Any:
    """Returns the second of two values: an input, or the argument in the type of the first."""
    return x.dtype.type(value) if y is None else y


def maximum(x: Numbers, y: Any) -> Numbers:
    """Returns the greater one, NaN if one is NaN; of 0.0 and -0.0, the second."""
    return np.where((x > y) | (x != x), x, y)


def minimum(x: Numbers, y: Any) -> Numbers:
    """Returns the lesser one, NaN if one is NaN; of 0.0 and -0.0, the second."""
    return np.where((x < y) | (x != x), x, y)


def clip(x: Numbers, min: float | None = None, max: float | None = None) -> Numbers:
    """Returns the value, or the bound that it exceeds; NaN stays."""
    with np.errstate(all="ignore"):
        raised = x if min is None else maximum(x, x.dtype.type(min))
        return raised if max is None else minimum(raised, x.dtype.type(max))


def divide(x: Numbers, y: Any) -> Numbers:
    """Returns the quotient, as float32; integers are divided as float64."""
    return (x / y).astype(np.float32)


def floordiv(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns the quotient, rounded down.

    Raises:
      ValueFaultsError: where an INT is divided by 0, or int64 cannot hold the quotient.
    """
    divisor = _divisor(x, y, value)
    with np.errstate(all="ignore"):
        real = np.floor(x / divisor)
        return real if x.dtype == np.float32 else check_whole(x // divisor, real)


def floormod(x: Numbers, y: Numbers | None = None, value: float | None = None) -> Numbers:
    """Returns what `floordiv` leaves: of the sign of the divisor, or 0 of the sign of x.

    Raises:
      ValueFaultsError: where an INT is divided by 0.
    """
    divisor = _divisor(x, y, value)
    with np.errstate(all="ignore"):
        if x.dtype == np.int64:
            return x % divisor
        rest = np.fmod(x, divisor)
        return np.where((rest != 0) & ((divisor < 0) != (rest < 0)), rest + divisor, rest)


def _divisor(x: Numbers, y: Numbers | None, value: float | None) -> Any:
    divisor = second(x, y, value)
    if x.dtype == np.int64:
        check_values(np.broadcast_to(divisor == 0, x.shape), "Integer division by zero")
    return divisor


def cast(x: Numbers, to: str) -> Numbers:
    """Returns the number as float32, or as int64, cut towards 0.

    Raises:
      ValueFaultsError: for NaN, and what int64 cannot hold.
    """
    if to == "float":
        return x.astype(np.float32)
    if x.dtype == np.int64:
        return x
    check_values(~((x >= -(2.0**63)) & (x < 2.0**63)), "a FLOAT is NaN or beyond int64")
    return x.astype(np.int64)


def comparison(name: str) -> Callable[..., Ints]:
    """Makes an operation of a comparison of numpy, and of Arrow for texts: 1 where it holds, else 0."""
    of_numbers, of_texts = getattr(np, name), getattr(pc, name)

    def call(x: Values, y: Values = None, value: Any = None) -> Ints:
        if isinstance(x, pa.Array):
            found = of_texts(x, pa.scalar(value, x.type) if y is None else y).to_numpy(zero_copy_only=False)
        else:
            with np.errstate(all="ignore"):
                found = of_numbers(x, second(x, y, value))
        return found.astype(np.int64)

    return call


def logical_and(*inputs: Ints) -> Ints:
    """Returns 1 where no input is 0."""
    return np.logical_and.reduce([x != 0 for x in inputs]).astype(np.int64)


def logical_or(*inputs: Ints) -> Ints:
    """Returns 1 where an input is not 0."""
    return np.logical_or.reduce([x != 0 for x in inputs]).astype(np.int64)


def logical_not(x: Ints) -> Ints:
    """Returns 1 where the value is 0."""
    return (x == 0).astype(np.int64)


def apply_buckets(x: Numbers, boundaries: list[float]) -> Ints:
    """Returns how many boundaries are not above x; all for NaN. Integers are compared as such."""
    borders = np.array([whole_bound(bound) for bound in boundaries]) if x.dtype == np.int64 else _float32(boundaries)
    return np.searchsorted(borders, x, side="right").astype(np.int64)


def apply_buckets_with_interpolation(x: Numbers, boundaries: list[float]) -> Numbers:
    """Returns the place among the boundaries, 0 to 1, float32; 0.5 for NaN.

    Large integers are taken less the first boundary, and boundaries that float32 cannot hold are left out. TensorFlow's
    graph multiplies by the reciprocal of their number, so values may differ by 2 units in the last place.

    Raises:
      ValueFaultsError: where two boundaries are further apart than float32 can tell.
    """
    if x.dtype == np.int64:
        first = 0 if max(map(abs, boundaries)) <= MAX_EXACT_WHOLE else whole_bound(boundaries[0])
        x, boundaries = difference(x, np.int64(first)).astype(np.float32), [bound - first for bound in boundaries]
    borders = _float32(boundaries)
    borders = borders[np.isfinite(borders)]
    if not len(borders):
        check_values(np.ones(len(x), np.bool_), "float32 can hold none of the boundaries")
        return x
    buckets = np.searchsorted(borders, x, side="right")
    if len(borders) == 1:
        return (buckets != 0).astype(np.float32)
    shares = _shares(x, buckets, borders)
    check_values(~np.isfinite(shares), "the boundaries around a value are too far apart for float32")
    places = (np.maximum(buckets - 1, 0).astype(np.float32) + shares) / np.float32(len(borders) - 1)
    return np.where(np.isnan(x), np.float32(0.5), places)


def _shares(x: Numbers, buckets: Numbers, borders: Numbers) -> Numbers:
    """Returns how far each number has come in its bucket, 0 to 1; 0 in the first and last, which have no width."""
    below = borders[np.maximum(buckets - 1, 0)]
    with np.errstate(all="ignore"):
        width = borders[np.minimum(buckets, len(borders) - 1)] - below
        inner = np.where(width == 0, np.float32(0.5), (x - below) / width)
    return np.where((buckets == 0) | (buckets == len(borders)), np.float32(0), inner)


def _float32(boundaries: list[float]) -> npt.NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return np.array(boundaries, np.float64).astype(np.float32)
