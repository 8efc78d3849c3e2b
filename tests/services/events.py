"""Keyed events for a topic, some late by plan, and what a dataset of windows holds of them.

An event's `id` is its place in the stream; `arrival` is when it is due to be produced, `time` its event time, both in
milliseconds since 1970. One in ten is out of order by up to the lateness, one in a hundred is older than that.
"""

import dataclasses
import json
import pathlib
import threading
import time
from collections import Counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.io.dataset.windowed.manifest import WindowManifest, read_window_manifests

SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "user" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "amount" type: FLOAT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
feature { name: "at" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
"""

_PRODUCE_SECONDS = 0.05
_USERS = 997

# Milliseconds since 1970.
Millis = npt.NDArray[np.int64]
Ids = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Events:
    """The events of a test: all of it follows from seed, count, duration and lateness (milliseconds)."""

    arrival: Millis
    time: Millis
    user: npt.NDArray[np.int64]

    @classmethod
    def make(cls, seed: int, count: int, duration: int, lateness: int) -> Self:
        """Events that arrive evenly over a duration, from time 0 on; `starting` sets the clock."""
        random = np.random.default_rng(seed)
        arrival = np.arange(count) * duration // count
        kind = random.random(count)
        behind = np.where(kind < 0.10, random.integers(0, lateness, count), 0)
        behind = np.where(kind > 0.99, random.integers(2 * lateness, 4 * lateness, count), behind)
        return cls(arrival, arrival - behind, random.zipf(1.5, count) % _USERS)

    def starting(self, at: int) -> Self:
        """The same events, the first of which arrives at a time."""
        return dataclasses.replace(self, arrival=self.arrival + at, time=self.time + at)

    def __len__(self) -> int:
        return len(self.arrival)

    def value(self, index: int) -> bytes:
        """An event as the topic has it."""
        row = {"id": index, "user": f"u{self.user[index]}", "amount": index % 1000 / 4, "at": int(self.time[index])}
        return json.dumps(row).encode()

    def late(self, produced: int, manifest: WindowManifest, order: int) -> int:
        """How many of the first events a stream that waits so many milliseconds takes for late in a window."""
        start, end = bounds(manifest)
        late = (self.time >= start) & (self.time < end) & (self.arrival >= end + order)
        return int(late[:produced].sum())


class Producer(threading.Thread):
    """Produces events when they are due; each is in the topic once, also when the broker goes away for a while."""

    def __init__(self, address: str, topic: str, events: Events):
        super().__init__(daemon=True)
        from confluent_kafka import Producer as Client

        settings = {"bootstrap.servers": address, "enable.idempotence": True, "message.timeout.ms": 300_000}
        self._client = Client({**settings, "queue.buffering.max.messages": 1_000_000, "log_level": 0})
        self._topic, self._events = topic, events
        self._ended = threading.Event()
        self.produced = 0
        self.failed: list[str] = []

    def run(self) -> None:
        """Until all are delivered, or the thread is to end."""
        while self.produced < len(self._events) and not self._ended.wait(_PRODUCE_SECONDS):
            due = int(np.searchsorted(self._events.arrival, time.time() * 1000, side="right"))
            for index in range(self.produced, due):
                key = f"u{self._events.user[index]}"
                self._client.produce(self._topic, self._events.value(index), key, on_delivery=self._delivered)
            self.produced = max(due, self.produced)
            self._client.poll(0)
        if not self._ended.is_set():
            self._client.flush(300)

    def _delivered(self, error: Any, _: Any) -> None:
        if error is not None:
            self.failed.append(str(error))

    def close(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self.join()


@dataclasses.dataclass(frozen=True)
class Contents:
    """What the manifests of a dataset's windows list, read from their files: ids of events, in no order."""

    manifests: tuple[WindowManifest, ...]
    rows: Ids
    late_letters: Ids


def sums(output: pathlib.Path) -> Counter[str]:
    """Sums over the manifests that are there now; `final` counts windows."""
    found: Counter[str] = Counter()
    for manifest in read_window_manifests(str(output)):
        found.update(windows=1, final=int(manifest.final), rows_in=manifest.rows_in, rows_late=manifest.rows_late)
        found.update(rows_on_time=manifest.rows_on_time, rows_rejected=manifest.rows_rejected)
    return found


def read_contents(output: pathlib.Path, events: Events) -> Contents:
    """Reads what is listed; checks counts against manifests, rows against windows, and that all files are listed."""
    manifests = tuple(read_window_manifests(str(output)))
    rows, letters = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for manifest in manifests:
        rows.append(_shard_ids(output, manifest))
        letters.append(_late_ids(output, manifest))
        assert manifest.rows_in == manifest.rows_out + manifest.rows_rejected, manifest.window
        assert manifest.rows_out == manifest.rows_on_time + manifest.rows_late == len(rows[-1]), manifest.window
        assert manifest.rows_rejected == len(letters[-1]), manifest.window
        start, end = bounds(manifest)
        times = events.time[rows[-1]]
        assert ((times >= start) & (times < end)).all(), f"rows of other windows in {manifest.window}"
    listed = {file for manifest in manifests for file in manifest.files()}
    written = {str(path.relative_to(output)) for path in output.glob("train/**/*") if path.is_file()}
    assert written <= listed, f"in no manifest: {sorted(written - listed)[:5]}"
    return Contents(manifests, np.concatenate(rows), np.concatenate(letters))


def bounds(manifest: WindowManifest) -> tuple[int, int]:
    """Start and end of a window, in milliseconds since 1970."""
    start, end = (int(np.datetime64(text.rstrip("Z"), "ms").astype(np.int64)) for text in manifest.window)
    return start, end


def _shard_ids(output: pathlib.Path, manifest: WindowManifest) -> Ids:
    """As TensorFlow reads them: nothing of ours that writes is used to read."""
    import tensorflow as tf

    paths = [str(output / shard.path) for shard in manifest.shards]
    records = tf.data.TFRecordDataset(paths, compression_type="GZIP").batch(10_000)
    features = {"id": tf.io.FixedLenFeature([], tf.int64)}
    ids = [tf.io.parse_example(batch, features)["id"].numpy() for batch in records]
    return np.concatenate([np.zeros(0, np.int64), *ids])


def _late_ids(output: pathlib.Path, manifest: WindowManifest) -> Ids:
    ids = []
    for file in manifest.dead_letters:
        letters = [json.loads(line) for line in (output / file.path).read_text().splitlines()]
        assert len(letters) == file.records, file.path
        assert {letter["reason"] for letter in letters} <= {"late"}, file.path
        ids += [json.loads(letter["payload"])["id"] for letter in letters]
    return np.array(ids, np.int64)
