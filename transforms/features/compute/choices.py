"""Operations that choose between values, or look them up."""

from typing import Any

from penstock.transforms.features.compute.columns import (
    Column,
    Values,
    flat_values,
    is_present,
    keep_values,
    map_values,
    num_rows,
    single_values,
    to_dense,
)
from penstock.transforms.features.compute.modules import Tensorflow


def is_missing(t: Tensorflow, column: Column) -> Values:
    """Returns int64[batch]: 1 where the row has no value."""
    return 1 - t.tf.cast(is_present(t, column), t.tf.int64)


def coalesce(t: Tensorflow, *columns: Column) -> Column:
    """Returns the first value of each row that is there."""
    tf = t.tf
    value, present = to_dense(t, columns[-1]), is_present(t, columns[-1])
    for column in reversed(columns[:-1]):
        there = is_present(t, column)
        value, present = tf.where(there, to_dense(t, column), value), there | present
    return _where_present(t, columns, value, present)


def where(t: Tensorflow, condition: Column, *columns: Column, **constants: Any) -> Column:
    """Returns the first of two values where the condition is not 0, else the second; missing where that is."""
    tf, rows = t.tf, num_rows(t, condition)
    left = list(columns)
    dtype = columns[0].dtype if columns else _dtype(t, constants)
    values = [
        tf.fill([rows], tf.constant(constants[name], dtype)) if name in constants else left.pop(0)
        for name in ("then", "else")
    ]
    chosen = to_dense(t, condition) != 0
    value = tf.where(chosen, *(to_dense(t, item) for item in values))
    present = is_present(t, condition) & tf.where(chosen, *(is_present(t, item) for item in values))
    return _where_present(t, [condition, *values], value, present, needs=all)


def _dtype(t: Tensorflow, constants: dict[str, Any]) -> Any:
    if any(isinstance(value, bytes) for value in constants.values()):
        return t.tf.string
    return t.tf.float32 if any(isinstance(value, float) for value in constants.values()) else t.tf.int64


def _where_present(t: Tensorflow, columns: Any, value: Values, present: Values, needs: Any = any) -> Column:
    """Returns the values; dense, where any or all of the columns say that nothing is missing."""
    tf = t.tf
    if needs(not isinstance(column, tf.SparseTensor) for column in columns):
        return value
    rows = tf.where(present)
    sparse = next(column for column in columns if isinstance(column, tf.SparseTensor))
    return single_values(t, rows, tf.gather_nd(value, rows), sparse)


def is_in(t: Tensorflow, x: Values, values: list[Any]) -> Values:
    """Returns 1 where the value is in the list."""
    return t.tf.cast(index_in(t, x, values) >= 0, t.tf.int64)


def index_in(t: Tensorflow, x: Values, values: list[Any]) -> Values:
    """Returns the position of the value in the list, or -1."""
    tf = t.tf

    def build() -> Any:
        keys, positions = tf.constant(values, x.dtype), tf.range(len(values), dtype=tf.int64)
        return tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, positions), -1)

    # A graph that is fitted must say which tables its file has to hold.
    table = t.tft.make_and_track_object(build) if tf.inside_function() else build()
    return table.lookup(x)


def lookup(t: Tensorflow, column: Column, keys: list[Any], values: list[Any], default: Any = None) -> Column:
    """Returns what the map has for each value; without a default, others are dropped."""
    tf = t.tf
    held = [*values, values[0] if default is None else default]
    dtype = _dtype(t, dict(enumerate(held)))  # type: ignore[arg-type]

    def found(x: Values) -> Values:
        position = index_in(t, x, keys)
        return tf.where(position < 0, tf.constant(len(values), tf.int64), position)

    positions = map_values(t, [column], found)
    result = map_values(t, [positions], lambda position: tf.gather(tf.constant(held, dtype), position))
    if default is not None:
        return result
    return keep_values(t, column, flat_values(t, result), flat_values(t, positions) < len(values))
