"""The watermark of a group of partitions."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from apache_beam import coders
from apache_beam.io.iobase import WatermarkEstimator
from apache_beam.transforms.core import WatermarkEstimatorProvider
from apache_beam.utils.timestamp import Timestamp

from penstock.io.beam.durations import MAX_AHEAD, micros
from penstock.io.columns.event_times import Micros
from penstock.io.kafka.offsets import Partition

# A partition whose rows are so much older than the watermark is not waited for: nearly all of them are too late, and
# one row of the year 1970 would hold back all windows. A partition that catches up is waited for when it is this near.
_FAR_BEHIND = timedelta(hours=1)


def next_watermark(
    greatest: Mapping[Partition, Micros], active: Collection[Partition], now: Micros, out_of_orderness: timedelta
) -> Micros | None:
    """Returns the time before which no more rows are expected; None when it is unknown.

    The slowest active partition decides. Without an active partition the watermark follows the clock. A greatest time
    that lies in the future is not believed, and its partition is one that had no row yet: `observe` keeps none, but
    the checkpoint of an older version may.

    >>> next_watermark({("t", 0): 50, ("t", 1): 80}, [("t", 0), ("t", 1)], 100, timedelta(microseconds=10))
    40

    Args:
      greatest: the greatest event time of each partition so far, without partitions that had no row yet.
      active: the partitions that are not idle.
      now: the time of the clock.
      out_of_orderness: how much earlier than the greatest event time a row of the same partition may be.
    """
    times = [greatest.get(partition, now + 1) for partition in active]
    if any(time > now for time in times):
        return None
    return min(times, default=now) - micros(out_of_orderness)


@dataclasses.dataclass(frozen=True)
class PartitionProgress:
    """The state of the watermark, which the runner's checkpoints keep."""

    watermark: Micros | None = None
    greatest: tuple[tuple[str, int, Micros], ...] = ()


class ProgressCoder(coders.Coder):
    """Encodes progress as JSON, which other versions of Penstock can read."""

    def encode(self, value: PartitionProgress) -> bytes:
        """Encodes as `{"watermark": 5, "greatest": [["topic", 0, 10]]}`."""
        return json.dumps({"watermark": value.watermark, "greatest": value.greatest}).encode()

    def decode(self, encoded: bytes) -> PartitionProgress:
        """Decodes the result of `encode`; ignores unknown members."""
        fields = json.loads(encoded)
        return PartitionProgress(fields["watermark"], tuple(map(tuple, fields["greatest"])))

    def is_deterministic(self) -> bool:
        """Returns True: partitions are sorted."""
        return True

    def to_type_hint(self) -> type:
        """Returns `PartitionProgress`."""
        return PartitionProgress


class PartitionWatermark(WatermarkEstimator):
    """The watermark of a group of partitions; it never goes back."""

    def __init__(self, progress: PartitionProgress):
        self._watermark = progress.watermark
        self._greatest: dict[Partition, Micros] = {(topic, number): time for topic, number, time in progress.greatest}

    def observe(self, partition: Partition, times: npt.NDArray[np.int64], now: Micros) -> bool:
        """Records the greatest event time of rows that have come from a partition, at most that of the clock.

        Rows that are far ahead of the clock or far behind the watermark count for nothing. Returns whether others came.
        """
        believed = times[times <= now + micros(MAX_AHEAD)]
        if not len(believed):
            return False
        time = min(int(believed.max()), now)
        if self._watermark is not None and time < self._watermark - micros(_FAR_BEHIND):
            return False
        before = self._greatest.get(partition, time)
        self._greatest[partition] = time if before > now else max(time, before)
        return True

    def advance(self, active: Collection[Partition], now: Micros, out_of_orderness: timedelta) -> None:
        """Advances as far as `next_watermark` allows."""
        found = next_watermark(self._greatest, active, now, out_of_orderness)
        if found is not None and (self._watermark is None or found > self._watermark):
            self._watermark = found

    def of(self, partition: Partition, out_of_orderness: timedelta) -> Micros | None:
        """Returns the watermark of one partition; None before its first row."""
        greatest = self._greatest.get(partition)
        return None if greatest is None else greatest - micros(out_of_orderness)

    def micros(self) -> Micros | None:
        """Returns the watermark; None before there is one."""
        return self._watermark

    def current_watermark(self) -> Timestamp | None:  # type: ignore[override]
        """Returns the watermark as Beam's type."""
        return None if self._watermark is None else Timestamp(micros=self._watermark)

    def get_estimator_state(self) -> PartitionProgress:
        """Returns the state with which the next bundle begins."""
        return PartitionProgress(
            self._watermark, tuple(sorted((*partition, time) for partition, time in self._greatest.items()))
        )

    def observe_timestamp(self, timestamp: Timestamp) -> None:
        """Does nothing: `observe` takes the event times, a whole batch at once."""


class PartitionWatermarks(WatermarkEstimatorProvider):
    """Makes `PartitionWatermark`."""

    def initial_estimator_state(self, element: Any, restriction: Any) -> PartitionProgress:
        """Returns a state without any time."""
        return PartitionProgress()

    def create_watermark_estimator(self, estimator_state: PartitionProgress) -> PartitionWatermark:
        """Makes an estimator from the last bundle's state."""
        return PartitionWatermark(estimator_state)

    def estimator_state_coder(self) -> ProgressCoder:
        """Returns the coder to JSON."""
        return ProgressCoder()
