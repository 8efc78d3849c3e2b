"""ArrayRecord shards of tf.Example: files with an index of their records, for training that reads them in any order.

The sort and the dataset id use the same framed tf.Examples as TFRecord, so the same rows have the same dataset id in
both formats. A file holds the tf.Examples without the frames, and has checksums of its own.
"""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator, Sequence
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa

from penstock.io.columns.float32 import rounding_notes
from penstock.io.dataset.shard_formats.base import (
    Content,
    EncodedRows,
    ReadPiece,
    RecordGroups,
    ShardFormat,
    ShardWriter,
    Store,
)
from penstock.io.dataset.shard_formats.tfrecord import encode_framed, framed_piece
from penstock.io.errors import InputError
from penstock.io.examples.frames import Frames
from penstock.io.files.folders import local_file
from penstock.io.files.system_errors import SPILL_REMEDY, writing
from penstock.io.files.temporary import temporary_folder
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, mask_crcs
from penstock.io.reasons import Note
from penstock.io.sort.records import Bytes, Ints

# Our names of compressions -> the names in `array_record`.
_OPTIONS = {"zstd": "zstd", "brotli": "brotli", "snappy": "snappy", "none": "uncompressed"}

# `group_size:1` lets a reader read one record without its neighbours, as training in a random order needs. With one
# writing thread, equal records make equal files.
_LAYOUT = "group_size:1,max_parallelism:1"

_MAX_GROUP_BYTES = 4 << 20
_MAX_GROUP_RECORDS = 1 << 16
_RECORDS_READ = 4096
_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ArrayRecordShards(ShardFormat):
    """Files that Grain and the package `array_record` read. Only `array_record` writes them, to the local disk."""

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """Encodes rows as framed tf.Examples."""
        return encode_framed(batch)

    def notes(self, rows: pa.RecordBatch) -> Sequence[Note]:
        """Returns what becomes of doubles as float32."""
        return rounding_notes(rows)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """Opens a file on this machine, which is stored once it is complete.

        Raises:
          OSError: if the file cannot be written.
        """
        with temporary_folder() as directory:
            path, content = os.path.join(directory, "shard"), Content()
            with writing(path, SPILL_REMEDY), _written(path, f"{_LAYOUT},{_OPTIONS[self.compression]}") as writer:

                def add(data: Bytes, offsets: Ints) -> None:
                    content.add(data.data)
                    _write(writer, data, offsets)

                groups = RecordGroups(add, _MAX_GROUP_BYTES, _MAX_GROUP_RECORDS)
                yield ShardWriter(groups, content)
                groups.flush()
            _store_file(path, store)

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """Reads the records, adds frames again, and checks the file's checksums."""
        with local_file(path) as local:
            first = 0
            for records in _records(local, uri):
                positions = np.arange(first, first + len(records))
                yield framed_piece(framed(records), "record", positions)
                first += len(records)


@contextlib.contextmanager
def _written(path: str, options: str) -> Iterator[Any]:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(path, options)
    try:
        yield writer
    finally:
        # This also raises earlier errors.
        writer.close()
    if not os.path.exists(path):
        raise OSError(f"{path}: cannot be written")


def _write(writer: Any, data: Bytes, offsets: Ints) -> None:
    """Writes the tf.Examples without their frames."""
    content = data.tobytes()
    for start, end in itertools.pairwise(offsets.tolist()):
        writer.write(content[start + HEADER_BYTES : end - FOOTER_BYTES])


def _store_file(path: str, store: Store) -> None:
    with open(path, "rb") as file:
        while data := file.read(_COPY_BYTES):
            store(data)


def _records(path: str, uri: str) -> Iterator[list[bytes]]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        # By default, it reads 16 MB ahead in as many threads as there are cores.
        reader = ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")
        if not reader.ok():
            reader.read()  # raises the error
        total = reader.num_records()
        for start in range(0, total, _RECORDS_READ):
            yield reader.read(start, min(start + _RECORDS_READ, total))
        reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{uri}: not an ArrayRecord file, or it is damaged: {error}") from error


def framed(records: Sequence[bytes]) -> Frames:
    """Puts records into TFRecord frames, as the encoder makes them.

    For each record four pieces are joined::

        length | CRC of length | record | CRC of record
        `------ header ------'            `-- footer -'
    """
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    heads = [length.to_bytes(8, "little") for length in lengths.tolist()]
    pieces = zip(heads, _crcs(heads), records, _crcs(records), strict=True)
    starts = starts_of(lengths + HEADER_BYTES + FOOTER_BYTES)[:-1] + HEADER_BYTES
    return Frames(b"".join(itertools.chain.from_iterable(pieces)), starts, lengths, 0)


def _crcs(pieces: Sequence[bytes]) -> Iterator[bytes]:
    crcs = mask_crcs(np.fromiter(map(google_crc32c.value, pieces), np.uint32, len(pieces))).astype("<u4").tobytes()
    return (crcs[start : start + FOOTER_BYTES] for start in range(0, len(crcs), FOOTER_BYTES))
