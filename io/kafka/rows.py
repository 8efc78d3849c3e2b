"""Turns Kafka records into typed rows with origin and event time; the others become dead letters."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.batches import drop_rows, set_column, source_order
from penstock.io.columns.conform import conform_batch
from penstock.io.columns.event_times import TIME_TYPE, assign_event_time, parse_event_time
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

    @property
    def wanted(self) -> WantedOffsets:
        """The parts of a record that are needed."""
        return WantedOffsets(self.event_time is None, self.source.key is not None, bool(self.source.headers))

    def make(self, partition: Partition, records: PolledMessages) -> MessageBatch:
        """Turns each record into one row or one dead letter."""
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
            reasons = {row: [*faults.get(row, ()), *reasons.get(row, ())] for row in {**faults, **reasons}}
        kept = np.delete(np.arange(batch.num_rows), list(reasons))
        batch = drop_rows(batch, reasons) if reasons else batch
        if self.event_time is not None:
            batch, missing = assign_event_time(batch, *parse_event_time(self.event_time))
            reasons |= {int(kept[row]): why for row, why in missing.items()}
            batch = drop_rows(batch, missing) if missing else batch
        rejected = [parsed.rejected, row_letters(parsed.with_source(), reasons, "read") if reasons else ()]
        return MessageBatch(
            self._keyed(partition, batch), [dated(letters, records) for letters in rejected if len(letters)]
        )

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


def dated(letters: Sequence[DeadLetter] | RejectedBatch, records: PolledMessages) -> RejectedBatch:
    """Sets the event time of dead letters to their records' timestamps."""
    batch = (letters if isinstance(letters, RejectedBatch) else RejectedBatch.of(letters)).letters
    times = pc.strftime(_times_at(batch.column("position"), records), format="%Y-%m-%dT%H:%M:%SZ")
    return RejectedBatch(set_column(batch, "event_time", times))


def _times_at(offsets: pa.Array, records: PolledMessages) -> pa.Array:
    millis = records.times[np.searchsorted(records.offsets, offsets.to_numpy())]
    return pa.array(millis * 1000, pa.int64(), mask=millis < 0).cast(TIME_TYPE)
