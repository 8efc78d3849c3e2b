"""Tests on noise in which nothing happens, and on what does happen."""

import math

import numpy as np
import pytest

from penstock.transforms.history.scores import (
    change_p,
    has_season,
    level_p,
    robust_sigma,
    season_p,
    stuck_p,
    t_p,
)

HISTORIES = 1000
NO_FLOOR = np.zeros(HISTORIES)


def noise(points, seed=0, histories=HISTORIES):
    return np.random.default_rng(seed).normal(10, 2, (histories, points))


def at_most(p, rate):
    """Whether no more histories are called out than the rate explains: three standard deviations above it."""
    called = int((p <= rate).sum())
    return called <= rate * len(p) + 3 * math.sqrt(rate * len(p))


@pytest.mark.parametrize("points", [11, 21, 61], ids=lambda points: f"{points}_points")
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_level_holds_its_rate(points, rate):
    p, _ = level_p(noise(points), NO_FLOOR)
    assert at_most(p, rate)
    assert (p <= 0.2).sum() > 20, "a test that never calls out holds any rate"


def test_level_holds_a_small_rate_on_many_histories():
    p, _ = level_p(noise(31, histories=100_000), np.zeros(100_000))
    assert at_most(p, 0.001)


@pytest.mark.parametrize("weeks", [4, 8])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_season_holds_its_rate(weeks, rate):
    slots = np.arange(7 * weeks + 1) % 7
    p, _ = season_p(noise(len(slots)) + 20 * slots, slots, NO_FLOOR)
    assert at_most(p, rate)
    assert (p <= 0.2).sum() > 20


@pytest.mark.parametrize("shape", ["normal", "exponential", "cauchy"])
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_change_holds_its_rate_whatever_the_noise(shape, rate):
    random = np.random.default_rng(1)
    draw = {"normal": random.normal, "exponential": random.exponential}.get(
        shape, lambda size: random.standard_cauchy(size)
    )
    p, _ = change_p(draw(size=(HISTORIES, 60)))
    assert at_most(p, rate)
    assert (p <= 0.5).sum() > 20


@pytest.mark.parametrize("mean", [0.3, 1, 5, 50], ids=lambda mean: f"poisson_{mean}")
@pytest.mark.parametrize("rate", [0.05, 0.01])
def test_stuck_holds_its_rate_where_values_repeat(mean, rate):
    p, _ = stuck_p(np.random.default_rng(2).poisson(mean, (HISTORIES, 40)).astype(float))
    assert at_most(p, rate)


def test_a_spike_leaves_its_level():
    values = noise(31)
    values[:, -1] = 40
    p, z = level_p(values, NO_FLOOR)
    assert p.max() < 1e-3
    assert z.min() > 5


def test_an_outlier_in_the_history_hides_no_other():
    values = noise(31)
    values[:, 3:9] = 1000
    values[:, -1] = 40
    assert np.median(level_p(values, NO_FLOOR)[0]) < 1e-4


def test_a_floor_keeps_a_metric_that_never_moved_from_crying():
    values = np.full((1, 31), 5.0)
    values[0, -1] = 5.001
    assert level_p(values, np.array([1e-9]))[0] < 1e-9
    assert level_p(values, np.array([0.005]))[0] > 0.8


def test_a_broken_season_is_within_the_level_of_all_points():
    slots = np.arange(7 * 8 + 1) % 7
    values = noise(len(slots)) + 20 * slots
    values[:, -1] = 10 + 60
    assert slots[-1] == 0
    assert level_p(values, NO_FLOOR)[0].min() > 0.01
    assert season_p(values, slots, NO_FLOOR)[0].max() < 1e-4


def test_a_season_needs_four_weeks():
    assert not has_season(np.arange(7 * 4) % 7)
    assert has_season(np.arange(7 * 4 + 1) % 7)
    assert not has_season(np.zeros(1, np.int64))


def test_a_step_is_found_where_it_is():
    values = noise(60)
    values[:, 40:] += 6
    p, at = change_p(values)
    assert p.max() < 0.01
    assert abs(np.median(at) - 40) <= 1


def test_a_constant_history_has_no_change():
    p, _ = change_p(np.full((1, 60), 3.0))
    assert p == 1


def test_ranks_are_shared_by_equal_values():
    # U at the middle: ranks 1.5 + 1.5, twice that less 2 * 5.
    p, at = change_p(np.array([[1.0, 1, 2, 2]]))
    assert at == 2
    assert p == pytest.approx(min(1, 2 * math.exp(-6 * 4**2 / (4**3 + 4**2))))


def test_a_stuck_value_is_found_with_its_length():
    values = noise(40)
    values[:, -5:] = values[:, -5:-4]
    p, run = stuck_p(values)
    assert run.tolist() == [5] * HISTORIES
    assert p.max() < 1e-4


@pytest.mark.parametrize("values", [[1.0] * 40, [1.0, 2.0] * 20, [0.0] * 36 + [1.0] + [0.0] * 3])
def test_what_repeats_anyway_is_not_stuck(values):
    p, _ = stuck_p(np.array([values]))
    assert p > 0.05


def test_stuck_needs_points_before_the_run():
    values = np.array([[*range(9), 9, 9, 9, 9, 9.0]])
    assert stuck_p(values)[0] == 1
    assert stuck_p(np.insert(values, 0, -1.0, axis=1))[0] < 0.001


@pytest.mark.parametrize(
    ("z", "degrees", "p"),
    [(0, 8, 1), (2.306004, 8, 0.05), (-2.306004, 8, 0.05), (12.706205, 1, 0.05), (3.169273, 10, 0.01), (1e300, 8, 0)],
)
def test_students_t_is_that_of_tables(z, degrees, p):
    assert t_p(np.array([float(z)]), degrees)[0] == pytest.approx(p, abs=1e-6)


def test_sigma_of_normal_noise_is_its_standard_deviation():
    values = noise(201)
    sigma = robust_sigma(values - np.median(values, axis=1)[:, None])
    assert sigma.mean() == pytest.approx(2, rel=0.01)
