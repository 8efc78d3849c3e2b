"""Statistics of windows on real runners: those of the same rows in batch; a drift is in the manifest of its window."""

import dataclasses
import json
import pathlib
import signal
import time
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from helpers import run_prepare
from mock_kafka import PARTITIONS, MockKafka, mock_kafka
from services.events import SCHEMA, Contents, Events, Producer, bounds, read_listed, sums
from services.stream_job import ORDER, WINDOW, PrismStream, Stream, StreamJob

from penstock.io.dataset.windowed.manifest import WindowManifest, read_window_manifests

pytestmark = pytest.mark.integration

# 200 events a second for DURATION ms; then late ones of the window that drifts, and one that ends the others in each
# partition.
COUNT, DURATION, LATE = 4_000, 20_000, 50
TOTAL = COUNT + LATE

# Of this test, ms.
LATENESS = 20_000

EVENT_TIME = (
    "--event_time=at:ms",
    f"--window=fixed:{WINDOW}ms",
    f"--allowed_lateness={LATENESS}ms",
    f"--out_of_orderness={ORDER}ms",
)


@dataclasses.dataclass(frozen=True)
class Amounts(Events):
    """Events whose amounts are a thousand times as large from `drift` (ms) on, for the time of one window."""

    amount: npt.NDArray[np.float64] = dataclasses.field(default_factory=lambda: np.zeros(0))
    drift: int = 0

    def value(self, index: int) -> bytes:
        row = json.loads(super().value(index))
        factor = 1000 if self.drift <= self.time[index] < self.drift + WINDOW else 1
        return json.dumps({**row, "amount": float(self.amount[index]) * factor}).encode()

    def write(self, path: pathlib.Path, ids: npt.NDArray[np.int64]) -> str:
        path.write_bytes(b"\n".join(map(self.value, ids.tolist())) + b"\n")
        return str(path)


@pytest.fixture(scope="module")
def broker() -> Iterator[MockKafka]:
    with mock_kafka() as kafka:
        yield kafka


@pytest.fixture
def events() -> Amounts:
    """Events that do not arrive yet, without a drift."""
    made = Amounts.make(seed=5, count=TOTAL + PARTITIONS, duration=DURATION, lateness=LATENESS // 3)
    amount = np.round(np.random.default_rng(11).lognormal(2, 0.5, len(made)), 2)
    return dataclasses.replace(made, amount=amount, drift=-DURATION)


def begun(events: Amounts) -> Amounts:
    """The events, which arrive from now on; a window in their midst drifts."""
    start = int(time.time() * 1000)
    drift = (start + DURATION // 2) // WINDOW * WINDOW
    times = events.time + start
    times[COUNT:TOTAL] = drift + np.arange(LATE)
    times[TOTAL:] = start + DURATION + WINDOW + LATENESS + 2 * ORDER  # all windows before are final
    return dataclasses.replace(events, arrival=events.arrival + start, time=times, drift=drift)


def first(events: Amounts, count: int) -> Amounts:
    fields = ("arrival", "time", "user", "amount")
    return dataclasses.replace(events, wild=None, **{name: getattr(events, name)[:count] for name in fields})


def stream_in(job: Stream, broker: MockKafka, topic: str, events: Amounts, producer: Producer) -> None:
    """Until all events are in windows; some of the window that drifts come once it is published."""

    def send(start: int, stop: int) -> None:
        values = ({"value": events.value(index), "partition": index % PARTITIONS} for index in range(start, stop))
        broker.send(topic, values)

    job.wait_for("the window that drifts", lambda: drifting(job.output, events) is not None)
    send(COUNT, TOTAL)
    producer.join()
    time.sleep(max(0, events.time[TOTAL] / 1000 - time.time()))  # a time in the future closes nothing
    send(TOTAL, TOTAL + PARTITIONS)
    job.wait_for("all events", lambda: sums(job.output)["rows_in"] >= TOTAL)


def drifting(output: pathlib.Path, events: Amounts) -> WindowManifest | None:
    found = (window for window in read_window_manifests(str(output)) if bounds(window)[0] == events.drift)
    return next(found, None)


@pytest.fixture
def baseline(tmp_path, events) -> str:
    """A dataset of events without a drift."""
    return write_batch(events.starting(10 * DURATION), np.arange(COUNT // 2), tmp_path, "baseline")


def write_batch(events: Amounts, ids: npt.NDArray[np.int64], folder: pathlib.Path, name: str) -> str:
    """A dataset of some events, in batch."""
    (folder / "schema.pbtxt").write_text(SCHEMA)
    lines = events.write(folder / f"{name}.jsonl", np.random.default_rng(1).permutation(ids))
    flags = [f"--input={lines}", "--num_shards=3", f"--schema={folder}/schema.pbtxt", "--event_time=at:ms"]
    assert run_prepare(*flags, f"--output={folder / name}") == 0
    return str(folder / name)


def test_on_prism(broker, prism, tmp_path, events, baseline):
    started = begun(events)
    producer = Producer(broker.address, "on-prism", first(started, COUNT))
    producer.start()
    try:
        flags = (f"--check_against={baseline}",)
        job = PrismStream(prism, broker.uri("on-prism", readers=2), tmp_path, *flags, windows=EVENT_TIME)
        try:
            stream_in(job, broker, "on-prism", started, producer)
        finally:
            job.signal(signal.SIGTERM)
    finally:
        producer.close()
    check(read_listed(job.output, started), started, job.output, baseline, tmp_path)


def test_on_flink(broker, flink_cluster, tmp_path, events, baseline):
    started = begun(events)
    producer = Producer(broker.address, "on-flink", first(started, COUNT))
    producer.start()
    try:
        flags = (f"--check_against={baseline}",)
        job = StreamJob(flink_cluster, broker.uri("on-flink", readers=2), tmp_path, *flags, windows=EVENT_TIME)
        try:
            stream_in(job, broker, "on-flink", started, producer)
        finally:
            job.end()
    finally:
        producer.close()
    check(read_listed(job.output, started), started, job.output, baseline, tmp_path)


def check(found: Contents, events: Amounts, output: pathlib.Path, baseline: str, folder: pathlib.Path) -> None:
    np.testing.assert_array_equal(found.all, np.arange(TOTAL))
    windows = {bounds(window)[0]: window for window in found.manifests}
    assert events.drift in windows
    assert windows[events.drift].rows_late >= LATE
    written = np.zeros(len(events), bool)
    written[found.rows] = True
    for start, window in windows.items():
        ids = np.flatnonzero(written & (events.time >= start) & (events.time < start + WINDOW))
        assert window.rows_out == len(ids)
        assert window.compared_with == (baseline,)
        # The ids and times of any window are unlike those of another.
        told = {anomaly.feature for anomaly in window.anomalies if anomaly.against == baseline} - {"id", "at"}
        assert told == ({"amount"} if start == events.drift else set()), (start, window.anomalies)
        if start in (events.drift, events.drift - WINDOW, events.drift + WINDOW):
            batch = pathlib.Path(write_batch(events, ids, folder, str(start)))
            for suffix in (".pb", ".json"):
                expected = (batch / "statistics" / f"out{suffix}").read_bytes()
                assert (output / _statistics(window)).with_suffix(suffix).read_bytes() == expected, (start, suffix)
    (drifted,) = (one for one in windows[events.drift].anomalies if (one.feature, one.against) == ("amount", baseline))
    assert (drifted.severity, drifted.against) == ("error", baseline)


def _statistics(window: WindowManifest) -> str:
    assert window.statistics is not None
    return window.statistics
