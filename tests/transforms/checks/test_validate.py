import logging
import math

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.metrics import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing import test_pipeline as testing
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.error_handling import CollectingErrorHandler
from depth import scaled
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import origin_array
from penstock.io.errors import ConfigError
from penstock.io.reserved import ORIGIN
from penstock.io.schema import schema_features
from penstock.transforms.checks.rules import Rule, compile_rules
from penstock.transforms.checks.validate import ValidateRecords, record_checks, validate_batch


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


def feature(text):
    return schema_of(f"feature {{ name: 'x' {text} }}")


def codes(schema, values, arrow_type=None, label=None):
    """Row index to reason codes, for a batch of the one column x."""
    batch = pa.record_batch({"x": pa.array(values, arrow_type)})
    found = validate_batch(batch, record_checks(schema, label)).reasons
    return {row: [reason.code for reason in reasons] for row, reasons in found.items()}


INTS, FLOATS, TEXTS = pa.list_(pa.int64()), pa.list_(pa.float64()), pa.list_(pa.string())
LOW, HIGH = -(2**63), 2**63 - 1


@pytest.mark.parametrize(
    ("text", "values", "arrow_type", "expected"),
    [
        pytest.param("type: INT", [1, None, LOW, HIGH], None, {}, id="no_constraint"),
        pytest.param("type: INT presence { min_fraction: 1 }", [1, None, 0], None, {1: ["presence"]}, id="presence"),
        pytest.param("type: INT presence { min_fraction: 1 }", [[], None], INTS, {1: ["presence"]}, id="empty_list"),
        pytest.param("type: INT presence { min_fraction: 1 }", [None], pa.null(), {0: ["presence"]}, id="null_type"),
        pytest.param("type: INT presence { min_fraction: 0.9 min_count: 1 }", [None], pa.int64(), {}, id="fraction"),
        pytest.param("type: INT", ["7", None], None, {0: ["type"]}, id="type"),
        pytest.param("type: FLOAT", [7, None], None, {0: ["type"]}, id="int_for_float"),
        pytest.param(
            "type: INT value_count { min: 1 max: 2 }",
            [[], [1], [1, 2], [1, 2, 3], None],
            INTS,
            {0: ["value_count"], 3: ["value_count"]},
            id="value_count",
        ),
        pytest.param("type: INT value_count { min: 2 }", [1, None], None, {0: ["value_count"]}, id="scalar_is_one"),
        pytest.param("type: INT value_count { min: 1 }", [[1] * 99, []], INTS, {1: ["value_count"]}, id="no_max"),
        pytest.param(
            "type: INT shape { dim { size: 2 } dim { size: 2 } }",
            [[1] * 4, [1] * 3, None],
            INTS,
            {1: ["value_count"]},
            id="shape",
        ),
        pytest.param(
            "type: INT shape { }", [[1], [], [1, 2]], INTS, {1: ["value_count"], 2: ["value_count"]}, id="scalar_shape"
        ),
        pytest.param(
            "type: INT", [[1, None], None, [None]], INTS, {0: ["null_in_list"], 2: ["null_in_list"]}, id="null_item"
        ),
        pytest.param(
            "type: INT int_domain { min: 0 max: 9 }",
            [0, 9, -1, 10, None],
            None,
            {2: ["domain"], 3: ["domain"]},
            id="int",
        ),
        pytest.param(
            "type: INT int_domain { min: 0 }", [-1, HIGH, LOW], None, {0: ["domain"], 2: ["domain"]}, id="int_min"
        ),
        pytest.param(
            f"type: INT int_domain {{ min: {LOW} max: {HIGH - 1} }}",
            [LOW, HIGH, HIGH - 1],
            None,
            {1: ["domain"]},
            id="int64",
        ),
        pytest.param(
            "type: INT int_domain { min: 0 max: 9 }", [2**64 - 1, 9], pa.uint64(), {0: ["domain"]}, id="uint64"
        ),
        pytest.param(
            "type: INT int_domain { min: -1 max: 9 }",
            [[1, 2], [1, 10, 11], [-2, 11]],
            INTS,
            {1: ["domain"], 2: ["domain", "domain"]},
            id="int_lists",
        ),
        pytest.param("type: INT bool_domain { }", [0, 1, 2, None], None, {2: ["domain"]}, id="bool"),
        pytest.param("type: INT bool_domain { }", [True, False, None], None, {}, id="arrow_bool"),
        pytest.param(
            "type: FLOAT",
            [1.0, math.nan, math.inf, -math.inf, None],
            None,
            {1: ["nan"], 2: ["infinity"], 3: ["infinity"]},
            id="nan",
        ),
        pytest.param(
            "type: FLOAT float_domain { disallow_nan: false }",
            [math.nan, math.inf],
            None,
            {1: ["infinity"]},
            id="nan_allowed",
        ),
        pytest.param(
            "type: FLOAT float_domain { disallow_inf: false }",
            [math.nan, math.inf],
            None,
            {0: ["nan"]},
            id="inf_allowed",
        ),
        pytest.param(
            "type: FLOAT float_domain { disallow_inf: false max: 9 }",
            [math.inf, -math.inf],
            None,
            {0: ["domain"]},
            id="inf_bound",
        ),
        pytest.param(
            "type: FLOAT float_domain { min: 0 max: 9 }",
            [0.0, 9.0, -0.5, 9.5, math.inf, math.nan, None],
            None,
            {2: ["domain"], 3: ["domain"], 4: ["infinity"], 5: ["nan"]},
            id="float",
        ),
        pytest.param(
            "type: FLOAT float_domain { min: 0.1 max: 0.7 }",
            [0.1, 0.7, 0.09, 0.71],
            None,
            {2: ["domain"], 3: ["domain"]},
            id="float32",
        ),
        pytest.param(
            "type: FLOAT float_domain { min: 0 }",
            [[1.0, math.nan, -1.0], [1.0]],
            FLOATS,
            {0: ["nan", "domain"]},
            id="float_list",
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'a' value: 'é' }",
            ["a", "é", "b", "", None],
            None,
            {2: ["domain"], 3: ["domain"]},
            id="string",
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'a' value: 'é' }",
            [b"a", "é".encode(), b"\xff"],
            pa.binary(),
            {2: ["domain"]},
            id="binary",
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'a' }", [["a"], ["a", "b"], []], TEXTS, {1: ["domain"]}, id="strings"
        ),
        pytest.param(
            "type: BYTES string_domain { value: 'a' }",
            ["a", "b"],
            pa.dictionary(pa.int32(), pa.string()),
            {1: ["domain"]},
            id="dictionary",
        ),
        pytest.param("type: BYTES string_domain { }", ["a"], None, {0: ["domain"]}, id="empty_domain"),
        pytest.param(
            "type: BYTES bool_domain { true_value: 'Y' false_value: 'N' }",
            ["Y", "N", "y"],
            None,
            {2: ["domain"]},
            id="bool_text",
        ),
    ],
)
def test_each_constraint(text, values, arrow_type, expected):
    found = codes(feature(text), values, arrow_type)
    assert found == {row: [f"schema.{code}" for code in reasons] for row, reasons in expected.items()}


@pytest.mark.parametrize(
    ("text", "values", "detail"),
    [
        ("type: INT presence { min_fraction: 1 }", [None], "x is null, the schema demands a value in every row"),
        ("type: INT", ["7"], "x is of type string, the schema says INT"),
        ("type: INT value_count { min: 2 max: 3 }", [[1]], "x has 1 values, the schema allows 2 to 3"),
        ("type: INT value_count { min: 2 }", [[1]], "x has 1 values, the schema allows at least 2"),
        ("type: INT int_domain { min: 3 }", [2], "x is 2, below 3, the least value of int_domain"),
        (f"type: INT int_domain {{ max: {HIGH - 1} }}", [HIGH], f"above {HIGH - 1}, the greatest value of int_domain"),
        ("type: FLOAT float_domain { max: 0.7 }", [0.8], "x is 0.8, above 0.7, the greatest value of float_domain"),
        ("type: FLOAT", [math.nan], "x is nan, allow it with float_domain { disallow_nan: false }"),
        ("type: BYTES string_domain { value: 'a' value: 'b' }", ["c"], "x is 'c', not in string_domain (a, b)"),
        ("type: INT", [[1, None]], "x is null, and a list cannot hold a null"),
    ],
)
def test_details_name_column_value_and_bound(text, values, detail):
    found = validate_batch(pa.record_batch({"x": values}), record_checks(feature(text))).reasons
    assert detail in found[0][0].detail


def test_a_large_domain_is_not_listed_in_full():
    values = " ".join(f"value: 'v{number}'" for number in range(30))
    checks = record_checks(feature(f"type: BYTES string_domain {{ name: 'vs' {values} }}"))
    detail = validate_batch(pa.record_batch({"x": ["y"]}), checks).reasons[0][0].detail
    assert detail.endswith("not in string_domain vs (v0, v1, v2, v3, v4, v5, v6, v7, v8, v9, and 20 more)")


@pytest.mark.parametrize(
    ("text", "domain", "values"),
    [
        ("type: BYTES", "string_domain { name: 'd' value: 'a' }", ["a", "b"]),
        ("type: INT", "int_domain { name: 'd' max: 5 }", [5, 6]),
        ("type: FLOAT", "float_domain { name: 'd' max: 5 }", [5.0, 6.0]),
    ],
)
def test_domains_by_name(text, domain, values):
    assert codes(schema_of(f"feature {{ name: 'x' {text} domain: 'd' }} {domain}"), values) == {1: ["schema.domain"]}


def test_an_absent_column_is_all_null():
    checks = record_checks(
        schema_of(
            "feature { name: 'x' type: INT presence { min_fraction: 1 } } "
            "feature { name: 'y' type: INT int_domain { min: 1 } } feature { name: 'z' type: FLOAT }"
        ),
        label="y",
    )
    found = validate_batch(pa.record_batch({"z": [1.0, 2.0]}), checks).reasons
    expected = ["schema.presence", "label.missing"]
    assert {row: [reason.code for reason in reasons] for row, reasons in found.items()} == {0: expected, 1: expected}


def test_the_label_must_have_a_value():
    schema = feature("type: INT")
    assert codes(schema, [1, None, 0], label="x") == {1: ["label.missing"]}
    assert codes(schema, [[1], None, []], INTS, label="x") == {1: ["label.missing"], 2: ["label.missing"]}
    with pytest.raises(ConfigError, match=r"label 'tip' is not a feature of the schema; did you mean 'tips'\?"):
        record_checks(schema_of("feature { name: 'tips' type: INT }"), "tip")


@pytest.mark.parametrize(
    ("parent", "required"),
    [("presence { min_fraction: 1 }", True), ("presence { min_fraction: 0.5 }", False), ("", False)],
)
def test_a_field_is_required_if_its_structs_are(parent, required):
    checks = record_checks(
        schema_of(
            f"feature {{ name: 's' type: STRUCT {parent} struct_domain {{ "
            "feature { name: 'x' type: INT presence { min_fraction: 1 } } feature { name: 'y' type: INT } } }"
        )
    )
    found = validate_batch(pa.record_batch({"s.x": pa.array([None], pa.int64())}), checks).reasons
    assert ([reason.detail[:3] for reason in found.get(0, [])] == ["s.x"]) is required


def test_all_reasons_of_a_row_in_a_fixed_order():
    schema = schema_of(
        "feature { name: 'b' type: FLOAT float_domain { min: 0 } } "
        "feature { name: 'a' type: INT presence { min_fraction: 1 } int_domain { max: 5 } }"
    )
    rules = compile_rules([Rule("pos", "a > 0"), Rule("small", "b < 3")], schema_features(schema))
    batch = pa.record_batch({"a": [1, 9, None], "b": [1.0, -1.0, math.nan]})
    found = validate_batch(batch, record_checks(schema, "a"), rules).reasons
    assert {row: [reason.code for reason in reasons] for row, reasons in found.items()} == {
        1: ["schema.domain", "schema.domain"],
        2: ["schema.nan", "schema.presence", "label.missing", "rule.pos", "rule.small"],
    }
    assert [reason.detail[0] for reason in found[1]] == ["b", "a"]


SCHEMA = schema_of(
    "feature { name: 'fare' type: FLOAT presence { min_fraction: 1 } float_domain { min: 0 max: 100 } } "
    "feature { name: 'kind' type: BYTES string_domain { value: 'a' value: 'b' } } "
    "feature { name: 'ids' type: INT value_count { min: 0 max: 2 } int_domain { min: 0 } }"
)


def _is_good(row):
    fare, kind, ids = row
    if fare is None or math.isnan(fare) or not 0 <= np.float32(fare) <= 100:
        return False
    return kind in (None, "a", "b") and (ids is None or (len(ids) <= 2 and min(ids, default=0) >= 0))


ROWS = st.tuples(
    st.none() | st.floats(-10, 110) | st.sampled_from([0.0, 100.0, math.nan, math.inf, -math.inf]),
    st.none() | st.sampled_from(["a", "b", "c", ""]),
    st.none() | st.lists(st.integers(-1, 3), max_size=3),
)


@settings(max_examples=scaled(100))
@given(st.lists(ROWS, min_size=1, max_size=30), st.integers(0, 29))
def test_rows_are_judged_alone(rows, start):
    fares, kinds, ids = zip(*rows, strict=True)
    batch = pa.record_batch(
        {"fare": pa.array(fares, pa.float64()), "kind": pa.array(kinds, pa.string()), "ids": pa.array(ids, INTS)}
    )
    checks = record_checks(SCHEMA)
    found = validate_batch(batch, checks).reasons
    assert sorted(found) == [index for index, row in enumerate(rows) if not _is_good(row)]
    tail = validate_batch(batch.slice(start), checks).reasons
    assert tail == {row - start: reasons for row, reasons in found.items() if row >= start}


BOUNDED = (
    ("type: INT int_domain { min: -1 max: 2 }", pa.int64(), st.integers(-3, 4)),
    ("type: FLOAT float_domain { min: 0.1 max: 0.7 }", pa.float64(), st.sampled_from([0.0, 0.1, 0.7, 0.71, math.nan])),
    ("type: FLOAT float_domain { min: 0 disallow_inf: false }", pa.float64(), st.floats()),
    ("type: FLOAT float_domain { max: 0.7 disallow_nan: false }", pa.float32(), st.floats(width=32)),
    ("type: BYTES string_domain { value: 'a' value: '' }", pa.string(), st.sampled_from(["a", "b", ""])),
)


@settings(max_examples=scaled(100))
@given(st.data(), st.sampled_from(BOUNDED), st.integers(0, 5))
def test_scalars_are_judged_as_lists_of_one(data, bounded, start):
    text, arrow_type, values = bounded
    checks = record_checks(feature(text))
    scalars = data.draw(st.lists(st.none() | values, max_size=12))
    lists = [None if value is None else [value] for value in scalars]
    columns = (pa.array(scalars, arrow_type), pa.array(lists, pa.list_(arrow_type)))
    first, second = (validate_batch(pa.record_batch({"x": column}).slice(start), checks) for column in columns)
    assert first == second


def batches():
    fares = pa.array([1.0, -1.0, None, 4.0])
    origin = origin_array("/data/a.csv", np.array([0, 10, 20, 30]))
    kinds = pa.array(["a", "z", "b", "b"])
    good = pa.record_batch({"fare": [5.0], ORIGIN: origin.slice(0, 1)})
    bad = pa.record_batch({"fare": [-5.0], ORIGIN: origin.slice(3, 1)})
    return [pa.record_batch({"fare": fares, "kind": kinds, ORIGIN: origin}), good, bad]


def test_pipeline_rejects_counts_and_passes_on():
    rules = [Rule("low", "fare < 3"), Rule("odd", "fare < 2", severity="warn")]
    pipeline = testing.TestPipeline(runner=FnApiRunner())
    with CollectingErrorHandler() as handler:
        good = (
            pipeline | beam.Create(batches()) | ValidateRecords(SCHEMA, rules, label="fare").with_error_handler(handler)
        )
    assert good.element_type is pa.RecordBatch
    rows = good | beam.FlatMap(lambda batch: batch.select(["fare", ORIGIN]).to_pylist())
    letters = handler.output() | beam.Map(
        lambda letter: (letter.position, letter.stage, [reason.code for reason in letter.reasons], letter.payload)
    )
    assert_that(rows, equal_to([{"fare": 1.0, ORIGIN: {"uri": "/data/a.csv", "position": 0}}]))
    assert_that(
        letters,
        equal_to(
            [
                (10, "validate", ["schema.domain", "schema.domain"], '{"fare": -1.0, "kind": "z"}'),
                (20, "validate", ["schema.presence", "label.missing", "rule.low"], '{"kind": "b"}'),
                (30, "validate", ["rule.low"], '{"fare": 4.0, "kind": "b"}'),
                (0, "validate", ["rule.low"], '{"fare": 5.0}'),
                (30, "validate", ["schema.domain"], '{"fare": -5.0}'),
            ]
        ),
        label="Rejected",
    )
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace("ValidateRecords"))["counters"]
    assert {counter.key.metric.name: counter.committed for counter in counters} == {
        "in-batches": 3,
        "in-rows": 6,
        "out-rows": 1,
        "bad-rows": 5,
        "warn-odd": 3,
    }


def test_without_a_handler_the_first_bad_row_fails_the_pipeline():
    with (
        pytest.raises(Exception, match=r"/data/a.csv at 10, rejected by stage validate: schema.domain"),
        testing.TestPipeline(runner=FnApiRunner()) as pipeline,
    ):
        _ = pipeline | beam.Create(batches()) | ValidateRecords(SCHEMA)


def test_configuration_is_checked_when_the_graph_is_built(caplog):
    with pytest.raises(ConfigError, match="no column 'fair'"):
        ValidateRecords(SCHEMA, [Rule("r", "fair > 0")])
    with pytest.raises(ConfigError, match="label 'fair'"):
        ValidateRecords(SCHEMA, label="fair")
    with pytest.raises(ConfigError, match="has no type"):
        ValidateRecords(schema_of("feature { name: 'x' }"))
    pipeline = testing.TestPipeline(runner=FnApiRunner())
    with caplog.at_level(logging.WARNING):
        _ = pipeline | beam.Create(batches()) | ValidateRecords(feature("type: BYTES url_domain { }"))
    assert [record.getMessage() for record in caplog.records if "url_domain" in record.getMessage()] == [
        "the schema demands what is not checked: url_domain of x: Penstock does not know what its values may be"
    ]
