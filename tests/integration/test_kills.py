"""Streams that end in any way, and are started again with the same command: each event is in the dataset once.

Events are keyed and numbered. One in ten is out of order, one in a hundred is too late, one in a thousand is of the
year 1970 or 2999; a partition of the topic stays without events, another one is added while the stream runs.

In CI, one stream on Prism and one on Flink meet the ends of their tables, one after the other. `make kills` gives each
end a stream of its own, with more events, and has those too that other tests have: signals and dead JobManagers in
`test_stopping.py`, a dead TaskManager in `test_goes_on.py`, a broker that comes back in `test_kafka.py`.
"""

import contextlib
import io
import json
import os
import pathlib
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import pytest
from deploy.flink.local_cluster import LocalCluster
from deploy.kafka.broker import KafkaBroker
from services.events import Events, Producer, read_contents, read_listed, sums
from services.small_disk import SmallDisk, small_disk
from services.stream_job import PrismStream, Stream, StreamJob

from penstock.io.dataset.layout import HISTORY
from penstock.io.dataset.windowed.manifest import WindowManifest, read_window_manifests
from penstock.io.dataset.windowed.resume import StreamFile
from pipelines._run.flink_job import ENDED
from pipelines.status import run as status

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

FULL = os.environ.get("PENSTOCK_TEST_KILLS") == "full"
# A run is repeated, as far as time allows, with the seed that it printed.
SEED = int(os.environ.get("PENSTOCK_TEST_SEED", random.randrange(10**6)))

# Of the topic at first: the last one stays without events. One more is added.
PARTITIONS = 4

# Milliseconds.
WINDOW, LATENESS, ORDER = 2_000, 6_000, 1_000

# Milliseconds between two events, and the longest time that a stream may take, in seconds.
EVERY, LONGEST = 1 if FULL else 4, 1200

FLAGS = (f"--window=fixed:{WINDOW}ms", f"--allowed_lateness={LATENESS}ms", f"--out_of_orderness={ORDER}ms")
FLAGS += ("--idle_timeout=6s",)
FLAGS_ON_FLINK = ("--stop_with=cancel", *FLAGS)


class Scene:
    """A stream between its starts: its topic, its folder on a disk of its own, and who kills what.

    Attributes:
      job: the last start.
      chance: decides when.
      every: milliseconds between two events.
    """

    job: Stream
    every = EVERY

    def __init__(self, kafka: KafkaBroker, disk: SmallDisk, topic: str):
        self.kafka, self.disk, self.topic = kafka, disk, f"{topic}-{SEED}"
        self.output = disk.folder / "dataset"
        self.chance = random.Random(SEED)
        self.starts = 0
        kafka.create_topic(self.topic, PARTITIONS)
        events = Events.make(SEED, 1000 * LONGEST // self.every, 1000 * LONGEST, LATENESS, wild=0.001)
        here = events.starting(int(time.time() * 1000))
        self.producer = Producer(kafka.address, self.topic, here, range(PARTITIONS - 1))

    def uri(self, parameters: str = "") -> str:
        return f"kafka://{self.kafka.address}/{self.topic}{parameters}"

    def open(self) -> Stream:
        """Starts the command."""
        raise NotImplementedError

    def start(self) -> None:
        """The same command each time; returns when the stream has gone on."""
        self.job = self.open()
        self.starts += 1
        seen = self.windows()
        self.job.wait_for("its start", lambda: generation(self.output) == self.starts)
        self.job.wait_for("a window more", lambda: self.windows() > seen)

    def runs(self) -> bool:
        """Whether somebody may be writing."""
        return hasattr(self, "job") and self.job.process.poll() is None

    def windows(self) -> int:
        return sums(self.output)["windows"]

    def pause(self, least: float = 0, most: float = 4) -> None:
        time.sleep(self.chance.uniform(least, most))

    def add_partition(self) -> None:
        self.kafka.add_partitions(self.topic, PARTITIONS + 1)
        self.producer.extend(PARTITIONS)

    def play(self, ends: Sequence[Callable[[Self], None]]) -> None:
        """The stream is started, ended in each way, and started again; then all that it should hold is there."""
        self.producer.start()
        for number, end in enumerate(ends):
            if not self.runs():
                self.start()
            if number == len(ends) // 2:
                self.add_partition()
            self.pause()
            begun = time.monotonic()
            end(self)
            print(f"{end.__name__}: {time.monotonic() - begun:.0f} s; {'runs on' if self.runs() else self.check_now()}")
        if not self.runs():
            self.start()
        count = self.producer.finish()
        self.wait_for_all(count)
        self.leave()
        self.check_all(count)

    def wait_for_all(self, count: int) -> None:
        """Until the windows have as many events; what is missing then is named."""
        try:
            self.job.wait_for("all events", lambda: sums(self.output)["rows_in"] >= count and self.is_final())
        except pytest.fail.Exception:
            events, found = self.producer.events, read_listed(self.output, self.producer.events).all
            for index in np.setdiff1d(np.arange(count), found)[:20]:
                print(f"missing of {count}: {events.value(int(index)).decode()}, sent at {events.arrival[index]}")
            raise

    def close(self) -> None:
        self.producer.close()
        self.disk.clear()
        if hasattr(self, "job"):
            self.job.process.kill()
            self.job.process.wait(60)

    def leave(self) -> None:
        """Ends the stream for good."""
        assert self.job.signal(signal.SIGTERM) == 128 + signal.SIGTERM, self.job.log()

    def is_final(self) -> bool:
        return all(window.final for window in read_window_manifests(str(self.output)))

    def check_now(self) -> str:
        """After an end: no event is there twice, and `penstock status` names each file."""
        found = read_listed(self.output, self.producer.events)
        assert len(np.unique(found.all)) == len(found.all), "an event is there twice"
        status = told(self.output)
        check_named(self.output, found.manifests, status)
        return f"{len(found.manifests)} windows, {len(found.all):,} events, {len(status['unknown'])} unknown files"

    def check_all(self, count: int) -> None:
        """At the end: each event is on time, late or a dead letter, once; those in order are in windows."""
        found, events = read_contents(self.output, self.producer.events), self.producer.events
        np.testing.assert_array_equal(found.all, np.arange(count))
        assert set(found.letters) <= {"late", "future"}
        # An event of 1970 that comes before any window has closed has a window of its own.
        wild = np.flatnonzero(events.wild[:count])
        future = wild[events.time[wild] > events.arrival[wild]]
        np.testing.assert_array_equal(np.sort(found.letters.get("future", [])), future)
        joined = self.producer.is_in(PARTITIONS)
        assert joined[:count].any()
        lost = set(np.flatnonzero(events.in_order & ~joined)) & set(found.rejected)
        assert not lost, f"{len(lost)} events in order are dead letters"
        assert len(found.late) > 0
        status = told(self.output)
        check_named(self.output, found.manifests, status)
        assert status["not_final"] == []
        letters = {reason: len(ids) for reason, ids in found.letters.items()}
        print(f"{len(found.on_time):,} on time, {len(found.late):,} late, dead letters {letters}; {status['staging']}")


def generation(output: pathlib.Path) -> int:
    """How often the stream has been started."""
    file = StreamFile.read(str(output))
    return 0 if file is None else file.generation


def told(output: pathlib.Path) -> dict[str, Any]:
    """What `penstock status --json` says."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert status([f"--output={output}", "--json"]) == 0
    return dict(json.loads(printed.getvalue()))


def check_named(output: pathlib.Path, manifests: Sequence[WindowManifest], status: dict[str, Any]) -> None:
    """Each file is named by a manifest or by the status, alone or with its folder; nobody may write meanwhile."""
    files = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    files = {file for file in files if not file.startswith(f"{HISTORY}/")}  # is no part of the windows
    named = {file for manifest in manifests for file in manifest.files()} | set(status["unknown"])
    named |= {"stream.json", "schema.pbtxt", *(f"windows/{manifest.name}.json" for manifest in manifests)}
    staged = Counter(file.partition("/")[0] for file in files if file.startswith(".tmp-"))
    assert {entry["name"]: entry["files"] for entry in status["staging"]} == staged
    assert {file for file in files if not file.startswith(".tmp-")} == named


@pytest.fixture
def disk(tmp_path) -> Iterator[SmallDisk]:
    """The disk of a dataset; only root may mount it."""
    try:
        with small_disk(tmp_path / "disk") as mounted:
            yield mounted
    except PermissionError as error:
        (pytest.fail if os.environ.get("PENSTOCK_NO_SKIP") else pytest.skip)(str(error))


class OnPrism(Scene):
    """On this machine: the job's process is the worker, too."""

    job: PrismStream

    def __init__(self, prism: str, *where: Any):
        super().__init__(*where)
        self._prism = prism

    def open(self) -> PrismStream:
        return PrismStream(self._prism, self.uri(), self.disk.folder, *FLAGS)


def kill_job(scene: Scene) -> None:
    assert scene.job.signal(signal.SIGKILL) == -signal.SIGKILL


def kill_prism(scene: OnPrism) -> None:
    os.kill(scene.job.prism(), signal.SIGKILL)
    assert scene.job.process.wait(60) == 1
    assert one_error(scene.job) == (
        "Prism, Beam's local runner, has died under the job (killed by SIGKILL); what is published is whole, and the "
        "same command goes on"
    )


def kill_broker(scene: Scene) -> None:
    """The job is killed while its broker is away, or has just come back."""
    scene.kafka.kill()
    scene.pause()
    scene.kafka.start()
    scene.pause(0, 2)
    kill_job(scene)


def terminate(scene: Scene) -> None:
    assert scene.job.signal(signal.SIGTERM) == 128 + signal.SIGTERM
    check_stopped(scene.job)


def interrupt(scene: Scene) -> None:
    """As a terminal does: all processes of the session get it."""
    os.killpg(scene.job.process.pid, signal.SIGINT)
    assert scene.job.process.wait(60) == 128 + signal.SIGINT
    check_stopped(scene.job)


def check_stopped(job: Stream) -> None:
    assert re.search(r"^Stopped\..* the same command goes on|^Cancelled job \w+\.", job.log(), re.MULTILINE), job.log()
    assert "Traceback" not in job.log()


def fill_disk(scene: OnPrism) -> None:
    """The job ends with one line; so does the next one, as long as the disk is full."""
    scene.disk.fill(left=scene.chance.randrange(16) * 4096)
    assert scene.job.process.wait(120) == 1
    text = one_error(scene.job)
    what = "No space left on device"  # for a shard, or for what is spilled before it
    assert re.fullmatch(rf"{scene.disk.folder}/\S+: {what} \(.*\); make room there, or .*", text), text
    scene.disk.fill(left=0)
    again = scene.open()
    assert again.process.wait(120) in (1, 2)
    assert "No space left on device" in one_error(again)
    scene.disk.clear()


def one_error(job: Stream) -> str:
    """The one line that says why a job has ended."""
    lines = [line for line in job.log().splitlines() if "error" in line or "Traceback" in line]
    assert len(lines) == 1, job.log()
    return lines[0].partition("error: ")[2]


ON_PRISM = [kill_job, kill_prism, fill_disk, kill_broker, interrupt]


def plays(ends: Sequence[Callable[..., None]], more: Sequence[Callable[..., None]]) -> list[Any]:
    """All ends of a table on one stream, or each of them, and more, twice on a stream of its own."""
    if FULL:
        return [pytest.param([end, end], id=end.__name__) for end in (*ends, *more)]
    return [pytest.param(ends, id="all")]


@pytest.mark.parametrize("ends", plays(ON_PRISM, more=[terminate]))
def test_on_prism(prism, kafka, disk, request, ends):
    scene = OnPrism(prism, kafka, disk, f"prism-{request.node.callspec.id}")
    print(f"seed {SEED}")
    try:
        scene.play(ends)
    finally:
        scene.close()


class OnFlink(Scene):
    """On a cluster with two TaskManagers and ZooKeeper, without savepoints.

    Attributes:
      recovers: whether the job has gone on by itself before it is ended for good, or is ended while it recovers. Where
        one stream meets all ends, it goes on.
    """

    job: StreamJob
    every = EVERY if FULL else 10  # it starts anew for long, and has to catch up

    def __init__(self, cluster: LocalCluster, *where: Any):
        super().__init__(*where)
        self.cluster = cluster
        self.recovers = True

    def open(self) -> StreamJob:
        return StreamJob(self.cluster, self.uri("?readers=2"), self.disk.folder, *FLAGS_ON_FLINK)

    def runs(self) -> bool:
        """Also without its `prepare`."""
        return hasattr(self, "job") and self.job.state() not in ENDED

    def end(self, restored: int | None = None) -> None:
        """The job is cancelled: while it recovers from something, or once it has published windows again."""
        job, seen = self.job, self.windows()
        if restored is not None and self.recovers:
            job.wait_for("a restored checkpoint", lambda: job.is_restored(restored))
            assert job.restored() - restored <= 3
        if self.recovers:
            job.wait_for("a window more", lambda: self.windows() > seen)
        job.wait_for("an answer of the cluster", lambda: bool(job.state()))
        if FULL:
            assert job.end() == 0, job.log()
            self.recovers = not self.recovers

    def close(self) -> None:
        super().close()
        if hasattr(self, "job"):
            with contextlib.suppress(OSError):
                self.cluster.rest.cancel(self.job.id)


def cancel(scene: OnFlink) -> None:
    assert scene.job.end() == 0


def kill_prepare(scene: OnFlink) -> None:
    """The job runs on; another `prepare` watches it, until it is killed too; the next one ends the job and goes on."""
    old = scene.job
    kill_job(scene)
    flags = (*FLAGS_ON_FLINK, "--on_running=attach", *scene.cluster.flags())
    watching = Stream(scene.uri("?readers=2"), scene.disk.folder, *flags)
    watching.wait_for("the page of the job", lambda: "Flink runs the stream: " in watching.log())
    seen = scene.windows()
    watching.wait_for("a window more", lambda: scene.windows() > seen)
    assert watching.signal(signal.SIGKILL) == -signal.SIGKILL
    assert old.id in watching.log()
    assert scene.runs()
    scene.start()
    assert f"Cancelled job {old.id}, which wrote to {scene.output}" in scene.job.log()
    assert old.state() == "CANCELED"


def kill_worker(scene: OnFlink) -> None:
    restored = scene.job.restored()
    os.kill(scene.chance.choice(scene.cluster.workers()), signal.SIGKILL)
    scene.end(restored)


def kill_task_manager(scene: OnFlink) -> None:
    restored, killed = scene.job.restored(), scene.chance.choice(scene.cluster.task_managers)
    killed.kill()
    scene.pause()
    killed.start()
    scene.end(restored)


def kill_job_manager(scene: OnFlink) -> None:
    scene.job.wait_for("a checkpoint", lambda: scene.job.completed() > 0)
    scene.cluster.job_manager.kill()
    scene.cluster.job_manager.start()
    scene.end(restored=0)


def restart_broker(scene: OnFlink) -> None:
    scene.kafka.kill()
    scene.pause()
    scene.kafka.start()
    scene.end()


def fill_disk_on_flink(scene: OnFlink) -> None:
    """Flink starts the job again until there is space."""
    restored = scene.job.restored()
    scene.disk.fill(left=scene.chance.randrange(16) * 4096)
    if FULL:  # three restarts take a minute
        scene.job.wait_for("the reason", lambda: "The job has failed 3 times for one reason" in scene.job.log())
        assert "No space left on device" in scene.job.log()
    scene.job.wait_for("a restart", lambda: scene.job.is_restored(restored))
    scene.disk.clear()
    scene.end()


ON_FLINK = [kill_worker, kill_job_manager, fill_disk_on_flink, kill_prepare]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, flink_jar) -> Iterator[LocalCluster]:
    """With ZooKeeper, so that a JobManager that is started again finds its jobs."""
    cluster = LocalCluster(tmp_path_factory.mktemp("flink"), flink_jar, high_availability=True)
    cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


@pytest.mark.parametrize(
    "ends", plays(ON_FLINK, more=[kill_task_manager, restart_broker, terminate, cancel, interrupt])
)
def test_on_flink(cluster, kafka, disk, request, ends):
    scene = OnFlink(cluster, kafka, disk, f"flink-{request.node.callspec.id}")
    print(f"seed {SEED}")
    try:
        scene.play(ends)
    finally:
        scene.close()
    wait_until("no worker outlives its job", lambda: not cluster.workers())


def wait_until(what: str, holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)
