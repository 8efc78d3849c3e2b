"""How unlikely the newest value of a metric is, given the values before it: tests on arrays, without names and times.

Each function takes float64[series, points] without NaN, oldest point first, and returns float64[series] of p-values:
under its assumption, a p-value is at most x with a probability of about x. A series that stays within its noise
is thus called out with the probability of the threshold, its false-alarm rate.

==========  ===================================================  =====================================  =============
test        finds                                                assumes of a series that is all right  least points
==========  ===================================================  =====================================  =============
`level_p`   a spike, a jump: the newest value against all        independent, normal noise              10 before it
`season_p`  a value unlike those of the same slot of the week    the same noise around each slot        4 weeks
`change_p`  a step, small but lasting                            independent, any distribution          20
`stuck_p`   a value that no longer changes                       equal neighbours come independently    10 before it
==========  ===================================================  =====================================  =============

**Robust z-score.** z = (x - median) / (s * sqrt(1 + pi / (2 n))), with s = 1.4826 * n / (n - 0.8) * MAD, the median
absolute deviation with the correction of Croux and Rousseeuw for few points ("Time-efficient algorithms for two highly
robust estimators of scale", COMPSTAT 1992). Half of the points may be wrong without moving it. The square root is
for the median of n points, which is itself uncertain. MAD has the efficiency of 37 % of the standard deviation, so that
z follows about Student's t with 0.37 n degrees of freedom. Metrics have heavier tails than normal noise: more
than 8 degrees are never used. In simulations of normal noise with 10 to 200 points, the false-alarm rate is at most the
stated one at 0.05 to 0.00001. A floor under s keeps a metric that has never moved from crying at the last digit.

**Change point.** Pettitt's test ("A non-parametric approach to the change-point problem", Applied Statistics 28, 1979):
K = max abs(U), with U = 2 R - t (n + 1) for each t, where R is the sum of the first t ranks; p is about
2 exp(-6 K^2 / (n^3 + n^2)), from above. Ranks alone matter, so that the noise may have any distribution.
"""

import math
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]

MIN_LEVEL = 10
MIN_WEEKS = 4
MIN_CHANGE = 20
MIN_STUCK = 10

# MAD of normal noise times this is its standard deviation.
_MAD_TO_SIGMA = 1.482602218505602

_MAD_EFFICIENCY = 0.37
_MAX_DEGREES = 8.0

_FRACTION_STEPS = 200


def level_p(values: Floats, floor: Floats) -> tuple[Floats, Floats]:
    """Tests the last value of each series against all before it.

    Args:
      values: float64[series, points], with at least `MIN_LEVEL` points before the last.
      floor: float64[series], the least standard deviation to believe; above 0 where a series may not move at all.

    Returns:
      The p-values, and the robust z-scores with their sign.
    """
    before = values[:, :-1]
    points = before.shape[1]
    middle = np.median(before, axis=1)
    sigma = np.maximum(robust_sigma(before - middle[:, None]), floor)
    z = (values[:, -1] - middle) / (sigma * math.sqrt(1 + math.pi / (2 * points)))
    return t_p(z, min(_MAD_EFFICIENCY * points, _MAX_DEGREES)), z


def season_p(values: Floats, slots: Ints, floor: Floats) -> tuple[Floats, Floats]:
    """Tests the last value of each series against those of its slot, by the noise around the medians of all slots.

    The noise is that of each earlier point around the median of the others in its slot, of slots with at least
    `MIN_WEEKS` points. It thus holds what a median of few points adds.

    Args:
      values: float64[series, points]; at least `MIN_WEEKS` points before the last are in the slot of the last.
      slots: int64[points], such as the hour of the week.
      floor: float64[series], the least standard deviation to believe; above 0 where a series may not move at all.

    Returns:
      The p-values, and the robust z-scores with their sign.
    """
    before, slots_before = values[:, :-1], slots[:-1]
    residuals = [_around_others(before[:, slots_before == slot]) for slot in _full_slots(slots_before)]
    noise = np.concatenate(residuals, axis=1)
    sigma = np.maximum(robust_sigma(noise), floor)
    z = (values[:, -1] - np.median(before[:, slots_before == slots[-1]], axis=1)) / sigma
    return t_p(z, min(_MAD_EFFICIENCY * noise.shape[1], _MAX_DEGREES)), z


def has_season(slots: Ints) -> bool:
    """Whether `season_p` can judge the last point: its slot has enough points before it."""
    return len(slots) > 1 and int((slots[:-1] == slots[-1]).sum()) >= MIN_WEEKS


def change_p(values: Floats) -> tuple[Floats, Ints]:
    """Tests each series for one step, by Pettitt's test.

    Args:
      values: float64[series, points], at least `MIN_CHANGE` points.

    Returns:
      The p-values, and int64[series]: the index of the first point after the step.
    """
    points = values.shape[1]
    statistic = 2 * np.cumsum(_ranks(values), axis=1) - np.arange(1, points + 1) * (points + 1)
    at = np.abs(statistic[:, :-1]).argmax(axis=1)
    greatest = np.abs(statistic[np.arange(len(values)), at])
    p = 2 * np.exp(-6 * greatest**2 / (points**3 + points**2))
    return np.minimum(p, 1.0), at + 1


def stuck_p(values: Floats) -> tuple[Floats, Ints]:
    """Tests whether the last values of each series are equal for longer than equal neighbours before explain.

    The p-value is that of so many equal neighbours in a row after what was seen before them, by Laplace's rule of
    succession: of n neighbours k were equal, so that the next is with the probability (k + 1) / (n + 2), the one after
    it with (k + 2) / (n + 3), and so on. If the value itself was there more often than neighbours were equal, as zero
    may be, k is the number of those points.

    Args:
      values: float64[series, points].

    Returns:
      The p-values, 1 where fewer than `MIN_STUCK` points are before the run, and int64[series]: the length of the run.
    """
    equal = values[:, 1:] == values[:, :-1]
    unequal = np.flip(~equal, axis=1)
    run = np.where(unequal.any(axis=1), unequal.argmax(axis=1), equal.shape[1])
    neighbours = equal.shape[1] - run - 1  # the step to the run is unequal by its choice
    points = values.shape[1]
    is_before = np.arange(points) < (points - run - 1)[:, None]
    same = ((values == values[:, -1:]) & is_before).sum(axis=1)
    before = np.maximum(equal.sum(axis=1) - run, np.minimum(same, neighbours))
    succession = _log_product(before + 1, run) - _log_product(np.maximum(neighbours, 0) + 2, run)
    return np.where(neighbours + 1 >= MIN_STUCK, np.exp(succession), 1.0), run + 1


def _log_product(first: Ints, factors: Ints) -> Floats:
    """Returns the logarithm of first * (first + 1) * ..., with so many factors."""
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, int((first + factors).max(initial=1)) + 1)))])
    return np.asarray(logs[first + factors - 1] - logs[first - 1], np.float64)


def robust_sigma(deviations: Floats) -> Floats:
    """Returns float64[series]: the standard deviation of noise from deviations float64[series, points], by MAD."""
    points = deviations.shape[1]
    return np.median(np.abs(deviations), axis=1) * (_MAD_TO_SIGMA * points / (points - 0.8))


def t_p(z: Floats, degrees: float) -> Floats:
    """Returns the probability that a variate of Student's t is at least as far from 0 as z, on either side.

    >>> t_p(np.array([0.0, 2.306004135]), 8.0).round(6).tolist()
    [1.0, 0.05]
    """
    square = np.square(np.minimum(np.abs(z), 1e100))
    return _beta(degrees / 2, 0.5, degrees / (degrees + square), square / (degrees + square))


def _beta(a: float, b: float, x: Floats, rest: Floats) -> Floats:
    """Returns the regularised incomplete beta function I_x(a, b); `rest` is 1 - x, without loss of digits."""
    with np.errstate(divide="ignore"):
        scale = a * np.log(x) + b * np.log(rest) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front, edge = np.exp(scale), (a + 1) / (a + b + 2)
    # Beyond the edge the fraction of the other side converges, and this one has poles.
    lower = front * _beta_fraction(a, b, np.minimum(x, edge)) / a
    upper = 1 - front * _beta_fraction(b, a, np.minimum(rest, 1 - edge)) / b
    return np.where(x < edge, lower, upper)


def _beta_fraction(a: float, b: float, x: Floats) -> Floats:
    """Evaluates the continued fraction of the incomplete beta function (DLMF 8.17.22) from its far end."""
    value = np.ones_like(x)
    for step in range(_FRACTION_STEPS, 0, -1):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1 + term / value
    return 1 / value


def _full_slots(slots: Ints) -> list[int]:
    found, counts = np.unique(slots, return_counts=True)
    return [int(slot) for slot in found[counts >= MIN_WEEKS]]


def _around_others(values: Floats) -> Floats:
    """Returns the distance of each point from the median of the others: float64[series, points]."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.broadcast_to(np.arange(values.shape[1]), values.shape), axis=1)
    # Of the others, those from the rank of the one that is left out on are one place further.
    middle = [(values.shape[1] - 2) // 2, (values.shape[1] - 1) // 2]
    sides = [np.where(ranks > place, ordered[:, [place]], ordered[:, [place + 1]]) for place in middle]
    return np.asarray(values - (sides[0] + sides[1]) / 2, np.float64)


def _ranks(values: Floats) -> Floats:
    """Returns the ranks of the points of each series, from 1; equal values share the mean of theirs."""
    order = np.argsort(values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)
    points = values.shape[1]
    is_new = np.ones_like(ordered, bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    positions = np.arange(points)
    first = np.maximum.accumulate(np.where(is_new, positions, 0), axis=1)
    is_last = np.ones_like(is_new)
    is_last[:, :-1] = is_new[:, 1:]
    last = np.flip(np.minimum.accumulate(np.flip(np.where(is_last, positions, points), axis=1), axis=1), axis=1)
    ranks = np.empty_like(values)
    np.put_along_axis(ranks, order, (first + last) / 2 + 1, axis=1)
    return ranks
