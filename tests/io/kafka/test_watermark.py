"""The watermark of a group of partitions."""

from datetime import timedelta

import numpy as np
import pytest
from apache_beam.utils.timestamp import Timestamp

from penstock.io.kafka.watermark import (
    PartitionProgress,
    PartitionWatermark,
    PartitionWatermarks,
    ProgressCoder,
    next_watermark,
)

A, B, C = ("t", 0), ("t", 1), ("t", 2)
NOW = 1_000_000
LATE = timedelta(microseconds=10)
HOUR = 3_600_000_000


def times(*micros):
    return np.array(micros, np.int64)


@pytest.mark.parametrize(
    ("greatest", "active", "expected"),
    [
        pytest.param({A: 500}, [A], 490, id="one_partition"),
        pytest.param({A: 500, B: 300, C: 400}, [A, B, C], 290, id="the_slowest_decides"),
        pytest.param({A: 500, B: 300}, [A], 490, id="an_idle_one_is_left_out"),
        pytest.param({A: 500}, [A, B], None, id="an_active_one_without_rows_holds_it"),
        pytest.param({A: 500}, [A], 490, id="an_idle_one_without_rows_does_not"),
        pytest.param({A: 500, B: 300}, [], NOW - 10, id="all_idle"),
        pytest.param({}, [], NOW - 10, id="no_rows_at_all"),
        pytest.param({A: -86_400_000_000}, [A], -86_400_000_010, id="before_1970"),
        pytest.param({A: NOW}, [A], NOW - 10, id="as_far_as_the_clock"),
        pytest.param({A: NOW * 99}, [A], None, id="a_time_of_the_future_is_none"),
        pytest.param({A: NOW * 99, B: 300}, [A, B], None, id="a_time_of_the_future_beside_another"),
        pytest.param({A: NOW * 99, B: 300}, [B], 290, id="a_time_of_the_future_of_an_idle_partition"),
    ],
)
def test_next_watermark(greatest, active, expected):
    assert next_watermark(greatest, active, NOW, LATE) == expected


def test_it_follows_the_greatest_time_of_a_partition_and_never_goes_back():
    watermark = PartitionWatermark(PartitionProgress())
    assert watermark.current_watermark() is None
    seen = []
    for time in (100, 300, 200, 250, 400):
        watermark.observe(A, times(time), NOW)
        watermark.advance([A], NOW, LATE)
        seen.append(watermark.micros())
    assert seen == [90, 290, 290, 290, 390]
    assert watermark.current_watermark() == Timestamp(micros=390)


def test_a_partition_that_was_idle_holds_it_again_but_does_not_turn_it_back():
    watermark = PartitionWatermark(PartitionProgress())
    watermark.observe(A, times(500), NOW)
    watermark.observe(B, times(100), NOW)
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() == 490
    watermark.observe(B, times(150), NOW)
    watermark.observe(A, times(900), NOW)
    watermark.advance([A, B], NOW, LATE)
    assert watermark.micros() == 490
    watermark.observe(B, times(700), NOW)
    watermark.advance([A, B], NOW, LATE)
    assert watermark.micros() == 690


def test_what_it_is_made_of_survives_a_checkpoint():
    provider = PartitionWatermarks()
    watermark = provider.create_watermark_estimator(provider.initial_estimator_state(None, None))
    watermark.observe(B, times(300), NOW)
    watermark.observe(A, times(500), NOW)
    watermark.advance([A, B], NOW, LATE)
    coder = provider.estimator_state_coder()
    state = coder.decode(coder.encode(watermark.get_estimator_state()))
    assert state == PartitionProgress(290, (("t", 0, 500), ("t", 1, 300)))
    again = provider.create_watermark_estimator(state)
    again.observe(B, times(350), NOW)
    again.advance([A, B], NOW, LATE)
    assert again.micros() == 340


def test_its_json_can_be_read_by_other_versions():
    assert ProgressCoder().encode(PartitionProgress()) == b'{"watermark": null, "greatest": []}'
    assert ProgressCoder().decode(b'{"watermark": 5, "greatest": [["t", 0, 7]], "later": 1}') == PartitionProgress(
        5, (("t", 0, 7),)
    )


def test_beams_own_observations_do_not_move_it():
    watermark = PartitionWatermark(PartitionProgress())
    watermark.observe_timestamp(Timestamp(5))
    assert watermark.current_watermark() is None


def test_a_row_far_ahead_of_the_clock_moves_nothing_and_the_backlog_behind_it_stays_on_time():
    watermark = PartitionWatermark(PartitionProgress())
    assert not watermark.observe(A, times(NOW + HOUR + 1), NOW)
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() is None
    assert watermark.observe(A, times(100, NOW * 99 * HOUR, 200), NOW)
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() == 190
    watermark.advance([A], NOW + 1000 * HOUR, LATE)
    assert watermark.micros() == 190, "nor does it when the clock goes on"


def test_a_row_a_little_ahead_of_the_clock_counts_as_the_time_of_the_clock():
    watermark = PartitionWatermark(PartitionProgress())
    assert watermark.observe(A, times(NOW + HOUR), NOW)
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() == NOW - 10


def test_a_row_of_1970_holds_nothing():
    watermark = PartitionWatermark(PartitionProgress())
    now = 1000 * HOUR
    assert watermark.observe(A, times(now), now)
    watermark.advance([A], now, LATE)
    assert not watermark.observe(B, times(5), now), "its partition stays idle"
    assert watermark.observe(B, times(now - HOUR), now), "a partition that is nearly as far as the others is waited for"
    watermark.observe(A, times(5), now)
    watermark.observe(B, times(now), now)
    watermark.advance([A, B], now, LATE)
    assert watermark.micros() == now - 10


def test_a_time_of_the_future_in_an_old_checkpoint_is_forgotten_with_the_next_row():
    watermark = PartitionWatermark(PartitionProgress(150, (("t", 0, NOW * 99),)))
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() == 150, "the clock does not take over"
    watermark.observe(A, times(300), NOW)
    watermark.advance([A], NOW, LATE)
    assert watermark.micros() == 290
    assert watermark.get_estimator_state() == PartitionProgress(290, (("t", 0, 300),))
