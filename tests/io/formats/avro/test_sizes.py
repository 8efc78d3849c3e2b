import contextlib
import io

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.formats.avro.sizes import row_sizes

INNER = {"type": "record", "name": "inner", "fields": [{"name": "n", "type": "int"}, {"name": "s", "type": "string"}]}
LIST = {"type": "record", "name": "chain", "fields": [{"name": "next", "type": ["null", "chain"]}]}

# Types of all forms, with values.
TYPES = {
    "null": ("null", st.none()),
    "long": ("long", st.integers(-(2**63), 2**63 - 1)),
    "double": ("double", st.floats(allow_nan=False)),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "text": ("string", st.text(max_size=20)),
    "fixed": ({"type": "fixed", "name": "four", "size": 4}, st.binary(min_size=4, max_size=4)),
    "enum": ({"type": "enum", "name": "colour", "symbols": ["RED", "BLUE"]}, st.sampled_from(["RED", "BLUE"])),
    "union": (["null", "long", "string"], st.none() | st.integers(0, 9) | st.text(max_size=3)),
    "longs": ({"type": "array", "items": "long"}, st.lists(st.integers(-(2**63), 2**63 - 1), max_size=300)),
    "floats": ({"type": "array", "items": "double"}, st.lists(st.floats(allow_nan=False), max_size=9)),
    "nulls": ({"type": "array", "items": "null"}, st.lists(st.none(), max_size=9)),
    "lists": (
        {"type": "array", "items": {"type": "array", "items": "string"}},
        st.lists(st.lists(st.text(max_size=3), max_size=3), max_size=3),
    ),
    "map": ({"type": "map", "values": "bytes"}, st.dictionaries(st.text(max_size=3), st.binary(max_size=9))),
    "record": (INNER, st.fixed_dictionaries({"n": st.integers(0, 9), "s": st.text(max_size=3)})),
    "recursive": (LIST, st.recursive(st.just({"next": None}), lambda inner: st.fixed_dictionaries({"next": inner}))),
}


def schema_of(kind):
    return fastavro.parse_schema({"type": "record", "name": "row", "fields": [{"name": "x", "type": kind}]})


def written(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, {"x": value})
    return out.getvalue()


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_a_row_ends_where_fastavro_ends_it(name, data):
    kind, values = TYPES[name]
    schema = schema_of(kind)
    row = written(schema, data.draw(values))
    assert row_sizes(schema).weigh(b"before" + row + b"behind", 6)[0] == 6 + len(row)


@pytest.mark.parametrize("name", TYPES)
@given(data=st.data())
def test_a_cut_row_is_an_error_or_ends_behind_the_cut(name, data):
    kind, values = TYPES[name]
    schema = schema_of(kind)
    row = written(schema, data.draw(values))
    cut = row[: data.draw(st.integers(0, max(len(row) - 1, 0)))]
    if len(cut) == len(row):
        return
    with contextlib.suppress(IndexError, ValueError):
        assert row_sizes(schema).weigh(cut, 0)[0] > len(cut)


@pytest.mark.parametrize(
    ("kind", "value", "memory"),
    [
        pytest.param("bytes", b"x" * 1000, 1000, id="text"),
        pytest.param({"type": "array", "items": "long"}, [7] * 1000, 40_000, id="numbers"),
        pytest.param({"type": "array", "items": "string"}, [""] * 1000, 64_000, id="texts"),
        pytest.param({"type": "array", "items": "null"}, [None] * 1000, 8_000, id="nulls"),
    ],
)
def test_memory_is_about_that_of_python(kind, value, memory):
    schema = schema_of(kind)
    measured = row_sizes(schema).weigh(written(schema, value), 0)[1]
    assert memory <= measured <= memory + 300


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ({"type": "array", "items": "long"}, False),
        ({"type": "array", "items": ["null"]}, False),
        ({"type": "array", "items": "null"}, True),
        ({"type": "map", "values": {"type": "array", "items": {"type": "fixed", "name": "none", "size": 0}}}, True),
        (["null", {"type": "array", "items": {"type": "record", "name": "r", "fields": []}}], True),
    ],
    ids=str,
)
def test_items_that_have_no_bytes(kind, expected):
    assert row_sizes(schema_of(kind)).has_empty_items is expected
