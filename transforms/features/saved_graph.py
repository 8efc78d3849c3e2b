"""Loads and runs a fitted graph: flat columns in, Arrow columns out, with the same values for batches of any size."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.schema import Kind
from penstock.transforms.features.arrays import GraphColumn, Ints, list_array, scalar_array
from penstock.transforms.features.tensorflow import import_tensorflow

# Batches are padded to a multiple of this, and every column gets at least this many values behind the real ones:
# TensorFlow computes values that do not fill a vector register differently, with another last bit.
_PADDING = 64

_ROOT_ERRORS = re.compile(r"^\d+ root error\(s\) found\.\s*\(0\) [A-Z_ ]+: ")


@dataclasses.dataclass(frozen=True)
class GraphInput:
    """A column that the graph takes.

    Attributes:
      name: the name of the column.
      kind: the kind of its values.
      shape: the shape of a row's values, which must all be present; None when there may be any number.
      needed: whether an output depends on it.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...] | None
    needed: bool

    @property
    def length(self) -> int | None:
        """The number of values that every row must have; None if it is not fixed."""
        return None if self.shape is None else math.prod(self.shape)


@dataclasses.dataclass(frozen=True)
class _Output:
    """An output of the graph, `key`, and the column that it becomes; `single`: no row has more than one value."""

    key: str
    column: str
    single: bool


class TooManyValuesError(ValueError):
    """Some rows of an output have several values, though its schema says one; `rows` are their indices."""

    def __init__(self, column: str, rows: list[int]):
        super().__init__(f"feature {column!r} has several values, where its schema says one")
        self.rows = rows


@dataclasses.dataclass(frozen=True)
class Computation:
    """Some outputs of a graph, with only what they need, as one function of plain tensors.

    This avoids a call with composite tensors, on which TensorFlow spends as long as on computing thousands of rows.

    Attributes:
      inputs: the columns that the outputs depend on.
      function: takes the number of rows and the components of the inputs; returns each output's components by key.
    """

    graph: "SavedGraph"
    inputs: tuple[GraphInput, ...]
    function: Any

    def __call__(self, columns: Mapping[str, GraphColumn], rows: int) -> dict[str, list[Any]]:
        """Computes the outputs for all rows of the columns.

        Raises:
          tensorflow.errors.OpError: when the graph fails.
        """
        components = [part for item in self.inputs for part in self.graph.components(item, columns[item.name])]
        results: dict[str, list[Any]] = self.function(np.int64(rows), *components)
        return results

    def fault(self, columns: Mapping[str, GraphColumn], start: int, end: int) -> str | None:
        """Returns the error on rows `start` to `end`; None if there is none."""
        try:
            self({item.name: columns[item.name].slice(start, end) for item in self.inputs}, end - start)
        except self.graph.row_errors as error:
            return error_text(error)
        return None


class SavedGraph:
    """A fitted graph, which threads may share.

    Attributes:
      inputs: the columns that it takes, in name order.
      columns: the names of the columns that it gives, in name order.
      row_errors: exceptions that bad rows can cause; all others are faults of the machine.
    """

    def __init__(self, transform_dir: str, schema: schema_pb2.Schema):
        """Loads the graph.

        Raises:
          ConfigError: when the folder holds no graph, or one whose columns cannot be read or written.
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
        """Returns the inputs that some of the outputs, or a check of the graph, depend on."""
        ops = [tensor.op for tensor in outputs] + list(self._function.graph.control_outputs)
        # A blank has the shape of any other dense column, so that what looks at no more than that needs no values.
        by_values, by_shape = _reachable(ops, stop=("Shape",)), _reachable(ops)
        found, tensors = set(), iter(self._function.inputs)
        for name in sorted(self._specs):
            components = self._tf.nest.flatten(self._specs[name], expand_composites=True)
            reached = by_values if isinstance(self._specs[name], self._tf.TensorSpec) else by_shape
            if any(op in reached for op in [next(tensors).op for _ in components]):
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

    def run(self, columns: Mapping[str, GraphColumn], rows: int) -> list[pa.Array]:
        """Computes the features of some rows; `columns` must have them for each input that is needed.

        A value depends on its row alone, to the last bit, whatever the other rows are.

        Raises:
          TooManyValuesError: naming the bad rows.
          tensorflow.errors.OpError: when the bad rows are not known; one of `row_errors`, or a fault of the machine.
          DataError: when the graph's output is not one list of values a row.
        """
        padding = _padding(columns, rows)
        padded = {name: column.append(padding) for name, column in columns.items()}
        results = self._whole(padded, rows + len(padding))
        return [_array(output, results[output.key], rows) for output in self._outputs]

    @functools.cached_property
    def _whole(self) -> Computation:
        return self._computation(
            set(self._function.structured_outputs), {item.name for item in self.inputs if item.needed}
        )

    @functools.cached_property
    def probes(self) -> tuple[Computation, ...]:
        """One computation for each output, which try rows several times faster than the whole graph."""
        tf, tensors = self._tf, iter(self._function.graph.outputs)
        probes = []
        for key, spec in sorted(self._function.structured_outputs.items()):
            names = self._inputs_of([next(tensors) for _ in tf.nest.flatten(spec, expand_composites=True)])
            probes.append(self._computation({key}, names))
        return tuple(probes)

    def _computation(self, keys: set[str], names: set[str]) -> Computation:
        nest, specs = self._tf.nest, {name: self._specs[name] for name in sorted(names)}

        def compute(rows: Any, *components: Any) -> dict[str, list[Any]]:
            given = nest.pack_sequence_as(specs, components, expand_composites=True)
            blanks = {name: self._blank(spec, rows) for name, spec in self._specs.items() if name not in names}
            outputs = self._function({**given, **blanks})
            return {key: nest.flatten(outputs[key], expand_composites=True) for key in keys}

        signature = [self._tf.TensorSpec([], self._tf.int64), *nest.flatten(specs, expand_composites=True)]
        function = self._tf.function(compute, input_signature=signature).get_concrete_function()
        return Computation(self, tuple(item for item in self.inputs if item.name in names), function)

    def _blank(self, spec: Any, rows: Any) -> Any:
        """Makes a placeholder for an input on which nothing depends."""
        tf = self._tf
        zero = tf.constant(b"" if spec.dtype == tf.string else 0, spec.dtype)
        rows = tf.cast(rows, tf.int64)
        if isinstance(spec, tf.TensorSpec):
            return tf.fill(tf.stack([rows, *spec.shape[1:]]), zero)
        if isinstance(spec, tf.RaggedTensorSpec):
            return tf.RaggedTensor.from_row_splits(tf.fill([0], zero), tf.zeros([rows + 1], spec.row_splits_dtype))
        return tf.SparseTensor(tf.zeros([0, 2], tf.int64), tf.fill([0], zero), tf.stack([rows, 1]))

    def components(self, item: GraphInput, column: GraphColumn) -> list[Any]:
        """Returns the plain tensors that represent a column in the graph."""
        tf, rows, spec = self._tf, len(column), self._specs[item.name]
        if item.shape is not None:
            return [tf.constant(column.values.reshape(rows, *item.shape), spec.dtype)]
        values = tf.constant(column.values, spec.dtype)
        if isinstance(spec, tf.RaggedTensorSpec):
            return [values, tf.constant(column.starts, spec.row_splits_dtype)]
        # The width is at least 1, or `tf.sparse.to_dense(x)[:, 0]` would fail when all rows of a batch are empty.
        width = 1 if column.counts is None else column.counts.max(initial=1)
        return [tf.constant(_sparse_indices(column)), values, tf.constant([rows, width], tf.int64)]


def _sparse_indices(column: GraphColumn) -> Ints:
    if column.counts is None:
        return _one_each(len(column))
    return np.stack([column.owners, column.positions], axis=1)


@functools.lru_cache(maxsize=8)
def _one_each(rows: int) -> Ints:
    """Returns the indices of a sparse tensor with one value in each row."""
    indices = np.zeros((rows, 2), np.int64)
    indices[:, 0] = np.arange(rows)
    return indices


def _array(output: _Output, components: list[Any], rows: int) -> pa.Array:
    match [component.numpy() for component in components]:
        case [indices, values, _]:
            column = _sparse_column(output.key, indices, values, rows)
        case [values, starts]:
            counts = np.diff(starts[: rows + 1]).astype(np.int64) * math.prod(values.shape[1:])
            column = GraphColumn(values.reshape(-1)[: counts.sum()], counts)
        case [values]:
            return _dense_array(output.key, values, rows)
    if not output.single:
        return list_array(column)
    if column.counts is not None and (several := column.counts > 1).any():
        raise TooManyValuesError(output.column, np.flatnonzero(several).tolist())
    return scalar_array(column)


def _reachable(ops: Sequence[Any], stop: Collection[str] = ()) -> set[Any]:
    """Returns what operations depend on, themselves included; nothing behind operations of the types in `stop`."""
    reached: set[Any] = set()
    left = list(ops)
    while left:
        op = left.pop()
        if op not in reached:
            reached.add(op)
            if op.type not in stop:
                left += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return reached


def _padding(columns: Mapping[str, GraphColumn], rows: int) -> Ints:
    """Returns the rows to append: real rows that together have a value in every column that has any, 64 times each,
    and then as many as make the batch a multiple of 64 rows."""
    present = [column.counts > 0 for column in columns.values() if column.counts is not None]
    uncovered = np.array([flags for flags in present if flags.any()]).reshape(-1, rows)
    chosen = [] if len(uncovered) else [0]
    while len(uncovered):
        chosen.append(int(uncovered.sum(axis=0).argmax()))
        uncovered = uncovered[~uncovered[:, chosen[-1]]]
    return np.repeat([*chosen, rows - 1], [*[_PADDING] * len(chosen), -rows % _PADDING])


def _sparse_column(key: str, indices: Any, values: Any, rows: int) -> GraphColumn:
    end = int(np.searchsorted(indices[:, 0], rows))
    if end == rows and np.array_equal(indices[:end], _one_each(rows)):
        return GraphColumn(values[:end])
    column = GraphColumn(values[:end], np.bincount(indices[:end, 0], minlength=rows))
    if not np.array_equal(indices[:end], _sparse_indices(column)):
        raise DataError(
            f"output {key!r} of the graph has gaps or is not in order, which a list of values cannot say; "
            "use tft.sparse_tensor_left_align in the preprocessing function"
        )
    return column


def _dense_array(key: str, values: Any, rows: int) -> pa.Array:
    if len(values) < rows:
        raise DataError(f"output {key!r} of the graph has {len(values)} rows for {rows} rows")
    length = math.prod(values.shape[1:])
    flat = values[:rows].reshape(-1)
    if length == 1:
        return scalar_array(GraphColumn(flat))
    return list_array(GraphColumn(flat, np.full(rows, length)), dense=True)


def error_text(error: Exception) -> str:
    """Says what went wrong in one line, without TensorFlow's description of the graph around it.

    >>> error_text(ValueError("Graph execution error: ... <stack traces unavailable>\\nnot a number: x\\n\\t [[{{node"))
    'not a number: x'
    """
    text = str(getattr(error, "message", "") or error).rpartition("<stack traces unavailable>\n")[2]
    text = _ROOT_ERRORS.sub("", text.partition("\n\t [[")[0])
    return " ".join(text.split("\n"))
