"""The offsets that are left to read of a group of partitions, as a restriction of a splittable DoFn.

A restriction is a set of `OffsetRange`s. A reader claims "everything of this partition before that offset". A
checkpoint cuts every partition where its claim ends::

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

# A bounded partition is cut into ranges of about this many offsets, which can be read in parallel.
_RANGE_OFFSETS = 1_000_000

_VERSION = 1


@dataclasses.dataclass(frozen=True)
class Spans:
    """Offset ranges of several partitions, sorted; endless when one of them has no end."""

    spans: tuple[OffsetRange, ...]

    @property
    def endless(self) -> bool:
        """Whether a span has no end."""
        return any(span.stop is None for span in self.spans)

    def size(self) -> int:
        """Returns the number of offsets left; an endless span counts as 1."""
        return sum(1 if span.stop is None else span.stop - span.start for span in self.spans)

    def ranges(self, offsets: int) -> "Iterator[Spans]":
        """Splits into pieces of one partition and about `offsets` offsets each."""
        for span in self.spans:
            stop = span.start if span.stop is None else span.stop
            pieces = max(1, (stop - span.start) // offsets)
            cuts = [span.start + (stop - span.start) * piece // pieces for piece in range(pieces)] + [stop]
            for first, last in itertools.pairwise(cuts):
                if first < last:
                    yield Spans((dataclasses.replace(span, start=first, stop=last),))


@dataclasses.dataclass(frozen=True)
class OffsetClaim:
    """Claims all of a partition before offset `upto`.

    `again`: the partition's offsets have started again, and `upto` may be lower than the claim before.
    """

    topic: str
    partition: int
    upto: int
    again: bool = False


class SpansCoder(coders.Coder):
    """Encodes spans as JSON, which other versions of Penstock can read."""

    def encode(self, value: Spans) -> bytes:
        """Encodes as `{"version": 1, "spans": [["topic", 0, 5, 100], ["topic", 1, 7, null]]}`."""
        rows = [[span.topic, span.partition, span.start, span.stop] for span in value.spans]
        return json.dumps({"version": _VERSION, "spans": rows}).encode()

    def decode(self, encoded: bytes) -> Spans:
        """Decodes the result of `encode`; ignores unknown members."""
        return Spans(tuple(OffsetRange(*row) for row in json.loads(encoded)["spans"]))

    def is_deterministic(self) -> bool:
        """Returns True."""
        return True

    def to_type_hint(self) -> type:
        """Returns `Spans`."""
        return Spans


class SpansTracker(RestrictionTracker):
    """Tracks how far each partition has been claimed.

    An endless restriction accepts claims of new partitions: they join at the claimed offset.
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
        """Returns the spans that this tracker is responsible for: fewer offsets once it has been cut."""
        return self._restriction

    def try_claim(self, position: OffsetClaim) -> bool:
        """Claims offsets; returns False when another bundle has them by now.

        Raises:
          ValueError: when a claim goes back, or a bounded restriction does not have the partition.
        """
        partition = (position.topic, position.partition)
        if self._cut:
            return False
        if partition not in self._claimed:
            self._join(partition, position.upto)
        stop = self._stops[partition]
        if stop is not None and position.upto > stop:
            return False
        if position.upto < self._claimed[partition] and not position.again:
            raise ValueError(f"{position} goes back: {self._claimed[partition]} has been claimed")
        self._claimed[partition] = position.upto
        return True

    def _join(self, partition: Partition, offset: int) -> None:
        if self.is_bounded():
            raise ValueError(f"{partition} is not in {self._restriction}")
        self._starts[partition] = self._claimed[partition] = offset
        self._stops[partition] = None

    def try_split(self, fraction_of_remainder: float) -> tuple[Spans, Spans] | None:
        """Cuts where the claims end, and nowhere else."""
        if fraction_of_remainder != 0 or self._cut or not self._is_left():
            return None
        primary, residual = [], []
        for partition, claimed in sorted(self._claimed.items()):
            stop = self._stops[partition]
            primary.append(OffsetRange(*partition, min(self._starts[partition], claimed), claimed))
            if stop is None or claimed < stop:
                residual.append(OffsetRange(*partition, claimed, stop))
        self._cut = True
        self._restriction = Spans(tuple(primary))
        return self._restriction, Spans(tuple(residual))

    def _is_left(self) -> bool:
        return any(stop is None or self._claimed[partition] < stop for partition, stop in self._stops.items())

    def check_done(self) -> bool:
        """Checks that everything has been claimed.

        Raises:
          ValueError: when something has not, since its rows would be lost.
        """
        if not self._cut and self._is_left():
            raise ValueError(f"{self._restriction} has been read only up to {self._claimed}")
        return True

    def current_progress(self) -> RestrictionProgress:
        """Returns the numbers of offsets claimed and left."""
        done = sum(max(0, claimed - self._starts[partition]) for partition, claimed in self._claimed.items())
        left = sum(
            1 if stop is None else max(0, stop - self._claimed[partition])
            for partition, stop in self._stops.items()
            if not self._cut
        )
        return RestrictionProgress(completed=done, remaining=left)

    def is_bounded(self) -> bool:
        """Returns whether every span has an end."""
        return not self._restriction.endless


class SpansProvider(RestrictionProvider):
    """Makes the restrictions of elements (group, groups, `Spans` as JSON)."""

    def initial_restriction(self, element: tuple[int, int, bytes]) -> Spans:
        """Returns all spans of the element."""
        return SpansCoder().decode(element[2])

    def create_tracker(self, restriction: Spans) -> SpansTracker:
        """Makes a tracker that has claimed nothing."""
        return SpansTracker(restriction)

    def split(self, element: tuple[int, int, bytes], restriction: Spans) -> Iterator[Spans]:
        """Splits a bounded restriction into ranges; an endless one stays whole, since one consumer serves it."""
        if restriction.endless:
            yield restriction
        else:
            yield from restriction.ranges(_RANGE_OFFSETS)

    def restriction_size(self, element: tuple[int, int, bytes], restriction: Spans) -> int:
        """Returns the number of offsets left."""
        return restriction.size()

    def restriction_coder(self) -> SpansCoder:
        """Returns the coder to JSON."""
        return SpansCoder()
