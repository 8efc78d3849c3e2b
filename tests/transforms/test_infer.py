import dataclasses
import datetime
import decimal
import functools
import math
import pickle

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from google.protobuf import text_format
from hypothesis import example, given
from hypothesis import strategies as st
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.batches import as_untyped, origin_array, with_notes
from penstock.io.columns.conform import conform_batch
from penstock.io.errors import ConfigError
from penstock.io.reasons import Note
from penstock.io.reserved import ORIGIN
from penstock.io.schema import schema_features
from penstock.transforms.checks.validate import record_checks, validate_batch
from penstock.transforms.infer import (
    InferSchema,
    SummarizeRowsFn,
    Summary,
    summarize_batch,
    summary_notes,
    summary_schema,
)

D = decimal.Decimal


def as_csv(batch):
    """A batch as a source without types would give it."""
    return as_untyped(batch, batch.schema.names)


def infer(*batches):
    return summary_schema(functools.reduce(Summary.merge, map(summarize_batch, batches), Summary()))


def notes(*batches):
    return summary_notes(functools.reduce(Summary.merge, map(summarize_batch, batches), Summary()))


def infer_columns(*columns):
    """The feature inferred from one column that comes in several batches."""
    (feature,) = infer(*(pa.record_batch([column], names=["x"]) for column in columns)).feature
    return feature


def kind_of(*columns):
    return schema_pb2.FeatureType.Name(infer_columns(*columns).type)


def infer_texts(*columns):
    """As `infer_columns`, of a source that has no types."""
    (feature,) = infer(*(as_csv(pa.record_batch([column], names=["x"])) for column in columns)).feature
    return feature


def kind_of_texts(*columns):
    return schema_pb2.FeatureType.Name(infer_texts(*columns).type)


TEXTS = {
    "ints": (["1", "-20", "9223372036854775807"], "INT"),
    "floats": (["1", "2.5"], "FLOAT"),
    "whole_however_spelled": (["1", "2.0", "3e2"], "INT"),
    "all_spelled_as_fractions": (["5.0", "6.", "1e3"], "FLOAT"),
    "spelled_as_fractions_beyond_float32": (["20000001.0", "5.0"], "INT"),
    "whole_beyond_2^53": (["9007199254740993.0"], "INT"),
    "exponent_beyond_float32_exactness": (["1e11", "2e11"], "INT"),
    "minus_zero": (["1", "-0"], "FLOAT"),
    "minus_zero_fraction": (["1.0", "-0.0"], "FLOAT"),
    "whole_and_nan": (["1", "NaN"], "FLOAT"),
    "whole_to_a_double_only": (["1.00000000000000000001", "2"], "FLOAT"),
    "exact_beyond_int64": (["1e20", "3e25"], "FLOAT"),
    "ids_and_a_fraction": ([*map(str, range(20000000, 20000010)), "0.5"], "BYTES"),
    "ids_and_nan": (["20000001", "20000003", "NaN"], "BYTES"),
    "ids_beyond_int64": (["12345678901234567890.0", "12345678901234567891.0"], "BYTES"),
    "few_large_among_fractions": (["20000001", "0.5", "1.5"], "FLOAT"),
    "specials": (["NaN", "-Infinity"], "FLOAT"),
    "leading_zero": (["10001", "02134"], "BYTES"),
    "plus": (["+4930123", "4930124"], "BYTES"),
    "beyond_int64": (["1", "9223372036854775808"], "BYTES"),
    "largest_exact_among_floats": (["9007199254740992", "0.5"], "FLOAT"),
    "inexact_among_floats": (["9007199254740993", "0.5"], "BYTES"),
    "beyond_float32": (["1.5", "1e39"], "BYTES"),
    "beyond_double": (["1.5", "1e400"], "BYTES"),
    "empty_text": (["1", ""], "BYTES"),
    "words": (["true", "false"], "BYTES"),
    "space": ([" 1"], "BYTES"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts_get_the_narrowest_kind_that_holds_all(case):
    texts, kind = TEXTS[case]
    assert kind_of_texts(pa.array([*texts, None])) == kind
    assert kind_of_texts(*(pa.array([text]) for text in reversed(texts))) == kind
    assert kind_of_texts(pa.array([texts])) == kind


@pytest.mark.parametrize("case", TEXTS)
def test_texts_of_a_source_with_types_are_texts(case):
    texts, _ = TEXTS[case]
    assert kind_of(pa.array([*texts, None])) == kind_of(pa.array([texts])) == "BYTES"


def temporal(arrow_type, value=1):
    narrow = pa.types.is_date32(arrow_type) or pa.types.is_time32(arrow_type)
    return pa.array([value], pa.int32() if narrow else pa.int64()).cast(arrow_type)


TYPED = {
    "bool": ([pa.array([True])], "INT"),
    "int8": ([pa.array([1], pa.int8())], "INT"),
    "uint64": ([pa.array([2**63 - 1], pa.uint64())], "INT"),
    "uint64_beyond_int64": ([pa.array([1, 2**63], pa.uint64())], "BYTES"),
    "float32": ([pa.array([1.0], pa.float32())], "FLOAT"),
    "float16": ([pa.array([1.0], pa.float16())], "FLOAT"),
    "float64_beyond_float32": ([pa.array([1.0, 1e39])], "BYTES"),
    "decimal_whole": ([pa.array([D(2**63 - 1)], pa.decimal128(20, 0))], "INT"),
    "decimal_beyond_int64": ([pa.array([D(2**63)], pa.decimal128(20, 0))], "BYTES"),
    "decimal": ([pa.array([D("1.50")])], "FLOAT"),
    "decimal_beyond_float32": ([pa.array([D("1e50")], pa.decimal256(60, 1))], "BYTES"),
    "date": ([pa.array([datetime.date(2013, 1, 1)])], "INT"),
    "zones": ([temporal(pa.timestamp("us", "UTC")), temporal(pa.timestamp("us", "Asia/Tokyo"))], "INT"),
    "duration": ([temporal(pa.duration("ms"))], "INT"),
    "units": ([temporal(pa.timestamp("us")), temporal(pa.timestamp("ms"))], "BYTES"),
    "zone_and_none": ([temporal(pa.timestamp("us")), temporal(pa.timestamp("us", "UTC"))], "BYTES"),
    "time_and_float": ([temporal(pa.time32("s")), pa.array([1.5])], "BYTES"),
    "time_and_absent_float": ([temporal(pa.time32("s")), pa.array([None], pa.float64())], "BYTES"),
    "dictionary": ([pa.array(["1", "2"]).dictionary_encode()], "BYTES"),
    "binary": ([pa.array([b"1.5"])], "BYTES"),
    "large": ([pa.array(["1.5"], pa.large_string())], "BYTES"),
    "view": ([pa.array([["1.5"]], pa.list_view(pa.string_view()))], "BYTES"),
    "float64_whole": ([pa.array([1.0, -5.0, 16777216.0])], "FLOAT"),
    "float64_whole_beyond_float32": ([pa.array([20000001.0, 5.0])], "INT"),
    "float64_up_to_2^53": ([pa.array([float(2**53), -float(2**53)])], "FLOAT"),
    "float64_ids_up_to_2^53": ([pa.array([2.0**53 - 1])], "INT"),
    "float64_ids_beyond_2^53": ([pa.array([2.0**53 + 2, 2.0**60 + 2**9])], "BYTES"),
    "float64_ids_and_nan": ([pa.array([20000001.0, 20000003.0, math.nan])], "BYTES"),
    "float64_large_and_exact": ([pa.array([1e20, 3e25])], "FLOAT"),
    "float64_mostly_fractions": ([pa.array([20000001.0, 20000001.5, 0.25])], "FLOAT"),
    "int_and_float_whole": ([pa.array([5]), pa.array([6.0])], "FLOAT"),
    "int_and_float_ids": ([pa.array([20000001]), pa.array([6.0])], "INT"),
    "decimal_whole_with_a_fraction": ([pa.array([D("5.00")])], "FLOAT"),
    "decimal_ids_with_a_fraction": ([pa.array([D("20000001.00"), D("9007199254740993.00")])], "INT"),
    "int_then_float": ([pa.array([1]), pa.array([1.5])], "FLOAT"),
    "bool_then_float": ([pa.array([True]), pa.array([1.5])], "FLOAT"),
    "wide_int_then_float": ([pa.array([2**53 + 1]), pa.array([1.5])], "BYTES"),
    "negative_wide_int_then_float": ([pa.array([-(2**53) - 1]), pa.array([1.5])], "BYTES"),
    "int_then_text": ([pa.array([1]), pa.array(["x"])], "BYTES"),
    "null_then_int": ([pa.nulls(1), pa.array([1])], "INT"),
    "null": ([pa.nulls(1)], "BYTES"),
    "null_text": ([pa.array([None], pa.string())], "BYTES"),
    "absent_int": ([pa.array([None], pa.int64())], "INT"),
    "absent_int_and_double": ([pa.array([None], pa.int64()), pa.array([None], pa.float64())], "FLOAT"),
    "absent_date": ([pa.array([None], pa.date32())], "INT"),
    "empty_lists": ([pa.array([[]], pa.list_(pa.null()))], "BYTES"),
}


@pytest.mark.parametrize("case", TYPED)
def test_typed_columns_get_the_narrowest_kind_that_holds_all(case):
    columns, kind = TYPED[case]
    assert kind_of(*columns) == kind
    assert kind_of(*reversed(columns)) == kind


@pytest.mark.parametrize(
    ("batches", "presence"),
    [
        ([{"x": ["a", "b"]}], "min_fraction: 1 min_count: 1"),
        ([{"x": ["a", None]}], "min_count: 1"),
        ([{"x": [[], ["a"]]}], "min_fraction: 1 min_count: 1"),
        ([{"x": ["a"], "y": [1]}, {"x": ["a"]}], "min_fraction: 1 min_count: 1"),
        ([{"x": ["a"]}, {"y": [1]}], ""),
        ([{"x": pa.array([None], pa.string())}], ""),
    ],
    ids=["always", "sometimes", "empty_list_is_present", "another_column_differs", "not_in_all_batches", "never"],
)
def test_presence(batches, presence):
    schema = infer(*(pa.record_batch(batch) for batch in batches))
    (feature,) = (feature for feature in schema.feature if feature.name == "x")
    assert feature.presence == text_format.Parse(presence, schema_pb2.FeaturePresence())


@pytest.mark.parametrize(
    ("columns", "value_count"),
    [
        ([pa.array([1, None])], "min: 1 max: 1"),
        ([pa.array([[1, 2], None, [1, 2, 3]])], "min: 2 max: 3"),
        ([pa.array([[1, 2]]), pa.array([[]], pa.list_(pa.int64()))], "min: 0 max: 2"),
        ([pa.array([[1, 2]]), pa.array([5])], "min: 1 max: 2"),
        ([pa.array([None, [1, 2], [3, 4]], pa.list_(pa.int64(), 2)).slice(1)], "min: 2 max: 2"),
        ([pa.array([[]], pa.list_(pa.int64()))], "min: 0"),
        ([pa.nulls(2)], ""),
    ],
    ids=["scalars", "lists", "empty_list", "scalars_and_lists", "fixed_size", "only_empty_lists", "nulls"],
)
def test_value_count(columns, value_count):
    assert infer_columns(*columns).value_count == text_format.Parse(value_count, schema_pb2.ValueCount())


def domain_of(*columns):
    feature = infer_columns(*columns)
    return list(feature.string_domain.value) if feature.HasField("string_domain") else None


def test_few_repeated_texts_are_a_domain_in_order():
    assert domain_of(pa.array(["b", "a", None, "é"]), pa.array(["a", "b", "é"])) == ["a", "b", "é"]
    assert domain_of(pa.array([["b", "a"], ["a", "b"], []])) == ["a", "b"]
    assert domain_of(pa.array(["1", "x"] * 2)) == ["1", "x"]
    assert domain_of(pa.array(["", "x"] * 2)) == ["", "x"]


@pytest.mark.parametrize(
    "columns",
    [
        [pa.array(["a", "b", "a"])],
        [pa.array([str(n) + "x" for n in range(101)] * 2)],
        [pa.array([f"{half}{n}" for n in range(60)] * 2) for half in "ab"],
        [pa.array(["x" * 5000, "y" * 5000] * 2)],
        [pa.array(["x" * 5000] * 4), pa.array(["y" * 5000] * 4)],
        [pa.array([b"\xff", b"a"] * 2)],
        [pa.array(["a", "a"]), pa.array([1, 1])],
    ],
    ids=["no_repetition", "many", "many_merged", "long", "long_merged", "not_utf8", "numbers_among_them"],
)
def test_other_columns_have_no_domain(columns):
    assert domain_of(*columns) is None
    assert domain_of(*reversed(columns)) is None


def test_a_hundred_texts_are_still_a_domain():
    assert len(domain_of(pa.array([f"v{n}" for n in range(100)] * 2))) == 100


def test_only_bools_have_a_bool_domain():
    assert infer_columns(pa.array([True, None])).HasField("bool_domain")
    assert not infer_columns(pa.array([True]), pa.array([1])).HasField("bool_domain")
    assert not infer_columns(pa.array([0, 1])).HasField("bool_domain")


@pytest.mark.parametrize(
    ("columns", "comment"),
    [
        ([pa.array([1, 2]), pa.array(["x"])], "1 of 3 values are not numbers that a tf.Example can hold"),
        ([pa.array([20000001.0])], "all numbers are whole, and float32, the FLOAT of tf.Example, does not hold all"),
        (
            [pa.array([20000001, 20000003, 20000004]), pa.array([0.5])],
            "3 of 4 numbers are whole and beyond 2^24, as ids are; FLOAT would change 2 of them, and INT cannot hold",
        ),
        (
            [pa.array([1748736094.501, 1748736095.502, 0.5])],
            "2 values lose digits: 1748736094.501 and 1748736095.502 both become 1748736128.0; 3 distinct values "
            "become 2; to keep",
        ),
        ([pa.array([1748736094.501, 0.5])], "1 values lose digits: 1748736094.501 becomes 1748736128.0; to keep all"),
        ([pa.array([2**53 + 1]), pa.array([1.5])], "1 integers are beyond 2^53 and would lose digits among the floats"),
        ([pa.array([1.5, math.nan, math.inf])], "2 values are NaN or infinite; they are rejected unless float_domain"),
        ([pa.array([1.5, math.nan])], "1 values are NaN or infinite"),
        ([temporal(pa.timestamp("ms", "Asia/Tokyo"))], "in the unit of timestamp[ms, UTC]"),
        ([temporal(pa.date32()), pa.array([1])], "the column has several types: date32[day], int"),
        ([pa.nulls(1234)], "no value in 1,234 rows: the type is not known"),
        ([pa.array([None], pa.int64())], "no value in 1 rows"),
    ],
)
def test_what_is_not_plain_is_commented(columns, comment):
    (found,) = infer_columns(*columns).annotation.comment
    assert found.startswith(comment)


@pytest.mark.parametrize("column", [pa.array([1]), pa.array(["a", "1"]), pa.array([1.5]), pa.array([True])])
def test_what_is_plain_is_not_commented(column):
    assert not infer_columns(column).HasField("annotation")


def test_features_are_in_name_order_without_reserved_columns_structs_by_dotted_names():
    batch = pa.record_batch(
        [pa.array([1]), pa.array([{"b": 1.5, "a": {"c": "x"}}]), origin_array("f", np.array([0]))],
        names=["z", "s", ORIGIN],
    )
    assert [feature.name for feature in infer(batch).feature] == ["s.a.c", "s.b", "z"]


def test_no_rows_make_no_demands():
    assert infer() == schema_pb2.Schema()
    (feature,) = infer(pa.record_batch({"x": pa.array([], pa.int64())})).feature
    assert feature.type == schema_pb2.INT
    assert not feature.HasField("presence")
    assert not feature.HasField("value_count")


@pytest.mark.parametrize("arrow_type", [pa.map_(pa.string(), pa.string()), pa.list_(pa.list_(pa.int64()))], ids=str)
def test_column_without_a_form_is_refused_by_name(arrow_type):
    with pytest.raises(ConfigError, match=r"column 'x' has type .* which a tf.Example cannot hold; pass a schema"):
        infer_columns(pa.array([], arrow_type))


texts = st.one_of(
    st.none(),
    st.integers(-(2**64), 2**64).map(str),
    st.sampled_from(
        ["0", "-0", "007", "", "+1", "1.5", ".5", "NaN", "inf", "1e39", "1e400", "true", "9007199254740993"]
    ),
    st.floats().map(repr),
    st.text(max_size=3),
)
# Columns mostly of one form, since a random mixture of all is always BYTES.
similar_texts = st.one_of(
    st.lists(texts, max_size=8),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1).map(str), max_size=8),
    st.lists(st.none() | st.floats(width=32).map(repr) | st.integers(-9, 9).map(str), max_size=8),
)
text_columns = similar_texts.map(lambda rows: pa.array(rows, pa.string()))
typed_columns = st.one_of(
    text_columns,
    similar_texts.map(lambda rows: pa.array([None if row is None else [row] for row in rows], pa.list_(pa.string()))),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=5).map(lambda rows: pa.array(rows, pa.int64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=5).map(lambda rows: pa.array(rows, pa.uint64())),
    st.lists(st.none() | st.floats(), max_size=5).map(lambda rows: pa.array(rows, pa.float64())),
    st.lists(st.none() | st.floats(width=32), max_size=5).map(lambda rows: pa.array(rows, pa.float32())),
    st.lists(st.none() | st.booleans(), max_size=5).map(lambda rows: pa.array(rows, pa.bool_())),
    st.lists(st.none() | st.lists(st.integers(-9, 9), max_size=3), max_size=5).map(
        lambda rows: pa.array(rows, pa.list_(pa.int32()))
    ),
    st.lists(st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=3, max_value=10**9), max_size=3).map(
        lambda rows: pa.array(rows, pa.decimal256(70, 3))
    ),
    st.lists(st.none() | st.datetimes(), max_size=3).map(lambda rows: pa.array(rows, pa.timestamp("us"))),
    st.lists(st.none() | st.dates(), max_size=3).map(lambda rows: pa.array(rows, pa.date32())),
    st.integers(0, 3).map(pa.nulls),
)


def tables(columns):
    """Some batches, each with some of three columns."""
    some = st.dictionaries(st.sampled_from("xyz"), columns, min_size=1)
    return st.lists(some.map(_as_batch), min_size=1, max_size=4)


def _as_batch(columns):
    rows = max(map(len, columns.values()))
    padded = [pa.concat_arrays([column, pa.nulls(rows - len(column), column.type)]) for column in columns.values()]
    return pa.record_batch(padded, names=list(columns))


@given(tables(text_columns).map(lambda batches: [*map(as_csv, batches)]))
@example([as_csv(pa.record_batch({"x": ["1e38", "9223372036854775807"]}))])
@example([as_csv(pa.record_batch({"x": ["1", "1.00000000000000000001", "4503599627370497.25"]}))])
def test_what_is_inferred_from_texts_rejects_none_of_them(batches):
    features = schema_features(infer(*batches))
    for batch in batches:
        assert conform_batch(batch, features)[1] == {}


@given(tables(typed_columns))
def test_what_is_inferred_from_typed_columns_rejects_none_and_keeps_every_value(batches):
    features = schema_features(infer(*batches))
    for batch in batches:
        conformed, reasons = conform_batch(batch, features)
        assert reasons == {}
        assert [conformed.column(name).null_count for name in batch.schema.names] == [
            column.null_count for column in batch.columns
        ]


@given(tables(typed_columns))
def test_what_is_inferred_is_valid_but_for_nan_and_infinity(batches):
    schema = infer(*batches)
    checks = record_checks(schema)
    for batch in batches:
        found = validate_batch(conform_batch(batch, schema_features(schema))[0], checks)
        codes = {reason.code for reasons in found.reasons.values() for reason in reasons}
        assert codes <= {"schema.nan", "schema.infinity"}


@given(tables(text_columns).map(lambda batches: [*map(as_csv, batches)]), st.randoms(use_true_random=False))
def test_order_and_grouping_of_batches_do_not_matter(batches, random):
    summaries = [summarize_batch(batch) for batch in batches]
    in_order = functools.reduce(Summary.merge, summaries, Summary())
    while len(summaries) > 1:
        random.shuffle(summaries)
        summaries.append(summaries.pop().merge(summaries.pop()))
    np.testing.assert_equal(dataclasses.asdict(summaries[0]), dataclasses.asdict(in_order))
    assert summary_schema(summaries[0]) == summary_schema(in_order)


@given(text_columns, st.integers(0, 8))
def test_where_a_column_is_cut_into_batches_does_not_matter(column, cut):
    batch = pa.record_batch([column], names=["x"])
    assert infer(batch.slice(0, cut), batch.slice(cut)) == infer(batch)


def test_merging_leaves_its_arguments_as_they_are():
    first, second = summarize_batch(pa.record_batch({"x": ["a"]})), summarize_batch(pa.record_batch({"y": ["b"]}))
    before = pickle.dumps((first, second))
    first.merge(second)
    assert pickle.dumps((first, second)) == before


def test_a_summary_is_small_whatever_it_has_seen():
    batch = pa.record_batch(
        {"x": [f"{n:0200}" for n in range(5000)], "y": ["a" * 80 + str(n % 90) for n in range(5000)]}
    )
    assert len(pickle.dumps(summarize_batch(batch))) < 10_000


def test_transform_infers_one_schema_of_all_batches():
    batches = [as_csv(pa.record_batch({"x": ["1", None]})), as_csv(pa.record_batch({"x": ["2.5"], "y": [True]}))]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        schemas = pipeline | beam.Create(batches) | InferSchema()
        assert_that(schemas, equal_to([infer(*batches)]))


def test_transform_of_no_batches_gives_a_schema_without_features():
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        schemas = pipeline | beam.Create([]).with_output_types(pa.RecordBatch) | InferSchema()
        assert_that(schemas, equal_to([schema_pb2.Schema()]))


def test_combine_fn_merges_what_other_workers_counted():
    fn = SummarizeRowsFn()
    batches = [as_csv(pa.record_batch({"x": [str(number)]})) for number in (1, 2.5, 3)]
    workers = [pickle.loads(pickle.dumps(fn.add_input(fn.create_accumulator(), batch))) for batch in batches]
    assert summary_schema(fn.extract_output(fn.merge_accumulators(workers))) == infer(*batches)


def test_notes_of_readers_are_summed_in_any_order():
    batches = [
        with_notes(pa.record_batch({"x": ["1"]}), [Note("left_out", "events", count, f"such as {count}")])
        for count in (3, 1, 2)
    ]
    batches.append(pa.record_batch({"x": ["1"]}))
    assert notes(*batches) == notes(*reversed(batches)) == (Note("left_out", "events", 6, "such as 1"),)
