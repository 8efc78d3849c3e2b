"""Does the tasks of closing panes: chunks become staged shards, rows that are too late become staged dead letters."""

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints import KV

from penstock.io.beam.json_coder import OneOf, register_json
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.windows import AnyWindows, time_name
from penstock.io.dataset.layout import INDEX_SUFFIX, Staging, part_name
from penstock.io.dataset.observer import Summaries
from penstock.io.dataset.shard import IndexPlace, write_shard
from penstock.io.dataset.shuffle import merged_batches
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.chunks import Chunk, read_bytes, read_part, read_sources
from penstock.io.dataset.windowed.manifest import Pane, WindowShard
from penstock.io.dataset.windowed.tasks import (
    HeaderTask,
    PaneHeader,
    PartRef,
    RejectsTask,
    ShardTask,
    SummaryTask,
    Task,
    TooLateTask,
    WriteTask,
)
from penstock.io.dead_letters.handler import DeadLetterFile, write_letters
from penstock.io.dead_letters.record import RejectedBatch, row_letters
from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reasons import Reason

# Folder of the staged shards, below the staging folder.
STAGED_SHARDS = "shards"

_LATE = "late"

_PREFIXES: dict[Pane, str] = {"on_time": "part", "late": "late"}


@dataclasses.dataclass(frozen=True)
class StagedShard:
    """A shard, and its path until its window is published: in an object store, the final one."""

    path: str
    shard: WindowShard

    def places(self) -> dict[str, str]:
        """Where its files are, to their paths relative to the dataset; an index is staged beside its shard."""
        index = self.shard.index
        return {self.path: self.shard.path, **({self.path + INDEX_SUFFIX: index.path} if index else {})}


@register_json
class Report(OneOf):
    """Reports one finished task of a pane."""

    pane: Pane


@dataclasses.dataclass(frozen=True)
class HeaderReport(Report):
    """Reports the header of a pane, which says how many other reports will follow."""

    TAG = "header"

    pane: Pane
    header: PaneHeader


@dataclasses.dataclass(frozen=True)
class ShardReport(Report):
    """Reports a shard that was written."""

    TAG = "shard"

    pane: Pane
    shard: StagedShard


@dataclasses.dataclass(frozen=True)
class SummaryReport(Report):
    """Reports the file with the summary of a pane."""

    TAG = "summary"

    pane: Pane
    summary: str


@dataclasses.dataclass(frozen=True)
class RejectsReport(Report):
    """Reports a dead-letter file that is filed in the pane."""

    TAG = "rejects"

    pane: Pane
    rejects: DeadLetterFile


@dataclasses.dataclass(frozen=True)
class ShardStaging:
    """Stages the shards of windows."""

    staging: Staging
    windows: AnyWindows
    spec: DatasetSpec
    summaries: Summaries | None = None

    def folder(self, window: int) -> str:
        """Returns the staging folder of a window, where each attempt uses file names of its own."""
        return self.staging.temporary(STAGED_SHARDS, self.windows.name(window))

    def path(self, window: int, pane: Pane, task: ShardTask, attempt: str) -> str:
        """Returns the final path of a shard, relative to the dataset; if it is written there, it is of the attempt."""
        is_final = self.staging.is_final
        suffix = f"-{attempt[:8]}{self.spec.suffix}" if is_final else self.spec.suffix
        name = part_name(task.shard, self.spec.num_shards or 1, suffix, _PREFIXES[pane])
        path = f"{self.spec.splits[task.split]}/{time_name(window)}/{name}"
        return f"{self.staging.name}/{path}" if is_final else path

    def write(self, window: int, pane: Pane, task: ShardTask, name: str) -> StagedShard:
        """Writes a shard under a name that no other attempt uses."""
        path = self.path(window, pane, task, name)
        final, staged = stores.join(self.staging.output, *path.split("/")), stores.join(self.folder(window), name)
        staged = final if self.staging.is_final else staged
        index = self._index(path, staged) if self.spec.index else None
        parts = (read_part(part.path, part.offset, part.length) for part in task.parts)
        split, shard_format = self.spec.splits[task.split], self.spec.shard_format()
        with merged_batches(parts, self.spec.splits) as merged:
            shard = write_shard(staged, path, split, shard_format, merged, index=index)
        return StagedShard(staged, WindowShard(**vars(shard), pane=pane))

    def _index(self, path: str, staged: str) -> IndexPlace:
        index = self.staging.index_path(path)
        final = stores.join(self.staging.output, *index.split("/"))
        return IndexPlace(final if self.staging.is_final else staged + INDEX_SUFFIX, index)

    def summarize(self, window: int, parts: Iterable[PartRef], name: str) -> str:
        """Merges the summaries of chunks into a file of a name that no other attempt uses; returns its path."""
        assert self.summaries is not None
        state = self.summaries.merge(read_bytes(part.path, part.offset, part.length) for part in parts)
        staged = stores.join(self.folder(window), name)
        with (
            writing(staged, OUTPUT_REMEDY),
            stores.create_file(staged) as file,
        ):
            file.write(state)
        return staged

    def reject(self, window: int, letters: Iterable[RejectedBatch]) -> DeadLetterFile:
        """Writes rows that came too late as dead letters, which are filed in an open window."""
        summaries = None if self.summaries is None else self.summaries.rejected
        folder = self.staging.dead_letters if self.staging.is_final else self.folder(window)
        return write_letters(folder, self.staging.run_id, letters, summaries)


def late_letters(chunk: Chunk, windows: AnyWindows, lateness: datetime.timedelta) -> Iterator[RejectedBatch]:
    """Yields the rows of a chunk as dead letters with the reason `late`."""
    detail = f"came after the window {windows.name(chunk.window)} had closed"
    if lateness:
        detail += f", {lateness.total_seconds():g} s after its end"
    for rows in read_sources(chunk):
        yield row_letters(rows, {row: [Reason("late", detail)] for row in range(rows.num_rows)}, "write")


class WriteWindowShards(beam.PTransform[beam.PCollection[Task], beam.PCollection[tuple[int, Report]]]):
    """Spreads the tasks over all workers, does them, and returns reports keyed by the start of their window.

    Rows that came too late are also passed to `late_sinks`, as `RejectedBatch`es.
    """

    def __init__(
        self, staging: ShardStaging, lateness: datetime.timedelta, late_sinks: Sequence[beam.PTransform[Any, Any]] = ()
    ):
        super().__init__()
        self._write = _WriteShardsFn(staging, lateness, gives_late=bool(late_sinks))
        self._late_sinks = late_sinks

    def expand(self, tasks: beam.PCollection[Task]) -> beam.PCollection[tuple[int, Report]]:
        """Spreads the tasks and writes."""
        write = beam.ParDo(self._write)
        spread = tasks | "SpreadTasks" >> beam.Reshuffle()
        if not self._late_sinks:
            return spread | "Write" >> write.with_output_types(tuple[int, Report])
        done = spread | "Write" >> write.with_outputs(_LATE, main="reports")
        done[_LATE].element_type, done.reports.element_type = RejectedBatch, KV[int, Report]
        for number, sink in enumerate(self._late_sinks):
            _ = done[_LATE] | f"LateTo{number}" >> sink
        return done.reports


class _WriteShardsFn(beam.DoFn):
    def __init__(self, staging: ShardStaging, lateness: datetime.timedelta, gives_late: bool):
        self._staging = staging
        self._lateness = lateness
        self._gives_late = gives_late
        self._counters = RowCounters("WriteDataset")

    def process(self, task: Task) -> Iterator[Any]:
        match task:
            case HeaderTask(window, header, pane):
                yield window, HeaderReport(pane, header)
            case RejectsTask(window, rejects):
                yield window, RejectsReport("on_time", rejects)
            case WriteTask(window, shard, pane):
                written = self._staging.write(window, pane, shard, uuid.uuid4().hex)
                self._counters.add(late_rows=written.shard.records if pane == "late" else 0)
                yield window, ShardReport(pane, written)
            case SummaryTask(window, parts, pane):
                yield window, SummaryReport(pane, self._staging.summarize(window, parts, uuid.uuid4().hex))
            case TooLateTask(window, chunk):
                letters = list(late_letters(chunk, self._staging.windows, self._lateness))
                if self._gives_late:
                    yield from (TaggedOutput(_LATE, batch) for batch in letters)
                self._counters.add(too_late_rows=chunk.rows)
                yield window, RejectsReport("on_time", self._staging.reject(window, letters))
