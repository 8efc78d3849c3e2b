"""The interface of shard formats: encode rows as opaque records, write sorted records to a file, read a file as rows.

Between encoding and writing, the sort moves records as bytes and does not look inside. It orders them by key and then
by their bytes, so the bytes of a record must depend on its row alone.
"""

import contextlib
import dataclasses
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np
import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.reasons import Note, Reason
from penstock.io.schema import Feature, Kind
from penstock.io.sort.records import Bytes, EncodedRecords, Ints, Keys, Packing, RecordSink, read_into

# Takes the bytes of a file, in order. The caller may reuse the memory afterwards.
Store: TypeAlias = Callable[[bytes | memoryview], None]


@dataclasses.dataclass(frozen=True)
class EncodedRows:
    """Rows encoded as records, one after the other.

    Attributes:
      data: uint8, the records.
      offsets: int64[n + 1], where in `data` each record starts, and the end.
      faults: why rows cannot be written, by row index; these rows have no record.
      layout: that of packed records (`penstock.io.sort.records`).
    """

    data: Bytes
    offsets: Ints
    faults: Mapping[int, Sequence[Reason]]
    layout: bytes | None = None


class WrittenShard(Protocol):
    """What the manifest says of a shard (`penstock.io.dataset.manifest.Shard`), as far as an index needs it."""

    @property
    def path(self) -> str:
        """Relative to the dataset."""

    @property
    def records(self) -> int:
        """How many it has."""

    @property
    def bytes(self) -> int:
        """Of the file as stored."""

    @property
    def uncompressed_bytes(self) -> int:
        """Of its content."""


class Content:
    """Counts and hashes the content of a shard, the uncompressed bytes of its records."""

    def __init__(self) -> None:
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def add(self, data: bytes | memoryview) -> None:
        """Adds the next bytes."""
        self.bytes += len(data)
        self.sha256.update(data)


class ShardWriter:
    """A shard that is being written.

    Attributes:
      sink: takes the records, in order.
      content: the count and hash of what was written so far.
    """

    def __init__(self, sink: RecordSink, content: Content):
        self.sink = sink
        self.content = content


@dataclasses.dataclass(frozen=True)
class ReadPiece:
    """Some records that were read from a shard.

    Attributes:
      content: the bytes of the records, as `Content` got them when they were written.
      records: number of records.
      offsets: int64[n + 1], where each record starts in `content`, and the end.
      decode: returns the columns of the given features, and why rows lack them, by row index.
      position: describes the position of a row in the file, for messages.
      kinds: returns the kinds of each feature that the records have, and the first row of each kind.
    """

    content: bytes | memoryview
    records: int
    offsets: Ints
    decode: Callable[[Sequence[Feature]], tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]]
    position: Callable[[int], str]
    kinds: Callable[[], Mapping[str, Mapping[Kind, int]]]


@dataclasses.dataclass(frozen=True)
class ShardFormat(ABC):
    """A shard format with its options; it is pickled.

    Attributes:
      compression: one that the format supports.
      columns: names and types of the columns, for a format that needs them.
      packs: whether records can be packed while they are shuffled (`penstock.io.sort.records`).
      keys_of_records: whether the bytes of a record say where it is shuffled to, as columns have types that cannot be
        hashed (`hash_rows`).
    """

    packs: ClassVar[bool] = False
    keys_of_records: ClassVar[bool] = False

    compression: str
    columns: pa.Schema | None = None

    @abstractmethod
    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as records.

        Raises:
          ConfigError: for a column whose type the format does not support.
        """

    def pack(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as packed records, in a format that packs."""
        raise NotImplementedError

    def packing(self, layouts: Iterable[bytes]) -> Packing:
        """Returns what makes records of those that `pack` made, in a format that packs."""
        raise NotImplementedError

    def shuffle_keys(self, rows: pa.RecordBatch, encoded: EncodedRows, seed: int) -> Keys:
        """Returns uint64, a shuffle key for each row, for rows that have none; `encoded` holds their records."""
        if self.keys_of_records:
            return hash_records(encoded, seed)
        return hash_rows(rows, None, salted(seed, SHUFFLE_SALT))

    def notes(self, rows: pa.RecordBatch) -> Sequence[Note]:
        """Returns what becomes of values of rows that are written, where that is no reason to reject them."""
        return ()

    def provenance(self) -> Mapping[str, Any]:
        """Returns what the manifest has to say of how rows were written, as JSON values."""
        return {}

    @abstractmethod
    def open(self, store: Store) -> contextlib.AbstractContextManager[ShardWriter]:
        """Opens a shard for writing; all of its bytes are stored once the context ends without an exception."""

    def indexes(self, shards: Sequence[WrittenShard]) -> Mapping[str, bytes]:
        """Returns files that list shards for readers of the format, by their paths relative to the dataset."""
        return {}

    def columns_of(self, path: str, uri: str) -> pa.Schema | None:
        """Returns the columns of a shard, as the file says; None for a format whose files have none.

        Args:
          path: path of the file.
          uri: the name of the file in messages.

        Raises:
          InputError: for a file that is damaged, or of another format.
        """
        return None

    @abstractmethod
    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the records of a shard, in order, and checks all checksums and lengths in the file.

        Args:
          path: path of the file.
          uri: the name of the file in messages.

        Raises:
          InputError: for a file that is damaged, or of another format.
        """


def hash_records(encoded: EncodedRows, seed: int) -> Keys:
    """Returns uint64, a shuffle key for each record, from its bytes."""
    buffers = [None, pa.py_buffer(encoded.offsets), pa.py_buffer(encoded.data)]
    records = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(encoded.offsets) - 1, buffers)
    return hash_rows(pa.record_batch([records], ["record"]), None, salted(seed, SHUFFLE_SALT))


class RecordGroups:
    """A sink of records that passes them on in groups.

    A group ends with the record that brings it to `max_bytes` bytes or `max_records` records. So groups depend on the
    records alone, not on the pieces in which they arrive. The next group reuses the memory of a group.
    """

    def __init__(self, take: Callable[[Bytes, Ints], None], max_bytes: int, max_records: int):
        self._take = take
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._buffer = np.empty(0, np.uint8)
        self._lengths: list[Ints] = []
        self._bytes = self._records = 0

    def write_records(self, records: EncodedRecords) -> None:
        """Takes records in their present order."""
        self._room(records.nbytes)[:] = records.content
        self._add(np.diff(records.offsets))

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Takes the records of these indices, in this order."""
        lengths = records.lengths[order]
        records.gather(order, 0, 0, self._room(int(lengths.sum())), 0)
        self._add(lengths)

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Takes the records between int64[n + 1] offsets of a file."""
        file.seek(int(offsets[0]))
        read_into(file, self._room(int(offsets[-1] - offsets[0])))
        self._add(np.diff(offsets))

    def _room(self, size: int) -> Bytes:
        """Returns where the next `size` bytes belong."""
        needed = self._bytes + size
        if needed > len(self._buffer):
            # Less than a group is waiting. `np.empty` does not touch memory pages before they are needed.
            larger = np.empty(self._max_bytes + size, np.uint8)
            larger[: self._bytes] = self._buffer[: self._bytes]
            self._buffer = larger
        return self._buffer[self._bytes : needed]

    def _add(self, lengths: Ints) -> None:
        size = int(lengths.sum())
        progress.add(written=size)
        self._lengths.append(lengths)
        self._bytes += size
        self._records += len(lengths)
        if self._bytes >= self._max_bytes or self._records >= self._max_records:
            self._give(is_end=False)

    def flush(self) -> None:
        """Passes on what is left, if anything."""
        self._give(is_end=True)

    def _give(self, is_end: bool) -> None:
        """Passes on the groups that are complete; at the end, also the last one."""
        offsets = starts_of(np.concatenate(self._lengths)) if self._lengths else np.zeros(1, np.int64)
        start = 0
        while start < self._records:
            # `full` is the first record boundary that is at least `max_bytes` behind `start`.
            full = int(offsets.searchsorted(offsets[start] + self._max_bytes))
            end = min(max(full, start + 1), start + self._max_records)
            if end > self._records:
                if not is_end:
                    break
                end = self._records
            self._take(self._buffer[offsets[start] : offsets[end]], offsets[start : end + 1] - offsets[start])
            start = end
        left = int(offsets[-1] - offsets[start])
        self._buffer[:left] = self._buffer[offsets[start] : offsets[-1]]
        self._lengths = [np.diff(offsets[start:])]
        self._bytes, self._records = left, self._records - start
