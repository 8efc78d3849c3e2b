"""Operations on flat arrays of times: int64 of a unit since 1970, or texts in ISO 8601, with TensorFlow's values.

All arithmetic is that of int64, so it agrees to the bit; only `days_since` rounds, from float64 to float32.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.transforms.features.arrow.compute.columns import Flags, Ints, Values, check_values
from penstock.transforms.features.arrow.compute.texts import bytes_of
from penstock.transforms.features.operations.times import PARTS, UNITS

_DAY = 86_400
# Days since 1970 of the first day of the year 1 and of the last of 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_YEARS = "a time is outside of the years 1 to 9999; is its unit right?"
_NO_TIME = "is no time in ISO 8601, such as 2026-01-31T17:05:09Z"

# Where the parts of 2026-01-31T17:05:09.25 begin.
_HOUR, _MINUTE, _SECOND, _FRACTION = 11, 14, 17, 20


class _Moment(NamedTuple):
    """Days since 1970, and the seconds since midnight, int64."""

    days: Ints
    seconds: Ints


class _Characters:
    """The bytes of texts, by their place in each text."""

    def __init__(self, texts: pa.Array) -> None:
        self._data, self.starts = bytes_of(texts)
        if not len(self._data):
            self._data = np.zeros(1, np.uint8)
        self.ends = self.starts[1:]
        self.lengths = np.diff(self.starts)

    def at(self, place: int | Ints) -> npt.NDArray[np.uint8]:
        """Returns the byte at a place of each text; any byte where a text has none there."""
        return self._data.take(self.starts[:-1] + place, mode="clip")

    def digits(self, place: int | Ints, count: int) -> tuple[Ints, Flags]:
        """Returns the number of so many digits at a place, and whether all of them are digits."""
        number, right = np.zeros(len(self.lengths), np.int64), np.ones(len(self.lengths), np.bool_)
        for offset in range(count):
            digit = self.at(place + offset) - np.uint8(48)
            right &= digit < 10
            number = number * 10 + digit
        return number, right

    def all_digits(self, first: int, ends: Ints) -> Flags:
        """Whether each text has nothing but digits from a place to another, which may be before."""
        others = np.zeros(len(self._data) + 1, np.int64)
        np.cumsum((self._data - np.uint8(48)) > 9, out=others[1:])
        begin = self.starts[:-1] + np.minimum(first, ends)
        return others[self.starts[:-1] + ends] == others[begin]


def parse_time(x: pa.Array, unit: str) -> Ints:
    """Returns the time that each text spells.

    Raises:
      ValueFaultsError: for another text, or a time in ns that int64 cannot hold.
    """
    micros = _parsed(x)
    if unit == "d":
        return micros // (_DAY * 10**6)
    if unit != "ns":
        return micros // (10**6 // UNITS[unit])
    most = 2**63 // 1000
    check_values((micros >= most) | (micros <= -most), "a time in ns is beyond int64")
    return micros * 1000


def _parsed(x: pa.Array) -> Ints:
    """Returns microseconds since 1970."""
    texts = _Characters(x)
    offset, ends, right = _offset(texts)
    days, is_date = _date(texts)
    seconds, is_time = _time(texts, ends)
    micros, is_fraction = _fraction(texts, ends)
    right &= is_date & np.where(texts.lengths == 10, True, is_time & is_fraction)
    check_values(~right, _NO_TIME, x)
    with_time = texts.lengths > 10
    seconds = np.where(with_time, seconds - offset, 0)
    return (days * _DAY + seconds) * 10**6 + np.where(with_time, micros, 0)


def _offset(texts: _Characters) -> tuple[Ints, Ints, Flags]:
    """Returns the seconds that local time is ahead of UTC, where the text before that ends, and whether it is right."""
    lengths = texts.lengths
    is_utc = (texts.at(lengths - 1) == ord("Z")) & (lengths > 16)
    offset, ends, right = np.zeros(len(lengths), np.int64), lengths - is_utc, np.ones(len(lengths), np.bool_)
    for size, colon in ((5, 0), (6, 1)):
        sign = texts.at(lengths - size)
        there = ((sign == ord("+")) | (sign == ord("-"))) & (lengths >= 16 + size)
        if colon:
            there &= texts.at(lengths - 3) == ord(":")
        (hours, first), (minutes, last) = texts.digits(lengths - size + 1, 2), texts.digits(lengths - 2, 2)
        there &= first & last
        right &= ~there | ((hours < 24) & (minutes < 60))
        offset = np.where(there, np.where(sign == ord("-"), -60, 60) * (hours * 60 + minutes), offset)
        ends = np.where(there, lengths - size, ends)
    return offset, ends, right


def _date(texts: _Characters) -> tuple[Ints, Flags]:
    """Returns days since 1970 of the date at the beginning, and whether it is one."""
    (year, one), (month, two), (day, three) = texts.digits(0, 4), texts.digits(5, 2), texts.digits(8, 2)
    right = one & two & three & (texts.at(4) == ord("-")) & (texts.at(7) == ord("-")) & (texts.lengths >= 10)
    months = (year - 1970) * 12 + month - 1
    first, behind = (_first_days(months + more) for more in (0, 1))
    days = first + day - 1
    right &= (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (days < behind)
    return days, right


def _time(texts: _Characters, ends: Ints) -> tuple[Ints, Flags]:
    """Returns seconds since midnight of the time behind the date, and whether it is one."""
    (hour, one), (minute, two), (second, three) = (texts.digits(place, 2) for place in (_HOUR, _MINUTE, _SECOND))
    between = texts.at(10)
    right = one & two & ((between == ord("T")) | (between == ord(" "))) & (texts.at(13) == ord(":"))
    has_second = ends > 16
    right &= ~has_second | (three & (texts.at(16) == ord(":")) & (ends >= 19))
    second = np.where(has_second, second, 0)
    right &= (hour < 24) & (minute < 60) & (second < 60) & (ends >= 16)
    return hour * 3600 + minute * 60 + second, right


def _fraction(texts: _Characters, ends: Ints) -> tuple[Ints, Flags]:
    """Returns the microseconds behind the seconds, smaller parts cut, and whether there is nothing else."""
    there = ends > 19
    if not there.any():
        return np.zeros(len(ends), np.int64), np.ones(len(ends), np.bool_)
    point = texts.at(19)
    right = ((point == ord(".")) | (point == ord(","))) & (ends > _FRACTION)
    right &= texts.all_digits(_FRACTION, np.maximum(ends, 0))
    micros = np.zeros(len(ends), np.int64)
    for place in range(6):
        digit = texts.at(_FRACTION + place).astype(np.int64) - 48
        micros = micros * 10 + np.where(_FRACTION + place < ends, digit, 0)
    return np.where(there, micros, 0), ~there | right


def _moment(x: Ints, a_second: int) -> _Moment:
    days = x // (a_second * _DAY) if a_second else x
    check_values((days < _FIRST_DAY) | (days > _LAST_DAY), _YEARS)
    return _Moment(days, x % (a_second * _DAY) // a_second if a_second else np.zeros_like(x))


def _counted(x: Values, unit: str | None) -> tuple[Ints, int]:
    """Returns times as integers, and how many of their unit a second has."""
    return (_parsed(x), UNITS["us"]) if isinstance(x, pa.Array) else (x, UNITS[str(unit)])


def time_part(x: Values, part: str, unit: str | None = None) -> Ints:
    """Returns a part of each time.

    Raises:
      ValueFaultsError: for a text that is no time, or a time outside of the years 1 to 9999.
    """
    return _PART[part](_moment(*_counted(x, unit)))


def _years(days: Ints) -> Ints:
    """Returns years since 1970."""
    return days.astype("M8[D]").astype("M8[Y]").astype(np.int64)


def _months(days: Ints) -> Ints:
    """Returns months since 1970."""
    return days.astype("M8[D]").astype("M8[M]").astype(np.int64)


def _first_days(months: Ints) -> Ints:
    """Returns the first day of each month since 1970."""
    return months.astype("M8[M]").astype("M8[D]").astype(np.int64)


def _day_of_year(days: Ints) -> Ints:
    return days - _years(days).astype("M8[Y]").astype("M8[D]").astype(np.int64) + 1


def _weekday(days: Ints) -> Ints:
    return (days + 3) % 7


def _week(moment: _Moment) -> Ints:
    """A week belongs to the year of its Thursday."""
    return (_day_of_year(moment.days - _weekday(moment.days) + 3) - 1) // 7 + 1


_PART: Mapping[str, Callable[[_Moment], Ints]] = {
    "year": lambda moment: _years(moment.days) + 1970,
    "quarter": lambda moment: _months(moment.days) % 12 // 3 + 1,
    "month": lambda moment: _months(moment.days) % 12 + 1,
    "week": _week,
    "day": lambda moment: moment.days - _first_days(_months(moment.days)) + 1,
    "weekday": lambda moment: _weekday(moment.days),
    "day_of_year": lambda moment: _day_of_year(moment.days),
    "hour": lambda moment: moment.seconds // 3600,
    "minute": lambda moment: moment.seconds // 60 % 60,
    "second": lambda moment: moment.seconds % 60,
}


def wave(function: Callable[[float], float]) -> Callable[..., npt.NDArray[np.float32]]:
    """Makes the sine or cosine of a part, float32, from the table that TensorFlow's lane has, too."""

    def call(x: Values, part: str, unit: str | None = None) -> npt.NDArray[np.float32]:
        least, count = PARTS[part]
        table = np.array([function(2 * math.pi * index / count) for index in range(count)]).astype(np.float32)
        return table[time_part(x, part, unit) - least]

    return call


def days_since(
    x: Values, y: Values = None, time: int | None = None, unit: str | None = None
) -> npt.NDArray[np.float32]:
    """Returns the days from the second time to the first, float32; the second may be in microseconds instead.

    TensorFlow's graph divides by the seconds of a day through their reciprocal; the float32 is the same or next to it.

    Raises:
      ValueFaultsError: for a text that is no time, or a time outside of the years 1 to 9999.
    """
    one = _counted(x, unit)
    other = (np.array([time], np.int64), UNITS["us"]) if y is None else _counted(y, unit)
    first, second = _moment(*one), _moment(*other)
    rest = _rest(*one) - _rest(*other)
    seconds = (first.seconds - second.seconds).astype(np.float64)
    days = (first.days - second.days).astype(np.float64) + (seconds + rest) / _DAY
    return days.astype(np.float32)


def _rest(x: Ints, a_second: int) -> npt.NDArray[np.float64]:
    """Returns the fraction of a second."""
    return (x % (a_second or 1)).astype(np.float64) / (a_second or 1)
