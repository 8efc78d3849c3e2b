"""Bounds of numbers that leave room for what has not been seen, from quantiles."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np

from penstock.transforms.statistics.schema.seen import Bucket, SeenFeature

# Of a normal distribution, 3 is 4.7 standard deviations from the mean. The wider ones are for longer tails. The closest
# is for numbers without any: it is only taken where all of them are inside.
_FENCES = (1.5, 3, 10, 30, 100)
_CLOSEST = 1.5


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Numbers from `low` to `high`; `beyond` of the seen ones are outside, at most."""

    low: float
    high: float
    beyond: int


def robust_bounds(seen: SeenFeature, most_beyond: float) -> Bounds | None:
    """Returns the closest fences around the middle half of the numbers that leave few of them outside.

    A fence is k times the interquartile range away from the quartiles (Tukey, "Exploratory Data Analysis", 1977), with
    k of 1.5 where that leaves no number outside, else 3, 10, 30 or 100, rounded outward to two digits of the distance
    between both. Where the quartiles are equal, it is the distance of the outer tenths, or twentieths.

    Args:
      seen: the feature.
      most_beyond: how many numbers may be outside.

    Returns:
      None without quantiles, where most numbers are equal, or where too many are outside of the widest fences.
    """
    if seen.low is None or seen.high is None or seen.infinite is None or not seen.buckets:
        return None
    spread = next((pair for pair in _spreads(seen.buckets) if pair[0] < pair[1]), None)
    if spread is None:
        return None
    for fence in _FENCES:
        distance = fence * (spread[1] - spread[0])
        low, high = _rounded(spread[0] - distance, spread[1] + distance)
        if not all(map(math.isfinite, (low, high))):
            return None
        beyond = _beyond(seen, low, high)
        if beyond <= (0 if fence == _CLOSEST else most_beyond):
            return Bounds(low, high, beyond)
    return None


def _spreads(buckets: Sequence[Bucket]) -> Iterator[tuple[float, float]]:
    """Yields the quartiles, the outer tenths and the outer twentieths."""
    ordered = sorted(buckets, key=lambda bucket: (bucket.low, bucket.high))
    reached = np.cumsum([bucket.count for bucket in ordered])
    for share in (0.25, 0.1, 0.05):
        yield quantile(ordered, reached, share), quantile(ordered, reached, 1 - share)


def quantile(ordered: Sequence[Bucket], reached: np.ndarray, share: float) -> float:
    """Returns a quantile of buckets that are sorted, of which `reached` are the sums of counts; between bounds, on a
    straight line.
    """
    at = min(int(np.searchsorted(reached, share * reached[-1])), len(ordered) - 1)
    bucket = ordered[at]
    inside = (share * reached[-1] - (reached[at] - bucket.count)) / bucket.count if bucket.count else 0.0
    return bucket.low + min(max(inside, 0.0), 1.0) * (bucket.high - bucket.low)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """Rounds two bounds outward.

    >>> _rounded(-3.14, 217.2)
    (-10.0, 220.0)
    """
    if not math.isfinite(high - low):
        return low, high
    digits = 1 - math.floor(math.log10(high - low))
    step = 10.0**-digits
    return round(math.floor(low / step) * step, max(digits, 0)), round(math.ceil(high / step) * step, max(digits, 0))


def _beyond(seen: SeenFeature, low: float, high: float) -> int:
    """Counts the numbers outside of bounds: all of a bucket that is not wholly inside."""
    infinite = seen.infinite or 0
    if seen.low is not None and seen.high is not None and low <= seen.low and seen.high <= high:
        return infinite
    outside = sum(
        bucket.count
        for bucket in seen.buckets
        if not (bucket.low == bucket.high and math.isinf(bucket.low))  # `infinite` has these
        and (_away(bucket.low, -seen.bucket_error) < low or _away(bucket.high, seen.bucket_error) > high)
    )
    return math.ceil(outside) + infinite


def _away(bound: float, error: float) -> float:
    return bound + error * abs(bound) if math.isfinite(bound) else bound
