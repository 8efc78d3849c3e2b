"""A dataset as the sum of its spans: one manifest of all, and the part of it that is one span's."""

import dataclasses
import datetime
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from penstock.io.dataset.manifest import Manifest, Span, SpanFolders, by_time, dataset_id, sum_counts
from penstock.io.dataset.options import RUN_PREFIX, STATISTICS
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import merge_notes

# What all spans of a dataset have in common, as fields of its manifest.
_SHARED = ("format", "compression", "shuffle", "seed")

# Of the provenance: how rows are split, what they are, what is computed of them.
_FINGERPRINTS = {
    "split": "splits rows in another way",
    "schema_fingerprint": "has another schema",
    "transform_fingerprint": "computes other features",
}

# Eight digits are a date of these centuries, perhaps with a time behind it, and not a part of a longer number.
_DATE = re.compile(r"(?<!\d)(?:(\d{4})-(\d{2})-(\d{2})|((?:19|20|21)\d{2})(\d{2})(\d{2})(?:\d{4}|\d{6})?)(?!\d)")

# Of the provenance: the inputs of spans that were dropped since they were too old, as `inputs` had them.
RETIRED = "retired"

# The name of a dataset that was written without one, once something is added to it.
_FIRST = "1"

_MAX_NAMED = 4


def spans_of(manifest: Manifest) -> tuple[Span, ...]:
    """Returns the spans of a dataset; one that was never added to is a single one."""
    return manifest.spans or (_span(manifest, _FIRST, _folder_of(manifest)),)


def with_spans(manifest: Manifest) -> Manifest:
    """Returns the same manifest with its spans, one at least."""
    return manifest if manifest.spans else as_span(manifest, None)


def as_span(manifest: Manifest, name: str | None) -> Manifest:
    """Returns the manifest of a new dataset as one of a first span."""
    name = name or _FIRST
    span = _span(manifest, name, _folder_of(manifest))
    return dataclasses.replace(manifest, spans=(span,), provenance=_with_span(manifest.provenance, name))


def name_of_new(base: Manifest, name: str | None) -> str:
    """Returns the name of a span that is added.

    Raises:
      ConfigError: when the dataset has a span of this name.
    """
    spans = spans_of(base)
    taken = {span.name: span for span in spans}
    if name in taken:
        raise ConfigError(
            f"--span {name}: the dataset has a span of this name, published {taken[name].created}, of "
            f"{taken[name].rows_out} rows: give another name, or drop that span first (penstock drop-span)"
        )
    return name or next_name([*taken, *(part for span in spans for part in span.parts)])


def with_span(base: Manifest, new: Manifest, name: str | None) -> Manifest:
    """Returns the manifest of a dataset with what a run adds.

    Args:
      base: of the dataset as it is.
      new: of the run, with the paths of its files relative to the dataset.
      name: of the span; None for the next number.

    Raises:
      DataError: when rows of the run are not what those of the dataset are; the message says in what they differ.
      ConfigError: when there is a span of this name.
    """
    check_alike(base, new)
    name = name_of_new(base, name)
    span = _span(new, name, _folder_of(new), base.provenance)
    base = with_spans(base)
    inputs = [*base.provenance.get("inputs", ()), *_with_span(new.provenance, name).get("inputs", ())]
    whole = dataclasses.replace(
        base,
        shards=(*base.shards, *new.shards),
        dead_letters=(*base.dead_letters, *new.dead_letters),
        provenance={**base.provenance, "inputs": inputs},
    )
    return of_spans(whole, (*base.spans, span), new.run_id, new.created, f"append {name}")


def of_spans(whole: Manifest, spans: Sequence[Span], run_id: str, created: str, operation: str) -> Manifest:
    """Returns the next version of a dataset: the sums over some spans, and their files.

    Args:
      whole: has the files and inputs of these spans, and may have more.
      spans: what the version has; at least one.
      run_id: of what publishes it.
      created: when.
      operation: what it does, as in `Manifest.operation`.
    """
    folder_of = SpanFolders([*whole.spans, *spans])
    ranks = {span.folder: rank for rank, span in enumerate(spans)}
    order = {split: rank for rank, split in enumerate(whole.splits)}
    shards = sorted(
        (shard for shard in whole.shards if folder_of(shard.path) in ranks),
        key=lambda shard: (order[shard.split], ranks[folder_of(shard.path)]),
    )
    names = {span.name for span in spans}
    others = [extra for extra in whole.extras if extra.rpartition("/")[2] != STATISTICS]
    inputs = [one for one in whole.provenance.get("inputs", ()) if one.get("span") in names]
    return dataclasses.replace(
        whole,
        run_id=run_id,
        created=created,
        operation=operation,
        dataset_version=whole.dataset_version + 1,
        dataset_id=dataset_id(shards),
        rows_in=sum(span.rows_in for span in spans),
        rows_out=sum(span.rows_out for span in spans),
        rows_rejected=sum(span.rows_rejected for span in spans),
        splits={split: sum(span.splits.get(split, 0) for span in spans) for split in whole.splits},
        shards=tuple(shards),
        dead_letters=tuple(file for file in whole.dead_letters if folder_of(file.path) in ranks),
        rejected_by_reason=sum_counts(span.rejected_by_reason for span in spans),
        rejected_by_stage=sum_counts(span.rejected_by_stage for span in spans),
        notes=merge_notes(note for span in spans for note in span.notes),
        anomalies=tuple(found for span in spans for found in span.anomalies),
        extras=(*others, *(span.statistics for span in spans if span.statistics)),
        provenance={**whole.provenance, "inputs": inputs},
        spans=tuple(spans),
    )


def with_retired(after: Manifest, before: Manifest, names: Collection[str]) -> Manifest:
    """Returns a manifest that remembers the inputs of some spans of the version before it, which it does not have."""
    gone = [one for one in before.provenance.get("inputs", ()) if one.get("span") in names]
    retired = [*before.provenance.get(RETIRED, ()), *gone]
    return dataclasses.replace(after, provenance={**after.provenance, RETIRED: retired})


def named(names: Sequence[str]) -> str:
    """Returns the names of spans for `Manifest.operation`, which is one line of a log.

    >>> named(["a", "b"]), named(["a", "b", "c", "d", "e"])
    ('a, b', 'a to e (5 spans)')
    """
    return ", ".join(names) if len(names) <= _MAX_NAMED else f"{names[0]} to {names[-1]} ({len(names)} spans)"


def span_date(name: str, newest: str | None, created: str) -> str:
    """Returns the date of a span: the last one in its name; else the newest event time of its rows; else `created`.

    A date in a name stands for the whole day, so its end counts.

    >>> span_date("2026-11-27", None, "2026-12-01T00:00:00Z"), span_date("3", None, "2026-12-01T00:00:00Z")
    ('2026-11-27T23:59:59Z', '2026-12-01T00:00:00Z')
    >>> span_date("week-20261101_20261107", None, "2026-12-01T00:00:00Z")
    '2026-11-07T23:59:59Z'
    >>> span_date("shop-100203041", None, "2026-12-01T00:00:00Z"), span_date("20261127213300", None, "")
    ('2026-12-01T00:00:00Z', '2026-11-27T23:59:59Z')
    """
    for parts in reversed(_DATE.findall(name)):
        try:
            return f"{datetime.date(*(int(part) for part in parts if part)).isoformat()}T23:59:59Z"
        except ValueError:
            continue
    return newest or created


def next_name(names: Sequence[str]) -> str:
    """Returns the name of a span that is given none: the number after the greatest one, or after how many there are.

    >>> next_name(["1", "2026-11-27", "2"]), next_name(["a"]), next_name([])
    ('3', '2', '1')
    """
    numbers = [int(name) for name in names if name.isdecimal() and len(name) < 8]
    return str(max(numbers, default=len(names)) + 1)


def check_alike(base: Manifest, new: Manifest) -> None:
    """Refuses rows that are not what those of a dataset are.

    Raises:
      DataError: the message says in what they differ.
    """
    for name in _SHARED:
        said, found = getattr(base, name), getattr(new, name)
        if said != found:
            raise DataError(f"{name} must be {said}, as in the dataset, got {found}; nothing is published")
    if list(base.splits) != list(new.splits):
        raise DataError(
            f"splits must be {', '.join(base.splits)}, as in the dataset, got {', '.join(new.splits)}; "
            "nothing is published"
        )
    for name, what in _FINGERPRINTS.items():
        said, found = base.provenance.get(name), new.provenance.get(name)
        if said != found:
            raise DataError(
                f"{name} must be {said}, as in the dataset, got {found}: the run {what}; nothing is published"
            )


def contradictions(whole: Manifest) -> Iterator[str]:
    """Yields what the spans of a manifest and its sums over them do not agree on."""
    spans = whole.spans
    if not spans:
        return
    for what, values in (("name", [span.name for span in spans]), ("folder", [span.folder for span in spans])):
        if len(set(values)) < len(values):
            yield f"spans must have different {what}s: {values}"
    for field in ("rows_in", "rows_out", "rows_rejected"):
        said, found = getattr(whole, field), sum(getattr(span, field) for span in spans)
        if said != found:
            yield f"{field}, against its spans: {said} and {found}"
    for split, said in whole.splits.items():
        found = sum(span.splits.get(split, 0) for span in spans)
        if said != found:
            yield f"splits.{split}, against its spans: {said} and {found}"
    for field in ("rejected_by_reason", "rejected_by_stage"):
        counts = sum_counts(getattr(span, field) for span in spans)
        if dict(getattr(whole, field)) != counts:
            yield f"{field}, against its spans: {dict(getattr(whole, field))} and {counts}"
    for one in whole.provenance.get("inputs", ()):
        if one.get("span") not in {span.name for span in spans}:
            yield f"provenance.inputs: {one.get('uri')} is of no span"


def _span(manifest: Manifest, name: str, folder: str, of_dataset: Mapping[str, Any] | None = None) -> Span:
    """Makes the span of what a run has written; `of_dataset` is the provenance that is not repeated."""
    ends = [shard.event_time[1] for shard in manifest.shards if shard.event_time]
    newest = max(ends, key=by_time, default=None)
    return Span(
        name=name,
        run_id=manifest.run_id,
        created=manifest.created,
        date=span_date(name, newest, manifest.created),
        folder=folder,
        dataset_id=manifest.dataset_id,
        rows_in=manifest.rows_in,
        rows_out=manifest.rows_out,
        rows_rejected=manifest.rows_rejected,
        splits=manifest.splits,
        rejected_by_reason=manifest.rejected_by_reason,
        rejected_by_stage=manifest.rejected_by_stage,
        statistics=manifest.extra(STATISTICS),
        notes=manifest.notes,
        anomalies=manifest.anomalies,
        provenance={} if of_dataset is None else _differing(manifest.provenance, of_dataset),
    )


def _folder_of(manifest: Manifest) -> str:
    """The folder of a run that the files are in; empty where a run on a disk has none."""
    top = manifest.shards[0].path.partition("/")[0] if manifest.shards else ""
    return top if top.startswith(RUN_PREFIX) else ""


def _differing(own: Mapping[str, Any], of_dataset: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in own.items() if name != "inputs" and value != of_dataset.get(name)}
    if "options" in found:
        before = of_dataset.get("options", {})
        found["options"] = {
            name: value for name, value in found["options"].items() if name not in before or before[name] != value
        }
    return found


def _with_span(provenance: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Returns a provenance whose inputs name their span."""
    if "inputs" not in provenance:
        return dict(provenance)
    return {**provenance, "inputs": [{"span": name, **one} for one in provenance["inputs"]]}
