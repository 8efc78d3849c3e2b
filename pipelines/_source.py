"""Where the rows come from.

A source knows how to make the transform that reads it, and what to say about itself; everything that can be wrong
without reading a row is found when it is opened.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, Self

from penstock.io.dead_letters import RejectingTransform
from penstock.io.errors import ConfigError
from penstock.io.files import InputFile, match_files
from penstock.io.formats import Format
from penstock.io.read import FORMATS, ReadRecords, resolve_format
from penstock.io.schema import Feature
from pipelines._options import InputOptions
from pipelines._summary import byte_text


class Source(Protocol):
    """What a job reads."""

    @property
    def is_bounded(self) -> bool:
        """Whether it comes to an end by itself."""

    @property
    def has_event_times(self) -> bool:
        """Whether its rows have `_event_time` already."""

    @property
    def total_bytes(self) -> int:
        """Bytes of all of it as stored, for the progress bar; 0 where nobody knows."""

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> RejectingTransform:
        """The transform that reads all of it, typed by the features of a schema."""

    def describe(self) -> str:
        """What it is, in a few words."""

    def inputs(self) -> list[dict[str, Any]]:
        """What a manifest says about it."""


def open_source(options: InputOptions) -> Source:
    """The source that the flags name.

    Raises:
      ConfigError: when none is named, no format is known, or a flag is for another format.
      InputError: when a pattern matches no file.
    """
    if not options.input:
        raise ConfigError("--input is required: a file or a quoted pattern such as --input 'data/*.csv'")
    return FileSource.open(options)


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
        if options.format is not None and options.format not in FORMATS:
            raise ConfigError(f"--format of files must be one of {', '.join(FORMATS)}, got {options.format!r}")
        files = match_files(options.input)
        try:
            return cls(files, resolve_format(options.format, files, **options.csv_options()))
        except TypeError as error:
            raise ConfigError(
                "--csv_delimiter, --csv_multiline, --columns and --null_values are for CSV, and the input is not CSV"
            ) from error

    @property
    def total_bytes(self) -> int:
        """Bytes of all files, as stored."""
        return sum(file.size for file in self.files)

    def read(self, features: Sequence[Feature] | None = None, order_key: bool = False) -> ReadRecords:
        """The transform that reads all files."""
        return ReadRecords(self.files, self.reader, features, order_key)

    def describe(self) -> str:
        """The first files, how many there are, and what reads them."""
        names = ", ".join(file.uri for file in self.files[:3]) + (", ..." if len(self.files) > 3 else "")
        return f"{names} ({len(self.files)} files, {byte_text(self.total_bytes)}, {type(self.reader).__name__})"

    def inputs(self) -> list[dict[str, Any]]:
        """Each file with its size and time of change."""
        return [dataclasses.asdict(file) for file in self.files]

