"""Operations on times: integers of a unit since 1970, or texts in ISO 8601. All arithmetic is that of int64."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from penstock.transforms.features.compute.columns import Values, checked
from penstock.transforms.features.compute.modules import Tensorflow
from penstock.transforms.features.operations.times import PARTS, UNITS

_DAY = 86_400
_ISO = (
    r"\A([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]+))?)?"
    r"(?:Z|([+-])([0-9]{2}):?([0-9]{2}))?)?\z"
)
# Days since 1970 of the first day of the year 1 and of the last of 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_YEARS = "a time is outside of the years 1 to 9999; is its unit right?"
_NO_TIME = "a text is no time in ISO 8601, such as 2026-01-31T17:05:09Z"


class _Moment(NamedTuple):
    """Days since 1970, and the seconds since midnight, int64."""

    days: Values
    seconds: Values


def parse_time(t: Tensorflow, x: Values, unit: str) -> Values:
    """Returns the time that each text spells, int64."""
    micros = _parsed(t, x)
    if unit == "d":
        return micros // (_DAY * 10**6)
    if unit != "ns":
        return micros // (10**6 // UNITS[unit])
    most = 2**63 // 1000
    within = t.tf.reduce_all((micros < most) & (micros > -most))
    return 1000 * checked(t, within, "a time in ns is beyond int64", micros)


def _parsed(t: Tensorflow, x: Values) -> Values:
    """Returns microseconds since 1970, int64; the graph fails on other texts."""
    tf = t.tf
    matched = tf.strings.regex_full_match(x, _ISO)
    x = checked(t, tf.reduce_all(matched), _NO_TIME, x)

    def part(group: int) -> Values:
        # A group that is not there is empty.
        digits = tf.strings.join(["0", tf.strings.regex_replace(x, _ISO, rf"\{group}")])
        return tf.strings.to_number(digits, tf.int64)

    year, month, day, hour, minute, second = map(part, range(1, 7))
    fraction = tf.strings.regex_replace(tf.strings.regex_replace(x, _ISO, r"\7"), r"\A(.{0,6}).*\z", r"\1")
    micros = tf.strings.to_number(tf.strings.substr(tf.strings.join([fraction, "000000"]), 0, 6), tf.int64)
    behind = tf.where(tf.strings.regex_replace(x, _ISO, r"\8") == "-", -1, 1)
    hours, minutes = _last_groups(t, x)
    offset = tf.cast(behind, tf.int64) * (hours * 60 + minutes) * 60
    days = _days(year, month, day)
    valid = (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1) & (_civil(t, days)[2] == day)
    valid &= (hour < 24) & (minute < 60) & (second < 60) & (hours < 24) & (minutes < 60)
    seconds = days * _DAY + hour * 3600 + minute * 60 + second - offset
    return checked(t, tf.reduce_all(valid), _NO_TIME, seconds * 10**6 + micros)


def _last_groups(t: Tensorflow, x: Values) -> tuple[Values, Values]:
    """Returns hours and minutes of the offset; a rewrite knows no group beyond 9."""
    strings = t.tf.strings
    pattern = r"\A.*[T ].*[+-]([0-9]{2}):?([0-9]{2})\z"
    there = strings.regex_full_match(x, pattern)
    hours, minutes = (t.tf.where(there, strings.regex_replace(x, pattern, rf"\{group}"), "0") for group in (1, 2))
    return strings.to_number(hours, t.tf.int64), strings.to_number(minutes, t.tf.int64)


def _days(year: Values, month: Values, day: Values) -> Values:
    """Returns the days since 1970 of a date of the Gregorian calendar.

    Years begin with March, so that the leap day is the last of its year; 400 years are an era of 146,097 days.
    """
    shifted = (month + 9) % 12
    since = year - shifted // 10
    before = since * 365 + since // 4 - since // 100 + since // 400
    return before + (153 * shifted + 2) // 5 + day - 1 - 719_468


def _civil(t: Tensorflow, days: Values) -> tuple[Values, Values, Values]:
    """Returns year, month and day."""
    era, rest = (days + 719_468) // 146_097, (days + 719_468) % 146_097
    of_era = (rest - rest // 1460 + rest // 36_524 - rest // 146_096) // 365
    of_year = rest - (365 * of_era + of_era // 4 - of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = (shifted + 2) % 12 + 1
    year = era * 400 + of_era + t.tf.cast(month <= 2, t.tf.int64)
    return year, month, of_year - (153 * shifted + 2) // 5 + 1


def _moment(t: Tensorflow, x: Values, unit: str | None) -> _Moment:
    if x.dtype == t.tf.string:
        x, unit = _parsed(t, x), "us"
    a_second = UNITS[str(unit)]
    days = x // (a_second * _DAY) if a_second else x
    within = t.tf.reduce_all((days >= _FIRST_DAY) & (days <= _LAST_DAY))
    days = checked(t, within, _YEARS, days)
    return _Moment(days, x % (a_second * _DAY) // a_second if a_second else t.tf.zeros_like(x))


def time_part(t: Tensorflow, x: Values, part: str, unit: str | None = None) -> Values:
    """Returns a part of each time, int64."""
    return _PART[part](t, _moment(t, x, unit))


def _weekday(_: Tensorflow, moment: _Moment) -> Values:
    return (moment.days + 3) % 7


def _week(t: Tensorflow, moment: _Moment) -> Values:
    """A week belongs to the year of its Thursday."""
    thursday = moment.days - _weekday(t, moment) + 3
    year, _, _ = _civil(t, thursday)
    return (thursday - _days(year, t.tf.ones_like(year), 1)) // 7 + 1


def _day_of_year(t: Tensorflow, moment: _Moment) -> Values:
    year, _, _ = _civil(t, moment.days)
    return moment.days - _days(year, t.tf.ones_like(year), 1) + 1


_PART: Mapping[str, Callable[[Tensorflow, _Moment], Values]] = {
    "year": lambda t, moment: _civil(t, moment.days)[0],
    "quarter": lambda t, moment: (_civil(t, moment.days)[1] + 2) // 3,
    "month": lambda t, moment: _civil(t, moment.days)[1],
    "week": _week,
    "day": lambda t, moment: _civil(t, moment.days)[2],
    "weekday": _weekday,
    "day_of_year": _day_of_year,
    "hour": lambda t, moment: moment.seconds // 3600,
    "minute": lambda t, moment: moment.seconds // 60 % 60,
    "second": lambda t, moment: moment.seconds % 60,
}


def wave(function: Callable[[float], float]) -> Callable[..., Values]:
    """Makes the sine or cosine of a part; from a table, since TensorFlow's last bit depends on the batch."""

    def call(t: Tensorflow, x: Values, part: str, unit: str | None = None) -> Values:
        least, count = PARTS[part]
        table = [function(2 * math.pi * index / count) for index in range(count)]
        return t.tf.gather(t.tf.constant(table, t.tf.float32), time_part(t, x, part, unit) - least)

    return call


def days_since(t: Tensorflow, x: Values, y: Values = None, time: int | None = None, unit: str | None = None) -> Values:
    """Returns the days from the second time to the first, float32; the second may be in microseconds instead."""
    tf = t.tf
    first = _moment(t, x, unit)
    then = tf.constant([time], tf.int64) if y is None else y
    second = _moment(t, then, "us" if y is None else unit)
    seconds = tf.cast(first.seconds - second.seconds, tf.float64)
    rest = _rest(t, x, unit) - _rest(t, then, "us" if y is None else unit)
    days = tf.cast(first.days - second.days, tf.float64) + (seconds + rest) / _DAY
    return tf.cast(days, tf.float32)


def _rest(t: Tensorflow, x: Values, unit: str | None) -> Any:
    """Returns the fraction of a second, float64."""
    if x.dtype == t.tf.string:
        x, unit = _parsed(t, x), "us"
    a_second = UNITS[str(unit)] or 1
    return t.tf.cast(x % a_second, t.tf.float64) / a_second
