"""Publication of windows: staged files get their final names, then the manifest replaces the previous one.

Shards are renamed, and dead-letter files are joined. Both are idempotent: a shard that is no longer staged already has
its final name, and the files that were joined stay until the manifest is written. Final names depend on window, pane
and shard alone. In an object store, all files of a window are written under final names that no other attempt has, and
stay where they are (`penstock.io.dataset.run_folder`): the manifest is all that is written here beside statistics.

One writer publishes a window at any moment, and a manifest never replaces a newer one. A runner sends all versions of a
window to one worker; what a runner cannot exclude, such as a worker that was believed dead, is excluded by a lock and
by a manifest that is replaced only by who has seen it (`penstock.io.files.atomic`).

A retried step must get the same input as before. Flink and Dataflow guarantee that (`StableParDo`). Elsewhere, if a
worker dies between the renames and the manifest, the second attempt may divide rows differently into on time and late.
It then replaces both the shards and the manifest of the first attempt, so they still match.
"""

import dataclasses
import functools
import hashlib
import itertools
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
from penstock.io.dataset.layout import MANIFEST, STATISTICS, WINDOWS, Staging, clear_once, finish_replacing, lock_path
from penstock.io.dataset.manifest import PublishedDeadLetters
from penstock.io.dataset.observer import Summaries, WindowVersion
from penstock.io.dataset.run_folder import RunFolder, Turn, dataset_folders
from penstock.io.dataset.windowed.manifest import (
    WindowManifest,
    WindowShard,
    is_compacted,
    last_window_name,
    window_manifest_path,
)
from penstock.io.dataset.windowed.resume import check_generation
from penstock.io.dataset.windowed.seal import SealedWindow
from penstock.io.dataset.windowed.sweep import Sweeper
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.files.atomic.conditional import ConditionalFile, conditional_file
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import delete_files, list_files, move_files, remove_folder, replace_file
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.kernel import crc32c

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
      turn: of bounded input in an object store; None elsewhere.
      replaces: whether windows of other runs are replaced, when the turn is this run's.
    """

    staging: Staging
    windows: AnyWindows
    extras: tuple[str, ...] = ()
    summaries: Summaries | None = None
    turn: Turn | None = None
    replaces: bool = False

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
            if self.turn is not None:
                self.turn.check()
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
        return conditional_file(path, lock_path(output, name), self.staging.temporary(WINDOWS))

    def _replaces(self, current: WindowManifest, new: WindowManifest, path: str) -> bool:
        judged = verdict(current, new)
        if judged == "refuse" and self.replaces:
            return True
        if judged == "refuse":
            raise DataError(
                f"{path}: was published by the run {current.run_id}, this one is {new.run_id}: a job goes on into its "
                "output from a savepoint or checkpoint only; start in another folder"
            )
        # What was read of a final window to be put together with others must stay what it was.
        return judged == "publish" and not (current.final and is_compacted(self.staging.output, current.name))

    def _place(self, sealed: SealedWindow, current: WindowManifest | None) -> None:
        """Gives all files of a version their final names; those of `current` that it shares have them already."""
        output, new = self.staging.output, sealed.manifest
        known = {*current.shards, *current.dead_letters} if current else set()
        moves = {staged: stores.join(output, *name.split("/")) for staged, name in sealed.moves.items()}
        moved = _move(moves)
        for letters in new.dead_letters:
            if letters.path in sealed.letters:
                self._join(sealed.letters[letters.path], letters, is_known=letters in known)
            elif letters not in known and not stores.exists(stores.join(output, *letters.path.split("/"))):
                raise DataError(f"{output}: {letters.path} is gone; does another job write into the same folder?")
        # What lies in its place from the beginning is not replaced by anything.
        self._check_sizes([shard for shard in new.shards if not (self.staging.is_final and shard in known)])
        for staged, name in sealed.moves.items():
            if staged not in moved:
                self._check_content(next(shard for shard in new.shards if name in shard.stored()), name, known)

    def _with_rejected(self, sealed: SealedWindow, current: WindowManifest | None) -> SealedWindow:
        """Publishes the summary of the dead letters; returns the version with a manifest that names it.

        A version with late rows has the dead letters of the one before it, and so its summary.
        """
        manifest, summaries = sealed.manifest, self.summaries and self.summaries.rejected
        if summaries is None or not sealed.rejected:
            return sealed
        if current is not None and current.dead_letters == manifest.dead_letters and current.statistics_rejected:
            path: str | None = current.statistics_rejected
        else:
            try:
                state = summaries.merge(map(_read, sealed.rejected))
                path = self._write_files(sealed, summaries.files(state), ".rejected")
            except FileNotFoundError:  # another attempt has published the window and deleted them meanwhile
                path = None
        return dataclasses.replace(sealed, manifest=dataclasses.replace(manifest, statistics_rejected=path))

    def _write_files(self, sealed: SealedWindow, files: Mapping[str, bytes], kind: str = "") -> str:
        """Publishes a summary; returns the path of its `.pb`. Where that is final, other content has another name."""
        name = f"{STATISTICS}/{self.windows.name(sealed.start)}.{sealed.manifest.sequence}"
        if self.staging.is_final:
            name = f"{self.staging.name}/{name}-{hashlib.sha256(files['.pb']).hexdigest()[:8]}"
        for suffix, content in files.items():
            staged = self.staging.temporary(WINDOWS, uuid.uuid4().hex)
            replace_file(stores.join(self.staging.output, *f"{name}{kind}{suffix}".split("/")), content, staged)
        return f"{name}{kind}.pb"

    def _summarized(self, sealed: SealedWindow) -> WindowManifest:
        """Publishes the summary of a version; returns its manifest, which names it and says what is wrong."""
        manifest, summaries = sealed.manifest, self.summaries
        if summaries is None or not sealed.summaries:
            return manifest
        states: Iterable[bytes] = map(_read, sealed.summaries)
        if sealed.continues is not None:
            states = itertools.chain([self._published(sealed.continues)], states)
        state = summaries.merge(states)
        path = self._write_files(sealed, summaries.files(state))
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
        joined = path if self.staging.is_final else self.staging.path(WINDOWS, f"{uuid.uuid4().hex}.jsonl")
        with (
            writing(joined, OUTPUT_REMEDY),
            stores.create_file(joined, "application/json") as file,
        ):
            for part in staged:
                with stores.open_file(part) as content:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
        if joined != path:
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

    def _check_sizes(self, shards: Collection[WindowShard]) -> None:
        """Checks that published shards and their indexes exist and have the sizes that were written."""
        output = self.staging.output
        stored = {path: size for shard in shards for path, (size, _) in shard.stored().items()}
        folders = {path.rpartition("/")[0] for path in stored}
        found = {
            f"{folder}/{name}": size
            for folder in folders
            for name, size in list_files(stores.join(output, *folder.split("/"))).items()
        }
        for path, size in stored.items():
            if found.get(path) != size:
                raise self._wrong(path, f"{size} bytes", f"{found.get(path, 'no file')}")

    def _check_content(self, shard: WindowShard, path: str, known: Collection[object]) -> None:
        """Checks a file of a shard that was moved before, and not by this attempt: it must be what was staged."""
        if shard not in known:
            found, (_, due) = _crc32c(stores.join(self.staging.output, *path.split("/"))), shard.stored()[path]
            if found != due:
                raise self._wrong(path, f"the CRC32C {due}", found)

    def _wrong(self, path: str, due: str, found: str) -> DataError:
        return DataError(
            f"{self.staging.output}: {path} must have {due}, found {found}; does another job write into the same "
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
    """Deletes the files of dead letters that were joined, and the summaries of all."""
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


@dataclasses.dataclass(eq=False)
class PublishWindows(beam.PTransform[beam.PCollection[tuple[int, SealedWindow]], beam.PCollection[WindowManifest]]):
    """Publishes windows one by one, and returns their manifests.

    Attributes:
      overwrite: whether they replace the existing dataset; for bounded input only.
      resume: whether the output may hold windows of before, so that those of this run are not all.
    """

    publisher: WindowPublisher
    overwrite: bool
    resume: bool = False

    def expand(self, sealed: beam.PCollection[tuple[int, SealedWindow]]) -> beam.PCollection[WindowManifest]:
        """Sends all versions of a window to one worker, which publishes them."""
        by_publisher = ReshufflePerKey().with_output_types(tuple[int, SealedWindow])
        settled = sealed | "ByPublisher" >> by_publisher
        if sealed.is_bounded:
            return self._publish_bounded(settled)
        if has_stable_input(sealed.pipeline):
            step: beam.ParDo = StableParDo(_PublishFn(self.publisher, sweeps=True))
        else:
            step = beam.ParDo(_PublishOneByOneFn(self.publisher, sweeps=True))
        return settled | "Publish" >> step.with_output_types(WindowManifest)

    def _publish_bounded(self, settled: beam.PCollection[tuple[int, SealedWindow]]) -> beam.PCollection[WindowManifest]:
        staging, turn = self.publisher.staging, self.publisher.turn
        begin = beam.Map(_clear, staging, self.overwrite) if turn is None else beam.Map(_begin, turn, self.overwrite)
        begun = beam.pvalue.AsSingleton(
            settled | "CountSealed" >> beam.combiners.Count.Globally() | "Clear" >> begin.with_output_types(_Begun)
        )
        # No sweeps: what nobody needs is deleted at the end.
        publish = beam.ParDo(_PublishFn(self.publisher, sweeps=False, is_all=not self.resume), begun)
        published = settled | "Publish" >> publish.with_output_types(WindowManifest)
        if turn is None:
            counted = published | "CountWindows" >> beam.combiners.Count.Globally()
            _ = counted | "CleanUp" >> beam.Map(_clean_up, staging)
        else:
            files = published | "Files" >> beam.Map(_files_of).with_output_types(_Files)
            all_files = files | "AllFiles" >> beam.combiners.ToList()
            _ = all_files | "CleanUp" >> beam.Map(_keep, turn, self.overwrite, begun)
        return published


# The number of windows, and the folders of what they replace in an object store.
_Begun = tuple[int, tuple[str, ...]]


def _clear(windows: int, staging: Staging, overwrite: bool) -> _Begun:
    """Sets the existing dataset aside, if there are windows to replace it.

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
    return windows, ()


def _clean_up(_: int, staging: Staging) -> None:
    """Deletes what the windows replace, now that they are all published, and what is staged."""
    with alone(lock_path(staging.output)):
        finish_replacing(staging)
    remove_folder(staging.directory)


def _begin(windows: int, turn: Turn, overwrite: bool) -> _Begun:
    """Takes the turn in an object store, if there are windows.

    Raises:
      DataError: if another run has published a dataset meanwhile.
    """
    progress.plan(windows=windows)
    if not windows:
        return 0, ()
    path = stores.join(turn.staging.output, MANIFEST)
    if not overwrite and stores.exists(path):
        raise DataError(f"{path}: another run has published since this one began; nothing of this one is published")
    turn.take()
    return windows, tuple(sorted(dataset_folders(turn.staging.output))) if overwrite else ()


# The files of a window, with its manifest, and the folders among them.
_Files = tuple[tuple[str, ...], tuple[str, ...]]


def _files_of(manifest: WindowManifest) -> _Files:
    return (f"{WINDOWS}/{manifest.name}.json", *manifest.files()), manifest.extras


def _keep(found: Sequence[_Files], turn: Turn, overwrite: bool, begun: _Begun) -> None:
    """Deletes what is no part of the windows that were published, so that the old ones are there until now."""
    if found:
        turn.check()
    named = {path for files, _ in found for path in files}
    extras = {path for _, folders in found for path in folders}
    RunFolder(turn.staging, overwrite and bool(found)).keep_windows(named, extras, begun[1])


class _PublishFn(beam.DoFn):
    def __init__(self, publisher: WindowPublisher, sweeps: bool, is_all: bool = False):
        self._publisher = publisher
        self._sweeps = sweeps
        self._is_all = is_all
        self._has_extras = False
        self._counters = RowCounters("WriteDataset")

    def setup(self) -> None:
        self._sweeper = Sweeper(self._publisher.staging, self._publisher.windows)

    def process(self, element: tuple[int, SealedWindow], begun: _Begun = (0, ())) -> Iterable[WindowManifest]:
        sealed = element[1]
        if self._is_all:
            counted = dataclasses.replace(sealed.manifest, windows_in_all=begun[0])
            sealed = dataclasses.replace(sealed, manifest=counted)
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
