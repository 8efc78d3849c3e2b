"""Encoded records in memory, on their way from the encoder to the shuffle, and their order.

Records are sorted by (split, key, bytes), an order that does not depend on how they arrived. Sorting only finds the
order. The bytes are copied once, in that order, when they are written (`BlockWriter`).

Records may be packed on their way: without what many of them have in common, their layout. A `Packing` makes whole
records of them for the sink. A batch of packed records has their layout in the metadata of its schema.
"""

import dataclasses
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import runs
from penstock.io.kernel.shared.offsets import starts_of

# One row is one encoded record: the number of its split, its key, its bytes, and its event time if it has one.
RECORDS = pa.schema(
    [
        ("split", pa.uint16()),
        ("key", pa.uint64()),
        ("record", pa.large_binary()),
        ("event_time", pa.timestamp("us", "UTC")),
    ]
)

_LAYOUT = b"layout"

Bytes = npt.NDArray[np.uint8]
Splits = npt.NDArray[np.uint16]
Keys = npt.NDArray[np.uint64]
Ints = npt.NDArray[np.int64]

# Stands for the event time of a record that has none.
NO_TIME = int(np.iinfo(np.int64).min)

# Bytes that are hashed, compressed and written at once: few enough for a processor's own cache.
BLOCK_BYTES = 1 << 20


class Packing(Protocol):
    """Makes records of packed ones."""

    def lengths(self, data: Bytes, offsets: Ints) -> Ints:
        """Returns int64[n], the sizes of the records."""

    def gather(
        self, data: Bytes, offsets: Ints, order: Ints, index: int, skip: int, out: Bytes, filled: int
    ) -> tuple[int, int, int]:
        """Writes records in an order, as `penstock.io.kernel.runs.gather` copies them."""

    def whole(self, data: Bytes, offsets: Ints) -> tuple[Bytes, Ints]:
        """Returns the same packed records such that they need no layout, and where they start, and the end."""

    def sort_ties(self, splits: Splits, keys: Keys, data: Bytes, offsets: Ints, order: Ints) -> None:
        """Sorts those that share split and key by their bytes, in place of an order by split and key."""


# Makes records of packed ones of these layouts.
MakePacking: TypeAlias = Callable[[Iterable[bytes]], Packing]


@dataclasses.dataclass(frozen=True)
class EncodedRecords:
    """Encoded records, one after the other.

    Attributes:
      splits: uint16[n], the split number of each record.
      keys: uint64[n], the key of each record.
      data: uint8, the bytes of the records.
      offsets: int64[n + 1], where in `data` each record starts, and the end.
      times: int64[n], event times in microseconds since 1970, or `NO_TIME`; None if no record has one.
      packing: what makes records of them if they are packed.
    """

    splits: Splits
    keys: Keys
    data: Bytes
    offsets: Ints
    times: Ints | None = None
    packing: Packing | None = None

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def lengths(self) -> Ints:
        """int64[n], the sizes of the records, when they are not packed any more."""
        return np.diff(self.offsets) if self.packing is None else self.packing.lengths(self.data, self.offsets)

    def gather(self, order: Ints, index: int, skip: int, out: Bytes, filled: int) -> tuple[int, int, int]:
        """Copies records in an order, not packed any more, to `out[filled:]` (`penstock.io.kernel.runs.gather`)."""
        gather = runs.gather if self.packing is None else self.packing.gather
        return gather(self.data, self.offsets, order, index, skip, out, filled)

    def gather_all(self, order: Ints) -> tuple[Bytes, Ints]:
        """Returns the bytes of records in an order, not packed any more, and where each starts, and the end."""
        offsets = starts_of(self.lengths[order])
        data = np.empty(int(offsets[-1]), np.uint8)
        self.gather(order, 0, 0, data, 0)
        return data, offsets

    @property
    def nbytes(self) -> int:
        """The number of bytes of all records."""
        return int(self.offsets[-1] - self.offsets[0])

    @property
    def content(self) -> Bytes:
        """The bytes of all records, which are not packed."""
        if self.packing is not None:
            raise ValueError("packed records are no bytes of a shard: gather them")
        return self.data[self.offsets[0] : self.offsets[-1]]

    def by_split(self, order: Ints | None = None) -> Iterator[tuple[int, int, int]]:
        """Yields number, start and end of each split. The records, or `order` of them, must be sorted."""
        splits = self.splits if order is None else self.splits[order]
        bounds = [0, *(np.flatnonzero(np.diff(splits)) + 1).tolist(), len(splits)]
        for start, end in itertools.pairwise(bounds):
            yield int(splits[start]), start, end

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> Self:
        """Wraps a batch of `RECORDS` without copying the bytes of the records."""
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


def records_batch(
    splits: Splits, keys: Keys, data: Bytes, offsets: Ints, times: pa.Array | None, layout: bytes | None = None
) -> pa.RecordBatch:
    """Makes a batch of `RECORDS`, which Beam can move, without copying the bytes.

    Args:
      splits: see `EncodedRecords`, as of `keys`, `data` and `offsets`.
      keys: the keys.
      data: the bytes of the records.
      offsets: where they start, and the end.
      times: event times.
      layout: that of the records if they are packed.
    """
    rows = len(keys)
    buffers = [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    record = pa.LargeBinaryArray.from_buffers(pa.large_binary(), rows, buffers)
    times = pa.nulls(rows, RECORDS.field("event_time").type) if times is None else times
    schema = RECORDS if layout is None else RECORDS.with_metadata({_LAYOUT: layout})
    return pa.record_batch([pa.array(splits, pa.uint16()), pa.array(keys, pa.uint64()), record, times], schema=schema)


def layout_of(batch: pa.RecordBatch) -> bytes:
    """Returns the layout of a batch of packed `RECORDS`.

    Raises:
      KeyError: if they are not packed.
    """
    return bytes((batch.schema.metadata or {})[_LAYOUT])


def concat_records(parts: Sequence[EncodedRecords], data: Bytes) -> EncodedRecords:
    """Joins parts whose bytes lie in `data`, one part after the other."""
    times = None
    if any(part.times is not None for part in parts):
        times = np.concatenate([np.full(len(part), NO_TIME) if part.times is None else part.times for part in parts])
    offsets = starts_of(np.concatenate([np.diff(part.offsets) for part in parts]))
    splits, keys = np.concatenate([part.splits for part in parts]), np.concatenate([part.keys for part in parts])
    return EncodedRecords(splits, keys, data, offsets, times)


def sorted_order(records: EncodedRecords) -> Ints | None:
    """Returns int64[n], the stable order of the records by split, key and bytes.

    It is None if they are sorted already, and never for packed ones, which have to be gathered in any case.
    """
    order = runs.sort_order(records.splits, records.keys, records.data, records.offsets)
    if records.packing is None:
        return order
    if order is None:
        order = np.arange(len(records))
    # Packed, those that share a key are in the order of other bytes.
    records.packing.sort_ties(records.splits, records.keys, records.data, records.offsets, order)
    return order


def sort_records(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Sorts a batch of `RECORDS`."""
    order = sorted_order(EncodedRecords.of(batch))
    return batch if order is None else batch.take(pa.array(order))


def reorder_records(records: EncodedRecords, order: Ints) -> EncodedRecords:
    """Copies the records at these indices, in this order."""
    times = None if records.times is None else records.times[order]
    data, offsets = records.gather_all(order)
    return EncodedRecords(records.splits[order], records.keys[order], data, offsets, times)


class RecordSink(Protocol):
    """Takes records in their final order, in pieces of any size."""

    def write_records(self, records: EncodedRecords) -> None:
        """Takes records in their present order; none is packed."""

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Takes the records at these indices, in this order."""

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Takes the records between int64[n + 1] offsets of a file."""


class BlockWriter:
    """Collects bytes in a block and stores the block whenever it is full.

    So later steps work on bytes that are in the cache, and get the same blocks however the bytes arrive.
    """

    def __init__(self, store: Callable[[memoryview], Any], block_bytes: int = BLOCK_BYTES):
        self._store = store
        self._block = np.empty(block_bytes, np.uint8)
        self._filled = 0

    def write(self, data: Bytes) -> None:
        """Writes bytes."""
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
        """Writes records in their present order."""
        self.write(records.content)

    def copy_records(self, file: io.FileIO, offsets: Ints) -> None:
        """Writes the records between int64[n + 1] offsets of a file."""
        self.read_from(file, int(offsets[0]), int(offsets[-1]))

    def write_ordered(self, records: EncodedRecords, order: Ints) -> None:
        """Writes the records at these indices, in this order."""
        index = skip = 0
        while index < len(order):
            index, skip, filled = records.gather(order, index, skip, self._block, self._filled)
            self._fill(filled - self._filled)

    def read_from(self, file: io.FileIO, start: int, end: int) -> None:
        """Writes the bytes of a file between two offsets."""
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
    """Fills an array with the next bytes of a file.

    Raises:
      OSError: if the file ends too early.
    """
    left = out.view(np.uint8).data
    while left:
        count = file.readinto(left)
        if not count:
            raise OSError(f"{file.name!r} ends {len(left)} bytes too early")
        left = left[count:]
