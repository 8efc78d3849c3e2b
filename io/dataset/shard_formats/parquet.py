"""Parquet shards: table rows with Arrow's types, including float64 and nested lists; nulls are kept.

All shards have the declared schema (`DatasetSpec.columns`), even those without rows. The sort and the dataset id use
rows encoded as records (`rows.py`). So the id does not depend on the version of Arrow or on the compression. The bytes
of the files do (`created_by` names the version).
"""

import contextlib
import dataclasses
import io
import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.io.batches import drop_rows
from penstock.io.columns.conform import conform_batch
from penstock.io.dataset.shard_formats.base import (
    Content,
    EncodedRows,
    ReadPiece,
    RecordGroups,
    ShardFormat,
    ShardWriter,
    Store,
)
from penstock.io.dataset.shard_formats.declared import column_kinds, fit_columns, shard_columns
from penstock.io.dataset.shard_formats.rows import RowCodec
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import open_plain, stat_file
from penstock.io.reasons import Reason
from penstock.io.schema import Feature
from penstock.io.sort.records import Bytes, Ints

# A reader reads a row group at once, and a worker holds one in memory while it writes.
_MAX_GROUP_BYTES = 32 << 20
_MAX_GROUP_ROWS = 1 << 20

_ROWS_READ = 1 << 15


@dataclasses.dataclass(frozen=True)
class ParquetShards(ShardFormat):
    """Files that pyarrow, DuckDB, Polars and Spark read."""

    keys_of_records = True

    def __post_init__(self) -> None:
        if self.columns is not None:
            object.__setattr__(self, "columns", shard_columns(self.columns))

    def _codec(self) -> RowCodec:
        return RowCodec(self.columns if self.columns is not None else pa.schema([]))

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as records. Columns that a batch lacks are null; a batch may have narrower types.

        Raises:
          ConfigError: for a column that is not declared, or whose type does not fit into the declared one.
        """
        codec = self._codec()
        rows, faults = fit_columns(batch, codec.columns)
        return EncodedRows(*codec.encode(drop_rows(rows, faults) if faults else rows), faults)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """Opens a shard that gets one row group for each group of records."""
        codec, content = self._codec(), Content()
        content.add(_head(codec.columns))
        with _writer(store, codec.columns, self.compression) as writer:

            def add(data: Bytes, offsets: Ints) -> None:
                content.add(data.data)
                writer.write_batch(codec.decode(data, offsets), len(offsets) - 1)

            groups = RecordGroups(add, _MAX_GROUP_BYTES, _MAX_GROUP_ROWS)
            yield ShardWriter(groups, content)
            groups.flush()

    def columns_of(self, path: str, uri: str) -> pa.Schema:
        """Reads the footer."""
        try:
            return pq.read_schema(path).remove_metadata()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{uri}: not a Parquet shard, or it is damaged: {error}") from error

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the rows, encodes them again, and checks the page checksums."""
        with open_plain(stat_file(path)) as plain_file:
            try:
                parquet = pq.ParquetFile(plain_file, page_checksum_verification=True)
                codec = RowCodec(shard_columns(parquet.schema_arrow.remove_metadata()))
                yield ReadPiece(
                    _head(codec.columns), 0, np.zeros(1, np.int64), lambda features: (_no_rows(), {}), str, dict
                )
                first = 0
                for batch in parquet.iter_batches(_ROWS_READ):
                    yield _piece(batch, codec, first)
                    first += batch.num_rows
            except (pa.ArrowException, OSError, ConfigError) as error:
                raise InputError(f"{uri}: not a Parquet shard, or it is damaged: {error}") from error


def _no_rows() -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([])


def _piece(batch: pa.RecordBatch, codec: RowCodec, first: int) -> ReadPiece:
    def decode(features: Sequence[Feature]) -> tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]:
        return conform_batch(batch, features)

    data, offsets = codec.encode(pa.RecordBatch.from_arrays(batch.columns, schema=codec.columns))
    return ReadPiece(
        data.data, batch.num_rows, offsets, decode, lambda row: f"row {first + row}", lambda: column_kinds(batch)
    )


def _head(columns: pa.Schema) -> bytes:
    """Returns names and types of the columns, which the records do not contain."""
    return (json.dumps([[field.name, str(field.type)] for field in columns], ensure_ascii=False) + "\n").encode()


def _writer(store: Store, columns: pa.Schema, compression: str) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        pa.PythonFile(_StoreFile(store), "w"), columns, compression=compression.upper(), write_page_checksum=True
    )


class _StoreFile(io.RawIOBase):
    """A file object that Arrow writes to."""

    def __init__(self, store: Store):
        self._store = store

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._store(data)
        return len(data)
