"""The clock of a stream in processing time: which window takes the rows that come, and when it ends.

One window is open at a time. It begins with the first rows that come, and ends when it has enough of them or is old
enough (`FlushWindows`); the next rows begin the next one. Nothing is late, and rejects are in the window of the rows
that came with them.

::

    bundles     |  a: 400 rows  |  b: 500  |  c: 300  |        | d: 10 |        30 s        |
    windows     |  1: a b c, full with 1,000 rows     |        | 2: d, ended by its age     |

A bundle of the reader comes in parts: its chunks, its rejects, and the mark that says what it has read. They wait until
all of them are there, and come into one window together. So each position of the input belongs to one window, good row
or reject, and a window says exactly which are its own (`covered`). What no window has is read again by the next start.
If nobody says what is read, parts do not wait, and the stream cannot go on from its windows.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from penstock.io.beam.coverage import Covered, InputRange, ReadPositions, merge_covered, without
from penstock.io.beam.durations import micros
from penstock.io.beam.windows import FlushWindows
from penstock.io.dataset.windowed.arrivals import Arrival, ReadArrival, RejectsArrival, WrittenChunks
from penstock.io.dataset.windowed.chunks import KEPT_SECONDS, KEPT_WINDOWS, Chunk
from penstock.io.dataset.windowed.manifest import Closing
from penstock.io.dataset.windowed.tasks import PaneHeader, RejectsTask, Task, closing_tasks
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError

_SECOND = 1_000_000


@dataclasses.dataclass(frozen=True)
class FlushRules:
    """The rules by which a stream is cut into windows of processing time.

    Attributes:
      splits: number of splits.
      num_shards: number of shards per split.
      initial: the state to begin with where an earlier start of the stream has ended; None for a new one.
    """

    windows: FlushWindows
    splits: int
    num_shards: int
    run_id: str
    initial: "FlushState | None" = None

    def __str__(self) -> str:
        # Not when windows end: that may change from start to start.
        return f"windows of processing time, {self.splits} splits of {self.num_shards} shards"


@dataclasses.dataclass(frozen=True)
class FillingWindow:
    """The window that is open.

    Attributes:
      start: when its first rows came, microseconds since 1970.
      rows: how many rows have come, good and rejected.
      rejects: number of dead-letter files.
    """

    start: int
    rows: int = 0
    rejects: int = 0


@dataclasses.dataclass(frozen=True)
class FlushState:
    """The state of a `FlushClock`.

    Attributes:
      run_id: id of the first run; another run that goes on keeps it.
      rules: the rules as text; a run that goes on must have the same.
      filling: the window that is open.
      chunks: those whose bundle has not come as a whole.
      rejects: dead-letter files of which this is so.
      until: the end of the last window, microseconds since 1970.
      number: of the last window, counted over all starts.
      generation: how often the stream has been started.
      closings: how many windows of this start have ended.
      read: the positions that this start has read.
      covered: those that earlier windows have.
    """

    run_id: str
    rules: str
    filling: FillingWindow | None = None
    chunks: tuple[Chunk, ...] = ()
    rejects: tuple[DeadLetterFile, ...] = ()
    until: int = 0
    number: int = 0
    generation: int = 1
    closings: int = 0
    read: ReadPositions = dataclasses.field(default_factory=ReadPositions)
    covered: Covered = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class UsedChunks:
    """The chunk files of a window that has ended.

    Attributes:
      start: of the window.
      number: of the window.
      at: when it ended, microseconds since 1970.
      paths: the files.
    """

    start: int
    number: int
    at: int
    paths: tuple[str, ...]


class FlushClock:
    """Decides which window takes what comes.

    Attributes:
      timers: the timers to set, in processing time: tag -> microseconds.

    Raises:
      DataError: if the state is from a job with other rules.
    """

    def __init__(self, rules: FlushRules, state: FlushState | None, now: int):
        state = state or rules.initial or FlushState(rules.run_id, str(rules), read=ReadPositions.unknown())
        if state.rules != str(rules):
            raise DataError(
                f"the job that goes on from this savepoint had {state.rules}, this one has {rules}; leave them as they "
                "were, or begin in another folder"
            )
        self._rules = rules
        self._state = state
        self._now = now
        self.timers: dict[str, int] = {}

    def state(self) -> FlushState:
        """Returns the state to store."""
        return self._state

    def take(self, arrival: Arrival) -> tuple[Sequence[Chunk], Sequence[Task]]:
        """Takes what arrives.

        Returns:
          The chunks that have come into the open window with it, and tasks that file rejects in it.
        """
        now = self._state
        match arrival:
            case WrittenChunks(chunks, inputs):
                kept = tuple(dataclasses.replace(chunk, kinds=()) for chunk in chunks)
                now = dataclasses.replace(now, chunks=(*now.chunks, *kept), read=now.read.come(inputs))
            case RejectsArrival(file):
                rejects = (*now.rejects, file) if file.path else now.rejects
                now = dataclasses.replace(now, rejects=rejects, read=now.read.come(file.inputs))
            case ReadArrival(mark):
                now = dataclasses.replace(now, read=now.read.mark(mark))
        self._state = now
        return self._admit()

    def _admit(self) -> tuple[Sequence[Chunk], Sequence[Task]]:
        now = self._state
        chunks = [chunk for chunk in now.chunks if self._is_whole(chunk.inputs)]
        rejects = [file for file in now.rejects if self._is_whole(file.inputs)]
        if not chunks and not rejects:
            return (), ()
        filling = now.filling or self._open()
        rows = sum(chunk.rows for chunk in chunks) + sum(file.records for file in rejects)
        self._state = dataclasses.replace(
            now,
            chunks=tuple(chunk for chunk in now.chunks if chunk not in chunks),
            rejects=tuple(file for file in now.rejects if file not in rejects),
            filling=FillingWindow(filling.start, filling.rows + rows, filling.rejects + len(rejects)),
        )
        return chunks, [RejectsTask(filling.start, file) for file in rejects]

    def _is_whole(self, rows: Iterable[InputRange]) -> bool:
        """Whether all of the bundles that rows are of have come."""
        read = self._state.read
        return not read.is_known or all(_lies_in(some, read.whole) for some in rows)

    def _open(self) -> FillingWindow:
        start = max(self._now, self._state.until)
        # A name of a whole second has no fraction, and would sort behind all others of that second.
        start += start % _SECOND == 0
        if self._rules.windows.age is not None:
            self.timers[str(start)] = start + micros(self._rules.windows.age)
        return FillingWindow(start)

    @property
    def is_full(self) -> bool:
        """Whether the open window has enough rows."""
        filling, rows = self._state.filling, self._rules.windows.rows
        return filling is not None and rows is not None and filling.rows >= rows

    def is_open(self, tag: str) -> bool:
        """Whether the window is still open for which a timer was set."""
        filling = self._state.filling
        return filling is not None and str(filling.start) == tag

    def end(self, chunks: Iterable[Chunk], used: Iterable[UsedChunks]) -> tuple[Sequence[Task], Sequence[UsedChunks]]:
        """Ends the open window, if there is one.

        Args:
          chunks: all that have come into it.
          used: the chunk files of earlier windows that are kept.

        Returns:
          The tasks that close it, and the chunk files that are kept from now on.
        """
        filling, chunks, number = self._state.filling, list(chunks), self._state.number + 1
        if filling is None:
            return (), tuple(used)
        end = max(self._now, filling.start + 1)
        own = UsedChunks(filling.start, number, end, tuple(chunk.path for chunk in chunks))
        kept = [*used, own]
        swept = {str(some.start): some.paths for some in kept if _is_over(some, own)}
        header = PaneHeader(self._state.run_id, True, filling.rejects, end=end, number=number, swept=swept)
        header = self._covering(header, end)
        self._state = dataclasses.replace(self._state, filling=None, until=end, number=number)
        tasks = closing_tasks(filling.start, "on_time", chunks, header, self._rules.splits, self._rules.num_shards)
        return tuple(tasks), [some for some in kept if not _is_over(some, own)]

    def _covering(self, header: PaneHeader, end: int) -> PaneHeader:
        """Returns the header with what its window covers, and the point from which the stream can go on behind it."""
        now, whole = self._state, self._state.read.whole
        if not now.read.began:
            return header
        covered, reached = without(whole, now.covered), now.read.reached()
        last = {uri: ranges[-1][1] - 1 for uri, ranges in covered.items()}
        resume_at = {uri: reached[uri] for uri in sorted(reached)}
        closing = Closing(now.generation, now.closings + 1, end, resume_at, last)
        self._state = dataclasses.replace(now, closings=closing.number, covered=merge_covered(now.covered, whole))
        return dataclasses.replace(header, closing=closing, covered=covered)


def _lies_in(rows: InputRange, whole: Covered) -> bool:
    return any(start <= rows.first and rows.last < stop for start, stop in whole.get(rows.uri, ()))


def _is_over(used: UsedChunks, last: UsedChunks) -> bool:
    """Whether no attempt can name some chunk files any more when the last window has ended."""
    return used.number + KEPT_WINDOWS <= last.number and used.at + KEPT_SECONDS * _SECOND <= last.at
