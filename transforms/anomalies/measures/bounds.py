"""What chance alone may do: bounds that two samples of one source leave with a given probability at most.

All are bounds for any distribution, and no approximation for many rows, so that small datasets raise no alarm either.
`chance` is the probability, already divided by the number of comparisons that are made (Bonferroni).
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def distribution_bound(rows: Floats, others: Floats, chance: float) -> Floats:
    """Bounds the Kolmogorov-Smirnov distance of two samples: sqrt(ln(e / chance) * (n + m) / (2 n m)).

    The inequality of Dvoretzky, Kiefer and Wolfowitz for two samples, with the constant e that holds for any size (Wei
    and Dudley, Two-sample Dvoretzky-Kiefer-Wolfowitz inequalities, 2012).
    """
    return np.sqrt((1 - np.log(chance)) * (rows + others) / (2 * np.maximum(rows, 1) * np.maximum(others, 1)))


def mean_bound(rows: Floats, others: Floats, chance: float) -> Floats:
    """Bounds the difference of two means, in standard deviations of both samples together.

    sqrt(2 ln(2 / chance) * (n + m) / (n m)): Hoeffding's inequality for a sum of random signs, which the difference of
    two random halves of one set of rows is; heavy tails do not break it.
    """
    return np.sqrt(-2 * np.log(chance / 2) * (rows + others) / (np.maximum(rows, 1) * np.maximum(others, 1)))


def share_evidence(hits: Floats, rows: Floats, other_hits: Floats, other_rows: Floats) -> Floats:
    """Returns how far two shares are from being one: -ln of a bound of the probability that chance does it.

    n KL(p || r) + m KL(q || r), with r the share in both together: Chernoff's bound of the hypergeometric distribution,
    and half of the statistic of the G-test. It is exact where one side has no hits.
    """
    total = np.maximum(rows + other_rows, 1)
    share = (hits + other_hits) / total
    return _divergence(hits, rows, share) + _divergence(other_hits, other_rows, share)


def _divergence(hits: Floats, rows: Floats, share: Floats) -> Floats:
    misses = rows - hits
    with np.errstate(divide="ignore", invalid="ignore"):
        hit = np.where(hits > 0, hits * np.log(hits / (rows * share)), 0.0)
        miss = np.where(misses > 0, misses * np.log(misses / (rows * (1 - share))), 0.0)
    return np.maximum(np.nan_to_num(hit + miss), 0.0)


def correlation_bound(
    correlation: Floats, other: Floats, rows: Floats, other_rows: Floats, moments: Floats, most: Floats, chance: float
) -> Floats:
    """Bounds the differences of the correlations of columns of two samples: s sqrt(2 ln(2 / chance) (n + m) / (n m)).

    To first order a difference is a sum over rows, with random signs, of x y - r (x^2 + y^2) / 2 in standard deviations
    (Devlin, Gnanadesikan and Kettenring, Robust estimation and outlier detection with correlation coefficients, 1975),
    for which Hoeffding's inequality holds as in `mean_bound`. The mean of its square is at most s^2, the lesser of two
    bounds. With K the fourth moments, by Cauchy and Schwarz, where extremes do not speak against the correlation, so
    that E[x^3 y] and E[x y^3] have the sign of r::

        s^2 = (1 + r^2 / 2) sqrt(Kx Ky) + r^2 (Kx + Ky) / 4

    and, for any distribution, with x y written as a difference of the squares of x + y and x - y, of which one is small
    where r is large, and none is greater than D = max |x| + max |y|::

        s^2 = (1 - |r|)^2 (Kx + Ky) / 2 + (1 - |r|) (1 + |r|)^2 D^2 / 8

    Args:
      correlation, other: r of each pair in both samples, of shape (columns, columns); r of both together is taken as
        their mean, by rows.
      rows, other_rows: n and m of each pair.
      moments: K of the column of each row of the matrix, in the rows of the pair.
      most: max |x| of each column, of shape (columns,).
      chance: how likely chance alone may exceed it.
    """
    rows, other_rows = np.maximum(rows, 1), np.maximum(other_rows, 1)
    together = np.abs(rows * correlation + other_rows * other) / (rows + other_rows)
    both, widest = moments + moments.T, most[:, None] + most[None, :]
    plain = (1 + together**2 / 2) * np.sqrt(moments * moments.T) + together**2 * both / 4
    rest = 1 - together
    narrow = rest**2 * both / 2 + rest * (1 + together) ** 2 * widest**2 / 8
    by_rows = np.sqrt(-2 * np.log(chance / 2) * (rows + other_rows) / (rows * other_rows))
    return np.sqrt(np.minimum(plain, narrow)) * by_rows


def cohens_h(share: Floats, other: Floats) -> Floats:
    """Returns the difference of two shares: 2 asin(sqrt(p)) - 2 asin(sqrt(q)), from -pi to pi.

    Equal differences are equally easy to see at any share (Cohen, Statistical Power Analysis, 1988).
    """
    return 2 * np.arcsin(np.sqrt(np.clip(share, 0, 1))) - 2 * np.arcsin(np.sqrt(np.clip(other, 0, 1)))


def distinct_bounds(rows: float, distinct: float, other_rows: float) -> tuple[float, float]:
    """Bounds the number of distinct values that so many rows of the same source are expected to have.

    For rows drawn alike, the expected number D(n) of distinct values rises and is concave, with D(0) = 0 (rarefaction:
    Hurlbert 1971). So for n above m: D(m) <= D(n) <= D(m) n / m. The repeats n - D(n), divided by n^2, fall, since each
    value of share p adds n p - 1 + (1 - p)^n; so they are no more than (m - D(m)) (n / m)^2.

    Args:
      rows: m, of the dataset that is known.
      distinct: values among them, D(m).
      other_rows: n, of another one.
    """
    if not rows or not other_rows:
        return 0.0, other_rows
    factor = other_rows / rows
    repeats = max(rows - distinct, 0.0)
    by_pairs = other_rows - repeats * factor**2
    if factor >= 1:
        return max(distinct, by_pairs), min(distinct * factor, other_rows)
    return distinct * factor, min(distinct, by_pairs, other_rows)
