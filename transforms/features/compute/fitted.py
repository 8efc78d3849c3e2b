"""Operations that are fitted: what they need of the rows of the fit is computed by analyses of tensorflow-transform."""

from typing import Any

from penstock.transforms.features.compute.columns import (
    Column,
    Values,
    flat_values,
    is_present,
    keep_values,
    map_values,
    to_dense,
)
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.compute.numbers import clip

# By how many of the rows a quantile may be off.
_ERROR = 1e-4
# Quantiles to clip by are those of thousandths.
_SHARES = 1000
# Up to which int64 float64 is exact to one, and the greatest float64 that int64 can hold.
_MAX_WHOLE_DOUBLE = float(2**63 - 1024)
# Texts are counted in lines: line breaks are written by two characters each, which keep the order of texts.
_ESCAPES = (("\t", "\ta"), ("\n", "\tb"), ("\f", "\fa"), ("\r", "\fb"))


def quantile_rank(t: Tensorflow, column: Column, num_buckets: int = 100) -> Column:
    """Returns the place of each value among the quantiles, float32, in [0, 1]."""
    return rank_among(t, column, _quantiles(t, column, num_buckets, edges=True), num_buckets)


def rank_among(t: Tensorflow, column: Column, edges: Values, num_buckets: int) -> Column:
    """Returns the same among edges that are known, float64[num_buckets + 1]."""
    tf = t.tf

    def rank(x: Values) -> Values:
        wide = tf.clip_by_value(tf.cast(x, tf.float64), edges[0], edges[-1])
        above = tf.searchsorted(edges, wide, side="right", out_type=tf.int64)
        bucket = tf.clip_by_value(above - 1, 0, num_buckets - 1)
        low, high = tf.gather(edges, bucket), tf.gather(edges, bucket + 1)
        inside = tf.math.divide_no_nan(wide - low, high - low)
        # Behind the last edge all rows are below.
        whole = tf.where(above > num_buckets, tf.ones_like(inside), inside)
        return tf.cast((tf.cast(bucket, tf.float64) + whole) / num_buckets, tf.float32)

    return map_values(t, [column], rank)


def clip_by_quantile(t: Tensorflow, column: Column, lower: float | None = None, upper: float | None = None) -> Column:
    """Returns the value, or the quantile that it exceeds."""
    quantiles = _quantiles(t, column, _SHARES)
    if column.dtype == t.tf.int64:
        quantiles = _whole(t, quantiles)
    low, high = (None if share is None else quantiles[round(share * _SHARES) - 1] for share in (lower, upper))
    return map_values(t, [column], lambda x: clip(t, x, low, high))


def impute_mean(t: Tensorflow, column: Column) -> Column:
    """Returns the value, or the mean of all."""
    if not isinstance(column, t.tf.SparseTensor):
        return column
    mean = _whole_mean(t, column.values) if column.dtype == t.tf.int64 else t.tft.mean(column.values)
    return _filled(t, column, mean)


def _whole_mean(t: Tensorflow, values: Values) -> Values:
    """Returns the nearest whole number to the mean; exact, since halves of the bits are summed up by themselves."""
    tf = t.tf
    count = tf.maximum(tf.cast(t.tft.size(values), tf.int64), 1)
    high, low = t.tft.sum(tf.bitwise.right_shift(values, 32)), t.tft.sum(tf.bitwise.bitwise_and(values, 2**32 - 1))
    rest = (high % count) * 2**32 + low
    mean, left = high // count * 2**32 + rest // count, rest % count
    return mean + tf.cast(2 * left >= count, tf.int64)


def impute_median(t: Tensorflow, column: Column) -> Column:
    """Returns the value, or the median of all."""
    if not isinstance(column, t.tf.SparseTensor):
        return column
    median = _quantiles(t, column, 2)[0]
    return _filled(t, column, _whole(t, median) if column.dtype == t.tf.int64 else t.tf.cast(median, column.dtype))


def impute_most_frequent(t: Tensorflow, column: Column) -> Column:
    """Returns the value, or the most frequent of all."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return column
    whole = column.dtype == tf.int64
    # A vocabulary holds no empty text.
    terms = tf.strings.join(["=", tf.strings.as_string(column.values) if whole else _escaped(t, column.values)])
    line = _first_line(t, t.tft.vocabulary(terms, top_k=1))
    term = tf.strings.substr(line, 1, tf.maximum(tf.strings.length(line) - 1, 0))
    if not whole:
        return _filled(t, column, _unescaped(t, term))
    # A vocabulary of nothing has a line of its own, which is no number.
    is_number = tf.strings.regex_full_match(term, r"-?\d+")
    return _filled(t, column, tf.strings.to_number(tf.where(is_number, term, "0"), tf.int64))


def _first_line(t: Tensorflow, vocabulary: Values) -> Values:
    """Returns the first line of a vocabulary, which is read when the graph is loaded; empty if there is none."""
    from tensorflow_transform import tf_utils

    index = t.tf.lookup.TextFileIndex

    def table(path: Values) -> Any:
        lines = t.tf.lookup.TextFileInitializer(
            path, t.tf.int64, index.LINE_NUMBER, t.tf.string, index.WHOLE_LINE, vocab_size=1
        )
        return t.tf.lookup.StaticHashTable(lines, "")

    line, _ = tf_utils.construct_and_lookup_table(table, vocabulary, t.tf.constant(0, t.tf.int64))
    return line


def _escaped(t: Tensorflow, texts: Values) -> Values:
    for plain, written in _ESCAPES:
        texts = t.tf.strings.regex_replace(texts, plain, written)
    return texts


def _unescaped(t: Tensorflow, texts: Values) -> Values:
    for plain, written in reversed(_ESCAPES):
        texts = t.tf.strings.regex_replace(texts, written, plain)
    return texts


def _filled(t: Tensorflow, column: Column, value: Values) -> Column:
    return fill_fitted(t, column, value, t.tft.size(column.values) > 0)


def fill_fitted(t: Tensorflow, column: Column, value: Values, is_known: Values) -> Column:
    """Fills what is missing; the graph fails there if the fit has seen no value."""
    tf = t.tf
    right = tf.reduce_all(is_present(t, column)) | is_known
    # An assertion would fail while the fit runs: all of a graph's assertions do, before what is fitted is known.
    zero = tf.strings.to_number(tf.where(right, "0", "no row of the fit has a value to fill in"), tf.int32)
    return to_dense(t, column, tf.gather([value], zero))


def _quantiles(t: Tensorflow, column: Column, buckets: int, edges: bool = False) -> Values:
    """Returns the boundaries between buckets of equally many rows, float64; with edges, least and greatest too."""
    import numpy as np
    from tensorflow_transform import analyzer_nodes, analyzers

    length = buckets + 1 if edges else buckets - 1
    combiner = analyzers.QuantilesCombiner(
        buckets, min(_ERROR, 0.1 / buckets), np.float64, output_shape=[1, length], include_max_and_min=edges
    )
    with t.tf.compat.v1.name_scope(None, "quantiles"):  # analyses are called by their scopes
        (node,) = analyzers.apply_cacheable_combine_operation(combiner, flat_values(t, column))
        return t.tf.reshape(analyzer_nodes.wrap_as_tensor(node), [length])


def _whole(t: Tensorflow, numbers: Values) -> Values:
    return t.tf.cast(t.tf.minimum(numbers, t.tf.constant(_MAX_WHOLE_DOUBLE, t.tf.float64)), t.tf.int64)


def tfidf(t: Tensorflow, column: Column, vocab_size: int, smooth: bool = True) -> Column:
    """Returns the weights of the distinct terms of each row."""
    return t.tft.tfidf(_sparse(t, column), vocab_size, smooth)[1]


def tfidf_terms(t: Tensorflow, column: Column, vocab_size: int) -> Column:
    """Returns the distinct terms of each row."""
    return t.tft.tfidf(_sparse(t, column), vocab_size)[0]


def _sparse(t: Tensorflow, column: Column) -> Any:
    if isinstance(column, t.tf.SparseTensor):
        return column
    values = flat_values(t, column)
    return keep_values(t, column, values, t.tf.ones_like(values, t.tf.bool))
