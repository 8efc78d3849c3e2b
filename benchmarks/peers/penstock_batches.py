"""Penstock without Beam: `compute_statistics` on the batches of Arrow's CSV reader, in one thread."""

from _proto import columns
from _protocol import Task, main
from pyarrow import csv

from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.statistics import Statistics

_BLOCK_BYTES = 4 << 20


def job(task: Task) -> Statistics:
    """No settings; types are those of Arrow's first block."""
    batches = csv.open_csv(
        task.input,
        csv.ReadOptions(block_size=_BLOCK_BYTES),
        convert_options=csv.ConvertOptions(null_values=[""], strings_can_be_null=True),
    )
    statistics = compute_statistics(batches)
    statistics.write(task.path("statistics.pb"))
    return statistics


def tell(statistics: Statistics) -> dict:
    """What they say."""
    return columns(statistics.to_proto())


if __name__ == "__main__":
    main(job, tell=tell)
