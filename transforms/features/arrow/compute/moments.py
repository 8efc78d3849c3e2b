"""Moments of numbers: exact, so that neither order nor batches change a bit of what is fitted."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.columns.float32 import MAX_EXACT_WHOLE
from penstock.io.kernel import statistics
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted, read_bytes, read_keys, written_keys
from penstock.transforms.features.arrow.compute.columns import Column, Ints, RowFaultsError, by_code
from penstock.transforms.statistics.sketches.sums import ratio

# Sums of floats are whole numbers of 2^-1074, those of their squares of 2^-2148.
_EXPONENT = 1074

# How many numbers, the least, the greatest, the sum, and the sum of squares; of the finite ones.
_Sums = tuple[int, Any, Any, int, int]
_NOTHING: _Sums = (0, math.inf, -math.inf, 0, 0)


def _sums(values: npt.NDArray[Any]) -> _Sums:
    if not len(values):
        return _NOTHING
    if values.dtype == np.int64:
        _, low, high, total, squares = statistics.describe_ints(values)
        return len(values), low, high, total, squares
    nan, above, below, _, least, greatest, total, squares = statistics.describe_floats(values.astype(np.float64))
    return len(values) - nan - above - below, least, greatest, total, squares


def _merged(one: _Sums, other: _Sums) -> _Sums:
    return (
        one[0] + other[0],
        min(one[1], other[1]),
        max(one[2], other[2]),
        one[3] + other[3],
        one[4] + other[4],
    )


def _moments(sums: _Sums, kind: Kind) -> dict[str, Any]:
    """Returns what is fitted; mean and variance of floats are the exact ones, rounded once."""
    count, least, greatest, total, squares = sums
    if not count:
        least = greatest = 0
    scale = 0 if kind is Kind.INT else _EXPONENT
    spread = count * squares - total**2
    found = {
        "count": count,
        "min": least,
        "max": greatest,
        "mean": ratio(total, count << scale) if count else 0.0,
        "variance": ratio(spread, count**2 << 2 * scale) if count else 0.0,
    }
    if kind is Kind.INT:
        center = total // count if count else 0
        found |= {
            "center": center,
            "rest": ratio(total - center * count, count) if count else 0.0,
            "deviation": math.sqrt(spread / count**2) if count else 0.0,
        }
    return found


class Moments(Analysis):
    """Count, least, greatest, mean and variance of all finite numbers."""

    def __init__(self, kinds: Sequence[Kind], **_: Any) -> None:
        self._kind = kinds[0]
        self._sums = _NOTHING

    def add(self, columns: Sequence[Column]) -> None:
        """Adds the numbers of the first column."""
        self._sums = _merged(self._sums, _sums(columns[0].values))

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        self._sums = _merged(self._sums, other._sums)

    def finish(self) -> Fitted:
        """Returns the moments; 0 without a number."""
        return _moments(self._sums, self._kind)


class KeyedMoments(Analysis):
    """The same for each key, the second column."""

    def __init__(self, kinds: Sequence[Kind], **_: Any) -> None:
        self._kind = kinds[0]
        self._sums: dict[bytes, _Sums] = {}

    def add(self, columns: Sequence[Column]) -> None:
        """Adds numbers, each with its key."""
        encoded = columns[1].values.dictionary_encode()
        keys, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
        for code, places in by_code(codes, len(keys)):
            found = _sums(columns[0].values[places])
            self._sums[keys[code]] = _merged(self._sums.get(keys[code], _NOTHING), found)

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        for key, sums in other._sums.items():
            self._sums[key] = _merged(self._sums.get(key, _NOTHING), sums)

    def finish(self) -> Fitted:
        """Returns the keys in order, and for each of them the moments."""
        keys = sorted(self._sums)
        found = [_moments(self._sums[key], self._kind) for key in keys]
        names = found[0] if found else _moments(_NOTHING, self._kind)
        return {"keys": written_keys(keys), **{name: [item[name] for item in found] for name in names}}


def z_score(column: Column, fitted: Fitted) -> Column:
    """Returns (x - mean) / standard deviation, float32; without a deviation, x - mean."""
    if is_narrow(column.values, fitted["min"], fitted["max"]):
        mean, variance = np.float32(fitted["mean"]), _float32(fitted["variance"])
        return column.with_values(_scaled(column.values, mean, variance))
    center = np.int64(fitted["center"])
    return column.with_values(scaled_exactly(column.values, center, fitted["rest"], fitted["deviation"]))


def z_score_per_key(x: npt.NDArray[Any], key: Any, fitted: Fitted) -> npt.NDArray[np.float32]:
    """Returns the same with the moments of each value's key; x for a key that the fit did not see."""
    places = read_keys(fitted, key)
    lows, highs = fitted["min"], fitted["max"]
    if is_narrow(x, min(lows, default=0), max(highs, default=0)):
        mean, variance = (_float32([*fitted[name], 0.0])[places] for name in ("mean", "variance"))
        return _scaled(x, mean, variance)
    center = np.array([*fitted["center"], 0], np.int64)[places]
    rest, deviation = (np.array([*fitted[name], 0.0])[places] for name in ("rest", "deviation"))
    return scaled_exactly(x, center, rest, deviation)


def min_max(column: Column, fitted: Fitted, output_min: float = 0, output_max: float = 1) -> Column:
    """Scales into a range, float32; the sigmoid of a number stands for its share where all numbers are one."""
    low, high = fitted["min"], fitted["max"]
    return column.with_values(
        _shared(column.values, low, high, is_narrow(column.values, low, high), output_min, output_max)
    )


def min_max_per_key(
    x: npt.NDArray[Any], key: Any, fitted: Fitted, output_min: float = 0, output_max: float = 1
) -> npt.NDArray[np.float32]:
    """Returns the same with the bounds of each value's key; of a key that the fit did not see, both are 0."""
    places = read_keys(fitted, key)
    narrow = is_narrow(x, min(fitted["min"], default=0), max(fitted["max"], default=0))
    kind = np.int64 if x.dtype == np.int64 else np.float64
    low, high = (np.array([*fitted[name], 0], kind)[places] for name in ("min", "max"))
    return _shared(x, low, high, narrow, output_min, output_max)


def _shared(
    x: npt.NDArray[Any], low: Any, high: Any, narrow: bool, output_min: float, output_max: float
) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        if not narrow:
            width = difference(np.asarray(high, np.int64), np.asarray(low, np.int64))
            exact = difference(x, np.asarray(low, np.int64)) / np.where(width > 0, width, 1.0)
            exact = np.where(np.less(low, high), exact, _sigmoid(x.astype(np.float64)))
            return (exact * (output_max - output_min) + output_min).astype(np.float32)
        low, high, x = _float32(low), _float32(high), x.astype(np.float32)
        sigmoid = _sigmoid(x.astype(np.float64)).astype(np.float32)
        share = np.where(low < high, (x - low) / (high - low), sigmoid)
        found: npt.NDArray[np.float32] = share * np.float32(output_max - output_min) + np.float32(output_min)
        return found


def _sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = 1 / (1 + np.exp(-x))
    return found


class Mean(Moments):
    """The mean of all finite numbers; of integers, the nearest whole number to it, of two the greater one."""

    def finish(self) -> Fitted:
        """Returns `value` and `count`."""
        count, _, _, total, _ = self._sums
        value: Any = 0
        if count:
            value = (2 * total + count) // (2 * count)
            value = value if self._kind is Kind.INT else float(_float32(_moments(self._sums, self._kind)["mean"]))
        return {"value": value, "count": count}


def impute(column: Column, fitted: Fitted) -> Column:
    """Returns the value, or the fitted one.

    Raises:
      RowFaultsError: where one is missing, and the fit has seen none.
    """
    empty = np.flatnonzero(column.lengths == 0).tolist()
    if empty and not fitted["count"]:
        raise RowFaultsError(dict.fromkeys(empty, "no row of the fit has a value to fill in"))
    value = fitted["value"]
    return column.fill(read_bytes([value])[0] if isinstance(value, str) else value)


def is_narrow(values: npt.NDArray[Any], least: Any, greatest: Any) -> bool:
    """Returns whether the numbers are taken as float32: all but integers beyond 2^24."""
    return values.dtype != np.int64 or (least >= -MAX_EXACT_WHOLE and greatest <= MAX_EXACT_WHOLE)


def _float32(numbers: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.asarray(numbers, np.float64).astype(np.float32)


def _scaled(values: npt.NDArray[Any], mean: Any, variance: Any) -> npt.NDArray[np.float32]:
    with np.errstate(all="ignore"):
        centred = values.astype(np.float32) - mean
        deviation = np.sqrt(variance)
        found: npt.NDArray[np.float32] = np.where(deviation != 0, centred / deviation, centred)
        return found


def scaled_exactly(values: Ints, center: Any, rest: Any, deviation: Any) -> npt.NDArray[np.float32]:
    """Returns (x - (center + rest)) / deviation, rounded to float32 at the end; by 1 where there is no deviation."""
    with np.errstate(all="ignore"):
        centred = difference(values, center) - rest
        return (centred / np.where(np.asarray(deviation) > 0, deviation, 1.0)).astype(np.float32)


def difference(x: Ints, y: Any) -> npt.NDArray[np.float64]:
    """Returns x - y of int64 as float64, rounded once: the halves are subtracted apart, so that nothing overflows."""
    high = (x >> 32) - (y >> 32)
    low = (x & 0xFFFFFFFF) - (y & 0xFFFFFFFF)
    found: npt.NDArray[np.float64] = high.astype(np.float64) * 2.0**32 + low.astype(np.float64)
    return found
