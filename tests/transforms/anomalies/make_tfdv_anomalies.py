"""Makes tfdv_anomalies.json: statistics with a fault each, and what TensorFlow Data Validation 1.16.1 says of them.

TFDV cannot be installed beside this Beam, so it has an environment of its own, of Python 3.11:

    pip install "tensorflow-data-validation==1.16.1" "setuptools<70" dill
    python tests/transforms/anomalies/make_tfdv_anomalies.py

A case is a small table, a schema in text format and, for comparators, another table.
"""
# ruff: noqa: E501  (a case is a line)

import json
import pathlib
import sys

import pyarrow as pa
import tensorflow_data_validation as tfdv
from google.protobuf import text_format
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_metadata.proto.v0 import schema_pb2

TARGET = pathlib.Path(__file__).parent / "tfdv_anomalies.json"

# A feature of each type that the schema below accepts.
INTS = [[number] for number in (1, 2, 3, 4, 5, 6)]
FLOATS = [[number] for number in (0.5, 1.5, 2.5, 3.5, 4.5, 5.5)]
TEXTS = [[text] for text in ("a", "b", "a", "c", "a", "b")]
GAPS = [[1], None, [3], None, None, [6]]
NESTED = [[[1, 2], [3]], [[4]], [[5, 6]], [[7]], [[8]], [[9]]]


def feature(name, type_, more=""):
    return f'feature {{ name: "{name}" type: {type_} {more} }}'


def texts(name, values, more=""):
    listed = " ".join(f'value: "{value}"' for value in values)
    return feature(name, "BYTES", f"string_domain {{ {listed} }} {more}")


def comparator(side, threshold, name, kind, more=""):
    return feature(name, kind, f"{side}_comparator {{ {threshold} }} {more}")


LINF = "infinity_norm { threshold: 0.1 }"
JSD = "jensen_shannon_divergence { threshold: 0.05 }"
JSD_QUANTILES = "jensen_shannon_divergence { threshold: 0.05 source { type: QUANTILES } }"
NAD = "normalized_abs_difference { threshold: 0.1 }"
OTHER_TEXTS = [["a"], ["a"], ["a"], ["a"], ["a"], ["d"]]
OTHER_FLOATS = [[number + 3] for (number,) in FLOATS]

SPARSE = """feature { name: "i" type: INT } feature { name: "v" type: FLOAT }
sparse_feature { name: "s" index_feature { name: "i" } value_feature { name: "v" } }"""
WEIGHTED = """feature { name: "w" type: FLOAT } feature { name: "v" type: FLOAT }
weighted_feature { name: "s" feature { step: "v" } weight_feature { step: "w" } }"""

ENVIRONMENTS = 'default_environment: "TRAINING" default_environment: "SERVING" '

# name: (table, schema, {what else})
CASES = {
    "good": ({"x": INTS, "t": TEXTS}, feature("x", "INT", "presence { min_fraction: 1 } int_domain { min: 1 max: 6 }") + texts("t", "abc")),
    "missing_in_some": ({"x": GAPS}, feature("x", "INT", "presence { min_fraction: 1 min_count: 1 }")),
    "below_fraction": ({"x": GAPS}, feature("x", "INT", "presence { min_fraction: 0.75 }")),
    "above_fraction": ({"x": GAPS}, feature("x", "INT", "presence { min_fraction: 0.4 }")),
    "below_count": ({"x": GAPS}, feature("x", "INT", "presence { min_count: 5 }")),
    "below_count_and_fraction": ({"x": GAPS}, feature("x", "INT", "presence { min_count: 5 min_fraction: 0.9 }")),
    "no_column": ({"x": INTS}, feature("x", "INT") + feature("y", "INT", "presence { min_count: 1 }")),
    "no_column_optional": ({"x": INTS}, feature("x", "INT") + feature("y", "INT")),
    "column_of_nulls": ({"x": INTS, "y": [None] * 6}, feature("x", "INT") + feature("y", "INT", "presence { min_count: 1 }")),
    "new_column": ({"x": INTS, "y": TEXTS}, feature("x", "INT")),
    "deprecated": ({"x": TEXTS}, feature("x", "INT", "deprecated: true")),
    "debug_only": ({"x": TEXTS}, feature("x", "INT", "lifecycle_stage: DEBUG_ONLY presence { min_count: 100 }")),
    "too_few_values": ({"x": [[1, 2], [1], [1, 2]]}, feature("x", "INT", "value_count { min: 2 max: 2 }")),
    "too_many_values": ({"x": [[1, 2, 3], [1], [1, 2]]}, feature("x", "INT", "value_count { min: 1 max: 2 }")),
    "empty_list": ({"x": [[1], [], [1]]}, feature("x", "INT", "value_count { min: 1 }")),
    "nested": ({"x": NESTED}, feature("x", "INT", "value_count { min: 1 }")),
    "nested_counts": ({"x": NESTED}, feature("x", "INT", "value_counts { value_count { min: 1 max: 1 } value_count { min: 1 } }")),
    "nested_levels": ({"x": INTS}, feature("x", "INT", "value_counts { value_count { min: 1 } value_count { min: 1 } }")),
    "shape_good": ({"x": [[1, 2], [3, 4]]}, feature("x", "INT", "shape { dim { size: 2 } }")),
    "shape_size": ({"x": [[1, 2], [3, 4]]}, feature("x", "INT", "shape { dim { size: 3 } }")),
    "shape_varies": ({"x": [[1, 2], [3]]}, feature("x", "INT", "shape { dim { size: 2 } }")),
    "shape_missing": ({"x": GAPS}, feature("x", "INT", "shape { dim { size: 1 } }")),
    "int_is_float": ({"x": FLOATS}, feature("x", "INT")),
    "int_is_text": ({"x": TEXTS}, feature("x", "INT", "int_domain { min: 0 }")),
    "float_is_int": ({"x": INTS}, feature("x", "FLOAT", "float_domain { min: 3 }")),
    "text_is_int": ({"x": INTS}, texts("x", "ab")),
    "int_small": ({"x": INTS}, feature("x", "INT", "int_domain { min: 2 }")),
    "int_large": ({"x": INTS}, feature("x", "INT", "int_domain { max: 5 }")),
    "int_both": ({"x": INTS}, feature("x", "INT", "int_domain { min: 2 max: 5 }")),
    "int_texts": ({"x": [["1"], ["12"], ["-3"]]}, feature("x", "BYTES", "int_domain { min: 0 max: 10 }")),
    "int_texts_wrong": ({"x": [["1"], ["1.5"], ["3"]]}, feature("x", "BYTES", "int_domain { }")),
    "float_small": ({"x": FLOATS}, feature("x", "FLOAT", "float_domain { min: 1 }")),
    "float_large": ({"x": FLOATS}, feature("x", "FLOAT", "float_domain { max: 5 }")),
    "float_bound_of_float32": ({"x": [[0.1], [0.2]]}, feature("x", "FLOAT", "float_domain { min: 0.1 max: 0.2 }")),
    "float_nan": ({"x": [[1.0], [float("nan")], [2.0]]}, feature("x", "FLOAT", "float_domain { disallow_nan: true }")),
    "float_nan_allowed": ({"x": [[1.0], [float("nan")], [2.0]]}, feature("x", "FLOAT", "float_domain { min: 0 }")),
    "float_inf": ({"x": [[1.0], [float("inf")], [2.0]]}, feature("x", "FLOAT", "float_domain { disallow_inf: true }")),
    "float_inf_too_large": ({"x": [[1.0], [float("inf")], [2.0]]}, feature("x", "FLOAT", "float_domain { max: 5 }")),
    "float_texts": ({"x": [["1.5"], ["2"], ["-3"]]}, feature("x", "BYTES", "float_domain { min: 0 }")),
    "float_texts_wrong": ({"x": [["1.5"], ["b"], ["3"]]}, feature("x", "BYTES", "float_domain { min: 0 }")),
    "texts_unknown": ({"x": TEXTS}, texts("x", "ab")),
    "texts_within_mass": ({"x": TEXTS}, texts("x", "ab", "distribution_constraints { min_domain_mass: 0.8 }")),
    "texts_beyond_mass": ({"x": TEXTS}, texts("x", "ab", "distribution_constraints { min_domain_mass: 0.9 }")),
    "texts_by_name": ({"x": TEXTS}, feature("x", "BYTES", 'domain: "D"') + 'string_domain { name: "D" value: "a" value: "b" }'),
    "domain_without_name": ({"x": TEXTS}, feature("x", "BYTES", 'domain: "E"') + 'string_domain { name: "D" value: "a" }'),
    "texts_not_utf8": ({"x": [[b"a"], [b"\xff\xfe"], [b"b"]]}, texts("x", "ab")),
    "bool_small": ({"x": [[0], [1], [-1]]}, feature("x", "INT", "bool_domain { }")),
    "bool_large": ({"x": [[0], [1], [2]]}, feature("x", "INT", "bool_domain { }")),
    "bool_text": ({"x": [["yes"], ["no"], ["maybe"]]}, feature("x", "BYTES", 'bool_domain { true_value: "yes" false_value: "no" }')),
    "bool_float": ({"x": [[0.0], [0.5], [1.0]]}, feature("x", "FLOAT", "bool_domain { }")),
    "bool_float_large": ({"x": [[0.0], [2.5], [1.0]]}, feature("x", "FLOAT", "bool_domain { }")),
    "unique_few": ({"x": TEXTS}, feature("x", "BYTES", "unique_constraints { min: 4 max: 9 }")),
    "unique_many": ({"x": TEXTS}, feature("x", "BYTES", "unique_constraints { min: 1 max: 2 }")),
    "unique_of_numbers": ({"x": FLOATS}, feature("x", "FLOAT", "unique_constraints { min: 1 max: 9 }")),
    "in_environment": ({"x": INTS, "y": INTS}, ENVIRONMENTS + feature("x", "INT") + feature("y", "INT", 'not_in_environment: "SERVING"'), {"environment": "SERVING"}),
    "not_in_environment": ({"x": INTS}, ENVIRONMENTS + feature("x", "INT") + feature("y", "INT", 'presence { min_count: 1 } not_in_environment: "SERVING"'), {"environment": "SERVING"}),
    "environment_of_others": ({"x": INTS}, ENVIRONMENTS + feature("x", "INT") + feature("y", "INT", 'presence { min_count: 1 } not_in_environment: "SERVING"'), {"environment": "TRAINING"}),
    "wrong_domain_for_type": ({"x": INTS}, feature("x", "INT", 'string_domain { value: "a" }')),
    "wrong_fraction": ({"x": INTS}, feature("x", "INT", "presence { min_fraction: 1.5 }")),
    "wrong_counts": ({"x": INTS}, feature("x", "INT", "value_count { min: 2 max: 1 }")),
    "wrong_shape": ({"x": INTS}, feature("x", "INT", "shape { dim { size: 0 } }")),
    "constraints_of_ints": ({"x": INTS}, feature("x", "INT", "int_domain { } distribution_constraints { min_domain_mass: 0.5 }")),
    "constraints_without_domain": ({"x": INTS}, feature("x", "INT", "distribution_constraints { min_domain_mass: 0.5 }")),
    "language": ({"x": TEXTS}, feature("x", "BYTES", "natural_language_domain { coverage { min_coverage: 0.5 } }")),
    "no_type": ({"x": TEXTS}, 'feature { name: "x" string_domain { value: "a" value: "b" value: "c" } }'),
    "sparse_good": ({"i": [[1], [2]], "v": [[1.0], [2.0]]}, SPARSE),
    "sparse_no_index": ({"i": [[1], None], "v": [[1.0], [2.0]]}, SPARSE),
    "sparse_no_value": ({"i": [[1], [2]], "v": [[1.0], None]}, SPARSE),
    "sparse_lengths": ({"i": [[1, 2], [2]], "v": [[1.0], [2.0]]}, SPARSE),
    "weighted_no_weight": ({"w": [[1.0], None], "v": [[1.0], [2.0]]}, WEIGHTED),
    "weighted_no_value": ({"w": [[1.0], [1.0]], "v": [[1.0], None]}, WEIGHTED),
    "weighted_lengths": ({"w": [[1.0, 2.0], [1.0]], "v": [[1.0], [2.0]]}, WEIGHTED),
    "few_rows": ({"x": INTS}, feature("x", "INT") + "dataset_constraints { min_examples_count: 10 }"),
    "many_rows": ({"x": INTS}, feature("x", "INT") + "dataset_constraints { min_examples_count: 1 max_examples_count: 5 }"),
    "fewer_rows": ({"x": INTS[:2]}, feature("x", "INT") + "dataset_constraints { num_examples_drift_comparator { min_fraction_threshold: 0.5 max_fraction_threshold: 2 } }", {"baseline": {"x": INTS}}),
    "more_rows": ({"x": INTS}, feature("x", "INT") + "dataset_constraints { num_examples_drift_comparator { min_fraction_threshold: 0.5 max_fraction_threshold: 2 } }", {"baseline": {"x": INTS[:2]}}),
    "drift_of_texts": ({"x": TEXTS}, comparator("drift", LINF, "x", "BYTES"), {"baseline": {"x": OTHER_TEXTS}}),
    "drift_of_texts_none": ({"x": TEXTS}, comparator("drift", LINF, "x", "BYTES"), {"baseline": {"x": TEXTS}}),
    "drift_of_texts_bits": ({"x": TEXTS}, comparator("drift", JSD, "x", "BYTES"), {"baseline": {"x": OTHER_TEXTS}}),
    "drift_of_texts_counts": ({"x": TEXTS}, comparator("drift", NAD, "x", "BYTES"), {"baseline": {"x": OTHER_TEXTS[:3]}}),
    "drift_of_floats": ({"x": FLOATS}, comparator("drift", JSD, "x", "FLOAT"), {"baseline": {"x": OTHER_FLOATS}}),
    "drift_of_floats_quantiles": ({"x": FLOATS}, comparator("drift", JSD_QUANTILES, "x", "FLOAT"), {"baseline": {"x": OTHER_FLOATS}}),
    "drift_of_ints_none": ({"x": INTS}, comparator("drift", JSD, "x", "INT"), {"baseline": {"x": INTS}}),
    "drift_both": ({"x": TEXTS}, comparator("drift", LINF + JSD, "x", "BYTES"), {"baseline": {"x": OTHER_TEXTS}}),
    "drift_missing": ({"x": TEXTS, "y": INTS}, comparator("drift", LINF, "x", "BYTES") + feature("y", "INT"), {"baseline": {"y": INTS}}),
    "skew_of_texts": ({"x": TEXTS}, comparator("skew", LINF, "x", "BYTES"), {"serving": {"x": OTHER_TEXTS}}),
    "skew_of_floats": ({"x": FLOATS}, comparator("skew", JSD, "x", "FLOAT"), {"serving": {"x": OTHER_FLOATS}}),
    "two_reasons": ({"x": GAPS}, feature("x", "INT", "presence { min_fraction: 1 } int_domain { max: 2 }")),
    "two_features": ({"x": GAPS, "t": TEXTS}, feature("x", "INT", "presence { min_fraction: 1 }") + texts("t", "a")),
    "name_with_dots": ({"a.b'c": INTS}, feature("a.b'c", "INT", "int_domain { max: 2 }")),
}  # fmt: skip


def statistics_of(table, schema):
    """Statistics of a table of which each row has a list of values, or None."""
    options = tfdv.StatsOptions(schema=schema, num_histogram_buckets=4, num_quantiles_histogram_buckets=4)
    batch = pa.RecordBatch.from_arrays([column(rows) for rows in table.values()], list(table))
    return stats_impl.generate_statistics_in_memory(batch, options)


def column(rows):
    array = pa.array(rows)
    return array.cast(pa.list_(pa.float32())) if array.type == pa.list_(pa.float64()) else array


def case(table, schema_text, more=None):
    more = dict(more or {})
    schema = text_format.Parse(schema_text, schema_pb2.Schema())
    asked = schema if schema.sparse_feature or schema.weighted_feature else None
    protos = {"statistics": statistics_of(table, asked)}
    protos |= {side: statistics_of(more.pop(side), None) for side in ("baseline", "serving") if side in more}
    anomalies = tfdv.validate_statistics(
        protos["statistics"], schema, environment=more.get("environment"),
        previous_statistics=protos.get("baseline"), serving_statistics=protos.get("serving"),
    )  # fmt: skip
    anomalies.ClearField("baseline")
    told = {name: text_format.MessageToString(proto, as_utf8=True, as_one_line=True) for name, proto in protos.items()}
    return {
        "schema": schema_text,
        **told,
        **more,
        "anomalies": text_format.MessageToString(anomalies, as_utf8=True, as_one_line=True),
    }


if __name__ == "__main__":
    made = {}
    for name, arguments in CASES.items():
        print(name, file=sys.stderr)
        made[name] = case(*arguments)
    TARGET.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n")
