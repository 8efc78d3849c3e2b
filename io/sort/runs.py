"""Sorted runs: encoded records on local disk, sorted by (key, bytes).

The shuffle is an external sort. Records are buffered, sorted and written as runs (`RunWriter`). A shard is a range of
keys, and its records are the merge of that range over all runs (`penstock.io.sort.merge`). Memory is one buffer while
writing and one piece while merging, whatever the size of the dataset or of a shard.

A run is one file. Its index stays in memory, and finds a range of keys without reading the other records. The file is::

    data | keys uint64[n] | offsets int64[n + 1] | event times int64[n], if there are any

Packed records lie in runs as they are. Their layouts are files beside the runs.
"""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import uuid
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.files.system_errors import SPILL_REMEDY, writing
from penstock.io.sort.records import (
    NO_TIME,
    BlockWriter,
    EncodedRecords,
    Ints,
    Keys,
    MakePacking,
    concat_records,
    layout_of,
    sorted_order,
)

# All workers of a process together buffer about `_PROCESS_BYTES`, and each of them from 16 to 32 MiB. While there are
# few runs, larger buffers are slower: new memory pages cost more than reads.
_PROCESS_BYTES = 256 << 20
MAX_RUN_BYTES = min(32 << 20, max(16 << 20, _PROCESS_BYTES // (os.cpu_count() or 1)))
# Rows that arrive in order need no more than this, which stays in the cache until it is written.
ORDERED_BUFFER_BYTES = 1 << 20
# Where batches have ever other columns, further ones are kept whole: a layout takes memory in all who read the runs.
_MAX_LAYOUTS = 16
_NO_BYTES = np.zeros(0, np.uint8)
# The index of a run has the first and the last key of each block of about this size.
_INDEX_BYTES = 64 << 10


@dataclasses.dataclass(frozen=True)
class Run:
    """A sorted run: its path and its index.

    Attributes:
      path: path of the local file.
      split: the split of its records.
      first_keys: uint64[b], the first key of each block.
      last_keys: uint64[b], the last key of each block.
      records: int64[b + 1], number of records before each block, and in all.
      bytes: int64[b + 1], number of bytes before each block, and in all.
      has_times: whether any record has an event time.
      unpacked_bytes: number of bytes of all records, when they are not packed any more.
      layouts: paths of the layouts of its records, if they are packed.
    """

    path: str
    split: str
    first_keys: Keys
    last_keys: Keys
    records: Ints
    bytes: Ints
    has_times: bool
    unpacked_bytes: int
    layouts: tuple[str, ...] = ()


class _RunFile:
    """A run that is being written."""

    def __init__(self, path: str, split: str):
        self._path = path
        with self._writing():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._file = open(path, "wb")  # noqa: SIM115
        self._split = split
        self._keys: list[Keys] = []
        self._starts: list[Ints] = []
        self._times: list[Ints | None] = []
        self._index: list[tuple[Keys, Keys, Ints, Ints]] = []
        self._records = self._unpacked_bytes = 0
        self.bytes = 0

    @property
    def last_key(self) -> int:
        """The greatest key so far."""
        return int(self._keys[-1][-1])

    def append(self, records: EncodedRecords, rows: slice | Ints, unpacked_bytes: int) -> None:
        """Writes some of the records. `rows` must be in sorted order, and follow what is in the file."""
        self._unpacked_bytes += unpacked_bytes
        if isinstance(rows, slice):
            offsets = records.offsets[rows.start : rows.stop + 1]
            self._write(records.data[offsets[0] : offsets[-1]].data)
            starts = offsets - offsets[0]
        else:
            blocks = BlockWriter(self._write)
            blocks.write_ordered(dataclasses.replace(records, packing=None), rows)
            blocks.flush()
            starts = np.zeros(len(rows) + 1, np.int64)
            np.cumsum(np.diff(records.offsets)[rows], out=starts[1:])
        keys = records.keys[rows]
        self._keys.append(keys)
        self._starts.append(self.bytes + starts[:-1])
        self._times.append(None if records.times is None else records.times[rows])
        self._add_to_index(keys, starts)

    def _write(self, data: memoryview) -> None:
        with self._writing():
            self._file.write(data)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        return writing(self._path, SPILL_REMEDY, counter="bytes")

    def _add_to_index(self, keys: Keys, starts: Ints) -> None:
        """Adds appended records to the index. They begin a new block, so no block mixes rows of distant input parts."""
        size = int(starts[-1])
        # Each block begins at the first record that starts at or behind a multiple of `_INDEX_BYTES`.
        rows = np.unique(starts[:-1].searchsorted(np.arange(0, size + 1, _INDEX_BYTES)))
        rows = rows[rows < len(keys)]
        last_keys = keys[np.append(rows[1:], len(keys)) - 1]
        self._index.append((keys[rows], last_keys, self._records + rows, self.bytes + starts[rows]))
        self._records += len(keys)
        self.bytes += size

    def close(self, layouts: Iterable[str]) -> Run:
        """Writes keys, offsets and event times behind the data, and closes the file."""
        sections: list[npt.NDArray[Any]] = [*self._keys, *self._starts, np.array([self.bytes], np.int64)]
        has_times = any(times is not None for times in self._times)
        if has_times:
            sections += [
                np.full(len(keys), NO_TIME) if times is None else times
                for keys, times in zip(self._keys, self._times, strict=True)
            ]
        with self._writing(), self._file:
            for section in sections:
                self._file.write(np.ascontiguousarray(section).data)
        first_keys, last_keys, rows, starts = map(np.concatenate, zip(*self._index, strict=True))
        records, size = np.append(rows, self._records), np.append(starts, self.bytes)
        return Run(
            self._path,
            self._split,
            first_keys,
            last_keys,
            records,
            size,
            has_times,
            self._unpacked_bytes,
            tuple(layouts),
        )


class RunWriter:
    """Buffers records of several splits, and writes a full buffer to runs.

    If the next buffer has only greater keys, its records are appended to the same run, until that has `run_bytes`. This
    happens if rows arrive in order, and never if keys are hashes.

    Attributes:
      directory: the folder of the runs.
      splits: the names of the splits, by their numbers.
      buffer_bytes: bytes of records that are sorted at once; a larger batch is written alone.
      run_bytes: approximate bytes of records in a run.
      make_packing: for packed records; each batch then has a layout.
    """

    def __init__(
        self,
        directory: str,
        splits: Sequence[str],
        buffer_bytes: int = MAX_RUN_BYTES,
        run_bytes: int = MAX_RUN_BYTES,
        make_packing: MakePacking | None = None,
    ):
        self._make_packing = make_packing
        self._layouts: dict[bytes, str] = {}  # and their paths
        self._directory = directory
        self._splits = splits
        self._run_bytes = run_bytes
        # `np.empty` does not touch memory pages before they are needed.
        self._buffer = np.empty(buffer_bytes, np.uint8)
        self._filled = 0
        self._parts: list[EncodedRecords] = []
        self._files: dict[int, _RunFile] = {}

    def add(self, batch: pa.RecordBatch) -> Iterator[Run]:
        """Adds a batch of `RECORDS`; yields the runs that this completes."""
        records = self._open(batch)
        if self._filled + records.nbytes > len(self._buffer):
            yield from self._write_buffer()
        if records.nbytes > len(self._buffer):
            yield from self._write(records)
        elif len(records):
            end = self._filled + records.nbytes
            self._buffer[self._filled : end] = records.content
            self._filled = end
            # Not the bytes: they lie in the buffer, and would be in memory twice.
            self._parts.append(dataclasses.replace(records, data=_NO_BYTES))

    def _open(self, batch: pa.RecordBatch) -> EncodedRecords:
        records = EncodedRecords.of(batch)
        if self._make_packing is None or (layout := layout_of(batch)) in self._layouts:
            return records
        if len(self._layouts) == _MAX_LAYOUTS:
            data, offsets = self._make_packing([layout]).whole(records.data, records.offsets)
            return dataclasses.replace(records, data=data, offsets=offsets)
        self._layouts[layout] = _store_layout(self._directory, layout)
        return records

    def flush(self) -> Iterator[Run]:
        """Writes the buffer and yields all remaining runs."""
        yield from self._write_buffer()
        for split in list(self._files):
            yield self._close(split)

    def _close(self, split: int) -> Run:
        return self._files.pop(split).close(self._layouts.values())

    def _write_buffer(self) -> Iterator[Run]:
        if self._parts:
            records = concat_records(self._parts, self._buffer)
            self._parts, self._filled = [], 0
            yield from self._write(records)

    def _write(self, records: EncodedRecords) -> Iterator[Run]:
        if self._make_packing is not None:
            records = dataclasses.replace(records, packing=self._make_packing(self._layouts))
        order, lengths = sorted_order(records), records.lengths
        for split, start, end in records.by_split(order):
            rows = slice(start, end) if order is None else order[start:end]
            first_key = int(records.keys[rows][0])
            file = self._files.get(split)
            if file is not None and (file.bytes >= self._run_bytes or first_key <= file.last_key):
                yield self._close(split)
            if split not in self._files:
                path = os.path.join(self._directory, f"{uuid.uuid4().hex}.run")
                self._files[split] = _RunFile(path, self._splits[split])
            self._files[split].append(records, rows, int(lengths[rows].sum()))


def _store_layout(directory: str, layout: bytes) -> str:
    """Writes a layout to a file that is named after it, unless it exists; returns its path."""
    path = os.path.join(directory, f"{hashlib.sha256(layout).hexdigest()}.layout")
    if not os.path.exists(path):
        with writing(path, SPILL_REMEDY, counter="bytes"):
            os.makedirs(directory, exist_ok=True)
            new = f"{path}.{uuid.uuid4().hex}"
            pathlib.Path(new).write_bytes(layout)
            os.replace(new, path)
    return path
