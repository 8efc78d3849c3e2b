"""A filesystem without directories, as object stores are, in memory."""

import io

from apache_beam.io.filesystem import BeamIOError, FileMetadata, FileSystem

OBJECTS: dict[str, bytes] = {}


class MemoryObjects(FileSystem):
    """Objects by URL; an object appears when its file is closed, a folder never."""

    broken = False

    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *(path.strip("/") for path in paths)])

    def split(self, path):
        return tuple(path.rsplit("/", 1))

    def mkdirs(self, path):
        raise AssertionError("an object store has no folders")

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        if self.broken:
            raise BeamIOError("503 try again")
        for path in sorted(OBJECTS):
            if path.startswith(dir_or_prefix):
                yield self.metadata(path)

    def create(self, path, mime_type="", compression_type=""):
        assert "//" not in path.removeprefix("mem://")
        return _NewObject(path)

    def open(self, path, mime_type="", compression_type=""):
        if path not in OBJECTS:
            raise OSError(f"404 {path}")
        return io.BufferedReader(io.BytesIO(OBJECTS[path]))

    def copy(self, source_file_names, destination_file_names):
        for source, target in zip(source_file_names, destination_file_names, strict=True):
            if source not in OBJECTS:
                raise BeamIOError("Copy operation failed", {source: "404"})
            OBJECTS[target] = OBJECTS[source]

    def rename(self, source_file_names, destination_file_names):
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path):
        return path in OBJECTS

    def metadata(self, path):
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def size(self, path):
        if path not in OBJECTS:
            raise BeamIOError(f"404 {path}")
        return len(OBJECTS[path])

    def last_updated(self, path):
        return 1e9

    def checksum(self, path):
        return str(hash(OBJECTS[path]))

    def delete(self, paths):
        for path in paths:
            if OBJECTS.pop(path, None) is None:
                raise BeamIOError("Delete operation failed", {path: "404"})


class _NewObject(io.BytesIO):
    def __init__(self, path):
        super().__init__()
        self._path = path

    def close(self):
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
        super().close()
