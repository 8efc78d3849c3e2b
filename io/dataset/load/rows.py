"""The rows of ranges of row numbers, in order, across the shards of a split."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from penstock.io.columns.of_numpy import array_of
from penstock.io.dataset.load.ahead import Source, ahead_of_all
from penstock.io.dataset.load.order import ALL_ROWS, Shuffle, Turns, shuffled
from penstock.io.dataset.load.shards.contents import StoredShard
from penstock.io.dataset.load.shards.ranges import Ranges, cut, rows_of, total_rows
from penstock.io.dataset.load.shards.readers import Block, Loss, ShardReader, asked
from penstock.io.errors import InputError


class Piece(NamedTuple):
    """The next rows of a sequence.

    Attributes:
      planned: how many rows of the sequence these are.
      batch: those that could be read.
      at: int64, which of the planned rows these are, ascending.
    """

    planned: int
    batch: pa.RecordBatch
    at: np.ndarray


# From the place of a row in a sequence, and that of the row behind the last one, to which of them are wanted: int64,
# ascending, from the first one. Others are neither decoded nor lost, where they are damaged.
Wanted: TypeAlias = Callable[[int, int], np.ndarray]


def _all(first: int, last: int) -> np.ndarray:
    return np.arange(last - first)


@dataclasses.dataclass(frozen=True)
class AtOnce:
    """Shards that are read at once, by a thread each.

    Attributes:
      shards: at most; 1 for no threads.
      max_bytes: of columns that are read and not taken yet.
      max_stored_bytes: of what the shards that are read hold as it is stored.
    """

    shards: int
    max_bytes: int = 0
    max_stored_bytes: int = 0


ONE_BY_ONE = AtOnce(1)

# A file of a store that is read in order is held in up to four pieces (`penstock.io.files.stores.reading`).
_MOST_HELD_BYTES = 32 << 20


class _Run(NamedTuple):
    """Ranges of a shard that follow each other in a sequence.

    Attributes:
      shard: the shard.
      ranges: rows of it.
      place: of the first one in the sequence.
    """

    shard: StoredShard
    ranges: Ranges
    place: int


def read_rows(
    reader: ShardReader,
    shards: Sequence[StoredShard],
    ranges: Ranges,
    unit: int = 1,
    wanted: Wanted = _all,
    at_once: AtOnce = ONE_BY_ONE,
) -> Iterator[Piece]:
    """Reads the rows of ranges, in their order; each shard is opened once for ranges that follow each other in it.

    Pieces end at multiples of `unit` rows, where that is no detour. `wanted` is asked by several threads, where several
    shards are read at once.

    Raises:
      InputError: for a shard that is damaged, or a record that is not of the schema, unless the reader may lose rows.
      DataError: for a shard that is missing, or has another size or number of records than the manifest says.
    """
    runs = _runs(shards, ranges)
    if at_once.shards == 1:
        for run in runs:
            yield from _read_run(reader, run, unit, wanted)
        return
    sources = [
        Source(functools.partial(_apart, reader, run, unit, wanted), min(run.shard.bytes, _MOST_HELD_BYTES))
        for run in runs
    ]
    for piece, losses in ahead_of_all(
        sources, lambda read: read[0].batch.nbytes, at_once.max_bytes, at_once.max_stored_bytes, at_once.shards
    ):
        for loss in losses:
            assert reader.lost is not None
            reader.lost(loss)
        yield piece


def _apart(reader: ShardReader, run: _Run, unit: int, wanted: Wanted) -> Iterator[tuple[Piece, list[Loss]]]:
    """Reads a run with what is lost beside the pieces, so that it is told in their order."""
    losses: list[Loss] = []
    own = reader if reader.lost is None else dataclasses.replace(reader, lost=losses.append)
    for piece in _read_run(own, run, unit, wanted):
        yield piece, losses[:]
        losses.clear()


def _runs(shards: Sequence[StoredShard], ranges: Ranges) -> list[_Run]:
    """Cuts a sequence where another shard begins, or one goes back in a shard."""
    starts = np.cumsum([0, *(shard.records for shard in shards)])
    ranges, numbers = _by_shard(ranges, starts)
    ends = np.flatnonzero((numbers[1:] != numbers[:-1]) | (ranges[1:, 0] < ranges[:-1, 0])) + 1
    runs, place = [], 0
    for begin, end in itertools.pairwise([0, *ends.tolist(), len(ranges)] if len(ranges) else []):
        number = int(numbers[begin])
        own = ranges[begin:end] - starts[number]
        runs.append(_Run(shards[number], own, place))
        place += total_rows(own)
    return runs


def _by_shard(ranges: Ranges, starts: np.ndarray) -> tuple[Ranges, np.ndarray]:
    """Cuts ranges where a shard ends; returns them, and int64, the shard of each."""
    first = np.searchsorted(starts, ranges[:, 0], side="right") - 1
    counts = np.searchsorted(starts, ranges[:, 1] - 1, side="right") - first
    begins = np.cumsum(counts) - counts
    numbers = np.repeat(first - begins, counts) + np.arange(int(counts.sum()))
    pieces = np.repeat(ranges, counts, axis=0)
    np.maximum(pieces[:, 0], starts[numbers], out=pieces[:, 0])
    np.minimum(pieces[:, 1], starts[numbers + 1], out=pieces[:, 1])
    has_rows = pieces[:, 0] < pieces[:, 1]
    return pieces[has_rows], numbers[has_rows]


def _read_run(reader: ShardReader, run: _Run, unit: int, wanted: Wanted) -> Iterator[Piece]:
    place, end = run.place, run.place + total_rows(run.ranges)

    def fitting(rows: int) -> int:
        return (place + rows) // unit * unit - place

    try:
        for block in reader.blocks(run.shard, run.ranges, fitting):
            rows = asked(block, run.ranges)
            if len(rows):
                chosen = wanted(place, place + len(rows))
                place += len(rows)
                yield _taken(block, rows, chosen, reader)
    except InputError as error:
        if reader.lost is None:
            raise
        reader.lost(Loss(len(wanted(place, end)), str(error)))
        yield Piece(end - place, _no_rows(reader.schema), np.zeros(0, np.int64))


def _taken(block: Block, rows: np.ndarray, chosen: np.ndarray, reader: ShardReader) -> Piece:
    if not len(chosen):
        return Piece(len(rows), _no_rows(reader.schema), chosen)
    found = block.take(rows if len(chosen) == len(rows) else rows[chosen])
    return Piece(len(rows), found.batch, chosen[found.at])


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def ordered_rows(
    reader: ShardReader,
    shards: Sequence[StoredShard],
    part: Ranges,
    start: int,
    shuffle: Shuffle | None,
    epoch: int,
    turns: Turns = ALL_ROWS,
    unit: int = 1,
    at_once: AtOnce = ONE_BY_ONE,
) -> Iterator[Piece]:
    """Reads the piece of a rank in the order in which it takes the rows, from the one that is number `start` on.

    Of the rows from there on, pieces have those of `turns` only. They are best taken in batches of `unit` rows.

    Raises:
      DataError: as `read_rows`.
    """
    total = total_rows(part)
    if shuffle is None and turns.workers == 1:
        yield from read_rows(reader, shards, cut(part, start, total), unit, at_once=at_once)
        return
    if shuffle is None:

        def wanted(first: int, last: int) -> np.ndarray:
            return np.flatnonzero(turns.has(np.arange(first, last)))

        yield from read_rows(reader, shards, cut(part, start, total), unit, wanted, at_once)
        return
    windows = _Windows(part, start, shuffle, epoch, turns, at_once.shards)
    found = read_rows(reader, shards, cut(part, windows.first, total), shuffle.buffer, windows.wanted, at_once)
    pieces = Pieces(found, reader.schema)
    for begin in range(windows.first, total, shuffle.buffer):
        order = windows.order(begin)
        window = pieces.read(len(order))
        place = np.full(len(order), -1)
        place[window.at] = np.arange(len(window.at))
        order = order[max(start - begin, 0) :]
        chosen = place[order]
        at = np.flatnonzero(chosen >= 0)
        yield Piece(len(order), window.batch.take(array_of(chosen[at])), at)


# Of orders of windows that are kept, beside two.
_MAX_KEPT_BYTES = 4 << 20


class _Windows:
    """The windows in which a rank shuffles its piece, from that of row number `start` on."""

    def __init__(self, part: Ranges, start: int, shuffle: Shuffle, epoch: int, turns: Turns, threads: int = 1):
        self.first = start - start % shuffle.buffer
        self._start = start
        self._buffer = shuffle.buffer
        self._turns = turns
        # Each thread reads in windows of its own.
        self._order = functools.lru_cache(2 + min(2 * (threads - 1), _MAX_KEPT_BYTES // (8 * shuffle.buffer)))(
            lambda begin: shuffled(rows_of(cut(part, begin, begin + shuffle.buffer)), shuffle, epoch)
        )

    def order(self, begin: int) -> np.ndarray:
        """Returns int64, the order in which the rows of the window that begins at a row are taken."""
        return self._order(begin)

    def wanted(self, first: int, last: int) -> np.ndarray:
        """Which rows of the sequence are taken, as `read_rows` asks for them: from the first window on."""
        first, last = first + self.first, last + self.first
        found = [np.zeros(0, np.int64)]
        for begin in range(first - first % self._buffer, last, self._buffer):
            order = self._order(begin)
            numbers = np.arange(len(order)) + (begin - self._start)
            is_wanted = np.empty(len(order), bool)
            is_wanted[order] = self._turns.has(numbers)
            low, high = max(first - begin, 0), min(last - begin, len(order))
            found.append(np.flatnonzero(is_wanted[low:high]) + (begin + low - first))
        return np.concatenate(found)


class Pieces:
    """Cuts a sequence of pieces anew."""

    def __init__(self, pieces: Iterator[Piece], schema: pa.Schema):
        self._pieces = pieces
        self._schema = schema
        self._piece = Piece(0, _no_rows(schema), np.zeros(0, np.int64))
        self._done = 0

    def part(self, planned: int) -> tuple[pa.RecordBatch, int, int]:
        """Returns the next planned rows as a part of a batch, its first row and its rows; fewer at the end.

        Parts of one piece are mostly those of one batch.
        """
        while planned and self._done == self._piece.planned and self._advance():
            pass
        piece, first = self._piece, self._done
        if first + planned <= piece.planned == len(piece.at):
            self._done = first + planned
            return piece.batch, first, planned
        batch = self.read(planned).batch
        return batch, 0, batch.num_rows

    def _advance(self) -> bool:
        """Goes on with the next piece; False if there is none."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._piece, self._done = piece, 0
        return True

    def read(self, planned: int) -> Piece:
        """Returns the next planned rows; fewer at the end."""
        batches: list[pa.RecordBatch] = []
        at: list[np.ndarray] = []
        count = 0
        while count < planned:
            if self._done == self._piece.planned and not self._advance():
                break
            first = self._done
            last = min(first + planned - count, self._piece.planned)
            low, high = np.searchsorted(self._piece.at, [first, last]).tolist()
            batches.append(self._piece.batch.slice(low, high - low))
            at.append(self._piece.at[low:high] + (count - first))
            count += last - first
            self._done = last
        if len(batches) == 1:
            return Piece(count, batches[0], at[0])
        return Piece(count, _joined(batches, self._schema), np.concatenate([*at, np.zeros(0, np.int64)]))


def _joined(batches: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    filled = [batch for batch in batches if batch.num_rows]
    return pa.concat_batches(filled) if filled else _no_rows(schema)
