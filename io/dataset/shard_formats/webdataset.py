"""WebDataset shards: tar files with a sample for each row, which the package `webdataset` and any tar program read.

What a sample is: `samples.py`. The key is the number of the row in its shard.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from isal import isal_zlib
from pyarrow import types

from penstock.io.batches import drop_rows
from penstock.io.columns.conform import conform_batch
from penstock.io.dataset.shard_formats import tar
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
from penstock.io.dataset.shard_formats.samples import TYPES, SampleCodec, leaf_type, read_head, sample_head
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import open_decompressed, stat_file
from penstock.io.reasons import Reason
from penstock.io.schema import Feature
from penstock.io.sort.records import Bytes, Ints

_LEVEL = 2  # as for TFRecord
_GZIP_BITS = 31
_MAX_GROUP_BYTES = 4 << 20
_MAX_GROUP_RECORDS = 1 << 16

# The number before the last part of the name takes up to ten bytes.
_MAX_LIST_NAME_BYTES = tar.MAX_EXTENSION_BYTES - 10


@dataclasses.dataclass(frozen=True)
class WebDatasetShards(ShardFormat):
    """Tar files, plain or compressed by gzip. Each member has a checksum of its header and one of its data."""

    keys_of_records = True

    def __post_init__(self) -> None:
        if self.columns is not None:
            object.__setattr__(self, "columns", sample_columns(self.columns))

    def _samples(self) -> SampleCodec:
        return SampleCodec(self.columns if self.columns is not None else pa.schema([]))

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as samples. Columns that a batch lacks are null; a batch may have narrower types.

        Raises:
          ConfigError: for a column that is not declared, or whose type does not fit into the declared one.
        """
        codec = self._samples()
        rows, faults = fit_columns(batch, codec.columns)
        return EncodedRows(*codec.encode(drop_rows(rows, faults) if faults else rows), faults)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """Opens a tar file, and numbers the samples that it gets."""
        compressor = (
            isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, _GZIP_BITS) if self.compression == "gzip" else None
        )
        content, count = Content(), 0

        def put(data: bytes | memoryview) -> None:
            store(compressor.compress(data) if compressor else data)

        def add(data: Bytes, offsets: Ints) -> None:
            nonlocal count
            content.add(data.data)
            put(tar.numbered(data, offsets, count).data)
            count += len(offsets) - 1

        head = sample_head(self._samples().columns)
        content.add(head)
        put(head)
        groups = RecordGroups(add, _MAX_GROUP_BYTES, _MAX_GROUP_RECORDS)
        yield ShardWriter(groups, content)
        groups.flush()
        put(tar.END)
        if compressor:
            store(compressor.flush())

    def columns_of(self, path: str, uri: str) -> pa.Schema:
        """Reads the head of the tar file."""
        with open_decompressed(stat_file(path)) as stream:
            return read_head(tar.TarReader(stream, uri), uri).columns

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the samples, checks the headers of their members, and takes the numbers out again."""
        with open_decompressed(stat_file(path)) as stream:
            reader = tar.TarReader(stream, uri)
            codec = read_head(reader, uri)
            no_rows = pa.RecordBatch.from_pylist([])
            head = sample_head(codec.columns)
            yield ReadPiece(head, 0, np.zeros(1, np.int64), lambda features: (no_rows, {}), str, dict)
            for samples in reader.samples():
                if samples.faults:
                    raise InputError(f"{uri}: {samples.faults[min(samples.faults)]}")
                yield _piece(samples, codec.decode(samples, uri))


def _piece(samples: tar.Samples, batch: pa.RecordBatch) -> ReadPiece:
    def decode(features: Sequence[Feature]) -> tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]:
        return conform_batch(batch, features)

    position, kinds = lambda row: f"row {samples.first + row}", lambda: column_kinds(batch)
    return ReadPiece(samples.content.data, len(samples), samples.offsets, decode, position, kinds)


def sample_columns(columns: pa.Schema) -> pa.Schema:
    """Returns the columns as shards have them.

    Raises:
      ConfigError: for a type that samples cannot hold, or a column of bytes whose name can be no extension.
    """
    stored = shard_columns(columns)
    taken = {"json": ""}
    for field in stored:
        if leaf_type(field.type) not in TYPES.values():
            raise ConfigError(
                f"column {field.name!r} has type {field.type}; a column of WebDataset shards must hold integers, "
                "floats, booleans, strings or bytes, or lists of them: cast it, or write Parquet"
            )
        if types.is_binary(leaf_type(field.type)):
            _check_name(field, taken)
    lists = {name: _numbers_of(name) for name in stored.names if _is_list_of_bytes(stored.field(name).type)}
    for extension, name in taken.items():
        for other, pattern in lists.items():
            if other != name and pattern.fullmatch(extension):
                raise ConfigError(f"columns {name!r} and {other!r} of bytes would have members of one name: rename one")
    return stored


def _check_name(field: pa.Field, taken: dict[str, str]) -> None:
    """Checks the name of a column of bytes, and adds it to the extensions that are taken, in small letters."""
    name, longest = field.name, _MAX_LIST_NAME_BYTES if types.is_list(field.type) else tar.MAX_EXTENSION_BYTES
    reads_small = "which WebDataset reads in small letters"
    if not name or len(name.encode()) > longest or re.search(r"[/\\\x00-\x1f]|^\.|\.$", name):
        raise ConfigError(
            f"column {name!r} of bytes must have a name that can be the extension of a file, of 1 to {longest} bytes, "
            "without slashes and control characters, and with no dot at either end: rename it"
        )
    if name.lower() in taken:
        other = f"column {taken[name.lower()]!r}" if taken[name.lower()] else "the values of the other columns"
        raise ConfigError(f"column {name!r} of bytes has the extension of {other}, {reads_small}: rename it")
    taken[name.lower()] = name


def _is_list_of_bytes(arrow_type: pa.DataType) -> bool:
    return bool(types.is_list(arrow_type) and types.is_binary(leaf_type(arrow_type)))


def _numbers_of(name: str) -> re.Pattern[str]:
    start, dot, end = name.lower().rpartition(".")
    return re.compile(rf"{re.escape(start)}\.\d+\.{re.escape(end)}" if dot else rf"{re.escape(end)}\.\d+")
