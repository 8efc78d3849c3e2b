"""Ending all worker threads of a pipeline when one has failed: Beam's local runner lets the others go on.

A pipeline that is built inside `stoppable` gives its name to the DoFns that work long (`pipeline_name`, while the graph
is built). They do their work in `failing_together` and `check` from batch to batch. Only for runners that do not try
again: a stopped pipeline stays stopped.
"""

import contextlib
import contextvars
import threading
import time
import uuid
from collections.abc import Iterator

from apache_beam.utils import thread_pool_executor

from penstock.io.errors import StoppedError

_MAX_WAIT_SECONDS = 60
_POLL_SECONDS = 0.01

_name: contextvars.ContextVar[str] = contextvars.ContextVar("pipeline_name", default="")
_threads: dict[str, set[threading.Thread]] = {}
_stopped: dict[str, Exception] = {}


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """A block that builds and runs a pipeline; when it fails, the pipeline's threads have ended when it is left."""
    name = uuid.uuid4().hex
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
    """A block whose failure ends the other workers too, with the same error: the runner reports the first of them."""
    if name in _threads:
        _threads[name].add(threading.current_thread())
    try:
        yield
    except Exception as error:
        if name in _threads:
            _stopped.setdefault(name, error)
        raise


def check(name: str) -> None:
    """Ends a worker whose pipeline has failed.

    Raises:
      StoppedError: or the error of the worker that has failed.
    """
    if name in _stopped:
        raise _stopped[name]


def _wait_for(threads: set[threading.Thread]) -> None:
    deadline = time.monotonic() + _MAX_WAIT_SECONDS
    while any(map(_is_busy, list(threads))) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)


def _is_busy(thread: threading.Thread) -> bool:
    # Beam has no public way to ask. Its worker threads outlive pipelines, and are idle without a work item.
    is_worker = isinstance(thread, thread_pool_executor._Worker) and thread is not threading.current_thread()
    return is_worker and getattr(thread, "_work_item", None) is not None
