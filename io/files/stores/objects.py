"""Object stores, by the calls that a client must have; `obstore` has them for S3 and Azure."""

import abc
import functools
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, TypeVar, cast

from penstock.io.errors import ChangedFileError, MissingFileError, StorageError
from penstock.io.files.stores.base import Entry, Store, Versioned, object_key, prefix_of, unique
from penstock.io.files.stores.reading import Data, ObjectReader, in_parallel
from penstock.io.files.stores.retries import Refused, Requests
from penstock.io.files.stores.writing import ObjectWriter, Upload

_T = TypeVar("_T")


class Bucket(abc.ABC):
    """The objects of a bucket by key. Each call is one request, and raises `Refused` when it fails."""

    @abc.abstractmethod
    def list(self, prefix: str) -> Iterator[tuple[str, int, float, str]]:
        """Key, size, time and version of all objects below a folder, of which markers of folders are none."""

    @abc.abstractmethod
    def head(self, key: str) -> tuple[int, float, str]:
        """Size, time and version of an object."""

    @abc.abstractmethod
    def get(self, key: str, start: int, end: int, version: str = "") -> tuple[Data, int, str]:
        """The bytes [start, end) as far as there are any, the size of the object, and its version.

        With a version, an object that has another one is `changed`.
        """

    @abc.abstractmethod
    def put(self, key: str, content: bytes, content_type: str, replaces: str | None = None) -> None:
        """Writes an object; one of a version, or with "" none, or it is `changed`."""

    @abc.abstractmethod
    def upload(self, key: str, content_type: str) -> Upload:
        """Begins an object that is sent in pieces."""

    @abc.abstractmethod
    def copy(self, source: str, target: str) -> None:
        """Copies an object."""

    @abc.abstractmethod
    def delete(self, keys: Sequence[str]) -> None:
        """Deletes objects; those that are not there are skipped."""


class ObjectStore(Store):
    """The objects of a scheme.

    Args:
      requests: what is said of the store's requests.
      open_bucket: returns a bucket by its name.
      bucket_parts: how many parts of a URL name a bucket.
    """

    def __init__(self, requests: Requests, open_bucket: Callable[[str], Bucket], bucket_parts: int = 1):
        self._requests = requests
        self._open_bucket = open_bucket
        self._bucket_parts = bucket_parts

    def _at(self, url: str) -> tuple[Bucket, str]:
        bucket, key = object_key(url, self._bucket_parts)
        return self._open_bucket(bucket), key

    def _run(self, action: str, url: str, request: Callable[[], _T]) -> _T:
        return self._requests.run(action, url, request)

    def join(self, folder: str, *parts: str) -> str:
        """Joins with one `/` each."""
        return "/".join([folder.rstrip("/"), *(part.strip("/") for part in parts)])

    def split(self, path: str) -> tuple[str, str]:
        """Splits at the last `/`."""
        folder, _, name = path.rpartition("/")
        return folder, name

    def exists(self, path: str) -> bool:
        """Asks for the object."""
        try:
            self.stat(path)
        except MissingFileError:
            return False
        return True

    def stat(self, path: str) -> Entry:
        """Asks for the object."""
        bucket, key = self._at(path)
        return Entry(path, *self._run("read", path, lambda: bucket.head(key)))

    def match(self, pattern: str) -> list[Entry]:
        """Lists the folder that the pattern spells, and matches each object."""
        from apache_beam.io.filesystem import FileSystem

        if prefix_of(pattern) == pattern:
            try:
                return [self.stat(pattern)]
            except MissingFileError:
                return []
        matches = _compiled(FileSystem.translate_pattern(pattern)).match
        return [entry for entry in self.files_below(prefix_of(pattern)) if matches(entry.path)]

    def files_below(self, folder: str) -> list[Entry]:
        """Lists the objects below a folder."""
        bucket, prefix = self._at(folder)
        found = self._run("list", folder, lambda: list(bucket.list(prefix)))
        root = folder.rstrip("/")
        return [
            Entry(f"{root}/{key[len(prefix) :].lstrip('/')}", size, modified, version)
            for key, size, modified, version in found
        ]

    def open(
        self,
        path: str,
        size: int | None,
        version: str = "",
        until: int | None = None,
        head: Callable[[], bytes] | None = None,
    ) -> BinaryIO:
        """Opens an object; with its size, nothing is asked for before it is read."""
        reader = ObjectReader(_Ranges(self._requests, path, *self._at(path), version), size, until, head)
        if size is None:
            reader.prepare()
        return cast(BinaryIO, reader)

    def create(self, path: str, content_type: str) -> BinaryIO:
        """Opens an object that appears when it is closed."""
        bucket, key = self._at(path)

        def put(content: bytes) -> None:
            self._run("write", path, lambda: bucket.put(key, content, content_type))

        def begin() -> Upload:
            return _ToldUpload(self._requests, path, bucket.upload(key, content_type))

        return cast(BinaryIO, ObjectWriter(put, begin))

    def move(self, moves: Mapping[str, str]) -> None:
        """Copies all objects, side by side, and deletes them then."""

        def copy(source: str) -> None:
            (bucket, key), target = self._at(source), moves[source]
            if object_key(source, self._bucket_parts)[0] != object_key(target, self._bucket_parts)[0]:
                self._send(source, target)
                return
            self._run("copy", source, lambda: bucket.copy(key, self._at(target)[1]))

        in_parallel(copy, list(moves))
        self.delete(list(moves))

    def _send(self, source: str, target: str) -> None:
        """Copies an object to another bucket through this machine."""
        with self.open(source, None) as reader, self.create(target, "application/octet-stream") as writer:
            while data := reader.read(io.DEFAULT_BUFFER_SIZE * 128):
                writer.write(data)

    def delete(self, paths: Sequence[str]) -> None:
        """Deletes objects, many with one request where the store can."""
        buckets: dict[str, list[str]] = {}
        for path in unique(paths):
            buckets.setdefault(object_key(path, self._bucket_parts)[0], []).append(path)
        for same in buckets.values():
            bucket, _ = self._at(same[0])
            keys = [self._at(path)[1] for path in same]
            self._run("delete", same[0], functools.partial(bucket.delete, keys))

    def make_folder(self, path: str) -> None:
        """Does nothing: there are no folders."""

    def read_versioned(self, path: str) -> Versioned | None:
        """Reads an object with its version, again if it is replaced meanwhile."""
        for _ in range(_MAX_READINGS):
            try:
                return self._versioned(path)
            except MissingFileError:
                return None
            except Refused:
                continue
        raise StorageError(f"{path}: the object was replaced {_MAX_READINGS} times while it was read")

    def _versioned(self, path: str) -> Versioned:
        bucket, key = self._at(path)
        content, size, version = self._run("read", path, lambda: bucket.get(key, 0, _SMALL_BYTES))
        if size > len(content):
            content, _, _ = self._run("read", path, lambda: bucket.get(key, 0, size, version))
        return Versioned(bytes(content), version)

    def write_if(self, path: str, content: bytes, replaces: Versioned | None) -> bool:
        """Writes under a condition. A refusal may be of a second try, whose first came through unheard."""
        bucket, key = self._at(path)
        version = replaces.version if replaces else ""
        try:
            self._run("write", path, lambda: bucket.put(key, content, "application/json", version))
        except (Refused, MissingFileError):
            now = self.read_versioned(path)
            return now is not None and now.content == content
        return True


_MAX_READINGS = 20

# What is read of a small object with one request.
_SMALL_BYTES = 8 << 20


@functools.lru_cache(maxsize=64)
def _compiled(expression: str) -> re.Pattern[str]:
    return re.compile(expression)


class _Ranges:
    """The bytes of one object, all of the version that is given, or was met first."""

    def __init__(self, requests: Requests, url: str, bucket: Bucket, key: str, version: str = ""):
        self._requests, self._url, self._bucket, self._key = requests, url, bucket, key
        self._version = version

    def begin(self, length: int) -> tuple[Data, int]:
        data, size, self._version = self._get(0, length)
        return data, size

    def size(self) -> int:
        found, _, self._version = self._requests.run("read", self._url, lambda: self._bucket.head(self._key))
        return found

    def fetch(self, start: int, end: int) -> Data:
        data, _, version = self._get(start, end)
        self._version = self._version or version
        return data

    def _get(self, start: int, end: int) -> tuple[Data, int, str]:
        def request() -> tuple[Data, int, str]:
            data, size, version = self._bucket.get(self._key, start, end, self._version)
            if len(data) != min(end, size) - start:
                raise Refused("busy", f"{len(data)} of {min(end, size) - start} bytes came")
            if self._version and version and version != self._version:
                raise Refused("changed", "the store did not heed the condition")
            return data, size, version

        try:
            return self._requests.run("read", self._url, request)
        except Refused as refused:
            raise ChangedFileError(f"{self._url}: the object was replaced while it was read") from refused


class _ToldUpload:
    """An upload whose failures name the object."""

    def __init__(self, requests: Requests, url: str, upload: Upload):
        self._requests, self._url, self._upload = requests, url, upload

    def send(self, data: bytes) -> None:
        self._once(lambda: self._upload.send(data))

    def finish(self) -> None:
        self._once(self._upload.finish)

    def abort(self) -> None:
        self._upload.abort()

    def _once(self, request: Callable[[], None]) -> None:
        """A piece is tried again by the client: what came of it, nobody else can tell."""

        def once() -> None:
            try:
                request()
            except Refused as refused:
                raise (Refused("other", refused.detail) if refused.kind in ("busy", "silent") else refused) from refused

        self._requests.run("write", self._url, once)
