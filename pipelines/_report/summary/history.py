"""The summary of `history`."""

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from pipelines._report.result import HistoryResult
from pipelines._report.summary.parts import GAP, counted, listed, time_range

# The points that a line shows, and how high each stands.
_MAX_POINTS = 60
_BARS = "▁▂▃▄▅▆▇█"

# Up to so many metrics are all shown, and of more only those that have ever changed.
_FEW_SERIES = 12
_MAX_SERIES = 40


def told_history(result: HistoryResult) -> Iterator[RenderableType]:
    """What has left its history, and a line for each metric: those that have left first."""
    newest = time_range(*result.window) if result.window else f"run {result.run}"
    yield Text("\n").join(
        [Text(result.dataset, "bold"), Text(f"{counted(result.points, 'point')}, the newest {newest}")]
    )
    yield from listed("metrics that have left their history", [str(one["text"]) for one in result.left])
    if not result.left:
        yield "no metric has left its history"
    names = ("split", "feature", "metric")
    left = {tuple(one[name] for name in names) for one in result.left}
    ordered = sorted(result.series, key=lambda one: tuple(one[name] for name in names) not in left)
    if len(ordered) > _FEW_SERIES:
        ordered = [one for one in ordered if min(one["values"]) < max(one["values"])]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), header_style="bold")
    for column in (*names, "least", "", "greatest", "newest"):
        table.add_column(column, justify="right" if column in ("least", "greatest", "newest") else "left")
    for one in ordered[:_MAX_SERIES]:
        values = one["values"][-_MAX_POINTS:]
        style = "bold" if tuple(one[name] for name in names) in left else ""
        numbers = (f"{min(values):.6g}", sparkline(values), f"{max(values):.6g}", f"{values[-1]:.6g}")
        table.add_row(*(one[name] for name in names), *numbers, style=style)
    yield table
    if len(ordered) < len(result.series):
        yield f"and {counted(len(result.series) - len(ordered), 'metric')} that never changed"
    if len(ordered) > _MAX_SERIES:
        yield f"and {len(ordered) - _MAX_SERIES:,} more: name some with --feature, --metric, --split, or see --json"


def sparkline(values: Sequence[float]) -> str:
    """Numbers as bars, from the least to the greatest of them; half as high where all are equal.

    >>> sparkline([1, 2, 3, 8])
    '▁▂▃█'
    """
    low, high = min(values), max(values)
    if high == low:
        return _BARS[3] * len(values)
    top = len(_BARS) - 1
    return "".join(_BARS[round((value / 2 - low / 2) / (high / 2 - low / 2) * top)] for value in values)
