"""Finds what makes a row's features depend on more than the row: Python code, random numbers, the rows of its batch.

A `preprocessing_fn` is traced into a graph, and there each operation is named. That an operation takes in other rows of
the batch shows where its axis is known: a reduction over the axis of the rows, a sort of them, the first of them. So
values are followed from the inputs, with the axis of the rows, through operations that keep it. What may do anything
with the rows, such as a loop, makes one finding, which says that this is not decided. Analyzers take in all rows, as
they must, and their results are no values of the batch.
"""

import dataclasses
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

# TensorFlow has no type annotations.
Tensor: TypeAlias = Any
Operation: TypeAlias = Any

_PYTHON = re.compile(r"(Eager)?PyFunc(Stateless)?")
_RANDOM = re.compile(
    r"Random\w*|Stateful(Random|Uniform|StandardNormal|TruncatedNormal)\w*|(Parameterized)?TruncatedNormal|Multinomial|"
    r"RngReadAndSkip|Timestamp"
)
_BY_PLACE = re.compile(r"Stateless(Random|TruncatedNormal|Multinomial|ParameterizedTruncatedNormal|Shuffle)\w*")

_PYTHON_TEXT = (
    "runs Python that is no part of the graph: only a process that has run the function can compute it (no model "
    "server, no other machine), and nothing says that it gives the same again; write it with operations of TensorFlow"
)
_RANDOM_TEXT = "gives something else each time: the same rows do not give the same dataset"
_BATCH_TEXT = (
    "takes in the rows of a batch together, and which rows those are is chance: the features of a row are not the same "
    "each time, nor when served; use an analyzer (tft.mean, tft.min, tft.quantiles, ...), which takes in all rows"
)

_UNDECIDED_TEXT = (
    "may take in the rows of a batch together, which a look at the graph cannot decide{}: make sure that each row is "
    "computed from its own values alone, or use operations whose axes show (tf.reduce_sum, tf.matmul, tf.gather)"
)

# What may do anything with the rows: loops, branches, functions, and sums and places that somebody else's numbers name.
_UNFOLLOWED = re.compile(
    r"(Stateless)?(While|If|Case)|(Stateful)?PartitionedCall|(Batch)?Einsum|XlaEinsum|Einsum|GatherNd|(Tensor)?ScatterNd\w*"
)

_REDUCTIONS = frozenset(["Sum", "Mean", "Max", "Min", "Prod", "All", "Any", "EuclideanNorm"])
# Operations along axes that an input names, with its index.
_ALONG = {name: 1 for name in ("ArgMax", "ArgMin", "Cumsum", "Cumprod", "CumulativeLogsumexp", "ReverseV2")} | {
    "Roll": 2
}
_ALONG_LAST = frozenset(["TopKV2", "Softmax", "LogSoftmax"])
# What follows from how many values there are, and where, not from what they are.
_ENDS = frozenset(["Shape", "ShapeN", "Size", "Rank", "Where", "ZerosLike", "OnesLike", "SparseReshape", "RaggedRange"])
# Which output has the values, of operations that have several.
_VALUES = {
    **dict.fromkeys(["StringSplitV2", "RaggedTensorToSparse", "SparseReorder", "SparseFillEmptyRows"], 1),
    **dict.fromkeys(["SparseSlice", "SparseConcat", "UnicodeDecode", "UnicodeDecodeWithOffsets"], 1),
}
# Of these an input with values gives the rows, whatever its rank is: its index.
_TO_ROWS = {"SparseToDense": 2, "RaggedTensorToTensor": 1}


@dataclasses.dataclass(frozen=True)
class Finding:
    """An operation that makes features depend on more than their row.

    Attributes:
      operation: its type and name in the graph.
      line: where the function makes it, such as `taxi.py, line 57, in _fill`; "" if that is not known.
      text: what it does, and what to do.
    """

    operation: str
    line: str
    text: str

    def __str__(self) -> str:
        return f"{self.line}: {self.operation} {self.text}" if self.line else f"{self.operation} {self.text}"


def find_unsteady(tf: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> list[Finding]:
    """Returns what makes outputs depend on more than a row of the inputs, in the graph's order, each line once.

    The graph is TensorFlow's default one.

    Args:
      tf: the module.
      inputs: what a function was given while it was traced: dense, sparse and ragged tensors.
      outputs: what it returned.
    """
    tensors = tf.nest.flatten(dict(outputs), expand_composites=True)
    graph = tf.compat.v1.get_default_graph()
    order = {operation.name: at for at, operation in enumerate(graph.get_operations())}
    found = [*_unrepeatable(graph), *_mixing(tf, inputs, graph.get_operations(), _reaching(tensors))]
    libraries = tuple(map(_folder, (tf.__file__, *map(_file_of, _LIBRARIES), os.path.dirname(__file__))))
    findings: dict[tuple[str, str], Finding] = {}
    for operation, text in sorted(found, key=lambda pair: order[pair[0].name]):
        if text == _UNDECIDED_TEXT and _is_of_tft(operation, libraries):
            continue
        finding = Finding(f"{operation.type} ({operation.name})", _line(operation, libraries), text)
        findings.setdefault((finding.line or finding.operation, text), finding)
    return _undecided_once(list(findings.values()))


def _undecided_once(findings: list[Finding]) -> list[Finding]:
    """Joins what is not decided to its first; none of a line of which something else is told."""
    told = [finding for finding in findings if finding.text != _UNDECIDED_TEXT]
    lines = {finding.line for finding in told}
    undecided = [finding for finding in findings if finding.text == _UNDECIDED_TEXT and finding.line not in lines]
    if not undecided:
        return told
    first, more = undecided[0], len(undecided) - 1
    also = f", nor in {more} other {'place' if more == 1 else 'places'}" if more else ""
    return [*told, dataclasses.replace(first, text=_UNDECIDED_TEXT.format(also))]


def _unrepeatable(graph: Any) -> Iterator[tuple[Operation, str]]:
    """Operations whose values no graph decides, also those inside loops and branches."""
    functions = {function.signature.name: function for function in graph.as_graph_def().library.function}
    for operation in graph.get_operations():
        types = {operation.type, *_inner_types(operation, functions)}
        if any(_PYTHON.fullmatch(kind) for kind in types):
            yield operation, _PYTHON_TEXT
        if any(_RANDOM.fullmatch(kind) for kind in types):
            yield operation, _RANDOM_TEXT
        if (
            _BY_PLACE.fullmatch(operation.type)
            and operation.outputs[0].shape.rank
            and operation.outputs[0].shape[0] is None
        ):
            yield operation, _BATCH_TEXT


def _has_rows(shape: Any) -> bool:
    return bool(shape.rank) and shape[0] is None


def _inner_types(operation: Operation, functions: Mapping[str, Any]) -> set[str]:
    """The types of the operations of the functions that an operation calls."""
    types: set[str] = set()
    seen: set[str] = set()
    names = _called(operation.node_def.attr.values())
    while names:
        name = names.pop()
        if name in functions and name not in seen:
            seen.add(name)
            for node in functions[name].node_def:
                types.add(node.op)
                names += _called(node.attr.values())
    return types


def _called(attributes: Iterable[Any]) -> list[str]:
    found = []
    for value in attributes:
        found += [value.func.name] if value.HasField("func") else [item.name for item in value.list.func]
    return found


def _reaching(tensors: Iterable[Tensor]) -> set[str]:
    """The names of the operations that tensors are computed from."""
    seen: set[str] = set()
    left = [tensor.op for tensor in tensors if hasattr(tensor, "op")]
    while left:
        operation = left.pop()
        if operation.name not in seen:
            seen.add(operation.name)
            left += [tensor.op for tensor in operation.inputs]
    return seen


def _mixing(
    tf: Any, inputs: Mapping[str, Any], operations: Iterable[Operation], reaching: set[str]
) -> Iterator[tuple[Operation, str]]:
    """Operations that take in several rows of a batch, and outputs that depend on them, or may do so."""
    rows: dict[Any, int | None] = {_values_of(tf, tensor).ref(): 0 for tensor in inputs.values()}
    for operation in operations:
        known = {at: rows[item.ref()] for at, item in enumerate(operation.inputs) if item.ref() in rows}
        if not known or operation.name not in reaching or operation.type in _ENDS:
            continue
        axes = {at: axis for at, axis in known.items() if axis is not None}
        step = _Step(tf, operation, axes) if axes and not _is_unfollowed(operation) else None
        if step is not None and step.mixes():
            yield operation, _BATCH_TEXT
        elif step is not None and (axis := step.axis()) is not None:
            rows[operation.outputs[_VALUES.get(operation.type, 0)].ref()] = axis
        else:
            rows |= dict.fromkeys((output.ref() for output in operation.outputs), None)
            if _is_unfollowed(operation):
                yield operation, _UNDECIDED_TEXT


def _is_unfollowed(operation: Operation) -> bool:
    """Whether an operation may do anything with rows."""
    # `tf.sparse.from_dense` takes each value from where it was found.
    is_found = operation.type == "GatherNd" and operation.inputs[1].op.type == "Where"
    return bool(_UNFOLLOWED.fullmatch(operation.type)) and not is_found


def _values_of(tf: Any, tensor: Any) -> Tensor:
    if isinstance(tensor, tf.SparseTensor):
        return tensor.values
    return tensor.flat_values if isinstance(tensor, tf.RaggedTensor) else tensor


@dataclasses.dataclass(frozen=True)
class _Step:
    """An operation on values of the rows; `axes`: the index of an input, and which of its axes is that of the rows."""

    tf: Any
    operation: Operation
    axes: Mapping[int, int]

    def mixes(self) -> bool:
        """Whether the operation takes in several rows for one."""
        kind = self.operation.type
        if kind in _REDUCTIONS:
            return 0 in self.axes and self.axes[0] in self._named_axes(1)
        if kind in _ALONG:
            return 0 in self.axes and self.axes[0] in self._named_axes(_ALONG[kind])
        if kind in _ALONG_LAST:
            return self.axes[0] + 1 == self._rank(0)
        if kind in ("MatMul", "BatchMatMulV2"):
            return self._contracts()
        if kind == "StridedSlice":
            return self.axes.get(0) == 0 and bool(self._attribute("shrink_axis_mask") & 1)
        return kind == "L2Loss"

    def _contracts(self) -> bool:
        first, second = ("transpose_a", "transpose_b") if self.operation.type == "MatMul" else ("adj_x", "adj_y")
        ranks = [self._rank(0) or 0, self._rank(1) or 0]
        inner = (ranks[0] - (2 if self._attribute(first) else 1), ranks[1] - (1 if self._attribute(second) else 2))
        return any(self.axes.get(at) == inner[at] for at in (0, 1))

    def axis(self) -> int | None:
        """The axis of the rows in the result; None where that is not known."""
        kind, special = self.operation.type, _AXES.get(self.operation.type)
        if special is not None:
            return special(self)
        if kind in _TO_ROWS:
            return self.axes.get(_TO_ROWS[kind])
        if len(self.operation.outputs) > 1 and kind not in _VALUES:
            return None
        return self._aligned()

    def _aligned(self) -> int | None:
        """Of operations on each value: axes are counted from the last one, since the others are broadcast."""
        rank = self.operation.outputs[0].shape.rank
        at, axis = next(iter(self.axes.items()))
        given = self._rank(at)
        if rank is None or given is None or (rank != given and self.operation.type not in _BROADCAST):
            return None
        return rank - given + axis

    def after_reduction(self) -> int | None:
        """Of a reduction over other axes than that of the rows."""
        axes = self._named_axes(1)
        if 0 not in self.axes or not axes:
            return None
        return self.axes[0] - (0 if self._attribute("keep_dims") else sum(axis < self.axes[0] for axis in axes))

    def after_transpose(self) -> int | None:
        """Of a permutation of the axes."""
        order = self._static(1)
        return None if order is None or 0 not in self.axes else list(order).index(self.axes[0])

    def after_reshape(self) -> int | None:
        """Of a new shape: the rows stay first, if their number is what is unknown."""
        shape = self.operation.outputs[0].shape
        return 0 if self.axes.get(0) == 0 and shape.rank and shape[0] is None else None

    def after_insertion(self) -> int | None:
        """Of a stack of tensors, and of a new axis."""
        axis = self._attribute("axis") if self.operation.type == "Pack" else self._static(1)
        rank = self.operation.outputs[0].shape.rank
        if axis is None or rank is None:
            return None
        own = next(iter(self.axes.values()))
        return own + 1 if int(axis) % rank <= own else own

    def after_slice(self) -> int | None:
        """Of a slice: a new axis in front moves the rows."""
        if self.axes.get(0) != 0:
            return None
        return 1 if self._attribute("new_axis_mask") & 1 else 0

    def after_gather(self) -> int | None:
        """Of values at indices: the rows are those of the indices, or those of the values if they are chosen from."""
        axis = self._static(2)
        if axis is None or (0 in self.axes and int(axis) != 0):
            return self.axes.get(0) if axis is not None else None
        return self.axes[1] if 1 in self.axes else self.axes[0] if self.operation.outputs[0].shape.rank else None

    def _named_axes(self, at: int) -> list[int]:
        """The axes that an input of an operation on input 0 names; empty if they are not known."""
        axes, rank = self._static(at), self._rank(0)
        if axes is None or not rank:
            return []
        return [int(axis) % rank for axis in axes.reshape(-1)]

    def _static(self, at: int) -> Any:
        return self.tf.get_static_value(self.operation.inputs[at])

    def _rank(self, at: int) -> int | None:
        rank: int | None = self.operation.inputs[at].shape.rank
        return rank

    def _attribute(self, name: str) -> Any:
        return self.operation.get_attr(name)


_AXES: Mapping[str, Callable[[_Step], int | None]] = {
    **dict.fromkeys([*_REDUCTIONS, "ArgMax", "ArgMin"], _Step.after_reduction),
    "Transpose": _Step.after_transpose,
    "Reshape": _Step.after_reshape,
    "Pack": _Step.after_insertion,
    "ExpandDims": _Step.after_insertion,
    "StridedSlice": _Step.after_slice,
    "GatherV2": _Step.after_gather,
}
_BROADCAST = frozenset(
    [
        *("Add", "AddV2", "Sub", "Mul", "Div", "RealDiv", "FloorDiv", "FloorMod", "DivNoNan", "MulNoNan", "Pow"),
        *("Atan2", "Maximum", "Minimum", "SquaredDifference", "Equal", "NotEqual", "Greater", "GreaterEqual", "Less"),
        *("LessEqual", "LogicalAnd", "LogicalOr", "Select", "SelectV2", "BroadcastTo"),
    ]
)


# Whose lines are not the user's, beside TensorFlow's and ours.
_LIBRARIES = ("tensorflow_transform", "keras", "tf_keras")


def _file_of(module: str) -> str:
    return getattr(sys.modules.get(module), "__file__", None) or __file__


def _folder(path: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(path)), "")


def _is_of_tft(operation: Operation, libraries: tuple[str, ...]) -> bool:
    """Whether the user's code calls tensorflow-transform to make an operation: it keeps rows apart."""
    tft = _folder(_file_of("tensorflow_transform"))
    for frame in reversed(list(operation.traceback or [])):
        if frame.filename.startswith(tft):
            return True
        if not frame.filename.startswith(("<", *libraries)):
            return False
    return False


def _line(operation: Operation, libraries: tuple[str, ...]) -> str:
    """Where the user's code makes an operation: the innermost line that is no library's."""
    for frame in reversed(list(operation.traceback or [])):
        if not frame.filename.startswith(("<", *libraries)):
            return f"{os.path.basename(frame.filename)}, line {frame.lineno}, in {frame.name}"
    return ""
