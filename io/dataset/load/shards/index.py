"""Where the records of a shard of TFRecord are: by its index, or by reading it once."""

import numpy as np

from penstock.io.dataset.load.shards.contents import StoredIndex, StoredShard
from penstock.io.dataset.load.shards.files import join, open_stored
from penstock.io.dataset.load.shards.readers import wrong_count
from penstock.io.dataset.options import INDEX_TYPE
from penstock.io.errors import DataError
from penstock.io.examples.frames import read_frames
from penstock.io.kernel import crc32c


def find_records(directory: str, shard: StoredShard) -> np.ndarray:
    """Returns int64[records + 1], where each frame of a shard that is not compressed begins, and the last one ends.

    The index is read as a whole, once, and held against its CRC32C in the manifest; what is read through it is held
    against its own CRC.

    Raises:
      DataError: when the index is missing, or is not as the manifest says; so for the shard, where it has no index.
      InputError: when a shard without an index is damaged.
    """
    return _scan(directory, shard) if shard.index is None else _read(directory, shard, shard.index)


def _scan(directory: str, shard: StoredShard) -> np.ndarray:
    path = join(directory, shard.path)
    with open_stored(path, shard.bytes) as stored:
        found = [frames.offsets for frames in read_frames(stored, path, in_place=True)]
    offsets = np.concatenate([*found, np.array([shard.bytes], np.int64)])
    if len(offsets) != shard.records + 1:
        raise wrong_count(path, shard, f"{len(offsets) - 1}")
    return offsets


def _read(directory: str, shard: StoredShard, index: StoredIndex) -> np.ndarray:
    path = join(directory, index.path)
    wrong = DataError(
        f"{path}: the index is not that of {shard.path}, which has {shard.records} records in {shard.bytes} bytes; see "
        "penstock verify"
    )
    if index.bytes != (shard.records + 1) * np.dtype(INDEX_TYPE).itemsize:
        raise wrong
    with open_stored(path, index.bytes, "the index") as stored:
        content = stored.read()
    if f"{crc32c.extend(0, content):08x}" != index.crc32c:
        raise DataError(
            f"{path}: the index is damaged, or that of another shard: its CRC32C is not that of the manifest; copy the "
            "dataset again, or see penstock verify"
        )
    offsets = np.frombuffer(content, INDEX_TYPE).view("<i8")
    if offsets[0] != 0 or offsets[-1] != shard.bytes:
        raise wrong
    return offsets
