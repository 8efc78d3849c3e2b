"""Publication in an object store, where a rename is a copy: the files of a run stay where the run wrote them.

Each run has a folder of its own, so no two of them meet, and an old dataset is whole until another one takes its place.
That is one request: the manifest, which names the files, is written under the condition that it is as it was when the
run began. Of two runs at once the store refuses the second one. What the old manifest named is deleted afterwards.

Windows have a manifest each (`penstock.io.dataset.windowed.publish`). So of two runs with bounded input at once, the
store refuses the `Turn` of the second one, which precedes its first window.
"""

import dataclasses
import itertools
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Self

from penstock.io.dataset.layout import (
    CARD,
    COMPACTED,
    DEAD_LETTERS,
    HISTORY,
    LOCK_PREFIX,
    MANIFEST,
    RUN_PREFIX,
    STAGING_PREFIX,
    STREAM,
    WINDOWS,
    Staging,
    check_replaceable,
    lock_path,
    reject_names,
    run_folders,
)
from penstock.io.dataset.manifest import Manifest
from penstock.io.dataset.summaries import ManifestSummary, SetSummary, read_sets, read_summaries
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import ConfigError, DataError
from penstock.io.files import stores
from penstock.io.files.folders import delete_files, list_entries, list_files, move_files
from penstock.io.files.paths import FileEntry
from penstock.io.files.stores import Versioned
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

# A folder of another run whose newest file is older is of a run that was killed.
DEAD_RUN_SECONDS = 86_400.0


@dataclasses.dataclass(frozen=True)
class RunFolder:
    """The folder of a run in an object store, to be published as it is.

    Attributes:
      staging: the folder, which is final.
      overwrite: whether a dataset that is there is replaced.
      replaces: the version of the manifest that the run may replace, empty for none (`manifest_version`).
    """

    staging: Staging
    overwrite: bool
    replaces: str = ""

    def placed(self, manifest: Manifest, letters: Sequence[DeadLetterFile]) -> Manifest:
        """Returns the manifest with the places of its files; letters that lie elsewhere are copied into the folder."""
        names = self._letters(letters)
        return dataclasses.replace(
            manifest,
            shards=tuple(shard.placed(self._place) for shard in manifest.shards),
            dead_letters=tuple(
                dataclasses.replace(file, path=name) for file, name in zip(manifest.dead_letters, names, strict=True)
            ),
            extras=tuple(map(self._place, manifest.extras)),
        )

    def _place(self, path: str) -> str:
        return f"{self.staging.name}/{path}"

    def _letters(self, letters: Sequence[DeadLetterFile]) -> list[str]:
        names = {file.path: self.staging.final_name(file.path) for file in letters}
        foreign = [path for path, name in names.items() if name is None]
        moved = dict(zip(foreign, reject_names(DEAD_LETTERS, foreign), strict=True))
        if moved:  # but for those that an earlier attempt moved
            move_files({path: self.staging.path(name) for path, name in moved.items() if stores.exists(path)})
        return [name or self._place(moved[path]) for path, name in names.items()]

    def publish(self, manifest: Manifest, old: Manifest | None) -> None:
        """Makes the folder the dataset, and deletes the `old` one.

        Raises:
          DataError: when files of the run are missing or changed, or another run has published since this one began.
          ConfigError: when the output was filled meanwhile and is not to be overwritten, or holds files of others.
        """
        path = stores.join(self.staging.output, MANIFEST)
        present = {entry.path: entry for entry in list_entries(self.staging.output)}
        self._check(manifest, present)
        before = Versioned(b"", self.replaces) if self.replaces else None
        with writing(path, OUTPUT_REMEDY):
            is_ours = stores.write_if(path, manifest.to_json().encode(), before)
        if not is_ours:
            raise DataError(f"{path}: another run has published since this one began; nothing of this one is published")
        self._finish(manifest, present, old)

    def check(self, manifest: Manifest) -> None:
        """Checks that the files of a run that adds to a dataset are there.

        Raises:
          DataError: when one is missing or changed.
        """
        self._check_complete(manifest, {entry.path: entry for entry in list_entries(self.staging.output)})

    def finish(self, manifest: Manifest) -> None:
        """Does what follows the manifest of a run that added to a dataset, or does it again."""
        self._finish(manifest, {entry.path: entry for entry in list_entries(self.staging.output)}, None)

    def discard(self, kept: Collection[str]) -> None:
        """Deletes the files of a run that is not published, but for its dead letters and `kept`."""
        files = list_files(self.staging.directory)
        others = [path for path in files if path not in kept and not path.startswith(f"{DEAD_LETTERS}/")]
        delete_files(self.staging.directory, others)

    def _check(self, manifest: Manifest, present: Mapping[str, FileEntry]) -> None:
        others = (RUN_PREFIX, STAGING_PREFIX, f"{HISTORY}/")
        filled = [path for path in present if path != CARD and not path.startswith(others)]
        if filled and not self.overwrite:
            raise ConfigError(
                f"{self.staging.output}: was filled while the job ran ({filled[0]}); nothing is published"
            )
        check_replaceable(self.staging.output, present)
        self._check_complete(manifest, present)

    def _check_complete(self, manifest: Manifest, present: Mapping[str, FileEntry]) -> None:
        for path in _damaged(manifest, present):
            raise DataError(
                f"{self.staging.output}: {path} is not as this run wrote it; does another run write into the same "
                "folder? nothing is published"
            )

    def _finish(self, manifest: Manifest, present: Mapping[str, FileEntry], old: Manifest | None) -> None:
        """Adds the run to the history, and deletes what is old or was left by attempts of this run that failed."""
        own = f"{self.staging.name}/"
        points = [path for path in present if path.startswith(f"{own}{HISTORY}/")]
        if points:
            move_files({self._url(path): self._url(path.removeprefix(own)) for path in points})
        replaced = run_folders(self.staging.output, old.files() if old else ())
        if any(path.startswith(f"{WINDOWS}/") for path in present):
            replaced |= dataset_folders(self.staging.output)
        self._keep({MANIFEST, *points, *_named(manifest.files(), manifest.extras, present)}, present, replaced)

    def keep_windows(self, named: Collection[str], extras: Collection[str], replaced: Collection[str]) -> None:
        """Deletes what is no part of the windows that the run has published.

        Args:
          named: the files of all of them, and their manifests.
          extras: those of these files that are folders.
          replaced: the folders of the dataset that they replace.
        """
        present = {entry.path: entry for entry in list_entries(self.staging.output)}
        self._keep(_named(named, extras, present), present, replaced)

    def _keep(self, mine: Collection[str], present: Mapping[str, FileEntry], replaced: Collection[str]) -> None:
        """Deletes what else is in the folders of the run; with `overwrite` all but what other runs are at work on.

        Card and history stay. Manifests are deleted first.
        """
        ours = {self.staging.name, STAGING_PREFIX + self.staging.run_id}
        gone = {path for path in present if path.partition("/")[0] in ours}
        if self.overwrite:
            at_work = recent_folders(present.values(), time.time() - DEAD_RUN_SECONDS) - ours - {*replaced}
            kept = (f"{HISTORY}/", LOCK_PREFIX, *(f"{name}/" for name in at_work))
            gone |= {path for path in present if not path.startswith(kept)}
        gone -= {CARD, *mine}
        manifests = {
            path for path in gone if path in (MANIFEST, STREAM) or path.startswith((f"{WINDOWS}/", f"{COMPACTED}/"))
        }
        for some in (manifests, gone - manifests):
            delete_files(self.staging.output, sorted(some))

    def _url(self, path: str) -> str:
        return stores.join(self.staging.output, *path.split("/"))


def manifest_version(output: str) -> str:
    """Returns the version of the manifest of a store's dataset; empty where there is none, and outside of stores."""
    found = stores.read_versioned(stores.join(output, MANIFEST)) if stores.is_object(output) else None
    return found.version if found else ""


def dataset_folders(output: str) -> set[str]:
    """Returns the names of the folders of runs that the manifests of a store's dataset name files in."""
    present = [MANIFEST, *(f"{WINDOWS}/{name}" for name in list_files(stores.join(output, WINDOWS)))]
    found = [one for one in read_summaries(output, present) if isinstance(one, ManifestSummary)]
    sets = [one for one in read_sets(output, list_files(stores.join(output, COMPACTED))) if isinstance(one, SetSummary)]
    named = (path for one in found for path in (*one.files, *one.extras))
    return run_folders(output, itertools.chain(named, *(one.files for one in sets)))


@dataclasses.dataclass(frozen=True)
class Turn:
    """The turn of a run to publish windows of bounded input into a dataset of an object store.

    Attributes:
      staging: of the run.
      replaces: the version of `.tmp-lock-dataset`, which names the run that had its turn last, when the run began.
    """

    staging: Staging
    replaces: str

    @classmethod
    def of(cls, staging: Staging) -> Self:
        """The turn of a run that begins."""
        found = stores.read_versioned(lock_path(staging.output))
        return cls(staging, found.version if found else "")

    def take(self) -> None:
        """Takes the turn; may be called again.

        Raises:
          DataError: when another run has had its turn since this one began.
        """
        path = lock_path(self.staging.output)
        before = Versioned(b"", self.replaces) if self.replaces else None
        with writing(path, OUTPUT_REMEDY):
            if not stores.write_if(path, self.staging.run_id.encode(), before):
                raise DataError(
                    f"{self.staging.output}: another run has published since this one began; nothing of this one is "
                    "published"
                )

    def check(self) -> None:
        """Refuses to go on when another run has had its turn since.

        Raises:
          DataError: then.
        """
        found = stores.read_versioned(lock_path(self.staging.output))
        if found is None or found.content != self.staging.run_id.encode():
            raise DataError(f"{self.staging.output}: another run replaces what is there; this one ends")


def recent_folders(files: Iterable[FileEntry], since: float) -> set[str]:
    """Returns the names of the folders of runs in a dataset of which a file was written since then, seconds."""
    return {
        file.path.partition("/")[0]
        for file in files
        if file.path.startswith((RUN_PREFIX, STAGING_PREFIX)) and file.modified >= since
    }


def _damaged(manifest: Manifest, present: Mapping[str, FileEntry]) -> Iterator[str]:
    for shard in manifest.shards:
        for path, (size, _) in shard.stored().items():
            if path not in present or present[path].size != size:
                yield path
    yield from (file.path for file in manifest.dead_letters if file.path not in present)
    yield from (extra for extra in manifest.extras if not any(f"{path}/".startswith(f"{extra}/") for path in present))


def _named(files: Iterable[str], extras: Iterable[str], present: Iterable[str]) -> set[str]:
    """The files of a dataset, those in its folders included."""
    folders = tuple(f"{extra}/" for extra in extras)
    return {*files, *(path for path in present if path.startswith(folders))}
