"""The counters of a transform that a runner shows, under the transform's public name.

========================  ==================================================
counter                   of
========================  ==================================================
`in-batches`, `in-rows`   batches and rows that came in
`out-rows`                rows that went out
`bad-rows`                rows that were rejected
========================  ==================================================

Some transforms have further counters. Names and namespaces are public: dashboards query them.
"""

import dataclasses
from collections.abc import Mapping

from apache_beam.metrics import Metrics


@dataclasses.dataclass(frozen=True)
class RowCounters:
    """Counts for one transform; pickles.

    Attributes:
      transform: its public name, the namespace of the counters.
    """

    transform: str

    def add(self, **counts: int) -> None:
        """Adds to counters by name, with `_` for `-`: `add(in_rows=3)` adds three to `in-rows`.

        A count of 0 makes the counter known to the runner.
        """
        self.add_named({name.replace("_", "-"): count for name, count in counts.items()})

    def add_named(self, counts: Mapping[str, int]) -> None:
        """Adds to counters whose names come from the data or its configuration; does not change the names."""
        for name, count in counts.items():
            Metrics.counter(self.transform, name).inc(count)
