"""What is left to Beam's filesystems: the local disk, `hdfs://`, and those that a program registers."""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import BinaryIO

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems

from penstock.io.files.stores.base import Entry, Store, Versioned

_PLAIN = "uncompressed"
_MAGIC = re.compile(r"[*?[]")


class BeamStore(Store):
    """Files of Beam's filesystems."""

    def join(self, folder: str, *parts: str) -> str:
        """As the filesystem joins them."""
        return str(FileSystems.join(folder, *parts))

    def split(self, path: str) -> tuple[str, str]:
        """As the filesystem splits it."""
        folder, name = FileSystems.split(path)
        return folder, name

    def exists(self, path: str) -> bool:
        """Whether there is a file, or a folder."""
        return bool(FileSystems.exists(path))

    def stat(self, path: str) -> Entry:
        """The metadata of a file."""
        return _entry(FileSystems.get_filesystem(path).metadata(path))

    def match(self, pattern: str) -> list[Entry]:
        """As the filesystem matches it."""
        return [_entry(found) for found in FileSystems.match([pattern])[0].metadata_list]

    def files_below(self, folder: str) -> list[Entry]:
        """What matches everything in the folder, whose name may look like a pattern itself."""
        root = folder.rstrip("/") + "/"
        return [entry for entry in self.match(_MAGIC.sub("?", root) + "**") if entry.path.startswith(root)]

    def open(
        self,
        path: str,
        size: int | None,
        version: str = "",
        until: int | None = None,
        head: Callable[[], bytes] | None = None,
    ) -> BinaryIO:
        """Opens a file."""
        file: BinaryIO = FileSystems.open(path, compression_type=_PLAIN)
        return file

    def create(self, path: str, content_type: str) -> BinaryIO:
        """Creates a file, and the folders above it."""
        file: BinaryIO = FileSystems.create(path, content_type, compression_type=_PLAIN)
        return file

    def move(self, moves: Mapping[str, str]) -> None:
        """Renames files."""
        FileSystems.rename(list(moves), list(moves.values()))

    def delete(self, paths: Sequence[str]) -> None:
        """Deletes files; some filesystems take one that is gone for an error, the local disk a name for a pattern."""
        if FileSystems.get_scheme(paths[0]) is None:
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(path)
            return
        try:
            FileSystems.delete(list(paths))
        except BeamIOError:
            FileSystems.delete([path for path in paths if FileSystems.exists(path)])

    def make_folder(self, path: str) -> None:
        """Makes a folder, and those above it."""
        FileSystems.mkdirs(path)

    def read_versioned(self, path: str) -> Versioned | None:
        """Refuses."""
        raise NotImplementedError("Beam's filesystems have no versions")

    def write_if(self, path: str, content: bytes, replaces: Versioned | None) -> bool:
        """Refuses."""
        raise NotImplementedError("Beam's filesystems have no conditional writes")


def _entry(found: FileMetadata) -> Entry:
    """What Beam knows of a file, and on the local disk all digits of its time: it gives seconds as a float."""
    version = ""
    if FileSystems.get_scheme(found.path) is None:
        with contextlib.suppress(OSError):
            version = str(os.stat(found.path).st_mtime_ns)
    return Entry(found.path, found.size_in_bytes, found.last_updated_in_seconds or 0.0, version)


STORE = BeamStore()
