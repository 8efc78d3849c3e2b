import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.transforms.report.schema_table import schema_rows


def row_of(feature: str, rest: str = ""):
    schema = text_format.Parse(f'feature {{ name: "x" {feature} }} {rest}', schema_pb2.Schema())
    return schema_rows(schema)[0]


@pytest.mark.parametrize(
    ("feature", "column", "shown"),
    [
        ("type: INT", "type", "INT"),
        ("", "presence", "may be missing"),
        ("presence { min_fraction: 1 min_count: 1 }", "presence", "at least in 100 % of rows"),
        ("presence { min_fraction: 0.5 min_count: 1000 }", "presence", "at least in 50 % of rows and in 1,000 rows"),
        ("presence { min_count: 1 }", "presence", "at least in 1 rows"),
        ("", "values", "any number"),
        ("value_count { min: 1 max: 1 }", "values", "1"),
        ("value_count { min: 2 }", "values", "at least 2"),
        ("shape { dim { size: 2 } dim { size: 3 } }", "values", "shape 2 × 3"),
        ("shape { }", "values", "one"),
        ("value_counts { value_count { max: 4 } value_count { } }", "values", "at most 4, then any number"),
        ("", "domain", ""),
        ("int_domain { min: 1 max: 12 is_categorical: true }", "domain", "category, 1 to 12"),
        ("int_domain { }", "domain", "any integer"),
        ("float_domain { min: 0.5 disallow_nan: true disallow_inf: true }", "domain", "at least 0.5, no nan, no inf"),
        ('bool_domain { true_value: "yes" false_value: "no" }', "domain", "true or false (yes, no)"),
        ("bool_domain { }", "domain", "true or false"),
        ('string_domain { value: "a" value: "" }', "domain", "a, ⟨empty⟩"),
        ("url_domain { }", "domain", "url domain"),
        ('domain: "gone"', "domain", "gone"),
        ("drift_comparator { infinity_norm { threshold: 0.1 } }", "more",
         "drift comparator: infinity_norm { threshold: 0.1 }"),
        ('lifecycle_stage: DEPRECATED not_in_environment: "serving"', "more", "deprecated; not in serving"),
    ],
)  # fmt: skip
def test_what_is_asked_of_a_feature_in_words(feature, column, shown):
    assert getattr(row_of(feature), column) == shown


def test_a_shared_domain_is_looked_up_and_a_long_one_cut():
    values = " ".join(f'value: "v{index}"' for index in range(20))
    row = row_of('domain: "d"', f'string_domain {{ name: "d" {values} }}')
    assert row.domain.startswith("v0, v1, ")
    assert row.domain.endswith("v11 and 8 more")


def test_members_of_a_struct_follow_it():
    schema = text_format.Parse(
        'feature { name: "a" type: STRUCT struct_domain { feature { name: "b\u202e" type: INT } } }'
        'feature { name: "c" }',
        schema_pb2.Schema(),
    )
    assert [(row.path, row.name) for row in schema_rows(schema)] == [
        ("a", "a"), ("a.b\u202e", "a.b⟨U+202E⟩"), ("c", "c")]  # fmt: skip
