"""Which metrics have left their own history: the newest point of a history against those before it.

Each metric of each feature and split is one series. Which of the tests of `penstock.transforms.history.scores` it is
put to depends on what the points are:

=====================================  =====================================================================
points                                 tests
=====================================  =====================================================================
runs, windows of more than a day       level, change, stuck
windows of a day or less               season, once the same hour of the week was there in four weeks;
                                       change, of the medians of days; stuck
windows of twelve minutes or less      level too: sixty of them last half a day at most, within which a season
                                       of days or weeks is a slope, and no jump
any, with `season="none"`              level, change, stuck
=====================================  =====================================================================

Level and change look at the last 60 points, season at those of eight weeks, stuck at 60.

**False alarms.** `false_alarms` is how many findings to expect of a history in which nothing happens, for all series
and tests together: each is tested at `false_alarms` over the number of tests that were done (Bonferroni). This holds
whichever metrics depend on each other. Noise that is not as the tests assume it, such as a random walk, gives more.
A steady growth, as of ids and times, is no change of level: a straight line explains more of it than a step.

**A step** is a finding of level (or season) until about half of the points that it is compared with are of the new
level, and one of change while at most 30 points are behind it. From then on the new level is the history.

**Nothing is said of differences that no one would see.** The noise is taken to be at least a thousandth of the metric's
median, and at least what chance does with so many rows: sqrt(p (1 - p) / n) for a share, the standard deviation over
sqrt(n) for a mean or median.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import ConfigError
from penstock.transforms.history import scores
from penstock.transforms.history.metrics import METRICS
from penstock.transforms.history.scores import Floats, Ints

Season: TypeAlias = Literal["week", "none"]
Test: TypeAlias = Literal["level", "season", "change", "stuck"]

SEASONS = ("week", "none")

POINTS = 60
SEASON_WEEKS = 8

_SECOND = 1_000_000
_HOUR = 3600 * _SECOND
_DAY = 24 * _HOUR
WEEK = 7 * _DAY

# Microseconds; sixty windows of this length last half a day.
SHORT = 12 * 60 * _SECOND

_RELATIVE_FLOOR = 1e-3

# A median of so many standard deviations more or less is no change of which to speak.
_MIN_STEP = 3.0


@dataclasses.dataclass(frozen=True)
class Leaving:
    """A metric that has left its own history.

    Attributes:
      split, feature, metric: which; the feature is empty for a metric of the whole dataset.
      test: `level`: unlike all points before. `season`: unlike those of the same hour of the week. `change`: its level
        has changed for good. `stuck`: it no longer changes.
      run, window_start, window_end: of the newest point; the window is None for runs.
      value: of the newest point; for `change`, the median since the step.
      expected: the median of the points that it is compared with.
      z: how many robust standard deviations are between both; None for `change` and `stuck`.
      p: how likely that is, or more, where nothing has happened.
      since: of the first point of the new level, or of the equal ones; None for `level` and `season`.
      points: how many points were looked at.
    """

    split: str
    feature: str
    metric: str
    test: Test
    run: str
    window_start: datetime.datetime | None
    window_end: datetime.datetime | None
    value: float
    expected: float
    z: float | None
    p: float
    since: datetime.datetime | None
    points: int

    @property
    def name(self) -> str:
        """The metric as a person reads it."""
        return f"{self.metric} of {self.feature}" if self.feature else self.metric

    def __str__(self) -> str:
        where = f"{self.split}: " if self.split else ""
        match self.test:
            case "level":
                what = f"is {self.value:.6g}, was about {self.expected:.6g} in {self.points - 1} points before"
            case "season":
                what = f"is {self.value:.6g}, was about {self.expected:.6g} in this hour of the week"
            case "change":
                what = f"is about {self.value:.6g} since {_told(self.since)}, was about {self.expected:.6g} before"
            case _:
                what = f"has been exactly {self.value:.6g} since {_told(self.since)}"
        return f"{where}{self.name} {what}"


def _told(moment: datetime.datetime | None) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ") if moment else ""


@dataclasses.dataclass(frozen=True)
class _Points:
    """The points of a history that are compared, oldest first, and the series of their metrics.

    Attributes:
      times: int64[points], microseconds since 1970: the start of the window, or when the run was made.
      length: of each window, microseconds; None for runs.
      slots: int64[points], the hour of the week of each.
      rows: the row of the newest point in the table, for its run and window.
      names: (split, feature, metric) of each series.
      values: float64[series, points], NaN where there is none.
    """

    times: Ints
    length: int | None
    slots: Ints
    row: Mapping[str, Any]
    names: list[tuple[str, str, str]]
    values: Floats


@dataclasses.dataclass(frozen=True)
class _Tested:
    """The outcome of one test of some series: arrays of equal length."""

    test: Test
    series: Ints
    p: Floats
    value: Floats
    expected: Floats
    z: Floats | None
    since: Ints | None
    points: int


def leaving(
    history: pa.Table, false_alarms: float = 0.05, season: Season = "week", time_zone: str = "UTC"
) -> list[Leaving]:
    """Finds the metrics whose newest point has left their history.

    The module's docstring says how.

    Args:
      history: as `penstock.transforms.history.store.read` gives it. If its newest point is a window, it is compared
        with windows of the same length; else with runs.
      false_alarms: how many findings to expect where nothing has happened, above 0.
      season: `week`, or `none` for windows whose metrics do not depend on the hour of the week.
      time_zone: in which hours and days of the week are counted, such as `Europe/Oslo`.

    Returns:
      The least likely first; empty where the history is too short.

    Raises:
      ConfigError: for an option out of range, or an unknown time zone.
    """
    if not false_alarms > 0:
        raise ConfigError(f"false_alarms must be above 0, got {false_alarms}")
    if season not in SEASONS:
        raise ConfigError(f"season must be week or none, got {season!r}")
    points = _points(history, time_zone)
    if points is None:
        return []
    tested = [outcome for part in _alike(points) for outcome in _test(*part, season)]
    count = sum(len(outcome.series) for outcome in tested)
    found = [one for outcome in tested for one in _called_out(points, outcome, false_alarms / count)]
    return sorted(found, key=lambda one: (one.p, -abs(one.z or 0), one.split, one.feature, one.metric))


def _points(history: pa.Table, time_zone: str) -> _Points | None:
    if not history.num_rows:
        return None
    starts, ends, created = (
        history[name].cast(pa.int64()).fill_null(-1).to_numpy() for name in ("window_start", "window_end", "created")
    )
    windowed = pc.is_valid(history["window_start"]).to_numpy()
    times = np.where(windowed, starts, created)
    newest = int(np.lexsort((created, times))[-1])
    chosen = windowed == windowed[newest]
    if windowed[newest]:
        chosen &= ends - starts == ends[newest] - starts[newest]
    part, row = history.filter(pa.array(chosen)), history.slice(newest, 1).to_pylist()[0]
    moments, at = np.unique(times[chosen], return_inverse=True)
    names, series = _series(part)
    values = np.full((len(names), len(moments)), np.nan)
    values[series, at] = part["value"].to_numpy()
    length = int(ends[newest] - starts[newest]) if windowed[newest] else None
    return _Points(moments, length, _slots(moments, time_zone), row, names, values)


def _series(part: pa.Table) -> tuple[list[tuple[str, str, str]], Ints]:
    """Returns the names of the series in their order, and which of them each row is of."""
    columns = [part[name].combine_chunks().dictionary_encode() for name in ("split", "feature", "metric")]
    codes = np.zeros(part.num_rows, np.int64)
    for column in columns:
        codes = codes * len(column.dictionary) + column.indices.to_numpy()
    first, at = np.unique(codes, return_index=True, return_inverse=True)[1:]
    found = part.select(["split", "feature", "metric"]).take(pa.array(first))
    names = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    order = sorted(range(len(names)), key=names.__getitem__)
    ranks = np.empty(len(names), np.int64)
    ranks[order] = np.arange(len(names))
    return [names[place] for place in order], ranks[at.reshape(-1)]


def _slots(moments: Ints, time_zone: str) -> Ints:
    """Returns the hour of the week of each moment, 0 to 167, from Monday."""
    try:
        local = pc.local_timestamp(pa.array(moments, pa.timestamp("us", time_zone)))
    except (pa.ArrowInvalid, pa.ArrowException) as error:
        raise ConfigError(
            f"time_zone must be a name of the time zone database, such as Europe/Oslo, got {time_zone!r}: {error}"
        ) from error
    hours: Ints = (pc.day_of_week(local).to_numpy() * 24 + pc.hour(local).to_numpy()).astype(np.int64)
    return hours


def _alike(points: _Points) -> Iterator[tuple[_Points, Ints, Floats]]:
    """Yields series that have values at the same points: (their points, which series, the floor of each).

    Series that are not judged, or have no newest value, are left out.
    """
    floors = _floors(points)
    judged = np.array([METRICS[name[2]].judged if name[2] in METRICS else False for name in points.names])
    there = ~np.isnan(points.values)
    chosen = np.flatnonzero(judged & there[:, -1])
    patterns, which = np.unique(there[chosen], axis=0, return_inverse=True)
    for number, pattern in enumerate(patterns):
        series = chosen[which.reshape(-1) == number]
        part = dataclasses.replace(
            points,
            times=points.times[pattern],
            slots=points.slots[pattern],
            values=points.values[np.ix_(series, pattern)],
        )
        yield part, series, floors[series]


def _floors(points: _Points) -> Floats:
    """Returns float64[series]: the least standard deviation to believe of each metric."""
    with np.errstate(all="ignore"):
        middle = _medians(points.values)
    index = {name: place for place, name in enumerate(points.names)}

    def median_of(split: str, feature: str, metric: str) -> float:
        place = index.get((split, feature, metric))
        return float(middle[place]) if place is not None else np.nan

    floors = np.maximum(_RELATIVE_FLOOR * np.abs(middle), 1e-12)
    for place, (split, feature, metric) in enumerate(points.names):
        rows = median_of(split, "", "rows")
        if not rows > 0 or metric not in METRICS:
            continue
        by_chance = 0.0
        if METRICS[metric].share:
            share = (middle[place] * rows + 1) / (rows + 2)
            by_chance = np.sqrt(max(share * (1 - share), 0.0) / rows)
        elif metric in ("mean", "median"):
            by_chance = np.nan_to_num(median_of(split, feature, "std_dev")) / np.sqrt(rows)
        floors[place] = max(floors[place], by_chance)
    return floors


def _medians(values: Floats) -> Floats:
    """Returns the median of the values of each series that are there."""
    medians: Floats = np.nanmedian(values, axis=1)
    return medians


def _test(points: _Points, series: Ints, floors: Floats, season: Season) -> Iterator[_Tested]:
    """Puts series that have values at the same points to the tests that suit them."""
    seasonal = season == "week" and points.length is not None and points.length <= _DAY
    if not seasonal or (points.length or _DAY) <= SHORT:
        yield from _test_level(points, series, floors)
    if seasonal:
        yield from _test_season(points, series, floors)
    days = seasonal and (points.length or 0) < _DAY
    yield from _test_change(_by_day(points) if days else points, series, floors)
    yield from _test_stuck(points, series)


def _test_level(points: _Points, series: Ints, floors: Floats) -> Iterator[_Tested]:
    values = points.values[:, -POINTS - 1 :]
    if values.shape[1] > scores.MIN_LEVEL:
        p, z = scores.level_p(values, floors)
        middle = np.median(values[:, :-1], axis=1)
        yield _Tested("level", series, p, values[:, -1], middle, z, None, values.shape[1])


def _test_season(points: _Points, series: Ints, floors: Floats) -> Iterator[_Tested]:
    recent = points.times >= points.times[-1] - SEASON_WEEKS * WEEK
    values, slots = points.values[:, recent], points.slots[recent]
    same = points.times[recent][:-1][slots[:-1] == slots[-1]]
    if scores.has_season(slots) and len(np.unique(same // WEEK)) >= scores.MIN_WEEKS:
        p, z = scores.season_p(values, slots, floors)
        middle = np.median(values[:, :-1][:, slots[:-1] == slots[-1]], axis=1)
        yield _Tested("season", series, p, values[:, -1], middle, z, None, values.shape[1])


def _test_change(points: _Points, series: Ints, floors: Floats) -> Iterator[_Tested]:
    values, times = points.values[:, -POINTS:], points.times[-POINTS:]
    if values.shape[1] < scores.MIN_CHANGE:
        return
    p, at = scores.change_p(values)
    places = np.arange(values.shape[1])
    behind = places >= at[:, None]
    after = _medians(np.where(behind, values, np.nan))
    before = _medians(np.where(behind, np.nan, values))
    is_new = values.shape[1] - at <= POINTS // 2
    is_step = (np.abs(after - before) >= _MIN_STEP * floors) & is_new & ~_is_slope(values, at)
    p = np.where(is_step, p, 1.0)
    yield _Tested("change", series, p, after, before, None, times[at], values.shape[1])


def _is_slope(values: Floats, at: Ints) -> npt.NDArray[np.bool_]:
    """Whether a straight line explains more of the variance of each series than a step at a point does."""
    count = values.shape[1]
    centred = values - values.mean(axis=1, keepdims=True)
    places = np.arange(count) - (count - 1) / 2
    by_line = (centred @ places) ** 2 / (places @ places)
    before = np.cumsum(centred, axis=1)[np.arange(len(values)), at - 1]
    by_step = before**2 * (1 / at + 1 / (count - at))
    return np.asarray(by_line > by_step)


def _test_stuck(points: _Points, series: Ints) -> Iterator[_Tested]:
    values, times = points.values[:, -POINTS:], points.times[-POINTS:]
    if values.shape[1] > scores.MIN_STUCK:
        p, run = scores.stuck_p(values)
        since = times[values.shape[1] - run]
        yield _Tested("stuck", series, p, values[:, -1], _medians(values), None, since, values.shape[1])


def _by_day(points: _Points) -> _Points:
    """Returns the medians of whole days, that is, of those before the newest point's."""
    days = points.times // _DAY
    whole, at = np.unique(days[days < days[-1]], return_inverse=True)
    medians = [np.median(points.values[:, : len(at)][:, at == day], axis=1) for day in range(len(whole))]
    values = np.stack(medians, axis=1) if medians else points.values[:, :0]
    return dataclasses.replace(points, times=whole * _DAY, values=values, slots=whole)


def _called_out(points: _Points, tested: _Tested, threshold: float) -> Iterator[Leaving]:
    for place in np.flatnonzero(tested.p <= threshold):
        split, feature, metric = points.names[tested.series[place]]
        yield Leaving(
            split=split,
            feature=feature,
            metric=metric,
            test=tested.test,
            run=points.row["run"],
            window_start=points.row["window_start"],
            window_end=points.row["window_end"],
            value=float(tested.value[place]),
            expected=float(tested.expected[place]),
            z=None if tested.z is None else float(tested.z[place]),
            p=float(tested.p[place]),
            since=None if tested.since is None else _moment(int(tested.since[place])),
            points=tested.points,
        )


def _moment(micros: int) -> datetime.datetime:
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC) + datetime.timedelta(microseconds=micros)
