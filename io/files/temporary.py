"""Where temporary files of this process lie: in one folder, which the next run removes if this process is killed.

The folder lies in the system's folder for temporary files (`TMPDIR`), or where `spilling_to` says.
"""

import atexit
import contextlib
import glob
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator

from penstock.io.files.owned import owning, remove_abandoned

_PREFIX = "penstock-spill-"

_lock = threading.Lock()
# Of this process: the folder of each base, and what removes it.
_folders: dict[tuple[int, str], tuple[str, contextlib.ExitStack]] = {}
_base: str | None = None


def spill_base() -> str | None:
    """Returns the folder that `spilling_to` names; None outside of it."""
    return _base


@contextlib.contextmanager
def spilling_to(directory: str | None) -> Iterator[None]:
    """Puts the temporary folders of the block's threads below `directory`; None leaves them where they are."""
    global _base
    before = _base
    _base = before if directory is None else os.path.abspath(directory)
    try:
        yield
    finally:
        _base = before


def process_folder() -> str:
    """Returns the folder for all temporary files of this process; it stays until `remove_process_folder` or the end.

    Raises:
      OSError: when it cannot be created.
    """
    base = _base or _system_base()
    os.makedirs(base, exist_ok=True)
    key = (os.getpid(), base)  # a fork has a folder of its own
    with _lock:
        if key not in _folders or not os.path.isdir(_folders[key][0]):
            _folders[key] = _new_folder(base)
        return _folders[key][0]


def _system_base() -> str:
    """The system's folder for temporary files, also where this process has made its own folder the default."""
    found = tempfile.gettempdir()
    return os.path.dirname(found) if os.path.basename(found).startswith(_PREFIX) else found


def _new_folder(base: str) -> tuple[str, contextlib.ExitStack]:
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=base)
        stack = contextlib.ExitStack()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        with contextlib.suppress(BlockingIOError):  # another run took it for abandoned before it was locked
            stack.enter_context(owning(folder))
            return folder, stack


@contextlib.contextmanager
def default_folder(directory: str) -> Iterator[None]:
    """Makes a folder the default for temporary files of this whole process, and of those that it starts.

    What libraries leave there goes with the folder, also when the process is killed.
    """
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    tempfile.tempdir = os.environ["TMPDIR"] = directory
    try:
        yield
    finally:
        tempfile.tempdir = before[0]
        if before[1] is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = before[1]


def remove_process_folder() -> None:
    """Removes the folders of this process with all that is in them."""
    with _lock:
        own = [key for key in _folders if key[0] == os.getpid()]
        for key in own:
            _folders.pop(key)[1].close()


atexit.register(remove_process_folder)


@contextlib.contextmanager
def temporary_folder() -> Iterator[str]:
    """A new folder on this machine's disk for the block, which is removed at its end.

    Raises:
      OSError: when it cannot be created.
    """
    with tempfile.TemporaryDirectory(dir=process_folder(), ignore_cleanup_errors=True) as directory:
        yield directory


def remove_abandoned_spill() -> dict[str, int]:
    """Removes the folders of processes of this user that were killed; returns their bytes as stored, by path."""
    return remove_abandoned(glob.glob(os.path.join(glob.escape(_base or _system_base()), f"{_PREFIX}*")))
