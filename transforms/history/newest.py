"""What is unlike the history about a point that is just being made: a run, or a version of a window."""

import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.dataset.observer import Anomaly
from penstock.io.errors import InputError
from penstock.transforms.history.leaving import POINTS, SEASON_WEEKS, SHORT, WEEK, Leaving, leaving
from penstock.transforms.history.store import read

# Nobody asked for this look, and there is one for each run and window: one in a thousand may speak of nothing.
FALSE_ALARMS = 0.001

# What an anomaly says that it was held against.
AGAINST = "history"

# A window is appended on time, and once more with its late rows.
_VERSIONS = 2


def history_anomalies(path: str, own: pa.Table, severity: str) -> list[Anomaly]:
    """Returns the metrics of a point that have left the history, the least likely first.

    The reason of each is `HISTORY_` and the test: LEVEL, SEASON, CHANGE or STUCK. A history that cannot be read is one
    anomaly, `HISTORY_UNREADABLE`: what it says is needed by nothing that is published.

    Args:
      path: the folder of the history.
      own: the metrics of the point (`metrics_table`).
      severity: of what is found.
    """
    try:
        left = left_by(path, own)
    except InputError as error:
        return [Anomaly("", "HISTORY_UNREADABLE", severity, str(error), AGAINST)]
    return [Anomaly(one.feature, f"HISTORY_{one.test.upper()}", severity, str(one), AGAINST, one.split) for one in left]


def left_by(path: str, own: pa.Table) -> list[Leaving]:
    """Finds the metrics of a point that have left the history of what is before it in time.

    Whether the point is in the history already makes no difference, nor does what comes after it. Of a long history
    only the end is read: eight weeks of windows, and of short windows and runs as many points as `leaving` looks at.

    Raises:
      InputError: for a history that cannot be read.
    """
    if not own.num_rows:
        return []
    point = own.slice(0, 1).to_pylist()[0]
    is_window = point["window_start"] is not None
    moment, column = (point["window_start"], "window_start") if is_window else (point["created"], "created")
    before = read(path, newest=_VERSIONS * _points_needed(own))
    is_before = pc.and_(pc.less(before[column], moment), pc.equal(pc.is_valid(before["window_start"]), is_window))
    if not is_window:
        is_before = pc.and_(is_before, pc.not_equal(before["run"], point["run"]))
    return leaving(pa.concat_tables([before.filter(is_before), own]), FALSE_ALARMS)


def _points_needed(own: pa.Table) -> int:
    start, end = (own[name].cast(pa.int64())[0].as_py() for name in ("window_start", "window_end"))
    if start is None or end - start <= SHORT:
        return POINTS + 1
    return max(POINTS + 1, SEASON_WEEKS * WEEK // (end - start))
