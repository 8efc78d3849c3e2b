"""Columns of a graph, and how functions of flat values are applied to them.

A *column* is a dense tensor of shape [batch] or [batch, n], in which every row has one value, or n; or a `SparseTensor`
of shape [batch, n], in which a row may have none or several, which lie at its left.
"""

from collections.abc import Callable, Sequence
from typing import Any

from penstock.transforms.features.compute.modules import Tensorflow

# TensorFlow has no type annotations.
Column = Any
Values = Any


def map_values(t: Tensorflow, columns: Sequence[Column], function: Callable[..., Values]) -> Column:
    """Applies a function of flat values to the rows of columns; of several columns, to rows where none is missing."""
    if len(columns) > 1:
        return _map_rows(t, columns, function)
    (column,) = columns
    if isinstance(column, t.tf.SparseTensor):
        return column.with_values(function(column.values))
    if column.shape.rank == 1:
        return function(column)
    return t.tf.reshape(function(t.tf.reshape(column, [-1])), [-1, column.shape[1]])


def _map_rows(t: Tensorflow, columns: Sequence[Column], function: Callable[..., Values]) -> Column:
    tf = t.tf
    sparse = [column for column in columns if isinstance(column, tf.SparseTensor)]
    if not sparse:
        return function(*columns)
    rows = tf.where(all_present(t, sparse))
    values = function(*(tf.gather_nd(to_dense(t, column), rows) for column in columns))
    return single_values(t, rows, values, sparse[0])


def map_items(
    t: Tensorflow, columns: Sequence[Column], singles: Sequence[bool], length: int, function: Callable[..., Values]
) -> Column:
    """Applies a function of flat values to lists of one fixed length, item by item, single values to each item."""
    tf = t.tf
    sparse = [column for column in columns if isinstance(column, tf.SparseTensor)]
    rows = tf.where(all_present(t, sparse)) if sparse else None
    parts = []
    for column, single in zip(columns, singles, strict=True):
        matrix = to_dense(t, column)[:, tf.newaxis] if single else _to_matrix(t, column, length)
        taken = matrix if rows is None else tf.gather(matrix, rows[:, 0])
        parts.append(tf.reshape(tf.repeat(taken, length, axis=1) if single else taken, [-1]))
    matrix = tf.reshape(function(*parts), [-1, length])
    return matrix if rows is None else lists_at(t, rows[:, 0], matrix, sparse[0])


def _to_matrix(t: Tensorflow, column: Column, length: int) -> Values:
    """Returns a dense [batch, length], with zeros for rows without values; the graph fails on other lengths."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return column
    count = counts(t, column)
    right = (count == 0) | (count == length)
    dense = tf.raw_ops.SparseToDense(
        sparse_indices=column.indices,
        output_shape=_shape(t, column, length),
        sparse_values=checked(t, tf.reduce_all(right), f"a list has other than {length} values", column.values),
        default_value=_zero(t, column),
    )
    return tf.reshape(dense, [-1, length])


def lists_at(t: Tensorflow, rows: Values, matrix: Values, like: Column) -> Column:
    """Returns a SparseTensor with as many rows as `like`, in which some have the lists of a matrix."""
    tf, length = t.tf, matrix.shape[1]
    count = tf.shape(rows)[0]
    items = tf.tile(tf.range(length, dtype=tf.int64), [count])
    indices = tf.stack([tf.repeat(rows, length), items], axis=1)
    return tf.SparseTensor(indices, tf.reshape(matrix, [-1]), _shape(t, like, length))


def single_values(t: Tensorflow, rows: Values, values: Values, like: Column) -> Column:
    """Returns a SparseTensor with as many rows as `like`, in which some, int64[n, 1], have one value."""
    tf = t.tf
    return tf.SparseTensor(tf.concat([rows, tf.zeros_like(rows)], axis=1), values, _shape(t, like, 1))


def keep_values(t: Tensorflow, column: Column, values: Values, kept: Values) -> Column:
    """Returns a column with the values that are kept, of all that a function made of the column's values."""
    tf = t.tf
    rows = tf.boolean_mask(rows_of(t, column), kept)
    width = column.shape[1] if column.shape.rank == 2 and not isinstance(column, tf.SparseTensor) else 1
    shape = column.dense_shape if isinstance(column, tf.SparseTensor) else _shape_of_dense(t, column, width)
    indices = tf.stack([rows, t.tft.segment_indices(rows)], axis=1)
    return tf.SparseTensor(indices, tf.boolean_mask(values, kept), shape)


def flat_values(t: Tensorflow, column: Column) -> Values:
    """Returns all values, row by row."""
    return column.values if isinstance(column, t.tf.SparseTensor) else t.tf.reshape(column, [-1])


def rows_of(t: Tensorflow, column: Column) -> Values:
    """Returns the row of each value, int64."""
    tf = t.tf
    if isinstance(column, tf.SparseTensor):
        return column.indices[:, 0]
    rows = tf.range(tf.shape(column, tf.int64)[0], dtype=tf.int64)
    return rows if column.shape.rank == 1 else tf.repeat(rows, column.shape[1])


def num_rows(t: Tensorflow, column: Column) -> Values:
    """Returns how many rows a column has, int64."""
    return column.dense_shape[0] if isinstance(column, t.tf.SparseTensor) else t.tf.shape(column, t.tf.int64)[0]


def counts(t: Tensorflow, column: Column) -> Values:
    """Returns how many values each row has, int64[batch]."""
    rows = rows_of(t, column)
    return t.tf.math.unsorted_segment_sum(t.tf.ones_like(rows), rows, num_rows(t, column))


def is_present(t: Tensorflow, column: Column) -> Values:
    """Returns bool[batch]: whether the row has a value."""
    return counts(t, column) > 0


def all_present(t: Tensorflow, columns: Sequence[Column]) -> Values:
    """Returns bool[batch]: whether the row has a value in each column."""
    return t.tf.reduce_all(t.tf.stack([is_present(t, column) for column in columns]), axis=0)


def fill_missing(t: Tensorflow, column: Column, default: Any, single: bool) -> Column:
    """Puts `default` where a row has no value; the result is dense if the column is single-valued."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return column
    if single:
        return to_dense(t, column, default)
    # A batch in which every row is empty has width 0, with no room for the default.
    width = tf.maximum(column.dense_shape[1], 1)
    widened = tf.SparseTensor(column.indices, column.values, _shape(t, column, width))
    filled, _ = tf.sparse.fill_empty_rows(widened, tf.constant(default, column.dtype))
    return filled


def to_dense(t: Tensorflow, column: Column, default: Any = None) -> Values:
    """Returns a dense [batch], with 0 or an empty text by default; the graph fails on a row of several values."""
    tf = t.tf
    if not isinstance(column, tf.SparseTensor):
        return column
    dense = tf.raw_ops.SparseToDense(
        sparse_indices=column.indices,
        output_shape=_shape(t, column, 1),
        sparse_values=column.values,
        default_value=_zero(t, column) if default is None else tf.convert_to_tensor(default, column.dtype),
    )
    return tf.reshape(dense, [-1])


def checked(t: Tensorflow, right: Values, message: str, values: Values) -> Values:
    """Returns the values; the graph fails with the message where the condition, one bool, does not hold."""
    # What a graph is pruned to keeps only what its outputs depend on.
    with t.tf.control_dependencies([t.tf.debugging.Assert(right, [message])]):
        return t.tf.identity(values)


def _zero(t: Tensorflow, column: Column) -> Values:
    return t.tf.constant(b"" if column.dtype == t.tf.string else 0, column.dtype)


def _shape(t: Tensorflow, column: Column, width: Any) -> Values:
    return t.tf.stack([column.dense_shape[0], t.tf.cast(width, t.tf.int64)])


def _shape_of_dense(t: Tensorflow, column: Column, width: int) -> Values:
    return t.tf.stack([num_rows(t, column), t.tf.constant(width, t.tf.int64)])
