"""What `prepare` and `fit` share: a recipe, read from what their flags name, and a plan, which binds it to a schema.

Both detect every fault that can be detected without reading a row, before a pipeline starts.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self

import apache_beam as beam
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.error_handling import ErrorHandler
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock import __version__
from penstock.io.beam.durations import ZERO, AnyDuration
from penstock.io.beam.windows import Windows, parse_window
from penstock.io.columns.event_times import check_event_time, parse_event_time
from penstock.io.dead_letters.first import FirstRejects, first_rejects
from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.errors import ConfigError, NoRowsError
from penstock.io.files.folders import delete_files
from penstock.io.files.temporary import temporary_folder
from penstock.io.reasons import Note
from penstock.io.schema import Feature, load_schema, schema_features, write_schema
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.checks.file import Checks, load_checks
from penstock.transforms.checks.unique.keys import check_unique
from penstock.transforms.checks.unique.transform import RejectDuplicates
from penstock.transforms.checks.validate import ValidateRecords
from penstock.transforms.event_time import AssignEventTime
from penstock.transforms.features.fit import FitTransform, fit_notes
from penstock.transforms.features.functions import FeatureFile, FeatureFunction, load_features
from penstock.transforms.features.tensorflow import check_tensorflow
from penstock.transforms.infer import SummarizeRowsFn, Summary, summary_notes, summary_schema
from penstock.transforms.rolling.file import RollingSpec
from penstock.transforms.rolling.transform import RollingFeatures, load_rolling, rolling_schema
from penstock.transforms.split import AssignSplit, check_key, parse_split
from pipelines._cli.options import CheckOptions, ReadingOptions, SplitOptions, TransformOptions
from pipelines._report.phases import COMPARE, READ, ROLL, Phase
from pipelines._run.job import is_local, run_pipeline

_LOGGER = logging.getLogger(__name__)

TRAIN = "train"

_NOTES_SUFFIX = ".notes"

_PACKAGES = ("apache-beam", "pyarrow", "numpy", "isal", "tensorflow-metadata", "tensorflow-transform", "tensorflow")


@dataclasses.dataclass(frozen=True)
class InferredSchema:
    """A schema, and what it does to values of the rows that it was inferred from."""

    schema: schema_pb2.Schema
    notes: tuple[Note, ...]


def infer_schema(source: Source, beam_options: PipelineOptions, path: str) -> InferredSchema:
    """Infers the schema of the whole input and writes it to `path`, for the user to curate.

    Raises:
      NoRowsError: when the input has no row to infer from; says why its rows are rejected.
    """
    title = "inferring the schema"
    with first_rejects(path) as handler:
        with run_pipeline(beam_options, title, [READ.named(title)]) as pipeline:
            rows = pipeline | "Read" >> source.read().with_error_handler(handler)
            _ = (
                rows
                | "InferSchema" >> beam.CombineGlobally(SummarizeRowsFn()).with_output_types(Summary)
                | "WriteSchema" >> beam.Map(_write_inferred, path)
            )
        inferred = InferredSchema(load_schema(path), _take_notes(path))
        if not inferred.schema.feature:
            raise no_rows(source, handler.found(), inferred.notes)
        return inferred


def _told(notes: Sequence[Note]) -> str:
    return "; ".join(f"{note.subject!r}, in {note.count:,} rows: {note.detail}" for note in notes)


def _write_inferred(summary: Summary, path: str) -> None:
    """Writes the schema, and the notes beside it: whoever runs the job reads what a worker found."""
    write_schema(summary_schema(summary), path)
    notes = json.dumps([dataclasses.asdict(note) for note in summary_notes(summary)])
    with FileSystems.create(path + _NOTES_SUFFIX, "application/json", compression_type="uncompressed") as file:
        file.write(notes.encode())


def _take_notes(path: str) -> tuple[Note, ...]:
    """Reads what `_write_inferred` has written beside the schema, and removes it."""
    with FileSystems.open(path + _NOTES_SUFFIX, compression_type="uncompressed") as file:
        notes = tuple(Note(**fields) for fields in json.loads(file.read()))
    folder, name = FileSystems.split(path)
    delete_files(folder or ".", [name + _NOTES_SUFFIX])
    return notes


def look_at(source: Source) -> None:
    """Warns of what looks wrong about the input, before anything is written.

    Raises:
      InputError: when the input cannot be what the flags say.
    """
    for text in source.look() if isinstance(source, FileSource) else ():
        _LOGGER.warning("%s", text)


def no_rows(source: Source, rejects: FirstRejects | None = None, notes: Sequence[Note] = ()) -> NoRowsError:
    """The error of an input without a single row; says why its rows are rejected, or what was left out of them."""
    if notes:
        return NoRowsError(
            f"the input has no rows with a member that can be a column ({_told(notes)}): {source.describe()}; nothing "
            "is written"
        )
    if rejects is not None and rejects.rows:
        return NoRowsError(
            f"the input has no rows that can be read: {source.describe()}; nothing is written; "
            f"{_rejected_text(rejects, source)}"
        )
    why = source.why_empty() if isinstance(source, FileSource) else ""
    return NoRowsError(f"the input has no rows: {source.describe()}{why}; nothing is written")


def _rejected_text(rejects: FirstRejects, source: Source) -> str:
    examples = rejects.examples(input_uris(source))
    return f"{rejects.rows:,} {'row is' if rejects.rows == 1 else 'rows are'} rejected: {examples}"


def input_uris(source: Source) -> frozenset[str]:
    """Lists what a source reads."""
    return frozenset(str(entry["uri"]) for entry in source.inputs())


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the flags ask to be done with the rows; `load` checks everything that needs no schema.

    Attributes:
      checks: what `--rules` asks of the rows.
      windows: of the dataset; None without.
      splits: split name to its part of the rows.
      rolling: what `--rolling` computes; None without.
      preprocessing: what `--features` computes; None without.
    """

    checks: Checks
    label: str | None
    splits: Mapping[str, float]
    split_key: tuple[str, ...]
    seed: int
    event_time: str | None
    windows: Windows | None
    rolling: RollingSpec | None
    preprocessing: FeatureFile | FeatureFunction | None

    @classmethod
    def load(
        cls,
        inputs: ReadingOptions,
        checks: CheckOptions,
        split: SplitOptions,
        transform: TransformOptions,
        window: str | None = None,
    ) -> Self:
        """Reads the files that the flags name.

        Raises:
          ConfigError: when a file of rules or features, a split or an event time is wrong.
          ImportError: when there are features, and the extra `tft` is not installed.
        """
        if transform.features or transform.transform:
            check_tensorflow()
        if inputs.event_time:
            parse_event_time(inputs.event_time)
        recipe = cls(
            checks=load_checks(checks.rules) if checks.rules else Checks(),
            label=checks.label,
            splits=parse_split(split.split) if split.split else {TRAIN: 1.0},
            split_key=split.split_key,
            seed=split.seed,
            event_time=inputs.event_time,
            windows=parse_window(window) if window else None,
            rolling=load_rolling(transform.rolling) if transform.rolling else None,
            preprocessing=load_features(transform.features) if transform.features else None,
        )
        if recipe.preprocessing is not None and TRAIN not in recipe.splits:
            raise ConfigError(f"--features are fitted on the split {TRAIN!r}, which --split does not name")
        return recipe

    @property
    def phases(self) -> list[Phase]:
        """Those of bounded input between reading and what comes of the rows."""
        return [*([COMPARE] if self.checks.unique else []), *([ROLL] if self.rolling else [])]


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe bound to its source and schema.

    Attributes:
      schema: of the rows that are read.
      features: its features, in its order.
      notes: what an inferred schema does to values.
    """

    source: Source
    recipe: Recipe
    schema: schema_pb2.Schema
    features: tuple[Feature, ...]
    notes: tuple[Note, ...] = ()

    @classmethod
    def bind(cls, source: Source, recipe: Recipe, schema: schema_pb2.Schema, notes: tuple[Note, ...] = ()) -> Self:
        """Checks the recipe against the schema.

        Raises:
          ConfigError: when a rule, feature, label, key or event time does not fit the schema.
        """
        plan = cls(source, recipe, schema, schema_features(schema), notes)
        check_unique(recipe.checks.unique, plan.features, recipe.windows)
        if recipe.split_key:
            check_key(recipe.split_key, plan.features)
        if recipe.event_time:
            check_event_time(recipe.event_time, plan.features)
        if recipe.rolling and not (recipe.event_time or source.has_event_times):
            raise ConfigError("--rolling looks back in event time: pass --event_time COLUMN")
        if isinstance(recipe.preprocessing, FeatureFile):
            recipe.preprocessing.bind(schema_features(plan.row_schema))
        plan.validation()
        return plan

    @property
    def row_schema(self) -> schema_pb2.Schema:
        """The schema of the rows behind `check_and_split`: the columns that are read, and the rolling features."""
        return rolling_schema(self.schema, self.recipe.rolling) if self.recipe.rolling else self.schema

    def validation(self) -> ValidateRecords:
        """The transform that checks rows; making it checks rules and label against the schema."""
        return ValidateRecords(self.schema, self.recipe.checks.rules, self.recipe.label)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the schema."""
        return tuple(feature.name for feature in self.features)

    def read(self, order_key: bool = False, keep_source: bool = False) -> RejectingTransform:
        """The transform that reads all of the source, typed by the schema; the arguments are those of `Source.read`."""
        return self.source.read(self.features, order_key, keep_source)

    def check_and_split(
        self,
        rows: beam.PCollection[pa.RecordBatch],
        handler: ErrorHandler,
        lateness: AnyDuration = ZERO,
        spill: str | None = None,
    ) -> beam.PCollection[pa.RecordBatch]:
        """Validates rows and adds event time, rolling features and split; the handler takes the rejected rows.

        What repeats a key is rejected when the rows have their event times, before any feature is computed.

        Args:
          rows: as they are read.
          handler: of rejects.
          lateness: how late a row of a stream may come and see all of its past (`RollingFeatures`).
          spill: a folder for bounded input that is grouped by key, where all workers share this machine's disk.
        """
        rows = rows | "ValidateRecords" >> self.validation().with_error_handler(handler)
        recipe = self.recipe
        if recipe.event_time and not self.source.has_event_times:
            rows = rows | "AssignEventTime" >> AssignEventTime(recipe.event_time).with_error_handler(handler)
        for key in recipe.checks.unique:
            once = RejectDuplicates(key, recipe.windows, lateness, spill).with_error_handler(handler)
            rows = rows | f"RejectDuplicates {key.name}" >> once
        if recipe.rolling:
            rows = rows | "RollingFeatures" >> RollingFeatures(recipe.rolling, self.features, lateness, spill=spill)
        return rows | "AssignSplit" >> AssignSplit(
            recipe.splits, key=recipe.split_key, columns=self.columns, seed=recipe.seed
        )

    def fit(self, beam_options: PipelineOptions, directory: str) -> "Fitted":
        """Fits the features on the train split, writes the graph to `directory`, and returns how many rows it read.

        Raises:
          ConfigError: when the recipe has no features.
          NoRowsError: when the train split is empty; says why rows are rejected, if some are.
        """
        preprocessing = self.recipe.preprocessing
        if preprocessing is None:
            raise ConfigError("--features is required to fit: a YAML file, or a function as module:function")
        with first_rejects(directory) as handler:
            try:
                return self._fit(
                    FitTransform(preprocessing, self.row_schema, directory, split=TRAIN), beam_options, handler
                )
            except NoRowsError as error:
                rejects = handler.found()
                if not rejects.rows:
                    raise
                raise NoRowsError(f"{error}; {_rejected_text(rejects, self.source)}") from error

    def _fit(self, fit: FitTransform, beam_options: PipelineOptions, handler: ErrorHandler) -> "Fitted":
        with contextlib.ExitStack() as stack:
            spill = stack.enter_context(temporary_folder()) if is_local(beam_options) else None
            title = "fitting the features"
            phases = [READ.named(title), *self.recipe.phases, Phase("computing the graph")]
            pipeline = stack.enter_context(run_pipeline(beam_options, title, phases))
            rows = pipeline | "Read" >> self.read(keep_source=True).with_error_handler(handler)
            _ = self.check_and_split(rows, handler, spill=spill) | "FitTransform" >> fit
        return Fitted.of(pipeline.result, fit_notes(fit.output_dir))


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How many rows a fit read, how many of them it rejected, and how many are of the train split.

    Beam's metrics count them; each is None if the runner has no metrics. `notes` say what the fit lost.
    """

    rows_in: int | None
    rows_rejected: int | None
    rows_fitted: int | None
    notes: tuple[Note, ...] = ()

    @classmethod
    def of(cls, result: Any, notes: tuple[Note, ...] = ()) -> Self:
        """The counts of a pipeline that has ended."""
        found = result.metrics().query(MetricsFilter().with_names(["in-rows", "bad-rows"]))["counters"]
        # Prism reports committed values only, and Beam reads a committed 0 as a missing value.
        counts = {(item.key.metric.namespace, item.key.metric.name): item.result or 0 for item in found}
        if not counts:
            return cls(None, None, None, notes)
        return cls(
            sum(rows for (space, name), rows in counts.items() if (space[:4], name) == ("Read", "in-rows")),
            sum(rows for (_, name), rows in counts.items() if name == "bad-rows"),
            counts.get(("FitTransform", "in-rows"), 0),
            notes,
        )


def package_versions() -> dict[str, str]:
    """Versions of the packages that shape the bytes of a dataset, as far as they are installed."""
    versions = {"penstock": __version__}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
