"""How many different values there are."""

import math
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from penstock.io.kernel import statistics
from penstock.transforms.statistics.sketches.state import Reader, Writer

MAX_HASHES = 4096

_TAG = b"D1"


class DistinctSketch:
    """The k least different 64-bit hashes of the values, for k = 4,096: "K minimum values".

    Up to k - 1 different values the count is exact, but for collisions of hashes: one of 10^-12 for so many texts, none
    for numbers that doubles hold. With more, it is (k - 1) / u, where u is the k-th least hash as a share of 2^64; its
    relative standard error is 1 / sqrt(k - 2), 1.6 % (Bar-Yossef et al., "Counting distinct elements in a data stream",
    2002; Beyer et al., "On synopses for distinct-value estimation under multiset operations", 2007).

    Memory: at most 64 KiB.
    """

    __slots__ = ("_least",)

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        self._least = statistics.LeastHashes(MAX_HASHES)

    def update(self, hashes: npt.NDArray[np.uint64]) -> None:
        """Adds the hashes of values, uint64[n], as `count_values` gives them, repeated ones too."""
        self._least.add(np.ascontiguousarray(hashes))

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds."""
        self._least.add(other._least.items())

    @property
    def is_exact(self) -> bool:
        """Whether all different values are known."""
        return len(self._least.items()) < MAX_HASHES

    @property
    def estimate(self) -> int:
        """How many different values there are, about."""
        least = self._least.items()
        if len(least) < MAX_HASHES:
            return len(least)
        return round(((MAX_HASHES - 1) << 64) / (int(least[-1]) + 1))

    @property
    def error(self) -> float:
        """The relative standard error of the estimate; 0 where exact."""
        return 0.0 if self.is_exact else 1 / math.sqrt(MAX_HASHES - 2)

    def to_bytes(self) -> bytes:
        """Returns the state, 8 bytes a hash."""
        return Writer(_TAG).put_words(self._least.items()).to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the sketch of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        reader = Reader(data, _TAG)
        sketch = cls()
        sketch.update(reader.take_words())
        reader.end()
        return sketch

    def __eq__(self, other: object) -> bool:
        """Whether both were given the same values, as far as they can tell."""
        return isinstance(other, DistinctSketch) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(),)
