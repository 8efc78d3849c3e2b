"""Files and folders that a user names: which of them are local, and which are missing, without Beam.

A job looks for the files of its command line before it loads Beam, so that it reports a wrong path at once. Only files
that are certainly missing are refused here: the filesystems of Beam have the last word, above all on patterns.
"""

import dataclasses
import glob
import os
import re
import stat
from collections.abc import Iterable

from penstock.io.errors import ConfigError, InputError

# Beam reads these as a pattern; what it makes of a backslash is left to it.
_MAGIC = re.compile(r"[*?\[\\]")

# What is neither a file nor a folder.
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def is_local(path: str) -> bool:
    """Whether a path is of this machine: it has no scheme."""
    return "://" not in path


def is_local_directory(path: str) -> bool:
    """Whether a path is a folder of this machine."""
    return is_local(path) and os.path.isdir(path)


@dataclasses.dataclass(frozen=True, slots=True)
class FileEntry:
    """A file of a folder.

    Attributes:
      path: relative to the folder, with `/`.
      size: bytes.
      modified: when it was last written, seconds since 1970.
    """

    path: str
    size: int
    modified: float


def walk_files(directory: str) -> Iterable[FileEntry]:
    """Yields all files below a local folder; nothing where there is no folder.

    Links are listed, not followed, unless they lead to files.

    Raises:
      OSError: when the folder cannot be listed.
    """
    for folder, folders, files in os.walk(directory, onerror=_raise_unless_gone):
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in (*files, *links):
            path = os.path.join(folder, name)
            try:
                status = os.stat(path)
            except OSError:
                try:
                    status = os.lstat(path)  # of a link that leads nowhere
                except OSError:
                    continue  # a file may go at any time
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            yield FileEntry(os.path.relpath(path, directory), size, status.st_mtime)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error


def is_hidden(name: str) -> bool:
    """Whether the name of a file or folder says that it is no data: `_SUCCESS`, `.part-0.crc`, `_temporary`."""
    return name.startswith(("_", "."))


def is_pattern(text: str) -> bool:
    """Whether Beam takes a path for a pattern."""
    return _MAGIC.search(text) is not None


def fixed_folder(pattern: str) -> str:
    """Returns the folder that a pattern spells, below which it matches; "." for the present one.

    >>> fixed_folder("in/x=*/a.csv"), fixed_folder("*.csv"), fixed_folder("gs://b/*")
    ('in', '.', 'gs://b')
    """
    magic = _MAGIC.search(pattern)
    fixed = pattern if magic is None else pattern[: magic.start()]
    folder, slash, _ = fixed.rpartition("/")
    return folder or ("/" if slash else ".")


def is_left_out(path: str, pattern: str) -> bool:
    """Whether a path that a pattern matches is hidden, in a part that the pattern does not spell.

    >>> [is_left_out(path, "_in/*") for path in ("_in/a.csv", "_in/_SUCCESS", "_in/.a.csv.crc")]
    [False, True, True]
    >>> [is_left_out("in/_tmp/x/a.csv", pattern) for pattern in ("in/**.csv", "in/_*/x/*", "in/**/_tmp/*/*")]
    [True, False, False]
    """
    fixed = f"{fixed_folder(pattern)}/"
    parts, spelled = path.removeprefix(fixed).split("/"), pattern.removeprefix(fixed).split("/")
    deep = next((index for index, part in enumerate(spelled) if "**" in part), len(spelled))
    behind = spelled[deep + 1 :]
    for index, part in enumerate(parts):
        from_end = len(parts) - index
        by = behind[-from_end] if 0 < from_end <= len(behind) else spelled[index] if index <= deep else "*"
        if is_hidden(part) and not is_hidden(by):
            return True
    return False


def data_files(directory: str) -> list[str]:
    """Lists the files below a local folder, without those that are hidden or in hidden folders; sorted.

    Links to folders are followed, each folder once.

    Raises:
      InputError: when a folder cannot be listed.
    """
    found: list[str] = []
    seen: set[str] = set()

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot list {error.filename}: {error.strerror}") from error

    for folder, folders, files in os.walk(directory, onerror=refuse, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        found += (os.path.join(folder, name) for name in files if not is_hidden(name))
    return sorted(path for path in found if os.path.isfile(path))


def no_match(pattern: str, example: str = "") -> InputError:
    """Returns the error for a pattern of input files that matches none; `example` is a file that is left out."""
    if is_local_directory(pattern):
        return InputError(
            f"{pattern} is a folder without data: it has no files but those whose names, or whose folders' names, "
            "begin with _ or ., which are left out"
        )
    if example:
        return InputError(
            f"no file matches {pattern} but those whose names begin with _ or ., such as {example}; a pattern leaves "
            "them out unless it spells the _ or ."
        )
    return InputError(
        f"no file matches {pattern}; check the path, and quote a pattern so that the shell leaves it alone"
    )


def is_folder(pattern: str) -> InputError:
    """Returns the error for a folder where files are asked for."""
    example = os.path.join(pattern, "*.jsonl")
    return InputError(f"{pattern} is a directory; name its files with a pattern such as {example!r}")


def check_regular(path: str) -> None:
    """Refuses what a local path leads to if it is there, and neither a file nor a folder.

    A job reads its input in parts and more than once, which a pipe has not; and to open one waits for a writer.

    Raises:
      InputError: saying what it is.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    kind = _KINDS.get(stat.S_IFMT(mode))
    if kind is not None:
        raise InputError(
            f"{path} is {kind}, not a file, and input is read in parts and more than once; write what comes of it to a "
            "file, and name that"
        )


def unreadable(what: str, error: Exception, hint: str = "") -> ConfigError:
    """Returns the error for a file that cannot be read.

    Args:
      what: what it is, such as a flag with its value.
      error: why not.
      hint: what to give instead.
    """
    return ConfigError(f"{what}: cannot be read: {error}" + (f"; {hint}" if hint else ""))


def check_readable(path: str, what: str, hint: str = "") -> None:
    """Refuses a local file that cannot be opened; `what` and `hint` are those of `unreadable`.

    Raises:
      ConfigError: saying why.
    """
    if is_local(path):
        try:
            open(path, "rb").close()
        except OSError as error:
            raise unreadable(what, error, hint) from error


def check_matches(pattern: str, folders: bool = False) -> None:
    """Refuses a local pattern that certainly matches no file, and a folder unless `folders` stand for their files.

    Raises:
      InputError: as `match_files` does, with `folders` as `find_files` does.
    """
    if not is_local(pattern):
        return
    check_regular(pattern)
    if is_local_directory(pattern) and not (folders and data_files(pattern)):
        raise no_match(pattern) if folders else is_folder(pattern)
    if _matches_nothing(pattern):
        raise no_match(pattern)


def _matches_nothing(pattern: str) -> bool:
    if os.path.isfile(pattern):  # its name may have brackets in it
        return False
    if os.path.isdir(pattern):
        return False
    if pattern.endswith("/"):
        pattern += "*"  # Beam takes it for the files of a folder
    magic = _MAGIC.search(pattern)
    if magic is None:
        return not os.path.exists(pattern)
    folder = os.path.dirname(pattern[: magic.start()])
    if folder and not os.path.isdir(folder):
        return True
    # Of Beam's patterns, those with single stars alone mean what they mean to Python; folders match here too.
    is_plain = "**" not in pattern and not re.search(r"[?\[\\]", pattern)
    return is_plain and next(glob.iglob(pattern, include_hidden=True), None) is None
