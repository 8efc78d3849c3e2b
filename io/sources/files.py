"""Files as a source: the files that exist now, or files as they arrive."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

from penstock.io.beam.durations import ZERO
from penstock.io.columns.event_times import LetterTimes, letter_times
from penstock.io.files.contents import telling_content
from penstock.io.files.inputs import InputFile, fetch_small
from penstock.io.files.sizes import byte_text
from penstock.io.formats.base import CheckedFormat, Format
from penstock.io.formats.partitioned import PartitionedFormat
from penstock.io.formats.registry import by_keyword, choose_format, format_of
from penstock.io.schema import Feature
from penstock.io.sources.base import SourceRequest
from penstock.io.sources.inputs import find_named, with_partitions
from penstock.io.sources.lists.read import InputList
from penstock.io.sources.read import ReadRecords
from penstock.io.sources.watch import WatchRecords

# So many files are looked at before a job begins; the workers check all of them.
_MAX_LOOKS = 100


def _reader(request: SourceRequest, files: Sequence[InputFile]) -> Format:
    uris = [file.uri for file in files]
    entry = choose_format(request.format, uris)
    return entry.make_for(uris, **by_keyword(request.options, entry.options, f"{entry.title} files"))


@dataclasses.dataclass(frozen=True)
class FileSource:
    """The matched input files and the format that reads them.

    Attributes:
      times: reads the event times of rows that the schema cannot type; None if rows have none.
      lists: the inputs that are lists, as they were read.
    """

    files: tuple[InputFile, ...]
    reader: Format
    times: LetterTimes | None = None
    lists: tuple[InputList, ...] = ()

    is_bounded = True
    has_event_times = False

    @classmethod
    def open(cls, request: SourceRequest) -> Self:
        """Finds the files and chooses the format; raises the errors of `SourceKind.open`."""
        found = find_named(request.inputs, request.format is not None, request.inventory_columns)
        reader = _reader(request, found.files)
        found.check_read_by(reader)
        reader = with_partitions(reader, found.files, request.partitioning)
        return cls(found.files, reader, letter_times(request.event_time, request.max_ahead), found.lists)

    def read(
        self, features: Sequence[Feature] | None = None, order_key: bool = False, keep_source: bool = False
    ) -> ReadRecords:
        """Returns the transform that reads all files."""
        # The reader has the partitions.
        return ReadRecords(
            self.files,
            self.reader,
            features,
            order_key,
            "none",
            keep_source,
            self.times,
        )

    def look(self) -> list[str]:
        """Looks at the beginning of the first files; returns what is suspicious, once for all files that share it.

        Raises:
          InputError: when a file cannot be what the options say.
        """
        if not isinstance(self.reader, CheckedFormat):
            return []
        files: dict[str, list[str]] = {}
        fetch_small(self.files[:_MAX_LOOKS])
        for file in self.files[:_MAX_LOOKS]:
            with telling_content(file, format_of(self.reader)):
                looks = self.reader.look(file)
            for text in looks:
                files.setdefault(text.removeprefix(f"{file.uri}: "), []).append(file.uri)
        more = {text: f", and {len(uris) - 1} more" if len(uris) > 1 else "" for text, uris in files.items()}
        return [f"{uris[0]}{more[text]}: {text}" for text, uris in files.items()]

    def describe(self) -> str:
        """Describes the files: the first names, number, size and format."""
        names = ", ".join(file.uri for file in self.files[:3]) + (", ..." if len(self.files) > 3 else "")
        size = byte_text(sum(file.size for file in self.files))
        return f"{names} ({len(self.files)} files, {size}, {type(self.format_of_files).__name__})"

    @property
    def format_of_files(self) -> Format:
        """The format of what the files themselves hold."""
        return self.reader.reader if isinstance(self.reader, PartitionedFormat) else self.reader

    def why_empty(self) -> str:
        """Says what the files have if they have no rows, as the end of a sentence; empty if that is not known."""
        if not any(file.size for file in self.files):
            return ", and the files are empty"
        names = self.format_of_files.columns(self.files[0])
        return f", and the files have columns ({', '.join(names)}) without a row" if names else ""

    def inputs(self) -> list[dict[str, Any]]:
        """Lists each file with its size, its time, and its version and CRC32C as far as they are known."""
        return [{name: value for name, value in dataclasses.asdict(file).items() if value != ""} for file in self.files]


@dataclasses.dataclass(frozen=True)
class WatchedSource:
    """Patterns whose files are read as they arrive."""

    reader: Format
    request: SourceRequest

    is_bounded = False
    has_event_times = False

    @classmethod
    def open(cls, request: SourceRequest) -> Self:
        """Chooses the format, by the suffix of the patterns if not named; raises the errors of `SourceKind.open`."""
        return cls(_reader(request, [InputFile(pattern, 0, 0.0) for pattern in request.inputs]), request)

    def read(
        self, features: Sequence[Feature] | None = None, order_key: bool = False, keep_source: bool = False
    ) -> WatchRecords:
        """Returns the transform that watches and reads."""
        return WatchRecords(
            self.request.inputs,
            self.request.watch or ZERO,
            self.reader,
            features,
            self.request.event_time,
            out_of_orderness=self.request.out_of_orderness,
            idle_timeout=self.request.idle_timeout,
            max_ahead=self.request.max_ahead,
            partitioning=self.request.partitioning,
            keep_source=keep_source,
        )

    def describe(self) -> str:
        """Describes the patterns, and how often they are listed."""
        interval = (self.request.watch or ZERO).total_seconds()
        return f"{', '.join(self.request.inputs)}, looked at every {interval:g} s"

    def inputs(self) -> list[dict[str, Any]]:
        """Lists the patterns; the manifests of windows name the files of their rows."""
        return [{"uri": pattern} for pattern in self.request.inputs]
