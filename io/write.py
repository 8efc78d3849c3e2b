"""The sink: RecordBatches to shuffled TFRecord shards of tf.Example, published with a manifest.

::

    batches -> encode, sort, spill runs -> plan shards -> merge a key range into each shard -> publish

Every record has a 64-bit key, and a split is sorted by (key, bytes of the record): with the global shuffle the key is a
seeded hash of the row and a shard is a range of hashes; with `shuffle="none"` it is the row's place in the input and a
shard is a range of rows. Either way a record's shard and place follow from the content alone.

On a local runner the records never leave the disk between encoding and shard: runs are spilled, and only references
to them cross stages. Elsewhere (`spill=False`) sorted chunks go through the runner's own shuffle, by shard, and the
writer of a shard spills them on its worker: the bytes are the same.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args

import apache_beam as beam
import google_crc32c
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindow, GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import EVENT_TIME, SHUFFLE_KEY, SPLIT, drop_rows
from penstock.io.dead_letters import (
    REJECTED,
    DeadLetter,
    DeadLetterFile,
    DeadLetterHandler,
    RejectingTransform,
    row_letters,
    split_rejected,
)
from penstock.io.errors import ConfigError, DataError
from penstock.io.examples import try_encode_examples
from penstock.io.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.layout import (
    DEAD_LETTERS,
    SUFFIXES,
    TRANSFORM,
    Shard,
    Staging,
    check_output,
    new_run_id,
    part_name,
)
from penstock.io.publish import Outcome, Publisher
from penstock.io.ragged import without_views
from penstock.io.runs import KEYS_END, MAX_RUN_BYTES, MergedRuns, Run, RunWriter, content, records_batch, sort_records

Compression = Literal["gzip", "zlib", "none"]
Shuffle = Literal["global", "none"]

DEFAULT_SHARD_BYTES = 128 << 20

# Half the time of zlib's default level for an eighth more bytes, measured on tf.Examples of a table of 12 columns.
_ZLIB_LEVEL = 3
_WINDOW_BITS = {"gzip": 31, "zlib": 15}

# A split is a folder; these are the other folders of a dataset.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OTHER_FOLDERS = frozenset({DEAD_LETTERS, TRANSFORM, "statistics", "windows"})

# What one element carries through the runner's own shuffle.
_MAX_CHUNK_BYTES = 4 << 20


@dataclasses.dataclass(frozen=True)
class ShardPlan:
    """How a split is cut into shards.

    Attributes:
      num_shards: of each split; None goes by bytes.
      shard_bytes: aimed uncompressed bytes of a shard.
      shuffle: what the keys mean.
    """

    num_shards: int | None
    shard_bytes: int
    shuffle: Shuffle

    def count(self, split_bytes: int) -> int:
        """Number of shards of a split with so many bytes; at least one."""
        return self.num_shards or max(1, -(-split_bytes // self.shard_bytes))

    def bounds(self, total: int, merged: MergedRuns) -> list[int]:
        """The keys at which the shards of a split begin, and the end: `total` + 1 keys, ascending.

        Hashes are cut evenly, so that a shard is known from the hash alone; places in the input are cut by rank.
        """
        if self.shuffle == "global":
            return [hash_bound(index, total) for index in range(total + 1)]
        rows = merged.count_below(KEYS_END)
        return [0, *(merged.key_at(rows * index // total) for index in range(1, total)), KEYS_END]


def hash_bound(index: int, total: int) -> int:
    """The least key of shard `index` of `total`: shards are equal ranges of 64-bit hashes.

    >>> hash_bound(1, 2) == 2**63
    True
    """
    return -(-(index << 64) // total)


def shards_of(keys: npt.NDArray[np.uint64], total: int) -> npt.NDArray[np.int64]:
    """int64, the shard of each key under `hash_bound`."""
    bounds = np.array([hash_bound(index, total) for index in range(1, total)], np.uint64)
    return np.searchsorted(bounds, keys, side="right")


@dataclasses.dataclass(eq=False)
class WriteDataset(RejectingTransform):
    """Writes a dataset: a folder of TFRecord shards per split, and a manifest, published as a whole.

    Takes a bounded `PCollection[pyarrow.RecordBatch]` in the global window; gives a `PCollection[Outcome]` of one
    element. Rows are split by `_split`, ordered by `_shuffle_key` (computed from the row where there is none), rejected
    (`write.*`) where a value has no faithful form in a tf.Example.

    Attributes:
      output: the folder, on any filesystem that Beam knows.
      num_shards: shards of each split; None goes by `shard_bytes`.
      shard_bytes: aimed uncompressed bytes of a shard.
      compression: gzip, zlib or none.
      shuffle: global, or none for the order of the input (needs `ReadRecords(..., order_key=True)`).
      seed: of the shuffle, where the rows have no `_shuffle_key` yet.
      splits: all splits; one without rows still gets a shard.
      overwrite: replace the dataset that is there.
      max_reject_fraction: publish nothing when more than this part of the rows was rejected.
      dead_letters: the handler of all transforms of the pipeline, this one's too; it is closed here, and its files are
        published. Without it, a row that cannot be written fails the pipeline, or goes to `with_error_handler` and
        into the dead letters of the dataset.
      rows_in: rows that the source gave, in any number of parts (`CountRows`); by default those that come in here.
      run_id: names the staging folder. Who gives it reads `read_outcome` when the pipeline is done; without it, a run
        that publishes nothing (no rows, too many rejects) fails the pipeline.
      spill: spill to this machine's disk between the stages: for runners whose workers share it.
      extras: relative paths of files and folders that were staged (`Staging`) and belong to the dataset.
      provenance: JSON values for the manifest.

    Raises:
      ConfigError: for options out of range, or an output that cannot take a dataset.
    """

    output: str
    num_shards: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    compression: Compression = "gzip"
    shuffle: Shuffle = "global"
    seed: int = 0
    splits: Sequence[str] = ("train",)
    overwrite: bool = False
    max_reject_fraction: float = 0.05
    dead_letters: DeadLetterHandler | None = None
    rows_in: beam.PCollection[int] | None = None
    run_id: str | None = None
    spill: bool = True
    extras: Sequence[str] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_shards is not None and self.num_shards < 1:
            raise ConfigError(f"num_shards must be >= 1, got {self.num_shards}")
        if self.shard_bytes < 1:
            raise ConfigError(f"shard_bytes must be >= 1, got {self.shard_bytes}")
        if self.compression not in get_args(Compression):
            raise ConfigError(
                f"compression must be one of {', '.join(get_args(Compression))}, got {self.compression!r}"
            )
        if self.shuffle not in get_args(Shuffle):
            raise ConfigError(f"shuffle must be one of {', '.join(get_args(Shuffle))}, got {self.shuffle!r}")
        if not self.splits or len(set(self.splits)) != len(self.splits):
            raise ConfigError(f"splits must be different names, at least one, got {list(self.splits)}")
        for split in self.splits:
            if not _SPLIT_NAME.fullmatch(split) or split in _OTHER_FOLDERS:
                raise ConfigError(
                    f"a split must be named with letters, digits, '_', '-' and '.', and not like another folder of a "
                    f"dataset ({', '.join(sorted(_OTHER_FOLDERS))}), got {split!r}"
                )
        if self.shuffle == "none" and not self.spill:
            raise ConfigError("shuffle 'none' works only where all workers share a disk (spill), got spill=False")
        if not 0 <= self.max_reject_fraction <= 1:
            raise ConfigError(f"max_reject_fraction must be from 0 to 1, got {self.max_reject_fraction}")
        if self.dead_letters is not None:
            self.with_error_handler(self.dead_letters)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Outcome]:
        """Encode, shuffle, write shards, publish."""
        _check_one_window(batches)
        staging = Staging(self.output, self.run_id or new_run_id())
        check_output(self.output, self.overwrite, staging.run_id)
        rows_in = self.rows_in if self.rows_in is not None else batches | "CountRows" >> CountRows()
        shuffle = _SpillingShuffle if self.spill else _RunnerShuffle
        handler = self._handler(staging)
        records = self._encode(batches, handler)
        plan = ShardPlan(self.num_shards, self.shard_bytes, self.shuffle)
        shards = records | "WriteShards" >> shuffle(staging, tuple(self.splits), plan, self.compression)
        return self._publish(staging, shards, handler, rows_in)

    def _handler(self, staging: Staging) -> DeadLetterHandler | None:
        """The handler whose files are published: what another one is given must be accounted for as well."""
        if self.dead_letters is None and self._error_handler is not None:
            return DeadLetterHandler(staging.dead_letters, staging.run_id)
        return self.dead_letters

    def _encode(
        self, batches: beam.PCollection[pa.RecordBatch], handler: DeadLetterHandler | None
    ) -> beam.PCollection[tuple[str, pa.RecordBatch]]:
        encode = beam.ParDo(_EncodeFn(tuple(self.splits), self.shuffle, self.seed))
        encode = encode.with_output_types(tuple[str, pa.RecordBatch])
        records, rejected = split_rejected(batches | "Encode" >> encode.with_outputs(REJECTED, main="out"))
        rejected.element_type = DeadLetter
        self._reject(rejected)
        if handler is not None and handler is not self._error_handler:
            handler.add_error_pcollection(rejected)
        return records

    def _publish(
        self,
        staging: Staging,
        shards: beam.PCollection[Shard],
        handler: DeadLetterHandler | None,
        rows_in: beam.PCollection[int],
    ) -> beam.PCollection[Outcome]:
        publisher = Publisher(
            staging=staging,
            splits=tuple(self.splits),
            max_reject_fraction=self.max_reject_fraction,
            overwrite=self.overwrite,
            compression=self.compression,
            shuffle=self.shuffle,
            seed=self.seed,
            extras=tuple(self.extras),
            provenance=self.provenance,
        )
        once = shards.pipeline | "Once" >> beam.Create([None], reshuffle=False)
        publish = beam.ParDo(
            _PublishFn(publisher, must_publish=self.run_id is None),
            beam.pvalue.AsList(shards),
            beam.pvalue.AsList(_rejects(once, handler)),
            beam.pvalue.AsList(rows_in),
        )
        return once | "Publish" >> publish.with_output_types(Outcome)


def _check_one_window(batches: beam.PCollection[pa.RecordBatch]) -> None:
    windows = batches.windowing.windowfn
    if not batches.is_bounded:
        raise ConfigError("WriteDataset needs bounded input, got an unbounded PCollection")
    if not isinstance(windows, GlobalWindows):
        raise ConfigError(
            f"WriteDataset writes one dataset from the global window, got {type(windows).__name__}; "
            "apply WindowInto(GlobalWindows()) before it"
        )


def _rejects(once: beam.PCollection[None], handler: DeadLetterHandler | None) -> beam.PCollection[DeadLetterFile]:
    if handler is None:
        return once | "NoDeadLetters" >> beam.FlatMap(_nothing).with_output_types(DeadLetterFile)
    handler.close()
    return handler.output()


def _nothing(_: None) -> Iterable[DeadLetterFile]:
    return ()


class CountRows(beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[int]]):
    """Counts rows of batches: a `PCollection[int]` with one number for each bundle."""

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[int]:
        """One step."""
        return batches | "Count" >> beam.ParDo(_CountRowsFn()).with_output_types(int)


class _CountRowsFn(beam.DoFn):
    def start_bundle(self) -> None:
        self._rows = 0

    def process(self, batch: pa.RecordBatch) -> None:
        self._rows += batch.num_rows

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield _globally(self._rows)


def _globally(value: Any) -> WindowedValue:
    return WindowedValue(value, GlobalWindow().max_timestamp(), (GlobalWindow(),))


class _EncodeFn(beam.DoFn):
    """Batches to (split, records of `RECORDS`); rows that cannot be written are rejected."""

    def __init__(self, splits: tuple[str, ...], shuffle: Shuffle, seed: int):
        self._splits = splits
        self._shuffle = shuffle
        self._hash_seed = salted(seed, SHUFFLE_SALT)
        self._in_rows = Metrics.counter("WriteDataset", "in-rows")
        self._bad_rows = Metrics.counter("WriteDataset", "bad-rows")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        batch = without_views(batch)
        encoded, faults = try_encode_examples(batch)
        self._in_rows.inc(batch.num_rows)
        if faults:
            self._bad_rows.inc(len(faults))
            for letter in row_letters(batch, faults, "write"):
                yield beam.pvalue.TaggedOutput(REJECTED, letter)
            batch = drop_rows(batch, faults)
        times = batch.column(EVENT_TIME) if EVENT_TIME in batch.schema.names else None
        records = records_batch(encoded.data, encoded.offsets, self._keys(batch), times)
        yield from self._by_split(batch, records)

    def _keys(self, batch: pa.RecordBatch) -> npt.NDArray[np.uint64]:
        if SHUFFLE_KEY in batch.schema.names:
            keys = batch.column(SHUFFLE_KEY)
            if keys.null_count:
                raise DataError(f"{SHUFFLE_KEY} must not be null, got {keys.null_count} nulls in a batch")
            return keys.to_numpy(zero_copy_only=False)
        if self._shuffle == "none":
            raise ConfigError("shuffle='none' needs the place of each row: read with ReadRecords(..., order_key=True)")
        return hash_rows(batch, None, self._hash_seed)

    def _by_split(self, batch: pa.RecordBatch, records: pa.RecordBatch) -> Iterator[tuple[str, pa.RecordBatch]]:
        if SPLIT not in batch.schema.names:
            if len(self._splits) > 1:
                raise ConfigError(
                    f"rows have no split; use AssignSplit, or one split instead of {', '.join(self._splits)}"
                )
            yield self._splits[0], records
            return
        names = batch.column(SPLIT).cast(pa.string())
        for split in pc.unique(names).to_pylist():
            yield self._known(split), records.filter(pc.equal(names, split))

    def _known(self, split: str) -> str:
        if split not in self._splits:
            raise ConfigError(f"a row is of split {split!r}; splits must name it, got {', '.join(self._splits)}")
        return split


@dataclasses.dataclass(frozen=True)
class _ShardRange:
    """A shard to be written: which it is, and its keys."""

    split: str
    index: int
    total: int
    low: int
    high: int


@dataclasses.dataclass(eq=False)
class _SpillingShuffle(beam.PTransform[beam.PCollection[tuple[str, pa.RecordBatch]], beam.PCollection[Shard]]):
    """Shards by way of runs on a disk that all workers share."""

    staging: Staging
    splits: tuple[str, ...]
    plan: ShardPlan
    compression: Compression

    def expand(self, records: beam.PCollection[tuple[str, pa.RecordBatch]]) -> beam.PCollection[Shard]:
        """Spill, plan, merge."""
        runs = records | "Spill" >> beam.ParDo(_SpillFn(spill_directory(self.staging))).with_output_types(Run)
        ranges = (
            records.pipeline
            | "Splits" >> beam.Create(self.splits, reshuffle=False)
            | "PlanShards" >> beam.ParDo(_PlanFn(self.plan), beam.pvalue.AsList(runs)).with_output_types(_ShardRange)
            | "SpreadShards" >> beam.Reshuffle()
        )
        write = _MergeFn(self.staging, self.compression)
        return ranges | "Merge" >> beam.ParDo(write, beam.pvalue.AsList(runs)).with_output_types(Shard)


def spill_directory(staging: Staging) -> str:
    """Where runs are spilled: in the staging folder where that is local, else in this machine's temporary folder."""
    if "://" not in staging.output:
        return staging.path("runs")
    return os.path.join(tempfile.gettempdir(), f"penstock-{staging.run_id}")


class _SpillFn(beam.DoFn):
    def __init__(self, directory: str):
        self._directory = directory

    def start_bundle(self) -> None:
        self._writer = RunWriter(self._directory)

    def process(self, item: tuple[str, pa.RecordBatch]) -> Iterator[Run]:
        yield from self._writer.add(*item)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for run in self._writer.flush():
            yield _globally(run)


class _PlanFn(beam.DoFn):
    def __init__(self, plan: ShardPlan):
        self._plan = plan

    def process(self, split: str, runs: Sequence[Run]) -> Iterator[_ShardRange]:
        own = [run for run in runs if run.split == split]
        total = self._plan.count(sum(int(run.bytes[-1]) for run in own))
        bounds = self._plan.bounds(total, MergedRuns(own))
        for index in range(total):
            yield _ShardRange(split, index, total, bounds[index], bounds[index + 1])


class _MergeFn(beam.DoFn):
    def __init__(self, staging: Staging, compression: Compression):
        self._staging = staging
        self._compression = compression

    def process(self, shard: _ShardRange, runs: Sequence[Run]) -> Iterator[Shard]:
        merged = MergedRuns([run for run in runs if run.split == shard.split])
        pieces = merged.pieces(shard.low, shard.high)
        yield write_shard(self._staging, shard.split, shard.index, shard.total, self._compression, pieces)


@dataclasses.dataclass(eq=False)
class _RunnerShuffle(beam.PTransform[beam.PCollection[tuple[str, pa.RecordBatch]], beam.PCollection[Shard]]):
    """Shards by way of the runner's own shuffle: chunks of records, keyed by split and shard."""

    staging: Staging
    splits: tuple[str, ...]
    plan: ShardPlan
    compression: Compression

    def expand(self, records: beam.PCollection[tuple[str, pa.RecordBatch]]) -> beam.PCollection[Shard]:
        """Count, key, group, merge."""
        counts = self._bytes_per_split(records)
        chunks = records | "Chunk" >> beam.ParDo(_ChunkFn(self.plan), counts).with_output_types(
            tuple[tuple[str, int], bytes]
        )
        all_shards = (
            records.pipeline
            | "Splits" >> beam.Create(self.splits, reshuffle=False)
            | "EveryShard"
            >> beam.ParDo(_EveryShardFn(self.plan), counts).with_output_types(tuple[tuple[str, int], bytes])
        )
        write = beam.ParDo(_WriteChunksFn(self.staging, self.plan, self.compression), counts)
        return (
            (chunks, all_shards)
            | "Flatten" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "Write" >> write.with_output_types(Shard)
        )

    def _bytes_per_split(self, records: beam.PCollection[tuple[str, pa.RecordBatch]]) -> Any:
        """A side input; nothing where the number of shards is given, since it would hold the records up."""
        if self.plan.num_shards is not None:
            return {}
        sizes = records | "CountBytes" >> beam.ParDo(_CountBytesFn()).with_output_types(tuple[str, int])
        return beam.pvalue.AsDict(sizes | "SumBytes" >> beam.CombinePerKey(sum))


class _CountBytesFn(beam.DoFn):
    def process(self, item: tuple[str, pa.RecordBatch]) -> Iterator[tuple[str, int]]:
        split, records = item
        yield split, len(content(records))


class _ChunkFn(beam.DoFn):
    """Buffers records, and gives them sorted by shard, in chunks that a runner likes to move."""

    def __init__(self, plan: ShardPlan):
        self._plan = plan

    def start_bundle(self) -> None:
        self._buffers: dict[str, list[pa.RecordBatch]] = {}
        self._counts: Mapping[str, int] = {}
        self._bytes = 0

    def process(self, item: tuple[str, pa.RecordBatch], counts: Mapping[str, int]) -> Iterator[Any]:
        split, records = item
        self._buffers.setdefault(split, []).append(records)
        self._counts = counts
        self._bytes += len(content(records))
        if self._bytes >= MAX_RUN_BYTES:
            yield from self._flush()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        yield from map(_globally, self._flush())

    def _flush(self) -> Iterator[tuple[tuple[str, int], bytes]]:
        buffers, self._buffers, self._bytes = self._buffers, {}, 0
        for split, parts in buffers.items():
            records = sort_records(pa.concat_batches(parts))
            shards = shards_of(records.column("key").to_numpy(), self._plan.count(self._counts.get(split, 0)))
            starts = np.flatnonzero(np.diff(shards, prepend=-1))
            for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(records)], strict=True):
                for chunk in _chunks(records.slice(start, end - start)):
                    yield (split, int(shards[start])), _to_ipc(chunk)


def _chunks(records: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    rows = max(1, len(records) * _MAX_CHUNK_BYTES // max(len(content(records)), 1))
    for start in range(0, len(records), rows):
        yield records.slice(start, rows)


def _to_ipc(records: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, records.schema) as writer:
        writer.write_batch(records)
    return sink.getvalue().to_pybytes()


class _EveryShardFn(beam.DoFn):
    """An empty chunk for each shard, so that one without records is written as well."""

    def __init__(self, plan: ShardPlan):
        self._plan = plan

    def process(self, split: str, counts: Mapping[str, int]) -> Iterator[tuple[tuple[str, int], bytes]]:
        for index in range(self._plan.count(counts.get(split, 0))):
            yield (split, index), b""


class _WriteChunksFn(beam.DoFn):
    def __init__(self, staging: Staging, plan: ShardPlan, compression: Compression):
        self._staging = staging
        self._plan = plan
        self._compression = compression

    def process(self, item: tuple[tuple[str, int], Iterable[bytes]], counts: Mapping[str, int]) -> Iterator[Shard]:
        (split, index), chunks = item
        with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
            writer = RunWriter(directory)
            runs = [run for chunk in chunks if chunk for run in writer.add(split, _from_ipc(chunk))]
            pieces = MergedRuns([*runs, *writer.flush()]).pieces(0, KEYS_END)
            total = self._plan.count(counts.get(split, 0))
            yield write_shard(self._staging, split, index, total, self._compression, pieces)


def _from_ipc(chunk: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(chunk) as reader:
        return reader.read_next_batch()


def write_shard(
    staging: Staging, split: str, index: int, total: int, compression: Compression, pieces: Iterable[pa.RecordBatch]
) -> Shard:
    """Writes one shard into the staging folder, piece by piece, and gives its entry of the manifest.

    A bundle that is tried again writes the same bytes under the same name.
    """
    path = f"{split}/{part_name(index, total, SUFFIXES[compression])}"
    with _ShardFile(staging.path(*path.split("/")), compression) as file:
        for piece in pieces:
            file.write(piece)
    return file.entry(path, split)


class _ShardFile(contextlib.AbstractContextManager["_ShardFile"]):
    """A shard while it is written: compressed, hashed and counted on the way."""

    def __init__(self, path: str, compression: Compression):
        self._file = FileSystems.create(path, compression_type="uncompressed")
        bits = _WINDOW_BITS.get(compression)
        # zlib's own gzip header has no name and no time: equal records make equal files.
        self._compressor = zlib.compressobj(_ZLIB_LEVEL, zlib.DEFLATED, bits) if bits else None
        self._sha256 = hashlib.sha256()
        self._crc32c = google_crc32c.Checksum()
        self._records = self._bytes = self._uncompressed = 0
        self._times: list[pa.Scalar] = []

    def write(self, records: pa.RecordBatch) -> None:
        data = content(records)
        self._sha256.update(data)
        self._records += len(records)
        self._uncompressed += len(data)
        self._store(self._compressor.compress(data) if self._compressor else bytes(data))
        ends = pc.min_max(records.column("event_time"))
        self._times += [time for time in ends.values() if time.is_valid]

    def _store(self, data: bytes) -> None:
        self._file.write(data)
        self._crc32c.update(data)
        self._bytes += len(data)

    def __exit__(self, *exc_info: object) -> None:
        if self._compressor is not None:
            self._store(self._compressor.flush())
        self._file.close()

    def entry(self, path: str, split: str) -> Shard:
        times = sorted(time.value for time in self._times)
        return Shard(
            path=path,
            split=split,
            records=self._records,
            bytes=self._bytes,
            uncompressed_bytes=self._uncompressed,
            crc32c=self._crc32c.digest().hex(),
            sha256=self._sha256.hexdigest(),
            event_time=(_iso(times[0]), _iso(times[-1])) if times else None,
        )


def _iso(micros: int) -> str:
    return str(np.datetime64(micros, "us")) + "Z"


class _PublishFn(beam.DoFn):
    def __init__(self, publisher: Publisher, must_publish: bool):
        self._publisher = publisher
        self._must_publish = must_publish

    def process(
        self, _: None, shards: Sequence[Shard], rejects: Sequence[DeadLetterFile], rows_in: Sequence[int]
    ) -> Iterator[Outcome]:
        outcome = self._publisher.publish(shards, rejects, sum(rows_in))
        shutil.rmtree(spill_directory(self._publisher.staging), ignore_errors=True)
        if self._must_publish and outcome.status != "published":
            raise DataError(
                f"{self._publisher.staging.output}: nothing is published: {outcome.manifest.rows_rejected} of "
                f"{outcome.manifest.rows_in} rows were rejected; dead letters, if any, are in {outcome.dead_letters}"
            )
        yield outcome
