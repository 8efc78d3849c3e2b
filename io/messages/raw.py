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
    """Returns a maker of `RawDecoder`s; ignores the features."""
    return functools.partial(RawDecoder, column)


@dataclasses.dataclass(frozen=True)
class RawDecoder:
    """Puts the bytes unchanged into a binary column of this name."""

    column: str = RAW_COLUMN

    def decode(self, values: pa.Array) -> DecodedMessages:
        """See `Decoder`."""
        return DecodedMessages(np.arange(len(values)), {self.column: values.cast(pa.binary())}, {})
