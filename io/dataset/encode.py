"""Rows to encoded records: the first step of the sink, with or without windows."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows
from penstock.io.columns.hashing import SHUFFLE_SALT, hash_rows, salted
from penstock.io.columns.lists import without_views
from penstock.io.errors import ConfigError, DataError
from penstock.io.examples.encode import try_encode_examples
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, SHUFFLE_KEY, SPLIT
from penstock.io.sort.records import Keys, Splits, records_batch


@dataclasses.dataclass(frozen=True)
class EncodedBatch:
    """A batch, encoded.

    Attributes:
      records: a batch of `RECORDS`.
      rows: the rows of the records.
      all_rows: those that were given, without views.
      faults: why rows cannot be written, by their index in `all_rows`.
    """

    records: pa.RecordBatch
    rows: pa.RecordBatch
    all_rows: pa.RecordBatch
    faults: Mapping[int, Sequence[Reason]]


@dataclasses.dataclass(frozen=True)
class RecordEncoder:
    """Encodes batches.

    Attributes:
      splits: the names of all splits.
      is_ordered: whether the order of the input is kept, so that rows must bring their places along.
      seed: of the shuffle, for rows without `_shuffle_key`.
    """

    splits: tuple[str, ...]
    is_ordered: bool
    seed: int

    def encode(self, batch: pa.RecordBatch) -> EncodedBatch:
        """The records of a batch.

        Raises:
          ConfigError: when rows have no split, or one that is not known, or no place where that is needed.
          DataError: for a shuffle key that is null.
        """
        batch = without_views(batch)
        encoded, faults = try_encode_examples(batch)
        rows = drop_rows(batch, faults) if faults else batch
        times = rows.column(EVENT_TIME) if EVENT_TIME in rows.schema.names else None
        records = records_batch(self._split_numbers(rows), self._keys(rows), encoded.data, encoded.offsets, times)
        return EncodedBatch(records, rows, batch, faults)

    def _keys(self, batch: pa.RecordBatch) -> Keys:
        if SHUFFLE_KEY in batch.schema.names:
            keys = batch.column(SHUFFLE_KEY)
            if keys.null_count:
                raise DataError(f"{SHUFFLE_KEY} must not be null, got {keys.null_count} nulls in a batch")
            return keys.to_numpy(zero_copy_only=False)
        if self.is_ordered:
            raise ConfigError("shuffle='none' needs the place of each row: read with ReadRecords(..., order_key=True)")
        return hash_rows(batch, None, salted(self.seed, SHUFFLE_SALT))

    def _split_numbers(self, batch: pa.RecordBatch) -> Splits:
        if SPLIT not in batch.schema.names:
            if len(self.splits) > 1:
                raise ConfigError(
                    f"rows have no split; use AssignSplit, or one split instead of {', '.join(self.splits)}"
                )
            return np.zeros(batch.num_rows, np.uint16)
        column = batch.column(SPLIT)
        names = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        numbers = pc.index_in(names.dictionary.cast(pa.string()), pa.array(self.splits)).take(names.indices)
        if numbers.null_count:
            unknown = pc.unique(column.filter(pc.is_null(numbers)).cast(pa.string()))[0].as_py()
            raise ConfigError(f"a row is of split {unknown!r}; splits must name it, got {', '.join(self.splits)}")
        return numbers.to_numpy().astype(np.uint16)
