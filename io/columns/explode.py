"""A row for each item of a list, as SQL's `LEFT JOIN UNNEST` and pandas' `explode` make them."""

import numpy as np
import pyarrow as pa

from penstock.io.columns.flatten import flatten_batch
from penstock.io.columns.values import is_list
from penstock.io.errors import ConfigError
from penstock.io.kernel.shared.offsets import Ints, list_lengths


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


def explode_batch(batch: pa.RecordBatch, name: str, uri: str = "input") -> pa.RecordBatch:
    """Makes a row of each item of the lists in one column, and repeats the other columns, `_origin` too.

    A row whose list is empty or missing stays one row, without an item. The members of items that are structs become
    columns with dotted names (`flatten_batch`).

    >>> batch = pa.record_batch({"id": [1, 2], "events": [[{"x": 3}, {"x": 4}], []]})
    >>> explode_batch(batch, "events").to_pydict()
    {'id': [1, 1, 2], 'events.x': [3, 4, None]}

    Raises:
      ConfigError: when the column is no list.
      InputError: when two columns have the same name afterwards.
    """
    rows, items = explode_lists(batch.column(check_explodes(batch.schema, name, uri)))
    index = batch.schema.get_field_index(name)
    return flatten_batch(batch.take(pa.array(rows)).set_column(index, name, items), uri)


def explode_schema(schema: pa.Schema, name: str, uri: str = "input") -> pa.Schema:
    """Returns the schema that a batch of `schema` has before its items are flattened.

    Raises:
      ConfigError: when the column is missing, or no list.
    """
    index = check_explodes(schema, name, uri)
    return schema.set(index, pa.field(name, schema.types[index].value_type))


def check_explodes(schema: pa.Schema, name: str, uri: str) -> int:
    """Returns the index of a column whose lists can be exploded.

    Raises:
      ConfigError: when the column is missing, or no list.
    """
    index = schema.get_field_index(name)
    if index < 0:
        raise ConfigError(f"{uri}: --explode {name}: there is no such column, only {', '.join(schema.names) or 'none'}")
    if not is_list(schema.types[index]):
        raise ConfigError(f"{uri}: --explode {name}: the column has type {schema.types[index]}, which is no list")
    return index
