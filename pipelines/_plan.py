"""What `prepare` and `fit` share: a recipe, read from what their flags name, and a plan, which binds it to a schema.

Both detect every fault that can be detected without reading a row, before a pipeline starts.
"""

import contextlib
import dataclasses
import importlib.metadata
import json
import logging
from collections.abc import Sequence
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
from penstock.io.schema import (
    Feature,
    find_feature,
    load_schema,
    named_features,
    schema_features,
    write_schema,
)
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.checks.environment import in_environment, unexpected_features
from penstock.transforms.checks.file import Checks, load_checks
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.checks.unchecked import unchecked_text
from penstock.transforms.checks.unique.keys import check_unique
from penstock.transforms.checks.unique.transform import RejectDuplicates
from penstock.transforms.checks.validate import ValidateRecords
from penstock.transforms.event_time import AssignEventTime
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.fit import FitTransform, check_preprocessing, fit_notes
from penstock.transforms.features.functions import FeatureFile, load_features
from penstock.transforms.features.tensorflow import check_tensorflow
from penstock.transforms.infer import SummarizeRowsFn, Summary, summary_notes, summary_schema
from penstock.transforms.rolling.file import RollingSpec
from penstock.transforms.rolling.transform import RollingFeatures, load_rolling, rolling_schema
from penstock.transforms.splits.assign import AssignSplit
from penstock.transforms.splits.balance import Balance
from penstock.transforms.splits.base import SplitKind
from penstock.transforms.splits.by_hash import SplitByHash
from penstock.transforms.splits.registry import KIND_FLAGS, TRAIN, split_kind
from penstock.transforms.splits.spelling import exact
from pipelines._cli.options import CheckOptions, ReadingOptions, SplitOptions, TransformOptions
from pipelines._report.phases import COMPARE, READ, ROLL, Phase
from pipelines._run.job import is_local, run_pipeline
from pipelines._run.staging import fitting_folder

_LOGGER = logging.getLogger(__name__)

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
      environment: which features of the schema are expected; None for all.
      severity: what becomes of rows that break the schema.
      windows: of the dataset; None without.
      split: the flags that say which split a row is in.
      rolling: what `--rolling` computes; None without.
      preprocessing: what `--features` computes; None without.
    """

    checks: Checks
    environment: str | None
    severity: SchemaSeverity
    label: str | None
    split: SplitOptions
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
        _check_schema_flags(checks)
        recipe = cls(
            checks=load_checks(checks.rules) if checks.rules else Checks(),
            environment=checks.environment,
            severity=SchemaSeverity(checks.schema_mode, checks.schema_warn),
            label=checks.label,
            split=split,
            event_time=inputs.event_time,
            windows=parse_window(window) if window else None,
            rolling=load_rolling(transform.rolling) if transform.rolling else None,
            preprocessing=load_features(transform.features, transform.custom_config) if transform.features else None,
        )
        if recipe.preprocessing is not None and TRAIN not in split.names():
            flag = next(name for name in KIND_FLAGS if getattr(split, name))
            fit = "; fit them apart (penstock fit), and pass --transform" if split.folds else ""
            raise ConfigError(f"--features are fitted on the split {TRAIN!r}, which --{flag} does not name{fit}")
        return recipe

    def split_kind(self, columns: Sequence[str] | None = None) -> SplitKind:
        """What chooses the split of a row that has these columns."""
        return split_kind(self.split.values(), columns)

    def check_source(self, source: Source) -> None:
        """Checks that the source has what rows are split by, before any is read.

        Raises:
          ConfigError: when its rows have no event times, or a file no split.
        """
        kind = self.split_kind()
        if kind.needs_event_time and not (self.event_time or source.has_event_times):
            raise ConfigError("--split_time goes by event time: pass --event_time COLUMN")
        if type(source) is FileSource:  # the files of a replay hold rows of other files
            kind.check_files([file.uri for file in source.files])

    @property
    def phases(self) -> list[Phase]:
        """Those of bounded input between reading and what comes of the rows."""
        return [*([COMPARE] if self.checks.unique else []), *([ROLL] if self.rolling else [])]


def _check_schema_flags(checks: CheckOptions) -> None:
    """Refuses what is about a schema where none is given.

    Raises:
      ConfigError: names the flag.
    """
    defaults = CheckOptions()
    for name in ("environment", "schema_mode", "schema_warn"):
        if getattr(checks, name) != getattr(defaults, name) and not checks.schema:
            raise ConfigError(
                f"--{name} is about a schema that is given, and the inferred one holds for all rows: pass --schema"
            )


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe bound to its source and schema.

    Attributes:
      whole_schema: the schema as it was given or inferred.
      schema: of the rows, as their environment sees it.
      features: its features, in its order.
      notes: what an inferred schema does to values, or what of a given one is not checked.
    """

    source: Source
    recipe: Recipe
    whole_schema: schema_pb2.Schema
    schema: schema_pb2.Schema
    features: tuple[Feature, ...]
    notes: tuple[Note, ...] = ()

    @classmethod
    def bind(
        cls, source: Source, recipe: Recipe, schema: schema_pb2.Schema, inferred: tuple[Note, ...] | None = None
    ) -> Self:
        """Checks the recipe against the schema, and says once what of a schema that is given is not checked.

        Args:
          source: of the rows.
          recipe: what is done with them.
          schema: of the rows, in all environments.
          inferred: what the schema does to values, if it was inferred from the rows; None if it is given.

        Raises:
          ConfigError: when a rule, feature, label, key, event time, environment or severity does not fit the schema.
        """
        seen = in_environment(schema, recipe.environment)
        plan = cls(source, recipe, schema, seen, schema_features(seen), inferred or ())
        check_unique(recipe.checks.unique, plan.features, recipe.windows)
        recipe.split_kind().bind(plan.features)
        if recipe.split.split_stratify:
            find_feature(recipe.split.split_stratify, plan.features, "--split_stratify")
        if recipe.event_time:
            check_event_time(recipe.event_time, plan.features)
        if recipe.rolling and not (recipe.event_time or source.has_event_times):
            raise ConfigError("--rolling looks back in event time: pass --event_time COLUMN")
        if recipe.preprocessing is not None:
            check_preprocessing(recipe.preprocessing, plan.row_schema)
        unchecked = plan.validation().unchecked
        if inferred is not None or not unchecked:
            return plan
        _LOGGER.warning("%s", unchecked_text(unchecked))
        return dataclasses.replace(plan, notes=unchecked)

    @property
    def row_schema(self) -> schema_pb2.Schema:
        """The schema of the rows behind `check_and_split`: the columns that are read, and the rolling features."""
        return rolling_schema(self.schema, self.recipe.rolling) if self.recipe.rolling else self.schema

    def validation(self, for_fit: bool = False) -> ValidateRecords:
        """The transform that checks rows; making it checks rules, label and severity against the schema.

        A fit stops at a row that the graph cannot take, so `for_fit` rejects it whatever the severity.
        """
        recipe = self.recipe
        severity = recipe.severity.rejecting(self._needed_by_graphs()) if for_fit else recipe.severity
        rules, label, environment = recipe.checks.rules, recipe.label, recipe.environment
        return ValidateRecords(self.whole_schema, rules, label, environment, severity).told()

    def _needed_by_graphs(self) -> list[str]:
        """The demands of the schema on features that may enter a graph as dense tensors, which lack no value."""
        shaped = {name for name, message in named_features(self.schema).items() if message.HasField("shape")}
        dense = [
            feature.name
            for feature in self.features
            if feature.name in shaped or (feature.complete and feature.multivalued is False)
        ]
        return [f"{name}.{reason}" for name in dense for reason in ("presence", "value_count")]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns of the schema."""
        return tuple(feature.name for feature in self.features)

    def read(self, order_key: bool = False, keep_source: bool = False) -> RejectingTransform:
        """The transform that reads all of the source, typed by the schema; the arguments are those of `Source.read`.

        What the environment does not expect is read too: whoever validates the rows says that it is there.
        """
        may_lack = self.recipe.severity.may_lack(self.schema)
        expected = (
            dataclasses.replace(feature, required=False) if feature.name in may_lack else feature
            for feature in self.features
        )
        unexpected = unexpected_features(self.whole_schema, self.schema)
        return self.source.read((*expected, *unexpected), order_key, keep_source)

    def check_and_split(
        self,
        rows: beam.PCollection[pa.RecordBatch],
        handler: ErrorHandler,
        lateness: AnyDuration = ZERO,
        spill: str | None = None,
        for_fit: bool = False,
    ) -> beam.PCollection[pa.RecordBatch]:
        """Validates rows and adds event time, rolling features and split; the handler takes the rejected rows.

        What repeats a key is rejected when the rows have their event times, before any feature is computed.

        Args:
          rows: as they are read.
          handler: of rejects.
          lateness: how late a row of a stream may come and see all of its past (`RollingFeatures`).
          spill: a folder for bounded input that is grouped by key, where all workers share this machine's disk.
          for_fit: whether features are fitted to the rows.
        """
        rows = rows | "ValidateRecords" >> self.validation(for_fit).with_error_handler(handler)
        recipe = self.recipe
        if recipe.event_time and not self.source.has_event_times:
            rows = rows | "AssignEventTime" >> AssignEventTime(recipe.event_time).with_error_handler(handler)
        for key in recipe.checks.unique:
            once = RejectDuplicates(key, recipe.windows, lateness, spill).with_error_handler(handler)
            rows = rows | f"RejectDuplicates {key.name}" >> once
        if recipe.rolling:
            rows = rows | "RollingFeatures" >> RollingFeatures(recipe.rolling, self.features, lateness, spill=spill)
        assign = AssignSplit(by=recipe.split_kind(self.columns)).with_error_handler(handler)
        return rows | "AssignSplit" >> assign

    def balance(self) -> Balance:
        """What is told of the splits."""
        recipe, kind = self.recipe, self.recipe.split_kind()
        ratios = [float(exact(ratio)) for ratio in kind.ratios.values()] if isinstance(kind, SplitByHash) else ()
        key = kind.key if isinstance(kind, SplitByHash) else ()
        return Balance(kind.names, key, recipe.label, recipe.split.split_stratify, ratios)

    def fit(self, beam_options: PipelineOptions, directory: str) -> "Fitted":
        """Fits the features on the train split, writes the graph to `directory`, and returns how many rows it read.

        Raises:
          ConfigError: when the recipe has no features.
          NoRowsError: when the train split is empty; says why rows are rejected, if some are.
        """
        preprocessing = self.recipe.preprocessing
        if preprocessing is None:
            raise ConfigError("--features is required to fit: a YAML file, or a function as module.py:function")
        with first_rejects(directory) as handler:
            try:
                with fitting_folder(directory) as temp_dir:
                    fit = FitTransform(preprocessing, self.row_schema, directory, split=TRAIN, temp_dir=temp_dir)
                    return self._fit(fit, beam_options, handler)
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
            _ = self.check_and_split(rows, handler, spill=spill, for_fit=True) | "FitTransform" >> fit
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
