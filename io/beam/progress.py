"""Process-local counters that show the progress of a running pipeline.

Beam's metrics of a local run are not available until it ends. These counters are only for display: they count attempts,
so a retried bundle counts twice, and of workers in other processes they have only those that this process has forked.
Steps count once a block or a batch.

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
`final`     windows that are published with their late rows
`bad`       published windows with too many rejects
`late`      rows that came late or too late for their window
=========== ====================================================================================

Streams also tell what is so now: `open` is the number of windows that wait for rows, and `published_at` when a window
was published last, seconds since 1970. With windows of processing time, `waiting` is the number of rows in the open
one, and `opened` its start, microseconds since 1970, or 0. `closed` is how many closings of panes there were in this
start, and `noted` how many of them are known to be published (`penstock.io.dataset.windowed.manifest.Closing`). Their
readers tell where they are in each partition (`read_positions`).
"""

import collections
import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping

_lock = threading.Lock()
_done: collections.Counter[str] = collections.Counter()
_planned: collections.Counter[str] = collections.Counter()
_values: dict[str, int] = {}
_positions: "dict[str, ReadPosition]" = {}


@dataclasses.dataclass(frozen=True)
class Counts:
    """All counters at one moment.

    Attributes:
      done: the work done, by name.
      planned: the total work as far as it is known, by name.
      values: what is so at this moment, by name.
      positions: where streams are, by the URI of the partition, in the order of URIs.
    """

    done: Mapping[str, int]
    planned: Mapping[str, int]
    values: Mapping[str, int] = dataclasses.field(default_factory=dict)
    positions: "Mapping[str, ReadPosition]" = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ReadPosition:
    """Where a stream is in one partition.

    Attributes:
      watermark: the event time up to which its rows are expected to have come, microseconds since 1970, UTC; None
        before its first good row. The watermark of the stream is that of the slowest partition that is not idle.
      position: the offset that is read next.
      end: the offset behind its last record, as the broker last said; None when it is not known.
      is_idle: whether it has given nothing for so long that it holds no window open.
    """

    watermark: int | None
    position: int
    end: int | None
    is_idle: bool = False

    @property
    def lag(self) -> int | None:
        """The number of offsets that are left to read; None when the end is not known."""
        return None if self.end is None else max(0, self.end - self.position)


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
        return Counts(dict(_done), dict(_planned), dict(_values), dict(sorted(_positions.items())))


def take() -> Counts:
    """Returns what was counted since the last call, and counts from zero again."""
    with _lock:
        counts = Counts(dict(_done), dict(_planned))
        _done.clear()
        _planned.clear()
        return counts


@contextlib.contextmanager
def at_rest() -> Iterator[None]:
    """A block in which no other thread counts, so that a fork does not get a lock that nobody releases."""
    with _lock:
        yield


def tell(**values: int) -> None:
    """Tells what is so now, by name."""
    with _lock:
        _values.update(values)


def tell_positions(positions: Mapping[str, ReadPosition]) -> None:
    """Tells where a stream is in some partitions, by URI."""
    with _lock:
        _positions.update(positions)


def read_positions() -> dict[str, ReadPosition]:
    """Returns where the streams of this process are, by the URI of the partition, in the order of URIs."""
    with _lock:
        return dict(sorted(_positions.items()))


def reset() -> None:
    """Sets all counters to zero and forgets all positions, before a pipeline starts."""
    with _lock:
        _done.clear()
        _planned.clear()
        _values.clear()
        _positions.clear()
