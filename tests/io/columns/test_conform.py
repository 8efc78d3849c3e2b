import datetime
import decimal
import math
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.batches import origin_array
from penstock.io.columns import conform
from penstock.io.columns.conform import check_type, conform_batch
from penstock.io.columns.values import mixed_column
from penstock.io.errors import ConfigError
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.schema import Feature, Kind

D = decimal.Decimal
NAN = math.nan


def of_ints(values, arrow_type):
    """Temporal values from the numbers that they store."""
    narrow = pa.types.is_date32(arrow_type) or pa.types.is_time32(arrow_type)
    return pa.array(values, pa.int32() if narrow else pa.int64()).cast(arrow_type)


def conform_one(column, kind, **options):
    batch, reasons = conform_batch(pa.record_batch([column], names=["x"]), [Feature("x", kind, **options)])
    return batch.column("x"), {row: [reason.code for reason in found] for row, found in reasons.items()}


INT, FLOAT, BYTES = Kind.INT, Kind.FLOAT, Kind.BYTES
REFUSED = "refused"

# column, then what it is as INT, FLOAT and BYTES.
TABLE = {
    "null": (pa.nulls(2), [None, None], [None, None], [None, None]),
    "bool": (pa.array([True, False]), [1, 0], [1.0, 0.0], ["true", "false"]),
    "int8": (pa.array([-128, 127], pa.int8()), [-128, 127], [-128.0, 127.0], ["-128", "127"]),
    "int64": (
        pa.array([-(2**63), 2**63 - 1]),
        [-(2**63), 2**63 - 1],
        [-(2.0**63), 2.0**63],
        [str(-(2**63)), str(2**63 - 1)],
    ),
    "uint32": (pa.array([2**32 - 1], pa.uint32()), [2**32 - 1], [2.0**32 - 1], ["4294967295"]),
    "uint64": (pa.array([2**63 - 1], pa.uint64()), [2**63 - 1], [2.0**63], ["9223372036854775807"]),
    "float16": (pa.array([2048.0, -1.0], pa.float16()), [2048, -1], [2048.0, -1.0], ["2048", "-1"]),
    "float32": (pa.array([-(2.0**24), 0.0], pa.float32()), [-(2**24), 0], [-(2.0**24), 0.0], ["-16777216", "0"]),
    "float64": (pa.array([2.0**53, -0.0]), [2**53, 0], [2.0**53, -0.0], ["9.007199254740992e+15", "-0"]),
    "decimal": (pa.array([D("1.00"), D("-20.00")]), [1, -20], [1.0, -20.0], ["1.00", "-20.00"]),
    "decimal_zeros": (pa.array([D("0E-10")], pa.decimal128(12, 10)), [0], [0.0], ["0E-10"]),
    "decimal_negative_scale": (pa.array([D(1200)], pa.decimal128(4, -2)), [1200], [1200.0], ["1200"]),
    "decimal256": (pa.array([D(2**63 - 1)], pa.decimal256(70, 0)), [2**63 - 1], [2.0**63], ["9223372036854775807"]),
    "string": (pa.array(["7", "-8"]), [7, -8], [7.0, -8.0], ["7", "-8"]),
    "large_string": (pa.array(["7"], pa.large_string()), [7], [7.0], ["7"]),
    "string_view": (pa.array(["7"], pa.string_view()), [7], [7.0], ["7"]),
    "binary": (pa.array([b"7"]), [7], [7.0], [b"7"]),
    "large_binary": (pa.array([b"7"], pa.large_binary()), [7], [7.0], [b"7"]),
    "binary_view": (pa.array([b"7"], pa.binary_view()), [7], [7.0], [b"7"]),
    "fixed_size_binary": (pa.array([b"42"], pa.binary(2)), [42], [42.0], [b"42"]),
    "date32": (pa.array([datetime.date(2013, 1, 31)]), [15736], REFUSED, ["2013-01-31"]),
    "date64": (pa.array([datetime.date(1969, 12, 31)], pa.date64()), [-86400000], REFUSED, ["1969-12-31"]),
    "time32": (of_ints([3600], pa.time32("s")), [3600], REFUSED, ["01:00:00"]),
    "time64": (of_ints([1500], pa.time64("ns")), [1500], REFUSED, ["00:00:00.000001500"]),
    "timestamp": (of_ints([1359609300], pa.timestamp("s")), [1359609300], REFUSED, ["2013-01-31T05:15:00"]),
    "timestamp_zone": (
        of_ints([1500], pa.timestamp("ms", "America/New_York")),
        [1500],
        REFUSED,
        ["1970-01-01T00:00:01.500Z"],
    ),
    "timestamp_ns": (of_ints([-1], pa.timestamp("ns", "UTC")), [-1], REFUSED, ["1969-12-31T23:59:59.999999999Z"]),
    "duration": (of_ints([1500, -2], pa.duration("ms")), [1500, -2], REFUSED, ["1500ms", "-2ms"]),
    "dictionary": (pa.array(["7", None, "7"]).dictionary_encode(), [7, None, 7], [7.0, None, 7.0], ["7", None, "7"]),
    "run_end": (pa.RunEndEncodedArray.from_arrays([2, 3], [7, 8]), [7, 7, 8], [7.0, 7.0, 8.0], ["7", "7", "8"]),
    "extension": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())),
        [1, 0],
        [1.0, 0.0],
        ["1", "0"],
    ),
}
ARROW_TYPES = {INT: [pa.int64()], FLOAT: [pa.float64()], BYTES: [pa.string(), pa.binary()]}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("case", TABLE)
def test_table_of_types(case, kind):
    column, *forms = TABLE[case]
    expected = forms[list(Kind).index(kind)]
    if expected is REFUSED:
        with pytest.raises(
            ConfigError, match=r"'x' has type .* loses precision as FLOAT; make the feature INT .* or BYTES"
        ):
            conform_one(column, kind)
        return
    values, reasons = conform_one(column, kind)
    assert [repr(value) for value in values.to_pylist()] == [repr(value) for value in expected]  # tells -0.0 from 0.0
    assert values.type in ARROW_TYPES[kind]
    assert reasons == {}


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("case", TABLE)
def test_a_null_stays_null_and_is_no_fault(case, kind):
    column, *forms = TABLE[case]
    if forms[list(Kind).index(kind)] is REFUSED:
        return
    values, reasons = conform_one(pa.nulls(2, column.type), kind)
    assert values.to_pylist() == [None, None]
    assert values.type in ARROW_TYPES[kind]
    assert reasons == {}


LISTS = {
    "list": pa.list_,
    "large_list": pa.large_list,
    "list_view": pa.list_view,
    "large_list_view": pa.large_list_view,
}


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize(
    ("item", "rows", "kind", "expected"),
    [
        (pa.int32(), [[1, 2], None, [], [3]], INT, [[1, 2], None, [], [3]]),
        (pa.string(), [["1"], None, ["2", "3"], []], FLOAT, [[1.0], None, [2.0, 3.0], []]),
        (pa.large_string(), [["a"], None, [""]], BYTES, [["a"], None, [""]]),
        (pa.dictionary(pa.int8(), pa.string()), [["a", "b"], [], ["a"]], BYTES, [["a", "b"], [], ["a"]]),
        (pa.timestamp("s"), [[datetime.datetime(1970, 1, 1)]], BYTES, [["1970-01-01T00:00:00"]]),
        (pa.null(), [[], None], INT, [[], None]),
    ],
)
def test_lists_of_every_flavour_become_lists(make, item, rows, kind, expected):
    values, reasons = conform_one(pa.array([[], *rows, []], make(item)).slice(1, len(rows)), kind)
    assert values.to_pylist() == expected
    assert str(values.type) in {str(pa.list_(arrow_type)) for arrow_type in ARROW_TYPES[kind]}
    assert reasons == {}
    values.validate(full=True)


def test_fixed_size_lists_become_lists():
    rows = [[1.5, 2.5], None, [3.5, 4.5]]
    values, reasons = conform_one(pa.array([None, *rows], pa.list_(pa.float32(), 2)).slice(1), FLOAT)
    assert values.to_pylist() == rows
    assert values.type == pa.list_(pa.float64())
    assert reasons == {}


def test_name_and_nullability_of_list_items_are_the_same_from_all_sources():
    parquet = pa.array([[1], []], pa.list_(pa.field("element", pa.int64(), nullable=False)))
    assert str(conform_one(parquet, INT)[0].type) == "list<item: int64>"


def test_scalar_stays_scalar_under_a_multivalued_feature_and_a_list_under_a_single_valued_one():
    assert conform_one(pa.array([1]), INT, multivalued=True)[0].type == pa.int64()
    assert conform_one(pa.array([[1]]), INT, multivalued=False)[0].type == pa.list_(pa.int64())


FAULTS = [
    (pa.array(["7", "x"]), INT, "schema.type", "column 'x': 'x' is not an INT: a whole number in decimal digits"),
    (pa.array(["7", "007"]), INT, "schema.type", "'007' is not an INT: .* without \\+, leading zeros or spaces"),
    (pa.array(["7", ""]), FLOAT, "schema.type", "'' is not a FLOAT: a decimal number"),
    (pa.array([b"7", b"\xff"]), INT, "schema.type", r"'\\\\xff' is not an INT"),
    (pa.array(["7", str(2**63)]), INT, "schema.int_overflow", "'9223372036854775808' is beyond int64"),
    (pa.array(["7", "9223372036854775808.0"]), INT, "schema.int_overflow", "'9223372036854775808.0' is beyond int64"),
    (pa.array(["7", "1e19"]), INT, "schema.int_overflow", "'1e19' is beyond int64"),
    (pa.array(["7", "7.5"]), INT, "schema.type", "'7.5' is not an INT"),
    (pa.array(["7", "-0.0"]), INT, "schema.type", "'-0.0' is not an INT"),
    (pa.array([7, 2**63], pa.uint64()), INT, "schema.int_overflow", "9223372036854775808 is beyond int64"),
    (pa.array([7, D(2**63)], pa.decimal128(19, 0)), INT, "schema.int_overflow", "9223372036854775808 is beyond int64"),
    (pa.array([D("7.00"), D("7.01")]), INT, "schema.type", "7.01 is not an INT"),
    (pa.array([D("0E-10"), D("1E-10")], pa.decimal128(12, 10)), INT, "schema.type", "1E-10 is not an INT"),
    (pa.array([7, 7.5]), INT, "schema.type", "7.5 is not a whole number"),
    (pa.array([7, NAN]), INT, "schema.type", "nan is not a whole number"),
    (pa.array([7, -math.inf]), INT, "schema.type", "-inf is not a whole number"),
    (pa.array([7, 2.0**53 + 2]), INT, "schema.int_overflow", "is beyond 9007199254740992, up to which a double holds"),
    (pa.array([7, 2.0**24 + 2], pa.float32()), INT, "schema.int_overflow", "beyond 16777216, up to which a float"),
    (pa.array([7, 4096], pa.float16()), INT, "schema.int_overflow", "beyond 2048, up to which a halffloat"),
    (pa.array(["7", "1e39"]), FLOAT, "schema.float_overflow", "'1e39' is beyond float32"),
    (pa.array(["7", "-1e400"]), FLOAT, "schema.float_overflow", "'-1e400' is beyond float32"),
    (pa.array([7, -1e39]), FLOAT, "schema.float_overflow", "-1e\\+39 is beyond float32"),
    (pa.array([D(7), D("1e50")], pa.decimal256(60, 0)), FLOAT, "schema.float_overflow", "beyond float32"),
    (of_ints([7, 2932897], pa.date32()), BYTES, "schema.type", "2932897 as date32.* is outside the years 1 to 9999"),
    (of_ints([7, -719163], pa.date32()), BYTES, "schema.type", "-719163 as date32.* is outside the years"),
    (of_ints([7, 2932897 * 86_400_000], pa.date64()), BYTES, "schema.type", "as date64.* is outside the years"),
    (of_ints([7, 10**13], pa.timestamp("s")), BYTES, "schema.type", "10000000000000 as timestamp.s. is outside"),
    (of_ints([7, 86400], pa.time32("s")), BYTES, "schema.type", "86400 as time32.* is outside .* the 24 hours"),
]


@pytest.mark.parametrize(("column", "kind", "code", "detail"), FAULTS)
def test_values_without_a_faithful_form_are_null_and_named(column, kind, code, detail):
    batch, reasons = conform_batch(pa.record_batch([column], names=["x"]), [Feature("x", kind)])
    assert list(reasons) == [1]
    (reason,) = reasons[1]
    assert reason.code == code
    assert re.search(detail, reason.detail)
    assert batch.column("x").is_valid().to_pylist() == [True, False]


@pytest.mark.parametrize(("column", "kind", "code", "detail"), FAULTS)
def test_the_same_values_in_a_list_null_the_row(column, kind, code, detail):
    rows = pa.ListArray.from_arrays([0, 1, 1, 2, 2], column, mask=pa.array([False, False, False, True]))
    batch, reasons = conform_batch(pa.record_batch([rows], names=["x"]), [Feature("x", kind)])
    assert list(reasons) == [2]
    assert reasons[2][0].code == code
    assert reasons[2][0].detail.startswith("column 'x', index 0 of the list: ")
    assert [None if row is None else len(row) for row in batch.column("x").to_pylist()] == [1, 0, None, None]
    assert len(batch.column("x").values) == 1
    batch.validate(full=True)


def test_extremes_that_still_have_a_form():
    assert conform_one(of_ints([-719162, 2932896], pa.date32()), BYTES)[0].to_pylist() == ["0001-01-01", "9999-12-31"]
    assert conform_one(of_ints([-(2**63), 2**63 - 1], pa.timestamp("ns")), BYTES)[1] == {}
    largest = float(np.finfo(np.float32).max)
    assert conform_one(pa.array([largest, -largest, NAN, math.inf]), FLOAT)[1] == {}


@pytest.mark.parametrize("kind", list(Kind))
def test_null_in_a_list_rejects(kind):
    rows = pa.array([["1"], ["2", None], None, [], [None, "x"]])
    batch, reasons = conform_batch(pa.record_batch([rows], names=["x"]), [Feature("x", kind)])
    assert {row: found[0].code for row, found in reasons.items()} == {
        1: "schema.null_in_list",
        4: "schema.null_in_list",
    }
    assert reasons[1][0].detail == "column 'x', index 1 of the list: null; a tf.Example list cannot hold nulls"
    assert [row is None for row in batch.column("x").to_pylist()] == [False, True, True, False, True]


def test_all_columns_at_fault_are_told_in_the_order_of_the_schema():
    batch = pa.record_batch({"a": ["x", "1"], "b": ["y", "z"]})
    _, reasons = conform_batch(batch, [Feature("b", INT), Feature("a", FLOAT)])
    assert [reason.detail.split(":")[0] for reason in reasons[0]] == ["column 'b'", "column 'a'"]
    assert len(reasons[1]) == 1


def test_long_values_are_cut_in_the_detail():
    _, reasons = conform_batch(pa.record_batch({"x": ["9" * 10**6 + "x"]}), [Feature("x", INT)])
    assert f"'{'9' * 80}'... is not an INT" in reasons[0][0].detail
    assert len(reasons[0][0].detail) < 250


def test_columns_come_in_schema_order_then_the_reserved_ones():
    times = of_ints([0], pa.timestamp("us", "UTC"))
    batch = pa.record_batch(
        [times, pa.array(["1"]), pa.array(["dropped"]), origin_array("f.csv", np.array([9])), pa.array(["2"])],
        names=[EVENT_TIME, "b", "other", ORIGIN, "a"],
    )
    result, reasons = conform_batch(
        batch, [Feature("a", INT), Feature("absent", INT, required=True), Feature("b", BYTES)]
    )
    assert result.schema.names == ["a", "b", EVENT_TIME, ORIGIN]
    assert result.column(ORIGIN).equals(batch.column(ORIGIN))
    assert result.column("a").to_pylist() == [2]
    assert reasons == {}


@pytest.mark.parametrize("batch", [pa.record_batch({"a": [1, 2, 3]}), pa.record_batch({"a": pa.array([], pa.int64())})])
def test_rows_without_any_column_of_the_schema_are_kept(batch):
    result, reasons = conform_batch(batch, [Feature("b", INT)])
    assert (result.num_rows, result.num_columns, reasons) == (batch.num_rows, 0, {})


def test_struct_columns_are_read_by_dotted_names():
    batch = pa.record_batch({"trip": [{"km": "3", "from": {"lat": 1.5}}, {"km": "x", "from": None}]})
    result, reasons = conform_batch(batch, [Feature("trip.from.lat", FLOAT), Feature("trip.km", INT)])
    assert result.to_pydict() == {"trip.from.lat": [1.5, None], "trip.km": [3, None]}
    assert list(reasons) == [1]


def test_boolean_features_take_the_words():
    values, reasons = conform_one(pa.array(["true", "False", "1", "0", None, "yes"]), INT, boolean=True)
    assert values.to_pylist() == [1, 0, 1, 0, None, None]
    assert reasons == {5: ["schema.type"]}


@pytest.mark.parametrize(
    "arrow_type",
    [
        pa.map_(pa.string(), pa.int64()),
        pa.list_(pa.list_(pa.int64())),
        pa.list_(pa.struct([("a", pa.int64())])),
        pa.month_day_nano_interval(),
        pa.dense_union([pa.field("a", pa.int64())]),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", list(Kind))
def test_types_without_a_form_are_refused_by_name(arrow_type, kind):
    with pytest.raises(
        ConfigError, match=r"column 'x' has type .* which a tf.Example cannot hold; take the feature out"
    ):
        check_type(arrow_type, Feature("x", kind))
    batch = pa.record_batch([pa.nulls(0, arrow_type)], names=["x"])
    with pytest.raises(ConfigError, match="column 'x' has type"):
        conform_batch(batch, [Feature("x", kind)])
    assert conform_batch(batch, [Feature("other", kind)])[1] == {}


def test_feature_that_is_a_struct_in_the_rows_is_refused_with_the_names_to_use():
    batch = pa.record_batch({"trip": [{"km": 3, "from": {"lat": 1.5}}]})
    with pytest.raises(ConfigError, match=r"'trip' is a struct; name its fields .*: trip\.km, trip\.from\.lat"):
        conform_batch(batch, [Feature("trip", BYTES)])


def test_feature_inside_a_list_of_structs_is_refused_and_not_taken_for_absent():
    batch = pa.record_batch({"trips": [[{"km": 3}]]})
    with pytest.raises(ConfigError, match=r"'trips\.km' lies inside column 'trips', a list of structs"):
        conform_batch(batch, [Feature("trips.km", INT)])


numbers = st.one_of(st.none(), st.sampled_from(["1", "-2", "3.5", "x", "1e39", "", str(2**63)]))
columns = st.one_of(
    st.lists(numbers, max_size=12).map(lambda rows: pa.array(rows, pa.string())),
    st.lists(st.none() | st.lists(numbers, max_size=3), max_size=12).map(
        lambda rows: pa.array(rows, pa.list_(pa.string()))
    ),
    st.lists(st.none() | st.floats(), max_size=12).map(lambda rows: pa.array(rows, pa.float64())),
    st.lists(st.none() | st.integers(0, 2**64 - 1), max_size=12).map(lambda rows: pa.array(rows, pa.uint64())),
)


@given(columns, st.sampled_from(Kind), st.data())
def test_a_slice_of_the_rows_is_conformed_as_in_the_whole(column, kind, data):
    start = data.draw(st.integers(0, len(column)))
    stop = data.draw(st.integers(start, len(column)))
    features = [Feature("x", kind)]
    whole, all_reasons = conform_batch(pa.record_batch([column], names=["x"]), features)
    part, reasons = conform_batch(pa.record_batch([column], names=["x"]).slice(start, stop - start), features)
    part.validate(full=True)
    assert repr(part.to_pydict()) == repr(whole.slice(start, stop - start).to_pydict())
    assert reasons == {row - start: found for row, found in all_reasons.items() if start <= row < stop}


@given(columns, st.sampled_from(Kind))
def test_conforming_twice_changes_nothing_and_finds_nothing(column, kind):
    features = [Feature("x", kind)]
    once, _ = conform_batch(pa.record_batch([column], names=["x"]), features)
    twice, reasons = conform_batch(once, features)
    assert repr(twice.to_pydict()) == repr(once.to_pydict())
    assert twice.schema.equals(once.schema)
    assert reasons == {}


@given(columns, st.sampled_from(Kind))
def test_a_value_is_null_afterwards_if_it_was_before_or_its_row_is_rejected(column, kind):
    result, reasons = conform_batch(pa.record_batch([column], names=["x"]), [Feature("x", kind)])
    expected = [row in reasons or not valid for row, valid in enumerate(column.is_valid().to_pylist())]
    assert result.column("x").is_null().to_pylist() == expected


@pytest.mark.parametrize("few", [0, 64])
@pytest.mark.parametrize("feature", [Feature("x", INT), Feature("x", INT, boolean=True), Feature("x", FLOAT)])
@given(data=st.data())
def test_texts_among_numbers_are_what_they_are_in_a_column_of_texts(feature, few, data):
    forms = st.sampled_from(
        ["1", "-2", "true", "3.5", "x", "1e39", "-1e400", "", "NaN", "inf", "007", str(-(2**63)), "9" * 5000]
    )
    texts = pa.array(data.draw(st.lists(st.none() | forms, max_size=12)), pa.string())
    start = data.draw(st.integers(0, len(texts)))
    expected, expected_reasons = conform_batch(pa.record_batch([texts[start:]], names=["x"]), [feature])
    whole, all_reasons = conform_batch(pa.record_batch([texts], names=["x"]), [feature])
    # The reader has left those without a value, and some more.
    left = np.array(
        [
            row in all_reasons or (text is not None and data.draw(st.booleans()))
            for row, text in enumerate(texts.to_pylist())
        ],
        bool,
    )
    numbers = pc.if_else(pa.array(left, pa.bool_()), None, whole.column("x"))
    column = mixed_column(numbers, np.flatnonzero(left), texts.filter(pa.array(left, pa.bool_())))[start:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conform, "_FEW_TEXTS", few)
        result, reasons = conform_batch(pa.record_batch([column], names=["x"]), [feature])
    result.validate(full=True)
    assert repr(result.to_pydict()) == repr(expected.to_pydict())
    assert (result.schema, reasons) == (expected.schema, expected_reasons)
