"""The main job: raw files in, a verified dataset of TFRecord shards out.

::

    python -m pipelines.prepare --input 'data/*.csv' --output out
    python -m pipelines.prepare --config examples/flights/job.yaml --input flights.csv --output out

A run is up to three pipelines, one after the other, so that no runner has to hold rows between them: infer the schema
(if none is given), fit the features (if there are any, and no fitted graph), write. Each reads the input again; a
file that changes in between fails the job. Only the last one writes dead letters.

The same job reads a stream, from Kafka or a folder that files come into, and writes a dataset for each window of event
time. There the schema is given, and the graph of the features was fitted before::

    python -m pipelines.prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner
"""

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from penstock.io.dead_letters import DeadLetterHandler, DiscardingHandler
from penstock.io.errors import ConfigError, DataError
from penstock.io.folders import copy_folder
from penstock.io.kafka.write import KafkaTarget, WriteToKafka
from penstock.io.layout import SCHEMA, TRANSFORM, Staging, check_output, new_run_id
from penstock.io.publish import Outcome, read_outcome
from penstock.io.schema import load_schema, schema_features, schema_fingerprint, write_schema
from penstock.io.shuffle import spill_directory
from penstock.io.windowed.manifest import read_window_manifests
from penstock.io.windowed.windows import parse_window
from penstock.io.write import CountRows, WriteDataset
from penstock.transforms.apply import ApplyTransform, check_transform, transform_fingerprint, transformed_schema
from penstock.transforms.keep_source import KeepSource
from penstock.transforms.shuffle_key import AssignShuffleKey
from pipelines._flags import job_parser, parse_job
from pipelines._flink import FlinkJobOptions, may_be_flink
from pipelines._job import DONE, is_local, main, run_pipeline
from pipelines._options import (
    CheckOptions,
    InputOptions,
    OutputOptions,
    RunOptions,
    SplitOptions,
    StreamOptions,
    TransformOptions,
    beam_options,
    describe,
    resolved,
)
from pipelines._plan import Plan, Recipe, infer_schema, no_rows, package_versions
from pipelines._source import Source, is_endless, open_source
from pipelines._staging import staging_folder
from pipelines._summary import print_rejects, print_summary, print_windows

# Of a folder and a run id.
_MakeHandler = Callable[[str, str], DeadLetterHandler]

_EXAMPLES = """examples:
  every CSV file of a folder; the schema is inferred and written to out/schema.pbtxt
    python -m pipelines.prepare --input 'data/*.csv' --output out

  a curated schema, rules, features and splits
    python -m pipelines.prepare --input 'data/*.parquet' --schema schema.pbtxt --rules rules.yaml \\
        --features features.yaml --label fare --split train=0.8,eval=0.1,test=0.1 --split_key user_id --output out

  the same, from a file; a flag wins over the file
    python -m pipelines.prepare --config job.yaml --overwrite

  a stream: one dataset for each minute, with rows that come up to 30 seconds late
    python -m pipelines.prepare --input 'kafka://localhost:9092/events' --schema schema.pbtxt --transform graph \\
        --window fixed:60s --allowed_lateness 30s --num_shards 4 --output out --runner FlinkRunner

exit codes: 0 done; 1 the data failed (too many rejects, a truncated file); 2 wrong usage or configuration"""


@dataclasses.dataclass(frozen=True)
class PrepareOptions:
    """All flags of the job, by family, and Beam's; `pipelines.replay` adds its own to them."""

    name: ClassVar[str] = "prepare"
    description: ClassVar[str] = "Turns raw files into a verified TFRecord dataset."
    examples: ClassVar[str] = _EXAMPLES

    input: InputOptions
    stream: StreamOptions
    checks: CheckOptions
    split: SplitOptions
    transform: TransformOptions
    output: OutputOptions
    run: RunOptions
    beam: PipelineOptions

    @classmethod
    def parse(cls, argv: Sequence[str] | None = None) -> Self:
        """Parses a command line.

        Raises:
          SystemExit: 0 after --help, 2 for an unknown flag or a bad value.
          ConfigError: for flags that do not go together.
        """
        families: dict[str, Any] = {field.name: field.type for field in dataclasses.fields(cls) if field.name != "beam"}
        parser = job_parser(cls.name, cls.description, cls.examples, families.values())
        namespace, rest = parse_job(parser, sys.argv[1:] if argv is None else argv)
        cls.complete(namespace)
        values: dict[str, Any] = {name: family.from_namespace(namespace) for name, family in families.items()}
        options = cls(**values, beam=beam_options(rest, values["run"]))
        options.check()
        return options

    @classmethod
    def complete(cls, namespace: argparse.Namespace) -> None:
        """Sets flags that were not given and have no default; a namespace holds only what was given."""

    def check_input(self) -> None:
        """Refuses a job without input.

        Raises:
          ConfigError: says what to give.
        """
        if not self.input.input:
            raise ConfigError("--input is required: a file or a quoted pattern such as --input 'data/*.csv'")

    def check(self) -> None:
        """Refuses flags that do not go together.

        Raises:
          ConfigError: names them.
        """
        self.check_input()
        if not self.output.output:
            raise ConfigError("--output is required: the folder of the dataset")
        if self.output.append:
            raise ConfigError(
                "--append is reserved for adding to a dataset and not supported yet; use another --output"
            )
        if self.transform.features and self.transform.transform:
            raise ConfigError("--features fits a graph and --transform applies a fitted one: pass one of them")
        if self.output.num_shards and self.output.shard_bytes:
            raise ConfigError("--num_shards and --shard_bytes both set the number of shards: pass one of them")
        for uri in filter(None, (self.output.also_to, self.output.rejects_to)):
            KafkaTarget.parse(uri)
        self._check_windows()
        if self.run.is_translated:
            self._check_translation()
        if self.is_endless:
            self._check_stream()
        elif self.output.resume:
            raise ConfigError("--resume goes on with a stream, and this input has an end; name another folder")

    @property
    def is_endless(self) -> bool:
        """Whether the input has no end, as far as the flags tell."""
        return is_endless(self.input, self.stream)

    def _check_windows(self) -> None:
        if self.stream.window is None:
            defaults = StreamOptions()
            for name in ("allowed_lateness", "empty_windows"):
                if getattr(self.stream, name) != getattr(defaults, name):
                    raise ConfigError(f"--{name} is about windows: pass --window too")
            if self.output.resume:
                raise ConfigError("--resume goes on with a stream, which needs --window")
            return
        parse_window(self.stream.window)
        if not self.output.num_shards:
            raise ConfigError("--window needs --num_shards: a window's shards are known before its rows are")
        if self.output.shuffle == "none":
            raise ConfigError("--window shuffles each window: leave --shuffle none out")
        if self.output.resume and self.output.overwrite:
            raise ConfigError("--resume goes on with what --overwrite would delete: pass one of them")

    def _check_translation(self) -> None:
        given = f"--dry_run={self.run.dry_run}"
        if self.beam.view_as(StandardOptions).runner != "DataflowRunner":
            raise ConfigError(
                f"{given} is known to DataflowRunner, and all others would run the job; --dry_run alone shows what "
                "would be done"
            )
        if not self.checks.schema:
            raise ConfigError(f"{given} reads nothing, so that no schema can be inferred: pass --schema")
        if self.transform.features:
            raise ConfigError(f"{given} reads nothing, so that no features can be fitted: pass --transform")

    def _check_stream(self) -> None:
        if self.stream.window is None:
            raise ConfigError("a stream has no end, so that only its windows can be written: pass --window fixed:60s")
        if not self.checks.schema:
            raise ConfigError(
                "a stream needs --schema: infer one from what is there (for Kafka, with stop=latest in the URI and "
                "without --window), and curate it"
            )
        if self.transform.features:
            raise ConfigError(
                "features cannot be fitted on a stream: fit them on what is there (python -m pipelines.fit), and apply "
                "them with --transform"
            )
        if self.output.overwrite:
            raise ConfigError("--overwrite would delete what a stream wrote before: name another folder, or --resume")
        if self.output.resume and may_be_flink(self.beam) and not self.beam.view_as(FlinkJobOptions).savepoint_path:
            raise ConfigError("--resume on Flink needs --savepoint_path, or what was read before is read again")

    def resolved(self) -> dict[str, Any]:
        """All flags of the job by name, as they were given or by default."""
        return resolved(self.input, self.stream, self.checks, self.split, self.transform, self.output)


def build(
    pipeline: beam.Pipeline,
    options: PrepareOptions,
    plan: Plan,
    staging: Staging,
    graph: str | None,
    handler: DeadLetterHandler | None = None,
) -> None:
    """The graph that writes the dataset: read, check, split, shape, shuffle and sink."""
    output, stream, seed = options.output, options.stream, options.split.seed
    handler = handler or DeadLetterHandler(staging.dead_letters, staging.run_id)
    if output.rejects_to:
        handler.also_to(WriteToKafka(output.rejects_to, staging.run_id))
    rows = pipeline | "Read" >> plan.read(order_key=output.shuffle == "none").with_error_handler(handler)
    rows_in = None if stream.window else rows | "CountRows" >> CountRows()
    spill = os.path.join(spill_directory(staging), "rolling") if is_local(options.beam) else None
    rows = plan.check_and_split(rows, handler, stream.allowed_lateness, spill)
    if output.shuffle == "global":
        rows = rows | "AssignShuffleKey" >> AssignShuffleKey(seed, columns=plan.columns)
    if graph is not None:
        rows = rows | "KeepSource" >> KeepSource()  # for a replay of what is rejected later
        rows = rows | "ApplyTransform" >> ApplyTransform(graph).with_error_handler(handler)
    if output.also_to:
        # What has no form there is rejected, and counted, by the dataset.
        _ = rows | "AlsoToKafka" >> WriteToKafka(output.also_to).with_error_handler(DiscardingHandler())
    _ = rows | "WriteDataset" >> WriteDataset(
        staging.output,
        num_shards=output.num_shards,
        compression=output.compression,
        shuffle=output.shuffle,
        seed=seed,
        splits=tuple(plan.recipe.splits),
        overwrite=output.overwrite,
        max_reject_fraction=options.checks.max_reject_fraction,
        dead_letters=handler,
        rows_in=rows_in,
        run_id=staging.run_id,
        spill=is_local(options.beam),
        extras=(SCHEMA, TRANSFORM) if graph else (SCHEMA,),
        provenance=_provenance(options, plan, graph),
        window=stream.window,
        allowed_lateness=stream.allowed_lateness,
        empty_windows=stream.empty_windows,
        resume=not plan.source.is_bounded,  # the output was looked at when the job began
        **_given(shard_bytes=output.shard_bytes),
    )


def _given(**arguments: Any) -> dict[str, Any]:
    """Those that were given, so that the others have their defaults."""
    return {name: value for name, value in arguments.items() if value is not None}


def run(argv: Sequence[str] | None = None) -> int:
    """Runs the job.

    Returns:
      0 when the dataset is published, 1 when too many rows were rejected.

    Raises:
      ConfigError: wrong usage or configuration.
      DataError: an input that cannot be used.
    """
    options = PrepareOptions.parse(argv)
    return prepare(options, open_source(options.input, options.stream))


def prepare(
    options: PrepareOptions,
    source: Source,
    run_id: str | None = None,
    handler: _MakeHandler = DeadLetterHandler,
) -> int:
    """Prepares a dataset from a source, as `run` does; `handler` makes a handler from a folder and a run id."""
    recipe = Recipe.load(options.input, options.checks, options.split, options.transform)
    plan = _early_plan(options, source, recipe)
    output = str(options.output.output)
    if options.run.is_described:
        check_output(output, options.output.overwrite, dry_run=True, resume=options.output.resume)
        print(describe(options.resolved(), _stages(options, source)))
        return DONE
    run_id = run_id or new_run_id()
    if plan is None or source.is_bounded or options.run.is_translated:
        return _write_dataset(options, source, recipe, plan, run_id, handler)
    return _write_stream(options, plan, run_id, handler)


def _write_dataset(
    options: PrepareOptions, source: Source, recipe: Recipe, plan: Plan | None, run_id: str, handler: _MakeHandler
) -> int:
    """All is staged, and published at the end, as one dataset or as one for each window."""
    started = time.monotonic()
    output = str(options.output.output)
    with staging_folder(output, options.output.overwrite, run_id) as staging:
        plan = plan or Plan.bind(source, recipe, infer_schema(source, options.beam, staging.path(SCHEMA)))
        write_schema(plan.row_schema, staging.path(SCHEMA))
        graph = _graph(options, plan, staging.path(TRANSFORM))
        title, streaming = "writing the dataset", not source.is_bounded
        with run_pipeline(options.beam, title, source.total_bytes, streaming) as pipeline:
            build(pipeline, options, plan, staging, graph, handler(staging.dead_letters, staging.run_id))
        if options.run.is_translated:
            print("The graph was translated and not submitted; nothing was written.")
            return DONE
        outcome = None if options.stream.window else read_outcome(staging)
    seconds = time.monotonic() - started
    if outcome is not None:
        return _report(outcome, options, source, seconds)
    windows = [window for window in read_window_manifests(output) if window.run_id == run_id]
    if not windows:
        raise no_rows(source)
    print_windows(windows, output, seconds)
    return DONE


def _write_stream(options: PrepareOptions, plan: Plan, run_id: str, handler: _MakeHandler) -> int:
    """Windows are published one by one, so what belongs to all of them, schema and graph, has its place before.

    The staging folder stays however this ends: the job may run on without us, or be resumed.
    """
    started = time.monotonic()
    output = str(options.output.output)
    check_output(output, overwrite=False, resume=options.output.resume)
    staging = Staging(output, run_id)
    with run_pipeline(options.beam, "streaming", plan.source.total_bytes, streaming=True) as pipeline:
        write_schema(plan.row_schema, staging.published(staging.path(SCHEMA)))
        graph = _graph(options, plan, staging.published(staging.path(TRANSFORM)))
        build(pipeline, options, plan, staging, graph, handler(staging.dead_letters, staging.run_id))
    print_windows(read_window_manifests(output), output, time.monotonic() - started)
    return DONE


def _early_plan(options: PrepareOptions, source: Source, recipe: Recipe) -> Plan | None:
    """The plan, where a schema is given; what can be wrong with the configuration is found before anything is read."""
    graph = options.transform.transform
    if not options.checks.schema:
        if graph:
            transformed_schema(graph)
        return None
    plan = Plan.bind(source, recipe, load_schema(options.checks.schema))
    if graph:
        check_transform(graph, schema_features(plan.row_schema))
    return plan


def _graph(options: PrepareOptions, plan: Plan, directory: str) -> str | None:
    """The folder of the graph to apply: fitted now, or a copy of the one given; None without features."""
    if options.transform.transform:
        check_transform(options.transform.transform, schema_features(plan.row_schema))
        copy_folder(options.transform.transform, directory)
    elif plan.recipe.preprocessing is not None:
        plan.fit(options.beam, directory)
    else:
        return None
    return directory


def _provenance(options: PrepareOptions, plan: Plan, graph: str | None) -> dict[str, Any]:
    return {
        "inputs": plan.source.inputs(),
        "label": plan.recipe.label,
        "event_time": plan.recipe.event_time,
        "schema_fingerprint": schema_fingerprint(plan.row_schema),
        "transform_fingerprint": transform_fingerprint(graph) if graph else None,
        "options": options.resolved(),
        "versions": package_versions(),
    }


def _report(outcome: Outcome, options: PrepareOptions, source: Source, seconds: float) -> int:
    """Prints how the run ended.

    Raises:
      DataError: when it published nothing, saying why.
    """
    if outcome.status == "no_rows":
        raise no_rows(source)
    if outcome.status == "published":
        print_summary(outcome.manifest, str(options.output.output), seconds)
        return DONE
    manifest = outcome.manifest
    print_rejects(manifest.rows_in, manifest.rejected_by_reason)
    raise DataError(
        f"{manifest.rows_rejected:,} of {manifest.rows_in:,} rows were rejected, more than --max_reject_fraction "
        f"{options.checks.max_reject_fraction:g} allows; "
        f"nothing is published; the rejected rows and why: {outcome.dead_letters}"
    )


def _stages(options: PrepareOptions, source: Source) -> list[str | None]:
    return [
        None if options.checks.schema else "infer the schema from the whole input",
        "fit the features on the train split" if options.transform.features else None,
        f"read {source.describe()}",
        "validate rows against the schema" + (" and the rules" if options.checks.rules else ""),
        "assign event times" if options.input.event_time else None,
        "look back for rolling features" if options.transform.rolling else None,
        "assign splits",
        "apply the features" if options.transform.features or options.transform.transform else None,
        "shuffle" if options.output.shuffle == "global" else "keep the order of the input",
        f"write and publish windows ({options.stream.window})" if options.stream.window else None,
        None if options.stream.window else "write shards, publish the dataset",
    ]


if __name__ == "__main__":
    sys.exit(main("prepare", run))
