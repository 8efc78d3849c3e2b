"""Writes the file of one shard piece by piece, and hashes and counts it on the way."""

import contextlib
from types import TracebackType

import numpy as np

from penstock.io.beam import progress
from penstock.io.dataset.manifest import Shard
from penstock.io.dataset.shard_formats.base import ShardFormat
from penstock.io.files import stores
from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.kernel import crc32c
from penstock.io.sort.merge import KEYS_END, MergedRuns


def write_shard(
    staged: str,
    path: str,
    split: str,
    shard_format: ShardFormat,
    merged: MergedRuns,
    low: int = 0,
    high: int = KEYS_END,
    uploads: stores.Uploads | None = None,
) -> Shard:
    """Writes one shard, a range of keys, to `staged`; returns its manifest entry, under the relative `path`.

    A retried bundle writes the same bytes. An object is there once `uploads` are waited for, where they are given.
    """
    with _StoredFile(staged, uploads) as file, shard_format.open(file.write) as shard:
        written = merged.write(low, high, shard.sink)
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
    )


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
