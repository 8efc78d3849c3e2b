"""Which files a dataset has already, by what its manifest says of its inputs.

A file is known by its path, its size and its version. One at another path may be the same one, moved, or another one
that happens to be alike: files of one name, one size and one time are common where a program writes a folder a day, or
an archive was unpacked. Of files on a disk, whose version is only a time, their ends tell: a manifest has a checksum of
the first and the last bytes. Versions of stores are of one content each.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import google_crc32c

from penstock.io.errors import DataError, InputError
from penstock.io.files.inputs import InputFile
from penstock.io.files.paths import is_local
from penstock.io.files.stores.reading import in_parallel

# Enough for a header of hundreds of columns and some rows; at the end for the footer of Parquet, and the CRC of gzip.
_END_BYTES = 16 << 10

# Fields of `InputFile`, as the entries of a manifest name them, and the one that is added here.
ENDS = "ends"


def ends_of(path: str) -> str:
    """Returns the CRC32C of the first and last 16 KiB of a file on a disk, 8 hex digits.

    Raises:
      InputError: when it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            checksum = google_crc32c.Checksum(file.read(_END_BYTES))
            file.seek(max(file.seek(0, os.SEEK_END) - _END_BYTES, 0))
            checksum.update(file.read(_END_BYTES))
    except OSError as error:
        raise InputError(f"{path}: the file is gone or cannot be read") from error
    return str(checksum.digest().hex())


def with_ends(inputs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns entries of inputs for a manifest; those of files on a disk say their ends too.

    Raises:
      InputError: when a file cannot be read.
    """
    found: dict[str, str] = {}

    def look(path: str) -> None:
        found[path] = ends_of(path)

    in_parallel(look, [one["uri"] for one in inputs if one.get("version") and is_local(one["uri"])])
    return [{**one, ENDS: found[one["uri"]]} if one["uri"] in found else dict(one) for one in inputs]


class KnownInputs:
    """Inputs that a manifest remembers.

    Args:
      inputs: their entries in the manifest.
    """

    def __init__(self, inputs: Iterable[Mapping[str, Any]]):
        self._by_uri: dict[str, Mapping[str, Any]] = {}
        self._alike: dict[tuple[str, int, str], set[str | None]] = {}
        for one in inputs:
            self._by_uri[one["uri"]] = one
            if one.get("version"):
                key = _name(one["uri"]), one.get("size", -1), one["version"]
                self._alike.setdefault(key, set()).add(one.get(ENDS))

    def has(self, file: InputFile) -> bool:
        """Whether the file is one of them: by its path, or as one that lay elsewhere.

        Raises:
          DataError: when another version of it is.
          InputError: when it cannot be read.
        """
        if file.uri in self._by_uri and not self.has_same(file):
            one = self._by_uri[file.uri]
            span = one.get("span", "1")
            raise DataError(
                f"{file.uri}: is in the dataset (span {span}) as it was before, with {one.get('size')} bytes, and has "
                f"{file.size} now: its rows would be in it twice; drop that span first (penstock drop-span), or put "
                "new rows into files of their own"
            )
        return self.has_same(file)

    def has_same(self, file: InputFile) -> bool:
        """Whether the file, as it is, is one of them: by its path, or as one that lay elsewhere.

        Raises:
          InputError: when it cannot be read.
        """
        one = self._by_uri.get(file.uri)
        if one is None:
            return self._was_moved(file)
        if file.crc32c and one.get("crc32c"):
            return bool(file.crc32c == one["crc32c"] and file.size == one.get("size"))
        if file.version and one.get("version"):
            return (file.size, file.version) == (one.get("size"), one["version"])
        return (file.size, file.mtime) == (one.get("size"), one.get("mtime"))

    def _was_moved(self, file: InputFile) -> bool:
        ends = self._alike.get((_name(file.uri), file.size, file.version), set()) if file.version else set()
        if not ends or not is_local(file.uri):
            return bool(ends)
        # An entry without ends is of a manifest from before they were kept.
        return None in ends or ends_of(file.uri) in ends


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
