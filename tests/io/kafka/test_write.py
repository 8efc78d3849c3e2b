"""Writing to Kafka: every message is there when the bundle ends, or the bundle fails and says why."""

import dataclasses
import datetime
import functools
import json
import re
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from confluent_kafka import Consumer, TopicPartition
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_kafka import PARTITIONS, mock_kafka

from penstock.io.batches import origin_array
from penstock.io.columns.row_notes import row_notes, with_row_notes
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler, RejectingTransform
from penstock.io.dead_letters.payloads import row_payload
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, raw_letter
from penstock.io.errors import ConfigError, DataError, InputError, StoppedError
from penstock.io.examples.encode import encode_examples
from penstock.io.kafka import producer
from penstock.io.kafka import write as kafka_write
from penstock.io.kafka.producer import Delivery, _settings, look_up
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kafka.write import CopyToKafka, WriteToKafka, letter_messages, messages_of, with_copy_notes
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES
from penstock.io.messages.base import Messages
from penstock.io.messages.values import values_of
from penstock.io.reasons import Note, Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

GONE = "kafka://127.0.0.1:1/rows"


@pytest.fixture(scope="module")
def kafka():
    with mock_kafka() as broker:
        yield broker


def read(kafka, topic):
    """(partition, key, value) of all messages."""
    settings = {"bootstrap.servers": kafka.address, "group.id": "test", "fetch.wait.max.ms": 5}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    found, ended = [], 0
    while ended < PARTITIONS:
        message = consumer.poll(10)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found.append((message.partition(), message.key(), message.value()))
    consumer.close()
    return found


@pytest.fixture
def unasked(monkeypatch):
    """No broker is asked where the pipeline is built, as when it goes away later."""
    monkeypatch.setattr(kafka_write, "look_up", lambda target: target)


def write(elements, target, run_id="", handler=None):
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        # Elements are of several types.
        rows = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: elements).with_output_types(Any)
        _ = rows | WriteToKafka(target, run_id).with_error_handler(handler)


BATCH = pa.record_batch(
    {
        "i": pa.array([1, None, 3]),
        "f": pa.array([0.5, float("nan"), None], pa.float32()),
        "s": pa.array(["a", "é\n", None]),
        "b": pa.array([b"\xff", None, b"x"]),
        "l": pa.array([[1, 2], [], None], pa.list_(pa.int64())),
        ORIGIN: origin_array("kafka://a/t/0", np.arange(3)),
    }
)


def test_rows_become_json(kafka):
    write([BATCH], kafka.uri("rows", key="i"))
    found = read(kafka, "rows")
    by_key = {key: json.loads(value) for _, key, value in found}
    assert by_key == {
        b"1": {"i": 1, "f": 0.5, "s": "a", "b": {"base64": "/w=="}, "l": [1, 2]},
        None: {"f": "NaN", "s": "é\n", "l": []},
        b"3": {"i": 3, "b": "x"},
    }


def test_messages_of_one_key_go_to_one_partition(kafka):
    batch = pa.record_batch({"k": pa.array([f"k{index % 7}" for index in range(700)]), "n": pa.array(range(700))})
    write([batch, batch], KafkaTarget((kafka.address,), "keyed", key="k"))
    found = read(kafka, "keyed")
    assert len(found) == 1400
    assert len({(partition, key) for partition, key, _ in found}) == 7
    numbers = [json.loads(value)["n"] for _, key, value in found if key == b"k3"]
    assert numbers == [*range(3, 700, 7)] * 2, "in order"


def test_rows_become_examples(kafka):
    write([BATCH], kafka.uri("examples", format="tfexample"))
    encoded = encode_examples(BATCH)
    bounds = zip(encoded.offsets[:-1].tolist(), encoded.offsets[1:].tolist(), strict=True)
    expected = [encoded.data[start + HEADER_BYTES : end - FOOTER_BYTES].tobytes() for start, end in bounds]
    assert sorted(value for _, _, value in read(kafka, "examples")) == sorted(expected)


def test_rows_without_an_example_are_rejected(kafka):
    batch = pa.record_batch({"k": ["a", "b"], "l": pa.array([[1, None], [2]]), ORIGIN: origin_array("u", np.arange(2))})
    assert messages_of(batch, "tfexample", "k").keys == [b"b"]
    write([batch], kafka.uri("faulty", format="tfexample"), handler=DiscardingHandler())
    assert len(read(kafka, "faulty")) == 1
    with pytest.raises(Exception, match=r"u at 0, rejected by stage write: write\.null_in_list"):
        write([batch], kafka.uri("faulty2", format="tfexample"))


LETTERS = [
    raw_letter([Reason("csv.quote", "d")], "read", "/a.csv", 7, b"\xff"),
    raw_letter(
        [Reason("schema.type", "é"), Reason("rule.x", "")], "validate", "/b.csv", 9, b"x", "2026-01-01T00:00:00Z"
    ),
]


def test_dead_letters_become_their_json(kafka):
    write([RejectedBatch.of(LETTERS), LETTERS[0]], kafka.uri("letters", key="uri"), "run")
    found = read(kafka, "letters")
    assert sorted(value.decode() for _, _, value in found) == sorted(
        letter.to_json("run") for letter in [*LETTERS, LETTERS[0]]
    )
    assert sorted(key for _, key, _ in found) == [b"/a.csv", b"/a.csv", b"/b.csv"]
    assert DeadLetter.from_json(found[0][2]) in LETTERS


class Reject(RejectingTransform):
    def expand(self, numbers):
        rejected = numbers | beam.FlatMap(lambda _: [RejectedBatch.of(LETTERS)]).with_output_types(RejectedBatch)
        self._reject(rejected)
        return numbers


def test_the_handler_of_a_job_gives_its_dead_letters_to_kafka_too(kafka, tmp_path):
    handler = DeadLetterHandler(str(tmp_path), "run").also_to(WriteToKafka(kafka.uri("also"), "run"))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        numbers = pipeline | beam.Create([1])
        _ = numbers | "A" >> Reject().with_error_handler(handler)
        _ = numbers | "B" >> Reject().with_error_handler(handler)
        handler.close()
    values = sorted(value.decode() for _, _, value in read(kafka, "also"))
    lines = sorted(line for path in tmp_path.iterdir() for line in path.read_text().splitlines())
    assert values == lines
    assert len(lines) == 4


JSON_ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "i": st.none() | st.integers(-(2**63), 2**63 - 1),
            "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
            "s": st.none() | st.text(st.characters(codec="utf-8"), max_size=5),
        }
    ),
    max_size=20,
)


@settings(max_examples=scaled(40))
@given(JSON_ROWS)
def test_what_is_written_is_read_again(rows):
    types = {"i": pa.int64(), "f": pa.float64(), "s": pa.string()}
    batch = pa.RecordBatch.from_pylist(rows, pa.schema(list(types.items())))
    outgoing = messages_of(batch)
    assert [value.decode() for value in outgoing.values] == [
        row_payload({name: row[name] for name in types}) for row in rows
    ]
    features = [
        Feature("i", Kind.INT, multivalued=False),
        Feature("f", Kind.FLOAT, multivalued=False),
        Feature("s", Kind.BYTES, multivalued=False),
    ]
    messages = Messages("kafka://a/t/0", pa.array(outgoing.values, pa.binary()), np.arange(len(rows)))
    parsed = values_of("json", features).parse(messages)
    assert parsed.batch.select(["i", "f", "s"]).to_pylist() == rows


LARGE = pa.record_batch(
    {
        "s": ["a", "x" * 1_500_000, "b"],
        "l": pa.array([[1], [2], [3]]),
        ORIGIN: origin_array("kafka://a/t/0", np.arange(5, 8)),
    }
)
TOO_LARGE = (
    r"kafka\.too_large: its message would have 1,500,0\d\d bytes, and the most is 1,000,000: message.max.bytes of the "
    r"client \(PENSTOCK_KAFKA_MESSAGE_MAX_BYTES\), or max.message.bytes of the topic"
)


def test_a_row_that_is_too_large_is_rejected_and_the_others_are_written(kafka):
    write([LARGE], kafka.uri("large", key="s"), handler=DiscardingHandler())
    assert sorted(key for _, key, _ in read(kafka, "large")) == [b"a", b"b"]
    with pytest.raises(Exception, match=rf"kafka://a/t/0 at 6, rejected by stage write: {TOO_LARGE}"):
        write([LARGE], kafka.uri("large2"))


def test_the_limit_is_that_of_the_client_exactly_enough(kafka):
    delivery = Delivery(KafkaTarget((kafka.address,), "exact"))
    largest = next(size for size in range(1_000_000, 0, -1) if delivery.holds(size))
    delivery.send([b"x" * (largest - 3)], [b"key"])
    delivery.flush()
    delivery.discard()
    assert len(read(kafka, "exact")) == 1


def copied(batches, target):
    """What `CopyToKafka` gives on."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        rows = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: batches).with_output_types(pa.RecordBatch)
        assert_that(rows | CopyToKafka(target) | beam.Map(_with_notes), Kept())
    return Kept.elements


def _with_notes(batch):
    return batch.to_pylist(), row_notes(batch)


class Kept:
    """A matcher that keeps what it is given."""

    def __call__(self, elements):
        Kept.elements = elements


def test_copies_give_all_rows_on_and_note_those_that_are_too_large(kafka):
    uri = kafka.uri("copies")
    (rows, notes), plain = copied([LARGE, LARGE.slice(0, 1)], uri)
    assert [row["s"][:3] for row in rows] == ["a", "xxx", "b"]
    (note,) = notes
    topic = uri.removesuffix("?")
    assert (note.code, note.subject, note.count) == ("kafka.not_copied", f"{topic} kafka.too_large", 1)
    assert re.fullmatch(rf"kafka://a/t/0 at 6 is not in the topic \({TOO_LARGE}\)", note.detail)
    assert plain[1] == ()
    assert sorted(json.loads(value)["s"] for _, _, value in read(kafka, "copies")) == ["a", "a", "b"]


def test_copies_note_rows_without_an_example(kafka):
    batch = pa.record_batch(
        {
            "s": ["x" * 1_500_000, "a", "b", "c"],
            "l": pa.array([[1], [None], [2], [None]]),
            ORIGIN: origin_array("u", np.arange(4)),
        }
    )
    ((_, notes),) = copied([batch], kafka.uri("copied_examples", format="tfexample"))
    by_subject = {note.subject.rpartition(" ")[2]: note for note in notes}
    assert {code: note.count for code, note in by_subject.items()} == {"kafka.too_large": 1, "write.null_in_list": 2}
    assert by_subject["write.null_in_list"].detail.startswith("u at 1 is not in the topic (write.null_in_list: ")
    assert by_subject["kafka.too_large"].detail.startswith("u at 0 ")
    assert len(read(kafka, "copied_examples")) == 1


def test_notes_of_copies_stand_beside_others():
    batch = with_row_notes(pa.record_batch({"n": [1, 2]}), [(Note("x", "n", 1, "y"), np.array([0]))])
    noted = with_copy_notes(batch, {1: [Reason("kafka.too_large", "d")]}, "kafka://a:1/t")
    assert row_notes(noted) == (
        Note("kafka.not_copied", "kafka://a:1/t kafka.too_large", 1, "a row is not in the topic (kafka.too_large: d)"),
        Note("x", "n", 1, "y"),
    )


def test_a_dead_letter_that_is_too_large_is_written_without_its_payload():
    reasons = [Reason(f"schema.{number}", "é" * 10_000) for number in range(100)]
    letter = dataclasses.replace(
        raw_letter(reasons, "read", "/a.csv", 7, ("é" * 1_000_000).encode()), payload_columns="c" * 1_000_000
    )
    holds = Delivery(KafkaTarget.parse(GONE)).holds
    values = letter_messages(RejectedBatch.of([letter, LETTERS[0]]), "run", "uri", holds).values
    short = json.loads(values[0])
    assert DeadLetter.from_json(values[1]) == LETTERS[0]
    assert (short["payload"], short["payload_omitted"]) == ("", 2_000_000)
    assert (short["reason"], short["uri"], short["position"], short["run_id"]) == ("schema.0", "/a.csv", 7, "run")
    assert short["detail"] == "é" * 500
    assert len(short["also"]) == 20
    assert len(values[0]) < 30_000


def test_a_topic_with_a_lower_limit_takes_what_it_can(kafka):
    batch = pa.record_batch({"s": ["y" * 3000, *["x" * 900] * 500]})
    target = KafkaTarget((kafka.address,), "low", max_bytes=2000)
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        rows = pipeline | beam.Create([0]) | beam.FlatMap(lambda _: [batch]).with_output_types(Any)
        _ = rows | beam.ParDo(kafka_write._CopyMessagesFn(target))
    assert len(read(kafka, "low")) == 500
    assert (_settings(target)["message.max.bytes"], Delivery(target).max_bytes) == (2000, 2000)
    assert _settings(dataclasses.replace(target, max_bytes=5))["message.max.bytes"] == 1000
    assert _settings(dataclasses.replace(target, max_bytes=5 << 20))["message.max.bytes"] == 1_000_000


def test_a_message_that_the_broker_refuses_fails_the_bundle(kafka):
    delivery = Delivery(KafkaTarget((kafka.address,), "refused"))
    with pytest.raises(
        DataError,
        match=rf"kafka://{kafka.address}/refused: a message is not delivered: MSG_SIZE_TOO_LARGE: .*"
        r"\(no partition yet, 1500009 bytes\); the limits are message.max.bytes",
    ):
        delivery.send([b"x" * 1_500_009], [None])


def test_a_larger_limit_is_a_setting(kafka, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_MAX_BYTES", "3000000")
    write([pa.record_batch({"s": ["x" * 1_500_000]})], kafka.uri("larger"))
    assert len(read(kafka, "larger")) == 1


@pytest.mark.usefixtures("unasked")
@pytest.mark.parametrize("setting", ["uri", "environment"])
def test_a_broker_that_stays_away_fails_the_bundle_after_the_timeout(monkeypatch, setting):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_TIMEOUT_MS", "1000" if setting == "environment" else "100000")
    with pytest.raises(Exception, match=rf"{GONE}: a message is not delivered: _MSG_TIMED_OUT: .*_TRANSPORT") as caught:
        write([BATCH], f"{GONE}?timeout=1s" if setting == "uri" else GONE)
    assert "; no broker has taken it within 1 s (timeout= of the URI); nothing is lost: when the job is" in str(
        caught.value
    )


@pytest.mark.usefixtures("unasked")
def test_after_a_failure_another_producer_begins():
    fn = kafka_write._WriteMessagesFn(KafkaTarget.parse(f"{GONE}?timeout=1s"), "")
    for _ in range(2):
        fn.start_bundle()
        assert list(fn.process(BATCH)) == []
        with pytest.raises(DataError, match="_MSG_TIMED_OUT"):
            fn.finish_bundle()
        assert fn._delivery is None


def test_a_target_is_looked_up_where_the_pipeline_is_built(monkeypatch):
    looked = functools.partial(look_up, timeout=0.5)
    monkeypatch.setattr(kafka_write, "look_up", looked)
    for transform in (WriteToKafka(GONE), CopyToKafka(GONE)):
        with pytest.raises(InputError, match=r"kafka://127.0.0.1:1: no broker has answered within 0.5 s .*topic rows"):
            _ = beam.Pipeline() | beam.Create([BATCH]) | transform


def test_a_topic_is_made_by_brokers_that_make_topics(kafka):
    target = KafkaTarget((kafka.address,), "made")
    assert look_up(target, create=False) == target
    assert "made" not in kafka.producer.list_topics(timeout=5).topics
    assert look_up(target) == target
    assert "made" in kafka.producer.list_topics(timeout=5).topics


def test_a_topic_that_is_not_made_is_an_error(kafka, monkeypatch):
    monkeypatch.setattr(producer, "_let_create", lambda target: None)
    with pytest.raises(
        InputError, match=rf"kafka://{kafka.address}/missing: the broker has no topic 'missing'; create"
    ):
        look_up(KafkaTarget((kafka.address,), "missing"))


def test_a_client_that_holds_too_many_messages_waits(kafka, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_QUEUE_BUFFERING_MAX_MESSAGES", "10")
    write([pa.record_batch({"n": range(500)})], kafka.uri("waits"))
    assert sorted(json.loads(value)["n"] for _, _, value in read(kafka, "waits")) == [*range(500)]


def test_a_client_that_holds_too_many_messages_waits_no_longer_than_they_live(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_TIMEOUT_MS", "700")
    monkeypatch.setenv("PENSTOCK_KAFKA_QUEUE_BUFFERING_MAX_MESSAGES", "10")
    delivery = Delivery(KafkaTarget.parse(GONE))
    with pytest.raises(DataError, match="_MSG_TIMED_OUT"):
        delivery.send([b"x"] * 50, [None] * 50)


class _Client:
    """A client whose messages are delivered, or not, as a test says: what is left after each flush."""

    def __init__(self, *left):
        self._left = list(left)

    def flush(self, seconds):
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def purge(self):
        self.purged = True


def with_client(*left):
    delivery = Delivery(KafkaTarget.parse(GONE))
    delivery._producer = _Client(*left)
    return delivery


def test_messages_that_are_left_after_the_flush_fail_the_bundle():
    delivery = with_client(3)
    delivery._seconds = 0
    with pytest.raises(DataError, match=rf"{GONE}: 3 messages are not delivered after 0 s"):
        delivery.flush()
    assert delivery._producer.purged


class _Clock:
    """Half a minute for each look at it."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 10.0
        return self.now


def test_a_wait_is_told_and_its_end(monkeypatch, caplog):
    monkeypatch.setattr(producer, "time", _Clock())
    with_client(5, 5, 5, 0).flush()
    told = [record.getMessage() for record in caplog.records if record.name.startswith("penstock")]
    assert re.fullmatch(
        rf"{GONE}: no broker has taken a message for \d+ s: the job waits with 5 messages, and fails when one has "
        r"waited for 300 s",
        told[0],
    )
    assert told[-1].startswith(f"{GONE}: the brokers take messages again, after ")


def test_slow_brokers_are_no_wait(monkeypatch, caplog):
    monkeypatch.setattr(producer, "_TOLD_SECONDS", 0.05)
    delivery = with_client(5, 4, 3, 2, 1, 0)
    delivery.flush()
    assert "no broker has taken" not in caplog.text


def test_a_pipeline_that_has_ended_ends_a_wait():
    def ended():
        raise StoppedError("the pipeline has ended")

    delivery = Delivery(KafkaTarget.parse(GONE), ended)
    delivery.send([b"x"], [None])
    with pytest.raises(StoppedError):
        delivery.flush()
    delivery.discard()


def test_refused_credentials_are_not_waited_for():
    delivery = Delivery(KafkaTarget.parse("kafka://127.0.0.1:1/rows"))
    delivery._troubles.denied = "_AUTHENTICATION: no"
    with pytest.raises(InputError, match=r"kafka://127.0.0.1:1: the broker refuses the client: _AUTHENTICATION: no"):
        delivery.flush()


def test_credentials_that_the_broker_does_not_take_are_found_where_the_pipeline_is_built(kafka, monkeypatch):
    for name, value in {
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SASL_MECHANISM": "PLAIN",
        "SASL_USERNAME": "me",
        "SASL_PASSWORD": "hunter2",
    }.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    with pytest.raises(InputError, match=r"the broker refuses the client: _AUTHENTICATION: .*check security.protocol"):
        look_up(KafkaTarget((kafka.address,), "rows"))


class _Full:
    """A client that takes two messages, and delivers one of them every third time that it is polled."""

    def __init__(self):
        self.taken, self._held, self._polls = [], 0, 0

    def __len__(self):
        return self._held

    def produce(self, topic, value, key):
        if self._held == 2:
            raise BufferError
        self._held += 1
        self.taken.append(value)

    def poll(self, seconds):
        self._polls += 1
        self._held -= self._polls % 3 == 0

    def flush(self, seconds):
        self._held = 0
        return 0


def test_a_full_client_is_waited_for(monkeypatch, caplog):
    monkeypatch.setattr(producer, "time", _Clock())
    delivery = Delivery(KafkaTarget.parse(GONE))
    delivery._producer = _Full()
    values = [b"%d" % number for number in range(9)]
    delivery.send(values, [None] * 9)
    delivery.flush()
    assert delivery._producer.taken == values
    assert "the job waits with 2 messages" in caplog.text


def test_nothing_can_switch_acknowledgement_off(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_ACKS", "0")
    monkeypatch.setenv("PENSTOCK_KAFKA_ENABLE_IDEMPOTENCE", "false")
    taken = {}
    monkeypatch.setattr(
        "penstock.io.kafka.producer.make_client", lambda client, address, settings, **_: taken.update(settings)
    )
    Delivery(KafkaTarget.parse(GONE))
    assert (taken["acks"], taken["enable.idempotence"]) == ("all", True)


def test_targets():
    target = KafkaTarget.parse("kafka://a:1,b:2/rows?format=tfexample&key=id&config=f")
    assert target == KafkaTarget(("a:1", "b:2"), "rows", "tfexample", "id", "f")
    assert KafkaTarget.parse("kafka://a:1/rows") == KafkaTarget(("a:1",), "rows")
    assert KafkaTarget.parse("kafka://a:1/rows?timeout=2m").timeout == datetime.timedelta(minutes=2)
    assert target.uri == "kafka://a:1,b:2/rows"


def test_a_target_may_be_in_the_input():
    target = KafkaTarget.parse("kafka://a:1,b:2/orders-copy")
    inputs = ["b:2/orders-.*?pattern=true", "a:1/t,orders-copy", "c:3/orders-copy", "a:1/orders", "a:1/o.?pattern=true"]
    assert [target.is_in(KafkaSource.parse(f"kafka://{uri}")) for uri in inputs] == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (
            "kafka://a:1/rows?start=latest",
            "start is about reading; to write, the parameters are format, key, timeout, config",
        ),
        ("kafka://a:1/rows.*?pattern=true", "pattern is about reading"),
        ("kafka://a:1/rows?timeout=5", "timeout: a duration must be a whole number with ms, s, m, h or d"),
        ("kafka://a:1/rows?timeout=500ms", "timeout must be at least 1s"),
        ("kafka://a:1/rows?timeout=30d", "timeout must be at most 24d"),
        ("kafka://a:1/rows?timeout=1m&timeout=2m", "one topic, one format and one timeout"),
        ("kafka://a:1/rows,more", "one topic"),
        ("kafka://a:1/rows?format=xml", "json or tfexample, got 'xml'"),
        ("kafka://me:hunter2@a:1/rows", "must not hold credentials"),
        ("kafka://a:1/rows?nonsense=1", "nonsense"),
        ("kafka://a/rows", "HOST:PORT"),
    ],
)
def test_targets_that_are_none(uri, message):
    with pytest.raises(ConfigError, match=message) as caught:
        KafkaTarget.parse(uri)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [("x", "key must be a column of the rows to write: i, f, s, b, l; got 'x'"), ("l", "'l' is list<")],
)
def test_keys_that_are_none(key, message):
    with pytest.raises(ConfigError, match=message):
        messages_of(BATCH, key=key)


def test_keys_are_texts():
    batch = pa.record_batch({"d": pa.array([0, None], pa.date32()), "f": [0.1, 2.0], "c": ["a", "b"]})
    assert messages_of(batch, key="d").keys == [b"1970-01-01", None]
    assert messages_of(batch, key="f").keys == [b"0.1", b"2"]
    assert messages_of(batch.set_column(2, "c", batch.column("c").dictionary_encode()), key="c").keys == [b"a", b"b"]
    assert letter_messages(RejectedBatch.of(LETTERS), key="position").keys == [b"7", b"9"]


def test_wrong_settings_are_found_when_the_graph_is_built(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_SASL_PASWORD", "hunter2")
    with pytest.raises(ConfigError, match=r'kafka://127.0.0.1:1: .*"sasl.pasword"') as caught:
        write([BATCH], GONE)
    assert "hunter2" not in str(caught.value)
