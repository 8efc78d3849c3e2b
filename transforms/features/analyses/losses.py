"""Notices what a graph loses while it is fitted: integers that are narrowed, terms that no vocabulary holds.

Both happen inside tensorflow-transform, in any `preprocessing_fn`. They are found in the graph when it is traced, and
counted in the rows that it is fitted on, beside its own analyses.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt

from penstock.io.columns.float32 import MAX_EXACT_WHOLE, lost_digits
from penstock.io.reasons import Note, merge_notes

# The codes of the notes.
NARROWED = "fit.narrowed"
UNHELD = "fit.unheld"

_SHAPES = ("Shape", "ShapeN", "Size")


@dataclasses.dataclass(frozen=True)
class Loss:
    """What may be lost at one place of a graph.

    Attributes:
      code: of the note.
      columns: that the values are computed from.
      tensor: the name of the tensor that has the values; None for those of a column, whose name differs by trace.
      mask: the name of the tensor that marks those that may be lost; None for integers.
    """

    code: str
    columns: tuple[str, ...]
    tensor: str | None = None
    mask: str | None = None

    def note(self, values: npt.NDArray[Any]) -> Note | None:
        """Returns what is to be told of the values of a batch."""
        lost = values if self.code == UNHELD else values[_loses(values)]
        if not len(lost):
            return None
        detail = _unheld(min(lost)) if self.code == UNHELD else _narrowed(int(min(lost)))
        return Note(self.code, ", ".join(self.columns), len(lost), detail)


def _loses(integers: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    return integers.astype(np.float32).astype(np.float64) != integers.astype(np.float64)


def _narrowed(value: int) -> str:
    return (
        f"{lost_digits(value)}, as a statistic takes it; subtract a whole number before it, or describe the feature in "
        "a YAML file, whose operations centre integers exactly"
    )


def unheld_note(columns: str, count: int, term: bytes) -> Note:
    """Returns the note of values that no vocabulary holds, the first of which in the order of texts is `term`."""
    return Note(UNHELD, columns, count, _unheld(term))


def _unheld(term: bytes) -> str:
    return (
        f"{term.decode(errors='replace')!r} is out of vocabulary, since a text file holds no line breaks and no empty "
        "term; file_format: tfrecord_gzip holds both"
    )


class Noticing:
    """A `preprocessing_fn` that counts what it loses while it is analyzed.

    tensorflow-transform traces the function several times, here and on workers, with fewer of its analyses each time.
    All traces must have the same, so that what the first finds is kept.

    Attributes:
      notes: has a `PCollection` of (place, `Note`) when the analysis is applied, unless nothing can be lost.
    """

    def __init__(self, function: Callable[[dict[str, Any]], Any], integers: bool):
        """`integers`: whether to look for integers that are narrowed, too."""
        self._function = function
        self._integers = integers
        self._losses: list[Loss] | None = None
        self.notes: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "notes": []}

    def __call__(self, inputs: dict[str, Any]) -> Any:
        """Returns the outputs of the function."""
        import tensorflow as tf
        import tensorflow_transform as tft

        sources = dict(inputs)
        outputs = self._function(inputs)
        if self._losses is None:
            self._losses = list(_find(sources, self._integers))
        if self._losses:
            _ = tft.experimental.ptransform_analyzer(
                inputs=[_lost(loss, sources) for loss in self._losses],
                ptransform=_Notice(self._losses, self.notes),
                output_dtypes=[tf.int64],
                output_shapes=[[]],
                name="penstock_losses",
            )
        return outputs


def _lost(loss: Loss, sources: Mapping[str, Any]) -> Any:
    """Returns the values that may be lost, as a flat tensor."""
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    tensor = graph.get_tensor_by_name(loss.tensor) if loss.tensor else _values(sources[loss.columns[0]])
    mask = _is_large(tensor) if loss.mask is None else graph.get_tensor_by_name(loss.mask)
    return tf.boolean_mask(tf.reshape(tensor, [-1]), tf.reshape(mask, [-1]))


class _Notice(beam.PTransform[Any, Any]):
    """Makes notes of the batches; its own output is there because an analysis must have one."""

    def __init__(self, losses: list[Loss], notes: list[Any]):
        super().__init__()
        self._losses = losses
        self._notes = notes

    def expand(self, batches: Any) -> Any:
        found = batches | "Notice" >> beam.ParDo(_NoticeFn(self._losses)).with_output_types(tuple[int, Note])
        self._notes.append(found | "Merge" >> beam.CombinePerKey(_merged))
        return batches.pipeline | "Done" >> beam.Create([np.int64(0)])


class _NoticeFn(beam.DoFn):
    def __init__(self, losses: list[Loss]):
        self._losses = losses

    def process(self, batch: tuple[npt.NDArray[Any], ...]) -> Iterator[tuple[int, Note]]:
        for place, (loss, values) in enumerate(zip(self._losses, batch, strict=True)):
            if note := loss.note(values):
                yield place, note


def _merged(notes: Iterable[Note]) -> Any:
    """Merges notes of one place; none are merged to None, as Beam begins with."""
    return next(iter(merge_notes(note for note in notes if note is not None)), None)


def notes_of(found: Iterable[tuple[int, Note]]) -> tuple[Note, ...]:
    """Returns one note for each code and subject: where several places lose the same values, that of the most."""
    most: dict[tuple[str, str], Note] = {}
    for _, note in sorted(found, key=lambda item: (item[1].count, item[1].detail)):
        most[note.code, note.subject] = note
    return tuple(most[key] for key in sorted(most))


def _find(sources: Mapping[str, Any], integers: bool) -> Iterator[Loss]:
    import tensorflow as tf

    graph = tf.compat.v1.get_default_graph()
    columns = {_values(source).op: name for name, source in sources.items()}
    found = [(UNHELD, terms, mask) for terms, mask in _unheld_terms(graph)]
    if integers:
        found += [(NARROWED, tensor, None) for tensor in _narrowed_integers(graph, columns)]
    for code, tensor, mask in found:
        # A count of values is no value: the way from a column to an integer that is narrowed is one of integers.
        through = _is_integer if code == NARROWED else _is_any
        names = sorted({columns[op] for op in _upstream([tensor.op], columns, through) if op in columns})
        if names:
            yield Loss(
                code, tuple(names), None if tensor.op in columns else tensor.name, None if mask is None else mask.name
            )


def _values(source: Any) -> Any:
    """Returns the tensor of an input's values."""
    import tensorflow as tf

    if isinstance(source, tf.RaggedTensor):
        return source.flat_values
    return source.values if isinstance(source, tf.SparseTensor) else source


def _is_large(tensor: Any) -> Any:
    return (tensor > MAX_EXACT_WHOLE) | (tensor < -MAX_EXACT_WHOLE)


def _unheld_terms(graph: Any) -> list[tuple[Any, Any]]:
    """Returns the terms from which tensorflow-transform takes those for a vocabulary, and which it leaves out."""
    import tensorflow as tf
    from tensorflow_transform import analyzers

    pattern = str(analyzers.get_vocab_newline_characters_regex(tf.string, "text")).encode()
    return [
        (op.inputs[0], op.outputs[0])
        for op in graph.get_operations()
        if op.type == "StaticRegexFullMatch" and op.get_attr("pattern") == pattern
    ]


def _narrowed_integers(graph: Any, columns: Mapping[Any, str]) -> list[Any]:
    """Returns the tensors of int64 that are cast to a float of 32 bits or less on the way to an analysis."""
    import tensorflow as tf

    found = {}
    for tensors, keeps in _analyzed(graph):
        if not keeps:
            found.update({tensor.ref(): tensor for tensor in tensors if tensor.dtype == tf.int64})
        for op in _upstream([tensor.op for tensor in tensors], columns, _is_any):
            narrow = op.type == "Cast" and op.outputs[0].dtype in (tf.float32, tf.float16, tf.bfloat16)
            if narrow and op.inputs[0].dtype == tf.int64:
                found[op.inputs[0].ref()] = op.inputs[0]
    return list(found.values())


def _analyzed(graph: Any) -> Iterator[tuple[list[Any], bool]]:
    """Yields the tensors of each analysis, and whether it keeps integers: boundaries of quantiles are float32."""
    from tensorflow_transform import analyzer_nodes, analyzers

    left = [sink.future.parent_operation for sink in graph.get_collection(analyzer_nodes.TENSOR_REPLACEMENTS)]
    seen = set()
    while left:
        operation = left.pop()
        if id(operation) in seen:
            continue
        seen.add(id(operation))
        keeps = not isinstance(getattr(operation.operation_def, "combiner", None), analyzers.QuantilesCombiner)
        for value in operation.inputs:
            definition = value.parent_operation.operation_def
            if isinstance(definition, analyzer_nodes.TensorSource):
                yield list(definition.tensors), keeps
            left.append(value.parent_operation)


def _is_any(tensor: Any) -> bool:
    return True


def _is_integer(tensor: Any) -> bool:
    return bool(tensor.dtype.is_integer)


def _upstream(ops: list[Any], sources: Mapping[Any, str], through: Callable[[Any], bool]) -> set[Any]:
    """Returns the operations that these depend on, themselves included, up to the sources and shapes."""
    reached: set[Any] = set()
    left = list(ops)
    while left:
        op = left.pop()
        if op not in reached:
            reached.add(op)
            if op not in sources and op.type not in _SHAPES:
                left += [tensor.op for tensor in op.inputs if through(tensor)]
    return reached
