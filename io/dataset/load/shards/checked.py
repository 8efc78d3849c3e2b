"""Shards that are checked as a whole before any record is taken: of formats whose own checksums leave bytes out."""

import contextlib
from collections.abc import Iterator

from penstock.io.dataset.load.shards.contents import StoredShard
from penstock.io.dataset.load.shards.files import open_stored
from penstock.io.errors import DataError, InputError
from penstock.io.files.folders import local_file
from penstock.io.kernel import crc32c

# What stays in a processor's cache while its CRC is computed.
_READ_BYTES = 256 << 10


@contextlib.contextmanager
def checked(path: str, shard: StoredShard) -> Iterator[str]:
    """Yields the path on this machine of a shard that has the bytes that were written; one of a store is copied.

    Raises:
      InputError: for another CRC32C than the manifest says.
      DataError: when the shard cannot be read, or has another size.
      StorageError: when a copy cannot be written.
    """
    with open_stored(path, shard.bytes), local_file(path, shard.bytes) as local:
        found = f"{_crc32c(local):08x}"
        if found != shard.crc32c:
            raise InputError(
                f"{path}: the shard is damaged: its CRC32C is {found}, and the manifest says {shard.crc32c}: copy the "
                "dataset again, or see penstock verify"
            )
        yield local


def _crc32c(path: str) -> int:
    crc, block = 0, memoryview(bytearray(_READ_BYTES))
    try:
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(block):
                crc = crc32c.extend(crc, block[:size])
    except OSError as error:
        raise DataError(f"{path}: the shard cannot be read: {error}") from error
    return crc
