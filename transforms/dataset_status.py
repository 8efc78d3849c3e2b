"""What lies in the folder of a dataset: what is published, what is not, and what is no part of it.

Only manifests are read, and the folder is listed once: ten thousand windows take seconds. `transforms/verify` reads the
shards too.
"""

import collections
import dataclasses
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Literal, Self

import numpy as np

from penstock.io.dataset.layout import (
    CARD,
    COMPACTED,
    CROISSANT,
    HISTORY,
    LOCK_PREFIX,
    MANIFEST,
    REPLACED_PREFIX,
    STAGING_PREFIX,
    STREAM,
    VERSIONS,
    WINDOWS,
    Owner,
    run_folders,
    staging_owner,
)
from penstock.io.dataset.manifest import by_time, sum_counts
from penstock.io.dataset.observer import Anomaly
from penstock.io.dataset.spans.versions import superseded
from penstock.io.dataset.summaries import (
    Damage,
    ManifestSummary,
    SetSummary,
    read_content,
    read_sets,
    read_summaries,
)
from penstock.io.dead_letters.replay.claims import is_claim
from penstock.io.errors import PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_entries
from penstock.io.files.paths import FileEntry, is_local

_CHUNK = re.compile(rf"(?P<run>{re.escape(STAGING_PREFIX)}[^/]+)/chunks/(?P<window>[^/]+)/[^/]+")


@dataclasses.dataclass(frozen=True)
class Gap:
    """No window is published between two: the end of the one, and the start of the other, ISO 8601, UTC."""

    start: str
    end: str


@dataclasses.dataclass(frozen=True)
class Quarantined:
    """A window with too many rejects."""

    window: tuple[str, str]
    rows_in: int
    rows_rejected: int
    rejected_by_reason: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class Unusual:
    """A dataset, or a window of it, whose rows are not as they should be, as a whole."""

    window: tuple[str, str] | None
    anomalies: tuple[Anomaly, ...]


@dataclasses.dataclass(frozen=True)
class FileCount:
    """A number of files, and the bytes in them."""

    files: int = 0
    bytes: int = 0

    @classmethod
    def of(cls, entries: Iterable[FileEntry]) -> Self:
        """Counts some files."""
        sizes = [entry.size for entry in entries]
        return cls(len(sizes), sum(sizes))


@dataclasses.dataclass(frozen=True)
class StagingStatus:
    """A folder in which a run works, or has worked.

    Attributes:
      name: of the folder.
      owner: whose it is (`penstock.io.dataset.layout.Owner`).
      age_seconds: since a file was last written in it.
      chunks: rows that wait for their window to close; in processing time, also those of the last two minutes.
      orphaned: chunks that nobody needs any more, since their window is final, or their owner has ended.
    """

    name: str
    owner: Owner
    files: int
    bytes: int
    age_seconds: float
    chunks: FileCount
    orphaned: FileCount


@dataclasses.dataclass(frozen=True)
class DatasetStatus:
    """What lies in the folder of a dataset.

    Attributes:
      state: `whole`: one dataset. `windows`: a dataset for each window. `unpublished`: no manifest is there.
      manifests: that of the dataset, or those of its windows in the order of time.
      staging: folders in which runs work, or have worked.
      damaged: manifests that cannot be read.
      missing: files that a manifest names, and that are not there.
      unknown: files that no manifest names; a window that is just being published may have some for a moment.
      unknown_bytes: the bytes in them.
      earlier: files that only earlier versions have, which `verify --clean` deletes in time.
      stream: what `stream.json` says; None if there is none.
      compacted: how many windows were put together, and into how many sets.
    """

    state: Literal["whole", "windows", "unpublished"]
    manifests: tuple[ManifestSummary, ...]
    staging: tuple[StagingStatus, ...]
    damaged: tuple[Damage, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    unknown_bytes: int
    earlier: FileCount = FileCount()
    stream: Mapping[str, Any] | None = None
    compacted: tuple[int, int] = (0, 0)

    @property
    def is_good(self) -> bool:
        """Whether all manifests can be read and all files that they name are there."""
        return not self.damaged and not self.missing

    @property
    def last_event_time(self) -> str | None:
        """The greatest event time of a published row, ISO 8601, UTC."""
        return max((one.last_event for one in self.manifests if one.last_event), default=None, key=by_time)

    @property
    def last_published(self) -> str | None:
        """When a manifest was published last, ISO 8601, UTC."""
        return max((one.created for one in self.manifests), default=None, key=by_time)

    def rejected_by_reason(self) -> dict[str, int]:
        """Returns the rejected rows by reason, over all manifests."""
        return sum_counts(one.rejected_by_reason for one in self.manifests)

    def gaps(self) -> list[Gap]:
        """Returns where no window is published between two that are. Windows without rows have no manifest.

        Windows of processing time have no gaps: between two of them nothing came.
        """
        bounds = [one.bounds for one in self.manifests if one.bounds and one.bounds.period is not None]
        following = ((before.start + (before.period or 0), after.start) for before, after in itertools.pairwise(bounds))
        return [Gap(_iso(due), _iso(start)) for due, start in following if start > due]

    def not_final(self) -> list[tuple[str, str]]:
        """Returns the windows that still take late rows, or whose late rows were never published."""
        return [one.window for one in self.manifests if one.window and not one.final]

    def quarantined(self) -> list[Quarantined]:
        """Returns the windows with too many rejects."""
        return [
            Quarantined(one.window, one.rows_in, one.rows_rejected, one.rejected_by_reason)
            for one in self.manifests
            if one.window and one.status == "quarantined"
        ]

    def unusual(self) -> list[Unusual]:
        """Returns the dataset, or those of its windows, that have anomalies."""
        return [Unusual(one.window, one.anomalies) for one in self.manifests if one.anomalies]


def _iso(time: int) -> str:
    text = str(np.datetime64(time, "us"))
    return f"{text.removesuffix('.000000')}Z"


def dataset_status(output: str, now: float) -> DatasetStatus:
    """Looks at the folder of a dataset; a job may be at work in it.

    Args:
      output: the folder.
      now: seconds since 1970.

    Raises:
      OSError: when the folder cannot be listed.
    """
    present = {entry.path: entry for entry in list_entries(output)}
    manifests, damaged = _read_manifests(output, present)
    stream, faults = _read_stream(output, present)
    sets, faults = _read_compacted(output, present, faults)
    manifests, replaced = _without_compacted(manifests, sets, present)
    known = {path for one in manifests for path in (*one.files, *one.extras)} | replaced
    known |= {path for one in sets for path in (one.path, *one.files)}
    known |= {MANIFEST, CARD, STREAM, CROISSANT, *(path for path in present if path.startswith(f"{WINDOWS}/"))}
    extras = tuple({f"{extra}/" for one in manifests for extra in one.extras})
    unnamed = [path for path in sorted(present.keys() - known) if not path.startswith(extras) and not is_claim(path)]
    # Of windows, a folder that manifests name may still be written to.
    has_windows = any(one.window for one in manifests)
    earlier: Mapping[str, str] = {}
    if unnamed and not has_windows and any(path.startswith(f"{VERSIONS}/") for path in present):
        try:
            earlier = superseded(output, unnamed)
        except (PenstockError, OSError) as error:
            faults = [*faults, Damage(VERSIONS, str(error))]
        unnamed = [path for path in unnamed if path not in earlier]
    runs = run_folders(output, unnamed) - (set() if has_windows else run_folders(output, known))
    staging = (STAGING_PREFIX, *(f"{name}/" for name in runs))
    staged = [path for path in unnamed if path.startswith(staging)]
    unknown = [
        path for path in unnamed if not path.startswith((*staging, REPLACED_PREFIX, f"{HISTORY}/", f"{VERSIONS}/"))
    ]
    final = {one.name for one in manifests if one.final}
    return DatasetStatus(
        state="unpublished" if not manifests else "windows" if manifests[0].window else "whole",
        manifests=tuple(manifests),
        staging=tuple(_staging(output, [present[path] for path in staged], final, now)),
        damaged=tuple([*damaged, *faults]),
        missing=tuple(_missing(output, manifests, sets, present)),
        unknown=tuple(unknown),
        unknown_bytes=sum(present[path].size for path in unknown),
        earlier=FileCount.of(present[path] for path in (*earlier, *replaced)),
        stream=stream,
        compacted=(sum(len(one.parts) for one in sets), len(sets)),
    )


def _read_manifests(output: str, present: Mapping[str, FileEntry]) -> tuple[list[ManifestSummary], list[Damage]]:
    """Reads the manifest of a whole dataset, or those of its windows, in the order of time."""
    windows = sorted(path for path in present if path.startswith(f"{WINDOWS}/") and path.endswith(".json"))
    paths = [MANIFEST] if MANIFEST in present else windows
    read = read_summaries(output, paths)
    manifests = [one for one in read if isinstance(one, ManifestSummary)]
    manifests.sort(key=lambda one: (one.bounds.start if one.bounds else 0, one.name))
    return manifests, [one for one in read if isinstance(one, Damage)]


def _read_compacted(
    output: str, present: Iterable[str], faults: Sequence[Damage]
) -> tuple[list[SetSummary], list[Damage]]:
    prefix = f"{COMPACTED}/"
    read = read_sets(output, (path.removeprefix(prefix) for path in present if path.startswith(prefix)))
    sets = [one for one in read if isinstance(one, SetSummary)]
    return sets, [*faults, *(one for one in read if isinstance(one, Damage))]


def _without_compacted(
    manifests: Iterable[ManifestSummary], sets: Sequence[SetSummary], present: Iterable[str]
) -> tuple[list[ManifestSummary], set[str]]:
    """Returns manifests without the shards whose rows are in sets; and those that are there still, as earlier sets."""
    parts = {part for one in sets for part in one.parts}
    shards = {path for one in manifests if one.name in parts for path in one.shards}
    folders = tuple(f"{folder}/" for one in sets for folder in one.replaces)
    replaced = {path for path in present if path in shards or path.startswith(folders)} if sets else set()
    left = [
        dataclasses.replace(one, files=tuple(path for path in one.files if path not in shards))
        if one.name in parts
        else one
        for one in manifests
    ]
    return left, replaced


def _read_stream(output: str, present: Mapping[str, FileEntry]) -> tuple[Mapping[str, Any] | None, list[Damage]]:
    if STREAM not in present:
        return None, []
    try:
        found = json.loads(read_content(output, STREAM))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (ValueError, OSError) as error:
        return None, [Damage(STREAM, str(error))]
    return found, []


def _missing(
    output: str, manifests: Iterable[ManifestSummary], sets: Iterable[SetSummary], present: Mapping[str, FileEntry]
) -> Iterator[str]:
    """Yields files of manifests that are not there; files that a job has published since the listing are there."""
    folders = {parent for path in present for parent in itertools.accumulate(path.split("/")[:-1], "{}/{}".format)}
    named = {path for one in manifests for path in (*one.files, *one.extras)}
    for path in sorted(named.union(*(one.files for one in sets))):
        if path not in present and path not in folders and not _exists(output, path):
            yield path


def _exists(output: str, path: str) -> bool:
    if is_local(output):
        return os.path.exists(os.path.join(output, path))
    return bool(stores.exists(stores.join(output, *path.split("/"))))


def _staging(output: str, entries: Iterable[FileEntry], final: Set[str], now: float) -> Iterator[StagingStatus]:
    by_run: dict[str, list[FileEntry]] = collections.defaultdict(list)
    for entry in entries:
        name = entry.path.partition("/")[0]
        if is_local(output) or not name.startswith(LOCK_PREFIX):  # there it stays, and says who published last
            by_run[name].append(entry)
    for name, files in sorted(by_run.items()):
        owner = staging_owner(output, name)
        chunks = [(found["window"], file) for file in files if (found := _CHUNK.fullmatch(file.path))]
        yield StagingStatus(
            name,
            owner,
            files=len(files),
            bytes=sum(file.size for file in files),
            age_seconds=max(0.0, round(now - max(file.modified for file in files), 1)),
            chunks=FileCount.of(file for _, file in chunks),
            orphaned=FileCount.of(file for window, file in chunks if owner == "ended" or window in final),
        )
