"""Runs part of a traced graph on three made-up rows, before a fit: what shows here need not wait for the first batch.

The rows have two values, none and three, where their number is free; values are 1, 2, 3 and so on, as numbers or texts.
What analyzers will find is not known, so all of it is the same small number. What needs more than that, such as a
vocabulary, cannot be run.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from penstock.io.schema import Kind
from penstock.transforms.features.tensorflow import Tensorflow
from penstock.transforms.features.tensors.arrays import GraphColumn
from penstock.transforms.features.tensors.inputs import DenseInput, InputTensor, RaggedInput, SparseInput

ROWS = 3
_COUNTS = np.array([2, 0, 3])

# What analyzers find; it is no width that a matrix has by chance.
FOUND = 7

Inputs: TypeAlias = Mapping[InputTensor, Any]
Parts: TypeAlias = dict[str, GraphColumn]


def found_by_analyzers(t: Tensorflow, graph: Any) -> dict[str, Any]:
    """Makes, in TensorFlow's default graph, tensors for the results of analyzers of another graph, by their names."""
    from tensorflow_transform import analyzer_nodes

    tf = t.tf
    sinks = [sink.tensor for sink in graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)]
    return {
        sink.name: tf.fill([size or 1 for size in sink.shape], tf.constant(FOUND, sink.dtype))
        for sink in sinks
        if sink.dtype != tf.string and sink.shape.rank is not None
    }


def run_on_made_up_rows(t: Tensorflow, wanted: Sequence[Any], inputs: Inputs) -> list[npt.NDArray[Any]] | None:
    """Returns the values of tensors of a traced graph; None where they cannot be computed.

    Args:
      t: the modules.
      wanted: plain tensors of one graph.
      inputs: what the traced function was given.
    """
    tf, parts = t.tf, [_parts(tensor) for tensor in inputs]
    if any(tensor.faults(part) for tensor, part in zip(inputs, parts, strict=True)):
        return None
    given = [tf.nest.flatten(tensor, expand_composites=True) for tensor in inputs.values()]
    arrays = [tensor.components(part, ROWS) for tensor, part in zip(inputs, parts, strict=True)]
    feed = {
        placeholder.name: array
        for placeholders, values in zip(given, arrays, strict=True)
        for placeholder, array in zip(placeholders, values, strict=True)
    }
    with tf.Graph().as_default() as graph:
        source = wanted[0].graph
        names = [tensor.name for tensor in wanted]
        found = tf.graph_util.import_graph_def(source.as_graph_def(), found_by_analyzers(t, source), names, name="")
        try:
            with tf.compat.v1.Session(graph=graph) as session:
                values: list[npt.NDArray[Any]] = session.run(found, feed)
                return values
        except tf.errors.OpError:
            return None


def _parts(tensor: InputTensor) -> Parts:
    """Makes the columns of a tensor."""
    counts = _COUNTS
    if isinstance(tensor, DenseInput):
        counts = np.full(ROWS, int(np.prod(tensor.shape, dtype=np.int64)))
    if isinstance(tensor, SparseInput):
        counts = np.ones(ROWS, np.int64)
        last = {name: max(size - 1, 1 if size < 0 else 0) for name, size in _sizes(tensor).items()}
        return {name: GraphColumn(np.full(ROWS, index)) for name, index in last.items()} | {
            tensor.values: _column(tensor.kind, counts)
        }
    parts: Parts = {}
    if isinstance(tensor, RaggedInput):
        # The outer dimensions have one part in each row, and the innermost of them all of its values.
        uniform = [partition for partition in tensor.partitions if isinstance(partition, int)]
        named = [partition for partition in tensor.partitions if isinstance(partition, str)]
        parts = {name: GraphColumn(np.ones(ROWS, np.int64)) for name in named[:-1]}
        parts |= {name: GraphColumn(counts) for name in named[-1:]}
        counts = counts * int(np.prod(uniform, dtype=np.int64))
    return {**parts, tensor.values: _column(tensor.kind, counts)}


def _sizes(tensor: SparseInput) -> dict[str, int]:
    return dict(zip(tensor.indices, tensor.shape, strict=True))


def _column(kind: Kind, counts: npt.NDArray[np.int64]) -> GraphColumn:
    numbers = np.arange(1, counts.sum() + 1)
    if kind is Kind.BYTES:
        return GraphColumn(np.array([b"%d" % number for number in numbers], object), counts)
    return GraphColumn(numbers.astype(np.int64 if kind is Kind.INT else np.float32), counts)
