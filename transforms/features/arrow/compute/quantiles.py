"""Quantiles of numbers, with the ranks of tensorflow-transform's."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.reasons import Note
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted, read_keys, written_keys
from penstock.transforms.features.arrow.compute.columns import Column, Ints, by_code
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch

# So many different numbers are exact; beyond, those are taken together that agree in their upper bits. 32 MiB at most.
MAX_EXACT = 1 << 20

# The greatest double below 2^63: int64 holds no greater one.
_MAX_WHOLE_DOUBLE = float(2**63 - 1024)


def quantiles(sketch: QuantileSketch, buckets: int) -> npt.NDArray[np.float64]:
    """Returns the borders of buckets of equally many numbers with least and greatest, float64[buckets + 1].

    The border of rank r is the number with more than r * n / buckets numbers below or equal to it, the least such one.
    That of `tft.quantiles` is the same as long as its sketch has room for all different numbers. Zeros without any.
    """
    lows, highs, counts = sketch.buckets()
    if not len(counts):
        return np.zeros(buckets + 1)
    ends = np.cumsum(counts)
    ranks = np.arange(buckets + 1) * float(ends[-1]) / buckets
    places = np.minimum(np.searchsorted(ends, ranks, side="right"), len(ends) - 1)
    shares = (ranks - (ends - counts)[places]) / counts[places]
    with np.errstate(invalid="ignore"):
        inner = lows[places] + (highs - lows)[places] * shares
    return np.where(lows[places] == highs[places], lows[places], inner)


# The code of a note about quantiles, and by what share of the rows they may be off without one.
COARSE = "fit.coarse"
_TOLERANCE = 0.01

# Quantiles to clip by are those of thousandths.
_SHARES = 1000


class _Quantiles(Analysis):
    """The numbers of a column; NaN is in no quantile."""

    def __init__(self, kinds: Sequence[Kind], **arguments: Any) -> None:
        self._kind = kinds[0]
        self._arguments = arguments
        self._sketch = QuantileSketch(MAX_EXACT)

    def add(self, columns: Sequence[Column]) -> None:
        """Adds the numbers of a column; integers beyond 2^53 as the nearest double."""
        values = columns[0].values.astype(np.float64)
        self._sketch.update(values[~np.isnan(values)] if columns[0].values.dtype == np.float32 else values)

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        self._sketch.merge(other._sketch)

    def notes(self, column: str) -> Iterator[Note]:
        """Yields a note where quantiles may be off by more than 1 % of the rows."""
        error = rank_error(self._sketch)
        if error > _TOLERANCE:
            detail = f"its quantiles may be off by {error:.1%} of the rows: it has more than {MAX_EXACT:,} numbers"
            yield Note(
                COARSE, column, self._sketch.count, f"{detail}, too far apart; take log of it before, or round it"
            )

    def _held(self, numbers: npt.NDArray[np.float64]) -> list[Any]:
        """Returns numbers as their column has them."""
        if self._kind is Kind.INT:
            return np.minimum(numbers, _MAX_WHOLE_DOUBLE).astype(np.int64).tolist()
        with np.errstate(over="ignore"):
            return numbers.astype(np.float32).tolist()


class Boundaries(_Quantiles):
    """The boundaries between buckets of equally many numbers."""

    def finish(self) -> Fitted:
        """Returns `boundaries`, one less than buckets, and by what share of the rows they may be off."""
        inner = quantiles(self._sketch, self._arguments["num_buckets"])[1:-1]
        return {"boundaries": self._held(inner), "rank_error": rank_error(self._sketch)}


class Edges(_Quantiles):
    """The boundaries with the least and the greatest number."""

    def finish(self) -> Fitted:
        """Returns `edges`, float64, one more than buckets."""
        edges = quantiles(self._sketch, self._arguments.get("num_buckets", 100))
        return {"edges": edges.tolist(), "rank_error": rank_error(self._sketch)}


class Bounds(_Quantiles):
    """The quantiles of shares."""

    def finish(self) -> Fitted:
        """Returns `lower` and `upper`, as far as they are wanted."""
        inner = quantiles(self._sketch, _SHARES)[1:-1]
        wanted = {name: self._held(inner[[round(share * _SHARES) - 1]])[0] for name, share in self._arguments.items()}
        return {**wanted, "rank_error": rank_error(self._sketch)}


class Median(_Quantiles):
    """The median: of two in the middle, the greater one."""

    def finish(self) -> Fitted:
        """Returns `value`, and how many numbers there are."""
        value = self._held(quantiles(self._sketch, 2)[1:-1])[0]
        return {"value": value, "count": self._sketch.count, "rank_error": rank_error(self._sketch)}


class KeyedBoundaries(Analysis):
    """The boundaries of each key, the second column."""

    def __init__(self, kinds: Sequence[Kind], num_buckets: int) -> None:
        self._kinds = tuple(kinds)
        self._buckets = num_buckets
        self._parts: dict[bytes, Boundaries] = {}

    def _part(self, key: bytes) -> Boundaries:
        if key not in self._parts:
            self._parts[key] = Boundaries(self._kinds, num_buckets=self._buckets)
        return self._parts[key]

    def add(self, columns: Sequence[Column]) -> None:
        """Adds numbers, each with its key."""
        encoded = columns[1].values.dictionary_encode()
        keys, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        for code, places in by_code(codes, len(keys)):
            self._part(keys[code]).add([Column(columns[0].values[places])])

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        for key, part in other._parts.items():
            self._part(key).merge(part)

    def finish(self) -> Fitted:
        """Returns the keys in order, and for each of them the boundaries."""
        keys = sorted(self._parts)
        found = [self._parts[key].finish() for key in keys]
        return {
            "keys": written_keys(keys),
            "boundaries": [item["boundaries"] for item in found],
            "rank_error": max((item["rank_error"] for item in found), default=0.0),
        }


def rank_error(sketch: QuantileSketch) -> float:
    """Returns by what share of the numbers a quantile may be off: the most that lie between two that are told apart."""
    lows, highs, counts = sketch.buckets()
    together = counts[lows != highs]
    return float(together.max() / counts.sum()) if len(together) else 0.0


def bucketize(column: Column, fitted: Fitted, num_buckets: int) -> Column:
    """Returns the number of the bucket of each number, int64; NaN is in the last one."""
    boundaries = np.array(fitted["boundaries"], column.values.dtype)
    return column.with_values(np.searchsorted(boundaries, column.values, side="right").astype(np.int64))


def bucketize_per_key(x: npt.NDArray[Any], key: Any, fitted: Fitted, num_buckets: int) -> Ints:
    """Returns the same with the boundaries of each value's key; -1 for a key that the fit did not see."""
    places = read_keys(fitted, key)
    buckets = np.full(len(x), -1)
    for code, rows in by_code(places, len(fitted["keys"]) + 1):
        if code < len(fitted["keys"]):
            boundaries = np.array(fitted["boundaries"][code], x.dtype)
            buckets[rows] = np.searchsorted(boundaries, x[rows], side="right")
    return buckets


def quantile_rank(column: Column, fitted: Fitted, num_buckets: int = 100) -> Column:
    """Returns the place of each number among the quantiles, float32, in [0, 1]."""
    edges = np.array(fitted["edges"], np.float64)
    with np.errstate(all="ignore"):
        wide = np.clip(column.values.astype(np.float64), edges[0], edges[-1])
        above = np.searchsorted(edges, wide, side="right")
        bucket = np.clip(above - 1, 0, num_buckets - 1)
        low, high = edges[bucket], edges[bucket + 1]
        inside = np.where(high != low, (wide - low) / np.where(high != low, high - low, 1.0), 0.0)
        # Behind the last edge all rows are below.
        whole = np.where(above > num_buckets, 1.0, inside)
        return column.with_values(((bucket + whole) / num_buckets).astype(np.float32))


def clip_by_quantile(column: Column, fitted: Fitted, lower: float | None = None, upper: float | None = None) -> Column:
    """Returns the number, or the quantile that it exceeds."""
    values = column.values
    if lower is not None:
        values = np.maximum(values, values.dtype.type(fitted["lower"]))
    if upper is not None:
        values = np.minimum(values, values.dtype.type(fitted["upper"]))
    return column.with_values(values)
