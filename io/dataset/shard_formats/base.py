"""What a format of shards is: rows to opaque records, sorted records to a file, and a file to rows again.

The sort between the two moves records as bytes and knows nothing of them. It orders them by key and then by their
bytes, so the bytes of a record must follow from its row alone.
"""

import contextlib
import dataclasses
import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.reasons import Reason
from penstock.io.schema import Feature
from penstock.io.sort.records import BlockWriter, Bytes, EncodedRecords, Ints, Keys, RecordSink

# Takes the bytes of a file, in order; what it is given may change afterwards.
Store: TypeAlias = Callable[[bytes | memoryview], None]


@dataclasses.dataclass(frozen=True)
class EncodedRows:
    """Rows as records, one after the other.

    Attributes:
      data: uint8, the records.
      offsets: int64[n + 1], where in `data` each starts, and the end.
      faults: why rows cannot be written, by their index; they have no record.
    """

    data: Bytes
    offsets: Ints
    faults: Mapping[int, Sequence[Reason]]


class Content:
    """What a shard holds, whatever its compression: the bytes of its records, counted and hashed."""

    def __init__(self) -> None:
        self.bytes = 0
        self.sha256 = hashlib.sha256()

    def add(self, data: bytes | memoryview) -> None:
        """Adds the bytes that come next."""
        self.bytes += len(data)
        self.sha256.update(data)


class ShardWriter:
    """One shard while it is written.

    Attributes:
      sink: takes its records, in order.
      content: what it has taken.
    """

    def __init__(self, sink: RecordSink, content: Content):
        self.sink = sink
        self.content = content


@dataclasses.dataclass(frozen=True)
class ReadPiece:
    """Some records of a shard, read again.

    Attributes:
      content: their bytes, as `Content` had them.
      records: how many.
      decode: the columns of some features, and why rows have no such columns, by their index.
      place: where in the file a row is, in words.
    """

    content: bytes | memoryview
    records: int
    decode: Callable[[Sequence[Feature]], tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]]
    place: Callable[[int], str]


@dataclasses.dataclass(frozen=True)
class ShardFormat(ABC):
    """A format of shards, with its options; it is pickled.

    Attributes:
      compression: one of those that the format has.
      columns: names and types of the columns, for a format that has them.
    """

    compression: str
    columns: pa.Schema | None = None

    @abstractmethod
    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """The rows as records.

        Raises:
          ConfigError: for a column of a type that the format does not have.
        """

    def shuffle_keys(self, rows: pa.RecordBatch, encoded: EncodedRows, seed: int) -> Keys:
        """uint64, the place of each row in the shuffle, for rows that bring none; `encoded` are their records."""
        return hash_rows(rows, None, salted(seed, SHUFFLE_SALT))

    @abstractmethod
    def open(self, store: Store) -> contextlib.AbstractContextManager[ShardWriter]:
        """A shard to be written; all of its bytes are stored when the context ends without an exception."""

    @abstractmethod
    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """The records of a shard, in order, with all that is said of them in the file checked.

        Args:
          path: of the file.
          uri: what a message calls it.

        Raises:
          InputError: for a file that is damaged, or of another format.
        """


class RecordGroups:
    """A sink of records that gives them on in groups.

    A group ends with the record that brings it to `max_bytes` bytes or `max_records` records: what is in it follows
    from the records alone, not from the pieces that they came in.
    """

    def __init__(self, take: Callable[[Bytes, Ints], None], max_bytes: int, max_records: int):
        self._take = take
        self._max_bytes = max_bytes
        self._max_records = max_records
        self._blocks = BlockWriter(self._keep)
        self._pieces: list[Bytes] = []
        self._lengths: list[Ints] = []
        self._bytes = self._records = 0

    def _keep(self, block: memoryview) -> None:
        # The block is filled again.
        self._pieces.append(np.frombuffer(block, np.uint8).copy())
        progress.add(written=len(block))

    def write_records(self, records: EncodedRecords) -> None:
        """Takes records as they lie."""
        self._blocks.write_records(records)
        self._add(np.diff(records.offsets))

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Takes the records of these indices, in this order."""
        self._blocks.write_ordered(records, order)
        self._add(np.diff(records.offsets)[order])

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Takes the records that lie in a file between int64[n + 1] offsets."""
        self._blocks.copy_records(file, offsets)
        self._add(np.diff(offsets))

    def _add(self, lengths: Ints) -> None:
        self._lengths.append(lengths)
        self._bytes += int(lengths.sum())
        self._records += len(lengths)
        if self._bytes >= self._max_bytes or self._records >= self._max_records:
            self._give(is_end=False)

    def flush(self) -> None:
        """Gives what is left, if anything is."""
        self._give(is_end=True)

    def _give(self, is_end: bool) -> None:
        """Gives the groups that are whole, at the end all that is there."""
        self._blocks.flush()
        data = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.uint8)
        offsets = np.zeros(self._records + 1, np.int64)
        np.cumsum(np.concatenate(self._lengths or [offsets[:0]]), out=offsets[1:])
        start = 0
        while start < self._records:
            full = int(offsets.searchsorted(offsets[start] + self._max_bytes))
            end = min(max(full, start + 1), start + self._max_records)
            if end > self._records:
                if not is_end:
                    break
                end = self._records
            self._take(data[offsets[start] : offsets[end]], offsets[start : end + 1] - offsets[start])
            start = end
        self._pieces, self._lengths = [data[offsets[start] :].copy()], [np.diff(offsets[start:])]
        self._bytes, self._records = int(offsets[-1] - offsets[start]), self._records - start
