"""Tar files of records: a record is one sample of WebDataset, the members of one row as they lie in the file.

A member is a header of 512 bytes and its data, filled up with zeros to whole blocks. Its name is a key and an
extension, `000000007.json`. Records are moved before their place in a shard is known, so the key is 0 in them.
`numbered` puts in the place, and `TarReader` takes it out again: only nine digits and the checksum of each header
change.

Headers are those of USTAR (POSIX.1-1988), and say nothing but name and size: time and owner are 0, the mode is 0644.
Tar has no checksum of data. So bytes 500 to 507 of a header, which USTAR leaves unused and programs do not read, are
the CRC32C of the data with the zeros that fill them up, as hexadecimal digits.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import DataError, InputError
from penstock.io.kernel import crc32c, frames
from penstock.io.kernel.shared.offsets import Ints, starts_of
from penstock.io.kernel.shared.pieces import Bytes
from penstock.io.kernel.shared.tar import BLOCK, IS_CUT, IS_LONG, IS_ZEROS, NAME, SIZE, Members, member_size

KEY_DIGITS = 9
MAX_EXTENSION_BYTES = NAME.stop - KEY_DIGITS - 1

# As of rows in Parquet.
MAX_RECORD_BYTES = 1 << 30

# Two blocks of zeros end a file.
END = bytes(2 * BLOCK)

_EXTENSION = slice(KEY_DIGITS + 1, NAME.stop)
_SIZE_DIGITS = SIZE.stop - SIZE.start
_CHECKSUM, _CHECKSUM_DIGITS = 148, 6
_CRC = slice(500, 508)
_FIRST_EXTENSION = b"json".ljust(MAX_EXTENSION_BYTES, b"\0")
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_BLOCK_TYPE = f"V{BLOCK}"
_PIECE_BYTES = 4 << 20
_READ_BYTES = 1 << 20


def _blank_header() -> Bytes:
    header = bytearray(BLOCK)
    header[: KEY_DIGITS + 1] = b"0" * KEY_DIGITS + b"."
    header[100:148] = b"0000644\0" + b"0000000\0" * 2 + b"0" * 11 + b"\0" + b"0" * 11 + b"\0"
    header[148:157] = b" " * 8 + b"0"
    header[257:265] = b"ustar\x0000"
    return np.frombuffer(bytes(header), np.uint8)


_BLANK = _blank_header()


def _octal(numbers: Ints, digits: int) -> Bytes:
    shifts = 3 * np.arange(digits - 1, -1, -1)
    return ((numbers[:, None] >> shifts & 7) + ord("0")).astype(np.uint8)


def headers_of(extensions: Sequence[bytes], which: Ints, sizes: Ints) -> Bytes:
    """Returns uint8[n, 512], headers with the key 0, without checksums of themselves and the data.

    Args:
      extensions: of at most `MAX_EXTENSION_BYTES` bytes each.
      which: index of the extension of each member.
      sizes: bytes of data of each member.
    """
    names = np.zeros((len(extensions), MAX_EXTENSION_BYTES), np.uint8)
    for name, extension in zip(names, extensions, strict=True):
        name[: len(extension)] = np.frombuffer(extension, np.uint8)
    headers = np.repeat(_BLANK[None], len(sizes), axis=0)
    headers[:, _EXTENSION] = names[which]
    headers[:, SIZE] = _octal(sizes, _SIZE_DIGITS)
    return headers


def _hexadecimal(numbers: npt.NDArray[np.uint32]) -> Bytes:
    """Returns uint8[n, 8], the digits of numbers."""
    shifts = 4 * np.arange(7, -1, -1, dtype=np.uint32)
    return _DIGITS[numbers[:, None] >> shifts & 15]


def _sign(headers: Bytes, sums: Ints) -> None:
    end = _CHECKSUM + _CHECKSUM_DIGITS
    headers[:, _CHECKSUM:end] = _octal(sums, _CHECKSUM_DIGITS)
    headers[:, end] = 0


def members(headers: Bytes, contents: pa.Array) -> Bytes:
    """Returns uint8, members as they lie in a file, of less than 8 GiB each.

    Args:
      headers: uint8[n, 512], from `headers_of`.
      contents: large_binary, their data.
    """
    heads = pa.Array.from_buffers(pa.binary(BLOCK), len(headers), [None, pa.py_buffer(headers)])
    sizes = pc.binary_length(contents).to_numpy(zero_copy_only=False)
    zeros = pa.array([bytes(count) for count in range(BLOCK)], pa.large_binary()).take(pa.array(-sizes % BLOCK))
    joined = pc.binary_join_element_wise(
        heads.cast(pa.large_binary()), contents, zeros, pa.scalar(b"", pa.large_binary())
    )
    starts = starts_of(padded(sizes))
    if not len(sizes):
        return np.zeros(0, np.uint8)
    data = np.frombuffer(joined.buffers()[2], np.uint8)[: starts[-1]].copy()
    headers[:, _CRC] = _hexadecimal(frames.follow_members(data.data, 0, _FIRST_EXTENSION, len(data), len(data)).crcs)
    _sign(headers, headers.sum(axis=1, dtype=np.int64))
    _blocks(data)[starts[:-1]] = headers.view(_BLOCK_TYPE)[:, 0]
    return data


def padded(sizes: Ints) -> Ints:
    """Returns the bytes of members with data of these sizes, in a file."""
    return np.asarray(BLOCK + sizes + -sizes % BLOCK)


def numbered(data: Bytes, offsets: Ints, first: int) -> Bytes:
    """Returns records with their keys.

    Args:
      data: the records, with the key 0.
      offsets: where each starts, and the end.
      first: number of the first record in its shard.

    Raises:
      DataError: for more records than there are keys.
    """
    if first + len(offsets) - 1 > 10**KEY_DIGITS:
        raise DataError(f"a shard must have at most {10**KEY_DIGITS} records: write more shards")
    out = data.copy()
    rows: Ints = np.arange(len(offsets) - 1)
    starts, ends = offsets[:-1], offsets[1:]
    while len(rows):
        headers = _headers(out, starts)
        _set_keys(headers, first + rows)
        _blocks(out)[starts] = headers.view(_BLOCK_TYPE)[:, 0]
        starts = starts + padded(_sizes(headers))
        rows, starts, ends = rows[starts < ends], starts[starts < ends], ends[starts < ends]
    return out


def _blocks(data: Bytes) -> Any:
    """Returns all runs of 512 bytes, one from each byte on: they are copied faster than bytes."""
    return np.ndarray((len(data) - BLOCK + 1,), _BLOCK_TYPE, data, strides=(1,))


def _headers(data: Bytes, starts: Ints) -> Bytes:
    return np.asarray(_blocks(data)[starts]).view(np.uint8).reshape(-1, BLOCK)


def _sizes(headers: Bytes) -> Ints:
    return _parsed(headers[:, SIZE], 8)


def _parsed(digits: Bytes, base: int) -> Ints:
    weights = base ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64)
    return np.asarray((digits.astype(np.int64) - ord("0")) @ weights)


def _set_keys(headers: Bytes, keys: Ints) -> None:
    """Changes the keys of headers, and their checksums."""
    weights = 10 ** np.arange(KEY_DIGITS - 1, -1, -1)
    digits = keys[:, None] // weights % 10 + ord("0")
    change = digits.sum(axis=1) - headers[:, :KEY_DIGITS].sum(axis=1, dtype=np.int64)
    headers[:, :KEY_DIGITS] = digits
    _sign(headers, _parsed(headers[:, _CHECKSUM : _CHECKSUM + _CHECKSUM_DIGITS], 8) + change)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Neighbouring records that were read.

    Attributes:
      content: the records, with the key 0.
      first: number of the first one in its shard.
      counts: int64, the members of each.
      extensions: of members, all different.
      which: int64, the index of the extension of each member.
      starts: int64, where the data of each member lie in `content`.
      sizes: int64, bytes of these data.
      faults: what is wrong with the data of some records, by index.
    """

    content: Bytes
    first: int
    counts: Ints
    extensions: list[bytes]
    which: Ints
    starts: Ints
    sizes: Ints
    faults: Mapping[int, str]

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def offsets(self) -> Ints:
        """Int64[n + 1], where each record starts in `content`, and the end; of all records that were read."""
        return np.append(self.starts[np.cumsum(self.counts) - self.counts] - BLOCK, len(self.content))

    def good(self) -> "Samples":
        """Returns those without a fault."""
        if not self.faults:
            return self
        keep = np.ones(len(self), bool)
        keep[list(self.faults)] = False
        kept = np.repeat(keep, self.counts)
        return dataclasses.replace(
            self,
            counts=self.counts[keep],
            which=self.which[kept],
            starts=self.starts[kept],
            sizes=self.sizes[kept],
            faults={},
        )

    def texts(self) -> list[bytes]:
        """Returns the data of all members."""
        data, ends = self.content.tobytes(), self.starts + self.sizes
        return [data[start:end] for start, end in zip(self.starts.tolist(), ends.tolist(), strict=True)]


class TarReader:
    """Reads a file of records from its beginning; checks each header, and that nothing follows the end.

    Args:
      stream: the content of the file, unpacked.
      uri: its name in messages.
    """

    def __init__(self, stream: Any, uri: str):
        self._stream = stream
        self._uri = uri
        # What was read and not given yet, and where it begins.
        self._data = bytearray()
        self._position = 0
        self._is_over = False

    def head(self, name: bytes) -> bytes:
        """Returns the data of the member that is first, and has this name.

        Raises:
          InputError: if there is none.
        """
        header = self._take(BLOCK)
        size = member_size(header)
        if header[NAME].rstrip(b"\0") != name or header != _head_header(name, size, header[_CRC]):
            raise InputError(f"{self._uri}: not a tar file of a dataset: must begin with the member {name.decode()}")
        if size > MAX_RECORD_BYTES:
            raise self._wrong(0, f"has {size} bytes")
        data = self._take(int(padded(np.array(size))) - BLOCK)
        if header[_CRC] != b"%08x" % crc32c.extend(0, data):
            raise self._wrong(0, "does not match its CRC")
        return data.rstrip(b"\0")

    def samples(self) -> Iterator[Samples]:
        """Yields all records, in pieces of about 4 MiB.

        Raises:
          InputError: for a file that is damaged, cut off, or not as `numbered` made it.
        """
        first = 0
        while not self._is_over:
            if (piece := self._piece(first)) is not None:
                yield piece
                first += len(piece)

    def _piece(self, first: int) -> Samples | None:
        self._need(BLOCK)
        self._fill(_PIECE_BYTES + BLOCK)
        data, end = self._data, 0
        if any(data[:BLOCK]) and data[_EXTENSION] != _FIRST_EXTENSION:
            raise self._wrong(BLOCK, "begins no row")
        found: list[Members] = []
        while not found or found[-1].stop == IS_CUT:
            found.append(frames.follow_members(data, end, _FIRST_EXTENSION, _PIECE_BYTES, MAX_RECORD_BYTES))
            end = found[-1].end
            if found[-1].stop == IS_CUT:
                self._need(len(data) + found[-1].missing)
        if found[-1].stop == IS_LONG:
            raise self._wrong(end + BLOCK, f"has {member_size(data[end : end + BLOCK])} bytes")
        if found[-1].stop == IS_ZEROS:
            self._check_end(end)
        position, self._position, self._data = self._position, self._position + end, data[end:]
        return self._samples(np.frombuffer(data, np.uint8)[:end], found, first, position) if end else None

    def _check_end(self, at: int) -> None:
        self._need(at + len(END))
        if self._data[at:] != END or self._stream.read(1):
            raise self._wrong(at + len(END), "is no member, and not the end of the file")
        self._is_over = True

    def _samples(self, data: Bytes, found: Sequence[Members], first: int, position: int) -> Samples:
        """Checks the headers of a piece, and takes out the keys."""
        sizes = np.concatenate([members.sizes for members in found])
        counts = np.diff(np.flatnonzero(np.concatenate([*(members.are_first for members in found), [True]])))
        starts = starts_of(padded(sizes))[:-1]
        headers = _headers(data, starts)
        # Without the zeros behind each.
        names = np.ascontiguousarray(headers[:, _EXTENSION]).view(f"S{MAX_EXTENSION_BYTES}")[:, 0].tolist()
        extensions = {name: index for index, name in enumerate(dict.fromkeys(names))}
        which = np.array([extensions[name] for name in names], np.int64)
        expected = headers_of(list(extensions), which, sizes)
        expected[:, _CRC] = headers[:, _CRC]
        _sign(expected, expected.sum(axis=1, dtype=np.int64))
        rows = np.repeat(np.arange(len(counts)), counts)
        numbers = expected.copy()
        _set_keys(numbers, first + rows)
        if (wrong := (headers != numbers).any(axis=1)).any():
            at = position + int(starts[wrong.argmax()])
            row = first + int(rows[wrong.argmax()])
            raise InputError(f"{self._uri}: the header at byte {at} is damaged, or not that of a member of row {row}")
        _blocks(data)[starts] = expected.view(_BLOCK_TYPE)[:, 0]
        crcs = _hexadecimal(np.concatenate([members.crcs for members in found]))
        damaged = np.flatnonzero((headers[:, _CRC] != crcs).any(axis=1))
        faults = {
            int(
                rows[index]
            ): f"row {first + rows[index]}: the data at byte {position + starts[index] + BLOCK} of the tar "
            "file do not match their CRC"
            for index in damaged[::-1].tolist()
        }
        return Samples(data, first, counts, list(extensions), which, starts + BLOCK, sizes, faults)

    def _wrong(self, size: int, what: str) -> InputError:
        return InputError(f"{self._uri}: damaged: what lies before byte {self._position + size} {what}")

    def _take(self, size: int) -> bytes:
        self._need(size)
        taken = bytes(self._data[:size])
        self._position, self._data = self._position + size, self._data[size:]
        return taken

    def _need(self, size: int) -> None:
        self._fill(size)
        if missing := max(size - len(self._data), 0):
            raise InputError(
                f"{self._uri}: cut off: {missing} bytes are missing behind byte {self._position + len(self._data)}"
            )

    def _fill(self, size: int) -> None:
        """Reads until so many bytes are there, or the file ends."""
        while (missing := size - len(self._data)) > 0 and (part := self._stream.read(min(missing, _READ_BYTES))):
            self._data += part


def _head_header(name: bytes, size: int, crc: bytes) -> bytes:
    header = _BLANK[None].copy()
    header[:, NAME] = np.frombuffer(name.ljust(NAME.stop, b"\0"), np.uint8)
    header[:, SIZE] = _octal(np.array([size]), _SIZE_DIGITS)
    header[:, _CRC] = np.frombuffer(crc, np.uint8)
    _sign(header, header.sum(axis=1, dtype=np.int64))
    return header.tobytes()


def head_member(name: bytes, data: bytes) -> bytes:
    """Returns a member without a key."""
    filled = data + bytes(-len(data) % BLOCK)
    return _head_header(name, len(data), b"%08x" % crc32c.extend(0, filled)) + filled
