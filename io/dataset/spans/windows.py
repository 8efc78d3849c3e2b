"""Puts windows of a dataset together: the same records, in shards of the size that training wants, a set for a period.

Windows that are final and published are taken, by the period in which they begin. Their rows are written into shards of
their own (`penstock.io.dataset.spans.rewrite`), and the manifest of the set, which names the windows, takes effect in
one step: before it the rows of a window are those of its shards, after it those of the set. Windows of the period that
become final later join the set when it is put together again.

The manifests of the windows, their dead letters and statistics stay as they are, since a stream goes on by them. So a
stream may be at work: it does not write a final window again, and `WindowPublisher` keeps one that is in a set. What is
read of a window is read again before the set is published, and must be the same.
"""

import dataclasses
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.io.beam.durations import micros
from penstock.io.beam.windows import parse_time_name
from penstock.io.dataset.layout import WINDOWS, Staging, lock_path
from penstock.io.dataset.manifest import Shard, dataset_id
from penstock.io.dataset.options import DEFAULT_SHARD_BYTES
from penstock.io.dataset.spans.append import SpanFolder, remove_unpublished
from penstock.io.dataset.spans.drop import publishing
from penstock.io.dataset.spans.rewrite import write_anew
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.manifest import (
    PartWindow,
    WindowManifest,
    WindowSet,
    read_window_sets,
    window_manifest_path,
    window_set_path,
)
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import list_files, replace_file
from penstock.io.files.stores import Versioned
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.kernel import crc32c

_AGAIN = "nothing of it is published: run it again"

# What all windows of a set have in common, as fields of their manifests, and of their provenance.
_SHARED = ("windows", "format", "media_type", "compression", "shuffle", "seed")
_FINGERPRINTS = ("schema_fingerprint", "transform_fingerprint")


@dataclasses.dataclass(frozen=True)
class CompactedWindows:
    """What came of windows that were to be put together.

    Attributes:
      sets: those that were published, in the order of time.
      windows: how many windows have joined one.
      open: names of windows that are not final, so that they stay as they are.
      quarantined: names of windows with too many rejects, which stay as they are.
    """

    sets: tuple[WindowSet, ...]
    windows: int
    open: tuple[str, ...]
    quarantined: tuple[str, ...]


def compact_windows(output: str, period: datetime.timedelta, shard_bytes: int | None = None) -> CompactedWindows:
    """Puts the windows of each period together that are final; periods whose windows are in sets stay as they are.

    Args:
      output: the folder of the dataset.
      period: windows that begin in the same one are put together; periods are counted from 1970, UTC.
      shard_bytes: aimed size of a shard, uncompressed; None for 128 MiB.

    Raises:
      ConfigError: when the dataset has no windows, or a job is replacing it.
      DataError: when a shard is not as its manifest says, windows of a period differ in format or schema, or another
        run has put windows of the period together meanwhile.
    """
    names = [name.removesuffix(".json") for name in list_files(stores.join(output, WINDOWS)) if name.endswith(".json")]
    if told := told_of(output):
        raise ConfigError(f"{output}: {told}")
    if not names:
        raise ConfigError(f"{output}: there is no dataset with windows: no manifest is in {WINDOWS}/")
    before = {found.name: found for found in read_window_sets(output)}
    known = {part.name for found in before.values() for part in found.parts}
    found = CompactedWindows((), 0, (), ())
    for bounds, inside in _by_period((name for name in names if name not in known), micros(period)):
        read = [_Read.of(output, name) for name in inside]
        taken = [one for one in read if one.is_final and one.is_published]
        made = _compact(output, bounds, taken, before, shard_bytes or DEFAULT_SHARD_BYTES) if taken else None
        found = CompactedWindows(
            (*found.sets, *([made] if made else [])),
            found.windows + len(taken),
            (*found.open, *(one.name for one in read if not one.is_final)),
            (*found.quarantined, *(one.name for one in read if one.is_final and not one.is_published)),
        )
    return found


def _by_period(names: Iterable[str], period: int) -> Iterator[tuple[tuple[int, int], list[str]]]:
    """Yields start and end of periods, microseconds since 1970, and the windows that begin in each, in order."""
    starts = sorted((parse_time_name(name.partition("_")[0]), name) for name in names)
    by_period: dict[int, list[str]] = {}
    for start, name in starts:
        by_period.setdefault(start // period * period, []).append(name)
    for start, inside in by_period.items():
        yield (start, start + period), inside


@dataclasses.dataclass(frozen=True)
class _Read:
    """What is needed of the manifest of a window: of ten thousand, all of it would take much memory.

    Attributes:
      crc32c: of the file.
      shards: those that have records, or the first one.
      common: what the windows of a set must have in common, by name.
    """

    name: str
    crc32c: int
    is_final: bool
    is_published: bool
    dataset_id: str
    rows_out: int
    splits: Mapping[str, int]
    shards: tuple[Shard, ...]
    extras: tuple[str, ...]
    common: Mapping[str, Any]

    @classmethod
    def of(cls, output: str, name: str) -> "_Read":
        path = window_manifest_path(output, name)
        content = stores.read_if_there(path)
        if content is None:
            raise DataError(f"{path}: is gone; does another job replace the dataset? {_AGAIN}")
        manifest = WindowManifest.parse(content, path)
        return cls(
            name,
            crc32c.extend(0, content),
            manifest.final,
            manifest.status == "published",
            manifest.dataset_id,
            manifest.rows_out,
            manifest.splits,
            tuple(shard for shard in manifest.shards if shard.records) or tuple(manifest.shards[:1]),
            manifest.extras,
            {name: getattr(manifest, name) for name in _SHARED}
            | {name: manifest.provenance.get(name) for name in _FINGERPRINTS},
        )

    def has_changed(self, output: str) -> bool:
        """Whether the manifest is another one by now."""
        content = stores.read_if_there(window_manifest_path(output, self.name))
        return content is None or crc32c.extend(0, content) != self.crc32c


def _compact(
    output: str, bounds: tuple[int, int], windows: Sequence[_Read], sets: Mapping[str, WindowSet], shard_bytes: int
) -> WindowSet:
    """Publishes the set of a period, with the windows that were in it before."""
    start, end = map(_iso, bounds)
    newest = windows[-1]
    _check_alike(output, windows)
    before = next((found for found in sets.values() if found.window == (start, end)), None)
    parts = [PartWindow(one.name, one.dataset_id, one.rows_out) for one in windows]
    shards: list[Shard] = [shard for one in windows for shard in one.shards]
    if before is not None:
        parts = sorted([*before.parts, *parts], key=lambda part: parse_time_name(part.name.partition("_")[0]))
        shards = [*before.shards, *shards]
    splits = tuple(dict.fromkeys(split for counts in (before, *windows) if counts for split in counts.splits))
    with publishing(output, lambda staging: _is_named(output, staging)) as staging:
        spec = DatasetSpec(
            output,
            shard_bytes=shard_bytes,
            format=newest.common["format"],
            compression=newest.common["compression"],
            shuffle=newest.common["shuffle"],
            seed=newest.common["seed"],
            index=any(shard.index for shard in shards),
        )
        written = tuple(write_anew(staging, spec, shards, splits))
        made = WindowSet(
            run_id=staging.run_id,
            dataset_id=dataset_id(written),
            created=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}",
            window=(start, end),
            rows_out=sum(part.rows_out for part in parts),
            splits={split: sum(shard.records for shard in written if shard.split == split) for split in splits},
            shards=written,
            parts=tuple(parts),
            extras=newest.extras,
            replaces=() if before is None else (*before.replaces, _folder_of(before)),
            provenance={name: newest.common[name] for name in _FINGERPRINTS if newest.common[name] is not None},
            **{name: newest.common[name] for name in _SHARED},
        )
        if sum(made.splits.values()) != made.rows_out:
            raise DataError(
                f"{output}: the windows of {start} to {end} must have {made.rows_out} rows, as their manifests say, "
                f"found {sum(made.splits.values())}; nothing of them is put together, see penstock verify"
            )
        return _publish(staging, made, before, windows)


def _check_alike(output: str, windows: Sequence[_Read]) -> None:
    first = windows[0]
    for one in windows:
        for name, said in first.common.items():
            if one.common[name] != said:
                raise DataError(
                    f"{output}: {name} of window {one.name} is {one.common[name]}, and of window {first.name} {said}: "
                    "windows of one period must be alike to be put together; give a shorter --period"
                )


def _publish(staging: Staging, written: WindowSet, before: WindowSet | None, windows: Sequence[_Read]) -> WindowSet:
    output, folder = staging.output, SpanFolder(staging)
    shards = tuple(shard.placed(lambda path: f"{folder.name}/{path}") for shard in written.shards)
    made = dataclasses.replace(written, shards=shards)
    path = window_set_path(output, made.name)
    with alone(lock_path(output)):
        version = _check_same(output, path, before, windows)
        if not staging.is_final:
            remove_unpublished(output, (file for found in read_window_sets(output) for file in found.files()))
            folder.move_in(written, {})
            replace_file(path, made.to_json().encode(), staging.path("set.json"), "application/json")
            folder.finish()
            return made
        with writing(path, OUTPUT_REMEDY):
            is_ours = stores.write_if(path, made.to_json().encode(), version)
    if not is_ours:
        raise DataError(f"{path}: another run has put windows of this period together meanwhile; {_AGAIN}")
    return made


def _check_same(output: str, path: str, before: WindowSet | None, windows: Sequence[_Read]) -> Versioned | None:
    """Checks that set and windows are as they were read; returns the version of the set in a store.

    Raises:
      DataError: when they are not.
    """
    version, now = None, None
    if stores.is_object(output):
        version = stores.read_versioned(path)
        now = None if version is None else WindowSet.parse(version.content, path)
    else:
        now = WindowSet.read(path)
    if (now and now.run_id) != (before and before.run_id):
        raise DataError(f"{path}: another run has put windows of this period together meanwhile; {_AGAIN}")
    for one in windows:
        if one.has_changed(output):
            raise DataError(f"{output}: window {one.name} has changed since it was read; {_AGAIN}")
    return version


def _folder_of(found: WindowSet) -> str:
    return found.shards[0].path.partition("/")[0] if found.shards else ""


def _is_named(output: str, staging: Staging) -> bool:
    return any(found.run_id == staging.run_id for found in read_window_sets(output))


def superseded_by_sets(output: str, present_files: Iterable[str]) -> dict[str, str]:
    """Finds the shards of windows that were put together, and of sets whose rows are in others by now.

    Args:
      output: the folder of the dataset.
      present_files: relative paths of the files that are there.

    Returns:
      For each path when it was left out, ISO 8601, UTC.

    Raises:
      DataError: when a manifest cannot be read.
    """
    found: dict[str, str] = {}
    since: dict[str, str] = {}
    for one in read_window_sets(output):
        since |= dict.fromkeys(one.replaces, one.created)
        for part in one.parts:
            manifest = WindowManifest.read(window_manifest_path(output, part.name))
            shards = manifest.shards if manifest else ()
            found |= {path: one.created for shard in shards for path in shard.stored()}
    left_out = ((path, found.get(path) or since.get(path.partition("/")[0])) for path in present_files)
    return {path: time for path, time in left_out if time is not None}


def _iso(time: int) -> str:
    return f"{np.datetime64(time, 'us')}Z"
