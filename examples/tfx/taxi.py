"""A TFX module for taxi trips, as its pipeline had it: `penstock prepare --features examples/tfx/taxi.py` runs it.

The operations, and their order, are those of TFX's Chicago taxi example, whose columns these are. The names of TFX are
annotations, for which TFX need not be installed; what else its trainer did with them stands in docs/tfx.md.
"""

import taxi_columns as columns
import tensorflow as tf
import tensorflow_transform as tft
from tfx import v1 as tfx


def preprocessing_fn(inputs):
    """Numbers as z-scores, texts as places in a vocabulary, coordinates as buckets; the label: a tip above 20 %."""
    filled = {name: _filled(inputs[name]) for name in columns.ALL}
    outputs = {columns.transformed(name): tft.scale_to_z_score(filled[name]) for name in columns.NUMBERS}
    for name in columns.TEXTS:
        outputs[columns.transformed(name)] = tft.compute_and_apply_vocabulary(
            filled[name], top_k=columns.VOCABULARY, num_oov_buckets=columns.UNKNOWN
        )
    for name in columns.COORDINATES:
        outputs[columns.transformed(name)] = tft.bucketize(filled[name], columns.BUCKETS)
    for name in columns.CATEGORIES:
        outputs[columns.transformed(name)] = filled[name]
    fare, tips = filled[columns.FARE], filled[columns.LABEL]
    is_large = tf.cast(tf.greater(tips, tf.multiply(fare, tf.constant(0.2))), tf.int64)
    outputs[columns.transformed(columns.LABEL)] = tf.where(tf.math.is_nan(fare), tf.zeros_like(is_large), is_large)
    return outputs


def _filled(column):
    """A column with 0 or "" where a trip has no value, as a dense tensor of one value for each trip."""
    if not isinstance(column, tf.sparse.SparseTensor):
        return column
    one_wide = tf.SparseTensor(column.indices, column.values, [column.dense_shape[0], 1])
    return tf.sparse.to_dense(one_wide, default_value="" if column.dtype == tf.string else 0)


def input_fn(files: list[str], accessor: tfx.components.DataAccessor, graph: tft.TFTransformOutput, batch_size: int):
    """What the trainer of TFX called; Penstock leaves it alone."""
    options = {"batch_size": batch_size, "label_key": columns.transformed(columns.LABEL)}
    return accessor.tf_dataset_factory(files, options, graph.transformed_metadata.schema)
