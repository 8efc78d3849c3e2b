"""Events from a Kafka broker, on a real Flink cluster, while parts of both are killed: each is in the dataset once."""

import os
import random
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from deploy.flink.local_cluster import LocalCluster
from services.events import Events, Producer, read_contents, sums
from services.kafka_broker import KafkaBroker
from services.stream_job import LATENESS, ORDER, StreamJob

from penstock.io.dataset.windowed.manifest import read_window_manifests

pytestmark = pytest.mark.integration

EVENTS = int(os.environ.get("PENSTOCK_TEST_EVENTS", 200_000))
# A run is repeated with the seed that it printed.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.randrange(10**6)))

# Milliseconds.
DURATION = 150_000


@pytest.fixture
def stream(kafka, flink_cluster, tmp_path) -> Iterator[tuple[StreamJob, Producer, Events]]:
    """A job that reads a topic, and a thread that fills it."""
    topic = f"events-{SEED}"
    kafka.create_topic(topic)
    # Nothing is idle while the broker is away: its clock would make all that comes after it too late.
    job = StreamJob(flink_cluster, f"kafka://{kafka.address}/{topic}?readers=2", tmp_path, "--idle_timeout=30s")
    job.wait_for("a checkpoint", lambda: job.completed() > 0)
    events = Events.make(SEED, EVENTS, DURATION, LATENESS).starting(int(time.time() * 1000))
    producer = Producer(kafka.address, topic, events)
    producer.start()
    try:
        yield job, producer, events
    finally:
        producer.close()
        job.end()


def kill_task_manager(chance: random.Random, cluster: LocalCluster, kafka: KafkaBroker) -> None:
    """One of the two; another one takes its place."""
    service = chance.choice(cluster.task_managers)
    service.kill()
    time.sleep(chance.uniform(0, 3))
    service.start()


def kill_worker(chance: random.Random, cluster: LocalCluster, kafka: KafkaBroker) -> None:
    """A Python process; its TaskManager asks for another one."""
    os.kill(chance.choice(cluster.workers()), signal.SIGKILL)


def kill_broker(chance: random.Random, cluster: LocalCluster, kafka: KafkaBroker) -> None:
    """The only one; its files stay."""
    kafka.kill()
    time.sleep(chance.uniform(1, 5))
    kafka.start()


def late_rows_pending(job: StreamJob, producer: Producer, events: Events) -> int:
    """Late rows that were produced for windows which are published and not final."""
    pending = [manifest for manifest in read_window_manifests(str(job.output)) if not manifest.final]
    return sum(events.late(producer.produced, manifest, ORDER) for manifest in pending)


def test_each_event_is_in_the_dataset_once_whatever_is_killed(stream, kafka, flink_cluster):
    job, producer, events = stream
    chance = random.Random(SEED)
    print(f"seed {SEED}, {EVENTS:,} events")
    for kill in (kill_task_manager, kill_worker, kill_broker):
        windows = sums(job.output)["windows"]
        job.wait_for("three windows more", lambda seen=windows: sums(job.output)["windows"] >= seen + 3)
        time.sleep(chance.uniform(0, 4))
        job.wait_for("late rows", lambda: late_rows_pending(job, producer, events) > 0)
        pending = late_rows_pending(job, producer, events)
        completed, restored, started = job.completed(), job.restored(), time.monotonic()
        kill(chance, flink_cluster, kafka)
        if kill is not kill_broker:
            job.wait_for("a restored checkpoint", lambda seen=restored: job.restored() > seen)
        job.wait_for("a checkpoint after it", lambda seen=completed: job.completed() > seen)
        restarts = job.restored() - restored
        latest = flink_cluster.rest.checkpoints(job.id)["latest"]["restored"]
        print(
            f"{kill.__name__}: {sums(job.output)['windows']} windows published, {pending} late rows pending; "
            f"{restarts} restarts, {time.monotonic() - started:.0f} s; restored {latest and latest['external_path']}"
        )
        assert restarts <= 3
    job.wait_for("all events", lambda: producer.produced == EVENTS and not producer.is_alive())
    assert producer.failed == []
    job.wait_for("all events in windows", lambda: sums(job.output)["rows_in"] >= EVENTS)
    print(dict(sums(job.output)))
    assert job.end() == 0
    found = read_contents(job.output, events)
    everything = np.concatenate([found.rows, found.late_letters])
    assert np.array_equal(np.sort(everything), np.arange(EVENTS)), "an event is missing, or there twice"
    totals = sums(job.output)
    assert totals["rows_on_time"] + totals["rows_late"] + totals["rows_rejected"] == EVENTS
    assert totals["rows_late"] > 0
    assert totals["rows_rejected"] > 0
