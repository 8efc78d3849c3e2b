"""Writes the file of one shard piece by piece, and hashes and counts it on the way; and where its records begin."""

import contextlib
import io
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from penstock.io.beam import progress
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import Shard, ShardIndex
from penstock.io.dataset.options import INDEX_TYPE
from penstock.io.dataset.shard_formats.base import ShardFormat
from penstock.io.files import stores
from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.kernel import crc32c
from penstock.io.sort.merge import KEYS_END, MergedRuns
from penstock.io.sort.records import EncodedRecords, Ints, RecordSink


class IndexPlace(NamedTuple):
    """Where the index of a shard is written, and its path relative to the dataset."""

    staged: str
    path: str

    @classmethod
    def of(cls, staging: Staging, shard: str) -> "IndexPlace":
        """The place of the index of a shard that is staged under its own path."""
        path = staging.index_path(shard)
        return cls(staging.path(*path.split("/")), path)


def write_shard(
    staged: str,
    path: str,
    split: str,
    shard_format: ShardFormat,
    merged: MergedRuns,
    low: int = 0,
    high: int = KEYS_END,
    uploads: stores.Uploads | None = None,
    index: IndexPlace | None = None,
) -> Shard:
    """Writes one shard, a range of keys, to `staged`; returns its manifest entry, under the relative `path`.

    A retried bundle writes the same bytes. An object is there once `uploads` are waited for, where they are given. With
    `index`, the offsets of the records are written there: the file must hold them as they are (`ShardKind.may_index`).
    """
    with contextlib.ExitStack() as open_files:
        file = open_files.enter_context(_StoredFile(staged, uploads))
        offsets = open_files.enter_context(_StoredFile(index.staged, uploads)) if index else None
        shard = open_files.enter_context(shard_format.open(file.write))
        sink = shard.sink if offsets is None else OffsetsSink(shard.sink, offsets.write)
        written = merged.write(low, high, sink)
    progress.add(shards=1)
    times = written.times
    return Shard(
        path=path,
        split=split,
        records=written.records,
        bytes=file.bytes,
        uncompressed_bytes=shard.content.bytes,
        crc32c=f"{file.crc32c:08x}",
        sha256=shard.content.sha256.hexdigest(),
        event_time=(_iso(times[0]), _iso(times[1])) if times else None,
        index=ShardIndex(index.path, offsets.bytes, f"{offsets.crc32c:08x}") if index and offsets else None,
    )


class OffsetsSink:
    """Passes records on, and stores where each begins: the index of a shard.

    An index is little-endian uint64[records + 1]: the offset of each record in the shard, and the end of the last one.
    Record i, with its frame, is the bytes from the i-th number to the next one. A shard without records has one number,
    0.
    """

    def __init__(self, sink: RecordSink, store: Callable[[bytes], Any]):
        self._sink = sink
        self._store = store
        self._end = 0
        store(np.zeros(1, INDEX_TYPE).tobytes())

    def write_records(self, records: EncodedRecords) -> None:
        """Takes records in their present order."""
        self._sink.write_records(records)
        self._add(records.lengths)

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Takes the records at these indices, in this order."""
        self._sink.write_ordered(records, order)
        self._add(records.lengths[order])

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Takes the records between int64[n + 1] offsets of a file."""
        self._sink.copy_records(file, offsets)
        self._add(np.diff(offsets))

    def _add(self, lengths: Ints) -> None:
        ends = np.cumsum(lengths) + self._end
        self._store(ends.astype(INDEX_TYPE).tobytes())
        self._end = int(ends[-1]) if len(ends) else self._end


class _StoredFile(contextlib.AbstractContextManager["_StoredFile"]):
    """A file on any filesystem that counts the bytes written to it and computes their CRC32C."""

    def __init__(self, path: str, uploads: stores.Uploads | None):
        self._path = path
        self._uploads = uploads if stores.is_object(path) else None
        with self._writing():
            self._file = stores.create_file(path)
        # Only a local file is known to keep no reference to the data that it is given.
        self._must_copy = not is_local(path)
        self.crc32c = self.bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        self.crc32c = crc32c.extend(self.crc32c, data)
        self.bytes += len(data)
        with self._writing():
            self._file.write(bytes(data) if self._must_copy else data)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self._path, OUTPUT_REMEDY, counter="shards")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            with self._writing():
                self._file.__exit__(kind, error, trace)  # of an object, nothing appears
        elif self._uploads is None:
            self._close()
        else:
            self._uploads.add(self._close, self.bytes)

    def _close(self) -> None:
        with self._writing():
            self._file.close()


def _iso(micros: int) -> str:
    return str(np.datetime64(micros, "us")) + "Z"
