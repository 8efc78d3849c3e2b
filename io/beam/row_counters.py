"""The counters of a transform, under its public name: what a runner shows of it.

========================  ==================================================
counter                   of
========================  ==================================================
`in-batches`, `in-rows`   what came in
`out-rows`                what went on
`bad-rows`                what was rejected
========================  ==================================================

Some transforms have others beside these. Names and namespaces are public: dashboards ask for them.
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
        """Adds to counters by their names, with `_` for `-`: `add(in_rows=3)` counts three of `in-rows`.

        A count of 0 makes the counter known to the runner.
        """
        self.add_named({name.replace("_", "-"): count for name, count in counts.items()})

    def add_named(self, counts: Mapping[str, int]) -> None:
        """Adds to counters whose names come from the data or its configuration, and stay as they are."""
        for name, count in counts.items():
            Metrics.counter(self.transform, name).inc(count)
