"""The schema of an input that none is given for, and statistics of its rows from the same pass."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dead_letters.first import FirstRejects, first_rejects
from penstock.io.errors import PenstockError
from penstock.io.files import stores
from penstock.io.files.system_errors import writing
from penstock.io.formats.base import reads_alike
from penstock.io.reasons import Note
from penstock.io.schema import load_schema, write_schema
from penstock.io.sources.base import Source
from penstock.io.sources.files import FileSource
from penstock.transforms.infer import SummarizeRowsFn, Summary, summarize_batch, summary_notes, summary_schema
from penstock.transforms.statistics.inferred import InferredStatistics, InferStatisticsFn, RowTypes
from penstock.transforms.statistics.statistics import Statistics
from pipelines._plan.input import no_rows
from pipelines._plan.notes_file import read_notes, write_notes
from pipelines._report.phases import READ
from pipelines._run.job import run_pipeline

_NOTES_SUFFIX = ".notes"
_STATE_SUFFIX = ".state"

# By what rows are read, and what is computed of them, when their schema is this one.
TypesOf = Callable[[schema_pb2.Schema], RowTypes]


@dataclasses.dataclass(frozen=True)
class InferredSchema:
    """A schema, and what it does to values of the rows that it was inferred from.

    Attributes:
      unread: the rows that could not be read for it.
      statistics: of the other rows as the schema types them, if they were asked for and came out of the same pass.
    """

    schema: schema_pb2.Schema
    notes: tuple[Note, ...]
    unread: FirstRejects = dataclasses.field(default_factory=FirstRejects)
    statistics: Statistics | None = None


def infer_schema(
    source: Source, beam_options: PipelineOptions, path: str, types_of: TypesOf | None = None
) -> InferredSchema:
    """Infers the schema of the whole input and writes it to `path`, for the user to curate.

    Args:
      source: what is read.
      beam_options: Beam's.
      path: of the file.
      types_of: asks for statistics too. They come if the beginning and the end of the input show the types of all
        rows; else they need a pass of their own.

    Raises:
      NoRowsError: when the input has no row to infer from; says why its rows are rejected.
    """
    title = "inferring the schema"
    guess = None if types_of is None else _guessed_types(source, types_of)
    with first_rejects(path) as handler:
        with run_pipeline(beam_options, title, [READ.named(title)]) as pipeline:
            rows = pipeline | "Read" >> source.read().with_error_handler(handler)
            _ = rows | "InferSchema" >> _summarize(guess) | "WriteSchema" >> beam.Map(_write_inferred, path)
        statistics = None if guess is None else take_statistics(path)
        inferred = InferredSchema(load_schema(path), _take_notes(path), handler.found(), statistics)
        if not inferred.schema.feature:
            raise no_rows(source, inferred.unread, inferred.notes)
        if guess is not None and types_of is not None and not guess.gives_the_same(types_of(inferred.schema)):
            return dataclasses.replace(inferred, statistics=None)
        return inferred


def _guessed_types(source: Source, types_of: TypesOf) -> RowTypes | None:
    """Guesses the types of all rows from the first and the last file; None where a guess would not do.

    What is wrong about the input is told by the pass over all of it.
    """
    if not isinstance(source, FileSource) or not reads_alike(source.reader):
        return None
    try:
        summary = Summary()
        for batch in _first_and_last(source):
            summary = summary.merge(summarize_batch(batch))
        schema = summary_schema(summary)
        return types_of(schema) if schema.feature else None
    except PenstockError:
        return None


def _first_and_last(source: FileSource) -> Iterator[pa.RecordBatch]:
    """Yields the first rows of the first file, and the last ones of the last file."""
    first, last = source.files[0], source.files[-1]
    for file, part in ((first, next(iter(source.reader.plan(first)), None)), (last, source.reader.tail(last))):
        parsed = next(iter(source.reader.read(file, part, None)), None) if part is not None else None
        if parsed is not None:
            yield parsed.batch


def _summarize(guess: RowTypes | None) -> beam.PTransform[Any, Any]:
    if guess is None:
        return beam.CombineGlobally(SummarizeRowsFn()).with_output_types(Summary)
    return beam.CombineGlobally(InferStatisticsFn(guess)).with_output_types(InferredStatistics)


def _write_inferred(found: Summary | InferredStatistics, path: str) -> None:
    """Writes the schema, and beside it the notes, and the statistics if there are any."""
    summary = found if isinstance(found, Summary) else found.summary
    write_schema(summary_schema(summary), path)
    write_notes(summary_notes(summary), path + _NOTES_SUFFIX)
    if isinstance(found, InferredStatistics) and found.statistics is not None:
        write_statistics(found.statistics, path)


def write_statistics(statistics: Statistics, path: str) -> None:
    """Writes the state alone, for whoever runs the job: the proto and its JSON are made once, at the end."""
    with writing(path, "make room there, or write the statistics elsewhere"):
        stores.write_file(path + _STATE_SUFFIX, statistics.to_bytes())


def take_statistics(path: str) -> Statistics | None:
    """Reads what `write_statistics` has written, and removes it; None if it has written nothing."""
    if not stores.exists(path + _STATE_SUFFIX):
        return None
    statistics = Statistics.from_bytes(stores.read_file(path + _STATE_SUFFIX))
    stores.delete([path + _STATE_SUFFIX])
    return statistics


def _take_notes(path: str) -> tuple[Note, ...]:
    """Reads what `_write_inferred` has written beside the schema, and removes it."""
    notes = read_notes(path + _NOTES_SUFFIX)
    stores.delete([path + _NOTES_SUFFIX])
    return notes
