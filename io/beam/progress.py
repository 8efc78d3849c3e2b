"""Process-local counters that show the progress of a running pipeline.

Beam's metrics of a local run are not available until it ends. These counters are only for display: they count attempts,
so a retried bundle counts twice, and they miss workers in other processes. Steps count once a block or a batch.

=========== ====================================================================================
counter     of
=========== ====================================================================================
`bytes`     bytes of the input, as stored
`parts`     parts of input files, which are spread over the workers
`rows`      rows of the input
`rejected`  rows that became dead letters
`rolled`    rows whose rolling features are computed
`compared`  rows that are compared with those of the same key
`written`   bytes of records in shards, uncompressed
`shards`    shards of the dataset
`windows`   published windows
=========== ====================================================================================
"""

import collections
import dataclasses
import threading
from collections.abc import Mapping

_lock = threading.Lock()
_done: collections.Counter[str] = collections.Counter()
_planned: collections.Counter[str] = collections.Counter()


@dataclasses.dataclass(frozen=True)
class Counts:
    """All counters at one moment.

    Attributes:
      done: the work done, by name.
      planned: the total work as far as it is known, by name.
    """

    done: Mapping[str, int]
    planned: Mapping[str, int]


def add(**counts: int) -> None:
    """Adds done work to counters by name."""
    with _lock:
        _done.update(counts)


def plan(**counts: int) -> None:
    """Adds planned work to counters by name."""
    with _lock:
        _planned.update(counts)


def snapshot() -> Counts:
    """Returns all counters."""
    with _lock:
        return Counts(dict(_done), dict(_planned))


def reset() -> None:
    """Sets all counters to zero, before a pipeline starts."""
    with _lock:
        _done.clear()
        _planned.clear()
