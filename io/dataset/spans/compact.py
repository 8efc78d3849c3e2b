"""Puts spans of a dataset together: the same records, in shards of the size that training wants.

The shards are written by `penstock.io.dataset.spans.rewrite`, which checks them before anything is published.
"""

import dataclasses
import datetime
from collections.abc import Callable, Collection, Sequence

from penstock.io.dataset.layout import DEAD_LETTERS, STATISTICS, Staging, lock_path, reject_names
from penstock.io.dataset.manifest import Manifest, PublishedDeadLetters, Span, dataset_id, sum_counts
from penstock.io.dataset.options import DEFAULT_SHARD_BYTES, check_span_name
from penstock.io.dataset.shard_formats import SHARD_FORMATS
from penstock.io.dataset.spans.append import SpanFolder, current_of, remove_unpublished, replace_manifest
from penstock.io.dataset.spans.drop import dataset_with_spans, find_spans, publishing
from penstock.io.dataset.spans.rewrite import write_anew
from penstock.io.dataset.spans.whole import named, of_spans
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError
from penstock.io.files import stores
from penstock.io.files.atomic.locks import alone
from penstock.io.files.folders import copy_file
from penstock.io.reasons import merge_notes

# Merges folders of statistics into one, by their paths; whether it could.
MergeStatistics = Callable[[Sequence[str], str], bool]


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
      ConfigError: for a span that there is not, or a name that another span has or none can have.
      DataError: when a shard is not as the manifest says, or another run has published meanwhile.
    """
    before = dataset_with_spans(output)
    spans = find_spans(before, names or [span.name for span in before.spans])
    if SHARD_FORMATS[before.format].has_index:
        raise ConfigError(
            f"{output}: has one span, as every dataset of the format {before.format}: write it anew instead"
        )
    if name is None:
        name = _name_of(spans)
    check_span_name(name)
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
                remove_unpublished(output, () if current is None else current.files())
                letters = {staging.path(*file.path.split("/")): file.path for file in part.dead_letters}
                folder.move_in(part, letters)
            replace_manifest(staging, current, new, version)
            if not staging.is_final:
                folder.finish()
    return new


def _name_of(spans: Sequence[Span]) -> str:
    """`FIRST..LAST`; of spans that are named so themselves, the first and the last of all."""
    if len(spans) == 1:
        return spans[0].name
    return f"{spans[0].name.partition('..')[0]}..{spans[-1].name.rpartition('..')[2]}"


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
        seed=before.seed,
        index=any(shard.index for shard in shards),
    )
    written = write_anew(staging, spec, shards, tuple(before.splits))
    files = [file for part in parts for file in part.dead_letters]
    letters = []
    for file, path in zip(files, reject_names(DEAD_LETTERS, [file.path for file in files]), strict=True):
        copy_file(stores.join(staging.output, *file.path.split("/")), staging.path(*path.split("/")))
        letters.append(PublishedDeadLetters(path, file.records))
    return dataclasses.replace(
        before, run_id=staging.run_id, shards=tuple(written), dead_letters=tuple(letters), extras=()
    )


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
    runs = {one.name: one.run_id for one in spans}
    inputs = [
        {"part": runs[one["span"]], **one, "span": span.name} if one.get("span") in runs else one
        for one in before.provenance.get("inputs", ())
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
    return of_spans(whole, following, placed.run_id, span.created, f"compact {named([one.name for one in spans])}")


def _now() -> str:
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
