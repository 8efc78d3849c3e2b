"""Columns as a tf.Example sees them, and moving their bytes without a loop over rows.

A column of any Arrow type becomes a `Ragged`: the values of all rows one after the other, and how many each row has.
The encoder and `hash_rows` lay such columns out as bytes: they compute every position first and then move all pieces
of one size at once.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.values import is_list, is_text
from penstock.io.errors import ConfigError
from penstock.io.schema import Kind

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# Longer pieces are rare, so that copying them one by one is as fast as sorting them by length.
_MAX_WINDOW_BYTES = 4096


@dataclasses.dataclass(frozen=True)
class Ragged:
    """One column of n rows with m values in all.

    Attributes:
      kind: the kind of tf.Example feature that holds the values.
      present: bool[n], whether the row has the feature; an empty list is present.
      counts: int64[n], the number of values of each row; 0 where it is absent.
      values: int64[m] or float32[m]; for BYTES uint8, in which value j is `values[starts[j]:][:lengths[j]]`.
      starts: int64[m], empty unless BYTES.
      lengths: int64[m], empty unless BYTES.
      null_items: int64, the rows that have a null inside a list (left out of `values`), ascending.
      overflows: int64, the rows with a value that int64 or float32 cannot hold, ascending.
    """

    kind: Kind
    present: Flags
    counts: Ints
    values: npt.NDArray[Any]
    starts: Ints
    lengths: Ints
    null_items: Ints
    overflows: Ints


_NONE: Ints = np.zeros(0, np.int64)


def is_supported(arrow_type: pa.DataType) -> bool:
    """Whether a column of this type has a faithful tf.Example form."""
    if pa.types.is_dictionary(arrow_type):
        return is_supported(arrow_type.value_type)
    return _is_scalar(_item_type(arrow_type))


def _check_supported(name: str, arrow_type: pa.DataType) -> None:
    if not is_supported(arrow_type):
        raise ConfigError(
            f"column {name!r} has type {arrow_type}, which has no tf.Example form; a column must hold integers, "
            "floats, booleans, strings or bytes, or lists of them: convert or drop it"
        )


def _is_scalar(arrow_type: pa.DataType) -> bool:
    types = pa.types
    if types.is_dictionary(arrow_type):
        return _is_scalar(arrow_type.value_type)
    is_number = types.is_integer(arrow_type) or types.is_boolean(arrow_type) or types.is_floating(arrow_type)
    return is_number or types.is_null(arrow_type) or is_text(arrow_type)


def _item_type(arrow_type: pa.DataType) -> pa.DataType:
    return arrow_type.value_type if is_list(arrow_type) else arrow_type


def to_ragged(name: str, array: pa.Array) -> Ragged:
    """The values of one column, integers widened to int64 and floats narrowed to float32.

    Raises:
      ConfigError: for a type without a tf.Example form, naming the column.
    """
    _check_supported(name, array.type)
    array = _plain(array)
    present = pc.is_valid(array).to_numpy(zero_copy_only=False)
    if is_list(array.type):
        counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        items = _plain(pc.list_flatten(array))
        owners = np.repeat(np.arange(len(array)), counts) if items.null_count or _may_overflow(items.type) else _NONE
    else:
        counts = present.astype(np.int64)
        items, owners = array.drop_null(), np.flatnonzero(present)
    if not items.null_count:
        return _flat_values(items, present, counts, owners, _NONE)
    missing = pc.is_null(items).to_numpy(zero_copy_only=False)
    counts = counts - np.bincount(owners[missing], minlength=len(array))
    return _flat_values(items.drop_null(), present, counts, owners[~missing], np.unique(owners[missing]))


def kernel_columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """The named columns in the order of the names, in types that the kernel reads; nulls where the batch lacks one.

    The kernel reads int64, uint64, bool, float32, float64, (large_)string, (large_)binary, and (large_)lists of them.

    Raises:
      ConfigError: for a type without a tf.Example form, naming the column.
    """
    available = set(batch.schema.names)
    if available.issuperset(names):
        chosen = batch.select(names)
        if all(map(_is_kernel_type, chosen.schema.types)):
            return chosen
    nulls = pa.nulls(batch.num_rows, pa.int64())
    arrays = [_kernel_column(name, batch.column(name)) if name in available else nulls for name in names]
    return pa.RecordBatch.from_arrays(arrays, names)


_KERNEL_ITEMS = frozenset(
    {
        pa.int64(),
        pa.uint64(),
        pa.bool_(),
        pa.float32(),
        pa.float64(),
        pa.string(),
        pa.large_string(),
        pa.binary(),
        pa.large_binary(),
    }
)


@functools.lru_cache(maxsize=256)
def _is_kernel_type(arrow_type: pa.DataType) -> bool:
    is_plain_list = pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)
    return (arrow_type.value_type if is_plain_list else arrow_type) in _KERNEL_ITEMS


def _kernel_column(name: str, array: pa.Array) -> pa.Array:
    _check_supported(name, array.type)
    if _is_kernel_type(array.type):
        return array
    array = _plain(array)
    if not is_list(array.type):
        return _kernel_values(array)
    counts = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    items = _kernel_values(_plain(pc.list_flatten(array)))
    return pa.LargeListArray.from_arrays(pa.array(starts_of(counts)), items, mask=pc.is_null(array))


def _kernel_values(array: pa.Array) -> pa.Array:
    if _is_kernel_type(array.type):
        return array
    if is_text(array.type):
        return array.cast(pa.binary())
    return array.cast(pa.float32() if pa.types.is_floating(array.type) else pa.int64())


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same values without the view types of strings, for which Arrow has no `filter` and `take`."""
    types = batch.schema.types
    plain = [*map(_plain_type, types)]
    if plain == types:
        return batch
    # Column by column: Arrow 25 fails at a cast of all of them for a slice of lists of nulls.
    for index, arrow_type in enumerate(plain):
        if arrow_type != types[index]:
            field = batch.schema.field(index).with_type(arrow_type)
            batch = batch.set_column(index, field, batch.column(index).cast(arrow_type))
    return batch


@functools.lru_cache(maxsize=256)
def _plain_type(arrow_type: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(arrow_type):
        return pa.list_(_plain_type(arrow_type.value_type), arrow_type.list_size)
    if pa.types.is_list(arrow_type):
        return pa.list_(_plain_type(arrow_type.value_type))
    if pa.types.is_large_list(arrow_type):
        return pa.large_list(_plain_type(arrow_type.value_type))
    if pa.types.is_string_view(arrow_type):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(arrow_type) else arrow_type


def _plain(array: pa.Array) -> pa.Array:
    """The same values in a type that all of Arrow's kernels take."""
    plain = _plain_type(array.type)
    array = array if plain == array.type else array.cast(plain)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _may_overflow(arrow_type: pa.DataType) -> bool:
    return pa.types.is_uint64(arrow_type) or pa.types.is_float64(arrow_type)


def _flat_values(items: pa.Array, present: Flags, counts: Ints, owners: Ints, null_items: Ints) -> Ragged:
    if is_text(items.type):
        data, offsets = _bytes_buffers(items)
        return Ragged(
            Kind.BYTES, present, counts, data, offsets[:-1], np.diff(offsets), null_items=null_items, overflows=_NONE
        )
    if pa.types.is_floating(items.type):
        wide = items.to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            floats = wide.astype(np.float32, copy=False)
        bad = np.isinf(floats) & np.isfinite(wide) if wide.dtype == np.float64 else _NONE.astype(bool)
        return Ragged(Kind.FLOAT, present, counts, floats, _NONE, _NONE, null_items, _rows(owners, bad))
    wide = _NONE if pa.types.is_null(items.type) else items.to_numpy(zero_copy_only=False)
    bad = wide > np.iinfo(np.int64).max if wide.dtype == np.uint64 else _NONE.astype(bool)
    return Ragged(
        Kind.INT, present, counts, wide.astype(np.int64, copy=False), _NONE, _NONE, null_items, _rows(owners, bad)
    )


def _rows(owners: Ints, bad: Flags) -> Ints:
    return np.unique(owners[bad]) if bad.any() else _NONE


def _bytes_buffers(items: pa.Array) -> tuple[Bytes, Ints]:
    """The data of an array without nulls, and int64 offsets into it, one more than values."""
    wide = items.cast(pa.large_binary())
    _, offsets, data = wide.buffers()
    bounds = np.zeros(1, np.int64) if not len(wide) else np.frombuffer(offsets, np.int64)
    content = np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8)
    return content, bounds[wide.offset : wide.offset + len(wide) + 1]


def starts_of(sizes: Ints) -> Ints:
    """Where each piece starts when they lie one after the other, and at the end where all end: int64[n + 1]."""
    starts = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=starts[1:])
    return starts


def sums_per_row(sizes: Ints, counts: Ints) -> Ints:
    """The sum of the sizes of each row's values: int64[n]."""
    return np.diff(starts_of(sizes)[starts_of(counts)])


def value_positions(row_starts: Ints, sizes: Ints, counts: Ints) -> Ints:
    """Where each value lies, if those of row i lie one after the other from `row_starts[i]`: int64[m]."""
    flat = starts_of(sizes)
    return flat[:-1] + np.repeat(row_starts - flat[starts_of(counts)[:-1]], counts)


def group_equal(values: Ints) -> Iterator[tuple[int, Ints]]:
    """Each distinct value, ascending, with the ascending indices where it occurs."""
    if not len(values):
        return
    low, high = int(values.min()), int(values.max())
    if low == high:
        yield low, np.arange(len(values))
        return
    # A stable sort of 16-bit integers is a radix sort.
    narrow = (values - low).astype(np.uint16) if high - low < 1 << 16 else values
    order = np.argsort(narrow, kind="stable")
    ordered = values[order]
    bounds = [0, *(np.flatnonzero(np.diff(ordered)) + 1).tolist(), len(values)]
    for start, end in itertools.pairwise(bounds):
        yield int(ordered[start]), order[start:end]


def _windows(data: Bytes, width: int) -> npt.NDArray[np.void]:
    """Every `width` bytes of `data` as one item, overlapping, without a copy: one item assignment is one memcpy."""
    return np.ndarray((max(len(data) - width + 1, 0),), f"V{width}", data, strides=(1,))


def put_constant(out: Bytes, positions: Ints, piece: bytes) -> None:
    """Writes the same bytes at every position."""
    if piece and len(positions):
        _windows(out, len(piece))[positions] = np.frombuffer(piece, f"V{len(piece)}")


def put_fixed(out: Bytes, positions: Ints, pieces: npt.NDArray[Any]) -> None:
    """Writes row i of `pieces`, an array of one or two dimensions, at `positions[i]`, as its bytes in memory."""
    if len(positions):
        width = pieces.itemsize * (pieces.shape[1] if pieces.ndim == 2 else 1)
        _windows(out, width)[positions] = np.ascontiguousarray(pieces).view(f"V{width}").reshape(-1)


def put_slices(out: Bytes, positions: Ints, data: Bytes, starts: Ints, lengths: Ints) -> None:
    """Writes `data[starts[i]:][:lengths[i]]` at `positions[i]`."""
    for length, group in group_equal(lengths):
        if length > _MAX_WINDOW_BYTES:
            for position, start in zip(positions[group].tolist(), starts[group].tolist(), strict=True):
                out[position : position + length] = data[start : start + length]
        elif length:
            _windows(out, length)[positions[group]] = _windows(data, length)[starts[group]]
