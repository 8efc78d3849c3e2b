"""What a store must be able to do, and what can be said of all object stores."""

import abc
import dataclasses
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import BinaryIO

from penstock.io.errors import ConfigError


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A file that was listed.

    Attributes:
      path: its whole path.
      size: bytes.
      modified: when it was last written, seconds since 1970; 0 where that is not known.
      version: differs for any two contents: an entity tag, a generation, the time of change in nanoseconds on the local
        disk; empty where the file system has none.
    """

    path: str
    size: int
    modified: float
    version: str = ""


@dataclasses.dataclass(frozen=True)
class Versioned:
    """What a file held when it was read.

    Attributes:
      version: differs for any two contents; what it is depends on the store.
    """

    content: bytes
    version: str


class Store(abc.ABC):
    """The files of a scheme; `penstock.io.files.stores` says what its functions do."""

    @abc.abstractmethod
    def join(self, folder: str, *parts: str) -> str:
        """The path of something in a folder."""

    @abc.abstractmethod
    def split(self, path: str) -> tuple[str, str]:
        """The folder of a file, and its name."""

    @abc.abstractmethod
    def exists(self, path: str) -> bool:
        """Whether there is a file."""

    @abc.abstractmethod
    def stat(self, path: str) -> Entry:
        """What is known of a file."""

    @abc.abstractmethod
    def match(self, pattern: str) -> list[Entry]:
        """The files that a pattern matches."""

    @abc.abstractmethod
    def files_below(self, folder: str) -> list[Entry]:
        """The files below a folder."""

    @abc.abstractmethod
    def open(
        self,
        path: str,
        size: int | None,
        version: str = "",
        until: int | None = None,
        head: Callable[[], bytes] | None = None,
    ) -> BinaryIO:
        """A file to read."""

    @abc.abstractmethod
    def create(self, path: str, content_type: str) -> BinaryIO:
        """A file to write."""

    @abc.abstractmethod
    def move(self, moves: Mapping[str, str]) -> None:
        """Renames files."""

    @abc.abstractmethod
    def delete(self, paths: Sequence[str]) -> None:
        """Deletes files."""

    @abc.abstractmethod
    def make_folder(self, path: str) -> None:
        """Makes a folder where there are such things."""

    @abc.abstractmethod
    def read_versioned(self, path: str) -> Versioned | None:
        """What a file holds, with its version."""

    @abc.abstractmethod
    def write_if(self, path: str, content: bytes, replaces: Versioned | None) -> bool:
        """Writes a file under the condition that it is as it was."""


# Beam reads these as a pattern.
_MAGIC = re.compile(r"[*?\[\\]")


def prefix_of(pattern: str) -> str:
    """Returns the folder below which all that a pattern matches must lie.

    >>> prefix_of("s3://b/in/y=*/a.csv"), prefix_of("s3://b/x*")
    ('s3://b/in', 's3://b')
    """
    magic = _MAGIC.search(pattern)
    return pattern.rstrip("/") if magic is None else pattern[: magic.start()].rpartition("/")[0]


def object_key(path: str, bucket_parts: int = 1) -> tuple[str, str]:
    """Returns the bucket of an object's URL and its key, empty for the bucket itself.

    >>> object_key("s3://b/a//c/"), object_key("azfs://account/container/x", 2)
    (('b', 'a/c'), ('account/container', 'x'))

    Raises:
      ConfigError: for a URL without a bucket.
    """
    parts = [part for part in path.partition("://")[2].split("/") if part]
    if len(parts) < bucket_parts:
        form = "ACCOUNT/CONTAINER" if bucket_parts > 1 else "BUCKET"
        raise ConfigError(f"{path}: names no bucket; write it as {path.partition('://')[0]}://{form}/path")
    return "/".join(parts[:bucket_parts]), "/".join(parts[bucket_parts:])


def unique(paths: Collection[str]) -> list[str]:
    """Returns paths, each once, in their order."""
    return list(dict.fromkeys(paths))
