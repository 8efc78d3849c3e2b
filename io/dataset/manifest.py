"""The manifest of a dataset: what the dataset holds and how it was made."""

import collections
import dataclasses
import functools
import hashlib
import json
import types
from collections import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin, get_type_hints

from penstock.io.beam.json_coder import from_fields
from penstock.io.dataset.layout import MANIFEST
from penstock.io.dataset.observer import Anomaly
from penstock.io.dataset.options import STATISTICS, check_provenance
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.reasons import Note

_T = TypeVar("_T")


def by_time(time: str) -> tuple[int, str]:
    """Orders times in ISO 8601: years after 9999 have more digits, and in some versions of numpy a sign.

    >>> max("9999-12-31T23:00:00Z", "10000-01-01T00:00:00Z", key=by_time)
    '10000-01-01T00:00:00Z'
    """
    text = time.removeprefix("+")
    return text.find("-"), text  # what is no time, as in a manifest that somebody has edited, comes first


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """Where the records of a shard begin (`penstock.io.dataset.shard.OffsetsSink`).

    Attributes:
      path: path relative to the dataset.
      bytes: size of the file.
      crc32c: CRC32C of the file, 8 hex digits.
    """

    path: str
    bytes: int
    crc32c: str


@dataclasses.dataclass(frozen=True)
class Shard:
    """One shard of a dataset, as the manifest describes it.

    Attributes:
      path: path relative to the dataset.
      split: the split it belongs to.
      records: number of records, one per row.
      bytes: size of the file as stored.
      uncompressed_bytes: size of its content: framed tf.Examples, or table rows as `rows.py` encodes them.
      crc32c: CRC32C of the file as stored, 8 hex digits.
      sha256: SHA-256 of its content, hex.
      event_time: least and greatest event time (ISO 8601, UTC) of its rows; None if they have no event times.
      index: where its records begin; None if that was not written.
    """

    path: str
    split: str
    records: int
    bytes: int
    uncompressed_bytes: int
    crc32c: str
    sha256: str
    event_time: tuple[str, str] | None = None
    index: ShardIndex | None = dataclasses.field(default=None, kw_only=True)

    def stored(self) -> dict[str, tuple[int, str]]:
        """Returns size and CRC32C of its files, by their paths: of the shard, and of its index."""
        files = (self,) if self.index is None else (self, self.index)
        return {file.path: (file.bytes, file.crc32c) for file in files}

    def placed(self, place: Callable[[str], str]) -> Self:
        """Returns the shard with other paths of its files."""
        index = self.index and dataclasses.replace(self.index, path=place(self.index.path))
        return dataclasses.replace(self, path=place(self.path), index=index)


@dataclasses.dataclass(frozen=True)
class PublishedDeadLetters:
    """One published dead-letter file: its path relative to the dataset and its number of rows."""

    path: str
    records: int


@dataclasses.dataclass(frozen=True)
class Span:
    """What was added to a dataset at one time, or was put together of several spans.

    `rows_in == rows_out + rows_rejected`. The shards and dead letters of the span are those of the manifest that lie in
    its folder; its inputs are those of `provenance.inputs` that name it.

    Attributes:
      name: unique in a version of the dataset.
      run_id: the run that wrote its files.
      created: when it was published, ISO 8601, UTC.
      date: what `retain` goes by, ISO 8601, UTC (`span_date`).
      folder: of its files, relative to the dataset; empty for those of a first run on a disk, which has none.
      dataset_id: `dataset_id` of its shards.
      splits: rows by split.
      rejected_by_reason, rejected_by_stage: as in the manifest.
      statistics: the folder of the statistics of its rows, relative to the dataset.
      notes, anomalies: of its rows, as in the manifest.
      parts: the names of the spans that it was put together of, as far as they are other ones.
      provenance: where its run differs from `provenance` of the manifest.
    """

    name: str
    run_id: str
    created: str
    date: str
    folder: str
    dataset_id: str
    rows_in: int
    rows_out: int
    rows_rejected: int
    splits: Mapping[str, int]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    statistics: str | None = None
    notes: tuple[Note, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    parts: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _runs_of(run_id: str, provenance: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    parts = provenance.get("parts", ())
    if not parts:
        yield run_id, provenance
    for part in parts:
        yield from _runs_of(part["run_id"], part.get("provenance", {}))


class SpanFolders:
    """Tells which folder of some spans a file is in; a split, which is a folder too, may begin with `run-`."""

    def __init__(self, spans: Iterable[Span]):
        self._names = {span.folder for span in spans}

    def __call__(self, path: str) -> str:
        """Returns the folder of a span, or empty for a file that is in none."""
        top = path.partition("/")[0]
        return top if top in self._names else ""


class ManifestFile:
    """Common base of dataset and window manifests. Both are frozen dataclasses that are stored as JSON."""

    VERSION: ClassVar = 1

    version: int
    shards: tuple[Shard, ...]
    dead_letters: tuple[PublishedDeadLetters, ...]
    notes: tuple[Note, ...]
    extras: tuple[str, ...]
    provenance: Mapping[str, Any]

    def to_json(self) -> str:
        """Returns indented JSON. A shard without an index does not mention it, as before there were any."""
        fields = dataclasses.asdict(self)  # type: ignore[call-overload]
        for shard in fields["shards"]:
            if shard["index"] is None:
                del shard["index"]
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parses a manifest from JSON text.

        Raises:
          DataError: if the text is not a manifest, or has a version that this release does not know.
        """
        try:
            fields = json.loads(text)
            if fields["version"] != cls.VERSION:
                raise DataError(f"manifest version must be {cls.VERSION}, got {fields['version']}")
            found = _typed(from_fields(cls, fields))
            found.check_provenances()
            return found
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"not a manifest: {error!r}") from error

    @classmethod
    def read(cls, path: str) -> Self | None:
        """Reads the manifest in a file; returns None if the file does not exist.

        Raises:
          DataError: if the file exists and is not a readable manifest.
        """
        content = stores.read_if_there(path)
        return None if content is None else cls.parse(content, path)

    @classmethod
    def parse(cls, text: str | bytes, path: str) -> Self:
        """Parses the manifest that was read from a file.

        Raises:
          DataError: as `from_json`; the message names the file.
        """
        try:
            return cls.from_json(text)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error

    def check_provenances(self) -> None:
        """Checks what other runs read of its provenance, and of those of its spans.

        Raises:
          DataError: as `check_provenance`.
        """
        check_provenance(self.provenance)

    def files(self) -> Iterable[str]:
        """Yields the relative paths of all files that the manifest lists, except the contents of extra folders."""
        for shard in self.shards:
            yield from shard.stored()
        yield from (file.path for file in self.dead_letters)
        yield from self.extras

    def extra(self, name: str) -> str | None:
        """Returns the relative path of an extra, such as `schema.pbtxt`, if the dataset has it."""
        return next((path for path in self.extras if path.rpartition("/")[2] == name), None)


@dataclasses.dataclass(frozen=True)
class Manifest(ManifestFile):
    """What a dataset holds and how it came to be.

    `rows_in == rows_out + rows_rejected`.

    Attributes:
      dataset_id: `dataset_id` of the shards: equal for equal content.
      splits: rows by split, in the order of the options.
      rejected_by_reason: rows by reason; a row may have several, so the sum may exceed `rows_rejected`. One that has a
        reason for two columns counts once.
      rejected_by_stage: rows by the step that rejected them; the sum is `rows_rejected`.
      format: shard format, as `--output_format` names it.
      media_type: media type of the shards.
      notes: what became of values that are no reason to reject a row, such as digits that float32 cannot hold.
      anomalies: what is wrong with the rows as a whole, the gravest first.
      provenance: what the job records about itself: inputs, fingerprints, options, versions. Of a dataset that was
        added to, that of its first span, with the inputs of all, each of which names its `span`.
      spans: what was added at one time each, the oldest first; all else is of all of them together. Empty for a dataset
        that was never added to.
      dataset_version: counts what was published in this folder, from 1.
      operation: what was done to the version before it, such as `append 2026-11-27`; empty for a dataset that is new.
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
    notes: tuple[Note, ...] = ()
    extras: tuple[str, ...] = ()
    anomalies: tuple[Anomaly, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    spans: tuple[Span, ...] = ()
    dataset_version: int = 1
    operation: str = ""
    version: int = ManifestFile.VERSION

    def extra(self, name: str) -> str | None:
        """Returns the relative path of an extra. Statistics are those of the newest span, since each has its own."""
        return self.spans[-1].statistics if self.spans and name == STATISTICS else super().extra(name)

    def check_provenances(self) -> None:
        """As in the base."""
        super().check_provenances()
        for span in self.spans:
            check_provenance(span.provenance, f"span {span.name}: provenance")

    def part_of(self, span: Span) -> Self:
        """Returns the manifest of a span alone, as its run had it."""
        if not self.spans:
            return self
        folder_of = SpanFolders(self.spans)
        others = [extra for extra in self.extras if extra.rpartition("/")[2] != STATISTICS]
        inputs = [one for one in self.provenance.get("inputs", ()) if one.get("span") == span.name]
        options = {**self.provenance.get("options", {}), **span.provenance.get("options", {})}
        return dataclasses.replace(
            self,
            run_id=span.run_id,
            created=span.created,
            dataset_id=span.dataset_id,
            rows_in=span.rows_in,
            rows_out=span.rows_out,
            rows_rejected=span.rows_rejected,
            splits=span.splits,
            shards=tuple(shard for shard in self.shards if folder_of(shard.path) == span.folder),
            dead_letters=tuple(file for file in self.dead_letters if folder_of(file.path) == span.folder),
            rejected_by_reason=span.rejected_by_reason,
            rejected_by_stage=span.rejected_by_stage,
            notes=span.notes,
            anomalies=span.anomalies,
            extras=(*others, *([span.statistics] if span.statistics else [])),
            provenance={**self.provenance, **span.provenance, "inputs": inputs, "options": options},
            spans=(span,),
        )

    def options_of(self, span: Span) -> Mapping[str, Mapping[str, Any]]:
        """Returns the options of each run whose rows a span has, by run id; several of one that was put together."""
        common = self.provenance.get("options", {})
        runs = _runs_of(span.run_id, span.provenance)
        return {run: {**common, **own.get("options", {})} for run, own in runs}

    def part_of_run(self, run_id: str) -> Self:
        """Returns what a run has published: its span, or the dataset as a whole."""
        return next((self.part_of(span) for span in self.spans if span.run_id == run_id), self)


def sum_counts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums counts by name; the result is sorted by name.

    >>> sum_counts([{"b": 1}, {"a": 2, "b": 3}])
    {'a': 2, 'b': 4}
    """
    total: collections.Counter[str] = collections.Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def dataset_id(shards: Sequence[Shard]) -> str:
    """Identifies the content: returns SHA-256 over the digests of the shards, in the order given."""
    lines = "".join(f"{shard.split} {shard.sha256}\n" for shard in shards)
    return hashlib.sha256(lines.encode()).hexdigest()


def read_manifest(directory: str) -> Manifest | None:
    """Reads the manifest of a dataset.

    Returns None if there is no manifest, which means that the dataset is incomplete.

    Raises:
      DataError: if there is a manifest that cannot be read.
    """
    return Manifest.read(stores.join(directory, MANIFEST))


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _typed(value: _T) -> _T:
    """Returns the dataclass after checking that its fields, nested dataclasses included, have their declared types."""
    kind: Any = type(value)
    hints = _hints(kind)
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
