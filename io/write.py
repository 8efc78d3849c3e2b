"""The sink: RecordBatches to shuffled shards (TFRecord, Parquet, ArrayRecord, WebDataset), published with a manifest.

::

    batches -> encode, sort, spill runs -> plan shards -> merge a key range into each shard -> publish

Every record has a 64-bit key, and a split is sorted by (key, bytes of the record): with the global shuffle the key is a
seeded hash of the row and a shard is a range of hashes; with `shuffle="none"` it is the position of the row in the
input and a shard is a range of rows. Either way the content alone decides the shard of a record, and where it is in it.

On a local runner the records never leave the disk between encoding and shard: runs are spilled, and only references
to them cross stages. Elsewhere (`spill=False`) sorted chunks go through the runner's own shuffle, by shard, and the
writer of a shard spills them on its worker: the bytes are the same.

Beside their records, bundles say what kinds their features have; a feature of two kinds fails the pipeline before
anything is published (`penstock.io.dataset.kinds`).

With windows (`penstock.io.dataset.windowed.sink`) the input may be unbounded, and each window is published for itself.
"""

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.windowed_value import WindowedValue
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import TakesBatches, in_global_window, only_batches
from penstock.io.beam.coverage import MARKS, SeenPositions
from penstock.io.beam.durations import ZERO, AnyDuration
from penstock.io.beam.json_coder import register_json
from penstock.io.beam.row_counters import RowCounters
from penstock.io.beam.windows import AnyWindows, FlushWindows, Windows
from penstock.io.dataset.encode import RecordEncoder
from penstock.io.dataset.kinds import KindCounter, SeenKinds, dataset_schema, merge_kinds
from penstock.io.dataset.layout import SCHEMA, Staging, check_output, new_run_id
from penstock.io.dataset.manifest import Shard, read_manifest, sum_counts
from penstock.io.dataset.observer import Anomaly, DatasetObserver, Summaries
from penstock.io.dataset.options import DEAD_LETTERS, DEFAULT_SHARD_BYTES, MANIFEST, Addition, Shuffle
from penstock.io.dataset.publish import Outcome, Publisher
from penstock.io.dataset.run_folder import manifest_version
from penstock.io.dataset.shuffle import RunnerShuffle, SpillingShuffle, spill_directory
from penstock.io.dataset.spans.append import AddSpan
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.dataset.windowed.clock import ClosingRules
from penstock.io.dataset.windowed.flush import FlushRules
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dataset.windowed.resume import Resumption
from penstock.io.dataset.windowed.seal import SealingRules
from penstock.io.dataset.windowed.sink import WriteChunks, WriteWindows, chunk_directory
from penstock.io.dead_letters.handler import (
    REJECTED,
    DeadLetterFile,
    DeadLetterHandler,
    RejectingTransform,
    reject,
    split_rejected,
)
from penstock.io.dead_letters.record import RejectedBatch, row_letters
from penstock.io.dead_letters.summaries import RejectSummaries
from penstock.io.errors import ConfigError, DataError
from penstock.io.files.apart import check_apart, check_outside
from penstock.io.reasons import Note, merge_notes
from penstock.io.sources.read import outputs_behind, uris_behind
from penstock.io.sources.watch import patterns_behind

register_json(Note)

_NOTES = "notes"

_KINDS = "kinds"

_WRITTEN = "written"


@dataclasses.dataclass(eq=False)
class WriteDataset(TakesBatches, RejectingTransform):
    """Writes a dataset: a folder of shards per split, and a manifest, published as a whole.

    Takes a bounded `PCollection[pyarrow.RecordBatch]` in the global window; gives a `PCollection[Outcome]` of one
    element. `_split` says which split a row belongs to, and `_shuffle_key` orders the rows; without that column, the
    key is computed from the row. A row with a value that has no faithful form in the format of the shards is rejected
    (`write.*`). A feature has one kind (INT, FLOAT or BYTES) in all batches, or the pipeline fails and publishes
    nothing. The dataset has a schema: the one that is given, or one made of what the rows have.

    With `window`, and behind Beam's fixed or sliding windows, the input may be unbounded, and each window is published
    for itself. The transform then gives a `PCollection[WindowManifest]`, one for each version of a window. The
    `_event_time` of a row decides its window; rows without that column use the Beam timestamp of their batch. A window
    is published when the watermark passes its end, and once more when the watermark passes the end by the allowed
    lateness. Rows that come even later become dead letters (reason `late`). A window with too many rejects is marked,
    and does not fail the pipeline.

    Attributes:
      output: the folder, on any filesystem that Beam knows.
      num_shards: shards of each split; None goes by `shard_bytes`.
      shard_bytes: aimed uncompressed bytes of a shard.
      format: of the shards, by its name in `penstock.io.dataset.shard_formats.SHARD_FORMATS`.
      compression: of the shards, one that the format has; None is its default, and none with `index`.
      columns: names and types of the columns, which a format that has columns needs to know before there are rows.
      schema: the features that there may be, with their kinds; it is published as `schema.pbtxt`. Rows are not checked
        against the rest of it (`ValidateRecords`). None makes a schema of kinds, presence and numbers of values that
        the rows have; with windows, of kinds alone.
      shuffle: global, or none for the order of the input (needs `ReadRecords(..., order_key=True)`).
      seed: of the shuffle, where the rows have no `_shuffle_key` yet.
      splits: all splits; one without rows still gets a shard.
      overwrite: replace the dataset that is there.
      max_reject_fraction: publish nothing when more than this part of the rows was rejected.
      dead_letters: the handler of all transforms of the pipeline, this one's too; it is closed here, and its files are
        published. Without it, a row that cannot be written fails the pipeline, or goes to `with_error_handler` and
        into the dead letters of the dataset.
      rows_in: rows that the source gave, in any number of parts (`CountRows`); by default those that come in here, and
        those that steps before this one gave to `dead_letters`.
      found: notes that steps before this one found in the rows, for the manifest; without windows.
      run_id: names the staging folder; by default as `dead_letters` names it, or a new one. Who gives it reads
        `read_outcome` when the pipeline is done; without it, a run that publishes nothing (no rows, too many rejects)
        fails the pipeline.
      spill: spill to this machine's disk between the stages: for runners whose workers share it.
      extras: relative paths of files and folders that were staged (`Staging`) and belong to the dataset.
      provenance: JSON values for the manifest. What jobs read of it must be as they write it: `inputs`, if there are
        any, a list of objects with a `uri`, and `options` an object.
      notes: what is known of the whole input before it is written, for the manifest.
      window: windows, or their text (`fixed:60s`, `sliding:60s/10s`; for a stream also `flush:100000/30s`, windows of
        processing time, see `FlushWindows`); needs `num_shards`.
      allowed_lateness: of rows behind the watermark, whole milliseconds; a timedelta, or text such as `30s`.
      empty_windows: whether windows without rows, between such with rows, are published too.
      resume: whether there may be windows in the output already: those of the same job, before the savepoint that it
        goes on from.
      resumption: what the start of a stream knows of those before it; without it, a stream that ends can go on only
        from a checkpoint of its runner.
      append: adds what is written to the dataset that is there, as a span (`Addition`); its splits, schema and features
        must be the same. Without a dataset there, one is written, whose first span it is.
      keep_origin: whether records say where they came from, in two columns that loaders leave out; rows need
        `_origin`, which readers give them (`penstock.io.reserved`).
      index: write where the records of each shard begin (`OUTPUT/_index/`), so that `source()` of what is loaded finds
        a record without reading the shard; for TFRecord that is not compressed.
      observer: is shown the rows that are written and rejected, stages files, and may refuse publication; without
        windows.
      summaries: makes what each window says of its rows beside them, such as statistics (`WindowStatistics`).

    Raises:
      ConfigError: for options out of range, or an output that cannot take a dataset or holds files that `ReadRecords`
        reads for it.
      MissingExtraError: for a format whose extra is not installed.
    """

    output: str
    num_shards: int | None = None
    shard_bytes: int = DEFAULT_SHARD_BYTES
    format: str = "tfrecord"
    compression: str | None = None
    columns: pa.Schema | None = None
    schema: schema_pb2.Schema | None = None
    shuffle: Shuffle = "global"
    seed: int = 0
    splits: Sequence[str] = ("train",)
    overwrite: bool = False
    max_reject_fraction: float = 0.05
    dead_letters: DeadLetterHandler | None = None
    rows_in: beam.PCollection[int] | None = None
    found: beam.PCollection[Note] | None = None
    run_id: str | None = None
    spill: bool = True
    extras: Sequence[str] = ()
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    notes: Sequence[Note] = ()
    window: AnyWindows | str | None = None
    allowed_lateness: AnyDuration = ZERO
    empty_windows: bool = False
    resume: bool = False
    append: Addition | None = None
    keep_origin: bool = False
    index: bool = False
    resumption: Resumption | None = None
    observer: DatasetObserver | None = None
    summaries: Summaries | None = None

    def __post_init__(self) -> None:
        names = (field.name for field in dataclasses.fields(DatasetSpec))
        self.spec = DatasetSpec(**{name: getattr(self, name) for name in names})
        # A schema among the extras is staged by somebody else.
        self._writes_schema = SCHEMA not in self.spec.extras
        if self.schema is not None and not self._writes_schema:
            raise ConfigError(f"the schema is written with the dataset: leave {SCHEMA} out of the extras")
        if self._writes_schema:
            self.spec = dataclasses.replace(self.spec, extras=(*self.spec.extras, SCHEMA))
        if self.observer is not None:
            self.spec = dataclasses.replace(self.spec, extras=(*self.spec.extras, *self.observer.extras))
        if self.shuffle == "none" and not self.spill:
            raise ConfigError("shuffle 'none' works only where all workers share a disk (spill), got spill=False")
        if self.dead_letters is not None:
            self.with_error_handler(self.dead_letters)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Any]:
        """Encode, shuffle, write shards, publish."""
        batches = only_batches(batches, "WriteDataset")
        windows = self.spec.window or Windows.of_beam(batches.windowing.windowfn)
        self.spec.check_input(batches.is_bounded, has_windows=windows is not None)
        if windows is None:
            _check_one_window(batches)
        staging = Staging(self.output, self._run_id())
        self._check_apart(batches)
        check_output(self.output, self.overwrite, staging.run_id, resume=self.resume, append=self.append is not None)
        handler = self._handler(staging)
        if not isinstance(windows, str | None):
            if self.observer is not None:
                raise ConfigError("observer looks at a dataset as a whole: leave it out with windows")
            return self._write_windows(batches, staging, handler, windows)
        rows_in = self.rows_in if self.rows_in is not None else batches | "CountRows" >> CountRows()
        shuffle = (SpillingShuffle if self.spill else RunnerShuffle)(staging, self.spec)
        encoded = self._encode(batches, handler, packs=shuffle.make_packing is not None)
        shards = encoded.records | "WriteShards" >> shuffle
        if self.found is not None:
            encoded = dataclasses.replace(encoded, notes=(encoded.notes, self.found) | "AllNotes" >> beam.Flatten())
        return self._publish(staging, shards, encoded, handler, rows_in)

    def _check_apart(self, batches: beam.PCollection[pa.RecordBatch]) -> None:
        """Refuses an output that holds what the rows are read from, or that a watcher would find files of."""
        # A span takes the place of no file: a replay may read dead letters of the dataset that it adds to.
        may_read = f"/{DEAD_LETTERS}/" if self.spec.append is not None else None
        uris = (uri for uri in uris_behind(batches) if may_read is None or may_read not in uri)
        check_outside(uris, "the input", self.output)
        shard, letters = f"part-00000-of-00001{self.spec.suffix}", f"{DEAD_LETTERS}/part-00000-of-00001.jsonl"
        written = (MANIFEST, SCHEMA, letters, f"train/{shard}", f"train/20260101T000000Z/{shard}")
        for pattern in patterns_behind(batches):
            check_apart(pattern, f"the input {pattern}", self.output, written)

    def _run_id(self) -> str:
        """The run of the dead letters, if they are staged beforehand: their folder is this run's."""
        of_letters = None if self.dead_letters is None else self.dead_letters.run_id
        return self.run_id or of_letters or new_run_id()

    def _write_windows(
        self,
        batches: beam.PCollection[pa.RecordBatch],
        staging: Staging,
        handler: DeadLetterHandler | None,
        windows: AnyWindows,
    ) -> beam.PCollection[WindowManifest]:
        spec, num_shards = self.spec, self.spec.num_shards or 1
        seen = self.resumption.seen(self.output) if self.resumption is not None else None
        write = WriteChunks(self._encoder(), chunk_directory(staging), windows, num_shards, seen, self.summaries)
        chunks, rejected = batches | "WriteChunks" >> write
        self._take_rejected(rejected, handler)
        closing = self._closing(windows, num_shards, staging.run_id)
        # One graph: Flink restarts what is apart by itself, and what then runs on keeps a worker that has died.
        letters = None if seen is None else seen.letters
        places = None if isinstance(windows, FlushWindows) else windows
        of_rejects = None if self.summaries is None else self.summaries.rejected
        rejects = {} if handler is None else {"rejects": _rejects(chunks, handler, places, letters, of_rejects)}
        marks = {f"read {index}": each for index, each in enumerate(dict.fromkeys(outputs_behind(batches, MARKS)))}
        late_sinks = () if handler is None else handler.sinks
        sealing = SealingRules(windows, spec)
        write_windows = WriteWindows(staging, closing, sealing, self._writes_schema, late_sinks, self.summaries)
        return {"chunks": chunks, **rejects, **marks} | "WriteWindows" >> write_windows

    def _closing(self, windows: AnyWindows, num_shards: int, run_id: str) -> ClosingRules | FlushRules:
        spec, resumption = self.spec, self.resumption
        if isinstance(windows, FlushWindows):
            flush = FlushRules(windows, len(spec.splits), num_shards, run_id)
            return flush if resumption is None else dataclasses.replace(flush, initial=resumption.initial_flush(flush))
        closing = ClosingRules(windows, spec.lateness, spec.empty_windows, len(spec.splits), num_shards, run_id)
        return closing if resumption is None else dataclasses.replace(closing, initial=resumption.initial(closing))

    def _handler(self, staging: Staging) -> DeadLetterHandler | None:
        """The handler whose files are published: what another one is given must be accounted for as well."""
        if self.dead_letters is None and self._error_handler is not None:
            return DeadLetterHandler(staging.dead_letters, staging.run_id)
        return self.dead_letters

    def _encode(
        self, batches: beam.PCollection[pa.RecordBatch], handler: DeadLetterHandler | None, packs: bool
    ) -> "_Encoded":
        encoder = self._encoder(packs)
        encode = beam.ParDo(_EncodeFn(encoder, self.observer is not None)).with_output_types(pa.RecordBatch)
        results = batches | "Encode" >> encode.with_outputs(REJECTED, _KINDS, _NOTES, _WRITTEN, main="out")
        records, rejected = split_rejected(results)
        self._take_rejected(rejected, handler)
        kinds, notes, written = results[_KINDS], results[_NOTES], results[_WRITTEN]
        kinds.element_type, notes.element_type, written.element_type = SeenKinds, Note, pa.RecordBatch
        merge = beam.CombineGlobally(merge_kinds).with_output_types(SeenKinds)
        return _Encoded(records, written, kinds | "MergeKinds" >> merge, notes)

    def _encoder(self, packs: bool = False) -> RecordEncoder:
        return RecordEncoder(self.spec, self.spec.shard_format(), packs)

    def _take_rejected(self, rejected: beam.PCollection[RejectedBatch], handler: DeadLetterHandler | None) -> None:
        self._reject(rejected)
        if handler is not None and handler is not self._error_handler:
            handler.add_error_pcollection(rejected)

    def _publish(
        self,
        staging: Staging,
        shards: beam.PCollection[Shard],
        encoded: "_Encoded",
        handler: DeadLetterHandler | None,
        rows_in: beam.PCollection[int],
    ) -> beam.PCollection[Outcome]:
        once = shards.pipeline | "Once" >> beam.Create([None], reshuffle=False)
        rejects = _rejects(once, handler)
        publish = beam.ParDo(
            _PublishFn(
                Publisher(staging, self.spec, manifest_version(self.output), self._adds()),
                self._writes_schema,
                counts_here=self.rows_in is None,
                must_publish=self.run_id is None,
                spill=spill_directory(staging) if self.spill else None,
            ),
            beam.pvalue.AsList(shards),
            beam.pvalue.AsSingleton(encoded.kinds),
            beam.pvalue.AsList(rejects),
            beam.pvalue.AsList(rows_in),
            beam.pvalue.AsList(encoded.notes),
            beam.pvalue.AsList(self._observed(staging, once, encoded, handler)),
        )
        return once | "Publish" >> publish.with_output_types(Outcome)

    def _adds(self) -> AddSpan | None:
        if self.append is None:
            return None
        base = self.append.base
        if base is None:
            found = read_manifest(self.output)
            base = found.run_id if found else ""
        return AddSpan(base, self.append.span)

    def _observed(
        self,
        staging: Staging,
        once: beam.PCollection[None],
        encoded: "_Encoded",
        handler: DeadLetterHandler | None,
    ) -> beam.PCollection[Any]:
        """Why the observer refuses, and anomalies; without one, nothing."""
        if self.observer is None:
            return once | "NobodyRefuses" >> beam.FlatMap(_nothing).with_output_types(str)
        rejected = [] if handler is None else handler.rejected
        return self.observer.observe(staging, encoded.written, rejected)


@dataclasses.dataclass(frozen=True)
class _Encoded:
    """What comes of rows: records, the rows of these (if they are observed), kinds of all features, notes."""

    records: beam.PCollection[pa.RecordBatch]
    written: beam.PCollection[pa.RecordBatch]
    kinds: beam.PCollection[SeenKinds]
    notes: beam.PCollection[Note]


def _check_one_window(batches: beam.PCollection[pa.RecordBatch]) -> None:
    windows = batches.windowing.windowfn
    if not isinstance(windows, GlobalWindows):
        raise ConfigError(
            f"WriteDataset writes one dataset from the global window, got {type(windows).__name__}; "
            "apply WindowInto(GlobalWindows()) before it"
        )


def _rejects(
    once: beam.PCollection[Any],
    handler: DeadLetterHandler | None,
    windows: Windows | None = None,
    seen: SeenPositions | None = None,
    summaries: RejectSummaries | None = None,
) -> beam.PCollection[DeadLetterFile]:
    if handler is None:
        return once | "NoDeadLetters" >> beam.FlatMap(_nothing).with_output_types(DeadLetterFile)
    handler.close(windows, seen, summaries)
    return handler.output()


def _nothing(_: object) -> Iterable[DeadLetterFile]:
    return ()


class CountRows(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[int]]):
    """Counts the rows of batches: one number for each bundle."""

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
    """Batches to batches of `RECORDS`; rows that cannot be written are rejected, and each bundle gives its notes."""

    def __init__(self, encoder: RecordEncoder, is_observed: bool):
        self._encoder = encoder
        self._is_observed = is_observed
        self._counters = RowCounters("WriteDataset")

    def start_bundle(self) -> None:
        self._kinds = KindCounter.of_spec(self._encoder.spec)
        self._notes: tuple[Note, ...] = ()

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        encoded = self._encoder.encode(batch)
        self._kinds.add(encoded.rows)
        self._notes = merge_notes([*self._notes, *encoded.notes])
        self._counters.add(in_rows=batch.num_rows)
        if encoded.faults:
            self._counters.add(bad_rows=len(encoded.faults))
            yield from reject(row_letters(encoded.all_rows, encoded.faults, "write"))
        if self._is_observed:
            yield TaggedOutput(_WRITTEN, encoded.rows)
        yield encoded.records

    def finish_bundle(self) -> Iterator[Any]:
        yield TaggedOutput(_KINDS, in_global_window(self._kinds.seen))
        for note in self._notes:
            yield TaggedOutput(_NOTES, in_global_window(note))


class _PublishFn(beam.DoFn):
    def __init__(
        self, publisher: Publisher, writes_schema: bool, counts_here: bool, must_publish: bool, spill: str | None
    ):
        self._publisher = publisher
        self._writes_schema = writes_schema
        self._counts_here = counts_here
        self._spill = spill
        self._must_publish = must_publish

    def process(
        self,
        _: None,
        shards: Sequence[Shard],
        kinds: SeenKinds,
        rejects: Sequence[DeadLetterFile],
        rows_in: Sequence[int],
        notes: Sequence[Note],
        observed: Sequence[str | Anomaly],
    ) -> Iterator[Outcome]:
        spec = self._publisher.spec
        schema = dataset_schema(kinds, spec.schema, spec.columns) if self._writes_schema else None
        before = _rejected_before(rejects) if self._counts_here else 0
        refused = [one for one in observed if isinstance(one, str)]
        anomalies = [one for one in observed if isinstance(one, Anomaly)]
        rows = sum(rows_in) + before
        outcome = self._publisher.publish(shards, rejects, rows, notes, schema, refused, anomalies)
        if self._spill is not None:
            shutil.rmtree(self._spill, ignore_errors=True)
        if self._must_publish and outcome.status != "published":
            why = "; ".join(outcome.refused) or (
                f"{outcome.manifest.rows_rejected} of {outcome.manifest.rows_in} rows were rejected"
            )
            raise DataError(
                f"{self._publisher.staging.output}: nothing is published: {why}; dead letters, if any, are in "
                f"{outcome.dead_letters}"
            )
        yield outcome


def _rejected_before(rejects: Sequence[DeadLetterFile]) -> int:
    """Counts rows that came as far as some step between source and sink; the publisher adds those of the source."""
    stages = sum_counts(file.stages for file in rejects)
    return sum(rows for stage, rows in stages.items() if stage not in ("read", "write"))
