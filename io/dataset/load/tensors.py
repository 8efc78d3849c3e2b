"""Batches as a `tf.data.Dataset`, without the parsing of TensorFlow: what is read is what `numpy` gives."""

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from penstock.io.dataset.load.arrays import LENGTH, PRESENT, Arrays, Ragged, ToArrays
from penstock.io.dataset.load.batches import Batches
from penstock.io.errors import ConfigError, MissingExtraError

if TYPE_CHECKING:
    import tensorflow as tf


def tf_dataset(batches: Batches[Arrays], rule: ToArrays) -> "tf.data.Dataset":
    """Returns a dataset whose every pass is the next epoch of the batches, and which knows how many batches that is.

    A pass that is left early is not gone on with, as a loop over `Batches` is: TensorFlow takes elements ahead of those
    that a program has seen, so that nobody could say where.

    Raises:
      MissingExtraError: when TensorFlow is not installed.
      ConfigError: for a column whose type TensorFlow does not have.
    """
    epochs = itertools.count(batches.epoch)

    def epoch() -> Iterator[Arrays]:
        batches.load_state_dict({**batches.state_dict(), "epoch": next(epochs), "taken": []})
        return iter(batches)

    dataset = tf_generated(epoch, rule)
    return dataset.apply(_tensorflow().data.experimental.assert_cardinality(len(batches)))


def tf_generated(begin: Callable[[], Iterator[Arrays]], rule: ToArrays) -> "tf.data.Dataset":
    """Returns a dataset each pass over which has what `begin` returns, by a rule; nobody knows how many.

    Raises:
      MissingExtraError: when TensorFlow is not installed.
      ConfigError: for a column whose type TensorFlow does not have.
    """
    tf = _tensorflow()

    def generate() -> Iterator[dict[str, Any]]:
        for arrays in begin():
            yield {
                name: tf.RaggedTensor.from_row_splits(*found, validate=False) if isinstance(found, Ragged) else found
                for name, found in arrays.items()
            }

    if not rule.schema.names:
        raise ConfigError("tf_data needs a column")
    empty = rule(pa.RecordBatch.from_pylist([], rule.schema))
    signature = {name: _spec(name, found, tf) for name, found in empty.items()}
    return tf.data.Dataset.from_generator(generate, output_signature=signature)


def _tensorflow() -> Any:
    try:
        import tensorflow as tf
    except ImportError as error:
        raise MissingExtraError("tf_data needs TensorFlow: pip install '.[tft]'") from error
    return tf


def _spec(name: str, found: "np.ndarray | Ragged", tf: Any) -> Any:
    """Returns what tensors of a column look like, with any number of rows."""
    values = found.values if isinstance(found, Ragged) else found
    if values.dtype == object:
        kind = tf.string
    else:
        try:
            kind = tf.as_dtype(values.dtype)
        except TypeError as error:
            column = name.removesuffix(PRESENT).removesuffix(LENGTH)
            raise ConfigError(f"column {column!r}: TensorFlow has no type for {values.dtype}: leave it out") from error
    if isinstance(found, Ragged):
        return tf.RaggedTensorSpec([None, None], kind, row_splits_dtype=tf.int64)
    return tf.TensorSpec([None, *values.shape[1:]], kind)
