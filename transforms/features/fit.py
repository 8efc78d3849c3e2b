"""Fits features to the training rows: by Arrow, or as a TensorFlow graph that holds their statistics."""

import dataclasses
import json
import logging
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, check_different_names, check_global_window
from penstock.io.beam.row_counters import RowCounters
from penstock.io.errors import ConfigError, DataError, NoRowsError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.folders import delete_files, move_folder, remove_folder
from penstock.io.reasons import Note, merge_notes
from penstock.io.reserved import SPLIT
from penstock.io.schema import Kind, schema_features, write_schema
from penstock.transforms._named import FITTED_FEATURES, GRAPH_SCHEMA, RAW_SCHEMA, AnyEngine
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.checks.validate import ColumnCheck, inherit_specials, record_checks
from penstock.transforms.features.analyses.losses import Noticing, notes_of
from penstock.transforms.features.arrow.fit import AnalyzeFeatures, Found, features_schema, fitted_program
from penstock.transforms.features.arrow.fitted_file import write_fitted
from penstock.transforms.features.arrow.program import Program
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.engine import choose_engine
from penstock.transforms.features.entries.vocabulary import check_classes
from penstock.transforms.features.functions import FeatureFile, Preprocessing
from penstock.transforms.features.tensorflow import Tensorflow, import_tensorflow
from penstock.transforms.features.tensors.arrays import GraphColumn, graph_column, large_list_array
from penstock.transforms.features.tensors.inputs import (
    KINDS,
    DenseInput,
    InputTensor,
    ListInput,
    flat_schema,
    input_tensors,
    tensors_schema,
)
from penstock.transforms.features.trace import trace

_LOGGER = logging.getLogger(__name__)

# What is to be told of a fit, beside the schema of its inputs.
_NOTES = ("metadata", "notes.json")

_ENFORCE = SchemaSeverity()

TensorFunction = Callable[[dict[str, Any]], dict[str, Any]]

_TYPES = {Kind.INT: schema_pb2.INT, Kind.FLOAT: schema_pb2.FLOAT, Kind.BYTES: schema_pb2.BYTES}
_ARROW_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float32(), Kind.BYTES: pa.binary()}


@dataclasses.dataclass(eq=False)
class FitTransform(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[str]]):
    """Fits features to rows and writes what applies them.

    The input is a `PCollection[pyarrow.RecordBatch]` of columns as a read under `schema` yields them. The output is a
    `PCollection[str]` of one element, `output_dir`, when everything is written there::

        transform_fn/           the graph, a SavedModel, as `tft.TFTransformOutput` loads it (engine tft)
        features.json           the features with what is fitted (engine arrow)
        vocabularies/           those of features.json, if it has any
        transformed_metadata/   the schema of its outputs
        metadata/               the schema of its inputs, and `notes.json` if the fit loses values (`fit_notes`)

    Anything there under these names is replaced, but only at the end. Statistics depend on the order of the rows and
    on the batches only as far as docs/tfx.md says of each operation.

    Attributes:
      features: the features (`load_features`), or any `preprocessing_fn`.
      schema: the schema of the columns; only those that the features use are read from the batches.
      output_dir: where the graph goes.
      split: fit on the rows with this `_split`; None fits on all rows.
      temp_dir: a folder for the analysis, which all workers and TensorFlow can reach. By default a folder inside
        `output_dir`, removed at the end; a graph in `s3://` or `az://` needs one elsewhere.
      severity: what became of rows that break the schema. A feature of a column that may have NaN or infinities with a
        warning may have them, too.
      engine: "tft", "arrow", or "auto": Arrow for a `FeatureFile`, else tensorflow-transform.

    Raises:
      ConfigError: while the pipeline is built, when the features do not fit the schema or their function fails, a
        folder is on a filesystem that cannot be reached from here, or rows are in windows.
      ImportError: without the extra `tft`, for its engine.
      NoRowsError: on the workers, when there are no rows.
      DataError: on the workers, when a row has no value, too many, or one that float32 cannot
        hold, where the features need exactly one.
    """

    features: FeatureFile | FeatureFunction | TensorFunction
    schema: schema_pb2.Schema
    output_dir: str
    split: str | None = None
    temp_dir: str | None = None
    severity: SchemaSeverity = _ENFORCE
    engine: AnyEngine = "tft"

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """Selects the rows, analyzes them and writes the graph."""
        for folder in filter(None, (self.output_dir, self.temp_dir)):
            check_filesystem(folder)
        check_global_window(batches, "FitTransform")
        if choose_engine(self.features, self.engine) == "arrow":
            return self._fit_columns(batches)
        return self._fit_graph(batches)

    def _fit_columns(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """Fits without TensorFlow."""
        if not isinstance(self.features, FeatureFile):
            raise TypeError("only a FeatureFile is fitted without TensorFlow")
        preprocessing = self.features.bind(schema_features(self.schema))
        outputs = sorted(preprocessing.outputs, key=lambda output: output.entry.name)
        program = Program(preprocessing.inputs, tuple(outputs))
        rows = batches | "SelectRows" >> beam.ParDo(_SelectSplitFn(self.split)).with_output_types(pa.RecordBatch)
        found = rows | "Analyze" >> AnalyzeFeatures(program)
        columns = record_checks(self.schema, severity=self.severity).passing()
        publish = _PublishFittedFn(self.output_dir, program, _file_plan(preprocessing), columns, self.split)
        once = batches.pipeline | "Once" >> beam.Create([None])
        return once | "Publish" >> beam.ParDo(publish, beam.pvalue.AsIter(found)).with_output_types(str)

    def _fit_graph(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[str]:
        """Fits with tensorflow-transform."""
        tensorflow = import_tensorflow()
        plan = _plan(tensorflow, self.features, self.schema)
        temp_dir = self.temp_dir or self._default_temp_dir()
        rows = batches | "SelectRows" >> beam.ParDo(
            _SelectRowsFn(plan.columns, plan.tensors, self.split, plan.labels)
        ).with_output_types(pa.RecordBatch)
        with tensorflow.tft_beam.Context(temp_dir=temp_dir):
            graph, notes = plan.analyze(tensorflow, rows)
            written = graph | "WriteGraph" >> tensorflow.tft_beam.WriteTransformFn(stores.join(temp_dir, "graph"))
        count = rows | "CountBatches" >> beam.Map(_num_rows) | "CountRows" >> beam.CombineGlobally(sum)
        columns = record_checks(self.schema, severity=self.severity).passing()
        publish = _PublishFn(temp_dir, self.output_dir, plan, columns, self.split)
        lost = notes[0] if notes else batches.pipeline | "NothingLost" >> beam.Create([])
        results = (beam.pvalue.AsSingleton(count), beam.pvalue.AsIter(written), beam.pvalue.AsIter(lost))
        once = batches.pipeline | "Once" >> beam.Create([None])
        return once | "Publish" >> beam.ParDo(publish, *results).with_output_types(str)

    def _default_temp_dir(self) -> str:
        if stores.scheme_of(self.output_dir) in _UNKNOWN_TO_TENSORFLOW:
            raise ConfigError(
                f"{self.output_dir}: TensorFlow fits a graph in a folder that it can reach itself, and not this store; "
                "give a temp_dir that all workers can reach, such as one of this machine (a job: fit without --runner)"
            )
        return stores.join(self.output_dir, f".tmp-fit-{uuid.uuid4().hex[:8]}")


def check_preprocessing(
    features: FeatureFile | FeatureFunction | TensorFunction, schema: schema_pb2.Schema
) -> tuple[str, ...]:
    """Checks, without a row, that features can be fitted to columns of a schema; a file needs no TensorFlow for that.

    The warnings of a function are left to the fit itself.

    Returns:
      The demands of the schema that each row must meet to be fitted on, such as `fare.presence`, whatever their
      severity: those on what a dense tensor without a default is made of, and on the parts of a sparse one.

    Raises:
      ConfigError: when they do not fit the schema, the function fails, or an output of it cannot be written.
      ImportError: without the extra `tft`, for a function.
    """
    if isinstance(features, FeatureFile):
        return _file_plan(features.bind(schema_features(schema))).demands
    return _function_plan(import_tensorflow(), features, schema, telling=False).demands


def _num_rows(batch: pa.RecordBatch) -> int:
    return batch.num_rows


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is analyzed.

    Attributes:
      function: computes the features.
      schema: of the columns that the function uses.
      tensors: that it uses, which are made of these.
      single: the features that have at most one value in each row.
      sources: the columns of each feature, as far as they are known; the others may depend on all columns.
      name: what a message calls the function.
    """

    function: TensorFunction
    schema: schema_pb2.Schema
    tensors: tuple[InputTensor, ...]
    single: frozenset[str]
    sources: Mapping[str, Sequence[str]]
    name: str

    @property
    def columns(self) -> dict[str, Kind]:
        """The columns that are read, in the schema's order, with their kinds."""
        return {message.name: KINDS[message.type] for message in self.schema.feature}

    @property
    def demands(self) -> tuple[str, ...]:
        """What of the schema each row must meet, as feature and reason (`check_preprocessing`)."""
        dense = [item.values for item in self.tensors if isinstance(item, DenseInput) and item.default is None]
        sparse = [f"{view.name}.parts" for view in self.schema.sparse_feature]
        return (*(f"{name}.{reason}" for name in dense for reason in ("presence", "value_count")), *sparse)

    @property
    def labels(self) -> frozenset[str]:
        """The columns that must be classes, which vocabularies are told by."""
        return self.function.labels if isinstance(self.function, Preprocessing) else frozenset()

    def sources_of(self, feature: str) -> Sequence[str]:
        """Returns the columns that a feature may depend on."""
        return self.sources.get(feature) or list(self.columns)

    def analyze(
        self, tensorflow: Tensorflow, rows: beam.PCollection[pa.RecordBatch]
    ) -> tuple[Any, list[beam.PCollection[tuple[int, Note]]]]:
        """Returns the fitted graph, deferred, and the notes of what it loses, if it can lose any.

        Raises:
          ConfigError: when the function fails, or returns anything but features.
        """
        from tfx_bsl.tfxio import tensor_adapter, tensor_representation_util

        representations = tensor_representation_util.InferTensorRepresentationsFromMixedSchema(self.schema)
        arrow_schema = pa.schema([(name, pa.large_list(_ARROW_TYPES[kind])) for name, kind in self.columns.items()])
        config = tensor_adapter.TensorAdapterConfig(arrow_schema, representations)
        _forget_eager_calls(tensorflow)
        # Features of a file keep integers exact.
        function = Noticing(self.function, integers=not isinstance(self.function, Preprocessing))
        try:
            graph = (rows, config) | "Analyze" >> tensorflow.tft_beam.AnalyzeDataset(function)
        except Exception as error:
            raise ConfigError(f"{self.name} fails: {type(error).__name__}: {error}") from error
        return graph, function.notes


def _forget_eager_calls(tensorflow: Tensorflow) -> None:
    """Clears what eager calls of tensorflow-transform's operations left in the default graph.

    These operations annotate their results in collections there (`schema_inference.set_tensor_schema_override`). The
    functions that `AnalyzeDataset` traces inherit the collections (`FuncGraph.__init__`), and tracing fails on an eager
    tensor in them.
    """
    graph = tensorflow.tf.compat.v1.get_default_graph()
    for name in graph.get_all_collection_keys():
        if name.startswith(("tft_", "annotated_")):
            graph.clear_collection(name)


def _name(features: FeatureFunction | TensorFunction) -> str:
    """What a message calls a function: by the flag that names it, if there is one."""
    if isinstance(features, FeatureFunction):
        return features.flag
    name = getattr(features, "__qualname__", type(features).__name__)
    return f"preprocessing function {features.__module__}:{name}"


def _plan(
    tensorflow: Tensorflow, features: FeatureFile | FeatureFunction | TensorFunction, schema: schema_pb2.Schema
) -> _Plan:
    if isinstance(features, FeatureFile):
        return _file_plan(features.bind(schema_features(schema)))
    return _function_plan(tensorflow, features, schema)


def _function_plan(
    tensorflow: Tensorflow,
    features: FeatureFunction | TensorFunction,
    schema: schema_pb2.Schema,
    telling: bool = True,
) -> _Plan:
    function = features.load() if isinstance(features, FeatureFunction) else features
    flat = flat_schema(schema)
    tensors = input_tensors(flat)
    name = _name(features)
    used = trace(tensorflow, function, tensors, name, telling)
    part = tensors_schema(flat, [tensor for tensor in tensors if tensor.name in used])
    return _Plan(function, part, input_tensors(part), frozenset(), {}, name)


def _file_plan(preprocessing: Preprocessing) -> _Plan:
    messages = []
    for column in preprocessing.inputs:
        message = schema_pb2.Feature(name=column.name, type=_TYPES[column.kind])
        if column.dense:
            message.presence.min_fraction = 1
            message.shape.SetInParent()
        messages.append(message)
    sources = {output.entry.name: output.entry.inputs for output in preprocessing.outputs}
    schema = schema_pb2.Schema(feature=messages)
    tensors = tuple(
        (DenseInput if item.dense else ListInput)(item.name, item.kind, item.name) for item in preprocessing.inputs
    )
    return _Plan(preprocessing, schema, tensors, preprocessing.single, sources, "the features")


class _SelectRowsFn(beam.DoFn):
    """Selects the rows of the split and the columns to analyze, in the form that tensorflow-transform takes."""

    def __init__(
        self, columns: Mapping[str, Kind], tensors: Sequence[InputTensor], split: str | None, labels: frozenset[str]
    ):
        self._labels = sorted(labels)
        self._columns = dict(columns)
        self._tensors = tuple(tensors)
        self._split = split
        self._counters = RowCounters("FitTransform")

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        check_different_names(batch)
        selected = batch if self._split is None else rows_of_split(batch, self._split)
        if selected.num_rows:
            self._counters.add(in_rows=selected.num_rows)
            columns = _analyzed(selected, self._columns, self._tensors)
            for label in self._labels:
                check_classes(label, columns[label].values)
            yield pa.record_batch([large_list_array(column) for column in columns.values()], list(columns))


class _SelectSplitFn(beam.DoFn):
    """Selects the rows of the split."""

    def __init__(self, split: str | None):
        self._split = split
        self._counters = RowCounters("FitTransform")

    def process(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        check_different_names(batch)
        selected = batch if self._split is None else rows_of_split(batch, self._split)
        if selected.num_rows:
            self._counters.add(in_rows=selected.num_rows)
            yield selected


def rows_of_split(batch: pa.RecordBatch, split: str) -> pa.RecordBatch:
    """Returns the rows that have this `_split`.

    Raises:
      DataError: when the rows have no split.
    """
    if SPLIT not in batch.schema.names:
        raise DataError(f"cannot fit on split {split!r}: the rows have no split; assign one first (AssignSplit)")
    return batch.filter(pc.equal(batch.column(SPLIT).cast(pa.string()), split))


def _analyzed(
    batch: pa.RecordBatch, kinds: Mapping[str, Kind], tensors: Sequence[InputTensor]
) -> dict[str, GraphColumn]:
    columns: dict[str, GraphColumn] = {}
    for name, kind in kinds.items():
        columns[name], faults = graph_column(batch, name, kind)
        _check_faults(faults)
    for tensor in tensors:
        _check_faults(tensor.faults(columns))
        columns |= tensor.arranged(columns)
    return columns


def _check_faults(faults: Mapping[int, str]) -> None:
    if faults:
        raise DataError(
            f"cannot fit: in a row, {next(iter(faults.values()))}; validate the rows first (ValidateRecords), or "
            "correct the schema"
        )


# Where the packages that Penstock needs give TensorFlow no filesystem.
_UNKNOWN_TO_TENSORFLOW = ("s3", "az", "azfs")


class _PublishFn(beam.DoFn):
    """Completes what tensorflow-transform wrote and moves it to its final folder."""

    def __init__(self, temp_dir: str, output_dir: str, plan: _Plan, columns: Sequence[ColumnCheck], split: str | None):
        self._temp_dir = temp_dir
        self._output_dir = output_dir
        self._plan = dataclasses.replace(plan, function=dict)  # the function need not pickle
        self._columns = tuple(columns)
        self._split = split

    def process(self, _: None, rows: int, written: Iterable[Any], lost: Iterable[Any]) -> Iterator[str]:
        source = stores.join(self._temp_dir, "graph")
        list(written)
        if not rows:
            remove_folder(self._temp_dir)
            raise _no_rows(self._split)
        _complete_metadata(source, self._plan, self._columns)
        _write_notes(source, notes_of(lost))
        for name in ("metadata", "transformed_metadata", "transform_fn"):
            move_folder(stores.join(source, name), stores.join(self._output_dir, name))
        _remove_fitted(self._output_dir)
        remove_folder(self._temp_dir)
        yield self._output_dir


def _no_rows(split: str | None) -> NoRowsError:
    which = "there are no rows" if split is None else f"the split {split!r} has no rows"
    return NoRowsError(f"cannot fit the features: {which}")


def _remove_fitted(output_dir: str) -> None:
    """Removes what an earlier fit without TensorFlow wrote."""
    if stores.exists(stores.join(output_dir, FITTED_FEATURES)):
        delete_files(output_dir, [FITTED_FEATURES])
    remove_folder(stores.join(output_dir, "vocabularies"))


class _PublishFittedFn(beam.DoFn):
    """Writes what was fitted without TensorFlow; the file that says so comes last."""

    def __init__(
        self, output_dir: str, program: Program, plan: _Plan, columns: Sequence[ColumnCheck], split: str | None
    ):
        self._output_dir = output_dir
        self._program = program
        self._plan = plan
        self._columns = tuple(columns)
        self._split = split

    def process(self, _: None, found: Iterable[Found]) -> Iterator[str]:
        phases = list(found)
        if not phases:
            raise _no_rows(self._split)
        program = fitted_program(self._program, phases)
        schema = features_schema(program)
        for feature in schema.feature:
            _inherit(feature, self._plan, self._columns)
        for name in ("metadata", "transformed_metadata", "transform_fn"):
            remove_folder(stores.join(self._output_dir, name))
        _remove_fitted(self._output_dir)
        write_schema(self._plan.schema, stores.join(self._output_dir, *RAW_SCHEMA))
        write_schema(schema, stores.join(self._output_dir, *GRAPH_SCHEMA))
        _write_notes(self._output_dir, merge_notes(note for phase in phases for note in phase.notes))
        write_fitted(program, self._output_dir)
        yield self._output_dir


def _write_notes(graph_dir: str, notes: tuple[Note, ...]) -> None:
    """Writes what is to be told of the fit, and tells it."""
    if not notes:
        return
    for note in notes:
        _LOGGER.warning("%s, in %s values: %s (%s)", note.subject, f"{note.count:,}", note.detail, note.code)
    text = json.dumps([dataclasses.asdict(note) for note in notes], indent=2) + "\n"
    with stores.create_file(stores.join(graph_dir, *_NOTES), "application/json") as file:
        file.write(text.encode())


def fit_notes(transform_dir: str) -> tuple[Note, ...]:
    """Returns what became of values when a graph was fitted: integers narrowed, terms that no vocabulary holds."""
    path = stores.join(transform_dir, *_NOTES)
    if not stores.exists(path):
        return ()
    with stores.open_file(path) as file:
        return tuple(Note(**fields) for fields in json.loads(file.read()))


def _complete_metadata(graph_dir: str, plan: _Plan, columns: Sequence[ColumnCheck]) -> None:
    """Adds the schema of the inputs, and records what outputs may be: single, NaN, infinite."""
    from penstock.transforms.features.apply import transformed_schema

    write_schema(plan.schema, stores.join(graph_dir, *RAW_SCHEMA))
    transformed = transformed_schema(graph_dir)
    for feature in transformed.feature:
        if feature.name in plan.single and not feature.HasField("shape"):
            feature.value_count.min = feature.value_count.max = 1
        _inherit(feature, plan, columns)
    write_schema(transformed, stores.join(graph_dir, *GRAPH_SCHEMA))


def _inherit(feature: schema_pb2.Feature, plan: _Plan, columns: Sequence[ColumnCheck]) -> None:
    sources = plan.sources_of(feature.name)
    inherit_specials(feature, [check for check in columns if check.feature.name in sources])
