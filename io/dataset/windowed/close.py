"""Closes windows: one step decides for all shards whether a row came on time, late, or too late.

This step gets only references, a few for each bundle. So one key can hold them, and the decision is the same for all
shards. Bounded input needs no clock: all of its rows are on time.

For unbounded input, the clock F is the greatest time of a timer that has fired. A chunk of window w that arrives when

* w.end > F is on time: it joins the pane that a timer at w.end closes;
* w.end <= F < w.end + lateness is late: it joins the pane that a timer at w.end + lateness closes with the window;
* w.end + lateness <= F is too late: its rows become dead letters.

::

    event time   ---- w.start ======== w.end ------------ w.end + lateness ------>
    F is here         on time            | late                 | too late

Rejects are filed in the window that is open when they arrive, so its manifest, which is written later, counts them.
Before the first timer has fired, nothing is late.

The same step holds the kinds of features against each other, since all windows share one schema
(`penstock.io.dataset.kinds`). Of rows that are too late, nothing is looked at.
"""

import dataclasses
import datetime
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from penstock.io.beam import progress
from penstock.io.beam.durations import ZERO, duration_text, micros
from penstock.io.beam.json_coder import JsonCoder, OneOf, register_json
from penstock.io.beam.windows import Windows
from penstock.io.dataset.kinds import KindGroup, SeenKinds, merge_kinds
from penstock.io.dataset.windowed.chunks import Chunk, InputRange, merge_ranges
from penstock.io.dataset.windowed.manifest import Pane
from penstock.io.dataset.windowed.schema_file import SchemaFile
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.reasons import Note, merge_notes

_LOGGER = logging.getLogger(__name__)

# A longer gap between two windows with rows is caused by the data (a wrong clock, old rows mixed with new ones), and is
# not filled.
_MAX_EMPTY_WINDOWS = 10_000

_KEY = 0


@register_json
class Arrival(OneOf):
    """What arrives for windows: chunks and dead-letter files."""


@dataclasses.dataclass(frozen=True)
class ChunkArrival(Arrival):
    """A chunk of records."""

    TAG = "chunk"

    chunk: Chunk


@dataclasses.dataclass(frozen=True)
class RejectsArrival(Arrival):
    """A dead-letter file."""

    TAG = "rejects"

    rejects: DeadLetterFile


@dataclasses.dataclass(frozen=True)
class PartRef:
    """Records in a chunk file."""

    path: str
    offset: int
    length: int


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to write: the number of its split, its own number, and its records."""

    split: int
    shard: int
    parts: tuple[PartRef, ...]


@dataclasses.dataclass(frozen=True)
class PaneHeader:
    """What is known about a pane when it closes.

    Attributes:
      shards: number of shards to write.
      rejects: number of dead-letter files that are filed in it.
      final: whether it is the last pane of its window.
      notes: what became of values of its rows.
    """

    shards: int
    rejects: int
    rows: int
    inputs: tuple[InputRange, ...]
    final: bool
    run_id: str
    notes: tuple[Note, ...] = ()


@register_json
class Task(OneOf):
    """A task of a window."""

    window: int


@dataclasses.dataclass(frozen=True)
class HeaderTask(Task):
    """Report the header of a pane that closes."""

    TAG = "header"

    window: int
    header: PaneHeader
    pane: Pane = "on_time"


@dataclasses.dataclass(frozen=True)
class WriteTask(Task):
    """Write a shard of a pane."""

    TAG = "shard"

    window: int
    shard: ShardTask
    pane: Pane = "on_time"


@dataclasses.dataclass(frozen=True)
class TooLateTask(Task):
    """File the rows of a chunk as dead letters, in the on-time pane of an open window."""

    TAG = "too_late"

    window: int
    too_late: Chunk


@dataclasses.dataclass(frozen=True)
class RejectsTask(Task):
    """File a dead-letter file in the on-time pane of the window."""

    TAG = "rejects"

    window: int
    rejects: DeadLetterFile


@dataclasses.dataclass(frozen=True)
class ClosingRules:
    """The rules by which windows close.

    Attributes:
      lateness: how long after its end a window accepts rows.
      empty_windows: whether to publish windows without rows that lie between windows with rows.
      splits: number of splits.
      num_shards: number of shards per split.
    """

    windows: Windows
    lateness: datetime.timedelta
    empty_windows: bool
    splits: int
    num_shards: int
    run_id: str

    def __str__(self) -> str:
        lateness = duration_text(self.lateness)
        return f"{self.windows} with lateness {lateness}, {self.splits} splits of {self.num_shards} shards"

    def end(self, window: int) -> int:
        """Returns the end of a window, by its start."""
        return self.windows.end(window)

    def empty_between(self, first: int, last: int) -> range:
        """Returns the empty windows to publish between two windows with rows; none if there are too many."""
        between = self.windows.between(first, last)
        if len(between) > _MAX_EMPTY_WINDOWS:
            _LOGGER.warning("a gap of %d windows before %s is not filled", len(between), self.windows.name(last))
        return between if self.empty_windows and len(between) <= _MAX_EMPTY_WINDOWS else range(0)

    def tasks(
        self, window: int, pane: Pane, chunks: Iterable[Chunk], rejects: int, final: bool, run_id: str
    ) -> Iterator[Task]:
        """Yields the tasks that close a pane: its header and its shards. The on-time pane gets every shard."""
        chunks = list(chunks)
        parts: dict[tuple[int, int], list[PartRef]] = {}
        if pane == "on_time":
            parts = {(split, shard): [] for split in range(self.splits) for shard in range(self.num_shards)}
        for chunk in chunks:
            for part in chunk.parts:
                ref = PartRef(chunk.path, part.offset, part.length)
                parts.setdefault((part.split, part.shard), []).append(ref)
        inputs = merge_ranges(item for chunk in chunks for item in chunk.inputs)
        rows = sum(chunk.rows for chunk in chunks)
        notes = merge_notes(note for chunk in chunks for note in chunk.notes)
        yield HeaderTask(window, PaneHeader(len(parts), rejects, rows, inputs, final, run_id, notes), pane)
        for (split, shard), refs in sorted(parts.items()):
            yield WriteTask(window, ShardTask(split, shard, tuple(refs)), pane)


@dataclasses.dataclass(frozen=True)
class OpenWindow:
    """A window whose last pane has not closed.

    Attributes:
      closed: whether its on-time pane has closed.
      rejects: number of dead-letter files that are filed in it.
    """

    closed: bool = False
    rejects: int = 0


@dataclasses.dataclass(frozen=True)
class ClockState:
    """The state of a `WindowClock`.

    Attributes:
      run_id: id of the first run; another run that continues from its savepoint keeps it.
      rules: the rules by which windows close, as text; a run that continues must have the same.
      fired: the greatest time of a timer that has fired, microseconds.
      windows: the open windows, by their start as text.
      filled: first and last window of a range without gaps.
      unfiled: dead-letter files that arrived before any time was known.
    """

    run_id: str
    rules: str
    fired: int | None = None
    windows: Mapping[str, OpenWindow] = dataclasses.field(default_factory=dict)
    filled: tuple[int, int] | None = None
    unfiled: tuple[DeadLetterFile, ...] = ()


class WindowClock:
    """Decides by event time to which pane an arrival belongs.

    Attributes:
      timers: the timers to set: tag -> microseconds.

    Raises:
      DataError: if the state is from a job with other rules.
    """

    def __init__(self, rules: ClosingRules, state: ClockState | None):
        state = state or ClockState(rules.run_id, str(rules))
        if state.rules != str(rules):
            raise DataError(
                f"the job that goes on from this savepoint had {state.rules}, this one has {rules}; leave them as they "
                "were, or begin in another folder"
            )
        self._rules = rules
        self._state = state
        self._windows = dict(state.windows)
        self._fired = state.fired
        self._filled = state.filled
        self._unfiled = state.unfiled
        self.timers: dict[str, int] = {}

    def state(self) -> ClockState:
        """Returns the state to store."""
        return ClockState(
            self._state.run_id, self._state.rules, self._fired, self._windows, self._filled, self._unfiled
        )

    def pane(self, window: int) -> Pane | None:
        """Returns the pane for rows of a window that arrive now; None if they are too late."""
        if self._is_past(window, self._rules.lateness):
            return None
        self._open(window)
        self._fill(window)
        return "late" if self._is_past(window, ZERO) else "on_time"

    def _is_past(self, window: int, lateness: datetime.timedelta) -> bool:
        return self._fired is not None and self._rules.end(window) + micros(lateness) <= self._fired

    def _open(self, window: int) -> None:
        if str(window) in self._windows:
            return
        self._windows[str(window)] = OpenWindow()
        self.timers[f"close {window}"] = self._rules.end(window)
        if self._rules.lateness:
            self.timers[f"final {window}"] = self._rules.end(window) + micros(self._rules.lateness)

    def _fill(self, window: int) -> None:
        if not self._rules.empty_windows:
            return
        # Fill the gap between `window` and the nearer end of the range [first, last], which has no gaps.
        first, last = self._filled or (window, window)
        low, high = (last, window) if window > last else (window, first)
        between = self._rules.empty_between(low, high) if low < high else range(0)
        for empty in between:
            if not self._is_past(empty, self._rules.lateness):
                self._open(empty)
        is_near = bool(between) or high - low <= micros(self._rules.windows.period)
        self._filled = (min(first, window), max(last, window)) if is_near else (window, window)

    def file_too_late(self) -> int:
        """Files rows that are too late in an open window, and returns that window."""
        return self._file(None)

    def file_rejects(self, rejects: DeadLetterFile) -> Iterator[Task]:
        """Files dead letters in an open window; they wait if no time is known yet."""
        time = rejects.time
        if time is None and self._fired is None and not self._windows:
            self._unfiled += (rejects,)
            self.timers["end"] = GlobalWindow().max_timestamp().micros
        else:
            yield RejectsTask(self._file(time), rejects)

    def file_unfiled(self) -> Iterator[Task]:
        """Files the dead letters that waited."""
        if self._unfiled and (self._fired is not None or self._windows):
            unfiled, self._unfiled = self._unfiled, ()
            for rejects in unfiled:
                yield RejectsTask(self._file(None), rejects)

    def _file(self, time: int | None) -> int:
        """Picks a window that ends after all timers that have fired, so its on-time pane is still open."""
        known = [moment for moment in (time, self._fired) if moment is not None]
        window = self._rules.windows.latest(max(known)) if known else min(map(int, self._windows))
        self._open(window)
        now = self._windows[str(window)]
        self._windows[str(window)] = dataclasses.replace(now, rejects=now.rejects + 1)
        return window

    def fire(self, tag: str, chunks: Iterable["KeptChunk"]) -> tuple[list[Task], list["KeptChunk"]]:
        """Returns the tasks of the pane that a timer closes, and the remaining chunks."""
        kind, _, start = tag.partition(" ")
        if kind == "end":
            return self._end(), list(chunks)
        window = int(start)
        final = kind == "final" or not self._rules.lateness
        pane: Pane = "late" if kind == "final" else "on_time"
        boundary = self._rules.end(window) + micros(self._rules.lateness if kind == "final" else ZERO)
        self._fired = boundary if self._fired is None else max(self._fired, boundary)
        now = self._windows[start]
        own: list[KeptChunk] = []
        left: list[KeptChunk] = []
        for kept in chunks:
            (own if (kept.chunk.window, kept.pane) == (window, pane) else left).append(kept)
        if final:
            del self._windows[start]
        else:
            self._windows[start] = dataclasses.replace(now, closed=True)
        rejects = now.rejects if pane == "on_time" else 0
        mine = (kept.chunk for kept in own)
        return list(self._rules.tasks(window, pane, mine, rejects, final, self._state.run_id)), left

    def _end(self) -> list[Task]:
        """Returns the tasks at the end of a stream in which no row ever had a time."""
        unfiled, self._unfiled = self._unfiled, ()
        window = self._rules.windows.latest(0)
        tasks: list[Task] = [RejectsTask(window, rejects) for rejects in unfiled]
        closing = self._rules.tasks(window, "on_time", (), len(tasks), True, self._state.run_id)
        return [*tasks, *closing] if tasks else []


@dataclasses.dataclass(frozen=True)
class KeptChunk:
    """A chunk that waits until its pane closes."""

    pane: Pane
    chunk: Chunk


def close_bounded(rules: ClosingRules, arrivals: Iterable[Arrival]) -> Iterator[Task]:
    """Closes all windows of bounded input: all rows are on time, and rejects without a time go to the first window."""
    chunks: dict[int, list[Chunk]] = {}
    rejects: dict[int, list[DeadLetterFile]] = {}
    untimed = []
    for arrival in arrivals:
        match arrival:
            case ChunkArrival(chunk):
                chunks.setdefault(chunk.window, []).append(chunk)
            case RejectsArrival(DeadLetterFile(time=None) as file):
                untimed.append(file)
            case RejectsArrival(DeadLetterFile(time=int(time)) as file):
                rejects.setdefault(rules.windows.latest(time), []).append(file)
    if untimed:
        rejects.setdefault(min([*chunks, *rejects], default=rules.windows.latest(0)), []).extend(untimed)
    starts = sorted({*chunks, *rejects})
    empty = [start for pair in itertools.pairwise(starts) for start in rules.empty_between(*pair)]
    for start in sorted([*starts, *empty]):
        own = sorted(rejects.get(start, ()), key=lambda file: file.path)
        yield from (RejectsTask(start, file) for file in own)
        found = sorted(chunks.get(start, ()), key=lambda chunk: chunk.path)
        yield from rules.tasks(start, "on_time", found, len(own), True, rules.run_id)


@dataclasses.dataclass(eq=False)
class CloseWindows(beam.PTransform[beam.PCollection[Arrival], beam.PCollection[Task]]):
    """Collects arrivals in the global window, and outputs the tasks when windows close.

    A feature of two kinds fails the pipeline.

    Attributes:
      schema: writes the schema of what has come; None if the dataset has one already.
    """

    rules: ClosingRules
    schema: SchemaFile | None = None

    def expand(self, arrivals: beam.PCollection[Arrival]) -> beam.PCollection[Task]:
        """Uses one key, with timers for unbounded input, and a GroupByKey for bounded input."""
        keyed = arrivals | "OneKey" >> beam.Map(_with_one_key).with_output_types(tuple[int, Arrival])
        if arrivals.is_bounded:
            grouped = keyed | "Collect" >> beam.GroupByKey()
            return grouped | "Close" >> beam.FlatMap(_close_bounded, self.rules, self.schema).with_output_types(Task)
        return keyed | "CloseByTime" >> beam.ParDo(_CloseFn(self.rules, self.schema)).with_output_types(Task)


def _with_one_key(arrival: Arrival) -> tuple[int, Arrival]:
    return _KEY, arrival


def _close_bounded(
    element: tuple[int, Iterable[Arrival]], rules: ClosingRules, schema: SchemaFile | None
) -> Iterator[Task]:
    arrivals = list(element[1])
    groups = (arrival.chunk.kinds for arrival in arrivals if isinstance(arrival, ChunkArrival))
    kinds = merge_kinds(map(SeenKinds.of_groups, groups))
    if schema is not None:
        schema.write(schema.known().merge(kinds))
    for task in close_bounded(rules, arrivals):
        progress.plan(shards=isinstance(task, WriteTask))
        yield task


class _CloseFn(beam.DoFn):
    """Savepoints refer to state and timer by name: the names must not change."""

    TIMER = TimerSpec("close", TimeDomain.WATERMARK)
    _clock = beam.DoFn.StateParam(ReadModifyWriteStateSpec("clock", JsonCoder(ClockState)))
    _chunks = beam.DoFn.StateParam(BagStateSpec("chunks", JsonCoder(KeptChunk)))
    _kinds = beam.DoFn.StateParam(ReadModifyWriteStateSpec("kinds", JsonCoder(SeenKinds)))
    _timer = beam.DoFn.TimerParam(TIMER)

    def __init__(self, rules: ClosingRules, schema: SchemaFile | None = None):
        self._rules = rules
        self._schema = schema

    def process(
        self,
        element: tuple[int, Arrival],
        clock: Any = _clock,
        chunks: Any = _chunks,
        kinds: Any = _kinds,
        timer: Any = _timer,
    ) -> Iterator[Task]:
        now = WindowClock(self._rules, clock.read())
        new: Sequence[KindGroup] = ()
        match element[1]:
            case ChunkArrival(chunk):
                pane = now.pane(chunk.window)
                if pane is None:
                    yield TooLateTask(now.file_too_late(), chunk)
                else:
                    new = chunk.kinds
                    chunks.add(KeptChunk(pane, dataclasses.replace(chunk, kinds=())))
            case RejectsArrival(rejects):
                yield from now.file_rejects(rejects)
        self._keep_kinds(new, kinds)
        yield from now.file_unfiled()
        for tag, fires in now.timers.items():
            timer.set(Timestamp(micros=fires), dynamic_timer_tag=tag)
        clock.write(now.state())

    def _keep_kinds(self, new: Sequence[KindGroup], kinds: Any) -> None:
        """Merges kinds into the state; writes the schema at the first arrival, and whenever a feature is new."""
        before = kinds.read()
        known = before or (self._schema.known() if self._schema is not None else SeenKinds())
        now = known.merge(SeenKinds.of_groups(new))
        if before is None or now.features.keys() != before.features.keys():
            if self._schema is not None:
                self._schema.write(now)
            kinds.write(now)

    @on_timer(TIMER)
    def close(
        self, tag: Any = beam.DoFn.DynamicTimerTagParam, clock: Any = _clock, chunks: Any = _chunks
    ) -> Iterator[Task]:
        now = WindowClock(self._rules, clock.read())
        tasks, left = now.fire(tag, chunks.read())
        chunks.clear()
        for kept in left:
            chunks.add(kept)
        clock.write(now.state())
        yield from tasks
