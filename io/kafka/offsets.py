"""The first and last offsets to read of each partition, looked up once, when the job is submitted."""

import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from penstock.io.errors import ConfigError, InputError
from penstock.io.kafka.client import Troubles, import_kafka, make_consumer, refusal
from penstock.io.kafka.source import KafkaSource, Millis

_LOGGER = logging.getLogger(__name__)

# A broken set-up is reported as an error after this time.
RESOLVE_SECONDS = 20.0

# How long one request waits before the client's errors are checked.
_REQUEST_SECONDS = 2.0

# Times that stand for offsets, in Kafka's ListOffsets request.
_AT_END, _AT_BEGINNING = -1, -2

Partition = tuple[str, int]
Answer = TypeVar("Answer")


@dataclasses.dataclass(frozen=True)
class OffsetRange:
    """Offsets `start` to `stop` (exclusive; None: no end) of one partition."""

    topic: str
    partition: int
    start: int
    stop: int | None = None


def resolve_offsets(source: KafkaSource, timeout: float = RESOLVE_SECONDS) -> tuple[OffsetRange, ...]:
    """Resolves `start` and `stop` of a source to offsets, for each partition in order.

    Raises:
      ConfigError: when the client rejects a setting, or a time lies in the future.
      InputError: when no broker answers within `timeout` seconds or the brokers refuse the client, when a topic or
        partition does not exist or may not be read, or when a group's commit is beyond the end.
    """
    _check_times(source)
    client = Client(source, timeout)
    try:
        partitions = [partition for topic in source.topics for partition in client.partitions(topic)]
        ends = client.offsets(partitions, _AT_END)
        starts = _starts(source, client, partitions, ends)
        stops = _stops(source, client, partitions, ends)
    finally:
        client.close()
    return tuple(
        OffsetRange(*partition, starts[partition], None if stops is None else max(starts[partition], stops[partition]))
        for partition in partitions
    )


def _check_times(source: KafkaSource) -> None:
    now = time.time() * 1000
    for name, value in (("start", source.start), ("stop", source.stop)):
        if isinstance(value, int) and value > now:
            raise ConfigError(
                f"{name}={value} lies ahead: the offsets are looked up when the job is submitted; to read what is to "
                "come, use start=latest and stop=none"
            )


def _starts(
    source: KafkaSource, client: "Client", partitions: Sequence[Partition], ends: Mapping[Partition, int]
) -> Mapping[Partition, int]:
    match source.start:
        case "latest":
            return ends
        case "earliest":
            return client.offsets(partitions, _AT_BEGINNING)
        case "committed":
            return _committed(source, client, partitions, ends)
        case int() as millis:
            return client.offsets_at(partitions, millis, ends)


def _stops(
    source: KafkaSource, client: "Client", partitions: Sequence[Partition], ends: Mapping[Partition, int]
) -> Mapping[Partition, int] | None:
    match source.stop:
        case "none":
            return None
        case "latest":
            return ends
        case int() as millis:
            return client.offsets_at(partitions, millis, ends)


def _committed(
    source: KafkaSource, client: "Client", partitions: Sequence[Partition], ends: Mapping[Partition, int]
) -> Mapping[Partition, int]:
    found = client.committed(partitions)
    missing = [partition for partition in partitions if found[partition] < 0]
    for partition in partitions:
        if found[partition] > ends[partition]:
            raise InputError(
                f"{source.uri(*partition)}: group {source.group} has committed offset {found[partition]}, but the "
                f"partition ends at {ends[partition]}: the topic was made anew; read it with start=earliest"
            )
    if not missing:
        return found
    _LOGGER.warning(
        "Group %s has committed nothing for %d of %d partitions (%s ...): they are read from their beginning.",
        source.group, len(missing), len(partitions), source.uri(*missing[0]),
    )  # fmt: skip
    return {**found, **client.offsets(missing, _AT_BEGINNING)}


class Client:
    """Sends requests to the brokers, all under one deadline."""

    def __init__(self, source: KafkaSource, timeout: float):
        self._kafka = import_kafka()
        self._source = source
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._troubles = Troubles(source.address)
        self._consumer = make_consumer(source, self._troubles)

    def close(self) -> None:
        """Closes the connection."""
        self._consumer.close()

    def partitions(self, topic: str) -> list[Partition]:
        """Returns the partitions of a topic.

        Raises:
          InputError: when the topic does not exist or may not be read.
        """
        metadata = self._ask(
            lambda seconds: self._consumer.list_topics(topic, timeout=seconds), f"topic {topic}"
        ).topics[topic]
        uri = self._source.uri(topic)
        if metadata.error is not None and metadata.error.code() == self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise InputError(f"{uri}: the broker has no topic {topic!r}; create it, or correct the name")
        if metadata.error is not None:
            raise InputError(f"{uri}: the topic cannot be read: {metadata.error.str()}")
        if not metadata.partitions:
            raise InputError(f"{uri}: the topic has no partitions")
        return [(topic, partition) for partition in sorted(metadata.partitions)]

    def offsets(self, partitions: Sequence[Partition], millis: Millis) -> dict[Partition, int]:
        """Returns each partition's first offset whose record is at `millis` or later; -1 where there is none.

        Raises:
          InputError: when a partition has no leader or may not be read.
        """
        asked = [self._kafka.TopicPartition(*partition, millis) for partition in partitions]
        found = self._ask(lambda seconds: self._consumer.offsets_for_times(asked, timeout=seconds), "the offsets")
        return self._checked(found)

    def offsets_at(
        self, partitions: Sequence[Partition], millis: Millis, ends: Mapping[Partition, int]
    ) -> dict[Partition, int]:
        """Like `offsets`, but with the end of the partition where there is none."""
        found = self.offsets(partitions, millis)
        return {partition: offset if offset >= 0 else ends[partition] for partition, offset in found.items()}

    def committed(self, partitions: Sequence[Partition]) -> dict[Partition, int]:
        """Returns the offsets that the group has committed; negative where it has committed none.

        Raises:
          InputError: when the group may not be read.
        """
        asked = [self._kafka.TopicPartition(*partition) for partition in partitions]
        what = f"the commits of group {self._source.group}"
        return self._checked(self._ask(lambda seconds: self._consumer.committed(asked, timeout=seconds), what))

    def _checked(self, found: Sequence[Any]) -> dict[Partition, int]:
        for item in found:
            if item.error is not None:
                uri = self._source.uri(item.topic, item.partition)
                raise InputError(f"{uri}: the partition cannot be read: {item.error.str()}")
        return {(item.topic, item.partition): item.offset for item in found}

    def _ask(self, question: Callable[[float], Answer], what: str) -> Answer:
        while True:
            left = self._deadline - time.monotonic()
            try:
                return question(max(0.1, min(left, _REQUEST_SECONDS)))
            except self._kafka.KafkaException as error:
                self._give_up(error.args[0], what)

    def _give_up(self, error: Any, what: str) -> None:
        """Raises errors that a retry cannot fix. First runs the client's callbacks, which say why no broker answers."""
        self._consumer.poll(0.1)
        if self._troubles.denied:
            raise refusal(self._source.address, self._troubles.denied)
        if not error.retriable() and error.name() not in (
            "_TIMED_OUT",
            "_TRANSPORT",
            "_ALL_BROKERS_DOWN",
            "_WAIT_COORD",
        ):
            raise InputError(f"{self._source.address}: asking for {what} failed: {error.str()}")
        if time.monotonic() > self._deadline:
            raise InputError(
                f"{self._source.address}: no broker has answered within {self._timeout:g} s when asked for {what} "
                f"({self._troubles.last or error.str()}); check the address, and that the brokers run"
            )
