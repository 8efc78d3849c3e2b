"""Where the rows come from: files, files as they come, topics of Kafka.

A source knows how to make the transform that reads it, and what to say about itself; everything that can be wrong
without reading a row is found when it is opened.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any, Protocol, Self

from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.errors import ConfigError
from penstock.io.files.inputs import InputFile, match_files
from penstock.io.formats.base import Format
from penstock.io.kafka.offsets import OffsetRange, resolve_offsets
from penstock.io.kafka.read import ReadFromKafka
from penstock.io.kafka.source import KafkaSource
from penstock.io.schema import Feature
from penstock.io.sources.read import FORMATS, ReadRecords, resolve_format
from penstock.io.sources.watch import WatchRecords
from pipelines._cli.options import InputOptions, StreamOptions, topics_of
from pipelines._report.summary import byte_text


class Source(Protocol):
    """What a job reads."""

    @property
    def is_bounded(self) -> bool:
        """Whether it comes to an end by itself."""

    @property
    def has_event_times(self) -> bool:
        """Whether its rows have `_event_time` already."""

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> RejectingTransform:
        """The transform that reads all of it, typed by the features of a schema."""

    def describe(self) -> str:
        """What it is, in a few words."""

    def inputs(self) -> list[dict[str, Any]]:
        """What a manifest says about it."""


def open_source(options: InputOptions, stream: StreamOptions | None = None) -> Source:
    """The source that the flags name.

    Raises:
      ConfigError: when none is named, its kinds are mixed, no format is known, or a flag is for another kind.
      InputError: when a pattern matches no file, or Kafka does not tell its offsets.
      ImportError: for Kafka, without the extra `kafka`.
    """
    stream = stream or StreamOptions()
    options.check_given()
    if topics_of(options, stream) is not None:
        return TopicSource.open(options, stream)
    return FileSource.open(options) if stream.watch is None else WatchedSource.open(options, stream)


def _file_format(options: InputOptions, files: Sequence[InputFile]) -> Format:
    if options.format is not None and options.format not in FORMATS:
        raise ConfigError(f"--format of files must be one of {', '.join(FORMATS)}, got {options.format!r}")
    try:
        return resolve_format(options.format, files, **options.csv_options())
    except TypeError as error:
        raise ConfigError(
            "--csv_delimiter, --csv_multiline, --columns and --null_values are for CSV, and the input is not CSV"
        ) from error


@dataclasses.dataclass(frozen=True)
class FileSource:
    """The matched input files and the format that reads them."""

    files: tuple[InputFile, ...]
    reader: Format

    is_bounded = True
    has_event_times = False

    @classmethod
    def open(cls, options: InputOptions) -> Self:
        """Matches the patterns and chooses the format; raises as `open_source`."""
        files = match_files(options.input)
        return cls(files, _file_format(options, files))

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> ReadRecords:
        """The transform that reads all files."""
        return ReadRecords(self.files, self.reader, features, order_key)

    def describe(self) -> str:
        """The first files, how many there are, and what reads them."""
        names = ", ".join(file.uri for file in self.files[:3]) + (", ..." if len(self.files) > 3 else "")
        size = byte_text(sum(file.size for file in self.files))
        return f"{names} ({len(self.files)} files, {size}, {type(self.reader).__name__})"

    def inputs(self) -> list[dict[str, Any]]:
        """Each file with its size and time of change."""
        return [dataclasses.asdict(file) for file in self.files]


@dataclasses.dataclass(frozen=True)
class WatchedSource:
    """Patterns, whose files are read as they come."""

    patterns: tuple[str, ...]
    reader: Format
    event_time: str | None
    stream: StreamOptions

    is_bounded = False
    has_event_times = False

    @classmethod
    def open(cls, options: InputOptions, stream: StreamOptions) -> Self:
        """Chooses the format, by the suffix of the patterns if it is not named; raises as `open_source`."""
        reader = _file_format(options, [InputFile(pattern, 0, 0.0) for pattern in options.input])
        return cls(options.input, reader, options.event_time, stream)

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> WatchRecords:
        """The transform that watches and reads."""
        return WatchRecords(
            self.patterns,
            datetime.timedelta(seconds=self.stream.watch or 0),
            self.reader,
            features,
            self.event_time,
            out_of_orderness=self.stream.out_of_orderness,
            idle_timeout=self.stream.idle_timeout,
        )

    def describe(self) -> str:
        """The patterns, and how often they are looked at."""
        return f"{', '.join(self.patterns)}, looked at every {self.stream.watch:g} s"

    def inputs(self) -> list[dict[str, Any]]:
        """The patterns; windows name the files of their rows."""
        return [{"uri": pattern} for pattern in self.patterns]


# Of a partition, if --idle_timeout does not say otherwise; files are waited for.
_IDLE_TIMEOUT = "60s"

# What --format calls them for files, and what they are called message by message.
_MESSAGE_FORMATS = {"jsonl": "json", "tfrecord": "tfexample"}


@dataclasses.dataclass(frozen=True)
class TopicSource:
    """Topics of Kafka, with offsets that were resolved when it was opened."""

    topics: KafkaSource
    spans: tuple[OffsetRange, ...]
    format: str
    format_options: dict[str, Any]
    event_time: str | None
    stream: StreamOptions

    has_event_times = True

    @classmethod
    def open(cls, options: InputOptions, stream: StreamOptions) -> Self:
        """Asks Kafka for the partitions and their offsets; raises as `open_source`."""
        topics = KafkaSource.parse(options.input[0])
        name = options.format or "json"
        source = cls(
            topics,
            resolve_offsets(topics),
            _MESSAGE_FORMATS.get(name, name),
            options.message_options(),
            options.event_time,
            stream,
        )
        source.read()
        return source

    @property
    def is_bounded(self) -> bool:
        """Whether `stop=` says where it ends."""
        return self.topics.bounded

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> ReadFromKafka:
        """The transform that reads all partitions."""
        return ReadFromKafka(
            self.topics,
            features,
            event_time=self.event_time,
            format=self.format,
            format_options=self.format_options,
            out_of_orderness=self.stream.out_of_orderness,
            idle_timeout=self.stream.idle_timeout or _IDLE_TIMEOUT,
            order_key=order_key,
            spans=self.spans,
        )

    def describe(self) -> str:
        """The topics, how much of them is known to be there, and what reads a message."""
        names = ", ".join(self.topics.topics)
        messages = sum(span.stop - span.start for span in self.spans if span.stop is not None)
        amount = f"{messages:,} offsets" if self.is_bounded else "a stream"
        return f"{self.topics.address}/{names} ({len(self.spans)} partitions, {amount}, {self.format} messages)"

    def inputs(self) -> list[dict[str, Any]]:
        """Each partition with its first offset, and its end where there is one."""
        return [
            {"uri": self.topics.place(span.topic, span.partition), "start": span.start, "stop": span.stop}
            for span in self.spans
        ]
