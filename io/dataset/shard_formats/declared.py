"""The declared columns of a dataset: their plain types, and how the columns of batches become those.

Formats that keep the types of Arrow share this.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from penstock.io.batches import feature_names
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import is_list, is_text, item_type, kind_of, not_utf8, plain
from penstock.io.dataset.shard_formats.rows import check_types
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.reasons import Reason
from penstock.io.schema import Kind

Faults = dict[int, list[Reason]]


def shard_columns(columns: pa.Schema) -> pa.Schema:
    """Returns the columns as shards have them: with plain types, nullable, without metadata.

    Raises:
      ConfigError: for a type that shards cannot hold, or a duplicate name.
    """
    if len(set(columns.names)) < len(columns):
        raise ConfigError(f"column names must be unique, got {', '.join(columns.names)}")
    stored = pa.schema([(field.name, _stored_type(field.type)) for field in columns])
    check_types(stored)
    return stored


def _stored_type(arrow_type: pa.DataType) -> pa.DataType:
    if is_list(arrow_type):
        return pa.list_(_stored_type(arrow_type.value_type))
    if types.is_dictionary(arrow_type):
        return _stored_type(arrow_type.value_type)
    if is_text(arrow_type):
        is_string = types.is_string(arrow_type) or types.is_large_string(arrow_type) or types.is_string_view(arrow_type)
        return pa.string() if is_string else pa.binary()
    return arrow_type


def fit_columns(batch: pa.RecordBatch, columns: pa.Schema) -> tuple[pa.RecordBatch, Faults]:
    """Casts the data columns of a batch to the declared types, as long as that keeps every value.

    Returns:
      All rows, and for each row with a value that its column cannot hold, by row index, the reasons (`write.not_utf8`,
      `write.not_one_value`). Such a value becomes null.

    Raises:
      ConfigError: for a column that is not declared, or whose type does not fit into the declared one.
    """
    names = feature_names(batch)
    for name in names:
        if name not in columns.names:
            raise ConfigError(
                f"column {name!r} is not among the columns of the dataset ({', '.join(columns.names)}): declare it, or "
                "drop it before it is written"
            )
        if names.count(name) > 1:
            raise ConfigError(f"column names must be unique, got {name!r} twice")
    arrays: list[pa.Array] = []
    faults: Faults = {}
    for field in columns:
        if field.name not in names:
            arrays.append(pa.nulls(batch.num_rows, field.type))
            continue
        array, bad = _fit(field.name, batch.column(field.name), field.type)
        arrays.append(array)
        for row, reason in bad.items():
            faults.setdefault(row, []).append(reason)
    return pa.RecordBatch.from_arrays(arrays, schema=columns), faults


def _fit(name: str, array: pa.Array, target: pa.DataType) -> tuple[pa.Array, dict[int, Reason]]:
    """Casts values to a type; returns them and, by index, the reasons why values do not fit."""
    if array.type == target:
        return array, {}
    array = plain(array)
    if types.is_null(array.type):
        return pa.nulls(len(array), target), {}
    if types.is_list(target):
        return _fit_lists(name, array, target)
    if is_list(array.type):
        return _fit_single(name, array, target)
    if types.is_string(target) and types.is_binary(array.type):
        return _fit_text(name, array)
    if array.type == target or _is_wider(target, array.type):
        return array.cast(target), {}
    raise ConfigError(
        f"column {name!r} has type {array.type}, and the dataset declares it as {target}, which cannot hold all of its "
        "values: declare another type, or cast the column"
    )


def _is_wider(target: pa.DataType, source: pa.DataType) -> bool:
    """Whether `target` can represent every value of `source`."""
    if types.is_binary(target) and types.is_string(source):
        return True
    if types.is_floating(target) and types.is_floating(source):
        return bool(target.bit_width > source.bit_width)
    if types.is_boolean(source):
        return types.is_integer(target)
    if not (types.is_integer(target) and types.is_integer(source)) or target.bit_width <= source.bit_width:
        return False
    return types.is_signed_integer(target) or types.is_unsigned_integer(source)


def _fit_lists(name: str, array: pa.Array, target: pa.DataType) -> tuple[pa.Array, dict[int, Reason]]:
    """Casts lists item by item; single values become lists of one."""
    column = list_column(array)
    items = column.values.drop_null() if column.lengths is None else column.values
    items, bad = _fit(name, items, target.value_type)
    offsets = pa.array(starts_of(column.counts).astype(np.int32))
    lists = pa.ListArray.from_arrays(offsets, items, mask=pa.array(~column.present) if array.null_count else None)
    rows = np.repeat(np.arange(len(array)), column.counts)
    # If several items of a row are bad, the reason of the first one is kept.
    return lists, {int(rows[index]): reason for index, reason in reversed(bad.items())}


def _fit_single(name: str, array: pa.Array, target: pa.DataType) -> tuple[pa.Array, dict[int, Reason]]:
    """Turns lists of one value into single values."""
    column = list_column(array)
    wrong = {
        row: Reason(
            "write.not_one_value",
            f"column {name!r}: a list of {column.counts[row]} values, and the dataset declares one value: give the "
            "feature a value_count in the schema, or declare the column as a list",
        )
        for row in np.flatnonzero(column.present & (column.counts != 1)).tolist()
    }
    values, bad = _fit(name, column.single_values(), target)
    return values, {**bad, **wrong}


def _fit_text(name: str, array: pa.Array) -> tuple[pa.Array, dict[int, Reason]]:
    """Casts bytes to text."""
    try:
        return array.cast(pa.string()), {}
    except pa.ArrowInvalid:
        bad = not_utf8(array)
    reason = Reason(
        "write.not_utf8",
        f"column {name!r}: not UTF-8, and the dataset declares a text: annotate the feature with the tag 'binary' in "
        "the schema, or declare the column as binary",
    )
    texts = pc.if_else(pa.array(bad), pa.scalar(None, array.type), array).cast(pa.string())
    return texts, dict.fromkeys(np.flatnonzero(bad).tolist(), reason)


def column_kinds(batch: pa.RecordBatch) -> dict[str, dict[Kind, int]]:
    """Returns the kind of each column that has one, as `ReadPiece.kinds` does."""
    kinds = {field.name: kind_of(item_type(field.type)) for field in batch.schema}
    return {name: {kind: 0} for name, kind in kinds.items() if kind}
