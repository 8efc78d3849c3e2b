"""A producer that never loses a message silently: each one is delivered, or an error names the one that was not."""

import time
from collections.abc import Sequence
from typing import Any, Self

from penstock.io.errors import DataError
from penstock.io.kafka.client import Troubles, client_settings, import_kafka, make_client, refusal
from penstock.io.kafka.target import KafkaTarget

# The user's settings override these.
_DEFAULTS = {
    "linger.ms": 20,
    # The most that one producer holds; beyond it `send` waits for the brokers.
    "queue.buffering.max.kbytes": 64 << 10,
    # The partitioner of Java's producers: a key then has the same partition whoever writes it.
    "partitioner": "murmur2_random",
    # A message that is not delivered after this time has failed.
    "message.timeout.ms": 120_000,
}

_HINTS = {
    "MSG_SIZE_TOO_LARGE": "; the limits are message.max.bytes of the client (PENSTOCK_KAFKA_MESSAGE_MAX_BYTES) and "
    "max.message.bytes of the topic",
    "UNKNOWN_TOPIC": "; create it, or let the broker do so (auto.create.topics.enable)",
}

# How often a flush checks for errors: refused credentials are known long before the messages time out.
_FLUSH_SECONDS = 0.5

# A flush waits this much longer than the messages' timeout, for the client to report their outcome.
_GRACE_SECONDS = 15.0


class Delivery:
    """A producer of one topic, for use by one thread.

    Raises:
      ConfigError: when the client refuses its settings.
      ImportError: when the extra `kafka` is not installed.
    """

    @classmethod
    def of(cls, target: KafkaTarget) -> Self:
        """Makes a producer for a target; it connects later."""
        return cls(target.brokers, target.topic, target.config)

    def __init__(self, brokers: Sequence[str], topic: str, config: str | None = None):
        self._address = f"kafka://{','.join(brokers)}"
        self._topic = topic
        self._kafka = import_kafka()
        self._troubles = Troubles(self._address)
        self._failed = 0
        self._first = ""
        settings = {**_DEFAULTS, **client_settings(config), **_fixed(brokers)}
        timeout = settings.get("delivery.timeout.ms", settings["message.timeout.ms"])
        self._producer = make_client(
            self._kafka.Producer, self._address, settings, error_cb=self._troubles.report, on_delivery=self._report
        )
        self._seconds = float(timeout) / 1000 + _GRACE_SECONDS

    def send(self, values: Sequence[bytes], keys: Sequence[bytes | None]) -> None:
        """Hands messages to the client, and waits while it holds too many.

        Raises:
          DataError: when one of these or of earlier messages cannot be delivered.
        """
        produce = self._producer.produce
        for value, key in zip(values, keys, strict=True):
            while True:
                try:
                    produce(self._topic, value, key)
                    break
                except BufferError:
                    self._producer.poll(_FLUSH_SECONDS)
                    self._check()
                except self._kafka.KafkaException as error:
                    self._note(error.args[0], -1, len(value))
                    self._check()
        self._producer.poll(0)
        self._check()

    def flush(self) -> None:
        """Waits until the brokers have all messages.

        Raises:
          DataError: when one of them is not delivered.
        """
        deadline = time.monotonic() + self._seconds
        while left := self._producer.flush(_FLUSH_SECONDS):
            self._check()
            if time.monotonic() > deadline:
                self.discard()
                raise DataError(
                    f"{self._address}/{self._topic}: {left} messages are not delivered after {self._seconds:.0f} s"
                    f"{self._trouble()}"
                )
        self._check()
        self._troubles.clear()

    def discard(self) -> None:
        """Drops the messages that are not delivered yet."""
        self._producer.purge()
        self._producer.flush(_FLUSH_SECONDS)

    def _report(self, error: Any, message: Any) -> None:
        if error is not None:
            self._note(error, message.partition(), len(message.value() or b""))

    def _note(self, error: Any, partition: int | None, size: int) -> None:
        self._failed += 1
        if not self._first:
            where = f"partition {partition}" if partition is not None and partition >= 0 else "no partition yet"
            self._first = f"{error.name()}: {error.str()} ({where}, {size} bytes)"

    def _check(self) -> None:
        if self._troubles.denied:
            raise refusal(self._address, self._troubles.denied)
        if not self._failed:
            return
        hint = next((hint for name, hint in _HINTS.items() if name in self._first), self._trouble())
        raise DataError(f"{self._address}/{self._topic}: a message is not delivered: {self._first}{hint}")

    def _trouble(self) -> str:
        return f"; the client's last trouble: {self._troubles.last}" if self._troubles.last else ""


def _fixed(brokers: Sequence[str]) -> dict[str, Any]:
    return {
        "bootstrap.servers": ",".join(brokers),
        "acks": "all",
        "enable.idempotence": True,
        "delivery.report.only.error": True,
    }
