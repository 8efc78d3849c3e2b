"""What is no part of a dataset any more, and is deleted."""

import datetime
import posixpath
import re
from collections.abc import Iterable, Sequence, Set

from penstock.io.dataset.layout import MANIFEST, STREAM, lock_path, run_folders, staging_owner
from penstock.io.dataset.spans.versions import superseded
from penstock.io.dataset.spans.windows import superseded_by_sets
from penstock.io.dataset.windowed.manifest import read_window_manifests, read_window_sets
from penstock.io.dead_letters.replay.claims import is_claim
from penstock.io.errors import DataError
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import delete_files, list_entries
from penstock.io.files.paths import FileEntry
from penstock.transforms.leftovers import leftovers
from penstock.transforms.verify import Fault

# A shard of a set, or its index: it lies in no folder of a window.
_OF_SET = re.compile(r"[^/]+/(?:_index/)?[^/]+/(part-\d+-of-\d+\.[^/]*)$")
_OF_WINDOW = re.compile(r"[^/]+/(?:_index/)?[^/]+/([^/_]+T\d{6}(?:\.\d+)?Z)[_./]")


def clean(dataset: str, faults: Iterable[Fault], since: float) -> list[str]:
    """Deletes what no manifest knows and was not written since then, seconds; returns the paths.

    Of earlier versions, the files go that the versions since then do not have, and their manifests stay; so do those of
    windows that were put together by then, whose shards go. The folder of a run goes as a whole, by its newest file,
    unless the run is at work on this machine. Nothing of the history is deleted, and nothing that a stream may go on
    with: of its runs in a store, only files of final windows.

    Raises:
      DataError: when a manifest cannot be read: what it knows is not known then.
    """
    unknown = set()
    for fault in faults:
        if fault.code == "manifest.broken":
            raise DataError(f"{dataset}: nothing is deleted, since {fault}")
        if fault.code == "file.orphan":
            unknown.add(fault.path)
    # While it is held, no run on this machine publishes: what has no manifest yet gets none before it is deleted.
    with alone(lock_path(dataset)):
        gone = _gone(dataset, unknown, since)
        delete_files(dataset, gone)
    return sorted(gone)


def _gone(dataset: str, orphans: Set[str], since: float) -> list[str]:
    """The paths of what may go; the lock of the dataset is held."""
    files = list(list_entries(dataset))
    folders = {name for name in leftovers(dataset) if staging_owner(dataset, name) != "running"}
    folders.discard(posixpath.basename(lock_path(dataset)))
    folders -= {_top(file) for file in files if file.modified >= since}
    unknown = {*orphans, *_beside_windows(dataset, files, since)}
    left_out = f"{datetime.datetime.fromtimestamp(since, datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    paths = [file.path for file in files]
    earlier = {**superseded(dataset, paths), **superseded_by_sets(dataset, paths)}
    unknown -= earlier.keys()
    unknown |= {path for path, time in earlier.items() if time <= left_out}
    return [
        file.path for file in files if file.modified < since and (file.path in unknown or _top(file) in folders)
    ]  # fmt: skip


def _beside_windows(dataset: str, files: Sequence[FileEntry], since: float) -> set[str]:
    """What lies in the folders of runs in a store, and no window names: of a stream, what is of final windows."""
    paths = {file.path for file in files}
    runs = run_folders(dataset, paths)
    manifests = [] if MANIFEST in paths or not runs else list(read_window_manifests(dataset))
    if not manifests:
        return set()
    named = {path for manifest in (*manifests, *read_window_sets(dataset)) for path in manifest.files()}
    folders = tuple(f"{extra}/" for manifest in manifests for extra in manifest.extras)
    others = [file for file in files if file.path not in named and not file.path.startswith(folders)]
    unnamed = [file for file in others if _top(file) in runs and not is_claim(file.path)]
    if STREAM in paths:
        final = {manifest.name.partition("_")[0] for manifest in manifests if manifest.final}
        return {file.path for file in unnamed if _start(file.path) in final or _OF_SET.match(file.path)}
    young = {_top(file) for file in unnamed if file.modified >= since}
    return {file.path for file in unnamed if _top(file) not in young}


def _start(path: str) -> str | None:
    """The start of the window that a shard, an index or statistics in the folder of a run are of, as in file names.

    >>> _start("run-r1/train/20260101T000000Z/part-00000-of-00001-1a2b3c4d.tfrecord")
    '20260101T000000Z'
    >>> _start("run-r1/_index/train/20260101T000000Z/part-00000-of-00001-1a2b3c4d.tfrecord.index")
    '20260101T000000Z'
    >>> _start("run-r1/statistics/20260101T000000Z_20260101T000100Z.1-1a2b3c4d.pb")
    '20260101T000000Z'
    """
    found = _OF_WINDOW.match(path)
    return found and found[1]


def _top(file: FileEntry) -> str:
    return file.path.partition("/")[0]
