"""Kafka as an opened source: topics with resolved offsets, and their ids.

A topic that is made anew has its old name and another id, and its offsets are of other messages. Brokers have ids since
Kafka 2.8. Where they cannot be learned, nothing is compared, and a warning says so.
"""

import dataclasses
import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Self

from penstock.io.errors import InputError
from penstock.io.formats.registry import by_keyword
from penstock.io.kafka.client import Troubles, client_settings, import_kafka, make_client
from penstock.io.kafka.offsets import CommitOffsets, OffsetRange, offsets_from, resolve_offsets
from penstock.io.kafka.read import ReadFromKafka, fixed_topics
from penstock.io.kafka.source import DEFAULT_FORMAT, KafkaSource
from penstock.io.messages.registry import decoder_name, find_decoder
from penstock.io.schema import Feature
from penstock.io.sources.base import SourceRequest

_LOGGER = logging.getLogger(__name__)

# The idle timeout of a partition, unless one is given.
_IDLE_TIMEOUT = "60s"

# For each question. Brokers answer in milliseconds, a busy one in seconds.
_ASK_SECONDS = 15.0

# How an id is written that an older broker does not have.
_NO_ID = "AAAAAAAAAAAAAAAAAAAAAA"


@dataclasses.dataclass(frozen=True)
class TopicSource:
    """Kafka topics, with the offsets that were resolved when the source was opened."""

    topics: KafkaSource
    spans: tuple[OffsetRange, ...]
    format: str
    format_options: dict[str, Any]
    request: SourceRequest

    has_event_times = True

    @classmethod
    def open(cls, request: SourceRequest) -> Self:
        """Asks Kafka for the partitions and their offsets; raises the errors of `SourceKind.open`."""
        topics = KafkaSource.parse(request.inputs[0])
        decoder = find_decoder(decoder_name(request.format or DEFAULT_FORMAT))
        options = by_keyword(request.options, decoder.options, f"{decoder.name} messages")
        spans = resolve_offsets(topics)
        source = cls(fixed_topics(topics, spans), spans, decoder.name, options, request)
        source.read()
        return source

    @property
    def is_bounded(self) -> bool:
        """Whether the URI has an end (`stop=`)."""
        return self.topics.bounded

    def read(
        self, features: Sequence[Feature] | None = None, order_key: bool = False, keep_source: bool = False
    ) -> ReadFromKafka:
        """Returns the transform that reads all partitions."""
        return ReadFromKafka(
            self.topics,
            features,
            event_time=self.request.event_time,
            format=self.format,
            format_options=self.format_options,
            out_of_orderness=self.request.out_of_orderness,
            idle_timeout=_IDLE_TIMEOUT if self.request.idle_timeout is None else self.request.idle_timeout,
            max_ahead=self.request.max_ahead,
            order_key=order_key,
            keep_source=keep_source,
            spans=self.spans,
            commits=self.is_bounded,  # of a stream, what is published is committed
        )

    @property
    def name(self) -> str:
        """The brokers and topics, with the format of messages."""
        return f"{self.topics.address}/{self.topics.names} ({self.format} messages)"

    def positions(self) -> dict[str, int]:
        """Returns the first offset of each partition."""
        return {self.topics.uri(span.topic, span.partition): span.start for span in self.spans}

    def at(self, positions: Mapping[str, int]) -> Self:
        """Returns the topics from other offsets on; raises the errors of `offsets_from`."""
        return dataclasses.replace(self, spans=offsets_from(self.topics, positions))

    def identities(self, before: Mapping[str, str]) -> dict[str, str]:
        """Returns the ids of the topics, as far as they can be learned; raises the errors of `check_topic_ids`."""
        found = topic_ids(self.topics, {span.topic for span in self.spans})
        check_topic_ids(before, found)
        return {**before, **found}

    def commit(self) -> CommitOffsets | None:
        """Returns what commits offsets to the group, if the URI names one."""
        return CommitOffsets(self.topics) if self.topics.group else None

    def describe(self) -> str:
        """Describes the topics: partitions, number of offsets if bounded, and format of messages."""
        names = self.topics.names
        messages = sum(span.stop - span.start for span in self.spans if span.stop is not None)
        amount = f"{messages:,} offsets" if self.is_bounded else "a stream"
        return f"{self.topics.address}/{names} ({len(self.spans)} partitions, {amount}, {self.format} messages)"

    def inputs(self) -> list[dict[str, Any]]:
        """Lists each partition with its first offset, and its end if it has one."""
        return [
            {"uri": self.topics.uri(span.topic, span.partition), "start": span.start, "stop": span.stop}
            for span in self.spans
        ]


def topic_ids(source: KafkaSource, topics: Collection[str]) -> dict[str, str]:
    """Returns the ids of topics, by their URIs, as Kafka's tools write them.

    Topics whose ids cannot be learned are left out, with a warning that says why.
    """
    kafka = import_kafka()
    from confluent_kafka.admin import AdminClient

    settings = {**client_settings(source.config), "bootstrap.servers": ",".join(source.brokers)}
    admin = make_client(AdminClient, source.address, settings, error_cb=Troubles(source.address).report)
    ids = {}
    for topic, answer in _ids_or_errors(kafka, admin, sorted(topics)).items():
        if isinstance(answer, str):
            ids[source.uri(topic)] = answer
        else:
            reason = str(answer) or f"no answer within {_ASK_SECONDS:g} s"
            _LOGGER.warning("%s: whether it was made anew is not checked: %s", source.uri(topic), reason)
    return ids


def _ids_or_errors(kafka: Any, admin: Any, topics: Sequence[str]) -> dict[str, str | Exception]:
    try:
        cluster = admin.list_topics(timeout=_ASK_SECONDS)
        if cluster.controller_id not in cluster.brokers:  # the client would wait for it
            raise TimeoutError("the brokers have no controller now")
        asked = admin.describe_topics(kafka.TopicCollection(topics), request_timeout=_ASK_SECONDS)
    except (kafka.KafkaException, TimeoutError) as error:
        return dict.fromkeys(topics, error)
    return {topic: _id_or_error(kafka, answer) for topic, answer in asked.items()}


def _id_or_error(kafka: Any, answer: Any) -> str | Exception:
    try:
        topic_id = answer.result(_ASK_SECONDS).topic_id
    except (kafka.KafkaException, TimeoutError) as error:
        return error
    if topic_id is None or str(topic_id) == _NO_ID:
        return LookupError("its brokers have no ids, which came with Kafka 2.8")
    return str(topic_id)


def check_topic_ids(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    """Refuses a topic that has another id than before.

    Raises:
      InputError: names it, with both ids.
    """
    for uri, topic_id in now.items():
        if before.get(uri, topic_id) != topic_id:
            raise InputError(
                f"{uri}: the topic was made anew since it was read (its id was {before[uri]}, and is {topic_id}): its "
                "offsets are those of other messages; begin in another folder"
            )
