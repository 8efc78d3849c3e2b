"""Records by their number, as `grain` takes them: the protocol of its RandomAccessDataSource, without grain.

ArrayRecord has an index of its records. Where those of TFRecord are is kept, 8 bytes each, once the first record is
asked of a shard: its index is read (`--index`), or, without one, the shard as a whole.
"""

import contextlib
import dataclasses
import functools
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from penstock.io.dataset.load.arrays import Arrays, Ragged, ToArrays
from penstock.io.dataset.load.shards.choose import open_reader
from penstock.io.dataset.load.shards.contents import Contents, StoredShard
from penstock.io.dataset.load.shards.files import join, open_stored
from penstock.io.dataset.load.shards.index import find_records
from penstock.io.dataset.load.shards.readers import ArrayRecordReader, ExampleReader
from penstock.io.errors import ConfigError, InputError
from penstock.io.examples.frames import Frames, damaged_records
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES

Row = dict[str, Any]

_BY_NUMBER = frozenset({"tfrecord", "sequence_example", "arrayrecord"})


@dataclasses.dataclass(frozen=True)
class RecordSource:
    """The records of a split by their number, in the order of the shards.

    A record is a dict of numpy values: a scalar, bytes, or for lists an array. Threads may share it; it can be pickled,
    and other processes then find the records of TFRecord shards for themselves.

    Attributes:
      contents: the dataset.
      split: of it.
      rule: how columns become arrays.
    """

    contents: Contents
    split: str
    rule: ToArrays

    def __post_init__(self) -> None:
        if self.contents.format not in _BY_NUMBER:
            raise ConfigError(
                f"{self.contents.directory}: shards of the format {self.contents.format} give no single rows: read "
                "their batches, or write the dataset with --output_format arrayrecord"
            )
        if self.contents.format != "arrayrecord" and self.contents.compression != "none":
            raise ConfigError(
                f"{self.contents.directory}: shards with {self.contents.compression} can only be read from their "
                "beginning: write the dataset with --index, or with --output_format arrayrecord"
            )

    @functools.cached_property
    def _shards(self) -> Sequence["_Records"]:
        reader = open_reader(self.contents, self.rule.schema.names, None)
        assert isinstance(reader, ExampleReader)
        kind = _ArrayRecords if isinstance(reader, ArrayRecordReader) else _TFRecords
        return [kind(reader, shard) for shard in self.contents.shards if shard.split == self.split]

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        counts = [shard.records for shard in self.contents.shards if shard.split == self.split]
        return starts_of(np.array(counts, np.int64))

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    def __len__(self) -> int:
        """Number of records."""
        return self.contents.splits[self.split]

    def __getitem__(self, key: int) -> Row:
        """Reads one record.

        Raises:
          IndexError: for a number that there is not.
          TypeError: for what is no whole number, such as a float, or a mask of bools.
          InputError: for a record that is damaged, or not of the schema.
          DataError: for a shard that is missing or another than the manifest says; for a missing value, if that is an
            error.
        """
        (row,) = self.__getitems__([key])
        return row

    def __getitems__(self, keys: Sequence[int]) -> list[Row]:
        """Reads some records, each shard's at once; in the order of the keys, which may come twice.

        Raises:
          IndexError: as `__getitem__`, and so on.
        """
        found = np.asarray(keys).reshape(-1)
        if len(found) and found.dtype.kind not in "iu":  # a cast would make 1 of 1.9 and of True
            raise TypeError(f"records are asked for by whole numbers, got {found.dtype}: {found[0]!r}")
        wrong = (found < -len(self)) | (found >= len(self))
        if wrong.any():
            raise IndexError(f"there is no record {int(found[wrong][0])}: the split has {len(self)}")
        wanted = found.astype(np.int64)
        wanted = np.where(wanted < 0, wanted + len(self), wanted)
        numbers = np.searchsorted(self._starts, wanted, side="right") - 1
        rows: list[Row] = [{}] * len(wanted)
        for number in np.unique(numbers).tolist():
            places = np.flatnonzero(numbers == number)
            batch = self._shards[number].read(wanted[places] - int(self._starts[number]))
            for place, row in zip(places.tolist(), _rows_of(self.rule(batch), batch.num_rows), strict=True):
                rows[place] = row
        return rows


def _rows_of(arrays: Arrays, count: int) -> list[Row]:
    rows: list[Row] = [{} for _ in range(count)]
    for name, found in arrays.items():
        pieces: Any = found
        if isinstance(found, Ragged) and count:
            pieces = np.split(found.values, found.row_splits[1:-1])
        for row, value in zip(rows, pieces, strict=False):
            row[name] = value
    return rows


class _Records:
    """The records of one shard, by their numbers in it."""

    def __init__(self, reader: ExampleReader, shard: StoredShard):
        self._reader = reader
        self._shard = shard
        self._path = join(reader.directory, shard.path)

    def read(self, numbers: np.ndarray) -> pa.RecordBatch:
        """Reads records, as columns."""
        raise NotImplementedError


class _TFRecords(_Records):
    """Those of TFRecord that is not compressed."""

    def __init__(self, reader: ExampleReader, shard: StoredShard):
        super().__init__(reader, shard)
        self._lock = threading.Lock()
        self._offsets: np.ndarray | None = None

    def read(self, numbers: np.ndarray) -> pa.RecordBatch:
        """Reads the frames, and checks them."""
        offsets = self._found()
        begins, sizes = offsets[numbers], offsets[numbers + 1] - offsets[numbers]
        with open_stored(self._path, self._shard.bytes) as stored:
            pieces = [stored.read_at(size, begin) for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True)]
        starts = starts_of(sizes)[:-1] + HEADER_BYTES
        frames = Frames(b"".join(pieces), starts, sizes - (HEADER_BYTES + FOOTER_BYTES), 0)
        bad = damaged_records(frames)
        if bad.any():
            place = int(begins[bad][0])
            raise InputError(f"{self._path}: the record at byte {place} does not match its CRC; the record is damaged")
        return self._reader.rows(frames, self._path, begins, "byte").batch

    def _found(self) -> np.ndarray:
        """Returns int64[records + 1], where each frame begins, and the last one ends."""
        with self._lock:
            if self._offsets is None:
                self._offsets = find_records(self._reader.directory, self._shard)
            return self._offsets


class _ArrayRecords(_Records):
    """Those of ArrayRecord, whose reader stays open."""

    def __init__(self, reader: ExampleReader, shard: StoredShard):
        super().__init__(reader, shard)
        self._lock = threading.Lock()
        self._opened: Any = None
        self._open = contextlib.ExitStack()
        weakref.finalize(self, self._open.close)

    def read(self, numbers: np.ndarray) -> pa.RecordBatch:
        """Reads the records."""
        assert isinstance(self._reader, ArrayRecordReader)
        with self._lock:
            if self._opened is None:
                self._opened = self._open.enter_context(self._reader.opened(self._shard))
            return self._reader.numbered(self._opened, self._path, numbers).batch
