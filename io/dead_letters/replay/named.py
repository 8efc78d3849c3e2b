"""Which dead letters are of a window: in an object store, those of attempts that failed lie beside them.

There a file stays where a bundle wrote it, in the folder of a run. A manifest says whether its rows are in the dataset.
"""

from collections.abc import Iterable

from penstock.io.dataset.layout import DEAD_LETTERS, WINDOWS, dataset_of
from penstock.io.dataset.summaries import Damage, read_summaries
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.folders import list_entries
from penstock.io.files.inputs import InputFile
from penstock.io.files.paths import FileEntry


class NamedLetters:
    """Tells the files that windows name; a manifest is read again only once it has changed."""

    def __init__(self) -> None:
        self._named: dict[str, dict[FileEntry, frozenset[str]]] = {}

    def of(self, files: Iterable[InputFile]) -> tuple[InputFile, ...]:
        """Returns files without those beside the windows of a store that no window names, or none yet.

        Raises:
          DataError: for a manifest that cannot be read.
          OSError: when the manifests cannot be listed.
        """
        places = {file: _dataset_of(file.uri) for file in files}
        datasets = {place for place in places.values() if place}
        named = {dataset: set().union(*self._look(dataset)) for dataset in sorted(datasets)}
        return tuple(
            file
            for file, dataset in places.items()
            if not dataset or not self._named[dataset] or file.uri in named[dataset]
        )

    def _look(self, dataset: str) -> list[frozenset[str]]:
        folder, before = stores.join(dataset, WINDOWS), self._named.get(dataset, {})
        entries = [entry for entry in list_entries(folder) if entry.path.endswith(".json")]
        changed = [entry for entry in entries if entry not in before]
        found = dict(before)
        read = read_summaries(dataset, [f"{WINDOWS}/{entry.path}" for entry in changed])
        for entry, one in zip(changed, read, strict=True):
            if isinstance(one, Damage):
                raise DataError(f"{dataset}: {one.path} cannot be read: {one.detail}")
            found[entry] = frozenset(stores.join(dataset, *path.split("/")) for path in one.files)
        self._named[dataset] = {entry: found[entry] for entry in entries}
        return list(self._named[dataset].values())


def _dataset_of(uri: str) -> str:
    """The dataset in whose store a file of dead letters lies in the folder of a run; empty for any other file."""
    folder = uri.rpartition(f"/{DEAD_LETTERS}/")[0]
    dataset = dataset_of(folder)
    return "" if dataset == folder else dataset
