"""A Kafka broker inside the client library, for tests that need no real one.

Topics are made when a message is sent; they have 4 partitions.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from confluent_kafka import Producer

from penstock.io.kafka import consumer, offsets, read

PARTITIONS = 4

# Milliseconds; 2023-11-14T22:13:20Z.
EPOCH = 1_700_000_000_000


class MockKafka:
    """Its address and a producer."""

    def __init__(self, brokers: int = 1) -> None:
        # The broker lives as long as the client that made it; it answers on loopback.
        self._host: Producer | None = Producer(
            {"bootstrap.servers": "mock", "test.mock.num.brokers": brokers, "log_level": 0}
        )
        brokers_now = self._host.list_topics(timeout=10).brokers.values()
        self.address = ",".join(f"{broker.host}:{broker.port}" for broker in brokers_now)
        settings = {"bootstrap.servers": self.address, "linger.ms": 5, "message.max.bytes": 8 << 20, "log_level": 0}
        self.producer = Producer(settings)

    def stop(self) -> None:
        """Ends the broker, which cannot be started again."""
        self._host = None

    def uri(self, topics: str, **parameters: object) -> str:
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"kafka://{self.address}/{topics}?{query}"

    def send(self, topic: str, messages: Iterable[Mapping[str, Any]]) -> None:
        """Messages are the arguments of `Producer.produce`; they are in the broker when this returns."""
        for message in messages:
            self.producer.produce(topic, **message)
        left = self.producer.flush(20)
        assert left == 0, f"{left} messages were not sent"


@contextlib.contextmanager
def mock_kafka(brokers: int = 1) -> Iterator[MockKafka]:
    """A broker, for as long as the block lasts. Nobody need wait for it: it is not far away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "_POLL_SECONDS", 0.02)
        patch.setitem(consumer._DEFAULTS, "fetch.wait.max.ms", 5)
        patch.setattr(offsets, "_REQUEST_SECONDS", 0.5)
        kafka = MockKafka(brokers)
        yield kafka
        kafka.producer.flush(5)


def json_messages(rows: Iterable[Mapping[str, Any]], partitions: int = PARTITIONS) -> Iterator[dict[str, Any]]:
    """Rows as messages, dealt to the partitions in turn, a millisecond apart."""
    for number, row in enumerate(rows):
        value = json.dumps(row).encode()
        yield {"value": value, "partition": number % partitions, "timestamp": EPOCH + number}
