"""Seals a window once all files of a pane are written: makes its manifest and the list of renames, if there are any."""

import dataclasses
import datetime
import functools
import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import BagStateSpec, ReadModifyWriteStateSpec, TimerSpec, on_timer
from apache_beam.transforms.window import GlobalWindow

from penstock.io.beam.coverage import merge_covered
from penstock.io.beam.json_coder import JsonCoder, register_json
from penstock.io.beam.stable_input import knows_watermarks
from penstock.io.beam.windows import AnyWindows, FlushWindows, time_name
from penstock.io.dataset.layout import DEAD_LETTERS, Staging, reject_names
from penstock.io.dataset.manifest import PublishedDeadLetters, dataset_id, sum_counts
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.chunks import merge_inputs
from penstock.io.dataset.windowed.manifest import Pane, WindowManifest, WindowShard, window_manifest_path
from penstock.io.dataset.windowed.shards import (
    HeaderReport,
    RejectsReport,
    Report,
    ShardReport,
    StagedShard,
    SummaryReport,
)
from penstock.io.dataset.windowed.tasks import PaneHeader
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError
from penstock.io.reasons import merge_notes

_LOGGER = logging.getLogger(__name__)

# A stream stages one file for each bundle with rejects. These are joined into files of about this many dead letters.
_LETTERS_PER_FILE = 100_000

_PUBLISHERS = 16


@register_json
@dataclasses.dataclass(frozen=True)
class SealedWindow:
    """A version of a window that is complete but not published.

    Attributes:
      start: start of the window, microseconds.
      moves: staged path of a shard or an index -> path relative to the dataset; none of those that are in their place.
      letters: the same of dead-letter files: path relative to the dataset -> the staged files to join into it.
      swept: chunk files of earlier windows, by the start of the window, which it needs no more once it is published.
      summaries: paths of the files with the states of its panes; none if it has no summary.
      rejected: paths of the files with the states of its dead letters; none if there is no summary of them.
      continues: path of the published summary that these are added to, relative to the dataset; None for none.
    """

    start: int
    manifest: WindowManifest
    moves: Mapping[str, str]
    letters: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    swept: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    summaries: tuple[str, ...] = ()
    rejected: tuple[str, ...] = ()
    continues: str | None = None


@dataclasses.dataclass(frozen=True)
class SealingRules:
    """Makes the manifests of windows from what they have in common; see `WindowManifest`.

    Attributes:
      staging: of the run, if its files stay where they are.
    """

    windows: AnyWindows
    spec: DatasetSpec
    staging: Staging | None = None

    def publisher(self, window: int) -> int:
        """Returns the key under which all versions of a window are published.

        All windows share a few keys, since Beam's GroupByKey keeps some state for each key that it has seen, for ever.
        """
        return self.windows.ordinal(window) % _PUBLISHERS

    def seal(self, window: int, reports: Iterable[Report]) -> SealedWindow:
        """Seals the window with all panes that have reports; each of these panes must be complete.

        A late pane alone continues the window that an earlier start of the stream has published.
        """
        reports, splits = list(reports), self.spec.splits
        headers = {report.pane: report.header for report in reports if isinstance(report, HeaderReport)}
        staged = [report.shard for report in reports if isinstance(report, ShardReport)]
        staged.sort(key=lambda item: (item.shard.pane == "late", splits.index(item.shard.split), item.shard.path))
        summaries = tuple(sorted(report.summary for report in reports if isinstance(report, SummaryReport)))
        if "on_time" not in headers:
            return self._continued(window, headers["late"], staged, summaries)
        files = (report.rejects for report in reports if isinstance(report, RejectsReport))
        rejects = sorted(files, key=lambda file: file.path)
        letters = self._letters(window, rejects)
        shards = tuple(item.shard for item in staged)
        rows = Counter({pane: header.rows for pane, header in headers.items()})
        rejected = sum(file.records for file in rejects)
        records, rows_in = self._records(shards), rows.total() + rejected
        foreign = sum(file.records for file in rejects if file.foreign)
        own_stages = sum_counts(file.stages for file in rejects if not file.foreign)
        is_bad = self.spec.has_too_many_rejects(rows_in - foreign, own_stages)
        on_time = headers["on_time"]
        manifest = WindowManifest(
            run_id=on_time.run_id,
            dataset_id=dataset_id(shards),
            created=_now(),
            window=(_iso(window), _iso(self._end(window, on_time))),
            windows=str(self.windows),
            number=on_time.number,
            final=any(header.final for header in headers.values()),
            sequence=len(headers),
            status="quarantined" if is_bad else "published",
            rows_in=rows_in,
            rows_out=sum(records.values()),
            rows_rejected=rejected,
            rows_on_time=rows["on_time"],
            rows_late=rows["late"],
            splits=records,
            shards=shards,
            dead_letters=tuple(
                PublishedDeadLetters(name, sum(file.records for file in group)) for name, group in letters.items()
            ),
            rejected_by_reason=sum_counts(file.reasons for file in rejects),
            rejected_by_stage=sum_counts(file.stages for file in rejects),
            rows_foreign=foreign,
            inputs=merge_inputs(item for header in headers.values() for item in header.inputs),
            num_shards=self.spec.num_shards or 1,
            closings=tuple(header.closing for header in headers.values() if header.closing is not None),
            covered=functools.reduce(merge_covered, (header.covered for header in headers.values()), {}),
            **self.spec.manifest_fields(note for header in headers.values() for note in header.notes),
        )
        return SealedWindow(
            window,
            self._checked(manifest),
            moves=self._moves(staged),
            letters={name: paths for name, group in letters.items() if (paths := self._parts(name, group))},
            swept=on_time.swept,
            summaries=summaries if _all_summarized(headers.values()) else (),
            rejected=tuple(file.summary for file in rejects) if all(file.summary for file in rejects) else (),
        )

    def _records(self, shards: Sequence[WindowShard]) -> dict[str, int]:
        """Returns how many records each split has."""
        return {split: sum(shard.records for shard in shards if shard.split == split) for split in self.spec.splits}

    def _end(self, window: int, header: PaneHeader) -> int:
        if isinstance(self.windows, FlushWindows):
            return window if header.end is None else header.end
        return self.windows.end(window)

    def _continued(
        self, window: int, header: PaneHeader, staged: Sequence[StagedShard], summaries: Sequence[str]
    ) -> SealedWindow:
        """Adds the late pane to the window that is published.

        Where it is not known any more what has been read, the window does not say what it covers from then on.
        """
        path = window_manifest_path(self.spec.output, self.windows.name(window))
        before = WindowManifest.read(path)
        if before is None:
            raise DataError(f"{path}: is gone, though this stream goes on with its window; put it back, or begin in "
                            "another folder")  # fmt: skip
        is_there = before.final and all(item.shard in before.shards for item in staged)
        if is_there if header.closing is None else header.closing in before.closings:
            return SealedWindow(window, before, moves={})  # an earlier attempt has published it
        is_summarized = (before.statistics or not before.rows_out) and _all_summarized([header])
        shards = (*before.shards, *(item.shard for item in staged))
        records = self._records(shards)
        manifest = dataclasses.replace(
            before,
            dataset_id=dataset_id(shards),
            created=_now(),
            final=header.final,
            sequence=before.sequence + 1,
            rows_in=before.rows_in + header.rows,
            rows_out=sum(records.values()),
            rows_late=before.rows_late + header.rows,
            splits=records,
            shards=shards,
            inputs=merge_inputs((*before.inputs, *header.inputs)),
            notes=merge_notes((*before.notes, *header.notes)),
            closings=() if header.closing is None else (*before.closings, header.closing),
            covered={} if header.closing is None else merge_covered(before.covered, header.covered),
            # Those of before are not of the late rows; publication makes new ones, if it can.
            statistics=None,
            anomalies=(),
            compared_with=(),
        )
        return SealedWindow(
            window,
            self._checked(manifest),
            moves=self._moves(staged),
            summaries=tuple(summaries) if is_summarized else (),
            continues=before.statistics,
        )

    def _moves(self, staged: Iterable[StagedShard]) -> dict[str, str]:
        """The renames of shards; one that a release before this one staged in a store is still to be renamed."""
        moved = (item for item in staged if not self._is_final(item.path, item.shard.path))
        return {path: name for item in moved for path, name in item.places().items()}

    def _is_final(self, path: str, name: str) -> bool:
        return self.staging is not None and self.staging.final_name(path) == name

    def _letters(self, window: int, rejects: Sequence[DeadLetterFile]) -> dict[str, list[DeadLetterFile]]:
        """Returns the published path of each file of dead letters, and the files that are in it."""
        folder = f"{DEAD_LETTERS}/{time_name(window)}"
        if self.staging is None:
            return _named_groups(folder, rejects)
        names = [(self.staging.final_name(file.path), file) for file in rejects]
        foreign = _named_groups(f"{self.staging.name}/{folder}", [file for name, file in names if name is None])
        return {**{name: [file] for name, file in names if name is not None}, **foreign}

    def _parts(self, name: str, files: Iterable[DeadLetterFile]) -> tuple[str, ...]:
        """The staged files to join into a published one; none if that is what was written."""
        return tuple(file.path for file in files if not self._is_final(file.path, name))

    def _checked(self, manifest: WindowManifest) -> WindowManifest:
        if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
            came = manifest.rows_in - manifest.rows_rejected
            raise DataError(
                f"window {manifest.name}: {came} rows came and {manifest.rows_out} are in its shards; it is not "
                "published, please report this"
            )
        return manifest


def _all_summarized(headers: Iterable[PaneHeader]) -> bool:
    """Whether there is a summary of each pane that has rows."""
    return all(header.summaries or not header.rows for header in headers)


def _named_groups(folder: str, rejects: Iterable[DeadLetterFile]) -> dict[str, list[DeadLetterFile]]:
    """Returns the published path of each file of dead letters, and the staged files to join into it."""
    groups = list(_letter_groups(rejects))
    return dict(zip(reject_names(folder, [group[0].path for group in groups]), groups, strict=True))


def _letter_groups(files: Iterable[DeadLetterFile]) -> Iterator[list[DeadLetterFile]]:
    """Groups files of one folder, in their order, so that a group has about as many dead letters as one file should."""
    for _, some in itertools.groupby(files, key=lambda file: file.path.rpartition("/")[0]):
        group: list[DeadLetterFile] = []
        for file in some:
            if group and sum(one.records for one in group) + file.records > _LETTERS_PER_FILE:
                yield group
                group = []
            group.append(file)
        yield group


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _iso(micros: int) -> str:
    return str(np.datetime64(micros, "us")) + "Z"


@dataclasses.dataclass(frozen=True)
class PaneProgress:
    """How many reports of a pane have arrived, and how many are expected, once its header is there."""

    reports: int = 0
    expected: int | None = None
    is_sealed: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether all reports have arrived."""
        return self.reports == self.expected

    def add(self, report: Report) -> "PaneProgress":
        """Returns the progress after one more report."""
        expected = self.expected
        if isinstance(report, HeaderReport):
            expected = 1 + report.header.shards + report.header.summaries + report.header.rejects
        return dataclasses.replace(self, reports=self.reports + 1, expected=expected)


@dataclasses.dataclass(frozen=True)
class SealingProgress:
    """The progress of a window.

    Attributes:
      is_final: whether the on-time pane is the only one.
    """

    on_time: PaneProgress = PaneProgress()
    late: PaneProgress = PaneProgress()
    is_final: bool = False

    def add(self, report: Report) -> "SealingProgress":
        """Returns the progress after one more report."""
        if report.pane == "late":
            is_continued = isinstance(report, HeaderReport) and report.header.is_continued
            # An earlier start of the stream has published the pane on time: nothing of it is to come.
            on_time = PaneProgress(expected=0, is_sealed=True) if is_continued else self.on_time
            return dataclasses.replace(self, on_time=on_time, late=self.late.add(report))
        is_final = self.is_final or (isinstance(report, HeaderReport) and report.header.final)
        return dataclasses.replace(self, on_time=self.on_time.add(report), is_final=is_final)

    def ready(self) -> Sequence[Pane]:
        """Returns the panes of the new version that can be sealed now; empty if there is none."""
        if not self.on_time.is_complete:
            return ()
        if self.late.is_complete:
            return ("on_time", "late")
        return () if self.on_time.is_sealed else ("on_time",)

    def sealed(self) -> "SealingProgress":
        """Returns the progress after a version was sealed."""
        return dataclasses.replace(self, on_time=dataclasses.replace(self.on_time, is_sealed=True))

    def missing(self) -> str | None:
        """Describes what is missing; None if nothing is."""
        for name, pane in (("on-time", self.on_time), ("late", self.late)):
            if pane.reports and not pane.is_complete:
                return f"{pane.reports} of {pane.expected or 'unknown'} reports of its {name} pane are there"
        return None if self.is_final or self.late.reports else "nothing of its late pane is there"


@dataclasses.dataclass(eq=False)
class SealWindows(beam.PTransform[beam.PCollection[tuple[int, Report]], beam.PCollection[tuple[int, SealedWindow]]]):
    """Collects the reports of each window; outputs a version, keyed by publisher, whenever a pane is complete."""

    rules: SealingRules

    def expand(self, reports: beam.PCollection[tuple[int, Report]]) -> beam.PCollection[tuple[int, SealedWindow]]:
        """Uses state for unbounded input, and a GroupByKey for bounded input."""
        kind = tuple[int, SealedWindow]
        if reports.is_bounded:
            grouped = reports | "ByWindow" >> beam.GroupByKey()
            return grouped | "Seal" >> beam.Map(_seal_bounded, self.rules).with_output_types(kind)
        seal = _SealFn(self.rules, is_checked=knows_watermarks(reports.pipeline))
        return reports | "SealByCount" >> beam.ParDo(seal).with_output_types(kind)


def _seal_bounded(element: tuple[int, Iterable[Report]], rules: SealingRules) -> tuple[int, SealedWindow]:
    window, reports = element[0], list(element[1])
    progress = functools.reduce(SealingProgress.add, reports, SealingProgress())
    if not progress.on_time.is_complete:
        raise DataError(f"window {rules.windows.name(window)}: {progress.missing()}; please report this")
    return rules.publisher(window), rules.seal(window, reports)


class _SealFn(beam.DoFn):
    """Savepoints refer to state and timer by name: the names must not change."""

    TIMER = TimerSpec("missing", TimeDomain.WATERMARK)
    _progress = beam.DoFn.StateParam(ReadModifyWriteStateSpec("progress", JsonCoder(SealingProgress)))
    _reports = beam.DoFn.StateParam(BagStateSpec("reports", JsonCoder(Report)))
    _timer = beam.DoFn.TimerParam(TIMER)

    def __init__(self, rules: SealingRules, is_checked: bool):
        self._rules = rules
        self._is_checked = is_checked

    def process(
        self,
        element: tuple[int, Report],
        progress: Any = _progress,
        reports: Any = _reports,
        timer: Any = _timer,
    ) -> Iterator[tuple[int, SealedWindow]]:
        window, report = element
        before = progress.read()
        if before is None and self._is_checked:
            timer.set(GlobalWindow().max_timestamp())
        now = (before or SealingProgress()).add(report)
        reports.add(report)
        panes = now.ready()
        if panes:
            own = [item for item in reports.read() if item.pane in panes]
            yield self._rules.publisher(window), self._rules.seal(window, own)
            now = now.sealed()
        if "late" in panes or (panes and now.is_final):
            reports.clear()
            progress.clear()
            if self._is_checked:
                timer.clear()
        else:
            progress.write(now)

    @on_timer(TIMER)
    def check(self, window: Any = beam.DoFn.KeyParam, progress: Any = _progress) -> Iterator[tuple[int, SealedWindow]]:
        """Fails if reports are missing at the end of the stream, when none can be on its way any more."""
        left = progress.read()
        if left is not None:
            raise DataError(f"window {self._rules.windows.name(window)}: {left.missing()}; please report this")
        return iter(())
