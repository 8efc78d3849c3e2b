"""Process-local counters that a progress bar can read while a pipeline runs.

Beam's metrics of a local run are out of reach until it ends. These are only for showing: they count attempts, so a
retried bundle counts twice, and workers in other processes do not show.
"""

import collections
import threading

_lock = threading.Lock()
_counts: collections.Counter[str] = collections.Counter()


def add(**counts: int) -> None:
    """Adds to counters by name: bytes, rows, rejected, ..."""
    with _lock:
        _counts.update(counts)


def snapshot() -> dict[str, int]:
    """All counters now."""
    with _lock:
        return dict(_counts)


def reset() -> None:
    """Back to zero, before a pipeline starts."""
    with _lock:
        _counts.clear()
