import math

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.testing.util import assert_that, equal_to
from google.protobuf import text_format
from helpers import local_pipeline
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError
from penstock.io.schema import schema_features
from penstock.transforms.checks.validate import record_checks, validate_batch
from penstock.transforms.relax import (
    MAX_NEW_TEXTS,
    Evidence,
    GatherEvidence,
    gather_evidence,
    relax_schema,
    schema_difference,
)

INTS, FLOATS = pa.list_(pa.int64()), pa.list_(pa.float64())


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


def relaxed(schema, *batches):
    """The relaxed schema and its changes; the rows, one batch after the other, must all meet it."""
    evidence = Evidence()
    for batch in batches:
        evidence = evidence.merge(gather_evidence(batch, schema_features(schema), record_checks(schema)))
    new, changes = relax_schema(schema, evidence)
    for batch in batches:
        typed, reasons = conform_batch(batch, schema_features(new))
        reasons |= validate_batch(typed, record_checks(new)).reasons
        assert {row: [str(reason) for reason in why] for row, why in reasons.items()} == {}
    return new, [(f"{change.subject}.{change.code[7:]}", change.rows, change.change) for change in changes]


def feature(text):
    return schema_of(f"feature {{ name: 'x' {text} }}")


@pytest.mark.parametrize(
    ("text", "values", "arrow_type", "changes", "expected"),
    [
        pytest.param("type: INT presence { min_fraction: 1 }", [1, 2], None, [], None, id="nothing"),
        pytest.param(
            "type: INT presence { min_fraction: 1 min_count: 1 }",
            [1, None, None],
            None,
            [("x.presence", 2, "no row must have a value")],
            "type: INT presence { min_count: 1 }",
            id="presence",
        ),
        pytest.param(
            "type: INT presence { min_fraction: 1 min_count: 1 }",
            [None, None],
            pa.int64(),
            [("x.presence", 2, "no row must have a value")],
            "type: INT",
            id="never",
        ),
        pytest.param(
            "type: INT shape { dim { size: 2 } }",
            [[1, 2], [1], [1, 2, 3]],
            INTS,
            [("x.value_count", 2, "1 to 3 values")],
            "type: INT value_count { min: 1 max: 3 }",
            id="shape",
        ),
        pytest.param(
            "type: INT value_count { min: 2 }",
            [[1, 2], []],
            INTS,
            [("x.value_count", 1, "at least 0 values")],
            "type: INT value_count { min: 0 max: 0 }",
            id="value_count",
        ),
        pytest.param(
            "type: FLOAT float_domain { min: 0 max: 9 }",
            [-0.5, 5.0, 9.25, math.nan],
            None,
            [("x.domain", 2, "min 0 -> -0.5, max 9 -> 9.25"), ("x.nan", 1, "disallow_nan: false")],
            "type: FLOAT float_domain { min: -0.5 max: 9.25 disallow_nan: false }",
            id="float",
        ),
        pytest.param(
            "type: FLOAT float_domain { min: 0 max: 9 }",
            [5.0, math.inf, -math.inf],
            None,
            [("x.infinity", 2, "disallow_inf: false")],
            "type: FLOAT float_domain { min: -inf max: inf disallow_inf: false }",
            id="infinity",
        ),
        pytest.param(
            "type: FLOAT",
            [0.1, math.nan],
            None,
            [("x.nan", 1, "disallow_nan: false")],
            "type: FLOAT float_domain { disallow_nan: false }",
            id="nan",
        ),
        pytest.param(
            "type: INT int_domain { min: 0 max: 9 }",
            [[1, 12], [3]],
            INTS,
            [("x.domain", 1, "max 9 -> 12")],
            "type: INT int_domain { min: 0 max: 12 }",
            id="int",
        ),
        pytest.param("type: INT bool_domain { }", [0, 2], None, [("x.domain", 1, "no domain")], "type: INT", id="bool"),
        pytest.param(
            "type: BYTES string_domain { value: 'b' }",
            ["b", "é", "a"],
            None,
            [("x.domain", 2, "2 more texts in the domain")],
            "type: BYTES string_domain { value: 'b' value: 'a' value: 'é' }",
            id="texts",
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'b' }",
            [b"b", b"\xff"],
            None,
            [("x.domain", 1, "no domain")],
            "type: BYTES",
            id="not_utf8",
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'b' }",
            [str(number) for number in range(MAX_NEW_TEXTS + 1)],
            None,
            [("x.domain", MAX_NEW_TEXTS + 1, "no domain")],
            "type: BYTES",
            id="many_texts",
        ),
        pytest.param(
            "type: INT int_domain { max: 5 } presence { min_fraction: 1 }",
            [1.0, 7.0, 2.5],
            None,
            [
                ("x.domain", 1, "type INT -> FLOAT, without a domain"),
                ("x.type", 1, "type INT -> FLOAT, without a domain"),
            ],
            "type: FLOAT presence { min_fraction: 1 }",
            id="type",
        ),
        pytest.param(
            "type: INT",
            ["1", "abc", None],
            None,
            [("x.type", 1, "type INT -> BYTES, without a domain")],
            "type: BYTES",
            id="text",
        ),
        pytest.param(
            "type: INT",
            [2**64 - 1, 1],
            pa.uint64(),
            [("x.int_overflow", 1, "type INT -> BYTES, without a domain")],
            "type: BYTES",
            id="overflow",
        ),
        pytest.param(
            "type: FLOAT",
            [1e300, 0.5],
            None,
            [("x.float_overflow", 1, "type FLOAT -> BYTES, without a domain")],
            "type: BYTES",
            id="float_overflow",
        ),
        pytest.param(
            "type: INT",
            [1.5, math.nan, math.inf],
            None,
            [("x.type", 3, "type INT -> FLOAT, without a domain")],
            "type: FLOAT float_domain { disallow_nan: false disallow_inf: false }",
            id="retyped_nan",
        ),
    ],
)
def test_each_demand_is_relaxed_to_what_rows_hold(text, values, arrow_type, changes, expected):
    new, found = relaxed(feature(text), pa.record_batch({"x": pa.array(values, arrow_type)}))
    assert found == changes
    assert new == feature(expected or text)


def test_it_does_not_matter_how_rows_are_cut():
    schema = feature("type: FLOAT presence { min_fraction: 1 } float_domain { max: 1 }")
    batch = pa.record_batch({"x": [0.5, 3.0, None, 2.0, math.nan]})
    assert relaxed(schema, batch) == relaxed(schema, batch.slice(3), batch.slice(0, 1), batch.slice(1, 2))


def test_a_domain_by_name_is_widened_where_it_is():
    schema = schema_of(
        "feature { name: 'x' type: BYTES domain: 'd' } feature { name: 'y' type: BYTES domain: 'd' } "
        "string_domain { name: 'd' value: 'a' } float_domain { name: 'f' max: 1 } "
        "feature { name: 'z' type: FLOAT domain: 'f' }"
    )
    batch = pa.record_batch({"x": ["a", "b"], "y": ["c", "b"], "z": [math.nan, 2.0]})
    new, _ = relaxed(schema, batch)
    assert list(new.string_domain[0].value) == ["a", "b", "c"]
    assert (
        new.feature[2]
        == schema_of("feature { name: 'z' type: FLOAT float_domain { max: 2 disallow_nan: false } }").feature[0]
    )


def test_structs_and_their_fields():
    schema = schema_of(
        "feature { name: 'u' type: STRUCT presence { min_fraction: 1 } value_count { min: 2 } struct_domain { "
        "feature { name: 'id' type: INT group_presence { required: true } } feature { name: 'n' type: BYTES } } }"
    )
    users = pa.array([{"id": 1, "n": "a"}, {"id": None, "n": "b"}, None])
    new, changes = relaxed(schema, pa.record_batch({"u": users}))
    assert changes == [("u.value_count", 2, "at least 1 values"), ("u.id.presence", 2, "no row must have a value")]
    assert not new.feature[0].struct_domain.feature[0].HasField("group_presence")


def test_views_whose_parts_do_not_fit_are_removed():
    schema = schema_of(
        "feature { name: 'i' type: INT } feature { name: 'v' type: FLOAT } "
        "sparse_feature { name: 'sp' index_feature { name: 'i' } value_feature { name: 'v' } } "
        "sparse_feature { name: 'must' presence { min_fraction: 1 } "
        "index_feature { name: 'v' } value_feature { name: 'v' } }"
    )
    new, changes = relaxed(
        schema, pa.record_batch({"i": pa.array([[1, 2], None], INTS), "v": pa.array([[1.0], None], FLOATS)})
    )
    assert changes == [
        ("sp.parts", 1, "the feature is removed; its parts stay"),
        ("must.presence", 1, "no row must have a value"),
    ]
    assert [view.name for view in new.sparse_feature] == ["must"]


def test_a_null_in_a_list_is_told_and_remains():
    schema = feature("type: INT")
    batch = pa.record_batch({"x": pa.array([[1, None], [2]], INTS)})
    evidence = gather_evidence(batch, schema_features(schema), record_checks(schema))
    new, (change,) = relax_schema(schema, evidence)
    assert new == schema
    assert (change.code, change.rows, change.change[:26]) == ("schema.null_in_list", 1, "nothing: no record holds a")


def test_a_column_that_has_no_form_is_refused():
    with pytest.raises(ConfigError, match="column 'x' has type map"):
        relaxed(feature("type: INT"), pa.record_batch({"x": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64()))}))


def test_a_feature_without_a_column():
    new, changes = relaxed(feature("type: INT presence { min_fraction: 1 }"), pa.record_batch({"y": [1, 2]}))
    assert changes == [("x.presence", 2, "no row must have a value")]
    assert new == feature("type: INT")


def test_the_difference_names_what_changed():
    old = schema_of("feature { name: 'a' type: INT } feature { name: 'b' type: INT presence { min_fraction: 1 } }")
    new = schema_of("feature { name: 'a' type: INT } feature { name: 'b' type: BYTES }")
    assert schema_difference(old, old) == ()
    assert schema_difference(old, new) == (
        "feature b",
        "+ type: BYTES",
        "- type: INT",
        "- presence {",
        "-   min_fraction: 1.0",
        "- }",
    )


def test_one_result_of_all_batches_and_of_none():
    schema = feature("type: INT presence { min_fraction: 1 }")
    with local_pipeline() as pipeline:
        batches = pipeline | beam.Create([pa.record_batch({"x": [1, None]}), pa.record_batch({"x": [None, 4]})])
        found = batches | GatherEvidence(schema) | beam.Map(lambda evidence: relax_schema(schema, evidence)[1][0].rows)
        assert_that(found, equal_to([2]))
        none = pipeline | "None" >> beam.Create([]).with_output_types(pa.RecordBatch)
        rows = none | "Gather" >> GatherEvidence(schema) | "Rows" >> beam.Map(lambda evidence: evidence.rows)
        assert_that(rows, equal_to([0]), label="no_rows")


def test_what_the_environment_does_not_expect_is_not_looked_at():
    schema = schema_of(
        "default_environment: 'T' default_environment: 'S' feature { name: 'a' type: INT } "
        "feature { name: 'x' type: INT presence { min_fraction: 1 } not_in_environment: 'S' }"
    )
    with local_pipeline() as pipeline:
        found = (
            pipeline
            | beam.Create([pa.record_batch({"a": [1]})])
            | GatherEvidence(schema, "S")
            | beam.Map(lambda evidence: relax_schema(schema, evidence)[1])
        )
        assert_that(found, equal_to([()]))
    with pytest.raises(ConfigError, match="environment 'X' is not in the schema"):
        GatherEvidence(schema, "X")
