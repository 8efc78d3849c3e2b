"""The Kafka client: its settings, its consumers, and what its errors mean.

Settings (SASL, TLS, timeouts) are librdkafka's, by its names:

- the environment: `PENSTOCK_KAFKA_<SETTING>`, with `_` for `.`: `PENSTOCK_KAFKA_SASL_USERNAME` is `sasl.username`;
- else a properties file, `NAME=VALUE` a line: `config=` of the URI, or `PENSTOCK_KAFKA_CONFIG`.

Each process that makes a client reads them: the workers, and the process that submits the job. They are never written
to the graph, logs, manifests, dead letters or messages.
"""

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.extras import KAFKA
from penstock.io.kafka.source import KafkaSource
from penstock.io.messages.properties import CONFIG_VARIABLE, REGISTRY_PREFIX, read_properties

_LOGGER = logging.getLogger(__name__)

_PREFIX = "PENSTOCK_KAFKA_"
_SECRET = re.compile(r"password|secret|key|token|credential|username|jaas|oauth")
_JAVA = re.compile(r"\.jaas\.|truststore|keystore|deserializer|serializer|callback\.handler\.class")

# The least time between two warnings of one client about the same kind of trouble.
_WARN_SECONDS = 30.0

# SASL and TLS faults do not go away with a retry.
_DENIED = ("_AUTHENTICATION", "_SSL", "SASL_AUTHENTICATION_FAILED", "UNSUPPORTED_SASL_MECHANISM")


def import_kafka() -> Any:
    """Imports and returns the module `confluent_kafka`.

    Raises:
      MissingExtraError: when the extra `kafka` is not installed.
    """
    try:
        import confluent_kafka
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "confluent_kafka":
            raise
        raise KAFKA.missing("Kafka") from error
    return confluent_kafka


def client_settings(config: str | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the user's settings for the client, by librdkafka's names.

    Args:
      config: the properties file of the URI, if any.
      environment: variables.

    Raises:
      ConfigError: when the file cannot be read or a line of it is not a setting (its content is not shown).
    """
    path = config or environment.get(CONFIG_VARIABLE)
    stored = read_properties(path) if path else {}
    settings = {name: value for name, value in stored.items() if not name.startswith(REGISTRY_PREFIX)}
    for variable, value in environment.items():
        if variable.startswith(_PREFIX) and variable != CONFIG_VARIABLE:
            settings[variable.removeprefix(_PREFIX).lower().replace("_", ".")] = value
    return settings


class Troubles:
    """Collects the errors that a client reports outside its answers, and logs a warning now and then.

    Attributes:
      denied: why the broker refuses the client; None while it has not refused.
      last: the last informative error.
    """

    def __init__(self, address: str):
        self.denied: str | None = None
        self.last: str | None = None
        self._address = address
        self._warned: dict[str, float] = {}
        self._lock = threading.Lock()

    def report(self, error: Any) -> None:
        """Records an error; the client calls it as its `error_cb`."""
        text = f"{error.name()}: {error.str()}"
        # A client's question (a plaintext listener? missing credentials?) says more than the errors that follow it.
        if error.name() != "_ALL_BROKERS_DOWN" and "?" not in (self.last or ""):
            self.last = text
        if error.name() in _DENIED:
            self.denied = text
        self.warn(error.name(), "%s: %s", self._address, text)

    def warn(self, kind: str, message: str, *values: object) -> None:
        """Logs a warning, unless one of this kind was logged a short while ago."""
        with self._lock:
            now = time.monotonic()
            if now - self._warned.get(kind, -_WARN_SECONDS) < _WARN_SECONDS:
                return
            self._warned[kind] = now
        _LOGGER.warning(message, *values)

    def clear(self) -> None:
        """Forgets all errors: the brokers have answered."""
        self.denied = self.last = None


def make_consumer(source: KafkaSource, troubles: Troubles, defaults: Mapping[str, Any] = {}, **callbacks: Any) -> Any:
    """Makes a `confluent_kafka.Consumer` that reports ends of partitions, and never joins the group or auto-commits.

    The user's settings override `defaults`.

    Raises:
      ConfigError: when the client refuses a setting; values that may be secrets are not shown.
    """
    kafka = import_kafka()
    settings = {**defaults, **client_settings(source.config), **_consumer_settings(source)}
    return make_client(kafka.Consumer, source.address, settings, error_cb=troubles.report, **callbacks)


def _consumer_settings(source: KafkaSource) -> dict[str, Any]:
    return {
        "bootstrap.servers": ",".join(source.brokers),
        # The client requires a group; without commits it leaves no trace.
        "group.id": source.group or "penstock",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "allow.auto.create.topics": False,
    }


def make_client(client: Callable[..., Any], address: str, settings: Mapping[str, Any], **callbacks: Any) -> Any:
    """Makes a client of the given class (`Consumer`, `Producer`, ...) that logs through Python's `logging`.

    Raises:
      ConfigError: when the client refuses a setting; values that may be secrets are not shown.
    """
    kafka = import_kafka()
    try:
        return client({**settings, **callbacks}, logger=_CLIENT_LOGGER)
    except (kafka.KafkaException, TypeError, ValueError) as error:
        cause = error.args[0].str() if isinstance(error, kafka.KafkaException) else str(error)
        text = redact(cause, settings)
        java = next((name for name in settings if _JAVA.search(name)), None)
        hint = (
            f"; {java} is a setting of Java clients, librdkafka's are sasl.username, ssl.ca.location ..."
            if java
            else ""
        )
        raise ConfigError(f"{address}: the Kafka client refuses its settings: {text}{hint}") from None


def redact(text: str, settings: Mapping[str, Any]) -> str:
    """Replaces the values of settings that may be secret.

    >>> redact("bad value hunter2", {"sasl.password": "hunter2"})
    'bad value ***'
    """
    secrets = {str(value) for name, value in settings.items() if _SECRET.search(name.lower()) and value}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def refusal(address: str, reason: str) -> InputError:
    """Makes the error for a client that the brokers refuse."""
    return InputError(
        f"{address}: the broker refuses the client: {reason}; check security.protocol, sasl.mechanism, sasl.username "
        "and sasl.password, or the certificates (PENSTOCK_KAFKA_SECURITY_PROTOCOL and so on, where workers run too)"
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Drops failed connections: they come many times a second, and `Troubles` reports them too."""
    return not (isinstance(record.args, tuple) and record.args[:1] == ("FAIL",))


# librdkafka logs under its own name, so users can filter it.
_CLIENT_LOGGER = logging.getLogger("librdkafka")
_CLIENT_LOGGER.addFilter(_is_news)
