"""The manifest of one window of a dataset, `OUTPUT/windows/<start>_<end>.json`."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from apache_beam.io.filesystems import FileSystems

from penstock.io.errors import DataError
from penstock.io.folders import list_files
from penstock.io.json_coder import from_fields, register_json
from penstock.io.layout import WINDOWS, RejectsFile, Shard, typed
from penstock.io.windowed.chunks import InputRange
from penstock.io.windowed.windows import parse_time_name

_VERSION = 1

Pane = Literal["on_time", "late"]
WindowStatus = Literal["published", "quarantined"]


@dataclasses.dataclass(frozen=True)
class WindowShard(Shard):
    """A shard of a window, with the rows that came on time or those that came late."""

    pane: str = "on_time"


@register_json
@dataclasses.dataclass(frozen=True)
class WindowManifest:
    """What a window holds: `rows_in == rows_out + rows_rejected`, and `rows_out == rows_on_time + rows_late`.

    Attributes:
      run_id: the run that first wrote into the dataset; it stays when a job goes on from its savepoint.
      window: start and end, ISO 8601, UTC; rows from the start on and before the end.
      windows: of the job, such as `fixed:1m`; with `sliding:` a row counts once for each of its windows.
      final: whether nothing will be added.
      sequence: 1 with the rows that came on time, 2 with the late ones as well: a newer one replaces an older.
      status: quarantined when more than `max_reject_fraction` of the rows were rejected.
      dataset_id: `dataset_id` of the shards: the same for the same content.
      rows_rejected: rejects that were filed in this window: those that came while it was the open one.
      inputs: where the rows of the shards come from.
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
    dead_letters: tuple[RejectsFile, ...]
    rejected_by_reason: Mapping[str, int]
    rejected_by_stage: Mapping[str, int]
    inputs: tuple[InputRange, ...]
    compression: str
    shuffle: str
    seed: int
    num_shards: int
    extras: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    version: int = _VERSION

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
            if fields["version"] != _VERSION:
                raise DataError(f"version of a window's manifest must be {_VERSION}, got {fields['version']}")
            manifest = typed(from_fields(cls, fields))
            for item in (*manifest.shards, *manifest.dead_letters, *manifest.inputs):
                typed(item)
            return manifest
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"not the manifest of a window: {error!r}") from error

    def files(self) -> Iterable[str]:
        """Relative paths of all files of the window but the manifest, and of the extras."""
        yield from (shard.path for shard in self.shards)
        yield from (file.path for file in self.dead_letters)
        yield from self.extras


def window_manifest_path(output: str, name: str) -> str:
    """Where the manifest of a window lies, by the window's name."""
    return FileSystems.join(output, WINDOWS, f"{name}.json")


def read_window_manifest(path: str) -> WindowManifest | None:
    """A manifest; None when there is none.

    Raises:
      DataError: when there is one that cannot be read.
    """
    if not FileSystems.exists(path):
        return None
    with FileSystems.open(path, compression_type="uncompressed") as file:
        text = file.read()
    try:
        return WindowManifest.from_json(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error


def read_window_manifests(output: str) -> Iterator[WindowManifest]:
    """The manifests of all windows of a dataset, in the order of time; nothing for a dataset without windows.

    Raises:
      DataError: for one that cannot be read.
    """
    folder = FileSystems.join(output, WINDOWS)
    # Names are not in this order: 20.5 s comes before 20 s there.
    for name in sorted(list_files(folder), key=lambda name: (parse_time_name(name.partition("_")[0]), name)):
        manifest = read_window_manifest(FileSystems.join(folder, name))
        if manifest is not None:
            yield manifest
