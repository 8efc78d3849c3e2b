"""What float32 does to doubles: which lose digits, and which fall together.

A double *loses* when its float32 does not read back as the same number: the shortest decimal that stands for the
float32 is another one. 0.1 and 12.35 lose nothing, though no float32 is exactly 0.1; 1748736094.501 becomes
1748736128.0, as does every time within a minute of it. A finite double beyond float32 is not looked at: it is rejected.

What all rows have in common is summarised in sketches of bounded size. They keep the least hashes (of values: how many
distinct ones there are; of float32 images: which values fall together), so that they can be merged in any order and
grouping, are exact up to their size, and estimate beyond it (Bar-Yossef et al., "Counting distinct elements in a data
stream", 2002).
"""

import dataclasses
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import feature_names
from penstock.io.columns.lists import list_column
from penstock.io.columns.values import item_type
from penstock.io.kernel import grammar
from penstock.io.kernel.shared.numbers import Mask
from penstock.io.reasons import Note

Doubles = npt.NDArray[np.float64]
Hashes = npt.NDArray[np.uint64]

# The code of notes about numbers that lose digits, and what can be done.
ROUNDED = "float32.rounded"
TELLS = (
    "to keep all digits, write times as whole milliseconds (INT) or take them as --event_time, make the column BYTES "
    "in the schema, or write --output_format parquet"
)

# float32 holds every whole number up to here, either way.
MAX_EXACT_WHOLE = 1 << 24


def losing(values: Doubles) -> Mask:
    """Marks the doubles that lose digits as float32; NaN, infinity and what is beyond float32 are not marked.

    >>> losing(np.array([0.1, 12.35, 20000001, 1748736094.501])).tolist()
    [False, False, True, True]
    """
    found: Mask = grammar.losing(np.ascontiguousarray(values, np.float64))
    return found


def rounding_notes(rows: pa.RecordBatch) -> list[Note]:
    """Returns a note for each float64 column, also of lists, in which tf.Examples of these rows lose digits."""
    notes = []
    for name in feature_names(rows):
        if pa.types.is_float64(item_type(rows.schema.field(name).type)):
            values = list_column(rows.column(name)).values.to_numpy(zero_copy_only=False)
            lost = losing(values)
            if lost.any():
                example = lost_digits(float(values[lost].min()))
                notes.append(Note(ROUNDED, name, int(lost.sum()), f"{example}; {TELLS}"))
    return notes


@dataclasses.dataclass(frozen=True, eq=False)
class Distinct:
    """The number of distinct values, by the least of their hashes.

    Attributes:
      hashes: uint64[], ascending, at most `size`.
      size: up to which the number is exact.
    """

    hashes: Hashes
    size: int

    @classmethod
    def of(cls, values: Doubles, size: int) -> Self:
        """Counts these values."""
        return cls(_least(_hashes(values), size), size)

    def merge(self, other: Self) -> Self:
        """Counts the values of both."""
        if not len(other.hashes):
            return self
        return dataclasses.replace(self, hashes=np.union1d(self.hashes, other.hashes)[: self.size])

    @property
    def is_exact(self) -> bool:
        """Whether there are fewer values than `size`."""
        return len(self.hashes) < self.size

    @property
    def count(self) -> int:
        """The number of values, or its estimate, off by about 100 / sqrt(size) percent."""
        return len(self.hashes) if self.is_exact else round((self.size - 1) / (float(self.hashes[-1]) / 2.0**64))


@dataclasses.dataclass(frozen=True, eq=False)
class Images:
    """The float32 images of values, those of the least hashes, each with the least and the greatest of its values.

    Attributes:
      hashes: uint64[], ascending, at most `size`.
      lows, highs: float64[], of each image.
      size: up to which all images are here.
    """

    hashes: Hashes
    lows: Doubles
    highs: Doubles
    size: int

    @classmethod
    def of(cls, values: Doubles, size: int) -> Self:
        """Collects the images of these values, which are finite as float32."""
        hashes = _hashes(values.astype(np.float32).astype(np.float64))
        least = _least(hashes, size)
        kept = np.flatnonzero(hashes <= least[-1]) if len(least) else np.zeros(0, np.int64)
        return cls._grouped(hashes[kept], values[kept], values[kept], size)

    @classmethod
    def _grouped(cls, hashes: Hashes, lows: Doubles, highs: Doubles, size: int) -> Self:
        least, groups = np.unique(hashes, return_inverse=True)
        found = np.full(len(least), np.inf), np.full(len(least), -np.inf)
        np.minimum.at(found[0], groups, lows)
        np.maximum.at(found[1], groups, highs)
        return cls(least[:size], found[0][:size], found[1][:size], size)

    def merge(self, other: Self) -> Self:
        """Collects the images of both."""
        if not len(other.hashes):
            return self
        mine, theirs = (self.hashes, self.lows, self.highs), (other.hashes, other.lows, other.highs)
        hashes, lows, highs = (np.concatenate(both) for both in zip(mine, theirs, strict=True))
        return self._grouped(hashes, lows, highs, self.size)

    @property
    def count(self) -> int:
        """The number of images, exact or estimated as `Distinct.count`."""
        return Distinct(self.hashes, self.size).count

    @property
    def example(self) -> tuple[float, float] | None:
        """Two values with one image; None if there are none among these images."""
        rows = np.flatnonzero(self.lows < self.highs)
        return (float(self.lows[rows[0]]), float(self.highs[rows[0]])) if len(rows) else None


def _least(hashes: Hashes, size: int) -> Hashes:
    """Returns the `size` least distinct hashes, ascending."""
    # Hashes are evenly spread: sort the part of them that should be enough, and all of them only if it is not.
    if len(hashes) > 8 * size:
        found = np.unique(hashes[hashes <= np.uint64(4 * size / len(hashes) * 2.0**64)])
        if len(found) >= size:
            return found[:size]
    return np.unique(hashes)[:size]


def _hashes(values: Doubles) -> Hashes:
    """Mixes the bits of doubles, as the end of MurmurHash3 does (public domain): uint64[n]."""
    bits = np.ascontiguousarray(values, np.float64).view(np.uint64).copy()
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        bits ^= bits >> np.uint64(33)
        bits *= np.uint64(factor)
    bits ^= bits >> np.uint64(33)
    return bits


def lost_digits(value: float, other: float | None = None) -> str:
    """Says what float32 makes of a number, or of two that fall together.

    >>> lost_digits(1748736094.501)
    '1748736094.501 becomes 1748736128.0'
    """
    becomes = repr(float(np.float32(value)))
    return f"{value!r} becomes {becomes}" if other is None else f"{value!r} and {other!r} both become {becomes}"
