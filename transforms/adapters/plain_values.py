"""Makes Python's own values of those of other packages: numpy, pandas, Beam."""

import dataclasses
import datetime
import decimal
from collections.abc import Mapping
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.utils.timestamp import Timestamp

# What Arrow takes as it is.
PLAIN = (
    bool,
    int,
    float,
    str,
    bytes,
    decimal.Decimal,
    datetime.datetime,
    datetime.date,
    datetime.time,
    datetime.timedelta,
    list,
)
PLAIN_TYPES = frozenset(PLAIN)

_UTC = datetime.UTC


class StrangeValueError(ValueError):
    """A value that no column can hold."""


def plain_value(value: Any) -> Any:
    """Returns a value of one of `PLAIN`, a mapping, or None for what is missing.

    The items of a list are left as they are.

    Raises:
      StrangeValueError: when that would lose something, or the type is unknown.
    """
    if value is None or type(value) in PLAIN_TYPES:
        return value
    if isinstance(value, np.ndarray | np.generic):
        return _of_numpy(value)
    fields = as_mapping(value)
    return _of_subclass(value) if fields is None else fields


def as_mapping(value: Any) -> Mapping[Any, Any] | None:
    """Returns the fields of a mapping, a row of Beam, a named tuple or a dataclass; None for anything else.

    >>> as_mapping(beam.Row(a=1)), as_mapping(3)
    ({'a': 1}, None)
    """
    if isinstance(value, Mapping):
        return value
    if isinstance(value, beam.Row):
        return value.as_dict()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return dict(zip(value._fields, value, strict=True))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return None


def _of_subclass(value: Any) -> Any:
    """Handles subclasses and other spellings of the plain types."""
    match value:
        case bytearray() | memoryview():
            return bytes(value)
        case tuple():
            return list(value)
        case datetime.datetime():
            return _datetime(value)
        case datetime.timedelta():
            return _duration(value)
        case str():
            return str.__str__(value)
        case int():
            return int(value)
        case float():
            return float(value)
        case bytes() | list():
            return value[:]
        case datetime.date() | datetime.time() | decimal.Decimal():
            return value
        case Timestamp():
            return _beam_time(value)
    if type(value).__name__ == "NAType":  # pandas.NA
        return None
    raise StrangeValueError(f"a {type(value).__name__}, which no column can hold")


def _datetime(value: datetime.datetime) -> datetime.datetime | None:
    if value != value:  # pandas.NaT
        return None
    if getattr(value, "nanosecond", 0):
        raise StrangeValueError("a time with nanoseconds, which Python has not: FromTables keeps them")
    date, time = datetime.date(value.year, value.month, value.day), value.time().replace(fold=value.fold)
    return datetime.datetime.combine(date, time, value.tzinfo)


def _duration(value: datetime.timedelta) -> datetime.timedelta | None:
    if value != value:
        return None
    if getattr(value, "nanoseconds", 0):
        raise StrangeValueError("a duration with nanoseconds, which Python has not: FromTables keeps them")
    return datetime.timedelta(value.days, value.seconds, value.microseconds)


def _beam_time(value: Timestamp) -> datetime.datetime:
    try:
        return datetime.datetime(1970, 1, 1, tzinfo=_UTC) + datetime.timedelta(microseconds=value.micros)
    except OverflowError as error:
        raise StrangeValueError(f"the time {value}, outside the years 1 to 9999") from error


def _of_numpy(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.ndim > 1:
        raise StrangeValueError(f"an array of {value.ndim} dimensions; a column holds lists of values: flatten it")
    if value.dtype.kind in "mM":
        return _of_numpy_times(value)
    plain = value.tolist()
    if type(plain) in PLAIN_TYPES or plain is None:
        return plain
    raise StrangeValueError(f"a {value.dtype} of numpy, which no column can hold")


def _of_numpy_times(value: Any) -> Any:
    """Converts datetime64 and timedelta64, which numpy would make integers of if they are finer than microseconds."""
    micros = value.astype(f"{value.dtype.kind}8[us]")
    if not np.array_equal(micros, value, equal_nan=True):
        raise StrangeValueError(f"{value.dtype} finer than microseconds or beyond them: FromTables keeps it")
    plain = micros.tolist()
    items = plain if isinstance(plain, list) else [plain]
    if any(isinstance(item, int) for item in items):
        raise StrangeValueError(f"a {value.dtype} outside the years 1 to 9999")
    return plain
