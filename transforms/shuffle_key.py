"""The key that puts rows into their final, seeded order."""

import dataclasses
from collections.abc import Sequence

import apache_beam as beam
import pyarrow as pa

from penstock.io.batches import TakesBatches, set_column
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.reserved import SHUFFLE_KEY


def assign_shuffle_key(batch: pa.RecordBatch, seed: int = 0, columns: Sequence[str] | None = None) -> pa.RecordBatch:
    """Adds `_shuffle_key` to a batch that has none: uint64, a hash of the source row.

    Args:
      batch: the rows, before they are transformed.
      seed: the seed of the job; another seed gives another order.
      columns: the columns to hash (`hash_rows`), usually the schema's features; None for all features of the batch.
    """
    if SHUFFLE_KEY in batch.schema.names:
        return batch
    hashes = hash_rows(batch, columns, salted(seed, SHUFFLE_SALT))
    return set_column(batch, SHUFFLE_KEY, pa.array(hashes, pa.uint64()))


@dataclasses.dataclass(eq=False)
class AssignShuffleKey(
    TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[pa.RecordBatch]]
):
    """Adds `_shuffle_key`, a seeded hash of the row, to batches that have none.

    The key is independent of the split that the same seed gives.

    Attributes:
      seed: another seed gives another order.
      columns: the schema's features, so that a row hashes alike whether its source has a column of nulls or lacks
        it; None for all features of each batch.
    """

    seed: int = 0
    columns: Sequence[str] | None = None

    def __post_init__(self) -> None:
        super().__init__()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which handles each row independently."""
        assign = beam.Map(assign_shuffle_key, self.seed, self.columns).with_output_types(pa.RecordBatch)
        return batches | "AssignShuffleKey" >> assign
