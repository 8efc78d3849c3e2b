import pyarrow as pa
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.checks.validate import record_checks, validate_batch


def found(schema, **columns):
    """Row index to reasons as (code, detail)."""
    checks = record_checks(text_format.Parse(schema, schema_pb2.Schema()))
    reasons = validate_batch(pa.record_batch(columns), checks).reasons
    return {
        row: [(reason.code.removeprefix("schema."), reason.detail) for reason in why] for row, why in reasons.items()
    }


def codes(schema, **columns):
    return {row: [code for code, _ in why] for row, why in found(schema, **columns).items()}


INTS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())

USER = """feature { name: "user" type: STRUCT %s struct_domain {
    feature { name: "id" type: INT group_presence { required: true } }
    feature { name: "name" type: BYTES %s }
    feature { name: "home" type: STRUCT %s struct_domain { feature { name: "zip" type: BYTES } } } } }"""


USERS = {
    "user.id": pa.array([1, None, None, 4], pa.int64()),
    "user.name": pa.array(["a", "b", None, None]),
    "user.home.zip": pa.array([None, None, None, "z"], pa.string()),
}


class TestStructs:
    def test_a_field_must_be_there_wherever_the_struct_is(self):
        assert found(USER % ("", "", ""), **USERS) == {
            1: [("presence", "user.id is null, the schema demands a value wherever user has one")]
        }

    def test_in_a_struct_that_must_be_there_each_row_must_have_it(self):
        rejected = codes(USER % ("presence { min_fraction: 1 }", "", ""), **USERS)
        assert rejected == {1: ["presence"], 2: ["presence"]}

    def test_presence_of_a_field_counts_where_the_struct_is(self):
        rejected = codes(USER % ("", "presence { min_fraction: 1 }", ""), **USERS)
        assert rejected == {1: ["presence"], 3: ["presence"]}

    def test_a_struct_in_a_struct(self):
        rejected = codes(USER % ("", "", "group_presence { required: true }"), **USERS)
        assert rejected == {0: ["presence"], 1: ["presence", "presence"]}

    def test_absent_columns_are_null(self):
        assert codes(USER % ("", "", ""), **{"user.name": ["a", None]}) == {0: ["presence"]}

    @pytest.mark.parametrize(
        ("count", "span"),
        [("min: 2 max: 3", "2 to 3"), ("min: 2", "at least 2"), ("min: 1 max: 1", None), ("max: 5", None), ("", None)],
    )
    def test_a_struct_is_one_value(self, count, span):
        why = {} if span is None else {0: [("value_count", f"user is one value, the schema allows {span}")]}
        schema = (USER % (f"value_count {{ {count} }}", "", "")).replace("group_presence { required: true }", "")
        assert found(schema, **{"user.id": pa.array([1, None])}) == why


SPARSE = """feature { name: "x" type: INT } feature { name: "y" type: INT } feature { name: "v" type: FLOAT }
    sparse_feature { name: "sp" index_feature { name: "x" } index_feature { name: "y" }
        value_feature { name: "v" } %s }"""


class TestSparse:
    def test_parts_must_have_equal_numbers_of_values(self):
        rejected = found(
            SPARSE % "",
            x=pa.array([[1, 2], [1], None, []], INTS),
            y=pa.array([[1, 2], [1], None, None], INTS),
            v=pa.array([[0.5, 0.5], [], None, []], FLOATS),
        )
        why = "the parts of sp must have equal numbers of values: x has 1, y has 1, v has 0"
        assert rejected == {1: [("parts", why)]}

    def test_scalars_are_one_value_and_absent_columns_none(self):
        assert codes(SPARSE % "", x=[1, None], y=[1, None], v=[0.5, None]) == {}
        assert codes(SPARSE % "", x=[1, None], v=[0.5, None]) == {0: ["parts"]}

    def test_indices_lie_within_the_shape(self):
        rejected = found(
            SPARSE % "dense_shape { dim { size: 3 } dim { size: 2 } }",
            x=pa.array([[0, 2], [3, 4], [-1], None], INTS),
            y=pa.array([[0, 1], [0, 0], [2], None], INTS),
            v=pa.array([[1, 1], [1, 1], [1], None], FLOATS),
        )
        x, y = (f"{name} is outside of sp, whose dense_shape allows 0 to {most}" for name, most in (("x", 2), ("y", 1)))
        assert rejected == {1: [("parts", x)], 2: [("parts", x), ("parts", y)]}

    def test_indices_ascend_where_the_schema_says_so(self):
        x = pa.array([[0, 1, 1], [1, 0], [1, 1], [2], None, [5, 4]], INTS)
        y = pa.array([[9, 0, 1], [0, 1], [1, 0], [0], None, [0]], INTS)
        v = pa.array([[1, 1, 1], [1, 1], [1, 1], [1], None, [1, 1]], FLOATS)
        assert codes(SPARSE % "is_sorted: true", x=x, y=y, v=v) == {1: ["parts"], 2: ["parts"], 5: ["parts"]}
        assert found(SPARSE % "is_sorted: true", x=x, y=y, v=v)[1] == [
            ("parts", "the indices of sp do not ascend, the schema says is_sorted")
        ]
        assert codes(SPARSE % "", x=x, y=y, v=v) == {5: ["parts"]}

    def test_a_view_that_must_be_there(self):
        schema = SPARSE % "presence { min_fraction: 1 }"
        assert found(schema, x=[1, None], y=[1, None], v=[0.5, None]) == {
            1: [("presence", "sp has no value (v is null), the schema demands one in every row")]
        }

    def test_nulls_in_lists_are_told_once_and_not_as_indices(self):
        schema = SPARSE % "is_sorted: true dense_shape { dim { size: 9 } dim { size: 9 } }"
        columns = {"x": pa.array([[1, None]], INTS), "y": pa.array([[1, 2]], INTS), "v": pa.array([[1, 2]], FLOATS)}
        assert codes(schema, **columns) == {0: ["null_in_list"]}

    def test_a_deprecated_part_leaves_nothing_to_check(self):
        schema = SPARSE.replace('name: "v" type: FLOAT', 'name: "v" type: FLOAT deprecated: true') % "deprecated: true"
        assert codes(schema, x=[1], y=[None]) == {}

    @given(
        st.lists(st.tuples(*[st.none() | st.lists(st.integers(0, 3), max_size=3)] * 3), max_size=8), st.integers(0, 3)
    )
    def test_rows_are_judged_alone(self, rows, start):
        columns = {
            name: pa.array([row[index] for row in rows], INTS if name != "v" else FLOATS).slice(start)
            for index, name in enumerate("xyv")
        }
        expected = {}
        for index, (x, y, v) in enumerate(rows[start:]):
            pairs = list(zip(x or (), y or (), strict=False))
            if len({len(part or ()) for part in (x, y, v)}) > 1 or pairs != sorted(pairs):
                expected[index] = ["parts"]
        assert codes(SPARSE % "is_sorted: true", **columns) == expected


def test_weights_are_as_many_as_the_values():
    schema = """feature { name: "x" type: INT } feature { name: "w" type: FLOAT }
        weighted_feature { name: "xw" feature { step: "x" } weight_feature { step: "w" } }"""
    rejected = found(schema, x=pa.array([[1], [1, 2], None], INTS), w=pa.array([[0.5], [0.5], None], FLOATS))
    assert rejected == {1: [("parts", "the parts of xw must have equal numbers of values: w has 1, x has 2")]}
