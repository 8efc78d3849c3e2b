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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, Self

import numpy as np

from penstock.io.beam.durations import micros
from penstock.io.beam.windows import FlushWindows, parse_windows
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
from penstock.io.dataset.manifest import ManifestFile, by_time, sum_counts
from penstock.io.dataset.observer import Anomaly, statistics_files
from penstock.io.errors import ConfigError, PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_entries
from penstock.io.files.paths import FileEntry, is_local

# Stores answer slowly, and many questions at once; a disk answers faster than its answers are parsed.
_READERS = 32

_CHUNK = re.compile(rf"(?P<run>{re.escape(STAGING_PREFIX)}[^/]+)/chunks/(?P<window>[^/]+)/[^/]+")


@dataclasses.dataclass(frozen=True)
class WindowBounds:
    """Start and end of a window, microseconds since 1970, UTC.

    Attributes:
      period: the time from one start to the next; None for windows of processing time, where it means nothing.
    """

    start: int
    end: int
    period: int | None


@dataclasses.dataclass(frozen=True)
class ManifestSummary:
    """What a status needs of the manifest of a dataset, or of one of its windows.

    Attributes:
      name: of the window, as in file names; empty for a whole dataset.
      created: when it was published, ISO 8601, UTC.
      last_event: the greatest event time in its shards, as text; None if they have none.
      window: as text, start and end; None for a whole dataset, as the bounds.
      files: relative paths of its shards, dead letters and statistics.
      shards: those of them that are shards or their indexes; of a window that was put together with others, they may be
        gone.
      anomalies: what is wrong with the rows of a window, as in its manifest.
      extras: files and folders that belong to the dataset as a whole.
      spans: of a dataset that was added to: of each its `name`, `date`, `created`, `rows_in`, `rows_out` and
        `rows_rejected`.
      dataset_version: of a whole dataset, as in its manifest.
    """

    name: str
    run_id: str
    created: str
    status: str
    final: bool
    rows_in: int
    rows_out: int
    rows_on_time: int
    rows_late: int
    rows_rejected: int
    rejected_by_reason: Mapping[str, int]
    last_event: str | None
    window: tuple[str, str] | None
    bounds: WindowBounds | None
    files: tuple[str, ...]
    anomalies: tuple[Anomaly, ...]
    extras: tuple[str, ...]
    spans: tuple[Mapping[str, Any], ...] = ()
    dataset_version: int = 1
    shards: tuple[str, ...] = ()

    @classmethod
    def of(cls, name: str, text: bytes) -> Self:
        """Reads the manifest of a window with this name, or of a whole dataset, from JSON.

        Raises:
          ValueError: if the text is no manifest, or one of another version.
        """
        try:
            fields = json.loads(text)
            if fields["version"] != ManifestFile.VERSION:
                raise ValueError(f"manifest version must be {ManifestFile.VERSION}, got {fields['version']}")
            return cls(name=name, **_summary(fields, bool(name)))
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError, ConfigError) as error:
            raise ValueError(f"not a manifest: {error!r}") from error


def _summary(fields: Mapping[str, Any], is_window: bool) -> dict[str, Any]:
    ends = (shard["event_time"][1] for shard in fields["shards"] if shard["event_time"])
    counts = {
        name: int(fields[name] if name in fields or is_window else default)
        for name, default in (
            ("rows_in", 0),
            ("rows_out", 0),
            ("rows_rejected", 0),
            ("rows_on_time", fields["rows_out"]),
            ("rows_late", 0),
        )
    }
    window = tuple(map(str, fields["window"])) if is_window else None
    return counts | {
        "run_id": str(fields["run_id"]),
        "created": str(fields["created"]),
        "status": str(fields["status"]) if is_window else "published",
        "final": bool(fields["final"]) if is_window else True,
        "rejected_by_reason": {str(name): int(rows) for name, rows in fields["rejected_by_reason"].items()},
        "last_event": max(ends, default=None, key=by_time),
        "window": window,
        "bounds": _bounds(window, fields["windows"]) if window else None,
        "files": (
            *_files_of_shards(fields),
            *(file["path"] for file in fields["dead_letters"]),
            *statistics_files(fields.get("statistics")),
            *statistics_files(fields.get("statistics_rejected")),
        ),
        "anomalies": tuple(Anomaly(**found) for found in fields.get("anomalies", ())),
        "extras": tuple(fields["extras"]),
        "spans": tuple({name: span[name] for name in _OF_SPAN} for span in fields.get("spans", ())),
        "dataset_version": int(fields.get("dataset_version", 1)),
        "shards": tuple(_files_of_shards(fields)),
    }


def _files_of_shards(fields: Mapping[str, Any]) -> Iterator[str]:
    for shard in fields["shards"]:
        yield from (str(file["path"]) for file in (shard, shard.get("index")) if file)


_OF_SPAN = ("name", "date", "created", "rows_in", "rows_out", "rows_rejected")


def _bounds(window: Sequence[str], windows: str) -> WindowBounds:
    start, end = window
    found = parse_windows(windows)
    period = None if isinstance(found, FlushWindows) else micros(found.period)
    return WindowBounds(_micros(start), _micros(end), period)


def _micros(time: str) -> int:
    return int(np.datetime64(time.removesuffix("Z"), "us").astype(np.int64))


@dataclasses.dataclass(frozen=True)
class SetSummary:
    """What a status needs of the manifest of windows that were put together.

    Attributes:
      path: of the manifest, relative to the dataset.
      parts: names of the windows.
      files: relative paths of its shards and their indexes.
      replaces: folders of earlier sets, whose rows are in this one.
    """

    path: str
    parts: tuple[str, ...]
    files: tuple[str, ...]
    replaces: tuple[str, ...]


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
class Damage:
    """A file of the dataset that cannot be read, and why."""

    path: str
    detail: str


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


def dataset_status(
    output: str,
    now: float,
    is_claim: Callable[[str], bool] = lambda path: False,
    superseded: Callable[[str, Iterable[str]], Mapping[str, str]] = lambda output, paths: {},
) -> DatasetStatus:
    """Looks at the folder of a dataset; a job may be at work in it.

    Args:
      output: the folder.
      now: seconds since 1970.
      is_claim: whether a relative path is that of a replay's claim on dead letters, which no manifest names.
      superseded: which of some files earlier versions alone have (`penstock.io.dataset.spans.versions.superseded`).

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


def read_sets(output: str, names: Iterable[str]) -> "list[SetSummary | Damage]":
    """Reads the manifests of windows that were put together, by the names of their files."""
    found: list[SetSummary | Damage] = []
    for path in (f"{COMPACTED}/{name}" for name in sorted(names)):
        try:
            fields = json.loads(_content(output, path))
            if fields["version"] != ManifestFile.VERSION:
                raise ValueError(f"manifest version must be {ManifestFile.VERSION}, got {fields['version']}")
            parts = tuple(str(part["name"]) for part in fields["parts"])
            files = tuple(_files_of_shards(fields))
            found.append(SetSummary(path, parts, files, tuple(map(str, fields["replaces"]))))
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError, OSError) as error:
            found.append(Damage(path, f"not a manifest: {error!r}"))
    return found


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


def read_summaries(output: str, paths: Iterable[str]) -> "list[ManifestSummary | Damage]":
    """Reads manifests, by their paths relative to the dataset; of a store many at once."""
    with ThreadPoolExecutor(1 if is_local(output) else _READERS) as pool:
        return list(pool.map(lambda path: read_summary(output, path), paths))


def read_summary(output: str, path: str) -> ManifestSummary | Damage:
    """Reads a manifest, by its path relative to the dataset."""
    name = "" if path == MANIFEST else path.rpartition("/")[2].removesuffix(".json")
    try:
        return ManifestSummary.of(name, _content(output, path))
    except (ValueError, OSError) as error:
        return Damage(path, str(error))


def _read_stream(output: str, present: Mapping[str, FileEntry]) -> tuple[Mapping[str, Any] | None, list[Damage]]:
    if STREAM not in present:
        return None, []
    try:
        found = json.loads(_content(output, STREAM))
        if not isinstance(found, dict):
            raise ValueError("not an object")
    except (ValueError, OSError) as error:
        return None, [Damage(STREAM, str(error))]
    return found, []


def _content(output: str, path: str) -> bytes:
    if is_local(output):
        with open(os.path.join(output, path), "rb") as file:
            return file.read()
    with stores.open_file(stores.join(output, *path.split("/"))) as file:
        return bytes(file.read())


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
