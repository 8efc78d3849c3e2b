"""Writing to Kafka: every message is there when the bundle ends, or the bundle fails and says why."""

import json
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from confluent_kafka import Consumer, TopicPartition
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from mock_kafka import PARTITIONS, mock_kafka

from penstock.io.batches import origin_array
from penstock.io.dead_letters.handler import DeadLetterHandler, DiscardingHandler, RejectingTransform
from penstock.io.dead_letters.payloads import row_payload
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, raw_letter
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.examples.encode import encode_examples
from penstock.io.kafka.producer import Delivery
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kafka.write import WriteToKafka, letter_messages, messages_of
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES
from penstock.io.messages.base import Messages
from penstock.io.messages.values import values_of
from penstock.io.reasons import Reason
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, Kind

GONE = "kafka://127.0.0.1:1/rows"


@pytest.fixture(scope="module")
def kafka():
    with mock_kafka() as broker:
        yield broker


def read(kafka, topic):
    """(partition, key, value) of all messages."""
    consumer = Consumer({"bootstrap.servers": kafka.address, "group.id": "test", "enable.partition.eof": True})
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


def test_a_message_that_is_too_large_fails_the_bundle(kafka):
    batch = pa.record_batch({"s": ["x" * 1_500_000]})
    with pytest.raises(
        Exception,
        match=rf"kafka://{kafka.address}/large: a message is not delivered: MSG_SIZE_TOO_LARGE: .*"
        r"\(no partition yet, 1500009 bytes\); the limits are message.max.bytes",
    ):
        write([batch], kafka.uri("large"))


def test_a_larger_limit_is_a_setting(kafka, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_MAX_BYTES", "3000000")
    write([pa.record_batch({"s": ["x" * 1_500_000]})], kafka.uri("larger"))
    assert len(read(kafka, "larger")) == 1


def test_a_broker_that_is_gone_fails_the_bundle(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_TIMEOUT_MS", "1000")
    with pytest.raises(Exception, match=rf"{GONE}: a message is not delivered: _MSG_TIMED_OUT: .*_TRANSPORT"):
        write([BATCH], GONE)


def test_a_client_that_holds_too_many_messages_waits(kafka, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_QUEUE_BUFFERING_MAX_MESSAGES", "10")
    write([pa.record_batch({"n": range(500)})], kafka.uri("waits"))
    assert sorted(json.loads(value)["n"] for _, _, value in read(kafka, "waits")) == [*range(500)]


def test_a_client_that_holds_too_many_messages_waits_no_longer_than_they_live(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_TIMEOUT_MS", "700")
    monkeypatch.setenv("PENSTOCK_KAFKA_QUEUE_BUFFERING_MAX_MESSAGES", "10")
    delivery = Delivery.of(KafkaTarget.parse(GONE))
    with pytest.raises(DataError, match="_MSG_TIMED_OUT"):
        delivery.send([b"x"] * 50, [None] * 50)


class _Silent:
    """A client that never hears from its broker."""

    def flush(self, seconds):
        return 3

    def purge(self):
        self.purged = True


def test_messages_that_are_left_after_the_flush_fail_the_bundle():
    delivery = Delivery.of(KafkaTarget.parse(GONE))
    delivery._producer, delivery._seconds = _Silent(), 0
    with pytest.raises(DataError, match=rf"{GONE}: 3 messages are not delivered after 0 s"):
        delivery.flush()
    assert delivery._producer.purged


def test_refused_credentials_are_not_waited_for():
    delivery = Delivery(("127.0.0.1:1",), "rows")
    delivery._troubles.denied = "_AUTHENTICATION: no"
    with pytest.raises(InputError, match=r"kafka://127.0.0.1:1: the broker refuses the client: _AUTHENTICATION: no"):
        delivery.flush()


def test_nothing_can_switch_acknowledgement_off(monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_ACKS", "0")
    monkeypatch.setenv("PENSTOCK_KAFKA_ENABLE_IDEMPOTENCE", "false")
    taken = {}
    monkeypatch.setattr(
        "penstock.io.kafka.producer.make_client", lambda client, address, settings, **_: taken.update(settings)
    )
    Delivery(("127.0.0.1:1",), "rows")
    assert (taken["acks"], taken["enable.idempotence"]) == ("all", True)


def test_targets():
    target = KafkaTarget.parse("kafka://a:1,b:2/rows?format=tfexample&key=id&config=f")
    assert target == KafkaTarget(("a:1", "b:2"), "rows", "tfexample", "id", "f")
    assert KafkaTarget.parse("kafka://a:1/rows") == KafkaTarget(("a:1",), "rows")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("kafka://a:1/rows?start=latest", "start is about reading; to write, the parameters are format, key, config"),
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
