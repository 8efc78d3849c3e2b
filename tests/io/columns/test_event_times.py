import datetime as dt
import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.columns.event_times import assign_event_time, check_event_time, event_times, parse_event_time
from penstock.io.errors import ConfigError
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, Kind


def micros(values, arrow_type=None, unit=None):
    times = event_times(pa.array(values, arrow_type), unit)
    assert times.type == pa.timestamp("us", "UTC")
    return times.cast(pa.int64()).to_pylist()


def at(*args, **kwargs):
    return round(dt.datetime(*args, tzinfo=dt.UTC, **kwargs).timestamp() * 1_000_000)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("t", ("t", None)),
        ("t:s", ("t", "s")),
        ("a:b:us", ("a:b", "us")),
        ("a:minutes", ("a:minutes", None)),
        ("trip.start:ns", ("trip.start", "ns")),
    ],
)
def test_column_and_unit(text, expected):
    assert parse_event_time(text) == expected


@pytest.mark.parametrize("text", ["", ":s"])
def test_a_column_is_needed(text):
    with pytest.raises(ConfigError, match="must be COLUMN or COLUMN:s"):
        parse_event_time(text)


FEATURES = [
    Feature("t", Kind.BYTES),
    Feature("n", Kind.INT),
    Feature("f", Kind.FLOAT),
    Feature("m", Kind.INT, multivalued=True),
]


@pytest.mark.parametrize("text", ["t", "n:s", "f:ms"])
def test_a_fitting_column(text):
    check_event_time(text, FEATURES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tt", r"'tt' is not a feature of the schema; did you mean 't'\? the features are t, n, f, m"),
        ("n", "'n' is INT; name its unit: n:s or n:ms or n:us or n:ns"),
        ("f", "'f' is FLOAT; name its unit"),
        ("m:s", "'m' is multivalued"),
        ("t:s", "'t' is text, .* leave 's' out"),
    ],
)
def test_columns_that_do_not_fit(text, message):
    with pytest.raises(ConfigError, match=message):
        check_event_time(text, FEATURES)


MIDNIGHT = at(2020, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2020-01-01", MIDNIGHT),
        ("2020-01-01 00:00", MIDNIGHT),
        ("2020-01-01T00:00:00", MIDNIGHT),
        ("2020-01-01 00:00:00Z", MIDNIGHT),
        ("2020-01-01T00:00Z", MIDNIGHT),
        ("2020-01-01T00:00:00.1", MIDNIGHT + 100_000),
        ("2020-01-01T00:00:00.123456Z", MIDNIGHT + 123_456),
        ("2020-01-01T00:00:00.123456999Z", MIDNIGHT + 123_456),
        ("2020-01-01T00:00:00.123456999", MIDNIGHT + 123_456),
        ("2020-01-01T01:00:00+01:00", MIDNIGHT),
        ("2020-01-01T01:00:00+0100", MIDNIGHT),
        ("2020-01-01T01:00:00+01", MIDNIGHT),
        ("2019-12-31T18:30:00.5-05:30", MIDNIGHT + 500_000),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("0001-01-01T00:00:00Z", at(1, 1, 1)),
        ("9999-12-31T23:59:59.999999Z", at(9999, 12, 31, 23, 59, 59) + 999_999),
    ],
)
def test_text(text, expected):
    assert micros([text]) == [expected]
    assert micros([text.encode()]) == [expected]
    mixed = ["x", text, "2020-01-01", None, "2020-01-01T00:00:00Z", "2020-01-01T00:00:00.0000000Z"]
    assert micros(mixed) == [None, expected, MIDNIGHT, None, MIDNIGHT, MIDNIGHT]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2020",
        "1577836800",
        "2020-02-30",
        "2020-02-30T00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:00:60Z",
        " 2020-01-01",
        "2020-01-01T00:00:00 Z",
        "01/02/2020",
        "12020-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "2020-01-01T00:00:00é",
    ],
)
def test_text_that_is_no_time(text):
    assert micros([text]) == [None]
    assert micros([text, "2020-01-01"]) == [None, MIDNIGHT]


def test_bytes_that_are_not_text_are_no_time():
    assert micros([b"\xff", b"2020-01-01", None], pa.binary()) == [None, MIDNIGHT, None]


@pytest.mark.parametrize(
    ("unit", "values", "expected"),
    [
        ("s", [0, -1, 1577836800], [0, -1_000_000, MIDNIGHT]),
        ("ms", [1577836800001, -1], [MIDNIGHT + 1000, -1000]),
        ("us", [1577836800000001, -1], [MIDNIGHT + 1, -1]),
        ("ns", [1577836800000001999, -1], [MIDNIGHT + 1, -1]),
        ("s", [2**63 - 1, -(2**63), 253402300799, 253402300800], [None, None, 253402300799000000, None]),
        ("s", [-62135596800, -62135596801], [-62135596800000000, None]),
        ("ns", [2**63 - 1, -(2**63)], [(2**63 - 1) // 1000, -(2**63) // 1000]),
    ],
)
def test_integers(unit, values, expected):
    assert micros(values, pa.int64(), unit) == expected
    assert micros([*values, None], pa.int64(), unit) == [*expected, None]


def test_other_numbers():
    assert micros([1], pa.uint8(), "s") == [1_000_000]
    assert micros([2**64 - 1, 1], pa.uint64(), "s") == [None, 1_000_000]
    assert micros([1.5, math.nan, math.inf, None, -0.25], None, "s") == [1_500_000, None, None, None, -250_000]
    assert micros([1e300, 1577836800.000001], None, "s") == [None, MIDNIGHT + 1]
    assert micros([1.5], pa.float32(), "ms") == [1500]


@pytest.mark.parametrize(
    ("arrow_type", "value", "expected"),
    [
        (pa.timestamp("s"), 1577836800, MIDNIGHT),
        (pa.timestamp("ms", "America/New_York"), 1577836800000, MIDNIGHT),
        (pa.timestamp("us", "UTC"), MIDNIGHT, MIDNIGHT),
        (pa.timestamp("ns"), MIDNIGHT * 1000 + 999, MIDNIGHT),
        (pa.timestamp("s"), 2**62, None),
        (pa.date32(), 18262, MIDNIGHT),
        (pa.date32(), 2**31 - 1, None),
        (pa.date64(), 18262 * 86_400_000, MIDNIGHT),
    ],
)
def test_native_times(arrow_type, value, expected):
    integers = pa.array([value, None], pa.int32() if arrow_type == pa.date32() else pa.int64())
    assert event_times(integers.cast(arrow_type)).cast(pa.int64()).to_pylist() == [expected, None]


def test_lists_of_one_are_times():
    assert micros([["2020-01-01"], None], pa.large_list(pa.string())) == [MIDNIGHT, None]
    assert micros([[1], [1, 2], [], None], pa.list_(pa.int64()), "s") == [1_000_000, None, None, None]


@pytest.mark.parametrize(
    ("values", "message"),
    [([1], "int64 needs a unit: COLUMN:s"), ([1.5], "double needs a unit"), ([True], "bool holds no time")],
)
def test_types_that_hold_no_time(values, message):
    with pytest.raises(ConfigError, match=message):
        event_times(pa.array(values))


@given(
    st.lists(
        st.datetimes(dt.datetime(1, 1, 2), dt.datetime(9999, 12, 30)),
        min_size=1,
        max_size=20,
    ),
    st.sampled_from([None, 0, 330, -570]),
)
def test_python_writes_what_is_read(times, offset):
    zone = None if offset is None else dt.timezone(dt.timedelta(minutes=offset))
    texts = [time.replace(tzinfo=zone).isoformat() for time in times]
    epoch = dt.datetime(1970, 1, 1)
    expected = [(time - epoch) // dt.timedelta(microseconds=1) - (offset or 0) * 60_000_000 for time in times]
    assert micros(texts) == expected
    assert micros([*texts, "x"]) == [*expected, None]


def test_reasons():
    batch, reasons = assign_event_time(pa.record_batch({"t": ["2020-01-01", None, "x"]}), "t")
    assert batch.column(EVENT_TIME).null_count == 2
    assert {row: [(reason.code, reason.detail) for reason in found] for row, found in reasons.items()} == {
        1: [("event_time.missing", "t is null, every row needs an event time")],
        2: [("event_time.invalid", "t is 'x', not a time between the years 1 and 9999")],
    }


def test_an_absent_column_is_all_missing():
    _, reasons = assign_event_time(pa.record_batch({"a": [1, 2]}), "t", "s")
    assert [found[0].code for found in reasons.values()] == ["event_time.missing"] * 2
