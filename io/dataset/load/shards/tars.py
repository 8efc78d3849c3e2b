"""From a shard of WebDataset to rows: those of a tar file, one after the other."""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

from penstock.io.columns.of_numpy import array_of
from penstock.io.dataset.load.shards.contents import StoredShard
from penstock.io.dataset.load.shards.files import join, open_unpacked
from penstock.io.dataset.load.shards.ranges import Ranges
from penstock.io.dataset.load.shards.readers import Block, Rows, ShardReader, wrong_count
from penstock.io.dataset.shard_formats.samples import SampleCodec, read_head
from penstock.io.dataset.shard_formats.tar import Samples, TarReader
from penstock.io.errors import DataError, InputError


def tar_schema(path: str, size: int) -> pa.Schema:
    """Returns the columns of a shard.

    Raises:
      InputError: when it cannot be read.
      DataError: when it is not there, or has another size.
    """
    with open_unpacked(path, size) as stream:
        return read_head(TarReader(stream, path), path).columns


@dataclasses.dataclass(frozen=True)
class SampleReader(ShardReader):
    """Shards of WebDataset. Damaged data lose their row, a damaged header the rest of the shard."""

    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Reads samples up to the last row that is wanted; checks the headers of all members, and the CRCs of data.

        Blocks are the pieces in which the tar file is read, whatever is `fitting`.
        """
        path, last, first = join(self.directory, shard.path), int(wanted[-1, 1]), 0
        try:
            with open_unpacked(path, shard.bytes) as stream:
                reader = TarReader(stream, path)
                codec = read_head(reader, path)
                if any(name not in codec.columns.names for name in self.schema.names) or self.schema != pa.schema(
                    [codec.columns.field(name) for name in self.schema.names]
                ):
                    raise DataError(f"{path}: has other columns than the first shard; see penstock verify")
                for samples in reader.samples():
                    if first + len(samples) > shard.records:
                        raise wrong_count(path, shard, "more")
                    yield Block(first, len(samples), self._taker(codec, samples, path))
                    first += len(samples)
                    if first >= last and last < shard.records:
                        return
        except InputError as error:
            if self.lost is None:
                raise
            yield self.losing(first, shard.records - first, str(error))
            return
        if first < shard.records:
            raise wrong_count(path, shard, f"{first}")

    def _taker(self, codec: SampleCodec, samples: Samples, path: str) -> Callable[[np.ndarray], Rows]:
        def take(rows: np.ndarray) -> Rows:
            at = np.arange(len(rows))
            faults = {}
            if samples.faults:
                faults = {
                    row: f"{path}: {samples.faults[number]}"
                    for row, number in enumerate(rows)
                    if number in samples.faults
                }
            at = self.keep_good(self.nothing(len(rows)), faults, at).at
            # The numbers of the rows among those that have no fault.
            is_good = np.ones(len(samples), bool)
            is_good[list(samples.faults)] = False
            numbers = (np.cumsum(is_good) - 1)[rows[at]]
            found = codec.decode(samples.good(), path).select(self.schema.names)
            return Rows(found if len(numbers) == found.num_rows else found.take(array_of(numbers)), at)

        return take
