"""Builds the operations of a features file in a TensorFlow graph.

A *column* is a dense tensor of shape [batch], in which every row has a value, or a `SparseTensor` of shape [batch, n],
in which a row may have none or several. Every function takes `Tensorflow` first, so this module can be imported
without it.
"""

from collections.abc import Callable
from typing import Any

from penstock.transforms.features.analyses import exact_integers
from penstock.transforms.features.tensorflow import Tensorflow

# TensorFlow has no type annotations.
Column = Any
Values = Any

# TensorFlow computes log, exp and sqrt in vector registers, and the remainder one by one, with a different last bit.
# Values appended behind the real ones keep the real ones in the registers, whatever the size of the batch.
_PADDING = 64


def map_values(t: Tensorflow, columns: list[Column], function: Callable[..., Values]) -> Column:
    """Applies a function of flat values to the rows of columns; of several columns, to rows where none is missing."""
    if len(columns) > 1:
        return _map_rows(t, columns, function)
    (column,) = columns
    if isinstance(column, t.tf.SparseTensor):
        return column.with_values(function(column.values))
    return function(column)


def _map_rows(t: Tensorflow, columns: list[Column], function: Callable[..., Values]) -> Column:
    tf = t.tf
    sparse = [column for column in columns if isinstance(column, tf.SparseTensor)]
    if not sparse:
        return function(*columns)
    rows = tf.where(tf.reduce_all(tf.stack([_is_present(t, column) for column in sparse]), axis=0))
    dense = [
        _to_dense(t, column, b"" if column.dtype == tf.string else 0) if isinstance(column, tf.SparseTensor) else column
        for column in columns
    ]
    values = function(*(tf.gather_nd(column, rows) for column in dense))
    return tf.SparseTensor(tf.concat([rows, tf.zeros_like(rows)], axis=1), values, _shape(t, sparse[0], 1))


def fill_missing(t: Tensorflow, column: Column, default: int | float | bytes, single: bool) -> Column:
    """Puts `default` where a row has no value; the result is dense if the column is single-valued."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return column
    if single:
        return _to_dense(t, column, default)
    # A batch in which every row is empty has width 0, with no room for the default.
    width = tf.maximum(column.dense_shape[1], 1)
    widened = tf.SparseTensor(column.indices, column.values, _shape(t, column, width))
    filled, _ = tf.sparse.fill_empty_rows(widened, tf.constant(default, column.dtype))
    return filled


def _to_dense(t: Tensorflow, column: Column, default: int | float | bytes) -> Any:
    """Returns a dense [batch]; the graph fails on a row with more than one value."""
    dense = t.tf.raw_ops.SparseToDense(
        sparse_indices=column.indices,
        output_shape=_shape(t, column, 1),
        sparse_values=column.values,
        default_value=t.tf.constant(default, column.dtype),
    )
    return t.tf.reshape(dense, [-1])


def _shape(t: Tensorflow, column: Column, width: Any) -> Any:
    return t.tf.stack([column.dense_shape[0], t.tf.cast(width, t.tf.int64)])


def _is_present(t: Tensorflow, column: Column) -> Any:
    """Returns bool[batch]: whether the row of a SparseTensor has a value."""
    rows = column.indices[:, 0]
    return t.tf.math.unsorted_segment_sum(t.tf.ones_like(rows), rows, column.dense_shape[0]) > 0


def is_missing(t: Tensorflow, column: Column) -> Any:
    """Returns int64[batch]: 1 where the row has no value."""
    if not isinstance(column, t.tf.SparseTensor):
        return t.tf.zeros_like(column, t.tf.int64)
    return 1 - t.tf.cast(_is_present(t, column), t.tf.int64)


def split(t: Tensorflow, column: Column, separator: str | None = None) -> Column:
    """Splits each text into pieces, a SparseTensor; without a separator, at runs of white space."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return tf.strings.split(column, separator).to_sparse()
    pieces = tf.strings.split(column.values, separator).to_sparse()
    rows = tf.gather(column.indices[:, 0], pieces.indices[:, 0])
    indices = tf.stack([rows, pieces.indices[:, 1]], axis=1)
    return tf.SparseTensor(indices, pieces.values, _shape(t, column, pieces.dense_shape[1]))


def math(function: str, integer: bool = False) -> Callable[..., Values]:
    """Makes a function of `tf.math` on one value, or on two; the second may be an argument instead.

    With `integer`, booleans become 0 and 1.
    """

    def call(t: Tensorflow, x: Values, y: Values = None, value: Any = None) -> Values:
        second = t.tf.constant(value, x.dtype) if y is None and value is not None else y
        result = getattr(t.tf.math, function)(*([x] if second is None else [x, second]))
        return t.tf.cast(result, t.tf.int64) if integer else result

    return call


def curve(function: str) -> Callable[..., Values]:
    """Makes a transcendental function of `tf.math` on float32 whose result does not depend on the number of values."""

    def call(t: Tensorflow, x: Values) -> Values:
        tf = t.tf
        padded = tf.concat([tf.cast(x, tf.float32), tf.ones([_PADDING], tf.float32)], axis=0)
        return getattr(tf.math, function)(padded)[: tf.shape(x)[0]]

    return call


def divide(t: Tensorflow, x: Values, y: Values = None, value: Any = None) -> Values:
    """Returns the quotient, as float32; integers are divided as float64."""
    second = t.tf.constant(value, x.dtype) if y is None else y
    return t.tf.cast(t.tf.math.divide(x, second), t.tf.float32)


def clip(t: Tensorflow, x: Values, min: Any = None, max: Any = None) -> Values:
    """Returns the value, or the bound that it exceeds."""
    raised = x if min is None else t.tf.math.maximum(x, t.tf.constant(min, x.dtype))
    return raised if max is None else t.tf.math.minimum(raised, t.tf.constant(max, x.dtype))


def cast(t: Tensorflow, x: Values, to: str) -> Values:
    """Returns the number as int64 (cut towards 0) or float32."""
    return t.tf.cast(x, t.tf.int64 if to == "int" else t.tf.float32)


def to_number(t: Tensorflow, x: Values, to: str = "float") -> Values:
    """Parses the number that a text spells; the graph fails on any other text."""
    return t.tf.strings.to_number(x, t.tf.int64 if to == "int" else t.tf.float32)


def text(function: str, **fixed: Any) -> Callable[..., Values]:
    """Makes a function of `tf.strings`."""

    def call(t: Tensorflow, x: Values, **arguments: Any) -> Values:
        return getattr(t.tf.strings, function)(x, **fixed, **arguments)

    return call


def length(t: Tensorflow, x: Values) -> Values:
    """Counts the characters of a UTF-8 text; bytes that are not UTF-8 count one each."""
    return t.tf.cast(t.tf.strings.length(x, unit="UTF8_CHAR"), t.tf.int64)


def join(t: Tensorflow, *texts: Values, separator: str = "") -> Values:
    """Joins the texts."""
    return t.tf.strings.join(list(texts), separator)


def mapper(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform, unchanged."""

    def call(t: Tensorflow, *columns: Column, **arguments: Any) -> Column:
        return getattr(t.tft, function)(*columns, **arguments)

    return call


def exact(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform; of integers, it is what `exact_integers` says."""

    def call(t: Tensorflow, *columns: Column, **arguments: Any) -> Column:
        if columns[0].dtype != t.tf.int64:
            return getattr(t.tft, function)(*columns, **arguments)
        return getattr(exact_integers, function)(t, *columns, **arguments)

    return call


def buckets(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform that takes boundaries."""

    def call(t: Tensorflow, column: Column, boundaries: list[float]) -> Column:
        if column.dtype == t.tf.int64:
            return getattr(exact_integers, function)(t, column, boundaries)
        return getattr(t.tft, function)(column, t.tf.constant([boundaries], t.tf.float32))

    return call


def ngrams(function: str) -> Callable[..., Column]:
    """Makes an operation of a mapper of tensorflow-transform that makes n-grams of tokens."""

    def call(t: Tensorflow, column: Column, ngram_range: list[int], separator: str = " ") -> Column:
        return getattr(t.tft, function)(column, tuple(ngram_range), separator)

    return call
