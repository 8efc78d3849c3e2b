"""Kafka as an opened source: topics with resolved offsets."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from penstock.io.formats.registry import by_keyword
from penstock.io.kafka.offsets import OffsetRange, resolve_offsets
from penstock.io.kafka.read import ReadFromKafka
from penstock.io.kafka.source import DEFAULT_FORMAT, KafkaSource
from penstock.io.messages.registry import decoder_name, find_decoder
from penstock.io.schema import Feature
from penstock.io.sources.base import SourceRequest

# The idle timeout of a partition, unless one is given.
_IDLE_TIMEOUT = "60s"


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
        source = cls(topics, resolve_offsets(topics), decoder.name, options, request)
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
            order_key=order_key,
            keep_source=keep_source,
            spans=self.spans,
        )

    def describe(self) -> str:
        """Describes the topics: partitions, number of offsets if bounded, and format of messages."""
        names = ", ".join(self.topics.topics)
        messages = sum(span.stop - span.start for span in self.spans if span.stop is not None)
        amount = f"{messages:,} offsets" if self.is_bounded else "a stream"
        return f"{self.topics.address}/{names} ({len(self.spans)} partitions, {amount}, {self.format} messages)"

    def inputs(self) -> list[dict[str, Any]]:
        """Lists each partition with its first offset, and its end if it has one."""
        return [
            {"uri": self.topics.uri(span.topic, span.partition), "start": span.start, "stop": span.stop}
            for span in self.spans
        ]
