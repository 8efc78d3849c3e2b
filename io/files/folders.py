"""Folders of files wherever they lie: with directories (local) and without (object stores).

Beam takes `*`, `?` and `[` in any path for a pattern, even when it deletes. Local folders are therefore handled without
Beam: their names may hold any character.
"""

import concurrent.futures
import contextlib
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Self

from penstock.io.files import stores
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import FileEntry, is_local, walk_files
from penstock.io.files.system_errors import OUTPUT_REMEDY, SPILL_REMEDY, writing
from penstock.io.files.temporary import process_folder, temporary_folder

_COPY_BYTES = 1 << 20


def list_files(directory: str) -> dict[str, int]:
    """Lists all files below a folder, recursively: relative path to size in bytes; empty where there is no folder.

    Links are listed, not followed, unless they lead to files.

    Raises:
      OSError: when the folder cannot be listed.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    return {entry.path: entry.size for entry in list_entries(directory)}


def list_entries(directory: str) -> Iterator[FileEntry]:
    """Lists all files below a folder as `list_files` does, with their times; a file that goes meanwhile is left out.

    Raises:
      OSError: when the folder cannot be listed.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    check_filesystem(directory)
    if is_local(directory):
        yield from walk_files(directory)
        return
    root = directory.rstrip("/") + "/"
    for found in stores.files_below(directory):
        # Consoles of object stores make empty objects that look like folders.
        if not found.path.endswith("/"):
            yield FileEntry(found.path.removeprefix(root), found.size, found.modified)


def copy_folder(source: str, target: str) -> None:
    """Copies all files below a folder, through this machine."""
    for path, size in list_files(source).items():
        origin, copy = (stores.join(folder, *path.split("/")) for folder in (source, target))
        copy_file(origin, copy, size)


def copy_file(source: str, target: str, size: int | None = None) -> None:
    """Copies a file, through this machine; `size` is known of it, in bytes."""
    with (
        stores.open_file(source, size, until=size) as reader,
        writing(target, OUTPUT_REMEDY),
        stores.create_file(target) as writer,
    ):
        shutil.copyfileobj(reader, writer, _COPY_BYTES)


def local_copy(folder: str) -> str:
    """Returns a folder of this machine with the same files, for libraries that know no stores.

    A copy of what lies in a store stays until this process ends.
    """
    if is_local(folder):
        return folder
    copy = tempfile.mkdtemp(dir=process_folder())
    copy_folder(folder, copy)
    return copy


@contextlib.contextmanager
def local_file(path: str, size: int | None = None) -> Iterator[str]:
    """Yields the path of a file on this machine: its own, or that of a copy which is removed at the end.

    Raises:
      OSError: when there is none, or it cannot be read.
      StorageError: when the copy cannot be written.
    """
    if is_local(path):
        yield path
        return
    with temporary_folder() as directory:
        yield _fetch(path, size, directory)


def _fetch(path: str, size: int | None, directory: str) -> str:
    copy = os.path.join(directory, stores.split(path)[1])  # suffixes say what a file is
    with stores.open_file(path, size, until=size) as source, writing(copy, SPILL_REMEDY), open(copy, "wb") as target:
        shutil.copyfileobj(source, target, _COPY_BYTES)
    return copy


class FetchedAhead:
    """Files that are needed on this machine one after the other: the next ones come while one of them is at work.

    Fetched ahead are at most 64 files and 64 MiB, and always one. A block (`with`) ends with no file left.

    Args:
      files: their sizes in bytes by path, in the order in which they are needed.
    """

    def __init__(self, files: Mapping[str, int]):
        self._files = iter([(path, size) for path, size in files.items() if not is_local(path)])
        self._coming: dict[str, tuple[int, concurrent.futures.Future[str]]] = {}
        self._stack = contextlib.ExitStack()
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None  # none for files of this machine

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def local_file(self, path: str) -> Iterator[str]:
        """Yields the path of one of the files on this machine: its own, or that of a copy.

        Raises:
          OSError: when there is none, or it cannot be read.
          StorageError: when the copy cannot be written.
        """
        if is_local(path):
            yield path
            return
        while path not in self._coming:
            if not self._fetch_next():
                raise KeyError(path)
        _, coming = self._coming.pop(path)
        while len(self._coming) < _MAX_FETCHED and sum(size for size, _ in self._coming.values()) < _MAX_FETCHED_BYTES:
            if not self._fetch_next():
                break
        copy = coming.result()
        try:
            yield copy
        finally:
            os.remove(copy)

    def _fetch_next(self) -> bool:
        path, size = next(self._files, ("", 0))
        if not path:
            return False
        if self._pool is None:
            self._directory = self._stack.enter_context(temporary_folder())
            self._pool = concurrent.futures.ThreadPoolExecutor(_MAX_FETCHED, "fetch")
            self._stack.callback(self._pool.shutdown, cancel_futures=True)
        directory = tempfile.mkdtemp(dir=self._directory)
        self._coming[path] = size, self._pool.submit(_fetch, path, size, directory)
        return True


_MAX_FETCHED, _MAX_FETCHED_BYTES = 64, 64 << 20


def move_folder(source: str, target: str) -> None:
    """Moves a folder, to this machine or to a store, in place of what is there."""
    remove_folder(target)
    if is_local(source) and is_local(target):
        os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
        shutil.move(source, target)
        return
    copy_folder(source, target)
    remove_folder(source)


def replace_file(path: str, content: bytes, staged: str, content_type: str = "application/octet-stream") -> None:
    """Writes a file that nobody sees a part of: in an object store at once, else as `staged`, which is renamed then.

    Raises:
      StorageError: when it cannot be written.
    """
    with writing(path, OUTPUT_REMEDY):
        if stores.is_object(path):
            stores.write_file(path, content, content_type)
            return
        stores.write_file(staged, content, content_type)
    move_files({staged: path})


def move_files(moves: Mapping[str, str]) -> None:
    """Renames files, source to target, and replaces files that are there."""
    remote = {source: target for source, target in moves.items() if not is_local(source)}
    for source in moves.keys() - remote.keys():
        with writing(moves[source], OUTPUT_REMEDY):
            os.makedirs(os.path.dirname(moves[source]) or ".", exist_ok=True)
            os.replace(source, moves[source])
    stores.move(remote)


def delete_files(directory: str, paths: Collection[str]) -> None:
    """Deletes files of a folder, and folders inside it that are empty then. A file that is gone already is skipped."""
    if not is_local(directory):
        stores.delete([stores.join(directory, path) for path in paths])
        return
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(directory, path))
    for folder in sorted({parent for path in paths for parent in _parents(path)}, key=len, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(os.path.join(directory, folder))


def _parents(path: str) -> Iterable[str]:
    while path := os.path.dirname(path):
        yield path


def remove_folder(directory: str) -> None:
    """Removes a folder with all that is in it, if there is one."""
    if is_local(directory):
        shutil.rmtree(directory, ignore_errors=True)
    else:
        delete_files(directory, list_files(directory))
