"""Hashes rows, independent of order, batches and workers; splits and the shuffle use the hash.

The hash is XXH64 over the columns of the row in name order. A null, or a column that is absent, adds a zero byte. A
value adds a byte for its kind (1 int, 2 float, 3 bytes), the number of values as u32, and the values: an int64, the
float64 of the float32 that a tf.Example holds, or a u32 length and the bytes; all little-endian. So equal rows from
CSV, Parquet and Avro have equal hashes, and a scalar hashes like a list of one.

Version 2 of the hash is the same but for whole numbers within int64: it takes a FLOAT such as 7.0, and a text such as
`7` or `7.0` (not `007`, `+7` or `7e0`), for the INT 7, and a list for one of INT if all its values are such. So a key
has one hash, whichever kind a schema gives it. A double that is no whole number may be one as float32; then it is that.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from penstock.io.batches import check_different_names, feature_names
from penstock.io.columns.lists import kernel_columns
from penstock.io.kernel import hashing
from penstock.io.kernel.pure import rows as kernel_rows

# Uses of one seed that must be independent hash with different salts.
SPLIT_SALT = "split"
SHUFFLE_SALT = "shuffle"


def salted(seed: int, salt: str) -> int:
    """Returns the 64-bit seed for one use of a job's seed.

    >>> salted(0, SPLIT_SALT) != salted(0, SHUFFLE_SALT)
    True
    """
    return xxhash.xxh64_intdigest(f"{salt}:{seed}".encode())


def hash_rows(
    batch: pa.RecordBatch, columns: Sequence[str] | None, seed: int, version: int = 1
) -> npt.NDArray[np.uint64]:
    """Hashes each row with XXH64, and returns uint64[rows].

    The module's docstring says what is hashed.

    Args:
      batch: rows of any types that have a tf.Example form.
      columns: which columns, in any order; None for all except the reserved ones. A column that the batch lacks is
        treated as null.
      seed: 64-bit seed, as `salted` gives.
      version: of the hash, 1 or 2.

    Raises:
      ConfigError: for a column of a type without a tf.Example form, and for two columns of one name.
    """
    check_different_names(batch)
    names = sorted(feature_names(batch) if columns is None else columns)
    return hashing.hash_rows(kernel_columns(batch, names), seed % (1 << 64), version == 2)


def canonical_rows(
    batch: pa.RecordBatch, columns: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Returns the bytes that `hash_rows` hashes, and int64[rows + 1]: where each row begins, and the end.

    Columns come in name order. Rows equal in these columns have equal bytes; no row's bytes are a prefix of another's.

    Raises:
      ConfigError: for a column of a type without a tf.Example form.
    """
    return kernel_rows.canonical_rows(kernel_columns(batch, sorted(columns)))
