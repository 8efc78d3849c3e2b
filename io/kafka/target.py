"""The topic to write to in Kafka, as one URI.

::

    kafka://HOST:PORT[,HOST:PORT]/TOPIC?format=json&key=COLUMN

=============  ==========================================================================================  ==========
parameter      meaning                                                                                     default
=============  ==========================================================================================  ==========
`format`       of rows: `json`, which the JSON Lines reader takes back, or `tfexample`                     `json`
`key`          column whose value, as text, is the message's key; messages of one key go to one partition  no key
`config`       file with client settings, which the workers read (`penstock.io.kafka.client`)              none
=============  ==========================================================================================  ==========
"""

import dataclasses
from typing import Self
from urllib.parse import unquote

from penstock.io.errors import ConfigError
from penstock.io.kafka.source import KafkaSource

FORMATS = ("json", "tfexample")

_PARAMETERS = ("format", "key", "config")


@dataclasses.dataclass(frozen=True)
class KafkaTarget:
    """A topic to write to; the module lists the attributes.

    Raises:
      ConfigError: when the format is unknown.
    """

    brokers: tuple[str, ...]
    topic: str
    format: str = "json"
    key: str | None = None
    config: str | None = None

    def __post_init__(self) -> None:
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
        formats = [unquote(item.partition("=")[2]) for item in items if item.startswith("format=")]
        source = KafkaSource.parse(
            "?".join([address, "&".join(item for item in items if not item.startswith("format="))])
        )
        names = {item.partition("=")[0] for item in items}
        if others := sorted(names.difference(_PARAMETERS)):
            raise ConfigError(f"{others[0]} is about reading; to write, the parameters are {', '.join(_PARAMETERS)}")
        if len(source.topics) > 1 or len(formats) > 1:
            raise ConfigError(f"to write, name one topic and one format, got {uri!r}")
        return cls(source.brokers, source.topics[0], formats[0] if formats else "json", source.key, source.config)
