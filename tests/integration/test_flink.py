"""The main job on a real Flink cluster: the same dataset in batch; stopped with a savepoint and gone on with."""

import json
import time

import forked
import numpy as np
import pytest
from helpers import manifest_of, run_prepare, write_csv, write_schema_file
from services.events import Events, Producer, read_contents, sums
from services.stream_job import LATENESS, StreamJob

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture
def flags(tmp_path) -> list[str]:
    """A job over three files; one row in 20 is rejected."""
    for part in range(3):
        rows = [
            {"id": i if i % 20 else "x", "name": f"n{i % 7}", "fare": i / 4}
            for i in range(part * 500, part * 500 + 500)
        ]
        write_csv(tmp_path / f"{part}.csv", rows, ["id", "name", "fare"])
    schema = write_schema_file(
        tmp_path / "schema.pbtxt", id="INT presence { min_fraction: 1 }", name="BYTES", fare="FLOAT"
    )
    split = ["--split=train=0.8,eval=0.2", "--num_shards=2", "--max_reject_fraction=0.2"]
    return [f"--input={tmp_path}/*.csv", f"--schema={schema}", *split]


def test_flink_writes_the_dataset_that_the_local_runner_writes(tmp_path, flags, flink_cluster):
    assert run_prepare(*flags, f"--output={tmp_path}/local") == 0
    # Workers are kept between stages: each start of one takes seconds.
    cluster = [*flink_cluster.flags(), "--parallelism=2", "--environment_cache_millis=60000"]
    command = ["-m", "pipelines.prepare", *flags, *cluster, f"--output={tmp_path}/flink"]
    done = forked.run(command, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = manifest_of(tmp_path / "local"), manifest_of(tmp_path / "flink")
    assert found.dataset_id == expected.dataset_id
    assert found.shards == expected.shards
    assert (found.rows_in, found.rows_rejected) == (expected.rows_in, expected.rows_rejected) == (1500, 75)
    assert found.rejected_by_reason == expected.rejected_by_reason


def test_flink_rejects_the_duplicates_that_the_local_runner_rejects(tmp_path, flags, flink_cluster):
    (tmp_path / "rules.yaml").write_text("unique: [name]")
    flags = [*flags, f"--rules={tmp_path}/rules.yaml", "--max_reject_fraction=1"]
    assert run_prepare(*flags, f"--output={tmp_path}/local") == 0
    cluster = [*flink_cluster.flags(), "--parallelism=2", "--environment_cache_millis=60000"]
    command = ["-m", "pipelines.prepare", *flags, *cluster, f"--output={tmp_path}/flink"]
    done = forked.run(command, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    expected, found = manifest_of(tmp_path / "local"), manifest_of(tmp_path / "flink")
    assert (found.dataset_id, found.rows_out) == (expected.dataset_id, 7)
    assert found.rejected_by_reason == expected.rejected_by_reason
    assert found.rejected_by_reason["unique.name"] == 1500 - 75 - 7


def test_a_stream_goes_on_from_a_savepoint(tmp_path, kafka, flink_cluster):
    topic = "savepoint"
    kafka.create_topic(topic, 2)
    uri = f"kafka://{kafka.address}/{topic}?readers=2"
    first = StreamJob(flink_cluster, uri, tmp_path, "--idle_timeout=10s")
    first.wait_for("a checkpoint", lambda: first.completed() > 0)
    events = Events.make(1, 20_000, 60_000, LATENESS).starting(int(time.time() * 1000))
    producer = Producer(kafka.address, topic, events)
    producer.start()
    try:
        first.wait_for("two windows", lambda: sums(first.output)["windows"] >= 2)
        savepoint = flink_cluster.rest.stop(first.id, f"file://{tmp_path}/savepoints")
        assert first.process.wait(60) == 0
        assert f"flink stop -p FOLDER {first.id}" in first.log()
        second = StreamJob(flink_cluster, uri, tmp_path, "--idle_timeout=10s", f"--savepoint_path={savepoint}")
        try:
            second.wait_for("all events in windows", lambda: sums(second.output)["rows_in"] >= len(events))
        finally:
            assert second.end() == 0
    finally:
        producer.close()
        first.end()
    found = read_contents(second.output, events)
    assert np.array_equal(found.all, np.arange(len(events)))


def test_files_that_come_are_read_once_also_across_a_savepoint(tmp_path, flink_cluster):
    files, rows = 10, 500
    start = int(time.time()) * 1000
    # A file for every two seconds, and a row an hour later that closes all windows before it.
    times = np.append(start + np.arange(files * rows) * 2_000 // rows, start + 3_600_000)
    events = Events(times, times, np.zeros(len(times), np.int64))
    folder = tmp_path / "in"
    folder.mkdir()

    def add(first, last):
        written = folder / f".{first}"
        written.write_bytes(b"\n".join(map(events.value, range(first, last))) + b"\n")
        written.rename(folder / f"{first:05}.jsonl")

    first = StreamJob(flink_cluster, f"{folder}/*.jsonl", tmp_path, "--watch=1")
    try:
        for file in range(6):
            add(file * rows, (file + 1) * rows)
        first.wait_for("a window", lambda: sums(first.output)["windows"] >= 1)
        savepoint = flink_cluster.rest.stop(first.id, f"file://{tmp_path}/savepoints")
        assert first.process.wait(60) == 0
    finally:
        first.end()
    for file in range(6, files):
        add(file * rows, (file + 1) * rows)
    go_on = (f"--savepoint_path={savepoint}",)
    second = StreamJob(flink_cluster, f"{folder}/*.jsonl", tmp_path, "--watch=1", *go_on)
    try:
        add(files * rows, files * rows + 1)
        second.wait_for("all windows", lambda: sums(second.output)["rows_in"] >= files * rows)
    finally:
        assert second.end() == 0
    found = read_contents(second.output, events)
    assert np.array_equal(np.sort(found.rows), np.arange(files * rows))
    assert len(found.rejected) == 0


def test_bad_messages_are_dead_letters_and_the_stream_goes_on(tmp_path, kafka, flink_cluster):
    from confluent_kafka import Producer as Client

    kafka.create_topic("bad", 2)
    uri = f"kafka://{kafka.address}/bad?readers=2"
    job = StreamJob(flink_cluster, uri, tmp_path, "--idle_timeout=5s")
    try:
        job.wait_for("a checkpoint", lambda: job.completed() > 0)
        now = int(time.time() * 1000)
        rows = [{"id": index, "user": "u", "amount": 0.5, "at": now} for index in range(100)]
        rows[50]["user"] = "x" * 1_000_000
        bad = [b"{", None, json.dumps({**rows[0], "id": "x"}).encode(), b'{"id": 1}']
        client = Client({"bootstrap.servers": kafka.address, "message.max.bytes": 2_000_000, "log_level": 0})
        for index, value in enumerate([*bad, *(json.dumps(row).encode() for row in rows)]):
            client.produce("bad", value, partition=index % 2)
        client.flush(60)
        job.wait_for("all messages in windows", lambda: sums(job.output)["rows_in"] >= len(rows) + len(bad))
    finally:
        assert job.end() == 0
    assert sums(job.output)["rows_on_time"] == len(rows)
    letters = [json.loads(line) for path in job.output.glob("dead_letters/*/*") for line in path.open()]
    assert sorted((letter["reason"], letter["uri"][-6:], letter["position"]) for letter in letters) == [
        ("event_time.missing", "/bad/1", 1),
        ("jsonl.parse", "/bad/0", 0),
        ("kafka.tombstone", "/bad/1", 0),
        ("schema.type", "/bad/0", 1),
    ]
