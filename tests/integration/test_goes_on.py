"""Windows of processing time: streams that end, and are started again: each event is in the dataset once.

Of windows of event time, `test_kills.py` has the ends in which it may come to that.
"""

import contextlib
import datetime
import itertools
import pathlib
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
from mock_kafka import MockKafka, mock_kafka
from services.events import SCHEMA, Events, Producer, read_contents, sums
from services.stream_job import LATENESS, PrismStream, StreamJob

import penstock
from penstock.io.dataset.spans.windows import compact_windows
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dataset.windowed.resume import StreamFile
from penstock.transforms.verify import verify_dataset
from pipelines import verify

pytestmark = pytest.mark.integration

COUNT, DURATION = 12_000, 40_000  # milliseconds

DAY = datetime.timedelta(days=1)

# 300 events a second: some windows are full before they are old, and after a restart some are old before they are full.
FLUSH = ("--flush_rows=700", "--flush_every=2500ms")
BOUNDED_AMOUNT = SCHEMA.replace('name: "amount" type: FLOAT', 'name: "amount" type: FLOAT float_domain { max: 245 }')


@pytest.fixture(scope="module")
def broker() -> Iterator[MockKafka]:
    with mock_kafka() as kafka:
        yield kafka


@contextlib.contextmanager
def producing(address: str, topic: str) -> Iterator[Producer]:
    """Events, late and wild ones among them, for as long as the block lasts."""
    events = Events.make(seed=7, count=COUNT, duration=DURATION, lateness=LATENESS, wild=0.002)
    producer = Producer(address, topic, events.starting(int(time.time() * 1000)))
    producer.start()
    try:
        yield producer
    finally:
        producer.close()


def test_windows_of_processing_time_on_prism(broker, tmp_path, prism):
    ways = [signal.SIGKILL, signal.SIGTERM, signal.SIGKILL]
    with producing(broker.address, "flushed") as producer:
        for generation, how in enumerate(ways, 1):
            flags = (f"--flush_rows={600 + 100 * generation}", FLUSH[1])  # these may change
            job = PrismStream(prism, broker.uri("flushed"), tmp_path, schema=BOUNDED_AMOUNT, windows=flags)
            job.wait_for("its start", lambda job=job, number=generation: started(job.output) == number)
            windows = sums(job.output)["windows"]
            job.wait_for("windows more", lambda job=job, seen=windows: sums(job.output)["windows"] > seen)
            time.sleep(1 + generation)
            assert job.signal(how) in (143, -how)
            assert compact_windows(str(job.output), DAY).windows > 0, "the stream goes on beside the set"
        job = PrismStream(prism, broker.uri("flushed"), tmp_path, schema=BOUNDED_AMOUNT, windows=FLUSH)
        job.wait_for("all events", lambda: sums(job.output)["rows_in"] >= COUNT)
        job.signal(signal.SIGTERM)
        check_flushed(job.output, producer.events)
    ids = np.concatenate([batch["id"].to_numpy() for batch in penstock.load(job.output, columns=["id"]).batches(1000)])
    assert sorted(ids) == [index for index in range(COUNT) if index % 1000 / 4 <= 245]
    # A kill may come between the files of a window and its manifest, and what goes on makes other windows.
    faults = list(verify_dataset(str(job.output)))
    published = {window.name for window in read_window_manifests(str(job.output))}
    assert {fault.code for fault in faults} <= {"file.orphan"}
    assert not [fault for fault in faults for name in published if name in fault.path]
    assert verify.run([f"--dataset={job.output}", "--clean", "--clean_age=0s"]) == 0
    assert "Traceback" not in job.log()
    assert "No window is open; the same command goes on." in job.log()


def test_files_become_windows_of_processing_time_on_prism(tmp_path, prism):
    folder = tmp_path / "in"
    folder.mkdir()
    events = Events.make(seed=3, count=600, duration=1, lateness=1)
    flags = ("--flush_rows=250", "--flush_every=3s", "--watch=0.5")
    job = PrismStream(prism, f"{folder}/*.jsonl", tmp_path, schema=BOUNDED_AMOUNT, windows=flags)
    for number in range(6):
        lines = b"".join(events.value(index) + b"\n" for index in range(number * 100, number * 100 + 100))
        (folder / f".{number}").write_bytes(lines)
        (folder / f".{number}").rename(folder / f"{number}.jsonl")
        time.sleep(1)
    job.wait_for("all events", lambda: sums(job.output)["rows_in"] == 600)
    assert job.signal(signal.SIGTERM) == 143
    found = read_contents(job.output, events)
    assert found.all.tolist() == list(range(600))


def test_windows_of_processing_time_on_flink(kafka, flink_cluster, tmp_path):
    kafka.create_topic("flushed")
    uri = f"kafka://{kafka.address}/flushed?readers=2"
    options = {"schema": BOUNDED_AMOUNT, "windows": FLUSH}
    job = StreamJob(flink_cluster, uri, tmp_path, **options)
    job.wait_for("a checkpoint", lambda: job.completed() > 0)
    with producing(kafka.address, "flushed") as producer:
        job.wait_for("windows", lambda: sums(job.output)["windows"] > 1)
        flink_cluster.task_managers[0].kill()
        flink_cluster.task_managers[0].start()
        job.wait_for("a restored checkpoint", lambda: job.restored() > 0)
        windows = sums(job.output)["windows"]
        job.wait_for("windows more", lambda: sums(job.output)["windows"] > windows)
        job.end()
        job = StreamJob(flink_cluster, uri, tmp_path, **options)
        job.wait_for("all events", lambda: sums(job.output)["rows_in"] >= COUNT)
        job.end()
        check_flushed(job.output, producer.events)


def check_flushed(output: pathlib.Path, events: Events) -> None:
    """Each event is in one window, by its place in its partition too; and windows follow each other."""
    found = read_contents(output, events)
    np.testing.assert_array_equal(found.all, np.arange(COUNT))
    assert set(found.rejected) == {index for index in range(COUNT) if index % 1000 / 4 > 245}
    windows = found.manifests
    assert [window.name for window in windows] == sorted(window.name for window in windows)
    assert all(before.window[1] <= after.window[0] for before, after in itertools.pairwise(windows))
    numbers = [window.number for window in windows]
    assert numbers == sorted(set(numbers))
    ranges = [(uri, *span) for window in windows for uri, spans in window.covered.items() for span in spans]
    assert sum(stop - start for _, start, stop in ranges) == COUNT
    assert all(one[0] != other[0] or one[2] <= other[1] for one, other in itertools.pairwise(sorted(ranges)))


def started(output: pathlib.Path) -> int:
    """How often the stream has been started."""
    file = StreamFile.read(str(output))
    return 0 if file is None else file.generation
