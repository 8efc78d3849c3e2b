"""The manifest of one window of a dataset, `OUTPUT/windows/<start>_<end>.json`; in processing time `<start>.json`.

And that of windows that were put together, `OUTPUT/_compacted/<start>_<end>.json`: who reads rows goes by it, who reads
how the stream went by the manifests of the windows, which stay."""

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np

from penstock.io.beam.coverage import Covered, InputRange
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.windows import is_flushed, parse_time_name, time_name
from penstock.io.dataset.layout import COMPACTED, WINDOWS
from penstock.io.dataset.manifest import Manifest, ManifestFile, PublishedDeadLetters, Shard, read_manifest
from penstock.io.dataset.observer import Anomaly, statistics_files
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.reasons import Note

Pane = Literal["on_time", "late"]
WindowStatus = Literal["published", "quarantined"]


@dataclasses.dataclass(frozen=True)
class WindowShard(Shard):
    """A shard of a window. It holds either rows that came on time, or rows that came late."""

    pane: str = "on_time"


@register_json
@dataclasses.dataclass(frozen=True)
class Closing:
    """One of the closings of a stream, of which each pane of each window is one.

    Once those up to a number are published, the stream can go on from the last of them: what they do not hold lies at
    or behind `resume_at`.

    Attributes:
      generation: how often the stream had been started, from 1.
      number: counts the closings of a generation, from 1.
      clock: the greatest time that had passed, microseconds since 1970.
      resume_at: for each uri, the least position of a row that was still to be read, or waited in an open pane.
      last: for each uri, the greatest position of a row that the pane holds, also as a dead letter.
    """

    generation: int
    number: int
    clock: int
    resume_at: Mapping[str, int]
    last: Mapping[str, int] = dataclasses.field(default_factory=dict)


@register_json
@dataclasses.dataclass(frozen=True)
class WindowManifest(ManifestFile):
    """What a window of a dataset holds and how it came to be.

    `rows_in == rows_out + rows_rejected`, and `rows_out == rows_on_time + rows_late`.

    Attributes:
      run_id: the run that first wrote into the dataset; a job that continues from its savepoint keeps it.
      window: start (inclusive) and end (exclusive), ISO 8601, UTC; with `flush:`, between which times of the clock its
        rows came.
      windows: the windows of the job, such as `fixed:1m`; with `sliding:` a row counts once for each of its windows;
        `flush:` stands for windows of processing time.
      final: whether no more rows will be added.
      sequence: 1 with the rows that came on time, 2 with the late ones as well: a newer version replaces an older one.
      status: `quarantined` if more than `max_reject_fraction` of the rows were rejected, else `published`.
      dataset_id: `dataset_id` of the shards: equal for equal content.
      rows_rejected: rejects that were filed in this window, as they arrived while it was open.
      rows_foreign: those of `rows_rejected` that are no fault of this window, and do not count against
        `max_reject_fraction`: they are too late for their own window, or their time is in the future.
      inputs: where the rows of the shards come from.
      notes: as in `Manifest`: those of the whole input first, as the schema was inferred, then those of this window.
      extras: files of the dataset that belong to all windows.
      closings: those that made this version; none if the stream cannot go on from the dataset.
      covered: for each uri, the ranges of positions that had been read. A row of this window in them is in a shard of
        it or, like any other row, a dead letter of any window. With `flush:`, the ranges are those of this window
        alone: each row in them is in it, as a row of a shard or a dead letter.
      number: with `flush:`, counts the windows from 1, over all starts; those that were not published when a job was
        killed are missing. Else 0.
      statistics: path of the statistics of the rows of all shards, relative to the dataset, with the same as JSON
        beside it; None for none.
      statistics_rejected: the same of the rows in the dead letters.
      anomalies: what is wrong with the rows as a whole, the gravest first.
      compared_with: the statistics that they were compared with.
      windows_in_all: how many windows are published in all, of input that has an end; 0 of a stream, which can go on at
        any time.
    """

    run_id: str
    dataset_id: str
    created: str
    window: tuple[str, str]
    windows: str
    final: bool
    sequence: int
    status: str
    rows_in: int
    rows_out: int
    rows_rejected: int
    rows_on_time: int
    rows_late: int
    splits: Mapping[str, int]
    shards: tuple[WindowShard, ...]
    dead_letters: tuple[PublishedDeadLetters, ...]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    inputs: tuple[InputRange, ...]
    compression: str
    shuffle: str
    seed: int
    num_shards: int
    format: str = "tfrecord"
    media_type: str = "application/x-tfrecord"
    rows_foreign: int = 0
    notes: tuple[Note, ...] = ()
    extras: tuple[str, ...] = ()
    closings: tuple[Closing, ...] = ()
    covered: Covered = dataclasses.field(default_factory=dict)
    number: int = 0
    statistics: str | None = None
    statistics_rejected: str | None = None
    anomalies: tuple[Anomaly, ...] = ()
    compared_with: tuple[str, ...] = ()
    windows_in_all: int = 0
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = ManifestFile.VERSION

    def files(self) -> Iterable[str]:
        """As for all manifests, and the files of statistics."""
        yield from super().files()
        yield from statistics_files(self.statistics)
        yield from statistics_files(self.statistics_rejected)

    @property
    def bounds(self) -> tuple[int, int]:
        """Start and end of the window, microseconds since 1970."""
        start, end = (np.datetime64(time.removesuffix("Z"), "us").astype(np.int64) for time in self.window)
        return int(start), int(end)

    @property
    def is_flushed(self) -> bool:
        """Whether it is a window of processing time."""
        return is_flushed(self.windows)

    @property
    def name(self) -> str:
        """The name of the window, as in file names."""
        start, end = self.bounds
        return time_name(start) if self.is_flushed else f"{time_name(start)}_{time_name(end)}"


@dataclasses.dataclass(frozen=True)
class PartWindow:
    """A window whose rows are in a set: its name, and what its manifest says of its shards."""

    name: str
    dataset_id: str
    rows_out: int


@dataclasses.dataclass(frozen=True)
class WindowSet(ManifestFile):
    """Windows that were put together (`penstock.io.dataset.spans.windows`): their rows, in shards of their own.

    Once this manifest is there, the shards of the parts are no part of the dataset any more. Manifests, dead letters
    and statistics of the parts stay as they are.

    Attributes:
      run_id: of what put them together.
      dataset_id: `dataset_id` of the shards.
      window: the period in which the windows begin, start (inclusive) and end (exclusive), ISO 8601, UTC.
      windows: as in the manifests of the parts, as are `compression`, `shuffle`, `seed`, `format`, `media_type`,
        `extras` and `provenance`, which are those of the newest.
      splits: rows by split, in the order of the parts.
      parts: in the order of time.
      replaces: the folders of earlier sets of this period, whose rows are in this one.
    """

    run_id: str
    dataset_id: str
    created: str
    window: tuple[str, str]
    windows: str
    rows_out: int
    splits: Mapping[str, int]
    shards: tuple[Shard, ...]
    parts: tuple[PartWindow, ...]
    compression: str
    shuffle: str
    seed: int
    format: str
    media_type: str
    extras: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    dead_letters: tuple[PublishedDeadLetters, ...] = ()
    notes: tuple[Note, ...] = ()
    version: int = ManifestFile.VERSION

    @property
    def name(self) -> str:
        """The name of the set, as that of its file."""
        start, end = (int(np.datetime64(time.removesuffix("Z"), "us").astype(np.int64)) for time in self.window)
        return f"{time_name(start)}_{time_name(end)}"


def window_settings(manifest: WindowManifest) -> dict[str, Any]:
    """Returns what all windows of a stream have in common, as far as one of them says it, by the names of flags."""
    flags: Mapping[str, Any] = manifest.provenance.get("options", {})
    uses_hash = flags.get("split") or flags.get("folds")
    return {
        # When windows of processing time end may change.
        "window": "flush" if manifest.is_flushed else manifest.windows,
        "num_shards": manifest.num_shards,
        "splits": sorted(manifest.splits),
        "output_format": manifest.format,
        "compression": manifest.compression,
        "seed": manifest.seed,
        **({"split_hash": flags.get("split_hash", 1)} if uses_hash else {}),  # a release had one version of it
    }


def window_manifest_path(output: str, name: str) -> str:
    """Returns the path of a window's manifest, by the window's name."""
    return stores.join(output, WINDOWS, f"{name}.json")


def read_window_manifests(output: str, left_out: Collection[str] = ()) -> Iterator[WindowManifest]:
    """Reads the manifests of all windows of a dataset, in the order of time.

    A dataset without windows has none. Windows whose names are in `left_out` are not read.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    folder = stores.join(output, WINDOWS)
    # Sorting by name is not enough: it puts 20.5 s before 20 s.
    for name in sorted(list_files(folder), key=lambda name: (_start(name), name)):
        is_read = name.removesuffix(".json") not in left_out
        manifest = WindowManifest.read(stores.join(folder, name)) if is_read else None
        if manifest is not None:
            yield manifest


def window_set_path(output: str, name: str) -> str:
    """Returns the path of the manifest of windows that were put together, by the name of the set."""
    return stores.join(output, COMPACTED, f"{name}.json")


def read_window_sets(output: str) -> Iterator[WindowSet]:
    """Reads the manifests of all windows of a dataset that were put together, in the order of time.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    for name in sorted(list_files(stores.join(output, COMPACTED)), key=lambda name: (_start(name), name)):
        found = WindowSet.read(stores.join(output, COMPACTED, name))
        if found is not None:
            yield found


def is_compacted(output: str, name: str) -> bool:
    """Whether the rows of a window, by its name, are in a set.

    Raises:
      DataError: for a manifest of a set that cannot be read.
    """
    return any(part.name == name for found in read_window_sets(output) for part in found.parts)


def last_window_name(output: str, start: int) -> str | None:
    """Returns the name of the last published window that began at or before a time (microseconds); None for none."""
    names = [name for name in list_files(stores.join(output, WINDOWS)) if name.endswith(".json")]
    began = [name.removesuffix(".json") for name in names if _start(name) <= start]
    return max(began, key=_start, default=None)


def _start(name: str) -> int:
    return parse_time_name(name.removesuffix(".json").partition("_")[0])


def read_manifests(output: str) -> Iterator[Manifest | WindowManifest]:
    """Yields the manifest of a dataset, or the manifests of its windows in the order of time, or nothing.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    whole = read_manifest(output)
    yield from [whole] if whole else read_window_manifests(output)


def read_stored(output: str) -> Iterator[Manifest | WindowManifest | WindowSet]:
    """Yields what has the rows of a dataset: its manifest; or sets of windows, then windows that are in none.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    whole = read_manifest(output)
    if whole is not None:
        yield whole
        return
    sets = list(read_window_sets(output))
    yield from sets
    compacted = {part.name for found in sets for part in found.parts}
    yield from read_window_manifests(output, compacted)
