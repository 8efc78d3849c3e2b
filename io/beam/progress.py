"""Process-local counters that tell how far a pipeline is while it runs.

Beam's metrics of a local run are out of reach until it ends. These are only for showing: they count attempts, so a
retried bundle counts twice, and workers in other processes do not show. They are counted once a block or a batch.

=========== ====================================================================================
counter     of
=========== ====================================================================================
`bytes`     the input, as stored
`parts`     the files of the input, as they are spread over the workers
`rows`      the input
`rejected`  rows that became dead letters
`rolled`    rows whose rolling features are computed
`compared`  rows that are compared with those of the same key
`written`   bytes of records in shards, uncompressed
`shards`    the dataset
`windows`   published
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
      done: by name.
      planned: how much there is to do in all, as far as it is known, by name.
    """

    done: Mapping[str, int]
    planned: Mapping[str, int]


def add(**counts: int) -> None:
    """Adds what is done to counters by name."""
    with _lock:
        _done.update(counts)


def plan(**counts: int) -> None:
    """Adds to what there is to do, by the name of its counter."""
    with _lock:
        _planned.update(counts)


def snapshot() -> Counts:
    """All counters now."""
    with _lock:
        return Counts(dict(_done), dict(_planned))


def reset() -> None:
    """Back to zero, before a pipeline starts."""
    with _lock:
        _done.clear()
        _planned.clear()
