"""Reads, checks and decompresses the header and the blocks of Avro files, without decoding rows.

A file is a header and then blocks; a block is `rows (varint) | bytes (varint) | data | sync marker (16 bytes)`.
"""

import bz2
import dataclasses
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import fastavro
import pyarrow as pa

from penstock.io.errors import InputError
from penstock.io.files.inputs import InputFile

_MAGIC = b"Obj\x01"
_SYNC_BYTES = 16
_MAX_VARINT_BYTES = 10

# How much of a block that is too large is kept.
_HEAD_BYTES = 4 << 10

# What xz may take for its dictionary: its largest preset needs 64 MiB, but a file may ask for 4 GiB.
_XZ_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Header:
    """The header of an Avro file: schema as written, codec, sync marker, and the offset where the blocks begin."""

    schema: Any
    codec: str
    sync: bytes
    end: int


@dataclasses.dataclass(frozen=True)
class AvroBlock:
    """One block: start offset in the file, number of rows, data as stored (empty when only planned), end offset."""

    offset: int
    rows: int
    data: bytes
    end: int


def read_header(stream: io.BufferedReader, file: InputFile) -> Header:
    """Reads the header of an Avro file; leaves the stream at its first block.

    Raises:
      InputError: when the header is missing or damaged, or the codec is not supported.
    """
    if stream.read(len(_MAGIC)) != _MAGIC:
        hint = "the file is empty" if file.size == 0 else "it does not begin with 'Obj' and 1"
        raise InputError(f"{file.uri}: not an Avro file: {hint}")
    try:
        meta: Any = fastavro.schemaless_reader(stream, {"type": "map", "values": "bytes"}, None)
        schema = json.loads(meta["avro.schema"])
        codec = meta.get("avro.codec", b"null").decode()
    except Exception as error:  # fastavro raises errors of many types for damaged bytes
        raise InputError(f"{file.uri}: the Avro header is damaged or cut off: {error!r}") from error
    sync = stream.read(_SYNC_BYTES)
    if len(sync) < _SYNC_BYTES:
        raise InputError(f"{file.uri}: the Avro header is cut off: the file ends in the sync marker")
    if codec not in _CODECS:
        raise InputError(f"{file.uri}: Avro codec {codec!r} is not supported; write the file with {', '.join(_CODECS)}")
    return Header(schema, codec, sync, stream.tell())


def scan_blocks(stream: io.BufferedReader, header: Header, file: InputFile) -> Iterator[AvroBlock]:
    """Lists all blocks; skips their data.

    Raises:
      InputError: when a block is damaged or truncated; the message has its byte offset.
    """
    offset = header.end
    while offset < file.size:
        stream.seek(offset)
        rows, size = _block_head(stream, offset, file)
        stream.seek(size, io.SEEK_CUR)
        _check_sync(stream, header, offset, file)
        block = AvroBlock(offset, rows, b"", stream.tell())
        yield block
        offset = block.end


def read_blocks(
    stream: io.BufferedReader, header: Header, file: InputFile, start: int, end: int | None
) -> Iterator[AvroBlock]:
    """Reads the blocks from byte `start` (0: the first) to byte `end` (None: the end of the file), one at a time.

    Raises:
      InputError: when a block is damaged or truncated, as in `scan_blocks`.
    """
    offset = max(start, header.end)
    end = file.size if end is None else end
    stream.seek(offset)
    while offset < end:
        rows, size = _block_head(stream, offset, file)
        data = stream.read(size)
        _check_sync(stream, header, offset, file)
        block = AvroBlock(offset, rows, data, stream.tell())
        yield block
        offset = block.end


class TooLargeError(Exception):
    """A block has more bytes than the limit; `head` is their beginning, as far as it is known."""

    def __init__(self, head: bytes):
        super().__init__(head)
        self.head = head


def decompress(block: AvroBlock, header: Header, file: InputFile, limit: int) -> bytes:
    """Decompresses the data of a block of at most `limit` bytes.

    Raises:
      InputError: when the data does not decompress or its checksum does not match.
      TooLargeError: when the data has more bytes.
    """
    try:
        data = _CODECS[header.codec](block.data, limit)
    except (zlib.error, lzma.LZMAError, pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise InputError(
            f"{file.uri}: the {header.codec} data of the block at byte {block.offset} is damaged: {error}"
        ) from error
    if len(data) > limit:
        raise TooLargeError(data[:_HEAD_BYTES])
    return data


def _block_head(stream: io.BufferedReader, offset: int, file: InputFile) -> tuple[int, int]:
    rows, size = _read_long(stream, offset, file), _read_long(stream, offset, file)
    if rows < 0 or size < 0:
        raise InputError(f"{file.uri}: the block at byte {offset} claims {rows} rows in {size} bytes; it is damaged")
    if stream.tell() + size + _SYNC_BYTES > file.size:
        raise InputError(
            f"{file.uri}: the block at byte {offset} claims {size} bytes, more than the file has; "
            "the file is truncated or damaged there"
        )
    return rows, size


def _read_long(stream: io.BufferedReader, offset: int, file: InputFile) -> int:
    """Reads a zigzag varint."""
    value = 0
    for index in range(_MAX_VARINT_BYTES):
        byte = stream.read(1)
        if not byte:
            raise InputError(f"{file.uri}: the head of the block at byte {offset} is cut off; the file is truncated")
        value |= (byte[0] & 0x7F) << (7 * index)
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
    raise InputError(f"{file.uri}: the head of the block at byte {offset} is damaged: a number has no end")


def _check_sync(stream: io.BufferedReader, header: Header, offset: int, file: InputFile) -> None:
    if stream.read(_SYNC_BYTES) != header.sync:
        raise InputError(f"{file.uri}: the block at byte {offset} does not end with the sync marker; it is damaged")


def _inflate(data: bytes, limit: int) -> bytes:
    return _bounded(zlib.decompressobj(-zlib.MAX_WBITS), data, limit)


def _bunzip(data: bytes, limit: int) -> bytes:
    return _streams(bz2.BZ2Decompressor, data, limit)


def _unxz(data: bytes, limit: int) -> bytes:
    return _streams(lambda: lzma.LZMADecompressor(memlimit=_XZ_BYTES), data, limit)


def _streams(decompressor: Callable[[], Any], data: bytes, limit: int) -> bytes:
    """Decompresses streams, one after the other."""
    plain = b""
    while data and len(plain) <= limit:
        stream = decompressor()
        plain += _bounded(stream, data, limit - len(plain))
        data = stream.unused_data
    return plain


def _bounded(stream: Any, data: bytes, limit: int) -> bytes:
    """Decompresses at most one byte more than the limit."""
    plain: bytes = stream.decompress(data, limit + 1)
    if not stream.eof and len(plain) <= limit:
        raise EOFError("it ends too early")
    return plain


def _unsnap(data: bytes, limit: int) -> bytes:
    """Decompresses raw snappy, which the CRC32 of the plain data follows, big-endian."""
    compressed, crc = data[:-4], int.from_bytes(data[-4:], "big")
    size = _snappy_size(compressed)
    if size > limit:
        raise TooLargeError(b"")
    plain = pa.decompress(compressed, size, "snappy", asbytes=True)
    if zlib.crc32(plain) != crc:
        raise ValueError("the CRC32 does not match")
    return plain


def _snappy_size(data: bytes) -> int:
    """Reads the size of the plain data: raw snappy begins with it, as a varint."""
    size = 0
    for index, byte in enumerate(data[:5]):
        size |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return size
    raise ValueError("the size is missing")


def _unzstd(data: bytes, limit: int) -> bytes:
    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return stream.read(limit + 1)


# All these libraries are installed anyway: no codec needs another one.
_CODECS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "null": lambda data, limit: data,
    "deflate": _inflate,
    "snappy": _unsnap,
    "zstandard": _unzstd,
    "bzip2": _bunzip,
    "xz": _unxz,
}
