"""Which positions of its input a stream has read: what a job that is started again need not read again.

A reader tells for each bundle which positions it has taken, and for how many rows (`ReadMark`). The steps behind it
tell which rows have come to them, written or rejected (`InputRange`). A position counts as read once the rows of its
mark have all come (`ReadPositions`), in whatever order all this arrives. So a window can say what is in it.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from penstock.io.beam.json_coder import register_json

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Tag of the output of a reader with its `ReadMark`s.
MARKS = "marks"

# Ranges [start, stop) of positions of one uri: ascending, disjoint and not adjacent.
Ranges = tuple[tuple[int, int], ...]

# The ranges by uri.
Covered = Mapping[str, Ranges]


@register_json
@dataclasses.dataclass(frozen=True)
class ReadMark:
    """What one bundle has read.

    Attributes:
      ranges: by uri; there may be positions without a row in them.
      rows: by uri, the rows, good and rejected, that were given on for them.
      began: the first position of each uri that this stream reads from now on.
      anew: uris whose positions have begun again, as those of a topic that was deleted and created.
    """

    ranges: Mapping[str, tuple[int, int]]
    rows: Mapping[str, int]
    began: Mapping[str, int] = dataclasses.field(default_factory=dict)
    anew: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class InputRange:
    """Rows of one source: the least and greatest position, and the number of rows.

    Other rows may lie between these positions, for instance rows of other windows.
    """

    uri: str
    first: int
    last: int
    rows: int


@dataclasses.dataclass(frozen=True)
class MarkedRange:
    """Positions [start, stop) of a uri that were read, of which `missing` rows have not come yet."""

    uri: str
    start: int
    stop: int
    missing: int


@dataclasses.dataclass(frozen=True)
class ReadPositions:
    """What has been read, as far as its rows have come.

    Attributes:
      began: the first position of each uri that is read.
      whole: positions whose rows have all come.
      marked: those whose rows have not.
      early: rows that came before their mark.
      is_known: whether all this is true: not behind a step that joins rows of several bundles, and not if positions
        have begun anew.
    """

    began: Mapping[str, int] = dataclasses.field(default_factory=dict)
    whole: Covered = dataclasses.field(default_factory=dict)
    marked: tuple[MarkedRange, ...] = ()
    early: tuple[InputRange, ...] = ()
    is_known: bool = True

    @classmethod
    def unknown(cls) -> "ReadPositions":
        """Returns that nothing is known, nor will be: of a stream that nobody asks, whose steps may drop rows."""
        return cls(is_known=False)

    def mark(self, mark: ReadMark) -> "ReadPositions":
        """Returns what is known after one more mark."""
        if not self.is_known or mark.anew:
            return self.unknown()
        marked = [MarkedRange(uri, *span, mark.rows.get(uri, 0)) for uri, span in mark.ranges.items()]
        now = dataclasses.replace(self, began={**mark.began, **self.began}, marked=(*self.marked, *marked), early=())
        return now.come(self.early)

    def come(self, rows: Iterable[InputRange]) -> "ReadPositions":
        """Returns what is known after more rows have come."""
        if not self.is_known:
            return self
        marked, early = list(self.marked), list(self.early)
        for some in rows:
            index = next((i for i, span in enumerate(marked) if _begins_in(some, span)), None)
            if index is None:
                early.append(some)
                continue
            marked[index] = dataclasses.replace(marked[index], missing=marked[index].missing - some.rows)
            if some.last >= marked[index].stop or marked[index].missing < 0:
                return self.unknown()
        whole = merge_covered(self.whole, _by_uri(span for span in marked if not span.missing))
        return dataclasses.replace(
            self, whole=whole, marked=tuple(span for span in marked if span.missing), early=tuple(early)
        )

    def reached(self) -> dict[str, int]:
        """Returns for each uri the position before which all rows have come."""
        return {uri: frontier(self.whole.get(uri, ()), began) for uri, began in self.began.items()}


def _begins_in(rows: InputRange, span: MarkedRange) -> bool:
    return rows.uri == span.uri and span.start <= rows.first < span.stop


def _by_uri(spans: Iterable[MarkedRange]) -> Covered:
    found: dict[str, tuple[tuple[int, int], ...]] = {}
    for span in spans:
        found[span.uri] = (*found.get(span.uri, ()), (span.start, span.stop))
    return found


def covered_by(rows: Iterable[InputRange]) -> Covered:
    """Returns the ranges of positions that rows span."""
    return _by_uri(MarkedRange(some.uri, some.first, some.last + 1, 0) for some in rows)


def first_of(rows: Iterable[InputRange]) -> dict[str, int]:
    """Returns the least position of each uri."""
    return least(*({some.uri: some.first} for some in rows))


def last_of(rows: Iterable[InputRange]) -> dict[str, int]:
    """Returns the greatest position of each uri."""
    return greatest(*({some.uri: some.last} for some in rows))


def merge_covered(one: Covered, other: Covered) -> Covered:
    """Merges ranges by uri, in the order of uris."""
    return {uri: merge_ranges((*one.get(uri, ()), *other.get(uri, ()))) for uri in sorted({**one, **other})}


def merge_ranges(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Joins ranges that overlap or touch.

    >>> merge_ranges([(5, 7), (0, 2), (2, 4)])
    ((0, 4), (5, 7))
    """
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(stop, merged[-1][1])
        elif start < stop:
            merged.append((start, stop))
    return tuple(merged)


def without(one: Covered, other: Covered) -> Covered:
    """Returns the positions of `one` that `other` has not, by uri, in the order of uris.

    >>> without({"k": ((0, 9),), "l": ((2, 4),)}, {"k": ((2, 3), (7, 12)), "l": ((0, 5),)})
    {'k': ((0, 2), (3, 7))}
    """
    left = {uri: tuple(_cut_out(one[uri], other.get(uri, ()))) for uri in sorted(one)}
    return {uri: ranges for uri, ranges in left.items() if ranges}


def _cut_out(ranges: Ranges, holes: Ranges) -> Iterator[tuple[int, int]]:
    for start, stop in ranges:
        for low, high in holes:
            if start < low < stop:
                yield start, low
            if low < stop and start < high:
                start = high
        if start < stop:
            yield start, stop


def contains(ranges: Ranges, positions: "npt.NDArray[np.int64]") -> "npt.NDArray[np.bool_]":
    """Returns for each position whether it lies in a range."""
    import numpy as np

    bounds = np.array(ranges, np.int64).reshape(-1)
    # Between bounds 2i and 2i + 1 is range i.
    found: npt.NDArray[np.bool_] = np.searchsorted(bounds, positions, side="right") % 2 == 1
    return found


def frontier(ranges: Ranges, began: int) -> int:
    """Returns the position up to which everything has been read since `began`.

    >>> frontier(((0, 4), (5, 7)), 0), frontier(((5, 7),), 0)
    (4, 0)
    """
    return next((stop for start, stop in ranges if start <= began < stop), began)


def least(*positions: Mapping[str, int]) -> dict[str, int]:
    """Returns the least position of each uri.

    >>> least({"a": 3}, {"a": 2, "b": 1})
    {'a': 2, 'b': 1}
    """
    found: dict[str, int] = {}
    for some in positions:
        for uri, position in some.items():
            found[uri] = min(position, found.get(uri, position))
    return found


def greatest(*positions: Mapping[str, int]) -> dict[str, int]:
    """Returns the greatest position of each uri.

    >>> greatest({"a": 3}, {"a": 2, "b": 1})
    {'a': 3, 'b': 1}
    """
    found: dict[str, int] = {}
    for some in positions:
        for uri, position in some.items():
            found[uri] = max(position, found.get(uri, position))
    return found


class SeenPositions:
    """Positions by uri, for a test of many at once.

    Attributes:
      positions: single ones, ascending int64, by uri.
      ranges: others, as ranges.
    """

    def __init__(self, positions: "Mapping[str, npt.NDArray[np.int64]]", ranges: Covered | None = None):
        self.positions = positions
        self.ranges: Covered = ranges or {}

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, int]]) -> "SeenPositions":
        """Takes pairs of uri and position, in any order."""
        import numpy as np

        found: dict[str, list[int]] = {}
        for uri, position in pairs:
            found.setdefault(uri, []).append(position)
        return cls({uri: np.unique(np.array(some, np.int64)) for uri, some in found.items()})

    @property
    def uris(self) -> set[str]:
        """The uris of which there are positions."""
        return {*self.positions, *self.ranges}

    def contains(self, uri: str, positions: "npt.NDArray[np.int64]") -> "npt.NDArray[np.bool_]":
        """Returns for each position of a uri whether it is among them."""
        import numpy as np

        return np.isin(positions, self.positions.get(uri, ())) | contains(self.ranges.get(uri, ()), positions)
