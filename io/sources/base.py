"""Where rows come from: what a source gives to a job, in two halves, so that a command line is checked without Beam.

A `SourceKind` says what can be said of an input by its URI and the flags beside it, and opens it: only then are Beam
and the clients imported, and is anybody asked. What it gives is a `Source`, which makes the transform that reads.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from penstock.io.dead_letters.handler import RejectingTransform
    from penstock.io.schema import Feature


@dataclasses.dataclass(frozen=True)
class SourceRequest:
    """What a job is told to read, and how.

    Attributes:
      inputs: URIs and patterns.
      format: its name or an alias; None for what the source makes of that.
      options: options of formats that were given, by flag.
      event_time: `COLUMN` or `COLUMN:unit`.
      watch: how often to look for new files; None reads those that are there.
      out_of_orderness, idle_timeout: as `ReadFromKafka` and `WatchRecords` have them.
    """

    inputs: tuple[str, ...]
    format: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    event_time: str | None = None
    watch: datetime.timedelta | None = None
    out_of_orderness: datetime.timedelta = datetime.timedelta(seconds=5)
    idle_timeout: datetime.timedelta | None = None


class Source(Protocol):
    """What a job reads."""

    @property
    def is_bounded(self) -> bool:
        """Whether it comes to an end by itself."""

    @property
    def has_event_times(self) -> bool:
        """Whether its rows have `_event_time` already."""

    def read(self, features: "Sequence[Feature] | None" = None, order_key: bool = False) -> "RejectingTransform":
        """The transform that reads all of it, typed by the features of a schema."""

    def describe(self) -> str:
        """What it is, in a few words."""

    def inputs(self) -> list[dict[str, Any]]:
        """What a manifest says about it."""


class SourceKind(Protocol):
    """What all sources of one kind have in common; its module imports nothing heavy."""

    def reach(self, uri: str, what: str) -> None:
        """Refuses an input that cannot be reached from here.

        Args:
          uri: of the input.
          what: its flag with its value, for messages.

        Raises:
          MissingExtraError: when an extra is not installed.
          ConfigError: when nobody knows the scheme.
        """

    def find(self, uri: str) -> None:
        """Refuses an input that is certainly not there.

        Raises:
          InputError: says what is not there.
        """

    def is_endless(self, request: SourceRequest) -> bool:
        """Whether what is asked for has no end, as far as the flags tell; nobody is asked.

        Raises:
          ConfigError: for flags that do not go together.
        """

    def replay_format(self, inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
        """The format of a run that was not told it, and options of it by flag; None where nothing tells it."""

    def payload_settings(self, uri: str) -> Mapping[str, Any]:
        """Settings of the decoder of Avro that the URI has, by keyword: where the schemas of messages are."""

    def open(self, request: SourceRequest) -> Source:
        """The source, looked at as far as that is possible without reading a row.

        Raises:
          ConfigError: when flags do not go together, or the format is not known or does not have an option.
          InputError: when it is not there, or does not answer.
        """
