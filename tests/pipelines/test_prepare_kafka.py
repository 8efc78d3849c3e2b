"""The main job from Kafka and into it, bounded, on a broker inside the client library; streams: tests/integration."""

import json

import pytest
from confluent_kafka import Consumer, TopicPartition
from helpers import job, run_prepare, write_schema_file
from mock_kafka import EPOCH, PARTITIONS, json_messages, mock_kafka

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.windowed.manifest import read_window_manifests

ROWS = 400


@pytest.fixture(scope="module")
def kafka():
    with mock_kafka() as broker:
        rows = ({"id": i, "card": f"c{i % 7}", "amount": i / 4 if i % 20 else "x"} for i in range(ROWS))
        broker.send("cards", json_messages(rows))
        yield broker


@pytest.fixture
def schema(tmp_path):
    return write_schema_file(
        tmp_path / "schema.pbtxt",
        id="INT presence { min_fraction: 1 } value_count { min: 1 max: 1 }",
        card="BYTES presence { min_fraction: 1 } value_count { min: 1 max: 1 }",
        amount="FLOAT value_count { min: 1 max: 1 }",
    )


def messages(kafka, topic, count):
    """The values of a topic, as many as there must be."""
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "test"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found = consumer.consume(count, timeout=20)
    consumer.close()
    return [json.loads(message.value()) for message in found]


def test_a_topic_up_to_its_present_end_is_a_dataset(tmp_path, kafka, schema):
    flags = ("--schema", schema, "--max_reject_fraction=0.1")
    assert run_prepare("--input", kafka.uri("cards", stop="latest"), "--output", tmp_path / "out", *flags) == 0
    manifest = read_manifest(str(tmp_path / "out"))
    assert (manifest.rows_in, manifest.rows_out, manifest.rejected_by_reason) == (400, 380, {"schema.type": 20})
    assert {(item["start"], item["stop"]) for item in manifest.provenance["inputs"]} == {(0, 100)}
    lines = (tmp_path / "out/dead_letters/part-00000-of-00001.jsonl").read_text().splitlines()
    letters = [json.loads(line) for line in lines]
    assert letters[0]["uri"].startswith(f"kafka://{kafka.address}/cards/")
    assert json.loads(letters[0]["payload"])["amount"] == "x"


def test_a_topic_gives_the_bytes_that_the_same_rows_give_as_a_file(tmp_path, kafka, schema):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b"\n".join(
            message["value"]
            for message in json_messages(
                {"id": i, "card": f"c{i % 7}", "amount": i / 4 if i % 20 else "x"} for i in range(ROWS)
            )
        )
    )
    flags = ("--schema", schema, "--max_reject_fraction=0.1", "--num_shards=3")
    for name, source in (("file", path), ("topic", kafka.uri("cards", stop="latest"))):
        assert run_prepare("--input", source, "--output", tmp_path / name, *flags) == 0
    assert read_manifest(str(tmp_path / "file")).dataset_id == read_manifest(str(tmp_path / "topic")).dataset_id


def test_the_schema_of_a_topic_is_inferred(tmp_path, kafka):
    assert run_prepare("--input", kafka.uri("cards", stop="latest"), "--output", tmp_path / "out") == 0
    schema = (tmp_path / "out" / "schema.pbtxt").read_text()
    assert all(f'name: "{name}"' in schema for name in ("id", "card", "amount"))


def test_windows_of_a_topic_are_those_of_its_timestamps(tmp_path, kafka, schema):
    flags = ("--schema", schema, "--window=fixed:100ms", "--num_shards=2")
    assert run_prepare("--input", kafka.uri("cards", stop="latest"), "--output", tmp_path / "out", *flags) == 0
    windows = list(read_window_manifests(str(tmp_path / "out")))
    assert [window.window[0][-10:] for window in windows] == ["20.000000Z", "20.100000Z", "20.200000Z", "20.300000Z"]
    assert EPOCH % 1000 == 0
    assert [window.rows_on_time for window in windows] == [95] * 4
    assert sum(window.rows_in for window in windows) == ROWS


def test_rows_and_rejects_go_to_topics_as_well(tmp_path, kafka, schema):
    code = run_prepare(
        "--input",
        kafka.uri("cards", stop="latest"),
        "--schema",
        schema,
        "--output",
        tmp_path / "out",
        "--also_to",
        kafka.uri("good", key="card"),
        "--rejects_to",
        kafka.uri("bad"),
        "--max_reject_fraction=0.1",
    )
    assert code == 0
    assert sorted(row["id"] for row in messages(kafka, "good", 380)) == [i for i in range(ROWS) if i % 20]
    letters = messages(kafka, "bad", 20)
    assert {letter["reason"] for letter in letters} == {"schema.type"}
    assert len(letters) == read_manifest(str(tmp_path / "out")).rows_rejected


STREAM = "kafka://127.0.0.1:1/t"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--allowed_lateness=3s"], "--allowed_lateness is about windows: pass --window too"),
        (["--empty_windows"], "--empty_windows is about windows"),
        (["--resume"], "--resume goes on with a stream"),
        (["--window=fixed:60s"], "windows need num_shards"),
        (["--window=fixed:60s", "--num_shards=1", "--shuffle=none"], "windows need shuffle 'global'"),
        (["--window=session:60s", "--num_shards=1"], "sessions begin and end"),
        (["--window=fixed:60s", "--num_shards=1", "--resume", "--overwrite"], "overwrite replaces"),
        (["--also_to=kafka://a:1/x,y"], "to write, name one topic"),
    ],
)
def test_flags_that_do_not_go_together(tmp_path, flags, message):
    code, stderr = job("--input=x.csv", "--output", tmp_path / "out", *flags)
    assert code == 2
    assert message in stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "unbounded input is written window by window: pass --window"),
        (["--window=fixed:1s", "--num_shards=1"], "a stream needs --schema"),
        (["--window=fixed:1s", "--num_shards=1", "--schema=s", "--features=f"], "cannot be fitted on a stream"),
        (
            ["--window=fixed:1s", "--num_shards=1", "--schema=s", "--overwrite"],
            "overwrite replaces a dataset",
        ),
        (
            ["--window=fixed:1s", "--num_shards=1", "--schema=s", "--resume", "--runner=FlinkRunner"],
            "--resume on Flink needs --savepoint_path",
        ),
    ],
)
def test_what_a_stream_does_not_allow(tmp_path, kafka, flags, message):
    code, stderr = job("--input", kafka.uri("cards"), "--output", tmp_path / "out", *flags)
    assert code == 2
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_topics_stand_alone(tmp_path):
    assert "stands alone" in job("--input", STREAM, "--input=x.csv", "--output", tmp_path / "out")[1]
    assert "--watch is for files" in job("--input", STREAM, "--watch=3", "--output", tmp_path / "out")[1]
