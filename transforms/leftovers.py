"""What lies beside a dataset: folders of runs that did not finish; and how large the dataset is without them."""

from collections.abc import Iterable

from penstock.io.dataset.layout import (
    HISTORY,
    LOCK_PREFIX,
    MANIFEST,
    PROBE_PREFIX,
    REPLACED_PREFIX,
    STAGING_PREFIX,
    STREAM,
    VERSIONS,
    WINDOWS,
    run_folders,
)
from penstock.io.dataset.manifest import ManifestFile, read_manifest
from penstock.io.dataset.spans.versions import superseded
from penstock.io.files import stores
from penstock.io.files.folders import list_files

# What is said of each of `leftovers`.
LEFTOVER = "was left by a run that did not finish: no part of the dataset, safe to delete when no run is at work"


def leftovers(directory: str) -> list[str]:
    """Returns the names of what unfinished runs left beside a dataset, such as `.tmp-probe-1a2b3c4d`.

    The folder of a run beside windows is none of them: a job may be at work in it, or be resumed.
    """
    present = list_files(directory)
    names = {path.split("/")[0] for path in present if path.startswith(STAGING_PREFIX)}
    if MANIFEST not in present and any(path == STREAM or path.startswith(f"{WINDOWS}/") for path in present):
        return sorted(name for name in names if name.startswith(PROBE_PREFIX))
    in_store = {name for name in names if name.startswith(LOCK_PREFIX) and stores.is_object(directory)}
    return sorted((names - in_store) | _other_runs(directory, present))


def _other_runs(directory: str, present: Iterable[str]) -> set[str]:
    """The folders of runs that are not of the dataset, which has no windows, nor of a version of it."""
    found = run_folders(directory, present)
    manifest = read_manifest(directory) if found else None
    if manifest is None:
        return found
    found -= run_folders(directory, manifest.files())
    return found - run_folders(directory, superseded(directory, present)) if found else found


def dataset_bytes(directory: str, manifests: Iterable[ManifestFile]) -> int:
    """Returns the bytes of all files of the dataset in the folder, by its manifests; its history is none of them.

    In the folders of runs in a store, only files count that are named, there or by their folder.
    """
    present = list_files(directory)
    runs = tuple(f"{name}/" for name in run_folders(directory, present))
    named = {path for manifest in manifests for path in manifest.files()} if runs else set()
    folders = tuple(f"{path}/" for path in named if path.startswith(runs) and path not in present)
    return sum(
        size
        for path, size in present.items()
        if path in named
        or path.startswith(folders)
        or not path.startswith((STAGING_PREFIX, REPLACED_PREFIX, f"{HISTORY}/", f"{VERSIONS}/", *runs))
    )
