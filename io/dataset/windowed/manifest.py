"""The manifest of one window of a dataset, `OUTPUT/windows/<start>_<end>.json`."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from apache_beam.io.filesystems import FileSystems

from penstock.io.beam.json_coder import register_json
from penstock.io.beam.windows import parse_time_name, time_name
from penstock.io.dataset.layout import WINDOWS
from penstock.io.dataset.manifest import Manifest, ManifestFile, PublishedDeadLetters, Shard, read_manifest
from penstock.io.dataset.windowed.chunks import InputRange
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
class WindowManifest(ManifestFile):
    """What a window of a dataset holds and how it came to be.

    `rows_in == rows_out + rows_rejected`, and `rows_out == rows_on_time + rows_late`.

    Attributes:
      run_id: the run that first wrote into the dataset; a job that continues from its savepoint keeps it.
      window: start (inclusive) and end (exclusive), ISO 8601, UTC.
      windows: the windows of the job, such as `fixed:1m`; with `sliding:` a row counts once for each of its windows.
      final: whether no more rows will be added.
      sequence: 1 with the rows that came on time, 2 with the late ones as well: a newer version replaces an older one.
      status: `quarantined` if more than `max_reject_fraction` of the rows were rejected, else `published`.
      dataset_id: `dataset_id` of the shards: equal for equal content.
      rows_rejected: rejects that were filed in this window, as they arrived while it was open.
      inputs: where the rows of the shards come from.
      notes: as in `Manifest`: those of the whole input first, as the schema was inferred, then those of this window.
      extras: files of the dataset that belong to all windows.
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
    notes: tuple[Note, ...] = ()
    extras: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = ManifestFile.VERSION

    @property
    def name(self) -> str:
        """The name of the window, as in file names."""
        start, end = (np.datetime64(time.removesuffix("Z"), "us").astype(np.int64) for time in self.window)
        return f"{time_name(int(start))}_{time_name(int(end))}"


def window_manifest_path(output: str, name: str) -> str:
    """Returns the path of a window's manifest, by the window's name."""
    return FileSystems.join(output, WINDOWS, f"{name}.json")


def read_window_manifests(output: str) -> Iterator[WindowManifest]:
    """Reads the manifests of all windows of a dataset, in the order of time.

    A dataset without windows has none.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    folder = FileSystems.join(output, WINDOWS)
    # Sorting by name is not enough: it puts 20.5 s before 20 s.
    for name in sorted(list_files(folder), key=lambda name: (parse_time_name(name.partition("_")[0]), name)):
        manifest = WindowManifest.read(FileSystems.join(folder, name))
        if manifest is not None:
            yield manifest


def read_manifests(output: str) -> Iterator[Manifest | WindowManifest]:
    """Yields the manifest of a dataset, or the manifests of its windows in the order of time, or nothing.

    Raises:
      DataError: for a manifest that cannot be read.
    """
    whole = read_manifest(output)
    yield from [whole] if whole else read_window_manifests(output)
