"""Operations on flat tensors of numbers."""

from collections.abc import Callable
from typing import Any

from penstock.transforms.features.compute.columns import Values, checked
from penstock.transforms.features.compute.modules import Tensorflow

# TensorFlow computes log, exp and sqrt in vector registers, and the remainder one by one, with a different last bit.
# Values appended behind the real ones keep the real ones in the registers, whatever the size of the batch.
_PADDING = 64

# How far the result of integers lies from that in float64, at least, if it has wrapped around: it is 2 ** 64, less what
# float64 rounds.
_WRAPPED = 2.0**62


def math(function: str, integer: bool = False) -> Callable[..., Values]:
    """Makes a function of `tf.math` on one value, or on two; the second may be an argument instead.

    With `integer`, booleans become 0 and 1.
    """

    def call(t: Tensorflow, x: Values, y: Values = None, value: Any = None) -> Values:
        second = t.tf.constant(value, x.dtype) if y is None and value is not None else y
        result = getattr(t.tf.math, function)(*([x] if second is None else [x, second]))
        return t.tf.cast(result, t.tf.int64) if integer else result

    return call


def whole(function: str) -> Callable[..., Values]:
    """Makes a function as `math` does, but the graph fails where int64 cannot hold the result of integers."""
    plain = math(function)

    def call(t: Tensorflow, x: Values, y: Values = None, value: Any = None) -> Values:
        result = plain(t, x, y, value)
        if x.dtype != t.tf.int64:
            return result
        real = [None if each is None else t.tf.cast(each, t.tf.float64) for each in (x, y)]
        return check_whole(t, result, plain(t, *real, value))

    return call


def check_whole(t: Tensorflow, result: Values, real: Values) -> Values:
    """Returns results of integers, computed in float64 too; the graph fails where int64 cannot hold one."""
    within = t.tf.reduce_all(t.tf.abs(real - t.tf.cast(result, t.tf.float64)) <= _WRAPPED)
    return checked(t, within, "the result of INTs is beyond int64", result)


def curve(function: str) -> Callable[..., Values]:
    """Makes a transcendental function of `tf.math` on float32 whose result does not depend on the number of values."""

    def call(t: Tensorflow, x: Values) -> Values:
        return _padded(t, x, getattr(t.tf.math, function))

    return call


def _padded(t: Tensorflow, x: Values, function: Callable[[Values], Values]) -> Values:
    tf = t.tf
    padded = tf.concat([tf.cast(x, tf.float32), tf.ones([_PADDING], tf.float32)], axis=0)
    return function(padded)[: tf.shape(x)[0]]


def power(t: Tensorflow, x: Values, exponent: float) -> Values:
    """Returns float32, of which no value depends on the number of values."""
    return _padded(t, x, lambda base: t.tf.math.pow(base, t.tf.constant(exponent, t.tf.float32)))


def trunc(t: Tensorflow, x: Values) -> Values:
    """Returns the number without its fraction."""
    return t.tf.where(x < 0, t.tf.math.ceil(x), t.tf.math.floor(x))


def divide(t: Tensorflow, x: Values, y: Values = None, value: Any = None) -> Values:
    """Returns the quotient, as float32; integers are divided as float64."""
    second = t.tf.constant(value, x.dtype) if y is None else y
    return t.tf.cast(t.tf.math.divide(x, second), t.tf.float32)


def clip(t: Tensorflow, x: Values, min: Any = None, max: Any = None) -> Values:
    """Returns the value, or the bound that it exceeds."""
    raised = x if min is None else t.tf.math.maximum(x, t.tf.cast(min, x.dtype))
    return raised if max is None else t.tf.math.minimum(raised, t.tf.cast(max, x.dtype))


def cast(t: Tensorflow, x: Values, to: str) -> Values:
    """Returns the number as int64 (cut towards 0) or float32; the graph fails where int64 cannot hold it."""
    if to == "int" and x.dtype != t.tf.int64:
        within = t.tf.reduce_all((x >= -(2.0**63)) & (x < 2.0**63))
        x = checked(t, within, "a FLOAT is NaN or beyond int64", x)
    return t.tf.cast(x, t.tf.int64 if to == "int" else t.tf.float32)


def logical_and(t: Tensorflow, *inputs: Values) -> Values:
    """Returns 1 where no input is 0."""
    return t.tf.cast(t.tf.reduce_all(t.tf.stack(inputs) != 0, axis=0), t.tf.int64)


def logical_or(t: Tensorflow, *inputs: Values) -> Values:
    """Returns 1 where an input is not 0."""
    return t.tf.cast(t.tf.reduce_any(t.tf.stack(inputs) != 0, axis=0), t.tf.int64)


def logical_not(t: Tensorflow, x: Values) -> Values:
    """Returns 1 where the value is 0."""
    return t.tf.cast(x == 0, t.tf.int64)
