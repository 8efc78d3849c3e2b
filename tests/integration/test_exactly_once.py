"""Events from a Kafka broker, on a real Flink cluster, while parts of both are killed: each is in the dataset once."""

import contextlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from deploy.flink.local_cluster import LocalCluster
from services.events import SCHEMA, Events, Producer, read_contents, sums
from services.kafka_broker import KafkaBroker

from penstock.io.window_manifest import read_window_manifests

pytestmark = pytest.mark.integration

EVENTS = int(os.environ.get("PENSTOCK_TEST_EVENTS", 200_000))
# A run is repeated with the seed that it printed.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.randrange(10**6)))

# Milliseconds.
DURATION, WINDOW, LATENESS, ORDER = 150_000, 5_000, 10_000, 2_000


class Job:
    """`prepare` on a cluster, from a topic into a folder, and what the cluster says about it."""

    def __init__(self, cluster: LocalCluster, uri: str, folder: pathlib.Path, *flags: str):
        self.cluster, self.output = cluster, folder / "dataset"
        self._log = folder / "prepare.log"
        (folder / "schema.pbtxt").write_text(SCHEMA)
        command = [sys.executable, "-m", "pipelines.prepare", f"--input={uri}", "--format=jsonl"]
        command += [f"--schema={folder}/schema.pbtxt", "--event_time=at:ms", f"--output={self.output}"]
        command += [f"--window=fixed:{WINDOW}ms", f"--allowed_lateness={LATENESS}ms", f"--out_of_orderness={ORDER}ms"]
        command += ["--num_shards=2", "--parallelism=2", "--checkpointing_interval=2000", *cluster.flags(), *flags]
        known = {job["jid"] for job in cluster.rest.jobs()}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        self._wait(lambda: any(job["jid"] not in known for job in cluster.rest.jobs()), 300)
        (self.id,) = {job["jid"] for job in cluster.rest.jobs()} - known

    def wait_for(self, what: str, holds: Callable[[], bool], seconds: float = 300) -> None:
        """Returns when something holds; fails when it does not in that time, or the job has ended."""
        try:
            self._wait(holds, seconds)
        except TimeoutError:
            pytest.fail(f"not after {seconds} s: {what}; {dict(sums(self.output))}; {self.log()}")

    def _wait(self, holds: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not holds():
            if self.process.poll() is not None:
                pytest.fail(f"prepare has ended: {self.log()}")
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.5)

    def log(self) -> str:
        """The end of what the job printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def restored(self) -> int:
        """How often it went on from a checkpoint."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["restored"])

    def completed(self) -> int:
        """How many checkpoints it has completed."""
        return int(self.cluster.rest.checkpoints(self.id)["counts"]["completed"])

    def end(self) -> int:
        """Cancels it; the exit code of `prepare`."""
        with contextlib.suppress(OSError):
            self.cluster.rest.cancel(self.id)
        return self.process.wait(60)


@pytest.fixture
def stream(kafka, flink_cluster, tmp_path) -> Iterator[tuple[Job, Producer, Events]]:
    """A job that reads a topic, and a thread that fills it."""
    topic = f"events-{SEED}"
    kafka.create_topic(topic)
    # Nothing is idle while the broker is away: its clock would make all that comes after it too late.
    job = Job(flink_cluster, f"kafka://{kafka.address}/{topic}?readers=2", tmp_path, "--idle_timeout=30s")
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


def late_rows_pending(job: Job, producer: Producer, events: Events) -> int:
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
        pending, before = late_rows_pending(job, producer, events), flink_cluster.rest.restarts(job.id)
        completed, restored, started = job.completed(), job.restored(), time.monotonic()
        kill(chance, flink_cluster, kafka)
        if kill is not kill_broker:
            job.wait_for("a restored checkpoint", lambda seen=restored: job.restored() > seen)
        job.wait_for("a checkpoint after it", lambda seen=completed: job.completed() > seen)
        restarts = flink_cluster.rest.restarts(job.id) - before
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
