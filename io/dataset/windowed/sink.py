"""The windowed sink: a dataset that grows window by window, on bounded and unbounded input.

::

    batches -> encode, write chunk files -> close windows -> write shards -> seal windows -> publish
    rejects -> files of dead letters     -^

The first step is fused with the source and writes rows to disk. From there to the shards, only references travel and
lie in state. One step, which gets only references, decides when a window closes.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import drop_rows, in_global_window, set_column
from penstock.io.beam.coverage import InputRange
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.windows import AnyWindows, FlushWindows
from penstock.io.dataset.encode import EncodedBatch, RecordEncoder
from penstock.io.dataset.kinds import KindCounter
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.observer import Summaries
from penstock.io.dataset.run_folder import Turn
from penstock.io.dataset.schema_file import SchemaFile
from penstock.io.dataset.windowed.arrivals import Arrival, CollectArrivals, WrittenChunks
from penstock.io.dataset.windowed.chunks import CHUNKS, Chunk, ChunkWriter, SeenRows, assign_rows, input_ranges
from penstock.io.dataset.windowed.clock import ClosingRules
from penstock.io.dataset.windowed.close import CloseWindows
from penstock.io.dataset.windowed.flush import FlushRules
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dataset.windowed.publish import PublishWindows, WindowPublisher
from penstock.io.dataset.windowed.seal import SealingRules, SealWindows
from penstock.io.dataset.windowed.shards import ShardStaging, WriteWindowShards
from penstock.io.dead_letters.handler import REJECTED, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.errors import DataError
from penstock.io.files import stores
from penstock.io.reasons import Note, Reason
from penstock.io.reserved import EVENT_TIME

_TIME_TYPE = pa.timestamp("us", "UTC")


class WriteChunks(beam.PTransform[beam.PCollection[pa.RecordBatch], Any]):
    """Encodes batches into chunk files; returns a `PCollection[WrittenChunks]` and one of rejected rows.

    The `_event_time` of a row determines its window. Rows of batches without it use the batch's Beam timestamp. In
    processing time a row needs neither. Rows that are `seen` in a window are left out of it.
    """

    def __init__(
        self,
        encoder: RecordEncoder,
        directory: str,
        windows: AnyWindows,
        num_shards: int,
        seen: SeenRows | None = None,
        summaries: Summaries | None = None,
    ):
        super().__init__()
        self._write = _WriteChunksFn(encoder, directory, windows, num_shards, seen, summaries)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> Any:
        """Applies one step in the global window."""
        if not isinstance(batches.windowing.windowfn, GlobalWindows):
            batches = batches | "InGlobalWindow" >> beam.WindowInto(GlobalWindows())
        write = beam.ParDo(self._write).with_output_types(Arrival)
        return split_rejected(batches | "EncodeChunks" >> write.with_outputs(REJECTED, main="out"))


class _WriteChunksFn(beam.DoFn):
    def __init__(
        self,
        encoder: RecordEncoder,
        directory: str,
        windows: AnyWindows,
        num_shards: int,
        seen: SeenRows | None,
        summaries: Summaries | None,
    ):
        self._encoder = encoder
        self._windows = windows
        self._chunk_options = (directory, windows, num_shards, seen, summaries)
        self._counters = RowCounters("WriteDataset")

    def start_bundle(self) -> None:
        self._kinds = KindCounter.of_spec(self._encoder.spec)
        self._writer = ChunkWriter(*self._chunk_options)
        self._chunks: list[Chunk] = []
        self._inputs: list[InputRange] = []
        self._earliest = MAX_TIMESTAMP

    def process(self, batch: pa.RecordBatch, timestamp: Any = beam.DoFn.TimestampParam) -> Iterator[Any]:
        if not batch.num_rows:
            return
        self._counters.add(in_rows=batch.num_rows)
        self._earliest = min(self._earliest, timestamp)
        faults: dict[int, list[Reason]] = {}
        if not isinstance(self._windows, FlushWindows):
            batch, faults = _with_times(batch, timestamp)
        if faults:
            yield from self._reject(batch, faults)
            batch = drop_rows(batch, faults)
        encoded = self._encoder.encode(batch)
        if encoded.faults:
            yield from self._reject(encoded.all_rows, encoded.faults)
        self._kinds.add(encoded.rows)
        self._inputs += input_ranges([encoded.rows])
        self._chunks += map(self._with_kinds, self._writer.add(encoded.records, encoded.rows, self._notes(encoded)))

    def _with_kinds(self, chunk: Chunk) -> Chunk:
        return dataclasses.replace(chunk, kinds=self._kinds.seen.groups())

    def _notes(self, encoded: EncodedBatch) -> Mapping[int, Sequence[Note]]:
        """The notes of the rows of each window, by its start."""
        if not encoded.notes:
            return {}
        rows, starts = assign_rows(self._windows, encoded.records)
        own = {start: pa.array(rows[starts == start]) for start in np.unique(starts).tolist()}
        return {start: self._encoder.notes(encoded.rows.take(indices)) for start, indices in own.items()}

    def _reject(self, rows: pa.RecordBatch, faults: Any) -> Iterator[Any]:
        self._counters.add(bad_rows=len(faults))
        yield from reject(row_letters(rows, faults, "write"))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        chunks = [*self._chunks, *map(self._with_kinds, self._writer.flush())]
        if chunks or self._inputs:
            # The earliest timestamp in the bundle: a later one would let the watermark pass the buffered rows.
            yield in_global_window(WrittenChunks(tuple(chunks), tuple(self._inputs)), self._earliest)
        del self._writer, self._chunks


def _with_times(batch: pa.RecordBatch, timestamp: Timestamp) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
    """Returns the batch with event times, and the reasons for rows that have none."""
    if EVENT_TIME in batch.schema.names:
        missing = pc.is_null(batch.column(EVENT_TIME)).to_numpy(zero_copy_only=False).nonzero()[0].tolist()
        reason = Reason("event_time.missing", "the row has no event time, which tells its window")
        return batch, {row: [reason] for row in missing}
    if timestamp <= MIN_TIMESTAMP:
        raise DataError(
            "rows have no event time, so that nothing tells their window: use AssignEventTime (--event_time), or give "
            "the batches timestamps"
        )
    times = pa.repeat(pa.scalar(timestamp.micros, pa.int64()), batch.num_rows).cast(_TIME_TYPE)
    return set_column(batch, EVENT_TIME, times), {}


@dataclasses.dataclass(eq=False)
class WriteWindows(beam.PTransform[Any, beam.PCollection[WindowManifest]]):
    """Turns chunks and dead-letter files into published windows.

    It takes the PCollections of `CollectArrivals`, and returns one with a manifest for each published version of a
    window. With `writes_schema`, it also writes the schema of the dataset.
    """

    staging: Staging
    closing: ClosingRules | FlushRules
    sealing: SealingRules
    writes_schema: bool = False
    late_sinks: Sequence[beam.PTransform[Any, Any]] = ()
    summaries: Summaries | None = None

    def expand(self, arrived: Any) -> beam.PCollection[WindowManifest]:
        """Closes windows, writes shards, seals, publishes."""
        is_bounded = arrived["chunks"].is_bounded
        closing, sealing, extras = self.closing, self.sealing, tuple(self.sealing.spec.extras)
        shards = ShardStaging(self.staging, closing.windows, sealing.spec, self.summaries)
        turn = None
        if self.staging.is_final:
            sealing, extras = self._sealing_in_place(is_bounded), ()
            turn = Turn.of(self.staging) if is_bounded else None
        replaces = turn is not None and sealing.spec.overwrite
        publisher = WindowPublisher(self.staging, closing.windows, extras, self.summaries, turn, replaces)
        file = SchemaFile(self.staging, sealing.spec, is_staged=is_bounded) if self.writes_schema else None
        return (
            arrived
            | "Arrivals" >> CollectArrivals()
            | "CloseWindows" >> CloseWindows(closing, file)
            | "WriteShards" >> WriteWindowShards(shards, sealing.spec.lateness, self.late_sinks)
            | "SealWindows" >> SealWindows(sealing)
            | "PublishWindows" >> PublishWindows(publisher, sealing.spec.overwrite, sealing.spec.resume)
        )

    def _sealing_in_place(self, is_bounded: bool) -> SealingRules:
        """The rules for manifests that name what is staged where it is; what is not is in its place already."""
        staging, sealing = self.staging, self.sealing
        extras = [
            f"{staging.name}/{extra}" if is_bounded or _is_there(staging.path(extra)) else extra
            for extra in sealing.spec.extras
        ]
        spec = dataclasses.replace(sealing.spec, extras=tuple(extras))
        return dataclasses.replace(sealing, spec=spec, staging=staging)


def _is_there(path: str) -> bool:
    """Whether there is an object, or a folder of some."""
    return stores.exists(path) or bool(stores.files_below(path))


def chunk_directory(staging: Staging) -> str:
    """Returns the folder of chunk files."""
    return staging.temporary(CHUNKS)
