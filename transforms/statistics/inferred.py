"""Statistics of rows in the pass that infers their types, for a guess of the types that turns out to be right.

A guess that is wrong costs little: the first batch that it does not hold for ends the statistics, not the inference.
"""

import dataclasses
import pickle
from collections.abc import Iterable
from typing import cast

import apache_beam as beam
import pyarrow as pa
from apache_beam import coders

from penstock.io.columns.conform import conform_batch
from penstock.io.errors import PenstockError
from penstock.io.schema import Feature
from penstock.transforms.infer import Summary, summarize_batch
from penstock.transforms.statistics.compute import StatisticsCoder
from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.statistics import Statistics


@dataclasses.dataclass(frozen=True)
class RowTypes:
    """What statistics of rows depend on, beside the rows: guessed before they are read, or known.

    Attributes:
      features: by which the rows are typed.
      options: what is computed of them.
    """

    features: tuple[Feature, ...]
    options: StatisticsOptions

    def gives_the_same(self, other: "RowTypes") -> bool:
        """Whether both give the same statistics of rows that have no other columns or types."""
        return (self._columns(), self.options) == (other._columns(), other.options)

    def _columns(self) -> list[tuple[object, ...]]:
        return [(feature.name, feature.kind, feature.boolean) for feature in self.features]


@dataclasses.dataclass
class InferredStatistics:
    """Some rows as a reader without a schema yields them, and their statistics under a guess.

    Attributes:
      summary: what a schema is inferred from.
      statistics: None once the guess does not hold.
    """

    summary: Summary
    statistics: Statistics | None

    def update(self, batch: pa.RecordBatch, features: tuple[Feature, ...]) -> None:
        """Adds rows.

        Raises:
          ConfigError, InputError: as `summarize_batch`.
        """
        self.summary = self.summary.merge(summarize_batch(batch))
        if self.statistics is not None and not _add(self.statistics, batch, features):
            self.statistics = None

    def merge(self, other: "InferredStatistics") -> None:
        """Adds the rows of another."""
        self.summary = self.summary.merge(other.summary)
        if self.statistics is None or other.statistics is None:
            self.statistics = None
        else:
            self.statistics.merge(other.statistics)


def _add(statistics: Statistics, batch: pa.RecordBatch, features: tuple[Feature, ...]) -> bool:
    """Adds rows to statistics; False if they have other columns or types than the features say."""
    try:
        typed, reasons = conform_batch(batch, features)
        if not reasons:
            statistics.update(typed)
    except PenstockError:  # of a wrong guess; one of the rows comes again when they are read by the right one
        return False
    return not reasons


class InferredStatisticsCoder(coders.Coder):
    """Pickles them. Beam's own would do so once more for each step that an element passes, to measure it."""

    def encode(self, value: InferredStatistics) -> bytes:
        """Pickled."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> InferredStatistics:
        """What was pickled."""
        return cast(InferredStatistics, pickle.loads(encoded))

    def is_deterministic(self) -> bool:
        """False, as with `StatisticsCoder`."""
        return False

    def estimate_size(self, value: InferredStatistics) -> int:
        """Estimates the size in bytes."""
        return 0 if value.statistics is None else StatisticsCoder().estimate_size(value.statistics)

    def to_type_hint(self) -> type:
        """The element type."""
        return InferredStatistics


coders.registry.register_coder(InferredStatistics, InferredStatisticsCoder)


class InferStatisticsFn(beam.CombineFn):
    """Combines batches of a reader without a schema into `InferredStatistics`."""

    def __init__(self, guess: RowTypes) -> None:
        """Takes the guess."""
        self._guess = guess

    def create_accumulator(self) -> InferredStatistics:
        """Starts with no rows, for which every guess holds."""
        return InferredStatistics(Summary(), Statistics(self._guess.options))

    def add_input(self, accumulator: InferredStatistics, batch: pa.RecordBatch) -> InferredStatistics:
        """Adds the rows of one batch."""
        accumulator.update(batch, self._guess.features)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[InferredStatistics]) -> InferredStatistics:
        """Merges several."""
        merged = self.create_accumulator()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: InferredStatistics) -> InferredStatistics:
        """Returns it."""
        return accumulator

    def get_accumulator_coder(self) -> coders.Coder:
        """Keeps accumulators as their state."""
        return InferredStatisticsCoder()
