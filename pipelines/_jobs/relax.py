"""Runs `relax` after its command line is checked: one pipeline, which holds the rows against the schema."""

import dataclasses
import json
import time

import apache_beam as beam
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dead_letters.first import FirstRejects, first_rejects
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.schema import load_schema, write_schema
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.checks.environment import in_environment
from penstock.transforms.relax import Change, Evidence, GatherEvidence, relax_schema, schema_difference
from pipelines._cli.options import resolved
from pipelines._cli.streams import StreamOptions, source_request
from pipelines._options.relax import RelaxOptions
from pipelines._plan.input import look_at, no_rows, open_input
from pipelines._report.phases import READ
from pipelines._report.process import job_started
from pipelines._report.progress import showing_progress
from pipelines._report.result import DescribedResult, RelaxResult
from pipelines._report.summary import tell
from pipelines._run.job import run_pipeline

_STAGES = ("read the rows, without the schema", "hold them against the schema", "write the relaxed schema")

# What a worker found, beside the schema: whoever runs the job reads and removes it.
_FOUND_SUFFIX = ".found"


def run(options: RelaxOptions) -> int:
    """Runs the job, as `pipelines.relax.run` does."""
    started = job_started()
    _ = options.beam  # Beam refuses a wrong option here, before anything is read
    flags = options.schema
    output = str(flags.output)
    source = open_input(source_request(options.input, StreamOptions()), output)
    schema = load_schema(str(flags.schema))
    in_environment(schema, flags.environment)
    if options.run.is_described:
        given = resolved(options.input, flags)
        seconds = time.monotonic() - started
        return tell(DescribedResult(job=options.name, seconds=seconds, flags=given, stages=_STAGES), options.run.json)
    if stores.exists(output) and not flags.overwrite:
        raise ConfigError(f"--output {output} is there already; pass --overwrite to replace it")
    look_at(source)
    with showing_progress():
        found = _relax(options, source, schema)
    result = RelaxResult(
        job=options.name,
        seconds=time.monotonic() - started,
        schema=str(flags.schema),
        output=output,
        rows_in=found.rows + found.unread.rows,
        rows_unread=found.unread.rows,
        changes=tuple(dataclasses.asdict(change) for change in found.changes),
        difference=schema_difference(schema, load_schema(output)),
    )
    return tell(result, options.run.json)


@dataclasses.dataclass(frozen=True)
class _Found:
    """What rows said against the schema; `unread` are rows that cannot be read, whatever a schema says."""

    rows: int
    changes: tuple[Change, ...]
    unread: FirstRejects


def _relax(options: RelaxOptions, source: Source, schema: schema_pb2.Schema) -> _Found:
    """Reads the input and writes the relaxed schema.

    Raises:
      NoRowsError: when there are no rows.
    """
    output, title = str(options.schema.output), "holding the rows against the schema"
    with first_rejects(output) as handler:
        with run_pipeline(options.beam, title, [READ.named(title)]) as pipeline:
            _ = (
                pipeline
                | "Read" >> source.read().with_error_handler(handler)
                | "GatherEvidence" >> GatherEvidence(schema, options.schema.environment, _has_kinds(source))
                | "WriteSchema" >> beam.Map(_write, schema, output)
            )
        found = _take(output)
        if not found.rows:
            raise no_rows(source, handler.found())
        return dataclasses.replace(found, unread=handler.found())


def _has_kinds(source: Source) -> bool:
    """Whether records say of which kind their values are, and are read as no other."""
    return isinstance(source, FileSource) and isinstance(source.format_of_files, TFRecordFormat)


def _write(evidence: Evidence, schema: schema_pb2.Schema, output: str) -> None:
    """Writes the relaxed schema, unless there were no rows, and beside it what was found."""
    relaxed, changes = relax_schema(schema, evidence)
    if evidence.rows:
        write_schema(relaxed, output)
    text = json.dumps({"rows": evidence.rows, "changes": [dataclasses.asdict(change) for change in changes]})
    path = output + _FOUND_SUFFIX
    with (
        writing(path, OUTPUT_REMEDY),
        stores.create_file(path, "application/json") as file,
    ):
        file.write(text.encode())


def _take(output: str) -> _Found:
    """Reads what `_write` has written beside the schema, and removes it."""
    with stores.open_file(output + _FOUND_SUFFIX) as file:
        found = json.loads(file.read())
    folder, name = stores.split(output)
    delete_files(folder or ".", [name + _FOUND_SUFFIX])
    return _Found(found["rows"], tuple(Change(**change) for change in found["changes"]), FirstRejects())
