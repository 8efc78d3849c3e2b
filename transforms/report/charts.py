"""The few charts that the page has before its script runs, as coordinates: small histograms, and lines of history."""

import datetime
import math
from collections.abc import Sequence
from typing import NamedTuple

from penstock.transforms.report.features import Feature
from penstock.transforms.report.history_lines import Line
from penstock.transforms.report.text import number

# Of the view box of a small histogram, which is as wide as it has bins.
SPARK_HEIGHT = 20

LINE_WIDTH, LINE_HEIGHT = 240, 48


class Spark(NamedTuple):
    """A small histogram: an SVG path, the width of its view box, and what it is of."""

    path: str
    width: int
    kind: str


class Drawn(NamedTuple):
    """A line of history: SVG points, where its last point is, and its words."""

    line: Line
    points: str
    last: tuple[float, float]
    text: str


def spark(feature: Feature, dataset: int = 0) -> Spark | None:
    """The small histogram of a feature in a dataset: of its values, or of its most frequent ones."""
    for chart in feature.charts:
        counts = chart.bins.counts[dataset]
        if chart.key == "histogram" and counts:
            return Spark(step_path(counts), len(counts), "histogram")
    for ranks in feature.ranks:
        known = ranks.counts[dataset]
        if ranks.key == "top" and known:
            return Spark(step_path([count or 0 for count in known]), len(known), "frequent values")
    return None


def step_path(counts: Sequence[float]) -> str:
    """Bars of width 1 side by side as one path; a bar of any rows is at least one unit high, so that it can be seen.

    >>> step_path([0, 10, 5])
    'M0 20V20H1V0H2V10H3V20Z'
    """
    top = max(counts, default=0) or 1
    heights = [max(1, round(SPARK_HEIGHT * count / top)) if count > 0 else 0 for count in counts]
    steps = "".join(f"V{SPARK_HEIGHT - height}H{index}" for index, height in enumerate(heights, 1))
    return f"M0 {SPARK_HEIGHT}{steps}V{SPARK_HEIGHT}Z"


def bar(value: float, most: float) -> float:
    """The length of a bar of at most 96 units, which leaves room for a mark at its end; an infinite one is full.

    >>> bar(1, 4), bar(0, 0), bar(float("inf"), float("inf")), bar(2, float("inf"))
    (24.0, 0.0, 96.0, 0.0)
    """
    if value == most:
        return 96.0 if most else 0.0
    return round(96 * value / most, 1)


def draw_line(line: Line) -> Drawn:
    """Places the points of a line by their time and value, with words for who cannot see it."""
    finite = [value for value in line.values if math.isfinite(value)] or [0.0]
    least, span = min(finite), (max(finite) - min(finite)) or 1.0
    steps = _steps(line.times)
    places = [
        (round(4 + (LINE_WIDTH - 8) * step, 1), round(LINE_HEIGHT - 4 - (LINE_HEIGHT - 8) * (value - least) / span, 1))
        for step, value in zip(steps, line.values, strict=True)
        if math.isfinite(value)
    ]
    text = (
        f"{line.label}: {len(line.values)} points from {line.times[0]} to {line.times[-1]}, "
        f"between {number(least)} and {number(max(finite))}, last {number(line.values[-1])}"
    )
    return Drawn(line, " ".join(f"{x},{y}" for x, y in places), places[-1] if places else (0, 0), text)


def _steps(times: Sequence[str]) -> list[float]:
    """Times between 0 and 1; evenly apart if one of them cannot be read."""
    try:
        seconds = [_seconds(time) for time in times]
    except ValueError:
        seconds = [float(index) for index in range(len(times))]
    first, span = seconds[0], seconds[-1] - seconds[0]
    return [(second - first) / span if span else 0.5 for second in seconds]


def _seconds(time: str) -> float:
    parsed = datetime.datetime.fromisoformat(time)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=datetime.UTC)).timestamp()
