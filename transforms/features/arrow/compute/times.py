"""Operations on times: integers of a unit since 1970, or texts in ISO 8601. All arithmetic is that of int64."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.transforms.features.arrow.compute.columns import Flags, Ints, check_values
from penstock.transforms.features.operations.times import PARTS, UNITS

_DAY = 86_400
_ISO = (
    r"\A(?P<year>[0-9]{4})-(?P<month>[0-9]{2})-(?P<day>[0-9]{2})"
    r"(?:[T ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?"
    r"(?:Z|(?P<sign>[+-])(?P<hours>[0-9]{2}):?(?P<minutes>[0-9]{2}))?)?\z"
)
# Days since 1970 of the first day of the year 1 and of the last of 9999.
_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896
_YEARS = "a time is outside of the years 1 to 9999; is its unit right?"
_NO_TIME = "a text is no time in ISO 8601, such as 2026-01-31T17:05:09Z"


class _Moment(NamedTuple):
    """Days since 1970, seconds since midnight, both int64; and the fraction of a second, float64."""

    days: Ints
    seconds: Ints
    rest: npt.NDArray[np.float64]


def parse_time(x: pa.Array, unit: str) -> Ints:
    """Returns the time that each text spells, int64.

    Raises:
      ValueFaultsError: for other texts, and for a time that int64 cannot hold.
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
    """Returns microseconds since 1970; of texts that occur often, each is read once."""
    encoded = x.dictionary_encode()
    micros, valid = _read(encoded.dictionary)
    codes = encoded.indices.to_numpy()
    check_values(~valid[codes], _NO_TIME)
    return micros[codes]


def _read(texts: pa.Array) -> tuple[Ints, Flags]:
    """Returns microseconds since 1970, and which texts are times."""
    # Latin-1 has a character for each byte, so that any bytes are a text; digits are the same.
    parts = pc.extract_regex(texts, _ISO)
    matched = parts.is_valid().to_numpy(zero_copy_only=False)

    def part(name: str) -> Ints:
        digits = pc.struct_field(parts, name).fill_null(b"")
        return pc.cast(pc.if_else(pc.equal(digits, b""), b"0", digits).cast(pa.string()), pa.int64()).to_numpy()

    year, month, day, hour, minute, second, hours, minutes = map(
        part, ("year", "month", "day", "hour", "minute", "second", "hours", "minutes")
    )
    fraction = pc.binary_join_element_wise(pc.struct_field(parts, "fraction").fill_null(b""), b"000000", b"")
    micros = pc.cast(pc.binary_slice(fraction, 0, 6).cast(pa.string()), pa.int64()).to_numpy()
    is_behind = pc.equal(pc.struct_field(parts, "sign").fill_null(b""), b"-").to_numpy(zero_copy_only=False)
    offset = np.where(is_behind, -1, 1) * (hours * 60 + minutes) * 60
    days = _days(year, month, day)
    valid = matched & (month >= 1) & (month <= 12) & (day >= 1) & (year >= 1) & (_civil(days)[2] == day)
    valid &= (hour < 24) & (minute < 60) & (second < 60) & (hours < 24) & (minutes < 60)
    seconds = days * _DAY + hour * 3600 + minute * 60 + second - offset
    return seconds * 10**6 + micros, valid


def _days(year: Ints, month: Any, day: Any) -> Ints:
    """Returns the days since 1970 of a date of the Gregorian calendar.

    Years begin with March, so that the leap day is the last of its year; 400 years are an era of 146,097 days.
    """
    shifted = (month + 9) % 12
    since = year - shifted // 10
    before = since * 365 + since // 4 - since // 100 + since // 400
    return before + (153 * shifted + 2) // 5 + day - 1 - 719_468


def _civil(days: Ints) -> tuple[Ints, Ints, Ints]:
    """Returns year, month and day."""
    era, rest = (days + 719_468) // 146_097, (days + 719_468) % 146_097
    of_era = (rest - rest // 1460 + rest // 36_524 - rest // 146_096) // 365
    of_year = rest - (365 * of_era + of_era // 4 - of_era // 100)
    shifted = (5 * of_year + 2) // 153
    month = (shifted + 2) % 12 + 1
    return era * 400 + of_era + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _moment(x: Any, unit: str | None) -> _Moment:
    if isinstance(x, pa.Array):
        x, unit = _parsed(x), "us"
    a_second = UNITS[str(unit)]
    days = x // (a_second * _DAY) if a_second else x
    check_values((days < _FIRST_DAY) | (days > _LAST_DAY), _YEARS)
    seconds = x % (a_second * _DAY) // a_second if a_second else np.zeros_like(x)
    return _Moment(days, seconds, (x % (a_second or 1)).astype(np.float64) / (a_second or 1))


def time_part(x: Any, part: str, unit: str | None = None) -> Ints:
    """Returns a part of each time, int64.

    Raises:
      ValueFaultsError: for a text that is no time, and for a time outside of the years 1 to 9999.
    """
    return _PART[part](_moment(x, unit))


def _weekday(moment: _Moment) -> Ints:
    return (moment.days + 3) % 7


def _week(moment: _Moment) -> Ints:
    """A week belongs to the year of its Thursday."""
    thursday = moment.days - _weekday(moment) + 3
    return (thursday - _days(_civil(thursday)[0], 1, 1)) // 7 + 1


_PART: Mapping[str, Callable[[_Moment], Ints]] = {
    "year": lambda moment: _civil(moment.days)[0],
    "quarter": lambda moment: (_civil(moment.days)[1] + 2) // 3,
    "month": lambda moment: _civil(moment.days)[1],
    "week": _week,
    "day": lambda moment: _civil(moment.days)[2],
    "weekday": _weekday,
    "day_of_year": lambda moment: moment.days - _days(_civil(moment.days)[0], 1, 1) + 1,
    "hour": lambda moment: moment.seconds // 3600,
    "minute": lambda moment: moment.seconds // 60 % 60,
    "second": lambda moment: moment.seconds % 60,
}


def wave(function: Callable[[float], float]) -> Callable[..., npt.NDArray[np.float32]]:
    """Makes the sine or cosine of a part, from a table."""

    def call(x: Any, part: str, unit: str | None = None) -> npt.NDArray[np.float32]:
        least, count = PARTS[part]
        table = np.array([function(2 * math.pi * index / count) for index in range(count)], np.float32)
        return table[time_part(x, part, unit) - least]

    return call


def days_since(x: Any, y: Any = None, time: int | None = None, unit: str | None = None) -> npt.NDArray[np.float32]:
    """Returns the days from the second time to the first, float32; the second may be in microseconds instead.

    Raises:
      ValueFaultsError: as `time_part`.
    """
    first = _moment(x, unit)
    second = _moment(np.array([time], np.int64), "us") if y is None else _moment(y, unit)
    seconds = (first.seconds - second.seconds).astype(np.float64)
    days = (first.days - second.days).astype(np.float64) + (seconds + (first.rest - second.rest)) / _DAY
    return days.astype(np.float32)
