"""Closes windows: one step decides for all shards whether a row came on time, late, or too late.

This step gets only references, one arrival for each bundle. So one key can hold them, and the decision is the same for
all shards. Bounded input needs no clock: all of its rows are on time. For unbounded input see
`penstock.io.dataset.windowed.clock`, and for windows of processing time `penstock.io.dataset.windowed.flush`.

The same step holds the kinds of features against each other, since all windows share one schema
(`penstock.io.dataset.kinds`). Of rows that are too late, nothing is looked at.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow
from apache_beam.utils.timestamp import Timestamp

from penstock.io.beam import progress
from penstock.io.beam.json_coder import JsonCoder
from penstock.io.columns.event_times import now_micros
from penstock.io.dataset.kinds import KindGroup, SeenKinds, merge_kinds
from penstock.io.dataset.schema_file import SchemaFile
from penstock.io.dataset.windowed.arrivals import Arrival, ReadArrival, RejectsArrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.clock import ClockState, ClosingRules, KeptChunk, WindowClock
from penstock.io.dataset.windowed.flush import FlushClock, FlushRules, FlushState, UsedChunks
from penstock.io.dataset.windowed.tasks import PaneHeader, RejectsTask, Task, WriteTask
from penstock.io.dead_letters.handler import DeadLetterFile

_KEY = 0


def close_bounded(rules: ClosingRules, arrivals: Iterable[Arrival]) -> Iterator[Task]:
    """Closes all windows of bounded input: all rows are on time, and rejects without a time go to the first window."""
    chunks: dict[int, list[Chunk]] = {}
    rejects: dict[int, list[DeadLetterFile]] = {}
    untimed = []
    for arrival in arrivals:
        match arrival:
            case WrittenChunks(some):
                for chunk in some:
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
        yield from rules.tasks(start, "on_time", found, PaneHeader(rules.run_id, True, len(own)))


@dataclasses.dataclass(eq=False)
class CloseWindows(beam.PTransform[beam.PCollection[Arrival], beam.PCollection[Task]]):
    """Collects arrivals in the global window, and outputs the tasks when windows close.

    A feature of two kinds fails the pipeline.

    Attributes:
      schema: writes the schema of what has come; None if the dataset has one already.
    """

    rules: ClosingRules | FlushRules
    schema: SchemaFile | None = None

    def expand(self, arrivals: beam.PCollection[Arrival]) -> beam.PCollection[Task]:
        """Uses one key, with timers for unbounded input, and a GroupByKey for bounded input."""
        keyed = arrivals | "OneKey" >> beam.Map(_with_one_key).with_output_types(tuple[int, Arrival])
        if isinstance(self.rules, FlushRules):
            return keyed | "Flush" >> beam.ParDo(_FlushFn(self.rules, self.schema)).with_output_types(Task)
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
    written = (arrival for arrival in arrivals if isinstance(arrival, WrittenChunks))
    groups = (chunk.kinds for some in written for chunk in some.chunks)
    kinds = merge_kinds(map(SeenKinds.of_groups, groups))
    if schema is not None:
        schema.write(schema.known().merge(kinds))
    for task in close_bounded(rules, arrivals):
        progress.plan(shards=isinstance(task, WriteTask))
        yield task


def _keep_kinds(new: Sequence[KindGroup], kinds: Any, schema: SchemaFile | None) -> None:
    """Merges kinds into the state; writes the schema at the first arrival, and whenever a feature is new."""
    before = kinds.read()
    known = before or (schema.known() if schema is not None else SeenKinds())
    now = known.merge(SeenKinds.of_groups(new))
    if before is None or now.features.keys() != before.features.keys():
        if schema is not None:
            schema.write(now)
        kinds.write(now)


def _set_timers(timer: Any, timers: Mapping[str, int]) -> None:
    """Sets the timers of some tags, to microseconds since 1970."""
    for tag, fires in timers.items():
        timer.set(Timestamp(micros=fires), dynamic_timer_tag=tag)


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
        new: list[KindGroup] = []
        match element[1]:
            case WrittenChunks(some, inputs):
                for chunk in some:
                    pane = now.take(chunk)
                    progress.add(late=0 if pane == "on_time" else chunk.rows)
                    if pane is None:
                        yield now.file_too_late(chunk)
                    else:
                        new += chunk.kinds
                        chunks.add(KeptChunk(pane, dataclasses.replace(chunk, kinds=())))
                now.come(inputs)
            case RejectsArrival(rejects):
                if rejects.path:
                    yield from now.file_rejects(rejects)
                now.come(rejects.inputs)
            case ReadArrival(mark):
                now.read(mark)
        _keep_kinds(new, kinds, self._schema)
        yield from now.file_unfiled()
        _set_timers(timer, now.timers)
        self._keep(now, clock)

    @on_timer(TIMER)
    def close(
        self, tag: Any = beam.DoFn.DynamicTimerTagParam, clock: Any = _clock, chunks: Any = _chunks
    ) -> Iterator[Task]:
        now = WindowClock(self._rules, clock.read())
        tasks, left = now.fire(tag, chunks.read())
        chunks.clear()
        for kept in left:
            chunks.add(kept)
        self._keep(now, clock)
        yield from tasks

    def _keep(self, now: WindowClock, clock: Any) -> None:
        state = now.state()
        clock.write(state)
        progress.tell(open=len(state.windows), closed=state.closings)


class _FlushFn(beam.DoFn):
    """Savepoints refer to state and timers by name: the names must not change."""

    AGE = TimerSpec("age", TimeDomain.REAL_TIME)
    END = TimerSpec("end", TimeDomain.WATERMARK)
    _clock = beam.DoFn.StateParam(ReadModifyWriteStateSpec("clock", JsonCoder(FlushState)))
    _chunks = beam.DoFn.StateParam(BagStateSpec("chunks", JsonCoder(Chunk)))
    _used = beam.DoFn.StateParam(BagStateSpec("used", JsonCoder(UsedChunks)))
    _kinds = beam.DoFn.StateParam(ReadModifyWriteStateSpec("kinds", JsonCoder(SeenKinds)))
    _age = beam.DoFn.TimerParam(AGE)
    _end = beam.DoFn.TimerParam(END)

    def __init__(self, rules: FlushRules, schema: SchemaFile | None = None):
        self._rules = rules
        self._schema = schema

    def process(
        self,
        element: tuple[int, Arrival],
        clock: Any = _clock,
        chunks: Any = _chunks,
        used: Any = _used,
        kinds: Any = _kinds,
        age: Any = _age,
        end: Any = _end,
    ) -> Iterator[Task]:
        arrival, before = element[1], clock.read()
        if before is None:
            end.set(GlobalWindow().max_timestamp())
        written = arrival.chunks if isinstance(arrival, WrittenChunks) else ()
        _keep_kinds([group for chunk in written for group in chunk.kinds], kinds, self._schema)
        now = FlushClock(self._rules, before, now_micros())
        new, tasks = now.take(arrival)
        for chunk in new:
            chunks.add(chunk)
        yield from tasks
        if now.is_full:
            yield from self._flush(now, chunks, used)
        else:
            _set_timers(age, now.timers)
        self._keep(now, clock)

    @on_timer(AGE)
    def flush_old(
        self, tag: Any = beam.DoFn.DynamicTimerTagParam, clock: Any = _clock, chunks: Any = _chunks, used: Any = _used
    ) -> Iterator[Task]:
        """Ends the window that the timer was set for, if it has not ended."""
        now = FlushClock(self._rules, clock.read(), now_micros())
        if now.is_open(tag):
            yield from self._flush(now, chunks, used)
            self._keep(now, clock)

    @on_timer(END)
    def flush_last(self, clock: Any = _clock, chunks: Any = _chunks, used: Any = _used) -> Iterator[Task]:
        """Ends the last window of a stream that has an end, as where a job is drained."""
        now = FlushClock(self._rules, clock.read(), now_micros())
        yield from self._flush(now, chunks, used)
        self._keep(now, clock)

    def _flush(self, now: FlushClock, chunks: Any, used: Any) -> Sequence[Task]:
        tasks, kept = now.end(chunks.read(), used.read())
        chunks.clear()
        used.clear()
        for some in kept:
            used.add(some)
        return tasks

    def _keep(self, now: FlushClock, clock: Any) -> None:
        state = now.state()
        clock.write(state)
        filling = state.filling
        progress.tell(open=int(filling is not None), waiting=filling.rows if filling else 0, closed=state.closings)
        progress.tell(opened=filling.start if filling else 0)
