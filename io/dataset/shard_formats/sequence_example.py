"""TFRecord shards of tf.SequenceExample.

The columns that were declared as lists are feature lists, and the others are features of the context. So what a column
becomes follows from the declaration alone, not from the rows.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.columns.values import is_list
from penstock.io.dataset.shard_formats.base import EncodedRows
from penstock.io.dataset.shard_formats.tfrecord import TFRecordShards
from penstock.io.errors import ConfigError
from penstock.io.examples.decode import RecordType
from penstock.io.examples.sequences import try_encode_sequences
from penstock.io.examples.steps import step_lengths_name


@dataclasses.dataclass(frozen=True)
class SequenceExampleShards(TFRecordShards):
    """Files of `TFRecordShards` with records of another type; `columns` are only needed to encode."""

    packs = False  # what is packed becomes a tf.Example
    record_type: ClassVar[RecordType] = "sequence_example"

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as framed tf.SequenceExamples.

        Raises:
          ConfigError: for a column that was not declared, or whose type no tf.Example can hold.
        """
        declared = self._declared.names
        for name in feature_names(batch):
            if name not in declared:
                raise ConfigError(
                    f"column {name!r} is not declared, so that it is not known whether it is a feature list; the "
                    f"columns are {', '.join(declared) or 'none'}"
                )
        encoded, faults = try_encode_sequences(batch, self._lists)
        return EncodedRows(encoded.data, encoded.offsets, faults)

    def provenance(self) -> Mapping[str, Any]:
        """Returns the names of the feature lists, sorted."""
        lengths = {step_lengths_name(name) for name in self._lists}
        return {"feature_lists": sorted(self._lists - lengths)}

    @property
    def _declared(self) -> pa.Schema:
        return pa.schema([]) if self.columns is None else self.columns

    @property
    def _lists(self) -> frozenset[str]:
        return frozenset(field.name for field in self._declared if is_list(field.type))
