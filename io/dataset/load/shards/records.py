"""One record of a shard: by its number, or by its offset, as messages about damage have it."""

import numpy as np
import pyarrow as pa

from penstock.io.dataset.load.shards.contents import Contents, StoredShard
from penstock.io.dataset.load.shards.files import join, open_unpacked
from penstock.io.dataset.load.shards.readers import ShardReader
from penstock.io.errors import ConfigError
from penstock.io.examples.frames import read_frames

# Formats whose messages tell of bytes; those of the others tell of the numbers of records.
_FRAMED = frozenset({"tfrecord", "sequence_example"})


def find_shard(contents: Contents, path: str) -> StoredShard:
    """Returns the shard at a path, relative to the dataset.

    Raises:
      ConfigError: when the dataset has none there; the message names one.
    """
    for shard in contents.shards:
        if shard.path == path:
            return shard
    example = f"; there is {contents.shards[0].path}" if contents.shards else ""
    raise ConfigError(f"{contents.directory}: has no shard {path}{example}")


def number_at(contents: Contents, shard: StoredShard, offset: int) -> int:
    """Returns the number of the record at an offset: of TFRecord, of the one that has this byte.

    Raises:
      ConfigError: when the shard ends before it.
      InputError: when the shard is damaged.
    """
    if contents.format not in _FRAMED:
        return offset
    path, before = join(contents.directory, shard.path), 0
    with open_unpacked(path, shard.bytes) as stream:
        for frames in read_frames(stream, path):
            last = int(frames.offsets[-1] + frames.lengths[-1]) + _FRAME_BYTES
            if offset < last:
                return before + int(np.searchsorted(frames.offsets, offset, side="right")) - 1
            before += len(frames)
    raise ConfigError(f"{path}: has no byte {offset}: its {shard.records} records end before it")


# The length and its CRC before the data, and the CRC of the data behind them.
_FRAME_BYTES = 16


def read_record(reader: ShardReader, shard: StoredShard, number: int) -> pa.RecordBatch:
    """Reads one record.

    Raises:
      ConfigError: for a number that the shard does not have.
      InputError: when the record is damaged.
      DataError: when the shard is missing, or is not as the manifest says.
    """
    if not 0 <= number < shard.records:
        path = join(reader.directory, shard.path)
        raise ConfigError(f"{path}: has {shard.records} records, from 0, and no record {number}")
    wanted = np.array([[number, number + 1]])
    for block in reader.blocks(shard, wanted, lambda rows: rows):
        if block.first <= number < block.first + block.records:
            return block.take(np.array([number - block.first])).batch
    raise AssertionError("a reader gives the blocks that are wanted")
