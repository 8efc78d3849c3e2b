"""Reading Parquet files.

A part is a run of row groups, and the position of a row its index in the file. Only the columns that the schema names
are read. Nested structs become columns with dotted names, dictionaries their values.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.io.batches import MAX_BATCH_BYTES, join_batches, origin_array, split_batch
from penstock.io.columns.flatten import flatten_batch, flatten_schema
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile, open_plain
from penstock.io.formats.base import PART_BYTES, Parsed, Part, select_names
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

# Column chunks are read through buffers of this size, not whole: a row group may be larger than the memory.
_BUFFER_BYTES = 1 << 20

# What is decoded at once; larger batches are made of it.
_MAX_ROWS_AT_A_TIME = 8192

_RAW_TYPES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


@dataclasses.dataclass(frozen=True)
class ParquetFormat:
    """Parquet files.

    They are compressed inside, so a file such as a.parquet.gz is refused. A text that is not UTF-8 rejects its row
    (`parquet.utf8`): Parquet writers are trusted to check, and some do not.

    Attributes:
      part_bytes: about how much of a file one worker reads at a time; at least one row group.
    """

    part_bytes: int = PART_BYTES

    def columns(self, file: InputFile) -> list[str]:
        """The names of the file's schema, nested ones dotted."""
        with _open(file) as parquet:
            return list(flatten_schema(parquet.schema_arrow, file.uri).names)

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Runs of row groups; one empty part for a file without rows, so that its columns are still checked."""
        with _open(file) as parquet:
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
        sizes = np.array([group.total_byte_size for group in groups], float)
        # A share of the file stands for the compressed bytes, which only each column chunk knows.
        shares = sizes * (file.size / max(sizes.sum(), 1))
        start, taken = 0, 0.0
        for index, share in enumerate(shares):
            if index > start and taken + share > self.part_bytes:
                yield Part(start, index)
                start, taken = index, 0.0
            taken += share
        yield Part(start, len(groups))

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """The rows of some row groups, in order.

        Raises:
          InputError: for a damaged file, one that is not Parquet, or one that lacks a required column.
        """
        with _open(file) as parquet:
            names = select_names(flatten_schema(parquet.schema_arrow, file.uri).names, features, file.uri)
            end = parquet.num_row_groups if part.end is None else part.end
            row = sum(parquet.metadata.row_group(index).num_rows for index in range(part.start))
            for group in range(part.start, end):
                for batch in join_batches(_read_group(parquet, group, names, file.uri)):
                    positions = np.arange(row, row + batch.num_rows)
                    row += batch.num_rows
                    located = batch.append_column(ORIGIN, origin_array(file.uri, positions))
                    yield from map(_reject_non_utf8, split_batch(located))


@contextlib.contextmanager
def _open(file: InputFile) -> Iterator[pq.ParquetFile]:
    if file.codec is not None:
        raise InputError(
            f"{file.uri}: a Parquet file is compressed inside, so it cannot be {file.codec}: unpack it first"
        )
    with open_plain(file) as plain:
        try:
            parquet = pq.ParquetFile(
                plain, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.uri}: not a Parquet file, or its footer is damaged or cut off: {error}") from error
        yield parquet


def _read_group(parquet: pq.ParquetFile, group: int, names: Sequence[str], uri: str) -> Iterator[pa.RecordBatch]:
    """The named columns of one row group, flat and decoded."""
    metadata = parquet.metadata.row_group(group)
    batches = parquet.iter_batches(_rows_at_a_time(metadata, set(names)), row_groups=[group], columns=names)
    rows = 0
    while (batch := _next_batch(batches, group, uri)) is not None:
        rows += batch.num_rows
        yield _decode_dictionaries(flatten_batch(batch, uri).select(names))
    if rows != metadata.num_rows:
        raise InputError(
            f"{uri}: row group {group} holds {rows} rows, but the footer says {metadata.num_rows}; it is damaged"
        )


def _rows_at_a_time(group: pq.RowGroupMetaData, names: Collection[str]) -> int:
    """How many rows to decode: of long ones fewer, since all of them are in memory before they are split.

    The footer knows encoded bytes. Values that repeat may be much longer decoded, so there is a limit for all.
    """
    columns = (group.column(index) for index in range(group.num_columns))
    size = sum(column.total_uncompressed_size for column in columns if _is_part_of(column.path_in_schema, names))
    return min(max(MAX_BATCH_BYTES * group.num_rows // max(size, 1), 1), _MAX_ROWS_AT_A_TIME)


def _is_part_of(path: str, names: Collection[str]) -> bool:
    """Whether a path of the file's schema, such as `a.b.list.element`, is that of a column, or inside it."""
    return any(found in names for found in itertools.accumulate(path.split("."), lambda *parts: ".".join(parts)))


def _next_batch(batches: Iterator[pa.RecordBatch], group: int, uri: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        message = f"{uri}: row group {group} cannot be read, the file is damaged or truncated: {error}"
        raise InputError(message) from error


def _decode_dictionaries(batch: pa.RecordBatch) -> pa.RecordBatch:
    for index, field in enumerate(batch.schema):
        if pa.types.is_dictionary(field.type):
            plain = field.with_type(field.type.value_type)
            batch = batch.set_column(index, plain, batch.column(index).dictionary_decode())
    return batch


def _reject_non_utf8(batch: pa.RecordBatch) -> Parsed:
    """The rows whose texts are UTF-8; Arrow does not look when it reads them."""
    reasons: dict[int, list[Reason]] = {}
    readable = batch
    for index, field in enumerate(batch.schema):
        if (raw_type := _raw_type(field.type)) is None or _is_valid(batch.column(index)):
            continue
        for row in _invalid_rows(batch.column(index)):
            detail = f"column {field.name!r}: the text is not UTF-8"
            reasons.setdefault(row, []).append(Reason("parquet.utf8", detail))
        raw = batch.column(index).cast(raw_type)
        readable = readable.set_column(index, field.with_type(raw_type), raw)
    if not reasons:
        return Parsed(batch)
    kept = np.setdiff1d(np.arange(batch.num_rows), list(reasons))
    return Parsed(batch.take(pa.array(kept)), row_letters(readable, reasons, "read"))


def _raw_type(arrow_type: pa.DataType) -> pa.DataType | None:
    """The binary type that stores a text type, or a list of one; None for any other."""
    if arrow_type in _RAW_TYPES:
        return _RAW_TYPES[arrow_type]
    if not _is_list(arrow_type) or arrow_type.value_type not in _RAW_TYPES:
        return None
    item = _RAW_TYPES[arrow_type.value_type]
    return pa.large_list(item) if pa.types.is_large_list(arrow_type) else pa.list_(item)


def _is_list(arrow_type: pa.DataType) -> bool:
    is_variable = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
    return is_variable or pa.types.is_fixed_size_list(arrow_type)


def _is_valid(values: pa.Array) -> bool:
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _invalid_rows(values: pa.Array) -> list[int]:
    rows = (values.slice(row, 1) for row in range(len(values)))
    # Validating a list validates all the values that it shares with its neighbours.
    texts = (row.flatten() if _is_list(values.type) else row for row in rows)
    return [row for row, text in enumerate(texts) if not _is_valid(text)]
