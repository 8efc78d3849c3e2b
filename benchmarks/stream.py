"""Measures `prepare` on a stream, from a Kafka topic to closed windows, on a Flink cluster here or on Prism::

    python -m benchmarks.stream throughput --events 6000000
    python -m benchmarks.stream latency --rate 5000 --minutes 5
    python -m benchmarks.stream soak --rate 2000 --minutes 60
    python -m benchmarks.stream soak --rate 2000 --minutes 60 --prism PRISM_BINARY

Broker, runner and job share the machine's cores. The output is Markdown, with the CPU time of each. It needs Java 17
and Maven; the broker and the job server are fetched and built once, in `benchmarks/.cache`.
"""

import argparse
import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

ROOT = pathlib.Path(__file__).parent.parent
# The tests have the broker and the job.
sys.path.append(str(ROOT / "tests"))

from deploy.flink.job_server import job_server_jar  # noqa: E402
from deploy.flink.local_cluster import LocalCluster  # noqa: E402
from deploy.kafka.broker import KafkaBroker, broker_jars  # noqa: E402
from services.events import SCHEMA, bounds, sums  # noqa: E402
from services.stream_job import StreamJob  # noqa: E402

from penstock.io.dataset.windowed.manifest import WindowManifest  # noqa: E402

_CACHE = ROOT / "benchmarks" / ".cache"
_PARTITIONS = 4
_EVENT_BYTES = 200
_NOTE = 'feature { name: "note" type: BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 } }\n'
_TOPIC = "events"
_PAGE_MB, _TICKS = os.sysconf("SC_PAGE_SIZE") / (1 << 20), os.sysconf("SC_CLK_TCK")
_MB = 1 << 20


def event(index: int, at: int) -> bytes:
    """Makes an event of 200 bytes, at a time in milliseconds since 1970."""
    start = f'{{"id": {index}, "user": "u{index * 7919 % 997}", "amount": {index % 1000 / 4}, "at": {at}, "note": "'
    return f'{start}{"x" * (_EVENT_BYTES - 2 - len(start))}"}}'.encode()


class Job(Protocol):
    """`prepare` that runs: its process, its dataset, and the end of what it printed."""

    process: subprocess.Popen[bytes]
    output: pathlib.Path

    def log(self) -> str:
        """The end of what the job printed."""


class PrismJob:
    """`prepare` on Prism, from a topic into a folder."""

    def __init__(self, prism: pathlib.Path, uri: str, folder: pathlib.Path, *flags: str):
        self.output, self._log = folder / "dataset", folder / "prepare.log"
        (folder / "schema.pbtxt").write_text(SCHEMA + _NOTE)
        command = [sys.executable, "-m", "pipelines.prepare", f"--input={uri}", "--format=jsonl", "--num_shards=2"]
        command += [f"--schema={folder}/schema.pbtxt", "--event_time=at:ms", f"--output={self.output}"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, f"--prism_location={prism}", *flags], stdout=log, stderr=subprocess.STDOUT
            )

    def log(self) -> str:
        """The end of what the job printed."""
        return self._log.read_text(errors="replace")[-2000:]

    def end(self) -> int:
        """Stops it; the exit code of `prepare`."""
        self.process.terminate()
        return self.process.wait(120)


@contextlib.contextmanager
def _broker(folder: pathlib.Path) -> Iterator[KafkaBroker]:
    """A broker with a topic."""
    print("starting Kafka ...", file=sys.stderr, flush=True)
    (folder / "kafka").mkdir()
    broker = KafkaBroker(folder / "kafka", broker_jars(_CACHE))
    broker.start()
    try:
        broker.create_topic(_TOPIC, _PARTITIONS)
        yield broker
    finally:
        broker.stop()


@dataclasses.dataclass
class PrismArena:
    """A broker with a topic, and Prism, in a folder."""

    folder: pathlib.Path
    broker: KafkaBroker
    prism: pathlib.Path

    @classmethod
    @contextlib.contextmanager
    def open(cls, prism: pathlib.Path) -> Iterator["PrismArena"]:
        """Starts the broker, and ends it with the block."""
        with tempfile.TemporaryDirectory() as name, _broker(pathlib.Path(name)) as broker:
            yield cls(pathlib.Path(name), broker, prism)

    @contextlib.contextmanager
    def job(self, *flags: str) -> Iterator[PrismJob]:
        """Runs `prepare` from the topic until the block ends."""
        job = PrismJob(self.prism, f"kafka://{self.broker.address}/{_TOPIC}", self.folder, *flags)
        try:
            yield job
        finally:
            job.end()

    def processes(self, job: PrismJob) -> dict[str, list[int]]:
        """Returns the processes that take part."""
        pid = job.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return {"Kafka": [self.broker.service.pid], "prepare": [pid], "Prism": list(map(int, children))}

    def cpu_seconds(self, job: PrismJob) -> dict[str, float]:
        """Returns the CPU seconds of each, up to now."""
        return {name: sum(map(_cpu_seconds, pids)) for name, pids in self.processes(job).items()}

    def sample(self, job: PrismJob) -> dict[str, float]:
        """Returns the resident megabytes of each."""
        return {f"{name}, MB": sum(map(_resident, pids)) for name, pids in self.processes(job).items()}


@dataclasses.dataclass
class FlinkArena:
    """A broker with a topic, and a cluster, in a folder."""

    folder: pathlib.Path
    broker: KafkaBroker
    cluster: LocalCluster

    @classmethod
    @contextlib.contextmanager
    def open(cls) -> Iterator["FlinkArena"]:
        """Starts both, and ends them with the block."""
        jar = job_server_jar(_CACHE)
        with tempfile.TemporaryDirectory() as name, _broker(pathlib.Path(name)) as broker:
            folder = pathlib.Path(name)
            (folder / "flink").mkdir()
            cluster = LocalCluster(folder / "flink", jar)
            try:
                cluster.start()
                yield cls(folder, broker, cluster)
            finally:
                cluster.stop()

    @contextlib.contextmanager
    def job(self, *flags: str) -> Iterator[StreamJob]:
        """Runs `prepare` from the topic until the block ends."""
        uri = f"kafka://{self.broker.address}/{_TOPIC}?start=earliest&readers=2"
        job = StreamJob(self.cluster, uri, self.folder, "--compression=none", *flags, schema=SCHEMA + _NOTE)
        try:
            yield job
        finally:
            job.end()

    def processes(self, _: StreamJob) -> dict[str, list[int]]:
        """Returns the processes that take part."""
        return {
            "Kafka": [self.broker.service.pid],
            "Python workers": self.cluster.workers(),
            "TaskManagers": [service.pid for service in self.cluster.task_managers],
            "JobManager": [self.cluster.job_manager.pid],
        }

    def cpu_seconds(self, job: StreamJob) -> dict[str, float]:
        """Returns the CPU seconds of each, up to now."""
        return {name: sum(map(_cpu_seconds, pids)) for name, pids in self.processes(job).items()}

    def sample(self, job: StreamJob) -> dict[str, float]:
        """Returns the resident megabytes of each, the used heap of the TaskManagers, and what checkpoints cost."""
        checkpoints = self.cluster.rest.checkpoints(job.id)
        latest = checkpoints["latest"]["completed"] or {"state_size": 0, "end_to_end_duration": 0}
        return {
            **{f"{name}, MB": sum(map(_resident, pids)) for name, pids in self.processes(job).items()},
            "heaps, MB": self._heaps(),
            "checkpoint, kB": latest["state_size"] / 1000,
            "checkpoint, ms": latest["end_to_end_duration"],
            "restarts": checkpoints["counts"]["restored"],
        }

    def _heaps(self) -> float:
        heap = "Status.JVM.Memory.Heap.Used"
        managers = self.cluster.rest.get("/taskmanagers")["taskmanagers"]
        used = [self.cluster.rest.get(f"/taskmanagers/{one['id']}/metrics?get={heap}") for one in managers]
        return sum(float(values[0]["value"]) for values in used if values) / _MB


def _stat(pid: int) -> list[str]:
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _cpu_seconds(pid: int) -> float:
    return sum(map(int, _stat(pid)[11:13])) / _TICKS


def _resident(pid: int) -> float:
    return int(_stat(pid)[21]) * _PAGE_MB


class Feeder(threading.Thread):
    """Produces events with the current time, `rate` a second, until it is closed."""

    def __init__(self, address: str, rate: int):
        super().__init__(daemon=True)
        self._producer = _producer(address)
        self._rate = rate
        self._ended = threading.Event()
        self.produced = 0

    def run(self) -> None:
        """Produces the events that are due, twenty times a second."""
        start = time.time()
        while not self._ended.wait(0.05):
            now = time.time()
            while self.produced < (now - start) * self._rate:
                at = int((start + self.produced / self._rate) * 1000)
                self._producer.produce(_TOPIC, event(self.produced, at), partition=self.produced % _PARTITIONS)
                self.produced += 1
            self._producer.poll(0)
        self._producer.flush()

    def close(self) -> None:
        """Stops producing; all events are then in the topic."""
        self._ended.set()
        self.join()


def _producer(address: str) -> Any:
    from confluent_kafka import Producer

    settings = {"log_level": 0, "linger.ms": 20, "queue.buffering.max.messages": 200_000, "compression.type": "lz4"}
    return Producer({"bootstrap.servers": address, **settings})


def fill(address: str, events: int, start: int, per_second: int) -> None:
    """Produces events at once, with times from `start` (milliseconds since 1970) on, `per_second` for each second."""
    producer = _producer(address)
    for index in range(events):
        value = event(index, start + index * 1000 // per_second)
        while True:
            try:
                producer.produce(_TOPIC, value, partition=index % _PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
        if index % 10_000 == 0:
            producer.poll(0)
    producer.flush()


class Watcher:
    """Notices windows when they are published."""

    def __init__(self, job: Job):
        self._job = job
        # By manifest file: when it was first seen, and its content.
        self.seen: dict[str, tuple[float, WindowManifest]] = {}

    def look(self) -> None:
        """Records new windows."""
        now = time.time()
        for path in (self._job.output / "windows").glob("*.json"):
            if path.name not in self.seen:
                self.seen[path.name] = now, WindowManifest.from_json(path.read_text())

    def behind(self, since: float) -> list[float]:
        """The seconds from the end of each window that ends after a time to its manifest."""
        ends = [(seen, bounds(manifest)[1] / 1000) for seen, manifest in self.seen.values()]
        return [seen - end for seen, end in ends if end > since]

    @property
    def rows(self) -> int:
        """The number of rows in all windows seen."""
        return sum(manifest.rows_in for _, manifest in self.seen.values())


def throughput(arguments: argparse.Namespace) -> None:
    """Measures from a full topic to closed windows."""
    per_window = 200_000
    with FlinkArena.open() as arena:
        print(f"filling the topic with {arguments.events:,} events ...", file=sys.stderr, flush=True)
        fill(arena.broker.address, arguments.events, 1_700_000_040_000, per_window // 10)
        flags = ("--window=fixed:10s", "--allowed_lateness=0s", "--out_of_orderness=0s", "--idle_timeout=5s")
        with arena.job(*flags, *arguments.flags) as job:
            watcher = Watcher(job)
            start, before = time.time(), arena.cpu_seconds(job)
            samples = [(0.0, 0)]
            # The last window of each partition closes when the partition is idle.
            while watcher.rows < arguments.events - per_window:
                job.wait_for("windows", lambda: _look_again(watcher), 600)
                samples.append((time.time() - start, watcher.rows))
            after = arena.cpu_seconds(job)
    times, rows = (np.array(column, float) for column in zip(*samples, strict=True))
    # Count from the first tenth on, since a job begins slowly.
    begin, end = np.interp([0.1 * rows[-1], rows[-1]], rows, times)
    rate = 0.9 * rows[-1] / (end - begin)
    print(f"{rows[-1]:,.0f} events of {_EVENT_BYTES} bytes in {times[-1]:.1f} s from the start of the job on")
    print(f"sustained: {rate:,.0f} events/s, {rate * _EVENT_BYTES / _MB:.0f} MB/s")
    _print_shares(before, after, times[-1])


def _look_again(watcher: Watcher) -> bool:
    before = watcher.rows
    watcher.look()
    return watcher.rows > before


def _print_shares(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> None:
    cores = os.cpu_count() or 1
    print("\n| process | CPU s | of the machine |\n| --- | ---: | ---: |")
    for name, spent in after.items():
        used = spent - before.get(name, 0)
        print(f"| {name} | {used:.1f} | {used / seconds / cores:.0%} |")


def latency(arguments: argparse.Namespace) -> None:
    """Measures from the end of a window to its manifest."""
    with _arena(arguments.prism) as arena, _fed(arena.broker.address, arguments.rate) as feeder:
        flags = ("--window=fixed:5s", "--allowed_lateness=5s", "--out_of_orderness=1s")
        with arena.job(*flags) as job:
            watcher = Watcher(job)
            start, before = time.time(), arena.cpu_seconds(job)
            _every(0.05, arguments.minutes * 60, watcher.look, job)
            seconds, after = time.time() - start, arena.cpu_seconds(job)
            published = sums(job.output)["rows_in"]
        waiting = feeder.produced - published
    print(f"{arguments.rate:,} events/s, windows of 5 s, out of order up to 1 s, {seconds:.0f} s")
    _print_behind(watcher, start)
    print(f"produced {feeder.produced:,}, of which {waiting:,} were in no window yet at the end")
    _print_shares(before, after, seconds)


def _print_behind(watcher: Watcher, start: float) -> None:
    # Events that were in the topic before the job ran come late.
    behind = watcher.behind(start + 30)
    print(f"from the end of a window to its manifest, {len(behind)} windows:")
    print(", ".join(f"p{share} {np.percentile(behind, share):.1f} s" for share in (50, 95, 99, 100)))


def _arena(prism: pathlib.Path | None) -> contextlib.AbstractContextManager[Any]:
    return FlinkArena.open() if prism is None else PrismArena.open(prism)


@contextlib.contextmanager
def _fed(address: str, rate: int) -> Iterator[Feeder]:
    feeder = Feeder(address, rate)
    feeder.start()
    try:
        yield feeder
    finally:
        feeder.close()


def _every(seconds: float, total: float, act: Callable[[], Any], job: Job) -> None:
    deadline = time.monotonic() + total
    while time.monotonic() < deadline:
        if job.process.poll() is not None:
            raise RuntimeError(f"prepare has ended: {job.log()}")
        act()
        time.sleep(seconds)


def soak(arguments: argparse.Namespace) -> None:
    """Measures memory, and how far behind windows are, over an hour."""
    samples: list[dict[str, float]] = []
    with _arena(arguments.prism) as arena, _fed(arena.broker.address, arguments.rate) as feeder:
        flags = (f"--window=fixed:{arguments.window}", "--allowed_lateness=10s", "--out_of_orderness=1s")
        with arena.job(*flags) as job:
            watcher = Watcher(job)
            start, before = time.time(), arena.cpu_seconds(job)

            def look() -> None:
                watcher.look()
                minute = (time.time() - start) / 60
                if minute < len(samples) / 2:
                    return
                events = {"events": feeder.produced, "in windows": watcher.rows}
                behind = max(watcher.behind(time.time() - 40), default=0)
                samples.append({"minute": minute, **arena.sample(job), **events, "behind (s)": behind})
                arguments.output.write_text(json.dumps(samples, indent=1))

            _every(0.25, arguments.minutes * 60, look, job)
            seconds, after = time.time() - start, arena.cpu_seconds(job)
    _print_samples(samples)
    _print_behind(watcher, start)
    _print_shares(before, after, seconds)


def _print_samples(samples: list[dict[str, float]]) -> None:
    names = list(samples[0])
    print(f"| {' | '.join(names)} |\n|{' ---: |' * len(names)}")
    for row in samples[:: max(1, len(samples) // 12)]:
        print(f"| {' | '.join(f'{row[name]:,.0f}' for name in names)} |")
    # After a quarter of the time, everything is warm.
    steady = samples[len(samples) // 4 :]
    hours = np.array([row["minute"] for row in steady]) / 60
    slopes = {name: np.polyfit(hours, [row[name] for row in steady], 1)[0] for name in names[1:] if "," in name}
    print("\nslope an hour, from the first quarter on:")
    print(", ".join(f"{name} {slope:+,.0f}" for name, slope in slopes.items()))


def main() -> None:
    """Runs one measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    one = what.add_parser("throughput", help="events a second from a full topic to closed windows")
    one.add_argument("--events", type=int, default=6_000_000)
    one.add_argument("flags", nargs="*", help="more flags of prepare, behind --, such as --statistics=none")
    one.set_defaults(run=throughput)
    one = what.add_parser("latency", help="seconds from the end of a window to its manifest")
    one.add_argument("--rate", type=int, default=5_000, help="events a second (default: %(default)s)")
    one.add_argument("--minutes", type=float, default=5)
    one.add_argument("--prism", type=pathlib.Path, help="a Prism binary: on Prism, not on Flink")
    one.set_defaults(run=latency)
    one = what.add_parser("soak", help="memory, and how far behind windows are, over a long time")
    one.add_argument("--rate", type=int, default=2_000, help="events a second (default: %(default)s)")
    one.add_argument("--minutes", type=float, default=60)
    one.add_argument("--window", default="10s", help="of the windows (default: %(default)s)")
    one.add_argument("--output", type=pathlib.Path, default=pathlib.Path("soak.json"), help="samples, as JSON")
    one.add_argument("--prism", type=pathlib.Path, help="a Prism binary: on Prism, not on Flink")
    one.set_defaults(run=soak)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
