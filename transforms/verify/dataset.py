"""A dataset, read again: manifests and their sums, files, and all that the neighbours of this module check."""

import collections
import dataclasses
from collections.abc import Collection, Iterable, Iterator, Mapping, Set
from typing import TypeVar

from penstock.io.beam import progress
from penstock.io.columns.of_schema import origin_schema
from penstock.io.dataset.layout import (
    CARD,
    COMPACTED,
    CROISSANT,
    HISTORY,
    MANIFEST,
    REPLACED_PREFIX,
    SCHEMA,
    STAGING_PREFIX,
    STATISTICS,
    STREAM,
    TRANSFORM,
    VERSIONS,
    WINDOWS,
    run_folders,
)
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Shard, by_time, dataset_id, read_manifest
from penstock.io.dataset.options import IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS
from penstock.io.dataset.shard_formats.mds_samples import INDEX, indexed
from penstock.io.dataset.spans.append import is_mark
from penstock.io.dataset.spans.versions import superseded
from penstock.io.dataset.spans.whole import contradictions, spans_of
from penstock.io.dataset.windowed.manifest import WindowManifest, WindowSet
from penstock.io.dead_letters.replay.claims import is_claim
from penstock.io.errors import PenstockError
from penstock.io.files import stores
from penstock.io.files.atomic.aside import told_of
from penstock.io.files.folders import list_files
from penstock.io.reserved import keeps_origins
from penstock.io.schema import load_schema, schema_fingerprint
from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.checks.validate import RecordChecks, record_checks
from penstock.transforms.features.apply import transform_fingerprint, transformed_schema
from penstock.transforms.statistics.files import read_list
from penstock.transforms.statistics.statistics import ALL_EXAMPLES
from penstock.transforms.verify.fault import Fault
from penstock.transforms.verify.rejects import check_rejects
from penstock.transforms.verify.shards import KindsByFeature, Stored, check_shards

AnyManifest = Manifest | WindowManifest
_Read = TypeVar("_Read", WindowManifest, WindowSet)


def verify_dataset(directory: str) -> Iterator[Fault]:
    """Reads a dataset again and yields each fault, and nothing for a good dataset.

    Memory holds one block of records. `penstock.io.beam.progress` counts bytes, and rows of shards. A dataset with
    windows may still be growing: files of a window that is just being published look like orphans for a moment.
    """
    try:
        manifest = read_manifest(directory)
    except PenstockError as error:
        yield Fault("manifest.broken", MANIFEST, str(error))
        return
    if manifest is not None:
        yield from _verify_whole(directory, manifest)
    elif told := told_of(directory):
        yield Fault("manifest.missing", MANIFEST, f"is missing: {told}")
    elif windows := sorted(list_files(stores.join(directory, WINDOWS))):
        yield from _verify_windows(directory, windows)
    else:
        yield Fault("manifest.missing", MANIFEST, "is missing: no run has finished in this folder")


def _verify_whole(directory: str, manifest: Manifest) -> Iterator[Fault]:
    present = list_files(directory)
    _plan_bytes([manifest], present)
    yield from _check_sums(manifest, MANIFEST)
    yield from (Fault("manifest.sum", MANIFEST, wrong) for wrong in contradictions(manifest))
    known = {MANIFEST, *manifest.files()}
    others = run_folders(directory, present) - run_folders(directory, known)
    orphans = list(_check_files(known, {*manifest.extras, *others, VERSIONS}, present))
    earlier: Mapping[str, str] = {}
    if any(fault.code == "file.orphan" for fault in orphans):
        try:
            earlier = superseded(directory, present)
        except PenstockError as error:
            yield Fault("manifest.broken", VERSIONS, str(error))
    yield from (fault for fault in orphans if fault.code != "file.orphan" or fault.path not in earlier)
    checks, faults = _load_checks(directory, manifest, present)
    yield from faults
    yield from check_shards(directory, manifest, MANIFEST, present, checks or KindsByFeature())
    yield from _check_indexes(directory, manifest, present)
    yield from check_rejects(directory, manifest, present)
    for span in spans_of(manifest):
        part = manifest.part_of(span)
        if manifest.spans:
            yield from _check_sums(part, f"{MANIFEST}, span {span.name}")
        yield from _check_whole_statistics(directory, part, present)


def _check_indexes(directory: str, manifest: Manifest, present: Mapping[str, int]) -> Iterator[Fault]:
    """Yields the indexes of splits that list other shards than the manifest does."""
    for path in manifest.extras:
        folder, _, name = path.rpartition("/")
        if name != INDEX or path not in present:
            continue
        said = [
            (inner, shard.records, shard.bytes)
            for shard in manifest.shards
            for above, _, inner in [shard.path.rpartition("/")]
            if above == folder and shard.records
        ]
        try:
            if indexed(stores.read_file(stores.join(directory, *path.split("/")))) != said:
                yield Fault("index.wrong", path, "lists other shards than the manifest")
        except (ValueError, OSError) as error:
            yield Fault("index.wrong", path, f"cannot be read: {error}")


def _check_whole_statistics(directory: str, manifest: Manifest, present: Mapping[str, int]) -> Iterator[Fault]:
    if (statistics := manifest.extra(STATISTICS)) is not None:
        for name, said in (
            (IN_STATISTICS, {ALL_EXAMPLES: manifest.rows_in}),
            (OUT_STATISTICS, manifest.splits),
            (REJECTED_STATISTICS, {ALL_EXAMPLES: manifest.rows_rejected}),
        ):
            path = f"{statistics}/{name}"
            if path in present:
                yield from _check_statistics(directory, path, said)
            else:
                yield Fault("file.missing", path, "is missing")


def _check_statistics(directory: str, path: str, said: Mapping[str, int]) -> Iterator[Fault]:
    """Checks that statistics can be read, and are of as many rows as the manifest counts."""
    try:
        read = read_list(stores.join(directory, *path.split("/")))
    except (PenstockError, OSError) as error:
        yield Fault("statistics.broken", path, str(error))
        return
    found = {one.name: one.num_examples for one in read.datasets}
    if ALL_EXAMPLES in found:  # rows that have no splits
        said = {ALL_EXAMPLES: sum(said.values())}
    for dataset, rows in said.items():
        if found.get(dataset, 0) != rows:
            detail = f"{dataset} must be of {rows} rows, as the manifest says, found {found.get(dataset, 0)}"
            yield Fault("statistics.rows", path, detail)


def _check_window_statistics(directory: str, manifest: WindowManifest, present: Mapping[str, int]) -> Iterator[Fault]:
    for statistics, said in (
        (manifest.statistics, manifest.splits),
        (manifest.statistics_rejected, {ALL_EXAMPLES: manifest.rows_rejected}),
    ):
        if statistics is not None and statistics in present:  # else it is missing, as any other file may be
            yield from _check_statistics(directory, statistics, said)


def _verify_windows(directory: str, names: Iterable[str]) -> Iterator[Fault]:
    manifests: dict[str, WindowManifest] = {}
    sets: dict[str, WindowSet] = {}
    broken: set[str] = set()
    yield from _read_all(directory, WINDOWS, names, WindowManifest, manifests, broken)
    yield from _read_all(directory, COMPACTED, list_files(stores.join(directory, COMPACTED)), WindowSet, sets, broken)
    present = list_files(directory)
    compacted = {f"{WINDOWS}/{part.name}.json" for one in sets.values() for part in one.parts}
    stored: dict[str, Stored] = {**sets, **{path: one for path, one in manifests.items() if path not in compacted}}
    _plan_bytes(stored.values(), present)
    for path, manifest in manifests.items():
        yield from _check_sums(manifest, path)
        yield from _check_window(manifest, path)
    for path, one in sets.items():
        yield from _check_set(one, path, manifests)
    if not manifests:
        return
    gone = [shard for path in compacted & manifests.keys() for shard in manifests[path].shards]
    replaced = {path for shard in gone for path in shard.stored()}
    named = {file for one in (*manifests.values(), *sets.values()) for file in one.files()} - replaced
    last = list(manifests.values())[-1]
    extras = {extra for manifest in manifests.values() for extra in manifest.extras}
    # A run may be at work, as in its staging folder elsewhere.
    folders = {*extras, *run_folders(directory, present)}
    yield from _check_files({*manifests, *sets, *broken, *named}, folders, present, replaced)
    checks, faults = _load_checks(directory, last, present)
    yield from faults
    expected = checks or KindsByFeature()
    for path, holding in stored.items():
        yield from check_shards(directory, holding, path, present, expected)
    for manifest in manifests.values():
        yield from check_rejects(directory, manifest, present)
        yield from _check_window_statistics(directory, manifest, present)


def _read_all(
    directory: str,
    folder: str,
    names: Iterable[str],
    kind: type[_Read],
    found: dict[str, _Read],
    broken: set[str],
) -> Iterator[Fault]:
    """Reads the manifests in a folder into `found`, by their relative paths; yields a fault for each that is broken."""
    for name in sorted(names):
        path = f"{folder}/{name}"
        try:
            manifest = kind.read(stores.join(directory, folder, name))
        except (PenstockError, OSError) as error:
            broken.add(path)
            yield Fault("manifest.broken", path, str(error))
            continue
        if manifest is not None:
            found[path] = manifest


def _check_set(found: WindowSet, path: str, manifests: Mapping[str, WindowManifest]) -> Iterator[Fault]:
    """Yields what does not agree between the manifest of windows that were put together and those of the windows."""
    records = collections.Counter[str]()
    for shard in found.shards:
        records[shard.split] += shard.records
    windows = [(part, manifests.get(f"{WINDOWS}/{part.name}.json")) for part in found.parts]
    splits = collections.Counter[str]()
    for part, manifest in windows:
        if manifest is None:
            yield Fault("file.missing", f"{WINDOWS}/{part.name}.json", f"is missing; its rows are in {path}")
            continue
        splits.update(manifest.splits)
        if manifest.dataset_id != part.dataset_id:
            detail = f"window {part.name} is not the one whose rows were put together: it was published again since"
            yield Fault("manifest.window", path, detail)
    for split in {**found.splits, **records, **splits}:
        said = found.splits.get(split, 0)
        if said != records[split]:
            yield Fault("manifest.sum", path, f"splits.{split}, against its shards: {said} and {records[split]}")
        if said != splits[split] and all(manifest for _, manifest in windows):
            yield Fault("manifest.sum", path, f"splits.{split}, against its windows: {said} and {splits[split]}")
    if found.dataset_id != dataset_id(found.shards):
        yield Fault("manifest.sum", path, "dataset_id is not that of the digests of its shards")


def _plan_bytes(manifests: Iterable[Stored], present: Mapping[str, int]) -> None:
    for manifest in manifests:
        files: tuple[Shard | PublishedDeadLetters, ...] = (*manifest.shards, *manifest.dead_letters)
        progress.plan(bytes=sum(present.get(file.path, 0) for file in files))


def _check_window(manifest: WindowManifest, path: str) -> Iterator[Fault]:
    """Yields contradictions inside the manifest of a window, beyond its sums."""
    name = f"{WINDOWS}/{manifest.name}.json"
    if name != path:
        yield Fault("manifest.window", path, f"the window of {name} has another name")
    start, end = map(by_time, manifest.window)
    records = collections.Counter({"on_time": 0, "late": 0})
    for shard in manifest.shards:
        records[shard.pane] += shard.records
        times = None if manifest.is_flushed else shard.event_time
        if times is not None and not start <= by_time(times[0]) <= by_time(times[1]) < end:
            yield Fault(
                "shard.event_time", shard.path, f"has rows from {times[0]} to {times[1]}, not all in the window"
            )
    for pane, said in (("on_time", manifest.rows_on_time), ("late", manifest.rows_late)):
        if said != records[pane]:
            yield Fault("manifest.sum", path, f"rows_{pane}, against its shards: {said} and {records[pane]}")
    rows = sum(item.rows for item in manifest.inputs)
    if rows not in (0, manifest.rows_out):
        yield Fault("manifest.sum", path, f"rows_out, against its inputs: {manifest.rows_out} and {rows}")


def _check_sums(manifest: AnyManifest, path: str) -> Iterator[Fault]:
    """Yields contradictions inside the manifest."""
    records: collections.Counter[str] = collections.Counter()
    for shard in manifest.shards:
        records[shard.split] += shard.records
    rejected = manifest.rows_rejected
    sums: dict[str, tuple[object, object]] = {
        "rows_in, against rows_out + rows_rejected": (manifest.rows_in, manifest.rows_out + rejected),
        "rows_out, against its shards": (manifest.rows_out, records.total()),
        "rows_rejected, against its dead letters": (rejected, sum(file.records for file in manifest.dead_letters)),
        "rows_rejected, against the stages": (rejected, sum(manifest.rejected_by_stage.values())),
        "dataset_id, against the digests of its shards": (manifest.dataset_id, dataset_id(manifest.shards)),
    }
    for split in {**manifest.splits, **records}:
        sums[f"splits.{split}, against its shards"] = (manifest.splits.get(split), records[split])
    for what, (said, found) in sums.items():
        if said != found:
            yield Fault("manifest.sum", path, f"{what}: {said} and {found}")


def _check_files(
    known: Set[str], folders: Iterable[str], present: Collection[str], replaced: Set[str] = frozenset()
) -> Iterator[Fault]:
    """Yields files that are missing, and files that no manifest knows, but for those in folders and `replaced` ones."""
    no_orphans = (STAGING_PREFIX, REPLACED_PREFIX, f"{HISTORY}/", *(f"{folder}/" for folder in folders))
    for path in sorted(known):
        if not _is_there(path, present):
            yield Fault("file.missing", path, "is missing")
    for path in sorted(set(present) - known - replaced - {CARD, STREAM, CROISSANT}):
        if not path.startswith(no_orphans) and not (is_claim(path) or is_mark(path)):
            yield Fault("file.orphan", path, "is not in the manifest")


def _is_there(path: str, present: Collection[str]) -> bool:
    """Whether a file, or any file below a folder, is there."""
    return path in present or any(other.startswith(f"{path}/") for other in present)


def _load_checks(
    directory: str, manifest: AnyManifest, present: Mapping[str, int]
) -> tuple[RecordChecks | None, list[Fault]]:
    """Loads what each record must conform to, if that is known, and returns the faults of schema and graph."""
    faults = []
    loaded: dict[str, RecordChecks] = {}
    for extra, what, load in ((SCHEMA, "schema", _load_schema), (TRANSFORM, "transform", _load_transform)):
        path = manifest.extra(extra)
        if path is None or not _is_there(path, present):
            continue
        try:
            loaded[extra], fingerprint = load(stores.join(directory, path), manifest)
        except (PenstockError, OSError) as error:
            faults.append(Fault(f"{what}.broken", path, str(error)))
            continue
        said = manifest.provenance.get(f"{what}_fingerprint", fingerprint)
        if said != fingerprint:
            detail = f"must have the fingerprint {said}, as the manifest says, found {fingerprint}"
            faults.append(Fault(f"{what}.changed", path, detail))
    checks = loaded.get(SCHEMA if manifest.extra(TRANSFORM) is None else TRANSFORM)
    if checks is not None and keeps_origins(manifest.provenance):
        origins = record_checks(origin_schema()).columns
        checks = dataclasses.replace(checks, columns=(*checks.columns, *origins))
    return checks, faults


def _load_schema(path: str, manifest: AnyManifest) -> tuple[RecordChecks, str]:
    schema = load_schema(path)
    severity = SchemaSeverity.of_options(manifest.provenance.get("options", {}))
    return record_checks(schema, severity=severity), schema_fingerprint(schema)


def _load_transform(path: str, manifest: AnyManifest) -> tuple[RecordChecks, str]:
    return record_checks(transformed_schema(path)), transform_fingerprint(path)
