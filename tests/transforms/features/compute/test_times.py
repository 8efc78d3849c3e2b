"""Parts of times against Python's `datetime`, over the whole calendar."""

import datetime
import math
from typing import Any

import numpy as np
import pytest

from penstock.io.schema import Feature, Kind
from penstock.transforms.features.functions import parse_features
from penstock.transforms.features.operations.times import CYCLES, PARTS, UNITS

tf = pytest.importorskip("tensorflow")
pytest.importorskip("tensorflow_transform")

_EPOCH = datetime.datetime(1970, 1, 1)
_SECONDS = int((datetime.datetime(9999, 12, 31, 23, 59, 59) - _EPOCH).total_seconds())
_FIRST = int((datetime.datetime(1, 1, 1) - _EPOCH).total_seconds())

# Every border of a year, of leap years among them, and what lies between.
TIMES = [
    *(datetime.datetime(year, 12, 31, 23, 59, 59) for year in range(1, 9999, 97)),
    *(datetime.datetime(year, 1, 1) for year in (1, 4, 1600, 1900, 1969, 1970, 1972, 2000, 2023, 2024, 2026, 9999)),
    *(datetime.datetime(year, 2, 28) + datetime.timedelta(1) for year in (1900, 2000, 2023, 2024)),
    *(_EPOCH + datetime.timedelta(seconds=int(s)) for s in np.random.default_rng(3).integers(_FIRST, _SECONDS, 400)),
]

PART = {
    "year": lambda time: time.year,
    "quarter": lambda time: (time.month - 1) // 3 + 1,
    "month": lambda time: time.month,
    "week": lambda time: time.isocalendar().week,
    "day": lambda time: time.day,
    "weekday": lambda time: time.weekday(),
    "day_of_year": lambda time: time.timetuple().tm_yday,
    "hour": lambda time: time.hour,
    "minute": lambda time: time.minute,
    "second": lambda time: time.second,
}


def compute(values: list[Any], kind: Kind, *steps: str) -> list[Any]:
    feature = Feature("t", kind, multivalued=False, required=True, complete=True)
    preprocessing = parse_features(f"features: {{y: {{input: t, ops: [{', '.join(steps)}]}}}}").bind([feature])
    dtype = {Kind.INT: tf.int64, Kind.BYTES: tf.string}[kind]
    return preprocessing({"t": tf.constant(values, dtype)})["y"].numpy().tolist()


def seconds(time: datetime.datetime) -> int:
    return int((time - _EPOCH).total_seconds())


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_those_of_the_calendar(part: str) -> None:
    expected = [PART[part](time) for time in TIMES]
    assert compute([seconds(time) for time in TIMES], Kind.INT, f"{{time_part: {{part: {part}, unit: s}}}}") == expected
    assert compute([time.isoformat() for time in TIMES], Kind.BYTES, f"{{time_part: {part}}}") == expected


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_tells_the_same_time(unit: str) -> None:
    times = [time for time in TIMES if unit != "ns" or 1700 < time.year < 2200]
    spelled = [f"{time.isoformat()}.999999" for time in times]
    parsed = compute(spelled, Kind.BYTES, f"{{parse_time: {unit}}}")
    if unit != "d":
        assert [value // UNITS[unit] for value in parsed] == [seconds(time) for time in times]
    for part in ("year", "day", "second" if unit != "d" else "month"):
        expected = [PART[part](time) for time in times]
        assert compute(parsed, Kind.INT, f"{{time_part: {{part: {part}, unit: {unit}}}}}") == expected


@pytest.mark.parametrize("part", CYCLES)
def test_waves_go_once_around_for_all_values_of_a_part(part: str) -> None:
    least, count = PARTS[part]
    texts = [time.isoformat() for time in TIMES]
    angles = [2 * math.pi * (PART[part](time) - least) / count for time in TIMES]
    assert compute(texts, Kind.BYTES, f"{{time_sin: {part}}}") == [float(np.float32(math.sin(a))) for a in angles]
    assert compute(texts, Kind.BYTES, f"{{time_cos: {part}}}") == [float(np.float32(math.cos(a))) for a in angles]


def test_days_since_a_day() -> None:
    got = compute([time.isoformat() for time in TIMES], Kind.BYTES, "{days_since: 2026-01-31T12:00+01:00}")
    since = datetime.datetime(2026, 1, 31, 11)
    assert got == [float(np.float32((time - since) / datetime.timedelta(1))) for time in TIMES]


SPELLINGS = {
    "date": ("2026-01-31", 1769817600000),
    "minutes": ("2026-01-31T17:05", 1769879100000),
    "utc": ("2026-01-31T17:05:09Z", 1769879109000),
    "fraction": ("2026-01-31 17:05:09,5", 1769879109500),
    "more_than_microseconds": ("2026-01-31T17:05:09.123456789Z", 1769879109123),
    "ahead": ("2026-01-31T17:05:09+05:30", 1769859309000),
    "behind": ("2026-01-31T17:05:09.25-0800", 1769907909250),
}


@pytest.mark.parametrize(("text", "expected"), SPELLINGS.values(), ids=SPELLINGS.keys())
def test_spellings_of_a_time(text: str, expected: int) -> None:
    assert compute([text], Kind.BYTES, "{parse_time: ms}") == [expected]


NO_TIMES = {
    "empty": "",
    "no_day": "2026-01",
    "month": "2026-13-01",
    "day": "2026-02-30",
    "no_leap_year": "2025-02-29",
    "day_0": "2026-01-00",
    "year_0": "0000-01-01",
    "hour": "2026-01-01T24:00",
    "minute": "2026-01-01T23:60",
    "second": "2026-01-01T23:59:60",
    "offset": "2026-01-01T00:00+24:00",
    "offset_of_a_date": "2026-01-01Z",
    "behind": "2026-01-01 ",
    "line": "2026-01-01\n",
    "american": "01/31/2026",
}


@pytest.mark.parametrize("text", NO_TIMES.values(), ids=NO_TIMES.keys())
def test_other_texts_fail_the_graph(text: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="a text is no time in ISO 8601"):
        compute([text], Kind.BYTES, "{parse_time: s}")


def test_a_wrong_unit_fails_the_graph() -> None:
    now = seconds(datetime.datetime(2026, 1, 31))
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside of the years 1 to 9999; is its unit right"):
        compute([1000 * now], Kind.INT, "{time_part: {part: year, unit: s}}")
    with pytest.raises(tf.errors.InvalidArgumentError, match="outside of the years"):
        compute([now], Kind.INT, "{time_part: {part: year, unit: d}}")


def test_a_time_that_nanoseconds_cannot_hold_fails_the_graph() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="a time in ns is beyond int64"):
        compute(["2300-01-01"], Kind.BYTES, "{parse_time: ns}")
