"""A row for each item of a list, against plain Python."""

import numpy as np
import pyarrow as pa
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.columns.explode import (
    check_explodes,
    explode_batch,
    explode_lists,
    exploded_schema,
    row_bytes,
    stored_names,
)
from penstock.io.errors import ConfigError, InputError
from penstock.io.schema import Feature, Kind

ITEM = pa.struct([("x", pa.int64()), ("deep", pa.struct([("y", pa.string())]))])
LISTS = [pa.list_(ITEM), pa.large_list(ITEM)]

items = st.none() | st.fixed_dictionaries(
    {"x": st.none() | st.integers(0, 9), "deep": st.none() | st.fixed_dictionaries({"y": st.none() | st.text()})}
)
rows = st.lists(st.tuples(st.integers(0, 99), st.text(), st.none() | st.lists(items, max_size=4)))


def expected(table):
    for id_, text, found in table:
        for item in found or [None]:
            item = item or {}
            yield {"id": id_, "events.x": item.get("x"), "events.deep.y": (item.get("deep") or {}).get("y"), "t": text}


def batch_of(table, lists=LISTS[0]):
    arrays = [
        pa.array([id_ for id_, _, _ in table], pa.int64()),
        pa.array([found for _, _, found in table], lists),
        pa.array([text for _, text, _ in table], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(arrays, ["id", "events", "t"])


@settings(max_examples=scaled(200))
@given(rows, st.sampled_from(LISTS), st.sampled_from([1, 100, 1 << 20]), st.integers(0, 3))
def test_each_item_is_a_row(table, lists, max_bytes, start):
    batch = batch_of(table, lists).slice(start)
    pieces = list(explode_batch(batch, "events", max_bytes=max_bytes))
    assert [row for piece in pieces for row in piece.to_pylist()] == list(expected(table[start:]))
    assert {piece.schema for piece in pieces} == {exploded_schema(batch.schema, "events")}


@pytest.mark.parametrize("arrow_type", [pa.list_(pa.int64()), pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)])
def test_lists_of_values_are_exploded_too(arrow_type):
    rows, found = explode_lists(pa.array([[1, 2], None, [3, None]], arrow_type))
    assert rows.tolist() == [0, 0, 1, 2, 2]
    assert found.to_pylist() == [1, 2, None, 3, None]


def test_few_bytes_that_are_repeated_often_are_cut_into_batches():
    batch = pa.record_batch({"text": ["x" * 100_000, "y"], "n": [[*range(1000)], [7]]})
    pieces = list(explode_batch(batch, "n", max_bytes=1 << 20))
    assert max(piece.nbytes for piece in pieces) <= 1 << 20
    assert sum(piece.num_rows for piece in pieces) == 1001
    assert len(list(explode_batch(pa.record_batch({"n": [[*range(200_000)]]}), "n", max_bytes=1 << 30))) == 4


def test_bytes_of_rows_are_about_their_own():
    batch = pa.record_batch({"text": ["x" * 1000, None, "y"], "n": [1, 2, 3], "l": [[1.0] * 50, None, []]})
    assert row_bytes(batch).tolist() == pytest.approx([1000 + 8 + 400, 8, 9], abs=40)
    assert row_bytes(batch.slice(0, 0)).tolist() == []


def test_columns_that_cannot_be_exploded_are_refused():
    schema = pa.schema([("id", pa.int64()), ("m", pa.map_(pa.string(), pa.int64()))])
    with pytest.raises(ConfigError, match=r"a\.pq: --explode x: there is no such column, only id, m"):
        exploded_schema(schema, "x", "a.pq")
    for name, arrow_type in (("id", "int64"), ("m", "map<")):
        with pytest.raises(ConfigError, match=f"--explode {name}: the column has type {arrow_type}.*is no list"):
            exploded_schema(schema, name)
    clash = pa.schema([("e", LISTS[0]), ("e.x", pa.int64())])
    with pytest.raises(InputError, match=r"'e\.x' appears more than once"):
        exploded_schema(clash, "e")


def test_the_schema_must_name_the_items():
    for names in (["e"], ["a", "e.x"]):
        check_explodes("e", [Feature(name, Kind.INT) for name in names])
    check_explodes("e", None)
    check_explodes(None, [])
    with pytest.raises(ConfigError, match=r"--explode e: the schema has no feature 'e' or 'e\.\*'"):
        check_explodes("e", [Feature("ex", Kind.INT)])


def test_the_list_is_read_for_its_members():
    assert stored_names(["a", "e", "b"], ["e.x", "a"], "e") == ["a", "e"]
    assert stored_names(["a", "b"], ["b", "a"], None) == ["b", "a"]


def test_positions_of_rows_are_repeated():
    batch = batch_of([(1, "a", [None, None])]).append_column("_origin", pa.array([{"position": 5}]))
    (exploded,) = explode_batch(batch, "events")
    assert np.array_equal(exploded.column("_origin").field("position"), [5, 5])
