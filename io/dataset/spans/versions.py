"""The versions of a dataset: what has been its manifest before, compressed, each in a file of its own.

A version can be read as long as all its files are there: nothing that adds, drops or compacts deletes any.
`penstock verify --clean` does, once a version has been replaced for long enough.
"""

import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from penstock.io.dataset.layout import MANIFEST, VERSIONS
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files, replace_file

_FILE = re.compile(r"(\d{6,})\.json\.gz")


def version_path(number: int) -> str:
    """Returns the path of a version's manifest, relative to the dataset.

    >>> version_path(3)
    '_versions/000003.json.gz'
    """
    return f"{VERSIONS}/{number:06d}.json.gz"


def keep_version(output: str, manifest: Manifest, staged: str) -> None:
    """Keeps the manifest of a dataset before another one replaces it; the same one again writes the same bytes.

    Args:
      output: the folder of the dataset.
      manifest: as it is now.
      staged: a path for the file while it is written, on a disk.
    """
    path = stores.join(output, *version_path(manifest.dataset_version).split("/"))
    replace_file(path, gzip.compress(manifest.to_json().encode(), mtime=0), staged, "application/gzip")


def version_numbers(output: str) -> list[int]:
    """Returns the numbers of the versions before the present one that are known, ascending."""
    names = map(_FILE.fullmatch, list_files(stores.join(output, VERSIONS)))
    return sorted(int(name[1]) for name in names if name)


def read_versions(output: str) -> Iterator[Manifest]:
    """Yields the manifests of all versions that are known, the present one last.

    Raises:
      DataError: when one cannot be read.
    """
    present = read_manifest(output)
    for number in version_numbers(output):
        if present is None or number < present.dataset_version:
            yield _read(output, number)
    if present is not None:
        yield present


def read_version(output: str, number: int) -> Manifest:
    """Returns the manifest of a version.

    Raises:
      ConfigError: when the dataset has no such version; the message names those that there are.
      DataError: when it cannot be read.
    """
    present = read_manifest(output)
    if present is not None and present.dataset_version == number:
        return present
    numbers = version_numbers(output)
    if number not in numbers:
        known = sorted({*numbers, *([present.dataset_version] if present else [])})
        there = f"there are {known[0]} to {known[-1]}" if known else "it has none"
        raise ConfigError(f"{output}: there is no version {number}; {there} (penstock log)")
    return _read(output, number)


def _read(output: str, number: int) -> Manifest:
    path = stores.join(output, *version_path(number).split("/"))
    content = stores.read_if_there(path)
    if content is None:
        raise DataError(f"{path}: is missing")
    try:
        text = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}") from error
    return Manifest.parse(text, path)


def superseded(output: str, present_files: Iterable[str]) -> dict[str, str]:
    """Finds the files of earlier versions that the present one does not have.

    The files below a folder that a version names, such as its statistics, are its files.

    Args:
      output: the folder of the dataset.
      present_files: relative paths of the files that are there.

    Returns:
      For each path when it was left out, ISO 8601, UTC.

    Raises:
      DataError: when a manifest cannot be read.
    """
    since: dict[str, str] = {}
    last: set[str] = set()
    for created, files in _files(output):
        since.update(dict.fromkeys(last - files, created))
        since = {path: time for path, time in since.items() if path not in files}
        last = files
    if not since:
        return {}
    return {path: time for path in present_files if (time := _within(path, since)) is not None}


def _files(output: str) -> Iterator[tuple[str, set[str]]]:
    """Yields of each version when it was published, and its files; of a manifest only that is looked at."""
    path = stores.join(output, MANIFEST)
    present = _fields(path, stores.read_if_there(path))
    for number in version_numbers(output):
        if present is None or number < present.get("dataset_version", 1):
            earlier = stores.join(output, *version_path(number).split("/"))
            found = _fields(earlier, stores.read_if_there(earlier))
            if found is not None:
                yield found["created"], _named(found)
    if present is not None:
        yield present["created"], _named(present)


def _fields(path: str, content: bytes | None) -> dict[str, Any] | None:
    try:
        if content is None:
            return None
        found = json.loads(gzip.decompress(content) if path.endswith(".gz") else content)
        if not isinstance(found["created"], str):
            raise TypeError("created must be a text")
        _named(found)
        return dict(found)
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not a manifest: {error!r}") from error


def _named(fields: Mapping[str, Any]) -> set[str]:
    indexes = [shard["index"] for shard in fields["shards"] if shard.get("index")]
    files = (*fields["shards"], *indexes, *fields["dead_letters"])
    return {*fields["extras"], *(file["path"] for file in files)}


def _within(path: str, since: Mapping[str, str]) -> str | None:
    """The time of the path, or of the innermost folder around it that has one."""
    while path and path not in since:
        path = path.rpartition("/")[0]
    return since.get(path)
