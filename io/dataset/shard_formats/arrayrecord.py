"""ArrayRecord shards of tf.Example: files with an index of their records, for training that reads them in any order.

What is sorted, and what identifies a dataset, are the framed tf.Examples of TFRecord: the same rows have the same
dataset id in both formats. A file holds the tf.Examples without the frames; it has checksums of its own.
"""

import contextlib
import dataclasses
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from apache_beam.io.filesystems import FileSystems

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
from penstock.io.files.paths import is_local
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.kernel.shared.tfrecord import FOOTER_BYTES, HEADER_BYTES, mask_crcs
from penstock.io.sort.records import Bytes, Ints

# The compressions in the words of the package.
_OPTIONS = {"zstd": "zstd", "brotli": "brotli", "snappy": "snappy", "none": "uncompressed"}

# One record is read without its neighbours, as training in a random order needs it; and one thread writes, so that
# equal records make equal files.
_LAYOUT = "group_size:1,max_parallelism:1"

_MAX_GROUP_BYTES = 4 << 20
_MAX_GROUP_RECORDS = 1 << 16
_RECORDS_READ = 4096
_COPY_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class ArrayRecordShards(ShardFormat):
    """Files that Grain and the package `array_record` read, and that only the latter writes, to the local disk."""

    def encode(self, batch: pa.RecordBatch) -> EncodedRows:
        """The rows as framed tf.Examples."""
        return encode_framed(batch)

    @contextlib.contextmanager
    def open(self, store: Store) -> Iterator[ShardWriter]:
        """A file of this machine, which is stored when it is whole.

        Raises:
          OSError: when it cannot be written.
        """
        with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
            path, content = os.path.join(directory, "shard"), Content()
            with _written(path, f"{_LAYOUT},{_OPTIONS[self.compression]}") as writer:

                def add(data: Bytes, offsets: Ints) -> None:
                    content.add(data.data)
                    _write(writer, data, offsets)

                groups = RecordGroups(add, _MAX_GROUP_BYTES, _MAX_GROUP_RECORDS)
                yield ShardWriter(groups, content)
                groups.flush()
            _store_file(path, store)

    def read(self, path: str, uri: str) -> Iterator[ReadPiece]:
        """The records, framed again; checksums of the file are checked."""
        with _local_file(path) as local:
            first = 0
            for records in _records(local, uri):
                places = np.arange(first, first + len(records))
                yield framed_piece(framed(records), "record", places)
                first += len(records)


@contextlib.contextmanager
def _written(path: str, options: str) -> Iterator[Any]:
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(path, options)
    try:
        yield writer
    finally:
        # It raises what went wrong before, too.
        writer.close()
    if not os.path.exists(path):
        raise OSError(f"{path}: cannot be written")


def _write(writer: Any, data: Bytes, offsets: Ints) -> None:
    """Writes the tf.Examples inside of frames."""
    content = data.tobytes()
    for start, end in itertools.pairwise(offsets.tolist()):
        writer.write(content[start + HEADER_BYTES : end - FOOTER_BYTES])


def _store_file(path: str, store: Store) -> None:
    with open(path, "rb") as file:
        while data := file.read(_COPY_BYTES):
            store(data)


@contextlib.contextmanager
def _local_file(path: str) -> Iterator[str]:
    """The file, or a copy of it on this machine."""
    if is_local(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="penstock-") as directory:
        copy = os.path.join(directory, "shard")
        with FileSystems.open(path, compression_type="uncompressed") as source, open(copy, "wb") as target:
            shutil.copyfileobj(source, target, _COPY_BYTES)
        yield copy


def _records(path: str, uri: str) -> Iterator[list[bytes]]:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        # The default reads 16 MB ahead in as many threads as there are cores.
        reader = ArrayRecordReader(path, "readahead_buffer_size:0,max_parallelism:0")
        if not reader.ok():
            reader.read()  # says what is wrong
        total = reader.num_records()
        for start in range(0, total, _RECORDS_READ):
            yield reader.read(start, min(start + _RECORDS_READ, total))
        reader.close()
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"{uri}: not an ArrayRecord file, or it is damaged: {error}") from error


def framed(records: Sequence[bytes]) -> Frames:
    """Records in frames of TFRecord, as the encoder makes them."""
    lengths = np.fromiter(map(len, records), np.int64, len(records))
    heads = [length.to_bytes(8, "little") for length in lengths.tolist()]
    pieces = zip(heads, _crcs(heads), records, _crcs(records), strict=True)
    starts = starts_of(lengths + HEADER_BYTES + FOOTER_BYTES)[:-1] + HEADER_BYTES
    return Frames(b"".join(itertools.chain.from_iterable(pieces)), starts, lengths, 0)


def _crcs(pieces: Sequence[bytes]) -> Iterator[bytes]:
    crcs = mask_crcs(np.fromiter(map(google_crc32c.value, pieces), np.uint32, len(pieces))).astype("<u4").tobytes()
    return (crcs[start : start + FOOTER_BYTES] for start in range(0, len(crcs), FOOTER_BYTES))
