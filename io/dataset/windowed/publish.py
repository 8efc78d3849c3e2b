"""Publication of windows: staged files get their final names, then the manifest replaces the previous one.

Shards are renamed, and dead-letter files are joined. Both are idempotent: a shard that is no longer staged already has
its final name, and the files that were joined stay until the manifest is written. Final names depend on window, pane
and shard alone.

One writer publishes a window at any moment, and a manifest never replaces a newer one. A runner sends all versions of a
window to one worker; what a runner cannot exclude, such as a worker that was believed dead, is excluded by a lock and
by a manifest that is replaced only by who has seen it (`penstock.io.files.atomic`).

A retried step must get the same input as before. Flink and Dataflow guarantee that (`StableParDo`). Elsewhere, if a
worker dies between the renames and the manifest, the second attempt may divide rows differently into on time and late.
It then replaces both the shards and the manifest of the first attempt, so they still match.
"""

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import apache_beam as beam
from apache_beam.coders import VarIntCoder
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.util import ReshufflePerKey

from penstock.io.beam import progress
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.stable_input import StableParDo, has_stable_input
from penstock.io.beam.windows import AnyWindows, FlushWindows
from penstock.io.dataset.layout import STAGING_PREFIX, STATISTICS, WINDOWS, Staging, clear_once, lock_path
from penstock.io.dataset.manifest import PublishedDeadLetters
from penstock.io.dataset.observer import Summaries, WindowVersion
from penstock.io.dataset.windowed.chunks import KEPT_SECONDS, KEPT_WINDOWS
from penstock.io.dataset.windowed.manifest import (
    WindowManifest,
    WindowShard,
    last_window_name,
    window_manifest_path,
)
from penstock.io.dataset.windowed.resume import check_generation
from penstock.io.dataset.windowed.seal import SealedWindow
from penstock.io.dataset.windowed.shards import STAGED_SHARDS
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.atomic.conditional import ConditionalFile, conditional_file
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import delete_files, list_entries, list_files, move_files, remove_folder, replace_file
from penstock.io.files.paths import is_local
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.kernel import crc32c

CHUNKS = "chunks"

_COPY_BYTES = 1 << 20

# How often a version may be overtaken. Each time, another one was published.
_ATTEMPTS = 10


# What a version says beside its rows; it is not looked at where versions are compared.
_MADE_WHEN_PUBLISHED = ("created", "statistics", "statistics_rejected", "anomalies", "compared_with")

Verdict = Literal["publish", "keep", "refuse"]


def verdict(current: WindowManifest | None, new: WindowManifest) -> Verdict:
    """Says what becomes of a new version of a window beside the one that is published.

    ========================================  =======
    published                                 new
    ========================================  =======
    nothing                                   publish
    a version of another run                  refuse
    a higher sequence of this run             keep
    the same sequence, with the same content  keep
    the same sequence, with other content     publish
    a lower sequence                          publish
    ========================================  =======

    `keep` leaves what is published as it is. Other content of the same sequence comes without stable input only.
    """
    if current is None:
        return "publish"
    if current.run_id != new.run_id:
        return "refuse"
    own = {name: getattr(current, name) for name in _MADE_WHEN_PUBLISHED}
    is_same = current == dataclasses.replace(new, **own)
    return "keep" if is_same or current.sequence > new.sequence else "publish"


@dataclasses.dataclass(frozen=True)
class WindowPublisher:
    """Publishes windows of one run.

    Attributes:
      extras: relative paths of staged files and folders, which are published with the first window.
      summaries: makes what is said of the rows of a window beside them; None for nothing.
    """

    staging: Staging
    windows: AnyWindows
    extras: tuple[str, ...] = ()
    summaries: Summaries | None = None

    def publish(self, sealed: SealedWindow) -> WindowManifest:
        """Publishes a version of a window; if a newer one is published, returns that. May be called again.

        Others may publish versions of the same window at the same time: one waits for the other. If a version is
        overtaken all the same, as can happen in a store, this starts anew beside it.

        Raises:
          DataError: if another run has published the window, the stream has been started again since, or a staged file
            is gone.
        """
        new = sealed.manifest
        file = self._manifest_file(self.windows.name(sealed.start))
        with file.alone():
            check_generation(self.staging.output, new)
            for _ in range(_ATTEMPTS):
                found = file.read()
                current = WindowManifest.parse(found.content, file.path) if found else None
                if current is None or self._replaces(current, new, file.path):
                    new = self._summarized(self._with_rejected(sealed, current))
                    self._place(sealed, current)
                    if not file.write(new.to_json().encode(), found):
                        continue
                    self._delete_unnamed(current, new)
                    _count(current, new)
                    current = new
                _delete_joined(sealed)
                return current
        raise DataError(
            f"{file.path}: others replaced it {_ATTEMPTS} times while it was written; does another job write into the "
            "same folder?"
        )

    def _manifest_file(self, name: str) -> ConditionalFile:
        output = self.staging.output
        path = window_manifest_path(output, name)
        return conditional_file(path, lock_path(output, name), self.staging.path(WINDOWS))

    def _replaces(self, current: WindowManifest, new: WindowManifest, path: str) -> bool:
        judged = verdict(current, new)
        if judged == "refuse":
            raise DataError(
                f"{path}: was published by the run {current.run_id}, this one is {new.run_id}: a job goes on into its "
                "output from a savepoint or checkpoint only; start in another folder"
            )
        return judged == "publish"

    def _place(self, sealed: SealedWindow, current: WindowManifest | None) -> None:
        """Gives all files of a version their final names; those of `current` that it shares have them already."""
        output, new = self.staging.output, sealed.manifest
        known = {*current.shards, *current.dead_letters} if current else set()
        moves = {staged: stores.join(output, *name.split("/")) for staged, name in sealed.moves.items()}
        moved = _move(moves)
        for letters in new.dead_letters:
            if letters.path in sealed.letters:  # else an earlier start of the stream has published them
                self._join(sealed.letters[letters.path], letters, is_known=letters in known)
        self._check_sizes(new)
        for staged, name in sealed.moves.items():
            if staged not in moved:
                self._check_content(next(shard for shard in new.shards if shard.path == name), known)

    def _with_rejected(self, sealed: SealedWindow, current: WindowManifest | None) -> SealedWindow:
        """Publishes the summary of the dead letters; returns the version with a manifest that names it.

        A version with late rows has the dead letters of the one before it, and so its summary.
        """
        manifest, summaries = sealed.manifest, self.summaries and self.summaries.rejected
        if summaries is None or not sealed.rejected:
            return sealed
        if current is not None and current.dead_letters == manifest.dead_letters and current.statistics_rejected:
            path: str | None = current.statistics_rejected
        elif all(map(stores.exists, sealed.rejected)):
            state = summaries.merge(map(_read, sealed.rejected))
            path = self._write_files(f"{self._statistics_name(sealed)}.rejected", summaries.files(state))
        else:  # another attempt has joined and deleted the letters meanwhile
            path = None
        return dataclasses.replace(sealed, manifest=dataclasses.replace(manifest, statistics_rejected=path))

    def _statistics_name(self, sealed: SealedWindow) -> str:
        return f"{STATISTICS}/{self.windows.name(sealed.start)}.{sealed.manifest.sequence}"

    def _write_files(self, name: str, files: Mapping[str, bytes]) -> str:
        """Publishes a summary; returns the path of its `.pb`."""
        for suffix, content in files.items():
            self._write(f"{name}{suffix}", content)
        return f"{name}.pb"

    def _summarized(self, sealed: SealedWindow) -> WindowManifest:
        """Publishes the summary of a version; returns its manifest, which names it and says what is wrong."""
        manifest, summaries = sealed.manifest, self.summaries
        if summaries is None or not sealed.summaries:
            return manifest
        states: Iterable[bytes] = map(_read, sealed.summaries)
        if sealed.continues is not None:
            states = itertools.chain([self._published(sealed.continues)], states)
        state = summaries.merge(states)
        path = self._write_files(self._statistics_name(sealed), summaries.files(state))
        version = WindowVersion(manifest.name, *manifest.bounds, manifest.run_id, manifest.created)
        judged = summaries.judge(version, state, self._summary_of)
        return dataclasses.replace(
            manifest, statistics=path, anomalies=judged.anomalies, compared_with=judged.compared_with
        )

    def _published(self, path: str) -> bytes:
        assert self.summaries is not None
        return self.summaries.restore(_read(stores.join(self.staging.output, *path.split("/"))))

    def _summary_of(self, start: int) -> tuple[bytes, str] | None:
        """The state of a published window, and its path; see `penstock.io.dataset.observer.Published`."""
        name: str | None = self.windows.name(start)
        if isinstance(self.windows, FlushWindows):
            name = last_window_name(self.staging.output, start)
        manifest = name and WindowManifest.read(window_manifest_path(self.staging.output, name))
        path = manifest and manifest.statistics
        return (self._published(path), path) if path else None

    def _write(self, name: str, content: bytes) -> None:
        staged = self.staging.path(WINDOWS, uuid.uuid4().hex)
        replace_file(stores.join(self.staging.output, *name.split("/")), content, staged)

    def _join(self, staged: Sequence[str], letters: PublishedDeadLetters, is_known: bool) -> None:
        """Joins several files into one. They stay until the manifest is written, so that this can be done again."""
        path = stores.join(self.staging.output, *letters.path.split("/"))
        if all(map(stores.exists, staged)):
            try:
                self._write_joined(staged, path)
            except OSError:
                if all(map(stores.exists, staged)):
                    raise  # else another attempt has joined and deleted them meanwhile
            else:
                return
        if not stores.exists(path) or not (is_known or _count_lines(path) == letters.records):
            raise DataError(f"{path}: its parts are gone, {', '.join(staged[:3])}; does another job write there?")

    def _write_joined(self, staged: Sequence[str], path: str) -> None:
        joined = self.staging.path(WINDOWS, f"{uuid.uuid4().hex}.jsonl")
        with (
            writing(joined, OUTPUT_REMEDY),
            stores.create_file(joined, "application/json") as file,
        ):
            for part in staged:
                with stores.open_file(part) as content:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
        move_files({joined: path})

    def publish_extras(self) -> None:
        """Publishes the staged files that belong to the dataset as a whole; another worker may have done it already."""
        for extra in self.extras:
            staged = [path for path in list_files(self.staging.directory) if f"{path}/".startswith(f"{extra}/")]
            _move(
                {
                    self.staging.path(*path.split("/")): stores.join(self.staging.output, *path.split("/"))
                    for path in staged
                }
            )

    def _check_sizes(self, manifest: WindowManifest) -> None:
        """Checks that the published shards exist and have the sizes that were written."""
        output = self.staging.output
        folders = {shard.path.rpartition("/")[0] for shard in manifest.shards}
        found = {
            f"{folder}/{name}": size
            for folder in folders
            for name, size in list_files(stores.join(output, *folder.split("/"))).items()
        }
        for shard in manifest.shards:
            if found.get(shard.path) != shard.bytes:
                raise self._wrong(shard, f"{shard.bytes} bytes", f"{found.get(shard.path, 'no file')}")

    def _check_content(self, shard: WindowShard, known: Collection[object]) -> None:
        """Checks a shard that was moved before, and not by this attempt: it must be the one that was staged."""
        if shard not in known:
            found = _crc32c(stores.join(self.staging.output, *shard.path.split("/")))
            if found != shard.crc32c:
                raise self._wrong(shard, f"the CRC32C {shard.crc32c}", found)

    def _wrong(self, shard: WindowShard, due: str, found: str) -> DataError:
        return DataError(
            f"{self.staging.output}: {shard.path} must have {due}, found {found}; does another job write into the same "
            "folder?"
        )

    def _delete_unnamed(self, old: WindowManifest | None, new: WindowManifest) -> None:
        """Deletes the files of a version that the version in its place does not have."""
        if old is not None and (unnamed := {*old.files()} - {*new.files(), *old.extras}):
            delete_files(self.staging.output, sorted(unnamed))


def _count(old: WindowManifest | None, new: WindowManifest) -> None:
    """Counts a version that was published in the place of another one, or of none, for display."""
    is_final = new.final and not (old is not None and old.final)
    is_bad = is_final and new.status == "quarantined"
    progress.add(windows=int(old is None), final=int(is_final), bad=int(is_bad))
    progress.tell(published_at=int(time.time()))


def _delete_joined(sealed: SealedWindow) -> None:
    """Deletes the files of dead letters that were joined, and their summaries."""
    stores.delete([*itertools.chain(*sealed.letters.values(), sealed.rejected)])


def _move(moves: Mapping[str, str]) -> set[str]:
    """Renames the files that exist, and returns them; another attempt may have renamed the rest, or be doing so now."""
    there = {staged: final for staged, final in moves.items() if stores.exists(staged)}
    moved = set()
    for staged, final in there.items():
        try:
            move_files({staged: final})
            moved.add(staged)
        except OSError:
            if stores.exists(staged) or not stores.exists(final):
                raise
    return moved


def _pieces(path: str) -> Iterator[bytes]:
    with stores.open_file(path) as file:
        while piece := file.read(_COPY_BYTES):
            yield piece


def _read(path: str) -> bytes:
    return b"".join(_pieces(path))


def _count_lines(path: str) -> int:
    return sum(piece.count(b"\n") for piece in _pieces(path))


def _crc32c(path: str) -> str:
    return f"{functools.reduce(crc32c.extend, _pieces(path), 0):08x}"


class Sweeper:
    """Deletes temporary files of final windows. A new process has to learn anew which ones; until then, more are kept.

    Attributes:
      output: the folder of the dataset.
      windows: the windows of the dataset.
    """

    def __init__(self, output: str, windows: AnyWindows):
        self._output = output
        self._windows = windows
        self._chunks: dict[int, tuple[str, ...]] = {}
        self._published: collections.deque[float] = collections.deque(maxlen=KEPT_WINDOWS)
        self._final: set[str] = set()

    def sweep(self, window: int, chunks: Mapping[str, tuple[str, ...]] | None = None) -> None:
        """Deletes files that are no longer needed; call this when `window` has become final.

        Args:
          window: its start.
          chunks: files of earlier windows, by their start, that are no longer needed if these are published.
        """
        self._chunks |= {int(start): paths for start, paths in (chunks or {}).items()}
        for start in [start for start in self._chunks if self._is_final(self._windows.name(start))]:
            stores.delete(self._chunks.pop(start))
        self._final.add(self._windows.name(window))
        self._published.append(time.time())
        if len(self._published) < KEPT_WINDOWS:
            return
        before = min(self._published[0], time.time() - KEPT_SECONDS)
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
                for file in list_entries(os.path.join(self._output, folder)):
                    yield f"{folder}/{file.path}", file.modified
            return
        root = self._output.rstrip("/") + "/"
        for kind in (CHUNKS, STAGED_SHARDS):
            for found in stores.match(f"{root}{STAGING_PREFIX}*/{kind}/**"):
                yield found.path.removeprefix(root), found.modified

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
        if has_stable_input(sealed.pipeline):
            step: beam.ParDo = StableParDo(_PublishFn(self.publisher, sweeps=True))
        else:
            step = beam.ParDo(_PublishOneByOneFn(self.publisher, sweeps=True))
        return settled | "Publish" >> step.with_output_types(WindowManifest)

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
    """Deletes the existing dataset, if there are windows to replace it.

    Raises:
      DataError: if another run has done so, and has deleted what this one staged.
    """
    progress.plan(windows=windows)
    if windows and overwrite:
        with alone(lock_path(staging.output)):
            if not list_files(staging.directory):
                raise DataError(
                    f"{staging.output}: another run has replaced what is there while this one ran; nothing is published"
                )
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
        if self._sweeps and manifest.final:
            self._sweeper.sweep(sealed.start, sealed.swept)
        return [manifest]


class _PublishOneByOneFn(_PublishFn):
    """Publishes the windows of a key one by one: runners process keys with state so.

    Without it, Prism gives the versions of a window to bundles that run at the same time. Runners with stable input
    need none: there, a key belongs to one worker, which has one bundle at a time.
    """

    _published = beam.DoFn.StateParam(ReadModifyWriteStateSpec("published", VarIntCoder()))

    def process(self, element: tuple[int, SealedWindow], published: Any = _published) -> Iterable[WindowManifest]:
        manifests = super().process(element)
        published.write((published.read() or 0) + 1)
        return manifests
