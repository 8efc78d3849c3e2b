"""How TensorFlow computes operations that Arrow has fitted: what `features.json` holds of them are constants.

Each function gets `Tensorflow`, columns (`penstock.transforms.features.compute.columns`), what is fitted, and the
arguments by name. The arithmetic is that of `penstock.transforms.features.arrow.compute`, step by step.
"""

import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from penstock.io.columns.float32 import MAX_EXACT_WHOLE
from penstock.transforms.features.analyses.exact_integers import difference
from penstock.transforms.features.arrow.compute.analysis import Fitted, read_bytes
from penstock.transforms.features.compute.choices import index_in
from penstock.transforms.features.compute.columns import (
    Column,
    Values,
    counts,
    flat_values,
    map_values,
    num_rows,
    rows_of,
)
from penstock.transforms.features.compute.fitted import fill_fitted, rank_among
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.compute.numbers import clip

# As in `penstock.transforms.features.arrow.compute.gaussian`: squares below stay, and steps of Newton's method.
_SMALL, _STEPS = 1e-7, 8


def z_score(t: Tensorflow, column: Column, fitted: Fitted) -> Column:
    """Returns (x - mean) / standard deviation, float32; without a deviation, x - mean."""
    if _is_narrow(t, column, fitted["min"], fitted["max"]):
        mean, variance = (_float32(t, fitted[name]) for name in ("mean", "variance"))
        return map_values(t, [column], lambda x: _scaled(t, x, mean, variance))
    center = t.tf.constant(fitted["center"], t.tf.int64)
    rest, deviation = (_float64(t, fitted[name]) for name in ("rest", "deviation"))
    return map_values(t, [column], lambda x: _exactly_scaled(t, x, center, rest, deviation))


def z_score_per_key(t: Tensorflow, x: Values, key: Values, fitted: Fitted) -> Values:
    """Returns the same with the moments of each value's key; x for a key that the fit did not see."""
    places = _places(t, key, fitted)
    if _is_narrow(t, x, min(fitted["min"], default=0), max(fitted["max"], default=0)):
        mean, variance = (_float32(t, _gathered(t, fitted[name], places)) for name in ("mean", "variance"))
        return _scaled(t, x, mean, variance)
    center = _gathered(t, fitted["center"], places, t.tf.int64)
    rest, deviation = (_gathered(t, fitted[name], places) for name in ("rest", "deviation"))
    return _exactly_scaled(t, x, center, rest, deviation)


def min_max(t: Tensorflow, column: Column, fitted: Fitted, output_min: float = 0, output_max: float = 1) -> Column:
    """Scales into a range, float32; the sigmoid of a number stands for its share where all numbers are one."""
    low, high, kind = fitted["min"], fitted["max"], _kind(t, column)
    is_narrow = _is_narrow(t, column, low, high)
    bounds = t.tf.constant(low, kind), t.tf.constant(high, kind)
    return map_values(t, [column], lambda x: _shared(t, x, *bounds, is_narrow, output_min, output_max))


def min_max_per_key(
    t: Tensorflow, x: Values, key: Values, fitted: Fitted, output_min: float = 0, output_max: float = 1
) -> Values:
    """Returns the same with the bounds of each value's key; of a key that the fit did not see, both are 0."""
    places, kind = _places(t, key, fitted), _kind(t, x)
    is_narrow = _is_narrow(t, x, min(fitted["min"], default=0), max(fitted["max"], default=0))
    low, high = (_gathered(t, fitted[name], places, kind) for name in ("min", "max"))
    return _shared(t, x, low, high, is_narrow, output_min, output_max)


def bucketize(t: Tensorflow, column: Column, fitted: Fitted, num_buckets: int) -> Column:
    """Returns the number of the bucket of each number, int64; NaN is in the last one."""
    tf, boundaries = t.tf, fitted["boundaries"]
    if not boundaries:
        return map_values(t, [column], lambda x: tf.zeros_like(x, tf.int64))
    edges = tf.constant(boundaries, column.dtype)
    return map_values(t, [column], lambda x: tf.searchsorted(edges, x, side="right", out_type=tf.int64))


def bucketize_per_key(t: Tensorflow, x: Values, key: Values, fitted: Fitted, num_buckets: int) -> Values:
    """Returns the same with the boundaries of each value's key; -1 for a key that the fit did not see."""
    tf, places, keys = t.tf, _places(t, key, fitted), len(fitted["keys"])
    table = tf.reshape(tf.constant([*fitted["boundaries"], [0] * (num_buckets - 1)], x.dtype), [keys + 1, -1])
    # TensorFlow makes x >= y of "not x < y", which is another thing where x is NaN.
    reached = (x[:, tf.newaxis] >= tf.gather(table, places)) | (x != x)[:, tf.newaxis]
    buckets = tf.reduce_sum(tf.cast(reached, tf.int64), axis=1)
    return tf.where(places < keys, buckets, tf.constant(-1, tf.int64))


def quantile_rank(t: Tensorflow, column: Column, fitted: Fitted, num_buckets: int = 100) -> Column:
    """Returns the place of each number among the quantiles, float32, in [0, 1]."""
    return rank_among(t, column, _float64(t, fitted["edges"]), num_buckets)


def clip_by_quantile(
    t: Tensorflow, column: Column, fitted: Fitted, lower: float | None = None, upper: float | None = None
) -> Column:
    """Returns the number, or the quantile that it exceeds."""
    return map_values(t, [column], lambda x: clip(t, x, fitted.get("lower"), fitted.get("upper")))


def impute(t: Tensorflow, column: Column, fitted: Fitted) -> Column:
    """Returns the value, or the fitted one; the graph fails where one is missing, and the fit has seen none."""
    if not isinstance(column, t.tf.SparseTensor):
        return column
    value = read_bytes([fitted["value"]])[0] if isinstance(fitted["value"], str) else fitted["value"]
    return fill_fitted(t, column, t.tf.constant(value, column.dtype), t.tf.constant(fitted["count"] > 0))


def scale_to_gaussian(t: Tensorflow, column: Column, fitted: Fitted) -> Column:
    """Returns u of each number, float32; (x - mean) / standard deviation where no tail is heavy."""
    tf, tails = t.tf, (fitted["left"], fitted["right"])
    if not any(tails):
        return z_score(t, column, fitted)
    scale = _float64(t, fitted["scale"])
    if _is_narrow(t, column, fitted["min"], fitted["max"]):
        location, unit = _float32(t, fitted["mean"] + fitted["shift"]), tf.cast(scale, tf.float32)
        return map_values(
            t, [column], lambda x: _without_tails(t, _divided(t, tf.cast(x, tf.float32) - location, unit), *tails)
        )
    center, rest = tf.constant(fitted["center"], tf.int64), _float64(t, fitted["rest"] + fitted["shift"])
    return map_values(t, [column], lambda x: _without_tails(t, _exactly_scaled(t, x, center, rest, scale), *tails))


def _without_tails(t: Tensorflow, scaled: Values, left: float, right: float) -> Values:
    tf, numbers = t.tf, t.tf.cast(scaled, t.tf.float64)
    h = tf.where(numbers < 0, _float64(t, left), _float64(t, right))
    squares = h * numbers * numbers
    heavy = (h > 0) & (squares >= _SMALL) & tf.math.is_finite(squares)
    wanted = tf.where(heavy, squares, tf.ones_like(squares))
    # Lambert's W, by Newton's method: the root of w * exp(w) = the square.
    w = tf.math.log1p(wanted)
    for _ in range(_STEPS):
        w = w * (1 + tf.math.log(wanted / w)) / (1 + w)
    found = tf.sign(numbers) * tf.sqrt(w / tf.where(heavy, h, tf.ones_like(h)))
    return tf.where(heavy, tf.cast(found, tf.float32), scaled)


def tfidf(t: Tensorflow, column: Column, fitted: Fitted, vocab_size: int, smooth: bool = True) -> Column:
    """Returns for each distinct term its share in the row, times 1 + log(rows / rows with the term), float32."""
    tf, one = t.tf, np.float32(smooth)
    documents = np.append(np.array(fitted["documents"], np.float32), np.float32(0))
    with np.errstate(divide="ignore"):
        inverse = np.log((np.float32(fitted["rows"]) + one) / (one + documents)) + np.float32(1)
    rows, terms, found = _distinct(t, column, vocab_size)
    weights = tf.gather(tf.constant(inverse, tf.float32), tf.minimum(terms, len(documents) - 1))
    lengths = tf.gather(counts(t, column), rows)
    shares = tf.cast(tf.cast(found, tf.float64) / tf.cast(lengths, tf.float64), tf.float32)
    return _lists_of(t, column, rows, shares * weights)


def tfidf_terms(t: Tensorflow, column: Column, fitted: Fitted, vocab_size: int) -> Column:
    """Returns the distinct terms of each row, in order."""
    rows, terms, _ = _distinct(t, column, vocab_size)
    return _lists_of(t, column, rows, terms)


def _distinct(t: Tensorflow, column: Column, vocab_size: int) -> tuple[Values, Values, Values]:
    """Returns the rows of distinct terms of rows, in order, the terms, and how often each is there."""
    tf, size = t.tf, t.tf.constant(vocab_size, t.tf.int64)
    keys = rows_of(t, column) * size + tf.math.floormod(flat_values(t, column), size)
    pairs, _, found = tf.unique_with_counts(tf.sort(keys), out_idx=tf.int64)
    return tf.math.floordiv(pairs, size), tf.math.floormod(pairs, size), found


def _lists_of(t: Tensorflow, column: Column, rows: Values, values: Values) -> Column:
    """Returns lists of values, as many rows as a column has; `rows` are those of the values, in order."""
    tf = t.tf
    width = tf.reduce_max(tf.concat([counts(t, column), tf.zeros([1], tf.int64)], axis=0))
    indices = tf.stack([rows, t.tft.segment_indices(rows)], axis=1)
    return tf.SparseTensor(indices, values, tf.stack([num_rows(t, column), width]))


CALLS: Mapping[str, Callable[..., Column]] = types.MappingProxyType(
    {
        "scale_to_0_1": min_max,
        "scale_by_min_max": min_max,
        "scale_to_z_score": z_score,
        "scale_to_0_1_per_key": min_max_per_key,
        "scale_by_min_max_per_key": min_max_per_key,
        "scale_to_z_score_per_key": z_score_per_key,
        "bucketize": bucketize,
        "bucketize_per_key": bucketize_per_key,
        "quantile_rank": quantile_rank,
        "clip_by_quantile": clip_by_quantile,
        "impute_mean": impute,
        "impute_median": impute,
        "impute_most_frequent": impute,
        "scale_to_gaussian": scale_to_gaussian,
        "tfidf": tfidf,
        "tfidf_terms": tfidf_terms,
    }
)


def _kind(t: Tensorflow, x: Column) -> Any:
    """The type in which bounds of numbers are held."""
    return t.tf.int64 if x.dtype == t.tf.int64 else t.tf.float64


def _is_narrow(t: Tensorflow, x: Column, least: Any, greatest: Any) -> bool:
    """Whether the numbers are taken as float32: all but integers beyond 2^24."""
    return x.dtype != t.tf.int64 or (least >= -MAX_EXACT_WHOLE and greatest <= MAX_EXACT_WHOLE)


def _places(t: Tensorflow, key: Values, fitted: Fitted) -> Values:
    """Returns the place of each key among those of the fit; their number for one that the fit did not see."""
    tf, keys = t.tf, read_bytes(fitted["keys"])
    found = index_in(t, key, keys) if keys else tf.zeros_like(key, tf.int64) - 1
    return tf.where(found < 0, tf.constant(len(keys), tf.int64), found)


def _gathered(t: Tensorflow, numbers: list[Any], places: Values, kind: Any = None) -> Values:
    """Returns the number of each place; 0 behind the last one."""
    return t.tf.gather(t.tf.constant([*numbers, 0], kind or t.tf.float64), places)


def _float64(t: Tensorflow, numbers: Any) -> Values:
    return t.tf.constant(numbers, t.tf.float64)


def _float32(t: Tensorflow, numbers: Any) -> Values:
    """Returns doubles as float32; what is beyond it becomes infinite."""
    return t.tf.cast(t.tf.cast(numbers, t.tf.float64), t.tf.float32)


def _divided(t: Tensorflow, x: Values, divisor: Values) -> Values:
    """Returns a quotient; TensorFlow would multiply by the reciprocal of a constant, which gives another last bit."""
    return x / t.tf.broadcast_to(divisor, t.tf.shape(x))


def _scaled(t: Tensorflow, x: Values, mean: Values, variance: Values) -> Values:
    tf = t.tf
    centred, deviation = tf.cast(x, tf.float32) - mean, tf.sqrt(variance)
    return tf.where(deviation != 0, _divided(t, centred, deviation), centred)


def _exactly_scaled(t: Tensorflow, x: Values, center: Values, rest: Values, deviation: Values) -> Values:
    centred = difference(t, x, center) - rest
    return t.tf.cast(_divided(t, centred, _or_one(t, deviation)), t.tf.float32)


def _shared(
    t: Tensorflow, x: Values, low: Values, high: Values, is_narrow: bool, output_min: float, output_max: float
) -> Values:
    tf = t.tf
    sigmoid = tf.sigmoid(tf.cast(x, tf.float64))
    if not is_narrow:
        share = _divided(t, difference(t, x, low), _or_one(t, difference(t, high, low)))
        share = tf.where(low < high, share, sigmoid)
        return tf.cast(share * (output_max - output_min) + output_min, tf.float32)
    low, high, x = (tf.cast(numbers, tf.float32) for numbers in (low, high, x))
    share = tf.where(low < high, _divided(t, x - low, high - low), tf.cast(sigmoid, tf.float32))
    return share * tf.constant(output_max - output_min, tf.float32) + tf.constant(output_min, tf.float32)


def _or_one(t: Tensorflow, divisor: Values) -> Values:
    return t.tf.where(divisor > 0, divisor, t.tf.ones_like(divisor))
