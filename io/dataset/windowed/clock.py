"""The clock of a stream: which pane a row belongs to, and from where the stream could go on if it ended now.

For unbounded input, the clock F is the greatest time of a timer that has fired. A chunk of window w that arrives when

* w.end > F is on time: it joins the pane that a timer at w.end closes;
* w.end <= F < w.end + lateness is late: it joins the pane that a timer at w.end + lateness closes with the window;
* w.end + lateness <= F is too late: its rows become dead letters; but timers of one moment fire in any order, and as
  long as the last pane of w has not closed, they join that one.

::

    event time   ---- w.start ======== w.end ------------ w.end + lateness ------>
    F is here         on time            | late                 | too late

Rejects are filed in the window of their event time as long as it is open. Else they are filed in the one that is open
when they arrive, whose manifest, which is written later, counts them as no fault of that window. Before the first timer
has fired, nothing is late.

Each closing of a pane is counted, and says where a new start would have to read on if this closing and all before it
are published (`Closing`): at the least position that was not read yet, or whose row waits in a pane that is open.
"""

import dataclasses
import datetime
import logging
from collections.abc import Iterable, Iterator, Mapping

from apache_beam.transforms.window import GlobalWindow

from penstock.io.beam.coverage import (
    InputRange,
    ReadMark,
    ReadPositions,
    covered_by,
    first_of,
    greatest,
    last_of,
    least,
    merge_covered,
    without,
)
from penstock.io.beam.durations import ZERO, duration_text, micros
from penstock.io.beam.windows import Windows
from penstock.io.dataset.windowed.chunks import Chunk
from penstock.io.dataset.windowed.manifest import Closing, Pane
from penstock.io.dataset.windowed.tasks import (
    PaneHeader,
    RejectsTask,
    Task,
    TooLateTask,
    closing_tasks,
)
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError

_LOGGER = logging.getLogger(__name__)

# A longer gap between two windows with rows is caused by the data (a wrong clock, old rows mixed with new ones), and is
# not filled.
_MAX_EMPTY_WINDOWS = 10_000


@dataclasses.dataclass(frozen=True)
class ClosingRules:
    """The rules by which windows close.

    Attributes:
      lateness: how long after its end a window accepts rows.
      empty_windows: whether to publish windows without rows that lie between windows with rows.
      splits: number of splits.
      num_shards: number of shards per split.
      initial: the state to begin with where an earlier start of the stream has ended; None for a new one.
    """

    windows: Windows
    lateness: datetime.timedelta
    empty_windows: bool
    splits: int
    num_shards: int
    run_id: str
    initial: "ClockState | None" = None

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

    def tasks(self, window: int, pane: Pane, chunks: Iterable[Chunk], header: PaneHeader) -> Iterator[Task]:
        """Yields the tasks that close a pane of a window, by its start; see `closing_tasks`."""
        return closing_tasks(window, pane, chunks, header, self.splits, self.num_shards)


@dataclasses.dataclass(frozen=True)
class OpenWindow:
    """A window whose last pane has not closed.

    Attributes:
      closed: whether its on-time pane has closed.
      rejects: number of dead-letter files that are filed in it.
      first: for each uri, the least position of a row that waits in it for its next pane to close.
      first_late: the same of rows that are late already.
      last_rejected: for each uri, the greatest position of a row that is filed in it as a dead letter.
      is_continued: whether an earlier start of the stream has published its on-time pane.
    """

    closed: bool = False
    rejects: int = 0
    first: Mapping[str, int] = dataclasses.field(default_factory=dict)
    first_late: Mapping[str, int] = dataclasses.field(default_factory=dict)
    last_rejected: Mapping[str, int] = dataclasses.field(default_factory=dict)
    is_continued: bool = False

    def waiting(self, pane: Pane, first: Mapping[str, int]) -> "OpenWindow":
        """Returns the window with more rows that wait for a pane to close."""
        if pane == "late":
            return dataclasses.replace(self, first_late=least(self.first_late, first))
        return dataclasses.replace(self, first=least(self.first, first))

    def filing(self, rows: Iterable[InputRange]) -> "OpenWindow":
        """Returns the window with one more dead-letter file."""
        rows = tuple(rows)
        now = dataclasses.replace(
            self, rejects=self.rejects + 1, last_rejected=greatest(self.last_rejected, last_of(rows))
        )
        return now.waiting("on_time", first_of(rows))


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
      sealed: windows after `fired` that an earlier start of the stream has published for good.
      generation: how often the stream has been started.
      closings: how many panes this start has closed.
      read: the positions that it has read; if they are not known, the stream cannot go on from the dataset.
    """

    run_id: str
    rules: str
    fired: int | None = None
    windows: Mapping[str, OpenWindow] = dataclasses.field(default_factory=dict)
    filled: tuple[int, int] | None = None
    unfiled: tuple[DeadLetterFile, ...] = ()
    sealed: tuple[int, ...] = ()
    generation: int = 1
    closings: int = 0
    read: ReadPositions = dataclasses.field(default_factory=ReadPositions)


_NEW = OpenWindow()


class WindowClock:
    """Decides by event time to which pane an arrival belongs.

    Attributes:
      timers: the timers to set: tag -> microseconds.

    Raises:
      DataError: if the state is from a job with other rules.
    """

    def __init__(self, rules: ClosingRules, state: ClockState | None):
        begins = state is None
        state = state or rules.initial or ClockState(rules.run_id, str(rules), read=ReadPositions.unknown())
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
        self._closings = state.closings
        self._read = state.read
        self.timers: dict[str, int] = {}
        for window in map(int, self._windows if begins else ()):
            self._set_final(window)

    def state(self) -> ClockState:
        """Returns the state to store."""
        return dataclasses.replace(
            self._state,
            fired=self._fired,
            windows=self._windows,
            filled=self._filled,
            unfiled=self._unfiled,
            sealed=tuple(window for window in self._state.sealed if not self._is_past(window, self._rules.lateness)),
            closings=self._closings,
            read=self._read,
        )

    def read(self, mark: ReadMark) -> None:
        """Notes what was read."""
        self._read = self._read.mark(mark)

    def come(self, rows: Iterable[InputRange]) -> None:
        """Notes which of the rows that were read have come."""
        self._read = self._read.come(rows)

    def take(self, chunk: Chunk) -> Pane | None:
        """Returns the pane for the rows of a chunk that arrives now; None if they are too late."""
        pane = self._pane(chunk.window)
        if pane is not None:
            self._wait(chunk.window, pane, first_of(chunk.inputs))
        return pane

    def _pane(self, window: int) -> Pane | None:
        is_over = self._is_past(window, self._rules.lateness) and str(window) not in self._windows
        if is_over or window in self._state.sealed:
            return None
        self._open(window)
        self._fill(window)
        is_late = self._is_past(window, ZERO) or self._windows[str(window)].closed
        return "late" if is_late and self._rules.lateness else "on_time"

    def _wait(self, window: int, pane: Pane, first: Mapping[str, int]) -> None:
        self._windows[str(window)] = self._windows[str(window)].waiting(pane, first)

    def _is_past(self, window: int, lateness: datetime.timedelta) -> bool:
        return self._fired is not None and self._rules.end(window) + micros(lateness) <= self._fired

    def _open(self, window: int) -> None:
        if str(window) in self._windows:
            return
        self._windows[str(window)] = OpenWindow()
        self.timers[f"close {window}"] = self._rules.end(window)
        if self._rules.lateness:
            self._set_final(window)

    def _set_final(self, window: int) -> None:
        self.timers[f"final {window}"] = self._rules.end(window) + micros(self._rules.lateness)

    def _fill(self, window: int) -> None:
        if not self._rules.empty_windows:
            return
        # Fill the gap between `window` and the nearer end of the range [first, last], which has no gaps.
        first, last = self._filled or (window, window)
        low, high = (last, window) if window > last else (window, first)
        between = self._rules.empty_between(low, high) if low < high else range(0)
        for empty in between:
            if empty not in self._state.sealed and not self._is_past(empty, self._rules.lateness):
                self._open(empty)
        is_near = bool(between) or high - low <= micros(self._rules.windows.period)
        self._filled = (min(first, window), max(last, window)) if is_near else (window, window)

    def file_too_late(self, chunk: Chunk) -> Task:
        """Files the rows of a chunk that come too late in an open window."""
        return TooLateTask(self._file(chunk.window, chunk.inputs), chunk)

    def file_rejects(self, rejects: DeadLetterFile) -> Iterator[Task]:
        """Files dead letters in an open window; they wait if no time is known yet."""
        time = rejects.time
        if time is None and self._fired is None and not self._windows:
            self._unfiled += (rejects,)
            self.timers["end"] = GlobalWindow().max_timestamp().micros
        else:
            yield self._filed(rejects)

    def file_unfiled(self) -> Iterator[Task]:
        """Files the dead letters that waited."""
        if self._unfiled and (self._fired is not None or self._windows):
            unfiled, self._unfiled = self._unfiled, ()
            for rejects in unfiled:
                yield self._filed(rejects)

    def _filed(self, rejects: DeadLetterFile) -> RejectsTask:
        window = self._file(rejects.time, rejects.inputs)
        is_away = rejects.dated and rejects.time is not None and window != self._rules.windows.latest(rejects.time)
        return RejectsTask(window, dataclasses.replace(rejects, foreign=rejects.foreign or is_away))

    def _file(self, time: int | None, rows: Iterable[InputRange]) -> int:
        """Picks a window whose on-time pane is still open: that of a time, or else the one that closes next."""
        own = None if time is None else self._rules.windows.latest(time)
        if own is not None and not self._is_past(own, ZERO):
            window = own
        elif self._fired is not None:
            window = self._rules.windows.latest(self._fired)
        else:
            window = min(map(int, self._windows))
        while window in self._state.sealed or self._windows.get(str(window), _NEW).closed:
            window += micros(self._rules.windows.period)
        self._open(window)
        self._windows[str(window)] = self._windows[str(window)].filing(rows)
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
            self._windows[start] = dataclasses.replace(now, closed=True, first={})
        mine = [kept.chunk for kept in own]
        later = [kept.chunk for kept in left if kept.chunk.window == window]
        filed = now if pane == "on_time" else OpenWindow()
        header = dataclasses.replace(self._header(filed, final, mine, later), is_continued=now.is_continued)
        return list(self._rules.tasks(window, pane, mine, header)), left

    def _header(
        self, filed: OpenWindow, final: bool, chunks: Iterable[Chunk], later: Iterable[Chunk] = ()
    ) -> PaneHeader:
        """The header of a pane that closes now, and waits no more: of what is filed in it, and of its chunks.

        Chunks that came already for a `later` pane of its window are not in it: another timer may fire at the end of a
        window before its own, and what comes between the two is late.
        """
        header = PaneHeader(self._state.run_id, final, filed.rejects)
        if not self._read.began:
            return header
        self._closings += 1
        waiting = [now for window in self._windows.values() for now in (window.first, window.first_late)]
        waiting += [first_of(file.inputs) for file in self._unfiled]
        reached = self._read.reached()
        first = least(reached, *waiting)
        resume_at = {uri: first[uri] for uri in sorted(reached)}
        inputs = [some for chunk in chunks for some in chunk.inputs]
        last = greatest(filed.last_rejected, last_of(inputs))
        closing = Closing(self._state.generation, self._closings, self._fired or 0, resume_at, last)
        whole = without(self._read.whole, covered_by(some for chunk in later for some in chunk.inputs))
        # Of positions that are not wholly here yet, the rows of these chunks are.
        covered = merge_covered(whole, covered_by(inputs))
        return dataclasses.replace(header, closing=closing, covered=covered)

    def _end(self) -> list[Task]:
        """Returns the tasks at the end of a stream in which no row ever had a time."""
        unfiled, self._unfiled = self._unfiled, ()
        window = self._rules.windows.latest(0)
        tasks: list[Task] = [RejectsTask(window, rejects) for rejects in unfiled]
        filed = OpenWindow()
        for rejects in unfiled:
            filed = filed.filing(rejects.inputs)
        closing = self._rules.tasks(window, "on_time", (), self._header(filed, True, ()))
        return [*tasks, *closing] if tasks else []


@dataclasses.dataclass(frozen=True)
class KeptChunk:
    """A chunk that waits until its pane closes."""

    pane: Pane
    chunk: Chunk
