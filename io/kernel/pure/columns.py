"""The columns of a RecordBatch as flat arrays, for the other twins.

The kernel, and so its twins, read int64, uint64, bool, float32, float64, (large_)string, (large_)binary, and
(large_)lists of them (`penstock.io.columns.lists.kernel_columns`). Unlike a `ListColumn`, which stands for any column,
these are the numbers and bytes that a tf.Example holds: integers as int64, floats as float32, nulls left out.
"""

import dataclasses
import enum
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from penstock.io.kernel.shared.offsets import Ints, list_lengths
from penstock.io.kernel.shared.pieces import Bytes

_NONE: Ints = np.zeros(0, np.int64)


class Kind(enum.Enum):
    """The kind of a feature's values."""

    INT = 1
    FLOAT = 2
    BYTES = 3


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of n rows with m values in all.

    Attributes:
      kind: the kind of the values.
      present: bool[n], whether the row has the feature; an empty list is present.
      counts: int64[n], the number of values of each row; 0 if the feature is absent.
      values: int64[m] or float32[m]; for BYTES uint8, where value j is `values[starts[j]:][:lengths[j]]`.
      starts: int64[m], empty unless BYTES.
      lengths: int64[m], empty unless BYTES.
      is_faithful: False if a list has a null inside, or int64 or float32 cannot hold a value.
    """

    kind: Kind
    present: npt.NDArray[np.bool_]
    counts: Ints
    values: npt.NDArray[Any]
    starts: Ints
    lengths: Ints
    is_faithful: bool


def open_columns(batch: pa.RecordBatch) -> list[Column]:
    """Opens the columns of a batch, in its order."""
    return [_open_column(array) for array in batch.columns]


def _open_column(array: pa.Array) -> Column:
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if not (types.is_list(array.type) or types.is_large_list(array.type)):
        return _flat_values(array.drop_null(), present, present.astype(np.int64), has_nulls=False)
    counts = list_lengths(array)
    items = array.flatten()
    if not items.null_count:
        return _flat_values(items, present, counts, has_nulls=False)
    # Drop the nulls inside lists: count them by the row that owns them, and reduce the row's count.
    owners = np.repeat(np.arange(len(array)), counts)
    missing = items.is_null().to_numpy(zero_copy_only=False)
    counts = counts - np.bincount(owners[missing], minlength=len(array))
    return _flat_values(items.drop_null(), present, counts, has_nulls=True)


def _flat_values(items: pa.Array, present: npt.NDArray[np.bool_], counts: Ints, has_nulls: bool) -> Column:
    if types.is_floating(items.type):
        floats, overflows = _float32(items.to_numpy(zero_copy_only=False))
        return Column(Kind.FLOAT, present, counts, floats, _NONE, _NONE, not (has_nulls or overflows))
    if types.is_integer(items.type) or types.is_boolean(items.type):
        wide = items.to_numpy(zero_copy_only=False)
        overflows = wide.dtype == np.uint64 and bool((wide > np.iinfo(np.int64).max).any())
        ints = wide.astype(np.int64, copy=False)
        return Column(Kind.INT, present, counts, ints, _NONE, _NONE, not (has_nulls or overflows))
    data, offsets = _bytes_buffers(items)
    return Column(Kind.BYTES, present, counts, data, offsets[:-1], np.diff(offsets), not has_nulls)


def _float32(wide: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float32], bool]:
    """Narrows the values; also returns whether a finite one has become infinite."""
    with np.errstate(over="ignore"):
        floats = wide.astype(np.float32, copy=False)
    return floats, wide.dtype == np.float64 and bool((np.isinf(floats) & np.isfinite(wide)).any())


def _bytes_buffers(items: pa.Array) -> tuple[Bytes, Ints]:
    """Returns the data of an array without nulls, and int64 offsets into it, one more than there are values."""
    wide = items.cast(pa.large_binary())
    _, offsets, data = wide.buffers()
    bounds = np.zeros(1, np.int64) if not len(wide) else np.frombuffer(offsets, np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return content, bounds[wide.offset : wide.offset + len(wide) + 1]
