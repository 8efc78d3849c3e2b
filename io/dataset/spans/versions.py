"""The versions of a dataset: what has been its manifest before, compressed, each in a file of its own.

A version can be read as long as all its files are there: nothing that adds, drops or compacts deletes any.
`penstock verify --clean` does, once a version has been replaced for long enough.
"""

import dataclasses
import gzip
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

from isal import igzip, igzip_lib

from penstock.io.dataset.layout import MANIFEST, VERSIONS
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.dataset.spans.shared_parts import SharedParts
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_files, replace_file

_T = TypeVar("_T")
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


@dataclasses.dataclass(frozen=True)
class Version:
    """What is asked of the versions of a dataset when they are looked at one after another.

    Attributes:
      number: `dataset_version` of its manifest.
      created, run_id, operation, dataset_id, rows_out: as in its manifest.
      spans: the rows of each span, by the run that wrote it; one for a dataset that was never added to.
      parts: the runs that a span was put together of, by the run that did that.
      shards: relative paths of the shards.
      files: relative paths of all files, and of folders that the manifest names as a whole.
    """

    number: int
    created: str
    run_id: str
    operation: str
    dataset_id: str
    rows_out: int
    spans: Mapping[str, int]
    parts: Mapping[str, frozenset[str]]
    shards: frozenset[str]
    files: frozenset[str]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """Returns that of the fields of a manifest.

        Raises:
          KeyError: when one is missing.
          TypeError: when one is of another kind.
          ValueError: when they are those of a version of manifests that this release does not know.
        """
        if fields["version"] != Manifest.VERSION:
            raise ValueError(f"manifest version must be {Manifest.VERSION}, got {fields['version']}")
        spans = fields.get("spans") or [fields]
        indexes = [shard["index"]["path"] for shard in fields["shards"] if shard.get("index")]
        shards = frozenset(shard["path"] for shard in fields["shards"])
        letters = [file["path"] for file in fields["dead_letters"]]
        return cls(
            _is(fields.get("dataset_version", 1), int),
            _is(fields["created"], str),
            _is(fields["run_id"], str),
            _is(fields.get("operation", ""), str),
            _is(fields["dataset_id"], str),
            _is(fields["rows_out"], int),
            {_is(span["run_id"], str): _is(span["rows_out"], int) for span in spans},
            {
                span["run_id"]: frozenset(part["run_id"] for part in span["provenance"]["parts"])
                for span in spans
                if span.get("provenance", {}).get("parts")
            },
            shards,
            shards.union(indexes, letters, fields.get("extras", ())),
        )


def _is(value: Any, kind: type[_T]) -> _T:
    if not isinstance(value, kind):
        raise TypeError(f"must be of type {kind.__name__}, got {value!r}")
    return value


def read_versions(output: str) -> Iterator[Version]:
    """Yields all versions that are known, the present one last.

    What each of them adds to the one before is parsed, and no more: each has the shards and spans of nearly all others.

    Raises:
      DataError: when a manifest cannot be read.
    """
    path, parts = stores.join(output, MANIFEST), SharedParts()
    present = _version(path, stores.read_if_there(path), parts)
    for number in version_numbers(output):
        if present is None or number < present.number:
            earlier = stores.join(output, *version_path(number).split("/"))
            content = stores.read_if_there(earlier)
            found = _version(earlier, None if content is None else _unpacked(earlier, content), parts)
            if found is not None:
                yield found
    if present is not None:
        yield present


def _version(path: str, content: bytes | None, parts: SharedParts) -> Version | None:
    try:
        return None if content is None else Version.of(parts.parse(content.decode()))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a manifest: {error!r}") from error


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
    return Manifest.parse(_unpacked(path, content), path)


def _unpacked(path: str, content: bytes) -> bytes:
    try:
        return igzip.decompress(content)
    except (OSError, EOFError, igzip_lib.IsalError) as error:  # type: ignore[misc]  # its stub has no class
        raise DataError(f"{path}: cannot be decompressed: {error}") from error


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
    last: frozenset[str] = frozenset()
    for version in read_versions(output):
        since.update(dict.fromkeys(last - version.files, version.created))
        for path in since.keys() & (version.files - last):
            del since[path]
        last = version.files
    if not since:
        return {}
    return {path: time for path in present_files if (time := _within(path, since)) is not None}


def _within(path: str, since: Mapping[str, str]) -> str | None:
    """The time of the path, or of the innermost folder around it that has one."""
    while path and path not in since:
        path = path.rpartition("/")[0]
    return since.get(path)
