"""The watermark of a group of partitions."""

import dataclasses
import json
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any

from apache_beam import coders
from apache_beam.io.iobase import WatermarkEstimator
from apache_beam.transforms.core import WatermarkEstimatorProvider
from apache_beam.utils.timestamp import Timestamp

from penstock.io.beam.durations import micros
from penstock.io.kafka.offsets import Partition

# Microseconds since 1970, UTC.
Micros = int


def next_watermark(
    greatest: Mapping[Partition, Micros], active: Collection[Partition], now: Micros, out_of_orderness: timedelta
) -> Micros | None:
    """Returns the time before which no more rows are expected; None when it is unknown.

    The slowest active partition decides. Without an active partition the watermark follows the clock. No partition
    moves it past the clock, whatever times its rows have: one row of the year 9999 would make all others late.

    >>> next_watermark({("t", 0): 50, ("t", 1): 80}, [("t", 0), ("t", 1)], 100, timedelta(microseconds=10))
    40

    Args:
      greatest: the greatest event time of each partition so far, without partitions that had no row yet.
      active: the partitions that are not idle.
      now: the time of the clock.
      out_of_orderness: how much earlier than the greatest event time a row of the same partition may be.
    """
    if any(partition not in greatest for partition in active):
        return None
    return min((greatest[partition] for partition in active if greatest[partition] < now), default=now) - micros(
        out_of_orderness
    )


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

    def observe(self, partition: Partition, time: Micros) -> None:
        """Records the greatest event time of rows that have come from a partition."""
        self._greatest[partition] = max(time, self._greatest.get(partition, time))

    def advance(self, active: Collection[Partition], now: Micros, out_of_orderness: timedelta) -> None:
        """Advances as far as `next_watermark` allows."""
        found = next_watermark(self._greatest, active, now, out_of_orderness)
        if found is not None and (self._watermark is None or found > self._watermark):
            self._watermark = found

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
