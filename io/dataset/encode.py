"""Encodes rows as records: the first step of the sink, with or without windows."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows, feature_names, notes_of
from penstock.io.columns.lists import without_views
from penstock.io.columns.of_schema import ORIGIN_COLUMNS, check_no_origin_columns
from penstock.io.columns.row_notes import row_notes
from penstock.io.dataset.shard_formats.base import EncodedRows, ShardFormat
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError, DataError
from penstock.io.reasons import Note, Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN, ORIGIN_NAMES, SHUFFLE_KEY, SPLIT
from penstock.io.sort.records import Keys, Splits, records_batch


@dataclasses.dataclass(frozen=True)
class EncodedBatch:
    """An encoded batch.

    Attributes:
      records: a batch of `RECORDS`.
      rows: the rows that were encoded, one for each record.
      all_rows: all rows of the input, with view types replaced by plain ones.
      faults: why rows cannot be written, by their index in `all_rows`.
      notes: what readers left out of `all_rows` without a schema, and what became of values of `rows`.
    """

    records: pa.RecordBatch
    rows: pa.RecordBatch
    all_rows: pa.RecordBatch
    faults: Mapping[int, Sequence[Reason]]
    notes: Sequence[Note] = ()


def with_origin_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Adds the two columns, made of `_origin`, behind those of a batch; a row without an origin has nulls.

    Raises:
      ConfigError: for rows without `_origin`, or with a column of one of these names.
    """
    if ORIGIN not in batch.schema.names:
        raise ConfigError(
            "keep_origin needs rows that say where they come from, as ReadRecords and ReadFromKafka give them: read "
            "the rows with these, or leave keep_origin out"
        )
    check_no_origin_columns(feature_names(batch))
    for name, values in zip(ORIGIN_NAMES, batch.column(ORIGIN).flatten(), strict=True):
        batch = batch.append_column(name, values.cast(ORIGIN_COLUMNS.field(name).type))
    return batch


@dataclasses.dataclass(frozen=True)
class RecordEncoder:
    """Encodes batches.

    Attributes:
      spec: the options of the dataset; with shuffle `none`, rows must carry their position in `_shuffle_key`.
      shard_format: the shard format.
      packs: whether to pack records, in a format that does so (`ShardFormat.packs`).
    """

    spec: DatasetSpec
    shard_format: ShardFormat
    packs: bool = False

    def encode(self, batch: pa.RecordBatch) -> EncodedBatch:
        """Encodes a batch.

        Raises:
          ConfigError: if rows have no split or an unknown one, have no position while shuffle is `none`, or do not have
            the origin that is to be kept.
          DataError: for a null shuffle key.
        """
        batch = without_views(batch)
        encode = self.shard_format.pack if self.packs else self.shard_format.encode
        encoded = encode(with_origin_columns(batch) if self.spec.keep_origin else batch)
        rows = drop_rows(batch, encoded.faults) if encoded.faults else batch
        times = rows.column(EVENT_TIME) if EVENT_TIME in rows.schema.names else None
        records = records_batch(
            self._split_numbers(rows), self._keys(rows, encoded), encoded.data, encoded.offsets, times, encoded.layout
        )
        return EncodedBatch(records, rows, batch, encoded.faults, (*notes_of(batch), *self.notes(rows)))

    def notes(self, rows: pa.RecordBatch) -> Sequence[Note]:
        """Returns what becomes of values of rows that can be written, and what was noted of the rows before."""
        return (*self.shard_format.notes(rows), *row_notes(rows))

    def _keys(self, batch: pa.RecordBatch, encoded: EncodedRows) -> Keys:
        if SHUFFLE_KEY in batch.schema.names:
            keys = batch.column(SHUFFLE_KEY)
            if keys.null_count:
                raise DataError(f"{SHUFFLE_KEY} must not be null, got {keys.null_count} nulls in a batch")
            return keys.to_numpy(zero_copy_only=False)
        if self.spec.shuffle == "none":
            raise ConfigError("shuffle='none' needs the place of each row: read with ReadRecords(..., order_key=True)")
        return self.shard_format.shuffle_keys(batch, encoded, self.spec.seed)

    def _split_numbers(self, batch: pa.RecordBatch) -> Splits:
        if SPLIT not in batch.schema.names:
            if len(self.spec.splits) > 1:
                raise ConfigError(
                    f"rows have no split; use AssignSplit, or one split instead of {', '.join(self.spec.splits)}"
                )
            return np.zeros(batch.num_rows, np.uint16)
        column = batch.column(SPLIT)
        names = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        numbers = pc.index_in(names.dictionary.cast(pa.string()), pa.array(self.spec.splits)).take(names.indices)
        if numbers.null_count:
            unknown = pc.unique(column.filter(pc.is_null(numbers)).cast(pa.string()))[0].as_py()
            raise ConfigError(f"a row is of split {unknown!r}; splits must name it, got {', '.join(self.spec.splits)}")
        return numbers.to_numpy().astype(np.uint16)
