"""The topics to read from Kafka, as one URI.

::

    kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?start=earliest&stop=none&readers=4

===================  ==================================================================================  ==============
parameter            meaning                                                                             default
===================  ==================================================================================  ==============
`pattern`            `true`: TOPIC is a regular expression (`KafkaSource.matches`), `,` included          `false`
`group`              consumer group to which the offsets of what is published are committed               none
`start`              `earliest`, `latest`, `committed` (what the group has committed), or a time         `earliest`
`stop`               `none` (a stream), `latest` (the end when the job is submitted), or a time          `none`
`key`                column for the record's key                                                         not read
`headers`            columns for headers of the same names: `NAME,NAME`                                  not read
`readers`            readers at the same time, each with some of the partitions                          4
`schema_registry`    URL of a schema registry, for Avro                                                  none
`config`             file with client settings, which the workers read (`penstock.io.kafka.client`)      none
===================  ==================================================================================  ==============

A time is ISO 8601 (UTC without an offset) or milliseconds since 1970; it means the first record that is not older.
Percent-encode `&`, `#` and `%` in values, and `?`, `#` and `%` in a pattern. The URI must not hold credentials: see
`penstock.io.kafka.client`.
"""

import dataclasses
import datetime
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NoReturn, Self
from urllib.parse import unquote, urlsplit

from penstock.io.errors import ConfigError
from penstock.io.reserved import RESERVED

SCHEME = "kafka"

# The format of messages, unless one is given.
DEFAULT_FORMAT = "json"

# Names that begin so are of Kafka (`__consumer_offsets`) and of what lies beside it (`_schemas`), not of users.
_INTERNAL = "_"

# Milliseconds since 1970, UTC.
Millis = int
Start = Literal["earliest", "latest", "committed"] | Millis
Stop = Literal["none", "latest"] | Millis

_FORM = "kafka://HOST:PORT[,HOST:PORT]/TOPIC[,TOPIC]?NAME=VALUE"
_BROKER = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:/?#\[\]@]+):(\d{1,5})")
# https://github.com/apache/kafka, org.apache.kafka.common.internals.Topic
_TOPIC = re.compile(r"[a-zA-Z0-9._-]{1,249}")

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MILLISECOND = datetime.timedelta(milliseconds=1)

_SECURITY = (
    "settings of the client come from the environment (PENSTOCK_KAFKA_SASL_USERNAME for sasl.username) or from a "
    "properties file (config=FILE, or PENSTOCK_KAFKA_CONFIG)"
)


@dataclasses.dataclass(frozen=True)
class KafkaSource:
    """Topics of one Kafka cluster, and which part of them is read.

    The attributes are the parameters of the URI, as the module lists them. With a pattern, `topics` are empty: the
    topics are those that match.

    Raises:
      ConfigError: when they contradict each other, or the pattern is no regular expression.
    """

    brokers: tuple[str, ...]
    topics: tuple[str, ...]
    pattern: str | None = None
    group: str | None = None
    start: Start = "earliest"
    stop: Stop = "none"
    key: str | None = None
    headers: tuple[str, ...] = ()
    readers: int | None = None
    schema_registry: str | None = None
    config: str | None = None

    def __post_init__(self) -> None:
        if self.start == "committed" and not self.group:
            raise ConfigError("start=committed needs group=NAME: whose commits they are")
        if self.readers is not None and self.readers < 1:
            raise ConfigError(f"readers must be >= 1, got {self.readers}")
        if isinstance(self.start, int) and isinstance(self.stop, int) and self.stop < self.start:
            raise ConfigError(f"stop must not be before start, got start={self.start} and stop={self.stop} (ms)")
        _check_columns([*self.headers, *([self.key] if self.key else [])])
        if self.pattern is not None:
            _check_pattern(self.pattern, self.topics)

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Parses a URI.

        Raises:
          ConfigError: when the URI is wrong; the message does not repeat what may be a password.
        """
        parts = urlsplit(uri)
        if "@" in parts.netloc:
            raise ConfigError(f"a kafka:// URI must not hold credentials: {_SECURITY}")
        if parts.scheme != SCHEME or not parts.netloc or parts.fragment:
            raise ConfigError(f"a Kafka source must be {_FORM}, got {uri.partition('?')[0]!r}")
        parameters = _parameters(parts.query)
        if parameters.pop("pattern", False):
            return cls(_brokers(parts.netloc), (), unquote(parts.path).removeprefix("/"), **parameters)
        return cls(_brokers(parts.netloc), _topics(parts.path), **parameters)

    @property
    def bounded(self) -> bool:
        """Whether it has an end."""
        return self.stop != "none"

    @property
    def address(self) -> str:
        """The brokers as messages and origins name them."""
        return f"{SCHEME}://{','.join(self.brokers)}"

    @property
    def names(self) -> str:
        """The topics, or the pattern, as messages name them."""
        return ", ".join(self.topics) if self.pattern is None else f"pattern {self.pattern!r}"

    def matches(self, topic: str) -> bool:
        """Returns whether a topic is one of these.

        A pattern is a regular expression of Python, and must match the whole name. Names that begin with `_` only
        match a pattern that begins so: they are Kafka's own (`__consumer_offsets`), or of what lies beside it.

        >>> source = KafkaSource.parse("kafka://a:9092/orders-(eu|us)?pattern=true")
        >>> source.matches("orders-eu"), source.matches("orders-eu-2")
        (True, False)
        """
        if self.pattern is None:
            return topic in self.topics
        if topic.startswith(_INTERNAL) and not self.pattern.startswith(_INTERNAL):
            return False
        return re.fullmatch(self.pattern, topic) is not None

    def named(self, topics: Sequence[str]) -> Self:
        """Returns this source with its topics by name, in this order, in place of the pattern.

        >>> KafkaSource.parse("kafka://a:9092/.*?pattern=true").named(["t", "u"]).topics
        ('t', 'u')
        """
        return dataclasses.replace(self, topics=tuple(topics), pattern=None)

    def uri(self, topic: str, partition: int | None = None) -> str:
        """Returns the URI of a topic or a partition.

        >>> KafkaSource.parse("kafka://a:9092/t?start=latest").uri("t", 3)
        'kafka://a:9092/t/3'
        """
        return f"{self.address}/{topic}" if partition is None else f"{self.address}/{topic}/{partition}"

    def partition(self, uri: str) -> tuple[str, int]:
        """Returns topic and number of a partition, by its URI.

        >>> KafkaSource.parse("kafka://a:9092/t").partition("kafka://a:9092/t/3")
        ('t', 3)
        """
        topic, _, number = uri.removeprefix(f"{self.address}/").rpartition("/")
        return topic, int(number)


def _brokers(netloc: str) -> tuple[str, ...]:
    brokers = tuple(netloc.split(","))
    for broker in brokers:
        match = _BROKER.fullmatch(broker)
        if not match or not 0 < int(match[2]) < 65536:
            raise ConfigError(f"a broker must be HOST:PORT, got {broker!r}")
    return brokers


def _topics(path: str) -> tuple[str, ...]:
    topics = tuple(unquote(path).strip("/").split(","))
    for topic in topics:
        if not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            raise ConfigError(
                f"a topic must be 1 to 249 letters, digits, '.', '_' or '-', got {topic!r}; a source is {_FORM}; "
                "for all topics that match a regular expression, add pattern=true"
            )
    if len(set(topics)) < len(topics):
        raise ConfigError(f"a topic must be named once, got {', '.join(topics)}")
    return topics


def _check_pattern(pattern: str, topics: Sequence[str]) -> None:
    if topics:
        raise ConfigError(f"name topics or a pattern, not both: got {', '.join(topics)} and {pattern!r}")
    if not pattern:
        raise ConfigError("pattern=true needs a regular expression in place of the topic: kafka://HOST:PORT/orders-.*")
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"the pattern of topics {pattern!r} is no regular expression of Python: {error}") from error


def _parameters(query: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for item in filter(None, query.split("&")):
        name, equals, text = item.partition("=")
        if name not in _READERS:
            _refuse(name)
        if not equals or not text:
            raise ConfigError(f"{name} needs a value: {name}=...")
        if name in values:
            raise ConfigError(f"{name} must be given once")
        values[name] = _READERS[name](name, unquote(text))
    return values


def _refuse(name: str) -> NoReturn:
    if "?" in name:
        raise ConfigError(f"a pattern ends at the first '?', and {name!r} is no parameter: write %3F for '?' in it")
    if "." in name:
        raise ConfigError(f"{name} is no parameter of a kafka:// URI: {_SECURITY}")
    nearest = difflib.get_close_matches(name, _READERS, n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ConfigError(f"{name!r} is no parameter of a kafka:// URI; {hint}the parameters are {', '.join(_READERS)}")


def _text(name: str, text: str) -> str:
    return text


def _start(name: str, text: str) -> Start:
    return text if text in ("earliest", "latest", "committed") else _time(name, text, "earliest, latest, committed")  # type: ignore[return-value]


def _stop(name: str, text: str) -> Stop:
    return text if text in ("none", "latest") else _time(name, text, "none, latest")  # type: ignore[return-value]


def _time(name: str, text: str, words: str) -> Millis:
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        time = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(
            f"{name} must be {words} or a time (2026-01-31T12:00:00Z, or milliseconds since 1970), got {text!r}"
        ) from error
    return ((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)) - _EPOCH) // _MILLISECOND


def _names(name: str, text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if not all(names):
        raise ConfigError(f"{name} must be NAME,NAME, got {text!r}")
    return names


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ConfigError(f"{name} must be a number, got {text!r}")
    return int(text)


def _switch(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise ConfigError(f"{name} must be true or false, got {text!r}")
    return text == "true"


def _registry(name: str, text: str) -> str:
    parts = urlsplit(text)
    if "@" in parts.netloc:
        raise ConfigError(f"{name} must not hold credentials: {_SECURITY}")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(f"{name} must be a URL, http://HOST:PORT or https://..., got {text!r}")
    return text


def _check_columns(names: Sequence[str]) -> None:
    for name in names:
        if name in RESERVED:
            raise ConfigError(f"key and headers: column {name!r} is reserved by Penstock")
        if names.count(name) > 1:
            raise ConfigError(f"key and headers: column {name!r} is named more than once")


_READERS: Mapping[str, Callable[[str, str], Any]] = {
    "pattern": _switch,
    "group": _text,
    "start": _start,
    "stop": _stop,
    "key": _text,
    "headers": _names,
    "readers": _number,
    "schema_registry": _registry,
    "config": _text,
}
