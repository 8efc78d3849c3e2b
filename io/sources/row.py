"""Reads one row of an input again, by the position that its `_origin` has."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from penstock.io.dead_letters.source import payloads_of
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.contents import telling_content
from penstock.io.files.inputs import InputFile, open_decompressed
from penstock.io.formats.base import Format, Part
from penstock.io.formats.registry import FormatEntry, by_keyword, choose_format, format_of
from penstock.io.reserved import ORIGIN, SOURCE
from penstock.io.sources.registry import scheme_of

# Formats whose positions are rows; those of the others are bytes.
_OF_ROWS = frozenset({"parquet", "orc", "avro"})
# Formats whose parts are ranges of bytes that have the rows that begin in them.
_OF_LINES = frozenset({"csv", "jsonl", "text"})

_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class FoundRow:
    """A row as it was read.

    Attributes:
      text: its bytes as text or in base64; of a source with types, its values as JSON.
      encoding: `text`, `base64` or `json`.
      line: its line in the file, from 1; None for a format without lines.
    """

    text: str
    encoding: str
    line: int | None


@dataclasses.dataclass(frozen=True)
class RowFinder:
    """Finds rows in the files of a format.

    Attributes:
      entry: the format.
      reader: the same with its options.
    """

    entry: FormatEntry
    reader: Format

    @classmethod
    def of(cls, uri: str, format_name: str | None, options: Mapping[str, Any]) -> "RowFinder":
        """Chooses the format of a file as the run did that read it.

        Args:
          uri: the file.
          format_name: as `--format` has it; None to go by the suffix.
          options: those of formats, by flag.

        Raises:
          ConfigError: for a file whose format is not known.
        """
        entry = choose_format(format_name, [uri])
        given = by_keyword(options, entry.options, f"{entry.title} files")
        return cls(entry, entry.make_for([uri], **given))

    def find(self, file: InputFile, position: int) -> FoundRow:
        """Reads the row at a position; a file that is compressed, or has no parts, is read up to it.

        Raises:
          InputError: when the file is damaged, or no row begins there.
        """
        with telling_content(file, format_of(self.reader)):
            for part in self._parts(file, position):
                for parsed in self.reader.read(file, part, None):
                    positions = parsed.batch.column(ORIGIN).field("position").to_numpy(zero_copy_only=False)
                    rows = np.flatnonzero(positions == position)
                    if len(rows):
                        source = parsed.with_source().column(SOURCE).slice(int(rows[0]), 1)
                        payload = payloads_of(source)
                        line = self._line(file, position) if self.entry.name in _OF_LINES else None
                        return FoundRow(payload.texts[0], payload.encodings[0], line)
        raise InputError(f"{file.uri}: no row begins at {unit_of(self.entry.name)} {position}")

    def _parts(self, file: InputFile, position: int) -> Iterator[Part]:
        for part in self.reader.plan(file):
            is_range = self.entry.name in _OF_LINES and file.codec is None
            if not is_range or (part.start <= position and (part.end is None or position < part.end)):
                yield part

    def _line(self, file: InputFile, position: int) -> int:
        line, left = 1, position
        with open_decompressed(file) as stream:
            while left > 0 and (data := stream.read(min(left, _READ_BYTES))):
                line += data.count(b"\n")
                left -= len(data)
        return line


def unit_of(format_name: str) -> str:
    """What the positions of a format count."""
    return "row" if format_name in _OF_ROWS else "byte"


def origin_unit(uri: str, format_name: str | None) -> str:
    """What a position in an input counts; `position` where that is not known.

    >>> origin_unit("a.parquet", None), origin_unit("kafka://host:1/t/0", "json"), origin_unit("x", None)
    ('row', 'offset', 'position')
    """
    if scheme_of(uri) is not None:
        return "offset"
    try:
        return unit_of(choose_format(format_name, [uri]).name)
    except (ConfigError, InputError):
        return "position"
