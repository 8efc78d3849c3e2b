"""How TensorFlow makes and applies the vocabularies of a features file."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.transforms.features.compute.columns import Column, Values
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.entries.file import Step
from penstock.transforms.features.entries.vocabulary import APPLYING, Vocabulary


def apply_alone(t: Tensorflow, vocabulary: Vocabulary, column: Column, step: Step, inputs: Mapping[str, Any]) -> Column:
    """Builds and applies the vocabulary of one entry."""
    arguments = {name: step.arguments[name] for name in APPLYING if name in step.arguments}
    made = _making(t, vocabulary, column, inputs)
    return t.tft.compute_and_apply_vocabulary(column, **arguments, **made)


def build_shared(t: Tensorflow, vocabulary: Vocabulary, columns: Sequence[Column], inputs: Mapping[str, Any]) -> Values:
    """Builds a vocabulary of several columns; returns what `apply_shared` takes."""
    joined = t.tf.sparse.concat(1, [_as_sparse(t, column) for column in columns])
    return t.tft.vocabulary(joined, **{"min_diff_from_avg": 0.0, **_making(t, vocabulary, joined, inputs)})


def apply_shared(t: Tensorflow, vocabulary: Vocabulary, built: Values, column: Column, step: Step) -> Column:
    """Applies a vocabulary that entries share."""
    arguments = {name: step.arguments[name] for name in APPLYING if name in step.arguments}
    if "file_format" in vocabulary.arguments:
        arguments["file_format"] = vocabulary.arguments["file_format"]
    return t.tft.apply_vocabulary(column, built, **arguments)


def _making(t: Tensorflow, vocabulary: Vocabulary, column: Column, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments that make a vocabulary, with tensors for columns."""
    arguments = dict(vocabulary.arguments)
    if vocabulary.name is not None:
        arguments["vocab_filename"] = vocabulary.name
    if "weights" in arguments:
        weights = t.tf.cast(inputs[arguments["weights"]], t.tf.float32)
        arguments["weights"] = _by_value(t, column, weights)
    if "labels" in arguments:
        arguments["labels"] = inputs[arguments["labels"]]
    return arguments


def _by_value(t: Tensorflow, column: Column, weights: Values) -> Values:
    """Gives each value of a column the weight of its row."""
    return t.tf.gather(weights, column.indices[:, 0]) if isinstance(column, t.tf.SparseTensor) else weights


def _as_sparse(t: Tensorflow, column: Column) -> Column:
    tf = t.tf
    if isinstance(column, tf.SparseTensor):
        return column
    rows = tf.range(tf.shape(column, tf.int64)[0])
    return tf.SparseTensor(
        tf.stack([rows, tf.zeros_like(rows)], axis=1), column, tf.stack([tf.size(rows, tf.int64), 1])
    )
