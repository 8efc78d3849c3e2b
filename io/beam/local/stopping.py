"""Stops a stream whose workers are threads of this process: it reads no more, and finishes what it has read.

A source takes the name of the stream that is being built inside `stream` (`stream_name`), and reads nothing more once
`is_stopping` is true: it defers what is left, for the checkpoint of a runner that keeps one, and its watermark stands
still. So no window closes that other rows may still belong to. Workers in other processes do not know the stream, and
read on until the runner ends it.

Beam's `PipelineResult` can only cancel; draining (beam#20055) is for runners that have it.
"""

import contextlib
import contextvars
import threading
import time
import uuid
from collections.abc import Iterator

from apache_beam.utils.timestamp import Duration

from penstock.io.beam.cancellation import is_busy

# A source that has stopped is asked again after this time, by which the stream is over.
REST = Duration(seconds=3600)

# Between two steps a runner takes some milliseconds to start the next one.
_QUIET_SECONDS = 0.5
_POLL_SECONDS = 0.02

_name: contextvars.ContextVar[str] = contextvars.ContextVar("stream_name", default="")
_stopping: set[str] = set()


@contextlib.contextmanager
def stream() -> Iterator[str]:
    """Wraps a block that builds and runs a stream on workers in this process; gives the name of the stream."""
    name = uuid.uuid4().hex
    token = _name.set(name)
    try:
        yield name
    finally:
        _stopping.discard(name)
        _name.reset(token)


def stream_name() -> str:
    """Returns the name of the stream that is being built; empty outside of `stream`."""
    return _name.get()


def stop_reading(name: str) -> None:
    """Lets the sources of a stream read no more; returns at once."""
    if name:  # a stream whose workers are here
        _stopping.add(name)


def is_stopping(name: str) -> bool:
    """Returns whether the sources of a stream are to read no more."""
    return name in _stopping


def wait_until_idle(seconds: float) -> bool:
    """Waits until no worker thread of this process has had work for half a second; returns whether that came in time.

    Args:
      seconds: the longest time to wait.
    """
    now = busy = time.monotonic()
    deadline = now + seconds
    while now < deadline and now - busy < _QUIET_SECONDS:
        time.sleep(_POLL_SECONDS)
        now = time.monotonic()
        if any(map(is_busy, threading.enumerate())):
            busy = now
    return now - busy >= _QUIET_SECONDS
