"""Publication of windows: staged files get their final names, then the manifest replaces the one before.

Shards are renamed, files of dead letters joined, and what is done twice is done as once: a file that is no longer
staged has its name already.
A manifest never replaces a newer one. The final names follow from window, pane and shard alone.

This needs that a step which is tried again gets what it got before. Flink and Dataflow promise that (`StableParDo`).
Elsewhere, when a worker dies between renames and manifest, what the second attempt publishes may be another division
into rows on time and late; it replaces shards and manifest of the first, so that the two still belong together.
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

CHUNKS = "chunks"

# Temporaries of a window that is final go when so many other windows have become final since they were written: an
# attempt whose state may still name them is over then. Chunks of rows that are too late are read at once, though their
# window may be long final, so that nothing goes either before it has this age.
_WINDOWS_KEPT = 3
_KEPT_SECONDS = 120.0

_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class WindowPublisher:
    """Publishes windows of one run.

    Attributes:
      extras: relative paths of files and folders that are staged, and published with the first window.
    """

    staging: Staging
    windows: Windows
    extras: tuple[str, ...] = ()

    def publish(self, sealed: SealedWindow) -> WindowManifest:
        """Publishes a version of a window, or gives the newer one that is published; may be called again.

        Raises:
          DataError: when another run has published the window, or a staged file is gone.
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
        """A file that gets its name when it is whole."""
        staged = self.staging.path(WINDOWS, f"{uuid.uuid4().hex}.json")
        with FileSystems.create(staged, "application/json", compression_type="uncompressed") as file:
            yield file
        move_files({staged: path})

    def _join(self, staged: Sequence[str], path: str) -> None:
        """Makes one file of several, which are removed."""
        if not all(map(FileSystems.exists, staged)):
            if not FileSystems.exists(path):
                raise DataError(f"{path}: its parts are gone, {', '.join(staged[:3])}; does another job write there?")
            return  # an attempt before has been here
        with self._created(path) as file:
            for part in staged:
                with FileSystems.open(part, compression_type="uncompressed") as content:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
        with contextlib.suppress(beam.io.filesystem.BeamIOError):
            FileSystems.delete(list(staged))

    def publish_extras(self) -> None:
        """Gives what is staged for the dataset as a whole its place; another worker may have been faster."""
        for extra in self.extras:
            staged = [path for path in list_files(self.staging.directory) if f"{path}/".startswith(f"{extra}/")]
            _move(
                {
                    self.staging.path(*path.split("/")): FileSystems.join(self.staging.output, *path.split("/"))
                    for path in staged
                }
            )

    def _check(self, manifest: WindowManifest) -> None:
        """Whether the shards are there as they were written."""
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
    """Renames what is there; an attempt before may have renamed the rest, or does so now."""
    there = {staged: final for staged, final in moves.items() if FileSystems.exists(staged)}
    for staged, final in there.items():
        try:
            move_files({staged: final})
        except (OSError, beam.io.filesystem.BeamIOError):
            if FileSystems.exists(staged) or not FileSystems.exists(final):
                raise


class Sweeper:
    """Deletes the temporaries of windows that are final; what it knows is gone with the process, and then more stays.

    Attributes:
      output: the dataset.
      windows: those of the dataset.
    """

    def __init__(self, output: str, windows: Windows):
        self._output = output
        self._windows = windows
        self._published: collections.deque[float] = collections.deque(maxlen=_WINDOWS_KEPT)
        self._final: set[str] = set()

    def sweep(self, window: int) -> None:
        """To be called when a window has become final."""
        self._final.add(self._windows.name(window))
        self._published.append(time.time())
        if len(self._published) < _WINDOWS_KEPT:
            return
        before = min(self._published[0], time.time() - _KEPT_SECONDS)
        for folder, age in self._temporaries():
            if self._is_final(folder.rpartition("/")[2]):
                delete_files(self._output, [path for path, written in age.items() if written < before])

    def _temporaries(self) -> Iterator[tuple[str, dict[str, float]]]:
        """Folders of windows below those of all runs, and their files: relative path -> when it was written."""
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
    """Publishes windows, each after the other for itself, and gives the manifests.

    Attributes:
      overwrite: whether the dataset that is there goes first; bounded input only.
    """

    publisher: WindowPublisher
    overwrite: bool

    def expand(self, sealed: beam.PCollection[tuple[int, SealedWindow]]) -> beam.PCollection[WindowManifest]:
        """All versions of a window go to one worker."""
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
        # At the end the whole staging folder goes.
        publish = beam.ParDo(_PublishFn(self.publisher, sweeps=False), beam.pvalue.AsSingleton(cleared))
        return settled | "Publish" >> publish.with_output_types(WindowManifest)


def _clear(windows: int, staging: Staging, overwrite: bool) -> int:
    """Deletes the dataset that is there, if there are windows to take its place."""
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
