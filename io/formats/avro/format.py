"""Reading Avro container files.

A part is a run of blocks. The position of a row is its index in the file. `penstock.io.formats.avro.schema` lists the
types.

fastavro decodes row by row, the one exception to working on whole columns: about 80,000 rows of 16 columns a second on
one core, which is 1.3 million values, even when few columns are wanted.
"""

import contextlib
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import fastavro
import numpy as np
import pyarrow as pa

from penstock.io.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_ROW_BYTES, origin_array, split_batch
from penstock.io.columns.explode import exploded_schema, stored_names
from penstock.io.columns.flatten import flatten_batch
from penstock.io.dead_letters.payloads import row_payload
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.avro.blocks import (
    AvroBlock,
    Header,
    TooLargeError,
    decompress,
    read_blocks,
    read_header,
    scan_blocks,
)
from penstock.io.formats.avro.schema import AvroSchema, arrow_schema
from penstock.io.formats.avro.sizes import Weigh
from penstock.io.formats.base import PART_BYTES, Parsed, Part, open_uncompressed, select_names
from penstock.io.formats.columnar import explode_rows
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

_READ_BUFFER_BYTES = 1 << 20
# Planning reads only a few bytes at each end of a block.
_SCAN_BUFFER_BYTES = 4096

# Rows without any bytes, of nulls alone, are rows too, but nobody has more of them in a block.
_MAX_EMPTY_ROWS = 1 << 24

# How much of a row that is too large is kept.
_HEAD_BYTES = 4 << 10

_Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class AvroFormat:
    """Avro container files.

    Avro compresses inside the file, so a file such as a.avro.gz is rejected. A row is rejected when a text is not UTF-8
    (`avro.utf8`), a value is outside the range of its type (`avro.value`), such as a decimal with more digits than the
    schema allows, or the row would take more memory than `max_row_bytes` (`avro.too_long`).

    Attributes:
      part_bytes: about how many bytes of a file one worker reads at a time; at least one block.
      max_row_bytes: the most bytes of a row when it is decoded, and of a block when it is decompressed.
      explode: the name of a list, each item of which becomes a row; a row with a fault in one of them has no rows.
    """

    part_bytes: int = PART_BYTES
    explode: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    def columns(self, file: InputFile) -> list[str]:
        """Returns the names in the schema that the file was written with, nested ones dotted."""
        with _open(file, _SCAN_BUFFER_BYTES) as (_, _, schema):
            return list(_names(schema, self.explode, file.uri))

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans runs of blocks by skipping from block to block; a small file is one part, and is not opened."""
        if file.codec is None and file.size <= self.part_bytes:
            yield Part()
            return
        with _open(file, _SCAN_BUFFER_BYTES) as (stream, header, _):
            start, first_row, row = header.end, 0, 0
            for block in scan_blocks(stream, header, file):
                if block.offset > start and block.end - start > self.part_bytes:
                    yield Part(start, block.offset, first_row)
                    start, first_row = block.offset, row
                row += block.rows
            yield Part(start, None, first_row)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of some blocks, in order.

        Raises:
          InputError: when the file is damaged or truncated, lacks a required column, or has a block of several rows
            over `max_row_bytes`.
          ConfigError: when a wanted column has no faithful type, or the column to explode is missing or no list.
        """
        with _open(file, _READ_BUFFER_BYTES) as (stream, header, schema):
            names = select_names(_names(schema, self.explode, file.uri), features, file.uri)
            stored = stored_names(schema.names, names, self.explode)
            reader = _RowReader(file, header, schema, self.max_row_bytes)
            columns = Columns(file.uri, schema.select(stored, file.uri), stored)
            row = part.first_row
            for rows in reader.chunks(read_blocks(stream, header, file, part.start, part.end)):
                for parsed in _parsed(file.uri, columns, rows, row, self.max_row_bytes):
                    pieces = explode_rows([parsed.batch], self.explode, names, file.uri)
                    yield from (Parsed(piece, () if index else parsed.rejected) for index, piece in enumerate(pieces))
                row += 1 if isinstance(rows, _LongRow) else len(rows)

    def tail(self, file: InputFile) -> None:
        """Returns None: the last block can only be found by passing all others."""


def _names(schema: AvroSchema, explode: str | None, uri: str) -> Sequence[str]:
    """Lists the columns of the rows, which are exploded if they are to be."""
    return schema.names if explode is None else [*exploded_schema(schema.fields, explode, uri).names, *schema.refused]


@contextlib.contextmanager
def _open(file: InputFile, buffer_bytes: int) -> Iterator[tuple[io.BufferedReader, Header, AvroSchema]]:
    with open_uncompressed(file, "Avro") as plain:
        stream = io.BufferedReader(plain, buffer_bytes)
        header = read_header(stream, file)
        yield stream, header, arrow_schema(header.schema, file.uri)


@dataclasses.dataclass(frozen=True)
class _LongRow:
    """A row that is too large to be decoded: the beginning of its bytes, and what is said of its size."""

    head: bytes
    size: str


@dataclasses.dataclass(frozen=True)
class _RowReader:
    """Decodes blocks to rows."""

    file: InputFile
    header: Header
    schema: AvroSchema
    max_row_bytes: int

    def chunks(self, blocks: Iterator[AvroBlock]) -> Iterator[list[_Row] | _LongRow]:
        """Decodes all blocks, at most `MAX_BATCH_ROWS` rows and about 8 MiB of Avro at a time."""
        rows: list[_Row] = []
        taken = 0
        for block in blocks:
            for row, size in self._rows(block):
                if isinstance(row, _LongRow):
                    yield rows
                    yield row
                    rows, taken = [], 0
                    continue
                rows.append(row)
                taken += size
                if len(rows) >= MAX_BATCH_ROWS or taken >= MAX_BATCH_BYTES:
                    yield rows
                    rows, taken = [], 0
        if rows:
            yield rows

    def _rows(self, block: AvroBlock) -> Iterator[tuple[_Row | _LongRow, int]]:
        """Decodes the rows of a block; yields each with its size in bytes."""
        try:
            data = decompress(block, self.header, self.file, self.max_row_bytes)
        except TooLargeError as error:
            if block.rows == 1:
                yield _LongRow(error.head, f"is over {self.max_row_bytes} bytes"), 0
                return
            raise self._too_large(block) from None
        stream = io.BytesIO(data)
        read, schema, position = fastavro.schemaless_reader, self.schema.decoding, 0
        weigh = self._weigh(block, data)
        for index in range(block.rows):
            try:
                if weigh is not None and (memory := self._memory(weigh, data, stream)) > self.max_row_bytes:
                    row: Any = _LongRow(data[position : position + _HEAD_BYTES], f"takes {memory} bytes of memory")
                else:
                    row = read(stream, schema, None, handle_unicode_errors="surrogateescape")
            except Exception as error:  # fastavro raises errors of many types for damaged bytes
                raise self._damaged(block, f"its row {index} cannot be decoded: {error!r}") from error
            before, position = position, stream.tell()
            yield row, position - before
        if position != len(data):
            raise self._damaged(block, f"its {block.rows} rows take {position} of {len(data)} bytes")

    def _weigh(self, block: AvroBlock, data: bytes) -> Weigh | None:
        """Returns what measures rows before they are decoded; None where none of the block can be too large."""
        if block.rows > max(len(data), _MAX_EMPTY_ROWS):
            raise self._damaged(block, f"it claims {block.rows} rows in {len(data)} bytes")
        sizes = self.schema.sizes
        return sizes.weigh if sizes.has_empty_items or len(data) > MAX_BATCH_BYTES else None

    def _memory(self, weigh: Weigh, data: bytes, stream: io.BytesIO) -> int:
        """Measures the next row; skips it if it is too large."""
        end, memory = weigh(data, stream.tell())
        if memory > self.max_row_bytes:
            stream.seek(end)
        return memory

    def _too_large(self, block: AvroBlock) -> InputError:
        return InputError(
            f"{self.file.uri}: the block at byte {block.offset} has {block.rows} rows in more than "
            f"{self.max_row_bytes} bytes, the limit; write the file with smaller blocks"
        )

    def _damaged(self, block: AvroBlock, detail: str) -> InputError:
        return InputError(f"{self.file.uri}: the block at byte {block.offset} is damaged: {detail}")


@dataclasses.dataclass(frozen=True)
class Columns:
    """Turns rows that fastavro decoded into columns.

    Attributes:
      uri: the file or schema of the rows, for messages.
      row_type: the nested type that holds the columns `names`; see `AvroSchema.select`.
      names: the dotted names of the columns.
    """

    uri: str
    row_type: pa.StructType
    names: list[str]

    def build(self, rows: list[dict[str, Any]]) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
        """Builds columns; leaves out rows that have no faithful form, and returns their reasons by index."""
        try:
            return self._batch(rows), {}
        except (pa.ArrowException, ValueError, OverflowError):
            faults = {index: found for index, row in enumerate(rows) if (found := _row_faults(row, self.row_type))}
        return self._batch([row for index, row in enumerate(rows) if index not in faults]), faults

    def _batch(self, rows: list[_Row]) -> pa.RecordBatch:
        structs = pa.array(rows, self.row_type)
        return flatten_batch(pa.RecordBatch.from_struct_array(structs), self.uri).select(self.names)


def _parsed(
    uri: str, columns: Columns, rows: list[_Row] | _LongRow, first_row: int, max_row_bytes: int
) -> Iterator[Parsed]:
    """Yields the rows as batches; rejected rows come with an empty batch."""
    if isinstance(rows, _LongRow):
        yield _long_row(uri, columns, rows, first_row, max_row_bytes)
        return
    batch, faults = columns.build(rows)
    positions = np.delete(np.arange(first_row, first_row + len(rows)), list(faults))
    batch = batch.append_column(ORIGIN, origin_array(uri, positions))
    if faults:
        letters = [
            DeadLetter(tuple(reasons), "read", uri, first_row + index, _payload(rows[index]), "json")
            for index, reasons in faults.items()
        ]
        yield Parsed(batch.slice(0, 0), letters)
    yield from map(Parsed, split_batch(batch))


def _long_row(uri: str, columns: Columns, row: _LongRow, position: int, limit: int) -> Parsed:
    detail = f"the row {row.size}, more than the limit of {limit}; the payload is its first {len(row.head)} bytes"
    batch, _ = columns.build([])
    batch = batch.append_column(ORIGIN, origin_array(uri, np.empty(0, np.int64)))
    return Parsed(batch, [raw_letter([Reason("avro.too_long", detail)], "read", uri, position, row.head)])


def _row_faults(row: _Row, row_type: pa.StructType) -> list[Reason]:
    faults = []
    for field in row_type:
        try:
            pa.array([row[field.name]], field.type)
        except UnicodeEncodeError:
            faults.append(Reason("avro.utf8", f"column {field.name!r}: the text is not UTF-8"))
        except (pa.ArrowException, ValueError, OverflowError) as error:
            faults.append(Reason("avro.value", f"column {field.name!r}: {error}"))
    return faults


def _payload(row: _Row) -> str:
    return row_payload({name: _original(value) for name, value in row.items()})


def _original(value: Any) -> Any:
    """Restores the original bytes of texts that are not UTF-8."""
    match value:
        case str():
            # `row_payload` treats bytes as text when they are UTF-8.
            return value.encode("utf-8", "surrogateescape")
        case list():
            return [_original(item) for item in value]
        case dict():
            return {key: _original(item) for key, item in value.items()}
        case _:
            return value
