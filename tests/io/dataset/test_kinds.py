import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import origin_array
from penstock.io.beam.json_coder import JsonCoder
from penstock.io.dataset.kinds import (
    KindCounter,
    SeenKinds,
    dataset_schema,
    merge_kinds,
    seen_schema,
)
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import DataError
from penstock.io.reserved import ORIGIN


def seen(*batches):
    """What bundles of one batch each tell."""
    counters = [KindCounter() for _ in batches]
    for counter, columns in zip(counters, batches, strict=True):
        counter.add(columns if isinstance(columns, pa.RecordBatch) else pa.record_batch(columns))
    return merge_kinds(counter.seen for counter in counters)


def kinds_of(found):
    return {name: feature.kind for name, feature in found.features.items()}


@pytest.mark.parametrize(
    ("first", "second", "kind"),
    [
        ([1], [2], "INT"),
        ([True], [2], "INT"),
        (pa.array([1], pa.int8()), pa.array([2], pa.uint64()), "INT"),
        (pa.array([1.5], pa.float32()), [2.5], "FLOAT"),
        (["a"], [b"\xff"], "BYTES"),
        (["a"], pa.array(["b"]).dictionary_encode(), "BYTES"),
        (["a"], pa.array(["b"], pa.string_view()), "BYTES"),
        ([1], [[2, 3]], "INT"),
        ([1], pa.array([[]], pa.list_(pa.int64())), "INT"),
        ([1.5], pa.nulls(1), "FLOAT"),
        ([1.5], pa.nulls(1, pa.int64()), "FLOAT"),
        ([1.5], pa.nulls(1, pa.list_(pa.string())), "FLOAT"),
        (pa.nulls(1), pa.nulls(1, pa.int64()), "INT"),
    ],
    ids=str,
)
def test_columns_of_one_kind(first, second, kind):
    for one, other in ((first, second), (second, first)):
        assert kinds_of(seen({"a": one}, {"a": other})) == {"a": kind}


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        ([1], [2.5], "column 'a' is INT in a row with 1, and FLOAT in a row with 2.5; a dataset has one kind"),
        ([None, "x"], [7], "column 'a' is BYTES in a row with 'x', and INT in a row with 7"),
        ([[1]], [["x"]], r"column 'a' is INT in a row with \[1\], and BYTES in a row with \['x'\]"),
        (["x"], [[]], r"BYTES in a row with 'x', and INT in a row with \[\] \(an empty list without a type\)"),
        (pa.array([[]], pa.list_(pa.float64())), [1], r"FLOAT in a row with \[\], and INT in a row with 1"),
    ],
    ids=["int_and_float", "text_and_int", "lists", "empty_list_without_type", "empty_list_of_floats"],
)
def test_columns_of_two_kinds(first, second, message):
    with pytest.raises(DataError, match=message):
        seen({"a": first}, {"a": second})
    counter = KindCounter()
    counter.add(pa.record_batch({"a": first}))
    with pytest.raises(DataError, match=message):
        counter.add(pa.record_batch({"a": second}))


def test_message_names_where_both_rows_come_from():
    one = pa.record_batch({"a": [None, 1], ORIGIN: origin_array("a.csv", np.array([0, 17]))})
    other = pa.record_batch({"a": [2.5], ORIGIN: origin_array("b.csv", np.array([3]))})
    with pytest.raises(DataError, match=r"INT in a\.csv at 17, and FLOAT in b\.csv at 3;"):
        seen(one, other)


_COLUMNS = st.sampled_from([pa.array([1]), pa.array([1.5]), pa.nulls(1), pa.array(["x"]), pa.array([[]])])


@given(st.lists(st.dictionaries(st.sampled_from("ab"), _COLUMNS, max_size=2), max_size=5), st.randoms())
def test_order_and_grouping_change_nothing_but_the_place(columns, random):
    batches = [pa.record_batch(each) for each in columns if each]
    shuffled = random.sample(batches, len(batches))
    cut = random.randint(0, len(batches))

    def told(merge):
        try:
            found = merge()
        except DataError:
            return None
        return found.rows, {name: (each.kind, each.present) for name, each in found.features.items() if each.present}

    whole = told(lambda: seen(*batches))
    assert whole == told(lambda: merge_kinds([seen(*shuffled[:cut]), seen(*shuffled[cut:])]))


SCHEMA = """
    feature {
      name: "all"
      value_count { min: 1 max: 1 }
      type: INT
      presence { min_fraction: 1 min_count: 1 }
    }
    feature {
      name: "bytes"
      value_count { min: 1 max: 1 }
      type: BYTES
      presence { min_count: 1 }
      annotation { tag: "binary" }
    }
    feature {
      name: "lists"
      value_count { min: 0 max: 2 }
      type: FLOAT
      float_domain { disallow_nan: false disallow_inf: false }
      presence { min_count: 1 }
    }
    feature { name: "none" type: BYTES annotation { comment: "no value: the type is not known" } }
    feature { name: "nulls" type: INT annotation { comment: "no value" } }
"""


def test_schema_of_what_was_seen():
    found = seen(
        {
            "all": [1, 2],
            "lists": pa.array([[], None], pa.list_(pa.float64())),
            "bytes": pa.array([None, b"x"], pa.binary()),
            "none": pa.nulls(2),
            "nulls": pa.nulls(2, pa.int8()),
        },
        {"all": [3], "lists": [[0.5, 1.5]], "bytes": ["text"]},
    )
    assert seen_schema(found) == text_format.Parse(SCHEMA, schema_pb2.Schema())


def test_schema_of_kinds_says_nothing_of_rows_to_come():
    counter = KindCounter()
    counter.add(pa.record_batch({"a": [1, 2], "b": [[1.5], None], "c": pa.nulls(2)}))
    groups = JsonCoder(SeenKinds).decode(JsonCoder(SeenKinds).encode(SeenKinds.of_groups(counter.seen.groups())))
    assert seen_schema(groups) == text_format.Parse(
        'feature { name: "a" type: INT }'
        'feature { name: "b" type: FLOAT float_domain { disallow_nan: false disallow_inf: false } }',
        schema_pb2.Schema(),
    )


def test_declared_columns_are_features_without_a_value_too():
    columns = pa.schema({"day": pa.date32(), "price": pa.decimal128(9, 2), "deep": pa.list_(pa.list_(pa.int8()))})
    schema = dataset_schema(seen({"day": [datetime.date(2024, 1, 1)], "deep": [[[1]]]}), columns=columns)
    assert {feature.name: schema_pb2.FeatureType.Name(feature.type) for feature in schema.feature} == {
        "day": "INT",
        "price": "BYTES",
    }
    schema = dataset_schema(seen({"price": [decimal.Decimal("1.50")]}), columns=columns)
    assert [feature.presence.min_count for feature in schema.feature] == [0, 1]


@pytest.mark.parametrize(
    ("column", "is_named"),
    [
        ([1e300, None], False),
        ([1e30, float("inf"), float("nan")], True),
        (pa.array([2**63], pa.uint64()), False),
        (pa.array([[1, 2**63 - 1]], pa.list_(pa.uint64())), True),
        ([[0.5, 1e300]], False),
    ],
    ids=["float", "good_floats", "uint", "good_uints", "list"],
)
def test_parquet_column_with_a_number_beyond_its_kind_is_not_named(column, is_named):
    counter = KindCounter(has_columns=True)
    counter.add(pa.record_batch({"a": column}))
    counter.add(pa.record_batch({"a": pa.array(column, pa.array(column).type).slice(0, 0)}))
    assert [feature.name for feature in seen_schema(counter.seen).feature] == ["a"] * is_named


def counter_of(text):
    return KindCounter.of_spec(DatasetSpec("out", schema=text_format.Parse(text, schema_pb2.Schema())))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.5]}, "column 'a' is INT in the schema of the dataset, and FLOAT in a row with 1.5: cast"),
        (
            {"a": [1], "b": ["x"]},
            r"column 'b' of a row with 'x' is not a feature of the schema of the dataset \(a, c\)",
        ),
    ],
)
def test_schema_that_is_given(columns, message):
    counter = counter_of('feature { name: "a" type: INT } feature { name: "c" type: BYTES }')
    counter.add(pa.record_batch({"a": [1], "b": pa.nulls(1), "c": pa.nulls(1, pa.int8())}))
    with pytest.raises(DataError, match=message):
        counter.add(pa.record_batch(columns))
