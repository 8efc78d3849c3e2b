"""Gathers single elements into batches, within a bundle and a window, with the times of the elements."""

import abc
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.window import SlidingWindows, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, drop_rows, set_column, split_batch
from penstock.io.beam.row_counters import RowCounters
from penstock.io.columns.event_times import TIME_TYPE
from penstock.io.dead_letters.handler import REJECTED, RejectingTransform, reject, split_rejected
from penstock.io.dead_letters.record import RejectedBatch
from penstock.io.errors import ConfigError
from penstock.io.reserved import EVENT_TIME

# Years 1 to 9999, as Python and `_event_time` have them; Beam's own marks of no time lie outside.
_FIRST_MICROS, _LAST_MICROS = -62_135_596_800_000_000, 253_402_300_800_000_000 - 1


@dataclasses.dataclass(frozen=True)
class ConvertedRows:
    """What elements became.

    Attributes:
      batch: the good rows, without their times.
      indices: int64[n], which elements they are, ascending.
      rejected: the dead letters of all others.
    """

    batch: pa.RecordBatch
    indices: np.ndarray
    rejected: RejectedBatch


class ConvertsElements(abc.ABC):
    """Makes batches of single elements; it is pickled."""

    @abc.abstractmethod
    def convert(self, elements: Sequence[Any], times: pa.Array) -> ConvertedRows:
        """Converts elements; `times` are timestamp[us, UTC], null where an element has no time."""

    @abc.abstractmethod
    def size(self, element: Any) -> int:
        """Estimates the bytes of an element."""


def batch_elements(
    transform: RejectingTransform, elements: beam.PCollection[Any], converter: ConvertsElements
) -> tuple[beam.PCollection[pa.RecordBatch], beam.PCollection[RejectedBatch]]:
    """Adds the step that gathers elements into batches; returns them, and the rejected ones.

    Raises:
      ConfigError: behind windows that overlap.
    """
    name = type(transform).__name__
    if isinstance(elements.windowing.windowfn, SlidingWindows):
        raise ConfigError(
            f"{name} would give each row once for each of its sliding windows: apply it before them, and let "
            "WriteDataset(window='sliding:SIZE/PERIOD') make the windows"
        )
    gather = beam.ParDo(_GatherFn(converter, name)).with_output_types(pa.RecordBatch)
    return split_rejected(elements | "Gather" >> gather.with_outputs(REJECTED, main="out"))


class _Buffer:
    def __init__(self) -> None:
        self.elements: list[Any] = []
        self.micros: list[int] = []
        self.bytes = 0


class _GatherFn(beam.DoFn):
    def __init__(self, converter: ConvertsElements, transform: str):
        self._converter = converter
        self._counters = RowCounters(transform)

    def start_bundle(self) -> None:
        self._buffers: dict[Any, _Buffer] = {}

    def process(
        self, element: Any, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> Iterator[Any]:
        buffer = self._buffers.get(window)
        if buffer is None:
            buffer = self._buffers[window] = _Buffer()
        buffer.elements.append(element)
        buffer.micros.append(timestamp.micros)
        buffer.bytes += self._converter.size(element)
        if len(buffer.elements) >= MAX_BATCH_ROWS or buffer.bytes >= MAX_BATCH_BYTES:
            del self._buffers[window]
            for value, earliest in self._converted(buffer):
                yield _stamped(value, earliest)

    def finish_bundle(self) -> Iterator[Any]:
        for window, buffer in self._buffers.items():
            for value, earliest in self._converted(buffer):
                yield _stamped(value, earliest, window)

    def _converted(self, buffer: _Buffer) -> Iterator[tuple[Any, Timestamp]]:
        """Yields batches and dead letters, each with the earliest time of its elements."""
        earliest = Timestamp(micros=min(buffer.micros))
        times = event_times_of(np.array(buffer.micros, np.int64))
        converted = self._converter.convert(buffer.elements, times)
        self._counters.add(in_rows=len(buffer.elements), bad_rows=len(converted.rejected))
        for letters in reject(converted.rejected):
            yield letters, earliest
        batch = converted.batch
        if times.null_count < len(times):
            batch = set_column(batch, EVENT_TIME, times.take(pa.array(converted.indices)))
        for piece in split_batch(batch):
            yield piece, earliest


def _stamped(value: Any, time: Timestamp, window: Any = None) -> Any:
    """Gives a value its time, and its window if it leaves a bundle at its end; a tagged one keeps its tag."""
    if isinstance(value, TaggedOutput):
        return TaggedOutput(value.tag, _stamped(value.value, time, window))
    return TimestampedValue(value, time) if window is None else WindowedValue(value, time, (window,))


def event_times_of(micros: np.ndarray) -> pa.Array:
    """Returns Beam's timestamps, int64, as event times; null for those that Beam gives to what has no time."""
    is_time = (micros >= _FIRST_MICROS) & (micros <= _LAST_MICROS)
    return pa.array(np.where(is_time, micros, 0), pa.int64(), mask=~is_time).cast(TIME_TYPE)


def good_rows(batch: pa.RecordBatch, faults: Sequence[int], rejected: RejectedBatch) -> ConvertedRows:
    """Returns the rows without those of these indices, which are rejected."""
    kept = np.delete(np.arange(batch.num_rows), list(faults))
    return ConvertedRows(drop_rows(batch, faults) if faults else batch, kept, rejected)
