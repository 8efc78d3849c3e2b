"""A producer that never loses a message silently: each one is delivered, or an error names the one that was not.

For a broker that is away, the client holds 64 MiB of messages and no more. Beyond that, and at the end of a bundle, the
job waits: memory stays bounded, and what is not read yet lies where it is read from. A message that has waited longer
than the target's `timeout` fails the job.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from penstock.io.beam.durations import MILLISECOND, as_duration
from penstock.io.errors import DataError
from penstock.io.kafka.client import Troubles, client_settings, import_kafka, make_client, refusal
from penstock.io.kafka.offsets import RESOLVE_SECONDS, Client
from penstock.io.kafka.target import DEFAULT_TIMEOUT, KafkaTarget

_LOGGER = logging.getLogger(__name__)

# The user's settings override these.
_DEFAULTS = {
    "linger.ms": 20,
    # The most that one producer holds; beyond it `send` waits for the brokers.
    "queue.buffering.max.kbytes": 64 << 10,
    # The partitioner of Java's producers: a key then has the same partition whoever writes it.
    "partitioner": "murmur2_random",
    # A message that is not delivered after this time has failed.
    "message.timeout.ms": DEFAULT_TIMEOUT // MILLISECOND,
    # The client's own default: the largest request, and so the largest message.
    "message.max.bytes": 1_000_000,
}

# What a message takes beside its key and value, at most.
_OVERHEAD_BYTES = 128

# The least value that the client takes for `message.max.bytes`.
_LEAST_MAX_BYTES = 1000

_HINTS = {
    "MSG_SIZE_TOO_LARGE": "; the limits are message.max.bytes of the client (PENSTOCK_KAFKA_MESSAGE_MAX_BYTES) and "
    "max.message.bytes of the topic",
    "UNKNOWN_TOPIC": "; create it, or let the broker do so (auto.create.topics.enable)",
}

# How often a flush checks for errors: refused credentials are known long before the messages time out.
_FLUSH_SECONDS = 0.5

# How often a full client is asked for room.
_ROOM_SECONDS = 0.05

# A flush waits this much longer than the messages' timeout, for the client to report their outcome.
_GRACE_SECONDS = 15.0

# A wait of this length is told; again and again as long as it lasts (`Troubles.warn`).
_TOLD_SECONDS = 10.0

# A broker that makes topics when they are written to needs a moment.
_CREATION_SECONDS = 5.0

# A broker that is slow to tell a topic's settings need not be waited for.
_SETTINGS_SECONDS = 5.0


def look_up(target: KafkaTarget, timeout: float = RESOLVE_SECONDS, create: bool = True) -> KafkaTarget:
    """Asks the brokers whether a topic can be written to; returns the target with the topic's largest message.

    A topic that is not there is made by the brokers, if they make topics that are written to.

    Args:
      target: the topic.
      timeout: seconds to wait for an answer.
      create: False to change nothing; a topic that is not there is then no error, since the brokers may make it.

    Raises:
      ConfigError: when the client refuses a setting.
      InputError: when no broker answers in time or the brokers refuse the client, or when there is no such topic.
      ImportError: when the extra `kafka` is not installed.
    """
    client = Client(target.source, timeout)
    try:
        if not client.has(target.topic):
            if not create:
                return target
            _let_create(target)
        client.partitions(target.topic)
    finally:
        client.close()
    return dataclasses.replace(target, max_bytes=_max_bytes(target))


def _let_create(target: KafkaTarget) -> None:
    """Asks for the topic as a producer does, for which brokers may make it, until it is there or some time is over."""
    kafka = import_kafka()
    producer = _plain_client(kafka.Producer, target)
    deadline = time.monotonic() + _CREATION_SECONDS
    while time.monotonic() < deadline:
        try:
            if producer.list_topics(target.topic, timeout=_CREATION_SECONDS).topics[target.topic].error is None:
                return
        except kafka.KafkaException:
            pass  # what asks next gives the error
        time.sleep(_FLUSH_SECONDS)


def _max_bytes(target: KafkaTarget) -> int | None:
    """Returns the largest message that the topic takes; None when the brokers do not tell this client."""
    kafka = import_kafka()
    from confluent_kafka import admin as kafka_admin

    resource: Any = kafka_admin.ConfigResource  # type: ignore[attr-defined]
    admin = _plain_client(kafka_admin.AdminClient, target)
    try:
        cluster = admin.list_topics(target.topic, timeout=_SETTINGS_SECONDS)
        if cluster.controller_id not in cluster.brokers:
            return None  # the client would wait for one
        asked = resource(resource.Type.TOPIC, target.topic)
        told = admin.describe_configs([asked], request_timeout=_SETTINGS_SECONDS)[asked].result(_SETTINGS_SECONDS)
        return int(told["max.message.bytes"].value)
    except (kafka.KafkaException, TimeoutError, KeyError):
        return None


def _plain_client(kind: Callable[..., Any], target: KafkaTarget) -> Any:
    address = target.source.address
    settings = {**client_settings(target.config), "bootstrap.servers": ",".join(target.brokers)}
    return make_client(kind, address, settings, error_cb=Troubles(address).report)


class Delivery:
    """A producer of one topic, for use by one thread.

    Attributes:
      max_bytes: the largest message that client and topic take, as far as it is known.

    Raises:
      ConfigError: when the client refuses its settings.
      ImportError: when the extra `kafka` is not installed.
    """

    def __init__(self, target: KafkaTarget, check: Callable[[], None] = lambda: None):
        """Makes the producer; it connects later. `check` is called while it waits, and may raise to end the wait."""
        self._uri = target.uri
        self._address = target.source.address
        self._topic = target.topic
        self._check_run = check
        self._kafka = import_kafka()
        self._troubles = Troubles(self._address)
        self._failed = 0
        self._first = ""
        settings = _settings(target)
        timeout = settings.get("delivery.timeout.ms", settings["message.timeout.ms"])
        self.max_bytes = int(settings["message.max.bytes"])
        self._producer = make_client(
            self._kafka.Producer, self._address, settings, error_cb=self._troubles.report, on_delivery=self._report
        )
        self._timeout = float(timeout) / 1000
        self._seconds = self._timeout + _GRACE_SECONDS
        self._left = 0
        self._since: float | None = None

    def holds(self, size: int) -> bool:
        """Returns whether a message of so many bytes, key and value, is small enough."""
        return size + _OVERHEAD_BYTES <= self.max_bytes

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
                    self._wait_for_room()
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
            self._wait(left)
            if time.monotonic() > deadline:
                self.discard()
                raise DataError(
                    f"{self._uri}: {left} messages are not delivered after {self._seconds:.0f} s{self._trouble()}"
                )
        self._check()
        self._end_wait()
        self._troubles.clear()

    def discard(self) -> None:
        """Drops the messages that are not delivered yet."""
        self._producer.purge()
        self._producer.flush(_FLUSH_SECONDS)

    def _wait_for_room(self) -> None:
        full = len(self._producer)
        while (left := len(self._producer)) >= full:
            self._producer.poll(_ROOM_SECONDS)
            self._wait(left)
        self._end_wait()

    def _wait(self, left: int) -> None:
        """Checks what may end a wait, and tells of one in which nothing is delivered."""
        self._check()
        self._check_run()
        now = time.monotonic()
        if self._since is None or left < self._left:
            self._end_wait()
            self._since = now
        self._left = left
        if now - self._since >= _TOLD_SECONDS:
            self._troubles.warn(
                "waiting", "%s: no broker has taken a message for %.0f s: the job waits with %s messages, and fails "
                "when one has waited for %.0f s%s", self._uri, now - self._since, f"{left:,}", self._timeout,
                self._trouble(),
            )  # fmt: skip

    def _end_wait(self) -> None:
        if self._since is not None and (seconds := time.monotonic() - self._since) >= _TOLD_SECONDS:
            _LOGGER.warning("%s: the brokers take messages again, after %.0f s", self._uri, seconds)
        self._since = None

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
        if "_MSG_TIMED_OUT" in self._first:
            hint += (
                f"; no broker has taken it within {self._timeout:g} s (timeout= of the URI); nothing is lost: "
                "when the job is started again, it reads again what it has not published"
            )
        raise DataError(f"{self._uri}: a message is not delivered: {self._first}{hint}")

    def _trouble(self) -> str:
        return f"; the client's last trouble: {self._troubles.last}" if self._troubles.last else ""


def _settings(target: KafkaTarget) -> dict[str, Any]:
    settings: dict[str, Any] = {**_DEFAULTS, **client_settings(target.config)}
    if target.timeout is not None:
        settings.pop("delivery.timeout.ms", None)
        settings["message.timeout.ms"] = as_duration(target.timeout, "timeout") // MILLISECOND
    if target.max_bytes is not None:
        # The brokers refuse all messages of a request that is larger, the small ones too.
        settings["message.max.bytes"] = max(_LEAST_MAX_BYTES, min(int(settings["message.max.bytes"]), target.max_bytes))
    return {
        **settings,
        "bootstrap.servers": ",".join(target.brokers),
        "acks": "all",
        "enable.idempotence": True,
        "delivery.report.only.error": True,
    }
