"""A small file that is replaced only by who knows what it holds: read it with its version, write if that is the same.

How far this excludes others depends on where it lies:

* a local disk: all threads and processes of this machine, by a lock (`penstock.io.files.atomic.locks`);
* an object store (`s3://`, `az://`, `gs://`): everybody, since the store itself compares when it writes;
* what else Beam knows (`hdfs://`): the threads of this process. Another process is noticed if it writes before this one
  compares, or between this one's write and the reading that follows it.
"""

import abc
import contextlib
import dataclasses
import hashlib
import uuid

from penstock.io.files import stores
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import move_files
from penstock.io.files.paths import is_local
from penstock.io.files.stores import Versioned
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing


@dataclasses.dataclass(frozen=True)
class ConditionalFile(abc.ABC):
    """A file that several writers may replace.

    Attributes:
      path: path of the file.
      lock: path of its lock, which several files may share.
      staging: a folder on the same filesystem for contents that are not complete.
    """

    path: str
    lock: str
    staging: str

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Excludes other writers for a block, as far as the filesystem can; a thread may do so several times."""
        return alone(self.lock)

    @abc.abstractmethod
    def read(self) -> Versioned | None:
        """Returns what the file holds; None if there is no file."""

    @abc.abstractmethod
    def write(self, content: bytes, replaces: Versioned | None) -> bool:
        """Replaces what was read before, as a whole; False, and no change, if the file holds something else by now.

        Raises:
          StorageError: when it cannot be written.
        """


class LocalFile(ConditionalFile):
    """A file on a local disk."""

    def read(self) -> Versioned | None:
        """Reads the file."""
        try:
            with open(self.path, "rb") as file:
                return _versioned(file.read())
        except FileNotFoundError:
            return None

    def write(self, content: bytes, replaces: Versioned | None) -> bool:
        """Compares and replaces under the lock."""
        with self.alone():
            if self.read() != replaces:
                return False
            _replace(self, content)
            return True


class ObjectFile(ConditionalFile):
    """An object of a store that writes under conditions."""

    def read(self) -> Versioned | None:
        """Reads the object."""
        return stores.read_versioned(self.path)

    def write(self, content: bytes, replaces: Versioned | None) -> bool:
        """Writes if the store still has what was read; its threads in this process need not try all at once."""
        with self.alone(), writing(self.path, OUTPUT_REMEDY):
            return stores.write_if(self.path, content, replaces)


class BeamFile(ConditionalFile):
    """A file on a filesystem of Beam's."""

    def read(self) -> Versioned | None:
        """Reads the file."""
        if not stores.exists(self.path):
            return None
        with stores.open_file(self.path) as file:
            return _versioned(bytes(file.read()))

    def write(self, content: bytes, replaces: Versioned | None) -> bool:
        """Compares, replaces, and reads again; another process may have been faster."""
        with self.alone():
            if self.read() != replaces:
                return False
            _replace(self, content)
            return self.read() == _versioned(content)


def conditional_file(path: str, lock: str, staging: str) -> ConditionalFile:
    """Returns a file to be replaced under the condition that it has not changed; see `ConditionalFile`."""
    kind = ObjectFile if stores.is_object(path) else LocalFile if is_local(path) else BeamFile
    return kind(path, lock, staging)


def _versioned(content: bytes) -> Versioned:
    return Versioned(content, hashlib.sha256(content).hexdigest())


def _replace(file: ConditionalFile, content: bytes) -> None:
    staged = stores.join(file.staging, uuid.uuid4().hex)
    with writing(staged, OUTPUT_REMEDY), stores.create_file(staged) as staging:
        staging.write(content)
    move_files({staged: file.path})
