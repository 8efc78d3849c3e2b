"""The dataset on disk: names, the staging folder, the manifest.

::

    OUTPUT/
      manifest.json                 written last: its presence says that the dataset is whole
      schema.pbtxt                  tensorflow_metadata Schema of the input rows
      transform/                    the fitted graph, when there is one
      <split>/part-00000-of-00008.tfrecord.gz
      dead_letters/part-00000-of-00002.jsonl
      .tmp-<run id>/                a run that is not finished, or crashed

With windows there is a manifest for each of them, shards and dead letters lie in a folder for each::

      windows/<start>_<end>.json
      <split>/<start>/part-00000-of-00004.tfrecord.gz    rows that came on time
      <split>/<start>/late-00000-of-00004.tfrecord.gz    rows that came late, where there are any
      dead_letters/<start>/part-00000-of-00002.jsonl
"""

import collections
import dataclasses
import datetime
import hashlib
import json
import os
import re
import secrets
import types
from collections import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

from apache_beam.io.filesystems import FileSystems

from penstock.io.errors import ConfigError, DataError
from penstock.io.folders import copy_folder as copy_folder
from penstock.io.folders import delete_files, is_local
from penstock.io.folders import list_files as list_files
from penstock.io.folders import remove_folder as remove_folder

_T = TypeVar("_T")

MANIFEST = "manifest.json"
SCHEMA = "schema.pbtxt"
TRANSFORM = "transform"
DEAD_LETTERS = "dead_letters"
PARKED = "parked"
WINDOWS = "windows"
STAGING_PREFIX = ".tmp-"

# Suffix of a shard by its compression.
SUFFIXES = {"gzip": ".tfrecord.gz", "zlib": ".tfrecord.zlib", "none": ".tfrecord"}

_MANIFEST_VERSION = 1

_DATASET_FILE = re.compile(
    r"manifest\.json|schema\.pbtxt|(statistics|transform|dead_letters|windows)/.*|\.tmp-.*"
    r"|[^/]+/([^/]+/)?(part|late)-\d{5,}-of-\d{5,}\.[^/]*"
)


def part_name(index: int, total: int, suffix: str, prefix: str = "part") -> str:
    """Name of one of `total` files, as globs and tf.data expect it.

    >>> part_name(3, 128, ".tfrecord.gz")
    'part-00003-of-00128.tfrecord.gz'

    Raises:
      ValueError: if index is not in [0, total).
    """
    if not 0 <= index < total:
        raise ValueError(f"index must be in [0, {total}), got {index}")
    return f"{prefix}-{index:05d}-of-{total:05d}{suffix}"


def reject_names(folder: str, staged: Sequence[str]) -> list[str]:
    """Relative paths in a folder for staged files of dead letters; those that are parked keep a folder of their own.

    >>> reject_names("dead_letters", ["tmp/b.jsonl", "tmp/parked/a.jsonl"])
    ['dead_letters/part-00000-of-00001.jsonl', 'dead_letters/parked/part-00000-of-00001.jsonl']
    """
    folders = [f"{folder}/{PARKED}" if path.split("/")[-2:-1] == [PARKED] else folder for path in staged]
    totals, taken = collections.Counter(folders), collections.Counter[str]()
    names = []
    for found in folders:
        names.append(f"{found}/{part_name(taken[found], totals[found], '.jsonl')}")
        taken[found] += 1
    return names


def new_run_id() -> str:
    """A name for a run: its start in UTC and eight random hex digits."""
    now = datetime.datetime.now(datetime.UTC)
    return f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"


@dataclasses.dataclass(frozen=True)
class Staging:
    """The folder of one run, inside the output, where everything lies until it is published.

    What is staged under a relative path (`path("train", ...)`) is published under the same path below the output.
    """

    output: str
    run_id: str

    @property
    def directory(self) -> str:
        """The folder."""
        return FileSystems.join(self.output, STAGING_PREFIX + self.run_id)

    @property
    def dead_letters(self) -> str:
        """Where dead letters are written."""
        return self.path(DEAD_LETTERS)

    @property
    def outcome(self) -> str:
        """Where publication tells how it ended."""
        return self.path("outcome.json")

    def path(self, *parts: str) -> str:
        """A path inside the folder."""
        return FileSystems.join(self.directory, *parts)

    def published(self, path: str) -> str:
        """Where a staged file goes."""
        return FileSystems.join(self.output, path.removeprefix(self.directory).lstrip("/"))


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard.

    Attributes:
      path: relative to the dataset.
      split: the split it belongs to.
      records: tf.Examples in it.
      bytes: size of the file as stored.
      uncompressed_bytes: size of the framed records.
      crc32c: CRC32C of the file as stored, 8 hex digits.
      sha256: SHA-256 of the framed records before compression, hex.
      event_time: least and greatest event time (ISO 8601, UTC) of its rows; None without.
    """

    path: str
    split: str
    records: int
    bytes: int
    uncompressed_bytes: int
    crc32c: str
    sha256: str
    event_time: tuple[str, str] | None = None


@dataclasses.dataclass(frozen=True)
class RejectsFile:
    """One published file of dead letters: its path relative to the dataset, its rows."""

    path: str
    records: int


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a dataset holds and how it came to be; `rows_in == rows_out + rows_rejected`.

    Attributes:
      dataset_id: `dataset_id` of the shards: the same for the same content.
      splits: rows by split, in the order of the options.
      rejected_by_reason: rows by reason; a row may have several, so that the sum may exceed `rows_rejected`.
      rejected_by_stage: rows by the step that rejected them; the sum is `rows_rejected`.
      provenance: inputs, fingerprints, options, versions: what the job says about itself.
    """

    run_id: str
    dataset_id: str
    created: str
    rows_in: int
    rows_out: int
    rows_rejected: int
    splits: Mapping[str, int]
    shards: tuple[Shard, ...]
    dead_letters: tuple[RejectsFile, ...]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    compression: str
    shuffle: str
    seed: int
    extras: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = _MANIFEST_VERSION

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The manifest of a JSON text.

        Raises:
          DataError: when it is not one, or of a version that this release does not know.
        """
        try:
            fields = json.loads(text)
            if fields["version"] != _MANIFEST_VERSION:
                raise DataError(f"manifest version must be {_MANIFEST_VERSION}, got {fields['version']}")
            shards = tuple(_shard(shard) for shard in fields.pop("shards"))
            rejects = tuple(typed(RejectsFile(**file)) for file in fields.pop("dead_letters"))
            return typed(cls(shards=shards, dead_letters=rejects, extras=tuple(fields.pop("extras")), **fields))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"not a manifest: {error!r}") from error

    def files(self) -> Iterable[str]:
        """Relative paths of all files of the dataset but the manifest and what lies inside an extra folder."""
        yield from (shard.path for shard in self.shards)
        yield from (file.path for file in self.dead_letters)
        yield from self.extras


def _shard(fields: dict[str, Any]) -> Shard:
    times = fields.pop("event_time")
    return typed(Shard(**fields, event_time=tuple(times) if times else None))


def typed(value: _T) -> _T:
    """The dataclass, if its fields are of the types that it declares."""
    for name, hint in get_type_hints(type(value)).items():
        if not _is_of(getattr(value, name), hint):
            raise TypeError(f"{name} must be of type {hint}, got {getattr(value, name)!r}")
    return value


def _is_of(value: object, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, parts[0]) for item in value)
    if origin is abc.Mapping:
        return isinstance(value, dict) and all(_is_of(item, parts[1]) for item in value.values())
    if origin is types.UnionType:
        return any(_is_of(value, part) for part in parts)
    return hint is Any or type(value) is hint


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by name, summed and sorted by name.

    >>> sum_counts([{"b": 1}, {"a": 2, "b": 3}])
    {'a': 2, 'b': 4}
    """
    total: collections.Counter[str] = collections.Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def dataset_id(shards: Sequence[Shard]) -> str:
    """SHA-256 over the shards' digests, split by split in the order given: the identity of the content."""
    lines = "".join(f"{shard.split} {shard.sha256}\n" for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_manifest(directory: str) -> Manifest | None:
    """The manifest of a dataset; None when it has none, and so is not whole.

    Raises:
      DataError: when there is one that cannot be read.
    """
    path = FileSystems.join(directory, MANIFEST)
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path, compression_type="uncompressed") as file:
        text = file.read()
    try:
        return Manifest.from_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def check_output(output: str, overwrite: bool, run_id: str = "", dry_run: bool = False, resume: bool = False) -> None:
    """Refuses an output that cannot take a dataset, before work is spent on it; what `run_id` staged does not count.

    With `dry_run` nothing is written, so that it stays open whether the folder can be written. With `resume` there may
    be windows already.

    Raises:
      ConfigError: when it is a file, cannot be written, holds something and `overwrite` is not set, or holds what is
        no part of a dataset.
    """
    if is_local(output) and os.path.exists(output) and not os.path.isdir(output):
        raise ConfigError(f"--output {output}: is a file; name a folder")
    if not is_local(output) and any(character in output for character in "*?["):
        raise ConfigError(f"--output {output}: must not contain '*', '?' or '[', which stand for patterns")
    own = f"{STAGING_PREFIX}{run_id}/"
    try:
        found = [path for path in list_files(output) if not path.startswith(own)]
    except (OSError, ValueError) as error:
        raise ConfigError(f"--output {output}: cannot be listed: {error}") from error
    if found and not overwrite and not resume:
        examples = ", ".join(sorted(found)[:3])
        raise ConfigError(f"--output {output}: is not empty ({examples}); pass --overwrite to replace what is there")
    check_replaceable(output)
    if not dry_run:
        _probe(output)


def check_replaceable(output: str) -> None:
    """Refuses to overwrite a folder that holds other things than a dataset.

    Raises:
      ConfigError: naming them.
    """
    foreign = sorted(path for path in list_files(output) if not _DATASET_FILE.fullmatch(path))
    if foreign:
        raise ConfigError(
            f"--output {output}: holds files that are no part of a dataset ({', '.join(foreign[:3])}); --overwrite "
            "would delete them: move them away, or name another folder"
        )


def _probe(output: str) -> None:
    probe = f"{STAGING_PREFIX}probe-{secrets.token_hex(4)}"
    try:
        with FileSystems.create(FileSystems.join(output, probe), compression_type="uncompressed") as file:
            file.write(b"")
        delete_files(output, [probe])
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error}") from error
