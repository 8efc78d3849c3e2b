"""One hash of rows for everything that must not depend on order, batches or workers: splits and the shuffle.

The hash of a row is XXH64 over its columns in name order. A null, or a column that is not there, is a zero byte. A
value is a byte for its kind (1 int, 2 float, 3 bytes), the number of values as u32, and the values: int64, float64 of
the float32 that a tf.Example holds, or a u32 length and the bytes; all little-endian. So the same rows hash alike
whether they came from CSV, Parquet or Avro, and a scalar like a list of one.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from penstock.io.batches import feature_names
from penstock.io.columns.lists import (
    Bytes,
    Ints,
    Ragged,
    kernel_columns,
    put_constant,
    put_fixed,
    put_slices,
    starts_of,
    sums_per_row,
    to_ragged,
    value_positions,
)
from penstock.io.kernel import native
from penstock.io.schema import Kind

if native.ENABLED:
    from penstock.io.kernel.native import _columns, _hashing

# Uses of one seed that must be independent of each other hash with different salts.
SPLIT_SALT = "split"
SHUFFLE_SALT = "shuffle"

_KIND_BYTES = {Kind.INT: 1, Kind.FLOAT: 2, Kind.BYTES: 3}
_HEADER_BYTES = 5
_LENGTH_BYTES = 4


def salted(seed: int, salt: str) -> int:
    """The 64-bit seed for one use of a job's seed.

    >>> salted(0, SPLIT_SALT) != salted(0, SHUFFLE_SALT)
    True
    """
    return xxhash.xxh64_intdigest(f"{salt}:{seed}".encode())


def hash_rows(batch: pa.RecordBatch, columns: Sequence[str] | None, seed: int) -> npt.NDArray[np.uint64]:
    """XXH64 of each row: uint64[rows]; see the module for what is hashed.

    Args:
      batch: rows of any types that have a tf.Example form.
      columns: which columns, in any order; None for all without the reserved ones. One that the batch lacks counts
        as null.
      seed: 64-bit seed, as `salted` gives.

    Raises:
      ConfigError: for a column of a type without a tf.Example form.
    """
    names = sorted(feature_names(batch) if columns is None else columns)
    return _hash_natively(batch, names, seed) if native.ENABLED else _hash_in_python(batch, names, seed)


def _hash_natively(batch: pa.RecordBatch, names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    hashes = np.empty(batch.num_rows, np.uint64)
    _hashing.hash_rows(_columns.Columns(kernel_columns(batch, names)), seed % (1 << 64), hashes)
    return hashes


def _hash_in_python(batch: pa.RecordBatch, names: Sequence[str], seed: int) -> npt.NDArray[np.uint64]:
    data, starts = canonical_rows(batch, names)
    view, bounds = data.data, starts.tolist()
    digests = (xxhash.xxh64_intdigest(view[start:end], seed) for start, end in itertools.pairwise(bounds))
    return np.fromiter(digests, np.uint64, batch.num_rows)


def canonical_rows(batch: pa.RecordBatch, names: Sequence[str]) -> tuple[Bytes, Ints]:
    """What `hash_rows` hashes, of columns in the order of the names: the bytes of all rows, and int64[rows + 1] starts.

    Equal rows have equal bytes, and none are the beginning of others.

    Raises:
      ConfigError: for a column of a type without a tf.Example form.
    """
    available = set(batch.schema.names)
    columns = [to_ragged(name, batch.column(name)) if name in available else None for name in names]
    sizes = [np.ones(batch.num_rows, np.int64) if column is None else _row_sizes(column) for column in columns]
    starts = starts_of(sum(sizes, np.zeros(batch.num_rows, np.int64)))
    data = np.zeros(starts[-1], np.uint8)
    positions = starts[:-1]
    for column, size in zip(columns, sizes, strict=True):
        if column is not None:
            _put_column(data, positions, column)
        positions = positions + size
    return data, starts


def _value_sizes(column: Ragged) -> Ints:
    if column.kind is Kind.BYTES:
        return column.lengths + _LENGTH_BYTES
    return np.full(len(column.values), 8, np.int64)


def _row_sizes(column: Ragged) -> Ints:
    return np.where(column.present, _HEADER_BYTES + sums_per_row(_value_sizes(column), column.counts), 1)


def _put_column(data: Bytes, row_starts: Ints, column: Ragged) -> None:
    present = row_starts[column.present]
    put_constant(data, present, bytes([_KIND_BYTES[column.kind]]))
    put_fixed(data, present + 1, column.counts[column.present].astype("<u4"))
    positions = value_positions(row_starts + _HEADER_BYTES, _value_sizes(column), column.counts)
    match column.kind:
        case Kind.INT:
            put_fixed(data, positions, column.values.astype("<i8", copy=False))
        case Kind.FLOAT:
            put_fixed(data, positions, _canonical_floats(column.values))
        case Kind.BYTES:
            put_fixed(data, positions, column.lengths.astype("<u4"))
            put_slices(data, positions + _LENGTH_BYTES, column.values, column.starts, column.lengths)


def _canonical_floats(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """One zero and one NaN."""
    wide = values.astype("<f8") + 0.0  # -0.0 + 0.0 is 0.0
    wide[np.isnan(wide)] = np.nan
    return wide
