"""Folders of files on every filesystem that Beam knows: with directories (local) and without (object stores).

Beam takes `*`, `?` and `[` in any path for a pattern, even when it deletes. Local folders are therefore handled without
Beam: their names may hold any character.
"""

import contextlib
import os
import shutil
from collections.abc import Collection, Iterable, Mapping

from apache_beam.io.filesystems import FileSystems

from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import is_local, walk_files
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing


def list_files(directory: str) -> dict[str, int]:
    """Lists all files below a folder, recursively: relative path to size in bytes; empty where there is no folder.

    Links are listed, not followed, unless they lead to files.

    Raises:
      OSError: when the folder cannot be listed.
      ConfigError: for a filesystem that cannot be reached from here.
    """
    check_filesystem(directory)
    if is_local(directory):
        return dict(walk_files(directory))
    root = directory.rstrip("/") + "/"
    found = FileSystems.match([root + "**"])[0].metadata_list
    # Consoles of object stores make empty objects that look like folders.
    return {meta.path.removeprefix(root): meta.size_in_bytes for meta in found if not meta.path.endswith("/")}


def copy_folder(source: str, target: str) -> None:
    """Copies all files below a folder."""
    for path in list_files(source):
        origin, copy = (FileSystems.join(folder, *path.split("/")) for folder in (source, target))
        with (
            FileSystems.open(origin, compression_type="uncompressed") as reader,
            writing(copy, OUTPUT_REMEDY),
            FileSystems.create(copy, compression_type="uncompressed") as writer,
        ):
            shutil.copyfileobj(reader, writer)


def move_files(moves: Mapping[str, str]) -> None:
    """Renames files, source to target, and replaces files that are there."""
    remote = {source: target for source, target in moves.items() if not is_local(source)}
    for source in moves.keys() - remote.keys():
        with writing(moves[source], OUTPUT_REMEDY):
            os.makedirs(os.path.dirname(moves[source]) or ".", exist_ok=True)
            os.replace(source, moves[source])
    FileSystems.rename(list(remote), list(remote.values()))


def delete_files(directory: str, paths: Collection[str]) -> None:
    """Deletes files of a folder, and folders inside it that are empty then. A file that is gone already is skipped."""
    if not is_local(directory):
        FileSystems.delete([FileSystems.join(directory, path) for path in paths])
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
