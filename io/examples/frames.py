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
    """

    data: bytes | memoryview
    starts: np.ndarray
    lengths: np.ndarray
    first_offset: int

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
    damaged: Callable[[], None] | None = None,
) -> Iterator[Frames]:
    """Reads the frames of a decompressed TFRecord stream, in order, and checks all CRCs.

    Memory is about two blocks, or two records if a record is longer than a block. An empty stream has no frames.

    Args:
      stream: the decompressed bytes (`open_decompressed`).
      uri: the name of the file in messages.
      block_bytes: number of bytes to read at a time.
      max_record_bytes: a record that is longer than this and than a block is passed over.
      too_long: is given such records.
      damaged: is called before frames are given of which some do not match their CRC (`damaged_records`), which is no
        error then. A wrong length is one, once all frames before it are given.

    Raises:
      InputError: for a CRC that does not match, an absurd length, or a truncated record; the message has the byte
        offset of the record.
    """
    tail, offset, wanted = b"", 0, block_bytes
    while block := _read_some(stream, wanted):
        data = tail + block if tail else block
        found = _Found(*frames.scan(data, _MAX_RECORD_BYTES))
        if damaged is not None:
            yield from _before_lengths(found, data, offset, damaged)
        _check(found, data, offset, uri, damaged is None)
        tail, wanted = data[found.end :], max(block_bytes, found.missing)
        if len(found.starts):
            yield Frames(memoryview(data)[: found.end], found.starts, found.lengths, offset)
        offset += found.end
        if too_long is not None and found.missing and (length := _length(tail)) > max_record_bytes:
            too_long(LongRecord(offset, length, tail[HEADER_BYTES:][:_HEAD_BYTES]))
            _pass_over(stream, tail, length, f"{uri}: {{}} at byte {offset}")
            tail, wanted, offset = b"", block_bytes, offset + HEADER_BYTES + length + FOOTER_BYTES
    if tail:
        raise InputError(f"{uri}: {_truncated(tail)} at byte {offset}; the file is truncated: copy or write it again")


def damaged_records(found: Frames) -> np.ndarray:
    """Returns bool[n], whether each record does not match its CRC."""
    ends = found.starts + found.lengths
    footers = np.frombuffer(found.data, np.uint8)[ends[:, None] + np.arange(FOOTER_BYTES)]
    stored = unmask_crcs(np.ascontiguousarray(footers).view("<u4")[:, 0])
    data = memoryview(found.data)
    bounds = zip(found.starts.tolist(), ends.tolist(), strict=True)
    computed = [crc32c.extend(0, data[start:end]) for start, end in bounds]
    return np.asarray(stored != np.array(computed, np.uint32))


def _before_lengths(found: "_Found", data: bytes, offset: int, damaged: Callable[[], None]) -> Iterator[Frames]:
    """Yields the frames before a wrong length, if there is one, and tells of records that do not match their CRC."""
    wrong = [head for head in (found.bad_length, found.absurd) if head >= 0]
    if wrong:
        found = _Found(*frames.scan(data[: min(wrong)], _MAX_RECORD_BYTES))
    if found.bad_data >= 0:
        damaged()
    if wrong and len(found.starts):
        yield Frames(memoryview(data)[: found.end], found.starts, found.lengths, offset)


def _length(head: bytes) -> int:
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


def _check(found: _Found, data: bytes, offset: int, uri: str, also_data: bool = True) -> None:
    if found.bad_length >= 0:
        raise InputError(f"{uri}: {_bad_length(data, found.bad_length, offset)}")
    if found.absurd >= 0:
        (length,) = struct.unpack_from("<Q", data, found.absurd)
        at = offset + found.absurd
        raise InputError(f"{uri}: the record at byte {at} claims {length} bytes, more than a tf.Example can have")
    if also_data and found.bad_data >= 0:
        at = offset + found.bad_data
        raise InputError(f"{uri}: the data CRC of the record at byte {at} does not match; the record is damaged")


def _bad_length(data: bytes, head: int, offset: int) -> str:
    message = f"the length CRC of the record at byte {offset + head} does not match"
    if offset + head > 0:
        return f"{message}; the file is damaged from there on"
    if data.startswith(b"\x1f\x8b"):
        return f"{message}; the file looks gzip-compressed: give its name the suffix .gz"
    if data[:1] == b"\x78" and int.from_bytes(data[:2], "big") % 31 == 0:
        return f"{message}; the file looks zlib-compressed: give its name the suffix .zlib"
    return f"{message}; this is not a TFRecord file, or its start is damaged"


def _truncated(tail: bytes) -> str:
    if len(tail) < HEADER_BYTES:
        return f"the header of a record is cut off after {len(tail)} of {HEADER_BYTES} bytes"
    needed = HEADER_BYTES + struct.unpack_from("<Q", tail)[0] + FOOTER_BYTES
    return f"the file ends after {len(tail)} of the {needed} bytes of the record"
