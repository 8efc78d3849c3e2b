"""How far event time has come in a group of partitions."""

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
    """The time before which no rows are expected any more; None when that is not known.

    The slowest active partition decides. Without an active one it follows the clock. No partition leads beyond the
    clock, whatever times its rows have: one row of the year 9999 would make all others late.

    >>> next_watermark({("t", 0): 50, ("t", 1): 80}, [("t", 0), ("t", 1)], 100, timedelta(microseconds=10))
    40

    Args:
      greatest: the greatest event time of each partition so far; none for one that had no row yet.
      active: the partitions that have not been idle for long.
      now: the clock.
      out_of_orderness: how much earlier than the greatest event time a row of the same partition may be.
    """
    if any(place not in greatest for place in active):
        return None
    return min((greatest[place] for place in active if greatest[place] < now), default=now) - micros(out_of_orderness)


@dataclasses.dataclass(frozen=True)
class PartitionProgress:
    """What the watermark is made of: kept in the runner's checkpoints."""

    watermark: Micros | None = None
    greatest: tuple[tuple[str, int, Micros], ...] = ()


class ProgressCoder(coders.Coder):
    """Progress as JSON, which other versions of Penstock can read."""

    def encode(self, value: PartitionProgress) -> bytes:
        """`{"watermark": 5, "greatest": [["topic", 0, 10]]}`."""
        return json.dumps({"watermark": value.watermark, "greatest": value.greatest}).encode()

    def decode(self, encoded: bytes) -> PartitionProgress:
        """The inverse of `encode`; members that are not known are ignored."""
        fields = json.loads(encoded)
        return PartitionProgress(fields["watermark"], tuple(map(tuple, fields["greatest"])))

    def is_deterministic(self) -> bool:
        """True: partitions are sorted."""
        return True

    def to_type_hint(self) -> type:
        """The type."""
        return PartitionProgress


class PartitionWatermark(WatermarkEstimator):
    """The watermark of a group of partitions; it never goes back."""

    def __init__(self, progress: PartitionProgress):
        self._watermark = progress.watermark
        self._greatest: dict[Partition, Micros] = {(topic, number): time for topic, number, time in progress.greatest}

    def observe(self, place: Partition, time: Micros) -> None:
        """Rows of a partition have come, the latest with this event time."""
        self._greatest[place] = max(time, self._greatest.get(place, time))

    def advance(self, active: Collection[Partition], now: Micros, out_of_orderness: timedelta) -> None:
        """Moves on as far as `next_watermark` allows."""
        found = next_watermark(self._greatest, active, now, out_of_orderness)
        if found is not None and (self._watermark is None or found > self._watermark):
            self._watermark = found

    def micros(self) -> Micros | None:
        """The watermark; None before there is any."""
        return self._watermark

    def current_watermark(self) -> Timestamp | None:  # type: ignore[override]
        """The same for Beam."""
        return None if self._watermark is None else Timestamp(micros=self._watermark)

    def get_estimator_state(self) -> PartitionProgress:
        """What the next bundle begins with."""
        return PartitionProgress(
            self._watermark, tuple(sorted((*place, time) for place, time in self._greatest.items()))
        )

    def observe_timestamp(self, timestamp: Timestamp) -> None:
        """Nothing: event times come by `observe`, a whole batch at once."""


class PartitionWatermarks(WatermarkEstimatorProvider):
    """Makes `PartitionWatermark`."""

    def initial_estimator_state(self, element: Any, restriction: Any) -> PartitionProgress:
        """Nothing is known."""
        return PartitionProgress()

    def create_watermark_estimator(self, estimator_state: PartitionProgress) -> PartitionWatermark:
        """From what the last bundle left."""
        return PartitionWatermark(estimator_state)

    def estimator_state_coder(self) -> ProgressCoder:
        """JSON."""
        return ProgressCoder()
