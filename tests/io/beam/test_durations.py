import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.beam.durations import MILLISECOND, as_duration, duration_text, micros, parse_duration
from penstock.io.errors import ConfigError

SECOND = datetime.timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("60s", 60 * SECOND),
        ("500ms", SECOND / 2),
        ("5m", 300 * SECOND),
        ("1h", 3600 * SECOND),
        ("1d", 86_400 * SECOND),
        ("0s", 0 * SECOND),
        ("36500d", datetime.timedelta(days=36_500)),
    ],
)
def test_durations(text, duration):
    assert parse_duration(text) == duration
    assert parse_duration(duration_text(duration)) == duration


@given(st.integers(0, 36_500 * 86_400_000))
def test_durations_read_what_they_print(milliseconds):
    duration = milliseconds * MILLISECOND
    assert parse_duration(duration_text(duration)) == duration
    assert micros(duration) == milliseconds * 1000


@pytest.mark.parametrize("text", ["", "60", "s", "-1s", "1.5s", "1 s", "1us", "1S", "60s ", "٣s"])
def test_what_is_no_duration(text):
    with pytest.raises(ConfigError, match="a duration must be a whole number with ms, s, m, h or d, such as 60s, got"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["36501d", "876001h", "9999999999999d"])
def test_duration_beyond_timers(text):
    with pytest.raises(ConfigError, match=f"must be at most 36500d, got '{text}'"):
        parse_duration(text)


def test_texts_and_timedeltas_become_one_type():
    assert as_duration("2s", "a") == as_duration(2 * SECOND, "a") == 2 * SECOND


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (60, "^pause must be a duration, as text such as '60s' or a datetime.timedelta, got 60$"),
        (0.5, "^pause must be a duration, .* got 0.5$"),
        (None, "^pause must be a duration, .* got None$"),
        ("soon", "^pause: a duration must be a whole number .* got 'soon'$"),
        ("0ms", "^pause must be at least 1ms and at most 36500d, in whole milliseconds, got .*0"),
        (-SECOND, "^pause must be at least 1ms and at most 36500d"),
        (datetime.timedelta(days=36_501), "^pause must be at least 1ms and at most 36500d"),
        (datetime.timedelta(microseconds=1500), "in whole milliseconds, got datetime.timedelta.microseconds=1500"),
    ],
)
def test_what_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        as_duration(value, "pause", MILLISECOND, MILLISECOND)


def test_the_least_may_be_nothing():
    assert as_duration("0s", "a") == 0 * SECOND
    with pytest.raises(ConfigError, match="a must be at least 0 and at most 36500d, got datetime"):
        as_duration(-SECOND, "a")
