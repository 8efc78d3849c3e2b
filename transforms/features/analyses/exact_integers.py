"""Scales and buckets integers that float32 cannot hold, such as seconds since 1970.

tensorflow-transform casts integers to float32 first: of the seconds of a day around now, which are 86,400, 675 stay
apart. Here they are centred as int64, and only the result is narrowed. If all values of the fit are within 2^24, either
way, which float32 holds exactly, the graph computes what tensorflow-transform does, to the bit.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from penstock.io.columns.float32 import MAX_EXACT_WHOLE
from penstock.transforms.features.analyses.integer_statistics import (
    MAX_WHOLE_DOUBLE,
    MomentsCombiner,
    QuantilesCombiner,
    quantiles_error,
)

# TensorFlow has no type annotations; `Tensorflow` holds its modules.
Tensorflow = Any
Column = Any
Values = Any

_HALF_BITS = 32


class _Moments(NamedTuple):
    """Statistics of integers, each a scalar or one for each value: low, high, center int64; rest, deviation float64."""

    low: Values
    high: Values
    center: Values
    rest: Values
    deviation: Values


def scale_to_z_score(t: Tensorflow, column: Column) -> Column:
    """Returns (x - mean) / standard deviation, as float32."""
    usual, values, (moments, small) = t.tft.scale_to_z_score(column), _values(t, column), _moments(t, column)
    chosen = t.tf.cond(small, lambda: _values(t, usual), lambda: _z_score(t, values, moments))
    return _with_values(t, column, chosen)


def scale_to_z_score_per_key(t: Tensorflow, values: Values, key: Values) -> Values:
    """Returns the same for each value of a dense key."""
    usual, (find, small) = t.tft.scale_to_z_score_per_key(values, key), _keyed_moments(t, values, key)
    return t.tf.cond(small, lambda: usual, lambda: _z_score(t, values, find()))


def scale_by_min_max(t: Tensorflow, column: Column, output_min: float = 0, output_max: float = 1) -> Column:
    """Scales into a range, as float32."""
    usual, values = t.tft.scale_by_min_max(column, output_min, output_max), _values(t, column)
    moments, small = _moments(t, column)
    exact = _min_max(t, values, moments, output_min, output_max)
    return _with_values(t, column, t.tf.cond(small, lambda: _values(t, usual), exact))


def scale_by_min_max_per_key(
    t: Tensorflow, values: Values, key: Values, output_min: float = 0, output_max: float = 1
) -> Values:
    """Returns the same for each value of a dense key."""
    usual = t.tft.scale_by_min_max_per_key(values, key, output_min, output_max)
    find, small = _keyed_moments(t, values, key)
    return t.tf.cond(small, lambda: usual, lambda: _min_max(t, values, find(), output_min, output_max)())


scale_to_0_1 = scale_by_min_max
scale_to_0_1_per_key = scale_by_min_max_per_key


def bucketize(t: Tensorflow, column: Column, num_buckets: int) -> Column:
    """Returns int64 buckets, as `tft.bucketize` does; boundaries are exact to 2^53, and compared as integers."""
    import numpy as np
    from tensorflow_transform import analyzers

    combiner = analyzers.QuantilesCombiner(
        num_buckets, quantiles_error(num_buckets), np.float64, output_shape=[1, num_buckets - 1]
    )
    (boundaries,) = _analyze(t, combiner, _values(t, column))
    whole = t.tf.cast(t.tf.minimum(boundaries, t.tf.constant(MAX_WHOLE_DOUBLE, t.tf.float64)), t.tf.int64)
    return t.tft.apply_buckets(column, whole)


def bucketize_per_key(t: Tensorflow, values: Values, key: Values, num_buckets: int) -> Values:
    """Returns the same for each value of a dense key; -1 for a key that the fit did not see."""
    tf, usual = t.tf, t.tft.bucketize_per_key(values, key, num_buckets)
    keys, edges = _analyze(t, QuantilesCombiner(num_buckets), *_grouped(t, values, key))

    def exact() -> Values:
        position = _positions(t, key, keys)
        boundaries = tf.gather(edges[:, 1:-1], tf.maximum(position, 0))
        buckets = tf.reduce_sum(tf.cast(values[:, tf.newaxis] >= boundaries, tf.int64), axis=1)
        return tf.where(position < 0, tf.constant(-1, tf.int64), buckets)

    return tf.cond(_is_small(t, edges[:, 0], edges[:, -1]), lambda: usual, exact)


def scale_to_gaussian(t: Tensorflow, column: Column) -> Column:
    """Returns what `tft.scale_to_gaussian` gives for the column less its mean, which changes only the rounding."""
    tf, values = t.tf, _values(t, column)
    moments, small = _moments(t, column)
    center = tf.where(small, tf.zeros_like(moments.center), moments.center)
    return t.tft.scale_to_gaussian(_with_values(t, column, tf.cast(difference(t, values, center), tf.float32)))


def apply_buckets(t: Tensorflow, column: Column, boundaries: list[float]) -> Column:
    """Returns what `tft.apply_buckets` does, with whole boundaries that are compared as integers."""
    return t.tft.apply_buckets(column, t.tf.constant([list(map(whole_bound, boundaries))], t.tf.int64))


def whole_bound(bound: float) -> int:
    """Returns the integer that is reached when the bound is."""
    return math.ceil(max(-(2**63), min(bound, 2**63 - 1)))


def apply_buckets_with_interpolation(t: Tensorflow, column: Column, boundaries: list[float]) -> Column:
    """Returns what `tft.apply_buckets_with_interpolation` gives; large integers are taken less the first boundary."""
    tf = t.tf
    first = 0 if max(map(abs, boundaries)) <= MAX_EXACT_WHOLE else whole_bound(boundaries[0])
    moved = tf.cast(difference(t, _values(t, column), tf.constant(first, tf.int64)), tf.float32)
    bounds = tf.constant([[bound - first for bound in boundaries]], tf.float32)
    return t.tft.apply_buckets_with_interpolation(_with_values(t, column, moved), bounds)


def _z_score(t: Tensorflow, values: Values, moments: _Moments) -> Values:
    """As in tensorflow-transform, values without a deviation are centred only."""
    centred = difference(t, values, moments.center) - moments.rest
    return t.tf.cast(centred / _or_one(t, moments.deviation), t.tf.float32)


def _min_max(
    t: Tensorflow, values: Values, moments: _Moments, output_min: float, output_max: float
) -> Callable[[], Values]:
    """As in tensorflow-transform, the sigmoid of a value stands for its share where all values are one."""

    def exact() -> Values:
        tf = t.tf
        width = difference(t, moments.high, moments.low)
        share = difference(t, values, moments.low) / _or_one(t, width)
        share = tf.where(moments.low < moments.high, share, tf.sigmoid(tf.cast(values, tf.float64)))
        return tf.cast(share * (output_max - output_min) + output_min, tf.float32)

    return exact


def _or_one(t: Tensorflow, divisor: Values) -> Values:
    return t.tf.where(divisor > 0, divisor, t.tf.ones_like(divisor))


def difference(t: Tensorflow, x: Values, y: Values) -> Values:
    """Returns x - y of int64 as float64, rounded once: the halves are subtracted apart, so that nothing overflows."""
    tf, bits = t.tf, t.tf.constant(_HALF_BITS, t.tf.int64)
    mask = tf.constant((1 << _HALF_BITS) - 1, tf.int64)
    high = tf.bitwise.right_shift(x, bits) - tf.bitwise.right_shift(y, bits)
    low = tf.bitwise.bitwise_and(x, mask) - tf.bitwise.bitwise_and(y, mask)
    return tf.cast(high, tf.float64) * float(1 << _HALF_BITS) + tf.cast(low, tf.float64)


def _moments(t: Tensorflow, column: Column) -> tuple[_Moments, Any]:
    """Analyzes the moments of a column; also returns whether float32 holds all of its values."""
    tf = t.tf
    _, whole, parts = _analyze(t, MomentsCombiner(), _values(t, column))
    # There is one row, or none without values: sums take either.
    low, high = tf.reduce_min(whole[:, 0]), tf.reduce_max(whole[:, 1])
    center, rest, deviation = (tf.reduce_sum(part) for part in (whole[:, 2], parts[:, 0], parts[:, 1]))
    return _Moments(low, high, center, rest, deviation), _is_small(t, whole[:, 0], whole[:, 1])


def _keyed_moments(t: Tensorflow, values: Values, key: Values) -> tuple[Callable[[], _Moments], Any]:
    """Analyzes moments by key; returns what finds those of each value, 0 for an unknown key, and as `_moments` does."""
    tf = t.tf
    keys, whole, parts = _analyze(t, MomentsCombiner(), *_grouped(t, values, key))

    def find() -> _Moments:
        position = _positions(t, key, keys)
        known, rows = position[:, tf.newaxis] >= 0, tf.maximum(position, 0)
        found = [tf.where(known, tf.gather(table, rows), tf.zeros([], table.dtype)) for table in (whole, parts)]
        return _Moments(*tf.unstack(found[0], 3, axis=1), *tf.unstack(found[1], 2, axis=1))

    return find, _is_small(t, whole[:, 0], whole[:, 1])


def _is_small(t: Tensorflow, low: Values, high: Values) -> Any:
    """Returns whether float32 holds all integers between these; true without any."""
    tf = t.tf
    return tf.reduce_all(low >= -MAX_EXACT_WHOLE) & tf.reduce_all(high <= MAX_EXACT_WHOLE)


def _grouped(t: Tensorflow, values: Values, key: Values) -> tuple[Values, Values, Values]:
    unique = t.tf.unique(key, out_idx=t.tf.int64)
    return unique.y, unique.idx, values


def _positions(t: Tensorflow, key: Values, keys: Values) -> Values:
    """Returns the position of each key among all; -1 if it is not there."""
    from tensorflow_transform import tf_utils

    return tf_utils.lookup_key(key, keys)


def _analyze(t: Tensorflow, combiner: Any, *inputs: Values) -> tuple[Values, ...]:
    """Returns what a combiner makes of the values of all rows, as tensors."""
    from tensorflow_transform import analyzer_nodes, analyzers

    with t.tf.compat.v1.name_scope(None, "exact_integers"):  # analyses are called by their scopes
        nodes = analyzers.apply_cacheable_combine_operation(combiner, *inputs)
        return tuple(map(analyzer_nodes.wrap_as_tensor, nodes))


def _values(t: Tensorflow, column: Column) -> Values:
    return column.values if isinstance(column, t.tf.SparseTensor) else column


def _with_values(t: Tensorflow, column: Column, values: Values) -> Column:
    return column.with_values(values) if isinstance(column, t.tf.SparseTensor) else values
