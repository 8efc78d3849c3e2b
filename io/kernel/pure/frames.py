"""The frames of a TFRecord block: where the records are, and whether their CRCs are right."""

import functools
import struct

import google_crc32c
import numpy as np

from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, unmask_crcs


def scan(data: bytes, max_record_bytes: int) -> tuple[np.ndarray, np.ndarray, int, int, int, int, int]:
    """Finds the whole frames of a block, which begins with one.

    Args:
      data: the block.
      max_record_bytes: a longer record is absurd.

    Returns:
      int64[n], where in `data` each record's own bytes start; int64[n], how many these are; where the last whole frame
      ends, and how many bytes the frame that begins there lacks, as far as is known. And where the first frame begins
      whose length does not match its CRC, whose length is absurd, whose record does not match its CRC; -1 for none.
      Behind a length that does not match, nothing counts.
    """
    starts, lengths, end, missing = _follow_lengths(data)
    heads = starts - HEADER_BYTES
    if end + HEADER_BYTES <= len(data):
        heads = np.append(heads, end)
    bad_length, absurd = _check_lengths(data, heads, max_record_bytes)
    return starts, lengths, end, missing, bad_length, absurd, _check_data(data, starts, lengths)


def _follow_lengths(data: bytes) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Starts and lengths of the whole frames of `data`, where they end, and the bytes that the next one lacks."""
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


def _check_lengths(data: bytes, heads: np.ndarray, max_record_bytes: int) -> tuple[int, int]:
    """The first of the headers at `heads` whose CRC is wrong, and the first whose length is absurd."""
    headers = np.frombuffer(data, np.uint8)[heads[:, None] + np.arange(HEADER_BYTES)]
    stored = np.ascontiguousarray(headers[:, 8:]).view("<u4")[:, 0]
    lengths = np.ascontiguousarray(headers[:, :8]).view("<u8")[:, 0]
    is_bad = unmask_crcs(stored) != _length_crcs(headers[:, :8])
    return _first(heads, is_bad), _first(heads, lengths > max_record_bytes)


def _check_data(data: bytes, starts: np.ndarray, lengths: np.ndarray) -> int:
    """Where the first frame begins whose record does not match its CRC."""
    ends = starts + lengths
    crc32c = google_crc32c.value
    found = [crc32c(data[start:end]) for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    footers = np.frombuffer(data, np.uint8)[ends[:, None] + np.arange(FOOTER_BYTES)]
    stored = np.ascontiguousarray(footers).view("<u4")[:, 0]
    return _first(starts - HEADER_BYTES, unmask_crcs(stored) != np.array(found, np.uint32))


def _first(heads: np.ndarray, is_bad: np.ndarray) -> int:
    bad = np.flatnonzero(is_bad)
    return int(heads[bad[0]]) if len(bad) else -1


def _length_crcs(lengths: np.ndarray) -> np.ndarray:
    """CRC32C of each row of uint8 [n, 8].

    A CRC is affine over XOR: that of 8 bytes is that of 8 zeros, XORed with one term for each byte.
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
