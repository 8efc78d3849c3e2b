"""Merges ranges of keys of sorted runs, in bounded memory.

Runs are read in pieces, not mapped: mapped pages would count as memory of the process.

In this module, the *index* of a record is its number within its run.
"""

import bisect
import dataclasses
import functools
import io
import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel import runs as kernel_runs
from penstock.io.sort.records import (
    NO_TIME,
    Bytes,
    EncodedRecords,
    Ints,
    Keys,
    MakePacking,
    RecordSink,
    concat_records,
    read_into,
    reorder_records,
    sorted_order,
)
from penstock.io.sort.runs import MAX_RUN_BYTES, Run, RunWriter

KEYS_END = 1 << 64

_MIN_PIECE_BYTES = 8 << 20
# A piece should have this many bytes of each run, to keep the number of reads low.
_READ_BYTES = 128 << 10
# Space is given back by punching holes into files. Each hole takes time (half a millisecond on ext4), so holes are few
# and large.
_DISCARD_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Written:
    """The number of records in a shard, and their least and greatest event time in microseconds, if they have any."""

    records: int = 0
    times: tuple[int, int] | None = None

    def __add__(self, other: "Written") -> "Written":
        times = [time for pair in (self.times, other.times) if pair for time in pair]
        return Written(self.records + other.records, (min(times), max(times)) if times else None)


def _written(records: int, times: Ints | None) -> Written:
    known = np.zeros(0, np.int64) if times is None else times[times != NO_TIME]
    return Written(records, (int(known.min()), int(known.max())) if len(known) else None)


class MergedRuns:
    """Reads several runs as one sorted sequence of records, by ranges of keys.

    With `once`, `write` removes from the runs what it has written. This frees page cache for the output, and the disk
    never holds all records twice. With `make_packing`, the runs have packed records, and what is written is not packed.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        max_piece_bytes: int | None = None,
        once: bool = False,
        make_packing: MakePacking | None = None,
    ):
        self._runs = [_RunReader(run) for run in runs]
        layouts = sorted({path for run in runs for path in run.layouts})
        self._packing = make_packing(pathlib.Path(path).read_bytes() for path in layouts) if make_packing else None
        self._once = once
        if max_piece_bytes is None:
            max_piece_bytes = min(MAX_RUN_BYTES, max(_MIN_PIECE_BYTES, len(runs) * _READ_BYTES))
        self._max_piece_bytes = max_piece_bytes
        self._buffer = np.empty(0, np.uint8)

    def count_below(self, key: int) -> int:
        """Counts the records with a smaller key."""
        return sum(run.count_below(key) for run in self._runs)

    def key_at(self, rank: int) -> int:
        """Returns the key of the record with this rank in the merged sequence; `KEYS_END` if `rank` is past the end."""
        if rank >= self.count_below(KEYS_END):
            return KEYS_END
        # Find the block boundaries around the rank, in the index; then read only the keys between them.
        known = np.unique(np.concatenate([run.first_keys for run in self._runs]))
        block = bisect.bisect_right(range(len(known)), rank, key=lambda index: self.count_below(int(known[index]))) - 1
        low, high = int(known[block]), int(known[block + 1]) if block + 1 < len(known) else KEYS_END
        keys = np.sort(np.concatenate([run.keys_between(low, high) for run in self._runs]))
        return int(keys[rank - self.count_below(low)])

    def write(self, low: int, high: int, sink: RecordSink) -> Written:
        """Writes the records with `low` <= key < `high`, sorted."""
        written = Written()
        if self._runs and low < high:
            for start, end in itertools.pairwise(self._cuts(low, high)):
                parts = zip(self._runs, start, end, strict=True)
                spans = [_Span(*part) for part in parts if part[1] < part[2]]
                written += self._write_piece(spans, sink)
                if self._once:
                    for span in spans:
                        span.run.discard(_DISCARD_BYTES)
            if self._once:
                for run in self._runs:
                    run.discard()
        return written

    def pieces(self, low: int = 0, high: int = KEYS_END) -> Iterator[EncodedRecords]:
        """Yields the records with `low` <= key < `high`, sorted, about `max_piece_bytes` at a time; keeps the runs.

        The next piece reuses the memory of a piece.
        """
        if not self._runs or low >= high:
            return
        for start, end in itertools.pairwise(self._cuts(low, high)):
            spans = [_Span(*part) for part in zip(self._runs, start, end, strict=True) if part[1] < part[2]]
            if spans:
                records = self._read(spans)
                order = sorted_order(records)
                yield records if order is None else reorder_records(records, order)

    def _write_piece(self, spans: Sequence["_Span"], sink: RecordSink) -> Written:
        if not spans:
            return Written()
        ordered = spans if len(spans) < 2 else _in_order(spans)
        if ordered is None or self._packing is not None:
            return self._write_sorted(spans, sink)
        written = Written()
        for span in ordered:
            span.run.copy(span.first, span.last, sink)
            written += _written(span.last - span.first, span.run.times(span.first, span.last))
        return written

    def _write_sorted(self, spans: Sequence["_Span"], sink: RecordSink) -> Written:
        records = self._read(spans)
        order = sorted_order(records)
        if order is None:
            sink.write_records(records)
        else:
            sink.write_ordered(records, order)
        return _written(len(records), records.times)

    def _read(self, spans: Sequence["_Span"]) -> EncodedRecords:
        """Reads the records of the spans into the buffer, one span after the other."""
        size = sum(span.run.bytes_around(span.first, span.last) for span in spans)
        if size > len(self._buffer):
            self._buffer = np.empty(max(size, self._max_piece_bytes), np.uint8)
        parts: list[EncodedRecords] = []
        filled = 0
        for span in spans:
            parts.append(span.run.read(span.first, span.last, self._buffer[filled:]))
            filled += parts[-1].nbytes
        return dataclasses.replace(concat_records(parts, self._buffer), packing=self._packing)

    def _cuts(self, low: int, high: int) -> Iterator[Sequence[int]]:
        """Yields the bounds of pieces: for each bound, an index in each run."""
        keys = self._cut_keys(low, high)
        indices = [run.count_below(keys[0]) for run in self._runs]
        yield indices
        for start, end in itertools.pairwise(keys):
            first, indices = indices, [run.count_below(end) for run in self._runs]
            if end - start == 1:
                yield from self._cuts_of_one_key(first, indices)
            yield indices

    def _cut_keys(self, low: int, high: int) -> list[int]:
        """Returns `low`, `high`, and keys between them that are about `max_piece_bytes` of records apart."""
        keys, sizes = map(np.concatenate, zip(*(run.blocks(low, high) for run in self._runs), strict=True))
        order = np.argsort(keys)
        # The blocks of all runs in the order of their first keys: cut wherever another `max_piece_bytes` is reached.
        ends = np.cumsum(sizes[order])
        size = int(ends[-1]) if len(ends) else 0
        found = keys[order[ends.searchsorted(np.arange(self._max_piece_bytes, size, self._max_piece_bytes))]]
        cuts = found.tolist()
        # A key that fills whole pieces gets a range of its own, from key to key + 1.
        cuts += [key + 1 for key, after in itertools.pairwise(cuts) if key == after]
        return sorted({low, high, *(key for key in cuts if low < key < high)})

    def _cuts_of_one_key(self, start: Sequence[int], end: Sequence[int]) -> Iterator[Sequence[int]]:
        """Cuts the records of one key by their bytes: the same row again and again can fill more than a piece.

        Each step looks ahead in every run by its share of a piece. In a sorted run, the records behind the last one
        seen are not less than it. So the least of these last records, the limit, bounds what is known to be complete::

            run 0   a a b b c d | d e f        seen up to d
            run 1   a c c e e   | e g          seen up to e
            run 2   b d                        seen completely: it does not limit
            limit   d, so the next piece is a a b b c d, a c c and b d, sorted

        The d behind the bar comes with the following piece, which is correct: it is not less than the limit.
        """
        share = self._max_piece_bytes // max(1, sum(first < last for first, last in zip(start, end, strict=True)))
        while True:
            ahead = [
                min(run.index_after(first, share), last)
                for run, first, last in zip(self._runs, start, end, strict=True)
            ]
            seen = [
                self._record(run, index - 1)
                for run, index, last in zip(self._runs, ahead, end, strict=True)
                if index < last
            ]
            if not seen:
                return
            limit = min(seen)
            start = [
                first + bisect.bisect_right(range(first, index), limit, key=functools.partial(self._record, run))
                for run, first, index in zip(self._runs, start, ahead, strict=True)
            ]
            yield start

    def _record(self, run: "_RunReader", index: int) -> bytes:
        """Reads the bytes of one record, not packed any more."""
        data = np.frombuffer(run.record(index), np.uint8)
        offsets = np.array([0, len(data)])
        record = EncodedRecords(np.zeros(1, np.uint16), np.zeros(1, np.uint64), data, offsets, packing=self._packing)
        return record.gather_all(np.zeros(1, np.int64))[0].tobytes()


def merge_batches(
    batches: Iterable[pa.RecordBatch],
    directory: str,
    splits: Sequence[str] = ("",),
    run_bytes: int = MAX_RUN_BYTES,
    once: bool = False,
) -> MergedRuns:
    """Merges batches of `RECORDS`, in any order, into one sorted sequence, by way of runs in a folder.

    Args:
      batches: the records; all splits are merged into one sequence.
      directory: the folder that runs are written to; they stay there.
      splits: the names of the splits, by their numbers.
      run_bytes: bytes of records that are sorted at once, both in writing and in reading.
      once: see `MergedRuns`.
    """
    writer = RunWriter(directory, splits, run_bytes, run_bytes)
    runs = [run for batch in batches for run in writer.add(batch)]
    return MergedRuns([*runs, *writer.flush()], None if run_bytes == MAX_RUN_BYTES else run_bytes, once)


@dataclasses.dataclass(frozen=True)
class _Span:
    """The records of a run from one index to another."""

    run: "_RunReader"
    first: int
    last: int


def _in_order(spans: Sequence[_Span]) -> list[_Span] | None:
    """Cuts spans between blocks so that keys ascend from each span to the next; returns None if blocks overlap.

    Blocks are ordered by their first keys; neighbouring blocks of one span stay together::

        span A            keys 1-3                       8-9
        span B                      4-5       6-7
        heads and tails   head,tail head      tail       head,tail
        result            A 1-3     B 4-7                A 8-9
    """
    # Shuffled runs all overlap each other, so checking two of them first is cheaper.
    if len(spans) > 2 and _in_order(spans[:2]) is None:
        return None
    blocks = [span.run.blocks_of(span.first, span.last) for span in spans]
    owners = np.repeat(np.arange(len(spans)), [len(keys) for keys, *_ in blocks])
    first_keys, last_keys, firsts, lasts = map(np.concatenate, zip(*blocks, strict=True))
    order = np.argsort(first_keys)
    if (first_keys[order[1:]] <= last_keys[order[:-1]]).any():
        return None
    heads = np.flatnonzero(np.diff(owners[order], prepend=-1))
    tails = np.append(heads[1:], len(order)) - 1
    return [
        _Span(spans[owners[head]].run, int(firsts[head]), int(lasts[tail]))
        for head, tail in zip(order[heads], order[tails], strict=True)
    ]


class _RunReader:
    """Reads ranges of one run; the file is open only while it is read."""

    def __init__(self, run: Run):
        self._run = run
        self._spent: tuple[int, int] | None = None
        self._known_block = -1
        self._known_keys: Keys = np.zeros(0, np.uint64)

    @property
    def first_keys(self) -> Keys:
        """The first key of each block."""
        return self._run.first_keys

    def count_below(self, key: int) -> int:
        """Counts the records with a smaller key, which is the index of the first record with `key` or a greater one."""
        block = self._blocks_below(key) - 1
        if block < 0:
            return 0
        if key > int(self._run.last_keys[block]):
            return int(self._run.records[block + 1])
        return int(self._run.records[block] + self._keys_of(block).searchsorted(np.uint64(key)))

    def _blocks_below(self, key: int) -> int:
        """Counts the blocks that start below `key`."""
        if key >= KEYS_END:
            return len(self._run.first_keys)
        return int(self._run.first_keys.searchsorted(np.uint64(key)))

    def _keys_of(self, block: int) -> Keys:
        """Reads the keys of a block. It keeps the last block's, since the next shard begins where this one ends."""
        if block != self._known_block:
            self._known_keys = self._keys(int(self._run.records[block]), int(self._run.records[block + 1]))
            self._known_block = block
        return self._known_keys

    def keys_between(self, low: int, high: int) -> Keys:
        """Reads the keys in a range."""
        return self._keys(self.count_below(low), self.count_below(high))

    def _keys(self, first: int, last: int) -> Keys:
        with self._open() as file:
            return self._section(file, 0, first, last, np.uint64)

    def blocks(self, low: int, high: int) -> tuple[Keys, Ints]:
        """Returns first key and bytes of each block that starts in a range of keys."""
        first, last = self._blocks_below(low), self._blocks_below(high)
        return self._run.first_keys[first:last], np.diff(self._run.bytes[first : last + 1])

    def blocks_of(self, first: int, last: int) -> tuple[Keys, Keys, Ints, Ints]:
        """Returns first key, last key, first index and end of the blocks between two indices."""
        begin, end = self._block_of(first), self._block_of(last - 1) + 1
        firsts, lasts = self._run.records[begin:end], self._run.records[begin + 1 : end + 1]
        keys = self._run.first_keys[begin:end], self._run.last_keys[begin:end]
        return *keys, np.maximum(firsts, first), np.minimum(lasts, last)

    def bytes_around(self, first: int, last: int) -> int:
        """Returns the total bytes of the blocks that contain the indices from `first` to `last`."""
        return int(self._run.bytes[self._block_of(last - 1) + 1] - self._run.bytes[self._block_of(first)])

    def index_after(self, index: int, size: int) -> int:
        """Returns the end of a block that is about `size` bytes behind `index`."""
        block = self._block_of(index)
        after = int(self._run.bytes.searchsorted(self._run.bytes[block] + size, side="right")) - 1
        return int(self._run.records[max(after, block + 1)])

    def _block_of(self, index: int) -> int:
        """Returns the block that contains this index; the last block for the end of the run."""
        block = int(self._run.records.searchsorted(index, side="right")) - 1
        return min(block, len(self._run.first_keys) - 1)

    def record(self, index: int) -> bytes:
        """Reads the bytes of one record."""
        with self._open() as file:
            start, end = self._offsets(file, index, index + 1).tolist()
            out = np.empty(end - start, np.uint8)
            file.seek(start)
            read_into(file, out)
            return out.tobytes()

    def read(self, first: int, last: int, out: Bytes) -> EncodedRecords:
        """Reads the records from one index to another, and their bytes into `out`."""
        with self._open() as file:
            keys = self._section(file, 0, first, last, np.uint64)
            offsets = self._offsets(file, first, last)
            file.seek(int(offsets[0]))
            data = out[: offsets[-1] - offsets[0]]
            read_into(file, data)
            self._spend(int(offsets[0]), int(offsets[-1]))
            times = self._section(file, 2, first, last, np.int64) if self._run.has_times else None
        return EncodedRecords(np.zeros(last - first, np.uint16), keys, data, offsets - offsets[0], times)

    def copy(self, first: int, last: int, sink: RecordSink) -> None:
        """Copies the records from one index to another to `sink`."""
        with self._open() as file:
            offsets = self._offsets(file, first, last)
            sink.copy_records(file, offsets)
            self._spend(int(offsets[0]), int(offsets[-1]))

    def _spend(self, start: int, end: int) -> None:
        """Records a range of bytes as read; it must follow the one read before."""
        self._spent = (self._spent[0] if self._spent else start, end)

    def discard(self, at_least: int = 0) -> None:
        """Frees the disk space of what was read since the last call, if that is at least so many bytes."""
        if self._spent and self._spent[1] - self._spent[0] >= at_least:
            with self._open("r+") as file:
                kernel_runs.discard(file.fileno(), *self._spent)
            self._spent = None

    def times(self, first: int, last: int) -> Ints | None:
        """Reads the event times from one index to another; None if the run has none."""
        if not self._run.has_times:
            return None
        with self._open() as file:
            return self._section(file, 2, first, last, np.int64)

    def _open(self, mode: str = "r") -> io.FileIO:
        return io.FileIO(self._run.path, mode)

    def _offsets(self, file: io.FileIO, first: int, last: int) -> Ints:
        return self._section(file, 1, first, last + 1, np.int64)

    def _section(self, file: io.FileIO, number: int, first: int, last: int, dtype: Any) -> npt.NDArray[Any]:
        """Reads a part of section 0 (keys), 1 (offsets) or 2 (event times); all items have 8 bytes."""
        count = int(self._run.records[-1])
        # The sections lie behind the data. Offsets have one item more, so section 2 begins one item later.
        slot = number * count + (number == 2) + first
        file.seek(int(self._run.bytes[-1]) + 8 * slot)
        out = np.empty(last - first, dtype)
        read_into(file, out)
        return out
