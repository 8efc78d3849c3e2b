import pyarrow as pa
import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.checks.unchecked import UNCHECKED, unchecked_constraints, unchecked_text
from penstock.transforms.checks.validate import record_checks, validate_batch


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


def feature(text):
    return schema_of(f"feature {{ name: 'x' {text} }}")


def named(schema):
    return {note.subject: (note.count, note.detail.split(":")[0]) for note in unchecked_constraints(schema)}


@pytest.mark.parametrize(
    ("text", "constraint", "value"),
    [
        ("type: INT presence { min_fraction: 0.5 }", "presence.min_fraction", None),
        ("type: INT presence { min_count: 1 }", "presence.min_count", None),
        ("type: INT presence { min_fraction: 1 min_count: 2 }", "presence.min_count", 5),
        ("type: INT unique_constraints { min: 1 }", "unique_constraints", 5),
        ("type: INT skew_comparator { infinity_norm { threshold: 0.1 } }", "skew_comparator", 5),
        ("type: INT drift_comparator { infinity_norm { threshold: 0.1 } }", "drift_comparator", 5),
        ("type: BYTES int_domain { min: 9 }", "domain of another type", "7"),
        ("type: BYTES bool_domain { }", "domain of another type", "7"),
        ("type: INT string_domain { value: '7' }", "domain of another type", 8),
        ("type: BYTES url_domain { }", "url_domain", "7"),
        ("type: BYTES natural_language_domain { }", "natural_language_domain", "7"),
        (
            "type: BYTES string_domain { value: 'a' } distribution_constraints { min_domain_mass: 0.9 }",
            "min_domain_mass",
            "b",
        ),
    ],
)
def test_what_is_not_checked_of_a_feature_is_named(text, constraint, value):
    schema = feature(text)
    assert named(schema) == {constraint: (1, "x")}
    assert (
        validate_batch(pa.record_batch({"x": [value, 1 if value == 5 else value]}), record_checks(schema)).reasons == {}
    )


@pytest.mark.parametrize(
    "text",
    [
        "type: INT",
        "type: INT presence { min_fraction: 1 min_count: 1 }",
        "type: INT int_domain { min: 1 }",
        "type: INT bool_domain { }",
        "type: BYTES bool_domain { true_value: 'y' false_value: 'n' }",
        "type: BYTES string_domain { value: 'a' } distribution_constraints { min_domain_mass: 1 }",
    ],
)
def test_what_a_row_can_break_is_checked(text):
    assert unchecked_constraints(feature(text)) == ()


def test_features_of_one_constraint_share_a_note():
    schema = schema_of("".join(f"feature {{ name: 'f{i}' type: INT presence {{ min_count: 1 }} }}" for i in range(7)))
    (note,) = unchecked_constraints(schema)
    assert (note.code, note.subject, note.count) == (UNCHECKED, "presence.min_count", 7)
    assert note.detail.startswith("f0, f1, f2, f3, f4 and 2 more: it is about the whole dataset")
    assert unchecked_text([note]).startswith("the schema demands what is not checked: presence.min_count of f0, f1")


def test_constraints_of_the_dataset_of_structs_and_views():
    schema = schema_of(
        "dataset_constraints { min_examples_count: 5 num_examples_drift_comparator { } } "
        "feature { name: 'u' type: STRUCT presence { min_fraction: 1 } struct_domain { "
        "feature { name: 'id' type: INT } } } feature { name: 'i' type: INT } feature { name: 'v' type: FLOAT } "
        "sparse_feature { name: 'sp' presence { min_count: 3 } "
        "index_feature { name: 'i' } value_feature { name: 'v' } }"
    )
    assert named(schema) == {
        "dataset_constraints.min_examples_count": (1, "the dataset"),
        "dataset_constraints.num_examples_drift_comparator": (1, "the dataset"),
        "presence of a struct": (1, "u"),
        "presence.min_count": (1, "sp"),
    }


def test_a_domain_by_name_of_another_type_is_named():
    assert named(schema_of("feature { name: 'x' type: INT domain: 'd' } string_domain { name: 'd' value: 'a' }")) == {
        "domain of another type": (1, "x")
    }
