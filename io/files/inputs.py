"""Input files: matching patterns, and opening what may be compressed, on every filesystem that Beam knows."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems

from penstock.io.beam import progress
from penstock.io.errors import InputError
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import is_local, is_local_directory, no_match
from penstock.io.files.suffixes import codec_of


@dataclasses.dataclass(frozen=True, order=True)
class InputFile:
    """One matched file: where it is, its size in bytes, its last change in seconds since the epoch, UTC."""

    uri: str
    size: int
    mtime: float

    @property
    def codec(self) -> str | None:
        """Arrow's name of the compression that the suffix promises; None for a plain file."""
        return codec_of(self.uri)


def match_files(patterns: Sequence[str], may_be_none: bool = False) -> tuple[InputFile, ...]:
    """Lists all files that the patterns match, each once, sorted by URI.

    Raises:
      InputError: for a pattern that names a directory, or matches nothing, unless there `may_be_none`.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    files: dict[str, InputFile] = {}
    for pattern in patterns:
        found = [meta for meta in _match(pattern) if not is_local_directory(meta.path)]
        if not found and (not may_be_none or is_local_directory(pattern)):
            raise no_match(pattern)
        for meta in found:
            files[meta.path] = _input_file(meta)
    return tuple(sorted(files.values()))


def _match(pattern: str) -> Sequence[FileMetadata]:
    check_filesystem(pattern)
    try:
        if is_local(pattern) and os.path.isfile(pattern):
            return [FileSystems.get_filesystem(pattern).metadata(pattern)]  # its name may have brackets in it
        return FileSystems.match([pattern])[0].metadata_list
    except BeamIOError as error:
        raise InputError(f"cannot list {pattern}: {error}") from error


def stat_file(uri: str) -> InputFile:
    """Returns a file as it is now.

    Raises:
      InputError: when it is gone or cannot be looked at.
    """
    try:
        return _input_file(FileSystems.get_filesystem(uri).metadata(uri))
    except (BeamIOError, OSError) as error:
        raise InputError(f"{uri}: the file is gone or cannot be read") from error


def _input_file(meta: FileMetadata) -> InputFile:
    return InputFile(meta.path, meta.size_in_bytes, meta.last_updated_in_seconds or 0.0)


@contextlib.contextmanager
def open_plain(file: InputFile) -> Iterator[pa.PythonFile]:
    """Opens the bytes of a file as they are stored; the stream can seek where the filesystem can."""
    with open_raw(file) as raw:
        yield pa.PythonFile(raw, mode="r")


@contextlib.contextmanager
def open_raw(file: InputFile) -> Iterator["CountedReads"]:
    """The same as Python's file object, which copies once less; a read may give less than was asked for."""
    with FileSystems.open(file.uri, compression_type=CompressionTypes.UNCOMPRESSED) as raw:
        yield CountedReads(raw)


class CountedReads:
    """A file object that tells the progress bar how many bytes were read."""

    def __init__(self, raw: BinaryIO):
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all."""
        data = self._raw.read(size)
        progress.add(bytes=len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)


@contextlib.contextmanager
def open_decompressed(file: InputFile) -> Iterator[pa.NativeFile]:
    """Opens the content of a file, decompressed by its suffix: gzip, bzip2 or zstd, of one or several members.

    Raises:
      InputError: while reading, when the compressed stream is corrupt or ends too early.
    """
    with open_plain(file) as plain:
        if file.codec is None:
            yield plain
            return
        try:
            with pa.CompressedInputStream(plain, file.codec) as stream:
                yield stream
        except OSError as error:
            raise InputError(f"{file.uri}: the {file.codec} stream is truncated or corrupt: {error}") from error
