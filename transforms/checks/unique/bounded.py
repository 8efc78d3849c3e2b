"""Finds the rows of bounded input that repeat a key, by sorting on disk."""

import dataclasses
import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.beam.spill import SpilledBatch, read_pieces
from penstock.io.beam.windows import Windows
from penstock.io.columns.hashing import hash_rows, salted
from penstock.io.files.temporary import temporary_folder
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.kernel.shared.pieces import put_fixed, put_slices
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import EncodedRecords, records_batch
from penstock.io.sort.runs import MAX_RUN_BYTES
from penstock.transforms.checks.file import UniqueKey
from penstock.transforms.checks.unique.keys import Repeated, RowOrigin, keyed_rows, origins_of

ROW_SEED = salted(0, "unique row")


# The part of a record of `_sort_records` after the URI.
_TAIL = struct.Struct(">QQQ")


def _sort_records(batch: pa.RecordBatch, key: UniqueKey, windows: Windows | None, ordinal: int) -> pa.RecordBatch:
    """Makes a record (`penstock.io.sort`) for each row with a key. Records sort by key, and then in source order.

    All numbers are big-endian, so bytes sort as numbers do::

        length of the key u32 | key | URI | 0 | position u64, from -2^63 | hash of the row u64 | ordinal u64

    `ordinal` is that of the batch's first row, among the rows of a bucket.
    """
    keyed = keyed_rows(batch, key, windows)
    rows, lengths = keyed.rows, np.diff(keyed.starts)
    uris, positions = origins_of(batch)
    names = uris.dictionary.cast(pa.binary())
    codes = uris.indices.to_numpy(zero_copy_only=False)[rows]
    uri_data = np.frombuffer(b"".join(names.to_pylist()), np.uint8)
    uri_starts = starts_of(pc.binary_length(names).to_numpy(zero_copy_only=False).astype(np.int64))
    uri_lengths = np.diff(uri_starts)[codes]
    offsets = starts_of(4 + lengths + uri_lengths + 1 + _TAIL.size)
    data = np.zeros(offsets[-1], np.uint8)
    at = offsets[:-1]
    put_fixed(data, at, lengths.astype(">u4"))
    put_slices(data, at + 4, keyed.data, keyed.starts[:-1], lengths)
    put_slices(data, at + 4 + lengths, uri_data, uri_starts[codes], uri_lengths)
    tail = np.empty((len(rows), 3), ">u8")
    # XOR of the top bit makes int64 sort as unsigned.
    tail[:, 0] = positions[rows].view(np.uint64) ^ np.uint64(1 << 63)
    tail[:, 1] = hash_rows(batch, None, ROW_SEED)[rows]
    tail[:, 2] = rows + ordinal
    put_fixed(data, offsets[1:] - _TAIL.size, tail)
    return records_batch(np.zeros(len(rows), np.uint16), keyed.hashes, data, offsets, None)


@dataclasses.dataclass(frozen=True)
class _Row:
    """A parsed record of `_sort_records`."""

    key: bytes
    origin: RowOrigin
    ordinal: int

    @classmethod
    def of(cls, record: bytes) -> "_Row":
        end = 4 + int.from_bytes(record[:4])
        position, _, ordinal = _TAIL.unpack(record[-_TAIL.size :])
        return cls(record[4:end], RowOrigin(record[end : -_TAIL.size - 1].decode(), position - (1 << 63)), ordinal)


def _repeated(records: Iterable[EncodedRecords]) -> Iterator[tuple[int, RowOrigin]]:
    """Yields the ordinal of each row that repeats another, and the origin of the first; `records` are sorted."""
    first: _Row | None = None
    last_hash = -1
    for part in records:
        # Only rows with equal hashes are parsed in Python.
        hashes = part.keys
        repeats = np.concatenate([[int(hashes[0]) == last_hash], hashes[1:] == hashes[:-1]])
        # A row with the same hash as the next one may be the first of its key.
        heads = np.append(repeats[1:], True)
        for index in np.flatnonzero(repeats | heads).tolist():
            row = _Row.of(part.data[part.offsets[index] : part.offsets[index + 1]].tobytes())
            if repeats[index] and first is not None and row.key == first.key:
                yield row.ordinal, first.origin
            else:
                first = row
        last_hash = int(hashes[-1])


def find_duplicates(
    pieces: Sequence[SpilledBatch], key: UniqueKey, windows: Windows | None = None, run_bytes: int = MAX_RUN_BYTES
) -> Iterator[tuple[pa.RecordBatch, Repeated]]:
    """Yields all rows, in batches, with those that repeat another.

    Memory holds a batch and about `run_bytes`, whatever the number of rows, or of rows with one key.

    Args:
      pieces: the rows, in any order; all rows of a key must be among them.
      key: the key that must be unique.
      windows: the windows in which it must be; None for all rows together.
      run_bytes: the number of bytes that are sorted at once.

    Raises:
      DataError: when a row has no event time, and there are windows.
    """
    with temporary_folder() as directory:
        ordered = merge_batches(_all_records(pieces, key, windows), directory, run_bytes=run_bytes)
        verdicts = merge_batches(_verdicts(_repeated(ordered.pieces()), run_bytes), directory, run_bytes=run_bytes)
        start = 0
        for batch in read_pieces(pieces):
            found = verdicts.pieces(start, start + batch.num_rows)
            yield batch, {ordinal - start: origin for part in found for ordinal, origin in _origins(part)}
            start += batch.num_rows


def _all_records(pieces: Iterable[SpilledBatch], key: UniqueKey, windows: Windows | None) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in read_pieces(pieces):
        yield _sort_records(batch, key, windows, start)
        start += batch.num_rows


# The size of a verdict besides its URI, roughly: Python's objects for it.
_VERDICT_BYTES = 400


def _verdicts(repeated: Iterator[tuple[int, RowOrigin]], run_bytes: int) -> Iterator[pa.RecordBatch]:
    """Yields records whose keys are ordinals, and whose bytes are the origin of the first: position i64, URI."""
    while some := list(itertools.islice(repeated, max(1, run_bytes // _VERDICT_BYTES))):
        texts = [origin.position.to_bytes(8, signed=True) + origin.uri.encode() for _, origin in some]
        offsets = starts_of(np.array([*map(len, texts)], np.int64))
        keys = np.array([ordinal for ordinal, _ in some], np.uint64)
        data = np.frombuffer(b"".join(texts), np.uint8)
        yield records_batch(np.zeros(len(keys), np.uint16), keys, data, offsets, None)


def _origins(verdicts: EncodedRecords) -> Iterator[tuple[int, RowOrigin]]:
    for ordinal, (start, end) in zip(
        verdicts.keys.tolist(), itertools.pairwise(verdicts.offsets.tolist()), strict=True
    ):
        record = verdicts.data[start:end].tobytes()
        yield ordinal, RowOrigin(record[8:].decode(), int.from_bytes(record[:8], signed=True))
