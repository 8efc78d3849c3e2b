"""Ends all worker threads of a pipeline when one has failed; Beam's local runner lets the others continue.

DoFns with long work take the name of the pipeline that is being built inside `stoppable` (`pipeline_name`). They work
in `failing_together`, and call `check` for each batch. This is only for runners that do not retry: a stopped pipeline
stays stopped.

Beam has no public way to ask whether a worker thread is busy (none filed; beam#18756 asks to abort the bundles of a
pipeline that fails, for runners in Java).
"""

import contextlib
import contextvars
import os
import threading
import time
import uuid
from collections.abc import Iterator

from apache_beam.utils import thread_pool_executor

from penstock.io.errors import StoppedError

_MAX_WAIT_SECONDS = 60
_POLL_SECONDS = 0.01

_name: contextvars.ContextVar[str] = contextvars.ContextVar("pipeline_name", default="")
# For each pipeline that is in its block now: the threads that have worked for it, and the error that stopped it.
_threads: dict[str, set[threading.Thread]] = {}
_stopped: dict[str, Exception] = {}


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Wraps a block that builds and runs a pipeline; if the block fails, waits until the pipeline's threads have ended.

    A worker that starts after that stops at once.
    """
    name = f"{_process()}{uuid.uuid4().hex}"
    token = _name.set(name)
    threads = _threads[name] = set()
    try:
        yield
    except BaseException:
        _stopped.setdefault(name, StoppedError("the pipeline has failed on another worker"))
        _wait_for(threads)
        raise
    finally:
        del _threads[name]
        _stopped.pop(name, None)
        _name.reset(token)


def pipeline_name() -> str:
    """Returns the name of the pipeline that is being built; empty outside of `stoppable`."""
    return _name.get()


@contextlib.contextmanager
def failing_together(name: str) -> Iterator[None]:
    """Wraps a block whose failure also ends the other workers, with the same error: the runner reports the first one.

    Raises:
      StoppedError: when the block is entered, as in `check`.
    """
    _threads.get(name, set()).add(threading.current_thread())
    check(name)
    try:
        yield
    except Exception as error:
        if name in _threads:
            _stopped.setdefault(name, error)
        raise


def check(name: str) -> None:
    """Ends a worker whose pipeline has failed, or has left its block.

    Raises:
      StoppedError: when the pipeline has ended or failed; if a worker's error is known, that error instead.
    """
    error = _stopped.get(name)
    if error is not None:
        raise error
    if name not in _threads and name.startswith(_process()):
        raise StoppedError("the pipeline has ended")


def _process() -> str:
    """Returns the prefix of this process's names: workers in other processes do not know its pipelines."""
    return f"{os.getpid()}-"


def _wait_for(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    while any(map(is_busy, list(threads))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def is_busy(thread: threading.Thread) -> bool:
    """Returns whether a thread is one of Beam's workers, other than the one that asks, and has work."""
    # Beam's worker threads outlive pipelines; one without a work item is idle.
    is_worker = isinstance(thread, thread_pool_executor._Worker) and thread is not threading.current_thread()
    return is_worker and getattr(thread, "_work_item", None) is not None
