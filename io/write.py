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

import dataclasses
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import EVENT_TIME, SHUFFLE_KEY, SPLIT, drop_rows, in_global_window
from penstock.io.dead_letters import (
    REJECTED,
    DeadLetterFile,
    DeadLetterHandler,
    RejectingTransform,
    reject,
    row_letters,
    split_rejected,
)
from penstock.io.errors import ConfigError, DataError
from penstock.io.examples import try_encode_examples
from penstock.io.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.layout import (
    DEAD_LETTERS,
    TRANSFORM,
    Shard,
    Staging,
    check_output,
    new_run_id,
)
from penstock.io.publish import Outcome, Publisher
from penstock.io.ragged import without_views
from penstock.io.records import MAX_SPLITS, Keys, Splits, records_batch
from penstock.io.shard import Compression
from penstock.io.shuffle import RunnerShuffle, ShardPlan, Shuffle, SpillingShuffle, spill_directory

DEFAULT_SHARD_BYTES = 128 << 20

# A split is a folder; these are the other folders of a dataset.
_SPLIT_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_OTHER_FOLDERS = frozenset({DEAD_LETTERS, TRANSFORM, "statistics", "windows"})


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
        if len(self.splits) > MAX_SPLITS:
            raise ConfigError(f"splits must be at most {MAX_SPLITS}, got {len(self.splits)}")
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
        shuffle = SpillingShuffle if self.spill else RunnerShuffle
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
    ) -> beam.PCollection[pa.RecordBatch]:
        encode = beam.ParDo(_EncodeFn(tuple(self.splits), self.shuffle, self.seed))
        encode = encode.with_output_types(pa.RecordBatch)
        records, rejected = split_rejected(batches | "Encode" >> encode.with_outputs(REJECTED, main="out"))
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
        yield in_global_window(self._rows)


class _EncodeFn(beam.DoFn):
    """Batches to batches of `RECORDS`; rows that cannot be written are rejected."""

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
            yield from reject(row_letters(batch, faults, "write"))
            batch = drop_rows(batch, faults)
        times = batch.column(EVENT_TIME) if EVENT_TIME in batch.schema.names else None
        yield records_batch(self._split_numbers(batch), self._keys(batch), encoded.data, encoded.offsets, times)

    def _keys(self, batch: pa.RecordBatch) -> Keys:
        if SHUFFLE_KEY in batch.schema.names:
            keys = batch.column(SHUFFLE_KEY)
            if keys.null_count:
                raise DataError(f"{SHUFFLE_KEY} must not be null, got {keys.null_count} nulls in a batch")
            return keys.to_numpy(zero_copy_only=False)
        if self._shuffle == "none":
            raise ConfigError("shuffle='none' needs the place of each row: read with ReadRecords(..., order_key=True)")
        return hash_rows(batch, None, self._hash_seed)

    def _split_numbers(self, batch: pa.RecordBatch) -> Splits:
        if SPLIT not in batch.schema.names:
            if len(self._splits) > 1:
                raise ConfigError(
                    f"rows have no split; use AssignSplit, or one split instead of {', '.join(self._splits)}"
                )
            return np.zeros(batch.num_rows, np.uint16)
        column = batch.column(SPLIT)
        numbers = pc.index_in(column.cast(pa.string()), pa.array(self._splits))
        if numbers.null_count:
            unknown = pc.unique(column.filter(pc.is_null(numbers)).cast(pa.string()))[0].as_py()
            raise ConfigError(f"a row is of split {unknown!r}; splits must name it, got {', '.join(self._splits)}")
        return numbers.to_numpy().astype(np.uint16)


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
