"""Runs `prepare` after its command line is checked, and writes what `replay` reads."""

import dataclasses
import os
import time
from collections.abc import Callable
from typing import Any

import apache_beam as beam
import pyarrow as pa

from penstock.io.columns.float32 import ROUNDED
from penstock.io.dataset.columns import dataset_columns, with_lists
from penstock.io.dataset.layout import SCHEMA, TRANSFORM, Staging, check_output, new_run_id
from penstock.io.dataset.publish import Outcome, read_outcome
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.shuffle import spill_directory
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dead_letters.first import read_first
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler
from penstock.io.errors import ConfigError
from penstock.io.files.apart import check_outside
from penstock.io.files.folders import copy_folder
from penstock.io.kafka.write import WriteToKafka
from penstock.io.reasons import EXCLUDED, Note
from penstock.io.schema import load_schema, schema_features, schema_fingerprint, write_schema
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.io.sources.registry import open_source
from penstock.io.write import CountRows, WriteDataset
from penstock.transforms.checks.file import key_names
from penstock.transforms.features.apply import (
    ApplyTransform,
    check_transform,
    transform_fingerprint,
    transformed_schema,
)
from penstock.transforms.features.fit import fit_notes
from penstock.transforms.shuffle_key import AssignShuffleKey
from penstock.transforms.splits.balance import TellBalance
from pipelines._cli.options import source_request
from pipelines._options.dataset import DatasetJobOptions
from pipelines._options.prepare import PrepareOptions
from pipelines._plan import Plan, Recipe, infer_schema, input_uris, look_at, no_rows, package_versions
from pipelines._report.dataset_result import whole_result, windows_result
from pipelines._report.phases import PUBLISH, PUBLISH_WINDOWS, READ, STREAM, WRITE, Phase
from pipelines._report.printable import mapped, masked
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DatasetResult, DescribedResult, RunFailedError
from pipelines._report.summary import tell
from pipelines._run.job import is_local, run_pipeline
from pipelines._run.staging import staging_folder, telling_what_is_published

# Of a folder and a run id.
_MakeHandler = Callable[[str, str], DeadLetterHandler]


def build(
    pipeline: beam.Pipeline,
    options: DatasetJobOptions,
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
    read = plan.read(order_key=output.shuffle == "none", keep_source=True)
    rows = pipeline | "Read" >> read.with_error_handler(handler)
    rows_in = None if stream.window else rows | "CountRows" >> CountRows()
    spill = os.path.join(spill_directory(staging), "by_key") if is_local(options.beam) else None
    rows = plan.check_and_split(rows, handler, stream.allowed_lateness, spill)
    balance, found = plan.balance(), None
    if balance.tells and not stream.window:
        found = rows | "TellBalance" >> TellBalance(balance)
    if output.shuffle == "global":
        rows = rows | "AssignShuffleKey" >> AssignShuffleKey(seed, columns=plan.columns)
    if graph is not None:
        rows = rows | "ApplyTransform" >> ApplyTransform(graph).with_error_handler(handler)
    if output.also_to:
        # The dataset rejects and counts the rows that cannot be written, so that their copies are dropped here.
        _ = rows | "AlsoToKafka" >> WriteToKafka(output.also_to).with_error_handler(DiscardingHandler())
    spec = dataclasses.replace(
        options.dataset_spec(),
        output=staging.output,
        columns=_columns(options, plan, graph),
        splits=options.split.names(),
        extras=(SCHEMA, TRANSFORM) if graph else (SCHEMA,),
        provenance=_provenance(options, plan, graph),
        notes=_notes(options, plan, graph),
        resume=not plan.source.is_bounded,  # the output was looked at when the job began
    )
    _ = rows | "WriteDataset" >> WriteDataset(
        **vars(spec),
        dead_letters=handler,
        rows_in=rows_in,
        found=found,
        run_id=staging.run_id,
        spill=is_local(options.beam),
    )


def _columns(options: DatasetJobOptions, plan: Plan, graph: str | None) -> pa.Schema | None:
    """The columns of the shards, for a format that needs them; features of a graph are computed as float32."""
    if not SHARD_FORMATS[options.output.output_format].needs_columns:
        return None
    if graph:
        columns = dataset_columns(transformed_schema(graph), pa.float32(), lists=True)
    else:
        columns = dataset_columns(plan.row_schema)
    lists = options.output.sequence_features
    return with_lists(columns, lists) if lists else columns


def _notes(options: DatasetJobOptions, plan: Plan, graph: str | None) -> tuple[Note, ...]:
    """What is known of the whole input; columns of Parquet keep doubles, which a graph would take as float32.

    What a fit lost is told by the job that fitted.
    """
    keeps_doubles = SHARD_FORMATS[options.output.output_format].has_columns and graph is None
    known = tuple(note for note in plan.notes if not (keeps_doubles and note.code == ROUNDED))
    return known + fit_notes(graph) if graph and plan.recipe.preprocessing is not None else known


def run(options: PrepareOptions) -> int:
    """Runs the job, as `pipelines.prepare.run` does."""
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    options.input.check_given()
    source = open_source(source_request(options.input, options.stream))
    if isinstance(source, FileSource):
        check_outside((file.uri for file in source.files), "--input", str(options.output.output))
    result = describe(options, source) if options.run.is_described else prepare(options, source)
    return tell(result, options.run.json)


def _recipe(options: DatasetJobOptions, source: Source) -> Recipe:
    recipe = Recipe.load(options.input, options.checks, options.split, options.transform, options.stream.window)
    recipe.check_source(source)
    return recipe


def describe(options: DatasetJobOptions, source: Source) -> DescribedResult:
    """Describes what `prepare` would do, after the same checks.

    Raises:
      ConfigError: when it would refuse.
    """
    started, output = job_started(), options.output
    recipe = _recipe(options, source)
    _early_plan(options, source, recipe)
    check_output(str(output.output), output.overwrite, dry_run=True, resume=output.resume)
    return DescribedResult(
        job=options.name,
        seconds=time.monotonic() - started,
        flags=options.resolved(),
        stages=tuple(filter(None, _stages(options, source, recipe))),
    )


def prepare(
    options: DatasetJobOptions,
    source: Source,
    run_id: str | None = None,
    handler: _MakeHandler = DeadLetterHandler,
) -> DatasetResult:
    """Prepares a dataset from a source; `handler` makes a handler from a folder and a run id.

    Raises:
      RunFailedError: when the run came to its end and published nothing.
    """
    recipe = _recipe(options, source)
    plan = _early_plan(options, source, recipe)
    look_at(source)
    run_id = run_id or new_run_id()
    if plan is None or source.is_bounded or options.run.is_translated:
        with telling_what_is_published(str(options.output.output), run_id):
            return _write_dataset(options, source, recipe, plan, run_id, handler)
    return _write_stream(options, plan, run_id, handler)


def _write_dataset(
    options: DatasetJobOptions, source: Source, recipe: Recipe, plan: Plan | None, run_id: str, handler: _MakeHandler
) -> DatasetResult:
    """Stages everything and publishes it at the end: one dataset, or one for each window."""
    started = job_started()
    output = str(options.output.output)
    ours = is_local(options.beam)
    with showing_progress(), staging_folder(output, options.output.overwrite, run_id, ends_with_us=ours) as staging:
        plan = plan or _inferred_plan(options, source, recipe, staging)
        write_schema(plan.row_schema, staging.path(SCHEMA))
        graph = _graph(options, plan, staging.path(TRANSFORM))
        title, streaming = "writing the dataset", not source.is_bounded
        with run_pipeline(options.beam, title, _phases(options, recipe), streaming) as pipeline:
            build(pipeline, options, plan, staging, graph, handler(staging.dead_letters, staging.run_id))
        if options.run.is_translated:
            seconds = time.monotonic() - started
            return DatasetResult(job=options.name, status="translated", seconds=seconds, output=output)
        outcome = None if options.stream.window else read_outcome(staging)
    seconds = time.monotonic() - started
    if outcome is not None:
        return _judged(outcome, options, source, seconds)
    windows = [window for window in read_window_manifests(output) if window.run_id == run_id]
    if not windows:
        raise no_rows(source)
    return windows_result(options.name, windows, output, seconds, _notes(options, plan, graph))


def _phases(options: DatasetJobOptions, recipe: Recipe) -> list[Phase]:
    """The phases of the pipeline that writes, in order."""
    return [READ, *recipe.phases, WRITE, PUBLISH_WINDOWS if options.stream.window else PUBLISH]


def _write_stream(options: DatasetJobOptions, plan: Plan, run_id: str, handler: _MakeHandler) -> DatasetResult:
    """Publishes window by window. Schema and graph belong to all windows, so they are in place before the first.

    The staging folder stays however the run ends: the job may go on without this process, or be resumed.
    """
    started = job_started()
    output = str(options.output.output)
    check_output(output, overwrite=False, resume=options.output.resume)
    check_split_hash(output, options.split.split_hash)
    staging = Staging(output, run_id)
    with run_pipeline(options.beam, STREAM.name, [STREAM], streaming=True) as pipeline:
        write_schema(plan.row_schema, staging.published(staging.path(SCHEMA)))
        graph = _graph(options, plan, staging.published(staging.path(TRANSFORM)))
        build(pipeline, options, plan, staging, graph, handler(staging.dead_letters, staging.run_id))
    return windows_result(options.name, read_window_manifests(output), output, time.monotonic() - started)


def check_split_hash(output: str, version: int) -> None:
    """Refuses to go on with windows whose splits have another version of the hash: a key would be in two splits.

    Raises:
      ConfigError: says which version to pass.
    """
    for window in read_window_manifests(output):
        flags: dict[str, Any] = window.provenance.get("options", {})
        older = flags.get("split_hash", 1)
        if (flags.get("split") or flags.get("folds")) and older != version:
            raise ConfigError(
                f"--output {output} has windows whose rows are split by version {older} of the hash, this job has "
                f"version {version}: pass --split_hash {older} to go on with them"
            )


def _early_plan(options: DatasetJobOptions, source: Source, recipe: Recipe) -> Plan | None:
    """The plan if a schema is given, else None; it detects a wrong configuration before anything is read."""
    graph = options.transform.transform
    if not options.checks.schema:
        if graph:
            transformed_schema(graph)
        return None
    plan = Plan.bind(source, recipe, load_schema(options.checks.schema))
    if graph:
        check_transform(graph, schema_features(plan.row_schema))
    if not options.transform.features:
        _columns(options, plan, graph)
    return plan


def _inferred_plan(options: DatasetJobOptions, source: Source, recipe: Recipe, staging: Staging) -> Plan:
    inferred = infer_schema(source, options.beam, staging.path(SCHEMA))
    return Plan.bind(source, recipe, inferred.schema, inferred.notes)


def _graph(options: DatasetJobOptions, plan: Plan, directory: str) -> str | None:
    """The folder of the graph to apply: fitted now, or a copy of the one given; None without features."""
    if options.transform.transform:
        check_transform(options.transform.transform, schema_features(plan.row_schema))
        copy_folder(options.transform.transform, directory)
    elif plan.recipe.preprocessing is not None:
        plan.fit(options.beam, directory)
    else:
        return None
    return directory


def _provenance(options: DatasetJobOptions, plan: Plan, graph: str | None) -> dict[str, Any]:
    provenance = {
        "inputs": plan.source.inputs(),
        "label": plan.recipe.label,
        "event_time": plan.recipe.event_time,
        "split": plan.recipe.split_kind().describe(),
        "schema_fingerprint": schema_fingerprint(plan.row_schema),
        "transform_fingerprint": transform_fingerprint(graph) if graph else None,
        "options": options.resolved(),
        "versions": package_versions(),
    }
    stored: dict[str, Any] = mapped(provenance, masked)
    return stored


def _judged(outcome: Outcome, options: DatasetJobOptions, source: Source, seconds: float) -> DatasetResult:
    """The result of a run that came to its end.

    Raises:
      DataError: when the run published nothing; the message says why.
    """
    if outcome.status == "no_rows":
        raise no_rows(source)
    result = whole_result(options.name, outcome, str(options.output.output), seconds)
    if outcome.status == "published":
        return result
    rejects = dataclasses.replace(read_first(outcome.dead_letters), reasons=result.rejected_by_reason)
    examples = rejects.examples(input_uris(source))
    excluded = outcome.manifest.rejected_by_stage.get(EXCLUDED, 0)
    raise RunFailedError(
        f"{result.rows_rejected - excluded:,} of {result.rows_in - excluded:,} rows were rejected, more than "
        "--max_reject_fraction "
        f"{options.checks.max_reject_fraction:g} allows; "
        f"nothing is published; the rejected rows and why: {outcome.dead_letters}; {examples}",
        result,
    )


def _stages(options: DatasetJobOptions, source: Source, recipe: Recipe) -> list[str | None]:
    unique = key_names(recipe.checks.unique)
    return [
        None if options.checks.schema else "infer the schema from the whole input",
        "fit the features on the train split" if options.transform.features else None,
        f"read {source.describe()}",
        "validate rows against the schema" + (" and the rules" if options.checks.rules else ""),
        "assign event times" if options.input.event_time else None,
        f"reject rows that repeat a key ({unique})" if unique else None,
        "look back for rolling features" if options.transform.rolling else None,
        "assign splits",
        "apply the features" if options.transform.features or options.transform.transform else None,
        "shuffle" if options.output.shuffle == "global" else "keep the order of the input",
        f"write and publish windows ({options.stream.window})" if options.stream.window else None,
        None if options.stream.window else "write shards, publish the dataset",
    ]
