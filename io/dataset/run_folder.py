"""Publication in an object store, where a rename is a copy: the files of a run stay where the run wrote them.

Each run has a folder of its own, so no two of them meet, and an old dataset is whole until another one takes its place.
That is one request: the manifest, which names the files, is written under the condition that it is as it was when the
run began. Of two runs at once the store refuses the second one. What the old manifest named is deleted afterwards.
"""

import dataclasses
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from penstock.io.dataset.layout import (
    DEAD_LETTERS,
    HISTORY,
    MANIFEST,
    RUN_PREFIX,
    STAGING_PREFIX,
    Staging,
    check_replaceable,
    reject_names,
)
from penstock.io.dataset.manifest import Manifest
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
    """

    staging: Staging
    overwrite: bool

    def placed(self, manifest: Manifest, letters: Sequence[DeadLetterFile]) -> Manifest:
        """Returns the manifest with the places of its files; letters that lie elsewhere are copied into the folder."""
        names = self._letters(letters)
        return dataclasses.replace(
            manifest,
            shards=tuple(dataclasses.replace(shard, path=self._place(shard.path)) for shard in manifest.shards),
            dead_letters=tuple(
                dataclasses.replace(file, path=name) for file, name in zip(manifest.dead_letters, names, strict=True)
            ),
            extras=tuple(map(self._place, manifest.extras)),
        )

    def _place(self, path: str) -> str:
        return f"{self.staging.name}/{path}"

    def _letters(self, letters: Sequence[DeadLetterFile]) -> list[str]:
        own = f"{self.staging.directory}/"
        foreign = [file.path for file in letters if not file.path.startswith(own)]
        moved = dict(zip(foreign, reject_names(DEAD_LETTERS, foreign), strict=True))
        if moved:  # but for those that an earlier attempt moved
            move_files({path: self.staging.path(name) for path, name in moved.items() if stores.exists(path)})
        return [self._place(moved.get(file.path) or file.path.removeprefix(own)) for file in letters]

    def publish(self, manifest: Manifest, old: Manifest | None) -> None:
        """Makes the folder the dataset, and deletes the `old` one.

        Raises:
          DataError: when files of the run are missing or changed, or another run has published since this one began.
          ConfigError: when the output was filled meanwhile and is not to be overwritten, or holds files of others.
        """
        path = stores.join(self.staging.output, MANIFEST)
        present = {entry.path: entry for entry in list_entries(self.staging.output)}
        self._check(manifest, present)
        before = Versioned(b"", self.staging.replaces) if self.staging.replaces else None
        with writing(path, OUTPUT_REMEDY):
            is_ours = stores.write_if(path, manifest.to_json().encode(), before)
        if not is_ours:
            raise DataError(f"{path}: another run has published since this one began; nothing of this one is published")
        self._finish(manifest, present, old)

    def finish(self, manifest: Manifest) -> None:
        """Does again what follows the manifest."""
        self._finish(manifest, {entry.path: entry for entry in list_entries(self.staging.output)}, None)

    def discard(self, kept: Collection[str]) -> None:
        """Deletes the files of a run that is not published, but for its dead letters and `kept`."""
        files = list_files(self.staging.directory)
        others = [path for path in files if path not in kept and not path.startswith(f"{DEAD_LETTERS}/")]
        delete_files(self.staging.directory, others)

    def _check(self, manifest: Manifest, present: Mapping[str, FileEntry]) -> None:
        others = (RUN_PREFIX, STAGING_PREFIX, f"{HISTORY}/")
        filled = [path for path in present if not path.startswith(others)]
        if filled and not self.overwrite:
            raise ConfigError(
                f"{self.staging.output}: was filled while the job ran ({filled[0]}); nothing is published"
            )
        check_replaceable(self.staging.output, present)
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
        mine = {MANIFEST, *points, *_named(manifest, present)}
        gone = self._replaced(present, old) if self.overwrite else (path for path in present if path.startswith(own))
        delete_files(self.staging.output, sorted({*gone} - mine))

    def _replaced(self, present: Mapping[str, FileEntry], old: Manifest | None) -> Iterator[str]:
        """Yields all but the history, and folders of other runs that may be at work."""
        ours = {self.staging.name, *([RUN_PREFIX + old.run_id] if old else [])}
        at_work = recent_folders(present.values(), time.time() - DEAD_RUN_SECONDS) - ours
        kept = (f"{HISTORY}/", *(f"{name}/" for name in at_work))
        yield from (path for path in present if not path.startswith(kept))

    def _url(self, path: str) -> str:
        return stores.join(self.staging.output, *path.split("/"))


def recent_folders(files: Iterable[FileEntry], since: float) -> set[str]:
    """Returns the names of the folders of runs in a dataset of which a file was written since then, seconds."""
    return {
        file.path.partition("/")[0]
        for file in files
        if file.path.startswith((RUN_PREFIX, STAGING_PREFIX)) and file.modified >= since
    }


def _damaged(manifest: Manifest, present: Mapping[str, FileEntry]) -> Iterator[str]:
    for shard in manifest.shards:
        if shard.path not in present or present[shard.path].size != shard.bytes:
            yield shard.path
    yield from (file.path for file in manifest.dead_letters if file.path not in present)
    yield from (extra for extra in manifest.extras if not any(f"{path}/".startswith(f"{extra}/") for path in present))


def _named(manifest: Manifest, present: Iterable[str]) -> set[str]:
    """The files of a dataset, those in its folders included."""
    folders = tuple(f"{extra}/" for extra in manifest.extras)
    return {*manifest.files(), *(path for path in present if path.startswith(folders))}
