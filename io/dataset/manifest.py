"""The manifest of a dataset: what it holds, and how it came to be."""

import collections
import dataclasses
import hashlib
import json
import types
from collections import abc
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from apache_beam.io.filesystems import FileSystems

from penstock.io.beam.json_coder import from_fields
from penstock.io.dataset.layout import MANIFEST
from penstock.io.errors import DataError

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard of a dataset, as the manifest describes it.

    Attributes:
      path: relative to the dataset.
      split: the split it belongs to.
      records: in it: rows.
      bytes: size of the file as stored.
      uncompressed_bytes: size of its content: framed tf.Examples, or what `rows.py` makes of rows of a table.
      crc32c: CRC32C of the file as stored, 8 hex digits.
      sha256: SHA-256 of its content, hex.
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
class PublishedDeadLetters:
    """One published file of dead letters: its path relative to the dataset, its rows."""

    path: str
    records: int


class ManifestFile:
    """What the manifest of a dataset and that of a window have in common, both frozen dataclasses: a file of JSON."""

    VERSION: ClassVar = 1

    version: int
    shards: tuple[Shard, ...]
    dead_letters: tuple[PublishedDeadLetters, ...]
    extras: tuple[str, ...]

    def to_json(self) -> str:
        """Indented JSON."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """The manifest of a JSON text.

        Raises:
          DataError: when it is not one, or of a version that this release does not know.
        """
        try:
            fields = json.loads(text)
            if fields["version"] != cls.VERSION:
                raise DataError(f"manifest version must be {cls.VERSION}, got {fields['version']}")
            return _typed(from_fields(cls, fields))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"not a manifest: {error!r}") from error

    @classmethod
    def read(cls, path: str) -> Self | None:
        """The manifest in a file; None when there is none.

        Raises:
          DataError: when there is one that cannot be read.
        """
        if not FileSystems.exists(path):
            return None
        with FileSystems.open(path, compression_type="uncompressed") as file:
            text = file.read()
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def files(self) -> Iterable[str]:
        """Relative paths of all files that it stands for, but what lies inside an extra folder."""
        yield from (shard.path for shard in self.shards)
        yield from (file.path for file in self.dead_letters)
        yield from self.extras


@dataclasses.dataclass(frozen=True)
class Manifest(ManifestFile):
    """What a dataset holds and how it came to be.

    `rows_in == rows_out + rows_rejected`.

    Attributes:
      dataset_id: `dataset_id` of the shards: the same for the same content.
      splits: rows by split, in the order of the options.
      rejected_by_reason: rows by reason; a row may have several, so that the sum may exceed `rows_rejected`.
      rejected_by_stage: rows by the step that rejected them; the sum is `rows_rejected`.
      format: of the shards, as `--output_format` names it.
      media_type: of the shards.
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
    dead_letters: tuple[PublishedDeadLetters, ...]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    compression: str
    shuffle: str
    seed: int
    format: str = "tfrecord"
    media_type: str = "application/x-tfrecord"
    extras: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = ManifestFile.VERSION


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
    """Reads the manifest of a dataset.

    None when it has none, and so is not whole.

    Raises:
      DataError: when there is one that cannot be read.
    """
    return Manifest.read(FileSystems.join(directory, MANIFEST))


def _typed(value: _T) -> _T:
    """The dataclass, if its fields, and those of dataclasses in them, are of the types that they declare."""
    hints = get_type_hints(type(value))
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        if not _is_of(getattr(value, field.name), hints[field.name]):
            raise TypeError(f"{field.name} must be of type {hints[field.name]}, got {getattr(value, field.name)!r}")
    return value


def _is_of(value: object, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if origin is tuple:
        return isinstance(value, tuple) and all(_is_of(item, parts[0]) for item in value)
    if origin is abc.Mapping:
        return isinstance(value, dict) and all(_is_of(item, parts[1]) for item in value.values())
    if origin is types.UnionType:
        return any(_is_of(value, part) for part in parts)
    if dataclasses.is_dataclass(value):
        return type(_typed(value)) is hint
    return hint is Any or type(value) is hint
