"""Chunk files: encoded records on their way to the shards of windows, on any filesystem.

A bundle's records are buffered, sorted and written to one file for each window, and only references to them (`Chunk`)
travel and live in state. With the records lie their source rows, which nobody reads unless the window turns out to be
closed: then they become dead letters. A file is a few Arrow IPC streams::

    records of a split and shard, sorted | ... of the next shard | ... | source rows in their order of arrival

Only the bytes of what is wanted are read.
"""

import dataclasses
import itertools
import uuid
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

from penstock.io.batches import feature_names
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.windows import Windows
from penstock.io.columns.values import plain
from penstock.io.dataset.shuffle import shards_of
from penstock.io.reserved import ATTEMPT, EVENT_TIME, ORIGIN
from penstock.io.sort.records import EncodedRecords, Ints, sorted_order
from penstock.io.sort.runs import MAX_RUN_BYTES


@dataclasses.dataclass(frozen=True)
class InputRange:
    """Rows of one source: the least and greatest position, and how many.

    There may be other rows between the two, of other windows for instance.
    """

    uri: str
    first: int
    last: int
    rows: int


@dataclasses.dataclass(frozen=True)
class ChunkPart:
    """Records of one split and shard in a chunk file: their place in it, in bytes, and how many."""

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
      window: its start, microseconds.
      path: the file.
      rows: all records in it.
      parts: by split and shard, ascending.
      source: offset and length of the source rows.
      inputs: where the records come from, by uri.
    """

    window: int
    path: str
    rows: int
    parts: tuple[ChunkPart, ...]
    source: tuple[int, int]
    inputs: tuple[InputRange, ...] = ()


def merge_ranges(ranges: Iterable[InputRange]) -> tuple[InputRange, ...]:
    """One range for each uri, in their order."""
    merged: dict[str, InputRange] = {}
    for new in ranges:
        old = merged.get(new.uri, new)
        rows = new.rows if old is new else old.rows + new.rows
        merged[new.uri] = InputRange(new.uri, min(old.first, new.first), max(old.last, new.last), rows)
    return tuple(merged[uri] for uri in sorted(merged))


class ChunkWriter:
    """Buffers records and writes them to chunk files.

    Attributes:
      directory: where chunk files go, into a folder for each window.
      windows: the windows.
      num_shards: of each split.
      max_bytes: of records and source rows in the buffer; sorting them needs twice as much more for a moment.
    """

    def __init__(self, directory: str, windows: Windows, num_shards: int, max_bytes: int = MAX_RUN_BYTES):
        self._directory = directory
        self._windows = windows
        self._num_shards = num_shards
        self._max_bytes = max_bytes
        self._clear()

    def _clear(self) -> None:
        self._records: list[pa.RecordBatch] = []
        self._sources: list[pa.RecordBatch] = []
        self._bytes = 0

    def add(self, records: pa.RecordBatch, sources: pa.RecordBatch) -> Iterator[Chunk]:
        """Adds a batch of `RECORDS`, all of them with event times, and the source row of each.

        Yields the chunks that a full buffer made.
        """
        self._records.append(records)
        self._sources.append(_letter_columns(sources))
        self._bytes += EncodedRecords.of(records).nbytes + sources.nbytes
        if self._bytes >= self._max_bytes:
            yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """Writes what is buffered: a file for each window, closed before its chunk is yielded."""
        if not self._records:
            return
        records, sources = pa.concat_batches(self._records), self._sources
        self._clear()
        times = records.column("event_time").cast(pa.int64()).to_numpy()
        rows, starts = self._windows.assign(times)
        for start in np.unique(starts).tolist():
            own = rows[starts == start]
            yield self._write(start, _take(records, own), _take_each(sources, own))

    def _write(self, start: int, records: pa.RecordBatch, sources: Sequence[pa.RecordBatch]) -> Chunk:
        order = sorted_order(EncodedRecords.of(records))
        records = records if order is None else records.take(pa.array(order))
        path = FileSystems.join(self._directory, self._windows.name(start), uuid.uuid4().hex)
        parts: list[ChunkPart] = []
        offset = 0
        with FileSystems.create(path, compression_type="uncompressed") as file:
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
        return Chunk(start, path, len(records), tuple(parts), (offset, size), _ranges(sources))


def _letter_columns(rows: pa.RecordBatch) -> pa.RecordBatch:
    """What a dead letter of a row needs."""
    return rows.select([*feature_names(rows), *(n for n in (ORIGIN, EVENT_TIME, ATTEMPT) if n in rows.schema.names)])


def _take(batch: pa.RecordBatch, rows: Ints) -> pa.RecordBatch:
    return batch if len(rows) == len(batch) else batch.take(pa.array(rows))


def _take_each(batches: Sequence[pa.RecordBatch], rows: Ints) -> list[pa.RecordBatch]:
    """The rows of these ascending indices into all batches, batch by batch."""
    bounds = np.cumsum([0, *(batch.num_rows for batch in batches)])
    cuts = np.searchsorted(rows, bounds)
    pieces = zip(batches, bounds, itertools.pairwise(cuts), strict=False)
    return [_take(batch, rows[low:high] - bound) for batch, bound, (low, high) in pieces if low < high]


def _parts_of(records: EncodedRecords, num_shards: int) -> Iterator[tuple[int, int, int, int]]:
    """Split, shard, first and last place of what is sorted: a shard is a range of keys."""
    for split, first, last in records.by_split():
        shards = shards_of(records.keys[first:last], num_shards)
        cuts = np.flatnonzero(np.diff(shards, prepend=-1)).tolist()
        for start, end in itertools.pairwise([*cuts, last - first]):
            yield split, int(shards[start]), first + start, first + end


def _stream(batches: Iterable[pa.RecordBatch]) -> pa.Buffer:
    """One Arrow IPC stream of one batch: dictionaries become one."""
    batch = pa.concat_batches(list(batches))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _ranges(sources: Iterable[pa.RecordBatch]) -> tuple[InputRange, ...]:
    return merge_ranges(found for rows in sources if ORIGIN in rows.schema.names for found in _batch_ranges(rows))


def _batch_ranges(rows: pa.RecordBatch) -> Iterator[InputRange]:
    origin = rows.column(ORIGIN)
    uris = origin.field("uri")
    uris = uris if pa.types.is_dictionary(uris.type) else plain(uris).dictionary_encode()
    codes = uris.indices.to_numpy(zero_copy_only=False)
    positions = origin.field("position").to_numpy(zero_copy_only=False)
    for code in np.unique(codes).tolist():
        own = positions[codes == code]
        yield InputRange(uris.dictionary[code].as_py(), int(own.min()), int(own.max()), len(own))


def read_part(path: str, offset: int, length: int) -> pa.RecordBatch:
    """The records of one part of a chunk file: a batch of `RECORDS`."""
    with pa.ipc.open_stream(_read(path, offset, length)) as reader:
        return reader.read_next_batch()


def read_sources(chunk: Chunk) -> Iterator[pa.RecordBatch]:
    """The source rows of a chunk."""
    offset, length = chunk.source
    data = pa.BufferReader(_read(chunk.path, offset, length))
    while data.tell() < length:
        with pa.ipc.open_stream(data) as reader:
            yield from reader


def _read(path: str, offset: int, length: int) -> bytes:
    with FileSystems.open(path, compression_type="uncompressed") as file:
        file.seek(offset)
        data = file.read(length)
    if len(data) != length:
        raise OSError(f"{path} ends before byte {offset + length}")
    return bytes(data)
