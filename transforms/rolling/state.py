"""Keeps the state of a bucket of keys on a stream: rows that wait for the watermark, and the history of released rows.

Beam's state is rewritten only when half of it is no longer of use, so each row is written a few times, however long the
windows are. A copy is kept in memory, so nothing need be read back. A token that changes with every change says whether
the copy still matches the state.
"""

import dataclasses
import datetime
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import concat_alike, set_column, split_batch, without_notes
from penstock.io.beam.durations import micros
from penstock.transforms.rolling.rows import HASH, TIME, Rolling, event_micros, event_schema, events_of
from penstock.transforms.rolling.windows import feature_columns

Mask = npt.NDArray[np.bool_]

# State with fewer rows than this is not worth rewriting.
_SMALL = 4096

_NEVER = -(1 << 63)


class Cell(Protocol):
    """A value in Beam's state."""

    def read(self) -> bytes | None:
        """Returns what was written; None when nothing was."""

    def write(self, value: bytes) -> None:
        """Replaces the value."""


class Bag(Protocol):
    """A bag of batches in Beam's state."""

    def read(self) -> Iterable[pa.RecordBatch]:
        """Returns all that was added, in any order."""

    def add(self, value: pa.RecordBatch) -> None:
        """Adds a batch."""

    def clear(self) -> None:
        """Removes all batches."""


@dataclasses.dataclass(frozen=True)
class State:
    """Holds the state cells of a bucket."""

    mark: Cell
    waiting: Bag
    history: Bag


@dataclasses.dataclass(frozen=True)
class Mark:
    """What is known of a bucket without reading its rows.

    Attributes:
      token: changes with each change of the state.
      released: rows before this time (microseconds) have gone out; a row before it that comes now is late.
      waiting: the number of rows in the bag of waiting rows, including those that went out since it was written.
      history: the number of events in the bag of the history, including those that are too old.
      live: the number of events that were of use when that bag was written.
    """

    token: bytes = bytes(16)
    released: int = _NEVER
    waiting: int = 0
    history: int = 0
    live: int = 0

    def to_bytes(self) -> bytes:
        """Packs the mark into 48 bytes."""
        return struct.pack("<16s4q", self.token, self.released, self.waiting, self.history, self.live)

    @classmethod
    def from_bytes(cls, data: bytes | None) -> Self:
        """Unpacks what `to_bytes` packed; returns the first mark for None."""
        return cls() if data is None else cls(*struct.unpack("<16s4q", data))


class History:
    """Holds events by key, in pieces sorted by the hash of the key. Each piece is larger than the next."""

    def __init__(self, schema: pa.Schema):
        self._schema = schema
        self._pieces: list[pa.RecordBatch] = []

    def add(self, events: pa.RecordBatch) -> None:
        """Adds events, in any order."""
        self._pieces.append(_by_key(events))
        while len(self._pieces) > 1 and self._pieces[-2].num_rows < 2 * self._pieces[-1].num_rows:
            last = self._pieces.pop()
            self._pieces[-1] = _by_key(pa.concat_batches([self._pieces[-1], last]))

    def of_keys(self, hashes: npt.NDArray[np.uint64]) -> pa.RecordBatch:
        """Returns the events whose keys have one of these hashes, and perhaps a few others."""
        wanted = np.unique(hashes)
        parts = [_of_keys(piece, wanted) for piece in self._pieces]
        return pa.concat_batches([_empty(self._schema), *parts])

    def prune(self, released: int, rolling: Rolling) -> pa.RecordBatch:
        """Drops the events that no row from `released` on can see, and returns the rest."""
        events = _by_key(pa.concat_batches([_empty(self._schema), *self._pieces]))
        events = events.filter(pa.array(_seen_from(events, released, rolling)))
        self._pieces = [events]
        return events


def _empty(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)


def _by_key(events: pa.RecordBatch) -> pa.RecordBatch:
    order = np.lexsort((events.column(TIME).to_numpy(), events.column(HASH).to_numpy()))
    return events.take(pa.array(order))


def _of_keys(piece: pa.RecordBatch, hashes: npt.NDArray[np.uint64]) -> pa.RecordBatch:
    column = piece.column(HASH).to_numpy()
    starts, ends = (np.searchsorted(column, hashes, side=side) for side in ("left", "right"))
    counts = ends - starts
    firsts = np.cumsum(counts) - counts
    # Join the ranges [start, end) to one array of indices: an arange, shifted in each range to its start.
    rows = np.repeat(starts - firsts, counts) + np.arange(counts.sum())
    return piece.take(pa.array(rows))


def _seen_from(events: pa.RecordBatch, released: int, rolling: Rolling) -> Mask:
    """Marks the events that a row from time `released` on can see; `events` are sorted by (hash of the key, time).

    An event too old for all other features can still be seen as the last of its key. It is, unless a younger event of
    its key is too old as well.
    """
    hashes, times = events.column(HASH).to_numpy(), events.column(TIME).to_numpy()
    old = times <= released - rolling.aggregate_window
    same = np.append(hashes[1:] == hashes[:-1], False)
    for name in rolling.key:
        codes = events.column(f"key.{name}").dictionary_encode().indices.fill_null(-1).to_numpy()
        same &= np.append(codes[1:] == codes[:-1], False)
    followed = same & np.append(old[1:], False)
    return ~old | (~followed & (times > released - rolling.last_window))


class TimeSpan(NamedTuple):
    """The first and the last of some times, in microseconds."""

    first: int
    last: int


class _Waiting:
    """A waiting batch, with the times of its rows. Its notes go out with the first of them."""

    def __init__(self, batch: pa.RecordBatch, times: npt.NDArray[np.int64]):
        self.batch = batch
        self.times = times
        self.first = int(times.min())
        self.last = int(times.max())

    def before(self, time: int) -> pa.RecordBatch:
        """Returns the rows before a time."""
        return self.batch if self.last < time else self.batch.filter(pa.array(self.times < time))

    def since(self, time: int) -> pa.RecordBatch:
        """Returns the rows from a time on."""
        return self.batch if self.first >= time else without_notes(self.batch).filter(pa.array(self.times >= time))


class Bucket:
    """The rows of some keys: those that wait, and the history of those that went out.

    Attributes:
      mark: what is known without the rows.
      holds: the time for which a timer is set, that of the first waiting row; None if it is not known.
    """

    def __init__(self, rolling: Rolling, lateness: datetime.timedelta):
        self.holds: int | None = None
        self._rolling = rolling
        self._lateness = micros(lateness)
        self._waiting: list[_Waiting] = []
        self._history = History(event_schema(rolling))
        self.mark = Mark()

    @classmethod
    def load(cls, state: State, rolling: Rolling, lateness: datetime.timedelta) -> Self:
        """Loads a bucket from its state."""
        bucket = cls(rolling, lateness)
        bucket.mark = Mark.from_bytes(state.mark.read())
        for batch in state.waiting.read():
            if batch.num_rows:
                bucket._wait(_Waiting(batch, event_micros(batch)).since(bucket.mark.released))
        for events in state.history.read():
            bucket._history.add(events)
        return bucket

    @property
    def waits(self) -> TimeSpan | None:
        """The first and the last time of the waiting rows; None when none waits."""
        if not self._waiting:
            return None
        return TimeSpan(min(waiting.first for waiting in self._waiting), max(waiting.last for waiting in self._waiting))

    def add(self, batch: pa.RecordBatch, state: State) -> "Due | None":
        """Adds rows; returns those that come late, which are due at once."""
        late = event_micros(batch) < self.mark.released
        waiting = batch.filter(pa.array(~late)) if late.any() else batch
        if waiting.num_rows:
            self._wait(waiting)
            state.waiting.add(waiting)
            self._change(state, waiting=self.mark.waiting + waiting.num_rows)
        if not late.any():
            return None
        batch = without_notes(batch) if waiting.num_rows else batch
        return self._send([batch.filter(pa.array(late))], state, late=True)

    def release(self, until: int, state: State) -> "Due | None":
        """Returns the rows before a time, which are now due."""
        due = [waiting.before(until) for waiting in self._waiting if waiting.first < until]
        left = [waiting.since(until) for waiting in self._waiting if waiting.last >= until]
        self._waiting = []
        for batch in left:
            self._wait(batch)
        self._change(state, released=max(until, self.mark.released))
        self._write_waiting(state)
        return self._send(due, state, late=False) if due else None

    def _wait(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._waiting.append(_Waiting(batch, event_micros(batch)))

    def _send(self, batches: Sequence[pa.RecordBatch], state: State, late: bool) -> "Due":
        batches = list(concat_alike(batches))
        events = pa.concat_batches([events_of(batch, self._rolling) for batch in batches])
        history = self._history.of_keys(events.column(HASH).to_numpy())
        self._history.add(events)
        state.history.add(events)
        self._change(state, history=self.mark.history + events.num_rows)
        self._write_history(state)
        return Due(batches, events, history, late)

    def _write_waiting(self, state: State) -> None:
        live = sum(waiting.batch.num_rows for waiting in self._waiting)
        if live and self.mark.waiting < 2 * live + _SMALL:
            return
        state.waiting.clear()
        for whole in concat_alike([waiting.batch for waiting in self._waiting]):
            for batch in split_batch(whole):
                state.waiting.add(batch)
        self._change(state, waiting=live)

    def _write_history(self, state: State) -> None:
        if self.mark.history < 2 * self.mark.live + _SMALL:
            return
        events = self._history.prune(self.mark.released - self._lateness, self._rolling)
        state.history.clear()
        for piece in split_batch(events, max_rows=events.num_rows):
            state.history.add(piece)
        self._change(state, history=events.num_rows, live=events.num_rows)

    def _change(self, state: State, **changes: Any) -> None:
        self.mark = dataclasses.replace(self.mark, token=os.urandom(16), **changes)
        state.mark.write(self.mark.to_bytes())


@dataclasses.dataclass(frozen=True)
class Due:
    """Rows that go out, and the events that they see.

    Attributes:
      batches: the rows.
      events: the events of these rows.
      history: earlier events of their keys.
      late: whether the rows came late.
    """

    batches: Sequence[pa.RecordBatch]
    events: pa.RecordBatch
    history: pa.RecordBatch
    late: bool


def send(dues: Sequence[Due], rolling: Rolling) -> Iterator[pa.RecordBatch]:
    """Yields the rows with their features.

    Each bucket may be due only once here: of two dues of one bucket, the rows of one would be seen twice.
    """
    if not dues:
        return
    events = pa.concat_batches([due.events for due in dues])
    history = pa.concat_batches([due.history for due in dues])
    late = np.repeat([due.late for due in dues], [due.events.num_rows for due in dues])
    columns = feature_columns(history, events, rolling, late)
    yield from with_features([batch for due in dues for batch in due.batches], columns, rolling)


def with_features(
    batches: Sequence[pa.RecordBatch], columns: Sequence[pa.Array], rolling: Rolling
) -> Iterator[pa.RecordBatch]:
    """Yields the batches with their features; `columns` hold those of all rows, one batch after the other."""
    start = 0
    for batch in batches:
        for feature, column in zip(rolling.features, columns, strict=True):
            batch = set_column(batch, feature.name, column.slice(start, batch.num_rows))
        start += batch.num_rows
        yield batch
