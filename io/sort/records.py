"""Encoded records in memory: what goes from the encoder to the shuffle, and its order.

Records are sorted by (split, key, bytes), an order that does not depend on how they arrived. To sort them is to find
their order; their bytes are copied once, in that order, to where they are written (`BlockWriter`).
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import runs
from penstock.io.kernel.shared.offsets import starts_of

# One row is one framed record: the number of its split, its key, its bytes, its event time if there is one.
RECORDS = pa.schema(
    [
        ("split", pa.uint16()),
        ("key", pa.uint64()),
        ("record", pa.large_binary()),
        ("event_time", pa.timestamp("us", "UTC")),
    ]
)

Bytes = npt.NDArray[np.uint8]
Splits = npt.NDArray[np.uint16]
Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

# In place of the event time of a record that has none.
NO_TIME = int(np.iinfo(np.int64).min)

# What is hashed, compressed and written at once: small enough for a processor's own cache.
BLOCK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class EncodedRecords:
    """Encoded records, one after the other.

    Attributes:
      splits: uint16[n], the number of each one's split.
      keys: uint64[n].
      data: uint8, their bytes.
      offsets: int64[n + 1], where in `data` each starts, and the end.
      times: int64[n], event times in microseconds since 1970, or `NO_TIME`; None where no record has one.
    """

    splits: Splits
    keys: Keys
    data: Bytes
    offsets: Ints
    times: Ints | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def nbytes(self) -> int:
        """Bytes of the records themselves."""
        return int(self.offsets[-1] - self.offsets[0])

    @property
    def content(self) -> Bytes:
        """The bytes of all records."""
        return self.data[self.offsets[0] : self.offsets[-1]]

    def by_split(self, order: Ints | None = None) -> Iterator[tuple[int, int, int]]:
        """Number, start and end of each split's records, which are sorted, or are so in `order`."""
        splits = self.splits if order is None else self.splits[order]
        bounds = [0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(splits)]
        for start, end in itertools.pairwise(bounds):
            yield int(splits[start]), start, end

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """The rows of a batch of `RECORDS`, without copying their bytes."""
        splits, keys, record, times = (batch.column(name) for name in RECORDS.names)
        data, offsets = _buffers(record)
        micros = None
        if times.null_count < len(times):
            micros = pc.fill_null(times.cast(pa.int64()), NO_TIME).to_numpy()
        return cls(splits.to_numpy(), keys.to_numpy(), data, offsets, micros)


def _buffers(column: pa.LargeBinaryArray) -> tuple[Bytes, Ints]:
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return np.zeros(0, np.uint8), np.zeros(1, np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return content, np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]


def records_batch(splits: Splits, keys: Keys, data: Bytes, offsets: Ints, times: pa.Array | None) -> pa.RecordBatch:
    """Records as a batch of `RECORDS`, which Beam can move, without copying their bytes; `times` are event times."""
    rows = len(keys)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    record = pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers)
    times = pa.nulls(rows, RECORDS.field("event_time").type) if times is None else times
    return pa.record_batch([pa.array(splits, pa.uint16()), pa.array(keys, pa.uint64()), record, times], schema=RECORDS)


def concat_records(parts: Sequence[EncodedRecords], data: Bytes) -> EncodedRecords:
    """Parts as one, whose bytes lie in `data`, one part after the other."""
    times = None
    if any(part.times is not None for part in parts):
        times = np.concatenate([np.full(len(part), NO_TIME) if part.times is None else part.times for part in parts])
    offsets = starts_of(np.concatenate([np.diff(part.offsets) for part in parts]))
    splits, keys = np.concatenate([part.splits for part in parts]), np.concatenate([part.keys for part in parts])
    return EncodedRecords(splits, keys, data, offsets, times)


def sorted_order(records: EncodedRecords) -> Ints | None:
    """int64[n], the order of the records by split, key and bytes, stable; None where they lie in it."""
    return runs.sort_order(records.splits, records.keys, records.data, records.offsets)


def sort_records(batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of `RECORDS` in order."""
    order = sorted_order(EncodedRecords.of(batch))
    return batch if order is None else batch.take(pa.array(order))


def reorder_records(records: EncodedRecords, order: Ints) -> EncodedRecords:
    """The records of these indices, in this order, in memory of their own."""
    content = io.BytesIO()
    blocks = BlockWriter(content.write)
    blocks.write_ordered(records, order)
    blocks.flush()
    times = None if records.times is None else records.times[order]
    data = np.frombuffer(content.getbuffer(), np.uint8)
    offsets = starts_of(np.diff(records.offsets)[order])
    return EncodedRecords(records.splits[order], records.keys[order], data, offsets, times)


class RecordSink(Protocol):
    """What takes records in their final order, in pieces of any size."""

    def write_records(self, records: EncodedRecords) -> None:
        """Takes records as they lie."""

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Takes the records of these indices, in this order."""

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Takes the records that lie in a file between int64[n + 1] offsets."""


class BlockWriter:
    """Collects bytes in a block of its own and stores it whenever it is full.

    So all that follows works on bytes that are in the cache, and gets the same blocks however the bytes arrive.
    """

    def __init__(self, store: Callable[[memoryview], Any], block_bytes: int = BLOCK_BYTES):
        self._store = store
        self._block = np.empty(block_bytes, np.uint8)
        self._filled = 0

    def write(self, data: Bytes) -> None:
        """Writes bytes as they are."""
        size = len(self._block)
        done = 0
        while done < len(data):
            if not self._filled and len(data) - done >= size:
                self._store(data[done : done + size].data)
                done += size
                continue
            count = min(len(data) - done, size - self._filled)
            self._block[self._filled : self._filled + count] = data[done : done + count]
            done += count
            self._fill(count)

    def write_records(self, records: EncodedRecords) -> None:
        """Writes records as they lie."""
        self.write(records.content)

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Writes the records that lie in a file between int64[n + 1] offsets."""
        self.read_from(file, int(offsets[0]), int(offsets[-1]))

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Writes the records of these indices, in this order."""
        index = skip = 0
        while index < len(order):
            index, skip, filled = runs.gather(
                records.data, records.offsets, order, index, skip, self._block, self._filled
            )
            self._fill(filled - self._filled)

    def read_from(self, file: io.FileIO, start: int, end: int) -> None:
        """Writes what a file has between two places."""
        file.seek(start)
        while start < end:
            count = min(end - start, len(self._block) - self._filled)
            read_into(file, self._block[self._filled : self._filled + count])
            start += count
            self._fill(count)

    def _fill(self, count: int) -> None:
        self._filled += count
        if self._filled == len(self._block):
            self.flush()

    def flush(self) -> None:
        """Stores what is left."""
        if self._filled:
            self._store(self._block[: self._filled].data)
            self._filled = 0


def read_into(file: io.FileIO, out: npt.NDArray[Any]) -> None:
    """Fills an array with what comes next in a file.

    Raises:
      OSError: when the file ends before.
    """
    left = out.view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(f"{file.name!r} ends {len(left)} bytes too early")
        left = left[count:]
