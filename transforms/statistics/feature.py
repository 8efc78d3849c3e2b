"""Statistics of one column."""

from collections.abc import Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.transforms.statistics.options import StatisticsOptions
from penstock.transforms.statistics.presence import Presence
from penstock.transforms.statistics.sketches import (
    WEIGHT_UNIT,
    DistinctSketch,
    FrequentSketch,
    NumberSketch,
    TextSketch,
    ValueCounts,
    WeightedNumbers,
    count_values,
    fixed_point,
)
from penstock.transforms.statistics.values import BYTES, FLOAT, INT, STRING, STRUCT, ColumnValues, Values

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# By this name, frequent values are texts; else by their type.
_TEXT = "text"

# TFDV's label of values that are not UTF-8.
NOT_UTF8 = "__BYTES_VALUE__"


class FeatureStatistics:
    """Statistics of one column: update it with batches, and merge it.

    Memory: at most about 0.5 MiB for numbers, and 24 MiB for texts that are long and all different (with weights, twice
    that); a tenth of it for most columns. Each sketch states its own.

    Attributes:
      name: the column.
      is_categorical: whether integers are names of something.
      is_image: whether values are only measured.
      presence: how many rows have a value, and how many values they have.
      kinds: of the values: INT, FLOAT, STRING, STRUCT.
      nulls: how many values are nulls inside lists.
      numbers: None until there is a number.
      weighted: the numbers with weights; None without.
      distinct: the different values.
      texts: lengths and patterns; None until there is a text.
      digits: how many bytes the decimals of categorical integers have in all.
    """

    __slots__ = (
        "_frequent",
        "_weighted_frequent",
        "digits",
        "distinct",
        "is_categorical",
        "is_image",
        "kinds",
        "name",
        "nulls",
        "numbers",
        "presence",
        "texts",
        "weighted",
    )

    def __init__(self, name: str, options: StatisticsOptions) -> None:
        """Makes the statistics of no rows."""
        self.name = name
        self.is_categorical = name in options.categorical
        self.is_image = name in options.images
        self.presence = Presence()
        self.kinds: set[int] = set()
        self.nulls = self.digits = 0
        self.numbers: NumberSketch | None = None
        self.weighted: WeightedNumbers | None = None
        self.distinct = DistinctSketch()
        self.texts: TextSketch | None = None
        # By the type of values, since a sketch holds values of one type.
        self._frequent: dict[str, FrequentSketch] = {}
        self._weighted_frequent: dict[str, FrequentSketch] = {}

    @property
    def type(self) -> int:
        """The type of the feature: what TFDV takes it for.

        A column that has integers and floats is FLOAT, one that has texts and numbers STRING; TFDV refuses these. A
        column without values is STRING.
        """
        if STRUCT in self.kinds:
            return STRUCT
        if STRING in self.kinds or not self.kinds:
            return BYTES if self.is_image else STRING
        return FLOAT if FLOAT in self.kinds else INT

    @property
    def _is_counted(self) -> bool:
        return self.is_categorical and FLOAT not in self.kinds

    @property
    def is_named(self) -> bool:
        """Whether the feature has the statistics of texts: it is STRING, or of categorical integers."""
        return self.type == STRING or (self.type == INT and self.is_categorical)

    @property
    def is_ordered(self) -> bool:
        """Whether its values are numbers that are not names of something."""
        return self.type in (INT, FLOAT) and not self.is_named

    def update(self, column: ColumnValues, weights: Floats | None) -> None:
        """Adds the n rows of a column; `weights` is float64[n], None without weights."""
        self.presence.add(column, weights)
        self.nulls += column.nulls
        self._add_kinds(part.kind for part in column.parts)
        for part in column.parts:
            if part.kind != STRUCT and len(part.array):
                self._update_values(part, None if weights is None else weights[column.owners(part)])

    def _update_values(self, part: Values, weights: Floats | None) -> None:
        counts = count_values(part.array, with_places=weights is not None)
        self.distinct.update(counts.hashes)
        if part.kind == STRING:
            self.texts = self.texts or TextSketch()
            self.texts.update(counts)
        else:
            self.numbers = self.numbers or NumberSketch()
            self.numbers.update(counts.values, counts.counts)
            if weights is not None:
                self.weighted = self.weighted or WeightedNumbers()
                self.weighted.update(part.array, weights)
        if (part.kind == STRING and not self.is_image) or (part.kind == INT and self._is_counted):
            self._update_frequent(_TEXT if part.kind == STRING else str(part.array.type), counts, weights)

    def _update_frequent(self, kind: str, counts: ValueCounts, weights: Floats | None) -> None:
        if kind != _TEXT:
            self.digits += _digits(counts)
        self._frequent.setdefault(kind, FrequentSketch()).update(counts)
        if weights is not None:
            self._weighted_frequent.setdefault(kind, FrequentSketch()).update(counts, fixed_point(weights))

    def _add_kinds(self, kinds: Iterable[int]) -> None:
        """Adds kinds; with a float all numbers are floats, and none is a name, as if the first had been a float."""
        self.kinds |= set(kinds)
        if FLOAT in self.kinds:
            self.kinds.discard(INT)
            self.digits = 0
            for sketches in (self._frequent, self._weighted_frequent):
                for kind in [kind for kind in sketches if kind != _TEXT]:
                    del sketches[kind]

    def merge(self, other: Self) -> None:
        """Adds the rows of another, which stays as it is."""
        self.presence.merge(other.presence)
        self.nulls += other.nulls
        self.digits += other.digits
        self.distinct.merge(other.distinct)
        for name, make in _SKETCHES.items():
            if (theirs := getattr(other, name)) is not None:
                ours = getattr(self, name) or make()
                ours.merge(theirs)
                setattr(self, name, ours)
        for mine, others in (
            (self._frequent, other._frequent),
            (self._weighted_frequent, other._weighted_frequent),
        ):
            for kind, sketch in others.items():
                mine.setdefault(kind, FrequentSketch()).merge(sketch)
        self._add_kinds(other.kinds)

    @property
    def named_count(self) -> int:
        """How many values the statistics of texts are of: texts, or categorical integers."""
        if self.type == STRING:
            return self.texts.count if self.texts else 0
        return self.numbers.count if self.numbers else 0

    @property
    def named_bytes(self) -> int:
        """How many bytes these have, integers as decimals."""
        if self.type == STRING:
            return self.texts.bytes if self.texts else 0
        return self.digits

    def ranked(self, limit: int) -> list[tuple[str, float]]:
        """Returns the most frequent of these values as texts, with their counts.

        The order is TFDV's: by count, and of equal counts the greatest value first, bytes by bytes, integers by size.
        Bytes that are not UTF-8 are all called as TFDV calls them.
        """
        return self._ranked(self._frequent, limit, 1)

    def weighted_ranked(self, limit: int) -> list[tuple[str, float]]:
        """Returns the same with sums of weights for counts."""
        return self._ranked(self._weighted_frequent, limit, WEIGHT_UNIT)

    def _ranked(self, sketches: dict[str, FrequentSketch], limit: int, unit: float) -> list[tuple[str, float]]:
        found: list[tuple[int, Any]] = []
        for kind, sketch in sketches.items():
            if (kind == _TEXT) == (self.type == STRING):
                found += _greatest(sketch, limit)
        found.sort(reverse=True)
        return [(_label(value), count * unit) for count, value in found[:limit]]

    @property
    def long_texts(self) -> int:
        """How many texts are too long to be among the frequent values."""
        return sum(sketch.long for sketch in self._frequent.values())

    @property
    def frequency_error(self) -> int:
        """By how much the count of a frequent value may be too high; 0 where exact (`FrequentSketch`)."""
        return max((sketch.error for sketch in self._frequent.values()), default=0)

    def to_state(self, complete: bool = False) -> dict[str, Any]:
        """Returns plain values; `complete` as in `FrequentSketch.to_bytes`."""
        return {
            "presence": self.presence.to_state(),
            "kinds": sorted(self.kinds),
            "nulls": self.nulls,
            "digits": self.digits,
            "distinct": self.distinct.to_bytes(),
            **{name: sketch.to_bytes() for name in _SKETCHES if (sketch := getattr(self, name)) is not None},
            "frequent": {kind: sketch.to_bytes(complete) for kind, sketch in self._frequent.items()},
            "weighted_frequent": {kind: sketch.to_bytes(complete) for kind, sketch in self._weighted_frequent.items()},
        }

    @classmethod
    def from_state(cls, name: str, options: StatisticsOptions, state: dict[str, Any]) -> Self:
        """Returns what `to_state` gave.

        Raises:
          InputError: for a state that a sketch does not read.
        """
        feature = cls(name, options)
        feature.presence = Presence.from_state(state["presence"])
        feature.kinds = set(state["kinds"])
        feature.nulls, feature.digits = state["nulls"], state["digits"]
        feature.distinct = DistinctSketch.from_bytes(state["distinct"])
        for attribute, sketch in _SKETCHES.items():
            if attribute in state:
                setattr(feature, attribute, sketch.from_bytes(state[attribute]))
        feature._frequent = _sketches(state["frequent"])
        feature._weighted_frequent = _sketches(state["weighted_frequent"])
        return feature


_SKETCHES: dict[str, Any] = {"numbers": NumberSketch, "weighted": WeightedNumbers, "texts": TextSketch}


def _sketches(states: dict[str, bytes]) -> dict[str, FrequentSketch]:
    return {kind: FrequentSketch.from_bytes(state) for kind, state in states.items()}


def _greatest(sketch: FrequentSketch, limit: int) -> list[tuple[int, Any]]:
    """Returns counts and values, the greatest counts first, and of equal ones the greatest values."""
    top = sketch.top()
    table = pa.table({"count": top.counts, "value": top.values})
    keys = [("count", "descending"), ("value", "descending")]
    chosen = table.take(pc.sort_indices(table, sort_keys=keys)[:limit])
    return list(zip(chosen["count"].to_pylist(), chosen["value"].to_pylist(), strict=True))


def _label(value: bytes | int) -> str:
    if isinstance(value, int):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return NOT_UTF8


def _digits(counts: ValueCounts) -> int:
    """Returns how many bytes integers have as decimals."""
    lengths = pc.binary_length(counts.values.cast(pa.string())).to_numpy(zero_copy_only=False).astype(np.int64)
    return int(lengths.sum() if counts.counts is None else np.dot(lengths, counts.counts))
