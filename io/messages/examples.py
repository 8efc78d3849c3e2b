"""Serialized tf.Examples and tf.SequenceExamples in messages."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.examples.decode import RecordType, decode_examples, is_sequence
from penstock.io.examples.frames import Frames
from penstock.io.messages.base import DecodedMessages, Decoder, binary_layout
from penstock.io.schema import Feature


def example_decoder(features: Sequence[Feature] | None, record_type: RecordType = "example") -> Callable[[], Decoder]:
    """Returns a maker of `ExampleDecoder`s.

    Raises:
      ConfigError: when there is no such type of records.
    """
    return functools.partial(ExampleDecoder, features, is_sequence(record_type))


@dataclasses.dataclass(frozen=True)
class ExampleDecoder:
    """Decodes tf.Examples or tf.SequenceExamples; see `decode_examples` for the columns."""

    features: Sequence[Feature] | None
    is_sequence: bool = False

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `Decoder`."""
        data, starts, ends = binary_layout(values)
        found = decode_examples(Frames(data, starts, ends - starts, 0), self.features, is_sequence=self.is_sequence)
        indices = np.delete(np.arange(len(values)), list(found.rejects))
        batch = found.batch.take(pa.array(indices)) if found.rejects else found.batch
        return DecodedMessages(indices, dict(zip(batch.schema.names, batch.columns, strict=True)), found.rejects)
