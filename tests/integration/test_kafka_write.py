"""Writing to a real broker: one that dies while it is written to, and what it refuses."""

import concurrent.futures
import json
import time

import pyarrow as pa
import pytest
from deploy.kafka.broker import KafkaBroker

from penstock.io.errors import DataError, InputError
from penstock.io.kafka.producer import Delivery, look_up
from penstock.io.kafka.target import KafkaTarget
from penstock.io.kafka.write import messages_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def broker(tmp_path_factory, kafka_jars):
    own = KafkaBroker(tmp_path_factory.mktemp("own_kafka"), kafka_jars, {"auto.create.topics.enable": "false"})
    try:
        own.start()
        yield own
    finally:
        own.stop()


def read(broker, topic, partitions):
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {"bootstrap.servers": broker.address, "group.id": "test", "enable.partition.eof": True, "log_level": 0}
    )
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found, ended = [], 0
    while ended < partitions:
        message = consumer.poll(20)
        assert message is not None
        if message.error():
            ended += 1
        else:
            found.append((message.partition(), json.loads(message.value())["n"]))
    consumer.close()
    return found


def start_later(broker):
    time.sleep(3)
    broker.start()


def test_a_broker_that_dies_and_comes_back_has_each_message_once_and_in_order(broker, monkeypatch):
    broker.create_topic("restart", 2)
    monkeypatch.setenv("PENSTOCK_KAFKA_MESSAGE_TIMEOUT_MS", "400000")
    delivery = Delivery(KafkaTarget.parse(f"kafka://{broker.address}/restart"))
    rows = 0

    def send(seconds):
        nonlocal rows
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            batch = pa.record_batch({"n": range(rows, rows + 500), "k": [f"{n % 10}" for n in range(500)]})
            outgoing = messages_of(batch, key="k")
            delivery.send(outgoing.values, outgoing.keys)
            rows += 500
            time.sleep(0.02)

    send(1)
    broker.kill()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        back = pool.submit(start_later, broker)
        send(2)
        back.result()
    delivery.flush()
    found = read(broker, "restart", 2)
    assert sorted(number for _, number in found) == list(range(rows))
    for partition in (0, 1):
        numbers = [number for place, number in found if place == partition]
        assert numbers == sorted(numbers)


def test_a_topics_limit_is_looked_up_and_small_messages_pass_it(broker):
    broker.create_topic("small", 1, **{"max.message.bytes": "2000"})
    target = look_up(KafkaTarget.parse(f"kafka://{broker.address}/small"))
    assert target.max_bytes == 2000
    delivery = Delivery(target)
    assert not delivery.holds(2000)
    delivery.send([b'{"n": %d}' % number for number in range(5000)], [None] * 5000)
    delivery.flush()
    assert sorted(number for _, number in read(broker, "small", 1)) == list(range(5000))


def test_a_message_beyond_a_limit_that_is_not_known_names_its_partition(broker):
    broker.create_topic("unknown", 1, **{"max.message.bytes": "1000"})
    delivery = Delivery(KafkaTarget.parse(f"kafka://{broker.address}/unknown"))
    delivery.send([b"x" * 2000], [None])
    with pytest.raises(
        DataError,
        match=r"/unknown: a message is not delivered: MSG_SIZE_TOO_LARGE: .* \(partition 0, 2000 bytes\); the",
    ):
        delivery.flush()


def test_a_topic_that_is_missing(broker, monkeypatch):
    target = KafkaTarget.parse(f"kafka://{broker.address}/nowhere")
    with pytest.raises(InputError, match=r"/nowhere: the broker has no topic 'nowhere'; create it"):
        look_up(target)
    assert look_up(target, create=False) == target
    monkeypatch.setenv("PENSTOCK_KAFKA_TOPIC_METADATA_PROPAGATION_MAX_MS", "1000")
    delivery = Delivery(target)
    delivery.send([b"x"], [None])
    with pytest.raises(DataError, match=r"/nowhere: a message is not delivered: UNKNOWN_TOPIC_OR_PART.*; create it"):
        delivery.flush()
