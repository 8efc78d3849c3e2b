"""Columns of a batch in the one type that a schema gives them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.values import column_of, is_list, is_text, item_type
from penstock.io.schema import Feature, Kind

ARROW_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.BYTES: pa.string()}


def has_kind(arrow_type: pa.DataType, kind: Kind) -> bool:
    """Whether values of an Arrow type are of a schema's kind; a column of nothing but nulls is of any.

    >>> has_kind(pa.list_(pa.int16()), Kind.INT), has_kind(pa.string(), Kind.INT)
    (True, False)
    """
    scalar = item_type(arrow_type)
    match kind:
        case _ if pa.types.is_null(scalar):
            return True
        case Kind.INT:
            return pa.types.is_integer(scalar) or pa.types.is_boolean(scalar)
        case Kind.FLOAT:
            return pa.types.is_floating(scalar)
        case Kind.BYTES:
            return is_text(scalar)


@dataclasses.dataclass(frozen=True)
class Lists:
    """A column taken apart.

    Attributes:
      present: bool[n], False where the row is null.
      counts: int64[n], values of each row, null items included; 0 where it is null.
      items: the m values; those of a scalar column include its nulls.
      owners: int64[m], the row of each value.
    """

    present: npt.NDArray[np.bool_]
    counts: npt.NDArray[np.int64]
    items: pa.Array
    owners: npt.NDArray[np.int64]


def as_lists(column: pa.Array) -> Lists:
    """The values of a column and the rows they belong to, the same way for scalars and lists."""
    present = pc.is_valid(column).to_numpy(zero_copy_only=False)
    if not is_list(column.type):
        return Lists(present, present.astype(np.int64), column, np.arange(len(column)))
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    items = pc.list_flatten(column)
    if pa.types.is_dictionary(items.type):
        items = items.dictionary_decode()
    return Lists(present, counts, items, np.repeat(np.arange(len(column)), counts))


@dataclasses.dataclass(frozen=True)
class Typed:
    """A column as int64, float64, string, or a list of those.

    Attributes:
      values: the column, null where a row is unusable.
      unusable: row index to why its value has no such form.
    """

    values: pa.Array
    unusable: dict[int, str]


def typed_column(batch: pa.RecordBatch, feature: Feature) -> Typed:
    """One column of a batch as the schema has it: a list if the feature is multivalued, else one value a row.

    An absent column is all null; a scalar column of a multivalued feature becomes lists of one.
    """
    scalar = ARROW_TYPES[feature.kind]
    column = column_of(batch, feature.name)
    if column is None or pa.types.is_null(column.type):
        return Typed(pa.nulls(batch.num_rows, pa.list_(scalar) if feature.multivalued else scalar), {})
    if not has_kind(column.type, feature.kind):
        why = f"column {feature.name} is {column.type}, the schema says {feature.kind.value}"
        present = np.flatnonzero(pc.is_valid(column).to_numpy(zero_copy_only=False))
        return Typed(pa.nulls(len(column), scalar), dict.fromkeys(present.tolist(), why))
    if column.type == scalar and feature.kind is not Kind.BYTES and not feature.multivalued:
        return Typed(column, {})
    lists = as_lists(column)
    items, bad_items = _as_scalar(lists.items, scalar)
    why = "bytes that are not UTF-8" if feature.kind is Kind.BYTES else "a number beyond int64"
    unusable = dict.fromkeys(np.unique(lists.owners[bad_items]).tolist(), f"column {feature.name} holds {why}")
    if feature.multivalued:
        return Typed(_relist(column, lists, items, unusable), unusable)
    if not is_list(column.type):
        return Typed(items, unusable)
    return _single(feature.name, lists, items, unusable)


def _as_scalar(items: pa.Array, scalar: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Values in int64, float64 or string, and which of them have no such form: they become null."""
    bad = np.zeros(len(items), bool)
    if pa.types.is_uint64(items.type):
        bad = pc.fill_null(items, 0).to_numpy(zero_copy_only=False) > np.iinfo(np.int64).max
    elif scalar == pa.string():
        items = items.cast(pa.binary())
        try:
            return items.cast(scalar), bad
        except pa.ArrowInvalid:
            bad = np.fromiter((not _is_utf8(item) for item in items.to_pylist()), bool, len(items))
    if bad.any():
        items = pc.if_else(pa.array(bad), None, items)
    return items.cast(scalar), bad


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def _relist(column: pa.Array, lists: Lists, items: pa.Array, unusable: Mapping[int, str]) -> pa.Array:
    present = lists.present.copy()
    present[list(unusable)] = False
    if not is_list(column.type):
        items = items.filter(pa.array(present))
    counts = lists.counts if is_list(column.type) else present.astype(np.int64)
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), items, mask=pa.array(~present))


def _single(name: str, lists: Lists, items: pa.Array, unusable: Mapping[int, str]) -> Typed:
    """Lists of one as scalars; a longer list has no scalar form, an empty one is null."""
    first = np.cumsum(lists.counts) - lists.counts
    many = np.flatnonzero(lists.counts > 1).tolist()
    why = {
        row: f"column {name} holds {lists.counts[row]} values, but the schema does not say that it is multivalued "
        "(value_count)"
        for row in many
    }
    values = items.take(pa.array(first, pa.int64(), mask=lists.counts != 1))
    return Typed(values, {**unusable, **why})
