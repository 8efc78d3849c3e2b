import math
import struct

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import origin_array
from penstock.io.columns.hashing import SHUFFLE_SALT, SPLIT_SALT, hash_rows, salted
from penstock.io.errors import ConfigError

INTS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(width=32)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "b": st.none() | st.binary(max_size=12),
            "f": st.none() | FLOATS,
            "i": st.none() | INTS,
            "ints": st.none() | st.lists(INTS, max_size=4),
            "texts": st.none() | st.lists(st.text(max_size=4), max_size=4),
        }
    ),
    max_size=12,
)
SCHEMA = pa.schema(
    {
        "texts": pa.list_(pa.string()),
        "i": pa.int64(),
        "f": pa.float64(),
        "ints": pa.large_list(pa.int64()),
        "b": pa.binary(),
    }
)


def reference_value(value):
    match value:
        case int():
            return struct.pack("<q", value)
        case float():
            return struct.pack("<d", math.nan if math.isnan(value) else value + 0.0)
        case str():
            return reference_value(value.encode())
        case bytes():
            return struct.pack("<I", len(value)) + value


def reference_row(row):
    kinds = {"b": 3, "f": 2, "i": 1, "ints": 1, "texts": 3}
    parts = []
    for name in sorted(row):
        values = row[name]
        if values is None:
            parts.append(b"\0")
            continue
        values = values if isinstance(values, list) else [values]
        parts.append(struct.pack("<BI", kinds[name], len(values)) + b"".join(map(reference_value, values)))
    return b"".join(parts)


@given(ROWS, st.integers(0, 2**64 - 1))
def test_hashes_the_documented_bytes(rows, seed):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    expected = [xxhash.xxh64_intdigest(reference_row(row), seed) for row in rows]
    assert hash_rows(batch, None, seed).tolist() == expected


@given(ROWS, st.integers(0, 12), st.integers(0, 12))
def test_a_slice_hashes_like_its_rows(rows, start, length):
    batch = pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
    whole = hash_rows(batch, None, 1)
    assert hash_rows(batch.slice(start, length), None, 1).tolist() == whole[start : start + length].tolist()


SAME = {
    "int_widths": ([1, None, -3], [pa.int8(), pa.int16(), pa.int32(), pa.int64()]),
    "unsigned": ([1, None, 3], [pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(), pa.int64()]),
    "bool_is_int": ([1, None, 0], [pa.bool_(), pa.int64()]),
    "float_widths": ([0.1, None, math.inf], [pa.float32(), pa.float64()]),
    "half": ([0.5, None, -0.0], [pa.float16(), pa.float32()]),
    "bytes": (
        ["a", None, "é"],
        [
            pa.string(),
            pa.large_string(),
            pa.string_view(),
            pa.binary(),
            pa.large_binary(),
            pa.binary_view(),
            pa.dictionary(pa.int8(), pa.string()),
            pa.dictionary(pa.int32(), pa.binary()),
        ],
    ),
    "lists": (
        [["a", "b"], None, ["", "d"]],
        [pa.list_(pa.string()), pa.large_list(pa.binary()), pa.list_(pa.string(), 2), pa.list_(pa.string_view())],
    ),
    "nothing": ([None, None], [pa.null(), pa.int64(), pa.string(), pa.list_(pa.float32())]),
}


@pytest.mark.parametrize(("values", "types"), SAME.values(), ids=SAME)
def test_types_that_hold_the_same_values_hash_alike(values, types):
    arrays = [pa.array([None if v is None else _typed(v, t) for v in values], t) for t in types]
    hashes = {tuple(hash_rows(pa.record_batch({"c": array}), None, 5).tolist()) for array in arrays}
    assert len(hashes) == 1


def _typed(value, arrow_type):
    if pa.types.is_boolean(arrow_type):
        return bool(value)
    return np.float16(value) if pa.types.is_float16(arrow_type) else value


def test_scalar_hashes_like_a_list_of_one():
    scalar = pa.record_batch({"c": pa.array([7, None])})
    listed = pa.record_batch({"c": pa.array([[7], None])})
    assert hash_rows(scalar, None, 0).tolist() == hash_rows(listed, None, 0).tolist()


def test_column_order_and_reserved_columns_do_not_count():
    plain = pa.record_batch({"a": [1, 2], "b": ["x", None]})
    other = pa.record_batch({"b": ["x", None], "_origin": origin_array("f", np.arange(2)), "a": [1, 2]})
    assert hash_rows(plain, None, 9).tolist() == hash_rows(other, None, 9).tolist()


def test_a_named_column_that_is_not_there_counts_as_null():
    without = pa.record_batch({"a": [1, 2]})
    nulls = pa.record_batch({"a": [1, 2], "b": pa.nulls(2, pa.string())})
    assert hash_rows(without, ["b", "a"], 9).tolist() == hash_rows(nulls, None, 9).tolist()


DIFFERENT = {
    "null_and_empty": (None, b""),
    "null_and_zero": (None, 0),
    "int_and_float": (0, 0.0),
    "empty_list_and_null": ([], None),
    "border_between_values": ([b"ab", b"c"], [b"a", b"bc"]),
}


@pytest.mark.parametrize(("left", "right"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_values_hash_apart(left, right):
    pair = [hash_rows(pa.record_batch({"c": pa.array([value])}), None, 0)[0] for value in (left, right)]
    assert pair[0] != pair[1]


def test_zeros_and_nans_are_one():
    strange = np.array([0x7FC00001, 0x7FC00000], np.uint32).view(np.float32)
    values = pa.array(np.concatenate([np.array([0.0, -0.0], np.float32), strange]))
    hashes = hash_rows(pa.record_batch({"c": values}), None, 0)
    assert hashes[0] == hashes[1]
    assert hashes[2] == hashes[3]


def test_float64_hashes_as_the_float32_that_is_written():
    doubles = pa.record_batch({"c": pa.array([0.1, 1 / 3], pa.float64())})
    floats = pa.record_batch({"c": pa.array([0.1, 1 / 3], pa.float32())})
    assert hash_rows(doubles, None, 0).tolist() == hash_rows(floats, None, 0).tolist()


def test_long_values_take_the_path_without_windows():
    texts = [b"x" * 5000, b"y" * 5000, b"x" * 4999 + b"z", b"short"]
    expected = [xxhash.xxh64_intdigest(struct.pack("<BII", 3, 1, len(t)) + t, 0) for t in texts]
    assert hash_rows(pa.record_batch({"c": texts}), None, 0).tolist() == expected


def test_no_columns_is_the_hash_of_nothing():
    batch = pa.record_batch({"a": [1, 2]})
    assert hash_rows(batch, [], 4).tolist() == [xxhash.xxh64_intdigest(b"", 4)] * 2


def test_salts_give_independent_seeds():
    assert len({salted(seed, salt) for seed in (0, 1, -1, 2**70) for salt in (SPLIT_SALT, SHUFFLE_SALT)}) == 8


ALIKE = [
    pa.array([7, -3, 0, 2**53 + 1, None]),
    pa.array([7, -3, 0, 2**53 + 1, None], pa.int64()).cast(pa.string()),
    pa.array(["7.0", "-3.00", "0.0", str(2**53 + 1), None]),
    pa.array([b"7", b"-3", b"0", str(2**53 + 1).encode(), None]).dictionary_encode(),
    pa.array([[7], [-3], [0], [2**53 + 1], None]),
]


@pytest.mark.parametrize("array", ALIKE, ids=["int", "text", "text_with_point", "dictionary", "list_of_one"])
def test_version_2_hashes_a_whole_number_alike_in_any_kind(array):
    as_float = pa.array([7.0, -3.0, -0.0, None, None])
    expected = hash_rows(pa.record_batch({"c": ALIKE[0]}), None, 5)
    assert hash_rows(pa.record_batch({"c": array}), None, 5, version=2).tolist() == expected.tolist(), "INT is as in 1"
    floats = hash_rows(pa.record_batch({"c": as_float}), None, 5, version=2)
    assert floats[[0, 1, 2, 4]].tolist() == expected[[0, 1, 2, 4]].tolist()


@pytest.mark.parametrize("value", ["007", "+7", "7.", "7e0", "-0", " 7", "", "seven", 7.5, math.nan, 1e30])
def test_version_2_leaves_all_else_as_it_was(value):
    batch = pa.record_batch({"c": [value], "d": [[value, value]]})
    assert hash_rows(batch, None, 5, version=2).tolist() == hash_rows(batch, None, 5).tolist()


UNSUPPORTED = {
    "struct": pa.struct([("x", pa.int64())]),
    "timestamp": pa.timestamp("s"),
    "decimal": pa.decimal128(5, 2),
    "list_of_lists": pa.list_(pa.list_(pa.int64())),
    "map": pa.map_(pa.string(), pa.int64()),
}


@pytest.mark.parametrize("arrow_type", UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_a_type_without_an_example_form_is_refused_by_name(arrow_type):
    batch = pa.record_batch({"when": pa.nulls(1, arrow_type)})
    with pytest.raises(ConfigError, match=r"column 'when' has type .* no tf.Example form"):
        hash_rows(batch, None, 0)
