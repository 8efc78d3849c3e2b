"""Publication of windows: staged files get their final names, then the manifest replaces the previous one.

Shards are renamed, and dead-letter files are joined. Both are idempotent: a file that is no longer staged already has
its final name. A manifest never replaces a newer one. Final names depend on window, pane and shard alone.

A retried step must get the same input as before. Flink and Dataflow guarantee that (`StableParDo`). Elsewhere, if a
worker dies between the renames and the manifest, the second attempt may divide rows differently into on time and late.
It then replaces both the shards and the manifest of the first attempt, so they still match.
"""

import collections
import contextlib
import dataclasses
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.transforms.util import ReshufflePerKey

from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.stable_input import StableParDo, has_stable_input
from penstock.io.beam.windows import Windows
from penstock.io.dataset.layout import STAGING_PREFIX, WINDOWS, Staging, clear_once
from penstock.io.dataset.windowed.manifest import WindowManifest, window_manifest_path
from penstock.io.dataset.windowed.seal import SealedWindow
from penstock.io.dataset.windowed.shards import STAGED_SHARDS
from penstock.io.errors import DataError
from penstock.io.files.folders import delete_files, list_files, move_files, remove_folder
from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

CHUNKS = "chunks"

# A final window's temporary files are deleted once this many more windows have become final after they were written.
# By then, any attempt whose state may still name them is over. Chunks of rows that are too late are read right away,
# though their window may long be final; so no file is deleted before it has this age, either.
_WINDOWS_KEPT = 3
_KEPT_SECONDS = 120.0

_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class WindowPublisher:
    """Publishes windows of one run.

    Attributes:
      extras: relative paths of staged files and folders, which are published with the first window.
    """

    staging: Staging
    windows: Windows
    extras: tuple[str, ...] = ()

    def publish(self, sealed: SealedWindow) -> WindowManifest:
        """Publishes a version of a window; if a newer one is published, returns that. May be called again.

        Raises:
          DataError: if another run has published the window, or a staged file is gone.
        """
        output, new = self.staging.output, sealed.manifest
        path = window_manifest_path(output, self.windows.name(sealed.start))
        current = WindowManifest.read(path)
        if current is not None and current.run_id != new.run_id:
            raise DataError(
                f"{path}: was published by the run {current.run_id}, this one is {new.run_id}: a job goes on into its "
                "output from a savepoint or checkpoint only; start in another folder"
            )
        if current is not None and current.sequence > new.sequence:
            return current
        _move({staged: FileSystems.join(output, *name.split("/")) for staged, name in sealed.moves.items()})
        for name, letters in sealed.letters.items():
            self._join(letters, FileSystems.join(output, *name.split("/")))
        self._check(new)
        with self._created(path) as file:
            file.write(new.to_json().encode())
        return new

    @contextlib.contextmanager
    def _created(self, path: str) -> Iterator[IO[bytes]]:
        """Creates a file that gets its final name once it is complete."""
        staged = self.staging.path(WINDOWS, f"{uuid.uuid4().hex}.json")
        with (
            writing(staged, OUTPUT_REMEDY),
            FileSystems.create(staged, "application/json", compression_type="uncompressed") as file,
        ):
            yield file
        move_files({staged: path})

    def _join(self, staged: Sequence[str], path: str) -> None:
        """Joins several files into one, and removes them."""
        if not all(map(FileSystems.exists, staged)):
            if not FileSystems.exists(path):
                raise DataError(f"{path}: its parts are gone, {', '.join(staged[:3])}; does another job write there?")
            return  # an earlier attempt has joined them
        with self._created(path) as file:
            for part in staged:
                with FileSystems.open(part, compression_type="uncompressed") as content:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
        with contextlib.suppress(beam.io.filesystem.BeamIOError):
            FileSystems.delete(list(staged))

    def publish_extras(self) -> None:
        """Publishes the staged files that belong to the dataset as a whole; another worker may have done it already."""
        for extra in self.extras:
            staged = [path for path in list_files(self.staging.directory) if f"{path}/".startswith(f"{extra}/")]
            _move(
                {
                    self.staging.path(*path.split("/")): FileSystems.join(self.staging.output, *path.split("/"))
                    for path in staged
                }
            )

    def _check(self, manifest: WindowManifest) -> None:
        """Checks that the published shards exist and have the sizes that were written."""
        output = self.staging.output
        folders = {shard.path.rpartition("/")[0] for shard in manifest.shards}
        found = {
            f"{folder}/{name}": size
            for folder in folders
            for name, size in list_files(FileSystems.join(output, *folder.split("/"))).items()
        }
        for shard in manifest.shards:
            if found.get(shard.path) != shard.bytes:
                raise DataError(
                    f"{output}: {shard.path} must have {shard.bytes} bytes, found {found.get(shard.path, 'no file')}; "
                    "does another job write into the same folder?"
                )


def _move(moves: dict[str, str]) -> None:
    """Renames the files that exist; another attempt may have renamed the rest, or may be doing so now."""
    there = {staged: final for staged, final in moves.items() if FileSystems.exists(staged)}
    for staged, final in there.items():
        try:
            move_files({staged: final})
        except (OSError, beam.io.filesystem.BeamIOError):
            if FileSystems.exists(staged) or not FileSystems.exists(final):
                raise


class Sweeper:
    """Deletes temporary files of final windows. A new process has to learn anew which ones; until then, more are kept.

    Attributes:
      output: the folder of the dataset.
      windows: the windows of the dataset.
    """

    def __init__(self, output: str, windows: Windows):
        self._output = output
        self._windows = windows
        self._published: collections.deque[float] = collections.deque(maxlen=_WINDOWS_KEPT)
        self._final: set[str] = set()

    def sweep(self, window: int) -> None:
        """Deletes files that are no longer needed; call this when `window` has become final."""
        self._final.add(self._windows.name(window))
        self._published.append(time.time())
        if len(self._published) < _WINDOWS_KEPT:
            return
        before = min(self._published[0], time.time() - _KEPT_SECONDS)
        for folder, age in self._temporaries():
            if self._is_final(folder.rpartition("/")[2]):
                delete_files(self._output, [path for path, written in age.items() if written < before])

    def _temporaries(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Yields the window folders in the staging folders of all runs, with their files (relative path -> mtime)."""
        found: dict[str, dict[str, float]] = collections.defaultdict(dict)
        for path, written in self._files():
            found[path.rpartition("/")[0]][path] = written
        yield from found.items()

    def _files(self) -> Iterator[tuple[str, float]]:
        if is_local(self._output):
            runs = [name for name in os.listdir(self._output) if name.startswith(STAGING_PREFIX)]
            for folder in (f"{run}/{kind}" for run in runs for kind in (CHUNKS, STAGED_SHARDS)):
                for path in list_files(os.path.join(self._output, folder)):
                    with contextlib.suppress(FileNotFoundError):
                        yield f"{folder}/{path}", os.path.getmtime(os.path.join(self._output, folder, path))
            return
        root = self._output.rstrip("/") + "/"
        for match in FileSystems.match([f"{root}{STAGING_PREFIX}*/{kind}/**" for kind in (CHUNKS, STAGED_SHARDS)]):
            for file in match.metadata_list:
                yield file.path.removeprefix(root), file.last_updated_in_seconds

    def _is_final(self, name: str) -> bool:
        if name not in self._final:
            with contextlib.suppress(DataError):
                manifest = WindowManifest.read(window_manifest_path(self._output, name))
                if manifest is not None and manifest.final:
                    self._final.add(name)
        return name in self._final


@dataclasses.dataclass(eq=False)
class PublishWindows(beam.PTransform[beam.PCollection[tuple[int, SealedWindow]], beam.PCollection[WindowManifest]]):
    """Publishes windows one by one, and returns their manifests.

    Attributes:
      overwrite: whether to delete the existing dataset first; for bounded input only.
    """

    publisher: WindowPublisher
    overwrite: bool

    def expand(self, sealed: beam.PCollection[tuple[int, SealedWindow]]) -> beam.PCollection[WindowManifest]:
        """Sends all versions of a window to one worker, which publishes them."""
        by_publisher = ReshufflePerKey().with_output_types(tuple[int, SealedWindow])
        settled = sealed | "ByPublisher" >> by_publisher
        if sealed.is_bounded:
            published = self._publish_bounded(settled)
            _ = (
                published
                | "CountWindows" >> beam.combiners.Count.Globally()
                | "CleanUp" >> beam.Map(_clean_up, self.publisher.staging.directory)
            )
            return published
        step = StableParDo if has_stable_input(sealed.pipeline) else beam.ParDo
        return settled | "Publish" >> step(_PublishFn(self.publisher, sweeps=True)).with_output_types(WindowManifest)

    def _publish_bounded(self, settled: beam.PCollection[tuple[int, SealedWindow]]) -> beam.PCollection[WindowManifest]:
        cleared = (
            settled
            | "CountSealed" >> beam.combiners.Count.Globally()
            | "Clear" >> beam.Map(_clear, self.publisher.staging, self.overwrite).with_output_types(int)
        )
        # No sweeps: the whole staging folder is deleted at the end.
        publish = beam.ParDo(_PublishFn(self.publisher, sweeps=False), beam.pvalue.AsSingleton(cleared))
        return settled | "Publish" >> publish.with_output_types(WindowManifest)


def _clear(windows: int, staging: Staging, overwrite: bool) -> int:
    """Deletes the existing dataset, if there are windows to replace it."""
    progress.plan(windows=windows)
    if windows and overwrite:
        clear_once(staging, overwrite)
    return windows


def _clean_up(_: int, directory: str) -> None:
    remove_folder(directory)


class _PublishFn(beam.DoFn):
    def __init__(self, publisher: WindowPublisher, sweeps: bool):
        self._publisher = publisher
        self._sweeps = sweeps
        self._has_extras = False
        self._counters = RowCounters("WriteDataset")

    def setup(self) -> None:
        self._sweeper = Sweeper(self._publisher.staging.output, self._publisher.windows)

    def process(self, element: tuple[int, SealedWindow], *_: Any) -> Iterable[WindowManifest]:
        sealed = element[1]
        if not self._has_extras:
            self._publisher.publish_extras()
            self._has_extras = True
        manifest = self._publisher.publish(sealed)
        self._counters.add(windows_published=1, windows_quarantined=int(manifest.status == "quarantined"))
        progress.add(windows=1)
        if self._sweeps and manifest.final:
            self._sweeper.sweep(sealed.start)
        return [manifest]
