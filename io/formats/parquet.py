"""Reading Parquet files.

A part is a run of row groups. The position of a row is its index in the file. Only the columns that the schema names
are read. Nested structs become columns with dotted names, and dictionaries are decoded.

How much is decoded at once depends on how large it becomes (`penstock.io.formats.parquet_sizes`).

Arrow ends the process when it is asked for the metadata of a column that is encrypted with a key of its own. So the
footer is searched for such columns first.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.io.batches import MAX_ROW_BYTES, join_batches, origin_array, split_batch
from penstock.io.columns.explode import stored_names
from penstock.io.columns.flatten import flatten_batch
from penstock.io.dead_letters.record import RejectedBatch
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats import parquet_sizes as sizes
from penstock.io.formats.base import PART_BYTES, Parsed, Part, open_uncompressed, select_names
from penstock.io.formats.columnar import (
    decode_dictionaries,
    empty_batch,
    explode_rows,
    flat_schema,
    has_codes,
    is_part_of,
    is_text_list,
    not_utf8_name,
    refusable,
    reject_non_utf8,
    runs,
)
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

# Column chunks are read through buffers of this size, not whole: a row group may not fit into memory.
_BUFFER_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ParquetFormat:
    """Parquet files.

    Parquet compresses inside the file, so a file such as a.parquet.gz is rejected. A row is rejected when a text is not
    UTF-8 (`parquet.utf8`): Parquet readers trust writers to check this, and some do not. A row is also rejected when
    the texts that it takes from dictionaries have more than `max_row_bytes` (`parquet.too_long`). Where rows cannot be
    told apart within this limit, the file is refused.

    Attributes:
      part_bytes: about how many bytes of a file one worker reads at a time; at least one row group.
      max_row_bytes: the most bytes of a row, or of a page, when they are decoded.
      explode: the name of a list, each item of which becomes a row.
    """

    part_bytes: int = PART_BYTES
    explode: str | None = None
    max_row_bytes: int = MAX_ROW_BYTES

    reads_alike: ClassVar[bool] = True

    def columns(self, file: InputFile) -> list[str]:
        """Returns the names of the file's schema, nested ones dotted."""
        with _open(file) as (_, parquet):
            return list(flat_schema(parquet.schema_arrow, file.uri, self.explode).names)

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans runs of row groups; a file without rows has one empty part, so its columns are still checked."""
        with _open(file) as (_, parquet):
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
        sizes = np.array([group.total_byte_size for group in groups], float)
        # Only column chunks record their compressed size, so a group's share of the file size is an estimate of it.
        shares = sizes * (file.size / max(sizes.sum(), 1))
        yield from runs(shares.tolist(), self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of some row groups, in order.

        Raises:
          InputError: when the file is damaged or not Parquet, lacks a required column, a wanted column is encrypted,
            a name is not UTF-8, or a row group cannot be read within `max_row_bytes` a row.
          ConfigError: when the column to explode is missing, or no list.
        """
        with _open(file) as (stream, parquet):
            schema = flat_schema(parquet.schema_arrow, file.uri, self.explode)
            names = select_names(schema.names, features, file.uri)
            yield from refusable(schema, names)
            flat = flat_schema(parquet.schema_arrow, file.uri)
            stored = stored_names(flat.names, names, self.explode)
            sizes.check_types(pa.schema([flat.field(name) for name in stored]), file.uri, self.max_row_bytes)
            end = parquet.num_row_groups if part.end is None else part.end
            row = sum(parquet.metadata.row_group(index).num_rows for index in range(part.start))
            encrypted = _encrypted_columns(stream, file)
            for index in range(part.start, end):
                group = _Group(file, stream, parquet, index, row, flat, stored, self.max_row_bytes)
                if encrypted:
                    _check_encryption(group, encrypted[index])
                rejected: list[RejectedBatch] = []
                batches = itertools.chain.from_iterable(map(split_batch, join_batches(_keep_rows(group, rejected))))
                for piece in explode_rows(batches, self.explode, names, file.uri):
                    yield reject_non_utf8(piece, "parquet.utf8")
                yield from (Parsed(empty_batch(schema, names), letters) for letters in rejected)
                row += group.metadata.num_rows

    def tail(self, file: InputFile) -> Part:
        """Returns the last row groups."""
        return list(self.plan(file))[-1]


@contextlib.contextmanager
def _open(file: InputFile) -> Iterator[tuple[pa.PythonFile, pq.ParquetFile]]:
    with open_uncompressed(file, "Parquet") as plain:
        try:
            parquet = _parquet_file(plain)
        except UnicodeDecodeError as error:
            raise not_utf8_name(file.uri, error) from error
        except (pa.ArrowException, OSError) as error:
            if "decryption" in str(error):
                raise InputError(f"{file.uri}: the footer is encrypted; decrypt the file before it is read") from error
            raise InputError(f"{file.uri}: not a Parquet file, or its footer is damaged or cut off: {error}") from error
        yield plain, parquet


def _parquet_file(plain: pa.PythonFile, **options: Any) -> pq.ParquetFile:
    return pq.ParquetFile(
        plain, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True, **options
    )


@dataclasses.dataclass(frozen=True)
class _Group:
    """A row group, and what is read of it.

    Attributes:
      file, stream, parquet: the file, its bytes, and Arrow's reader of them.
      index: the number of the row group.
      first_row: the index of its first row in the file.
      schema: the flattened schema of the file.
      names: the columns that are read.
      limit: the most bytes of a row.
    """

    file: InputFile
    stream: pa.PythonFile
    parquet: pq.ParquetFile
    index: int
    first_row: int
    schema: pa.Schema
    names: Sequence[str]
    limit: int

    @property
    def where(self) -> str:
        """The row group, for messages."""
        return f"{self.file.uri}: row group {self.index}"

    @property
    def metadata(self) -> pq.RowGroupMetaData:
        """What the footer says about it."""
        return self.parquet.metadata.row_group(self.index)

    def chunks(self) -> list[sizes.Chunk]:
        """Describes the columns that are read; none of them is encrypted."""
        return sizes.wanted_chunks(self.parquet, self.index, self.names)

    def batches(self, parquet: pq.ParquetFile, rows: int, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Reads columns, so many rows at a time."""
        return parquet.iter_batches(rows, row_groups=[self.index], columns=list(names))


def _keep_rows(group: _Group, rejected: list[RejectedBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the rows with `_origin`, dictionaries decoded; those that are too long are added to `rejected`."""
    row = group.first_row
    for batch in _joined(_read_group(group)):
        origin = origin_array(group.file.uri, np.arange(row, row + batch.num_rows))
        row += batch.num_rows
        flat = flatten_batch(batch, group.file.uri).select(group.names).append_column(ORIGIN, origin)
        for found in decode_dictionaries(flat, group.limit, "parquet.too_long"):
            if isinstance(found, RejectedBatch):
                rejected.append(found)
            else:
                yield found
    if row - group.first_row != group.metadata.num_rows:
        raise InputError(
            f"{group.where} holds {row - group.first_row} rows, but the footer says {group.metadata.num_rows}; it is "
            "damaged"
        )


def _joined(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Joins batches of few rows, before more is done to each, but not codes: what they stand for may be large."""
    first = next(batches, None)
    if first is None:
        return
    rest = itertools.chain([first], batches)
    yield from rest if any(map(has_codes, first.schema.types)) else join_batches(rest)


def _read_group(group: _Group) -> Iterator[pa.RecordBatch]:
    """Reads the named columns of one row group, as many rows at a time as fit; long texts stay in dictionaries."""
    rows, long_texts = _rows_and_long_texts(group, group.chunks())
    parquet = group.parquet
    if long_texts:
        parquet = _parquet_file(group.stream, metadata=parquet.metadata, read_dictionary=long_texts)
    batches = group.batches(parquet, rows, group.names)
    while (batch := _next_batch(batches, group)) is not None:
        yield batch


def _encrypted_columns(stream: pa.PythonFile, file: InputFile) -> Sequence[Collection[int]]:
    try:
        return sizes.encrypted_columns(sizes.read_footer(stream, file.size))
    except ValueError as error:
        raise InputError(f"{file.uri} cannot be read, its footer is damaged: {error}") from error


def _check_encryption(group: _Group, columns: Collection[int]) -> None:
    """Refuses to read columns that are encrypted."""
    for index in sorted(columns):
        path = group.parquet.schema.column(index).path
        if is_part_of(path, group.names):
            raise InputError(
                f"{group.where}: column {path!r} is encrypted; decrypt the file before it is read, or pass a schema "
                "that names only columns that are not"
            )


def _rows_and_long_texts(group: _Group, chunks: Sequence[sizes.Chunk]) -> tuple[int, list[str]]:
    """Returns how many rows to decode at once, and the paths of columns whose dictionaries must not be decoded then."""
    sizes.check_rows(chunks, group.stream, group.where, group.limit)
    rows = sizes.rows_at_a_time(chunks, group.metadata.num_rows, group.limit)
    rows = min(rows, sizes.rows_of_prefixes(chunks, group.stream, group.limit))
    values = {chunk: chunk.values if chunk.is_list else min(rows, chunk.rows) for chunk in _texts(group, chunks)}
    suspects = {chunk: sizes.longest_text(chunk, group.stream, count, group.limit) for chunk, count in values.items()}
    suspects = {chunk: longest for chunk, longest in suspects.items() if longest}
    fewer = min(rows, sizes.rows_of_texts(suspects.values(), group.limit))
    if fewer >= min(rows, sizes.FEW_ROWS) and not any(chunk.is_list for chunk in suspects):
        return fewer, []
    return rows, [chunk.path for chunk in suspects if _has_long_texts(group, chunk, values[chunk])]


def _texts(group: _Group, chunks: Sequence[sizes.Chunk]) -> Iterator[sizes.Chunk]:
    """Yields columns of texts, and of lists of texts."""
    for chunk in chunks:
        name = chunk.path.rsplit(".", 2)[0]  # without .list.element
        if not chunk.is_list or (name in group.names and is_text_list(group.schema.field(name).type)):
            yield chunk


def _has_long_texts(group: _Group, chunk: sizes.Chunk, values: int) -> bool:
    coded = _parquet_file(group.stream, metadata=group.parquet.metadata, read_dictionary=[chunk.path])
    first = _next_batch(group.batches(coded, 1, [chunk.path]), group)
    return first is not None and sizes.has_long_texts(flatten_batch(first).column(0), values, group.limit)


def _next_batch(batches: Iterator[pa.RecordBatch], group: _Group) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except MemoryError as error:
        raise InputError(
            f"{group.where} needs more memory than there is: {error}; pass a schema of fewer columns, or write the "
            "file with shorter rows"
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{group.where} cannot be read, the file is damaged or truncated: {error}") from error
