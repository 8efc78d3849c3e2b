"""Shows on stderr how far a job is: in one line at the foot of a terminal, elsewhere in a line each half minute.

The runner blocks the main thread, so that another thread reads the process-local counters.
"""

import collections
import contextlib
import contextvars
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.spinner import Spinner
from rich.text import Text

from penstock.io.beam import progress
from penstock.io.beam.progress import Counts
from pipelines._report.phases import Phase, Status, current_phase
from pipelines._report.process import job_started, say

# Often enough to show that the job is alive, seldom enough not to fill its log.
LOG_SECONDS = 30.0

_FRAMES_PER_SECOND = 8
# Columns.
_MIN_BAR, _MAX_BAR = 6, 40
_GAP = "  "


class Rate:
    """How many rows come in a second, over the last half minute: what a stream did before says nothing of it now."""

    def __init__(self, seconds: float = LOG_SECONDS):
        self._seconds = seconds
        self._samples: collections.deque[tuple[float, int]] = collections.deque()

    def now(self, at: float, rows: int) -> float | None:
        """The rate at a moment of a monotonic clock, by which so many rows have come; None for the first one."""
        self._samples.append((at, rows))
        while len(self._samples) > 2 and at - self._samples[1][0] >= self._seconds:
            self._samples.popleft()
        first, before = self._samples[0]
        return (rows - before) / (at - first) if at > first else None


class _Display:
    """What the pipelines of a job are doing now."""

    def __init__(self) -> None:
        self._started = job_started()
        self._title = ""
        self._phases: Sequence[Phase] = ()
        self._phase: Phase | None = None
        self._phase_started = self._started
        self._counts: Callable[[], Counts] = progress.snapshot
        self._rate = Rate()

    def begin(self, title: str, phases: Sequence[Phase], counts: Callable[[], Counts] = progress.snapshot) -> None:
        """A pipeline begins, which `counts` counts."""
        progress.reset()
        self._rate = Rate()
        self._counts = counts
        self._title, self._phases, self._phase = title, phases, None

    def status(self) -> Status | None:
        """How far it is; None before the first pipeline."""
        counts, now = self._counts(), time.monotonic()
        phase = current_phase(self._phases, counts)
        if phase != self._phase:
            self._phase, self._phase_started = phase, now
        if not self._title:
            return None
        rate = self._rate.now(now, counts.done.get("rows", 0))
        return Status.of(self._title, phase, counts, now - self._started, now - self._phase_started, rate)


_shown: contextvars.ContextVar[_Display | None] = contextvars.ContextVar("shown", default=None)


@contextlib.contextmanager
def progress_bar(
    title: str, phases: Sequence[Phase], counts: Callable[[], Counts] = progress.snapshot
) -> Iterator[None]:
    """Shows how far a pipeline is that runs in the block: `title` until a counter tells in which phase it is.

    `counts` gives the counters where they are not those of this process.
    """
    with showing_progress():
        display = _shown.get()
        if display is not None:
            display.begin(title, phases, counts)
        yield


@contextlib.contextmanager
def showing_progress(log_seconds: float = LOG_SECONDS) -> Iterator[None]:
    """Shows the pipelines that run in the block as one job, whose clock runs on from one to the next.

    A terminal shows one line, which disappears at the end; any other stderr gets a line every `log_seconds`.
    """
    if _shown.get() is not None:
        yield
        return
    display = _Display()
    token = _shown.set(display)
    try:
        with _on_terminal(display) if _is_terminal() else _in_log(display, log_seconds):
            yield
    finally:
        _shown.reset(token)


def _is_terminal() -> bool:
    return sys.stderr.isatty() and Console(stderr=True).is_interactive


def _on_terminal(display: _Display) -> Live:
    console = Console(stderr=True)
    frames = Spinner("line" if console.options.ascii_only else "dots").frames
    return Live(
        console=console,
        get_renderable=lambda: _Line(display.status(), frames),
        refresh_per_second=_FRAMES_PER_SECOND,
        transient=True,
        redirect_stdout=sys.stdout.isatty(),  # else what is printed there would go to stderr
    )


@contextlib.contextmanager
def _in_log(display: _Display, seconds: float) -> Iterator[None]:
    done = threading.Event()
    writer = threading.Thread(target=_write_log, args=(display, seconds, done), daemon=True)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()


def _write_log(display: _Display, seconds: float, done: threading.Event) -> None:
    while not done.wait(seconds):
        if status := display.status():
            say(str(status))


class _Line:
    """A status in one line that fits the terminal: it leaves out less important items, and cuts none."""

    def __init__(self, status: Status | None, frames: Sequence[str]):
        self._status = status
        self._frame = frames[int(time.monotonic() * _FRAMES_PER_SECOND) % len(frames)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._status is None:
            return
        texts, bar = _fitted(self._status, options.max_width)
        first, *others = texts or [Text("")]
        yield Text.assemble(self._frame, " ", first, end="")
        if bar:
            yield Text(_GAP, end="")
            yield from _bar(self._status.fraction, bar, console, options)
        yield Text.assemble(*(part for text in others for part in (_GAP, text)))


def _bar(fraction: float | None, width: int, console: Console, options: ConsoleOptions) -> list[Segment]:
    bar = ProgressBar(total=None if fraction is None else 1.0, completed=fraction or 0, width=width)
    return Segment.adjust_line_length(list(console.render(bar, options)), width)


def _fitted(status: Status, width: int) -> tuple[list[Text], int]:
    """The texts that fit, in their order, and the width that is left for a bar, which comes after the first."""
    name, elapsed = Text(status.name, "bold"), Text(status.elapsed, "progress.elapsed")
    percent = [Text(status.percent, "progress.percentage")] if status.percent else []
    fields = [Text(field.text, "red" if field.is_bad else "") for field in status.fields]
    minor = [text for text, field in zip(fields, status.fields, strict=True) if field.is_minor]
    room, fitting = width, []
    for text in (*percent, elapsed, name, *fields):
        cost = len(_GAP) + text.cell_len
        if cost > room - (len(_GAP) + _MIN_BAR if text in minor else 0):
            break
        fitting.append(text)
        room -= cost
    bar = min(room - len(_GAP), _MAX_BAR) if name in fitting else 0
    return [text for text in (name, *percent, *fields, elapsed) if text in fitting], bar if bar >= _MIN_BAR else 0
