"""Input files: matching patterns, and opening what may be compressed, wherever they lie."""

import contextlib
import dataclasses
import functools
import io
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.errors import InputError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import (
    data_files,
    is_folder,
    is_left_out,
    is_local,
    is_local_directory,
    is_pattern,
    no_match,
)
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


@dataclasses.dataclass(frozen=True)
class FoundFiles:
    """The files that patterns and folders name.

    Attributes:
      files: each once, sorted by URI.
      in_folders: URIs of those that no pattern matches: they lie in a folder that is named as a whole.
      left_out: files that a pattern matches, but whose names, or folders' names, begin with `_` or `.`; sorted.
    """

    files: tuple[InputFile, ...]
    in_folders: frozenset[str] = frozenset()
    left_out: tuple[str, ...] = ()


def match_files(patterns: Sequence[str], may_be_none: bool = False) -> tuple[InputFile, ...]:
    """Lists all files that the patterns match, each once, sorted by URI.

    A `*` stands for a part of a name, `**` for any folders too, none included. Neither stands for a name that begins
    with `_` or `.`, unless the pattern spells that.

    Raises:
      InputError: for a pattern that names a directory, or matches nothing, unless there `may_be_none`.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    for pattern in patterns:
        if is_local_directory(pattern):
            raise is_folder(pattern)
    return find_files(patterns, may_be_none).files


def find_files(patterns: Sequence[str], may_be_none: bool = False) -> FoundFiles:
    """Lists all files that the patterns match, and for a folder all files below it; as `match_files` otherwise.

    Files whose names, or folders' names, begin with `_` or `.` are left out. A pattern that matches no file stands for
    the folders that it matches.

    Raises:
      InputError: for a pattern that matches nothing, and a folder without files, unless there `may_be_none`.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    matched: dict[str, InputFile] = {}
    contained: dict[str, InputFile] = {}
    left_out: set[str] = set()
    for pattern in patterns:
        files, hidden = _match(pattern) if not _names_folder(pattern) else ([], [])
        below = [] if files or hidden else _files_below(pattern)
        if not files and not below and not may_be_none:
            raise no_match(pattern, example=next(iter(hidden), ""))
        matched |= {file.uri: file for file in files}
        contained |= {file.uri: file for file in below}
        left_out |= set(hidden)
    in_folders = frozenset(contained.keys() - matched.keys())
    return FoundFiles(tuple(sorted((contained | matched).values())), in_folders, tuple(sorted(left_out)))


def _names_folder(pattern: str) -> bool:
    return is_local_directory(pattern) or (pattern.endswith("/") and not is_pattern(pattern))


def _match(pattern: str) -> tuple[list[InputFile], list[str]]:
    """Returns the files that a pattern matches, and the URIs of those that it leaves out."""
    check_filesystem(pattern)
    if is_local(pattern) and os.path.isfile(pattern):  # its name may have brackets in it
        return [stat_file(pattern)], []
    found: dict[str, InputFile] = {}
    hidden: set[str] = set()
    for text in _with_no_folders(pattern):
        for file in _listed(text):
            if is_left_out(file.uri, text):
                hidden.add(file.uri)
            else:
                found[file.uri] = file
    return list(found.values()), sorted(hidden - found.keys())


def _with_no_folders(pattern: str) -> list[str]:
    """Returns a pattern, and what it is where each `/**/` stands for no folder: to Beam it stands for one at least.

    >>> _with_no_folders("in/**/*.csv")
    ['in/**/*.csv', 'in/*.csv']
    """
    head, deep, tail = pattern.partition("/**/")
    if not deep:
        return [pattern]
    return [f"{head}{between}{rest}" for rest in _with_no_folders(tail) for between in ("/**/", "/")]


def _files_below(pattern: str) -> list[InputFile]:
    """Lists the files of a folder, or of all folders that a pattern matches."""
    if is_local_directory(pattern):
        return [stat_file(path) for path in data_files(pattern)]
    check_filesystem(pattern)
    below = pattern.rstrip("/") + "/**"
    return [file for file in _listed(below) if not is_left_out(file.uri, below)]


def _listed(pattern: str) -> Iterator[InputFile]:
    # Beam lists nothing for a relative pattern whose first folder is a pattern itself.
    here = "./" if is_local(pattern) and is_pattern(pattern.partition("/")[0]) else ""
    _small_object.cache_clear()  # what begins now reads what is there now
    try:
        found = stores.match(here + pattern)
    except OSError as error:
        raise InputError(f"cannot list {pattern}: {error}") from error
    for entry in found:
        # Consoles of object stores make empty objects that look like folders.
        if not entry.path.endswith("/") and not is_local_directory(entry.path):
            file = _input_file(entry)
            yield dataclasses.replace(file, uri=file.uri.removeprefix(here))


def stat_file(uri: str) -> InputFile:
    """Returns a file as it is now.

    Raises:
      InputError: when it is gone or cannot be looked at.
    """
    try:
        return _input_file(stores.stat(uri))
    except OSError as error:
        raise InputError(f"{uri}: the file is gone or cannot be read") from error


def _input_file(entry: stores.Entry) -> InputFile:
    try:
        entry.path.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{entry.path!a}: the name of the file is not UTF-8; rename it") from error
    return InputFile(entry.path, entry.size, entry.modified)


@contextlib.contextmanager
def open_plain(file: InputFile) -> Iterator[pa.PythonFile]:
    """Opens the bytes of a file as they are stored; the stream can seek where the filesystem can."""
    with open_raw(file) as raw:
        yield pa.PythonFile(raw, mode="r")


@contextlib.contextmanager
def open_raw(file: InputFile) -> Iterator["CountedReads"]:
    """The same as Python's file object, which copies once less; a read may give less than was asked for."""
    with _open(file) as raw:
        yield CountedReads(raw)


def _open(file: InputFile) -> BinaryIO:
    """Opens a file; a small object comes once, though its header and its rows are read again and again."""
    if stores.is_object(file.uri) and 0 < file.size <= _SMALL_BYTES:
        return io.BytesIO(_small_object(file, time.monotonic() // _KEPT_SECONDS))
    return stores.open_file(file.uri, file.size)


# Sixteen MiB are kept in all, and not for long: a store's time of change has whole seconds.
_SMALL_BYTES, _KEPT_SECONDS = 1 << 18, 60.0


@functools.lru_cache(maxsize=64)
def _small_object(file: InputFile, kept_in: float) -> bytes:
    """The bytes of a file as it was when it was listed; whether it still is so, its readers ask apart."""
    return stores.open_file(file.uri, file.size).read()


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
