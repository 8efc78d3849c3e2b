"""Puts spans of a dataset together: the same records, in shards of the size that training wants.

Records are moved as bytes, by way of sorted runs on the disk (`penstock.io.sort`), so memory does not grow with the
spans. With the global shuffle, the hash of a record decides its shard and its place in it; without, records stay in the
order of the spans. Each shard that is read is held against its digest in the manifest, and the records that are written
are read again and held against those that were read, as a multiset, before anything is published.
"""

import dataclasses
import datetime
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from penstock.io.beam import progress
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.dataset.layout import DEAD_LETTERS, STATISTICS, Staging, lock_path, part_name, reject_names
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Shard, Span, dataset_id, sum_counts
from penstock.io.dataset.options import DEFAULT_SHARD_BYTES
from penstock.io.dataset.shard import write_shard
from penstock.io.dataset.shard_formats import SHARD_FORMATS, load_format
from penstock.io.dataset.shard_formats.base import Content, ReadPiece, ShardFormat
from penstock.io.dataset.shuffle import ShardPlan, spill_directory
from penstock.io.dataset.spans.append import SpanFolder, current_of, remove_unpublished, replace_manifest
from penstock.io.dataset.spans.drop import dataset_with_spans, find_spans, publishing
from penstock.io.dataset.spans.whole import of_spans
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.io.files import stores
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import copy_file, local_file, remove_folder
from penstock.io.reasons import merge_notes
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import records_batch

# Merges folders of statistics into one, by their paths; whether it could.
MergeStatistics = Callable[[Sequence[str], str], bool]


@dataclasses.dataclass
class _Tally:
    """What a multiset of records is known by: their number, their bytes, the sum of their hashes modulo 2^64."""

    records: int = 0
    bytes: int = 0
    hashes: int = 0

    def add(self, hashes: np.ndarray, size: int) -> None:
        self.records += len(hashes)
        self.bytes += size
        self.hashes = (self.hashes + int(np.add.reduce(hashes, dtype=np.uint64))) % (1 << 64)


def compact_spans(
    output: str,
    names: Collection[str],
    name: str | None,
    shard_bytes: int | None,
    merge_statistics: MergeStatistics,
) -> Manifest:
    """Publishes a version of a dataset in which some spans are one, and returns its manifest.

    Args:
      output: the folder of the dataset.
      names: of the spans; empty for all.
      name: of the span that comes of them; None for `FIRST..LAST`.
      shard_bytes: aimed size of a shard, uncompressed; None for 128 MiB.
      merge_statistics: makes its statistics of theirs.

    Raises:
      ConfigError: for a span that there is not, or a name that another span has.
      DataError: when a shard is not as the manifest says, or another run has published meanwhile.
    """
    before = dataset_with_spans(output)
    spans = find_spans(before, names or [span.name for span in before.spans])
    if SHARD_FORMATS[before.format].has_index:
        raise ConfigError(
            f"{output}: has one span, as every dataset of the format {before.format}: write it anew instead"
        )
    if name is None:
        name = spans[0].name if len(spans) == 1 else f"{spans[0].name}..{spans[-1].name}"
    if name in {span.name for span in before.spans if span not in spans}:
        raise ConfigError(f"--name {name}: another span of the dataset has this name: give another one")
    with publishing(output) as staging:
        part = _written(before, spans, staging, shard_bytes or DEFAULT_SHARD_BYTES)
        part = _with_statistics(part, spans, staging, merge_statistics)
        folder = SpanFolder(staging)
        placed = folder.placed(part)
        new = _version(before, spans, _span(spans, name, placed, folder.name), placed)
        with alone(lock_path(output)):
            current, version = current_of(output, before.run_id, staging.is_final)
            if not staging.is_final:
                remove_unpublished(output, current)
                letters = {staging.path(*file.path.split("/")): file.path for file in part.dead_letters}
                folder.move_in(part, letters)
            replace_manifest(staging, current, new, version)
            if not staging.is_final:
                folder.finish()
    return new


def _written(before: Manifest, spans: Sequence[Span], staging: Staging, shard_bytes: int) -> Manifest:
    """Writes shards and dead letters of the spans into the staging folder; returns the manifest of these."""
    parts = [before.part_of(span) for span in spans]
    shards = [shard for part in parts for shard in part.shards]
    spec = DatasetSpec(
        staging.output,
        shard_bytes=shard_bytes,
        format=before.format,
        compression=before.compression,
        shuffle=before.shuffle,  # type: ignore[arg-type]
    )
    written: list[Shard] = []
    spill = spill_directory(staging)
    for split in before.splits:
        own = [shard for shard in shards if shard.split == split]
        written += _Split(before, spec, staging, split, own).write(os.path.join(spill, split))
        remove_folder(spill)
    files = [file for part in parts for file in part.dead_letters]
    letters = []
    for file, path in zip(files, reject_names(DEAD_LETTERS, [file.path for file in files]), strict=True):
        copy_file(stores.join(staging.output, *file.path.split("/")), staging.path(*path.split("/")))
        letters.append(PublishedDeadLetters(path, file.records))
    return dataclasses.replace(
        before, run_id=staging.run_id, shards=tuple(written), dead_letters=tuple(letters), extras=()
    )


@dataclasses.dataclass(frozen=True)
class _Split:
    """The shards of a split, and how they are written anew."""

    manifest: Manifest
    spec: DatasetSpec
    staging: Staging
    split: str
    shards: Sequence[Shard]

    def write(self, directory: str) -> Iterator[Shard]:
        """Writes them into the staging folder, by way of runs in a folder of this machine.

        Raises:
          DataError: when what was written is not what was read.
        """
        read, again = _Tally(), _Tally()
        merged = merge_batches(self._batches(read), directory, (self.split,))
        plan = ShardPlan(self.spec)
        total = plan.count(read.bytes)
        bounds = plan.bounds(total, merged)
        writer = self._format(self._columns())
        for index in range(total):
            path = f"{self.split}/{part_name(index, total, self.spec.suffix)}"
            staged = self.staging.path(*path.split("/"))
            shard = write_shard(staged, path, self.split, writer, merged, bounds[index], bounds[index + 1])
            for _ in self._pieces(staged, shard, again):
                pass
            yield dataclasses.replace(shard, event_time=_times(self.shards))
        if read != again:
            raise DataError(
                f"{self.staging.output}: the records of split {self.split} are not those that were read ({read}, "
                f"{again}); nothing is published, please report this"
            )

    def _batches(self, tally: _Tally) -> Iterator[pa.RecordBatch]:
        position = 0
        for shard in self.shards:
            path = stores.join(self.staging.output, *shard.path.split("/"))
            for piece, hashes in self._pieces(path, shard, tally):
                keys = hashes
                if self.spec.shuffle == "none":
                    keys = np.arange(position, position + piece.records, dtype=np.uint64)
                position += piece.records
                data = np.frombuffer(piece.content, np.uint8)
                yield records_batch(np.zeros(piece.records, np.uint16), keys, data, piece.offsets, None)

    def _pieces(self, path: str, shard: Shard, tally: _Tally) -> Iterator[tuple[ReadPiece, Any]]:
        """Yields the pieces of a shard that have records, each with the hashes of these; checks it at the end."""
        reader, content, records = self._format(None), Content(), 0
        try:
            with local_file(path, shard.bytes) as here:
                for piece in reader.read(here, shard.path):
                    content.add(memoryview(piece.content))
                    records += piece.records
                    progress.add(rows=piece.records)
                    if piece.records:
                        hashes = _hashes(piece, self.manifest.seed)
                        tally.add(hashes, int(piece.offsets[-1] - piece.offsets[0]))
                        yield piece, hashes
        except (InputError, OSError) as error:
            raise DataError(f"{path}: cannot be read, so nothing is published: {error}") from error
        if (records, content.sha256.hexdigest()) != (shard.records, shard.sha256):
            raise DataError(
                f"{path}: is not as the manifest says ({records} records, {shard.records} there), so nothing is "
                "published; see penstock verify"
            )

    def _format(self, columns: pa.Schema | None) -> ShardFormat:
        return load_format(self.spec.format, str(self.spec.compression), columns)

    def _columns(self) -> pa.Schema | None:
        """The columns of the shards, for a format that has any."""
        if not SHARD_FORMATS[self.spec.format].has_columns or not self.shards:
            return None
        first = self.shards[0]
        with local_file(stores.join(self.staging.output, *first.path.split("/")), first.bytes) as path:
            return pq.read_schema(path).remove_metadata()


def _hashes(piece: ReadPiece, seed: int) -> Any:
    data = pa.py_buffer(piece.content)
    column = pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), piece.records, [None, pa.py_buffer(np.ascontiguousarray(piece.offsets, np.int64)), data]
    )
    return hash_rows(pa.record_batch({"record": column}), ["record"], salted(seed, SHUFFLE_SALT))


def _times(shards: Sequence[Shard]) -> tuple[str, str] | None:
    """The least and the greatest event time: which record has which, shards do not tell."""
    times = [time for shard in shards if shard.event_time for time in shard.event_time]
    return (min(times), max(times)) if times else None


def _with_statistics(part: Manifest, spans: Sequence[Span], staging: Staging, merge: MergeStatistics) -> Manifest:
    folders = [stores.join(staging.output, *span.statistics.split("/")) for span in spans if span.statistics]
    if len(folders) < len(spans) or not merge(folders, staging.path(STATISTICS)):
        return part
    return dataclasses.replace(part, extras=(STATISTICS,))


def _span(spans: Sequence[Span], name: str, placed: Manifest, folder: str) -> Span:
    parts = dict.fromkeys(part for span in spans for part in (span.name, *span.parts))
    kept = ("name", "run_id", "created", "date", "dataset_id", "provenance")
    return Span(
        name=name,
        run_id=placed.run_id,
        created=_now(),
        date=max(span.date for span in spans),
        folder=folder,
        dataset_id=dataset_id(placed.shards),
        rows_in=sum(span.rows_in for span in spans),
        rows_out=sum(span.rows_out for span in spans),
        rows_rejected=sum(span.rows_rejected for span in spans),
        splits={split: sum(span.splits.get(split, 0) for span in spans) for split in placed.splits},
        rejected_by_reason=sum_counts(span.rejected_by_reason for span in spans),
        rejected_by_stage=sum_counts(span.rejected_by_stage for span in spans),
        statistics=placed.extras[0] if placed.extras else None,
        notes=merge_notes(note for span in spans for note in span.notes),
        anomalies=tuple(found for span in spans for found in span.anomalies),
        parts=tuple(part for part in parts if part != name),
        provenance={"parts": [{field: getattr(span, field) for field in kept} for span in spans]},
    )


def _version(before: Manifest, spans: Sequence[Span], span: Span, placed: Manifest) -> Manifest:
    names = {one.name for one in spans}
    inputs = [
        {**one, "span": span.name} if one.get("span") in names else one for one in before.provenance.get("inputs", ())
    ]
    whole = dataclasses.replace(
        before,
        shards=(*before.shards, *placed.shards),
        dead_letters=(*before.dead_letters, *placed.dead_letters),
        provenance={**before.provenance, "inputs": inputs},
    )
    following: list[Span] = []
    for one in before.spans:
        if one not in spans:
            following.append(one)
        elif one is spans[0]:
            following.append(span)
    return of_spans(whole, following, placed.run_id, span.created, f"compact {', '.join(one.name for one in spans)}")


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
