"""Finds the frames of TFRecord files in blocks and checks them, without copying their bytes.

A TFRecord file is a chain of frames, all integers little-endian::

    uint64 length | uint32 masked CRC32C of the 8 bytes of length | data | uint32 masked CRC32C of data

Each frame starts where the one before it ends, so finding them needs a loop, which is in the kernel.
"""

import dataclasses
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

import numpy as np

from penstock.io.errors import InputError
from penstock.io.kernel import crc32c, frames
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, unmask_crcs

_BLOCK_BYTES = 4 << 20
# No protobuf message is longer, so if a record is longer, its length is damaged.
_MAX_RECORD_BYTES = (1 << 31) - 1
# Long records are read in pieces, so that a damaged length does not allocate more memory than the file has bytes.
_MAX_READ_BYTES = 64 << 20
# What is read at least, where less would do to give as many frames as were asked for; and how much more than that.
_LEAST_READ_BYTES = 256 << 10
_CUT_MARGIN = 1.02
_PAGE_BYTES = 4 << 10
# How much of a record that is too long is kept.
_HEAD_BYTES = 4 << 10


class ByteStream(Protocol):
    """A source of frames: `pyarrow.NativeFile` or any binary file."""

    def read(self, nbytes: int, /) -> bytes:
        """Reads up to `nbytes` bytes; the result is empty only at the end."""


@dataclasses.dataclass(frozen=True)
class Frames:
    """Some complete frames, one after the other, as they were in the file.

    Attributes:
      data: the bytes of the frames; those of all `Frames` of a file are its content.
      starts: int64, where in `data` each record's own bytes start, after its header.
      lengths: int64, the length of each record.
      first_offset: offset of `data` in the decompressed file.
      keep: keeps the next frames of the file from the memory of these (`read_frames(in_place=True)`).
    """

    data: bytes | memoryview
    starts: np.ndarray
    lengths: np.ndarray
    first_offset: int
    keep: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def offsets(self) -> np.ndarray:
        """int64, the byte offset in the decompressed file at which each frame starts."""
        return self.starts + (self.first_offset - HEADER_BYTES)

    def select(self, rows: slice | np.ndarray) -> "Frames":
        """Selects some of the records, over the same `data`."""
        return dataclasses.replace(self, starts=self.starts[rows], lengths=self.lengths[rows])

    def record(self, row: int) -> bytes:
        """Returns the bytes of one record, without its frame."""
        start = int(self.starts[row])
        return bytes(self.data[start : start + int(self.lengths[row])])

    def records(self) -> list[bytes]:
        """Returns the bytes of each record, without its frame."""
        ends = (self.starts + self.lengths).tolist()
        return [bytes(self.data[start:end]) for start, end in zip(self.starts.tolist(), ends, strict=True)]


@dataclasses.dataclass(frozen=True)
class LongRecord:
    """A record over the limit: the offset of its frame, its length, and the beginning of its bytes."""

    offset: int
    length: int
    head: bytes


def read_frames(
    stream: ByteStream,
    uri: str,
    block_bytes: int = _BLOCK_BYTES,
    max_record_bytes: int = _MAX_RECORD_BYTES,
    too_long: Callable[[LongRecord], None] | None = None,
    check_data: bool = True,
    in_place: bool = False,
    cut: Callable[[int], int] | None = None,
) -> Iterator[Frames]:
    """Reads the frames of a decompressed TFRecord stream, in order, and checks all CRCs.

    Memory is about two blocks, or two records if a record is longer than a block. An empty stream has no frames.

    Args:
      stream: the decompressed bytes (`open_decompressed`).
      uri: the name of the file in messages.
      block_bytes: number of bytes to read at a time.
      max_record_bytes: a record that is longer than this and than a block is passed over.
      too_long: is given such records.
      in_place: whether frames that nobody keeps may be overwritten when the next ones are asked for, which saves memory
        that is new.
      cut: is told how many frames there are, and returns how many of them to give now; those behind them are given
        with the next ones.
      check_data: False where the CRCs of records are checked by who takes them (`decode_examples`), while they are in
        the cache. A wrong length is then an error once all frames before it are given.

    Raises:
      InputError: for a CRC that does not match, an absurd length, or a truncated record; the message has the byte
        offset of the record.
    """
    window, offset = _Window(block_bytes, in_place), 0
    has_more = window.fill(stream, block_bytes) if cut is None else _begin(window, stream, cut, block_bytes)
    while has_more:
        data = window.data
        found = _Found(*frames.scan(data, _MAX_RECORD_BYTES, check_data))
        if found.has_fault:
            if not check_data:
                yield from _before_lengths(found, window, offset)
            _check(found, data, offset, uri)
        if cut is not None and 0 < (count := cut(len(found.starts))) < len(found.starts):
            end = int(found.starts[count]) - HEADER_BYTES
            found = found._replace(starts=found.starts[:count], lengths=found.lengths[:count], end=end, missing=0)
        if len(found.starts):
            yield Frames(data[: found.end], found.starts, found.lengths, offset, window.keep)
        window.drop(found.end)
        wanted = max(block_bytes, found.missing)
        if cut is not None:
            wanted = _to_cut(found, cut, block_bytes, len(window.data))
        offset += found.end
        if too_long is not None and found.missing and (length := _length(window.data)) > max_record_bytes:
            tail = bytes(window.data)
            too_long(LongRecord(offset, length, tail[HEADER_BYTES:][:_HEAD_BYTES]))
            _pass_over(stream, tail, length, f"{uri}: {{}} at byte {offset}")
            window.drop(len(tail))
            wanted, offset = block_bytes, offset + HEADER_BYTES + length + FOOTER_BYTES
        has_more = window.fill(stream, wanted)
    if len(window.data):
        fault = _truncated(window.data)
        raise InputError(f"{uri}: {fault} at byte {offset}; the file is truncated: copy or write it again")


def _begin(window: "_Window", stream: ByteStream, cut: Callable[[int], int], block_bytes: int) -> bool:
    """Reads to the first cut, by the length of a few frames; False if there is nothing to read."""
    has_more = window.fill(stream, min(block_bytes, _LEAST_READ_BYTES))
    if has_more:
        found = _Found(*frames.scan(window.data, _MAX_RECORD_BYTES, False))
        window.fill(stream, _to_cut(found, cut, block_bytes, len(window.data)))
    return has_more


def _to_cut(found: "_Found", cut: Callable[[int], int], block_bytes: int, held: int) -> int:
    """Returns how many bytes to read to as many frames as will be given at once, when so many bytes are there.

    That is a few more, since frames differ in length; a whole block where it has fewer than are best given at once.
    """
    if not len(found.starts):
        return max(block_bytes, found.missing)
    each = found.end / len(found.starts)
    fitting = cut(int(block_bytes / each)) * each * _CUT_MARGIN
    wanted = min(fitting, block_bytes) if fitting > 0 else block_bytes
    return max(found.missing, int(wanted) - held, _LEAST_READ_BYTES)


class _Window:
    """The part of a stream that is looked at: what is left of the block before, and the next one behind it.

    With `in_place` it stays in the same memory, so that a block that is not kept is good until the next one is read;
    other memory is used again once nobody has it. Each byte has the place in its page of memory that it has in its page
    of the file: to a place 1 to 31 bytes later, an AMD EPYC 7003 copies only a fifth as fast from the kernel's cache.
    """

    def __init__(self, block_bytes: int, in_place: bool):
        self._block_bytes = block_bytes
        self._in_place = in_place
        self._is_kept = not in_place
        self._memory = np.empty(0, np.uint8)
        # Where the bytes begin and end, of which the first has this place in its page.
        self._start = 0
        self._end = 0

    @property
    def data(self) -> memoryview:
        """The bytes."""
        return self._memory[self._start : self._end].data

    def fill(self, stream: ByteStream, wanted: int) -> bool:
        """Reads so many bytes behind the others, or up to the end; False if that is reached and there are none."""
        before, end = self._end, self._end + wanted
        read_into = getattr(stream, "readinto", None)
        while self._end < end:
            room = min(end - self._end, max(_MAX_READ_BYTES, self._block_bytes))
            if len(self._memory) < self._end + room:
                # A little more, so that the rest of a record before the next block needs no other memory.
                room_then = max(self._end + room, self._block_bytes)
                self._move(0, room_then + (room_then >> 6) + _PAGE_BYTES)
            target = self._memory[self._end : self._end + room].data
            if read_into is None:
                piece = stream.read(room)
                target[: len(piece)] = piece
                count = len(piece)
            else:
                count = read_into(target)
            if not count:
                break
            self._end += count
        return self._end > before

    def keep(self) -> None:
        """Leaves the memory to the block."""
        self._is_kept = True

    def drop(self, count: int) -> None:
        """Forgets bytes at the beginning."""
        if not self._is_kept:
            rest = self._memory[self._start + count : self._end]
            self._start = (self._start + count) % _PAGE_BYTES
            self._end = self._start + len(rest)
            self._memory[self._start : self._end] = rest
        else:
            self._move(count, len(self._memory))
            self._is_kept = not self._in_place

    def _move(self, count: int, capacity: int) -> None:
        """Moves the bytes behind some of them to other memory, of so many bytes."""
        rest = self._memory[self._start + count : self._end]
        self._memory = np.frombuffer(frames.Memory(capacity), np.uint8)
        self._start = (self._start + count) % _PAGE_BYTES
        self._end = self._start + len(rest)
        self._memory[self._start : self._end] = rest


def damaged_records(found: Frames) -> np.ndarray:
    """Returns bool[n], whether each record does not match its CRC."""
    ends = found.starts + found.lengths
    footers = np.frombuffer(found.data, np.uint8)[ends[:, None] + np.arange(FOOTER_BYTES)]
    stored = unmask_crcs(np.ascontiguousarray(footers).view("<u4")[:, 0])
    data = memoryview(found.data)
    bounds = zip(found.starts.tolist(), ends.tolist(), strict=True)
    computed = [crc32c.extend(0, data[start:end]) for start, end in bounds]
    return np.asarray(stored != np.array(computed, np.uint32))


def _before_lengths(found: "_Found", window: "_Window", offset: int) -> Iterator[Frames]:
    """Yields the frames before a wrong length, if there is one."""
    data = window.data
    wrong = [head for head in (found.bad_length, found.absurd) if head >= 0]
    if wrong:
        found = _Found(*frames.scan(data[: min(wrong)], _MAX_RECORD_BYTES, False))
    if wrong and len(found.starts):
        yield Frames(data[: found.end], found.starts, found.lengths, offset, window.keep)


def _length(head: memoryview) -> int:
    return int(struct.unpack_from("<Q", head)[0]) if len(head) >= HEADER_BYTES else 0


def _pass_over(stream: ByteStream, tail: bytes, length: int, place: str) -> None:
    """Reads the rest of a frame in pieces, and checks its CRC."""
    body, footer = tail[HEADER_BYTES:][:length], tail[HEADER_BYTES + length :]
    crc, left = crc32c.extend(0, body), length - len(body)
    while left and (piece := stream.read(min(left, _BLOCK_BYTES))):
        crc, left = crc32c.extend(crc, piece), left - len(piece)
    footer += _read_some(stream, FOOTER_BYTES - len(footer))
    if len(footer) < FOOTER_BYTES:
        raise InputError(place.format("the file ends in the record") + "; it is truncated: copy or write it again")
    if unmask_crcs(np.frombuffer(footer, "<u4"))[0] != crc:
        raise InputError(place.format("the data CRC of the record") + " does not match; the record is damaged")


def _read_some(stream: ByteStream, wanted: int) -> bytes:
    pieces = []
    while wanted > 0 and (piece := stream.read(min(wanted, _MAX_READ_BYTES))):
        pieces.append(piece)
        wanted -= len(piece)
    return b"".join(pieces)


class _Found(NamedTuple):
    """The complete frames of a block, and for each kind of fault, the offset of the first frame that has it; else -1.

    Attributes:
      starts: see `Frames`.
      lengths: see `Frames`.
      end: where the last complete frame ends.
      missing: bytes that the frame beginning there lacks, as far as is known.
      bad_length: the first length that does not match its CRC; the scan ignores all that follows.
      absurd: the first length that is too large for a tf.Example.
      bad_data: the first record that does not match its CRC.
    """

    starts: np.ndarray
    lengths: np.ndarray
    end: int
    missing: int
    bad_length: int
    absurd: int
    bad_data: int

    @property
    def has_fault(self) -> bool:
        """Whether there is one of some kind."""
        return max(self.bad_length, self.absurd, self.bad_data) >= 0


def _check(found: _Found, data: memoryview, offset: int, uri: str) -> None:
    if found.bad_length >= 0:
        raise InputError(f"{uri}: {_bad_length(data, found.bad_length, offset)}")
    if found.absurd >= 0:
        (length,) = struct.unpack_from("<Q", data, found.absurd)
        at = offset + found.absurd
        raise InputError(f"{uri}: the record at byte {at} claims {length} bytes, more than a tf.Example can have")
    if found.bad_data >= 0:
        at = offset + found.bad_data
        raise InputError(f"{uri}: the data CRC of the record at byte {at} does not match; the record is damaged")


def _bad_length(data: memoryview, head: int, offset: int) -> str:
    message = f"the length CRC of the record at byte {offset + head} does not match"
    if offset + head > 0:
        return f"{message}; the file is damaged from there on"
    if bytes(data[:2]) == b"\x1f\x8b":
        return f"{message}; the file looks gzip-compressed: give its name the suffix .gz"
    if bytes(data[:1]) == b"\x78" and int.from_bytes(data[:2], "big") % 31 == 0:
        return f"{message}; the file looks zlib-compressed: give its name the suffix .zlib"
    return f"{message}; this is not a TFRecord file, or its start is damaged"


def _truncated(tail: memoryview) -> str:
    if len(tail) < HEADER_BYTES:
        return f"the header of a record is cut off after {len(tail)} of {HEADER_BYTES} bytes"
    needed = HEADER_BYTES + struct.unpack_from("<Q", tail)[0] + FOOTER_BYTES
    return f"the file ends after {len(tail)} of the {needed} bytes of the record"
