"""Kafka as a kind of source: the checks that need neither Beam nor the Kafka client."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.errors import ConfigError
from penstock.io.files.extras import KAFKA
from penstock.io.kafka.source import DEFAULT_FORMAT, KafkaSource
from penstock.io.sources.base import Source, SourceRequest


class KafkaKind:
    """Topics of Kafka, named by one URI; see `penstock.io.sources.base.SourceKind`."""

    def reach(self, uri: str, what: str) -> None:
        """Rejects all topics when the client is not installed."""
        KAFKA.require("Kafka")

    def find(self, uri: str) -> None:
        """Does nothing: brokers are asked only when the source is opened."""

    def is_endless(self, request: SourceRequest) -> bool:
        """Returns whether the URI has no `stop=`.

        Raises:
          ConfigError: when the URI is wrong, or another input or `--watch` is given with it.
        """
        if len(request.inputs) > 1:
            raise ConfigError("--input kafka://... stands alone; name several topics in it: kafka://HOST:PORT/a,b")
        if request.watch is not None:
            raise ConfigError("--watch is for files; a topic is a stream anyway, unless its URI has stop=")
        return not KafkaSource.parse(request.inputs[0]).bounded

    def replay_format(self, inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
        """Returns JSON, without options."""
        return DEFAULT_FORMAT, {}

    def payload_settings(self, uri: str) -> Mapping[str, Any]:
        """Returns the settings of the schema registry."""
        source = KafkaSource.parse(uri)
        return {"schema_registry": source.schema_registry, "config": source.config}

    def open(self, request: SourceRequest) -> Source:
        """Opens the topics with their current offsets."""
        from penstock.io.kafka.topics import TopicSource

        return TopicSource.open(request)
