"""Metrics of earlier runs as lines: those of whole datasets, and those of each feature."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pyarrow as pa

from penstock.io.errors import ConfigError
from penstock.transforms.report.text import visible

# Older points are left out, so that a page does not grow with each run.
MAX_POINTS = 90

_COLUMNS = ("created", "split", "feature", "metric", "value")


class Line(NamedTuple):
    """One metric over time: what it is of, times (ISO 8601) in their order, and a value at each."""

    label: str
    times: list[str]
    values: list[float]


def lines_of(history: pa.Table) -> Mapping[str, list[Line]]:
    """Lines by the path of the feature; those of whole datasets at the empty path.

    Args:
      history: a row for each value, with the columns `created` (timestamp or ISO 8601), `split`, `feature` (null or
        empty for a whole dataset), `metric` and `value`; `window_start`, where there is one, is the time instead.

    Raises:
      ConfigError: if a column is missing.
    """
    if missing := [name for name in _COLUMNS if name not in history.column_names]:
        raise ConfigError(f"a history must have the columns {', '.join(_COLUMNS)}; it lacks {', '.join(missing)}")
    times = [_time(value) for value in history["created"].to_pylist()]
    if "window_start" in history.column_names:
        starts = history["window_start"].to_pylist()
        times = [time if start is None else _time(start) for time, start in zip(times, starts, strict=True)]
    points: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    columns = (history[name].to_pylist() for name in ("split", "feature", "metric", "value"))
    for time, split, feature, metric, value in zip(times, *columns, strict=True):
        if value is not None:
            points.setdefault((feature or "", metric, split or ""), []).append((time, value))
    return _by_feature(points)


def _time(value: object) -> str:
    return value.isoformat(timespec="seconds") if hasattr(value, "isoformat") else str(value)


def _by_feature(points: Mapping[tuple[str, str, str], Sequence[tuple[str, float]]]) -> Mapping[str, list[Line]]:
    lines: dict[str, list[Line]] = {}
    for (feature, metric, split), found in sorted(points.items()):
        shown = sorted(found)[-MAX_POINTS:]
        label = f"{metric} ({split})" if split else metric
        line = Line(visible(label), [visible(time) for time, _ in shown], [float(value) for _, value in shown])
        lines.setdefault(feature, []).append(line)
    return lines


def changing(lines: Iterable[Line]) -> list[Line]:
    """Lines that have more than one point."""
    return [line for line in lines if len(line.values) > 1]
