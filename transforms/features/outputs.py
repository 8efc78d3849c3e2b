"""Outputs of a graph: the columns that its tensors become, by the names that tensorflow-transform gives them.

===================================  ============================================================================
output `x`                            columns
===================================  ============================================================================
dense                                 `x`: one value, or a list of all values of the row
`SparseTensor` [batch, n]             `x`: the list of values, which must lie at the left of their row
`SparseTensor`, annotated or deeper   `x$sparse_values`, and `x$sparse_indices_0` for each dimension
`RaggedTensor`                        `x$ragged_values`, and `x$row_lengths_1` for each further ragged dimension
===================================  ============================================================================

The schema of the graph says which it is; `tf.io.parse_example` with `tft.TFTransformOutput.transformed_feature_spec()`
makes the same tensors of them again. A row without a value in a list has a null there.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.transforms.features.arrays import GraphColumn, Ints, list_array, scalar_array
from penstock.transforms.features.tensors import order_of

Components = Sequence[npt.NDArray[Any]]


class TooManyValuesError(ValueError):
    """Some rows of an output have several values, though its schema says one; `rows` are their indices."""

    def __init__(self, column: str, rows: list[int]):
        super().__init__(f"feature {column!r} has several values, where its schema says one")
        self.rows = rows


@dataclasses.dataclass(frozen=True)
class GraphOutput(abc.ABC):
    """An output of a graph, by its key."""

    key: str

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that it becomes."""
        return (self.key,)

    @abc.abstractmethod
    def rows(self, components: Components) -> int:
        """Returns the number of rows of the plain tensors that it consists of."""

    @abc.abstractmethod
    def arrays(self, components: Components, rows: int) -> list[pa.Array]:
        """Returns its columns for the first rows of these tensors.

        Raises:
          TooManyValuesError: naming the bad rows.
          DataError: when the tensors are not what the columns can hold.
        """


@dataclasses.dataclass(frozen=True)
class DenseOutput(GraphOutput):
    """A dense tensor."""

    def rows(self, components: Components) -> int:
        """Returns the first dimension."""
        return len(components[0])

    def arrays(self, components: Components, rows: int) -> list[pa.Array]:
        """Returns a column of single values, or of lists of the values of all dimensions."""
        (values,) = components
        length = math.prod(values.shape[1:])
        flat = values[:rows].reshape(-1)
        if length == 1:
            return [scalar_array(GraphColumn(flat))]
        return [list_array(GraphColumn(flat, np.full(rows, length)), dense=True)]


@dataclasses.dataclass(frozen=True)
class ListOutput(GraphOutput):
    """A `SparseTensor` of lists of values; `single`: no row has more than one."""

    single: bool

    def rows(self, components: Components) -> int:
        """Returns the first dimension."""
        return int(components[2][0])

    def arrays(self, components: Components, rows: int) -> list[pa.Array]:
        """Returns a column of lists, or of single values."""
        indices, values, _ = components
        column = self._column(indices, values, rows)
        if not self.single:
            return [list_array(column)]
        if column.counts is not None and (several := column.counts > 1).any():
            raise TooManyValuesError(self.key, np.flatnonzero(several).tolist())
        return [scalar_array(column)]

    def _column(self, indices: Ints, values: npt.NDArray[Any], rows: int) -> GraphColumn:
        end = int(np.searchsorted(indices[:, 0], rows))
        column = GraphColumn(values[:end])
        if end == rows and np.array_equal(indices[:end], column.indices):
            return column
        column = GraphColumn(values[:end], np.bincount(indices[:end, 0], minlength=rows))
        if not np.array_equal(indices[:end], column.indices):
            raise DataError(positions_lost(self.key))
        return column


def positions_lost(key: str) -> str:
    """Says that a list cannot hold a sparse tensor, and what to do about it."""
    return (
        f"output {key!r} is a SparseTensor with gaps, or not in order, and a list would lose the positions; "
        "where positions matter, as in a one-hot, call tft.experimental.annotate_true_sparse_output on it, and it is "
        f"written as {key + '$sparse_indices_0'!r} and {key + '$sparse_values'!r}, or return it dense "
        "(tf.sparse.to_dense); where only the values matter, tft.sparse_tensor_left_align closes the gaps"
    )


@dataclasses.dataclass(frozen=True)
class SparseOutput(GraphOutput):
    """A `SparseTensor` whose positions matter; `indices` are columns, one for each dimension behind the first."""

    values: str
    indices: tuple[str, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of indices, from the outside, and that of values."""
        return (*self.indices, self.values)

    def rows(self, components: Components) -> int:
        """Returns the first dimension."""
        return int(components[2][0])

    def arrays(self, components: Components, rows: int) -> list[pa.Array]:
        """Returns lists of indices and values, in the order of the indices."""
        indices, values, _ = components
        if (order := order_of(indices)) is not None:
            indices, values = indices[order], values[order]
        end = int(np.searchsorted(indices[:, 0], rows))
        counts = np.bincount(indices[:end, 0], minlength=rows)
        parts = [*(indices[:end, 1 + at] for at in range(len(self.indices))), values[:end]]
        return [list_array(GraphColumn(np.ascontiguousarray(part), counts)) for part in parts]


@dataclasses.dataclass(frozen=True)
class RaggedOutput(GraphOutput):
    """A `RaggedTensor`; a dimension behind the first two has a column of lengths, or None if it is uniform."""

    values: str
    lengths: tuple[str | None, ...]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of lengths, from the outside, and that of values."""
        return (*(name for name in self.lengths if name is not None), self.values)

    def rows(self, components: Components) -> int:
        """Returns the first dimension."""
        return len(components[1]) - 1

    def arrays(self, components: Components, rows: int) -> list[pa.Array]:
        """Returns lists of lengths and of values."""
        values, outer, *inner = components
        starts = outer[: rows + 1].astype(np.int64)
        arrays = []
        for name, lengths in zip(self.lengths, self._lengths(values, inner), strict=True):
            if name is not None:
                arrays.append(list_array(GraphColumn(lengths[: starts[-1]], np.diff(starts))))
            starts = np.concatenate([[0], np.cumsum(lengths[: starts[-1]])])[starts]
        return [*arrays, list_array(GraphColumn(values.reshape(-1)[: starts[-1]], np.diff(starts)))]

    def _lengths(self, values: npt.NDArray[Any], splits: Components) -> list[Ints]:
        """Returns the lengths of each dimension behind the first two, ragged and then dense."""
        lengths = [np.diff(each).astype(np.int64) for each in splits]
        total = len(values)
        for size in values.shape[1:]:
            lengths.append(np.full(total, size))
            total *= size
        return lengths


def graph_outputs(tf: Any, specs: Mapping[str, Any], schema: schema_pb2.Schema, where: str) -> tuple[GraphOutput, ...]:
    """Returns the outputs of a graph, in the order of their keys.

    Args:
      tf: TensorFlow.
      specs: the `tf.TypeSpec` of each output.
      schema: of the outputs, as tensorflow-transform writes it.
      where: what a message calls the graph.

    Raises:
      ConfigError: for an output that the schema does not describe.
    """
    found = {key: _output(tf, key, spec, schema) for key, spec in sorted(specs.items())}
    names = {feature.name for feature in schema.feature}
    for key, output in found.items():
        if output is None or not names.issuperset(output.columns):
            raise ConfigError(f"{where}: output {key!r} is not what a column can hold: {specs[key]}")
    return tuple(output for output in found.values() if output is not None)


def _output(tf: Any, key: str, spec: Any, schema: schema_pb2.Schema) -> GraphOutput | None:
    views = {view.name: view for view in schema.sparse_feature}
    ragged = schema.tensor_representation_group[""].tensor_representation
    if isinstance(spec, tf.RaggedTensorSpec) and key in ragged:
        message = ragged[key].ragged_tensor
        lengths = tuple(part.row_length if part.HasField("row_length") else None for part in message.partition)
        return RaggedOutput(key, message.feature_path.step[0], lengths)
    if isinstance(spec, tf.SparseTensorSpec) and key in views:
        view = views[key]
        return SparseOutput(key, view.value_feature.name, tuple(index.name for index in view.index_feature))
    if isinstance(spec, tf.SparseTensorSpec) and spec.shape.rank == 2:
        return ListOutput(key, any(item.name == key and item.value_count.max == 1 for item in schema.feature))
    return DenseOutput(key) if isinstance(spec, tf.TensorSpec) else None
