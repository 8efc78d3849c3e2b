"""Keeps rows as they were read, for those that are rejected after they were transformed."""

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import TakesBatches
from penstock.io.dead_letters.source import keep_source


class KeepSource(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]):
    """Copies the data columns of each batch into `_source`, unless it has a `_source` already.

    It is for batches that Penstock's readers did not read, or read without `keep_source=True`, and belongs before the
    first step that changes their columns. A row that is rejected later is then written to the dead letters as it was.
    """

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which copies no data."""
        return batches | "KeepSource" >> beam.Map(keep_source).with_output_types(pa.RecordBatch)
