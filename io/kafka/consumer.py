"""A consumer that reads given offsets of given partitions, and tracks its position in each.

The process keeps it between bundles (`lease`): the next bundle needs the records that it has fetched ahead.
"""

import contextlib
import dataclasses
import itertools
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.errors import InputError
from penstock.io.kafka.client import Troubles, import_kafka, make_consumer, refusal
from penstock.io.kafka.offsets import Partition
from penstock.io.kafka.source import KafkaSource

_LOGGER = logging.getLogger(__name__)

Offsets = npt.NDArray[np.int64]

# Limits of one poll; larger ones only make batches that are split again.
_MAX_RECORDS = 20_000
_POLL_BYTES = 16 << 20

# How many messages live at the same time. More than 700 new objects start Python's garbage collector, which now and
# then scans all memory of a worker: that cost seven times as much as the messages themselves.
_AT_A_TIME = 500

_DEFAULTS = {
    # The client fetches at most this much ahead. Its default of 64 MiB, for each of several readers, is a lot for a
    # worker.
    "queued.max.messages.kbytes": 32 << 10,
    # A broker without new records answers after this time, and only then does a new assignment begin.
    "fetch.wait.max.ms": 100,
}

# A consumer is closed when it has been unused for this long.
_PARKED_SECONDS = 120.0

# A stream whose only topic is gone fails after this long: by then, nobody is just making it anew.
_GONE_SECONDS = 600.0

# How long the end offset that a broker gave stays valid, and how long to wait for its answer.
_PROBE_SECONDS = 5.0
_PROBE_TIMEOUT_SECONDS = 1.0
_AT_END, _AT_BEGINNING = -1, -2


@dataclasses.dataclass(frozen=True)
class PolledMessages:
    """Records of one partition in the order of their offsets, which may have gaps.

    Attributes:
      values: None for a tombstone.
      offsets: int64.
      times: int64, milliseconds since 1970; -1 where a record has none, or times are not wanted.
      keys: None where a record has none; all None when keys are not wanted and there is no tombstone.
      headers: for each record its (name, value) pairs or None; empty unless wanted.
    """

    values: Sequence[bytes | None]
    offsets: Offsets
    times: Offsets
    keys: Sequence[bytes | None] = ()
    headers: Sequence[Sequence[tuple[str, bytes | None]] | None] = ()

    def __len__(self) -> int:
        return len(self.values)

    def until(self, offset: int) -> "PolledMessages":
        """Returns the records before an offset."""
        count = int(np.searchsorted(self.offsets, offset))
        return self if count == len(self) else self.take(slice(0, count))

    def take(self, part: slice) -> "PolledMessages":
        """Returns a slice of the records."""
        return PolledMessages(
            self.values[part], self.offsets[part], self.times[part], self.keys[part], self.headers[part]
        )


@dataclasses.dataclass(frozen=True)
class WantedOffsets:
    """Which parts of a record to read besides value and offset; each part costs time."""

    times: bool = True
    keys: bool = False
    headers: bool = False


@dataclasses.dataclass(frozen=True)
class Poll:
    """The result of one poll.

    Attributes:
      records: by partition.
      ends: the end offset of each partition that is read to its end.
    """

    records: Mapping[Partition, PolledMessages]
    ends: Mapping[Partition, int]


class _Gathered:
    """The fields of records, in the order in which the records came.

    Only here does Python touch each record: about 0.4 us for one, besides the client's time to make it.
    """

    def __init__(self, kind: Any, wanted: WantedOffsets, with_topics: bool):
        self.values: list[bytes | None] = []
        self._offsets: list[int] = []
        self._times: list[int] = []
        self._numbers: list[int] = []
        self._topics: list[str] = []
        self._keys: list[bytes | None] = []
        self._headers: list[Any] = []
        self._kind = kind
        self._wanted = wanted
        self._with_topics = with_topics

    def add(self, messages: Sequence[Any]) -> None:
        """Adds messages, none of them an event."""
        kind, count = self._kind, len(messages)
        values = list(map(kind.value, messages))
        # `timestamp` gives pairs of a kind and a time; the time is -1 for the kind "not available".
        self._times += [at for _, at in map(kind.timestamp, messages)] if self._wanted.times else [-1] * count
        # A tombstone's dead letter shows its key.
        self._keys += map(kind.key, messages) if self._wanted.keys or None in values else [None] * count
        self._headers += map(kind.headers, messages) if self._wanted.headers else ()
        self._topics += map(kind.topic, messages) if self._with_topics else ()
        self._numbers += map(kind.partition, messages)
        self._offsets += map(kind.offset, messages)
        self.values += values

    def by_partition(self, topics: Sequence[str]) -> dict[Partition, PolledMessages]:
        """Joins the runs of each partition; the client gives records in runs of one partition, as it fetched them."""
        offsets, times = np.array(self._offsets, np.int64), np.array(self._times, np.int64)
        everything = PolledMessages(self.values, offsets, times, self._keys, self._headers)
        runs: dict[Partition, list[PolledMessages]] = {}
        for start, stop in itertools.pairwise(self._bounds()):
            topic = self._topics[start] if self._topics else topics[0]
            runs.setdefault((topic, self._numbers[start]), []).append(everything.take(slice(start, stop)))
        return {partition: parts[0] if len(parts) == 1 else _joined(parts) for partition, parts in runs.items()}

    def _bounds(self) -> list[int]:
        numbers = np.array(self._numbers, np.int64)
        cuts = np.flatnonzero(numbers[1:] != numbers[:-1]) + 1
        if self._topics:
            pairs = enumerate(itertools.pairwise(self._topics), 1)
            cuts = np.union1d(cuts, [index for index, (before, topic) in pairs if topic != before])
        return [0, *map(int, cuts), len(numbers)] if len(numbers) else []


class Reader:
    """One consumer with its assigned partitions.

    Attributes:
      source: the topics that it reads.
      positions: the next offset of each assigned partition.
      troubles: the errors that the client has reported.
    """

    def __init__(self, source: KafkaSource, wanted: WantedOffsets):
        self._kafka = import_kafka()
        self.source = source
        self._wanted = wanted
        self.troubles = Troubles(source.address)
        self._consumer = make_consumer(source, self.troubles, _DEFAULTS, on_commit=self._on_commit)
        self.positions: dict[Partition, int] = {}
        self._ends: dict[Partition, int] = {}
        self._busy: dict[Partition, float] = {}
        self._confirmed: set[Partition] = set()
        self._away: set[Partition] = set()
        self._probed = 0.0
        self._lost: set[Partition] = set()
        self._absent: set[Partition] = set()
        self._gone: set[Partition] = set()
        self._gone_since: dict[str, float] = {}
        self._limit = 100
        self._connected = False
        self._pauses = 0
        self._discovered = time.monotonic()

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def assign(self, positions: Mapping[Partition, int]) -> None:
        """Continues at these offsets; does nothing when the reader is there already, and so keeps fetched records."""
        if positions == self.positions:
            return
        moved = {partition for partition, offset in positions.items() if self.positions.get(partition) != offset}
        now = time.monotonic()
        self._busy = {partition: now if partition in moved else self._busy[partition] for partition in positions}
        self._ends = {
            partition: end for partition, end in self._ends.items() if partition in positions and partition not in moved
        }
        self._confirmed &= set(self._ends)
        self._gone &= positions.keys()
        self._lost = {partition for partition in self._lost if partition in positions and partition not in moved}
        self.positions = dict(positions)
        self._consumer.assign(
            [self._kafka.TopicPartition(*partition, offset) for partition, offset in positions.items()]
        )

    def poll(self, timeout: float) -> Poll:
        """Returns the records that come within `timeout` seconds, up to about 16 MiB.

        Raises:
          InputError: when the brokers refuse the client, or do not let it read a partition.
        """
        deadline = time.monotonic() + timeout
        gathered = _Gathered(self._kafka.Message, self._wanted, len(self.source.topics) != 1)
        ends: dict[Partition, int] = {}
        while len(gathered.values) < self._limit:
            wanted = min(_AT_A_TIME, self._limit - len(gathered.values))
            messages = self._consumer.consume(wanted, max(0.0, deadline - time.monotonic()))
            ends |= self._events([message for message in messages if message.error() is not None])
            gathered.add([message for message in messages if message.error() is None])
            if len(messages) < wanted:
                break
        self._adapt(gathered.values)
        records = gathered.by_partition(self.source.topics)
        if records or ends:
            self._connected = True
            self.troubles.clear()
        elif self.troubles.denied and not self._connected:
            raise refusal(self.source.address, self.troubles.denied)
        self._note(records, ends)
        return Poll(records, ends)

    def _events(self, messages: Sequence[Any]) -> dict[Partition, int]:
        ends: dict[Partition, int] = {}
        codes = self._kafka.KafkaError
        for message in messages:
            error, partition = message.error(), (message.topic(), message.partition())
            if error.code() == codes._PARTITION_EOF:
                ends[partition] = message.offset()
            elif error.code() == codes._AUTO_OFFSET_RESET:
                self._lost.add(partition)
            elif partition in self._gone:
                continue  # its warning has been given
            elif error.fatal() or error.code() in (codes.TOPIC_AUTHORIZATION_FAILED, codes.GROUP_AUTHORIZATION_FAILED):
                raise InputError(f"{self.source.uri(*partition)}: the partition cannot be read: {error.str()}")
            else:
                self.troubles.last = f"{error.name()}: {error.str()}"
                self.troubles.warn(error.name(), "%s: %s", self._where(partition), self.troubles.last)
        return ends

    def _where(self, partition: tuple[str | None, int]) -> str:
        return self.source.address if partition[0] is None else self.source.uri(partition[0], partition[1])

    def _adapt(self, values: Sequence[bytes | None]) -> None:
        """Lowers the number of records a poll when records are large."""
        if values:
            size = sum(len(value) for value in values[:100] if value) / min(len(values), 100) + 100
            self._limit = max(10, min(_MAX_RECORDS, int(_POLL_BYTES / size)))

    def _note(self, records: Mapping[Partition, PolledMessages], ends: Mapping[Partition, int]) -> None:
        if records:
            self._pauses = 0
        for partition, some in records.items():
            self.positions[partition] = int(some.offsets[-1]) + 1
            self._ends.pop(partition, None)
            self._confirmed.discard(partition)
        for partition, end in ends.items():
            if partition in self.positions and end >= self.positions[partition]:
                self.positions[partition] = self._ends[partition] = end

    def at_end(self) -> bool:
        """Returns whether every partition had no records left when it was last polled."""
        return len(self._ends.keys() | self._gone) == len(self.positions)

    def end(self, partition: Partition) -> int | None:
        """Returns the end offset of a partition, as its broker said with the last records; None before it did."""
        offsets = self._consumer.get_watermark_offsets(self._kafka.TopicPartition(*partition), cached=True)
        return None if offsets is None or offsets[1] < 0 else int(offsets[1])

    def lost(self) -> list[Partition]:
        """Returns partitions whose next offset the broker does not have; they give nothing until assigned again."""
        return sorted(self._lost)

    def pause(self, first: float, last: float) -> float:
        """Returns the seconds to wait when there is nothing to read: they double each time, from first to last."""
        self._pauses += 1
        return min(first * 2.0 ** (self._pauses - 1), last)

    def is_time_to_discover(self, seconds: float) -> bool:
        """Returns whether `seconds` have passed since this last returned True."""
        now = time.monotonic()
        if now - self._discovered < seconds:
            return False
        self._discovered = now
        return True

    def mark_busy(self, partition: Partition) -> None:
        """Restarts the idle time of a partition, since good rows have come from it."""
        if partition in self._busy:
            self._busy[partition] = time.monotonic()

    def active(self, idle_seconds: float) -> list[Partition]:
        """Returns the partitions that are not idle.

        A partition is idle when it is gone (`discover`), or when it gave no good row for `idle_seconds`, its broker
        could be reached all the while, and has just confirmed that there are no more records. The idle time starts anew
        when the broker is back: producers could not reach it either, and need time for what they held.
        """
        interval = min(_PROBE_SECONDS, max(idle_seconds / 4, 0.1))
        quiet = self._quiet_for(min(idle_seconds, interval))
        if quiet and time.monotonic() - self._probed >= interval:
            self._probe(quiet)
        idle = self._confirmed.intersection(self._quiet_for(idle_seconds)) | self._gone
        return [partition for partition in self.positions if partition not in idle]

    def _probe(self, partitions: Collection[Partition]) -> None:
        """Asks the brokers for the ends of partitions."""
        ends = self.look_up(partitions, _AT_END)
        self._probed = time.monotonic()
        away = {partition for partition in partitions if partition not in ends}
        self._busy |= dict.fromkeys(away | self._away.intersection(partitions), self._probed)
        self._away = away
        self._confirmed = {partition for partition in partitions if ends.get(partition) == self.positions[partition]}

    def _quiet_for(self, seconds: float) -> list[Partition]:
        """Returns the partitions that are read to their end, and gave no good row for some time."""
        now = time.monotonic()
        ended = self._ends.keys() - self._gone
        return [partition for partition in ended if now - self._busy[partition] >= seconds]

    def look_up(self, partitions: Collection[Partition], millis: int) -> dict[Partition, int]:
        """Returns offsets of partitions at a time or at `_AT_END`, without partitions that do not answer at once."""
        asked = [self._kafka.TopicPartition(*partition, millis) for partition in partitions]
        try:
            found = self._consumer.offsets_for_times(asked, timeout=_PROBE_TIMEOUT_SECONDS)
        except self._kafka.KafkaException:
            return {}
        return {(item.topic, item.partition): item.offset for item in found if item.error is None}

    def beginnings(self, partitions: Collection[Partition]) -> dict[Partition, int]:
        """Returns the lowest offsets that the brokers have."""
        return self.look_up(partitions, _AT_BEGINNING)

    def discover(self) -> list[Partition]:
        """Returns all partitions that the topics have now; empty when no broker answers at once.

        An assigned partition that two answers in a row do not have is gone: nothing waits for it, until its topic is
        made anew. One answer may be that of a broker which has just started and does not know all topics.
        """
        found = self._partitions()
        if found is None:
            return []
        absent = self.positions.keys() - set(found)
        gone = absent & self._absent
        self._absent, self._gone = absent, gone
        self._tell_gone()
        return found

    def _tell_gone(self) -> None:
        """Warns of topics that are gone, as long as they are.

        Raises:
          InputError: when the only topic of the source has been gone for `_GONE_SECONDS`.
        """
        now = time.monotonic()
        self._gone_since = {topic: self._gone_since.get(topic, now) for topic in {topic for topic, _ in self._gone}}
        for topic, since in sorted(self._gone_since.items()):
            if self.source.topics == (topic,) and now - since >= _GONE_SECONDS:
                raise InputError(
                    f"{self.source.uri(topic)}: the topic has been gone for {now - since:.0f} s, and there is no other "
                    "to read; make it anew, and start the job again"
                )
            how_long = f", for {now - since:.0f} s now" if now > since else ""
            _LOGGER.warning("%s: the topic is gone%s: the stream goes on without it", self.source.uri(topic), how_long)

    def _partitions(self) -> list[Partition] | None:
        asked = self.source.topics or [None]  # None: all topics, for a pattern
        try:
            answers = [self._consumer.list_topics(topic, timeout=_PROBE_TIMEOUT_SECONDS).topics for topic in asked]
        except self._kafka.KafkaException:
            return None
        return [
            (topic, number)
            for topics in answers
            for topic, metadata in sorted(topics.items())
            if self.source.matches(topic)
            for number in sorted(metadata.partitions)
        ]

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commits offsets to the group; a failure is only a warning, since nothing depends on it."""
        positions = [self._kafka.TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        try:
            self._consumer.commit(offsets=positions, asynchronous=True)
        except (self._kafka.KafkaException, RuntimeError) as error:
            self._warn_of_commit(error)

    def _on_commit(self, error: Any, partitions: Sequence[Any]) -> None:
        failed = error or next((item.error for item in partitions if item.error is not None), None)
        if failed is not None:
            self._warn_of_commit(failed)

    def _warn_of_commit(self, error: Any) -> None:
        self.troubles.warn(
            "commit", "%s: committing to group %s failed: %s", self.source.address, self.source.group, error
        )


def _joined(parts: Sequence[PolledMessages]) -> PolledMessages:
    return PolledMessages(
        [value for part in parts for value in part.values],
        np.concatenate([part.offsets for part in parts]),
        np.concatenate([part.times for part in parts]),
        [key for part in parts for key in part.keys],
        [headers for part in parts for headers in part.headers],
    )


@dataclasses.dataclass
class _Parked:
    reader: Reader
    since: float


_lock = threading.Lock()
_parked: dict[Any, list[_Parked]] = {}


@contextlib.contextmanager
def lease(key: Any, make: Callable[[], Reader]) -> Iterator[Reader]:
    """Lends a reader for one bundle: the last one used under this key, if it is free; else a new one.

    Beam gives a resumed restriction to any of several DoFn instances, so readers belong to the process. A reader whose
    bundle failed is closed.
    """
    with _lock:
        stale = _take_stale()
        reader = _parked[key].pop().reader if _parked.get(key) else None
    _close(stale)
    reader = reader or make()
    try:
        yield reader
    except BaseException:
        reader.close()
        raise
    with _lock:
        _parked.setdefault(key, []).append(_Parked(reader, time.monotonic()))


def _take_stale() -> list[Reader]:
    limit = time.monotonic() - _PARKED_SECONDS
    stale = [item.reader for items in _parked.values() for item in items if item.since < limit]
    for key in list(_parked):
        _parked[key] = [item for item in _parked[key] if item.since >= limit]
        if not _parked[key]:
            del _parked[key]
    return stale


def close_parked(belongs: Callable[[Any], bool]) -> None:
    """Closes the unused readers of these keys."""
    with _lock:
        readers = [item.reader for key in list(_parked) if belongs(key) for item in _parked.pop(key)]
    _close(readers)


def _close(readers: Sequence[Reader]) -> None:
    for reader in readers:
        reader.close()
