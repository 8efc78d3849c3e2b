"""What a loader must know of a dataset: its shards and columns, from the manifest and the schema.

It reads a manifest's JSON itself: `penstock.io.dataset.manifest` knows all of it, and takes Beam to do so.
"""

import dataclasses
import functools
import gzip
import json
import os
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.load.shards.files import files_below, join, read_if_there
from penstock.io.dataset.options import COMPACTED, MANIFEST, SCHEMA, TRANSFORM, VERSIONS, WINDOWS
from penstock.io.dataset.shard_formats import SHARD_FORMATS, shard_kind
from penstock.io.errors import ConfigError, DataError
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.extras import check_filesystem
from penstock.io.files.paths import is_local
from penstock.io.reserved import keeps_origins
from penstock.io.schema import Feature, schema_features

_VERSION = 1

# In a folder that tensorflow-transform wrote: the schema of what a graph computes.
_GRAPH_SCHEMA = "transformed_metadata/schema.pbtxt"


class StoredIndex(NamedTuple):
    """Where the records of a shard begin: path relative to the dataset, bytes, and CRC32C as 8 hex digits."""

    path: str
    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class StoredShard:
    """A shard: its path relative to the dataset, its split, its records, its bytes as stored and their CRC32C, hex.

    Attributes:
      index: where its records begin; None where none was written.
    """

    path: str
    split: str
    records: int
    bytes: int
    crc32c: str
    index: StoredIndex | None = None


@dataclasses.dataclass(frozen=True)
class Contents:
    """What a dataset holds.

    Attributes:
      directory: its folder.
      dataset_ids: of the content: one, or one for each window, or set of windows that were put together.
      format: of the shards.
      compression: of the shards.
      splits: rows by split.
      shards: in the order of the manifest; with windows, in the order of time, those of a set where its period begins.
      features: what a record may have, by the schema of what was written; None where the dataset has no schema.
      has_origins: whether records say where they came from (`penstock.io.reserved`), beside their features.
      version: of the dataset, as `penstock log` numbers them; None with windows, which have none.
    """

    directory: str
    dataset_ids: tuple[str, ...]
    format: str
    compression: str
    splits: Mapping[str, int]
    shards: tuple[StoredShard, ...]
    features: tuple[Feature, ...] | None
    has_origins: bool = False
    version: int | None = None


def read_contents(directory: str, version: int | None = None) -> Contents:
    """Reads the manifest, or those of all windows that are published, and the schema.

    With `version`, a manifest is read that may have been replaced since.

    Raises:
      ConfigError: when there is no such version, or files of it are deleted; when the folder holds no dataset that is
        complete, or one of a format that this release does not know; when a job is replacing it, or was killed over
        that; when its schema is wrong.
      MissingExtraError: when its format or its store needs an extra that is not installed.
      DataError: when a manifest is damaged.
    """
    check_filesystem(directory)
    if is_local(directory) and os.path.exists(directory) and not os.path.isdir(directory):
        raise ConfigError(f"{directory}: is a file; name the folder of a dataset")
    manifests = list(_manifests(directory)) if version is None else [_version(directory, version)]
    if (not manifests or manifests[0][1]["window"]) and (told := told_of(directory)):
        raise ConfigError(f"{directory}: {told}")
    if not manifests:
        raise ConfigError(
            f"{directory}: holds no dataset: there is no {MANIFEST}, and no window is published; check the path, or "
            "wait until the job that writes it has ended"
        )
    first, last = manifests[0][1], manifests[-1][1]
    for path, fields in manifests:
        if (fields["format"], fields["compression"]) != (first["format"], first["compression"]):
            raise DataError(f"{path}: has shards of another format or compression than the window before it")
    if first["format"] not in SHARD_FORMATS or first["compression"] not in SHARD_FORMATS[first["format"]].suffixes:
        raise ConfigError(
            f"{directory}: has shards of the format {first['format']} with compression {first['compression']}, which "
            "is unknown here: load it with a newer Penstock"
        )
    shard_kind(first["format"])
    splits: dict[str, int] = {}
    for _, fields in manifests:
        for split, rows in fields["splits"].items():
            splits[split] = splits.get(split, 0) + rows
    return Contents(
        directory=directory,
        dataset_ids=tuple(fields["dataset_id"] for _, fields in manifests),
        format=first["format"],
        compression=first["compression"],
        splits=splits,
        shards=tuple(shard for _, fields in manifests for shard in fields["shards"]),
        features=_features(directory, last["extras"]),
        has_origins=last["has_origins"],
        version=None if first["window"] else first["dataset_version"],
    )


def _manifests(directory: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields path and fields of the manifest, or of those of windows in the order of time.

    Windows that were put together are read as their set, which begins with the period.
    """
    path = join(directory, MANIFEST)
    content = read_if_there(path)
    if content is not None:
        yield path, parse_manifest(content, path)
        return
    sets = list(_read_all(join(directory, COMPACTED)))
    compacted = {part for _, fields in sets for part in fields["parts"]}
    found = [*sets, *_read_all(join(directory, WINDOWS), compacted)]
    yield from sorted(found, key=lambda one: (one[1]["window"], one[0]))


def _read_all(folder: str, left_out: Collection[str] = ()) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields path and fields of the manifests in a folder, but for those of these names."""
    for name in files_below(folder):
        if name.endswith(".json") and name.removesuffix(".json") not in left_out:
            path = join(folder, name)
            content = read_if_there(path)
            if content is not None:  # a window that is published anew may be gone for a moment in no store
                yield path, parse_manifest(content, path)


def _version(directory: str, number: int) -> tuple[str, Mapping[str, Any]]:
    """Returns path and fields of the manifest of a version, all files of which are there.

    Raises:
      ConfigError: when there is no such version, or `penstock verify --clean` has deleted files of it.
    """
    path, fields = read_version_of(directory, number)
    there = {*files_below(directory)}
    gone = [shard.path for shard in fields["shards"] if shard.path not in there]
    if gone:
        raise ConfigError(
            f"{directory}: shards of version {number} are deleted ({len(gone)}, such as {gone[0]}): read a version "
            "that is kept (penstock log)"
        )
    return path, fields


def read_version_of(directory: str, number: int) -> tuple[str, Mapping[str, Any]]:
    """Returns path and fields of the manifest of a version, whose files may be gone.

    Raises:
      ConfigError: when there is no such version.
      DataError: when it cannot be read.
    """
    path = join(directory, MANIFEST)
    present = read_if_there(path)
    fields = None if present is None else parse_manifest(present, path)
    if fields is not None and fields["dataset_version"] == number:
        return path, fields
    path = join(directory, f"{VERSIONS}/{number:06d}.json.gz")
    content = read_if_there(path)
    if content is None or (fields is not None and fields["dataset_version"] < number):
        newest = "" if fields is None else f"; the newest is {fields['dataset_version']}"
        raise ConfigError(f"{directory}: there is no version {number}{newest} (penstock log)")
    try:
        return path, parse_manifest(gzip.decompress(content), path)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be decompressed: {error}") from error


def parse_manifest(content: bytes, path: str) -> Mapping[str, Any]:
    """Returns the fields of a manifest that a loader needs, each of its type.

    Raises:
      DataError: when the text is no manifest, has another version, or contradicts itself.
    """
    try:
        fields = json.loads(content)
        if fields["version"] != _VERSION:
            raise DataError(f"{path}: manifest version must be {_VERSION}, got {fields['version']}")
        shards = tuple(
            StoredShard(**{name: _of(shard[name], kind) for name, kind in _SHARD.items()}, index=_index(shard))
            for shard in fields["shards"]
        )
        parsed = {
            "dataset_id": _of(fields["dataset_id"], str),
            "format": _of(fields.get("format", "tfrecord"), str),
            "compression": _of(fields["compression"], str),
            "splits": {_of(name, str): _of(rows, int) for name, rows in fields["splits"].items()},
            "extras": [_of(extra, str) for extra in fields.get("extras", ())],
            "window": [_of(time, str) for time in fields.get("window", ())],
            "windows": _of(fields.get("windows", ""), str),
            "final": _of(fields.get("final", True), bool),
            "windows_in_all": _of(fields.get("windows_in_all", 0), int),
            "created": _of(fields["created"], str),
            "run_id": _of(fields["run_id"], str),
            "parts": [_of(part["name"], str) for part in fields.get("parts", ())],
            "spans": [
                {
                    "run_id": _of(span["run_id"], str),
                    "folder": _of(span["folder"], str),
                    "parts": [_of(part["run_id"], str) for part in span["provenance"].get("parts", ())],
                }
                for span in fields.get("spans", ())
            ],
            "shards": shards,
            "has_origins": keeps_origins(fields.get("provenance", {})),
            "dataset_version": _of(fields.get("dataset_version", 1), int),
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path}: not a manifest: {error!r}") from error
    for split, rows in parsed["splits"].items():
        held = sum(shard.records for shard in shards if shard.split == split)
        if held != rows:
            raise DataError(f"{path}: the split {split} must have {rows} rows, and its shards have {held}")
    return parsed


_INDEX = {"path": str, "bytes": int, "crc32c": str}
_SHARD = {"split": str, "records": int, **_INDEX}


def _index(shard: Mapping[str, Any]) -> StoredIndex | None:
    index = shard.get("index")
    return None if index is None else StoredIndex(*(_of(index[name], kind) for name, kind in _INDEX.items()))


def _of(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"must be of type {kind.__name__}, got {value!r}")
    return value


def _features(directory: str, extras: Sequence[str]) -> tuple[Feature, ...] | None:
    """Returns the features of the records: what the graph computes, where one was applied, else those of the rows."""
    found = {path.rpartition("/")[2]: path for path in extras}
    if TRANSFORM in found:
        path = join(directory, f"{found[TRANSFORM]}/{_GRAPH_SCHEMA}")
    elif SCHEMA in found:
        path = join(directory, found[SCHEMA])
    else:
        return None
    content = read_if_there(path)
    if content is None:
        raise DataError(f"{path}: the schema of the dataset is missing; see penstock verify")
    return _parsed(content, path)


# A schema of 100 columns takes 10 ms, and is the same each time a dataset is loaded, or its windows are.
@functools.lru_cache(16)
def _parsed(content: bytes, path: str) -> tuple[Feature, ...]:
    try:
        schema = text_format.Parse(content.decode(), schema_pb2.Schema())
    except (ValueError, text_format.ParseError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return schema_features(schema, path)
