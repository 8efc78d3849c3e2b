"""The fit: its features, on the train split of the rows of a plan."""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any, Self

import apache_beam as beam
import pyarrow as pa
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineResult
from apache_beam.transforms.error_handling import ErrorHandler

from penstock.io.beam.durations import AnyDuration
from penstock.io.columns.row_notes import row_notes
from penstock.io.dead_letters.first import FirstRejects, first_rejects
from penstock.io.errors import ConfigError, NoRowsError
from penstock.io.files.temporary import temporary_folder
from penstock.io.reasons import Note, merge_notes
from penstock.io.write import CountRows
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.features.code.function import FeatureFunction
from penstock.transforms.features.engine import choose_engine
from penstock.transforms.features.fit import FitTransform, fit_notes, rows_of_split
from penstock.transforms.features.functions import FeatureFile
from penstock.transforms.splits.registry import TRAIN
from penstock.transforms.statistics.compute import ComputeStatistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics
from pipelines._plan.inferred import take_statistics, write_statistics
from pipelines._plan.input import rejected_text
from pipelines._plan.kept import KeepRejects, KeptRows
from pipelines._plan.notes_file import file_of_notes, read_notes, write_notes
from pipelines._plan.plan import Plan
from pipelines._report.phases import READ, Phase
from pipelines._run.job import is_local, run_pipeline
from pipelines._run.staging import fitting_folder


@dataclasses.dataclass(frozen=True)
class Fitted:
    """How many rows a fit read, how many of them it rejected, and how many are of the train split.

    Beam's metrics count them; each is None if the runner has no metrics. `notes` say what the fit lost, and
    which rows only warned. `statistics` are of the rows of the train split, if they were asked for, and `rejects` the
    first of the rejected rows, where the fit keeps any.
    """

    rows_in: int | None
    rows_rejected: int | None
    rows_fitted: int | None
    notes: tuple[Note, ...] = ()
    statistics: Statistics | None = None
    rejects: FirstRejects = dataclasses.field(default_factory=FirstRejects)

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


def fit_features(
    plan: Plan, beam_options: PipelineOptions, directory: str, options: StatisticsOptions | None = None
) -> Fitted:
    """Fits the features on the train split, writes the graph to `directory`, and returns how many rows it read.

    With `options`, the rows of the train split get statistics in the same pass.

    Raises:
      ConfigError: when the recipe has no features.
      NoRowsError: when the train split is empty; says why rows are rejected, if some are.
    """
    preprocessing = _preprocessing(plan)
    with first_rejects(directory) as handler:
        try:
            with fitting_folder(directory, is_local(beam_options)) as temp_dir:
                where, severity = (directory, TRAIN, temp_dir), plan.recipe.severity
                fit = FitTransform(preprocessing, plan.row_schema, *where, severity, plan.recipe.engine)
                fitted = _fit(plan, fit, beam_options, handler, options)
            return dataclasses.replace(fitted, rejects=handler.found())
        except NoRowsError as error:
            raise _no_rows(error, handler.found(), plan) from error


def reads_twice(plan: Plan, beam_options: PipelineOptions, has_windows: bool) -> str | None:
    """Says why a job that fits features and applies them has to read its input twice; None where once is enough."""
    recipe = plan.recipe
    if not is_local(beam_options):
        return "its workers do not share a disk that could keep the rows"
    if recipe.preprocessing is None or choose_engine(recipe.preprocessing, recipe.engine) != "arrow":
        return "tensorflow-transform fits the features"
    if has_windows:
        return "rows go to windows by the time at which they are read"
    if recipe.severity != SchemaSeverity() and plan.demanded_by_fit:
        return "rows that only warn are written, and not fitted on"
    return None


def fit_and_keep(
    plan: Plan, beam_options: PipelineOptions, directory: str, kept: KeptRows, order_key: bool, lateness: AnyDuration
) -> None:
    """Fits the features as `fit_features` does, in the one reading of a job: keeps what it reads to be written.

    Args:
      plan: whose features Arrow fits, on runners whose workers share this machine's disk.
      beam_options: Beam's.
      directory: of the features.
      kept: where the rows go.
      order_key: as in `Plan.read`.
      lateness: as in `Plan.check_and_split`.

    Raises:
      NoRowsError: when the train split is empty; says why rows are rejected, if some are.
    """
    fit = FitTransform(_preprocessing(plan), plan.row_schema, directory, TRAIN, None, plan.recipe.severity, "arrow")
    handler, title = KeepRejects(kept.folder), "fitting the features"
    try:
        with (
            temporary_folder() as spill,
            run_pipeline(beam_options, title, [READ, *plan.recipe.phases, Phase(title)]) as pipeline,
        ):
            rows = pipeline | "Read" >> plan.read(order_key, keep_source=True).with_error_handler(handler)
            rows_in = rows | "CountRows" >> CountRows()
            rows = plan.check_and_split(rows, handler, lateness, spill)
            kept.keep(rows_in, rows, handler)
            _ = rows | "FitTransform" >> fit
    except NoRowsError as error:
        raise _no_rows(error, kept.rejects(), plan) from error


def _preprocessing(plan: Plan) -> FeatureFile | FeatureFunction:
    """The features of a plan.

    Raises:
      ConfigError: when it has none.
    """
    if plan.recipe.preprocessing is None:
        raise ConfigError("--features is required to fit: a YAML file, or a function as module.py:function")
    return plan.recipe.preprocessing


def _no_rows(error: NoRowsError, rejects: FirstRejects, plan: Plan) -> NoRowsError:
    return NoRowsError(f"{error}; {rejected_text(rejects, plan.source)}") if rejects.rows else error


def _fit(
    plan: Plan,
    fit: FitTransform,
    beam_options: PipelineOptions,
    handler: ErrorHandler,
    options: StatisticsOptions | None,
) -> Fitted:
    with file_of_notes(fit.output_dir) as warned:
        observe = None if options is None else _Observe(options, warned)
        result = _run_fit(plan, fit, beam_options, handler, warned, observe)
        statistics = None if observe is None else take_statistics(warned)
        found = Fitted.of(result, fit_notes(fit.output_dir) + read_notes(warned))
        return dataclasses.replace(found, statistics=statistics)


def _run_fit(
    plan: Plan,
    fit: FitTransform,
    beam_options: PipelineOptions,
    handler: ErrorHandler,
    warned: str,
    observe: "_Observe | None",
) -> PipelineResult:
    with contextlib.ExitStack() as stack:
        spill = stack.enter_context(temporary_folder()) if is_local(beam_options) else None
        title = "fitting the features"
        phases = [READ.named(title), *plan.recipe.phases, Phase("computing the graph")]
        pipeline = stack.enter_context(run_pipeline(beam_options, title, phases))
        rows = pipeline | "Read" >> plan.read(keep_source=True).with_error_handler(handler)
        rows = plan.check_and_split(rows, handler, spill=spill, for_fit=True)
        _ = rows | "TellWarned" >> _TellWarned(warned)
        _ = rows | "FitTransform" >> fit
        if observe is not None:
            _ = rows | "Observe" >> observe
    return pipeline.result


class _Observe(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[None]]):
    """Computes the statistics of the rows that are fitted, and writes them beside a path."""

    def __init__(self, options: StatisticsOptions, path: str):
        super().__init__()
        self._options = options
        self._path = path

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Leaves out the other splits."""
        fitted = batches | "SelectTrain" >> beam.Map(rows_of_split, TRAIN).with_output_types(pa.RecordBatch)
        statistics = fitted | ComputeStatistics(self._options)
        return statistics | "Write" >> beam.Map(write_statistics, self._path).with_output_types(None)


def _merged(parts: Iterable[tuple[Note, ...]]) -> tuple[Note, ...]:
    return merge_notes(itertools.chain.from_iterable(parts))


class _TellWarned(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[None]]):
    """Writes the notes of rows: which of them only warned, and why."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[None]:
        """Takes them off the rows, adds them up, and writes one file."""
        notes = batches | "RowNotes" >> beam.Map(row_notes) | "AddUp" >> beam.CombineGlobally(_merged)
        return notes | "Write" >> beam.Map(write_notes, self._path).with_output_types(None)
