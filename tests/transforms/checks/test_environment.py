import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.schema import schema_features
from penstock.transforms.checks.environment import in_environment, schema_environments, unexpected_features


def schema_of(text):
    return text_format.Parse(text, schema_pb2.Schema())


TAXI = schema_of("""
    default_environment: "TRAINING" default_environment: "SERVING"
    feature { name: "fare" type: FLOAT }
    feature { name: "tips" type: FLOAT not_in_environment: "SERVING"
        presence { min_fraction: 1 } value_count { min: 1 } }
    feature { name: "fee" type: INT in_environment: "LIVE" }
    feature { name: "both" type: INT in_environment: "SERVING" not_in_environment: "SERVING" }
""")


def names(schema):
    return [feature.name for feature in schema_features(schema)]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (None, ["fare", "tips", "fee", "both"]),
        ("TRAINING", ["fare", "tips", "fee", "both"]),
        ("SERVING", ["fare", "fee", "both"]),
        ("LIVE", ["fee"]),
    ],
)
def test_which_features_an_environment_expects(environment, expected):
    before = TAXI.SerializeToString()
    assert names(in_environment(TAXI, environment)) == expected
    assert TAXI.SerializeToString() == before


def test_all_names_of_environments():
    assert schema_environments(TAXI) == ("LIVE", "SERVING", "TRAINING")
    assert schema_environments(schema_of("feature { name: 'x' type: INT }")) == ()


def test_what_is_not_expected_demands_nothing():
    (tips,) = unexpected_features(TAXI, in_environment(TAXI, "SERVING"))
    assert (tips.name, tips.required, tips.complete, tips.multivalued) == ("tips", False, False, None)
    assert unexpected_features(TAXI, TAXI) == ()


@pytest.mark.parametrize(
    ("schema", "environment", "message"),
    [
        (TAXI, "SERVNG", r"environment 'SERVNG' is not in the schema; did you mean 'SERVING'\? it names LIVE, SERVING"),
        (TAXI, "x", r"environment 'x' is not in the schema; it names LIVE, SERVING, TRAINING"),
        (schema_of("feature { name: 'x' type: INT }"), "SERVING", "the schema names no environments; name them in"),
        (
            schema_of("feature { name: 'x' type: INT not_in_environment: 'SERVING' }"),
            "SERVING",
            "the schema expects no feature there; add it to default_environment",
        ),
    ],
)
def test_an_environment_that_does_not_fit_is_refused(schema, environment, message):
    with pytest.raises(ConfigError, match=message):
        in_environment(schema, environment)


def test_fields_of_structs():
    schema = schema_of("""
        default_environment: "TRAINING" default_environment: "SERVING"
        feature { name: "u" type: STRUCT struct_domain {
            feature { name: "id" type: INT }
            feature { name: "label" type: INT not_in_environment: "SERVING" } } }
        feature { name: "after" type: STRUCT not_in_environment: "SERVING" struct_domain {
            feature { name: "tip" type: INT in_environment: "SERVING" } } }
    """)
    seen = in_environment(schema, "SERVING")
    assert names(seen) == ["u.id"]
    assert [feature.name for feature in unexpected_features(schema, seen)] == ["u.label", "after.tip"]


def test_views_and_tensors_go_with_their_columns():
    schema = schema_of("""
        default_environment: "TRAINING" default_environment: "SERVING"
        feature { name: "x" type: INT }
        feature { name: "i" type: INT not_in_environment: "SERVING" }
        feature { name: "v" type: FLOAT }
        sparse_feature { name: "sp" index_feature { name: "i" } value_feature { name: "v" } }
        sparse_feature { name: "kept" index_feature { name: "x" } value_feature { name: "v" } }
        weighted_feature { name: "w" feature { step: "x" } weight_feature { step: "i" } }
        tensor_representation_group { key: "" value {
            tensor_representation { key: "a" value { dense_tensor { column_name: "i" } } }
            tensor_representation { key: "b" value { varlen_sparse_tensor { column_name: "i" } } }
            tensor_representation { key: "c" value { sparse_tensor {
                index_column_names: "i" value_column_name: "v" } } }
            tensor_representation { key: "d" value { ragged_tensor { feature_path { step: "v" }
                partition { row_length: "i" } } } }
            tensor_representation { key: "e" value { ragged_tensor { feature_path { step: "v" } } } }
            tensor_representation { key: "f" value { varlen_sparse_tensor { column_name: "v" } } } } }
    """)
    seen = in_environment(schema, "SERVING")
    assert [view.name for view in seen.sparse_feature] == ["kept"]
    assert not seen.weighted_feature
    assert sorted(seen.tensor_representation_group[""].tensor_representation) == ["e", "f"]
    assert names(seen) == ["x", "v"]
