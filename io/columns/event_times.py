"""Event time: when each row happened, from a column of the data.

==================  ============================================================================================
column              read as
==================  ============================================================================================
text                ISO 8601: `2013-01-01`, `2013-01-01 05:15`, `2013-01-01T05:15:00.25+01:00`, `...Z`; UTC where
                    no offset is given; digits beyond microseconds are cut off
INT, FLOAT          seconds, ms, us or ns since 1970-01-01 UTC: the unit must be named, as in `pickup:s`
timestamp, date     as it is; UTC where it has no time zone
==================  ============================================================================================

`_event_time` holds microseconds: finer times are rounded down, and a FLOAT to the nearest microsecond. Years 1 to 9999
are accepted. Of a stream, a time that is far ahead of the clock is a fault (`future_reasons`): no row tells of what has
not happened yet, and a watermark that follows such a row makes all others late.
"""

import dataclasses
import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import set_column
from penstock.io.beam.durations import duration_text, micros
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import column_of, is_text, shown
from penstock.io.errors import ConfigError
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME
from penstock.io.schema import Feature, Kind, find_feature

Unit = Literal["s", "ms", "us", "ns"]

# Microseconds since 1970, UTC.
Micros = int

# The code of rows whose time is too far ahead of the clock.
FUTURE = "future"

# Units per second.
_UNITS: Mapping[str, int] = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_MICROS = 1_000_000

TIME_TYPE = pa.timestamp("us", "UTC")

_EPOCH = datetime.datetime(1970, 1, 1)
_FIRST_SECOND = (datetime.datetime(1, 1, 1) - _EPOCH) // datetime.timedelta(seconds=1)
_LAST_SECOND = (datetime.datetime(9999, 12, 31, 23, 59, 59) - _EPOCH) // datetime.timedelta(seconds=1)

_HAS_OFFSET = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"

# Arrow spends half a microsecond on each text that it cannot cast, so try a few texts first.
_PROBES = 32


def parse_event_time(text: str) -> tuple[str, Unit | None]:
    """Parses the column and the unit of `COLUMN` or `COLUMN:s|ms|us|ns`.

    >>> parse_event_time("pickup:ms"), parse_event_time("a:b")
    (('pickup', 'ms'), ('a:b', None))

    Raises:
      ConfigError: when no column is named.
    """
    column, colon, unit = text.rpartition(":")
    if not colon or unit not in _UNITS:
        column, unit = text, ""
    if not column:
        raise ConfigError(f"--event_time must be COLUMN or COLUMN:s|ms|us|ns, got {text!r}")
    return column, unit or None  # type: ignore[return-value]


def check_event_time(text: str, features: Sequence[Feature]) -> None:
    """Checks that a schema can provide this event time.

    Raises:
      ConfigError: when the column is unknown or multivalued, a number has no unit, or a text has one.
    """
    column, unit = parse_event_time(text)
    found = find_feature(column, features, "--event_time")
    if found.multivalued:
        raise ConfigError(f"--event_time {column!r} is multivalued; a row has one time")
    if found.kind is not Kind.BYTES and unit is None:
        raise ConfigError(f"--event_time {column!r} is {found.kind.value}; name its unit: {_spellings(column)}")
    if found.kind is Kind.BYTES and unit is not None:
        raise ConfigError(f"--event_time {column!r} is text, which is ISO 8601 and has no unit; leave {unit!r} out")


def _spellings(column: str) -> str:
    return " or ".join(f"{column}:{unit}" for unit in _UNITS)


def event_times(column: pa.Array, unit: Unit | None = None) -> pa.Array:
    """Converts values to timestamp[us, UTC]; a value that is null, or no time of the years 1 to 9999, becomes null.

    Raises:
      ConfigError: for a number without a unit, or a type that holds no time.
    """
    types = pa.types
    column = list_column(column).single_values()
    if types.is_null(column.type):
        return pa.nulls(len(column), TIME_TYPE)
    if is_text(column.type):
        return _in_range(_parse_texts(column))
    if types.is_timestamp(column.type):
        return _from_integers(column.cast(pa.int64()), column.type.unit)
    if types.is_date(column.type):
        return _from_integers(column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()), "days")
    if not (types.is_integer(column.type) or types.is_floating(column.type)):
        raise ConfigError(f"--event_time: a column of type {column.type} holds no time")
    if unit is None:
        raise ConfigError(f"--event_time: a column of type {column.type} needs a unit: {_spellings('COLUMN')}")
    return _from_floats(column, unit) if types.is_floating(column.type) else _from_integers(column, unit)


def _from_integers(values: pa.Array, unit: str) -> pa.Array:
    present = pc.is_valid(values).to_numpy(zero_copy_only=False)
    numbers = pc.fill_null(values, 0).to_numpy(zero_copy_only=False)
    first, last = _limits(unit)
    good = present & (numbers >= first) & (numbers <= last)
    kept = np.where(good, numbers, 0).astype(np.int64)
    micros = kept * 86_400 * _MICROS if unit == "days" else _to_micros(kept, _UNITS[unit])
    return pa.array(micros, pa.int64(), mask=~good).cast(TIME_TYPE)


def _limits(unit: str) -> tuple[int, int]:
    """Returns the least and the greatest int64 of a unit that lie within the years 1 to 9999."""
    if unit == "days":
        return _FIRST_SECOND // 86_400, _LAST_SECOND // 86_400
    scale, whole = _UNITS[unit], np.iinfo(np.int64)
    return max(_FIRST_SECOND * scale, whole.min), min((_LAST_SECOND + 1) * scale - 1, whole.max)


def _to_micros(values: npt.NDArray[np.int64], scale: int) -> npt.NDArray[np.int64]:
    return values * (_MICROS // scale) if scale <= _MICROS else values // (scale // _MICROS)


def _from_floats(values: pa.Array, unit: str) -> pa.Array:
    numbers = pc.fill_null(values.cast(pa.float64()), np.nan).to_numpy(zero_copy_only=False)
    micros = np.floor(numbers * (_MICROS / _UNITS[unit]) + 0.5)
    good = (micros >= _FIRST_SECOND * _MICROS) & (micros < (_LAST_SECOND + 1) * _MICROS)
    return pa.array(np.where(good, micros, 0).astype(np.int64), pa.int64(), mask=~good).cast(TIME_TYPE)


def _in_range(times: pa.Array) -> pa.Array:
    """Makes times outside the years 1 to 9999 null; an offset may lead there."""
    return _from_integers(times.cast(pa.int64()), "us")


def _parse_texts(column: pa.Array) -> pa.Array:
    texts = _valid_texts(column)
    for arrow_type in (TIME_TYPE, pa.timestamp("us")):
        try:
            texts[:_PROBES].cast(arrow_type)
            return texts.cast(arrow_type).cast(pa.int64()).cast(TIME_TYPE)
        except pa.ArrowInvalid:
            # A column of mixed formats, or one with bad texts: the casts below go row by row.
            continue
    texts = pc.replace_substring_regex(texts, r"(\.\d{6})\d+", r"\1")
    zoned = pc.match_substring_regex(texts, _HAS_OFFSET)
    with_offset = _cast_or_null(pc.if_else(zoned, texts, None), TIME_TYPE)
    without = _cast_or_null(pc.if_else(zoned, None, texts), pa.timestamp("us"))
    return pc.coalesce(with_offset, without.cast(pa.int64()).cast(TIME_TYPE))


def _valid_texts(column: pa.Array) -> pa.Array:
    content = column.cast(pa.binary())
    try:
        return content.cast(pa.string())
    except pa.ArrowInvalid:
        # Every byte of a time is ASCII.
        ascii_only = pc.match_substring_regex(content, r"^[\x00-\x7f]*$")
        return pc.if_else(ascii_only, content, None).cast(pa.string())


def _cast_or_null(texts: pa.Array, arrow_type: pa.DataType) -> pa.Array:
    """Casts texts and makes those that fail null, halving the array until they are alone."""
    try:
        return texts.cast(arrow_type)
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return pa.nulls(1, arrow_type)
    half = len(texts) // 2
    return pa.concat_arrays([_cast_or_null(part, arrow_type) for part in (texts[:half], texts[half:])])


def assign_event_time(
    batch: pa.RecordBatch, column: str, unit: Unit | None = None
) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
    """Adds `_event_time` to a batch; returns the reasons of rows that have no time, where it is null.

    A column that the batch lacks is treated as all null.

    Raises:
      ConfigError: as `event_times`.
    """
    values = column_of(batch, column)
    if values is None:
        values = pa.nulls(batch.num_rows)
    times = event_times(values, unit)
    reasons = {row: [_reason(column, values[row].as_py())] for row in _null_rows(times)}
    return set_column(batch, EVENT_TIME, times), reasons


def _null_rows(times: pa.Array) -> list[int]:
    return np.flatnonzero(pc.is_null(times).to_numpy(zero_copy_only=False)).tolist() if times.null_count else []


def _reason(column: str, value: Any) -> Reason:
    if value is None:
        return Reason("event_time.missing", f"{column} is null, every row needs an event time")
    return Reason("event_time.invalid", f"{column} is {shown(value)}, not a time between the years 1 and 9999")


def now_micros() -> Micros:
    """Returns the time of the clock."""
    return time.time_ns() // 1000


def future_reasons(
    times: pa.Array, max_ahead: datetime.timedelta | None, now: Micros | None = None
) -> dict[int, list[Reason]]:
    """Returns the reasons of rows whose time is more than `max_ahead` ahead of the clock, by row; none without one.

    Args:
      times: timestamp[us, UTC]; a null is no fault.
      max_ahead: how far ahead a time may be; None allows all.
      now: the time of the clock, if it is not the present one.
    """
    if max_ahead is None:
        return {}
    limit = (now_micros() if now is None else now) + micros(max_ahead)
    rows = np.flatnonzero(times.cast(pa.int64()).fill_null(limit).to_numpy(zero_copy_only=False) > limit).tolist()
    return {row: [_future(times[row].as_py(), max_ahead)] for row in rows}


def _future(time: datetime.datetime, max_ahead: datetime.timedelta) -> Reason:
    return Reason(
        FUTURE,
        f"the event time {time:%Y-%m-%dT%H:%M:%SZ} is more than {duration_text(max_ahead)} ahead of the clock "
        "(--max_ahead): the clock that made it, or the unit or time zone of the event time, is wrong",
    )


def without_future(times: pa.Array, max_ahead: datetime.timedelta | None, now: Micros | None = None) -> pa.Array:
    """Makes the times null that `future_reasons` refuses."""
    ahead = [*future_reasons(times, max_ahead, now)]
    return pc.if_else(pa.array(np.isin(np.arange(len(times)), ahead)), None, times) if ahead else times


@dataclasses.dataclass(frozen=True)
class LetterTimes:
    """Reads the event times of rows that are rejected before all rows get theirs.

    Attributes:
      event_time: `COLUMN` or `COLUMN:unit`.
      max_ahead: how far ahead of the clock a time is believed; None believes all.
    """

    event_time: str
    max_ahead: datetime.timedelta | None = None

    def read(self, batch: pa.RecordBatch, rows: Iterable[int]) -> pa.Array:
        """Returns the times of some rows, in their order: timestamp[us, UTC], null where none can be believed."""
        taken = batch.take(pa.array(sorted(rows), pa.int64()))
        times = assign_event_time(taken, *parse_event_time(self.event_time))[0].column(EVENT_TIME)
        return without_future(times, self.max_ahead)


def letter_times(event_time: str | None, max_ahead: datetime.timedelta | None) -> LetterTimes | None:
    """Returns what reads the times of rejected rows; None if rows have no event time."""
    return LetterTimes(event_time, max_ahead) if event_time else None
