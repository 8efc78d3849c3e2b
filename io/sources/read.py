"""Reading files of any known format into RecordBatches: `ReadRecords`.

The transform plans each file into parts (byte ranges, row groups, blocks), spreads the parts over the workers, and
reads each part into batches of at most 65,536 rows and about 8 MiB, each row with its `_origin`. A schema types the
columns (`penstock.io.columns.conform`); rows that cannot be typed are rejected with their original bytes.

`penstock.io.formats.registry` lists the formats.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import drop_rows, set_column, source_order, split_batch
from penstock.io.beam import cancellation as stopping
from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.event_times import LetterTimes
from penstock.io.columns.explode import check_explodes
from penstock.io.columns.row_notes import spread_notes
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.contents import telling_content
from penstock.io.files.inputs import InputFile, check_crc32c, check_unchanged, fetch_small, grouped
from penstock.io.files.partitions import Partitioning
from penstock.io.files.system_errors import out_of_memory
from penstock.io.formats.base import CheckedFormat, Format, Parsed, Part
from penstock.io.formats.registry import choose_format, format_of
from penstock.io.reserved import SHUFFLE_KEY
from penstock.io.schema import Feature
from penstock.io.sources.inputs import FoundInputs, find_named, with_partitions


@dataclasses.dataclass(eq=False)
class ReadRecords(RejectingTransform):
    """Reads files of any known format into RecordBatches.

    Elements: `pyarrow.RecordBatch` of at most 65,536 rows and about 8 MiB, with `_origin`. With `features`, columns are
    int64, float64, string or binary, or lists of those; a null is an absent feature. Without `features`, the columns
    are as in the file (CSV: all text). The order of elements is not defined.

    Attributes:
      inputs: patterns, folders and lists (`penstock.io.sources.inputs`), or files that were found before. The pipeline
        fails when a file has changed since: its size or time, or in a store its version.
      format: a name from `penstock.io.formats.registry.FORMATS`, a `Format` with its options, or None to choose by
        suffix.
      features: the schema's features (`penstock.io.schema.schema_features`).
      order_key: add `_shuffle_key`, the position of a row in the sorted list of files, which
        `WriteDataset(shuffle="none")` needs.
      partitioning: `auto` makes columns of the folders `key=value` directly above the files: int64 where all values
        are whole numbers, else string, or typed by `features`; `none` does not.
      keep_source: add `_source`, what was read of each row, so that steps behind this one reject it as it was read.
      times: reads the event times of rows that are rejected here, if another step gives the others `_event_time`.

    Raises:
      ConfigError: when the format is unknown, or no feature is of the list that it explodes.
      InputError: when no file matches, or the folders of files give different columns; on the workers, when a whole
        file is unusable.
    """

    inputs: Sequence[str] | Sequence[InputFile]
    format: str | Format | None = None
    features: Sequence[Feature] | None = None
    order_key: bool = False
    partitioning: Partitioning = "auto"
    keep_source: bool = False
    times: LetterTimes | None = None

    # Of the files that are read, once the transform is applied.
    uris: Sequence[str] = dataclasses.field(default=(), init=False, repr=False)

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Plans the files, spreads the parts over workers, and reads them."""
        found = self._found()
        files = found.files
        self.uris = [file.uri for file in files]
        reader = resolve_format(self.format, files)
        found.check_read_by(reader)
        reader = with_partitions(reader, files, self.partitioning)
        read = _ReadGroupFn(ReadPartFn(reader, self.features, self.order_key, self.keep_source, self.times))
        groups = [[(index, files[index]) for index in group] for group in grouped(files)]
        numbered = pbegin | "Files" >> beam.Create(groups, reshuffle=False)
        if any(file.crc32c for file in files):  # which takes a while
            numbered |= "SpreadFiles" >> beam.Reshuffle()
        results = (
            numbered
            | "PlanParts"
            >> beam.ParDo(_PlanGroupFn(PlanPartsFn(reader))).with_output_types(list[tuple[int, InputFile, Part]])
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadParts" >> beam.ParDo(read).with_output_types(pa.RecordBatch).with_outputs(REJECTED, main="out")
        )
        batches, rejected = split_rejected(results)
        self._reject(rejected)
        return batches

    def _found(self) -> FoundInputs:
        patterns = [item for item in self.inputs if isinstance(item, str)]
        if not self.inputs:
            raise ConfigError("inputs must name at least one file or pattern, got none")
        if patterns:
            return find_named(patterns, is_named=self.format is not None)
        return FoundInputs(tuple(item for item in self.inputs if isinstance(item, InputFile)))


def uris_behind(values: beam.PCollection[Any]) -> Iterator[str]:
    """Yields the files that `ReadRecords` reads for values, through all transforms between, while a graph is built."""
    for transform in transforms_behind(values):
        if isinstance(transform, ReadRecords):
            yield from transform.uris


def transforms_behind(values: beam.PCollection[Any]) -> Iterator[beam.PTransform[Any, Any]]:
    """Yields the transforms that values depend on, while a graph is built."""
    return (applied.transform for applied in _applied_behind(values) if applied.transform is not None)


def outputs_behind(values: beam.PCollection[Any], tag: str) -> Iterator[Any]:
    """Yields the outputs with a tag of the steps that values depend on."""
    return (applied.outputs[tag] for applied in _applied_behind(values) if tag in applied.outputs)


def _applied_behind(values: beam.PCollection[Any]) -> Iterator[beam.pipeline.AppliedPTransform]:
    waiting, seen = [values.producer], set[int]()
    while waiting:
        applied = waiting.pop()
        if applied is None or id(applied) in seen:
            continue
        seen.add(id(applied))
        yield applied
        waiting += [applied.parent, *(value.producer for value in applied.inputs)]
        waiting += [side.pvalue.producer for side in applied.side_inputs]


def resolve_format(choice: str | Format | None, files: Sequence[InputFile], **options: Any) -> Format:
    """Makes a format by name, with its options; by the suffix of the files when `choice` is None.

    Raises:
      ConfigError: when the name, a suffix or an option is unknown, or suffixes set several values of an option that is
        not given (.tsv files beside others without a `delimiter`).
      InputError: when a file is compressed as a whole, but the format compresses inside.
    """
    if choice is not None and not isinstance(choice, str):
        return choice
    uris = [file.uri for file in files]
    return choose_format(choice, uris).make_for(uris, **options)


class PlanPartsFn(beam.DoFn):
    """Plans the parts of numbered files."""

    def __init__(self, reader: Format):
        self._reader = reader

    def process(self, numbered: tuple[int, InputFile]) -> Iterator[Any]:
        """Yields each part with its file and the file's number."""
        index, file = numbered
        check_unchanged(file)
        check_crc32c(file)
        progress.plan(bytes=file.size)
        with telling_content(file, format_of(self._reader)):
            if isinstance(self._reader, CheckedFormat):
                self._reader.check(file)
            for part in self._reader.plan(file):
                progress.plan(parts=1)
                yield index, file, part


class _PlanGroupFn(beam.DoFn):
    """Plans files; those that are fetched together stay together."""

    def __init__(self, plan: PlanPartsFn):
        self._plan = plan

    def process(self, group: Sequence[tuple[int, InputFile]]) -> Iterator[Any]:
        fetch_small(file for _, file in group)
        parts = (part for numbered in group for part in self._plan.process(numbered))
        if len(group) > 1:
            yield list(parts)
        else:
            yield from ([part] for part in parts)


class ReadPartFn(beam.DoFn):
    """Reads parts into batches and rejects."""

    def __init__(
        self,
        reader: Format,
        features: Sequence[Feature] | None,
        order_key: bool,
        keep_source: bool,
        times: LetterTimes | None = None,
    ):
        check_explodes(getattr(reader, "explode", None), features)
        self._reader = reader
        self._features = features
        self._order_key = order_key
        self._keep_source = keep_source
        self._times = times
        self._pipeline = stopping.pipeline_name()
        self._counters = RowCounters("ReadRecords")

    def process(self, item: tuple[int, InputFile, Part]) -> Iterator[Any]:
        """Reads the rows of one part."""
        with stopping.failing_together(self._pipeline), telling_content(item[1], format_of(self._reader)):
            try:
                yield from self._read(*item)
            except MemoryError as error:
                place = f"the read of {item[1].uri} ({item[2]})"
                raise InputError(out_of_memory(str(error), place)) from error

    def _read(self, index: int, file: InputFile, part: Part) -> Iterator[Any]:
        for parsed in self._reader.read(file, part, self._features):
            stopping.check(self._pipeline)
            batch, rejected = self._typed(parsed)
            self._count(batch.num_rows, len(parsed.rejected) + len(rejected))
            yield from reject(parsed.rejected)
            yield from reject(rejected)
            if self._order_key:
                batch = set_column(batch, SHUFFLE_KEY, source_order(index, batch))
            yield from split_batch(batch)
        check_unchanged(file)
        progress.add(parts=1)

    def _typed(self, parsed: Parsed) -> tuple[pa.RecordBatch, Sequence[DeadLetter] | RejectedBatch]:
        """Splits rows into those that the schema can type, as a typed batch, and those that it cannot."""
        batch = parsed.with_source() if self._keep_source else parsed.batch
        if self._features is None:
            return batch, ()
        batch, reasons = conform_batch(batch, self._features)
        batch = spread_notes(batch)
        if not reasons:
            return batch, ()
        letters = row_letters(parsed.with_source(), reasons, "read", typed=batch)
        if self._times is not None:
            letters = letters.dated(self._times.read(batch, reasons))
        return drop_rows(batch, reasons), letters

    def _count(self, good: int, bad: int) -> None:
        self._counters.add(in_batches=1, in_rows=good + bad, bad_rows=bad)
        progress.add(rows=good + bad)


class _ReadGroupFn(beam.DoFn):
    """Reads the parts of files that are fetched together."""

    def __init__(self, read: ReadPartFn):
        self._read = read

    def process(self, parts: Sequence[tuple[int, InputFile, Part]]) -> Iterator[Any]:
        if len(parts) > 1:
            fetch_small(file for _, file, _ in parts)
        for part in parts:
            yield from self._read.process(part)
