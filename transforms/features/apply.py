"""Applies fitted features: runs the saved graph on every batch; rows on which it fails become dead letters."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.utils import shared
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import (
    MAX_BATCH_BYTES,
    TakesBatches,
    check_different_names,
    drop_rows,
    notes_of,
    slice_rows,
    with_notes,
    without_notes,
)
from penstock.io.beam.row_counters import RowCounters
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.reasons import Reason
from penstock.io.reserved import RESERVED
from penstock.io.schema import Feature, feature_map
from penstock.transforms._named import FITTED_FEATURES, GRAPH_SCHEMA, no_graph
from penstock.transforms.checks.validate import RecordChecks, record_checks, validate_batch
from penstock.transforms.features.arrow.fitted_features import FittedFeatures
from penstock.transforms.features.engine import fitted_engine
from penstock.transforms.features.left_out import read_left_out
from penstock.transforms.features.saved_graph import SavedGraph, error_text
from penstock.transforms.features.tensorflow import import_tensorflow
from penstock.transforms.features.tensors.arrays import GraphColumn, graph_column
from penstock.transforms.features.tensors.outputs import TooManyValuesError

_ERROR = "transform.error"

# A row may become a list of thousands of numbers, as by `one_hot`: so many bytes of lists are computed at once.
_MAX_BYTES = 4 * MAX_BATCH_BYTES
_BYTES_OF_VALUE = 4

# A job checks its graph several times before the workers load it; these are often threads of the same process.
_LOADED = shared.Shared()


@dataclasses.dataclass(eq=False)
class ApplyTransform(TakesBatches, RejectingTransform):
    """Applies a fitted graph to batches.

    Input and output are a `PCollection[pyarrow.RecordBatch]`. The computed features replace all columns except the
    reserved ones. Dense outputs of one value a row, and outputs whose schema has `value_count { max: 1 }`, become
    scalar columns, others lists; int64, float32 or binary; null where a row has no value. A sparse or ragged output has
    several columns (`penstock.transforms.features.tensors.outputs`). Rows on which the graph
    fails, or whose features break the graph's own schema, are rejected as `transform.error`. As long as the graph
    computes row by row, the values of a row do not depend on its batch, to the last bit.

    Attributes:
      transform_dir: the folder that `FitTransform`, tensorflow-transform or TFX wrote the graph to; features that are
        fitted without TensorFlow are applied without it.
      features: the features of the input columns; if given, they are checked before the pipeline runs.

    Raises:
      ConfigError: while the graph is built; see `check_transform`.
      ImportError: for a graph of TensorFlow without the extra `tft`.
      DataError: on the workers, when a column is not of the kind that the graph takes.
    """

    transform_dir: str
    features: Sequence[Feature] | None = None

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Checks the graph and applies it."""
        check_transform(self.transform_dir, self.features)
        apply = beam.ParDo(_ApplyFn(self.transform_dir)).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "Apply" >> apply.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


def apply_graph(graph: SavedGraph | FittedFeatures, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, dict[int, Reason]]:
    """Returns the features of the rows that the graph can compute, and for each other row the reason why it cannot.

    A batch on which a graph of TensorFlow fails is halved until the bad rows are alone.

    Raises:
      DataError: when a column is not of the kind that the graph takes, or the graph fails though no single row does.
    """
    if isinstance(graph, FittedFeatures):
        features, texts = graph.apply(batch)
        return features, {row: Reason(_ERROR, texts[row]) for row in sorted(texts)}
    columns, faults = _graph_columns(graph, batch)
    left = _others(faults, batch.num_rows)
    values: list[pa.Array] | None = None
    while values is None and len(left):
        rows = {name: column.take(left) for name, column in columns.items()} if faults else columns
        values, failed = _try_rows(graph, rows, len(left))
        faults |= {int(left[row]): text for row, text in failed.items()}
        left = np.delete(left, list(failed))
    reasons = {row: Reason(_ERROR, faults[row]) for row in sorted(faults)}
    if values is None:
        return batch.slice(0, 0), reasons
    reserved = [name for name in batch.schema.names if name in RESERVED]
    kept = batch.select(reserved)
    kept = kept.take(pa.array(left)) if reasons else kept
    outputs = pa.record_batch([*values, *kept.columns], [*graph.columns, *reserved])
    return with_notes(outputs, notes_of(batch)), reasons


def check_features(
    features: pa.RecordBatch, reasons: Mapping[int, Reason], checks: RecordChecks
) -> tuple[pa.RecordBatch, dict[int, Reason]]:
    """Returns the features that conform to the schema of the graph, and the reasons against all other rows.

    The logarithm of a negative number, for instance, is NaN, which no reader of the dataset expects.

    Args:
      features: those that could be computed, in the order of the rows.
      reasons: why the features of the other rows could not be computed, by row.
      checks: of the schema of the graph.
    """
    wrong = validate_batch(features, checks).reasons
    if not wrong:
        return features, dict(reasons)
    rows = _others(reasons, features.num_rows + len(reasons))
    found = {
        int(rows[index]): Reason(_ERROR, f"a computed feature breaks the schema of the features: {why[0].detail}")
        for index, why in wrong.items()
    }
    return drop_rows(features, wrong), dict(sorted({**reasons, **found}.items()))


def _graph_columns(graph: SavedGraph, batch: pa.RecordBatch) -> tuple[dict[str, GraphColumn], dict[int, str]]:
    """Returns the inputs of the graph, and the rows that it cannot take."""
    columns: dict[str, GraphColumn] = {}
    faults: dict[int, str] = {}
    for item in graph.inputs:
        if item.needed:
            columns[item.name], bad = graph_column(batch, item.name, item.kind)
            faults = bad | faults
    for tensor in graph.tensors:
        faults = tensor.faults(columns) | faults
    return columns, faults


def _try_rows(
    graph: SavedGraph, columns: Mapping[str, GraphColumn], rows: int
) -> tuple[list[pa.Array] | None, dict[int, str]]:
    """Returns the outputs for some rows; or None, and at least one of the bad rows."""
    try:
        return graph.run(columns, rows), {}
    except TooManyValuesError as error:
        return None, dict.fromkeys(error.rows, str(error))
    except graph.row_errors:
        return None, _find_faults(graph, columns, rows)


def _find_faults(graph: SavedGraph, columns: Mapping[str, GraphColumn], rows: int) -> dict[int, str]:
    """Finds the rows on which an output fails, output by output: faster than halving with the whole graph.

    Raises:
      DataError: when no row fails alone.
    """
    faults: dict[int, str] = {}
    for probe in graph.probes:
        left = _others(faults, rows)
        others = {name: columns[name].take(left) for name in probe.columns}
        faults |= {int(left[row]): text for row, text in _bisect(functools.partial(probe.fault, others), 0, len(left))}
    whole = functools.partial(_whole_fault, graph, columns)
    faults = faults or dict(_bisect(whole, 0, rows))
    if not faults:
        raise DataError(
            f"the graph fails on {rows} rows together and on none of them alone: {whole(0, rows)}; "
            "a feature must depend on its own row only"
        )
    return faults


def _others(rows: Collection[int], total: int) -> npt.NDArray[np.int64]:
    return np.delete(np.arange(total), list(rows))


def _whole_fault(graph: SavedGraph, columns: Mapping[str, GraphColumn], start: int, end: int) -> str | None:
    try:
        graph.run({name: column.slice(start, end) for name, column in columns.items()}, end - start)
    except graph.row_errors as error:
        return error_text(error)
    return None


def _bisect(fault: Callable[[int, int], str | None], start: int, end: int) -> Iterator[tuple[int, str]]:
    """Yields the rows for which `fault` returns an error when they are alone, with the error."""
    text = fault(start, end) if start < end else None
    if text is not None and end - start == 1:
        yield start, text
    elif text is not None:
        middle = (start + end) // 2
        yield from _bisect(fault, start, middle)
        yield from _bisect(fault, middle, end)


class _ApplyFn(beam.DoFn):
    def __init__(self, transform_dir: str):
        self._dir = transform_dir
        self._counters = RowCounters("ApplyTransform")

    def setup(self) -> None:
        self._graph = load_graph(self._dir)
        self._checks = record_checks(transformed_schema(self._dir))

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        check_different_names(batch)
        size = batch.num_rows * self._graph.width * _BYTES_OF_VALUE
        for start, stop in slice_rows(batch.num_rows, size, max_bytes=_MAX_BYTES):
            yield from self._process((without_notes(batch) if start else batch).slice(start, stop - start))

    def _process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        features, reasons = check_features(*apply_graph(self._graph, batch), self._checks)
        self._counters.add(in_rows=batch.num_rows, bad_rows=len(reasons), out_rows=features.num_rows)
        yield from reject(row_letters(batch, {row: [reason] for row, reason in reasons.items()}, "transform"))
        if features.num_rows:
            yield features


def load_graph(transform_dir: str) -> SavedGraph | FittedFeatures:
    """Loads a fitted graph, or features that are fitted without TensorFlow, unless this process has loaded it last.

    Raises:
      ConfigError: when the folder holds no graph, or one whose columns cannot be read or written.
      ImportError: for a graph of TensorFlow without the extra `tft`.
    """
    schema, tag = transformed_schema(transform_dir), transform_fingerprint(transform_dir)
    if fitted_engine(transform_dir) == "arrow":
        return _LOADED.acquire(lambda: FittedFeatures(transform_dir, read_left_out(transform_dir)), tag=tag)
    import_tensorflow()
    return _LOADED.acquire(lambda: SavedGraph(transform_dir, schema), tag=tag)


def check_transform(
    transform_dir: str, features: Sequence[Feature] | None = None, unexpected: Collection[str] = ()
) -> dict[str, tuple[str, ...]]:
    """Checks that a folder holds a graph that can be applied, and if `features` are given, to columns of these.

    Args:
      transform_dir: the folder.
      features: of the rows.
      unexpected: columns that rows lack rightly, such as the label where a model serves.

    Returns:
      The outputs that need one of the `unexpected`, each with its columns: they are to be left out (`leave_out`).

    Raises:
      ConfigError: otherwise, with the columns that are missing or of the wrong kind.
      ImportError: without the extra `tft`.
    """
    graph = load_graph(transform_dir)
    if features is None:
        return {}
    columns = feature_map(features)
    needed = [item for item in graph.inputs if item.needed]
    missing = [item.name for item in needed if item.name not in columns]
    if missing and not set(missing) <= set(unexpected):
        raise ConfigError(
            f"--transform {transform_dir}: the graph needs {', '.join(map(repr, missing))}, which the schema does not "
            f"have; it has {', '.join(map(repr, sorted(columns)))}"
        )
    for item in needed:
        kind = columns[item.name].kind if item.name in columns else item.kind
        if kind is not item.kind:
            raise ConfigError(
                f"--transform {transform_dir}: the graph takes {item.name!r} as {item.kind.value}, the schema has "
                f"{kind.value}; fit again, or correct the schema"
            )
    return graph.outputs_of(missing) if missing else {}


def transformed_schema(transform_dir: str) -> schema_pb2.Schema:
    """Returns the schema of a fitted graph's outputs; a feature with a `shape` is in every row. Needs no TensorFlow.

    Raises:
      ConfigError: when the folder does not hold a fitted graph, or cannot be reached from here.
    """
    check_filesystem(transform_dir, f"--transform {transform_dir}")
    path = stores.join(transform_dir, *GRAPH_SCHEMA)
    try:
        with stores.open_unpacked(path) as file:
            return text_format.Parse(file.read().decode(), schema_pb2.Schema())
    except (OSError, ValueError, text_format.ParseError) as error:
        raise no_graph(transform_dir, error) from error


def transform_fingerprint(transform_dir: str) -> str:
    """Returns the SHA-256 (hex) of a fitted graph's files, by name and content. Needs no TensorFlow.

    Every graph of TensorFlow has a fingerprint of its own, even of the same rows; fitted without it, features of the
    same rows have the same, exported as a SavedModel or not.

    Raises:
      ConfigError: when the folder does not hold a fitted graph.
    """
    transformed_schema(transform_dir)
    digest = hashlib.sha256()
    fitted = stores.read_if_there(stores.join(transform_dir, FITTED_FEATURES))
    if fitted is not None:
        digest.update(f"{FITTED_FEATURES} {hashlib.sha256(fitted).hexdigest()}\n".encode())
    for folder in ("vocabularies" if fitted is not None else "transform_fn", "transformed_metadata"):
        root = stores.join(transform_dir, folder)
        for path in sorted(file.path for file in stores.files_below(root)):
            with stores.open_file(path) as file:
                content = hashlib.sha256(file.read()).hexdigest()
            digest.update(f"{folder}{path[len(root) :]} {content}\n".encode())
    return digest.hexdigest()
