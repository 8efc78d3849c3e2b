"""Locks by name that outlive no process: one holder at a time, in this process and on this machine.

A lock is a file that is held with `flock`. The system releases it however a process ends, so a killed holder blocks
nobody; the file that it leaves is taken over by the next holder, who removes it. On a disk that several machines share,
the lock holds as far as the filesystem carries `flock` over: NFS does so unless it is mounted with `nolock` or
`local_lock`. A store has no locks: a path with a scheme is locked in this process alone.
"""

import contextlib
import dataclasses
import fcntl
import logging
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator

from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

_LOGGER = logging.getLogger(__name__)

# A holder renames a few files, which takes milliseconds: whoever waits for so long may wait for a stopped process.
_PATIENCE_SECONDS = 60.0

_FIRST_DELAY_SECONDS, _MAX_DELAY_SECONDS = 0.001, 0.05


class _Turn:
    """The threads of this process, one after the other."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0


@dataclasses.dataclass
class _Turns:
    """The locks that threads hold or wait for, by path; others are forgotten."""

    guard: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    by_path: weakref.WeakValueDictionary[str, _Turn] = dataclasses.field(default_factory=weakref.WeakValueDictionary)

    def of(self, path: str) -> _Turn:
        with self.guard:
            turn = self.by_path.get(path)
            if turn is None:
                turn = self.by_path[path] = _Turn()
            return turn


_turns = _Turns()


def _forget() -> None:
    global _turns
    _turns = _Turns()


# The threads that hold locks do not live on in a fork.
os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Holds the lock `path` for the block, after whoever holds it now; a thread may hold it several times.

    Raises:
      StorageError: when the file of the lock cannot be created.
    """
    turn = _turns.of(path)
    with turn.lock, contextlib.ExitStack() as stack:
        if is_local(path) and not turn.depth:
            stack.enter_context(_held(path))
        turn.depth += 1
        try:
            yield
        finally:
            turn.depth -= 1


@contextlib.contextmanager
def _held(path: str) -> Iterator[None]:
    with writing(path, OUTPUT_REMEDY):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        descriptor = _acquire(path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # removed while it is held, so that nobody else's file is
            os.remove(path)
        os.close(descriptor)


def _acquire(path: str) -> int:
    """Returns the descriptor of a lock's file; it is locked until it is closed."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            _wait(descriptor, path)
            if _is_at(descriptor, path):  # else the holder before removed it
                _sign(descriptor)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _wait(descriptor: int, path: str) -> None:
    begun, delay = time.monotonic(), _FIRST_DELAY_SECONDS
    is_told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(delay)
        except OSError:  # a filesystem without locks
            return
        delay = min(2 * delay, _MAX_DELAY_SECONDS)
        if not is_told and time.monotonic() - begun > _PATIENCE_SECONDS:
            holder = os.pread(descriptor, 1024, 0).decode(errors="replace").strip() or "another process"
            _LOGGER.warning(
                "%s: has waited %.0f s for %s, which holds this lock; if that process hangs, end it",
                path, _PATIENCE_SECONDS, holder,
            )  # fmt: skip
            is_told = True


def _is_at(descriptor: int, path: str) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    return False


def _sign(descriptor: int) -> None:
    """Names the holder in the file, for those who wait."""
    with contextlib.suppress(OSError):  # of a full disk
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
