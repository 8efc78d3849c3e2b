"""Loads and runs a fitted graph: flat columns in, Arrow columns out, with the same values for batches of any size."""

import dataclasses
import functools
import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import local_copy
from penstock.io.schema import Kind
from penstock.transforms._named import RAW_SCHEMA
from penstock.transforms.features.left_out import read_left_out
from penstock.transforms.features.tensorflow import import_tensorflow
from penstock.transforms.features.tensors.arrays import GraphColumn, Ints
from penstock.transforms.features.tensors.inputs import (
    DenseInput,
    InputTensor,
    ListInput,
    RaggedInput,
    flat_schema,
    input_tensors,
)
from penstock.transforms.features.tensors.outputs import graph_outputs

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
      needed: whether an output depends on it.
    """

    name: str
    kind: Kind
    needed: bool


@dataclasses.dataclass(frozen=True)
class Computation:
    """Some outputs of a graph, with only what they need, as one function of plain tensors.

    This avoids a call with composite tensors, on which TensorFlow spends as long as on computing thousands of rows.

    Attributes:
      tensors: the inputs that the outputs depend on.
      function: takes the number of rows and the components of the inputs; returns each output's components by key.
    """

    graph: "SavedGraph"
    tensors: tuple[InputTensor, ...]
    function: Any

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the outputs depend on."""
        return tuple(dict.fromkeys(column for tensor in self.tensors for column in tensor.columns))

    def __call__(self, columns: Mapping[str, GraphColumn], rows: int) -> dict[str, list[Any]]:
        """Computes the outputs for all rows of the columns.

        Raises:
          tensorflow.errors.OpError: when the graph fails.
        """
        components = [part for tensor in self.tensors for part in self.graph.components(tensor, columns, rows)]
        results: dict[str, list[Any]] = self.function(np.int64(rows), *components)
        return results

    def fault(self, columns: Mapping[str, GraphColumn], start: int, end: int) -> str | None:
        """Returns the error on rows `start` to `end`; None if there is none."""
        try:
            self({name: columns[name].slice(start, end) for name in self.columns}, end - start)
        except self.graph.row_errors as error:
            return error_text(error)
        return None


class SavedGraph:
    """A fitted graph, which threads may share.

    Attributes:
      inputs: the columns that it takes, in name order.
      tensors: the tensors that they become, as far as an output depends on these.
      columns: the names of the columns that it gives, in the order of its outputs, without those that are left out.
      width: how many values the lists of fixed length have that a row becomes.
      row_errors: exceptions that bad rows can cause; all others are faults of the machine.
    """

    def __init__(self, transform_dir: str, schema: schema_pb2.Schema):
        """Loads the graph.

        Raises:
          ConfigError: when the folder holds no graph, or one whose columns cannot be read or written.
        """
        self._tf = import_tensorflow().tf
        self._where = f"--transform {transform_dir}"
        # TensorFlow's own client knows no endpoint, and not every store.
        self._model = self._load(local_copy(stores.join(transform_dir, "transform_fn")))
        self._function = getattr(self._model.transform_fn, "concrete_functions", [self._model.transform_fn])[0]
        self._specs: Mapping[str, Any] = self._function.structured_input_signature[0][0]
        self.row_errors = (self._tf.errors.InvalidArgumentError, self._tf.errors.OutOfRangeError)
        known = _recorded_tensors(transform_dir)
        self._tensors = [self._tensor(name, spec, known.get(name)) for name, spec in sorted(self._specs.items())]
        left_out = read_left_out(transform_dir)
        specs = {key: spec for key, spec in self._function.structured_outputs.items() if key not in left_out}
        self._components = {key: parts for key, parts in self._parts().items() if key in specs}
        needed = self._inputs_of([part for parts in self._components.values() for part in parts])
        self.tensors = tuple(tensor for tensor in self._tensors if tensor.name in needed)
        self.inputs = _columns_of(self._tensors, needed)
        self.width = sum(math.prod(dim.size for dim in item.shape.dim) for item in schema.feature if item.shape.dim)
        self._outputs = graph_outputs(self._tf, specs, schema, self._where)
        self.columns = tuple(column for output in self._outputs for column in output.columns)

    def _parts(self) -> dict[str, list[Any]]:
        """Returns the plain tensors in the graph that each output consists of."""
        tensors, outputs = iter(self._function.graph.outputs), sorted(self._function.structured_outputs.items())
        flatten = self._tf.nest.flatten
        return {key: [next(tensors) for _ in flatten(spec, expand_composites=True)] for key, spec in outputs}

    def _load(self, path: str) -> Any:
        try:
            model = self._tf.saved_model.load(path)
        except (OSError, ValueError, self._tf.errors.OpError) as error:
            raise ConfigError(f"{self._where}: the graph cannot be loaded: {error_text(error)}") from error
        if not hasattr(model, "transform_fn"):
            raise ConfigError(f"{self._where}: the graph was written in TensorFlow 1 mode; fit it again")
        return model

    def outputs_of(self, columns: Collection[str]) -> dict[str, tuple[str, ...]]:
        """Returns the columns of each output that depends on some of these columns.

        Raises:
          ConfigError: when all outputs do.
        """
        lacking = {tensor.name for tensor in self._tensors if not tensor.columns.keys().isdisjoint(columns)}
        found = {
            output.key: output.columns
            for output in self._outputs
            if not lacking.isdisjoint(self._inputs_of(self._components[output.key]))
        }
        if len(found) == len(self._outputs):
            raise ConfigError(
                f"{self._where}: each output of the graph, or a check on which all of them depend, needs "
                f"{', '.join(map(repr, sorted(columns)))}, which the environment does not expect; fit a graph without "
                "it"
            )
        return found

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

    def _tensor(self, name: str, spec: Any, recorded: InputTensor | None) -> InputTensor:
        """Returns an input as the schema of the fit records it, or else as its form says.

        Raises:
          ConfigError: when no column can hold it, or nothing says which columns do.
        """
        if recorded is not None and _same_form(recorded.spec(self._tf), spec):
            return recorded
        tensor = self._plain_tensor(name, spec)
        if tensor is None:
            raise ConfigError(
                f"{self._where}: input {name!r} is not what a column can hold: {spec}; if it is made of several "
                "columns, metadata/schema.pbtxt there must be the schema of the raw data, which names them "
                "(tft_beam.WriteMetadata writes it)"
            )
        return tensor

    def _plain_tensor(self, name: str, spec: Any) -> InputTensor | None:
        tf = self._tf
        kind = {tf.int64: Kind.INT, tf.float32: Kind.FLOAT, tf.string: Kind.BYTES}.get(spec.dtype)
        if kind is None or spec.shape.rank is None:
            return None
        inner = tuple(spec.shape[1:] if isinstance(spec, tf.TensorSpec) else spec.shape[2:])
        if None in inner:
            return None
        if isinstance(spec, tf.TensorSpec):
            return DenseInput(name, kind, name, inner)
        if isinstance(spec, tf.RaggedTensorSpec) and spec.ragged_rank == 1:
            return RaggedInput(name, kind, name, inner, spec.row_splits_dtype == tf.int32)
        is_list = isinstance(spec, tf.SparseTensorSpec) and spec.shape[1:].as_list() == [None]
        return ListInput(name, kind, name) if is_list else None

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
        total = rows + len(padding)
        results = self._whole(padded, total)
        arrays = []
        for output in self._outputs:
            parts = [part.numpy() for part in results[output.key]]
            if (found := output.rows(parts)) != total:
                raise DataError(f"output {output.key!r} of the graph has {found} rows, its input has {total}")
            arrays += output.arrays(parts, rows)
        return arrays

    @functools.cached_property
    def _whole(self) -> Computation:
        return self._computation(set(self._components), {tensor.name for tensor in self.tensors})

    @functools.cached_property
    def probes(self) -> tuple[Computation, ...]:
        """One computation for each output, which try rows several times faster than the whole graph."""
        return tuple(self._computation({key}, self._inputs_of(parts)) for key, parts in self._components.items())

    def _computation(self, keys: set[str], names: set[str]) -> Computation:
        nest, specs = self._tf.nest, {name: self._specs[name] for name in sorted(names)}
        unused = [tensor for tensor in self._tensors if tensor.name not in names]

        def compute(rows: Any, *components: Any) -> dict[str, list[Any]]:
            given = nest.pack_sequence_as(specs, components, expand_composites=True)
            blanks = {tensor.name: tensor.blank(self._tf, rows) for tensor in unused}
            outputs = self._function({**given, **blanks})
            return {key: nest.flatten(outputs[key], expand_composites=True) for key in keys}

        signature = [self._tf.TensorSpec([], self._tf.int64), *nest.flatten(specs, expand_composites=True)]
        function = self._tf.function(compute, input_signature=signature).get_concrete_function()
        return Computation(self, tuple(tensor for tensor in self._tensors if tensor.name in names), function)

    def components(self, tensor: InputTensor, columns: Mapping[str, GraphColumn], rows: int) -> list[Any]:
        """Returns the plain tensors that an input consists of in the graph."""
        parts = self._tf.nest.flatten(self._specs[tensor.name], expand_composites=True)
        given = tensor.components(columns, rows)
        return [self._tf.constant(part, spec.dtype) for part, spec in zip(given, parts, strict=True)]


def _columns_of(tensors: Iterable[InputTensor], needed: Collection[str]) -> tuple[GraphInput, ...]:
    kinds: dict[str, Kind] = {}
    used: set[str] = set()
    for tensor in tensors:
        kinds |= tensor.columns
        used |= tensor.columns.keys() if tensor.name in needed else set()
    return tuple(GraphInput(name, kinds[name], name in used) for name in sorted(kinds))


def _recorded_tensors(transform_dir: str) -> dict[str, InputTensor]:
    """Returns the tensors by the schema of the raw data that lies beside a graph; none if it has none that is read."""
    path = stores.join(transform_dir, *RAW_SCHEMA)
    if not stores.exists(path):
        return {}
    try:
        with stores.open_file(path) as file:
            schema = text_format.Parse(file.read().decode(), schema_pb2.Schema())
        return {tensor.name: tensor for tensor in input_tensors(flat_schema(schema))}
    except (ConfigError, ValueError, text_format.ParseError):
        return {}


def _same_form(one: Any, other: Any) -> bool:
    """Whether a tensor of one spec can be given for the other; what TFXIO leaves open, the other may know."""
    forms = [(type(each), each.dtype, each.shape.rank, getattr(each, "ragged_rank", 0)) for each in (one, other)]
    known = zip(one.shape, other.shape, strict=True) if forms[0] == forms[1] and one.shape.rank is not None else ()
    return forms[0] == forms[1] and all(size in (None, given) or given is None for size, given in known)


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


def error_text(error: Exception) -> str:
    """Says what went wrong in one line, without TensorFlow's description of the graph around it.

    >>> error_text(ValueError("Graph execution error: ... <stack traces unavailable>\\nnot a number: x\\n\\t [[{{node"))
    'not a number: x'
    """
    text = str(getattr(error, "message", "") or error).rpartition("<stack traces unavailable>\n")[2]
    text = _ROOT_ERRORS.sub("", text.partition("\n\t [[")[0])
    return " ".join(text.split("\n"))
