"""Local folders that say whether their owner still runs, so that the next run removes what a killed one left behind.

An owner holds a lock (`flock`) on a file in the folder for as long as it works there. The system releases the lock
however a process ends, and no other process can be taken for the owner, as could happen with the number of a process.
The file names the machine: on a disk that several machines share, only those of the owner's machine judge the lock.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
from collections.abc import Iterable, Iterator

from penstock.io.files.paths import walk_files

_LOCK = "owner.lock"

# Containers on one machine have different host names, and share its kernel, which knows all locks.
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


@contextlib.contextmanager
def owning(directory: str) -> Iterator[None]:
    """Owns a local folder for the block, and creates it if it is missing.

    Raises:
      BlockingIOError: when another process owns it, or takes a new folder for abandoned: try another one.
      OSError: when the folder cannot be created or written to.
    """
    os.makedirs(directory, exist_ok=True)
    lock = _lock(directory)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.remove(os.path.join(directory, _LOCK))
        os.close(lock)


def _lock(directory: str) -> int:
    """Returns the descriptor of the lock file of a folder, locked until it is closed."""
    path = os.path.join(directory, _LOCK)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        _sign(descriptor, path)
        _hold(descriptor, directory)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _sign(descriptor: int, path: str) -> None:
    try:
        os.write(descriptor, _machine().encode())
    except OSError as error:  # which names no file, as of a full disk
        raise OSError(error.errno, error.strerror, path) from error


def _hold(descriptor: int, directory: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a filesystem without locks, on which nobody can find out that this is free
        return
    if not os.fstat(descriptor).st_nlink:  # removed between the two steps
        raise BlockingIOError(errno.EWOULDBLOCK, "was removed by another process", directory)


def _machine() -> str:
    boot = ""
    with contextlib.suppress(OSError), open(_BOOT_ID) as file:
        boot = file.read().strip()
    return f"{socket.gethostname()}\n{boot}\n"


def remove_abandoned(directories: Iterable[str]) -> dict[str, int]:
    """Removes those local folders whose owner has ended without removing them; returns the bytes that each had.

    It leaves alone what is no folder, what belongs to another user, what never had an owner, and what another machine
    owns.
    """
    removed = {}
    for directory in directories:
        with _taken_over(directory) as is_ours:
            if is_ours:
                with contextlib.suppress(OSError):  # it may go at any time
                    removed[directory] = sum(file.size for file in walk_files(directory))
                _remove(directory)
    return removed


def is_abandoned(directory: str) -> bool:
    """Whether `remove_abandoned` would remove a folder now."""
    with _taken_over(directory) as is_ours:
        return is_ours


def is_owned(directory: str) -> bool:
    """Whether a process of this machine owns a local folder now."""
    try:
        descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return _is_of_this_machine(os.read(descriptor, 1024)) and not _is_free(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _taken_over(directory: str) -> Iterator[bool]:
    """Holds the lock of a folder whose owner has ended; yields whether this is one."""
    try:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError
        descriptor = os.open(os.path.join(directory, _LOCK), os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        yield _is_of_this_machine(os.read(descriptor, 1024)) and _is_free(descriptor)
    finally:
        os.close(descriptor)


def _is_of_this_machine(content: bytes) -> bool:
    # A file that is still empty is of an owner that has just begun.
    own, other = _machine().split("\n"), content.decode(errors="replace").split("\n")
    return any(mine and mine == its for mine, its in zip(own, other, strict=False))


def _is_free(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _remove(directory: str) -> None:
    """Removes a folder, the lock file last: whoever is killed on the way leaves what the next one can remove."""
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif entry.name != _LOCK:
                with contextlib.suppress(OSError):
                    os.remove(entry.path)
    shutil.rmtree(directory, ignore_errors=True)
