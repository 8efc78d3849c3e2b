"""A row for each item of a list, as SQL's `LEFT JOIN UNNEST` and pandas' `explode` make them."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS
from penstock.io.columns.flatten import flatten_batch, flatten_schema
from penstock.io.columns.values import is_list, is_text
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import Ints, list_lengths
from penstock.io.schema import Feature


def explode_lists(lists: pa.Array) -> tuple[Ints, pa.Array]:
    """Returns the row of each item, int64[m], ascending, and the items: a null where a list is empty or missing.

    >>> rows, items = explode_lists(pa.array([["a", "b"], [], None, ["c"]]))
    >>> rows.tolist(), items.to_pylist()
    ([0, 0, 1, 2, 3], ['a', 'b', None, None, 'c'])
    """
    lengths = list_lengths(lists)
    counts = np.maximum(lengths, 1)
    has_item = np.repeat(lengths > 0, counts)
    indices = np.cumsum(has_item) - 1
    items = lists.flatten().take(pa.array(indices, pa.int64(), mask=~has_item))
    return np.repeat(np.arange(len(lists)), counts), items


def explode_batch(
    batch: pa.RecordBatch, name: str, uri: str = "input", max_bytes: int = MAX_BATCH_BYTES
) -> Iterator[pa.RecordBatch]:
    """Makes a row of each item of the lists in one column, and repeats the other columns, `_origin` too.

    A row whose list is empty or missing stays one row, without an item. The members of items that are structs become
    columns with dotted names (`flatten_batch`). Batches have at most 65,536 rows and about `max_bytes`, since few bytes
    may be repeated for many items; no rows give one empty batch.

    >>> batch = pa.record_batch({"id": [1, 2], "events": [[{"x": 3}, {"x": 4}], []]})
    >>> [rows.to_pydict() for rows in explode_batch(batch, "events")]
    [{'id': [1, 1, 2], 'events.x': [3, 4, None]}]

    Raises:
      ConfigError: when the column is missing, or no list.
      InputError: when two columns have the same name afterwards.
    """
    index = _index_of_lists(batch.schema, name, uri)
    rows, items = explode_lists(batch.column(index))
    field = batch.schema.field(index).with_type(items.type).with_nullable(True)
    # The list itself is not repeated.
    others = batch.set_column(index, name, pa.nulls(batch.num_rows))
    for start, end in _cuts(row_bytes(others)[rows] + items.nbytes // max(len(items), 1), max_bytes):
        piece = others.take(pa.array(rows[start:end]))
        yield flatten_batch(piece.set_column(index, field, items.slice(start, end - start)), uri)


def row_bytes(batch: pa.RecordBatch) -> Ints:
    """Returns about how many bytes each row has: int64[n]."""
    sizes = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if is_text(column.type) and "view" not in str(column.type):
            sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
        elif is_list(column.type):
            sizes += list_lengths(column) * (column.nbytes // max(int(list_lengths(column).sum()), 1))
        else:
            sizes += column.nbytes // max(batch.num_rows, 1)
    return sizes


def _cuts(sizes: Ints, max_bytes: int) -> Iterator[tuple[int, int]]:
    """Yields (start, end) of pieces of these sizes that have at most `MAX_BATCH_ROWS` rows and about `max_bytes`."""
    ends = np.cumsum(sizes)
    start = 0
    if not len(sizes):
        yield 0, 0
    while start < len(sizes):
        before = int(ends[start - 1]) if start else 0
        end = int(np.searchsorted(ends, before + max_bytes, side="right"))
        end = min(max(end, start + 1), start + MAX_BATCH_ROWS)
        yield start, end
        start = end


def exploded_schema(schema: pa.Schema, name: str | None, uri: str = "input") -> pa.Schema:
    """Returns the schema of a file's rows when they are flattened and, with a name, exploded.

    Raises:
      ConfigError: when the column to explode is missing, or no list.
      InputError: when two columns have the same name.
    """
    flat = flatten_schema(schema, uri)
    if name is None:
        return flat
    index = _index_of_lists(flat, name, uri)
    return flatten_schema(flat.set(index, pa.field(name, flat.types[index].value_type)), uri)


def stored_names(flat: Sequence[str], names: Sequence[str], explode: str | None) -> list[str]:
    """Returns those of a file's flattened columns that must be read for some columns of `exploded_schema`."""
    return list(names) if explode is None else [name for name in flat if name in names or name == explode]


def check_explodes(name: str | None, features: Sequence[Feature] | None) -> None:
    """Checks that the schema has a feature of the items.

    Raises:
      ConfigError: when it has none.
    """
    if name is None or features is None:
        return
    if not any(feature.name == name or feature.name.startswith(f"{name}.") for feature in features):
        raise ConfigError(f"--explode {name}: the schema has no feature {name!r} or {name + '.*'!r}; leave it out")


def explode_hint(name: str, arrow_type: pa.DataType) -> str:
    """Returns what a message about a column that cannot be held adds where its items could be rows; else nothing.

    >>> explode_hint("e", pa.list_(pa.struct([("x", pa.int64())])))
    ', or make a row of each item (--explode e)'
    """
    nested = is_list(arrow_type) and (is_list(arrow_type.value_type) or pa.types.is_struct(arrow_type.value_type))
    return f", or make a row of each item (--explode {name})" if nested else ""


def _index_of_lists(schema: pa.Schema, name: str, uri: str) -> int:
    index = schema.get_field_index(name)
    if index < 0:
        raise ConfigError(f"{uri}: --explode {name}: there is no such column, only {', '.join(schema.names) or 'none'}")
    if not is_list(schema.types[index]):
        raise ConfigError(f"{uri}: --explode {name}: the column has type {schema.types[index]}, which is no list")
    return index
