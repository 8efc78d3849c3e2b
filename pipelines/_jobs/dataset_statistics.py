"""What the jobs that write a dataset do with statistics: which are computed, what they are held against, the report."""

import contextlib

import apache_beam as beam
import pyarrow as pa

from penstock.io.dataset.layout import HISTORY
from penstock.io.dataset.options import OUT_STATISTICS
from penstock.io.dataset.publish import Outcome
from penstock.io.dead_letters.first import read_first
from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.schema import schema_features
from penstock.transforms.anomalies.check import check_statistics
from penstock.transforms.dataset_report import dataset_report
from penstock.transforms.dataset_statistics import DatasetStatistics, check_baseline
from penstock.transforms.features.apply import transformed_schema
from penstock.transforms.history.store import compact, read
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.window_statistics import RejectedStatistics, WindowHistory, WindowStatistics
from pipelines._cli.named import EARLIER
from pipelines._jobs.statistics import Statistics, read_statistics, write_report
from pipelines._options.dataset import DatasetJobOptions
from pipelines._plan.plan import Plan


def dataset_observer(
    options: DatasetJobOptions, plan: Plan, graph: str | None, rows: beam.PCollection[pa.RecordBatch]
) -> DatasetStatistics | None:
    """What computes the statistics of the dataset; None where nobody wants them, and with windows.

    Args:
      options: the flags.
      plan: of the rows.
      graph: the folder of the graph that replaces their columns, if there is one.
      rows: that have their splits, before they become features.
    """
    if not options.statistics.is_on or options.stream.windows:
        return None
    features = schema_features(transformed_schema(graph)) if graph else ()
    return DatasetStatistics(
        options=_options_in(options, plan),
        features=plan.features,
        splits=options.split.names(),
        passed=rows if graph or plan.recipe.rolling else None,
        out_columns=[feature.name for feature in features] if graph else None,
        baseline=read_baseline(options),
        against=str(options.statistics.check_against),
        history="error" if options.statistics.is_against_history else "warning",
    )


def window_summaries(options: DatasetJobOptions, plan: Plan, graph: str | None) -> WindowStatistics | None:
    """What computes the statistics of each window, of the rows that are written; None where nobody wants them."""
    windows = options.stream.windows
    if not options.statistics.is_on or windows is None:
        return None
    features = schema_features(transformed_schema(graph)) if graph else ()
    known = [feature.name for feature in features] if graph else plan.columns
    label = plan.recipe.label
    of_rows = options.statistics.of_dataset(known, label if label in known else None)
    baseline = read_baseline(options)
    return WindowStatistics(
        of_rows if graph else of_rows.with_schema(plan.schema),
        windows,
        schema=None if graph else plan.row_schema.SerializeToString(),
        baseline=baseline and (str(options.statistics.check_against), baseline.SerializeToString()),
        before=options.statistics.before,
        history=_window_history(options, plan),
        rejected=RejectedStatistics(_options_in(options, plan), tuple(plan.features), ("write",) if graph else ()),
    )


def _options_in(options: DatasetJobOptions, plan: Plan) -> StatisticsOptions:
    """Of the statistics of rows as they come in."""
    return options.statistics.of_dataset(plan.columns, plan.recipe.label).with_schema(plan.schema)


def _window_history(options: DatasetJobOptions, plan: Plan) -> WindowHistory:
    """Where the windows of a stream are remembered; those of bounded input are not published in their order."""
    path = stores.join(str(options.output.output), HISTORY)
    if plan.source.is_bounded:
        return WindowHistory(path)
    return WindowHistory(path, "error" if options.statistics.is_against_history else "warning")


def read_baseline(options: DatasetJobOptions) -> Statistics | None:
    """The statistics of `--check_against`.

    Raises:
      ConfigError: when they have none to compare a split with.
    """
    against = options.statistics.check_against
    if against is None or against in EARLIER:
        return None
    baseline = read_statistics(against, "check_against")
    check_baseline(baseline, options.split.names(), f"--check_against {against}")
    return baseline


def report_run(options: DatasetJobOptions, outcome: Outcome, plan: Plan) -> str | None:
    """Writes the report of a run, published or not; returns its path."""
    if not options.statistics.report or outcome.statistics is None:
        return None
    baseline, folder = read_baseline(options), outcome.statistics
    statistics = read_statistics(stores.join(folder, OUT_STATISTICS))
    return write_report(
        options.statistics.report,
        statistics=statistics,
        baseline=baseline,
        schema=plan.row_schema,
        anomalies=None if baseline is None else check_statistics(statistics, baseline=baseline),
        manifest=outcome.manifest,
        dead_letters=read_first(outcome.dead_letters).letters.values(),
        history=_history(str(options.output.output)),
        title=f"Dataset {options.output.output}",
    )


def report_windows(options: DatasetJobOptions) -> str | None:
    """Writes the report of the windows of input that has an end; returns its path."""
    if options.statistics.report is not None:
        dataset_report(str(options.output.output)).write(options.statistics.report)
    return options.statistics.report


def _history(output: str) -> pa.Table | None:
    """The history of an output, if it has one that can be read; the manifest says where it cannot."""
    with contextlib.suppress(InputError):
        found = read(stores.join(output, HISTORY))
        return found if found.num_rows else None
    return None


def tidy_history(outcome: Outcome, output: str) -> None:
    """Puts the files of the history together once a run is in it."""
    if outcome.status == "published" and outcome.statistics is not None:
        compact(stores.join(output, HISTORY))
