"""The process of a job: what the user typed to start it, when it began, and what it says outside of its result."""

import atexit
import contextlib
import dataclasses
import gc
import os
import shlex
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import NoReturn

import pipelines
from penstock.io.files.sizes import byte_text
from pipelines._report.printable import printable
from pipelines._report.signals import Interrupted, ended_by, job_has_ended


@dataclasses.dataclass(frozen=True)
class Process:
    """A process that was started for one job.

    Attributes:
      prefix: what the user typed before the name of the job.
      started: when, by the monotonic clock.
      arguments: the name of the job, and what the user typed after it.
      leaves_threads: set once threads of Beam may outlive the job.
    """

    prefix: str
    started: float
    arguments: Sequence[str] = ()
    leaves_threads: threading.Event = dataclasses.field(default_factory=threading.Event)


_process: ContextVar[Process | None] = ContextVar("process", default=None)


def program(job: str) -> str:
    """What the user typed to start a job, for messages."""
    process = _process.get()
    return f"{process.prefix if process else 'python -m pipelines.'}{job}"


def job_started() -> float:
    """When the job began, by the monotonic clock: with the process that was started for it, else now."""
    process = _process.get()
    return process.started if process else time.monotonic()


@contextlib.contextmanager
def beginning_now() -> Iterator[None]:
    """Starts the clock of the job anew for the block: for a job that works in several turns, and goes on behind it."""
    process = _process.get()
    token = _process.set(dataclasses.replace(process, started=time.monotonic()) if process else None)
    try:
        yield
    finally:
        _process.reset(token)
        job_has_ended(False)
    end_if_asked()


def typed(flags: Mapping[str, str]) -> str:
    """The command that the user typed, with other values for some flags, by name."""
    process = _process.get()
    added = [f"--{name}={value}" for name, value in flags.items()]
    if process is None or not process.arguments:
        return f"this command with {shlex.join(added)}"
    job, *arguments = process.arguments
    kept = list(_without(arguments, flags))
    return printable(f"{process.prefix}{shlex.join([job, *kept, *added])}")


def _without(arguments: Iterable[str], flags: Mapping[str, str]) -> Iterator[str]:
    is_value = False
    for argument in arguments:
        name, equals, _ = argument.removeprefix("--").partition("=")
        if is_value and not argument.startswith("--"):
            is_value = False
        elif argument.startswith("--") and name in flags:
            is_value = not equals
        else:
            is_value = False
            yield argument


@contextlib.contextmanager
def started_for_a_job(prefix: str, arguments: Sequence[str] = ()) -> Iterator[Process]:
    """Marks this process as started for one job; `prefix` is what the user typed before the job's name.

    `arguments` are that name, and what the user typed after it.
    """
    process = Process(prefix, pipelines.STARTED, tuple(arguments))
    token = _process.set(process)
    try:
        yield process
    finally:
        _process.reset(token)


def tell_removed(removed: Mapping[str, int]) -> None:
    """Says what killed runs had left and is removed: the bytes of each folder by its path."""
    for folder in sorted({os.path.dirname(path) for path in removed}):
        own = [size for path, size in removed.items() if os.path.dirname(path) == folder]
        runs = "a killed run" if len(own) == 1 else f"{len(own)} killed runs"
        say(f"removed what {runs} left in {printable(folder)} ({byte_text(sum(own))})")


def say(text: str) -> None:
    """Prints a line for the user that is no result."""
    if sys.stderr is not None:
        sys.stderr.write(f"{text}\n")  # at once: `print` lets another thread print before the end of the line
        sys.stderr.flush()


def is_started_for_a_job() -> bool:
    """Whether this process was started for a job, and does not just call one."""
    return _process.get() is not None


@contextlib.contextmanager
def imports() -> Iterator[None]:
    """Imports modules in the block, without what the collector of garbage would cost: 0.2 s of a job's CPU.

    It would look through a million objects several times while Beam is imported, and again while the job runs. They
    stay, so it leaves them alone (`gc.freeze`). A process that was not started for a job keeps its collector as it is.

    Raises:
      Interrupted: when a signal came, and a module that was imported caught what it raised.
    """
    if not is_started_for_a_job():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.freeze()
    end_if_asked()


def end_if_asked() -> None:
    """Ends the job this process was started for, if a signal came and what it raised was caught on its way.

    Raises:
      Interrupted: then.
    """
    if is_started_for_a_job() and ended_by() is not None:
        raise Interrupted


def leave_threads() -> None:
    """Says that threads of Beam may outlive the job: those that talk to a runner in another process."""
    process = _process.get()
    if process is not None:
        process.leaves_threads.set()


def end(code: int) -> NoReturn:
    """Ends this process, whose job is done: its threads are waited for and exit functions run, and that is all.

    Python would also free each object of Beam and what it imports, for 0.5 s of CPU.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    _end(code)


def end_beside_threads(code: int) -> NoReturn:
    """Ends this process, in which threads of Beam may still wait for a runner that is gone.

    Python would wait for some of them, for ever, and end the others inside of gRPC's C++, which may abort the process
    over that, and the exit code were lost.
    """
    _end(code)


def _end(code: int) -> NoReturn:
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
