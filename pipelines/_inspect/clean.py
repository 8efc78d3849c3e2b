"""What is no part of a dataset any more, and is deleted."""

from collections.abc import Iterable

from penstock.io.dataset.layout import staging_owner
from penstock.io.errors import DataError
from penstock.io.files.folders import delete_files, list_entries
from penstock.io.files.paths import FileEntry
from penstock.transforms.verify import Fault, leftovers


def clean(dataset: str, faults: Iterable[Fault], since: float) -> list[str]:
    """Deletes what no manifest knows and was not written since then, seconds; returns the paths.

    The folder of a run goes as a whole, by its newest file, unless the run is at work on this machine. Nothing of the
    history is deleted, and nothing that a stream may go on with.

    Raises:
      DataError: when a manifest cannot be read: what it knows is not known then.
    """
    unknown = set()
    for fault in faults:
        if fault.code == "manifest.broken":
            raise DataError(f"{dataset}: nothing is deleted, since {fault}")
        if fault.code == "file.orphan":
            unknown.add(fault.path)
    files = list(list_entries(dataset))
    folders = {name for name in leftovers(dataset) if staging_owner(dataset, name) != "running"}
    folders -= {_top(file) for file in files if file.modified >= since}
    gone = [
        file.path for file in files if file.modified < since and (file.path in unknown or _top(file) in folders)
    ]  # fmt: skip
    delete_files(dataset, gone)
    return sorted(gone)


def _top(file: FileEntry) -> str:
    return file.path.partition("/")[0]
