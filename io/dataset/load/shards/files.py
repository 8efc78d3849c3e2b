"""The files of a dataset as they are stored. Local ones are opened without Beam, which takes two seconds to import."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from penstock.io.dataset.load.shards.inflate import InflatedStream
from penstock.io.errors import DataError, InputError
from penstock.io.files import stores
from penstock.io.files.folders import list_entries, list_files
from penstock.io.files.paths import is_local
from penstock.io.files.suffixes import codec_of


def join(folder: str, path: str) -> str:
    """Returns where a file of a folder is, by its relative path with `/`."""
    return os.path.join(folder, *path.split("/")) if is_local(folder) else stores.join(folder, *path.split("/"))


def read_if_there(path: str) -> bytes | None:
    """Returns all bytes of a file; None if there is none.

    Raises:
      OSError: when it cannot be read.
    """
    if not is_local(path):
        return stores.read_if_there(path)
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def files_below(folder: str) -> Mapping[str, int]:
    """Returns the sizes of the files below a folder, by their paths; none where there is no folder."""
    return list_files(folder)


def entries_below(folder: str) -> Mapping[str, tuple[int, float]]:
    """Returns size and time, seconds since 1970, of the files below a folder, by their paths."""
    return {entry.path: (entry.size, entry.modified) for entry in list_entries(folder)}


@contextlib.contextmanager
def open_stored(path: str, size: int, what: str = "the shard") -> Iterator[Any]:
    """Opens a file whose size is known, as a file of Arrow; messages say `what` it is.

    Raises:
      DataError: when it is not there, or has another size.
    """
    try:
        if is_local(path):
            file: Any = pa.OSFile(path)
            found = file.size()
        else:
            file = pa.PythonFile(stores.open_file(path, size), mode="r")
            found = size  # a store's reader fails where the object ends
    except OSError as error:
        raise DataError(f"{path}: {what} cannot be read: {error}") from error
    with file:
        if found != size:
            raise DataError(
                f"{path}: {what} has {found} bytes, and the manifest says {size}: it was replaced or cut off; copy "
                "the dataset again, or see penstock verify"
            )
        yield file


@contextlib.contextmanager
def open_unpacked(path: str, size: int) -> Iterator[Any]:
    """Opens the content of a file, unpacked as its suffix says.

    Raises:
      DataError: as `open_stored`; while reading an InputError, when the compressed stream is corrupt.
    """
    codec = codec_of(path)
    with open_stored(path, size) as stored:
        if codec is None:
            yield stored
            return
        try:
            if codec == "gzip":
                yield InflatedStream(stored)
                return
            with pa.CompressedInputStream(stored, codec) as stream:
                yield stream
        except OSError as error:
            raise InputError(f"{path}: the {codec} stream is truncated or corrupt: {error}") from error
