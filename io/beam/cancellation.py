"""Ending all worker threads of a pipeline when one has failed: Beam's local runner lets the others go on.

A pipeline that is built inside `stoppable` gives its name to the DoFns that work long (`pipeline_name`, while the graph
is built). They do their work in `failing_together` and `check` from batch to batch. Only for runners that do not try
again: a stopped pipeline stays stopped.

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
# Of the pipelines that are in their block now: the threads that have worked for each, and why it is stopped.
_threads: dict[str, set[threading.Thread]] = {}
_stopped: dict[str, Exception] = {}


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A block that builds and runs a pipeline; when it fails, the pipeline's threads have ended when it is left.

    A worker that only begins after that stops at once.
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
    """The name of the pipeline that is being built; empty outside of `stoppable`."""
    return _name.get()


@contextlib.contextmanager
def failing_together(name: str) -> Iterator[None]:
    """A block whose failure ends the other workers too, with the same error: the runner reports the first of them.

    Raises:
      StoppedError: as `check`, when the block is entered.
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
    """Ends a worker whose pipeline has failed, or is not in its block any more.

    Raises:
      StoppedError: or the error of the worker that has failed.
    """
    error = _stopped.get(name)
    if error is not None:
        raise error
    if name not in _threads and name.startswith(_process()):
        raise StoppedError("the pipeline has ended")


def _process() -> str:
    """What names begin with that are of this process: workers in others know nothing of its pipelines."""
    return f"{os.getpid()}-"


def _wait_for(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    while any(map(_is_busy, list(threads))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _is_busy(thread: threading.Thread) -> bool:
    # Beam's worker threads outlive pipelines, and are idle without a work item.
    is_worker = isinstance(thread, thread_pool_executor._Worker) and thread is not threading.current_thread()
    return is_worker and getattr(thread, "_work_item", None) is not None
