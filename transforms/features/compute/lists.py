"""Operations that make a list of fixed length of a row, or one value of a list."""

from collections.abc import Callable

from penstock.transforms.features.compute.columns import (
    Column,
    Values,
    counts,
    flat_values,
    is_present,
    lists_at,
    num_rows,
    rows_of,
    single_values,
)
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.compute.numbers import check_whole


def one_hot(t: Tensorflow, column: Column, complete: bool, depth: int) -> Column:
    """Returns 1.0 at each position that the row holds, and 0.0 elsewhere."""
    return _vector(t, column, complete, t.tf.cast(_counted(t, column, depth) > 0, t.tf.float32))


def count_hot(t: Tensorflow, column: Column, complete: bool, depth: int) -> Column:
    """Returns how often the row holds each position."""
    return _vector(t, column, complete, _counted(t, column, depth))


def _counted(t: Tensorflow, column: Column, depth: int) -> Values:
    """Returns int64[batch, depth]."""
    tf = t.tf
    values = flat_values(t, column)
    within = (values >= 0) & (values < depth)
    places = tf.boolean_mask(tf.stack([rows_of(t, column), values], axis=1), within)
    ones = tf.ones_like(places[:, 0])
    counted = tf.scatter_nd(places, ones, tf.stack([num_rows(t, column), tf.constant(depth, tf.int64)]))
    return tf.reshape(counted, [-1, depth])


def _vector(t: Tensorflow, column: Column, complete: bool, matrix: Values) -> Column:
    """Returns the matrix, dense if no row is missing."""
    if complete:
        return matrix
    rows = t.tf.where(is_present(t, column))[:, 0]
    return lists_at(t, rows, t.tf.reshape(t.tf.gather(matrix, rows), [-1, matrix.shape[1]]), column)


def list_count(t: Tensorflow, column: Column) -> Values:
    """Returns how many values each row has."""
    return counts(t, column)


def reducer(function: str) -> Callable[..., Column]:
    """Makes a function that reduces the list of each row by `unsorted_segment_<function>`."""

    def call(t: Tensorflow, column: Column) -> Column:
        segment = getattr(t.tf.math, f"unsorted_segment_{function}")
        return _reduced(t, column, segment(flat_values(t, column), rows_of(t, column), num_rows(t, column)))

    return call


def list_sum(t: Tensorflow, column: Column) -> Column:
    """Returns the sum, of which that of floats is rounded once; the graph fails where int64 cannot hold it."""
    return _reduced(t, column, t.tf.cast(_sums(t, column), flat_values(t, column).dtype))


def list_mean(t: Tensorflow, column: Column) -> Column:
    """Returns the mean, float32; of integers, of their exact sum, and the graph fails where int64 cannot hold it."""
    tf = t.tf
    mean = tf.cast(_sums(t, column), tf.float64) / tf.cast(tf.maximum(counts(t, column), 1), tf.float64)
    return _reduced(t, column, tf.cast(mean, tf.float32))


def _sums(t: Tensorflow, column: Column) -> Values:
    """Sums the values of each row: integers as int64, floats as float64."""
    tf = t.tf
    values = flat_values(t, column)
    real, *whole = (
        tf.math.unsorted_segment_sum(wide, rows_of(t, column), num_rows(t, column))
        for wide in (tf.cast(values, tf.float64), *([values] if values.dtype == tf.int64 else []))
    )
    return check_whole(t, whole[0], real) if whole else real


def _reduced(t: Tensorflow, column: Column, values: Values) -> Column:
    if not isinstance(column, t.tf.SparseTensor):
        return values
    rows = t.tf.where(is_present(t, column))
    return single_values(t, rows, t.tf.gather_nd(values, rows), column)
