"""Durations: one type, `datetime.timedelta`, and the text that users write for it.

Public parameters take a timedelta or a text such as `60s`. `as_duration` turns both into a timedelta, the only type
used inside. It rejects a number, since its unit is unknown. Event times are int64, microseconds since 1970; `micros`
converts a duration that is added to them.

A command line is read before Beam and numpy are loaded, so this module does not import them.
"""

import datetime
import re
from typing import TypeAlias

from penstock.io.errors import ConfigError

AnyDuration: TypeAlias = datetime.timedelta | str

ZERO = datetime.timedelta(0)
MICROSECOND = datetime.timedelta(microseconds=1)
MILLISECOND = datetime.timedelta(milliseconds=1)

# How far ahead of the clock a row of a stream may be, unless a job says otherwise. Clocks that NTP keeps differ by less
# than a second, and others by minutes. What is left are faults, and those are larger: local time taken for UTC (an hour
# and more), another unit, days and months exchanged.
MAX_AHEAD = datetime.timedelta(hours=1)

_UNITS = {
    "ms": MILLISECOND,
    "s": datetime.timedelta(seconds=1),
    "m": datetime.timedelta(minutes=1),
    "h": datetime.timedelta(hours=1),
    "d": datetime.timedelta(days=1),
}
_TEXT = re.compile(r"([0-9]{1,13})(ms|s|m|h|d)")

# Beam's times, and with them its timers, end about here.
_LONGEST = datetime.timedelta(days=36_500)


def parse_duration(text: str) -> datetime.timedelta:
    """Parses a duration: a whole number and ms, s, m, h or d.

    >>> parse_duration("500ms"), parse_duration("5m")
    (datetime.timedelta(microseconds=500000), datetime.timedelta(seconds=300))

    Raises:
      ConfigError: when the text is anything else, or over 36,500 days.
    """
    found = _TEXT.fullmatch(text)
    if found is None:
        raise ConfigError(f"a duration must be a whole number with ms, s, m, h or d, such as 60s, got {text!r}")
    number, unit = int(found[1]), _UNITS[found[2]]
    if number > _LONGEST // unit:
        raise ConfigError(f"a duration must be at most 36500d, got {text!r}")
    return number * unit


def duration_text(duration: datetime.timedelta) -> str:
    """Writes a duration of whole milliseconds as `parse_duration` reads it.

    >>> duration_text(datetime.timedelta(seconds=300)), duration_text(datetime.timedelta(seconds=90))
    ('5m', '90s')
    """
    for name, unit in reversed(_UNITS.items()):
        if duration and not duration % unit:
            return f"{duration // unit}{name}"
    return f"{duration // MILLISECOND}ms"


def as_duration(
    value: AnyDuration, name: str, least: datetime.timedelta = ZERO, unit: datetime.timedelta = MICROSECOND
) -> datetime.timedelta:
    """Converts and checks a parameter that is a duration.

    Args:
      value: the given value.
      name: the name of the parameter, for messages.
      least: the shortest allowed duration.
      unit: the duration must be a multiple of it: a microsecond or, if timers of a runner use it, a millisecond.

    Raises:
      ConfigError: when the value is a number (which has no unit), not a duration, out of range, or not a multiple.
    """
    if isinstance(value, str):
        try:
            value = parse_duration(value)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
    if not isinstance(value, datetime.timedelta):
        raise ConfigError(f"{name} must be a duration, as text such as '60s' or a datetime.timedelta, got {value!r}")
    if not least <= value <= _LONGEST or value % unit:
        whole = ", in whole milliseconds" if unit == MILLISECOND else ""
        raise ConfigError(f"{name} must be at least {_least_text(least)} and at most 36500d{whole}, got {value!r}")
    return value


def _least_text(duration: datetime.timedelta) -> str:
    return duration_text(duration) if duration >= MILLISECOND else f"{duration.total_seconds():g}"


def micros(duration: datetime.timedelta) -> int:
    """Converts a duration to microseconds, the unit of event times.

    >>> micros(datetime.timedelta(seconds=2))
    2000000
    """
    return duration // MICROSECOND
