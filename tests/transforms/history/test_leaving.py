"""Which metrics have left their history: seeded faults are found, noise is not, whatever the points are."""

import datetime
import re

import numpy as np
import pyarrow as pa
import pytest

from penstock.io.errors import ConfigError
from penstock.transforms.history.leaving import leaving
from penstock.transforms.history.metrics import SCHEMA

START = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)  # a Monday
HOUR, DAY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


def history(series, step=DAY, windows=False, metric="mean", rows=None):
    """A table of series by feature; each value is of the next run or window."""
    made = []
    for feature, values in (({"": rows} if rows is not None else {}) | series).items():
        for number, value in enumerate(values):
            start = START + number * step
            made.append(
                {
                    "run": f"run {number}",
                    "window_start": start if windows else None,
                    "window_end": start + step if windows else None,
                    "created": start,
                    "split": "train",
                    "feature": feature,
                    "metric": metric if feature else "rows",
                    "value": float(value),
                }
            )
    return pa.Table.from_pylist(made, schema=SCHEMA)


def noise(points, seed=0, level=10.0):
    return np.random.default_rng(seed).normal(level, 1, points)


def weekly(weeks, seed=0):
    """Hours with days, nights and quiet weekends."""
    hours = np.arange(weeks * 168)
    quiet = hours % 168 >= 120
    return 100 + 50 * np.sin(hours / 12 * np.pi) * ~quiet + np.random.default_rng(seed).normal(0, 2, len(hours))


def changed(values, part, value):
    values = values.copy()
    values[part] = value
    return values


CALM, LONG = noise(40), noise(60)

FAULTS = {
    "spike": (changed(CALM, -1, 30), "level"),
    "drop": (changed(CALM, -1, -10), "level"),
    "step": (np.concatenate([noise(40), noise(20, 1, 12.5)]), "change"),
    "stuck": (changed(CALM, slice(-7, None), CALM[-8]), "stuck"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found_among_good_metrics(name):
    values, test = FAULTS[name]
    good = {f"good {number}": noise(len(values), number + 10) for number in range(20)}
    found = leaving(history({"bad": values} | good))
    assert [(one.feature, one.metric, one.test) for one in found] == [("bad", "mean", test)]
    assert found[0].run == f"run {len(values) - 1}"


def test_a_broken_season_is_found_where_its_level_is_known():
    good = weekly(6)
    # At noon of a Sunday as busy as a working day.
    at = 5 * 168 + 6 * 24 + 6
    busy = changed(good[: at + 1], -1, 150)
    found = leaving(history({"bad": busy, "good": weekly(6, 1)[: at + 1]}, HOUR, windows=True))
    assert [(one.feature, one.test) for one in found] == [("bad", "season")]
    assert found[0].expected == pytest.approx(100, abs=3)
    assert leaving(history({"bad": busy}, HOUR, windows=True, metric="max")) == []


@pytest.mark.parametrize(
    ("step", "windows", "points"),
    [
        pytest.param(DAY, False, 61, id="runs"),
        pytest.param(DAY, True, 61, id="days"),
        pytest.param(datetime.timedelta(minutes=5), True, 61, id="minutes"),
        pytest.param(7 * DAY, True, 61, id="weeks"),
    ],
)
def test_a_thousand_histories_of_noise_hold_the_rate_of_false_alarms(step, windows, points):
    rate = 0.05
    found = leaving(
        history({f"x{number}": noise(points, number) for number in range(1000)}, step, windows),
        # The rate of one history, for each of the tests of a thousand.
        false_alarms=rate * 1000,
    )
    assert len(found) <= rate * 1000 + 3 * np.sqrt(rate * 1000)
    assert found, "tests that find nothing hold any rate"


def test_hours_with_a_season_hold_it_too():
    series = {f"x{number}": weekly(5, number) for number in range(100)}
    assert leaving(history(series, HOUR, windows=True), false_alarms=0.05) == []
    assert len(leaving(history(series, HOUR, windows=True), false_alarms=5)) <= 5 + 3 * np.sqrt(5)


@pytest.mark.parametrize(("points", "found"), [(10, 0), (11, 1)])
def test_a_level_needs_ten_points_before(points, found):
    assert len(leaving(history({"x": changed(noise(points), -1, 1000)}))) == found


def test_hours_wait_for_four_weeks_unless_they_have_no_season():
    table = history({"x": changed(noise(3 * 168), -1, 1000)}, HOUR, windows=True)
    assert leaving(table) == []
    assert [one.test for one in leaving(table, season="none")] == ["level"]


def test_the_hour_of_the_week_is_that_of_the_time_zone():
    # Summer time begins on 2026-03-29: the same local hour is an hour earlier in UTC.
    start = datetime.datetime(2026, 2, 16, tzinfo=datetime.UTC)
    hours = np.arange(6 * 168)
    local = hours + (hours >= (datetime.datetime(2026, 3, 29, 1, tzinfo=datetime.UTC) - start) / HOUR)
    values = 100.0 * ((local + 1) % 24 == 8) + noise(len(hours))
    stop = len(hours) - 24 + 6  # in summer time, at 8 in Oslo
    table = history({"x": values[: stop + 1]}, HOUR, windows=True)
    shift = pa.scalar(start - START)
    moved = [
        pa.compute.add(table[name], shift) if name in ("window_start", "window_end", "created") else table[name]
        for name in SCHEMA.names
    ]
    table = pa.table(moved, SCHEMA)
    assert [one.test for one in leaving(table)] == ["season"]
    assert leaving(table, time_zone="Europe/Oslo") == []


def test_what_no_one_would_see_is_no_finding():
    rows = np.full(40, 1000.0)
    share = changed(np.full(40, 0.001), -1, 0.003)
    assert leaving(history({"x": share}, metric="missing", rows=rows)) == []
    found = leaving(history({"x": changed(share, -1, 0.1)}, metric="missing", rows=rows))
    assert [(one.metric, one.feature) for one in found] == [("missing", "x")]
    assert leaving(history({"x": changed(np.full(40, 5.0), -1, 5.001)})) == []


def test_a_steady_growth_is_no_change_of_level_and_a_step_in_it_is_one():
    growth = 5 * np.arange(60) + noise(60)
    assert leaving(history({"x": growth})) == []
    stepped = np.arange(60) / 50 + noise(60) / 5 + 3.0 * (np.arange(60) >= 35)
    assert "change" in {found.test for found in leaving(history({"x": stepped}))}


def test_a_series_that_ended_has_nothing_new():
    values = noise(40)
    table = history({"x": changed(values[:-1], -1, 1000), "y": values})
    assert leaving(table) == []


def test_gaps_do_not_matter():
    table = history({"x": changed(noise(40), -1, 1000), "y": noise(40, 1)})
    holes = table.filter(pa.array([row["run"] not in ("run 3", "run 20") for row in table.to_pylist()]))
    assert [one.feature for one in leaving(holes)] == ["x"]


def test_windows_are_compared_with_windows_of_the_same_length():
    days = history({"x": noise(40)}, DAY, windows=True)
    weeks = history({"x": changed(noise(40, level=70.0), -1, 71)}, 7 * DAY, windows=True)
    assert leaving(pa.concat_tables([days, weeks])) == []


def test_nothing_is_found_in_nothing():
    assert leaving(SCHEMA.empty_table()) == []
    assert leaving(history({"x": [1]})) == []


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("spike", r"train: mean of bad is 30, was about [\d.]+ in 39 points before"),
        ("step", r"train: mean of bad is about 12\.\d+ since 2026-02-1\dT00:00:00Z, was about 9\.\d+ before"),
        ("stuck", r"train: mean of bad has been exactly [\d.]+ since 2026-02-06T00:00:00Z"),
    ],
)
def test_a_finding_says_what_was_expected(name, words):
    assert re.fullmatch(words, str(leaving(history({"bad": FAULTS[name][0]}))[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"false_alarms": 0}, "false_alarms must be above 0, got 0"),
        ({"season": "day"}, "season must be week or none, got 'day'"),
        ({"time_zone": "Mars/Base"}, "time_zone must be a name of the time zone database.*got 'Mars/Base'"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        leaving(history({"x": noise(20)}), **options)
