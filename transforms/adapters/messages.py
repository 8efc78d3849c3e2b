"""Messages of any source to batches: `FromMessages`."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.columns.conform import conform_batch
from penstock.io.dead_letters.handler import RejectingTransform
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.errors import DataError
from penstock.io.messages.base import Messages
from penstock.io.messages.values import Values, values_of
from penstock.io.reserved import ORIGIN
from penstock.io.schema import Feature, schema_features
from penstock.transforms.adapters.bundles import ConvertedRows, ConvertsElements, batch_elements, good_rows


@dataclasses.dataclass(eq=False)
class FromMessages(RejectingTransform):
    """Makes batches of messages: bytes of which each is one row, from whichever source.

    Takes a `PCollection[bytes]`, such as of a message queue, and decodes them a batch at a time
    (`penstock.io.messages.values` has the formats and their reasons). Batches and times are those of `FromDicts`.
    A message that is no row is rejected as it is.

    Attributes:
      format: of a message: `json`, `csv`, `avro`, `tfexample` or `raw`.
      schema: the features to read; None for all columns.
      options: of the format, by keyword, such as `{"column_names": ["a", "b"]}` for csv.

    Raises:
      ConfigError: for an unknown format or option, or an invalid schema; behind sliding windows.
      DataError: on the workers, for an element that is not bytes.
    """

    format: str = "json"
    schema: schema_pb2.Schema | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        features = None if self.schema is None else schema_features(self.schema)
        self._converter = _ConvertsMessages(values_of(self.format, features, **self.options), features)

    def expand(self, messages: beam.PCollection[bytes]) -> beam.PCollection[pa.RecordBatch]:
        """Gathers the messages of a bundle."""
        batches, rejected = batch_elements(self, messages, self._converter)
        self._reject(rejected)
        return batches


@dataclasses.dataclass(frozen=True)
class _ConvertsMessages(ConvertsElements):
    values: Values
    features: Sequence[Feature] | None

    def convert(self, elements: Sequence[Any], times: pa.Array) -> ConvertedRows:
        # Positions tell which of the elements a row is; nobody else sees them.
        numbers = np.arange(len(elements))
        messages = Messages("", pa.array([_content(each) for each in elements], pa.large_binary()), numbers)
        parsed = self.values.parse(messages)
        read = parsed.with_source()
        batch, faults = (read, {}) if self.features is None else conform_batch(read, self.features)
        rejected = [*parsed.rejected]
        if faults:
            rejected += row_letters(read, faults, "read")
        rows = batch.column(ORIGIN).field("position").to_numpy(zero_copy_only=False)
        good = good_rows(batch.drop_columns([ORIGIN]), sorted(faults), _dated(rejected, times))
        return dataclasses.replace(good, indices=rows[good.indices])

    def size(self, element: Any) -> int:
        return len(element)


def _content(element: Any) -> bytes:
    if not isinstance(element, bytes):
        raise DataError(
            f"FromMessages takes bytes, got {type(element).__name__}: pass on what the message holds, a text as "
            "text.encode()"
        )
    return element


def _dated(letters: Sequence[DeadLetter], times: pa.Array) -> RejectedBatch:
    """Gives dead letters the times of their messages, and takes away their numbers."""
    positions = pa.array([letter.position for letter in letters], pa.int64())
    texts = pc.strftime(times.take(positions), format="%Y-%m-%dT%H:%M:%SZ").to_pylist()
    return RejectedBatch.of(
        dataclasses.replace(letter, position=-1, event_time=text) for letter, text in zip(letters, texts, strict=True)
    )
