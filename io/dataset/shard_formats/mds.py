"""MDS shards, which MosaicML's `streaming` reads, with an index for each split. What a sample is: `mds_samples.py`."""

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

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
    WrittenShard,
)
from penstock.io.dataset.shard_formats.declared import Faults, column_kinds, fit_columns, shard_columns
from penstock.io.dataset.shard_formats.mds_samples import (
    INDEX,
    Column,
    MdsCodec,
    MdsReader,
    Samples,
    columns_of,
    config_text,
    file_head,
    index_text,
)
from penstock.io.files.inputs import open_decompressed, stat_file
from penstock.io.files.temporary import process_folder
from penstock.io.reasons import Reason
from penstock.io.schema import Feature
from penstock.io.sort.records import Bytes, Ints

_MAX_GROUP_BYTES = 4 << 20
_MAX_GROUP_RECORDS = 1 << 16
_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class MdsShards(ShardFormat):
    """Files of samples, plain or compressed by zstd as a whole. A declared column is nullable unless it says not."""

    keys_of_records = True

    def __post_init__(self) -> None:
        if self.columns is not None:
            stored = shard_columns(self.columns)
            fields = [field.with_nullable(self.columns.field(field.name).nullable) for field in stored]
            columns_of(fields)
            object.__setattr__(self, "columns", pa.schema(fields))

    def _columns(self) -> list[Column]:
        return columns_of(self.columns if self.columns is not None else pa.schema([]))

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as samples. Columns that a batch lacks are null; a batch may have narrower types.

        Raises:
          ConfigError: for a column that is not declared, or whose type does not fit into the declared one.
        """
        codec = MdsCodec(self._columns())
        rows, faults = fit_columns(batch, codec.schema)
        _find_missing(rows, codec.columns, faults)
        return EncodedRows(*codec.encode(drop_rows(rows, faults) if faults else rows), faults)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """Opens a shard. A file begins with the offsets of all samples, so these lie in a temporary file before."""
        text, content = config_text(self._columns()), Content()
        content.add(text)
        lengths: list[Ints] = []
        with tempfile.TemporaryFile(dir=process_folder()) as samples:

            def add(data: Bytes, offsets: Ints) -> None:
                content.add(data.data)
                samples.write(data.data)
                lengths.append(np.diff(offsets))

            groups = RecordGroups(add, _MAX_GROUP_BYTES, _MAX_GROUP_RECORDS)
            yield ShardWriter(groups, content)
            groups.flush()
            samples.seek(0)
            head = file_head(np.concatenate(lengths) if lengths else np.zeros(0, np.int64), text)
            if self.compression == "zstd":  # at once, since `streaming` wants the size in the frame
                store(pa.Codec("zstd").compress(head + samples.read(), asbytes=True))
            else:
                store(head)
                for block in iter(lambda: samples.read(_COPY_BYTES), b""):
                    store(block)

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the samples. A file has no checksums: what is damaged in values, only the manifest's tell."""
        with open_decompressed(stat_file(path)) as stream:
            reader = MdsReader(stream, uri)
            no_rows = pa.RecordBatch.from_pylist([])
            text = config_text(reader.codec.columns)
            yield ReadPiece(text, 0, np.zeros(1, np.int64), lambda features: (no_rows, {}), str, dict)
            for samples in reader.pieces():
                yield _piece(samples, reader.decode(samples))

    def indexes(self, shards: Sequence[WrittenShard]) -> Mapping[str, bytes]:
        """Returns the index of each split, by its path."""
        splits: dict[str, list[WrittenShard]] = {}
        for shard in shards:
            splits.setdefault(shard.path.rpartition("/")[0], []).append(shard)
        return {
            f"{folder}/{INDEX}": index_text(self._columns(), map(_entry, found), self.compression)
            for folder, found in splits.items()
        }


def _entry(shard: WrittenShard) -> dict[str, object]:
    name = shard.path.rpartition("/")[2]
    return {"name": name, "records": shard.records, "bytes": shard.bytes, "content": shard.uncompressed_bytes}


def _find_missing(rows: pa.RecordBatch, columns: Sequence[Column], faults: Faults) -> None:
    """Adds the rows whose values cannot be told from others: MDS has no missing values."""
    for column, values in zip(columns, rows.columns, strict=True):
        bad = np.zeros(0, np.int64)
        what = "has no value, and the dataset declares that each row has one"
        if not column.nullable and values.null_count:
            bad = np.flatnonzero(pc.is_null(values).to_numpy(zero_copy_only=False))
        elif types.is_list(values.type) and values.flatten().null_count:
            what = "has a list with a missing item, which MDS has no form for"
            parents = pc.list_parent_indices(values).to_numpy()
            bad = np.unique(parents[values.flatten().is_null().to_numpy(zero_copy_only=False)])
        for row in bad.tolist():
            faults.setdefault(row, []).append(Reason("write.missing", f"column {column.name!r}: {what}"))


def _piece(samples: Samples, batch: pa.RecordBatch) -> ReadPiece:
    def decode(features: Sequence[Feature]) -> tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]:
        return conform_batch(batch, features)

    position = lambda row: f"row {samples.first + row}"  # noqa: E731
    return ReadPiece(
        samples.content.data, batch.num_rows, samples.offsets, decode, position, lambda: column_kinds(batch)
    )
