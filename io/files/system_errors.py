"""Errors of the operating system as a user can act on them: the path, what is wrong with it, and what to do.

Python's own text names no file where a write fails, and never says how much space is left.
"""

import contextlib
import errno
import os
import resource
import shutil
from collections.abc import Iterator

from penstock.io.beam import progress
from penstock.io.errors import Remedy, StorageError
from penstock.io.files.paths import is_local, walk_files
from penstock.io.files.sizes import byte_text

_FULL = (errno.ENOSPC, errno.EDQUOT)
_GONE = (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ENXIO)
_REFUSED = (errno.EACCES, errno.EPERM)
_MANY = (errno.EMFILE, errno.ENFILE)

# What the files of a run are for, when one of them cannot be written.
SPILL_REMEDY = Remedy(
    "--spill_dir",
    "make room there, or pass --spill_dir DIR (without it, TMPDIR) with a folder of another disk",
    "make room there, or set TMPDIR to a folder of another disk",
)
OUTPUT_REMEDY = Remedy("--output", "make room there, or name another --output", "make room there")
_REMEDY = Remedy(
    "--output",
    "make room there, or use another disk (--output, and --spill_dir for temporary files)",
    "make room there, or use another disk",
)
_FEWER_FILES = Remedy(
    "--direct_num_workers",
    "raise the limit (ulimit -n), or lower the number of workers (--direct_num_workers)",
    "raise the limit (ulimit -n)",
)
_LESS_MEMORY = Remedy(
    "--direct_num_workers",
    "each worker holds rows of its own, so fewer need less (--direct_num_workers 1); if",
    "if",
)


@contextlib.contextmanager
def writing(path: str, remedy: Remedy | str, counter: str | None = None) -> Iterator[None]:
    """Names the file, and what to do, where a write in the block fails.

    Args:
      path: of the file that is written.
      remedy: what to do if the disk is full.
      counter: the counter of `penstock.io.beam.progress` with which the files in the folder of `path` grow. From them
        follows how much space the run needs in all.

    Raises:
      StorageError: for any error of the operating system.
    """
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(explained(error, path, remedy, _needed(path, counter) if counter else "")) from error


def explained(error: OSError, path: str | None = None, remedy: Remedy | str = _REMEDY, needed: str = "") -> str:
    """The text of an error of the operating system, in one line; as it is if nothing more is known.

    Args:
      error: the error.
      path: the file, if the error does not name it.
      remedy: what to do if its disk is full.
      needed: how much space is needed, if that is known.
    """
    path = path or _text(error.filename)
    what = os.strerror(error.errno) if error.errno else ""
    if error.errno in _MANY:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"{_named(path)}{what}: a process may have {limit:,} at a time; {_FEWER_FILES}"
    if path is None:
        return str(error)
    if error.errno is None:  # of a library
        return str(error) if path in str(error) else f"{path}: {error}"
    if error.errno in _FULL:
        return f"{path}: {what}{_free(path)}{needed}; {remedy}"
    if error.errno == errno.EFBIG:
        return f"{path}: {what}: the system lets no file grow so large (ulimit -f, or the kind of disk); {remedy}"
    if error.errno == errno.EROFS:
        return f"{path}: {what}; name a folder that can be written"
    if error.errno in _REFUSED:
        return f"{path}: {what}; ask its owner for the permission, or name another one"
    if error.errno in _GONE:
        return f"{path}: {what}: the disk or the network behind it does not answer; run the job again when it does"
    return f"{path}: {what}"


def _named(path: str | None) -> str:
    return f"{path}: " if path else ""


def _text(filename: object) -> str | None:
    return os.fsdecode(filename) if isinstance(filename, str | bytes) else None


def _free(path: str) -> str:
    """How much room is left on the disk of a file that may not be there; nothing if that is not known."""
    if not is_local(path):
        return ""
    folder = os.path.abspath(path)
    while not os.path.exists(folder) and folder != os.path.dirname(folder):
        folder = os.path.dirname(folder)
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(folder)
        return f" ({byte_text(usage.free)} of {byte_text(usage.total)} are free)"
    return ""


def _needed(path: str, counter: str) -> str:
    """How much space the files beside `path` will need, by how far the work is that writes them."""
    counts = progress.snapshot()
    done, planned = counts.done.get(counter, 0), counts.planned.get(counter, 0)
    with contextlib.suppress(OSError):
        written = sum(file.size for file in walk_files(os.path.dirname(path)))
        if 0 < done <= planned and written:
            return (
                f"; the run needs at least {byte_text(written * planned // done)} there, and has {byte_text(written)}"
            )
    return ""


def out_of_memory(detail: str = "", place: str = "") -> str:
    """The text of an error of a machine without memory left, in one line.

    Args:
      detail: what the allocator said.
      place: what was being done.
    """
    asked = f" ({' '.join(detail.split())})" if detail.strip() else ""
    return (
        f"memory ran out{f' in {place}' if place else ''}{asked}: {_LESS_MEMORY} one part of a file is too large for "
        "that, write the file with smaller ones (row groups, stripes, blocks)"
    )
