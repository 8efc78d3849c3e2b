"""Takes columns of any Arrow type apart into lists of values, and casts them to the few types that the kernel reads."""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.values import is_list, is_text, kind_of, plain
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import Ints, list_lengths, starts_of

Flags = npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True)
class ListColumn:
    """A column of n rows taken apart into its m values. A scalar column has one value in each row.

    Attributes:
      values: the values of all rows, one after the other, nulls included, in the type that is stored (`plain`).
      present: bool[n], False where the row is null; an empty list is present.
      lengths: int64[n], the number of values in each row, 0 where it is null; None for a scalar column, where m is n.
    """

    values: pa.Array
    present: Flags
    lengths: Ints | None

    @property
    def counts(self) -> Ints:
        """int64[n], the number of values in each row; 0 where it is null, in a scalar column too."""
        return self.present.astype(np.int64) if self.lengths is None else self.lengths

    @property
    def owners(self) -> Ints:
        """int64[m], the row of each value."""
        rows = np.arange(len(self.present))
        return rows if self.lengths is None else np.repeat(rows, self.lengths)

    def rows_of(self, indices: Ints) -> Ints:
        """Returns the rows of the values at these indices."""
        return self.positions_of(indices)[0]

    def positions_of(self, indices: Ints) -> tuple[Ints, Ints]:
        """Returns the rows of the values at these indices, and their positions within the list of the row."""
        if self.lengths is None:
            return indices, np.zeros(len(indices), np.int64)
        ends = np.cumsum(self.lengths)
        rows = np.searchsorted(ends, indices, side="right")
        return rows, indices - (ends - self.lengths)[rows]

    def single_values(self) -> pa.Array:
        """Returns one value a row: null where the list has none or several."""
        if self.lengths is None:
            return self.values
        first = np.cumsum(self.lengths) - self.lengths
        return self.values.take(pa.array(first, pa.int64(), mask=self.lengths != 1))

    def null_values(self) -> Flags:
        """Returns bool[m]: which values are nulls inside lists. A null of a scalar column is a null row instead."""
        if self.lengths is None or not self.values.null_count:
            return np.zeros(len(self.values), bool)
        return self.values.is_null().to_numpy(zero_copy_only=False)

    def rows_with_null_values(self) -> Ints:
        """Returns the rows that have a null inside their list, ascending."""
        return np.unique(self.rows_of(np.flatnonzero(self.null_values())))


def list_column(column: pa.Array) -> ListColumn:
    """Takes a column apart into its values."""
    column = plain(column)
    present = column.is_valid().to_numpy(zero_copy_only=False)
    if not is_list(column.type):
        return ListColumn(column, present, None)
    # Use flatten(), not a cast to list: Arrow 25 casts list views with nulls wrongly.
    return ListColumn(plain(column.flatten()), present, list_lengths(column))


def is_supported(arrow_type: pa.DataType) -> bool:
    """Whether a column of this type has a faithful tf.Example form."""
    if pa.types.is_dictionary(arrow_type):
        return is_supported(arrow_type.value_type)
    return _is_scalar(_item_type(arrow_type))


def check_supported(name: str, arrow_type: pa.DataType) -> None:
    """Checks that a column has a tf.Example form.

    Raises:
      ConfigError: if it has none, naming the column.
    """
    if not is_supported(arrow_type):
        raise ConfigError(
            f"column {name!r} has type {arrow_type}, which has no tf.Example form; a column must hold integers, "
            "floats, booleans, strings or bytes, or lists of them: convert or drop it"
        )


def _is_scalar(arrow_type: pa.DataType) -> bool:
    if pa.types.is_dictionary(arrow_type):
        return _is_scalar(arrow_type.value_type)
    return pa.types.is_null(arrow_type) or kind_of(arrow_type) is not None


def _item_type(arrow_type: pa.DataType) -> pa.DataType:
    return arrow_type.value_type if is_list(arrow_type) else arrow_type


def kernel_columns(batch: pa.RecordBatch, names: Sequence[str]) -> pa.RecordBatch:
    """Returns the columns in the order of `names`, in types that the kernel reads; all null if the batch lacks one.

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
    check_supported(name, array.type)
    if _is_kernel_type(array.type):
        return array
    array = _plain(array)
    if not is_list(array.type):
        return _kernel_values(array)
    items = _kernel_values(_plain(pc.list_flatten(array)))
    return pa.LargeListArray.from_arrays(pa.array(starts_of(list_lengths(array))), items, mask=pc.is_null(array))


def _kernel_values(array: pa.Array) -> pa.Array:
    if _is_kernel_type(array.type):
        return array
    if is_text(array.type):
        return array.cast(pa.binary())
    return array.cast(pa.float32() if pa.types.is_floating(array.type) else pa.int64())


def without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the same values without string view types, for which Arrow has no `filter` and `take`."""
    types = batch.schema.types
    plain = [*map(_plain_type, types)]
    if plain == types:
        return batch
    # Cast column by column: Arrow 25 fails to cast them all at once for a slice of lists of nulls.
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
    """Returns the same values in a type that all of Arrow's kernels accept."""
    plain = _plain_type(array.type)
    array = array if plain == array.type else array.cast(plain)
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
