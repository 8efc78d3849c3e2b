"""Schemas of statistics: against TFDV's, and against the rows that the statistics are of."""

import math

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import batches
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2
from tfdv_golden import golden_schema, golden_statistics

from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError
from penstock.io.schema import load_schema, schema_features, write_schema
from penstock.transforms.checks.validate import record_checks, schema_faults
from penstock.transforms.statistics.compute import compute_statistics
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.schema.infer import float32_outward, infer_schema

# Where our schema of the nasty table differs from TFDV's; the docstring of the module says why.
OURS = """
feature { name: "halves" float_domain { disallow_nan: false } }
feature { name: "endless" float_domain { disallow_inf: false } }
feature { name: "wide" type: BYTES }
feature { name: "maybe" value_count { min: 0 } }
feature { name: "empty" value_count { min: 0 } }
feature { name: "code" int_domain { is_categorical: true } }
"""


def statistics_of(*parts, **options):
    """The proto of some batches of plain columns."""
    return compute_statistics(map(pa.record_batch, parts), StatisticsOptions(**options)).to_proto(state=False)


def inferred(columns, **options):
    """The feature of the only column, and its schema."""
    schema = infer_schema(statistics_of(columns), **options)
    return schema.feature[0], schema


def without_comments(schema):
    for feature in schema.feature:
        feature.ClearField("annotation")
        for field in feature.struct_domain.feature if feature.HasField("struct_domain") else ():
            field.ClearField("annotation")
    return schema


@pytest.mark.parametrize("shape", [True, False], ids=["shape", "no_shape"])
@pytest.mark.parametrize("name", ["flights", "penguins"])
def test_schemas_are_those_of_tfdv(name, shape):
    ours = infer_schema(golden_statistics(name), infer_feature_shape=shape)
    assert without_comments(ours) == golden_schema(name if shape else f"{name}_no_shape")
    schema_features(ours)


@pytest.mark.parametrize("shape", [True, False], ids=["shape", "no_shape"])
def test_the_schema_of_a_nasty_table_is_that_of_tfdv_but_for_what_is_told(shape):
    ours = without_comments(infer_schema(golden_statistics("nasty"), infer_feature_shape=shape))
    theirs = golden_schema("nasty" if shape else "nasty_no_shape")
    changes = {feature.name: feature for feature in text_format.Parse(OURS, schema_pb2.Schema()).feature}
    for feature in theirs.feature:
        feature.MergeFrom(changes.pop(feature.name, schema_pb2.Feature()))
    kept = [domain for domain in theirs.string_domain if domain.name != "code"]
    del theirs.string_domain[:]
    theirs.string_domain.extend(kept)
    assert not changes
    assert ours == theirs


@given(batches(with_faults=False), st.booleans(), st.booleans())
def test_all_rows_pass_under_the_schema_of_their_statistics(batch, shape, ranges):
    proto = compute_statistics([batch]).to_proto(state=False)
    schema = infer_schema(proto, infer_feature_shape=shape, infer_ranges=ranges)
    features = schema_features(schema)
    assert len(features) == len(proto.datasets[0].features)
    rows, reasons = conform_batch(batch, features)
    assert reasons == {}
    assert [fault.code for fault in schema_faults(rows, record_checks(schema))] == []


def test_a_written_schema_is_read_again(tmp_path):
    schema = infer_schema(golden_statistics("flights"))
    write_schema(schema, str(tmp_path / "schema.pbtxt"))
    assert load_schema(str(tmp_path / "schema.pbtxt")) == schema


@pytest.mark.parametrize(
    ("values", "text"),
    [
        pytest.param([0, 1, 1], "bool_domain {}", id="bits"),
        pytest.param([1, 1], "bool_domain {}", id="ones"),
        pytest.param([0, 0], "", id="zeros"),
        pytest.param([0, 2], "", id="integers"),
        pytest.param([-1, 1], "", id="signs"),
        pytest.param(["true", "false"], 'bool_domain { true_value: "true" false_value: "false" }', id="true_false"),
        pytest.param(["SET"], 'bool_domain { true_value: "SET" }', id="set"),
        pytest.param(["", "0"], 'bool_domain { true_value: "" false_value: "0" }', id="nothing_is_true"),
        pytest.param(["1", "true"], 'domain: "x"', id="two_truths"),
        pytest.param(["7", "-8"], "int_domain {}", id="digits"),
        pytest.param(["7.5", "8"], 'domain: "x"', id="fractions"),
        pytest.param(["ä", "日本"], 'domain: "x"', id="unicode"),
        pytest.param([b"\xff", b"a"], "", id="bytes"),
        pytest.param([1.0, math.nan], "float_domain { disallow_nan: false }", id="nan"),
        pytest.param([1.0, -math.inf], "float_domain { disallow_inf: false }", id="infinity"),
        pytest.param([0.0, 1.0], "", id="floats_are_not_bits"),
    ],
)
def test_domains(values, text):
    feature, _ = inferred({"x": values})
    expected = text_format.Parse(text, schema_pb2.Feature())
    which = expected.WhichOneof("domain_info")
    assert feature.WhichOneof("domain_info") == which
    assert which is None or getattr(feature, which) == getattr(expected, which)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        pytest.param([1, 2], "presence { min_count: 1 min_fraction: 1 } shape { dim { size: 1 } }", id="scalars"),
        pytest.param([1, None], "presence { min_count: 1 } value_count { min: 1 max: 1 }", id="null"),
        pytest.param(
            [[1, 2], [3, 4]], "presence { min_count: 1 min_fraction: 1 } shape { dim { size: 2 } }", id="pairs"
        ),
        pytest.param([[1, 2], None], "presence { min_count: 1 } value_count { min: 2 max: 2 }", id="some_pairs"),
        pytest.param([[1, 2], [3]], "presence { min_count: 1 min_fraction: 1 } value_count { min: 1 }", id="lists"),
        pytest.param([[1], []], "presence { min_count: 1 min_fraction: 1 } value_count { min: 0 }", id="an_empty_list"),
        pytest.param(
            [[[1, 2], [3, 4]]],
            "presence { min_count: 1 min_fraction: 1 } shape { dim { size: 2 } dim { size: 2 } }",
            id="matrix",
        ),
        pytest.param(
            [[[1, 2], [3]]],
            "presence { min_count: 1 min_fraction: 1 }"
            " value_counts { value_count { min: 2 max: 2 } value_count { min: 1 } }",
            id="ragged",
        ),
        pytest.param([None, None], "presence { min_count: 0 }", id="nothing"),
    ],
)
def test_presence_and_numbers_of_values(values, text):
    feature, _ = inferred({"x": values})
    expected = text_format.Parse(text, schema_pb2.Feature())
    for field in ("presence", "shape", "value_count", "value_counts"):
        assert getattr(feature, field) == getattr(expected, field), field


def test_no_rows_demand_nothing():
    feature, schema = inferred({"x": pa.array([], pa.int64())})
    assert not feature.presence.min_count
    assert len(schema_features(schema)) == 1


@pytest.mark.parametrize("size", [0, 1, 2, 3])
def test_a_domain_is_as_large_as_it_may_be(size):
    feature, schema = inferred({"x": ["a", "b", "a"]}, max_string_domain_size=size)
    assert feature.domain == ("x" if size >= 2 else "")
    assert [list(domain.value) for domain in schema.string_domain] == ([["a", "b"]] if size >= 2 else [])


def test_a_domain_needs_all_values_and_not_the_most_frequent_ones():
    texts = [f"t{i % 7}" for i in range(100)]
    all_of_them = infer_schema(statistics_of({"x": texts}))
    assert all_of_them.feature[0].domain
    some = infer_schema(statistics_of({"x": texts}, rank_values=5))
    assert not some.feature[0].HasField("domain")


def test_categories_that_are_integers_are_called_so():
    schema = infer_schema(statistics_of({"x": [3, 5, 3]}, categorical=("x",)))
    assert schema.feature[0].int_domain.is_categorical
    assert schema.feature[0].type == schema_pb2.INT


def test_ranges_hold_all_values():
    schema = infer_schema(
        statistics_of({"i": [-5, 7, 2], "f": [0.1, 0.3, -0.7], "bit": [0, 1, 1], "huge": [2**60, 1, 0]}),
        infer_ranges=True,
    )
    found = {feature.name: feature for feature in schema.feature}
    assert (found["i"].int_domain.min, found["i"].int_domain.max) == (-5, 7)
    assert np.float32(found["f"].float_domain.min) <= -0.7 < 0.3 <= np.float32(found["f"].float_domain.max)
    assert found["bit"].HasField("bool_domain")
    assert not found["huge"].HasField("int_domain")


@given(st.floats(allow_nan=False, allow_infinity=False, width=64).filter(lambda value: abs(value) < 3e38))
def test_bounds_are_rounded_outward(value):
    assert float32_outward(value, -math.inf) <= value <= float32_outward(value, math.inf)


@pytest.mark.parametrize(
    ("values", "comment"),
    [
        ([1, None], "no value in 1 of 2 rows"),
        ([None, None], "no value in 2 rows: the type is what the statistics call it"),
        ([1.0, math.nan], "1 values are NaN; without disallow_nan: false their rows are rejected"),
        ([1.0, math.inf], "1 values are infinite; without disallow_inf: false their rows are rejected"),
        ([[1], [None]], "1 values are null inside lists: their rows are rejected whatever the schema says"),
        (["a", "a"], "all 2 values are the same"),
        (["1", "2"], "all texts are integers; as type: INT they are read as numbers"),
        (["Ann", "Bo"], "most of the texts occur once: they may be names, and new ones are outside of the domain"),
        ([f"t{i}" for i in range(200)], "200 distinct texts, too many for a domain"),
        ([b"\xff", b"a"], "1 values are not UTF-8"),
        (
            [1.0, 1e300],
            "from 1 to 1.0000000000000001e+300: some numbers are beyond float32, so that only BYTES holds them",
        ),
    ],
)
def test_comments_say_what_a_reader_should_know(values, comment):
    feature, _ = inferred({"x": values})
    assert list(feature.annotation.comment) == [comment]


def split(**rows):
    """Statistics of batches with a split."""
    return compute_statistics(
        pa.record_batch({"_split": pa.array([name] * len(next(iter(columns.values())))), **columns})
        for name, columns in rows.items()
    ).to_proto(state=False)


def test_splits_are_taken_together():
    schema = infer_schema(split(train={"x": [1, 5], "t": ["a", "b"]}, eval={"x": [None, 9], "t": ["c", "c"]}))
    x, t = sorted(schema.feature, key=lambda feature: feature.name, reverse=True)
    assert not x.presence.min_fraction
    assert t.presence.min_fraction == 1
    assert list(schema.string_domain[0].value) == ["a", "b", "c"]


def test_a_column_that_a_split_lacks_is_not_demanded():
    schema = infer_schema(split(train={"x": [1, 5], "y": [1, 2]}, eval={"x": [3, 9]}))
    y = next(feature for feature in schema.feature if feature.name == "y")
    assert not y.presence.min_count
    assert not y.presence.min_fraction
    assert list(y.annotation.comment) == ["not in the data of eval", "no value in 2 of 4 rows"]


def test_slices_are_left_out():
    schema = infer_schema(statistics_of({"x": [0, 1, 5], "day": ["a", "a", "b"]}, slice_by=("day",)))
    assert schema.feature[1].name == "x"
    assert schema.feature[1].WhichOneof("domain_info") is None


def test_a_dataset_can_be_named():
    proto = statistics_of({"x": [0, 1, 5], "day": ["a", "a", "b"]}, slice_by=("day",))
    assert infer_schema(proto, datasets=["day_a"]).feature[1].HasField("bool_domain")
    with pytest.raises(ConfigError, match=r"no dataset 'day_c'; they have 'All Examples', 'day_a', 'day_b'"):
        infer_schema(proto, datasets=["day_c"])


def test_integers_of_one_split_and_floats_of_another_are_float():
    schema = infer_schema(split(train={"x": [1, 2]}, eval={"x": [0.5, 1.5]}))
    assert schema.feature[0].type == schema_pb2.FLOAT


def test_a_split_in_which_all_is_missing_has_no_say():
    schema = infer_schema(split(train={"x": [1, 2]}, eval={"x": pa.array([None, None], pa.string())}))
    assert schema.feature[0].type == schema_pb2.INT


def test_different_types_are_refused():
    with pytest.raises(ConfigError, match=r"feature .x. is STRING in eval, INT in train; a schema gives it one type"):
        infer_schema(split(train={"x": [1, 2]}, eval={"x": ["a", "b"]}))


def test_no_dataset_is_refused():
    with pytest.raises(ConfigError, match="the statistics have no dataset"):
        infer_schema(statistics_pb2.DatasetFeatureStatisticsList())


def test_a_negative_size_is_refused():
    with pytest.raises(ConfigError, match="max_string_domain_size must be at least 0, got -1"):
        infer_schema(statistics_of({"x": [1]}), max_string_domain_size=-1)


def test_a_feature_that_is_described_twice_is_refused():
    proto = statistics_of({"x": [1]})
    proto.datasets[0].features.append(proto.datasets[0].features[0])
    with pytest.raises(ConfigError, match="the statistics of dataset 'All Examples' describe 'x' twice"):
        infer_schema(proto)


def test_two_datasets_of_one_name_are_refused():
    proto = statistics_of({"x": [1]})
    proto.datasets.append(proto.datasets[0])
    with pytest.raises(ConfigError, match="two datasets of the same name"):
        infer_schema(proto)


def test_fields_need_their_struct():
    proto = statistics_of({"x": [1]})
    proto.datasets[0].features[0].path.step[:] = ["place", "city"]
    with pytest.raises(
        ConfigError, match=r"feature 'place.city' is a field, and the statistics have no struct 'place'"
    ):
        infer_schema(proto)


def test_names_with_the_prefix_of_a_struct_are_its_fields():
    proto = golden_statistics("nasty")
    for feature in proto.datasets[0].features:
        feature.name = ".".join(feature.path.step)
    assert infer_schema(proto) == infer_schema(golden_statistics("nasty"))


@pytest.mark.parametrize(
    ("domain", "error"),
    [
        ("url_domain {}", None),
        ("nonsense {", "have a domain_info that is no domain of a schema"),
        ('name: "y"', "domain_info must be exactly one domain"),
    ],
)
def test_a_custom_domain_is_taken_as_it_is(domain, error):
    proto = statistics_of({"x": ["a"]})
    proto.datasets[0].features[0].custom_stats.add(name="domain_info", str=domain)
    if error is None:
        assert infer_schema(proto).feature[0].HasField("url_domain")
    else:
        with pytest.raises(ConfigError, match=error):
            infer_schema(proto)
