"""Keeps rows as they were read, for those that are rejected after they were transformed."""

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import keep_source
from penstock.io.beam.batch_input import TakesBatches


class KeepSource(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]):
    """Copies the data columns of each batch into `_source`.

    It belongs before `ApplyTransform`, which replaces the columns: a row that is rejected later is then written to the
    dead letters as it was read.
    """

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which copies no data."""
        return batches | "KeepSource" >> beam.Map(keep_source).with_output_types(pa.RecordBatch)
