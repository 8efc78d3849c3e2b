"""Chunk files: encoded records on their way to the shards of windows, on any filesystem.

A bundle's records are buffered, sorted and written to one file for each window. Only references to them (`Chunk`)
travel and are kept in state. The file also holds the source rows of the records. They are read only if the window
turns out to be closed, to become dead letters. A file is a few Arrow IPC streams::

    records of a split and shard, sorted | ... of the next shard | ... | source rows in their order of arrival | summary

The summary is no stream, but a state of `penstock.io.dataset.observer`, if the dataset has such.

A reader reads only the bytes that it needs.
"""

import contextlib
import dataclasses
import itertools
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.beam.coverage import Covered, InputRange, SeenPositions, contains
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.windows import AnyWindows, FlushWindows
from penstock.io.columns.values import plain
from penstock.io.dataset.kinds import KindGroup
from penstock.io.dataset.observer import ByWindow, Summaries
from penstock.io.dataset.shuffle import shards_of
from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing
from penstock.io.reasons import Note, merge_notes
from penstock.io.reserved import ATTEMPT, EVENT_TIME, ORIGIN, SOURCE
from penstock.io.sort.records import EncodedRecords, Ints, sorted_order
from penstock.io.sort.runs import MAX_RUN_BYTES

# A final window's temporary files are deleted once this many more windows have become final after they were written.
# By then, any attempt whose state may still name them is over. Chunks of rows that are too late are read right away,
# though their window may long be final; so no file is deleted before it has this age, either.
KEPT_WINDOWS = 3
KEPT_SECONDS = 120

# Folder of the chunks, among what is never published.
CHUNKS = "chunks"

# Folder of those whose window is not known when they are written.
_ARRIVING = "arriving"

_ATTEMPTS = 10


@dataclasses.dataclass(frozen=True)
class ChunkPart:
    """Records of one split and shard in a chunk file: their byte offset and length, and their number."""

    split: int
    shard: int
    offset: int
    length: int
    rows: int


@register_json
@dataclasses.dataclass(frozen=True)
class Chunk:
    """Records of one window in one file.

    Attributes:
      window: start of the window, microseconds; 0 in processing time, where it is not known yet.
      path: path of the file.
      rows: number of all records in the file.
      parts: the records by split and shard, ascending.
      source: byte offset and length of the source rows.
      inputs: where the records come from; records of one bundle of the reader are in each.
      notes: what became of values of the records.
      kinds: the kinds of features that its bundle has met so far.
      summary: byte offset and length of the state of their summary; a length of 0 for none.
    """

    window: int
    path: str
    rows: int
    parts: tuple[ChunkPart, ...]
    source: tuple[int, int]
    inputs: tuple[InputRange, ...] = ()
    notes: tuple[Note, ...] = ()
    kinds: tuple[KindGroup, ...] = ()
    summary: tuple[int, int] = (0, 0)


def merge_inputs(ranges: Iterable[InputRange]) -> tuple[InputRange, ...]:
    """Merges ranges into one for each uri, in the order of uris."""
    merged: dict[str, InputRange] = {}
    for new in ranges:
        old = merged.get(new.uri, new)
        rows = new.rows if old is new else old.rows + new.rows
        merged[new.uri] = InputRange(new.uri, min(old.first, new.first), max(old.last, new.last), rows)
    return tuple(merged[uri] for uri in sorted(merged))


def assign_rows(windows: AnyWindows, records: pa.RecordBatch) -> tuple[Ints, Ints]:
    """Assigns `RECORDS` to windows: returns indices of rows, and for each the start of a window.

    In processing time nobody knows the window yet, and 0 stands for it.
    """
    if isinstance(windows, FlushWindows):
        return np.arange(len(records)), np.zeros(len(records), np.int64)
    return windows.assign(records.column("event_time").cast(pa.int64()).to_numpy())


@dataclasses.dataclass(frozen=True, eq=False)
class SeenRows:
    """Rows that the dataset has already, of those that a job reads again when it goes on from the dataset.

    Attributes:
      covered: by the start of a window, the positions whose rows are in it, as far as they belong to it.
      letters: positions of dead letters in any window; of windows of processing time, all that they cover.
    """

    covered: Mapping[int, Covered]
    letters: SeenPositions

    def contains(self, window: int, batches: Sequence[pa.RecordBatch]) -> npt.NDArray[np.bool_]:
        """Returns for each row of batches of this window whether it is there already."""
        covered = self.covered.get(window, {})
        return np.concatenate([self._in_batch(covered, rows) for rows in batches])

    def _in_batch(self, covered: Covered, rows: pa.RecordBatch) -> npt.NDArray[np.bool_]:
        found = np.zeros(rows.num_rows, bool)
        if ORIGIN in rows.schema.names:
            for uri, indices, positions in places_by_uri(rows.column(ORIGIN)):
                is_seen = contains(covered.get(uri, ()), positions) | self.letters.contains(uri, positions)
                found[indices] = is_seen
        return found


def places_by_uri(origin: pa.StructArray) -> Iterator[tuple[str, Ints, Ints]]:
    """Yields each uri of an `_origin` column, with the indices of its rows and their positions."""
    uris = origin.field("uri")
    uris = uris if pa.types.is_dictionary(uris.type) else plain(uris).dictionary_encode()
    codes = uris.indices.to_numpy(zero_copy_only=False)
    positions = origin.field("position").to_numpy(zero_copy_only=False)
    for code in np.unique(codes).tolist():
        indices = np.flatnonzero(codes == code)
        yield uris.dictionary[code].as_py(), indices, positions[indices]


class ChunkWriter:
    """Buffers records and writes them to chunk files.

    Attributes:
      directory: folder of the chunk files, with a subfolder for each window, or one for all.
      windows: the windows.
      num_shards: number of shards per split.
      seen: rows that windows have already, which are left out.
      summaries: makes summaries of the rows; None for none.
      max_bytes: most bytes of records and source rows in the buffer; sorting briefly needs twice as much on top.
    """

    def __init__(
        self,
        directory: str,
        windows: AnyWindows,
        num_shards: int,
        seen: SeenRows | None = None,
        summaries: Summaries | None = None,
        max_bytes: int = MAX_RUN_BYTES,
    ):
        self._directory = directory
        self._windows = windows
        self._num_shards = num_shards
        self._seen = seen
        self._summaries = None if summaries is None else ByWindow(summaries)
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._records: list[pa.RecordBatch] = []
        self._sources: list[pa.RecordBatch] = []
        self._notes: dict[int, list[Note]] = {}
        self._bytes = 0

    def add(
        self, records: pa.RecordBatch, sources: pa.RecordBatch, notes: Mapping[int, Sequence[Note]] | None = None
    ) -> Iterator[Chunk]:
        """Adds a batch of `RECORDS`, their source rows, and their notes by start of a window.

        The records have event times, unless windows are of processing time.

        Yields chunks whenever the buffer is full.
        """
        for start, found in (notes or {}).items():
            self._notes.setdefault(start, []).extend(found)
        if self._summaries is not None:
            for start, own in self._rows_by_window(records, [sources]):
                self._summaries.add(start, _take_each([sources], own))
        self._records.append(records)
        self._sources.append(_letter_columns(sources))
        self._bytes += EncodedRecords.of(records).nbytes + self._sources[-1].nbytes
        if self._bytes >= self._max_bytes:
            yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """Writes the buffer to one file for each window; a file is closed before its chunk is yielded."""
        if not self._records:
            return
        records, sources, notes = pa.concat_batches(self._records), self._sources, self._notes
        summaries = {} if self._summaries is None else self._summaries.take()
        self._clear()
        for start, own in self._rows_by_window(records, sources):
            chunk = self._write(start, _take(records, own), _take_each(sources, own), summaries.get(start, b""))
            yield dataclasses.replace(chunk, notes=merge_notes(notes.get(start, ())))

    def _rows_by_window(self, records: pa.RecordBatch, sources: Sequence[pa.RecordBatch]) -> Iterator[tuple[int, Ints]]:
        """Yields the start of each window that has rows, with their indices, less those that the window has already."""
        rows, starts = assign_rows(self._windows, records)
        for start in np.unique(starts).tolist():
            own = rows[starts == start]
            if self._seen is not None:
                own = own[~self._seen.contains(start, _take_each(sources, own))]
            if len(own):
                yield start, own

    def _write(self, start: int, records: pa.RecordBatch, sources: Sequence[pa.RecordBatch], summary: bytes) -> Chunk:
        order = sorted_order(EncodedRecords.of(records))
        records = records if order is None else records.take(pa.array(order))
        folder = _ARRIVING if isinstance(self._windows, FlushWindows) else self._windows.name(start)
        path = stores.join(self._directory, folder, uuid.uuid4().hex)
        parts: list[ChunkPart] = []
        offset = 0
        with writing(path, OUTPUT_REMEDY), _create(path) as file:
            for split, shard, first, last in _parts_of(EncodedRecords.of(records), self._num_shards):
                stream = _stream([records.slice(first, last - first)])
                file.write(stream)
                parts.append(ChunkPart(split, shard, offset, len(stream), last - first))
                offset += len(stream)
            size = 0
            for _, batches in itertools.groupby(sources, key=lambda batch: batch.schema):
                stream = _stream(batches)
                file.write(stream)
                size += len(stream)
            file.write(summary)
        source, inputs = (offset, size), input_ranges(sources)
        return Chunk(start, path, len(records), tuple(parts), source, inputs, summary=(offset + size, len(summary)))


def _create(path: str) -> IO[bytes]:
    """Creates a file; its folder may be removed meanwhile, if its window is final and nothing else is in it."""
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError):
            return stores.create_file(path)
    return stores.create_file(path)


def _letter_columns(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the columns that a dead letter needs: the data columns only where `_source` does not hold them."""
    names = rows.schema.names
    wanted = [name for name in (ORIGIN, EVENT_TIME, ATTEMPT, SOURCE) if name in names]
    return rows.select(wanted if SOURCE in wanted else [*feature_names(rows), *wanted])


def _take(batch: pa.RecordBatch, rows: Ints) -> pa.RecordBatch:
    return batch if len(rows) == len(batch) else batch.take(pa.array(rows))


def _take_each(batches: Sequence[pa.RecordBatch], rows: Ints) -> list[pa.RecordBatch]:
    """Takes rows by ascending indices that count over all batches; returns them batch by batch.

    ::

        batches   of 3, 2 and 4 rows        bounds  0 3 5 9
        rows      1 2 7                     cuts    0 2 2 3
        taken     rows 1 2 of the first batch, row 7 - 5 = 2 of the third
    """
    bounds = np.cumsum([0, *(batch.num_rows for batch in batches)])
    cuts = np.searchsorted(rows, bounds)
    pieces = zip(batches, bounds, itertools.pairwise(cuts), strict=False)
    return [_take(batch, rows[low:high] - bound) for batch, bound, (low, high) in pieces if low < high]


def _parts_of(records: EncodedRecords, num_shards: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields split, shard, first index and end of each shard in sorted records: a shard is a range of keys."""
    for split, first, last in records.by_split():
        shards = shards_of(records.keys[first:last], num_shards)
        cuts = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
        for start, end in itertools.pairwise([*cuts, last - first]):
            yield split, int(shards[start]), first + start, first + end


def _stream(batches: Iterable[pa.RecordBatch]) -> pa.Buffer:
    """Writes batches as one batch in one Arrow IPC stream, so that dictionaries are merged."""
    batch = pa.concat_batches(list(batches))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def input_ranges(sources: Iterable[pa.RecordBatch]) -> tuple[InputRange, ...]:
    """Returns where rows come from: for each batch, its least and greatest position of each uri."""
    return tuple(found for rows in sources if ORIGIN in rows.schema.names for found in _batch_ranges(rows))


def _batch_ranges(rows: pa.RecordBatch) -> Iterator[InputRange]:
    for uri, _, own in places_by_uri(rows.column(ORIGIN)):
        yield InputRange(uri, int(own.min()), int(own.max()), len(own))


def read_part(path: str, offset: int, length: int) -> pa.RecordBatch:
    """Reads the records of one part of a chunk file, a batch of `RECORDS`."""
    with pa.ipc.open_stream(read_bytes(path, offset, length)) as reader:
        return reader.read_next_batch()


def read_sources(chunk: Chunk) -> Iterator[pa.RecordBatch]:
    """Reads the source rows of a chunk."""
    offset, length = chunk.source
    data = pa.BufferReader(read_bytes(chunk.path, offset, length))
    while data.tell() < length:
        with pa.ipc.open_stream(data) as reader:
            yield from reader


def read_bytes(path: str, offset: int, length: int) -> bytes:
    """Reads some bytes of a chunk file.

    Raises:
      OSError: if it ends before.
    """
    with stores.open_file(path) as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise OSError(f"{path} ends before byte {offset + length}")
    return bytes(data)
