"""Windows of a dataset: a row for each, lines of their rows and rejects, and their sums as those of one dataset."""

import collections
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from penstock.io.dataset.manifest import sum_counts
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.transforms.report.history_lines import MAX_POINTS, Line
from penstock.transforms.report.text import visible

# The newest windows that the table has, and the reasons that it names of each.
MAX_SHOWN = 200
_MAX_NAMED = 3

# Reasons whose lines are drawn, the most frequent ones.
_MAX_LINES = 12


class WindowRow(NamedTuple):
    """A window as the table shows it: what came of its rows, the reasons of its rejects, how many findings it has."""

    start: str
    end: str
    rows_in: int
    on_time: int
    late: int
    rejected: int
    reasons: str
    alerts: int
    status: str
    is_bad: bool


def window_rows(manifests: Sequence[WindowManifest]) -> list[WindowRow]:
    """The newest windows, the newest first."""
    return [_row(manifest) for manifest in reversed(manifests[-MAX_SHOWN:])]


def _row(manifest: WindowManifest) -> WindowRow:
    start, end = manifest.window
    ranked = sorted(manifest.rejected_by_reason.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{visible(reason)} {rows:,}" for reason, rows in ranked[:_MAX_NAMED]]
    more = [f"and {len(ranked) - _MAX_NAMED} more"] if len(ranked) > _MAX_NAMED else []
    is_bad = manifest.status == "quarantined"
    status = "too many rejects" if is_bad else "final" if manifest.final else "takes late rows"
    return WindowRow(
        visible(start), visible(end), manifest.rows_in, manifest.rows_on_time, manifest.rows_late,
        manifest.rows_rejected, ", ".join([*named, *more]), len(manifest.anomalies), status, is_bad,
    )  # fmt: skip


def window_lines(manifests: Sequence[WindowManifest]) -> list[Line]:
    """Rows in, late and rejected by window, and rejects by reason, of the newest windows."""
    shown = manifests[-MAX_POINTS:]
    times = [visible(manifest.window[0]) for manifest in shown]
    counts: dict[str, list[float]] = {
        "rows in": [manifest.rows_in for manifest in shown],
        "rows late": [manifest.rows_late for manifest in shown],
        "rows rejected": [manifest.rows_rejected for manifest in shown],
    }
    totals = collections.Counter(sum_counts(manifest.rejected_by_reason for manifest in shown))
    for reason, _ in totals.most_common(_MAX_LINES):
        label = f"rejected for {visible(reason)}"
        counts[label] = [manifest.rejected_by_reason.get(reason, 0) for manifest in shown]
    return [Line(label, times, [float(value) for value in values]) for label, values in counts.items() if any(values)]


def sums_of(manifests: Sequence[WindowManifest]) -> Mapping[str, Any] | None:
    """What all windows together hold, by the names of a manifest; None for no window."""
    if not manifests:
        return None
    last = manifests[-1]
    return {
        **{name: sum(getattr(one, name) for one in manifests) for name in ("rows_in", "rows_out", "rows_rejected")},
        "splits": _in_order(manifest.splits for manifest in manifests),
        "rejected_by_reason": sum_counts(manifest.rejected_by_reason for manifest in manifests),
        "rejected_by_stage": sum_counts(manifest.rejected_by_stage for manifest in manifests),
        "notes": last.notes,
        "run_id": last.run_id,
        "created": last.created,
        "window": (manifests[0].window[0], last.window[1]),
        "format": last.format,
        "compression": last.compression,
        "shuffle": last.shuffle,
        "seed": last.seed,
        "provenance": last.provenance,
    }


def _in_order(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums counts by name, in the order in which names come."""
    total: collections.Counter[str] = collections.Counter()
    for count in counts:
        total.update(count)
    return dict(total)
