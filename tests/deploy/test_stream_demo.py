"""The payments of the stream's demo, on the Kafka that the client has inside, and what is shown of windows."""

import itertools
import json
import os
import signal
import sys
import time

import pytest
from examples.stream import demo, produce
from mock_kafka import PARTITIONS, mock_kafka

from penstock.io.errors import ConfigError

confluent_kafka = pytest.importorskip("confluent_kafka")


def test_shares_of_late_and_wrong_payments():
    found = list(itertools.islice(produce.payments(0), 20_000))
    assert [payment["id"] for payment in found] == list(range(20_000))
    too_late = sum(payment["behind"] >= 60 for payment in found)
    late = sum(5 <= payment["behind"] < 60 for payment in found)
    wrong = sum(payment["amount"] < 0 for payment in found)
    assert (80 < too_late < 120, 500 < late < 700, 20 < wrong < 60) == (True, True, True)
    assert found[:100] == list(itertools.islice(produce.payments(0), 100)), "the same for a seed"


def consumed(address: str, topic: str, count: int) -> list[dict]:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "g", "log_level": 0})
    consumer.assign([confluent_kafka.TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    messages = []
    while len(messages) < count:
        messages += consumer.consume(count - len(messages), timeout=10)
    consumer.close()
    return [json.loads(message.value()) for message in messages]


def test_payments_come_at_their_rate_with_their_times():
    with mock_kafka() as kafka:
        began = time.time()
        assert produce.produce(kafka.address, "payments", rate=500, seconds=0.5) == 250
        assert 0.4 < time.time() - began < 10
        rows = consumed(kafka.address, "payments", 250)
    assert sorted(row["id"] for row in rows) == list(range(250))
    assert set(rows[0]) == {"id", "time", "card", "merchant", "amount"}
    assert all(began - 71 < row["time"] / 1000 <= time.time() for row in rows)


def test_a_topic_is_named_in_full(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["produce", "--to", "localhost:9092/payments"])
    with pytest.raises(SystemExit):
        produce.main()
    assert "--to must be kafka://HOST:PORT/TOPIC, got localhost:9092/payments" in capsys.readouterr().err


def test_prism_is_what_the_user_names(tmp_path):
    assert demo.find_prism("/here/prism", tmp_path) == ["--prism_location=/here/prism"]


def test_prism_that_cannot_be_had_is_told_as_prepare_tells_it(tmp_path, monkeypatch):
    def not_here(_: object) -> None:
        raise ConfigError("cannot be fetched")

    monkeypatch.setattr(demo, "stream_runner", not_here)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="cannot be fetched"):
        demo.find_prism(None, tmp_path)


def test_an_interrupt_waits_until_what_was_started_is_known():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    reached = []

    def start(interrupts: demo.Interrupts) -> None:
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("the end of the block")

    try:
        interrupts = demo.Interrupts()
        with pytest.raises(SystemExit, match="143"):
            start(interrupts)
        assert reached == ["the end of the block"]
        with pytest.raises(SystemExit, match="130"):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
