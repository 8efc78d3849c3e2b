"""From a shard to rows as Arrow columns: one class for each format.

The columns have the same types in every batch. Of tf.Examples they follow from the schema alone: int64, float32 or
binary, a list unless the schema says that a row has exactly one value. Of Parquet and WebDataset they
are those of the files.
"""

import contextlib
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.of_numpy import array_of, flags_of, indices_of
from penstock.io.dataset.load.shards.checked import checked
from penstock.io.dataset.load.shards.contents import StoredShard
from penstock.io.dataset.load.shards.files import join, open_stored, open_unpacked
from penstock.io.dataset.load.shards.ranges import Ranges, rows_of, total_rows
from penstock.io.errors import DataError, InputError
from penstock.io.examples.decode import decode_examples
from penstock.io.examples.frames import Frames, read_frames
from penstock.io.files.folders import local_file
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.schema import Feature

# A block costs some time for each column, whatever its size; two large ones, the one that is taken and the one that is
# read, are not in the caches of a processor.
_BLOCK_BYTES, _COLUMN_BYTES, _MOST_BLOCK_BYTES = 4 << 20, 256 << 10, 16 << 20
_RECORDS_READ = 4096
_ROWS_READ = 1 << 15


class Loss(NamedTuple):
    """Rows that could not be read: how many, and why."""

    rows: int
    reason: str


class Rows(NamedTuple):
    """Some rows that were asked for.

    Attributes:
      batch: those that could be read, in order.
      at: int64, which of the rows that were asked for these are.
    """

    batch: pa.RecordBatch
    at: np.ndarray


@dataclasses.dataclass(frozen=True)
class Block:
    """Neighbouring records of a shard.

    Attributes:
      first: number of the first record in the shard.
      records: how many there are.
      take: reads the records of these int64 numbers in the block, ascending.
    """

    first: int
    records: int
    take: Callable[[np.ndarray], Rows]


@dataclasses.dataclass(frozen=True)
class ShardReader(ABC):
    """Reads the shards of a dataset.

    Attributes:
      directory: the dataset.
      schema: the columns, as all batches have them.
      lost: is given rows that cannot be read; None where they are an error.
    """

    directory: str
    schema: pa.Schema
    lost: Callable[[Loss], None] | None

    @abstractmethod
    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Yields the blocks that have wanted rows, in order, and perhaps others.

        Args:
          shard: the shard.
          wanted: row numbers in it, ascending.
          fitting: how many of so many next wanted rows end where a batch does, so that it need not be put together.

        Raises:
          InputError: when the shard is damaged.
          DataError: when it is missing, or has another size or number of records than the manifest says.
        """

    def nothing(self, rows: int) -> pa.RecordBatch:
        """Returns rows without values."""
        return pa.RecordBatch.from_arrays([pa.nulls(rows, field.type) for field in self.schema], schema=self.schema)

    def losing(self, first: int, records: int, reason: str) -> Block:
        """Returns the block of records that cannot be read, which are lost where somebody takes them."""

        def take(rows: np.ndarray) -> Rows:
            if self.lost is not None:
                self.lost(Loss(len(rows), reason))
            return Rows(self.nothing(0), rows[:0])

        return Block(first, records, take)

    def keep_good(self, batch: pa.RecordBatch, faults: dict[int, str], at: np.ndarray) -> Rows:
        """Returns rows without those that have a fault.

        Raises:
          InputError: with the first fault, where rows must not be lost.
        """
        if not faults:
            return Rows(batch, at)
        if self.lost is None:
            raise InputError(faults[min(faults)])
        for row in sorted(faults):
            self.lost(Loss(1, faults[row]))
        good = np.ones(batch.num_rows, bool)
        good[list(faults)] = False
        return Rows(batch.filter(flags_of(good)), at[good])


@dataclasses.dataclass(frozen=True)
class ExampleReader(ShardReader):
    """Shards of tf.Example and tf.SequenceExample in TFRecord.

    Attributes:
      features: of the columns.
      strict: whether a record must have no other feature.
      is_sequence: whether records are tf.SequenceExamples.
    """

    features: Sequence[Feature]
    strict: bool
    is_sequence: bool = False

    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Reads frames one after the other, up to the last row that is wanted; checks the CRC of each that is taken."""
        path, last, first = join(self.directory, shard.path), int(wanted[-1, 1]), 0

        def cut(frames: int) -> int:
            low, high = wanted[0, 0], wanted[-1, 1]
            if len(wanted) > 1 or first + frames >= high:
                return frames
            rows = int(first + frames - max(first, low))
            return frames - (rows - fitting(rows)) if rows > 0 else frames

        block_bytes = min(_BLOCK_BYTES + _COLUMN_BYTES * len(self.features), _MOST_BLOCK_BYTES)
        with open_unpacked(path, shard.bytes) as stream:
            for frames in read_frames(stream, path, block_bytes, check_data=False, in_place=True, cut=cut):
                if first + len(frames) > shard.records:
                    raise wrong_count(path, shard, "more")
                yield Block(first, len(frames), self._taker(frames, path, lambda frames: frames.offsets, "byte", True))
                first += len(frames)
                if first >= last and last < shard.records:
                    return
        if first < shard.records:
            raise wrong_count(path, shard, f"{first}")

    def rows(self, frames: Frames, path: str, positions: np.ndarray, unit: str) -> Rows:
        """Decodes records; messages have their positions, int64, in a unit.

        Raises:
          InputError: for a record that is not of the schema, where rows must not be lost.
        """
        return self._taker(frames, path, lambda _: positions, unit, False)(np.arange(len(frames)))

    def _taker(
        self, frames: Frames, path: str, positions: Callable[[Frames], np.ndarray], unit: str, are_read: bool
    ) -> Callable[[np.ndarray], Rows]:
        """Returns what decodes some of the records, once: of frames that are as they were read, with their CRCs."""

        def take(rows: np.ndarray) -> Rows:
            chosen = frames if len(rows) == len(frames) else frames.select(rows)
            batch, faults = self._decoded(chosen, are_read)
            told = {}
            if faults:
                places = positions(frames)[rows]
                told = {row: f"{path}: the record at {unit} {places[row]}: {fault}" for row, fault in faults.items()}
            return self.keep_good(batch, told, np.arange(len(rows)))

        return take

    def _decoded(self, frames: Frames, are_read: bool) -> tuple[pa.RecordBatch, dict[int, str]]:
        """Returns the columns of records, and what is wrong with some of them, by row."""
        decoded = decode_examples(
            frames, self.features, self.strict, self.is_sequence, has_crcs=are_read, in_place=are_read
        )
        faults = {row: reasons[0].detail for row, reasons in decoded.rejects.items()}
        if decoded.batch.schema.equals(self.schema):
            return decoded.batch, faults
        columns = [
            column if column.type == field.type else _fitted(column, field, faults)
            for column, field in zip(decoded.batch.columns, self.schema, strict=True)
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema), faults


def _fitted(column: pa.Array, field: pa.Field, faults: dict[int, str]) -> pa.Array:
    """Returns a column as the schema has it; where it has not, the row gets a fault."""
    is_list = pa.types.is_list(column.type)
    item = column.type.value_type if is_list else column.type
    wanted = field.type.value_type if pa.types.is_list(field.type) else field.type
    if item != wanted:
        for row in np.flatnonzero(np.array(column.is_valid().to_pylist())).tolist():
            faults.setdefault(row, f"column {field.name!r}: has values of another kind in other records")
        return pa.nulls(len(column), field.type)
    counts = pc.fill_null(pc.list_value_length(column), 1).to_numpy()
    for row in np.flatnonzero(counts != 1).tolist():
        detail = f"column {field.name!r}: has {counts[row]} values, and the schema says one in each row"
        faults.setdefault(row, detail)
    firsts = np.asarray(column.offsets)[:-1].astype(np.int64)
    missing = ~np.asarray(column.is_valid()) | (counts != 1)
    return column.values.take(indices_of(np.where(missing, 0, firsts), missing))


@dataclasses.dataclass(frozen=True)
class ArrayRecordReader(ExampleReader):
    """Shards of tf.Example in ArrayRecord, which reads any record by its number; its checksums are its own."""

    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Yields blocks that are read only as far as they are wanted."""
        path = join(self.directory, shard.path)
        with self.opened(shard) as reader:
            for first in range(0, shard.records, _RECORDS_READ):
                records = min(_RECORDS_READ, shard.records - first)
                yield Block(first, records, self._reading(reader, path, first))

    @contextlib.contextmanager
    def opened(self, shard: StoredShard) -> Iterator[Any]:
        """Opens a shard with the reader of `array_record`; one of a store is copied to this machine.

        Raises:
          InputError: when it is damaged.
          DataError: as `blocks`.
        """
        from array_record.python.array_record_module import ArrayRecordReader as Reader

        path = join(self.directory, shard.path)
        with open_stored(path, shard.bytes), local_file(path, shard.bytes) as local:
            try:
                # By default, it reads 16 MB ahead in as many threads as there are cores.
                reader = Reader(local, "readahead_buffer_size:0,max_parallelism:0")
                if not reader.ok():  # such as with a damaged footer: it seems to have no records
                    reader.close()  # raises the error
                found = reader.num_records()
            except (RuntimeError, ValueError, IndexError) as error:
                raise InputError(f"{path}: not an ArrayRecord file, or it is damaged: {error}") from error
            with contextlib.closing(reader):
                if found != shard.records:
                    raise wrong_count(path, shard, f"{found}")
                yield reader

    def _reading(self, reader: Any, path: str, first: int) -> Callable[[np.ndarray], Rows]:
        return lambda rows: self.numbered(reader, path, rows + first)

    def numbered(self, reader: Any, path: str, numbers: np.ndarray) -> Rows:
        """Reads records of a shard that is open by their numbers, int64.

        Raises:
          InputError: for a record that is damaged or not of the schema, where rows must not be lost.
        """
        records, faults = self._records(reader, path, numbers)
        at = np.arange(len(numbers))
        if faults:
            at = self.keep_good(self.nothing(len(numbers)), faults, at).at
            numbers, records = numbers[at], [records[index] for index in at.tolist()]
        lengths = np.fromiter(map(len, records), np.int64, len(records))
        frames = Frames(b"".join(records), starts_of(lengths)[:-1], lengths, 0)
        found = self.rows(frames, path, numbers, "number")
        return Rows(found.batch, at[found.at])

    def _records(self, reader: Any, path: str, numbers: np.ndarray) -> tuple[list[bytes], dict[int, str]]:
        """Reads records, and if some cannot be read, one by one; returns them, and what is wrong with some."""
        try:
            return list(reader.read(numbers.tolist())), {}
        except (RuntimeError, ValueError, IndexError):
            pass
        records, faults = [], {}
        for index, number in enumerate(numbers.tolist()):
            try:
                records += reader.read([number])
            except (RuntimeError, ValueError, IndexError) as error:
                records.append(b"")
                faults[index] = f"{path}: the record at number {number} is damaged: {' '.join(str(error).split())}"
        return records, faults


@dataclasses.dataclass(frozen=True)
class ParquetReader(ShardReader):
    """Shards of Parquet, whose pages have checksums; headers of pages and the footer have none.

    So a shard that is read as a whole is checked as a whole before, and lost as a whole. Of another one, what is
    damaged is lost from its first page to the end of its row group.

    Attributes:
      all_columns: whether those of the schema are all that were asked for.
    """

    all_columns: bool

    def blocks(self, shard: StoredShard, wanted: Ranges, fitting: Callable[[int], int]) -> Iterator[Block]:
        """Reads the row groups that have wanted rows, and checks the checksums of their pages."""
        import pyarrow.parquet as pq

        path = join(self.directory, shard.path)
        with contextlib.ExitStack() as stack:
            is_whole = self.all_columns and total_rows(wanted) == shard.records
            local = stack.enter_context(checked(path, shard)) if is_whole else path
            stored = stack.enter_context(open_stored(local, shard.bytes))
            try:
                file = pq.ParquetFile(stored, page_checksum_verification=True)
            except (pa.ArrowException, OSError) as error:
                raise InputError(f"{path}: not a Parquet shard, or it is damaged: {error}") from error
            if file.metadata.num_rows != shard.records:
                raise wrong_count(path, shard, f"{file.metadata.num_rows}")
            first = 0
            for group in range(file.metadata.num_row_groups):
                records = file.metadata.row_group(group).num_rows
                if ((wanted[:, 0] < first + records) & (wanted[:, 1] > first)).any():
                    yield from self._group(file, group, first, records, path)
                first += records

    def _group(self, file: Any, group: int, first: int, records: int, path: str) -> Iterator[Block]:
        end = first + records
        try:
            read = file.iter_batches(_ROWS_READ, [group], self.schema.names, use_threads=False)
            for batch in read:
                yield Block(first, batch.num_rows, self._taker(batch, path))
                first += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            reason = (
                f"{path}: the row group of rows {end - records} to {end} is damaged at row {first}, or behind: {error}"
            )
            if self.lost is None:
                raise InputError(reason) from error
            yield self.losing(first, end - first, reason)

    def _taker(self, batch: pa.RecordBatch, path: str) -> Callable[[np.ndarray], Rows]:
        def take(rows: np.ndarray) -> Rows:
            found = batch.select(self.schema.names)
            if not found.schema.equals(self.schema):
                raise InputError(f"{path}: has other columns than the first shard; see penstock verify")
            if len(rows) < batch.num_rows:
                found = found.take(array_of(rows))
            return Rows(found.replace_schema_metadata(None), np.arange(len(rows)))

        return take


def wrong_count(path: str, shard: StoredShard, found: str) -> DataError:
    """Returns the error for a shard of another number of records than its manifest says."""
    return DataError(
        f"{path}: must have {shard.records} records, as the manifest says, found {found}; see penstock verify"
    )


def asked(block: Block, wanted: Ranges) -> np.ndarray:
    """Returns int64, the wanted rows that a block has, as numbers in it."""
    if len(wanted) == 1:
        low, high = wanted[0].tolist()
        return np.arange(max(low - block.first, 0), min(high - block.first, block.records))
    clipped = np.clip(wanted, block.first, block.first + block.records) - block.first
    return rows_of(clipped[clipped[:, 0] < clipped[:, 1]])
