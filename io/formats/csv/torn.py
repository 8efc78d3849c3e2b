"""Finds records whose quoted fields hold line breaks in files that are read line by line.

Without `multiline` a line is a record. A quoted field with a line break tears its record into several lines, and the
lines between the first and the last may look like rows::

    60,"Dear sir,           opens: its quoted field is not closed in this line
    7,invoice,99            between: no row
    kind regards",60        closes: the record ends here
    61,"all well",61        a row

The lines of a torn record are rejected, each of them, with `csv.line_break`. A record is torn when it begins in a line
that opens, is well quoted over its line breaks, and ends within `REACH` bytes. Any other quote that is not closed is a
stray one: only its own line is faulty. The lines of a torn record open nothing.

So what a line is depends on the lines before it, but never on where parts and blocks of a file begin: `TornRecords`
goes back to a line that no record can hold, and decides from there on.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile
from penstock.io.formats.base import Part
from penstock.io.formats.csv.fields import misquoted_lines
from penstock.io.formats.lines import Block, LongLine, index_lines, read_blocks
from penstock.io.kernel.shared import quoting
from penstock.io.kernel.shared.quoting import Dialect

# A longer record is not recognized: a stray quote must not reject more lines than that behind it. Each part reads as
# many bytes before its own.
REACH = 256 << 10

# How far a part looks back for a line that no torn record can hold.
_MAX_LOOK_BACK = 64 << 20


@dataclasses.dataclass(frozen=True)
class Torn:
    """A torn record: the positions of its first byte and of the first byte after its last line."""

    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Text:
    """Whole lines of a file, and what is known about the bytes after them.

    Attributes:
      data: the lines.
      grows: more bytes may follow, which can decide what the last lines are.
      is_end: the file ends here.
    """

    data: bytes
    grows: bool = False
    is_end: bool = False


class TornRecords:
    """Finds torn records.

    Args:
      dialect: how a line holds its fields.
      max_line_bytes: no record is torn that is longer than a line may be.
    """

    def __init__(self, dialect: Dialect, max_line_bytes: int):
        self._dialect = dialect
        self._max_line_bytes = max_line_bytes
        self.reach = min(REACH, max_line_bytes)

    def find(self, text: Text, lines: Iterable[tuple[int, int]], first: int = 0) -> tuple[list[Torn], int | None]:
        """Finds the torn records of a text, given its misquoted lines.

        Args:
          text: some lines.
          lines: where each misquoted line and the line after it start, as indices in the text, in order.
          first: the lines before this index belong to a torn record that began earlier.

        Returns:
          The torn records, by indices in the text, in order. And the index of the first line that only bytes after the
          text can decide; None when there is none.
        """
        found: list[Torn] = []
        for start, following in lines:
            if start < first:
                continue
            stop = self._stop(text, start)
            if stop is None:
                return found, start
            if stop > following:
                found.append(Torn(start, stop))
                first = stop
        return found, None

    def _stop(self, text: Text, start: int) -> int | None:
        """Returns the index after the record at `start`; -1 if it is not well quoted or too long, None if unknown."""
        window = text.data[start : start + self.reach]
        is_end = text.is_end and start + self.reach >= len(text.data)
        end, misquoted = quoting.record_end(window, 0, self._dialect, is_end)
        if misquoted:
            return -1
        if end is not None:
            return start + min(end + 1, len(window))
        return None if text.grows and len(window) < self.reach else -1

    def holding(self, file: InputFile, position: int, first: int) -> Torn | None:
        """Finds the torn record that begins before a position and ends after it.

        Args:
          file: a plain file.
          position: where a line starts, or a byte before the first line that starts after it.
          first: where the first line behind the header starts.

        Raises:
          InputError: when records with line breaks follow each other for so long that their beginning is not found.
        """
        if position <= first or not self._dialect.quoting:
            return None
        back = self.reach
        while back <= _MAX_LOOK_BACK:
            low = max(position - back, first)
            before, long_line = self._lines(file, low, position)
            if b'"' not in before.data:
                return None
            possible = self._possible(self.with_lines_after(file, position, before), len(before.data))
            start = _beginning(possible, len(before.data))
            if start == len(before.data):
                return None
            if low == first or long_line or before.offset + start >= low + self.reach:
                held = _last([torn for torn in possible if torn.start >= start])
                offset = before.offset
                return Torn(held.start + offset, held.stop + offset) if held.stop > len(before.data) else None
            back *= 4
        raise InputError(
            f"{file.uri}: around byte {position} quoted fields with line breaks, or stray quotes, follow each other "
            f"for over {_MAX_LOOK_BACK >> 20} MiB; pass --csv_multiline"
        )

    def with_lines_after(self, file: InputFile, position: int, lines: Block) -> Text:
        """Returns the last lines that start before a position of a plain file, with what can decide what they are."""
        after, long_line = self._lines(file, position, position + self.reach, up_to_long=True)
        data = lines.data + after.data
        return Text(data, is_end=not long_line and lines.offset + len(data) >= file.size)

    def _lines(self, file: InputFile, start: int, stop: int, up_to_long: bool = False) -> tuple[Block, bool]:
        """Reads the lines that start in a range, after its last overlong line, or up to its first one."""
        pieces: list[bytes] = []
        offset, long_line = start, False
        for found in read_blocks(file, Part(start, stop), max_line_bytes=self._max_line_bytes):
            if isinstance(found, LongLine):
                long_line = True
                if up_to_long:
                    break
                pieces = []
                continue
            offset = offset if pieces else found.offset
            pieces.append(found.data)
        return Block(b"".join(pieces), offset), long_line

    def _possible(self, text: Text, size: int) -> list[Torn]:
        """Finds the torn records that begin in the first `size` bytes if no other one holds their first line."""
        lines = index_lines(Block(text.data[:size], 0))
        misquoted = misquoted_lines(lines, self._dialect)
        starts, nexts = lines.starts[misquoted].tolist(), lines.nexts[misquoted].tolist()
        stops = [self._stop(text, start) or -1 for start in starts]
        rows = zip(starts, nexts, stops, strict=True)
        return [Torn(start, stop) for start, following, stop in rows if stop > following]


def _beginning(possible: Sequence[Torn], index: int) -> int:
    """Returns the last index, at most `index`, that none of the possible records, sorted by start, holds."""
    for torn in reversed(possible):
        if torn.start < index < torn.stop:
            index = torn.start
    return index


def _last(possible: Sequence[Torn]) -> Torn:
    """Returns the last torn record, when the first of the possible ones is one."""
    held = possible[0]
    for torn in possible:
        if torn.start >= held.stop:
            held = torn
    return held
