"""Runs `compact` after its command line is checked."""

import datetime
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.io.beam.durations import parse_duration
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.options import IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS, WINDOWS
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import dataset_with_spans, find_spans
from penstock.io.dataset.spans.windows import compact_windows
from penstock.io.dataset.windowed.manifest import WindowSet
from penstock.io.errors import ConfigError, PenstockError
from penstock.io.files import stores
from penstock.io.files.folders import list_files
from penstock.io.files.temporary import spilling_to
from penstock.transforms.statistics.statistics import merge_statistics
from pipelines._inspect.spans import result_of
from pipelines._options.spans import CompactOptions
from pipelines._report.card.write import write_card
from pipelines._report.process import job_started
from pipelines._report.result import SpansResult
from pipelines._report.summary import tell

_LOGGER = logging.getLogger(__name__)

_DAY = datetime.timedelta(days=1)


def run(options: CompactOptions) -> int:
    """Runs the job, as `pipelines.spans.compact` does."""
    with spilling_to(options.arguments.spill_dir):
        return _run(options)


def _run(options: CompactOptions) -> int:
    started, names, given = job_started(), tuple(dict.fromkeys(options.others)), options.arguments
    if read_manifest(options.dataset) is None and list_files(stores.join(options.dataset, WINDOWS)):
        return tell(_of_windows(options, started), given.json)
    if given.period is not None:
        raise ConfigError(f"--period {given.period}: is for a dataset with windows, which {options.dataset} has not")
    before = dataset_with_spans(options.dataset)
    gone = find_spans(before, names or [span.name for span in before.spans])
    manifest = compact_spans(options.dataset, names, given.name, given.shard_bytes, _merge)
    write_card(options.dataset)
    return tell(result_of(options.name, options.dataset, manifest, started, gone), given.json)


def _of_windows(options: CompactOptions, started: float) -> SpansResult:
    given = options.arguments
    for what in (*options.others, *([f"--name {given.name}"] if given.name else [])):
        raise ConfigError(f"{what}: is for spans, and {options.dataset} has windows: all that are final are taken")
    period = _DAY if given.period is None else parse_duration(given.period)
    found = compact_windows(options.dataset, period, given.shard_bytes)
    return SpansResult(
        job=options.name,
        seconds=time.monotonic() - started,
        dataset=options.dataset,
        version=None,
        sets=tuple(map(_told, found.sets)),
        open=found.open,
        quarantined=found.quarantined,
    )


def _told(found: WindowSet) -> Mapping[str, Any]:
    return {
        "window": found.window,
        "windows": len(found.parts),
        "rows_out": found.rows_out,
        "splits": dict(found.splits),
        "shards": len(found.shards),
        "bytes": sum(shard.bytes for shard in found.shards),
    }


def _merge(folders: Sequence[str], target: str) -> bool:
    """Merges the statistics in some folders; False if they cannot be merged, which is told."""
    names = (IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS)
    try:
        merged = {name: merge_statistics([stores.join(folder, name) for folder in folders]) for name in names}
    except PenstockError as error:
        _LOGGER.warning("the span has no statistics, since those of its parts cannot be merged: %s", error)
        return False
    for name, statistics in merged.items():
        statistics.write(stores.join(target, name))
    return True
