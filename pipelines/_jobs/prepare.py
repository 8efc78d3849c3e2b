"""Runs `prepare` after its command line is checked, and writes what `replay` reads."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.beam.windows import time_name
from penstock.io.columns.float32 import ROUNDED
from penstock.io.columns.of_schema import dataset_columns, with_lists, with_required
from penstock.io.dataset.layout import SCHEMA, TRANSFORM, Staging, check_output, new_run_id
from penstock.io.dataset.options import Addition
from penstock.io.dataset.publish import Outcome, read_outcome
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.shuffle import spill_directory
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dataset.windowed.resume import KeepProgress, Resumption, StreamFile, check_settings
from penstock.io.dead_letters.first import read_first
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.dead_letters.record import LETTERS
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.temporary import temporary_folder
from penstock.io.kafka.producer import look_up
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kafka.topics import TopicSource
from penstock.io.kafka.write import CopyToKafka, WriteToKafka
from penstock.io.reasons import EXCLUDED, Note
from penstock.io.schema import load_schema, schema_features, schema_fingerprint, write_schema
from penstock.io.sources.base import PositionedSource, Source
from penstock.io.sources.files import FileSource
from penstock.io.write import CountRows, WriteDataset
from penstock.transforms.checks.file import key_names
from penstock.transforms.features.apply import (
    ApplyTransform,
    transform_fingerprint,
    transformed_schema,
)
from penstock.transforms.features.engine import fitted_engine
from penstock.transforms.features.fit import fit_notes
from penstock.transforms.features.left_out import read_left_out
from penstock.transforms.shuffle_key import AssignShuffleKey
from penstock.transforms.splits.balance import TellBalance
from pipelines._cli.streams import source_request
from pipelines._jobs.appending import Appending
from pipelines._jobs.dataset_statistics import (
    dataset_observer,
    read_baseline,
    report_run,
    report_windows,
    tidy_history,
    window_summaries,
)
from pipelines._jobs.going_on import begin_stream, stream_settings
from pipelines._jobs.graph import fitted, graph_of, left_out, why_twice
from pipelines._lineage.track import tracking
from pipelines._options.dataset import DatasetJobOptions
from pipelines._options.prepare import PrepareOptions
from pipelines._plan.inferred import infer_schema
from pipelines._plan.input import input_provenance, input_uris, look_at, no_rows, open_input
from pipelines._plan.kept import KeptRows
from pipelines._plan.plan import Plan
from pipelines._plan.recipe import Recipe
from pipelines._plan.versions import package_versions
from pipelines._report.card.write import write_card
from pipelines._report.phases import APPLY, PUBLISH, PUBLISH_WINDOWS, READ, STREAM, WRITE, Phase
from pipelines._report.printable import mapped, masked
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DatasetResult, DescribedResult, Result, RunFailedError
from pipelines._report.result.of_manifests import whole_result, windows_result
from pipelines._report.summary import tell
from pipelines._report.windows import showing_windows
from pipelines._run.job import is_local, run_pipeline
from pipelines._run.running import name_job, running_job
from pipelines._run.staging import (
    pending_windows,
    restore,
    staging_folder,
    stream_folder,
    telling_what_is_published,
)
from pipelines._run.stopping import Stopping
from pipelines._run.stream import watch_stream

_LOGGER = logging.getLogger(__name__)

# Of a folder and a run id.
_MakeHandler = Callable[[str, str], DeadLetterHandler]


def build(
    pipeline: beam.Pipeline,
    options: DatasetJobOptions,
    plan: Plan,
    staging: Staging,
    graph: str | None,
    handler: DeadLetterHandler | None = None,
    resumption: Resumption | None = None,
    kept: KeptRows | None = None,
    addition: Addition | None = None,
) -> None:
    """The graph that writes the dataset: read, check, split, shape, shuffle and sink.

    Rows that are kept from the fit are read and checked already.
    """
    output, stream, seed = options.output, options.stream, options.split.seed
    handler = handler or DeadLetterHandler(staging.dead_letters, staging.run_id)
    if output.rejects_to:
        handler.also_to(WriteToKafka(output.rejects_to, staging.run_id))
    if kept is not None:
        rows_in, rows = kept.read(pipeline, handler)
    else:
        read = plan.read(order_key=output.shuffle == "none", keep_source=True)
        rows = pipeline | "Read" >> read.with_error_handler(handler)
        rows_in = None if stream.windows else rows | "CountRows" >> CountRows()
        spill = os.path.join(spill_directory(staging), "by_key") if is_local(options.beam) else None
        rows = plan.check_and_split(rows, handler, stream.allowed_lateness, spill)
    observer = dataset_observer(options, plan, graph, rows)
    balance, found = plan.recipe.balance(), None
    if balance.tells and stream.windows is None:
        found = rows | "TellBalance" >> TellBalance(balance)
    if output.shuffle == "global":
        rows = rows | "AssignShuffleKey" >> AssignShuffleKey(seed, columns=plan.columns)
    if graph is not None:
        rows = rows | "ApplyTransform" >> ApplyTransform(graph).with_error_handler(handler)
    if output.also_to:
        rows = rows | "AlsoToKafka" >> CopyToKafka(output.also_to)
    spec = dataclasses.replace(
        options.dataset_spec(),
        output=staging.output,
        columns=_columns(options, plan, graph),
        splits=options.split.names(),
        extras=(SCHEMA, TRANSFORM) if graph else (SCHEMA,),
        provenance=_provenance(options, plan, graph),
        notes=_notes(options, plan, graph),
        resume=not plan.source.is_bounded,  # the output was looked at when the job began
        append=addition,
    )
    written = rows | "WriteDataset" >> WriteDataset(
        **vars(spec),
        dead_letters=handler,
        rows_in=rows_in,
        found=found,
        observer=observer,
        summaries=window_summaries(options, plan, graph),
        run_id=staging.run_id,
        spill=is_local(options.beam),
        resumption=resumption,
    )
    if isinstance(plan.source, PositionedSource) and plan.is_traced:
        _ = written | "KeepProgress" >> KeepProgress(staging, plan.source.commit())


def _columns(options: DatasetJobOptions, plan: Plan, graph: str | None) -> pa.Schema | None:
    """The columns of the shards, for a format that needs them; features of a graph are computed as float32."""
    if not SHARD_FORMATS[options.output.output_format].needs_columns:
        return None
    if graph:
        columns = dataset_columns(transformed_schema(graph), pa.float32(), lists=True)
    else:
        columns = dataset_columns(plan.row_schema)
    if SHARD_FORMATS[options.output.output_format].marks_missing and not graph:
        columns = with_required(columns, plan.row_schema)
    lists = options.output.sequence_features
    return with_lists(columns, lists) if lists else columns


def _notes(options: DatasetJobOptions, plan: Plan, graph: str | None) -> tuple[Note, ...]:
    """What is known of the whole input; columns of Parquet keep doubles, which a graph would take as float32.

    What a fit lost is told by the job that fitted.
    """
    keeps_doubles = SHARD_FORMATS[options.output.output_format].has_columns and graph is None
    known = tuple(note for note in plan.notes if not (keeps_doubles and note.code == ROUNDED))
    if graph and (outputs := read_left_out(graph)):
        known += (_left_out_note(outputs, plan),)
    return known + fit_notes(graph) if graph and plan.recipe.preprocessing is not None else known


def _left_out_note(outputs: Sequence[str], plan: Plan) -> Note:
    where = plan.recipe.environment
    why = f"needs what the environment {where} does not expect" if where else "was left out of the graph before"
    return Note("transform.left_out", ", ".join(outputs), len(outputs), f"{why}; it is not computed")


def run(options: PrepareOptions) -> int:
    """Runs the job, as `pipelines.prepare.run` does."""
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    options.input.check_given()
    output = str(options.output.output)
    if not options.run.is_described:
        restore(output)
    appending = Appending.begin(output) if options.output.append else None
    if appending is not None:
        options = appending.completed(options)
    source = open_input(source_request(options.input, options.stream), output)
    if appending is not None:
        appending, source = appending.fresh(source)
    if options.run.is_described:
        result: Result = describe(options, source)
    elif appending is not None and isinstance(source, FileSource) and not source.files:
        result = _nothing_to_add(options, appending)
    else:
        result = prepare(options, source, appending=appending)
    return tell(result, options.run.json)


def _nothing_to_add(options: PrepareOptions, appending: Appending) -> DatasetResult:
    return DatasetResult(
        job=options.name,
        status="nothing_to_do",
        seconds=time.monotonic() - job_started(),
        output=str(options.output.output),
        skipped=appending.skipped,
    )


def _recipe(options: DatasetJobOptions, source: Source) -> Recipe:
    recipe = Recipe.load(options.input, options.checks, options.split, options.transform, options.stream.windows)
    recipe.check_source(source)
    has_times = options.input.event_time or (source.has_event_times and not isinstance(source, FileSource))
    if options.stream.guard(is_endless=False) is not None and not has_times:
        raise ConfigError("--max_ahead is about event times: pass --event_time COLUMN")
    return dataclasses.replace(recipe, max_ahead=options.stream.guard(not source.is_bounded))


def describe(options: DatasetJobOptions, source: Source) -> DescribedResult:
    """Describes what `prepare` would do, after the same checks.

    Raises:
      ConfigError: when it would refuse.
    """
    started, output = job_started(), options.output
    recipe = _recipe(options, source)
    _check_copies(options, source, _early_plan(options, source, recipe), dry_run=True)
    check_output(str(output.output), output.overwrite, dry_run=True, resume=output.resume, append=output.append)
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
    appending: Appending | None = None,
) -> DatasetResult:
    """Prepares a dataset from a source; `handler` makes a handler from a folder and a run id.

    With `appending` it adds to one.

    Raises:
      RunFailedError: when the run came to its end and published nothing.
    """
    recipe = _recipe(options, source)
    plan = _early_plan(options, source, recipe)
    if appending is not None and plan is not None:
        appending.check(plan, options)
    read_baseline(options)
    _check_copies(options, source, plan)
    look_at(source)
    run_id = run_id or new_run_id()
    with tracking(options, source, run_id) as tracked:
        if plan is None or source.is_bounded or options.run.is_translated:
            with telling_what_is_published(str(options.output.output), run_id):
                return tracked.ended(_write_dataset(options, source, recipe, plan, run_id, handler, appending))
        return tracked.ended(_write_stream(options, plan, run_id, handler))


def _write_dataset(
    options: DatasetJobOptions,
    source: Source,
    recipe: Recipe,
    plan: Plan | None,
    run_id: str,
    handler: _MakeHandler,
    appending: Appending | None,
) -> DatasetResult:
    """Stages everything and publishes it at the end: one dataset, or one for each window."""
    started = job_started()
    output = str(options.output.output)
    ours = is_local(options.beam)
    folder = staging_folder(output, options.output.overwrite, run_id, ends_with_us=ours, append=appending is not None)
    addition = None if appending is None else appending.addition(options)
    with showing_progress(), folder as staging:
        plan = plan or _inferred_plan(options, source, recipe, staging)
        write_schema(plan.row_schema, staging.path(SCHEMA))
        twice = why_twice(options, plan)
        with fitted(options, plan, staging, twice) as (graph, kept):
            title, streaming = "writing the dataset", not source.is_bounded
            with run_pipeline(options.beam, title, _phases(options, recipe, kept), streaming) as pipeline:
                letters = handler(staging.dead_letters, staging.run_id)
                build(pipeline, options, plan, staging, graph, letters, kept=kept, addition=addition)
        if options.run.is_translated:
            seconds = time.monotonic() - started
            return DatasetResult(job=options.name, status="translated", seconds=seconds, output=output)
        outcome = None if options.stream.windows else read_outcome(staging)
        if outcome is not None:
            tidy_history(outcome, output)
            if outcome.status == "published":
                write_card(output)
        report = None if outcome is None else report_run(options, outcome, plan)
    seconds = time.monotonic() - started
    if outcome is not None:
        if outcome.status == "no_rows" and isinstance(options, PrepareOptions) and appending and appending.base:
            _LOGGER.warning("%s", no_rows(source))
            return _nothing_to_add(options, appending)
        result = dataclasses.replace(_judged(outcome, options, source, seconds, report), read_twice=twice)
        return result if appending is None else dataclasses.replace(result, skipped=appending.skipped)
    windows = [window for window in read_window_manifests(output) if window.run_id == run_id]
    if not windows:
        raise no_rows(source)
    write_card(output)
    result = windows_result(options.name, windows, output, seconds, _notes(options, plan, graph))
    return dataclasses.replace(result, report=report_windows(options), read_twice=twice)


def _phases(options: DatasetJobOptions, recipe: Recipe, kept: KeptRows | None) -> list[Phase]:
    """The phases of the pipeline that writes, in order."""
    before = [READ, *recipe.phases] if kept is None else [APPLY]
    return [*before, WRITE, PUBLISH_WINDOWS if options.stream.windows else PUBLISH]


def _write_stream(options: DatasetJobOptions, plan: Plan, run_id: str, handler: _MakeHandler) -> DatasetResult:
    """Publishes window by window. Schema and graph belong to all windows, so they are in place before the first."""
    started = job_started()
    output, how = str(options.output.output), options.stop.on_running
    stopping = Stopping(
        open_windows=_filling_window if options.stream.is_flushed else lambda: pending_windows(Staging(output, run_id)),
        stop_with=options.stop.stop_with or "leave",
        savepoint_dir=options.stop.savepoint_dir,
    )
    running = running_job(options.beam, output, how)
    if running is not None and how == "attach":
        check_settings(output, stream_settings(options, plan))
        with showing_windows(output):
            watch_stream(running, stopping)
        return windows_result(options.name, read_window_manifests(output), output, time.monotonic() - started)
    plan, resumption = begin_stream(options, plan, run_id, running)
    dataset = StreamFile.read(output) if resumption is None else resumption.file
    name_job(options.beam, output, run_id if dataset is None else dataset.run_id, run_id)
    stopping = dataclasses.replace(stopping, goes_on=resumption is not None and bool(resumption.file.began))
    # Workers elsewhere count nothing in this process.
    shown = contextlib.nullcontext() if is_local(options.beam) else showing_windows(output)
    with (
        stream_folder(output, run_id, ends_with_us=is_local(options.beam)) as staging,
        shown,
        run_pipeline(options.beam, STREAM.name, [STREAM], streaming=True, stopping=stopping) as pipeline,
    ):
        if resumption is not None:
            resumption.start(staging)
            # What is shown of windows is shown of the dataset, whichever start published them.
            progress.add(windows=len(resumption.windows), final=sum(window.final for window in resumption.windows))
        write_schema(plan.row_schema, stores.join(output, SCHEMA))
        graph = graph_of(options, plan, stores.join(output, TRANSFORM))
        build(pipeline, options, plan, staging, graph, handler(staging.dead_letters, staging.run_id), resumption)
    return windows_result(options.name, read_window_manifests(output), output, time.monotonic() - started)


def _filling_window() -> list[str]:
    """The name of the window of processing time that is open in this process, if there is one."""
    opened = progress.snapshot().values.get("opened")
    return [time_name(opened)] if opened else []


def _early_plan(options: DatasetJobOptions, source: Source, recipe: Recipe) -> Plan | None:
    """The plan if a schema is given, else None; it detects a wrong configuration before anything is read."""
    graph = options.transform.transform
    if not options.checks.schema:
        if graph:
            transformed_schema(graph)
        return None
    plan = Plan.bind(source, recipe, load_schema(options.checks.schema))
    if graph:
        left_out(graph, plan)
    if not options.transform.features:
        _columns(options, plan, graph)
    return plan


def _check_copies(options: DatasetJobOptions, source: Source, plan: Plan | None, dry_run: bool = False) -> None:
    """Asks the brokers for the topics of `--also_to` and `--rejects_to`, before anything is read.

    Raises:
      ConfigError: when the job would read its own copies, or a key is not a column.
      InputError: as `look_up`.
    """
    transforms = options.transform.features or options.transform.transform
    columns = [feature.name for feature in schema_features(plan.row_schema)] if plan and not transforms else None
    for flag, uri, keys in (
        ("--also_to", options.output.also_to, columns),
        ("--rejects_to", options.output.rejects_to, LETTERS.names),
    ):
        if not uri:
            continue
        target = KafkaTarget.parse(uri)
        if isinstance(source, TopicSource) and target.is_in(source.topics):
            raise ConfigError(f"{flag} {target.uri} is a topic of --input: the job would read what it writes")
        if target.key is not None and keys is not None and target.key not in keys:
            raise ConfigError(f"{flag}: key must be one of {', '.join(keys)}; got {target.key!r}")
        look_up(target, create=not dry_run)


def _inferred_plan(options: DatasetJobOptions, source: Source, recipe: Recipe, staging: Staging) -> Plan:
    # A store is asked only where workers elsewhere hand the schema over.
    is_near = stores.is_object(staging.output) and is_local(options.beam)
    with temporary_folder() if is_near else contextlib.nullcontext(staging.directory) as folder:
        inferred = infer_schema(source, options.beam, stores.join(folder, SCHEMA))
    return Plan.bind(source, recipe, inferred.schema, inferred.notes)


def _provenance(options: DatasetJobOptions, plan: Plan, graph: str | None) -> dict[str, Any]:
    provenance = {
        **input_provenance(plan.source),
        "label": plan.recipe.label,
        "event_time": plan.recipe.event_time,
        "split": plan.recipe.split_kind().describe(),
        "schema_fingerprint": schema_fingerprint(plan.row_schema),
        "transform_fingerprint": transform_fingerprint(graph) if graph else None,
        "features_engine": fitted_engine(graph) if graph else None,
        "options": options.resolved(),
        "versions": package_versions(),
    }
    stored: dict[str, Any] = mapped(provenance, masked)
    return stored


def _judged(
    outcome: Outcome, options: DatasetJobOptions, source: Source, seconds: float, report: str | None
) -> DatasetResult:
    """The result of a run that came to its end.

    Raises:
      DataError: when the run published nothing; the message says why.
    """
    if outcome.status == "no_rows":
        raise no_rows(source)
    result = whole_result(options.name, outcome, str(options.output.output), seconds)
    result = dataclasses.replace(result, report=report)
    if outcome.status == "published":
        return result
    if outcome.status == "refused":
        raise RunFailedError(
            f"the rows are not like those of --check_against {options.statistics.check_against}: "
            f"{'; '.join(outcome.refused)}; nothing is published; the statistics of the rows: {outcome.statistics}; "
            f"the rejected rows, if any: {outcome.dead_letters}",
            result,
        )
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
        f"write and publish windows ({options.stream.windows})" if options.stream.windows else None,
        "compute statistics" if options.statistics.is_on else None,
        f"compare the rows with {options.statistics.check_against}" if options.statistics.check_against else None,
        None if options.stream.windows else "write shards, publish the dataset",
    ]
