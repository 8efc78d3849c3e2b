"""Shards of a split written anew: the same records, in shards of the size that training wants.

Records are moved as bytes, by way of sorted runs on the disk (`penstock.io.sort`), so memory does not grow with what is
read. With the global shuffle, the hash of a record decides its shard and its place in it; without, records stay in the
order of the shards. Each shard that is read is held against its digest in the manifest, and the records that are
written are read again and held against those that were read, as a multiset.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.dataset.layout import Staging, part_name
from penstock.io.dataset.manifest import Shard
from penstock.io.dataset.shard import IndexPlace, write_shard
from penstock.io.dataset.shard_formats import SHARD_FORMATS, load_format
from penstock.io.dataset.shard_formats.base import Content, ReadPiece, ShardFormat
from penstock.io.dataset.shuffle import ShardPlan, spill_directory
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import DataError, InputError
from penstock.io.files import stores
from penstock.io.files.folders import local_file, remove_folder
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import records_batch


def write_anew(staging: Staging, spec: DatasetSpec, shards: Sequence[Shard], splits: Sequence[str]) -> list[Shard]:
    """Writes the records of some shards into the staging folder, split by split; returns the shards that come of them.

    Args:
      staging: of the run that does it, in the dataset that has the shards.
      spec: how they are written: format and compression are those of the shards.
      shards: what is read, in this order.
      splits: in the order of the shards that are written; one without records has an empty shard.

    Raises:
      DataError: when a shard is not as it is described, has other columns than the one before it, or what was written
        is not what was read.
    """
    written: list[Shard] = []
    spill = spill_directory(staging)
    for split in splits:
        own = [shard for shard in shards if shard.split == split]
        written += _Split(spec, staging, split, own).write(os.path.join(spill, split))
        remove_folder(spill)
    return written


@dataclasses.dataclass
class _Tally:
    """What a multiset of records is known by: their number, their bytes, the sum of their hashes modulo 2^64."""

    records: int = 0
    bytes: int = 0
    hashes: int = 0

    def add(self, hashes: np.ndarray, size: int) -> None:
        self.records += len(hashes)
        self.bytes += size
        self.hashes = (self.hashes + int(np.add.reduce(hashes, dtype=np.uint64))) % (1 << 64)


@dataclasses.dataclass(frozen=True)
class _Split:
    """The shards of a split, and how they are written anew."""

    spec: DatasetSpec
    staging: Staging
    split: str
    shards: Sequence[Shard]

    def write(self, directory: str) -> Iterator[Shard]:
        """Writes them into the staging folder, by way of runs in a folder of this machine.

        Raises:
          DataError: when what was written is not what was read.
        """
        read, again = _Tally(), _Tally()
        merged = merge_batches(self._batches(read), directory, (self.split,))
        plan = ShardPlan(self.spec)
        total = plan.count(read.bytes)
        bounds = plan.bounds(total, merged)
        writer = self._format(self._columns())
        for index in range(total):
            path = f"{self.split}/{part_name(index, total, self.spec.suffix)}"
            staged = self.staging.path(*path.split("/"))
            place = IndexPlace.of(self.staging, path) if self.spec.index else None
            low, high = bounds[index], bounds[index + 1]
            shard = write_shard(staged, path, self.split, writer, merged, low, high, index=place)
            for _ in self._pieces(staged, shard, again):
                pass
            yield dataclasses.replace(shard, event_time=_times(self.shards))
        if read != again:
            raise DataError(
                f"{self.staging.output}: the records of split {self.split} are not those that were read ({read}, "
                f"{again}); nothing is published, please report this"
            )

    def _batches(self, tally: _Tally) -> Iterator[pa.RecordBatch]:
        position = 0
        for shard in self.shards:
            path = stores.join(self.staging.output, *shard.path.split("/"))
            for piece, hashes in self._pieces(path, shard, tally):
                keys = hashes
                if self.spec.shuffle == "none":
                    keys = np.arange(position, position + piece.records, dtype=np.uint64)
                position += piece.records
                data = np.frombuffer(piece.content, np.uint8)
                yield records_batch(np.zeros(piece.records, np.uint16), keys, data, piece.offsets, None)

    def _pieces(self, path: str, shard: Shard, tally: _Tally) -> Iterator[tuple[ReadPiece, Any]]:
        """Yields the pieces of a shard that have records, each with the hashes of these; checks it at the end."""
        reader, content, records = self._format(None), Content(), 0
        try:
            with local_file(path, shard.bytes) as here:
                for piece in reader.read(here, shard.path):
                    content.add(memoryview(piece.content))
                    records += piece.records
                    progress.add(rows=piece.records)
                    if piece.records:
                        hashes = _hashes(piece, self.spec.seed)
                        tally.add(hashes, int(piece.offsets[-1] - piece.offsets[0]))
                        yield piece, hashes
        except (InputError, OSError) as error:
            raise DataError(f"{path}: cannot be read, so nothing is published: {error}") from error
        if (records, content.sha256.hexdigest()) != (shard.records, shard.sha256):
            raise DataError(
                f"{path}: is not as the manifest says ({records} records, {shard.records} there), so nothing is "
                "published; see penstock verify"
            )

    def _format(self, columns: pa.Schema | None) -> ShardFormat:
        return load_format(self.spec.format, str(self.spec.compression), columns)

    def _columns(self) -> pa.Schema | None:
        """The columns of the shards, for a format that has any."""
        if not self.shards or not SHARD_FORMATS[self.spec.format].has_columns:
            return None
        found = self._columns_of(self.shards[0])
        for shard in self.shards[1:]:
            if self._columns_of(shard) != found:
                raise DataError(
                    f"{self.staging.output}: {shard.path} has other columns than {self.shards[0].path}, so that one "
                    "shard cannot have the rows of both; nothing is published"
                )
        return found

    def _columns_of(self, shard: Shard) -> pa.Schema | None:
        path = stores.join(self.staging.output, *shard.path.split("/"))
        try:
            with local_file(path, shard.bytes) as here:
                return self._format(None).columns_of(here, shard.path)
        except (InputError, OSError) as error:
            raise DataError(f"{path}: cannot be read, so nothing is published: {error}") from error


def _hashes(piece: ReadPiece, seed: int) -> Any:
    data = pa.py_buffer(piece.content)
    column = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), piece.records, [None, pa.py_buffer(np.ascontiguousarray(piece.offsets, np.int64)), data]
    )
    return hash_rows(pa.record_batch({"record": column}), ["record"], salted(seed, SHUFFLE_SALT))


def _times(shards: Sequence[Shard]) -> tuple[str, str] | None:
    """The least and the greatest event time: which record has which, shards do not tell."""
    times = [time for shard in shards if shard.event_time for time in shard.event_time]
    return (min(times), max(times)) if times else None
