"""What one function would have to do to the old values, so that their distribution becomes the new one.

Each candidate is fitted to quantiles, applied to the old histogram and compared with the new one. It explains the
change if what is left is no more than chance and the resolution of histograms.
"""

import dataclasses
import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from penstock.transforms.anomalies.measures.bounds import distribution_bound
from penstock.transforms.anomalies.measures.distances import kolmogorov_smirnov
from penstock.transforms.anomalies.measures.histograms import Buckets, quantiles, stack

Floats = npt.NDArray[np.float64]

# What histograms of 100 buckets do not resolve.
_RESOLUTION = 0.02
# How likely chance leaves more than is allowed to be left.
_LEFT_CHANCE = 0.05
# The ends of a distribution say little about a function that fits it.
_LEVELS = np.linspace(0.02, 0.98, 49)

# Factors between units that people mix up.
_UNITS = (
    (1.609344, "miles", "kilometres"),
    (0.3048, "feet", "metres"),
    (2.54, "inches", "centimetres"),
    (0.45359237, "pounds", "kilograms"),
    (1.852, "knots", "kilometres an hour"),
    (1.8, "Celsius", "Fahrenheit"),
    (3.785411784, "gallons", "litres"),
    (24.0, "days", "hours"),
    (60.0, "minutes", "seconds"),
    (3600.0, "hours", "seconds"),
    (86400.0, "days", "seconds"),
    (100.0, "whole units", "hundredths"),
    (1000.0, "whole units", "thousandths"),
    (1e6, "whole units", "millionths"),
    (1e9, "whole units", "billionths"),
)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """A function that makes the new distribution of the old one.

    Attributes:
      code: `sign`, `mean`, `scale` or `clipped`.
      text: what it does.
      left: the Kolmogorov-Smirnov distance that is left.
    """

    code: str
    text: str
    left: float


def tolerance(rows: float, rows_before: float) -> float:
    """Returns the distance below which two distributions count as equal."""
    return _RESOLUTION + float(distribution_bound(np.array(rows), np.array(rows_before), _LEFT_CHANCE))


def explain(now: Buckets, before: Buckets, distance: float, allowed: float) -> Explanation | None:
    """Returns the function that explains best how one distribution became the other; None if none does.

    Of candidates that explain about as much, the simplest is taken: a sign, a shift, a factor, both, cut ends.

    Args:
      now, before: the distributions.
      distance: the Kolmogorov-Smirnov distance between them.
      allowed: what may be left (`tolerance`).
    """
    best: Explanation | None = None
    for code, text, mapped in _candidates(now, before):
        left = float(kolmogorov_smirnov(stack([mapped]), stack([now]))[0])
        if left > min(allowed, distance / 2):
            continue
        if best is None or left < best.left - allowed / 2:
            best = Explanation(code, text, left)
    return best


def _candidates(now: Buckets, before: Buckets) -> Iterator[tuple[str, str, Buckets]]:
    """Yields code, text and the mapped distribution."""
    to, of = quantiles(now, _LEVELS), quantiles(before, _LEVELS)
    yield "sign", "x became -x", before.map(lambda x: -x)
    shift = float(np.mean(to - of))
    yield "mean", f"all values moved by {shift:.6g}", before.map(lambda x: x + shift)
    factor = float(np.sum(to * of) / np.sum(of * of)) if np.any(of) else 1.0
    if factor > 0 and math.isfinite(factor):
        yield "scale", f"all values times {factor:.6g}{_unit(factor)}", before.map(lambda x: x * factor)
    spread = float(np.var(of))
    slope = float(np.mean((of - of.mean()) * (to - to.mean()))) / spread if spread else 0.0
    if slope > 0 and math.isfinite(slope):
        start = float(to.mean() - slope * of.mean())
        text = f"all values times {slope:.6g}, plus {start:.6g}{_unit(slope)}"
        yield "scale", text, before.map(lambda x: x * slope + start)
    least, most = float(now.low[0]), float(now.high[-1])
    if most < before.high[-1]:
        yield "clipped", f"values above {most:.6g} became {most:.6g}", before.map(lambda x: np.minimum(x, most))
    if least > before.low[0]:
        yield "clipped", f"values below {least:.6g} became {least:.6g}", before.map(lambda x: np.maximum(x, least))


def _unit(factor: float) -> str:
    """Names the units that a factor lies between, if they are known ones."""
    for known, of, to in _UNITS:
        if abs(factor / known - 1) < 0.01:
            return f", as from {of} to {to}"
        if abs(factor * known - 1) < 0.01:
            return f", as from {to} to {of}"
    return ""
