"""Lines of text files: byte ranges that own whole lines, streamed in blocks, and the line index of a block.

A line ends with LF or CRLF; the last one may lack its end. A range of a plain file owns the lines that start in it.
Ranges that cover a file therefore cover each line once::

    range        |0 ........ 20|20 ........ 40|
    lines        a------|b---------|c---|d-----|
    owned by      first   first     second second

Positions are byte offsets in the decompressed stream, a byte order mark included.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import MAX_ROW_BYTES, split_batch
from penstock.io.dead_letters.record import DeadLetter, raw_letter
from penstock.io.dead_letters.source import span_source
from penstock.io.errors import InputError
from penstock.io.files.contents import check_text
from penstock.io.files.inputs import CountedReads, InputFile, open_decompressed, open_raw
from penstock.io.formats.base import Parsed, Part, text_part_bytes
from penstock.io.kernel import lines as kernel_lines
from penstock.io.kernel.shared.positions import counts_between, lone_crs
from penstock.io.reasons import Reason

# How many bytes are processed at a time, about a batch: smaller blocks pay Python's overhead more often.
BLOCK_BYTES = 8 << 20

# How many bytes are read at a time after the end of a range, to find the end of its last line.
_LAST_LINE_BYTES = 64 << 10

# Who reads smaller blocks looks at the first ones alone.
_MANY_BYTES = 1 << 20

# A longer line is rejected without reading all of it into memory: a file without line ends may be of any size.
MAX_LINE_BYTES = MAX_ROW_BYTES

# The payload of a line that is too long is its beginning.
LONG_LINE_PAYLOAD_BYTES = 4 << 10

_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclasses.dataclass(frozen=True)
class Block:
    """Whole lines, the last one possibly without its line end; `offset` is the position of the first byte."""

    data: bytes
    offset: int


class PendingBytes:
    """Gathers chunks of a stream for a scan that may need more than one of them.

    What the scan leaves over is scanned again only when it has doubled: the work stays linear, however long one
    record is.

    Attributes:
      size: the number of bytes that wait.
      offset: the position of the first of them.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []
        self._wanted = 0
        self.size = 0
        self.offset = 0

    def add(self, position: int, chunk: bytes) -> bool:
        """Adds the next chunk; returns whether a scan is worth it."""
        if not self.size:
            self.offset = position
        self._chunks.append(chunk)
        self.size += len(chunk)
        return self.size >= self._wanted

    def joined(self) -> Block:
        """Returns all that waits."""
        return Block(b"".join(self._chunks), self.offset)

    def keep(self, rest: bytes, offset: int) -> None:
        """Replaces what waits by what a scan has left over."""
        self._chunks, self.size, self.offset = [rest] if rest else [], len(rest), offset
        self._wanted = 2 * len(rest)


@dataclasses.dataclass(frozen=True)
class LongLine:
    """The beginning of a line over the limit; the rest is dropped."""

    offset: int
    head: bytes


@dataclasses.dataclass(frozen=True)
class Lines:
    """Line index of a block: line i is `data[starts[i]:ends[i]]`, and its line end is `data[ends[i]:nexts[i]]`.

    In a CSV file with quoted line breaks, a "line" is a record, which may hold several lines of text.

    Attributes:
      data: the block.
      offset: the position of its first byte in the stream.
      starts, ends, nexts: int64, one for each line.
    """

    data: bytes
    offset: int
    starts: np.ndarray
    ends: np.ndarray
    nexts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    def line(self, index: int) -> bytes:
        """Returns the bytes of one line, without its line end."""
        return self.data[self.starts[index] : self.ends[index]]

    def source(self, columns: str | None = None) -> pa.StructArray:
        """Returns the lines as `_source` of their rows, without a copy; `columns` as in `span_source`."""
        return span_source(self.data, self.starts, self.ends, columns)

    def position(self, index: int) -> int:
        """Returns the position of one line in the stream."""
        return self.offset + int(self.starts[index])

    def positions(self) -> np.ndarray:
        """Returns the int64 positions of the lines in the stream."""
        return self.starts + self.offset

    def lengths(self) -> np.ndarray:
        """Returns the int64 lengths of the lines in bytes, without line ends."""
        return self.ends - self.starts

    def select(self, keep: np.ndarray) -> "Lines":
        """Selects lines by a mask or an array of indices."""
        if keep.dtype == np.bool_ and keep.all():
            return self
        return Lines(self.data, self.offset, self.starts[keep], self.ends[keep], self.nexts[keep])

    def joined(self) -> bytes:
        """Joins the bytes of the lines, line ends included; does not copy when they are the whole block."""
        if not len(self):
            return b""
        # Copy runs of neighbouring lines, not single lines: a run breaks where a line does not start at the end of the
        # line before.
        breaks = np.flatnonzero(self.starts[1:] != self.nexts[:-1])
        firsts = np.concatenate(([0], breaks + 1))
        lasts = np.concatenate((breaks, [len(self) - 1]))
        view = memoryview(self.data)
        runs = zip(self.starts[firsts].tolist(), self.nexts[lasts].tolist(), strict=True)
        if len(firsts) == 1 and self.starts[0] == 0 and self.nexts[-1] == len(self.data):
            return self.data
        return b"".join([view[start:end] for start, end in runs])


def read_blocks(
    file: InputFile, part: Part, block_bytes: int = BLOCK_BYTES, max_line_bytes: int = MAX_LINE_BYTES
) -> Iterator[Block | LongLine]:
    """Reads the lines that a part of a file owns, in order, in blocks of about `block_bytes`.

    A compressed file is read as a whole. Holds one block, or one longer line, in memory. Lines far over
    `max_line_bytes` become a `LongLine`; a line that is one byte over it or fits into a block may still be in a block.

    Raises:
      InputError: when the file is UTF-16, or a compressed stream is corrupt or ends too early.
    """
    chunks = read_chunks(file, block_bytes) if file.codec else _range_chunks(file, part, block_bytes)
    cutter = _LineCutter(max_line_bytes)
    for position, chunk in chunks:
        yield from cutter.feed(position, chunk)
    yield from cutter.finish()


class _LineCutter:
    """Cuts consecutive chunks at line ends; the bytes after the last line end wait for the next chunk."""

    def __init__(self, max_line_bytes: int):
        self._limit = max_line_bytes + 1  # a CR before the LF does not count
        self._pending: list[bytes] = []
        self._size = 0
        self._offset = 0
        self._in_long_line = False

    def feed(self, position: int, chunk: bytes) -> Iterator[Block | LongLine]:
        """Yields the lines that end in the chunk."""
        if not self._size:
            self._offset = position
        first = chunk.find(b"\n") + 1
        if self._size + (first - 1 if first else len(chunk)) > self._limit:
            self._in_long_line = True
        if self._in_long_line:
            self._keep_head(chunk[:first] if first else chunk)
            if not first:
                return
            yield self._long_line()
            yield from self.feed(position + first, chunk[first:])
            return
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield Block(kernel_lines.joined([*self._pending, chunk], cut), self._offset)
            self._pending, self._size, self._offset = [], 0, position + cut
        if cut < len(chunk):
            self._pending.append(chunk[cut:])
            self._size += len(chunk) - cut

    def finish(self) -> Iterator[Block | LongLine]:
        """Yields a last line without a line end."""
        if self._in_long_line:
            yield self._long_line()
        elif self._size:
            yield Block(b"".join(self._pending), self._offset)

    def _keep_head(self, piece: bytes) -> None:
        self._size += len(piece)
        self._pending = [b"".join([*self._pending, piece])[:LONG_LINE_PAYLOAD_BYTES]]

    def _long_line(self) -> LongLine:
        line = LongLine(self._offset, self._pending[0].removesuffix(b"\n").removesuffix(b"\r"))
        self._pending, self._size, self._in_long_line = [], 0, False
        return line


def read_chunks(file: InputFile, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Yields (position, bytes) of a whole file, decompressed, without byte order mark; chunks may end within a line.

    Raises:
      InputError: when the file is UTF-16, or a compressed stream is corrupt or ends too early.
    """
    with open_decompressed(file) as stream:
        position = 0
        while chunk := _read_full(stream, max(block_bytes, len(_UTF8_BOM)) if not position else block_bytes):
            start = position
            position += len(chunk)
            if start == 0:
                chunk, start = skip_bom(chunk, file.uri)
            if chunk:
                yield start, chunk


def _range_chunks(file: InputFile, part: Part, block_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yields (position, bytes) from the first line that starts in the range to the end of the last such line."""
    end = (part.end or file.size) + _LAST_LINE_BYTES
    with open_raw(file, end if block_bytes >= _MANY_BYTES else None) as stream:
        position = _first_line(stream, part, block_bytes)
        if _is_past(position, part):
            return
        stream.seek(position)
        while chunk := _read_full(stream, _range_read_bytes(position, part.end or file.size, block_bytes)):
            start = position
            position += len(chunk)
            if start == 0:
                chunk, start = skip_bom(chunk, file.uri)
            last = _last_line_end(chunk, start, part)
            if last is not None:
                yield start, kernel_lines.joined([chunk], last)
                return
            if chunk:
                yield start, chunk


def _first_line(stream: CountedReads, part: Part, block_bytes: int) -> int:
    """Returns where the first line of the range starts; a position after the range when none starts in it."""
    if part.start == 0:
        return 0
    # Search from the byte before the range: the line of that byte belongs to an earlier range.
    position = part.start - 1
    stream.seek(position)
    while not _is_past(position, part) and (piece := stream.read(min(block_bytes, _LAST_LINE_BYTES))):
        cut = piece.find(b"\n") + 1
        if cut:
            return position + cut
        position += len(piece)
    return position


def _range_read_bytes(position: int, end: int, block_bytes: int) -> int:
    """Returns how much to read next: the rest of the range and of its last line, in equal blocks, so none is tiny."""
    left = max(end - position, 0) + min(_LAST_LINE_BYTES, block_bytes)
    blocks = -(-left // block_bytes)
    return max(-(-left // blocks), 0 if position else len(_UTF8_BOM))


def _is_past(position: int, part: Part) -> bool:
    """Returns whether `position` is after the range, so no line that starts there or later is in it."""
    return part.end is not None and position >= part.end


def _last_line_end(chunk: bytes, start: int, part: Part) -> int | None:
    """Returns the index after the line end that ends the range: the first one at or after the range's last byte.

    Returns None when the chunk does not have it.
    """
    if part.end is None or start + len(chunk) < part.end:
        return None
    found = chunk.find(b"\n", max(part.end - 1 - start, 0))
    return found + 1 if found >= 0 else None


def _read_full(stream: pa.NativeFile | CountedReads, size: int) -> bytes:
    """Reads `size` bytes, fewer only at the end of the stream: one read of a decompressor may return fewer."""
    data = stream.read(size)
    if len(data) == size or not data:
        return data
    pieces = [data]
    missing = size - len(data)
    while missing and (data := stream.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def skip_bom(chunk: bytes, uri: str) -> tuple[bytes, int]:
    """Removes a UTF-8 byte order mark from the first chunk of a file; also returns the position where it then starts.

    Raises:
      InputError: when the chunk begins with a byte order mark of UTF-16 or UTF-32, or as a file does that is no text.
    """
    if chunk.startswith(_UTF16_BOMS):
        raise InputError(f"{uri}: the file is UTF-16 or UTF-32; convert it to UTF-8, for example with iconv -t UTF-8")
    check_text(chunk, uri)
    if chunk.startswith(_UTF8_BOM):
        return chunk[len(_UTF8_BOM) :], len(_UTF8_BOM)
    return chunk, 0


def index_lines(block: Block) -> Lines:
    """Finds the lines of a block, blank ones included."""
    return Lines(block.data, block.offset, *kernel_lines.index_lines(block.data))


def counts_per_line(lines: Lines, indices: np.ndarray) -> np.ndarray:
    """Counts how many of the sorted indices lie in each line, without its line end."""
    return counts_between(indices, lines.starts, lines.ends)


def lone_cr_lines(lines: Lines) -> np.ndarray:
    """Masks the lines with a CR that no LF follows."""
    return counts_per_line(lines, lone_crs(lines.data)) > 0


def invalid_utf8(lines: Lines) -> np.ndarray:
    """Masks the lines that are not UTF-8; checks single lines only if the block as a whole is not."""
    mask = np.zeros(len(lines), bool)
    if lines.data.isascii() or _is_utf8(lines.data):
        return mask
    high = np.flatnonzero(np.frombuffer(lines.data, np.uint8) >= 0x80)
    for index in np.flatnonzero(counts_per_line(lines, high)).tolist():
        mask[index] = not _is_utf8(lines.line(index))
    return mask


def _is_utf8(data: bytes) -> bool:
    """Returns whether Arrow accepts the bytes as UTF-8."""
    text = pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, len(data)], np.int64)), pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def longer_than(lines: Lines, limit: int) -> np.ndarray:
    """Masks the lines with more than `limit` bytes."""
    return np.zeros(len(lines), bool) if len(lines.data) <= limit else lines.lengths() > limit


# Such a line is blank in JSON; in CSV a line of spaces is data.
_WHITESPACE = re.compile(rb"[ \t\r]*")


def blank_lines(lines: Lines, whitespace: bool = False) -> np.ndarray:
    """Masks the empty lines; with `whitespace` also those that hold only spaces, tabs and CRs."""
    mask: np.ndarray = lines.starts == lines.ends
    if not whitespace or not len(lines.data):
        return mask
    first = np.frombuffer(lines.data, np.uint8)[np.minimum(lines.starts, len(lines.data) - 1)]
    for index in np.flatnonzero(np.isin(first, np.frombuffer(b" \t\r", np.uint8)) & ~mask):
        mask[index] = _WHITESPACE.fullmatch(lines.data, lines.starts[index], lines.ends[index]) is not None
    return mask


def long_line_letter(line: LongLine, uri: str, code: str, max_line_bytes: int) -> DeadLetter:
    """Makes the dead letter of a line over the limit; its payload is only the beginning of the line."""
    head = line.head[:LONG_LINE_PAYLOAD_BYTES]
    detail = f"the line has more than {max_line_bytes} bytes; the payload is its first {len(head)} bytes"
    return raw_letter([Reason(code, detail)], "read", uri, line.offset, head)


def split_part(file: InputFile, part_bytes: int | None = None, splittable: bool = True) -> Iterator[Part]:
    """Plans byte ranges of `part_bytes` that cover a plain file; one part for a file that cannot be split."""
    part_bytes = part_bytes or text_part_bytes(file.size)
    if not splittable or file.codec is not None or file.size <= part_bytes:
        yield Part()
        return
    for start in range(0, file.size, part_bytes):
        end = start + part_bytes
        yield Part(start, end if end < file.size else None)


def parsed_slices(batch: pa.RecordBatch, rejected: Sequence[DeadLetter], lines: Lines) -> Iterator[Parsed]:
    """Cuts a batch as `split_batch` does; row i is line i, and the dead letters go with the first slice."""
    start, source = 0, lines.source()
    for piece in split_batch(batch):
        yield Parsed(piece, rejected, source.slice(start, piece.num_rows))
        start, rejected = start + piece.num_rows, ()
    if rejected:
        yield Parsed(batch, rejected)
