"""Values of columns of any Arrow type: as they are stored, as text, and as messages show them."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.schema import Kind

# Characters, bytes or items of a value that a message shows.
_MAX_SHOWN = 120


def mixed_column(numbers: pa.Array, rows: npt.NDArray[np.int64], texts: pa.StringArray) -> pa.UnionArray:
    """Makes a column of numbers and a few texts, as a reader yields it when some of its texts are not numbers.

    >>> mixed_column(pa.array([1, None, None]), np.array([2]), pa.array(["n/a"])).to_pylist()
    [1, None, 'n/a']

    Args:
      numbers: int64 or float64; null at `rows`.
      rows: ascending.
      texts: one for each of `rows`, none of them null.
    """
    codes, indices = np.zeros(len(numbers), np.int8), np.arange(len(numbers), dtype=np.int32)
    codes[rows], indices[rows] = 1, np.arange(len(rows))
    return pa.UnionArray.from_dense(pa.array(codes), pa.array(indices), [numbers, texts])


def split_mixed(column: pa.UnionArray) -> tuple[pa.Array, npt.NDArray[np.int64], pa.StringArray]:
    """Splits a `mixed_column` into the arguments that made it."""
    # Read the buffers: for a slice, Arrow 25's `type_codes` and `offsets` begin at the wrong place.
    _, *buffers = column.buffers()
    codes, indices = (
        np.frombuffer(buffer, dtype)[column.offset :][: len(column)]
        for buffer, dtype in zip(buffers, (np.int8, np.int32), strict=False)
    )
    rows = np.flatnonzero(codes)
    numbers, texts = column.field(0), column.field(1)
    if len(numbers) != len(column) or column.offset:
        # The offsets of a slice point into the whole children.
        numbers = _slice_of(numbers, rows, indices, column.offset)
    if len(texts) != len(rows):
        texts = texts.take(pa.array(indices[rows]))
    return numbers, rows, texts


def _slice_of(numbers: pa.Array, rows: npt.NDArray[np.int64], indices: npt.NDArray[np.int32], offset: int) -> pa.Array:
    """Returns the numbers of a slice, null at each text; no copy where they lie as `mixed_column` puts them."""
    found = numbers.slice(offset, len(indices))
    moved = indices != np.arange(offset, offset + len(indices))
    moved[rows] = False
    if len(found) == len(indices) and not moved.any() and found.take(pa.array(rows)).null_count == len(rows):
        return found
    mask = np.zeros(len(indices), bool)
    mask[rows] = True
    return numbers.take(pa.array(indices, mask=mask))


def is_mixed(arrow_type: pa.DataType) -> bool:
    """Whether this is the type of a `mixed_column`."""
    if not types.is_union(arrow_type) or arrow_type.mode != "dense" or arrow_type.num_fields != 2:
        return False
    numbers, texts = (arrow_type.field(index).type for index in range(2))
    return numbers in (pa.int64(), pa.float64()) and types.is_string(texts)


def plain(array: pa.Array) -> pa.Array:
    """Returns the array as it is stored: no extension, dictionary, run-end encoding, view, fixed size or large text."""
    if isinstance(array, pa.ExtensionArray):
        return plain(array.storage)
    if types.is_dictionary(array.type):
        return plain(array.dictionary_decode())
    if types.is_run_end_encoded(array.type):
        return plain(pc.run_end_decode(array))
    if types.is_large_string(array.type) or types.is_string_view(array.type):
        return array.cast(pa.string())
    if is_text(array.type) and not types.is_string(array.type):
        return array.cast(pa.binary())
    return array


def item_type(arrow_type: pa.DataType) -> pa.DataType:
    """Returns the type of one value: inside lists, dictionaries, run-end encodings and extensions."""
    arrow_type = _stored_type(arrow_type)
    return _stored_type(arrow_type.value_type) if is_list(arrow_type) else arrow_type


def is_list(arrow_type: pa.DataType) -> bool:
    """Whether this is a list type of any flavour."""
    return (
        types.is_list(arrow_type)
        or types.is_large_list(arrow_type)
        or types.is_fixed_size_list(arrow_type)
        or types.is_list_view(arrow_type)
        or types.is_large_list_view(arrow_type)
    )


def is_text(arrow_type: pa.DataType) -> bool:
    """Whether this type holds texts or bytes, of any flavour."""
    return (
        types.is_string(arrow_type)
        or types.is_binary(arrow_type)
        or types.is_large_string(arrow_type)
        or types.is_large_binary(arrow_type)
        or types.is_fixed_size_binary(arrow_type)
        or types.is_string_view(arrow_type)
        or types.is_binary_view(arrow_type)
    )


def kind_of(item: pa.DataType) -> Kind | None:
    """Returns the kind whose values have this type; None for null, and for types that only conversion gives a kind.

    >>> kind_of(pa.bool_()), kind_of(pa.date32())
    (<Kind.INT: 'INT'>, None)
    """
    if types.is_integer(item) or types.is_boolean(item):
        return Kind.INT
    if types.is_floating(item):
        return Kind.FLOAT
    return Kind.BYTES if is_text(item) else None


def has_kind(arrow_type: pa.DataType, kind: Kind) -> bool:
    """Whether values of an Arrow type are of a schema's kind; a column of only nulls is of any kind.

    >>> has_kind(pa.list_(pa.int16()), Kind.INT), has_kind(pa.string(), Kind.INT)
    (True, False)
    """
    item = item_type(arrow_type)
    return pa.types.is_null(item) or kind_of(item) is kind


def is_readable(item: pa.DataType) -> bool:
    """Whether a tf.Example can hold values of this type, as `penstock.io.columns.conform` says."""
    is_time = types.is_temporal(item) and not types.is_interval(item)
    return kind_of(item) is not None or types.is_null(item) or types.is_decimal(item) or is_time


def _stored_type(arrow_type: pa.DataType) -> pa.DataType:
    if isinstance(arrow_type, pa.BaseExtensionType):
        return _stored_type(arrow_type.storage_type)
    if types.is_dictionary(arrow_type) or types.is_run_end_encoded(arrow_type):
        return _stored_type(arrow_type.value_type)
    return arrow_type


def own_unit(array: pa.Array) -> pa.Array:
    """Returns dates, times, timestamps and durations as int64 in the unit of their type."""
    return array.view(pa.int32() if array.type.bit_width == 32 else pa.int64()).cast(pa.int64())


def as_text(array: pa.Array) -> pa.Array:
    """Returns values as the BYTES column of the table in `penstock.io.columns.conform` has them; texts stay as is."""
    if is_text(array.type):
        return array
    if types.is_decimal(array.type):
        return decimal_text(array)
    if types.is_duration(array.type):
        return pc.binary_join_element_wise(own_unit(array).cast(pa.string()), array.type.unit, "")
    if not types.is_timestamp(array.type):
        return array.cast(pa.string())
    if array.type.tz is None:
        return pc.strftime(array, format="%Y-%m-%dT%H:%M:%S")
    return pc.strftime(array.cast(pa.timestamp(array.type.unit, "UTC")), format="%Y-%m-%dT%H:%M:%SZ")


def decimal_text(array: pa.Array) -> pa.Array:
    """Returns decimals as text, with all digits of their scale; tiny ones with an exponent."""
    if array.type.scale < 0:
        array = array.cast(pa.decimal256(76, 0))
    return array.cast(pa.string())


def not_utf8(array: pa.Array) -> npt.NDArray[np.bool_]:
    """Marks the binary values that are not UTF-8: bool[n]. A null is not marked.

    Python decodes only values with a byte beyond ASCII.

    >>> not_utf8(pa.array([b"a", b"\\xff", None])).tolist()
    [False, True, False]
    """
    values = array.cast(pa.large_binary())
    _, bounds, data = values.buffers()
    starts = np.frombuffer(bounds, np.int64)[values.offset : values.offset + len(values) + 1]
    used = np.frombuffer(data or b"", np.uint8)[starts[0] : starts[-1]]
    rows = np.unique(starts.searchsorted(np.flatnonzero(used >= 0x80) + starts[0], "right") - 1)
    mask = np.zeros(len(values), bool)
    mask[rows] = [not _is_utf8(value) for value in values.take(pa.array(rows, pa.int64())).to_pylist()]
    return mask


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def column_of(batch: pa.RecordBatch, name: str) -> pa.Array | None:
    """Returns the column, decoded if it is a dictionary; None when the batch has no column of that name."""
    index = batch.schema.get_field_index(name)
    if index < 0:
        return None
    column = batch.column(index)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def shown(value: Any) -> str:
    """Returns a value as a message shows it: short, `null` for None.

    >>> print(shown("a"), shown(None), shown(2.5), shown("x" * 500)[-6:])
    'a' null 2.5 xxx...
    """
    if value is None:
        return "null"
    is_cut = isinstance(value, str | bytes | list) and len(value) > _MAX_SHOWN
    text = repr(value[:_MAX_SHOWN] if is_cut else value)
    return f"{text[:_MAX_SHOWN]}..." if is_cut or len(text) > _MAX_SHOWN + 2 else text
