"""Event time: when each row happened, from a column of the data (`penstock.io.columns.event_times`)."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from penstock.io.batches import TakesBatches, drop_rows
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.event_times import Unit, assign_event_time, parse_event_time
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import row_letters
from penstock.io.reserved import EVENT_TIME

_STAGE = "validate"


@dataclasses.dataclass(eq=False)
class AssignEventTime(TakesBatches, RejectingTransform):
    """Adds `_event_time` to every batch.

    The Beam timestamp of a batch becomes the event time of its earliest row.

    A row without a time is rejected: `event_time.missing` for null, `event_time.invalid` for a value that is no time.
    Batches stay in the window they came in; the times of rows in one batch may be far apart.

    Attributes:
      event_time: `COLUMN`, or `COLUMN:s|ms|us|ns` for a column of numbers.

    Raises:
      ConfigError: when no column is named.
    """

    event_time: str

    def __post_init__(self) -> None:
        super().__init__()
        self._column, self._unit = parse_event_time(self.event_time)

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[pa.RecordBatch]:
        """Adds one step, which handles each row independently."""
        assign = beam.ParDo(_AssignEventTimeFn(self._column, self._unit)).with_output_types(pa.RecordBatch)
        good, rejected = split_rejected(batches | "AssignEventTime" >> assign.with_outputs(REJECTED, main="out"))
        self._reject(rejected)
        return good


class _AssignEventTimeFn(beam.DoFn):
    def __init__(self, column: str, unit: Unit | None):
        self._column = column
        self._unit = unit
        self._counters = RowCounters("AssignEventTime")

    def process(self, batch: pa.RecordBatch) -> Iterator[Any]:
        timed, reasons = assign_event_time(batch, self._column, self._unit)
        self._counters.add(in_rows=batch.num_rows, bad_rows=len(reasons))
        if reasons:
            yield from reject(row_letters(batch, reasons, _STAGE))
            timed = drop_rows(timed, reasons)
        if timed.num_rows:
            earliest = pc.min(timed.column(EVENT_TIME).cast(pa.int64())).as_py()
            yield TimestampedValue(timed, Timestamp(micros=earliest))
