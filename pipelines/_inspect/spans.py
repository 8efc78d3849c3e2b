"""Runs `spans`, `log`, `diff`, `drop-span` and `retain` after their command lines are checked."""

import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from penstock.io.beam.durations import parse_duration
from penstock.io.dataset.layout import SCHEMA
from penstock.io.dataset.manifest import Manifest, Span
from penstock.io.dataset.spans.drop import dataset_with_spans, drop_spans, find_spans, older_than
from penstock.io.dataset.spans.versions import Version, read_version, read_versions
from penstock.io.dataset.spans.whole import named, with_spans
from penstock.io.errors import ConfigError, PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.schema import load_schema
from penstock.transforms.anomalies.measures.thresholds import Thresholds
from penstock.transforms.dataset_report import whole_statistics
from penstock.transforms.relax import schema_difference
from pipelines._jobs.compare import compared_statistics
from pipelines._options.spans import DiffOptions, DropSpanOptions, LogOptions, RetainOptions, SpansOptions
from pipelines._report.card.write import write_card
from pipelines._report.process import job_started
from pipelines._report.result import SpansResult, of_differences
from pipelines._report.summary import tell

# Of a span, what is told of it.
_TOLD = ("name", "date", "created", "run_id", "rows_in", "rows_out", "rows_rejected", "splits", "parts", "statistics")


def list_spans(options: SpansOptions) -> int:
    """Runs `spans`."""
    started = job_started()
    manifest = dataset_with_spans(options.dataset)
    result = result_of(options.name, options.dataset, manifest, started)
    return tell(result, options.arguments.json)


def list_versions(options: LogOptions) -> int:
    """Runs `log`."""
    started = job_started()
    dataset_with_spans(options.dataset)
    present = {*list_files(options.dataset)}
    before: Version | None = None
    entries: list[Mapping[str, Any]] = []
    for version in read_versions(options.dataset):
        entries.append(_entry(version, before, present))
        before = version
    result = SpansResult(
        job=options.name,
        seconds=time.monotonic() - started,
        dataset=options.dataset,
        version=entries[-1]["version"],
        versions=tuple(reversed(entries)),
    )
    return tell(result, options.arguments.json)


def _entry(version: Version, before: Version | None, present: set[str]) -> dict[str, Any]:
    old = before.spans if before else {}
    added, removed = version.spans.keys() - old.keys(), old.keys() - version.spans.keys()
    # What came of spans that were put together has the rows that they had.
    rewritten = {run for run in added if run in version.parts and version.parts[run] <= removed}
    removed = removed.difference(*(version.parts[run] for run in rewritten))
    return {
        "version": version.number,
        "created": version.created,
        "run_id": version.run_id,
        "operation": version.operation or "prepare",
        "dataset_id": version.dataset_id,
        "spans": len(version.spans),
        "rows_out": version.rows_out,
        "rows_added": sum(version.spans[run] for run in added - rewritten),
        "rows_removed": sum(old[run] for run in removed),
        "readable": version.shards <= present,
    }


def compare_versions(options: DiffOptions) -> int:
    """Runs `diff`."""
    started, dataset = job_started(), options.dataset
    present = dataset_with_spans(dataset)
    newest = present.dataset_version
    numbers = options.numbers or (newest - 1, newest)
    if newest == 1 and options.numbers is None:
        raise ConfigError(f"{dataset}: has one version only, so there is nothing before it to compare with")
    before, after = (read_version(dataset, number) for number in numbers)
    added, removed = _changed(before, after)
    splits = dict.fromkeys((*before.splits, *after.splits))
    statistics, why_not = _statistics(dataset, before, after)
    result = SpansResult(
        job=options.name,
        seconds=time.monotonic() - started,
        dataset=dataset,
        version=newest,
        compared=numbers,
        spans=tuple(_told(added)),
        removed=tuple(_told(removed)),
        splits={split: (before.splits.get(split, 0), after.splits.get(split, 0)) for split in splits},
        schema=_schema_difference(dataset, before, after),
        statistics=statistics,
        not_compared=why_not,
    )
    return tell(result, options.arguments.json)


def _changed(before: Manifest | None, after: Manifest) -> tuple[list[Span], list[Span]]:
    """The spans that a version has and the one before has not, and the other way round; a span is known by its run."""
    old = {span.run_id: span for span in (with_spans(before).spans if before else ())}
    new = {span.run_id: span for span in with_spans(after).spans}
    added = [span for run, span in new.items() if run not in old]
    return added, [span for run, span in old.items() if run not in new]


def _statistics(dataset: str, before: Manifest, after: Manifest) -> tuple[tuple[Mapping[str, Any], ...], str | None]:
    """What differs in the statistics of all rows of two versions; or why they are not compared."""
    if before.dataset_id == after.dataset_id:
        return (), None
    found = []
    for manifest in (before, after):
        try:
            merged = whole_statistics(dataset, manifest)
        except (PenstockError, OSError) as error:
            return (), str(error)
        if merged is None:
            return (), f"version {manifest.dataset_version} has spans without any"
        found.append(merged)
    compared, _ = compared_statistics(found[0], found[1], None, Thresholds())
    return of_differences(compared), None


def _schema_difference(dataset: str, before: Manifest, after: Manifest) -> tuple[str, ...]:
    fingerprints = [one.provenance.get("schema_fingerprint") for one in (before, after)]
    places = [one.extra(SCHEMA) for one in (before, after)]
    if fingerprints[0] == fingerprints[1] or None in places:
        return ()
    old, new = (load_schema(stores.join(dataset, str(place))) for place in places)
    return schema_difference(old, new)


def drop(options: DropSpanOptions) -> int:
    """Runs `drop-span`."""
    started, names = job_started(), tuple(dict.fromkeys(options.others))
    gone = find_spans(dataset_with_spans(options.dataset), names)
    manifest = drop_spans(options.dataset, names, f"drop-span {named(names)}")
    write_card(options.dataset)
    return tell(result_of(options.name, options.dataset, manifest, started, gone), options.arguments.json)


def retain(options: RetainOptions) -> int:
    """Runs `retain`."""
    started, (age,) = job_started(), options.others
    before = dataset_with_spans(options.dataset)
    old = older_than(before, datetime.datetime.now(datetime.UTC) - parse_duration(age))
    manifest = before
    if old and not options.arguments.dry_run:
        manifest = drop_spans(options.dataset, [span.name for span in old], f"retain {age}", for_good=True)
        write_card(options.dataset)
    result = result_of(options.name, options.dataset, manifest, started, old, is_done=not options.arguments.dry_run)
    return tell(result, options.arguments.json)


def result_of(
    job: str, dataset: str, manifest: Manifest, started: float, removed: Sequence[Span] = (), is_done: bool = True
) -> SpansResult:
    """The result of a job that lists or changes the spans of a dataset."""
    return SpansResult(
        job=job,
        status="done" if is_done else "described",
        seconds=time.monotonic() - started,
        dataset=dataset,
        version=manifest.dataset_version,
        spans=tuple(_told(manifest.spans)),
        removed=tuple(_told(removed)),
    )


def _told(spans: Iterable[Span]) -> Iterable[Mapping[str, Any]]:
    return ({name: getattr(span, name) for name in _TOLD} for span in spans)
