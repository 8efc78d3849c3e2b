"""Computes statistics: of batches at hand, or as a step of a pipeline."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders
from apache_beam.transforms.window import GlobalWindows
from apache_beam.utils.timestamp import MAX_TIMESTAMP, Timestamp
from apache_beam.utils.windowed_value import WindowedValue

from penstock.io.batches import TakesBatches, only_batches
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics


def compute_statistics(batches: Iterable[pa.RecordBatch], options: StatisticsOptions | None = None) -> Statistics:
    """Computes the statistics of batches at hand.

    They are of all rows, or of each split where batches have `_split`.

    >>> statistics = compute_statistics([pa.record_batch({"x": [1, 2, None]})])
    >>> feature = statistics.to_proto().datasets[0].features[0]
    >>> feature.num_stats.mean, feature.num_stats.common_stats.num_missing
    (1.5, 1)

    Args:
      batches: of any columns; those that a batch lacks are missing in its rows.
      options: what is computed.

    Raises:
      ConfigError: for a column of a type that nothing can be told of, or that rows cannot be sliced by.
      InputError: when a row has no weight, or there are too many slices.
    """
    statistics = Statistics(options)
    for batch in batches:
        statistics.update(batch)
    return statistics


class StatisticsCoder(coders.Coder):
    """Encodes statistics as their complete state, which may depend on the order of rows."""

    def encode(self, value: Statistics) -> bytes:
        """The state."""
        return value.to_bytes(complete=True)

    def decode(self, encoded: bytes) -> Statistics:
        """The statistics of a state."""
        return Statistics.from_bytes(encoded)

    def is_deterministic(self) -> bool:
        """False: see the class."""
        return False

    def estimate_size(self, value: Statistics) -> int:
        """Estimates the size in bytes; Beam's default would encode the value to measure it."""
        return sum(len(table.features) for table in value.tables.values()) << 14

    def to_type_hint(self) -> type:
        """The element type."""
        return Statistics


coders.registry.register_coder(Statistics, StatisticsCoder)


class ComputeStatistics(TakesBatches, beam.PTransform[beam.PCollection[pa.RecordBatch], beam.PCollection[Statistics]]):
    """Computes the statistics of all rows, or of the rows of each window.

    Each worker summarises the rows of a bundle; only these summaries, of a bounded size for each column, go on to be
    merged. The result does not depend on bundles or workers.

    Input: `pyarrow.RecordBatch`, in any windows. Output: one `Statistics` for each window that has batches (one more
    for each time that its trigger fires); in the global window of bounded data exactly one, which may be of no rows.

    Raises, while it runs, what `compute_statistics` raises.
    """

    def __init__(self, options: StatisticsOptions | None = None) -> None:
        """Says what is computed."""
        super().__init__()
        self._options = options or StatisticsOptions()

    def expand(self, batches: beam.PCollection[pa.RecordBatch]) -> beam.PCollection[Statistics]:
        """Summarises bundles, and merges."""
        merge = beam.CombineGlobally(_MergeStatisticsFn(self._options))
        is_whole = batches.is_bounded and isinstance(batches.windowing.windowfn, GlobalWindows)
        return (
            only_batches(batches, "ComputeStatistics")
            | "Summarize" >> beam.ParDo(_SummarizeBundleFn(self._options)).with_output_types(Statistics)
            | "Merge" >> (merge if is_whole else merge.without_defaults()).with_output_types(Statistics)
        )


class _SummarizeBundleFn(beam.DoFn):
    """Makes one element of the batches of a bundle, for each window."""

    def __init__(self, options: StatisticsOptions) -> None:
        self._options = options
        self._windows: dict[Any, tuple[Statistics, Timestamp]] = {}

    def start_bundle(self) -> None:
        """Forgets what a bundle that failed has left."""
        self._windows = {}

    def process(
        self, batch: pa.RecordBatch, timestamp: Any = beam.DoFn.TimestampParam, window: Any = beam.DoFn.WindowParam
    ) -> None:
        """Adds a batch."""
        statistics, least = self._windows.get(window) or (Statistics(self._options), MAX_TIMESTAMP)
        statistics.update(batch)
        self._windows[window] = statistics, min(least, timestamp)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        """Yields the statistics; a later time than their first row's would let the watermark pass them."""
        for window, (statistics, timestamp) in self._windows.items():
            yield WindowedValue(statistics, timestamp, (window,))
        self._windows = {}


class _MergeStatisticsFn(beam.CombineFn):
    """Merges statistics."""

    def __init__(self, options: StatisticsOptions) -> None:
        self._options = options

    def create_accumulator(self) -> Statistics:
        """Starts with those of no rows."""
        return Statistics(self._options)

    def add_input(self, accumulator: Statistics, statistics: Statistics) -> Statistics:
        """Adds one."""
        accumulator.merge(statistics)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Statistics]) -> Statistics:
        """Merges several."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Statistics) -> Statistics:
        """Returns them."""
        return accumulator

    def get_accumulator_coder(self) -> coders.Coder:
        """Keeps accumulators as their state."""
        return StatisticsCoder()
