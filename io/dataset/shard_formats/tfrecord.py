"""TFRecord shards of tf.Example: a shard is one compressed stream of records, which the encoder has framed already."""

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np
import pyarrow as pa
from isal import isal_zlib

from penstock.io.beam import progress
from penstock.io.columns.float32 import rounding_notes
from penstock.io.dataset.shard_formats.base import (
    Content,
    EncodedRows,
    ReadPiece,
    ShardFormat,
    ShardWriter,
    Store,
)
from penstock.io.examples.decode import RecordType, decode_examples, example_kinds, is_sequence
from penstock.io.examples.encode import try_encode_examples, try_pack_examples
from penstock.io.examples.frames import Frames, read_frames
from penstock.io.files.inputs import open_decompressed, stat_file
from penstock.io.kernel import examples
from penstock.io.kernel.shared.tfrecord import HEADER_BYTES
from penstock.io.reasons import Note, Reason
from penstock.io.schema import Feature
from penstock.io.sort.records import BlockWriter, Ints

# This level takes a sixth of the time of zlib's level 3 for 7 % more bytes, measured on tf.Examples of 12 columns.
_LEVEL = 2
_WINDOW_BITS = {"gzip": 31, "zlib": 15}


@dataclasses.dataclass(frozen=True)
class TFRecordShards(ShardFormat):
    """Files that TensorFlow reads; a value that a tf.Example cannot hold rejects its row."""

    packs = True
    record_type: ClassVar[RecordType] = "example"

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as framed tf.Examples."""
        return encode_framed(batch)

    def pack(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as framed tf.Examples without what the names and kinds of the columns say of them."""
        packed, faults = try_pack_examples(batch)
        return EncodedRows(packed.data, packed.offsets, faults, packed.layout)

    def packing(self, layouts: Iterable[bytes]) -> examples.Layouts:
        """Returns what makes framed tf.Examples of those that `pack` made."""
        return examples.Layouts(layouts)

    def notes(self, rows: pa.RecordBatch) -> Sequence[Note]:
        """Returns what becomes of doubles as float32."""
        return rounding_notes(rows)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """Opens one compressed stream.

        The compressor's output depends on how its input is cut, so the compressor always gets whole blocks.
        """
        bits = _WINDOW_BITS.get(self.compression)
        # The gzip header has no name and no time, so equal records make equal files.
        compressor = isal_zlib.compressobj(_LEVEL, isal_zlib.DEFLATED, bits) if bits else None
        content = Content()

        def add(block: memoryview) -> None:
            content.add(block)
            progress.add(written=len(block))
            store(compressor.compress(block) if compressor else block)

        blocks = BlockWriter(add)
        yield ShardWriter(blocks, content)
        blocks.flush()
        if compressor is not None:
            store(compressor.flush())

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the frames and checks their CRCs."""
        with open_decompressed(stat_file(path)) as stream:
            for frames in read_frames(stream, uri):
                yield framed_piece(frames, "at byte", frames.offsets, self.record_type)


def encode_framed(batch: pa.RecordBatch) -> EncodedRows:
    """Encodes rows as tf.Examples, each in a TFRecord frame."""
    encoded, faults = try_encode_examples(batch)
    return EncodedRows(encoded.data, encoded.offsets, faults)


def framed_piece(
    frames: Frames, what: str, positions: Sequence[int] | Ints, record_type: RecordType = "example"
) -> ReadPiece:
    """Wraps framed records that were read from a file; `positions` are those in the file, in the unit `what`."""
    sequence = is_sequence(record_type)

    def decode(features: Sequence[Feature]) -> tuple[pa.RecordBatch, Mapping[int, Sequence[Reason]]]:
        decoded = decode_examples(frames, features, strict=True, is_sequence=sequence)
        return decoded.batch, decoded.rejects

    return ReadPiece(
        frames.data,
        len(frames),
        np.append(frames.starts - HEADER_BYTES, len(frames.data)).astype(np.int64, copy=False),
        decode,
        position=lambda row: f"{what} {positions[row]}",
        kinds=lambda: example_kinds(frames, sequence),
    )
