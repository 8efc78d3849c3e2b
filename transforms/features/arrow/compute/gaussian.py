"""Numbers scaled to a normal distribution, if theirs is one with heavy tails: Tukey's hh.

Such a number is location + scale * u * exp(h * u^2 / 2), where u is normally distributed, with an h for u below 0, and
another one for u above. As in tensorflow-transform they are chosen so that the L-moments are those of the numbers
(Headrick and Pant, "Characterizing Tukey h and hh-Distributions through L-Moments and the L-Correlation", ISRN Applied
Mathematics 2012), and u is what is returned.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Fitted
from penstock.transforms.features.arrow.compute.columns import Column
from penstock.transforms.features.arrow.compute.moments import Moments, is_narrow, scaled_exactly, z_score
from penstock.transforms.features.arrow.compute.quantiles import MAX_EXACT, rank_error
from penstock.transforms.statistics.sketches.quantiles import QuantileSketch

# The ratio of the fourth L-moment to the second, of a normal distribution and at most; and the greatest h.
_NORMAL, _MOST, _GREATEST = 0.1226017, 1 - 1e-5, 1 - 1e-7

# A number whose square, times h, is less stays as it is.
_SMALL = 1e-7

# Limits of the search: how often both h are looked for in turns, an interval is halved, and what is near enough.
_TURNS, _HALVINGS, _NEAR = 20, 11, 1e-6

# Steps of Newton's method.
_STEPS = 8


class Gaussian(Moments):
    """The moments of all finite numbers, and their L-moments: exact up to a million different numbers."""

    def __init__(self, kinds: Sequence[Kind], **_: Any) -> None:
        super().__init__(kinds)
        self._sketch = QuantileSketch(MAX_EXACT)

    def add(self, columns: Sequence[Column]) -> None:
        """Adds the numbers of the first column."""
        super().add(columns)
        numbers = columns[0].values.astype(np.float64)
        self._sketch.update(numbers[np.isfinite(numbers)])

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        super().merge(other)
        self._sketch.merge(other._sketch)

    def finish(self) -> Fitted:
        """Returns the moments; `left` and `right`, the h; `scale`, and `shift`, the location less the mean."""
        spread, skewness, tails = _l_moments(self._sketch)
        left, right = _fitted_tails(skewness, tails)
        location, unit, _, _ = _of_tails(left, right)
        scale = spread / unit if spread > 0 else 1.0
        return {
            **super().finish(),
            "left": left,
            "right": right,
            "scale": scale,
            "shift": -scale * location,
            "rank_error": rank_error(self._sketch),
        }


def _l_moments(sketch: QuantileSketch) -> tuple[float, float, float]:
    """Returns the second L-moment of numbers, and the third and fourth over it; 0 of less than four numbers."""
    lows, highs, counts = sketch.buckets()
    count = int(counts.sum())
    if count < 2:
        return 0.0, 0.0, 0.0
    numbers = lows + (highs - lows) / 2
    numbers = numbers - numbers[len(numbers) // 2]
    # The mean of all numbers, each times the chance that 1, 2 or 3 others are below it.
    ends = np.append(0, np.cumsum(counts)).astype(np.float64)
    share = ends / count
    below = [math.fsum(numbers * np.diff(share))]
    for others in range(1, min(count, 4)):
        share = share * (ends - others) / (count - others)
        below.append(math.fsum(numbers * np.diff(share)) / (others + 1))
    second = 2 * below[1] - below[0]
    if count < 4 or second <= 0:
        return max(second, 0.0), 0.0, 0.0
    third = 6 * below[2] - 6 * below[1] + below[0]
    fourth = 20 * below[3] - 30 * below[2] + 12 * below[1] - below[0]
    return second, third / second, fourth / second


def _of_tails(left: float, right: float) -> tuple[float, float, float, float]:
    """Returns the L-moments of u * exp(h * u^2 / 2): the first two, and the third and fourth over the second."""
    below, above = _half(left), _half(right)
    first, second = above[0] - below[0], above[1] + below[1]
    third = (3 * (above[2] - below[2]) - first) / 2
    fourth = (5 * (above[3] + below[3]) - 3 * second) / 2
    return first, second, third / second, fourth / second


def _half(h: float) -> tuple[float, float, float, float]:
    """Returns the means of u * exp(h * u^2 / 2) * erf(u / sqrt(2))^k where u is positive, for k of 0 to 3."""
    rest, more = 1 - h, 2 - h
    unit = math.sqrt(2 / (math.pi * more)) / (math.pi * rest)
    return (
        1 / (math.sqrt(2 * math.pi) * rest),
        1 / (math.sqrt(2 * math.pi * more) * rest),
        2 * unit * math.atan(1 / math.sqrt(more)),
        3 * unit * math.asin(1 / (1 + more)),
    )


def _fitted_tails(skewness: float, tails: float) -> tuple[float, float]:
    """Returns both h; zeros where tails are not heavy."""
    if tails < _NORMAL:
        return 0.0, 0.0
    if skewness < 0:
        right, left = _fitted_tails(-skewness, tails)
        return left, right
    return _searched(skewness, min(tails, _MOST))


def _searched(skewness: float, tails: float) -> tuple[float, float]:
    """Looks for the greater h, and how much less the other one is, in turns.

    The turns and limits are those of tensorflow-transform, which misses some pairs of numbers that are skewed: what it
    then takes is taken here too.
    """

    def too_skewed(h: float, less: float) -> float:
        return _of_tails(h - less, h)[2] - skewness

    def too_heavy(h: float, less: float) -> float:
        return _of_tails(h - less, h)[3] - tails

    # What both are where nothing is skewed.
    start = 3 - 1 / math.sin(math.pi * (2 * tails + 3) / 30)
    h, low, high = start, start, _GREATEST
    less, least, most = 0.0, 0.0, start
    for _ in range(_TURNS):
        before = h, less
        is_within = too_skewed(h, most) > 0
        if is_within:
            less = most = _halved(functools.partial(too_skewed, h), least, most)[1]
            h = high = _halved(lambda item: too_heavy(item, less), low, high)[1]  # noqa: B023
            less = least = _halved(functools.partial(too_skewed, h), least, most)[0]
            h = low = _halved(lambda item: too_heavy(item, less), low, high)[0]  # noqa: B023
        else:
            less = least = most
            h = low = most = _halved(lambda item: too_heavy(item, less), low, high)[0]  # noqa: B023
        errors = too_skewed(h, less), too_heavy(h, less)
        if max(map(abs, errors)) < _NEAR or max(abs(h - before[0]), abs(less - before[1])) < _NEAR:
            break
    return h - less, h


def _halved(error: Callable[[float], float], low: float, high: float) -> tuple[float, float]:
    """Halves an interval in which an increasing function becomes 0, some times."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = error(middle)
        low, high = (middle, high) if found < 0 else (low, middle)
        if abs(found) < _NEAR or high - low < _NEAR:
            break
    return low, high


def scale_to_gaussian(column: Column, fitted: Fitted) -> Column:
    """Returns u of each number, float32; (x - mean) / standard deviation where no tail is heavy."""
    if not fitted["left"] and not fitted["right"]:
        return z_score(column, fitted)
    values, scale = column.values, fitted["scale"]
    with np.errstate(all="ignore"):
        if is_narrow(values, fitted["min"], fitted["max"]):
            location = np.float32(fitted["mean"] + fitted["shift"])
            scaled = (values.astype(np.float32) - location) / np.float32(scale)
        else:
            scaled = scaled_exactly(values, np.int64(fitted["center"]), fitted["rest"] + fitted["shift"], scale)
        return column.with_values(_without_tails(scaled.astype(np.float64), fitted["left"], fitted["right"]))


def _without_tails(numbers: npt.NDArray[np.float64], left: float, right: float) -> npt.NDArray[np.float32]:
    h = np.where(numbers < 0, left, right)
    squares = h * numbers * numbers
    heavy = np.flatnonzero((h > 0) & ~(squares < _SMALL) & np.isfinite(squares))
    found = numbers.astype(np.float32)
    wanted = squares[heavy]
    # Lambert's W: the root of w * exp(w) = the square.
    w = np.log1p(wanted)
    for _ in range(_STEPS):
        w = w * (1 + np.log(wanted / w)) / (1 + w)
    found[heavy] = np.copysign(np.sqrt(w / h[heavy]), numbers[heavy])
    return found
