"""A stream from the broker to the dataset, on this machine, in a minute and a half: `make stream-demo`.

It starts a Kafka broker, produces payments to a topic (produce.py), runs `penstock prepare` on it, shows the windows as
they are published, stops the job when every payment is in one of them, verifies the dataset, and ends all that it has
started, also at Ctrl-C. The dataset stays, in `--output`.
"""

import argparse
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from deploy.flink.service import Service
from deploy.kafka.broker import KAFKA_VERSION, KafkaBroker, broker_jars
from deploy.prism import prism_binary
from examples.stream.produce import produce

from penstock.io.dataset.windowed.manifest import WindowManifest, read_window_manifests
from penstock.io.errors import ConfigError
from pipelines._run.stream import stream_runner

SCHEMA = pathlib.Path(__file__).with_name("schema.pbtxt")
TOPIC = "payments"
_POLL_SECONDS = 0.5
# How long windows may take to be published and final after the last payment.
_PATIENCE_SECONDS = 120
_FLAGS = (
    "--format=json --event_time=time:ms --window=fixed:5s --allowed_lateness=15s --out_of_orderness=2s "
    "--idle_timeout=5s --num_shards=2"
)


class Interrupts:
    """Ctrl-C and SIGTERM end the program, but never between the start of another one and knowing its number."""

    def __init__(self) -> None:
        self._is_held = False
        self._came: int | None = None
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._interrupt)

    def _interrupt(self, number: int, _: Any) -> None:
        self._came = number
        if not self._is_held:
            sys.exit(128 + number)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What comes within the block ends the program behind it."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False
            if self._came is not None:
                sys.exit(128 + self._came)


def find_prism(named: str | None, cache: pathlib.Path) -> list[str]:
    """The flag that names Prism: as the user says, or none where Beam finds or fetches it, or as built here with Go.

    Raises:
      ConfigError: when it is to be had in none of these ways.
    """
    if named:
        return [f"--prism_location={named}"]
    if not list(cache.glob("prism-*")):
        try:
            stream_runner(PipelineOptions([]))
            return []
        except ConfigError:
            if shutil.which("go") is None:
                raise
    return [f"--prism_location={prism_binary(cache, says=tell)}"]


class Windows:
    """The windows of a dataset as they are published, and again when late rows come or nothing more can."""

    def __init__(self, output: pathlib.Path):
        self._output = output
        self._known: dict[tuple[str, ...], WindowManifest] = {}

    def look(self) -> None:
        """Prints a line for each that is new or has changed."""
        for manifest in read_window_manifests(str(self._output)):
            if self._known.get(tuple(manifest.window)) != manifest:
                self._known[tuple(manifest.window)] = manifest
                tell(_line(manifest))

    @property
    def rows(self) -> int:
        """How many rows are accounted for."""
        return sum(manifest.rows_in for manifest in self._known.values())

    @property
    def are_final(self) -> bool:
        """Whether no row can come into one of them any more."""
        return all(manifest.final for manifest in self._known.values())

    def sums(self) -> str:
        """What became of all rows."""
        names = ("rows_in", "rows_on_time", "rows_late", "rows_rejected")
        values = [sum(getattr(manifest, name) for manifest in self._known.values()) for name in names]
        return "{:,} in = {:,} on time + {:,} late + {:,} rejected".format(*values)


def _line(manifest: WindowManifest) -> str:
    start, end = (text[11:19] for text in manifest.window)
    rows = f"{manifest.rows_on_time:6,} on time {manifest.rows_late:5,} late {manifest.rows_rejected:4,} rejected"
    return f"window {start} - {end} {rows}{'  final' if manifest.final else ''}"


def tell(line: str) -> None:
    """Prints a line with the time of day."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)


class Producing(threading.Thread):
    """Payments go to the topic beside all else; `close` gives what became of it."""

    def __init__(self, address: str, rate: float, seconds: float):
        super().__init__(daemon=True)
        self._arguments = (address, TOPIC, rate, seconds)
        self._ended = threading.Event()
        self._error: Exception | None = None
        self.produced: int | None = None

    def run(self) -> None:
        """Until all are delivered."""
        try:
            self.produced = produce(*self._arguments, goes_on=lambda: not self._ended.is_set())
        except Exception as error:
            self._error = error

    def check(self) -> None:
        """Raises what went wrong."""
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Ends it."""
        self._ended.set()
        self.join()


@contextlib.contextmanager
def running_broker(cache: pathlib.Path, interrupts: Interrupts) -> Iterator[KafkaBroker]:
    """A broker with an empty topic, gone with the block and all that it held."""
    jars = broker_jars(cache, says=tell)
    tell(f"starting Kafka {KAFKA_VERSION} ...")
    with tempfile.TemporaryDirectory() as folder:
        broker = KafkaBroker(pathlib.Path(folder), jars)
        try:
            with interrupts.held():
                broker.start()
            broker.create_topic(TOPIC)
            yield broker
        finally:
            broker.stop()


@contextlib.contextmanager
def running_job(command: list[str], folder: pathlib.Path, interrupts: Interrupts) -> Iterator[Service]:
    """`prepare`, gone with the block and all that it has started."""
    job = Service("prepare", [sys.executable, "-m", "pipelines.prepare", *command], folder)
    try:
        with interrupts.held():
            job.start()
        yield job
    finally:
        job.stop(30)


def follow(job: Service, producing: Producing, windows: Windows) -> None:
    """Shows windows until every payment is in one of them and they are final.

    Raises:
      RuntimeError: when the job ends, or that takes too long.
    """
    deadline = None
    while producing.produced is None or windows.rows < producing.produced or not windows.are_final:
        if not job.is_running:
            raise RuntimeError(f"prepare has ended; {job.log}:\n{job.tail()}")
        producing.check()
        windows.look()
        if producing.produced is not None and deadline is None:
            tell(f"all {producing.produced:,} payments are in the topic; windows close as time goes on ...")
            deadline = time.monotonic() + _PATIENCE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            raise RuntimeError(
                f"{windows.rows:,} of {producing.produced} payments after {_PATIENCE_SECONDS} s; {job.log}"
            )
        time.sleep(_POLL_SECONDS)


def stop(job: Service) -> None:
    """Ends the job as Ctrl-C in its terminal would."""
    os.kill(job.pid, signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        job.wait(30)


def run(flags: Any, interrupts: Interrupts) -> None:
    """All of it.

    Raises:
      RuntimeError: when a part of it does not do as it should.
      OSError: when a payment is not delivered.
      ConfigError: when Prism is not to be had.
    """
    prism = find_prism(flags.prism_location, flags.cache)
    shutil.rmtree(flags.output, ignore_errors=True)
    flags.output.mkdir(parents=True)
    dataset = flags.output / "dataset"
    with running_broker(flags.cache, interrupts) as broker:
        uri = f"kafka://{broker.address}/{TOPIC}?start=earliest"
        command = [f"--input={uri}", f"--schema={SCHEMA}", *_FLAGS.split(), f"--output={dataset}"]
        tell(f"penstock prepare {' '.join(command)}")
        producing = Producing(broker.address, flags.rate, flags.seconds)
        with running_job([*command, *prism], flags.output, interrupts) as job, contextlib.closing(producing):
            producing.start()
            windows = Windows(dataset)
            follow(job, producing, windows)
            tell(windows.sums())
            stop(job)
    verify = [sys.executable, "-m", "pipelines.verify", f"--dataset={dataset}"]
    if subprocess.run(verify, check=False).returncode:
        raise RuntimeError(f"{dataset} is not as its manifests say")
    tell(f"broker and job have ended; the dataset stays in {dataset}")


def main() -> None:
    """The demo, with exit code 0 when every payment was found in the dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=pathlib.Path, default=pathlib.Path("demo-output/stream"))
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path(".kafka"), help="what was fetched and built")
    parser.add_argument("--rate", type=float, default=1000, help="payments a second (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30, help="of payments (default: %(default)s)")
    parser.add_argument("--prism_location", help="Prism, where Beam cannot fetch it")
    flags = parser.parse_args()
    try:
        run(flags, Interrupts())
    except SystemExit:
        print("interrupted; broker and job have ended", file=sys.stderr)
        raise
    except (RuntimeError, OSError, ConfigError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
