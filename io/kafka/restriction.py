"""What is left to read of a group of partitions, as a restriction of a splittable DoFn.

A restriction is a set of `OffsetRange`s. While it is worked on, a reader claims "everything of this partition before
that offset"; a checkpoint cuts every partition where it has been claimed to::

    claimed     t/0 |=========>.............   t/1 |===>.......
    primary     t/0 |==========|               t/1 |====|
    residual    t/0            |............   t/1      |......
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator

from apache_beam import coders
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.transforms.core import RestrictionProvider

from penstock.io.kafka.offsets import OffsetRange, Partition

# A bounded partition is cut into ranges of so many offsets, which can be read side by side.
_RANGE_OFFSETS = 1_000_000

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Spans:
    """Spans of several partitions, sorted; endless when any has no end."""

    spans: tuple[OffsetRange, ...]

    @property
    def endless(self) -> bool:
        """Whether there is a span without end."""
        return any(span.stop is None for span in self.spans)

    def size(self) -> int:
        """Offsets left; an endless span counts as 1."""
        return sum(1 if span.stop is None else span.stop - span.start for span in self.spans)

    def ranges(self, offsets: int) -> "Iterator[Spans]":
        """Spans of at most about so many offsets each, of one partition each."""
        for span in self.spans:
            stop = span.start if span.stop is None else span.stop
            pieces = max(1, (stop - span.start) // offsets)
            cuts = [span.start + (stop - span.start) * piece // pieces for piece in range(pieces)] + [stop]
            for first, last in itertools.pairwise(cuts):
                if first < last:
                    yield Spans((dataclasses.replace(span, start=first, stop=last),))


@dataclasses.dataclass(frozen=True)
class OffsetClaim:
    """All of a partition before offset `upto` is read, or being read.

    `again`: the partition's offsets have begun anew, so that `upto` may be lower than what was claimed before.
    """

    topic: str
    partition: int
    upto: int
    again: bool = False


class SpansCoder(coders.Coder):
    """Spans as JSON, which other versions of Penstock can read."""

    def encode(self, value: Spans) -> bytes:
        """`{"version": 1, "spans": [["topic", 0, 5, 100], ["topic", 1, 7, null]]}`."""
        rows = [[span.topic, span.partition, span.start, span.stop] for span in value.spans]
        return json.dumps({"version": _VERSION, "spans": rows}).encode()

    def decode(self, encoded: bytes) -> Spans:
        """The inverse of `encode`; members that are not known are ignored."""
        return Spans(tuple(OffsetRange(*row) for row in json.loads(encoded)["spans"]))

    def is_deterministic(self) -> bool:
        """True."""
        return True

    def to_type_hint(self) -> type:
        """The type."""
        return Spans


class SpansTracker(RestrictionTracker):
    """Keeps how far each partition has been claimed.

    A partition that an endless restriction does not have may be claimed: it joins there.
    """

    def __init__(self, restriction: Spans):
        self._restriction = restriction
        self._cut = False
        self._stops: dict[Partition, int | None] = {}
        self._starts: dict[Partition, int] = {}
        for span in restriction.spans:
            self._starts[span.topic, span.partition] = span.start
            self._stops[span.topic, span.partition] = span.stop
        self._claimed = dict(self._starts)

    def current_restriction(self) -> Spans:
        """What this tracker is responsible for: less than before once it has been cut."""
        return self._restriction

    def try_claim(self, position: OffsetClaim) -> bool:
        """Claims offsets; False when they belong to somebody else by now.

        Raises:
          ValueError: when a claim goes back, or a bounded restriction does not have the partition.
        """
        place = (position.topic, position.partition)
        if self._cut:
            return False
        if place not in self._claimed:
            self._join(place, position.upto)
        stop = self._stops[place]
        if stop is not None and position.upto > stop:
            return False
        if position.upto < self._claimed[place] and not position.again:
            raise ValueError(f"{position} goes back: {self._claimed[place]} has been claimed")
        self._claimed[place] = position.upto
        return True

    def _join(self, place: Partition, offset: int) -> None:
        if self.is_bounded():
            raise ValueError(f"{place} is not in {self._restriction}")
        self._starts[place] = self._claimed[place] = offset
        self._stops[place] = None

    def try_split(self, fraction_of_remainder: float) -> tuple[Spans, Spans] | None:
        """Cuts where the claims end; at no other place."""
        if fraction_of_remainder != 0 or self._cut or not self._is_left():
            return None
        primary, residual = [], []
        for place, claimed in sorted(self._claimed.items()):
            stop = self._stops[place]
            primary.append(OffsetRange(*place, min(self._starts[place], claimed), claimed))
            if stop is None or claimed < stop:
                residual.append(OffsetRange(*place, claimed, stop))
        self._cut = True
        self._restriction = Spans(tuple(primary))
        return self._restriction, Spans(tuple(residual))

    def _is_left(self) -> bool:
        return any(stop is None or self._claimed[place] < stop for place, stop in self._stops.items())

    def check_done(self) -> bool:
        """Whether everything has been claimed.

        Raises:
          ValueError: when it has not, since rows would be lost.
        """
        if not self._cut and self._is_left():
            raise ValueError(f"{self._restriction} has been read only up to {self._claimed}")
        return True

    def current_progress(self) -> RestrictionProgress:
        """Offsets claimed and left."""
        done = sum(max(0, claimed - self._starts[place]) for place, claimed in self._claimed.items())
        left = sum(
            1 if stop is None else max(0, stop - self._claimed[place])
            for place, stop in self._stops.items()
            if not self._cut
        )
        return RestrictionProgress(completed=done, remaining=left)

    def is_bounded(self) -> bool:
        """Whether it has an end."""
        return not self._restriction.endless


class SpansProvider(RestrictionProvider):
    """Restrictions of elements (group, groups, `Spans` as JSON)."""

    def initial_restriction(self, element: tuple[int, int, bytes]) -> Spans:
        """All of it."""
        return SpansCoder().decode(element[2])

    def create_tracker(self, restriction: Spans) -> SpansTracker:
        """A tracker that has claimed nothing."""
        return SpansTracker(restriction)

    def split(self, element: tuple[int, int, bytes], restriction: Spans) -> Iterator[Spans]:
        """Ranges of a bounded restriction; an endless one stays together, so that one consumer serves it."""
        if restriction.endless:
            yield restriction
        else:
            yield from restriction.ranges(_RANGE_OFFSETS)

    def restriction_size(self, element: tuple[int, int, bytes], restriction: Spans) -> int:
        """Offsets left."""
        return restriction.size()

    def restriction_coder(self) -> SpansCoder:
        """JSON."""
        return SpansCoder()
