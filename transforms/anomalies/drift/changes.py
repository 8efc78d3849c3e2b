"""A change of a dataset, and the two sides of a comparison."""

import dataclasses
from collections.abc import Iterator, Mapping

from penstock.transforms.anomalies.measures.thresholds import Thresholds
from penstock.transforms.anomalies.measures.views import DatasetView, FeatureView, Path

# So many tests are made of each feature; the chance of a false alarm is divided by them.
_TESTS = 16

# What changes are called in a few words, by code.
TITLES: Mapping[str, str] = {
    "missing_column": "Column missing",
    "new_column": "New column",
    "type": "Another type",
    "swapped": "Columns swapped",
    "repeated_rows": "Rows repeat",
    "repeated": "Unique values repeat",
    "distinct": "Another number of distinct values",
    "precision": "Less precise",
    "restarted": "Starts anew",
    "nulls": "Another share of nulls",
    "nan": "Another share of NaN",
    "infinity": "Another share of infinities",
    "patterns": "Texts of another form",
    "stuck": "One value too often",
    "sign": "Sign changed",
    "mean": "Shifted",
    "scale": "Other units",
    "clipped": "Clipped",
    "rotated": "Moved around the clock",
    "flipped": "Two values changed roles",
    "distribution": "Another distribution",
    "new_values": "New values",
    "vanished_values": "Values vanished",
    "spelling": "Spelled otherwise",
    "truncated": "Texts cut off",
    "lengths": "Texts of other lengths",
    "balance": "Another balance of values",
    "psi": "Population stability index too high",
    "correlation": "Another correlation",
    "value_count": "Other numbers of values",
}


@dataclasses.dataclass(frozen=True)
class Change:
    """One change.

    Attributes:
      path: of the feature; empty for the dataset.
      code: what happened, of `TITLES`.
      before, now: what was, and what is, in words.
      size: how large it is, from 0 to 1: a distance of distributions or a difference of shares.
      excess: how many times the threshold it is; infinite where any is too much.
      threshold: which one, of `Thresholds`; empty if there is none.
      rows: about how many rows it is about.
      example: a value, if there is one.
      other: the feature that it is about too, such as that with which this one was swapped; empty if there is none.
    """

    path: Path
    code: str
    before: str
    now: str
    size: float
    excess: float = float("inf")
    threshold: str = ""
    rows: float | None = None
    example: str = ""
    other: Path = ()


@dataclasses.dataclass(frozen=True)
class Pair:
    """A feature of both datasets."""

    path: Path
    now: FeatureView
    before: FeatureView

    @property
    def rows(self) -> tuple[float, float]:
        """How many rows have a value now, and had one before."""
        return self.now.common.num_non_missing, self.before.common.num_non_missing


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two datasets, counted without weights: how much chance does follows from rows, and not from weights.

    Attributes:
      now, before: the datasets.
      thresholds: below which a difference is too small to matter.
    """

    now: DatasetView
    before: DatasetView
    thresholds: Thresholds

    def pairs(self) -> Iterator[Pair]:
        """Yields the features that have values in both, of one type or numbers, in the order of the dataset."""
        for view in self.now.leaves():
            other = self.before.features.get(view.path)
            if other is None or self.ignores(view.path):
                continue
            if other.schema_type != view.schema_type and not (view.is_numeric and other.is_numeric):
                continue
            pair = Pair(view.path, view, other)
            if all(pair.rows):
                yield pair

    def ignores(self, path: Path) -> bool:
        """Whether a feature shall not be compared."""
        return ".".join(path) in self.thresholds.ignore

    @property
    def chance(self) -> float:
        """How likely one test may find what is not there."""
        return self.chance_of(len(self.now.features))

    def chance_of(self, number: int) -> float:
        """How likely one of so many tests of a kind may find what is not there; of each kind there are as many."""
        return self.thresholds.false_alarms / (_TESTS * max(1, number))
