"""Messages of a source, and the interface of decoders of their values."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.dead_letters.source import bytes_source
from penstock.io.reasons import Note, Reason

# Names and values of one message; None where it has no headers.
Headers = Sequence[tuple[str, bytes | None]] | None


@dataclasses.dataclass(frozen=True, eq=False)
class Messages:
    """Some messages of one partition.

    Attributes:
      uri: of the partition, such as `kafka://HOST:PORT/TOPIC/PARTITION`.
      values: binary or large_binary[n]; null is a tombstone.
      positions: int64[n], the offsets.
      keys: binary[n], null where a message has none. None when keys are not wanted; the dead letters of tombstones then
        have an empty payload.
      headers: the headers of each message, if they are wanted.
    """

    uri: str
    values: pa.BinaryArray | pa.LargeBinaryArray
    positions: np.ndarray
    keys: pa.BinaryArray | None = None
    headers: Sequence[Headers] | None = None

    def source(self, rows: np.ndarray | None = None) -> pa.StructArray:
        """Returns `_source` of some messages, or of all: the message's value, or for a tombstone its key."""
        values = self.values
        if values.null_count:
            keys = [] if self.keys is None else [self.keys.cast(values.type)]
            values = pc.coalesce(values, *keys, pa.scalar(b"", values.type))
        return bytes_source(values if rows is None or len(rows) == len(values) else values.take(pa.array(rows)))


@dataclasses.dataclass(frozen=True, eq=False)
class DecodedMessages:
    """Values of some messages as columns.

    Attributes:
      indices: int64[m], the index of the value of each row, ascending.
      columns: the columns of the rows, by name.
      faults: the reasons of the values that have no row, by index.
      is_typed: whether the format has types, so that texts are texts; else a schema says what they stand for.
      notes: what was left out of the rows.
      explodes: whether a value may have several rows, so that its bytes are not those of a row.
    """

    indices: np.ndarray
    columns: dict[str, pa.Array]
    faults: Mapping[int, Sequence[Reason]]
    is_typed: bool = True
    notes: Sequence[Note] = ()
    explodes: bool = False


class Decoder(Protocol):
    """Decodes the values of one format. It may learn from them, so each is for one thread."""

    def decode(self, values: pa.Array) -> DecodedMessages:
        """Decodes values: binary or large_binary[n] without nulls."""


def binary_layout(values: pa.Array) -> tuple[memoryview, np.ndarray, np.ndarray]:
    """Returns the bytes of a binary or large_binary array without nulls, and the int64 start and end of each value.

    The bytes are not copied.
    """
    width = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    _, offsets, content = values.buffers()
    data = memoryview(b"" if content is None else content).cast("B")
    if not len(values):
        return data, np.empty(0, np.int64), np.empty(0, np.int64)
    bounds = np.frombuffer(offsets, width)[values.offset : values.offset + len(values) + 1].astype(np.int64)
    return data, bounds[:-1], bounds[1:]
