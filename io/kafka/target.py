"""The topic to write to in Kafka, as one URI.

::

    kafka://HOST:PORT[,HOST:PORT]/TOPIC?format=json&key=COLUMN

=============  ==========================================================================================  ==========
parameter      meaning                                                                                     default
=============  ==========================================================================================  ==========
`format`       of rows: `json`, which the JSON Lines reader takes back, or `tfexample`                     `json`
`key`          column whose value, as text, is the message's key; messages of one key go to one partition  no key
`timeout`      how long a message may wait for a broker before the job fails; the job waits with it             `5m`
`config`       file with client settings, which the workers read (`penstock.io.kafka.client`)              none
=============  ==========================================================================================  ==========
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Self
from urllib.parse import unquote

from penstock.io.beam.durations import AnyDuration, as_duration
from penstock.io.errors import ConfigError
from penstock.io.kafka.source import KafkaSource

FORMATS = ("json", "tfexample")

# Half of the time that Flink gives a checkpoint, which waits with the messages.
DEFAULT_TIMEOUT = datetime.timedelta(minutes=5)

_PARAMETERS = ("format", "key", "timeout", "config")
# Those that a source does not have.
_OWN = ("format", "timeout")

# The client counts this time in milliseconds, as an int32.
_SHORTEST, _LONGEST = datetime.timedelta(seconds=1), datetime.timedelta(days=24)


@dataclasses.dataclass(frozen=True)
class KafkaTarget:
    """A topic to write to; the module lists the attributes.

    Attributes:
      timeout: None for the client's `message.timeout.ms`, if that is set, or else the default.
      max_bytes: the largest message that the topic takes, where the broker was asked (`look_up`).

    Raises:
      ConfigError: when the format is unknown, or the timeout is out of range.
    """

    brokers: tuple[str, ...]
    topic: str
    format: str = "json"
    key: str | None = None
    config: str | None = None
    timeout: AnyDuration | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.timeout is not None:
            object.__setattr__(self, "timeout", _checked_timeout(self.timeout))
        if self.format not in FORMATS:
            raise ConfigError(f"format of messages to write must be {' or '.join(FORMATS)}, got {self.format!r}")

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parses a URI.

        Raises:
          ConfigError: when the URI is wrong; the message does not repeat what may be a password.
        """
        address, _, query = uri.partition("?")
        items = [item for item in query.split("&") if item]
        own = {name: _values(items, name) for name in _OWN}
        source = KafkaSource.parse(
            "?".join([address, "&".join(item for item in items if item.partition("=")[0] not in _OWN)])
        )
        names = {item.partition("=")[0] for item in items}
        if others := sorted(names.difference(_PARAMETERS)):
            raise ConfigError(f"{others[0]} is about reading; to write, the parameters are {', '.join(_PARAMETERS)}")
        if len(source.topics) > 1 or any(len(values) > 1 for values in own.values()):
            raise ConfigError(f"to write, name one topic, one format and one timeout, got {uri!r}")
        format, timeout = (next(iter(own[name]), None) for name in _OWN)
        return cls(source.brokers, source.topics[0], format or "json", source.key, source.config, timeout)

    @property
    def uri(self) -> str:
        """The topic, as messages name it."""
        return self.source.uri(self.topic)

    @property
    def source(self) -> KafkaSource:
        """The topic as a source, to ask the brokers for it."""
        return KafkaSource(self.brokers, (self.topic,), config=self.config)

    def is_in(self, source: KafkaSource) -> bool:
        """Returns whether the topic is one of those that a source reads, as far as their names tell."""
        return source.matches(self.topic) and not set(self.brokers).isdisjoint(source.brokers)


def _values(items: Sequence[str], name: str) -> list[str]:
    return [unquote(item.partition("=")[2]) for item in items if item.partition("=")[0] == name]


def _checked_timeout(timeout: AnyDuration) -> datetime.timedelta:
    checked = as_duration(timeout, "timeout", _SHORTEST)
    if checked > _LONGEST:
        raise ConfigError(f"timeout must be at most 24d, got {timeout}")
    return checked
