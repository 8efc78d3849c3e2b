"""Event time: when each row happened, from a column of the data (`penstock.io.columns.event_times`)."""

import dataclasses
import datetime
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from penstock.io.batches import TakesBatches, check_different_names, drop_rows
from penstock.io.beam.durations import AnyDuration, as_duration
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.event_times import Unit, assign_event_time, future_reasons, parse_event_time
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.reserved import EVENT_TIME

_STAGE = "validate"


@dataclasses.dataclass(eq=False)
class AssignEventTime(TakesBatches, RejectingTransform):
    """Adds `_event_time` to every batch.

    The Beam timestamp of a batch becomes the event time of its earliest row.

    A row without a time is rejected: `event_time.missing` for null, `event_time.invalid` for a value that is no time,
    and `future` for a time that is too far ahead of the clock when the row comes.
    Batches stay in the window they came in; the times of rows in one batch may be far apart.

    Attributes:
      event_time: `COLUMN`, or `COLUMN:s|ms|us|ns` for a column of numbers.
      max_ahead: how far ahead of the clock a row may be, as a timedelta or text such as `1h`; None allows all.

    Raises:
      ConfigError: when no column is named, or `max_ahead` is no duration.
    """

    event_time: str
    max_ahead: AnyDuration | None = None

    def __post_init__(self) -> None:
        super().__init__()
        self._column, self._unit = parse_event_time(self.event_time)
        self._max_ahead = None if self.max_ahead is None else as_duration(self.max_ahead, "max_ahead")

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which handles each row independently."""
        fn = _AssignEventTimeFn(self._column, self._unit, self._max_ahead)
        assign = beam.ParDo(fn).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "AssignEventTime" >> assign.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


class _AssignEventTimeFn(beam.DoFn):
    def __init__(self, column: str, unit: Unit | None, max_ahead: datetime.timedelta | None):
        self._column = column
        self._unit = unit
        self._max_ahead = max_ahead
        self._counters = RowCounters("AssignEventTime")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        check_different_names(batch)
        timed, reasons = assign_event_time(batch, self._column, self._unit)
        reasons |= future_reasons(timed.column(EVENT_TIME), self._max_ahead)
        self._counters.add(in_rows=batch.num_rows, bad_rows=len(reasons))
        if reasons:
            yield from reject(row_letters(timed, reasons, _STAGE))
            timed = drop_rows(timed, reasons)
        if timed.num_rows:
            earliest = pc.min(timed.column(EVENT_TIME).cast(pa.int64())).as_py()
            yield TimestampedValue(timed, Timestamp(micros=earliest))
