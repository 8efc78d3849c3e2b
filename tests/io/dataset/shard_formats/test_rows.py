import datetime
import decimal
import itertools
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.dataset.shard_formats import rows
from penstock.io.dataset.shard_formats.rows import RowCodec
from penstock.io.errors import ConfigError, DataError

UTC = datetime.UTC
TYPES = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 255),
    pa.bool_(): st.booleans(),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.float64(): st.floats(allow_nan=False),
    pa.decimal128(9, 2): st.decimals(-1_000_000, 1_000_000, places=2),
    pa.date32(): st.dates(),
    pa.timestamp("us", "UTC"): st.datetimes(datetime.datetime(1900, 1, 1), timezones=st.just(UTC)),
    pa.string(): st.text(max_size=5),
    pa.binary(): st.binary(max_size=5),
}


def columns_of(depth=3):
    """A type, and a strategy of its values."""
    plain = st.sampled_from([*TYPES]).map(lambda leaf: (leaf, st.none() | TYPES[leaf]))
    return st.recursive(
        plain, lambda inner: inner.map(lambda kind: (pa.list_(kind[0]), st.none() | st.lists(kind[1], max_size=3)))
    ).filter(lambda kind: str(kind[0]).count("list") <= depth)


@st.composite
def tables(draw):
    kinds = draw(st.lists(columns_of(), min_size=1, max_size=4))
    schema = pa.schema([(f"c{index}", arrow_type) for index, (arrow_type, _) in enumerate(kinds)])
    row = st.tuples(*(values for _, values in kinds))
    content = draw(st.lists(row, max_size=8))
    return pa.record_batch(
        [pa.array(column, field.type) for field, column in zip(schema, _turned(content, kinds), strict=True)], schema
    )


def _turned(content, kinds):
    return [list(column) for column in zip(*content, strict=True)] if content else [[] for _ in kinds]


def records_of(codec, table):
    data, offsets = codec.encode(table)
    return [bytes(data[start:end]) for start, end in itertools.pairwise(offsets)]


@given(table=tables(), start=st.integers(0, 8))
def test_rows_survive_and_equal_rows_are_equal_bytes(table, start):
    codec = RowCodec(table.schema)
    part = table.slice(start)
    found = codec.decode(*codec.encode(part))
    found.validate(full=True)
    assert found.schema == table.schema
    assert found.to_pylist() == part.to_pylist()
    records = records_of(codec, table)
    assert records_of(codec, part) == records[start:]
    for row, record in enumerate(records):
        assert records_of(codec, table.slice(row, 1)) == [record]


@given(table=tables(), data=st.data())
def test_what_lies_behind_a_null_does_not_matter(table, data):
    codec = RowCodec(table.schema)
    order = data.draw(st.permutations(range(len(table))))
    taken = pa.concat_batches([table, table]).take(pa.array([*order], pa.int64()))
    assert records_of(codec, taken) == [records_of(codec, table)[row] for row in order]


def test_values_behind_nulls_are_zero():
    hidden = pa.Array.from_buffers(pa.int64(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([7, 8]).data)])
    hidden_text = pa.Array.from_buffers(
        pa.string(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(np.array([0, 2, 3], np.int32).data), pa.py_buffer(b"abc")]
    )
    assert (hidden.to_pylist(), hidden_text.to_pylist()) == ([None, 8], [None, "c"])
    schema = pa.schema([("n", pa.int64()), ("t", pa.string())])
    plain = pa.record_batch([pa.array([None, 8], pa.int64()), pa.array([None, "c"])], schema)
    assert records_of(RowCodec(schema), pa.record_batch([hidden, hidden_text], schema)) == records_of(
        RowCodec(schema), plain
    )


def test_bytes_of_a_record_are_these():
    """Counted by hand; they are part of what a dataset's id is made of."""
    schema = pa.schema([("n", pa.int16()), ("t", pa.string()), ("l", pa.list_(pa.int8()))])
    table = pa.RecordBatch.from_pylist(
        [{"n": 258, "t": "hé", "l": [1, None]}, {"n": None, "t": None, "l": None}], schema
    )
    present = (
        b"\x35" + b"\x02\x01" + b"\x03\x00\x00\x00" + b"\x02\x00\x00\x00" + "hé".encode() + b"\x00\x01" + b"\x01\x00"
    )
    assert records_of(RowCodec(schema), table) == [present, bytes(11)]


def test_every_bit_of_a_float_survives():
    values = np.array([0.1, -0.0, math.inf, 5e-324, 1e300], np.float64)
    weird = np.array([0x7FF8000000000123], np.uint64).view(np.float64)
    table = pa.record_batch({"x": pa.array(np.concatenate([values, weird]))})
    codec = RowCodec(table.schema)
    found = codec.decode(*codec.encode(table)).column("x").to_numpy()
    assert found.tobytes() == table.column("x").to_numpy().tobytes()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ([("m", pa.map_(pa.string(), pa.int64()))], "column 'm' has type map"),
        ([("s", pa.list_(pa.struct([("a", pa.int64())])))], "column 's' has type list<item: struct"),
        ([("n", pa.null())], "column 'n' has type null; a column must hold integers"),
        ([], "columns must name at least one column, got none"),
    ],
    ids=["map", "list_of_structs", "null", "none"],
)
def test_types_without_a_record_are_refused(columns, message):
    with pytest.raises(ConfigError, match=message):
        RowCodec(pa.schema(columns))


def test_row_that_is_too_large_is_an_error(monkeypatch):
    monkeypatch.setattr(rows, "_MAX_RECORD_BYTES", 100)
    table = pa.record_batch({"t": ["x" * 95], "d": pa.array([decimal.Decimal("1.5")])})
    with pytest.raises(DataError, match="a row must have at most 100 bytes, got one of 116"):
        RowCodec(table.schema).encode(table)
