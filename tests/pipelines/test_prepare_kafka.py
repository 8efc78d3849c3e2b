"""The main job from Kafka and into it, bounded, on a broker inside the client library; streams: tests/integration."""

import functools
import json

import pytest
from confluent_kafka import Consumer, TopicPartition
from helpers import job, run_prepare, write_schema_file
from mock_kafka import EPOCH, PARTITIONS, json_messages, mock_kafka

from penstock.io.beam import progress
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.dataset.windowed.resume import StreamFile, check_settings
from penstock.io.errors import ConfigError, InputError
from penstock.io.kafka.producer import look_up
from penstock.io.sources.registry import open_source
from pipelines._cli.streams import source_request
from pipelines._jobs import going_on as _going_on
from pipelines._jobs import prepare as _prepare
from pipelines._options.prepare import PrepareOptions

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


@pytest.mark.parametrize("window", [(), ("--window=fixed:1h", "--num_shards=1")], ids=["whole", "windows"])
def test_rows_without_a_copy_are_in_the_manifest(tmp_path, kafka, schema, monkeypatch, window):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_MAX_BYTES", "1000")
    rows = [{"id": i, "card": "x" * (2000 if i % 3 else 5), "amount": "x" if i > 7 else i} for i in range(9)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row | {'at': i})}\n" for i, row in enumerate(rows)))
    topics = ("--also_to", kafka.uri(f"short{len(window)}"), "--rejects_to", kafka.uri(f"cut{len(window)}"))
    flags = ("--schema", schema, "--max_reject_fraction=0.5", "--output", tmp_path / "out", *topics)
    code, stderr = job("--input", path, *flags, *window, *(("--event_time=id:s",) if window else ()))
    assert code == 0, stderr
    manifest = next(read_window_manifests(str(tmp_path / "out"))) if window else read_manifest(str(tmp_path / "out"))
    (note,) = [note for note in manifest.notes if note.code == "kafka.not_copied"]
    assert (note.subject, note.count) == (f"kafka://{kafka.address}/short{len(window)} kafka.too_large", 5)
    assert "is not in the topic (kafka.too_large: its message would have 2,0" in note.detail
    assert (manifest.rows_in, manifest.rows_rejected) == (9, 1)
    assert sorted(row["id"] for row in messages(kafka, f"short{len(window)}", 3)) == [0, 3, 6]
    (letter,) = messages(kafka, f"cut{len(window)}", 1)
    assert (letter["reason"], letter["payload"], letter["payload_omitted"] > 2000) == ("schema.type", "", True)


STREAM = "kafka://127.0.0.1:1/t"
FLUSH = ("--flush_every=9s", "--num_shards=1", "--schema={folder}/schema.pbtxt")


@pytest.mark.parametrize("dry_run", [(), ("--dry_run",)], ids=["run", "dry"])
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--also_to={address}/cards"], "--also_to {address}/cards is a topic of --input: the job would read what"),
        (["--rejects_to={address}/cards"], "--rejects_to {address}/cards is a topic of --input"),
        (["--also_to={address}/new?key=crd"], "--also_to: key must be one of id, card, amount; got 'crd'"),
        (["--rejects_to={address}/new?key=card"], "--rejects_to: key must be one of reasons, stage, uri, position"),
        (["--also_to=kafka://127.0.0.1:1/x"], "kafka://127.0.0.1:1: no broker has answered within 0.2 s"),
    ],
)
def test_copies_that_cannot_be_are_refused_before_anything_is_read(
    tmp_path, kafka, schema, monkeypatch, dry_run, flags, message
):
    monkeypatch.setattr(_prepare, "look_up", functools.partial(look_up, timeout=0.2))
    monkeypatch.setattr(_prepare, "build", lambda *given: pytest.fail("it reads"))
    address = f"kafka://{kafka.address}"
    given = [flag.format(address=address) for flag in flags]
    source = kafka.uri("ca.*", pattern="true", stop="latest")
    code, stderr = job("--input", source, "--schema", schema, "--output", tmp_path / "out", *given, *dry_run)
    assert code in (1, 2)
    assert message.format(address=address) in stderr


def test_a_dry_run_makes_no_topic(tmp_path, kafka, schema):
    flags = ("--schema", schema, "--output", tmp_path / "out", "--also_to", kafka.uri("unmade"), "--dry_run")
    assert job("--input", kafka.uri("cards", stop="latest"), *flags)[0] == 0
    assert "unmade" not in kafka.producer.list_topics(timeout=5).topics


def test_topics_of_a_pattern_are_a_dataset(tmp_path, kafka, schema):
    flags = ("--schema", schema, "--max_reject_fraction=0.1", "--output", tmp_path / "out")
    assert run_prepare("--input", kafka.uri("c[a]r(d|t)s", pattern="true", stop="latest"), *flags) == 0
    manifest = read_manifest(str(tmp_path / "out"))
    assert manifest.rows_in == ROWS
    assert {item["uri"] for item in manifest.provenance["inputs"]} == {
        f"kafka://{kafka.address}/cards/{number}" for number in range(PARTITIONS)
    }


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
        (["--flush_rows=9"], "--flush_rows is for a stream, and this input has an end"),
        (["--flush_every=9s"], "--flush_every is for a stream, and this input has an end"),
        (["--window=flush:9"], "--window must be fixed:SIZE or sliding:SIZE/PERIOD"),
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
        (["--flush_rows=9"], "windows need num_shards"),
        (["--flush_rows=9", "--num_shards=1"], "a stream needs --schema"),
        ([*FLUSH, "--window=fixed:1s"], "--flush_every cuts a stream by the time at which rows come, and --window by"),
        ([*FLUSH, "--allowed_lateness=1s"], "--allowed_lateness is about event time, and --flush_every takes rows as"),
        ([*FLUSH, "--empty_windows"], "--empty_windows is about event time"),
        ([*FLUSH, "--out_of_orderness=1s"], "--out_of_orderness is about event time"),
        ([*FLUSH, "--idle_timeout=1s"], "--idle_timeout is about event time"),
        ([*FLUSH, "--max_ahead=1s"], "--max_ahead is about event time"),
        ([*FLUSH, "--overwrite"], "overwrite replaces a dataset"),
        (["--flush_every=0s", "--num_shards=1"], "flush_every must be at least 1ms"),
        ([*FLUSH, "--rules={folder}/rules.yaml"], "those of processing time (flush:9s) have whatever comes"),
        (
            [*FLUSH, "--rolling={folder}/rolling.yaml"],
            "--rolling looks back in event time, which windows of processing",
        ),
    ],
)
def test_what_a_stream_does_not_allow(tmp_path, kafka, schema, flags, message):
    (tmp_path / "rules.yaml").write_text("unique: [id]")
    (tmp_path / "rolling.yaml").write_text("rolling: {key: card, window: 1h, features: {seen: {op: count}}}")
    flags = [flag.format(folder=tmp_path) for flag in flags]
    code, stderr = job("--input", kafka.uri("cards"), "--output", tmp_path / "out", *flags)
    assert code == 2
    assert message in stderr
    assert not (tmp_path / "out").exists()


def test_topics_stand_alone(tmp_path):
    assert "stands alone" in job("--input", STREAM, "--input=x.csv", "--output", tmp_path / "out")[1]
    assert "--watch is for files" in job("--input", STREAM, "--watch=3", "--output", tmp_path / "out")[1]


def settings(kafka, schema, *flags):
    """What must be the same at each start of a stream."""
    given = [f"--input={kafka.uri('cards')}", f"--schema={schema}", "--output=out", "--num_shards=1", *flags]
    options = PrepareOptions.parse(given)
    source = open_source(source_request(options.input, options.stream))
    plan = _prepare._early_plan(options, source, _prepare._recipe(options, source))
    return _going_on.stream_settings(options, plan)


def test_a_stream_remembers_its_topics(kafka, schema, tmp_path, monkeypatch):
    """A topic that is made anew and has grown past the old offset is known by its id."""
    monkeypatch.setattr("penstock.io.kafka.topics.topic_ids", lambda source, topics: {source.uri("cards"): ids[0]})
    flags = [f"--input={kafka.uri('cards')}", f"--schema={schema}", f"--output={tmp_path}/out", "--num_shards=1"]
    options = PrepareOptions.parse([*flags, "--window=fixed:1m"])
    source = open_source(source_request(options.input, options.stream))
    plan = _prepare._early_plan(options, source, _prepare._recipe(options, source))
    ids = ["one"]
    for generation in (1, 2):
        _, resumption = _going_on.begin_stream(options, plan, "r1", None)
        assert resumption.file.generation == generation
        resumption.start(Staging(str(tmp_path / "out"), "r1"))
        assert StreamFile.read(str(tmp_path / "out")).identities == {source.topics.uri("cards"): "one"}
    ids = ["other"]
    with pytest.raises(InputError, match=r"cards: the topic was made anew .*its id was one, and is other"):
        _going_on.begin_stream(options, plan, "r1", None)


def test_when_windows_of_processing_time_end_may_change_from_start_to_start(tmp_path, kafka, schema):
    first = settings(kafka, schema, "--flush_rows=9")
    assert first == settings(kafka, schema, "--flush_rows=5", "--flush_every=1s")
    other = settings(kafka, schema, "--window=fixed:1m")
    assert {name for name in first if first[name] != other[name]} == {"window"}
    assert StreamFile("r1", 1, "", first, {}).write(Staging(str(tmp_path), "r1"), replaces=0)
    with pytest.raises(ConfigError, match="window was flush, is now fixed:1m; go on with those that were, or name"):
        check_settings(str(tmp_path), other)


def test_one_duration_is_one_setting_however_it_is_written(kafka, schema):
    minute = settings(kafka, schema, "--window=fixed:1m", "--allowed_lateness=120s")
    assert minute == settings(kafka, schema, "--window=fixed:60s", "--allowed_lateness=2m")


def test_statistics_that_would_not_merge_are_other_settings(kafka, schema):
    plain = settings(kafka, schema, "--window=fixed:1m")
    assert plain == settings(kafka, schema, "--window=fixed:1m", "--statistics=none")
    for flag, name in (("--slice_by=card", "slice_by"), ("--statistics=all", "statistics")):
        other = settings(kafka, schema, "--window=fixed:1m", flag)
        assert {key for key in other if other[key] != plain.get(key)} == {name}


def test_a_row_of_any_time_is_taken_into_windows_of_processing_time(kafka, schema):
    given = [f"--input={kafka.uri('cards')}", f"--schema={schema}", "--output=out", "--num_shards=1", "--flush_rows=9"]
    options = PrepareOptions.parse(given)
    assert source_request(options.input, options.stream).max_ahead is None


def test_the_window_of_processing_time_that_is_open_is_named_when_the_stream_stops():
    progress.reset()
    assert _prepare._filling_window() == []
    progress.tell(opened=1_500_000)
    assert _prepare._filling_window() == ["19700101T000001.500000Z"]
    progress.tell(opened=0)
    assert _prepare._filling_window() == []
