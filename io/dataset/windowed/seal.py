"""When all that belongs to a pane is written, the window is sealed: its manifest is known, and what to rename."""

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

from penstock.io.beam.durations import micros
from penstock.io.beam.json_coder import JsonCoder, register_json
from penstock.io.beam.stable_input import knows_watermarks
from penstock.io.beam.windows import Windows, time_name
from penstock.io.dataset.layout import DEAD_LETTERS, reject_names
from penstock.io.dataset.manifest import PublishedDeadLetters, dataset_id, sum_counts
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.chunks import merge_ranges
from penstock.io.dataset.windowed.manifest import Pane, WindowManifest
from penstock.io.dataset.windowed.shards import HeaderReport, RejectsReport, Report, ShardReport
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.errors import DataError

_LOGGER = logging.getLogger(__name__)

# A stream stages a file for each bundle with rejects; they are joined up to about so many.
_LETTERS_PER_FILE = 100_000

_PUBLISHERS = 16


@register_json
@dataclasses.dataclass(frozen=True)
class SealedWindow:
    """A version of a window that is whole, but not published.

    Attributes:
      start: of the window, microseconds.
      moves: staged path of a shard -> path relative to the dataset.
      letters: path of a file of dead letters, relative to the dataset -> the staged files that it is made of.
    """

    start: int
    manifest: WindowManifest
    moves: Mapping[str, str]
    letters: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class SealingRules:
    """What the manifests of all windows have in common; see `WindowManifest`."""

    windows: Windows
    spec: DatasetSpec

    def publisher(self, window: int) -> int:
        """The key under which all versions of a window are published.

        There are a few for all windows: Beam's GroupByKey keeps a little for each key that it has seen, for ever.
        """
        return window // micros(self.windows.period) % _PUBLISHERS

    def seal(self, window: int, reports: Iterable[Report]) -> SealedWindow:
        """The window with all panes of which there are reports, each of them complete."""
        reports, splits = list(reports), self.spec.splits
        headers = {report.pane: report.header for report in reports if isinstance(report, HeaderReport)}
        staged = [report.shard for report in reports if isinstance(report, ShardReport)]
        staged.sort(key=lambda item: (item.shard.pane == "late", splits.index(item.shard.split), item.shard.path))
        files = (report.rejects for report in reports if isinstance(report, RejectsReport))
        rejects = sorted(files, key=lambda file: file.path)
        groups = list(_letter_groups(rejects))
        names = reject_names(f"{DEAD_LETTERS}/{time_name(window)}", [group[0].path for group in groups])
        letters = dict(zip(names, groups, strict=True))
        shards = tuple(item.shard for item in staged)
        rows = Counter({pane: header.rows for pane, header in headers.items()})
        rejected = sum(file.records for file in rejects)
        records = Counter({split: 0 for split in splits})
        for shard in shards:
            records[shard.split] += shard.records
        rows_in = rows.total() + rejected
        is_bad = rejected > self.spec.max_reject_fraction * rows_in
        manifest = WindowManifest(
            run_id=headers["on_time"].run_id,
            dataset_id=dataset_id(shards),
            created=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%S.%fZ}",
            window=(_iso(window), _iso(self.windows.end(window))),
            windows=str(self.windows),
            final=any(header.final for header in headers.values()),
            sequence=len(headers),
            status="quarantined" if is_bad else "published",
            rows_in=rows_in,
            rows_out=records.total(),
            rows_rejected=rejected,
            rows_on_time=rows["on_time"],
            rows_late=rows["late"],
            splits=dict(records),
            shards=shards,
            dead_letters=tuple(
                PublishedDeadLetters(name, sum(file.records for file in group)) for name, group in letters.items()
            ),
            rejected_by_reason=sum_counts(file.reasons for file in rejects),
            rejected_by_stage=sum_counts(file.stages for file in rejects),
            inputs=merge_ranges(item for header in headers.values() for item in header.inputs),
            num_shards=self.spec.num_shards or 1,
            **self.spec.manifest_fields(),
        )
        if manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
            raise DataError(
                f"window {self.windows.name(window)}: {rows.total()} rows came and {manifest.rows_out} are in its "
                "shards; it is not published, please report this"
            )
        return SealedWindow(
            window,
            manifest,
            moves={item.path: item.shard.path for item in staged},
            letters={name: tuple(file.path for file in group) for name, group in letters.items()},
        )


def _letter_groups(files: Iterable[DeadLetterFile]) -> Iterator[list[DeadLetterFile]]:
    """Files of one folder, in their order, that together have about as many letters as one file should have."""
    for _, some in itertools.groupby(files, key=lambda file: file.path.rpartition("/")[0]):
        group: list[DeadLetterFile] = []
        for file in some:
            if group and sum(one.records for one in group) + file.records > _LETTERS_PER_FILE:
                yield group
                group = []
            group.append(file)
        yield group


def _iso(micros: int) -> str:
    return str(np.datetime64(micros, "us")) + "Z"


@dataclasses.dataclass(frozen=True)
class PaneProgress:
    """How many reports of a pane are there, and how many there must be, once its header tells."""

    reports: int = 0
    expected: int | None = None
    is_sealed: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether all are there."""
        return self.reports == self.expected

    def add(self, report: Report) -> "PaneProgress":
        """With one more."""
        expected = self.expected
        if isinstance(report, HeaderReport):
            expected = 1 + report.header.shards + report.header.rejects
        return dataclasses.replace(self, reports=self.reports + 1, expected=expected)


@dataclasses.dataclass(frozen=True)
class SealingProgress:
    """How far a window is.

    Attributes:
      is_final: whether there is no pane but the one on time.
    """

    on_time: PaneProgress = PaneProgress()
    late: PaneProgress = PaneProgress()
    is_final: bool = False

    def add(self, report: Report) -> "SealingProgress":
        """With one more report."""
        if report.pane == "late":
            return dataclasses.replace(self, late=self.late.add(report))
        is_final = self.is_final or (isinstance(report, HeaderReport) and report.header.final)
        return dataclasses.replace(self, on_time=self.on_time.add(report), is_final=is_final)

    def ready(self) -> Sequence[Pane]:
        """The panes of the version that can be sealed now, if there is a new one."""
        if not self.on_time.is_complete:
            return ()
        if self.late.is_complete:
            return ("on_time", "late")
        return () if self.on_time.is_sealed else ("on_time",)

    def sealed(self) -> "SealingProgress":
        """When a version is sealed."""
        return dataclasses.replace(self, on_time=dataclasses.replace(self.on_time, is_sealed=True))

    def missing(self) -> str | None:
        """What is not there, in words."""
        for name, pane in (("on-time", self.on_time), ("late", self.late)):
            if pane.reports and not pane.is_complete:
                return f"{pane.reports} of {pane.expected or 'unknown'} reports of its {name} pane are there"
        return None if self.is_final or self.late.reports else "nothing of its late pane is there"


@dataclasses.dataclass(eq=False)
class SealWindows(beam.PTransform[beam.PCollection[tuple[int, Report]], beam.PCollection[tuple[int, SealedWindow]]]):
    """Collects the reports of each window, and gives a version of it whenever a pane is complete, by its publisher."""

    rules: SealingRules

    def expand(self, reports: beam.PCollection[tuple[int, Report]]) -> beam.PCollection[tuple[int, SealedWindow]]:
        """By state for unbounded input, by a GroupByKey for bounded."""
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
    """The names of state and timer are those of savepoints: they must not change."""

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
        """At the end of the stream nothing can be on its way."""
        left = progress.read()
        if left is not None:
            raise DataError(f"window {self._rules.windows.name(window)}: {left.missing()}; please report this")
        return iter(())
