"""What is known of a column of texts: how long they are, and what they look like."""

from typing import Any, Self

import numpy as np

from penstock.io.kernel import statistics
from penstock.io.kernel.shared.statistics import INVALID_UTF8, NO_PATTERN, PATTERNS
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch
from penstock.transforms.statistics.sketches.state import Reader, Writer
from penstock.transforms.statistics.sketches.values import ValueCounts

PATTERN_NAMES = tuple(PATTERNS)

_TAG = b"T1"
# No text is longer than its column may be.
_LONGEST = 1 << 62


class TextSketch:
    """Lengths of texts in characters and bytes, and how many follow each pattern; all exact.

    The patterns, and which of them a text has, are those of `penstock.io.kernel.shared.statistics`. Bytes that are no
    UTF-8 are counted and have no pattern; their characters are the bytes that do not continue one (0x80 to 0xBF).

    Memory: about 1 KiB, and that of a `QuantileSketch` for the lengths, exact up to 4,096 different lengths.

    Attributes:
      lengths: of the texts in characters.
      count: how many texts there are.
      invalid_utf8: how many are no UTF-8.
      characters: how many characters all texts have.
      bytes: how many bytes all texts have.
    """

    __slots__ = (
        "_max_bytes",
        "_max_length",
        "_min_bytes",
        "_min_length",
        "_patterns",
        "bytes",
        "characters",
        "count",
        "invalid_utf8",
        "lengths",
    )

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        self.lengths = QuantileSketch()
        self.count = self.invalid_utf8 = self.characters = self.bytes = 0
        self._min_length = self._min_bytes = _LONGEST
        self._max_length = self._max_bytes = -1
        self._patterns = [0] * len(PATTERNS)

    def update(self, values: ValueCounts) -> None:
        """Adds texts, as `count_values` gives them.

        Raises:
          TypeError: for numbers.
        """
        if values.texts is None:
            raise TypeError(f"a TextSketch takes texts, got {values.values.type}")
        codes, short, longer, longer_counts, size, least, most = statistics.describe_texts(values.texts, values.counts)
        if most < 0:
            return
        few = np.flatnonzero(short)
        lengths, counts = np.concatenate([few, longer]), np.concatenate([short[few], longer_counts])
        self.count += int(counts.sum())
        self.characters += int(np.dot(lengths, counts))
        self.bytes += size
        self._count_patterns(codes.tolist())
        least_length, most_length = int(lengths.min()), int(lengths.max())
        self._widen(least_length, most_length, least, most)
        self.lengths.update_within(lengths.astype(np.float64), counts, float(least_length), float(most_length))

    def _widen(self, least: int, greatest: int, least_bytes: int, most_bytes: int) -> None:
        self._min_length, self._max_length = min(self._min_length, least), max(self._max_length, greatest)
        self._min_bytes, self._max_bytes = min(self._min_bytes, least_bytes), max(self._max_bytes, most_bytes)

    def _count_patterns(self, counts: list[int]) -> None:
        self.invalid_utf8 += counts[INVALID_UTF8]
        first = NO_PATTERN + 1
        self._patterns = [
            old + new for old, new in zip(self._patterns, counts[first : first + len(PATTERNS)], strict=True)
        ]

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        self.count += other.count
        self.invalid_utf8 += other.invalid_utf8
        self.characters += other.characters
        self.bytes += other.bytes
        self._widen(other._min_length, other._max_length, other._min_bytes, other._max_bytes)
        self._patterns = [ours + theirs for ours, theirs in zip(self._patterns, other._patterns, strict=True)]
        self.lengths.merge(other.lengths)

    @property
    def patterns(self) -> dict[str, int]:
        """How many texts have each pattern, for all of PATTERN_NAMES in their order."""
        return dict(zip(PATTERN_NAMES, self._patterns, strict=True))

    @property
    def empty(self) -> int:
        """How many texts are empty."""
        return self.patterns["empty"]

    @property
    def whitespace(self) -> int:
        """How many texts have nothing but whitespace, of ASCII."""
        return self.patterns["whitespace"]

    @property
    def min_length(self) -> int | None:
        """The fewest characters of a text; None without texts."""
        return self._min_length if self.count else None

    @property
    def max_length(self) -> int | None:
        """The most characters of a text; None without texts."""
        return self._max_length if self.count else None

    @property
    def min_bytes(self) -> int | None:
        """The fewest bytes of a text; None without texts."""
        return self._min_bytes if self.count else None

    @property
    def max_bytes(self) -> int | None:
        """The most bytes of a text; None without texts."""
        return self._max_bytes if self.count else None

    @property
    def mean_length(self) -> float:
        """The mean number of characters, rounded to the nearest float; NaN without texts."""
        return self.characters / self.count if self.count else np.nan

    @property
    def mean_bytes(self) -> float:
        """The mean number of bytes, rounded likewise; NaN without texts."""
        return self.bytes / self.count if self.count else np.nan

    def to_bytes(self) -> bytes:
        """Returns the state, about 100 bytes and that of the lengths."""
        writer = Writer(_TAG)
        for name in _INTS:
            writer.put_int(getattr(self, name))
        for count in self._patterns:
            writer.put_int(count)
        return writer.put_blob(self.lengths.to_bytes()).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the sketch of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        reader = Reader(data, _TAG)
        sketch = cls()
        for name in _INTS:
            setattr(sketch, name, reader.take_count(least=-1))
        sketch._patterns = [reader.take_count() for _ in PATTERNS]
        sketch.lengths = QuantileSketch.from_bytes(reader.take_blob())
        reader.end()
        return sketch

    def __eq__(self, other: object) -> bool:
        """Whether both were given the same texts, as far as they can tell."""
        return isinstance(other, TextSketch) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)


# A new pattern, or field, needs a new tag.
_INTS = ("count", "invalid_utf8", "characters", "bytes", "_min_length", "_max_length", "_min_bytes", "_max_bytes")
