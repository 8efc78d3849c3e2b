"""Computes statistics of integers without rounding them first, as combiners of tensorflow-transform.

A combiner is what `tft` knows as `analyzer_nodes.Combiner`: it takes batches as numpy arrays, and gives arrays that
become constants of the graph. Statistics are kept for each key; without keys there is one, the empty text.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Doubles = npt.NDArray[np.float64]

# Sums of integers are computed in int64 by pieces of so many bits: a product of two pieces has at most 44, and so many
# of them can be added before int64 overflows.
_PIECE_BITS = 22
_MAX_SUMMANDS = 1 << 18

_EMPTY = (np.iinfo(np.int64).max, np.iinfo(np.int64).min)

# The greatest double below 2^63: int64 holds no greater one.
MAX_WHOLE_DOUBLE = float(2**63 - 1024)

# For how many values `tft` promises the error of its quantiles.
_MAX_VALUES = 1 << 32


class IntegerSums(NamedTuple):
    """What the moments of integers follow from; exact, so that neither order nor batches matter."""

    size: int
    low: int
    high: int
    total: int
    squares: int

    def merge(self, other: Self) -> "IntegerSums":
        """Returns the sums over both."""
        return IntegerSums(
            self.size + other.size,
            min(self.low, other.low),
            max(self.high, other.high),
            self.total + other.total,
            self.squares + other.squares,
        )

    @property
    def center(self) -> int:
        """The whole number below the mean; 0 without values."""
        return self.total // self.size if self.size else 0

    @property
    def rest(self) -> float:
        """The mean less `center`, in [0, 1)."""
        return float(Fraction(self.total, self.size) - self.center) if self.size else 0.0

    @property
    def deviation(self) -> float:
        """The standard deviation, with 0 delta degrees of freedom; 0 without values."""
        if not self.size:
            return 0.0
        return math.sqrt((self.size * self.squares - self.total**2) / self.size**2)


_NO_VALUES = IntegerSums(0, *_EMPTY, 0, 0)


def integer_sums(values: Ints) -> IntegerSums:
    """Sums up integers.

    >>> integer_sums(np.array([2**62, 2**62 + 2])).deviation
    1.0
    """
    found = _NO_VALUES
    for start in range(0, len(values), _MAX_SUMMANDS):
        part = values[start : start + _MAX_SUMMANDS]
        total, squares = _total_and_squares(part)
        found = found.merge(IntegerSums(len(part), int(part.min()), int(part.max()), total, squares))
    return found


def _total_and_squares(values: Ints) -> tuple[int, int]:
    mask = (1 << _PIECE_BITS) - 1
    pieces = [values & mask, values >> _PIECE_BITS & mask, values >> 2 * _PIECE_BITS]
    total = sum(int(piece.sum()) << index * _PIECE_BITS for index, piece in enumerate(pieces))
    squares = sum(
        (1 if i == j else 2) * int(np.dot(pieces[i], pieces[j])) << (i + j) * _PIECE_BITS
        for i in range(len(pieces))
        for j in range(i + 1)
    )
    return total, squares


def _by_key(*arrays: npt.NDArray[Any]) -> Iterator[tuple[bytes, Any]]:
    """Yields each key of a batch with its values, in their order."""
    if len(arrays) == 1:
        yield b"", arrays[0]
        return
    keys, indices, values = arrays
    order = np.argsort(indices, kind="stable")
    ends = np.cumsum(np.bincount(indices, minlength=len(keys)))
    yield from zip(keys.tolist(), np.split(values[order], ends[:-1]), strict=True)


class _KeyedCombiner:
    """Combines batches of (values,), or of (keys, index of each value's key, values); accumulators are by key."""

    accumulator_coder = None  # for a cache of analyses, which nothing here uses

    def create_accumulator(self) -> dict[bytes, Any]:
        return {}

    def add_input(self, accumulator: dict[bytes, Any], batch: Iterable[npt.NDArray[Any]]) -> dict[bytes, Any]:
        for key, part in _by_key(*batch):
            if len(part):
                accumulator[key] = self._add(accumulator.get(key), part)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[dict[bytes, Any]]) -> dict[bytes, Any]:
        merged: dict[bytes, Any] = {}
        for accumulator in accumulators:
            for key, item in accumulator.items():
                merged[key] = self._merge(merged[key], item) if key in merged else item
        return merged

    def compact(self, accumulator: dict[bytes, Any]) -> dict[bytes, Any]:
        return accumulator

    def extract_output(self, accumulator: dict[bytes, Any]) -> list[npt.NDArray[Any]]:
        keys = sorted(accumulator)
        return [np.array(keys, object), *self._output([accumulator[key] for key in keys])]

    def output_tensor_infos(self) -> list[Any]:
        import tensorflow as tf
        from tensorflow_transform import analyzer_nodes

        types = [(tf.string, (None,)), *((tf.as_dtype(kind), (None, None)) for kind in self._types)]
        return [analyzer_nodes.TensorInfo(kind, shape, None) for kind, shape in types]

    _types: tuple[type, ...]

    def _add(self, item: Any, values: npt.NDArray[Any]) -> Any:
        raise NotImplementedError

    def _merge(self, item: Any, other: Any) -> Any:
        raise NotImplementedError

    def _output(self, items: list[Any]) -> list[npt.NDArray[Any]]:
        raise NotImplementedError


class MomentsCombiner(_KeyedCombiner):
    """Computes the moments of integers.

    Gives the keys, bytes[k] in order; int64[k, 3] of (least, greatest, center); and float64[k, 2] of (rest, deviation),
    as `IntegerSums` has them.
    """

    _types = (np.int64, np.float64)

    def _add(self, item: IntegerSums | None, values: Ints) -> IntegerSums:
        return (item or _NO_VALUES).merge(integer_sums(values))

    def _merge(self, item: IntegerSums, other: IntegerSums) -> IntegerSums:
        return item.merge(other)

    def _output(self, items: list[IntegerSums]) -> list[npt.NDArray[Any]]:
        whole = [(item.low, item.high, item.center) for item in items]
        parts = [(item.rest, item.deviation) for item in items]
        return [np.array(whole, np.int64).reshape(-1, 3), np.array(parts, np.float64).reshape(-1, 2)]


def quantiles_error(buckets: int) -> float:
    """Returns the share of rows by which the quantiles of `tft.bucketize` may be off."""
    return min(1 / buckets, 0.01)


@dataclasses.dataclass(frozen=True)
class QuantilesCombiner(_KeyedCombiner):
    """Computes quantiles of integers of a key as `tft.bucketize_per_key` does, but exact to 2^53.

    Gives the keys, bytes[k] in order, and int64[k, buckets + 1]: least, boundaries, greatest.
    """

    buckets: int

    _types = (np.int64,)

    def _add(self, item: Any, values: Ints) -> Any:
        import pyarrow as pa
        from tfx_bsl import sketches

        sketch = item or sketches.QuantilesSketch(quantiles_error(self.buckets), _MAX_VALUES, 1)
        sketch.AddValues(pa.array(values.astype(np.float64)))
        return sketch

    def _merge(self, item: Any, other: Any) -> Any:
        item.Merge(other)
        return item

    def _output(self, items: list[Any]) -> list[npt.NDArray[Any]]:
        found = [item.GetQuantiles(self.buckets).to_pylist()[0] for item in items]
        edges = np.array(found, np.float64).reshape(-1, self.buckets + 1)
        return [np.minimum(edges, MAX_WHOLE_DOUBLE).astype(np.int64)]
