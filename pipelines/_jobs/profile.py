"""Runs `profile` after its command line is checked: types are inferred and statistics computed, in one pass or two."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.transforms.error_handling import ErrorHandler
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dead_letters.first import FirstRejects, first_rejects
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.apart import check_outside
from penstock.io.files.temporary import temporary_folder
from penstock.io.schema import Feature, load_schema, schema_features
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.io.sources.registry import open_source
from penstock.transforms.event_time import AssignEventTime
from penstock.transforms.splits.assign import AssignSplit
from penstock.transforms.splits.registry import KIND_FLAGS, split_kind
from penstock.transforms.statistics.compute import ComputeStatistics
from penstock.transforms.statistics.files import write_list
from penstock.transforms.statistics.inferred import RowTypes
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics, merge_statistics
from pipelines._cli.named import statistics_files
from pipelines._cli.options import InputOptions, SplitOptions, resolved
from pipelines._cli.streams import StreamOptions, source_request
from pipelines._jobs.statistics import Statistics as StatisticsList
from pipelines._jobs.statistics import dataset_summaries, reading_schema, write_report
from pipelines._options.profile import ProfileOptions
from pipelines._options.statistics import DEFAULT_NAME
from pipelines._plan.inferred import TypesOf, infer_schema, take_statistics, write_statistics
from pipelines._plan.input import look_at, no_rows
from pipelines._report.phases import READ
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DescribedResult, ProfileResult
from pipelines._report.summary import tell
from pipelines._run.job import is_local, run_pipeline

# Beside the statistics, while their types are inferred.
_SCHEMA_SUFFIX = ".schema.pbtxt"


def run(options: ProfileOptions) -> int:
    """Runs the job, as `pipelines.profile.run` does."""
    started, flags = job_started(), options.profile
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    if options.run.is_described:
        return tell(_described(options, time.monotonic() - started), options.run.json)
    if flags.merge:
        profiled = _Profiled(merge_statistics([path for value in flags.merge for path in statistics_files(value)]))
    else:
        profiled = _profiled(options)
    statistics = profiled.statistics.to_proto()
    if flags.file:
        write_list(statistics, flags.file)
    report = write_report(flags.report, statistics=statistics, title=f"Profile of {_described_input(options)}")
    result = ProfileResult(
        job=options.name,
        seconds=time.monotonic() - started,
        input=_described_input(options),
        output=flags.file,
        report=report,
        rows_unread=profiled.unread.rows,
        unread_for=dict(profiled.unread.reasons),
        datasets=tuple(dataset_summaries(statistics)),
    )
    return tell(result, options.run.json)


def _described_input(options: ProfileOptions) -> str:
    """What the statistics are of, in words."""
    return ", ".join(options.profile.merge or options.input.input)


def _described(options: ProfileOptions, seconds: float) -> DescribedResult:
    if options.profile.merge:
        stages: tuple[str, ...] = ("merge the statistics",)
    else:
        first = () if options.profile.schema else ("infer the types from the whole input",)
        stages = (*first, "compute statistics of the rows")
    flags = resolved(options.input, options.profile, options.split)
    return DescribedResult(job=options.name, seconds=seconds, flags=flags, stages=stages)


@dataclasses.dataclass(frozen=True)
class _Profiled:
    """Statistics, and the rows that could not be read for them."""

    statistics: Statistics
    unread: FirstRejects = dataclasses.field(default_factory=FirstRejects)


def _profiled(options: ProfileOptions) -> _Profiled:
    """Statistics of the rows that the flags name."""
    flags = options.profile
    profiler = _Profiler.open(options.beam, options.input, options.split, flags.file)
    schema = load_schema(flags.schema) if flags.schema else None

    def types_of(rows: schema_pb2.Schema) -> RowTypes:
        features = schema_features(rows)
        columns = [feature.name for feature in features]
        return RowTypes(features, flags.options(columns, flags.weight, flags.label).with_schema(rows))

    with profiler.working():
        return profiler.inferred(types_of) if schema is None else profiler.profile(types_of(schema))


def profile_to_check(
    beam_options: PipelineOptions, inputs: InputOptions, wanted: schema_pb2.Schema | None
) -> StatisticsList:
    """Statistics of rows that are held against a schema, by which they are read as far as they can be.

    Raises:
      ConfigError: on a runner whose workers are elsewhere.
      NoRowsError: when there are no rows.
    """
    profiler = _Profiler.open(beam_options, inputs, SplitOptions(), None)

    def types_of(inferred: schema_pb2.Schema) -> RowTypes:
        schema = inferred if wanted is None else reading_schema(inferred, wanted)
        return RowTypes(schema_features(schema), StatisticsOptions().with_schema(schema))

    with profiler.working():
        return profiler.inferred(types_of).statistics.to_proto()


@dataclasses.dataclass
class _Profiler:
    """Reads a source, once, or twice if types are inferred that its beginning does not show.

    Attributes:
      source: which is read.
      beam_options: Beam's.
      split: which split a row is in, if any flag says that.
      event_time: the column with it.
      base: the path of what is written for a while; "" for a temporary folder.
    """

    source: Source
    beam_options: PipelineOptions
    split: SplitOptions
    event_time: str | None
    base: str

    @classmethod
    def open(
        cls, beam_options: PipelineOptions, inputs: InputOptions, split: SplitOptions, output: str | None
    ) -> "_Profiler":
        """Opens the source.

        Raises:
          ConfigError: when nobody says where workers elsewhere may write, or an input lies in the output.
        """
        if output is None and not is_local(beam_options):
            raise ConfigError("--output is required on a runner whose workers are elsewhere: profile to a file there")
        source = open_source(source_request(inputs, StreamOptions()))
        if isinstance(source, FileSource) and output is not None:
            check_outside((file.uri for file in source.files), "--input", output)
        return cls(source, beam_options, split, inputs.event_time, output or "")

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Has a place for what is written for a while."""
        look_at(self.source)
        with contextlib.ExitStack() as stack:
            stack.enter_context(showing_progress())
            if not self.base:
                self.base = f"{stack.enter_context(temporary_folder())}/{DEFAULT_NAME}"
            yield

    def inferred(self, types_of: TypesOf) -> _Profiled:
        """The statistics of all rows, whose types are inferred: in the same pass, or if need be in one before.

        Raises:
          NoRowsError: when there are none.
        """
        path = f"{self.base}{_SCHEMA_SUFFIX}"
        try:
            inferred = infer_schema(self.source, self.beam_options, path, None if self._has_splits else types_of)
        finally:
            stores.delete([path])
        if inferred.statistics is None:
            return self.profile(types_of(inferred.schema))
        return self._with_rows(inferred.statistics, inferred.unread)

    def profile(self, types: RowTypes) -> _Profiled:
        """The statistics of all rows, read by their types.

        Raises:
          NoRowsError: when there are none.
        """
        title = "computing statistics"
        with first_rejects(self.base) as handler:
            with run_pipeline(self.beam_options, title, [READ.named(title)]) as pipeline:
                rows = pipeline | "Read" >> self.source.read(types.features).with_error_handler(handler)
                rows = self._split(rows, types.features, handler)
                _ = rows | ComputeStatistics(types.options) | "Write" >> beam.Map(write_statistics, self.base)
            return self._with_rows(take_statistics(self.base), handler.found())

    def _with_rows(self, statistics: Statistics | None, unread: FirstRejects) -> _Profiled:
        if statistics is None or not any(table.rows for table in statistics.tables.values()):
            raise no_rows(self.source, unread)
        return _Profiled(statistics, unread)

    @property
    def _has_splits(self) -> bool:
        return any(getattr(self.split, name) for name in KIND_FLAGS)

    def _split(
        self, rows: beam.PCollection[pa.RecordBatch], features: tuple[Feature, ...], handler: ErrorHandler
    ) -> beam.PCollection[pa.RecordBatch]:
        """Gives rows their splits, if a flag asks for some."""
        if not self._has_splits:
            return rows
        kind = split_kind(self.split.values(), [feature.name for feature in features])
        kind.bind(features)
        if kind.needs_event_time and not self.source.has_event_times:
            if not self.event_time:
                raise ConfigError("--split_time goes by event time: pass --event_time COLUMN")
            rows = rows | "AssignEventTime" >> AssignEventTime(self.event_time).with_error_handler(handler)
        return rows | "AssignSplit" >> AssignSplit(by=kind).with_error_handler(handler)
