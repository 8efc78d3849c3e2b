"""Finds the records in the frames of a TFRecord block, and checks their CRCs; and the members in a tar file."""

import functools
import mmap
import struct

import google_crc32c
import numpy as np

from penstock.io.kernel.shared.tar import BLOCK, IS_CUT, IS_LONG, IS_NEXT, IS_ZEROS, NAME, Members, member_size
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, unmask_crcs

# Memory of so many bytes, from the beginning of a page on, as a buffer to write to; that of the kernel has held other
# blocks before. A fork has its own, as of all memory: by default, `mmap` would share it.
Memory = functools.partial(mmap.mmap, -1, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def scan(
    data: bytes | memoryview, max_record_bytes: int, check_data: bool = True
) -> tuple[np.ndarray, np.ndarray, int, int, int, int, int]:
    """Finds the whole frames of a block that begins with a frame.

    Args:
      data: the block.
      max_record_bytes: a longer record is absurd.
      check_data: whether to check the CRCs of records, and not only those of their lengths.

    Returns:
      int64[n], the start in `data` of each record's own bytes; int64[n], the lengths of the records; the end of the
      last whole frame; and how many bytes the frame after it lacks, as far as is known. Then the start of the first
      frame whose length does not match its CRC; of the first one whose length is absurd; and of the first one whose
      record does not match its CRC; each -1 if there is none. After a length that does not match, ignore all results.
    """
    starts, lengths, end, missing = _follow_lengths(data)
    heads = starts - HEADER_BYTES
    if end + HEADER_BYTES <= len(data):
        heads = np.append(heads, end)
    bad_length, absurd = _check_lengths(data, heads, max_record_bytes)
    bad_data = _check_data(data, starts, lengths) if check_data else -1
    return starts, lengths, end, missing, bad_length, absurd, bad_data


def _follow_lengths(data: bytes | memoryview) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Returns starts and lengths of the records of whole frames, the frames' end, and how much the next one lacks."""
    unpack = struct.Struct("<Q").unpack_from
    starts: list[int] = []
    lengths: list[int] = []
    add_start, add_length = starts.append, lengths.append
    size, position, missing = len(data), 0, 0
    while position + HEADER_BYTES <= size:
        length = unpack(data, position)[0]
        start = position + HEADER_BYTES
        following = start + length + FOOTER_BYTES
        if following > size:
            missing = following - size
            break
        add_start(start)
        add_length(length)
        position = following
    return np.array(starts, np.int64), np.array(lengths, np.int64), position, missing


def _check_lengths(data: bytes | memoryview, heads: np.ndarray, max_record_bytes: int) -> tuple[int, int]:
    """Returns the first of the headers at `heads` whose CRC is wrong, and the first whose length is absurd."""
    # Each row of `headers` is one frame header: 8 bytes of length, then 4 bytes of masked CRC, little-endian.
    headers = np.frombuffer(data, np.uint8)[heads[:, None] + np.arange(HEADER_BYTES)]
    stored = np.ascontiguousarray(headers[:, 8:]).view("<u4")[:, 0]
    lengths = np.ascontiguousarray(headers[:, :8]).view("<u8")[:, 0]
    is_bad = unmask_crcs(stored) != _length_crcs(headers[:, :8])
    return _first(heads, is_bad), _first(heads, lengths > max_record_bytes)


def _check_data(data: bytes | memoryview, starts: np.ndarray, lengths: np.ndarray) -> int:
    """Returns the start of the first frame whose record does not match its CRC."""
    ends = starts + lengths
    crc32c = google_crc32c.value
    found = [crc32c(bytes(data[start:end])) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    footers = np.frombuffer(data, np.uint8)[ends[:, None] + np.arange(FOOTER_BYTES)]
    stored = np.ascontiguousarray(footers).view("<u4")[:, 0]
    return _first(starts - HEADER_BYTES, unmask_crcs(stored) != np.array(found, np.uint32))


def _first(heads: np.ndarray, is_bad: np.ndarray) -> int:
    bad = np.flatnonzero(is_bad)
    return int(heads[bad[0]]) if len(bad) else -1


def _length_crcs(lengths: np.ndarray) -> np.ndarray:
    """Computes the CRC32C of each row of uint8 [n, 8].

    A CRC is affine over XOR: the CRC of 8 bytes is the CRC of 8 zeros, XORed with one term for each byte.
    """
    zeros, terms = _crc_terms()
    return np.bitwise_xor.reduce(terms[np.arange(8), lengths], axis=1) ^ zeros


@functools.cache
def _crc_terms() -> tuple[np.uint32, np.ndarray]:
    zeros = google_crc32c.value(bytes(8))
    terms = [
        [google_crc32c.value(bytes(index) + bytes([byte]) + bytes(7 - index)) ^ zeros for byte in range(256)]
        for index in range(8)
    ]
    return np.uint32(zeros), np.array(terms, np.uint32)


def follow_members(
    data: bytes | bytearray | memoryview, start: int, first_name: bytes, limit: int, most: int
) -> Members:
    """Follows the sizes of the members of a tar file; a header without a size has 0.

    Args:
      data: bytes of the file.
      start: where a member begins in them.
      first_name: the name of a member that begins a record, from its tenth byte on, of `NAME.stop - 10` bytes.
      limit: no record that begins here or later is followed.
      most: a member with more bytes is too long.
    """
    view = memoryview(data)
    sizes: list[int] = []
    are_first: list[bool] = []
    crcs: list[int] = []
    at, stop, missing = start, IS_CUT, 0
    while not (missing := max(at + BLOCK - len(view), 0)):
        header = bytes(view[at : at + BLOCK])
        is_first = header[10 : NAME.stop] == first_name
        size = member_size(header)
        if not any(header):
            stop = IS_ZEROS
        elif is_first and at >= limit:
            stop = IS_NEXT
        elif size > most:
            stop = IS_LONG
        if stop != IS_CUT:
            break
        end = at + BLOCK + size + -size % BLOCK
        if missing := max(end - len(view), 0):
            break
        sizes.append(size)
        are_first.append(is_first)
        crcs.append(google_crc32c.value(bytes(view[at + BLOCK : end])))
        at = end
    return Members(np.array(sizes, np.int64), np.array(are_first, bool), np.array(crcs, np.uint32), at, stop, missing)
