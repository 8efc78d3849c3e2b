"""Messages as they are: the bytes of each in one column."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from penstock.io.messages.base import DecodedMessages, Decoder
from penstock.io.schema import Feature

RAW_COLUMN = "value"


def raw_decoder(features: Sequence[Feature] | None, column: str = RAW_COLUMN) -> Callable[[], Decoder]:
    """What makes a `RawDecoder`, whatever the features are."""
    return functools.partial(RawDecoder, column)


@dataclasses.dataclass(frozen=True)
class RawDecoder:
    """The bytes as they are, binary, in a column of this name."""

    column: str = RAW_COLUMN

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `Decoder`."""
        return DecodedMessages(np.arange(len(values)), {self.column: values.cast(pa.binary())}, {})
