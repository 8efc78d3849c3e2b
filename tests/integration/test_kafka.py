"""The Kafka source on a real broker: what the mock one cannot do."""

import json
import time

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deploy.flink.service import free_port
from deploy.kafka.broker import KafkaBroker
from helpers import batches_of
from kafka_stream import Stream

from penstock.io.errors import InputError
from penstock.io.kafka import consumer as kafka_consumer
from penstock.io.kafka.offsets import OffsetRange, resolve_offsets
from penstock.io.kafka.read import ReadFromKafka
from penstock.io.kafka.source import KafkaSource
from penstock.io.kafka.topics import check_topic_ids, topic_ids
from penstock.io.schema import Feature, Kind

pytestmark = pytest.mark.integration

FEATURES = (Feature("n", Kind.INT), Feature("t", Kind.BYTES))
EPOCH = 1_700_000_000_000


class SaslBroker(KafkaBroker):
    """A broker with a second listener, which asks for a user and a password."""

    def _settings(self):
        self.sasl_address = f"127.0.0.1:{free_port()}"
        lines = super()._settings()
        for name in ("listeners", "advertised.listeners"):
            lines[name] += f",LOGIN://{self.sasl_address}"
        lines["listener.security.protocol.map"] += ",LOGIN:SASL_PLAINTEXT"
        lines["listener.name.login.sasl.enabled.mechanisms"] = "PLAIN"
        lines["listener.name.login.plain.sasl.jaas.config"] = (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_reader="right";'
        )
        return lines


@pytest.fixture(scope="module")
def broker(tmp_path_factory, kafka_jars):
    broker = SaslBroker(tmp_path_factory.mktemp("kafka"), kafka_jars)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def topic(broker, request):
    """A topic of two partitions for one test."""
    name = request.node.name
    broker.create_topic(name, 2)
    yield name
    kafka_consumer.close_parked(lambda key: True)


def send(broker, topic, numbers, partition=0, **settings):
    """Rows with these numbers, a millisecond apart; in one transaction if there is a transactional.id."""
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 5, **settings})
    if settings:
        producer.init_transactions()
        producer.begin_transaction()
    for number in numbers:
        producer.produce(topic, json.dumps({"n": number}).encode(), partition=partition, timestamp=EPOCH + number)
    assert producer.flush(60) == 0
    return producer


def source(broker, topic, **parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return f"kafka://{broker.address}/{topic}?{query}"


def numbers(rows):
    return sorted(row["n"] for row in rows)


def stream(broker, topic, uri=(), **options):
    where = source(broker, topic, readers=1, **dict(uri))
    return Stream(ReadFromKafka(where, FEATURES, **{"bundle_time": "500ms", **options}))


def read(broker, topic, **parameters):
    batches = batches_of(ReadFromKafka(source(broker, topic, stop="latest", **parameters), FEATURES))
    return numbers(row for batch in batches for row in batch.to_pylist())


def test_times_are_offsets(broker, topic):
    send(broker, topic, range(100))
    parsed = KafkaSource.parse(source(broker, topic, start=EPOCH + 30, stop=EPOCH + 70))
    assert resolve_offsets(parsed) == (OffsetRange(topic, 0, 30, 70), OffsetRange(topic, 1, 0, 0))
    assert read(broker, topic, start=EPOCH + 90) == list(range(90, 100))


def test_a_topic_that_is_made_anew_has_another_id(broker, topic):
    parsed, client = KafkaSource.parse(source(broker, topic)), AdminClient({"bootstrap.servers": broker.address})
    before = topic_ids(parsed, [topic])
    assert before.keys() == {parsed.uri(topic)}
    assert topic_ids(parsed, [topic]) == before
    client.delete_topics([topic])[topic].result(20)
    time.sleep(1)
    broker.create_topic(topic, 2)
    with pytest.raises(InputError, match="was made anew"):
        check_topic_ids(before, topic_ids(parsed, [topic]))


def test_a_new_partition_is_read_while_running(broker, topic):
    send(broker, topic, range(10))
    reading = stream(broker, topic, discover_interval="500ms")
    assert numbers(reading.until(lambda rows: len(rows) == 10)) == list(range(10))
    broker.add_partitions(topic, 3)
    send(broker, topic, range(10, 15), partition=2)
    assert numbers(reading.until(lambda rows: len(rows) == 5)) == list(range(10, 15))
    assert reading.offsets() == {(topic, 0): 10, (topic, 1): 0, (topic, 2): 5}


def test_topics_of_a_pattern_come_and_go(broker, caplog):
    admin = AdminClient({"bootstrap.servers": broker.address})
    for name in ("day-1", "day-2"):
        broker.create_topic(name, 1)
    send(broker, "day-1", range(10))
    send(broker, "day-2", range(10, 20))
    reading = stream(broker, ".*day-.*", {"pattern": "true", "group": "days"}, discover_interval="300ms")
    assert {topic for topic, _ in reading.offsets()} == {"day-1", "day-2"}, "not __consumer_offsets"
    reading.until(lambda rows: len(rows) == 20)
    assert reading.watermark.micros == (EPOCH + 9) * 1000 - 5_000_000
    admin.delete_topics(["day-1"])["day-1"].result(30)
    broker.create_topic("day-3", 2)
    send(broker, "day-3", range(20, 30), partition=0)
    send(broker, "day-3", range(30, 40), partition=1)
    assert numbers(reading.until(lambda rows: len(rows) == 20)) == list(range(20, 40))
    reading.until(lambda rows: reading.watermark.micros == (EPOCH + 19) * 1000 - 5_000_000)
    assert "/day-1: the topic is gone: the stream goes on without it" in caplog.text
    broker.create_topic("day-1", 1)
    send(broker, "day-1", range(40, 45))
    assert numbers(reading.until(lambda rows: len(rows) == 5)) == list(range(40, 45))
    (letter,) = [letter for letters in reading.letters for letter in letters]
    assert letter.reasons[0].detail.startswith("offset 10 is beyond the end of the partition, which was made anew")
    kafka_consumer.close_parked(lambda key: True)


def test_control_records_at_the_end_do_not_stall_a_bounded_read(broker, topic):
    send(broker, topic, range(5), **{"transactional.id": "a"}).commit_transaction()
    send(broker, topic, range(5, 9), **{"transactional.id": "b"}).abort_transaction()
    send(broker, topic, range(9, 12), partition=1, **{"transactional.id": "c"}).abort_transaction()
    parsed = KafkaSource.parse(source(broker, topic, stop="latest"))
    deadline = time.monotonic() + 60
    while resolve_offsets(parsed) != (
        OffsetRange(topic, 0, 0, 11),
        OffsetRange(topic, 1, 0, 4),
    ):  # rows and control records
        assert time.monotonic() < deadline, "the broker has not written the ends of the transactions"
        time.sleep(0.1)
    assert read(broker, topic) == list(range(5))


def test_an_open_transaction_is_waited_for_by_a_stream_and_left_out_of_a_bounded_read(broker, topic):
    send(broker, topic, range(3))
    producer = send(broker, topic, range(3, 6), **{"transactional.id": "open"})
    assert read(broker, topic) == [0, 1, 2]
    reading = stream(broker, topic)
    assert numbers(reading.until(lambda rows: len(rows) == 3)) == [0, 1, 2]
    producer.commit_transaction()
    assert numbers(reading.until(lambda rows: len(rows) == 3)) == [3, 4, 5]


def test_a_stream_is_idle_behind_control_records(broker, topic):
    send(broker, topic, range(3), **{"transactional.id": "idle"}).commit_transaction()
    reading = stream(broker, topic, idle_timeout="200ms")
    reading.until(lambda rows: reading.watermark is not None and reading.watermark.micros > (EPOCH + 10**6) * 1000)
    assert reading.offsets()[topic, 0] == 4


def test_what_retention_has_taken_is_a_dead_letter(broker, topic):
    send(broker, topic, range(50))
    reading = stream(broker, topic)
    place = TopicPartition(topic, 0, 20)
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_records([place])[place].result(60)
    assert numbers(reading.until(lambda rows: len(rows) == 30)) == list(range(20, 50))
    (letter,) = [letter for letters in reading.letters for letter in letters]
    assert (letter.uri, letter.position) == (f"kafka://{broker.address}/{topic}/0", 0)
    assert letter.reasons[0].detail == "offsets 0 to 19 are gone (retention); reading goes on at 20"


def test_the_groups_commit_can_be_seen(broker, topic):
    send(broker, topic, range(10))
    reading = stream(broker, topic, uri={"group": "monitored"})
    reading.until(lambda rows: len(rows) == 10)
    reading.finalize()
    admin = AdminClient({"bootstrap.servers": broker.address})
    deadline = time.monotonic() + 60
    offsets = []
    while not offsets and time.monotonic() < deadline:
        asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("monitored")])
        offsets = [(item.partition, item.offset) for item in asked["monitored"].result(60).topic_partitions]
    assert (0, 10) in offsets
    again = KafkaSource.parse(source(broker, topic, group="monitored", start="committed"))
    assert [span.start for span in resolve_offsets(again)] == [10, 0]


def test_a_topic_that_was_made_anew_is_read_from_its_beginning(broker, topic):
    send(broker, topic, range(20))
    reading = stream(broker, topic)
    reading.until(lambda rows: len(rows) == 20)
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics([topic])[topic].result(60)
    while topic in admin.list_topics(timeout=10).topics:
        time.sleep(0.1)
    broker.create_topic(topic, 2)
    send(broker, topic, range(100, 105))
    assert numbers(reading.until(lambda rows: len(rows) == 5)) == list(range(100, 105))


def test_a_broker_that_is_killed_and_comes_back(broker, topic):
    send(broker, topic, range(1000))
    reading = stream(broker, topic, idle_timeout="1s")
    reading.until(lambda rows: len(rows) == 1000)
    before = reading.watermark
    broker.kill()
    deadline = time.monotonic() + 4
    while time.monotonic() < deadline:
        assert reading.bundle() == []
    assert reading.watermark == before, "a broker that is down is not idle"
    broker.start()
    send(broker, topic, range(1000, 2000), partition=1)
    assert numbers(reading.until(lambda rows: len(rows) == 1000)) == list(range(1000, 2000))


LOGIN = {"SECURITY_PROTOCOL": "SASL_PLAINTEXT", "SASL_MECHANISM": "PLAIN", "SASL_USERNAME": "reader"}


def test_wrong_credentials_are_told_at_once(broker, topic, monkeypatch):
    for name, value in {**LOGIN, "SASL_PASSWORD": "wrong-one"}.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    with pytest.raises(
        InputError, match=r"refuses the client: _AUTHENTICATION.*Invalid username or password"
    ) as raised:
        resolve_offsets(KafkaSource.parse(f"kafka://{broker.sasl_address}/{topic}"), timeout=60)
    assert "wrong-one" not in str(raised.value)


def test_credentials_that_only_the_workers_lack_fail_the_job(broker, topic, monkeypatch):
    send(broker, topic, range(3))
    spans = [OffsetRange(topic, 0, 0, 3)]
    for name, value in {**LOGIN, "SASL_PASSWORD": "wrong-one"}.items():
        monkeypatch.setenv(f"PENSTOCK_KAFKA_{name}", value)
    uri = f"kafka://{broker.sasl_address}/{topic}?stop=latest"
    with pytest.raises(InputError, match="refuses the client"):
        batches_of(ReadFromKafka(uri, FEATURES, spans=spans))


def test_right_credentials_from_a_file(broker, topic, tmp_path):
    send(broker, topic, range(3))
    path = tmp_path / "client.properties"
    lines = {**LOGIN, "SASL_PASSWORD": "right"}.items()
    path.write_text("".join(f"{name.lower().replace('_', '.')}={value}\n" for name, value in lines))
    uri = f"kafka://{broker.sasl_address}/{topic}?stop=latest&config={path}"
    batches = batches_of(ReadFromKafka(uri, FEATURES))
    assert numbers(row for batch in batches for row in batch.to_pylist()) == [0, 1, 2]


def test_tls_to_a_listener_without_it(broker, topic, monkeypatch):
    monkeypatch.setenv("PENSTOCK_KAFKA_SECURITY_PROTOCOL", "SSL")
    with pytest.raises(InputError, match="no broker has answered within 3 s"):
        resolve_offsets(KafkaSource.parse(source(broker, topic)), timeout=3)
