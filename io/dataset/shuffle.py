"""The shuffle of the sink: turns records into sorted shards.

A split is sorted by (key, bytes of the record), and a shard is a range of keys. `SpillingShuffle` spills sorted runs to
a disk that all workers share, and passes only references between stages. `RunnerShuffle` uses the runner's own shuffle:
it groups sorted chunks by shard, and the writer of a shard spills them on its worker. Both write the same bytes.
"""

import contextlib
import dataclasses
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import in_global_window
from penstock.io.beam import progress
from penstock.io.beam.stable_input import tries_once
from penstock.io.dataset.layout import Staging, part_name
from penstock.io.dataset.manifest import Shard
from penstock.io.dataset.shard import IndexPlace, write_shard
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.files import stores
from penstock.io.files.paths import is_local
from penstock.io.files.temporary import process_folder, spill_base, temporary_folder
from penstock.io.sort.merge import KEYS_END, MergedRuns, merge_batches
from penstock.io.sort.records import EncodedRecords, Keys, MakePacking, sort_records
from penstock.io.sort.runs import MAX_RUN_BYTES, ORDERED_BUFFER_BYTES, Run, RunWriter

# The most bytes that one element carries through the runner's own shuffle.
_MAX_CHUNK_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """How the splits of a dataset are cut into shards."""

    spec: DatasetSpec

    def count(self, split_bytes: int) -> int:
        """Returns the number of shards of a split of `split_bytes` bytes; at least one."""
        return self.spec.num_shards or max(1, -(-split_bytes // self.spec.shard_bytes))

    def bounds(self, total: int, merged: MergedRuns) -> list[int]:
        """Returns the keys at which the shards of a split begin, and the end: `total` + 1 keys, ascending.

        If keys are hashes, shards are equal ranges of hashes: a hash alone determines its shard. If keys are positions
        in the input, shards are equal numbers of rows.
        """
        if self.spec.shuffle == "global":
            return [hash_bound(index, total) for index in range(total + 1)]
        rows = merged.count_below(KEYS_END)
        return [0, *(merged.key_at(rows * index // total) for index in range(1, total)), KEYS_END]


def hash_bound(index: int, total: int) -> int:
    """Returns the least key of shard `index` of `total`: shards are equal ranges of 64-bit hashes.

    >>> hash_bound(1, 2) == 2**63
    True
    """
    return -(-(index << 64) // total)


def shards_of(keys: Keys, total: int) -> npt.NDArray[np.int64]:
    """Returns int64, the shard of each key under `hash_bound`."""
    bounds = np.array([hash_bound(index, total) for index in range(1, total)], np.uint64)
    return np.searchsorted(bounds, keys, side="right")


@dataclasses.dataclass(frozen=True)
class _ShardRange:
    """A shard to write: its split, index and range of keys."""

    split: str
    index: int
    total: int
    low: int
    high: int


@dataclasses.dataclass(eq=False)
class SpillingShuffle(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Shard]]):
    """Makes shards by way of runs on a disk that all workers share."""

    staging: Staging
    spec: DatasetSpec

    @property
    def make_packing(self) -> MakePacking | None:
        """What makes records of the packed ones that the encoder is to give; None if it is to give them whole.

        In the order of the input they are: the bytes of runs are copied to shards as they are.
        """
        shard_format = self.spec.shard_format()
        return shard_format.packing if self.spec.shuffle == "global" and shard_format.packs else None

    def expand(self, records: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Shard]:
        """Spills runs, plans shards, merges."""
        buffer_bytes = ORDERED_BUFFER_BYTES if self.spec.shuffle == "none" else MAX_RUN_BYTES
        directory = spill_directory(self.staging)
        spill = _SpillFn(directory, self.spec.splits, buffer_bytes, self.make_packing)
        runs = records | "Spill" >> beam.ParDo(spill).with_output_types(Run)
        plan = beam.FlatMap(_plan_shards, beam.pvalue.AsList(runs), ShardPlan(self.spec))
        ranges = (
            records.pipeline
            | "Splits" >> beam.Create(self.spec.splits, reshuffle=False)
            | "PlanShards" >> plan.with_output_types(_ShardRange)
            | "SpreadShards" >> beam.Reshuffle()
        )
        write = _MergeFn(self.staging, self.spec, directory, tries_once(records.pipeline), self.make_packing)
        return ranges | "Merge" >> beam.ParDo(write, beam.pvalue.AsList(runs)).with_output_types(Shard)


def spill_directory(staging: Staging) -> str:
    """Returns the folder for runs, which the process that builds the pipeline chooses.

    It is in the staging folder if that is local and `spilling_to` names no other, else with the temporary files of this
    process.
    """
    if is_local(staging.output) and spill_base() is None:
        return staging.path("runs")
    return os.path.join(process_folder(), staging.run_id)


class _SpillFn(beam.DoFn):
    def __init__(self, directory: str, splits: Sequence[str], buffer_bytes: int, make_packing: MakePacking | None):
        self._directory = directory
        self._splits = splits
        self._buffer_bytes = buffer_bytes
        self._make_packing = make_packing

    def start_bundle(self) -> None:
        self._writer = RunWriter(self._directory, self._splits, self._buffer_bytes, make_packing=self._make_packing)

    def process(self, batch: pa.RecordBatch) -> Iterator[Run]:
        yield from self._writer.add(batch)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for run in self._writer.flush():
            yield in_global_window(run)
        del self._writer  # and with it its buffer


def _plan_shards(split: str, runs: Sequence[Run], plan: ShardPlan) -> Iterator[_ShardRange]:
    own = [run for run in runs if run.split == split]
    size = sum(run.unpacked_bytes for run in own)
    total = plan.count(size)
    progress.plan(written=size, shards=total)
    bounds = plan.bounds(total, MergedRuns(own))
    for index in range(total):
        yield _ShardRange(split, index, total, bounds[index], bounds[index + 1])


class _WriteShardFn(beam.DoFn):
    """Writes shards. Those of an object store are under way side by side, and told of at the end of their bundle."""

    def __init__(self, staging: Staging, spec: DatasetSpec):
        self._staging = staging
        self._spec = spec
        self.start_bundle()

    def start_bundle(self) -> None:
        self._uploads, self._uploaded = stores.Uploads(), list[Shard]()

    def _write(self, path: str, split: str, merged: MergedRuns, low: int = 0, high: int = KEYS_END) -> Iterator[Shard]:
        staged, shard_format = self._staging.path(*path.split("/")), self._spec.shard_format()
        index = IndexPlace.of(self._staging, path) if self._spec.index else None
        try:
            shard = write_shard(staged, path, split, shard_format, merged, low, high, self._uploads, index)
        except BaseException:
            self._uploads.give_up()
            raise
        if stores.is_object(staged):
            self._uploaded.append(shard)
        else:
            yield shard

    def finish_bundle(self) -> Iterator[WindowedValue]:
        try:
            self._uploads.wait()
        except BaseException:
            self._uploads.give_up()
            raise
        yield from map(in_global_window, self._uploaded)
        self._uploaded = []


class _MergeFn(_WriteShardFn):
    def __init__(
        self,
        staging: Staging,
        spec: DatasetSpec,
        directory: str,
        once: bool,
        make_packing: MakePacking | None = None,
    ):
        super().__init__(staging, spec)
        self._directory = directory
        self._make_packing = make_packing
        # Distinguishes this pipeline from one that repeats a run; None if bundles may be retried.
        self._pipeline_id = uuid.uuid4().hex if once else None

    def process(self, shard: _ShardRange, runs: Sequence[Run]) -> Iterator[Shard]:
        own = [run for run in runs if run.split == shard.split]
        merged = MergedRuns(own, once=self._pipeline_id is not None, make_packing=self._make_packing)
        path = f"{shard.split}/{part_name(shard.index, shard.total, self._spec.suffix)}"
        self._begin(path)
        yield from self._write(path, shard.split, merged, shard.low, shard.high)

    def _begin(self, path: str) -> None:
        """Fails if the shard was begun before: the records that it took from the runs are gone."""
        if self._pipeline_id is None:
            return
        begun = os.path.join(self._directory, f"{path.replace('/', '-')}-{self._pipeline_id}.begun")
        os.makedirs(os.path.dirname(begun), exist_ok=True)
        try:
            open(begun, "x").close()
        except FileExistsError:
            raise RuntimeError(f"{path}: was begun before, and its records are gone; run the job again") from None


@dataclasses.dataclass(eq=False)
class RunnerShuffle(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Shard]]):
    """Makes shards by way of the runner's own shuffle: chunks of records, keyed by split and shard."""

    staging: Staging
    spec: DatasetSpec

    @property
    def make_packing(self) -> MakePacking | None:
        """None: records come whole, since chunks go to machines that know no layouts."""
        return None

    def expand(self, records: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Shard]:
        """Counts bytes, keys chunks by shard, groups, merges."""
        splits, plan = self.spec.splits, ShardPlan(self.spec)
        counts = self._bytes_per_split(records)
        chunks = records | "Chunk" >> beam.ParDo(_ChunkFn(splits, plan), counts).with_output_types(
            tuple[tuple[str, int], bytes]
        )
        all_shards = (
            records.pipeline
            | "Splits" >> beam.Create(splits, reshuffle=False)
            | "EveryShard" >> beam.FlatMap(_every_shard, counts, plan).with_output_types(tuple[tuple[str, int], bytes])
        )
        write = beam.ParDo(_WriteChunksFn(self.staging, self.spec), counts)
        return (
            (chunks, all_shards)
            | "Flatten" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Write" >> write.with_output_types(Shard)
        )

    def _bytes_per_split(self, records: beam.PCollection[pa.RecordBatch]) -> Any:
        """Returns a side input; empty if the number of shards is given, since it would delay the records."""
        if self.spec.num_shards is not None:
            return {}
        sizes = records | "CountBytes" >> beam.FlatMap(_bytes_by_split, self.spec.splits).with_output_types(
            tuple[str, int]
        )
        return beam.pvalue.AsDict(sizes | "SumBytes" >> beam.CombinePerKey(sum))


def _bytes_by_split(batch: pa.RecordBatch, splits: Sequence[str]) -> Iterator[tuple[str, int]]:
    records = EncodedRecords.of(batch)
    for split in np.unique(records.splits):
        yield splits[split], int(np.diff(records.offsets)[records.splits == split].sum())


class _ChunkFn(beam.DoFn):
    """Buffers records, and yields them sorted by shard, in chunks small enough for a runner to move."""

    def __init__(self, splits: Sequence[str], plan: ShardPlan):
        self._splits = splits
        self._plan = plan

    def start_bundle(self) -> None:
        self._buffer: list[pa.RecordBatch] = []
        self._counts: Mapping[str, int] = {}
        self._bytes = 0

    def process(self, batch: pa.RecordBatch, counts: Mapping[str, int]) -> Iterator[Any]:
        self._buffer.append(batch)
        self._counts = counts
        self._bytes += EncodedRecords.of(batch).nbytes
        if self._bytes >= MAX_RUN_BYTES:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(in_global_window, self._flush())

    def _flush(self) -> Iterator[tuple[tuple[str, int], bytes]]:
        if not self._buffer:
            return
        batch = sort_records(pa.concat_batches(self._buffer))
        self._buffer, self._bytes = [], 0
        records = EncodedRecords.of(batch)
        for number, first, last in records.by_split():
            split = self._splits[number]
            shards = shards_of(records.keys[first:last], self._plan.count(self._counts.get(split, 0)))
            # The records are sorted, so each shard is one stretch of them.
            starts = np.flatnonzero(np.diff(shards, prepend=-1))
            for start, end in itertools.pairwise([*starts.tolist(), last - first]):
                for chunk in _chunks(batch.slice(first + start, end - start)):
                    yield (split, int(shards[start])), _to_ipc(chunk)


def _chunks(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, len(batch) * _MAX_CHUNK_BYTES // max(EncodedRecords.of(batch).nbytes, 1))
    for start in range(0, len(batch), rows):
        yield batch.slice(start, rows)


def _to_ipc(records: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, records.schema) as writer:
        writer.write_batch(records)
    return sink.getvalue().to_pybytes()


def _every_shard(split: str, counts: Mapping[str, int], plan: ShardPlan) -> Iterator[tuple[tuple[str, int], bytes]]:
    """Yields an empty chunk for each shard, so that shards without records are written as well."""
    total = plan.count(counts.get(split, 0))
    progress.plan(shards=total)
    for index in range(total):
        yield (split, index), b""


class _WriteChunksFn(_WriteShardFn):
    def process(self, item: tuple[tuple[str, int], Iterable[bytes]], counts: Mapping[str, int]) -> Iterator[Shard]:
        (split, index), chunks = item
        total = ShardPlan(self._spec).count(counts.get(split, 0))
        path = f"{split}/{part_name(index, total, self._spec.suffix)}"
        with merged_batches(map(_from_ipc, filter(None, chunks)), self._spec.splits) as merged:
            yield from self._write(path, split, merged)


@contextlib.contextmanager
def merged_batches(batches: Iterable[pa.RecordBatch], splits: Sequence[str]) -> Iterator[MergedRuns]:
    """Merges batches of `RECORDS`, in any order, into one sorted sequence, by way of runs on this machine's disk."""
    with temporary_folder() as directory:
        yield merge_batches(batches, directory, splits, once=True)


def _from_ipc(chunk: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(chunk) as reader:
        return reader.read_next_batch()
