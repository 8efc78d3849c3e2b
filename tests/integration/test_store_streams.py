"""A stream into an object store, killed and started again: the same windows as on a disk."""

import itertools
import json
import os
import signal

import pytest
from deploy.flink.service import pool_workers
from mock_kafka import EPOCH, PARTITIONS, mock_kafka
from services.stream_job import PrismStream, StreamJob

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.files.folders import list_files
from pipelines import status, verify

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } int_domain { max: 1000 } }
feature { name: "at" type: INT presence { min_fraction: 1 } value_count { min: 1 max: 1 } }
"""

# Milliseconds of a window's length, of lateness and of disorder; EPOCH is the start of a window.
FLAGS = ("--event_time=at:ms", "--window=fixed:5000ms", "--allowed_lateness=10s", "--out_of_orderness=2s")


def messages(ids, milliseconds, partition=None):
    """Rows of these event times after the epoch, one after the other in the partitions."""
    for id, time in zip(ids, itertools.cycle(milliseconds), strict=False):
        value = json.dumps({"id": id, "at": EPOCH + time}).encode()
        yield {"value": value, "partition": id % PARTITIONS if partition is None else partition}


def windows(output):
    return list(read_window_manifests(output))


def open_window(kafka, topic):
    """Rows of window 0, and one of the next that publishes it."""
    kafka.send(topic, messages(range(100), range(0, 5000, 50)))
    kafka.send(topic, messages(range(2000, 2004), [1000]))  # too great an id
    kafka.send(topic, messages(range(100, 104), [8000]))


def late_rows(kafka, topic):
    """Late rows of window 0, and one that makes both windows final."""
    kafka.send(topic, messages(range(200, 220), [1000], partition=0))
    kafka.send(topic, messages(range(104, 108), [30_000]))


def are_final(output):
    return [window.final for window in windows(output)] == [True, True]


def contents(output):
    return [
        (window.name, window.dataset_id, window.rows_on_time, window.rows_late, window.rejected_by_reason)
        for window in windows(output)
    ]


def stream(kafka, topic, prism, folder, output, is_killed=True):
    """Window 0 is published on time; the job is killed, and started again for the late rows; then it is final."""
    folder.mkdir()
    options = {"schema": SCHEMA, "windows": FLAGS, "output": output}
    open_window(kafka, topic)
    job = PrismStream(prism, kafka.uri(topic), folder, "--max_reject_fraction=0.5", **options)
    job.wait_for("a window", lambda: len(windows(output)) == 1)
    if is_killed:
        assert job.signal(signal.SIGKILL) == -signal.SIGKILL
    late_rows(kafka, topic)
    if is_killed:
        job = PrismStream(prism, kafka.uri(topic), folder, "--max_reject_fraction=0.5", **options)
    job.wait_for("final windows", lambda: are_final(output))
    assert job.signal(signal.SIGTERM) == 128 + signal.SIGTERM, job.log()
    assert "Traceback" not in job.log()
    return contents(output)


def stream_on_flink(kafka, topic, cluster, pool, pool_flags, folder, output):
    """The same; `prepare` is killed, and takes the job over from itself; then a worker is killed, and comes back."""
    folder.mkdir()
    flags = ("--max_reject_fraction=0.5", *pool_flags)
    options = {"schema": SCHEMA, "windows": FLAGS, "output": output}
    open_window(kafka, topic)
    job = StreamJob(cluster, kafka.uri(topic), folder, *flags, **options)
    job.wait_for("a window", lambda: len(windows(output)) == 1)
    assert job.signal(signal.SIGKILL) == -signal.SIGKILL
    job = StreamJob(cluster, kafka.uri(topic), folder, *flags, **options)
    job.wait_for("a checkpoint", lambda: job.completed() > 0)
    os.kill(pool_workers(pool.pid)[0], signal.SIGKILL)
    late_rows(kafka, topic)
    job.wait_for("final windows", lambda: are_final(output))
    assert job.restored() > 0
    assert job.end() == 0, job.log()
    return contents(output)


EXPECTED = [(100, 20, {"schema.domain": 4}), (4, 0, {})]


@pytest.fixture(scope="module")
def here(prism, tmp_path_factory):
    """What a job that nothing kills publishes on this machine."""
    folder = tmp_path_factory.mktemp("here")
    with mock_kafka() as kafka:
        return stream(kafka, "here", prism, folder / "job", str(folder / "dataset"), is_killed=False)


@pytest.fixture
def output(s3, monkeypatch):
    """A folder in a bucket, which this process and those that it starts reach."""
    bucket = s3.new_bucket()
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    return f"{bucket.url}/dataset"


def check(output, starts):
    assert verify.run([f"--dataset={output}"]) == 0
    assert status.run([f"--output={output}"]) == 0
    runs = {shard.path.split("/")[0] for shard in windows(output)[0].shards}
    assert len(runs) == starts, "a folder for each start that has written"
    assert not [path for path in list_files(output) if path.startswith("train/")]


def test_late_rows_and_a_restart_on_prism(prism, here, output, tmp_path):
    with mock_kafka() as kafka:
        there = stream(kafka, "there", prism, tmp_path / "there", output)
    assert there == here
    assert [found[2:] for found in there] == EXPECTED
    check(output, starts=2)


def test_late_rows_and_restarts_on_flink(flink_cluster, here, output, tmp_path, worker_pool):
    pool, flags = worker_pool()  # of workers that have the credentials
    with mock_kafka() as kafka:
        there = stream_on_flink(kafka, "there", flink_cluster, pool, flags, tmp_path / "there", output)
    assert there == here
    assert [found[2:] for found in there] == EXPECTED
    check(output, starts=2)
