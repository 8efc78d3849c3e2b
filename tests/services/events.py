"""Keyed events for a topic, some late by plan, and what a dataset of windows holds of them.

An event's `id` is its place in the stream; `arrival` is when it is due to be produced, `time` its event time, both in
milliseconds since 1970. One in ten is out of order by up to the lateness, one in a hundred is older than that. Some may
have a wrong clock. A producer may leave partitions of the topic without events, and go on into others later.
"""

import collections
import dataclasses
import json
import pathlib
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.io.dataset.windowed.manifest import Pane, WindowManifest, read_window_manifests

SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "user" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "amount" type: FLOAT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "at" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
"""

_PRODUCE_SECONDS = 0.05
_USERS = 997

# Milliseconds since 1970.
_IN_1970, _IN_2999 = 5 * 86_400_000, 32_472_144_000_000

# Milliseconds since 1970.
Millis = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Events:
    """The events of a test: all of it follows from seed, count, duration and lateness (milliseconds)."""

    arrival: Millis
    time: Millis
    user: npt.NDArray[np.int64]
    wild: npt.NDArray[np.bool_] | None = None

    @classmethod
    def make(cls, seed: int, count: int, duration: int, lateness: int, wild: float = 0) -> Self:
        """Events that arrive evenly over a duration, from time 0 on; `starting` sets the clock.

        A part of them is `wild`: of the years 1970 and 2999.
        """
        random = np.random.default_rng(seed)
        arrival = np.arange(count) * duration // count
        kind = random.random(count)
        behind = np.where(kind < 0.10, random.integers(0, lateness, count), 0)
        behind = np.where(kind > 0.99, random.integers(2 * lateness, 4 * lateness, count), behind)
        users = random.zipf(1.5, count) % _USERS
        return cls(arrival, arrival - behind, users, random.random(count) < wild)

    def starting(self, at: int) -> Self:
        """The same events, the first of which arrives at a time."""
        times = self.time + at
        if self.wild is not None:
            times = np.where(self.wild, np.where(np.arange(len(self)) % 2, _IN_1970, _IN_2999), times)
        return dataclasses.replace(self, arrival=self.arrival + at, time=times)

    def __len__(self) -> int:
        return len(self.arrival)

    def value(self, index: int) -> bytes:
        """An event as the topic has it."""
        row = {"id": index, "user": f"u{self.user[index]}", "amount": index % 1000 / 4, "at": int(self.time[index])}
        return json.dumps(row).encode()

    @property
    def in_order(self) -> npt.NDArray[np.bool_]:
        """The events whose time is that of their arrival."""
        return self.time == self.arrival


class Producer(threading.Thread):
    """Produces events when they are due; each is in the topic once, also when the broker goes away for a while.

    Attributes:
      partitions: those that get events, by user; None for all of them, by Kafka's hash of the user.
      produced: how many events, the first ones, are given to the client.
      joined: the first event that may be in a partition that was added.
    """

    def __init__(self, address: str, topic: str, events: Events, partitions: Sequence[int] | None = None):
        super().__init__(daemon=True)
        from confluent_kafka import Producer as Client

        settings = {"bootstrap.servers": address, "enable.idempotence": True, "message.timeout.ms": 600_000}
        self._client = Client({**settings, "queue.buffering.max.messages": 1_000_000, "log_level": 0})
        self.topic, self.events = topic, events
        self._ended, self._turn = threading.Event(), threading.Lock()
        self.partitions = partitions
        self.produced = 0
        self.joined = len(events)
        self.failed: list[str] = []

    def run(self) -> None:
        """Until all are delivered, or the thread is to end."""
        while self.produced < len(self.events) and not self._ended.wait(_PRODUCE_SECONDS):
            due = int(np.searchsorted(self.events.arrival, time.time() * 1000, side="right"))
            with self._turn:
                for index in range(self.produced, due):
                    self._produce(index)
                self.produced = max(due, self.produced)
            self._client.poll(0)
        if not self._ended.is_set():
            self._client.flush(300)

    def _produce(self, index: int) -> None:
        user = int(self.events.user[index])
        where = {} if self.partitions is None else {"partition": self.partitions[user % len(self.partitions)]}
        self._client.produce(self.topic, self.events.value(index), f"u{user}", on_delivery=self._delivered, **where)

    def extend(self, partition: int) -> None:
        """Goes on into one more partition, which was added to the topic."""
        deadline = time.monotonic() + 60
        while partition not in self._client.list_topics(self.topic, timeout=30).topics[self.topic].partitions:
            assert time.monotonic() < deadline, f"the broker does not tell of partition {partition}"
            time.sleep(0.1)
        with self._turn:
            self.partitions, self.joined = (*(self.partitions or ()), partition), self.produced

    def is_in(self, partition: int) -> npt.NDArray[np.bool_]:
        """The events that are in the partition that was added last."""
        users = np.asarray(self.partitions)[self.events.user % len(self.partitions or ())]
        return (users == partition) & (np.arange(len(self.events)) >= self.joined)

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self.failed.append(str(error))

    def finish(self) -> int:
        """Produces no more; how many events are in the topic, the first ones.

        Raises:
          AssertionError: if some could not be delivered.
        """
        self.close()
        assert self._client.flush(300) == 0, "the broker does not take all events"
        assert self.failed == []
        return self.produced

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self.join()


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the manifests of a dataset's windows list, read from their files: ids of events, in no order.

    Attributes:
      on_time: of rows in shards of panes on time.
      late: of rows in shards of late panes.
      letters: of dead letters, by reason.
    """

    manifests: tuple[WindowManifest, ...]
    on_time: Ids
    late: Ids
    letters: Mapping[str, Ids]

    @property
    def rows(self) -> Ids:
        """Those in shards."""
        return np.concatenate([self.on_time, self.late])

    @property
    def rejected(self) -> Ids:
        """Those in dead letters, for any reason."""
        return np.concatenate([np.zeros(0, np.int64), *self.letters.values()])

    @property
    def all(self) -> Ids:
        """Each place in which an event is, in the order of ids."""
        return np.sort(np.concatenate([self.rows, self.rejected]))


def sums(output: pathlib.Path) -> Counter[str]:
    """Sums over the manifests that are there now; `final` counts windows."""
    found: Counter[str] = Counter()
    for manifest in read_window_manifests(str(output)):
        found.update(windows=1, final=int(manifest.final), rows_in=manifest.rows_in, rows_late=manifest.rows_late)
        found.update(rows_on_time=manifest.rows_on_time, rows_rejected=manifest.rows_rejected)
    return found


def read_contents(output: pathlib.Path, events: Events) -> Contents:
    """Reads what is listed; checks counts against manifests, rows against windows, and that all files are listed."""
    found = read_listed(output, events)
    listed = {file for manifest in found.manifests for file in manifest.files()}
    written = {str(path.relative_to(output)) for path in output.glob("train/**/*") if path.is_file()}
    assert written <= listed, f"in no manifest: {sorted(written - listed)[:5]}"
    return found


def read_listed(output: pathlib.Path, events: Events) -> Contents:
    """Reads what is listed; checks counts against manifests, and rows against windows. Nobody may publish meanwhile."""
    manifests = tuple(read_window_manifests(str(output)))
    panes: dict[str, list[Ids]] = {"on_time": [np.zeros(0, np.int64)], "late": [np.zeros(0, np.int64)]}
    letters: dict[str, list[int]] = collections.defaultdict(list)
    for manifest in manifests:
        own, rejected = _shard_ids(output, manifest), _letter_ids(output, manifest)
        rows = np.concatenate(list(own.values()))
        assert manifest.rows_in == manifest.rows_out + manifest.rows_rejected, manifest.window
        assert manifest.rows_out == manifest.rows_on_time + manifest.rows_late == len(rows), manifest.window
        assert manifest.rows_late == len(own["late"]), manifest.window
        assert manifest.rows_rejected == sum(map(len, rejected.values())), manifest.window
        start, end = bounds(manifest)
        times = (events.arrival if manifest.is_flushed else events.time)[rows]
        start = 0 if manifest.is_flushed else start  # a window begins when rows have come, later than they were sent
        assert ((times >= start) & (times < end)).all(), f"rows of other windows in {manifest.window}"
        for pane, ids in own.items():
            panes[pane].append(ids)
        for reason, some in rejected.items():
            letters[reason] += some
    by_reason = {reason: np.array(ids, np.int64) for reason, ids in letters.items()}
    return Contents(manifests, np.concatenate(panes["on_time"]), np.concatenate(panes["late"]), by_reason)


def bounds(manifest: WindowManifest) -> tuple[int, int]:
    """Start and end of a window, in milliseconds since 1970."""
    start, end = (int(np.datetime64(text.rstrip("Z"), "ms").astype(np.int64)) for text in manifest.window)
    return start, end


def _shard_ids(output: pathlib.Path, manifest: WindowManifest) -> dict[Pane, Ids]:
    """By pane, as TensorFlow reads them: nothing of ours that writes is used to read."""
    import tensorflow as tf

    found: dict[Pane, Ids] = {}
    for pane in ("on_time", "late"):
        paths = [str(output / shard.path) for shard in manifest.shards if shard.pane == pane]
        records = tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(10_000)
        features = {"id": tf.io.FixedLenFeature([], tf.int64)}
        ids = [tf.io.parse_example(batch, features)["id"].numpy() for batch in records]
        found[pane] = np.concatenate([np.zeros(0, np.int64), *ids])
    return found


def _letter_ids(output: pathlib.Path, manifest: WindowManifest) -> dict[str, list[int]]:
    found: dict[str, list[int]] = collections.defaultdict(list)
    for file in manifest.dead_letters:
        letters = [json.loads(line) for line in (output / file.path).read_text().splitlines()]
        assert len(letters) == file.records, file.path
        allowed = {"schema.domain"} if manifest.is_flushed else {"late", "future"}
        assert {letter["reason"] for letter in letters} <= allowed, file.path
        for letter in letters:
            found[letter["reason"]].append(json.loads(letter["payload"])["id"])
    return found
