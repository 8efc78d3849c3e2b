"""The interface of sources, in two halves, so a command line can be checked without Beam.

A `SourceKind` checks an input by its URI and flags alone, and opens it. Only opening imports Beam and clients, and
contacts servers. It returns a `Source`, which makes the transform that reads.
"""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from penstock.io.files.partitions import Partitioning

if TYPE_CHECKING:
    from penstock.io.dead_letters.handler import RejectingTransform
    from penstock.io.schema import Feature


@dataclasses.dataclass(frozen=True)
class SourceRequest:
    """What a job shall read, and how.

    Attributes:
      inputs: URIs, patterns, folders and lists.
      format: the name of a format or an alias; None lets the source choose.
      options: the given options of formats, by flag.
      event_time: `COLUMN` or `COLUMN:unit`.
      watch: how often to look for new files; None reads the files that exist now.
      out_of_orderness, idle_timeout, max_ahead: as in `ReadFromKafka` and `WatchRecords`.
      partitioning: whether folders `key=value` are columns, as in `ReadRecords`.
      inventory_columns: names of the columns of inventories without a header.
    """

    inputs: tuple[str, ...]
    format: str | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    event_time: str | None = None
    watch: datetime.timedelta | None = None
    out_of_orderness: datetime.timedelta = datetime.timedelta(seconds=5)
    idle_timeout: datetime.timedelta | None = None
    max_ahead: datetime.timedelta | None = None
    partitioning: Partitioning = "auto"
    inventory_columns: tuple[str, ...] = ()


class Source(Protocol):
    """The input of a job, opened."""

    @property
    def is_bounded(self) -> bool:
        """Whether the source ends by itself."""

    @property
    def has_event_times(self) -> bool:
        """Whether its rows already have `_event_time`."""

    def read(
        self, features: "Sequence[Feature] | None" = None, order_key: bool = False, keep_source: bool = False
    ) -> "RejectingTransform":
        """Returns the transform that reads the source, typed by the features of a schema.

        Args:
          features: those of the schema.
          order_key: whether rows get their `_shuffle_key` from the source.
          keep_source: whether rows get `_source`.
        """

    def describe(self) -> str:
        """Describes the source in a few words."""

    def inputs(self) -> list[dict[str, Any]]:
        """Returns the entries of the source in a manifest."""


@runtime_checkable
class PositionedSource(Source, Protocol):
    """A stream whose rows have positions, from any of which it can be read again."""

    @property
    def name(self) -> str:
        """What it reads, the same at each start."""

    def positions(self) -> Mapping[str, int]:
        """Returns for each uri the position at which it is read."""

    def at(self, positions: Mapping[str, int]) -> "PositionedSource":
        """Returns the source as it is read from other positions; a uri that has none of them from its beginning.

        Raises:
          InputError: when there is no such position.
        """

    def identities(self, before: Mapping[str, str]) -> Mapping[str, str]:
        """Returns what tells each input from another one of its name, by uri, where that can be learned.

        Args:
          before: what it was at the last start; it stays where nothing can be learned now.

        Raises:
          InputError: when an input is another one.
        """

    def commit(self) -> "Callable[[Mapping[str, int]], None] | None":
        """Returns what tells the source's server how far its rows are published; None if nobody wants to know."""


class SourceKind(Protocol):
    """The checks that all sources of one kind share, and their opening; its module imports nothing heavy."""

    def reach(self, uri: str, what: str) -> None:
        """Rejects an input that this machine cannot read.

        Args:
          uri: the URI of the input.
          what: its flag with its value, for messages.

        Raises:
          MissingExtraError: when an extra is not installed.
          ConfigError: when the scheme is unknown.
        """

    def find(self, uri: str) -> None:
        """Rejects an input that certainly does not exist.

        Raises:
          InputError: when something does not exist; the message names it.
        """

    def is_endless(self, request: SourceRequest) -> bool:
        """Returns whether the input has no end, judged by URI and flags alone.

        Raises:
          ConfigError: when flags contradict each other.
        """

    def replay_format(self, inputs: Sequence[str]) -> tuple[str | None, Mapping[str, Any]]:
        """Infers the format of a run without `--format`, and its options by flag; None when it cannot be inferred."""

    def payload_settings(self, uri: str) -> Mapping[str, Any]:
        """Returns the URI's settings for the Avro decoder, by keyword: where the schemas of messages are."""

    def open(self, request: SourceRequest) -> Source:
        """Opens the source, and checks what can be checked without reading a row.

        Raises:
          ConfigError: when flags contradict each other, the format is unknown, or it does not have an option.
          InputError: when the input does not exist, or a server does not answer.
        """
