"""Runs `compact` after its command line is checked."""

import logging
from collections.abc import Sequence

from penstock.io.dataset.options import IN_STATISTICS, OUT_STATISTICS, REJECTED_STATISTICS
from penstock.io.dataset.spans.compact import compact_spans
from penstock.io.dataset.spans.drop import dataset_with_spans, find_spans
from penstock.io.errors import PenstockError
from penstock.io.files import stores
from penstock.transforms.statistics.statistics import merge_statistics
from pipelines._inspect.spans import result_of
from pipelines._options.spans import CompactOptions
from pipelines._report.card.write import write_card
from pipelines._report.process import job_started
from pipelines._report.summary import tell

_LOGGER = logging.getLogger(__name__)


def run(options: CompactOptions) -> int:
    """Runs the job, as `pipelines.spans.compact` does."""
    started, names, given = job_started(), tuple(dict.fromkeys(options.others)), options.arguments
    before = dataset_with_spans(options.dataset)
    gone = find_spans(before, names or [span.name for span in before.spans])
    manifest = compact_spans(options.dataset, names, given.name, given.shard_bytes, _merge)
    write_card(options.dataset)
    return tell(result_of(options.name, options.dataset, manifest, started, gone), given.json)


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
