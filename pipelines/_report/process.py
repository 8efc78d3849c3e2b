"""The process of a job: what the user typed to start it, and when it began."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pipelines


@dataclasses.dataclass(frozen=True)
class Process:
    """A process that was started for one job.

    Attributes:
      prefix: what the user typed before the name of the job.
      started: when, by the monotonic clock.
    """

    prefix: str
    started: float


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
    """Starts the clock of the job anew for the block: for a job that works in several turns."""
    process = _process.get()
    token = _process.set(dataclasses.replace(process, started=time.monotonic()) if process else None)
    try:
        yield
    finally:
        _process.reset(token)


@contextlib.contextmanager
def started_for_a_job(prefix: str) -> Iterator[None]:
    """Marks this process as started for one job; `prefix` is what the user typed before the job's name."""
    token = _process.set(Process(prefix, pipelines.STARTED))
    try:
        yield
    finally:
        _process.reset(token)


def is_started_for_a_job() -> bool:
    """Whether this process was started for a job, and does not just call one."""
    return _process.get() is not None
