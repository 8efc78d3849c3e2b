"""Files wherever they lie: on this machine, in object stores, on what else Beam knows. All other modules go by it.

A path with a scheme of `SCHEMES` is an object of a store, which a client made for it reads and writes. Every other path
is Beam's, local ones included. Nothing is registered with Beam, so its own sources and sinks are as they were.

In a store an object appears when its file is closed, as a whole or not at all, and is read as it was when it was
opened: if it is replaced meanwhile, reading fails. Folders are parts of names there.

What fails is an `OSError`; of a store a `StorageError`, in one line that names the object and what to do, a
`MissingFileError` where there is no object, and a `ChangedFileError` where there is another one than before. Requests
that a store refuses for a while are tried again (`retries`).
"""

import contextlib
import functools
import importlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import BinaryIO, cast

from penstock.io.errors import MissingExtraError
from penstock.io.files.stores.base import Entry, Store, Versioned
from penstock.io.files.stores.reading import HEAD_BYTES, in_parallel
from penstock.io.files.stores.writing import Uploads

# Where the store of a scheme is, what it needs, and what to install then.
SCHEMES = {
    "s3": ("s3", "obstore", ".[aws]"),
    "az": ("azure", "obstore", ".[azure]"),
    "azfs": ("azure", "obstore", ".[azure]"),
    "gs": ("gcs", "google-cloud-storage", ".[gcp]"),
}

_SCHEME = re.compile(r"([a-zA-Z][-a-zA-Z0-9+.]*)://")


def scheme_of(path: str) -> str:
    """Returns the scheme of a path; the empty text for one without.

    >>> scheme_of("s3://bucket/x"), scheme_of("a/b")
    ('s3', '')
    """
    found = _SCHEME.match(path.strip())
    return found[1] if found else ""


def is_object(path: str) -> bool:
    """Whether a path is one of a store that is reached without Beam."""
    return scheme_of(path) in SCHEMES


@functools.cache
def _store(scheme: str) -> Store:
    if scheme not in SCHEMES:
        from penstock.io.files.stores import beam

        return beam.STORE
    module, package, requirement = SCHEMES[scheme]
    try:
        stores: Mapping[str, Store] = importlib.import_module(f"{__name__}.{module}").STORES
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"{scheme}:// needs {package}: pip install '{requirement}'") from error
    return stores[scheme]


def store_of(path: str) -> Store:
    """Returns the store that a path is in.

    Raises:
      MissingExtraError: when its client is not installed.
    """
    return _store(scheme_of(path))


def join(folder: str, *parts: str) -> str:
    """Returns the path of something in a folder."""
    return store_of(folder).join(folder, *parts)


def split(path: str) -> tuple[str, str]:
    """Returns the folder of a file, empty where it has none, and its name."""
    return store_of(path).split(path)


def exists(path: str) -> bool:
    """Whether there is a file, or a local folder.

    Raises:
      OSError: when that cannot be found out.
    """
    return store_of(path).exists(path)


def stat(path: str) -> Entry:
    """Returns what is known of a file.

    Raises:
      OSError: when there is none, or it cannot be looked at.
    """
    return store_of(path).stat(path)


def stat_all(paths: Collection[str]) -> dict[str, Entry]:
    """Returns what is known of files, by path, without those that are not there; asks for many side by side.

    Raises:
      OSError: when one cannot be looked at.
    """
    found: dict[str, Entry] = {}

    def look(path: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            found[path] = stat(path)

    in_parallel(look, list(paths))
    return found


def match(pattern: str) -> list[Entry]:
    """Lists the files that a pattern of Beam's matches: `*` and `?` stand for no `/`, `**` for any text.

    Raises:
      OSError: when they cannot be listed.
    """
    return store_of(pattern).match(pattern)


def files_below(folder: str) -> list[Entry]:
    """Lists all files below a folder, in any order; none where there is no folder.

    Raises:
      OSError: when they cannot be listed.
    """
    return store_of(folder).files_below(folder)


def open_file(
    path: str,
    size: int | None = None,
    version: str = "",
    until: int | None = None,
    head: Callable[[], bytes] | None = None,
) -> BinaryIO:
    """Opens the bytes of a file as they are stored, to be read in any order.

    Args:
      path: of the file.
      size: its bytes where they are known, which saves a request.
      version: the one that is wanted of an object; reading raises `ChangedFileError` where there is another one now.
      until: the byte up to which an object will be read in order, from the first one that is read: it comes in large
        pieces, the next ones ahead of their use, and nothing behind it.
      head: gives the first `HEAD_BYTES` of an object, where the caller keeps them; called when they are read.
    """
    return store_of(path).open(path, size, version, until, head)


def open_unpacked(path: str) -> BinaryIO:
    """Opens the content of a file, unpacked if its suffix says that it is compressed, as Beam knows it."""
    from apache_beam.io.filesystem import CompressedFile, CompressionTypes

    kind = CompressionTypes.detect_compression_type(path)
    raw = open_file(path)
    if kind == CompressionTypes.UNCOMPRESSED:
        return raw
    return cast(BinaryIO, CompressedFile(raw, compression_type=kind))


def read_file(path: str) -> bytes:
    """Returns all bytes of a file as they are stored."""
    with open_file(path) as file:
        return file.read()


def read_if_there(path: str) -> bytes | None:
    """Returns all bytes of a file, or None if there is none; of an object with one request, if it is small."""
    if is_object(path):
        found = read_versioned(path)
        return None if found is None else found.content
    return read_file(path) if exists(path) else None


def create_file(path: str, content_type: str = "application/octet-stream") -> BinaryIO:
    """Opens a new file, which replaces one that is there; folders are made.

    In a store, nothing is written when the block of the file (`with`) ends with an exception.
    """
    return store_of(path).create(path, content_type)


def write_file(path: str, content: bytes, content_type: str = "application/octet-stream") -> None:
    """Writes a whole file, and replaces one that is there."""
    with create_file(path, content_type) as file:
        file.write(content)


def move(moves: Mapping[str, str]) -> None:
    """Renames files of one store, source to target; in an object store each is copied, and then deleted."""
    if moves:
        store_of(next(iter(moves))).move(moves)


def delete(paths: Collection[str]) -> None:
    """Deletes files of one store; one that is not there is no error."""
    if paths:
        store_of(next(iter(paths))).delete(list(paths))


def make_folder(path: str) -> None:
    """Makes a folder where there are such things.

    Raises:
      OSError: when it is there.
    """
    store_of(path).make_folder(path)


def read_versioned(path: str) -> Versioned | None:
    """Returns what an object holds with its version, None if there is none."""
    return store_of(path).read_versioned(path)


def write_if(path: str, content: bytes, replaces: Versioned | None) -> bool:
    """Writes an object if it is as it was read, or is not there for None; False, and no change, if it is not.

    Only object stores can do this, with one request that is done or refused as a whole.
    """
    return store_of(path).write_if(path, content, replaces)


__all__: Sequence[str] = (
    "HEAD_BYTES",
    "SCHEMES",
    "Entry",
    "Uploads",
    "Versioned",
    "create_file",
    "delete",
    "exists",
    "files_below",
    "is_object",
    "join",
    "make_folder",
    "match",
    "move",
    "open_file",
    "open_unpacked",
    "read_file",
    "read_if_there",
    "read_versioned",
    "scheme_of",
    "split",
    "stat",
    "stat_all",
    "store_of",
    "write_file",
    "write_if",
)
