import datetime

import numpy as np
import pytest
from apache_beam.transforms import window as beam_windows
from apache_beam.transforms.window import TimestampedValue
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.beam.windows import FlushWindows, Windows, parse_time_name, parse_window, parse_windows, time_name
from penstock.io.errors import ConfigError

MINUTE = 60_000_000
# The years 1 to 9999, which event times are in.
TIMES = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)


@pytest.mark.parametrize("text", ["fixed:60s", "fixed:1m", "sliding:1m/10s", "sliding:70s/30s", "fixed:250ms"])
def test_windows_read_what_they_print(text):
    windows = parse_window(text)
    assert parse_window(str(windows)) == windows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("session:60s", "session: is refused: sessions begin and end for each key of the data by itself"),
        ("60s", r"must be fixed:SIZE or sliding:SIZE/PERIOD, such as fixed:60s, got '60s'"),
        ("fixed:60s/10s", "must be fixed:SIZE or sliding"),
        ("sliding:60s", "must be fixed:SIZE or sliding"),
        ("tumbling:60s", "must be fixed:SIZE or sliding"),
        ("fixed:", "a duration must be a whole number"),
        ("fixed:0s", "the size of windows must be at least 1ms"),
        ("sliding:10s/0s", "the period of windows must be at least 1ms"),
        ("sliding:10s/60s", "the period of sliding windows must be at most their size.* got 10s/1m"),
    ],
)
def test_what_is_no_window(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_window(text)


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("flush:1000", FlushWindows(1000)),
        ("flush:30s", FlushWindows(every="30s")),
        ("flush:1000/30s", FlushWindows(1000, datetime.timedelta(seconds=30))),
        ("fixed:1m", parse_window("fixed:60s")),
    ],
)
def test_windows_of_either_kind_read_what_they_print(text, windows):
    assert (parse_windows(text), str(windows)) == (windows, text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flush:", "must be flush:ROWS/DURATION, or one of both, got 'flush:'"),
        ("flush:1/1s/1s", "must be flush:ROWS/DURATION"),
        ("flush:30s/1000", "must be flush:ROWS/DURATION"),
        ("flush:1000/", "a duration must be a whole number"),
        ("flush:1000/5", "a duration must be a whole number"),
        ("flush:0", "flush_rows must be >= 1, got 0"),
        ("flush:0s", "flush_every must be at least 1ms"),
        ("session:1m", "session: is refused"),
    ],
)
def test_what_is_no_window_of_either_kind(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_windows(text)


def test_windows_of_processing_time_end_by_something():
    with pytest.raises(ConfigError, match="end by flush_rows, flush_every, or both; got neither"):
        FlushWindows()


@pytest.mark.parametrize(
    ("text", "time", "starts"),
    [
        ("fixed:60s", 0, [0]),
        ("fixed:60s", MINUTE - 1, [0]),
        ("fixed:60s", -1, [-MINUTE]),
        ("fixed:60s", -MINUTE, [-MINUTE]),
        ("sliding:2m/1m", 0, [-MINUTE, 0]),
        ("sliding:2m/1m", -1, [-2 * MINUTE, -MINUTE]),
        ("sliding:90s/1m", 10_000_000, [-MINUTE, 0]),
        ("sliding:90s/1m", 40_000_000, [0]),
    ],
)
def test_windows_of_a_time(text, time, starts):
    rows, found = parse_window(text).assign(np.array([time]))
    assert (rows.tolist(), sorted(found.tolist())) == ([0] * len(starts), starts)
    assert parse_window(text).latest(time) == starts[-1]


@given(st.lists(TIMES, max_size=20), st.integers(1, 10_000), st.integers(1, 10))
def test_windows_are_those_of_beam(times, period_ms, most):
    size, period = period_ms * 1000 * most + (period_ms // 2) * 1000, period_ms * 1000
    windows = Windows(datetime.timedelta(microseconds=size), datetime.timedelta(microseconds=period))
    rows, starts = windows.assign(np.array(times, np.int64))
    ours = sorted(zip(rows.tolist(), starts.tolist(), strict=True))
    assert ours == sorted(
        (row, k * period)
        for row, time in enumerate(times)
        for k in range((time - size) // period + 1, time // period + 1)
    )
    assert set(rows.tolist()) == set(range(len(times)))


def test_assignment_of_beam_itself():
    for windowfn in (beam_windows.FixedWindows(7), beam_windows.SlidingWindows(10, 3)):
        windows = Windows.of_beam(windowfn)
        for second in range(-20, 20):
            assigned = windowfn.assign(beam_windows.WindowFn.AssignContext(second, TimestampedValue(0, second)))
            expected = sorted(window.start.micros for window in assigned)
            assert sorted(windows.assign(np.array([second * 1_000_000]))[1].tolist()) == expected


def test_sizes_may_be_texts_and_must_be_durations():
    assert Windows("1m", "10s") == parse_window("sliding:60s/10s")
    with pytest.raises(ConfigError, match=r"the size of windows must be a duration, .* got 60"):
        Windows(60, 60)


def test_windows_of_beam_that_cannot_be_written():
    assert Windows.of_beam(beam_windows.Sessions(10)) is None
    assert Windows.of_beam(beam_windows.GlobalWindows()) is None
    with pytest.raises(ConfigError, match="windows without offset"):
        Windows.of_beam(beam_windows.FixedWindows(10, offset=3))


@given(TIMES)
def test_names_of_times(micros):
    name = time_name(micros)
    assert parse_time_name(name) == micros
    assert not set(name) & set("*?[]/:, ")
    assert ("." in name) == (micros % 1_000_000 != 0)


def test_names_of_windows():
    assert parse_window("fixed:60s").name(1_767_225_600_000_000) == "20260101T000000Z_20260101T000100Z"
    assert parse_window("fixed:250ms").name(250_000) == "19700101T000000.250000Z_19700101T000000.500000Z"


def test_what_is_no_name():
    with pytest.raises(ValueError, match="not a time of a window: '2026'"):
        parse_time_name("2026")


def test_windows_between():
    windows = parse_window("fixed:60s")
    assert list(windows.between(0, 3 * MINUTE)) == [MINUTE, 2 * MINUTE]
    assert list(windows.between(0, MINUTE)) == []
