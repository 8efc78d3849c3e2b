"""A fitted graph, loaded: flat columns in, Arrow columns out, the same for batches of any size."""

import dataclasses
import functools
import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.schema import Kind
from penstock.transforms._arrays import FlatColumn, list_array, scalar_array, starts_of
from penstock.transforms._tensorflow import import_tensorflow

# Batches are padded to a multiple of this, and every column gets at least this many values behind the real ones:
# TensorFlow computes what does not fill a vector register in another way, with another last bit.
_PADDING = 64

_ROOT_ERRORS = re.compile(r"^\d+ root error\(s\) found\.\s*\(0\) [A-Z_ ]+: ")


@dataclasses.dataclass(frozen=True)
class GraphInput:
    """A column that the graph takes.

    Attributes:
      name: the column.
      kind: of its values.
      shape: of a row's values, all of which must be there; None when there may be any number.
      needed: whether an output depends on it.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...] | None
    needed: bool

    @property
    def length(self) -> int | None:
        """The number of values that every row must have, if there is one."""
        return None if self.shape is None else math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class _Output:
    """What the graph gives as `key`, and the column that it becomes; `single`: no row has more than one value."""

    key: str
    column: str
    single: bool


class TooManyValuesError(ValueError):
    """Some rows of an output have several values, where its schema says one; `rows` are their indices."""

    def __init__(self, column: str, rows: list[int]):
        super().__init__(f"feature {column!r} has several values, where its schema says one")
        self.rows = rows


@dataclasses.dataclass(frozen=True)
class Probe:
    """One output of a graph with nothing but what it needs, to try rows several times faster than the whole graph."""

    graph: "SavedGraph"
    function: Any
    inputs: tuple[GraphInput, ...]

    def fault(self, columns: Mapping[str, FlatColumn], start: int, end: int) -> str | None:
        """The error on rows `start` to `end`, if there is one."""
        tensors = {item.name: self.graph.tensor(item, columns[item.name].slice(start, end)) for item in self.inputs}
        try:
            self.function(self.graph.count(end - start), tensors)
        except self.graph.row_errors as error:
            return error_text(error)
        return None


class SavedGraph:
    """A fitted graph; threads may share it.

    Attributes:
      inputs: the columns that it takes, in name order.
      columns: the names of those that it gives, in name order.
      row_errors: the exceptions that rows can be at fault for; others are the machine's.
    """

    def __init__(self, transform_dir: str, schema: schema_pb2.Schema):
        """Loads the graph.

        Raises:
          ConfigError: when the folder does not hold a graph, or one whose columns cannot be read or written.
        """
        self._tf = import_tensorflow().tf
        self._where = f"--transform {transform_dir}"
        self._model = self._load(FileSystems.join(transform_dir, "transform_fn"))
        self._function = getattr(self._model.transform_fn, "concrete_functions", [self._model.transform_fn])[0]
        self._specs: Mapping[str, Any] = self._function.structured_input_signature[0][0]
        self.row_errors = (self._tf.errors.InvalidArgumentError, self._tf.errors.OutOfRangeError)
        needed = self._inputs_of(self._function.graph.outputs)
        self.inputs = tuple(self._input(name, self._specs[name], name in needed) for name in sorted(self._specs))
        self._outputs = self._describe_outputs(schema)
        self.columns = tuple(output.column for output in self._outputs)

    def _load(self, path: str) -> Any:
        try:
            model = self._tf.saved_model.load(path)
        except (OSError, ValueError, self._tf.errors.OpError) as error:
            raise ConfigError(f"{self._where}: the graph cannot be loaded: {error_text(error)}") from error
        if not hasattr(model, "transform_fn"):
            raise ConfigError(f"{self._where}: the graph was written in TensorFlow 1 mode; fit it again")
        return model

    def _inputs_of(self, outputs: list[Any]) -> set[str]:
        """The inputs that some of the outputs, or a check of the graph, depend on."""
        reached = _reachable([tensor.op for tensor in outputs] + list(self._function.graph.control_outputs))
        found, tensors = set(), iter(self._function.inputs)
        for name in sorted(self._specs):
            components = self._tf.nest.flatten(self._specs[name], expand_composites=True)
            ops = [next(tensors).op for _ in components]
            if any(op in reached for op in ops):
                found.add(name)
        return found

    def _input(self, name: str, spec: Any, needed: bool) -> GraphInput:
        tf = self._tf
        kinds = {tf.int64: Kind.INT, tf.float32: Kind.FLOAT, tf.string: Kind.BYTES}
        dense = isinstance(spec, tf.TensorSpec)
        shape = tuple(spec.shape[1:]) if dense else None
        flat = dense or (spec.shape.rank == 2 and getattr(spec, "ragged_rank", 1) == 1)
        if not flat or spec.dtype not in kinds or None in (shape or ()):
            raise ConfigError(f"{self._where}: input {name!r} is not what a column can hold: {spec}")
        return GraphInput(name, kinds[spec.dtype], shape, needed)

    def _describe_outputs(self, schema: schema_pb2.Schema) -> tuple[_Output, ...]:
        features = {feature.name: feature for feature in schema.feature}
        ragged = schema.tensor_representation_group[""].tensor_representation
        outputs = []
        for key, spec in sorted(self._function.structured_outputs.items()):
            representation = ragged[key].ragged_tensor if key in ragged else None
            column = representation.feature_path.step[0] if representation else key
            nested = representation and any(part.HasField("row_length") for part in representation.partition)
            if nested or column not in features:
                raise ConfigError(f"{self._where}: output {key!r} is not what a column can hold: {spec}")
            outputs.append(_Output(key, column, features[column].value_count.max == 1))
        return tuple(outputs)

    def run(self, columns: Mapping[str, FlatColumn], rows: int) -> list[pa.Array]:
        """The values of `columns` for some rows; inputs that are not given have no values.

        A value depends on its row alone, to the last bit, whatever the rows beside it.

        Raises:
          TooManyValuesError: names the rows at fault.
          tensorflow.errors.OpError: the rows at fault are not known; one of `row_errors`, or a fault of the machine.
          DataError: when the graph gives what is not one list of values a row.
        """
        padding = _padding(columns, rows)
        padded_rows = rows + sum(times for _, times in padding)
        tensors = {
            item.name: self.tensor(item, columns[item.name].append(padding))
            if item.name in columns
            else self._blank(self._specs[item.name], padded_rows)
            for item in self.inputs
        }
        results = self._function(tensors)
        return [self._array(output, results[output.key], rows) for output in self._outputs]

    @functools.cached_property
    def probes(self) -> tuple[Probe, ...]:
        """One for each output."""
        tf, graph = self._tf, self._function.graph
        probes, tensors = [], iter(graph.outputs)
        for key, spec in sorted(self._function.structured_outputs.items()):
            names = self._inputs_of([next(tensors) for _ in tf.nest.flatten(spec, expand_composites=True)])
            inputs = tuple(item for item in self.inputs if item.name in names)
            probes.append(Probe(self, self._function_of(key, inputs), inputs))
        return tuple(probes)

    def _function_of(self, key: str, inputs: tuple[GraphInput, ...]) -> Any:
        def compute(rows: Any, tensors: dict[str, Any]) -> Any:
            blanks = {name: self._blank(spec, rows) for name, spec in self._specs.items() if name not in tensors}
            return self._function({**tensors, **blanks})[key]

        signature = [self._tf.TensorSpec([], self._tf.int64), {item.name: self._specs[item.name] for item in inputs}]
        return self._tf.function(compute, input_signature=signature).get_concrete_function()

    def _blank(self, spec: Any, rows: Any) -> Any:
        """For an input on which nothing depends."""
        tf = self._tf
        zero = tf.constant(b"" if spec.dtype == tf.string else 0, spec.dtype)
        rows = tf.cast(rows, tf.int64)
        if isinstance(spec, tf.TensorSpec):
            return tf.fill(tf.stack([rows, *spec.shape[1:]]), zero)
        if isinstance(spec, tf.RaggedTensorSpec):
            return tf.RaggedTensor.from_row_splits(tf.fill([0], zero), tf.zeros([rows + 1], spec.row_splits_dtype))
        return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.fill([0], zero), tf.stack([rows, 1]))

    def count(self, rows: int) -> Any:
        """A number of rows as a tensor."""
        return self._tf.constant(rows, self._tf.int64)

    def tensor(self, item: GraphInput, column: FlatColumn) -> Any:
        """A column as the graph takes it."""
        tf, rows, spec = self._tf, len(column), self._specs[item.name]
        values = tf.constant(column.values, spec.dtype)
        if item.shape is not None:
            return tf.reshape(values, (rows, *item.shape))
        if isinstance(spec, tf.RaggedTensorSpec):
            return tf.RaggedTensor.from_row_splits(values, column.starts.astype(spec.row_splits_dtype.as_numpy_dtype))
        counts = column.counts
        indices = np.empty((len(column.values), 2), np.int64)
        indices[:, 0] = np.repeat(np.arange(rows), counts)
        indices[:, 1] = np.arange(len(column.values)) - np.repeat(column.starts[:-1], counts)
        # At least 1 wide, or `tf.sparse.to_dense(x)[:, 0]` would fail on rows that happen to be among empty ones.
        return tf.SparseTensor(indices, values, (rows, counts.max(initial=1)))

    def _array(self, output: _Output, tensor: Any, rows: int) -> pa.Array:
        tf = self._tf
        if isinstance(tensor, tf.SparseTensor):
            column = _sparse_column(output.key, tensor.indices.numpy(), tensor.values.numpy(), rows)
        elif isinstance(tensor, tf.RaggedTensor):
            values = tensor.values.numpy()
            starts = tensor.row_splits.numpy().astype(np.int64)[: rows + 1] * math.prod(values.shape[1:])
            column = FlatColumn(starts, values.reshape(-1)[: starts[-1]])
        else:
            return _dense_array(output.key, tensor.numpy(), rows)
        if not output.single:
            return list_array(column)
        several = np.flatnonzero(column.counts > 1)
        if len(several):
            raise TooManyValuesError(output.column, several.tolist())
        return scalar_array(column)


def _reachable(ops: list[Any]) -> set[Any]:
    reached: set[Any] = set()
    while ops:
        op = ops.pop()
        if op not in reached:
            reached.add(op)
            ops += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return reached


def _padding(columns: Mapping[str, FlatColumn], rows: int) -> list[tuple[int, int]]:
    """(row, times): real rows that together have a value in every column that has any, so many times that the batch
    is a multiple of 64 rows."""
    present = [column.counts > 0 for column in columns.values()]
    uncovered = np.array([flags for flags in present if flags.any()]).reshape(-1, rows)
    padding = []
    while len(uncovered):
        row = int(uncovered.sum(axis=0).argmax())
        padding.append((row, _PADDING))
        uncovered = uncovered[~uncovered[:, row]]
    return [*padding, (rows - 1, -rows % _PADDING)]


def _sparse_column(key: str, indices: Any, values: Any, rows: int) -> FlatColumn:
    end = int(np.searchsorted(indices[:, 0], rows))
    owners, positions = indices[:end, 0], indices[:end, 1]
    starts = starts_of(np.bincount(owners, minlength=rows))
    expected = np.arange(end) - np.repeat(starts[:-1], np.diff(starts))
    if (np.diff(owners) < 0).any() or (positions != expected).any():
        raise DataError(
            f"output {key!r} of the graph has gaps or is not in order, which a list of values cannot say; "
            "use tft.sparse_tensor_left_align in the preprocessing function"
        )
    return FlatColumn(starts, values[:end])


def _dense_array(key: str, values: Any, rows: int) -> pa.Array:
    if len(values) < rows:
        raise DataError(f"output {key!r} of the graph has {len(values)} rows for {rows} rows")
    length = math.prod(values.shape[1:])
    column = FlatColumn(np.arange(rows + 1) * length, values[:rows].reshape(-1))
    return scalar_array(column) if length == 1 else list_array(column, dense=True)


def error_text(error: Exception) -> str:
    """What went wrong, in one line, without TensorFlow's account of the graph around it.

    >>> error_text(ValueError("Graph execution error: ... <stack traces unavailable>\\nnot a number: x\\n\\t [[{{node"))
    'not a number: x'
    """
    text = str(getattr(error, "message", "") or error).rpartition("<stack traces unavailable>\n")[2]
    text = _ROOT_ERRORS.sub("", text.partition("\n\t [[")[0])
    return " ".join(text.split("\n"))
