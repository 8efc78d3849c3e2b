"""Publication of a span: the files of a run get a folder of their own, and a manifest that names them all takes effect.

The manifest is replaced in one step, on a disk by a rename and in an object store by a conditional write. Before it the
dataset is the old one, after it the new one, and no file of the old one is touched. A kill before it leaves a folder
that no manifest names, which the next run that adds removes.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from penstock.io.dataset.layout import HISTORY, MANIFEST, RUN_PREFIX, STATISTICS, Staging, run_folders
from penstock.io.dataset.manifest import Manifest, read_manifest
from penstock.io.dataset.spans.versions import keep_version
from penstock.io.dataset.spans.whole import as_span, with_span
from penstock.io.dataset.windowed.manifest import WindowSet
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, list_files, move_files, remove_folder, replace_file
from penstock.io.files.stores import Versioned
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing


def current_of(output: str, base: str, is_object: bool) -> tuple[Manifest | None, str]:
    """Returns the manifest that a run replaces, and its version in a store; None where there is none.

    Args:
      output: the folder of the dataset.
      base: the run id of the manifest that the run began with; empty for none.
      is_object: whether it lies in an object store.

    Raises:
      DataError: when another run has published since.
    """
    version = ""
    if is_object:
        found = stores.read_versioned(stores.join(output, MANIFEST))
        manifest = None if found is None else Manifest.parse(found.content, stores.join(output, MANIFEST))
        version = "" if found is None else found.version
    else:
        manifest = read_manifest(output)
    if (manifest.run_id if manifest else "") != base:
        raise DataError(
            f"{output}: another run has published since this one began; nothing of this one is published: run it again"
        )
    return manifest, version


def replace_manifest(staging: Staging, old: Manifest | None, new: Manifest, version: str) -> None:
    """Makes a manifest that of the dataset, and keeps the old one as a version; may be called again.

    On a disk, the caller holds the lock of the dataset (`penstock.io.dataset.layout.lock_path`).

    Args:
      staging: of the run that publishes.
      old: the manifest as it is; None if there is none.
      new: the manifest that takes its place; all its files are there.
      version: of the old one in an object store.

    Raises:
      DataError: when another run has published meanwhile.
    """
    path = stores.join(staging.output, MANIFEST)
    if old is not None:
        keep_version(staging.output, old, staging.path("version.json.gz"))
    content = new.to_json().encode()
    if not staging.is_final:
        replace_file(path, content, staging.path(MANIFEST), "application/json")
        return
    with writing(path, OUTPUT_REMEDY):
        is_ours = stores.write_if(path, content, Versioned(b"", version) if version else None)
    if not is_ours:
        raise DataError(
            f"{path}: another run has published since this one began; nothing of this one is published: run it again"
        )


# This file is in the folder of a run from the beginning of its publication to the end.
_MARK = "unpublished"


@dataclasses.dataclass(frozen=True)
class SpanFolder:
    """The folder that a run on a disk gives its files, below the dataset, before a manifest names them."""

    staging: Staging

    @property
    def name(self) -> str:
        """The name of the folder."""
        return RUN_PREFIX + self.staging.run_id

    def placed(self, manifest: Manifest, is_first: bool = False) -> Manifest:
        """Returns the manifest with the places of its files; what is not of the first span has its schema and graph."""
        extras = [extra for extra in manifest.extras if is_first or extra == STATISTICS]
        return dataclasses.replace(
            manifest,
            shards=tuple(shard.placed(self._place) for shard in manifest.shards),
            dead_letters=tuple(
                dataclasses.replace(file, path=f"{self.name}/{file.path}") for file in manifest.dead_letters
            ),
            extras=tuple(f"{self.name}/{extra}" for extra in extras),
        )

    def _place(self, path: str) -> str:
        return f"{self.name}/{path}"

    def move_in(self, manifest: Manifest | WindowSet, letters: Mapping[str, str], is_first: bool = False) -> None:
        """Moves what is staged to its place; may be called again.

        Args:
          manifest: as it was before it was `placed`.
          letters: files of dead letters: where they are to their names in the folder.
          is_first: as for `placed`.

        Raises:
          DataError: when a file of the run is missing or has changed.
        """
        staged = list_files(self.staging.directory)
        extras = manifest.extras if is_first else (STATISTICS,)
        kept = [path for path in staged if path in extras or path.startswith(tuple(f"{extra}/" for extra in extras))]
        stored = {path: size for one in manifest.shards for path, (size, _) in one.stored().items()}
        names = {self.staging.path(*path.split("/")): path for path in (*stored, *kept)}
        moves = {source: self._url(name) for source, name in {**names, **letters}.items() if stores.exists(source)}
        stores.write_file(self._url(_MARK), b"\n", "text/plain")
        move_files(moves)
        present = list_files(stores.join(self.staging.output, self.name))
        wrong = [path for path, size in stored.items() if present.get(path) != size]
        wrong += [file.path for file in manifest.dead_letters if file.path not in present]
        if is_first:
            wrong += [extra for extra in extras if not any(f"{path}/".startswith(f"{extra}/") for path in present)]
        for path in wrong:
            raise DataError(
                f"{self.staging.output}: {path} is not as this run wrote it; does another run write into the same "
                "folder? nothing is published"
            )

    def finish(self) -> None:
        """Adds the run to the history and removes what else it staged, once the manifest is in its place."""
        staged = list_files(self.staging.directory)
        points = [path.split("/") for path in staged if path.startswith(f"{HISTORY}/")]
        move_files({self.staging.path(*parts): stores.join(self.staging.output, *parts) for parts in points})
        delete_files(self.staging.output, [f"{self.name}/{_MARK}"])
        remove_folder(self.staging.directory)

    def _url(self, path: str) -> str:
        return stores.join(self.staging.output, self.name, *path.split("/"))


def remove_unpublished(output: str, files: Iterable[str], own: str = "") -> None:
    """Removes the folders of runs on a disk that were killed while they published.

    The caller holds the lock, so that no run is publishing.

    Args:
      output: the folder of the dataset.
      files: of the dataset, as its manifest names them now.
      own: the name of the folder of the run that publishes now, which may have begun to before.
    """
    marks = [path for path in list_files(output) if is_mark(path) and path.partition("/")[0] != own]
    named = run_folders(output, files) if marks else set()
    for path in marks:
        folder = path.partition("/")[0]
        if folder in named:
            delete_files(output, [path])
        else:
            remove_folder(stores.join(output, folder))


def is_mark(path: str) -> bool:
    """Whether a relative path is that of the file which says that a folder is not published yet.

    >>> is_mark("run-20261127T213300Z-0a1b2c3d/unpublished"), is_mark("train/unpublished")
    (True, False)
    """
    return path.startswith(RUN_PREFIX) and path.partition("/")[2] == _MARK


@dataclasses.dataclass(frozen=True)
class AddSpan:
    """Adds a run to a dataset (`penstock.io.dataset.publish.Adds`).

    Attributes:
      base: the run id of the dataset as it was when the run began; empty where there was none.
      span: the name of what is added; None for the next number.
    """

    base: str
    span: str | None = None

    def first(self, manifest: Manifest) -> Manifest:
        """Returns the manifest of a new dataset as one of a first span."""
        return as_span(manifest, self.span)

    def publish(self, staging: Staging, manifest: Manifest, letters: Mapping[str, str]) -> Manifest:
        """Publishes a run; on a disk the caller holds the lock of the dataset.

        Raises:
          DataError: when another run has published since this one began, or the rows are not like those there.
          ConfigError: when there is a span of this name.
        """
        old, version = current_of(staging.output, self.base, staging.is_final)
        folder = SpanFolder(staging)
        placed = manifest if staging.is_final else folder.placed(manifest, is_first=old is None)
        new = as_span(placed, self.span) if old is None else with_span(old, placed, self.span)
        if not staging.is_final:
            remove_unpublished(staging.output, () if old is None else old.files(), folder.name)
            folder.move_in(manifest, letters, is_first=old is None)
        replace_manifest(staging, old, new, version)
        return new

    def finish(self, staging: Staging) -> None:
        """Does on a disk what follows the manifest; may be called again."""
        SpanFolder(staging).finish()
