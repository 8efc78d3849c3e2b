"""Files of a local folder that are set aside until others are in their place, so that a kill on the way loses none.

They lie in a folder beside their places, so on the same disk, and each step is one rename. How far it is stands in the
name of that folder, which takes no space on a disk that is full::

    .replaced-<run>.part/    some of the files; the others are where they were, and nothing that is new is there
    .replaced-<run>/         all of the files; what is in their places is new
    .tmp-replaced-<run>/     what nobody needs any more

An empty folder in them stands for an empty one of others, which stays.

Who changes it holds a lock (`penstock.io.files.atomic.locks`). The run may own a folder `.tmp-<run>`
(`penstock.io.files.owned`), which tells whether it is at work.
"""

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Callable, Iterable

from penstock.io.files.folders import delete_files, list_files
from penstock.io.files.owned import is_owned
from penstock.io.files.paths import is_local_directory
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

STAGING_PREFIX = ".tmp-"
REPLACED_PREFIX = ".replaced-"
_GONE_PREFIX = f"{STAGING_PREFIX}replaced-"
_PART = ".part"


@dataclasses.dataclass(frozen=True)
class Aside:
    """What a run has set aside of a folder, or will.

    Attributes:
      folder: the folder that the files are in, on this machine.
      run: names the run.
    """

    folder: str
    run: str

    @property
    def place(self) -> str:
        """The folder that holds all of the files."""
        return os.path.join(self.folder, REPLACED_PREFIX + self.run)

    @property
    def is_whole(self) -> bool:
        """Whether all of the files are set aside, so that what is in their places is new."""
        return os.path.isdir(self.place)

    @property
    def is_begun(self) -> bool:
        """Whether some of the files are set aside, or all."""
        return self.is_whole or os.path.isdir(self.place + _PART)

    @property
    def modified(self) -> float:
        """When files were last moved there, seconds since 1970; 0 for nothing."""
        for place in (self.place, self.place + _PART):
            with contextlib.suppress(OSError):
                return os.stat(place).st_mtime
        return 0.0

    def set_aside(self, paths: Iterable[str]) -> None:
        """Sets files aside, relative to the folder, in this order; goes on where an earlier call was stopped.

        Raises:
          StorageError: when one cannot be moved; what was moved by then stays where it is.
        """
        part, moved = self.place + _PART, list(paths)
        if self.is_whole or not (moved or self.is_begun):
            return
        with writing(part, OUTPUT_REMEDY):
            os.makedirs(part, exist_ok=True)
            if not list_files(part):
                for path in _empty_folders(self.folder):
                    os.makedirs(os.path.join(part, path), exist_ok=True)
        for path in moved:
            _move(os.path.join(self.folder, path), os.path.join(part, path))
        _prune(self.folder, part)
        with writing(self.place, OUTPUT_REMEDY):
            os.rename(part, self.place)

    def put_back(self, new: Iterable[str], is_last: Callable[[str], bool]) -> None:
        """Puts the files back, and deletes the new ones before that; goes on where an earlier call was stopped.

        Args:
          new: what is in the folder if all was set aside, relative to it.
          is_last: says of which files that they come after all others.

        Raises:
          FileExistsError: when somebody else has put a file in the place of one; nothing is overwritten.
          StorageError: when one cannot be moved or deleted.
        """
        part = self.place + _PART
        if not self.is_begun:
            return
        if self.is_whole:
            with writing(self.folder, OUTPUT_REMEDY):
                delete_files(self.folder, list(new))
                os.rename(self.place, part)
        paths = sorted(list_files(part), key=lambda path: (is_last(path), path))
        for path in paths:
            place = os.path.join(self.folder, path)
            if os.path.lexists(place):
                raise FileExistsError(
                    f"{place}: is there already, and was not when {os.path.join(part, path)} was made"
                )
            _move(os.path.join(part, path), place)
        _prune(self.folder, part)
        for folder, _, _ in os.walk(part, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)

    def drop(self) -> None:
        """Deletes the files, once others are in their places; what cannot be deleted is left for `sweep`."""
        if self.is_whole:
            with writing(self.place, OUTPUT_REMEDY):
                os.rename(self.place, os.path.join(self.folder, f"{_GONE_PREFIX}{self.run}"))
        sweep(self.folder)


def asides(folder: str) -> list[Aside]:
    """Returns what runs have set aside of a folder; nothing for a folder of a store."""
    names = (name.removesuffix(_PART) for name in _beginning_with(REPLACED_PREFIX, folder))
    return [Aside(folder, name.removeprefix(REPLACED_PREFIX)) for name in names]


def sweep(folder: str) -> None:
    """Deletes what was set aside and is needed no more."""
    for name in _beginning_with(_GONE_PREFIX, folder):
        shutil.rmtree(os.path.join(folder, name), ignore_errors=True)


def told_of(folder: str) -> str | None:
    """Says in a sentence that a folder lacks files because a run has set them aside; None where none has."""
    for aside in asides(folder):
        if is_owned(os.path.join(folder, STAGING_PREFIX + aside.run)):
            return f"the run {aside.run} is replacing the dataset: wait until it has ended"
        return (
            f"the run {aside.run} was to replace the dataset and has not ended; the old one is kept in "
            f"{os.path.basename(aside.place)}*: if no job is at work, penstock verify --dataset {folder} --clean puts "
            "it back, and so does the next job with --overwrite"
        )
    return None


def _beginning_with(prefix: str, folder: str) -> list[str]:
    if not is_local_directory(folder):
        return []
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.name.startswith(prefix))


def _move(source: str, target: str) -> None:
    with writing(target, OUTPUT_REMEDY):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.rename(source, target)


def _prune(folder: str, aside: str) -> None:
    """Removes the empty folders inside a folder, but for those that stand in another one."""
    while gone := [path for path in _empty_folders(folder) if not _is_empty(os.path.join(aside, path))]:
        for path in gone:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(folder, path))
        if any(os.path.lexists(os.path.join(folder, path)) for path in gone):
            return


def _empty_folders(folder: str) -> list[str]:
    """The paths of the empty folders inside a folder; hidden ones directly in it are of jobs."""
    with os.scandir(folder) as entries:
        inner = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name[0] != "."]
    found = (below for path in inner for below, folders, files in os.walk(path) if not (folders or files))
    return [os.path.relpath(path, folder) for path in found]


def _is_empty(folder: str) -> bool:
    return os.path.isdir(folder) and not os.listdir(folder)
