"""What a status needs of manifests: of a dataset, of its windows, and of windows that were put together.

Shards are not looked at, and what else a manifest says is not kept: ten thousand windows take seconds.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import numpy as np

from penstock.io.beam.durations import micros
from penstock.io.beam.windows import FlushWindows, parse_windows
from penstock.io.dataset.layout import COMPACTED, MANIFEST
from penstock.io.dataset.manifest import ManifestFile, by_time
from penstock.io.dataset.observer import Anomaly, statistics_files
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.paths import is_local

# Stores answer slowly, and many questions at once; a disk answers faster than its answers are parsed.
_READERS = 32


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
class Damage:
    """A file of the dataset that cannot be read, and why."""

    path: str
    detail: str


def read_sets(output: str, names: Iterable[str]) -> "list[SetSummary | Damage]":
    """Reads the manifests of windows that were put together, by the names of their files."""
    found: list[SetSummary | Damage] = []
    for path in (f"{COMPACTED}/{name}" for name in sorted(names)):
        try:
            fields = json.loads(read_content(output, path))
            if fields["version"] != ManifestFile.VERSION:
                raise ValueError(f"manifest version must be {ManifestFile.VERSION}, got {fields['version']}")
            parts = tuple(str(part["name"]) for part in fields["parts"])
            files = tuple(_files_of_shards(fields))
            found.append(SetSummary(path, parts, files, tuple(map(str, fields["replaces"]))))
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError, OSError) as error:
            found.append(Damage(path, f"not a manifest: {error!r}"))
    return found


def read_summaries(output: str, paths: Iterable[str]) -> "list[ManifestSummary | Damage]":
    """Reads manifests, by their paths relative to the dataset; of a store many at once."""
    with ThreadPoolExecutor(1 if is_local(output) else _READERS) as pool:
        return list(pool.map(lambda path: read_summary(output, path), paths))


def read_summary(output: str, path: str) -> ManifestSummary | Damage:
    """Reads a manifest, by its path relative to the dataset."""
    name = "" if path == MANIFEST else path.rpartition("/")[2].removesuffix(".json")
    try:
        return ManifestSummary.of(name, read_content(output, path))
    except (ValueError, OSError) as error:
        return Damage(path, str(error))


def read_content(output: str, path: str) -> bytes:
    """Returns the bytes of a file, by its path relative to the dataset."""
    if is_local(output):
        with open(os.path.join(output, path), "rb") as file:
            return file.read()
    with stores.open_file(stores.join(output, *path.split("/"))) as file:
        return bytes(file.read())
