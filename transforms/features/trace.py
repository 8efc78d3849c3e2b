"""Traces a `preprocessing_fn` before a row is read: which tensors it uses, and whether its outputs can be written."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.io.errors import ConfigError, DataError
from penstock.io.files.temporary import temporary_folder
from penstock.io.reserved import RESERVED
from penstock.transforms.features.code.steady import find_unsteady
from penstock.transforms.features.made_up_rows import Inputs, found_by_analyzers, run_on_made_up_rows
from penstock.transforms.features.tensorflow import Tensorflow
from penstock.transforms.features.tensors.inputs import InputTensor, ListInput, SparseInput
from penstock.transforms.features.tensors.outputs import ListOutput, positions_lost

_LOGGER = logging.getLogger(__name__)


def trace(
    t: Tensorflow,
    function: Callable[[dict[str, Any]], Any],
    tensors: Sequence[InputTensor],
    name: str,
    telling: bool = True,
) -> set[str]:
    """Returns the names of the tensors that a function looks at; it may fail if one of them were absent.

    What makes a row's features depend on more than the row is logged as a warning (`find_unsteady`), and so are sparse
    outputs that lose positions on made-up rows: those of the user may have values with which nothing is lost.

    Args:
      t: the modules.
      function: a `preprocessing_fn`.
      tensors: that it is given.
      name: what a message calls it.
      telling: whether warnings are logged.

    Raises:
      ConfigError: when the function fails, or an output cannot be written.
    """
    used: set[str] = set()

    def record(inputs: dict[str, Any]) -> dict[str, Any]:
        outputs = function(_Recorder(inputs, used))
        given = {tensor: inputs[tensor.name] for tensor in tensors}
        _check_outputs(t, outputs, given, name)
        for finding in [*find_unsteady(t.tf, inputs, outputs), *_scattered(t, outputs, given)] if telling else ():
            _LOGGER.warning("%s: %s", name, finding)
        return dict(outputs)

    try:
        needed = _dependencies(record, {tensor.name: tensor.spec(t.tf) for tensor in tensors})
    except ConfigError:
        raise
    except Exception as error:
        hint = "; it must take columns that the schema has" if isinstance(error, KeyError) else ""
        raise ConfigError(f"{name} fails: {type(error).__name__}: {error}{hint}") from error
    return used | set(needed)


def _dependencies(function: Callable[[dict[str, Any]], dict[str, Any]], specs: Mapping[str, Any]) -> Iterable[str]:
    """Returns the inputs that outputs depend on, as `tft.get_transform_input_columns` does.

    That one has no folder for assets. Without files of their own, vocabularies at the same place in two functions share
    a table in this process, and fail if one is of numbers and the other of texts.
    """
    from tensorflow_transform import graph_tools, impl_helper

    with temporary_folder() as folder:
        traced = impl_helper.trace_preprocessing_function(function, specs, False, base_temp_dir=folder)
        names: Iterable[str] = graph_tools.get_dependent_inputs(*traced)
        return names


class _Recorder(dict[str, Any]):
    """Inputs of a preprocessing function that record which of them it looks at."""

    def __init__(self, inputs: Mapping[str, Any], used: set[str]):
        super().__init__(inputs)
        self._used = used

    def __getitem__(self, name: str) -> Any:
        self._used.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and super().__contains__(name):
            self._used.add(name)
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        _ = name in self
        return super().get(name, default)

    def pop(self, name: str, *default: Any) -> Any:
        _ = name in self
        return super().pop(name, *default)

    def __iter__(self) -> Iterator[str]:
        self._used.update(super().keys())
        return super().__iter__()

    def keys(self) -> Any:
        self._used.update(super().keys())
        return super().keys()

    def values(self) -> Any:
        self._used.update(super().keys())
        return super().values()

    def items(self) -> Any:
        self._used.update(super().keys())
        return super().items()

    def copy(self) -> dict[str, Any]:
        return dict(self.items())


def _check_outputs(t: Tensorflow, outputs: Any, inputs: Inputs, name: str) -> None:
    """Checks that outputs can be written, as far as that shows without rows.

    Raises:
      ConfigError: naming the output, and what to do.
    """
    if not isinstance(outputs, Mapping) or not outputs:
        raise ConfigError(f"{name}: must return a dict of tensors by name, got {type(outputs).__name__} {outputs!r}")
    annotated = _annotated(t)
    columns: dict[str, str] = {}
    for key, tensor in sorted(outputs.items(), key=lambda item: str(item[0])):
        where = f"{name}: output {key!r}"
        _check_type(t, tensor, where)
        fault = _fault(t, key, tensor, annotated, inputs)
        if fault:
            raise ConfigError(f"{where} cannot be written: {fault}")
        for column in _columns(t, key, tensor, annotated):
            if column in RESERVED:
                raise ConfigError(f"{where}: the name is reserved by Penstock; rename it")
            if columns.setdefault(column, key) != key:
                raise ConfigError(
                    f"{where}: becomes the column {column!r}, as output {columns[column]!r} does; rename it"
                )


def _annotated(t: Tensorflow) -> set[Any]:
    """Returns references to the values of the sparse tensors whose positions were annotated to matter."""
    from tensorflow_transform import schema_inference

    graph = t.tf.compat.v1.get_default_graph()
    return {values.ref() for values, _ in schema_inference._get_sparse_output_annotations(graph)}


def _check_type(t: Tensorflow, tensor: Any, where: str) -> None:
    tf = t.tf
    if not isinstance(tensor, (tf.Tensor, tf.SparseTensor, tf.RaggedTensor)):
        raise ConfigError(f"{where}: must be a Tensor, SparseTensor or RaggedTensor, got {type(tensor).__name__}")
    if tensor.dtype not in (tf.int64, tf.float32, tf.string):
        fit = {"bool": "int64", "float": "float32"}.get(tensor.dtype.name.rstrip("0123456789"), "int64")
        cast = f"tf.cast({where.rpartition(' ')[2]}, tf.{fit})"
        raise ConfigError(f"{where}: must be int64, float32 or string, got {tensor.dtype.name}; use {cast}")


def _fault(t: Tensorflow, key: str, tensor: Any, annotated: set[Any], inputs: Inputs) -> str | None:
    tf, shape = t.tf, tensor.shape
    if shape.rank is None:
        return "the number of its dimensions is not known; set it with tf.reshape or tf.ensure_shape"
    if shape.rank == 0 or shape[0] is not None:
        return f"its first dimension must be that of the rows, got the shape {shape}"
    if shape.rank == 1 and isinstance(tensor, tf.SparseTensor):
        return "a SparseTensor must have a second dimension; return it dense (tf.sparse.to_dense)"
    if isinstance(tensor, tf.Tensor):
        unknown = None in shape[1:] and None in _final_shape(t, tensor)[1:]
        return _UNKNOWN.format(shape) if unknown else None
    if isinstance(tensor, tf.SparseTensor):
        lost = shape.rank == 2 and tensor.values.ref() not in annotated and _is_scattered(t, tensor, inputs)
        return positions_lost(key) if lost else None
    return _UNIFORM if _is_uniform(t, tensor) else None


_UNKNOWN = (
    "a dense tensor must have as many values in each row, got the shape {}; give it a width (tf.ensure_shape, or "
    "dense_shape and default_value of what made it), or return it as a SparseTensor or RaggedTensor"
)


# tensorflow-transform fails on these only when it writes the graph, after the fit.
_UNIFORM = (
    "a dimension of the RaggedTensor is uniform; make it ragged, as with tf.RaggedTensor.from_nested_row_splits("
    "x.flat_values, x.nested_row_splits)"
)


def _is_uniform(t: Tensorflow, tensor: Any) -> bool:
    while isinstance(tensor, t.tf.RaggedTensor):
        if tensor.uniform_row_length is not None:
            return True
        tensor = tensor.values
    return False


def _final_shape(t: Tensorflow, tensor: Any) -> Any:
    """Returns the shape of a tensor when all analyzers have values: a dimension may be as large as a vocabulary."""
    tf, is_sparse = t.tf, isinstance(tensor, t.tf.SparseTensor)
    wanted = tensor.dense_shape if is_sparse else tensor
    with tf.Graph().as_default():
        numbers, graph = found_by_analyzers(t, wanted.graph), wanted.graph.as_graph_def()
        (found,) = tf.graph_util.import_graph_def(graph, numbers, [wanted.name], name="")
        # TensorFlow infers sizes from a tensor of sizes where a sparse tensor is made.
        return (
            tf.SparseTensor(tf.zeros([0, tensor.shape.rank], tf.int64), [], found).shape if is_sparse else found.shape
        )


def _is_scattered(t: Tensorflow, tensor: Any, inputs: Inputs) -> bool:
    """Whether the values of a sparse matrix surely stand where they mean something.

    They do where a sparse feature has them, and where a dense matrix of fixed width has values other than 0, such as a
    one-hot.
    """
    source = _source(tensor.indices)
    sparse = [given for item, given in inputs.items() if isinstance(item, SparseInput)]
    if any(_source(given.indices) is source for given in sparse):
        return True
    return source.type == "Where" and (tensor.shape[1] or _final_shape(t, tensor)[1]) not in (None, 1)


def _scattered(t: Tensorflow, outputs: Mapping[str, Any], inputs: Inputs) -> Iterator[str]:
    """Yields what is wrong with sparse matrices whose indices, on made-up rows, no list can hold."""
    annotated, lists = _annotated(t), [given.indices for item, given in inputs.items() if isinstance(item, ListInput)]
    for key, tensor in sorted(outputs.items()):
        if not isinstance(tensor, t.tf.SparseTensor) or tensor.shape.rank > 2 or tensor.values.ref() in annotated:
            continue
        if any(_source(indices) is _source(tensor.indices) for indices in lists):
            continue
        found = run_on_made_up_rows(t, [tensor.indices, tensor.dense_shape], inputs)
        if found is not None:
            yield from _lost(key, *found)


def _lost(key: str, indices: Any, shape: Any) -> Iterator[str]:
    try:
        ListOutput(key, single=False).arrays([indices, np.zeros(len(indices), np.int64), shape], int(shape[0]))
    except DataError as error:
        yield f"on made-up rows, {error}; on the rows themselves, that fails when the graph is applied, after the fit"


def _source(tensor: Any) -> Any:
    """Returns the operation that indices come from, copies aside."""
    op = tensor.op
    while op.type in ("Identity", "SparseReorder"):
        op = op.inputs[0].op
    return op


def _columns(t: Tensorflow, key: str, tensor: Any, annotated: set[Any]) -> list[str]:
    """Returns the columns that an output becomes."""
    if isinstance(tensor, t.tf.RaggedTensor):
        lengths = [f"{key}$row_lengths_{at}" for at, size in enumerate(tensor.shape[2:], 1) if size is None]
        return [f"{key}$ragged_values", *lengths]
    if isinstance(tensor, t.tf.SparseTensor) and (tensor.shape.rank > 2 or tensor.values.ref() in annotated):
        return [f"{key}$sparse_values", *(f"{key}$sparse_indices_{at}" for at in range(tensor.shape.rank - 1))]
    return [key]
