"""Converts columns of a batch to the type that a schema gives them."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.columns.lists import ListColumn, list_column
from penstock.io.columns.values import column_of, has_kind, not_utf8
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.schema import Feature, Kind

ARROW_TYPES = {Kind.INT: pa.int64(), Kind.FLOAT: pa.float64(), Kind.BYTES: pa.string()}


@dataclasses.dataclass(frozen=True)
class Typed:
    """A column as int64, float64, string, or a list of those.

    Attributes:
      values: the column, null where a row is unusable.
      unusable: by row index, why its value has no such form.
    """

    values: pa.Array
    unusable: dict[int, str]


def typed_column(batch: pa.RecordBatch, feature: Feature) -> Typed:
    """Returns one column of a batch as the schema types it: a list if the feature is multivalued, else one value a row.

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
    lists = list_column(column)
    items, bad_items = _as_scalar(lists.values, scalar)
    why = "bytes that are not UTF-8" if feature.kind is Kind.BYTES else "a number beyond int64"
    unusable = dict.fromkeys(
        np.unique(lists.rows_of(np.flatnonzero(bad_items))).tolist(), f"column {feature.name} holds {why}"
    )
    if feature.multivalued:
        return Typed(_relist(lists, items, unusable), unusable)
    if lists.lengths is None:
        return Typed(items, unusable)
    return _single(feature.name, lists, items, unusable)


def _as_scalar(items: pa.Array, scalar: pa.DataType) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
    """Casts values to int64, float64 or string, and marks those that have no such form: they become null."""
    bad = np.zeros(len(items), bool)
    if pa.types.is_uint64(items.type):
        bad = pc.fill_null(items, 0).to_numpy(zero_copy_only=False) > np.iinfo(np.int64).max
    elif scalar == pa.string():
        items = items.cast(pa.binary())
        try:
            return items.cast(scalar), bad
        except pa.ArrowInvalid:
            bad = not_utf8(items)
    if bad.any():
        items = pc.if_else(pa.array(bad), None, items)
    return items.cast(scalar), bad


def _relist(lists: ListColumn, items: pa.Array, unusable: Mapping[int, str]) -> pa.Array:
    present = lists.present.copy()
    present[list(unusable)] = False
    counts = lists.counts
    if lists.lengths is None:
        items, counts = items.filter(pa.array(present)), present.astype(np.int64)
    offsets = pa.array(starts_of(counts).astype(np.int32))
    return pa.ListArray.from_arrays(offsets, items, mask=pa.array(~present))


def _single(name: str, lists: ListColumn, items: pa.Array, unusable: Mapping[int, str]) -> Typed:
    """Converts lists of one to scalars. A longer list has no scalar form; an empty one becomes null."""
    many = np.flatnonzero(lists.counts > 1).tolist()
    why = {
        row: f"column {name} holds {lists.counts[row]} values, but the schema does not say that it is multivalued "
        "(value_count)"
        for row in many
    }
    return Typed(dataclasses.replace(lists, values=items).single_values(), {**unusable, **why})
