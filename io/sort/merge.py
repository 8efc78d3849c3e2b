"""The merge of sorted runs by ranges of keys, in bounded memory.

Runs are read in pieces, not mapped: mapped pages would count as the process's memory.
"""

import bisect
import dataclasses
import io
import itertools
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
    RecordSink,
    concat_records,
    read_into,
    reorder_records,
    sorted_order,
)
from penstock.io.sort.runs import MAX_RUN_BYTES, Run, RunWriter

KEYS_END = 1 << 64

_MIN_PIECE_BYTES = 8 << 20
# What a piece should have of each run, so that there are few reads.
_READ_BYTES = 128 << 10
# A file system takes its time for each hole, half a millisecond for ext4: they are few and large.
_DISCARD_BYTES = 8 << 20


@dataclasses.dataclass(frozen=True)
class Written:
    """What went into a shard: its records, and the least and greatest event time in microseconds, if there is one."""

    records: int = 0
    times: tuple[int, int] | None = None

    def __add__(self, other: "Written") -> "Written":
        times = [time for pair in (self.times, other.times) if pair for time in pair]
        return Written(self.records + other.records, (min(times), max(times)) if times else None)


def _written(records: int, times: Ints | None) -> Written:
    known = np.zeros(0, np.int64) if times is None else times[times != NO_TIME]
    return Written(records, (int(known.min()), int(known.max())) if len(known) else None)


class MergedRuns:
    """Several runs read as one sorted sequence of records, by ranges of keys.

    With `once`, what `write` has written is gone from the runs: its memory in the page cache serves what is written,
    and the disk never holds all records twice.
    """

    def __init__(self, runs: Sequence[Run], max_piece_bytes: int | None = None, once: bool = False):
        self._runs = [_RunReader(run) for run in runs]
        self._once = once
        if max_piece_bytes is None:
            max_piece_bytes = min(MAX_RUN_BYTES, max(_MIN_PIECE_BYTES, len(runs) * _READ_BYTES))
        self._max_piece_bytes = max_piece_bytes
        self._buffer = np.empty(0, np.uint8)

    def count_below(self, key: int) -> int:
        """Records with a smaller key."""
        return sum(run.count_below(key) for run in self._runs)

    def key_at(self, rank: int) -> int:
        """The least key that has more than `rank` records up to and with it; `KEYS_END` for none."""
        if rank >= self.count_below(KEYS_END):
            return KEYS_END
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
                places = zip(self._runs, start, end, strict=True)
                spans = [_Span(*place) for place in places if place[1] < place[2]]
                written += self._write_piece(spans, sink)
                if self._once:
                    for span in spans:
                        span.run.discard(_DISCARD_BYTES)
            if self._once:
                for run in self._runs:
                    run.discard()
        return written

    def pieces(self, low: int = 0, high: int = KEYS_END) -> Iterator[EncodedRecords]:
        """The records with `low` <= key < `high`, sorted, about `max_piece_bytes` at a time; they stay in the runs.

        A piece lies in memory that the next one takes.
        """
        if not self._runs or low >= high:
            return
        for start, end in itertools.pairwise(self._cuts(low, high)):
            spans = [_Span(*place) for place in zip(self._runs, start, end, strict=True) if place[1] < place[2]]
            if spans:
                records = self._read(spans)
                order = sorted_order(records)
                yield records if order is None else reorder_records(records, order)

    def _write_piece(self, spans: Sequence["_Span"], sink: RecordSink) -> Written:
        ordered = spans if len(spans) < 2 else _in_order(spans)
        if ordered is None:
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
        """The records of the spans, one span after the other, in the buffer."""
        size = sum(span.run.bytes_around(span.first, span.last) for span in spans)
        if size > len(self._buffer):
            self._buffer = np.empty(max(size, self._max_piece_bytes), np.uint8)
        parts: list[EncodedRecords] = []
        filled = 0
        for span in spans:
            parts.append(span.run.read(span.first, span.last, self._buffer[filled:]))
            filled += parts[-1].nbytes
        return concat_records(parts, self._buffer)

    def _cuts(self, low: int, high: int) -> Iterator[Sequence[int]]:
        """Where pieces begin and end: a place in each run."""
        keys = self._cut_keys(low, high)
        places = [run.count_below(keys[0]) for run in self._runs]
        yield places
        for start, end in itertools.pairwise(keys):
            first, places = places, [run.count_below(end) for run in self._runs]
            if end - start == 1:
                yield from self._cuts_of_one_key(first, places)
            yield places

    def _cut_keys(self, low: int, high: int) -> list[int]:
        """`low`, `high`, and between them keys with about `max_piece_bytes` from one to the next."""
        keys, sizes = map(np.concatenate, zip(*(run.blocks(low, high) for run in self._runs), strict=True))
        order = np.argsort(keys)
        ends = np.cumsum(sizes[order])
        size = int(ends[-1]) if len(ends) else 0
        found = keys[order[ends.searchsorted(np.arange(self._max_piece_bytes, size, self._max_piece_bytes))]]
        cuts = found.tolist()
        # A key that fills pieces is alone between two cuts.
        cuts += [key + 1 for key, after in itertools.pairwise(cuts) if key == after]
        return sorted({low, high, *(key for key in cuts if low < key < high)})

    def _cuts_of_one_key(self, start: Sequence[int], end: Sequence[int]) -> Iterator[Sequence[int]]:
        """Cuts between the records of one key, by their bytes: the same row again and again can fill any piece.

        Each step looks ahead in every run by its share of a piece. What was not looked at yet is not less than the last
        record that was, so that the least of these last records, the limit, bounds what is known to be complete::

            run 0   a a b b c d | d e f        looked at up to d
            run 1   a c c e e   | e g          looked at up to e
            run 2   b d                        looked at as a whole: it has no say
            limit   d, so that the next piece is a a b b c d, a c c and b d, sorted

        The d behind the bar comes with the piece after that: it is not less than the limit either.
        """
        share = self._max_piece_bytes // max(1, sum(first < last for first, last in zip(start, end, strict=True)))
        while True:
            ahead = [
                min(run.place_after(first, share), last)
                for run, first, last in zip(self._runs, start, end, strict=True)
            ]
            seen = [
                run.record(place - 1) for run, place, last in zip(self._runs, ahead, end, strict=True) if place < last
            ]
            if not seen:
                return
            limit = min(seen)
            start = [
                first + bisect.bisect_right(range(first, place), limit, key=run.record)
                for run, first, place in zip(self._runs, start, ahead, strict=True)
            ]
            yield start


def merge_batches(
    batches: Iterable[pa.RecordBatch],
    directory: str,
    splits: Sequence[str] = ("",),
    run_bytes: int = MAX_RUN_BYTES,
    once: bool = False,
) -> MergedRuns:
    """Batches of `RECORDS`, in any order, as one sorted sequence, by way of runs in a folder.

    Args:
      batches: the records; those of several splits are one sequence.
      directory: where the runs are written; they stay there.
      splits: the names of the splits, by their numbers.
      run_bytes: bytes of records that are sorted at once, when they are written and when they are read.
      once: as of `MergedRuns`.
    """
    writer = RunWriter(directory, splits, run_bytes, run_bytes)
    runs = [run for batch in batches for run in writer.add(batch)]
    return MergedRuns([*runs, *writer.flush()], None if run_bytes == MAX_RUN_BYTES else run_bytes, once)


@dataclasses.dataclass(frozen=True)
class _Span:
    """The records of a run from one place to another."""

    run: "_RunReader"
    first: int
    last: int


def _in_order(spans: Sequence[_Span]) -> list[_Span] | None:
    """The spans, cut between blocks, such that keys ascend from each to the next; None where blocks overlap.

    Blocks are ordered by their first keys; neighbours of one span stay together::

        span A            keys 1-3                       8-9
        span B                      4-5       6-7
        heads and tails   head,tail head      tail       head,tail
        result            A 1-3     B 4-7                A 8-9
    """
    # Shuffled runs overlap, all of them: two tell it at less expense.
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
    """Reads ranges of one run; the file is open only while one is read."""

    def __init__(self, run: Run):
        self._run = run
        self._spent: tuple[int, int] | None = None
        self._known_block = -1
        self._known_keys: Keys = np.zeros(0, np.uint64)

    @property
    def first_keys(self) -> Keys:
        """Of each block."""
        return self._run.first_keys

    def count_below(self, key: int) -> int:
        """Records with a smaller key: the place of the first of the others."""
        block = self._blocks_below(key) - 1
        if block < 0:
            return 0
        if key > int(self._run.last_keys[block]):
            return int(self._run.records[block + 1])
        return int(self._run.records[block] + self._keys_of(block).searchsorted(np.uint64(key)))

    def _blocks_below(self, key: int) -> int:
        """Blocks that start below `key`."""
        if key >= KEYS_END:
            return len(self._run.first_keys)
        return int(self._run.first_keys.searchsorted(np.uint64(key)))

    def _keys_of(self, block: int) -> Keys:
        """The keys of a block; the last ones are kept, since a shard ends where the next begins."""
        if block != self._known_block:
            self._known_keys = self._keys(int(self._run.records[block]), int(self._run.records[block + 1]))
            self._known_block = block
        return self._known_keys

    def keys_between(self, low: int, high: int) -> Keys:
        """The keys in a range."""
        return self._keys(self.count_below(low), self.count_below(high))

    def _keys(self, first: int, last: int) -> Keys:
        with self._open() as file:
            return self._section(file, 0, first, last, np.uint64)

    def blocks(self, low: int, high: int) -> tuple[Keys, Ints]:
        """First key and bytes of each block that starts in a range."""
        first, last = self._blocks_below(low), self._blocks_below(high)
        return self._run.first_keys[first:last], np.diff(self._run.bytes[first : last + 1])

    def blocks_of(self, first: int, last: int) -> tuple[Keys, Keys, Ints, Ints]:
        """First and last key, first place and end of the blocks between two places."""
        begin, end = self._block_of(first), self._block_of(last - 1) + 1
        firsts, lasts = self._run.records[begin:end], self._run.records[begin + 1 : end + 1]
        keys = self._run.first_keys[begin:end], self._run.last_keys[begin:end]
        return *keys, np.maximum(firsts, first), np.minimum(lasts, last)

    def bytes_around(self, first: int, last: int) -> int:
        """Bytes of the blocks between two places."""
        return int(self._run.bytes[self._block_of(last - 1) + 1] - self._run.bytes[self._block_of(first)])

    def place_after(self, place: int, size: int) -> int:
        """The end of a block that is about so many bytes further."""
        block = self._block_of(place)
        after = int(self._run.bytes.searchsorted(self._run.bytes[block] + size, side="right")) - 1
        return int(self._run.records[max(after, block + 1)])

    def _block_of(self, place: int) -> int:
        """The block with the record of this place; the last one for the end."""
        block = int(self._run.records.searchsorted(place, side="right")) - 1
        return min(block, len(self._run.first_keys) - 1)

    def record(self, place: int) -> bytes:
        """The bytes of one record."""
        with self._open() as file:
            start, end = self._offsets(file, place, place + 1).tolist()
            out = np.empty(end - start, np.uint8)
            file.seek(start)
            read_into(file, out)
            return out.tobytes()

    def read(self, first: int, last: int, out: Bytes) -> EncodedRecords:
        """The records from one place to another, their bytes in `out`."""
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
        """Writes the records from one place to another."""
        with self._open() as file:
            offsets = self._offsets(file, first, last)
            sink.copy_records(file, offsets)
            self._spend(int(offsets[0]), int(offsets[-1]))

    def _spend(self, start: int, end: int) -> None:
        """Notes what was read, which follows what was read before."""
        self._spent = (self._spent[0] if self._spent else start, end)

    def discard(self, at_least: int = 0) -> None:
        """Gives back what has been read since the last time, if that is so many bytes."""
        if self._spent and self._spent[1] - self._spent[0] >= at_least:
            with self._open("r+") as file:
                kernel_runs.discard(file.fileno(), *self._spent)
            self._spent = None

    def times(self, first: int, last: int) -> Ints | None:
        """The event times from one place to another."""
        if not self._run.has_times:
            return None
        with self._open() as file:
            return self._section(file, 2, first, last, np.int64)

    def _open(self, mode: str = "r") -> io.FileIO:
        return io.FileIO(self._run.path, mode)

    def _offsets(self, file: io.FileIO, first: int, last: int) -> Ints:
        return self._section(file, 1, first, last + 1, np.int64)

    def _section(self, file: io.FileIO, number: int, first: int, last: int, dtype: Any) -> npt.NDArray[Any]:
        """A part of the keys (0), the offsets (1) or the event times (2), all of 8 bytes."""
        count = int(self._run.records[-1])
        place = number * count + (number == 2) + first
        file.seek(int(self._run.bytes[-1]) + 8 * place)
        out = np.empty(last - first, dtype)
        read_into(file, out)
        return out
