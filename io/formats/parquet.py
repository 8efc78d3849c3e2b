"""Reading Parquet files.

A part is a run of row groups. The position of a row is its index in the file. Only the columns that the schema names
are read. Nested structs become columns with dotted names, and dictionaries are decoded.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.io.batches import MAX_BATCH_BYTES, join_batches, origin_array, split_batch
from penstock.io.columns.explode import exploded_schema, stored_names
from penstock.io.columns.flatten import flatten_batch, flatten_schema
from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import PART_BYTES, Parsed, Part, open_uncompressed, select_names
from penstock.io.formats.columnar import decode_dictionaries, explode_rows, reject_non_utf8, runs
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature

# Column chunks are read through buffers of this size, not whole: a row group may not fit into memory.
_BUFFER_BYTES = 1 << 20

# The most rows that are decoded at once; they are then joined to larger batches.
_MAX_ROWS_AT_A_TIME = 8192


@dataclasses.dataclass(frozen=True)
class ParquetFormat:
    """Parquet files.

    Parquet compresses inside the file, so a file such as a.parquet.gz is rejected. A row is rejected when a text is not
    UTF-8 (`parquet.utf8`): Parquet readers trust writers to check this, and some do not.

    Attributes:
      part_bytes: about how many bytes of a file one worker reads at a time; at least one row group.
      explode: the name of a list, each item of which becomes a row.
    """

    part_bytes: int = PART_BYTES
    explode: str | None = None

    def columns(self, file: InputFile) -> list[str]:
        """Returns the names of the file's schema, nested ones dotted."""
        with _open(file) as parquet:
            return list(exploded_schema(parquet.schema_arrow, self.explode, file.uri).names)

    def plan(self, file: InputFile) -> Iterator[Part]:
        """Plans runs of row groups; a file without rows has one empty part, so its columns are still checked."""
        with _open(file) as parquet:
            groups = [parquet.metadata.row_group(index) for index in range(parquet.num_row_groups)]
        sizes = np.array([group.total_byte_size for group in groups], float)
        # Only column chunks record their compressed size, so a group's share of the file size is an estimate of it.
        shares = sizes * (file.size / max(sizes.sum(), 1))
        yield from runs(shares.tolist(), self.part_bytes)

    def read(self, file: InputFile, part: Part, features: Sequence[Feature] | None) -> Iterator[Parsed]:
        """Reads the rows of some row groups, in order.

        Raises:
          InputError: when the file is damaged or not Parquet, or lacks a required column.
          ConfigError: when the column to explode is missing, or no list.
        """
        with _open(file) as parquet:
            names = select_names(
                exploded_schema(parquet.schema_arrow, self.explode, file.uri).names, features, file.uri
            )
            stored = stored_names(flatten_schema(parquet.schema_arrow, file.uri).names, names, self.explode)
            end = parquet.num_row_groups if part.end is None else part.end
            row = sum(parquet.metadata.row_group(index).num_rows for index in range(part.start))
            for group in range(part.start, end):
                for batch in join_batches(_read_group(parquet, group, stored, file.uri)):
                    positions = np.arange(row, row + batch.num_rows)
                    row += batch.num_rows
                    located = batch.append_column(ORIGIN, origin_array(file.uri, positions))
                    for piece in explode_rows(split_batch(located), self.explode, names, file.uri):
                        yield reject_non_utf8(piece, "parquet.utf8")

    def tail(self, file: InputFile) -> Part:
        """Returns the last row groups."""
        return list(self.plan(file))[-1]


@contextlib.contextmanager
def _open(file: InputFile) -> Iterator[pq.ParquetFile]:
    with open_uncompressed(file, "Parquet") as plain:
        try:
            parquet = pq.ParquetFile(
                plain, pre_buffer=False, buffer_size=_BUFFER_BYTES, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.uri}: not a Parquet file, or its footer is damaged or cut off: {error}") from error
        yield parquet


def _read_group(parquet: pq.ParquetFile, group: int, names: Sequence[str], uri: str) -> Iterator[pa.RecordBatch]:
    """Reads the named columns of one row group, flattened and without dictionaries."""
    metadata = parquet.metadata.row_group(group)
    batches = parquet.iter_batches(_rows_at_a_time(metadata, set(names)), row_groups=[group], columns=names)
    rows = 0
    while (batch := _next_batch(batches, group, uri)) is not None:
        rows += batch.num_rows
        yield decode_dictionaries(flatten_batch(batch, uri).select(names))
    if rows != metadata.num_rows:
        raise InputError(
            f"{uri}: row group {group} holds {rows} rows, but the footer says {metadata.num_rows}; it is damaged"
        )


def _rows_at_a_time(group: pq.RowGroupMetaData, names: Collection[str]) -> int:
    """Returns how many rows to decode at once: fewer if they are long, since all are in memory before they are split.

    The footer has only encoded sizes. Repeated values may be much larger when decoded, so there is a limit for all.
    """
    columns = (group.column(index) for index in range(group.num_columns))
    size = sum(column.total_uncompressed_size for column in columns if _is_part_of(column.path_in_schema, names))
    return min(max(MAX_BATCH_BYTES * group.num_rows // max(size, 1), 1), _MAX_ROWS_AT_A_TIME)


def _is_part_of(path: str, names: Collection[str]) -> bool:
    """Returns whether a path of the file's schema, such as `a.b.list.element`, is a named column or inside one."""
    return any(found in names for found in itertools.accumulate(path.split("."), lambda *parts: ".".join(parts)))


def _next_batch(batches: Iterator[pa.RecordBatch], group: int, uri: str) -> pa.RecordBatch | None:
    try:
        return next(batches, None)
    except (pa.ArrowException, OSError) as error:
        message = f"{uri}: row group {group} cannot be read, the file is damaged or truncated: {error}"
        raise InputError(message) from error
