"""The first and last offsets to read of each partition, looked up once, when the job is submitted."""

import dataclasses
import difflib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from penstock.io.errors import ConfigError, InputError
from penstock.io.kafka.client import Troubles, import_kafka, make_consumer, refusal
from penstock.io.kafka.source import KafkaSource, Millis

_LOGGER = logging.getLogger(__name__)

# A broken set-up is reported as an error after this time.
RESOLVE_SECONDS = 20.0

# How long one request waits before the client's errors are checked.
_REQUEST_SECONDS = 2.0

# So many topics are named where a pattern matches none.
_SHOWN_TOPICS = 10

# A commit is for monitoring, and for streams that begin with start=committed: the next one is seconds away.
_COMMIT_SECONDS = 10.0

# What goes away by itself: no answer yet, and what Kafka's protocol calls retriable, as while a leader is chosen. The
# client's own `retriable()` knows only that of transactions.
_PASSING = {
    *("_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_WAIT_COORD", "REQUEST_TIMED_OUT", "NETWORK_EXCEPTION"),
    *("LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH"),
    *("COORDINATOR_LOAD_IN_PROGRESS", "COORDINATOR_NOT_AVAILABLE", "NOT_COORDINATOR", "UNSTABLE_OFFSET_COMMIT"),
    *("BROKER_NOT_AVAILABLE", "REPLICA_NOT_AVAILABLE", "OFFSET_NOT_AVAILABLE", "KAFKA_STORAGE_ERROR"),
}

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
    """Resolves `start` and `stop` of a source to offsets, for each partition in order; topics of a pattern by name.

    Raises:
      ConfigError: when the client rejects a setting, or a time lies in the future.
      InputError: when no broker answers within `timeout` seconds or the brokers refuse the client, when a topic or
        partition does not exist or may not be read, when no topic matches the pattern, or when a group's commit is
        beyond the end.
    """
    _check_times(source)
    client = Client(source, timeout)
    try:
        partitions = [partition for topic in client.topics() for partition in client.partitions(topic)]
        ends = client.offsets(partitions, _AT_END)
        starts = _starts(source, client, partitions, ends)
        stops = _stops(source, client, partitions, ends)
    finally:
        client.close()
    return tuple(
        OffsetRange(*partition, starts[partition], None if stops is None else max(starts[partition], stops[partition]))
        for partition in partitions
    )


def offsets_from(
    source: KafkaSource, positions: Mapping[str, int], timeout: float = RESOLVE_SECONDS
) -> tuple[OffsetRange, ...]:
    """Returns the offsets of a stream that goes on: from the position of each partition's URI, if there is one.

    Raises:
      InputError: like `resolve_offsets`; also when a partition with a position is gone, or ends before it.
    """
    client = Client(source, timeout)
    try:
        partitions = [partition for topic in client.topics() for partition in client.partitions(topic)]
        ends, beginnings = client.offsets(partitions, _AT_END), client.offsets(partitions, _AT_BEGINNING)
    finally:
        client.close()
    there = {source.uri(*partition): partition for partition in partitions}
    for uri, offset in positions.items():
        if uri not in there or offset > ends[there[uri]]:
            fault = f"ends at {ends[there[uri]]}" if uri in there else "is gone"
            raise InputError(
                f"{uri}: the stream goes on at offset {offset}, but the partition {fault}: the topic was made anew; "
                "begin in another folder"
            )
    starts = {partition: positions.get(uri, beginnings[partition]) for uri, partition in there.items()}
    return tuple(OffsetRange(*partition, start) for partition, start in starts.items())


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

    def topics(self) -> Sequence[str]:
        """Returns the topics of the source; those of a pattern by name.

        Raises:
          InputError: when no topic matches the pattern.
        """
        if self._source.pattern is None:
            return self._source.topics
        there = self._ask(lambda seconds: self._consumer.list_topics(timeout=seconds), "the topics").topics
        found = sorted(filter(self._source.matches, there))
        if not found:
            raise InputError(
                f"{self._source.address}: no topic matches the {self._source.names}, which must match the whole name"
                f"{_nearest(self._source.pattern, there)}; create the first one, or correct the pattern"
            )
        return found

    def has(self, topic: str) -> bool:
        """Returns whether there is a topic of this name, readable or not."""
        error = self._metadata(topic).error
        return error is None or error.code() != self._kafka.KafkaError.UNKNOWN_TOPIC_OR_PART

    def _metadata(self, topic: str) -> Any:
        return self._ask(
            lambda seconds: self._consumer.list_topics(topic, timeout=seconds).topics[topic],
            f"topic {topic}",
            lambda found: [found],
        )

    def partitions(self, topic: str) -> list[Partition]:
        """Returns the partitions of a topic.

        Raises:
          InputError: when the topic does not exist or may not be read.
        """
        metadata, uri = self._metadata(topic), self._source.uri(topic)
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
        return self._offsets(lambda seconds: self._consumer.offsets_for_times(asked, timeout=seconds), "the offsets")

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
        return self._offsets(lambda seconds: self._consumer.committed(asked, timeout=seconds), what)

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """Commits offsets to the group.

        Raises:
          InputError: when the brokers refuse, or none answers.
        """
        asked = [self._kafka.TopicPartition(*partition, offset) for partition, offset in offsets.items()]
        fault = "its offset cannot be committed"
        self._offsets(lambda _: self._consumer.commit(offsets=asked, asynchronous=False), "a commit", fault)

    def _offsets(
        self, question: Callable[[float], Sequence[Any]], what: str, fault: str = "the partition cannot be read"
    ) -> dict[Partition, int]:
        found = self._ask(question, what, lambda found: found)
        for item in found:
            if item.error is not None:
                raise InputError(f"{self._source.uri(item.topic, item.partition)}: {fault}: {item.error.str()}")
        return {(item.topic, item.partition): item.offset for item in found}

    def _ask(
        self, question: Callable[[float], Answer], what: str, parts: Callable[[Answer], Sequence[Any]] = lambda _: ()
    ) -> Answer:
        """Asks until there is an answer of which no part has an error that passes; other errors of parts stay there."""
        while True:
            left = self._deadline - time.monotonic()
            try:
                answer = question(max(0.1, min(left, _REQUEST_SECONDS)))
                for part in parts(answer):
                    if part.error is not None and part.error.name() in _PASSING:
                        raise self._kafka.KafkaException(part.error)
                return answer
            except self._kafka.KafkaException as error:
                self._give_up(error.args[0], what)

    def _give_up(self, error: Any, what: str) -> None:
        """Raises errors that a retry cannot fix. First runs the client's callbacks, which say why no broker answers."""
        self._consumer.poll(0.1)
        if self._troubles.denied:
            raise refusal(self._source.address, self._troubles.denied)
        if not error.retriable() and error.name() not in _PASSING:
            raise InputError(f"{self._source.address}: asking for {what} failed: {error.str()}")
        if time.monotonic() > self._deadline:
            if error.code() > 0:  # a broker's answer
                raise InputError(
                    f"{self._source.address}: asking for {what} has failed for {self._timeout:g} s: {error.str()}"
                )
            raise InputError(
                f"{self._source.address}: no broker has answered within {self._timeout:g} s when asked for {what} "
                f"({self._troubles.last or error.str()}); check the address, and that the brokers run"
            )


def _nearest(pattern: str, topics: Collection[str]) -> str:
    """Returns the topics to show beside a pattern that matches none, the most similar first."""
    near = difflib.get_close_matches(pattern, topics, _SHOWN_TOPICS, 0)
    more = f" and {len(topics) - len(near)} more" if len(topics) > len(near) else ""
    return f"; this client sees the topics {', '.join(near)}{more}" if near else "; this client sees no topics"


@dataclasses.dataclass(frozen=True)
class CommitOffsets:
    """Commits offsets to the group of a source; a failure is only a warning: nothing of this stream depends on it.

    Attributes:
      source: with a group.
    """

    source: KafkaSource

    def __call__(self, positions: Mapping[str, int]) -> None:
        """Commits the offset of each partition's URI: the next one to read, as Kafka counts."""
        offsets = {self.source.partition(uri): offset for uri, offset in positions.items()}
        try:
            client = Client(self.source, _COMMIT_SECONDS)
            try:
                client.commit(offsets)
            finally:
                client.close()
        except InputError as error:
            _LOGGER.warning("%s: committing to group %s failed: %s", self.source.address, self.source.group, error)
