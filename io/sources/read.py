"""Reading files of any known format into RecordBatches: `ReadRecords` and one `ReadFrom<Format>` per format.

A file is planned into parts (byte ranges, row groups, blocks), the parts are spread over the workers, and each part is
read into batches of at most 32,768 rows and about 4 MiB, each row with its `_origin`. Under a schema the columns are
typed (`penstock.io.columns.conform`); what cannot be typed is rejected with the original bytes.

======== ============================= ============================ =====================================
format   suffixes                      compressed as a whole        parts; unit of `_origin.position`
======== ============================= ============================ =====================================
csv      .csv .tsv .txt                .gz .bz2 .zst                byte ranges; byte offset of the line
jsonl    .jsonl .ndjson .json          .gz .bz2 .zst                byte ranges; byte offset of the line
avro     .avro                         inside the file              blocks; row index
parquet  .parquet .pq                  inside the file              row groups; row index
tfrecord .tfrecord .tfrecords .tfr     .gz .zlib .bz2 .zst          whole file; byte offset of the record
======== ============================= ============================ =====================================
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import drop_rows, set_column, source_order, split_batch
from penstock.io.beam import cancellation as stopping
from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.conform import conform_batch
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import InputFile, format_suffix, match_files, stat_file
from penstock.io.formats.avro.format import AvroFormat
from penstock.io.formats.base import PART_BYTES, Format, Parsed, Part
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.formats.json.format import JsonlFormat
from penstock.io.formats.lines import BLOCK_BYTES, MAX_LINE_BYTES
from penstock.io.formats.parquet import ParquetFormat
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.reserved import SHUFFLE_KEY
from penstock.io.schema import Feature

FORMATS: Mapping[str, type[Format]] = {
    "csv": CsvFormat,
    "jsonl": JsonlFormat,
    "avro": AvroFormat,
    "parquet": ParquetFormat,
    "tfrecord": TFRecordFormat,
}

_SUFFIXES = {
    "csv": "csv",
    "tsv": "csv",
    "txt": "csv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "jsonl",
    "avro": "avro",
    "parquet": "parquet",
    "pq": "parquet",
    "tfrecord": "tfrecord",
    "tfrecords": "tfrecord",
    "tfr": "tfrecord",
}


def detect_format(files: Sequence[InputFile]) -> str:
    """The one format that the suffixes of all files tell.

    Raises:
      ConfigError: for an unknown suffix, or suffixes of several formats.
    """
    found: dict[str, str] = {}
    for file in files:
        suffix = format_suffix(file.uri)
        if suffix not in _SUFFIXES:
            raise ConfigError(f"{file.uri}: no format is known for this name; pass --format {'|'.join(FORMATS)}")
        found.setdefault(_SUFFIXES[suffix], file.uri)
    if len(found) > 1:
        examples = ", ".join(f"{uri} ({name})" for name, uri in sorted(found.items()))
        raise ConfigError(f"the inputs have several formats: {examples}; run one job for each, or pass --format")
    return next(iter(found))


@dataclasses.dataclass(eq=False)
class ReadRecords(RejectingTransform):
    """Reads files of any known format into RecordBatches.

    Elements: `pyarrow.RecordBatch` of at most 32,768 rows and about 4 MiB, with `_origin`. With `features`, columns are
    int64, float64, string or binary, or lists of those; a null is an absent feature. Without, the columns are as in
    the file (CSV: all text). The order of elements is not defined.

    Attributes:
      inputs: patterns, or the files that they matched before (`match_files`): a file whose size or modification time
        is no longer as matched fails the pipeline.
      format: a name from `FORMATS`, a `Format` with its options, or None to go by the suffix.
      features: the schema's features (`penstock.io.schema.schema_features`).
      order_key: add `_shuffle_key`, the place of a row in the sorted list of files, as `WriteDataset(shuffle="none")`
        needs it.

    Raises:
      ConfigError: when the format is not known.
      InputError: when no file matches; on the workers, for a fault of a whole file.
    """

    inputs: Sequence[str] | Sequence[InputFile]
    format: str | Format | None = None
    features: Sequence[Feature] | None = None
    order_key: bool = False

    def expand(self, pbegin: beam.pvalue.PBegin) -> beam.PCollection[pa.RecordBatch]:
        """Plan the files, spread the parts, read them."""
        files = self._files()
        reader = resolve_format(self.format, files)
        read = beam.ParDo(ReadPartFn(reader, self.features, self.order_key)).with_output_types(pa.RecordBatch)
        results = (
            pbegin
            | "Files" >> beam.Create(list(enumerate(files)), reshuffle=False)
            | "PlanParts" >> beam.ParDo(PlanPartsFn(reader)).with_output_types(tuple[int, InputFile, Part])
            | "SpreadParts" >> beam.Reshuffle()
            | "ReadParts" >> read.with_outputs(REJECTED, main="out")
        )
        batches, rejected = split_rejected(results)
        self._reject(rejected)
        return batches

    def _files(self) -> Sequence[InputFile]:
        patterns = [item for item in self.inputs if isinstance(item, str)]
        if not self.inputs:
            raise ConfigError("inputs must name at least one file or pattern, got none")
        return match_files(patterns) if patterns else [item for item in self.inputs if isinstance(item, InputFile)]


def resolve_format(choice: str | Format | None, files: Sequence[InputFile], **options: Any) -> Format:
    """A format object from a name, with its options; by the suffix of the files when `choice` is None.

    Raises:
      ConfigError: when the name or suffix is not known, or .tsv files stand beside others without a `delimiter`.
    """
    if choice is not None and not isinstance(choice, str):
        return choice
    name = choice or detect_format(files)
    if name not in FORMATS:
        raise ConfigError(f"format must be one of {', '.join(FORMATS)}, got {name!r}")
    if name == "csv" and "delimiter" not in options:
        options["delimiter"] = _delimiter(files)
    return FORMATS[name](**options)


def _delimiter(files: Sequence[InputFile]) -> str:
    tabs = [file.uri for file in files if format_suffix(file.uri) == "tsv"]
    commas = [file.uri for file in files if format_suffix(file.uri) != "tsv"]
    if tabs and commas:
        raise ConfigError(
            f"the inputs have several delimiters: {tabs[0]} (tab), {commas[0]} (comma); run one job for each, or pass "
            "--csv_delimiter"
        )
    return "\t" if tabs else ","


class PlanPartsFn(beam.DoFn):
    """Numbered files to their parts."""

    def __init__(self, reader: Format):
        self._reader = reader

    def process(self, numbered: tuple[int, InputFile]) -> Iterator[Any]:
        """Each part with its file and the file's number."""
        index, file = numbered
        check_unchanged(file)
        progress.plan(bytes=file.size)
        for part in self._reader.plan(file):
            progress.plan(parts=1)
            yield index, file, part


class ReadPartFn(beam.DoFn):
    """Parts to batches and rejects."""

    def __init__(self, reader: Format, features: Sequence[Feature] | None, order_key: bool):
        self._reader = reader
        self._features = features
        self._order_key = order_key
        self._pipeline = stopping.pipeline_name()
        self._counters = RowCounters("ReadRecords")

    def process(self, item: tuple[int, InputFile, Part]) -> Iterator[Any]:
        """The rows of one part."""
        with stopping.failing_together(self._pipeline):
            yield from self._read(*item)

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
        """The rows that the schema can type, and those that it cannot."""
        if self._features is None:
            return parsed.batch, ()
        batch, reasons = conform_batch(parsed.batch, self._features)
        if not reasons:
            return batch, ()
        return drop_rows(batch, reasons), row_letters(parsed.batch, reasons, "read", parsed.payload)

    def _count(self, good: int, bad: int) -> None:
        self._counters.add(in_batches=1, in_rows=good + bad, bad_rows=bad)
        progress.add(rows=good + bad)


def check_unchanged(file: InputFile) -> None:
    """Compares a file with what was matched when the job began.

    Raises:
      InputError: when its size or modification time differs.
    """
    now = stat_file(file.uri)
    if (now.size, now.mtime) != (file.size, file.mtime):
        raise InputError(
            f"{file.uri} changed while it was read: {file.size} bytes at the start, {now.size} now; "
            "run the job again when the file is complete"
        )


class ReadFromCsv(ReadRecords):
    r"""Reads CSV files into RecordBatches.

    Elements and errors are those of `ReadRecords`.

    Args:
      inputs: patterns of files.
      features: the schema's features; None leaves all columns as text.
      delimiter: one ASCII character; `\t` may be spelled out. It is not chosen by the suffix: pass it for .tsv files.
      multiline: quoted fields may hold line breaks. Such a file is not split.
      column_names: names of the columns of files without a header; None reads a header in each file.
      null_values: texts that, unquoted, mean null; the empty text always does.
      part_bytes: size of the byte ranges of a plain file; None chooses 4 to 64 MiB by its size.
      block_bytes: bytes that are parsed at once.
      max_line_bytes: a longer line is rejected (`csv.too_long`).

    Raises:
      ConfigError: when an option is wrong.
    """

    def __init__(
        self,
        inputs: Sequence[str],
        features: Sequence[Feature] | None = None,
        *,
        delimiter: str = ",",
        multiline: bool = False,
        column_names: tuple[str, ...] | None = None,
        null_values: tuple[str, ...] = (),
        part_bytes: int | None = None,
        block_bytes: int = BLOCK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ):
        reader = CsvFormat(delimiter, multiline, column_names, null_values, part_bytes, block_bytes, max_line_bytes)
        super().__init__(inputs, reader, features)


class ReadFromJsonl(ReadRecords):
    """Reads JSON Lines files into RecordBatches.

    Elements and errors are those of `ReadRecords`.

    Args:
      inputs: patterns of files.
      features: the schema's features; None takes the types of the values.
      part_bytes: size of the byte ranges of a plain file; None chooses 4 to 64 MiB by its size.
      block_bytes: bytes that are parsed at once.
      max_line_bytes: a longer line is rejected (`jsonl.too_long`).
    """

    def __init__(
        self,
        inputs: Sequence[str],
        features: Sequence[Feature] | None = None,
        *,
        part_bytes: int | None = None,
        block_bytes: int = BLOCK_BYTES,
        max_line_bytes: int = MAX_LINE_BYTES,
    ):
        super().__init__(inputs, JsonlFormat(part_bytes, block_bytes, max_line_bytes), features)


class ReadFromAvro(ReadRecords):
    """Reads Avro container files into RecordBatches.

    Elements and errors are those of `ReadRecords`.

    Args:
      inputs: patterns of files.
      features: the schema's features; None takes the types of the files.
      part_bytes: about how many bytes of a file one worker reads at a time; at least one block.
    """

    def __init__(
        self, inputs: Sequence[str], features: Sequence[Feature] | None = None, *, part_bytes: int = PART_BYTES
    ):
        super().__init__(inputs, AvroFormat(part_bytes), features)


class ReadFromParquet(ReadRecords):
    """Reads Parquet files into RecordBatches.

    Elements and errors are those of `ReadRecords`.

    Args:
      inputs: patterns of files.
      features: the schema's features; None takes the types of the files.
      part_bytes: about how many bytes of a file one worker reads at a time; at least one row group.
    """

    def __init__(
        self, inputs: Sequence[str], features: Sequence[Feature] | None = None, *, part_bytes: int = PART_BYTES
    ):
        super().__init__(inputs, ParquetFormat(part_bytes), features)


class ReadFromTFRecord(ReadRecords):
    """Reads TFRecord files of tf.Example into RecordBatches.

    Elements and errors are those of `ReadRecords`.

    Args:
      inputs: patterns of files.
      features: the schema's features; None takes the types of the examples.
    """

    def __init__(self, inputs: Sequence[str], features: Sequence[Feature] | None = None):
        super().__init__(inputs, TFRecordFormat(), features)
