"""Input files: matching patterns, and opening what may be compressed, wherever they lie."""

import contextlib
import dataclasses
import datetime
import functools
import io
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, BinaryIO

import google_crc32c
import pyarrow as pa

from penstock.io.beam import progress
from penstock.io.errors import ChangedFileError, InputError
from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import (
    check_regular,
    data_files,
    is_folder,
    is_left_out,
    is_local,
    is_local_directory,
    is_pattern,
    no_match,
)
from penstock.io.files.stores.reading import in_parallel
from penstock.io.files.suffixes import codec_of


@dataclasses.dataclass(frozen=True, order=True)
class InputFile:
    """One file as it was when the job began.

    Attributes:
      uri: where it is.
      size: bytes.
      mtime: its last change, in seconds since the epoch, UTC; 0 where that is not known.
      version: what tells its content from any other (`penstock.io.files.stores.Entry`); empty where that is not known.
      crc32c: CRC32C of its bytes as they are stored, 8 hex digits, where a manifest says it; else empty.
    """

    uri: str
    size: int
    mtime: float
    version: str = ""
    crc32c: str = ""

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


def find_each(uris: Collection[str]) -> dict[str, InputFile]:
    """Finds the objects of stores among these URIs, which are no patterns: all at once, each with a request of its own.

    Raises:
      InputError: when a store does not say whether there is one.
      ConfigError: for a store that cannot be reached from here.
    """
    objects = [uri for uri in uris if stores.is_object(uri)]
    for uri in objects:
        check_filesystem(uri)
    try:
        found = stores.stat_all(objects)
    except OSError as error:
        raise InputError(f"an input cannot be found: {error}") from error
    return {uri: _input_file(entry) for uri, entry in found.items()}


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
    if not found and not hidden and is_pattern(pattern):  # it may be the name of an object
        found = find_each([pattern])
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
    forget_contents()
    try:
        found = stores.match(here + pattern)
    except OSError as error:
        raise InputError(f"cannot list {pattern}: {error}") from error
    for entry in found:
        # Consoles of object stores make empty objects that look like folders.
        if not entry.path.endswith("/") and not is_local_directory(entry.path):
            file = _input_file(entry)
            yield dataclasses.replace(file, uri=file.uri.removeprefix(here))


def forget_contents() -> None:
    """Forgets the beginnings of objects that are kept: what begins now reads what is there now."""
    _head.cache_clear()


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
    if is_local(entry.path):
        check_regular(entry.path.removeprefix("./"))
    return InputFile(entry.path, entry.size, entry.modified, entry.version)


def check_unchanged(file: InputFile) -> None:
    """Checks that a file is as it was when it was matched.

    Nothing is asked of an object whose version is known: whatever is read of it is of that version, or fails.

    Raises:
      InputError: when its size, time or version has changed.
    """
    if file.version and stores.is_object(file.uri):
        return
    now = stat_file(file.uri)
    if now.size != file.size:
        raise _changed(file, f"{file.size} bytes at the start, {now.size} now")
    if not _is_same(now, file):
        raise _changed(file, f"written at {_time(file.mtime)} at the start, at {_time(now.mtime)} now")


def _is_same(now: InputFile, before: InputFile) -> bool:
    if before.version:
        return now.version == before.version
    # Of an object without a version an inventory has told, whose times have other fractions, or none at all.
    is_told = stores.is_object(before.uri)
    return now.mtime == before.mtime or (is_told and int(before.mtime) in (0, int(now.mtime)))


def check_crc32c(file: InputFile) -> None:
    """Reads a file whose CRC32C is known, and checks it; does nothing for other files, nor for one that was right.

    Raises:
      InputError: when it has another one.
    """
    if file.crc32c and (found := _crc32c(file)) != file.crc32c:
        raise InputError(
            f"{file.uri}: its CRC32C is {found}, and must be {file.crc32c}, as the manifest of its dataset says: it is "
            "damaged; penstock verify says what else is"
        )


@functools.lru_cache(maxsize=4096)
def _crc32c(file: InputFile) -> str:
    checksum = google_crc32c.Checksum()
    with _telling_change(file), _open(file, file.size) as raw:
        while data := raw.read(_CHECKED_BYTES):
            checksum.update(data)
    return str(checksum.digest().hex())


_CHECKED_BYTES = 1 << 20


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat()


def _changed(file: InputFile, how: str) -> InputError:
    return InputError(f"{file.uri} changed while it was read: {how}; run the job again when the file is complete")


def _replaced(file: InputFile) -> InputError:
    return _changed(file, f"it is no longer version {file.version}, as it was at the start, or in a list that names it")


@contextlib.contextmanager
def _telling_change(file: InputFile) -> Iterator[None]:
    try:
        yield
    except ChangedFileError as error:
        raise _replaced(file) from error


@contextlib.contextmanager
def open_plain(file: InputFile) -> Iterator[pa.PythonFile]:
    """Opens the bytes of a file as they are stored; the stream can seek where the filesystem can."""
    with open_raw(file) as raw:
        yield pa.PythonFile(raw, mode="r")


@contextlib.contextmanager
def open_raw(file: InputFile, until: int | None = None) -> Iterator["CountedReads"]:
    """The same as Python's file object, which copies once less; a read may give less than was asked for.

    Args:
      file: the file.
      until: the byte up to which it will be read in order, from the first one that is read; None if that is not known.
    """
    with _telling_change(file), _open(file, until) as raw:
        yield CountedReads(file, raw)


def _open(file: InputFile, until: int | None = None) -> BinaryIO:
    """Opens a file. The beginning of an object comes once: each part looks at the header, or is all of a small one."""
    if not stores.is_object(file.uri) or not file.size:
        return stores.open_file(file.uri, file.size, file.version)
    head = functools.partial(_head, file, _kept_in(file))
    if file.size <= stores.HEAD_BYTES:
        return io.BytesIO(head())
    return stores.open_file(file.uri, file.size, file.version, until, None if until else head)


def fetch_small(files: Iterable[InputFile]) -> None:
    """Fetches small objects side by side, before they are read; what fails here is told when they are."""

    def fetch(file: InputFile) -> None:
        with contextlib.suppress(OSError):
            _head(file, _kept_in(file))

    in_parallel(fetch, [file for file in files if is_small(file)])


def grouped(files: Sequence[InputFile]) -> Iterator[list[int]]:
    """Yields the indices of files that `fetch_small` should fetch together; of each other file, its own."""
    group: list[int] = []
    for index, file in enumerate(files):
        if not is_small(file):
            yield [index]
            continue
        if len(group) == _MAX_GROUP or sum(files[one].size for one in group) > _MAX_GROUP_BYTES:
            yield group
            group = []
        group.append(index)
    if group:
        yield group


def is_small(file: InputFile) -> bool:
    """Whether a file is an object that comes with one request."""
    return stores.is_object(file.uri) and 0 < file.size <= stores.HEAD_BYTES


# As much as the smallest part of a text file: what a worker does at a time should be little beside all of it.
_MAX_GROUP, _MAX_GROUP_BYTES = 32, 4 << 20


def _kept_in(file: InputFile) -> float:
    """Which minute it is, if no version tells what the bytes are: times of stores have whole seconds."""
    return 0.0 if file.version else time.monotonic() // 60


@functools.lru_cache(maxsize=128)  # 32 MiB at most
def _head(file: InputFile, kept_in: float) -> bytes:
    """The first bytes of a file as it was when it was listed."""
    return stores.open_file(file.uri, file.size, file.version, stores.HEAD_BYTES).read(stores.HEAD_BYTES)


class CountedReads:
    """A file object that tells the progress bar how many bytes were read, and names a file that changed meanwhile."""

    def __init__(self, file: InputFile, raw: BinaryIO):
        self._file = file
        self._raw = raw

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, or all.

        Raises:
          InputError: when the object has another version than when it was listed.
        """
        try:
            data = self._raw.read(size)
        except ChangedFileError as error:  # of an OSError, a library that reads would say that the file is damaged
            raise _replaced(self._file) from error
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
