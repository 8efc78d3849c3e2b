"""From a shard of MDS to rows: its samples, one after the other."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from penstock.io.columns.of_numpy import array_of
from penstock.io.dataset.load.shards.checked import checked
from penstock.io.dataset.load.shards.contents import StoredShard
from penstock.io.dataset.load.shards.files import join, open_unpacked
from penstock.io.dataset.load.shards.ranges import Ranges
from penstock.io.dataset.load.shards.readers import Block, Rows, ShardReader, wrong_count
from penstock.io.dataset.shard_formats.mds_samples import MdsReader, Samples
from penstock.io.errors import DataError


def mds_schema(path: str, size: int) -> pa.Schema:
    """Returns the columns of a shard.

    Raises:
      InputError: when it cannot be read.
      DataError: when it is not there, or has another size.
    """
    with open_unpacked(path, size) as stream:
        return MdsReader(stream, path).codec.schema


@dataclasses.dataclass(frozen=True)
class MdsShardReader(ShardReader):
    """Shards of MDS. They have no checksums of their own: one that is damaged is lost as a whole."""

    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Reads samples up to the last row that is wanted; blocks are the pieces that are read, as with WebDataset."""
        path, last, first = join(self.directory, shard.path), int(wanted[-1, 1]), 0
        with checked(path, shard) as local, open_unpacked(local, shard.bytes) as stream:
            reader = MdsReader(stream, path)
            if reader.samples != shard.records:
                raise wrong_count(path, shard, f"{reader.samples}")
            for samples in reader.pieces():
                batch = self._batch(reader, samples, path)
                yield Block(first, batch.num_rows, _taker(batch))
                first += batch.num_rows
                if first >= last and last < shard.records:
                    return

    def _batch(self, reader: MdsReader, samples: Samples, path: str) -> pa.RecordBatch:
        found = reader.decode(samples)
        if any(name not in found.schema.names for name in self.schema.names) or self.schema != pa.schema(
            [found.schema.field(name) for name in self.schema.names]
        ):
            raise DataError(f"{path}: has other columns than the first shard; see penstock verify")
        return found.select(self.schema.names)


def _taker(batch: pa.RecordBatch) -> Callable[[np.ndarray], Rows]:
    def take(rows: np.ndarray) -> Rows:
        found = batch if len(rows) == batch.num_rows else batch.take(array_of(rows))
        return Rows(found, np.arange(len(rows)))

    return take
