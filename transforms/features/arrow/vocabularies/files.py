"""Files of vocabularies, as tensorflow-transform writes them: texts of a term in each line, or TFRecords in gzip."""

import gzip
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.dataset.shard_formats.arrayrecord import framed
from penstock.io.examples.frames import Frames, read_frames
from penstock.io.files import stores
from penstock.io.files.system_errors import OUTPUT_REMEDY, writing

# How a file of records ends.
GZIPPED_RECORDS = ".tfrecord.gz"

# So many terms are written at once.
_TERMS = 1 << 16

_END, _EMPTY = (pa.scalar(text, pa.large_binary()) for text in (b"\n", b""))


def write_terms(terms: pa.LargeBinaryArray, path: str) -> None:
    """Writes terms in their order; the same terms make the same bytes."""
    is_text = not path.endswith(GZIPPED_RECORDS)
    with (
        writing(path, OUTPUT_REMEDY),
        stores.create_file(path, "text/plain" if is_text else "application/gzip") as file,
    ):
        if is_text:
            file.writelines(map(_lines, _pieces(terms)))
            return
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            for piece in _pieces(terms):
                packed.write(framed(piece.to_pylist()).data)


def _pieces(terms: pa.LargeBinaryArray) -> Iterator[pa.LargeBinaryArray]:
    return (terms[start : start + _TERMS] for start in range(0, len(terms), _TERMS))


def _lines(terms: pa.LargeBinaryArray) -> memoryview:
    ended = pc.binary_join_element_wise(terms, _END, _EMPTY)
    return memoryview(pc.binary_join(pa.ListArray.from_arrays([0, len(ended)], ended), _EMPTY)[0].as_buffer())


def read_terms(path: str) -> pa.LargeBinaryArray:
    """Reads what `write_terms` wrote.

    Raises:
      OSError: when there is none, or its gzip is damaged.
      ValueError: when the last line has no end, or one ends as no line that was written does.
      InputError: for records that are damaged.
    """
    with stores.open_file(path) as file:
        if path.endswith(GZIPPED_RECORDS):
            with gzip.GzipFile("", "rb", fileobj=file) as packed:
                pieces = [piece for piece in read_frames(packed, path) if isinstance(piece, Frames)]
            return pa.array([record for piece in pieces for record in piece.records()], pa.large_binary())
        return _split(file.read())


def _split(content: bytes) -> pa.LargeBinaryArray:
    if content and not content.endswith(b"\n"):
        raise ValueError("it ends within a line")
    if b"\r" in content:
        raise ValueError("it holds carriage returns, which no term of a text file has: its line ends were changed")
    data = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(data == ord("\n"))
    # The offset of a term is its place among the bytes that end no line.
    offsets = np.append(0, ends - np.arange(len(ends)))
    held = data[data != ord("\n")]
    buffers = [None, pa.py_buffer(offsets.astype(np.int64)), pa.py_buffer(held)]
    return pa.Array.from_buffers(pa.large_binary(), len(ends), buffers)
