"""The tasks of closing windows: what to write, and what to file, so that a pane is complete."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from penstock.io.beam.coverage import Covered, InputRange
from penstock.io.beam.json_coder import OneOf, register_json
from penstock.io.dataset.windowed.chunks import Chunk, merge_inputs
from penstock.io.dataset.windowed.manifest import Closing, Pane
from penstock.io.dead_letters.handler import DeadLetterFile
from penstock.io.reasons import Note, merge_notes


@dataclasses.dataclass(frozen=True)
class PartRef:
    """Records in a chunk file."""

    path: str
    offset: int
    length: int


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """A shard to write: the number of its split, its own number, and its records."""

    split: int
    shard: int
    parts: tuple[PartRef, ...]


@dataclasses.dataclass(frozen=True)
class PaneHeader:
    """What is known about a pane when it closes.

    Attributes:
      rejects: number of dead-letter files that are filed in it.
      run_id: the run that first wrote into the dataset.
      shards: number of shards to write.
      final: whether it is the last pane of its window.
      notes: what became of values of its rows.
      closing: the point from which the stream can go on; None if it cannot.
      covered: as in the manifest.
      is_continued: whether an earlier start of the stream has published the pane on time.
      end: of a window of processing time, microseconds since 1970; None for one of event time, which follows from its
        start.
      number: of a window of processing time, as in the manifest.
      swept: chunk files of earlier windows that nothing needs any more once they are published, by their start.
      summaries: number of summaries to merge: one, or none.
    """

    run_id: str
    final: bool
    rejects: int = 0
    shards: int = 0
    rows: int = 0
    inputs: tuple[InputRange, ...] = ()
    notes: tuple[Note, ...] = ()
    closing: Closing | None = None
    covered: Covered = dataclasses.field(default_factory=dict)
    is_continued: bool = False
    end: int | None = None
    number: int = 0
    swept: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    summaries: int = 0


@register_json
class Task(OneOf):
    """A task of a window."""

    window: int


@dataclasses.dataclass(frozen=True)
class HeaderTask(Task):
    """Report the header of a pane that closes."""

    TAG = "header"

    window: int
    header: PaneHeader
    pane: Pane = "on_time"


@dataclasses.dataclass(frozen=True)
class WriteTask(Task):
    """Write a shard of a pane."""

    TAG = "shard"

    window: int
    shard: ShardTask
    pane: Pane = "on_time"


@dataclasses.dataclass(frozen=True)
class SummaryTask(Task):
    """Merge the summaries of the chunks of a pane."""

    TAG = "summary"

    window: int
    summary: tuple[PartRef, ...]
    pane: Pane = "on_time"


@dataclasses.dataclass(frozen=True)
class TooLateTask(Task):
    """File the rows of a chunk as dead letters, in the on-time pane of an open window."""

    TAG = "too_late"

    window: int
    too_late: Chunk


@dataclasses.dataclass(frozen=True)
class RejectsTask(Task):
    """File a dead-letter file in the on-time pane of the window."""

    TAG = "rejects"

    window: int
    rejects: DeadLetterFile


def closing_tasks(
    window: int, pane: Pane, chunks: Iterable[Chunk], header: PaneHeader, splits: int, num_shards: int
) -> Iterator[Task]:
    """Yields the tasks that close a pane: its header, its shards, and their summary.

    The on-time pane gets every shard. A summary is of all rows or none: chunks that an older version wrote have none.

    Args:
      window: its start.
      pane: the pane.
      chunks: of its rows.
      header: what is known of the pane beside its chunks.
      splits: number of splits.
      num_shards: number of shards per split.
    """
    chunks = list(chunks)
    parts: dict[tuple[int, int], list[PartRef]] = {}
    if pane == "on_time":
        parts = {(split, shard): [] for split in range(splits) for shard in range(num_shards)}
    for chunk in chunks:
        for part in chunk.parts:
            ref = PartRef(chunk.path, part.offset, part.length)
            parts.setdefault((part.split, part.shard), []).append(ref)
    inputs = merge_inputs(item for chunk in chunks for item in chunk.inputs)
    rows = sum(chunk.rows for chunk in chunks)
    notes = merge_notes(note for chunk in chunks for note in chunk.notes)
    summaries = tuple(PartRef(chunk.path, *chunk.summary) for chunk in chunks if chunk.summary[1])
    has_summary = bool(chunks) and len(summaries) == len(chunks)
    header = dataclasses.replace(
        header, shards=len(parts), summaries=int(has_summary), rows=rows, inputs=inputs, notes=notes
    )
    yield HeaderTask(window, header, pane)
    if has_summary:
        yield SummaryTask(window, summaries, pane)
    for (split, shard), refs in sorted(parts.items()):
        yield WriteTask(window, ShardTask(split, shard, tuple(refs)), pane)
