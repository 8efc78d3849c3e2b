"""Writing a small dataset from batches, for the tests of formats of shards."""

import functools
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
from helpers import local_pipeline

from penstock.io.dataset.layout import Staging
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.write import WriteDataset


def write(
    output: object, batches: Sequence[pa.RecordBatch], workers: int = 1, letters: bool = False, **options: Any
) -> None:
    """Writes batches as a dataset, in 3 shards of each split if nothing else is said."""
    staging = Staging(str(output), "r1")
    handler = DeadLetterHandler(staging.dead_letters, "r1") if letters else None
    with local_pipeline(*([f"--direct_num_workers={workers}"] if workers > 1 else [])) as pipeline:
        rows = pipeline | beam.Create(list(range(len(batches)))) | beam.Reshuffle()
        rows = rows | "Rows" >> beam.Map(functools.partial(_at, batches)).with_output_types(pa.RecordBatch)
        _ = rows | WriteDataset(
            str(output), **{"num_shards": 3, "dead_letters": handler, "run_id": "r1" if letters else None, **options}
        )


def _at(batches: Sequence[pa.RecordBatch], index: int) -> pa.RecordBatch:
    return batches[index]
