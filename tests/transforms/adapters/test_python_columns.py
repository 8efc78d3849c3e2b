import dataclasses
import datetime
import decimal
import enum
import re
import typing
import zoneinfo

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.errors import DataError
from penstock.io.schema import Feature, Kind
from penstock.transforms.adapters.python_columns import columns_of_rows, rows_of_columns

UTC = datetime.UTC
NOON = datetime.datetime(2024, 5, 6, 12)


def column(values, target=None):
    """The column `a` of rows with these values, and the code of the reason of each row that is rejected."""
    made = columns_of_rows([{"a": value} for value in values], None if target is None else {"a": target})
    return made.batch.column("a"), {row: reasons[0].code for row, reasons in made.faults.items()}


class Color(enum.StrEnum):
    RED = "red"


class Point(typing.NamedTuple):
    x: int


@dataclasses.dataclass
class Place:
    name: str


def stable_id(value: object) -> str:
    """Names a value alike in all processes that collect the tests: without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))


@pytest.mark.parametrize(
    ("values", "arrow_type", "expected"),
    [
        ([True, None], pa.bool_(), [True, None]),
        ([2**63 - 1, -(2**63)], pa.int64(), [2**63 - 1, -(2**63)]),
        ([1.5, float("inf")], pa.float64(), [1.5, float("inf")]),
        (["", "näme"], pa.string(), ["", "näme"]),
        ([b"\xff", bytearray(b"a"), memoryview(b"b")], pa.binary(), [b"\xff", b"a", b"b"]),
        ([decimal.Decimal("1.50"), decimal.Decimal("-2")], pa.decimal128(3, 2), [decimal.Decimal("1.50"), -2]),
        ([NOON, None], pa.timestamp("us"), [NOON, None]),
        (
            [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))],
            pa.timestamp("us", "UTC"),
            [NOON.replace(tzinfo=UTC), NOON.replace(tzinfo=UTC, hour=10)],
        ),
        (
            [beam.utils.timestamp.Timestamp(1)],
            pa.timestamp("us", "UTC"),
            [datetime.datetime(1970, 1, 1, 0, 0, 1, 0, UTC)],
        ),
        ([NOON.date()], pa.date32(), [NOON.date()]),
        ([NOON.time()], pa.time64("us"), [NOON.time()]),
        ([datetime.timedelta(days=-1)], pa.duration("us"), [datetime.timedelta(days=-1)]),
        ([[1, 2], [], None], pa.list_(pa.int64()), [[1, 2], [], None]),
        ([(1.5,), np.array([2.5])], pa.list_(pa.float64()), [[1.5], [2.5]]),
        ([[], None], pa.list_(pa.null()), [[], None]),
        ([np.int8(1), np.uint64(2), 3], pa.int64(), [1, 2, 3]),
        ([np.float32(0.1), 0.5], pa.float64(), [float(np.float32(0.1)), 0.5]),
        ([np.bool_(True), np.array(False)], pa.bool_(), [True, False]),
        ([np.datetime64(NOON), np.datetime64("NaT")], pa.timestamp("us"), [NOON, None]),
        ([np.array([np.datetime64(NOON, "ns")])], pa.list_(pa.timestamp("us")), [[NOON]]),
        ([pd.Timestamp(NOON), pd.NaT, pd.NA], pa.timestamp("us"), [NOON, None, None]),
        ([pd.Timedelta(days=2)], pa.duration("us"), [datetime.timedelta(2)]),
        ([Color.RED, "blue"], pa.string(), ["red", "blue"]),
        ([None, None], pa.null(), [None, None]),
    ],
    ids=stable_id,
)
def test_values_keep_their_types(values, arrow_type, expected):
    made, faults = column(values)
    assert (made.type, made.to_pylist(), faults) == (arrow_type, expected, {})


@pytest.mark.parametrize(
    ("value", "code", "detail"),
    [
        (2**63, "read.int_overflow", "column 'a': 9223372036854775808 is beyond int64"),
        (np.uint64(2**64 - 1), "read.int_overflow", "is beyond int64"),
        ("\ud800", "read.encoding", r"'\ud800' has a lone surrogate"),
        (1j, "read.type", "a complex, which no column can hold"),
        ({1}, "read.type", "a set, which no column can hold"),
        (object(), "read.type", "a object, which no column can hold"),
        (np.longdouble(1), "read.type", "of numpy, which no column can hold"),
        (np.zeros((2, 2)), "read.type", "an array of 2 dimensions"),
        (decimal.Decimal("NaN"), "read.type", "Decimal('NaN') has no form in Arrow"),
        (pd.Timestamp(1), "read.type", "a time with nanoseconds"),
        (pd.Timedelta(1), "read.type", "a duration with nanoseconds"),
        (np.datetime64(1, "ns"), "read.type", "datetime64[ns] finer than microseconds"),
        (np.datetime64("12000-01-01"), "read.type", "outside the years 1 to 9999"),
        (beam.utils.timestamp.MIN_TIMESTAMP, "read.type", "outside the years 1 to 9999"),
        (NOON.time().replace(tzinfo=UTC), "read.type", "a time of the day with a zone"),
        ([[1]], "read.nested_list", "a list of lists"),
        ([{"x": 1}], "read.nested_list", "a list of records"),
        ([beam.Row(x=1)], "read.nested_list", "a list of records"),
        ([2**63], "read.int_overflow", "is beyond int64"),
        ([1j], "read.type", "a complex"),
    ],
    ids=stable_id,
)
def test_values_without_a_column_reject_their_row_alone(value, code, detail):
    made = columns_of_rows([{"b": 1}, {"a": value, "b": 2}, {"b": 3}], None)
    assert {row: [reason.code for reason in reasons] for row, reasons in made.faults.items()} == {1: [code]}
    assert detail in made.faults[1][0].detail
    assert made.faults[1][0].detail.startswith("column 'a'")
    assert made.batch.column("b").to_pylist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ({3: 1}, "the name 3 is no text"),
        ({"": 1}, "a member has no name"),
        ({"_split": "train"}, "the name '_split' is reserved"),
        ({"_origin": None}, "the name '_origin' is reserved"),
        ({"\ud800": 1}, r"the name '\ud800' has a lone surrogate"),
        ({"a": {"": 1}}, "a member has no name"),
        ({"a": {None: 1}}, "the name null is no text"),
        ({"a": {"b": 1}, "a.b": 2}, "column 'a.b' is there twice"),
    ],
    ids=stable_id,
)
@pytest.mark.parametrize(
    "targets", [None, {"c": Feature("c", Kind.INT), "a.b": Feature("a.b", Kind.INT)}], ids=["", "schema"]
)
def test_names_that_no_column_can_have_reject_their_row(row, detail, targets):
    made = columns_of_rows([{"c": 1}, row], targets)
    assert {index: [reason.code for reason in reasons] for index, reasons in made.faults.items()} == {1: ["read.name"]}
    assert detail in made.faults[1][0].detail


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2.5], r"column 'a' has values of several types: int \(such as 1\) and float \(such as 2\.5\)"),
        ([True, 1], "bool .* and int"),
        (["a", b"b"], "str .* and bytes"),
        ([1, "n/a"], "int .* and str"),
        ([NOON, NOON.replace(tzinfo=UTC)], "datetime .* and datetime with a zone"),
        ([NOON.date(), NOON], "date .* and datetime"),
        ([1, [1]], "int .* and list"),
        ([[1], ["x"]], "int .* and str"),
        ([decimal.Decimal("1e60"), decimal.Decimal("1e-60")], "decimals that no one type of up to 76 digits can hold"),
    ],
    ids=stable_id,
)
def test_values_of_several_types_are_refused_without_a_schema(values, message):
    with pytest.raises(DataError, match=message):
        column(values)


def test_integers_among_floats_are_not_made_floats():
    rows = [{"id": 20_000_000 + number} for number in range(1000)]
    rows[7]["id"] = 20_001_000.0
    with pytest.raises(DataError, match="give the adapter a schema"):
        columns_of_rows(rows, None)
    made = columns_of_rows(rows, {"id": Feature("id", Kind.INT)})
    assert len(made.batch.column("id").unique()) == 1000


@pytest.mark.parametrize(
    ("kind", "values", "expected", "rejected"),
    [
        (Kind.INT, [1, "2", "x", 2.0, 2.5, True, None], [1, 2, None, 2, None, 1, None], {2, 4}),
        (Kind.FLOAT, [1, 2.5, "1e3", decimal.Decimal("1.1"), NOON], [1.0, 2.5, 1000.0, 1.1, None], {4}),
        (Kind.BYTES, [1, "x", b"\xff", NOON.date()], [b"1", b"x", b"\xff", b"2024-05-06"], set()),
        (Kind.INT, [1, [2, "3"], [], ["x"]], [[1], [2, 3], [], None], {3}),
        (Kind.INT, [[1, None]], [None], {0}),
        (Kind.INT, [[2**63, 1]], None, {0}),
    ],
    ids=["int", "float", "bytes", "lists", "null_in_list", "overflow_in_list"],
)
def test_under_a_schema_each_type_is_cast_by_itself(kind, values, expected, rejected):
    made, faults = column(values, Feature("a", kind))
    assert set(faults) == rejected
    if expected is not None:
        assert made.to_pylist() == expected


def test_nested_records_become_dotted_names():
    rows = [
        {"user": {"id": 1, "place": Place("Rome")}, "point": Point(3)},
        {"user": None, "point": beam.Row(x=4)},
        {"user": {"id": None}},
    ]
    made = columns_of_rows(rows, None)
    assert rows_of_columns(made.batch) == [
        {"user.id": 1, "user.place.name": "Rome", "point.x": 3},
        {"user.id": None, "user.place.name": None, "point.x": 4},
        {"user.id": None, "user.place.name": None, "point.x": None},
    ]
    made = columns_of_rows([*rows, {"user": "bob"}], {"user.id": Feature("user.id", Kind.INT)})
    assert made.batch.column("user.id").to_pylist() == [1, None, None, None]
    assert made.faults[3][0].detail == "column 'user': 'bob' is no record, and the schema has user.id in it"


@pytest.mark.parametrize("rows", [[], [{}], [{}, {}], [{"a": {}}]], ids=str)
def test_rows_without_columns(rows):
    made = columns_of_rows(rows, None)
    assert (made.batch.num_rows, made.batch.num_columns, made.faults) == (len(rows), 0, {})
    assert rows_of_columns(made.batch) == [{} for _ in rows]


def test_other_order_of_names_and_missing_names():
    made = columns_of_rows([{"a": 1, "b": "x"}, {"b": "y", "a": 2}, {"b": "z"}], None)
    assert made.batch.to_pydict() == {"a": [1, 2, None], "b": ["x", "y", "z"]}


_SCALARS = {
    "bool": st.booleans(),
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    "bytes": st.binary(max_size=5),
    "decimal": st.decimals(-(10**9), 10**9, places=3),
    "datetime": st.datetimes(),
    "zoned": st.datetimes(timezones=st.just(UTC)),
    "date": st.dates(),
    "time": st.times(),
    "duration": st.timedeltas(datetime.timedelta(-(10**6)), datetime.timedelta(10**6)),
}


@st.composite
def _rows(draw):
    values = {}
    for name in draw(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), unique=True, max_size=4)
    ):
        of_kind = _SCALARS[draw(st.sampled_from(sorted(_SCALARS)))]
        values[name] = draw(st.sampled_from([of_kind, st.lists(of_kind, max_size=3)])) | st.none()
    return draw(st.lists(st.fixed_dictionaries({}, optional=values), max_size=6))


@given(_rows())
def test_rows_come_back_as_they_were(rows):
    """For any rows of one type a column: dicts to columns to dicts; a missing name comes back as None."""
    made = columns_of_rows(rows, None)
    assert made.faults == {}
    names = dict.fromkeys(name for row in rows for name in row)
    assert rows_of_columns(made.batch) == [{name: row.get(name) for name in names} for row in rows]


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (
            pa.array([1_500], pa.timestamp("ns")).cast(pa.timestamp("us"), safe=False).cast(pa.timestamp("ns")),
            datetime.datetime(1970, 1, 1, 0, 0, 0, 1),
        ),
        (pa.array([1_000], pa.duration("ns")), datetime.timedelta(microseconds=1)),
        (pa.array([1_000], pa.time64("ns")), datetime.time(0, 0, 0, 1)),
        (pa.array([np.float16(1.5)]), 1.5),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array(["x"], pa.string_view()), "x"),
        (pa.array([[1]], pa.large_list(pa.int8())), [1]),
        (pa.array([[1_000]], pa.list_(pa.timestamp("ns", "UTC"))), [datetime.datetime(1970, 1, 1, 0, 0, 0, 1, UTC)]),
    ],
    ids=lambda value: str(getattr(value, "type", value)),
)
def test_other_columns_become_plain_values(array, expected):
    (row,) = rows_of_columns(pa.record_batch({"a": array}))
    assert (row, type(row["a"])) == ({"a": expected}, type(expected))


@pytest.mark.parametrize("array", [pa.array([1], pa.timestamp("ns")), pa.array([2**62], pa.timestamp("us"))], ids=str)
def test_times_that_python_cannot_hold_are_refused(array):
    with pytest.raises(DataError, match="Python cannot hold"):
        rows_of_columns(pa.record_batch({"a": array}))
