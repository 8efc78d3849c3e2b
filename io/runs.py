"""Sorted runs: encoded records on local disk, sorted by (key, bytes), and their merge in bounded memory.

The shuffle is an external sort. Records are buffered, sorted and written as runs (`RunWriter`); a shard is a range of
keys, and its records are the merge of that range over all runs (`MergedRuns`). Memory is one buffer while writing and
one piece while merging, whatever the size of the dataset or of a shard.

A run is an Arrow IPC file of small record batches. It is read batch by batch, not mapped: mapped pages would count as
the process's memory.
"""

import dataclasses
import functools
import heapq
import os
import uuid
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# One row is one framed record: its key, its bytes, its event time if there is one.
RECORDS = pa.schema([("key", pa.uint64()), ("record", pa.large_binary()), ("event_time", pa.timestamp("us", "UTC"))])

KEYS_END = 1 << 64

MAX_RUN_BYTES = 64 << 20
MAX_PIECE_BYTES = 64 << 20
# What a range of keys can overshoot by, for each run; small, so that many runs can be merged.
_BLOCK_BYTES = 64 << 10


def records_batch(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    keys: npt.NDArray[np.uint64],
    event_times: pa.Array | None = None,
) -> pa.RecordBatch:
    """Framed records as a batch of `RECORDS`, without copying them.

    Args:
      data: the frames, one after the other.
      offsets: int64[n + 1], where each starts, and the end.
      keys: uint64[n].
      event_times: n event times, or None.
    """
    rows = len(keys)
    record = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), rows, [None, pa.py_buffer(np.ascontiguousarray(offsets)), pa.py_buffer(data)]
    )
    times = pa.nulls(rows, RECORDS.field("event_time").type) if event_times is None else event_times
    return pa.record_batch([pa.array(keys, pa.uint64()), record, times], schema=RECORDS)


def record_bytes(records: pa.RecordBatch) -> int:
    """Bytes of the records themselves."""
    offsets = _offsets(records)
    return int(offsets[-1] - offsets[0])


def sort_records(records: pa.RecordBatch) -> pa.RecordBatch:
    """The records by key, then by their bytes: an order that does not depend on how they arrived."""
    by = [("key", "ascending"), ("record", "ascending")]
    return records.take(pc.sort_indices(records, sort_keys=by))


def content(records: pa.RecordBatch) -> memoryview:
    """The bytes of the records, one after the other."""
    offsets = _offsets(records)
    buffer = records.column("record").buffers()[2]
    return memoryview(buffer)[int(offsets[0]) : int(offsets[-1])] if buffer is not None else memoryview(b"")


def _offsets(records: pa.RecordBatch) -> npt.NDArray[np.int64]:
    column = records.column("record")
    _, offsets, _ = column.buffers()
    if offsets is None or len(column) == 0:
        return np.zeros(1, np.int64)
    return np.frombuffer(offsets, np.int64)[column.offset : column.offset + len(column) + 1]


@dataclasses.dataclass(frozen=True)
class Run:
    """A sorted run: where it is, and the index of its blocks.

    Attributes:
      path: the file, local.
      split: the split of its records.
      first_keys: uint64, the first key of each block.
      records: int64, records before each block, and all.
      bytes: int64, bytes before each block, and all.
      last_key: the last key of all.
    """

    path: str
    split: str
    first_keys: npt.NDArray[np.uint64]
    records: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    last_key: int


def write_run(path: str, split: str, records: pa.RecordBatch) -> Run:
    """Writes sorted records as a run."""
    starts = _block_starts(records)
    blocks = [records.slice(start, end - start) for start, end in zip(starts, [*starts[1:], len(records)], strict=True)]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, RECORDS) as writer:
        for block in blocks:
            writer.write_batch(block)
    keys = np.array([block.column("key")[0].as_py() for block in blocks], np.uint64)
    sizes = [record_bytes(block) for block in blocks]
    places = np.array([*starts, len(records)], np.int64)
    return Run(path, split, keys, places, np.cumsum([0, *sizes]), records.column("key")[-1].as_py())


def _block_starts(records: pa.RecordBatch) -> list[int]:
    """Rows at which blocks start: a block ends where the next record would overfill it."""
    offsets = _offsets(records)
    starts = [0]
    while True:
        end = int(np.searchsorted(offsets, offsets[starts[-1]] + _BLOCK_BYTES, side="right")) - 1
        end = max(end, starts[-1] + 1)
        if end >= len(records):
            return starts
        starts.append(end)


class RunWriter:
    """Buffers records of several splits and writes them as sorted runs, all when the buffer is full."""

    def __init__(self, directory: str, max_bytes: int = MAX_RUN_BYTES):
        self._directory = directory
        self._max_bytes = max_bytes
        self._buffers: dict[str, list[pa.RecordBatch]] = {}
        self._bytes = 0

    def add(self, split: str, records: pa.RecordBatch) -> Iterator[Run]:
        """Adds records; yields the runs that this made."""
        self._buffers.setdefault(split, []).append(records)
        self._bytes += record_bytes(records)
        if self._bytes >= self._max_bytes:
            yield from self.flush()

    def flush(self) -> Iterator[Run]:
        """Writes what is buffered."""
        buffers, self._buffers, self._bytes = self._buffers, {}, 0
        for split in list(buffers):
            records = sort_records(pa.concat_batches(buffers.pop(split)))
            if len(records):
                yield write_run(os.path.join(self._directory, f"{uuid.uuid4().hex}.run"), split, records)


class MergedRuns:
    """Several runs read as one sorted sequence of records, by ranges of keys."""

    def __init__(self, runs: Sequence[Run], max_piece_bytes: int = MAX_PIECE_BYTES):
        self._runs = [_RunReader(run) for run in runs]
        self._max_piece_bytes = max_piece_bytes

    def count_below(self, key: int) -> int:
        """Records with a smaller key."""
        return sum(run.count_below(key) for run in self._runs)

    def key_at(self, rank: int) -> int:
        """The least key that has more than `rank` records up to and with it; `KEYS_END` for none."""
        low, high = 0, KEYS_END
        while low < high:
            middle = (low + high) // 2
            if self.count_below(middle + 1) > rank:
                high = middle
            else:
                low = middle + 1
        return low

    def pieces(self, low: int, high: int) -> Iterator[pa.RecordBatch]:
        """The records with `low` <= key < `high`, sorted, in pieces of about 64 MiB."""
        size = sum(run.bytes_between(low, high) for run in self._runs)
        if size <= self._max_piece_bytes:
            parts = [part for run in self._runs for part in run.read(low, high)]
            if parts:
                yield sort_records(pa.concat_batches(parts))
        elif high - low > 1:
            middle = (low + high) // 2
            yield from self.pieces(low, middle)
            yield from self.pieces(middle, high)
        else:
            yield from self._equal_keys(low)

    def _equal_keys(self, key: int) -> Iterator[pa.RecordBatch]:
        """Records of one key that are too many for a piece (the same row again and again), merged one by one."""
        rows = heapq.merge(*(run.rows(key) for run in self._runs))
        buffered: list[tuple[bytes, int | None]] = []
        size = 0
        for row in rows:
            buffered.append((row.record, row.event_time))
            size += len(row.record)
            if size >= self._max_piece_bytes:
                yield _batch_of(key, buffered)
                buffered, size = [], 0
        if buffered:
            yield _batch_of(key, buffered)


@functools.total_ordering
@dataclasses.dataclass(frozen=True)
class _Row:
    record: bytes
    event_time: int | None

    def __lt__(self, other: "_Row") -> bool:
        return self.record < other.record


def _batch_of(key: int, rows: Sequence[tuple[bytes, int | None]]) -> pa.RecordBatch:
    records, times = zip(*rows, strict=True)
    columns = [pa.array([key] * len(rows), pa.uint64()), pa.array(records, pa.large_binary())]
    return pa.record_batch([*columns, pa.array(times, RECORDS.field("event_time").type)], schema=RECORDS)


class _RunReader:
    """Reads ranges of keys of one run; the file is open only while a range is read."""

    def __init__(self, run: Run):
        self._run = run
        self._known_block = -1
        self._known_keys = np.zeros(0, np.uint64)

    def count_below(self, key: int) -> int:
        blocks = self._blocks_below(key)
        if key >= KEYS_END or blocks == 0:
            return int(self._run.records[blocks])
        return int(self._run.records[blocks - 1] + np.searchsorted(self._keys(blocks - 1), np.uint64(key)))

    def _keys(self, block: int) -> npt.NDArray[np.uint64]:
        """The keys of a block; the last ones are kept, since a bisection ends in one block."""
        if block != self._known_block:
            with pa.OSFile(self._run.path, "rb") as file, pa.ipc.open_file(file) as reader:
                # A copy: the array would keep the records in memory.
                self._known_keys = reader.get_batch(block).column("key").to_numpy().copy()
            self._known_block = block
        return self._known_keys

    def bytes_between(self, low: int, high: int) -> int:
        """About the bytes of the range: those of the blocks that start in it."""
        return int(self._run.bytes[self._blocks_below(high)] - self._run.bytes[self._blocks_below(low)])

    def read(self, low: int, high: int) -> Iterator[pa.RecordBatch]:
        yield from self._read(self._first_block(low), self._blocks_below(high), low, high)

    def rows(self, key: int) -> Iterator[_Row]:
        # Block by block: the rows of all runs are read at once, and a process may open only so many files.
        for block in range(self._first_block(key), self._blocks_below(key + 1)):
            for part in list(self._read(block, block + 1, key, key + 1)):
                records, times = part.column("record"), part.column("event_time").cast(pa.int64())
                yield from map(_Row, records.to_pylist(), times.to_pylist())

    def _blocks_below(self, key: int) -> int:
        """Blocks that start below `key`."""
        if key >= KEYS_END:
            return len(self._run.first_keys)
        return int(np.searchsorted(self._run.first_keys, np.uint64(key)))

    def _first_block(self, key: int) -> int:
        """The block in which the first record of `key` or above would be: the last that starts below it."""
        return max(self._blocks_below(key) - 1, 0)

    def _read(self, first: int, last: int, low: int, high: int) -> Iterator[pa.RecordBatch]:
        if first >= last or low > self._run.last_key:
            return
        with pa.OSFile(self._run.path, "rb") as file, pa.ipc.open_file(file) as reader:
            for block in range(first, last):
                records = reader.get_batch(block)
                keys = records.column("key").to_numpy()
                start = int(np.searchsorted(keys, np.uint64(low)))
                end = int(np.searchsorted(keys, np.uint64(high))) if high < KEYS_END else len(keys)
                if end > start:
                    yield records.slice(start, end - start)
