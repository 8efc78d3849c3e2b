import pytest
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.errors import ConfigError
from penstock.io.schema import (
    Feature,
    Kind,
    feature_domain,
    feature_map,
    load_schema,
    named_features,
    schema_features,
    schema_fingerprint,
    write_schema,
)

# As TFDV's infer_schema and a person's curation leave it, one feature for each style.
TFDV_SCHEMA = """
feature {
  name: "fare"
  type: FLOAT
  float_domain { min: 0.0 disallow_nan: true disallow_inf: true }
  presence { min_fraction: 1.0 min_count: 1 }
  shape { dim { size: 1 } }
  drift_comparator { jensen_shannon_divergence { threshold: 0.01 } }
}
feature {
  name: "payment_type"
  value_count { min: 1 max: 1 }
  type: BYTES
  domain: "payment_type"
  presence { min_count: 1 }
  skew_comparator { infinity_norm { threshold: 0.01 } }
}
feature {
  name: "trip_start_hour"
  type: INT
  int_domain { name: "trip_start_hour" min: 0 max: 23 is_categorical: true }
  presence { min_fraction: 1.0 min_count: 1 }
  shape { }
}
feature {
  name: "tags"
  type: BYTES
  value_count { min: 1 }
  presence { min_fraction: 0.5 }
  natural_language_domain { }
}
feature { name: "embedding" type: FLOAT shape { dim { size: 2 } dim { size: 8 } } }
feature { name: "tips" type: INT bool_domain { } not_in_environment: "SERVING" lifecycle_stage: PRODUCTION }
feature { name: "note" type: BYTES bool_domain { true_value: "yes" false_value: "no" } }
feature { name: "old" type: BYTES deprecated: true }
feature { name: "older" lifecycle_stage: DEPRECATED }
feature { name: "later" type: INT lifecycle_stage: PLANNED }
string_domain { name: "payment_type" value: "Cash" value: "Credit Card" value: "Señal" }
default_environment: "TRAINING"
default_environment: "SERVING"
annotation { tag: "pii" comment: "checked" }
tensor_representation_group {
  key: ""
  value { tensor_representation { key: "fare" value { dense_tensor { column_name: "fare" shape { } } } } }
}
"""


def parse(text):
    return text_format.Parse(text, schema_pb2.Schema())


def test_schema_made_by_tfdv_loads_from_a_file(tmp_path):
    path = tmp_path / "schema.pbtxt"
    path.write_text(TFDV_SCHEMA, encoding="utf-8")
    assert schema_features(load_schema(str(path))) == (
        Feature("fare", Kind.FLOAT, multivalued=False, required=True, complete=True),
        Feature("payment_type", Kind.BYTES, multivalued=False, required=True),
        Feature("trip_start_hour", Kind.INT, multivalued=False, required=True, complete=True),
        Feature("tags", Kind.BYTES, multivalued=True, required=True),
        Feature("embedding", Kind.FLOAT, multivalued=True, length=16),
        Feature("tips", Kind.INT, boolean=True),
        Feature("note", Kind.BYTES),
    )


@pytest.mark.parametrize(
    ("shape", "multivalued"),
    [
        ("", None),
        ("shape { }", False),
        ("shape { dim { size: 1 } dim { size: 1 } }", False),
        ("shape { dim { size: 2 } }", True),
        ("shape { dim { name: 'unknown' } }", True),
        ("value_count { min: 1 max: 1 }", False),
        ("value_count { min: 0 max: 1 }", True),
        ("value_count { min: 1 }", True),
        ("value_counts { value_count { min: 1 max: 1 } }", False),
        ("value_counts { value_count { min: 1 max: 3 } }", True),
    ],
)
def test_shape_and_value_count_tell_whether_a_row_has_one_value(shape, multivalued):
    (feature,) = schema_features(parse(f"feature {{ name: 'x' type: INT {shape} }}"))
    assert feature.multivalued is multivalued


@pytest.mark.parametrize(
    ("presence", "required", "complete"),
    [
        ("", False, False),
        ("presence { }", False, False),
        ("presence { min_fraction: 0 }", False, False),
        ("presence { min_fraction: 0.1 }", True, False),
        ("presence { min_count: 1 }", True, False),
        ("presence { min_fraction: 1 }", True, True),
    ],
)
def test_presence_above_zero_is_required_and_of_one_is_complete(presence, required, complete):
    (feature,) = schema_features(parse(f"feature {{ name: 'x' type: INT {presence} }}"))
    assert (feature.required, feature.complete) == (required, complete)


STRUCTS = """
feature {
  name: "trip" type: STRUCT presence { min_fraction: 1 }
  struct_domain {
    feature { name: "km" type: FLOAT group_presence { required: true } }
    feature {
      name: "from" type: STRUCT
      struct_domain {
        feature { name: "lat" type: FLOAT presence { min_fraction: 1 } }
        feature { name: "gone" type: FLOAT lifecycle_stage: DISABLED }
      }
    }
  }
}
feature { name: "gone" type: STRUCT deprecated: true struct_domain { feature { name: "x" } } }
"""


def test_struct_features_become_dotted_names_required_only_where_the_structs_are():
    schema = parse(STRUCTS)
    features = (Feature("trip.km", Kind.FLOAT, required=True, complete=True), Feature("trip.from.lat", Kind.FLOAT))
    assert schema_features(schema) == features
    assert list(named_features(schema)) == ["trip.km", "trip.from.lat"]
    assert named_features(schema)["trip.from.lat"].presence.min_fraction == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("feature { name: 'x' }", r"feature 'x' has no type; set type to INT, FLOAT or BYTES"),
        ("feature { type: INT }", r"feature 1 has no name"),
        (
            "feature { name: 's' type: STRUCT struct_domain { feature { type: INT } } }",
            r"feature 1 of struct 's' has no name",
        ),
        ("feature { name: 'x' type: INT } feature { name: 'x' type: INT }", r"feature 'x' appears more than once"),
        (
            "feature { name: 'a.b' type: INT } "
            "feature { name: 'a' type: STRUCT struct_domain { feature { name: 'b' type: INT } } }",
            r"feature 'a\.b' appears more than once",
        ),
        ("feature { name: '_origin' type: INT }", r"'_origin' is reserved"),
        ("feature { name: 's' type: STRUCT }", r"'s' is a STRUCT without struct_domain"),
        ("feature { name: 'x' type: BYTES domain: 'colour' }", r"'x' has domain 'colour', which the schema does not"),
        (
            "feature { name: 'x' type: INT value_counts { value_count { min: 1 } value_count { min: 1 } } }",
            r"'x' has nested value_counts",
        ),
        (
            "feature { name: 'v' type: INT } "
            "sparse_feature { name: 's' index_feature { name: 'i' } value_feature { name: 'v' } }",
            r"sparse_feature 's' is made of 'i', which is not among the features .*declare it",
        ),
        (
            "feature { name: 'v' type: INT } "
            "weighted_feature { name: 'w' feature { step: 'v' } weight_feature { step: 'm' } }",
            r"weighted_feature 'w' is made of 'm'",
        ),
    ],
)
def test_unusable_schema_is_refused_naming_file_and_feature(tmp_path, text, message):
    path = tmp_path / "s.pbtxt"
    path.write_text(text)
    with pytest.raises(ConfigError, match=rf"--schema .*s\.pbtxt: .*{message}"):
        load_schema(str(path))
    with pytest.raises(ConfigError, match=f"schema: .*{message}"):
        schema_features(parse(text))


def test_views_of_declared_features_leave_the_features_as_they_are():
    text = """
    feature { name: "i" type: INT } feature { name: "v" type: FLOAT } feature { name: "w" type: FLOAT }
    sparse_feature { name: "s" index_feature { name: "i" } value_feature { name: "v" } }
    sparse_feature { name: "dead" lifecycle_stage: DEPRECATED value_feature { name: "none" } }
    weighted_feature { name: "x" feature { step: "v" } weight_feature { step: "w" } }
    """
    assert [feature.name for feature in schema_features(parse(text))] == ["i", "v", "w"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"feature {\n  name: 'x'\n  colour: 3\n}", r"bad\.pbtxt:3:3 .*colour"),
        (b"feature { name: 'x'", r"bad\.pbtxt:1"),
        (b"\xff\xfe", r"bad\.pbtxt: cannot be read"),
    ],
)
def test_file_that_does_not_parse_is_refused_with_its_position(tmp_path, content, message):
    path = tmp_path / "bad.pbtxt"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        load_schema(str(path))


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.pbtxt: cannot be read"):
        load_schema(str(tmp_path / "none.pbtxt"))


def test_written_schema_is_the_same_schema_with_readable_text(tmp_path):
    path = str(tmp_path / "new" / "schema.pbtxt")
    schema = parse(TFDV_SCHEMA)
    write_schema(schema, path)
    assert load_schema(path) == schema
    with open(path, encoding="utf-8") as file:
        assert 'value: "Señal"' in file.read()


def test_fingerprint_is_of_the_content_not_of_the_layout(tmp_path):
    schema = parse(TFDV_SCHEMA)
    write_schema(schema, str(tmp_path / "s.pbtxt"))
    assert schema_fingerprint(load_schema(str(tmp_path / "s.pbtxt"))) == schema_fingerprint(schema)
    assert len(schema_fingerprint(schema)) == 64
    schema.feature[0].presence.min_count = 2
    assert schema_fingerprint(schema) != schema_fingerprint(parse(TFDV_SCHEMA))


def test_domains_are_found_on_the_feature_or_by_name():
    schema = parse(TFDV_SCHEMA)
    features = named_features(schema)
    assert feature_domain(schema, features["payment_type"]) == schema.string_domain[0]
    assert feature_domain(schema, features["trip_start_hour"]).max == 23
    assert feature_domain(schema, features["fare"]).disallow_nan
    assert feature_domain(schema, features["note"]).true_value == "yes"
    assert feature_domain(schema, features["tags"]) is None
    assert feature_domain(schema, features["embedding"]) is None


def test_feature_map_is_by_name():
    features = schema_features(parse(TFDV_SCHEMA))
    assert feature_map(features)["tags"] is features[3]
