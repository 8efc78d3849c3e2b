"""Turns Kafka records into typed rows with origin and event time; the others become dead letters."""

import dataclasses
import datetime
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from penstock.io.batches import drop_rows, set_column, source_order
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.event_times import (
    TIME_TYPE,
    Micros,
    assign_event_time,
    future_reasons,
    parse_event_time,
    without_future,
)
from penstock.io.columns.row_notes import spread_notes
from penstock.io.dead_letters.record import DeadLetter, RejectedBatch, row_letters
from penstock.io.kafka.consumer import PolledMessages, WantedOffsets
from penstock.io.kafka.offsets import Partition
from penstock.io.kafka.source import KafkaSource
from penstock.io.messages.base import Messages
from penstock.io.messages.values import Values
from penstock.io.reasons import Reason
from penstock.io.reserved import EVENT_TIME, ORIGIN, SHUFFLE_KEY
from penstock.io.schema import Feature

# The most partitions of one topic that `_shuffle_key` keeps apart from the next topic's.
_MAX_PARTITIONS = 1 << 16

_NO_TIME = Reason("event_time.missing", "the record has no timestamp; take the event time from a column")


@dataclasses.dataclass(frozen=True, eq=False)
class MessageBatch:
    """The rows and the dead letters of some records of one partition."""

    batch: pa.RecordBatch
    rejected: Sequence[RejectedBatch]


@dataclasses.dataclass(frozen=True, eq=False)
class MessageRows:
    """Turns records into typed rows with origin and event time."""

    source: KafkaSource
    values: Values
    features: Sequence[Feature] | None
    event_time: str | None
    order_key: bool
    keep_source: bool = False
    max_ahead: datetime.timedelta | None = None

    @property
    def wanted(self) -> WantedOffsets:
        """The parts of a record that are needed."""
        return WantedOffsets(self.event_time is None, self.source.key is not None, bool(self.source.headers))

    def make(self, partition: Partition, records: PolledMessages, now: Micros) -> MessageBatch:
        """Turns each record into one row or one dead letter, which has its event time if that can be read."""
        messages = Messages(
            self.source.uri(*partition),
            pa.array(records.values, pa.large_binary()),
            records.offsets,
            pa.array(records.keys, pa.binary()) if records.keys else None,
            records.headers or None,
        )
        parsed = self.values.parse(messages)
        batch = parsed.with_source() if self.keep_source else parsed.batch
        reasons: dict[int, list[Reason]] = {}
        if self.event_time is None:
            batch, reasons = with_record_times(batch, records)
        if self.features is not None:
            batch, faults = conform_batch(batch, self.features)
            batch = spread_notes(batch)
            reasons = {row: [*faults.get(row, ()), *reasons.get(row, ())] for row in {**faults, **reasons}}
        if self.event_time is not None:
            batch, missing = assign_event_time(batch, *parse_event_time(self.event_time))
            reasons = {**missing, **reasons}
        times = batch.column(EVENT_TIME)
        for row, ahead in future_reasons(times, self.max_ahead, now).items():
            reasons[row] = [*reasons.get(row, ()), *ahead]
        rejected = [dated(parsed.rejected, records, self.max_ahead, now)] if len(parsed.rejected) else []
        if reasons:
            read = set_column(parsed.with_source(), EVENT_TIME, times)
            rejected.append(row_letters(read, reasons, "read", typed=batch))
            batch = drop_rows(batch, reasons)
        return MessageBatch(self._keyed(partition, batch), rejected)

    def _keyed(self, partition: Partition, batch: pa.RecordBatch) -> pa.RecordBatch:
        if not self.order_key:
            return batch
        index = self.source.topics.index(partition[0]) * _MAX_PARTITIONS + partition[1]
        return set_column(batch, SHUFFLE_KEY, source_order(index, batch))


def with_record_times(batch: pa.RecordBatch, records: PolledMessages) -> tuple[pa.RecordBatch, dict[int, list[Reason]]]:
    """Adds the records' timestamps as `_event_time`; also returns a reason for each row whose record has none."""
    times = _times_at(batch.column(ORIGIN).field("position"), records)
    missing = np.flatnonzero(times.is_null().to_numpy(zero_copy_only=False)).tolist()
    return set_column(batch, EVENT_TIME, times), {row: [_NO_TIME] for row in missing}


def dated(
    letters: Sequence[DeadLetter] | RejectedBatch,
    records: PolledMessages,
    max_ahead: datetime.timedelta | None,
    now: Micros,
) -> RejectedBatch:
    """Sets the event time of dead letters to their records' timestamps, unless these are too far ahead."""
    batch = (letters if isinstance(letters, RejectedBatch) else RejectedBatch.of(letters)).letters
    times = _times_at(batch.column("position"), records)
    return RejectedBatch(batch).dated(without_future(times, max_ahead, now))


def _times_at(offsets: pa.Array, records: PolledMessages) -> pa.Array:
    millis = records.times[np.searchsorted(records.offsets, offsets.to_numpy())]
    return pa.array(millis * 1000, pa.int64(), mask=millis < 0).cast(TIME_TYPE)
