"""What terms tell of a label: their mutual information, as tensorflow-transform computes it of counts or weights.

Adjusted for chance, the expected mutual information of terms and labels that are independent is subtracted: Vinh, Epps
and Bailey, "Information Theoretic Measures for Clusterings Comparison", ICML 2009.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from penstock.transforms.features.arrow.compute.columns import Ints

Floats = npt.NDArray[np.float64]

# The least share of a label among the rows of a term, and of all others.
_LEAST_SHARE = 1e-6


def mutual_information(
    sums: Floats, counts: Ints, labels: Floats, label_count: int, adjusted: bool, least_difference: float
) -> Floats:
    """Returns float64[m]: summed over the labels, n * log2(n * rows / (rows with the term * rows with the label)).

    Means are rounded to float32 first, as tensorflow-transform keeps them, so that equal ones are equal here too.

    Args:
      sums: float64[m, labels]; how many rows have the term and the label, or their weights.
      counts: int64[m]; how many rows have the term.
      labels: float64[labels]; how many rows have the label, or their weights.
      label_count: how many rows there are.
      adjusted: whether the expected mutual information is subtracted.
      least_difference: a label tells nothing if its rows differ less from what is expected.
    """
    totals = sums.sum(axis=1)
    weights, weight = _mean(totals, counts), _mean(labels.sum(), np.int64(label_count))
    of_term, rows = weights * counts, float(weight * np.int64(label_count))
    of_label = (_mean(labels, labels.sum()) * weight).astype(np.float64) * label_count
    both = np.clip(_mean(sums, totals[:, None]), _LEAST_SHARE, 1 - _LEAST_SHARE) * weights[:, None]
    found, expected = np.zeros(len(sums)), np.zeros(len(sums))
    # A term that is in all rows tells nothing.
    is_telling = (of_term > 0) & (np.rint(of_term) != np.rint(rows))
    for label in np.flatnonzero(of_label).tolist():
        joint, alone = both[:, label].astype(np.float64) * counts, of_label[label]
        at = np.flatnonzero(is_telling & (np.abs(of_term * alone / rows - joint) >= least_difference))
        joint, term = joint[at], of_term[at]
        found[at] += joint * ((_log2(joint) + math.log2(rows)) - (_log2(term) + math.log2(alone)))
        if adjusted:
            expected[at] += _of_each(term, functools.partial(_expected, rows=rows, label=alone))
    return found - expected


def _mean(sums: Any, totals: Any) -> Any:
    """Returns sums over totals, float32; 0 of nothing."""
    return np.divide(sums, np.where(totals == 0, 1, totals)).astype(np.float32)


def _log2(numbers: Floats) -> Floats:
    """Returns the logarithms of C, which are the same on every machine, unlike those of numpy."""
    return _of_each(numbers, math.log2)


def _of_each(numbers: Floats, function: Callable[[float], float]) -> Floats:
    different, places = np.unique(numbers, return_inverse=True)
    return np.fromiter(map(function, different.tolist()), np.float64, len(different))[places]


def _expected(term: float, rows: float, label: float) -> float:
    """Returns what the rows with a term and a label are expected to tell: their number is hypergeometric by chance."""
    first, last = round(max(0.0, term + label - rows)), round(min(term, label))
    before = np.arange(first, last, dtype=np.float64)
    steps = (
        np.log(before + 1) - np.log(term - before) - np.log(label - before) + np.log(rows - term - label + before + 1)
    )
    possible = _log_factorial(term) + _log_factorial(label) + _log_factorial(rows - term) + _log_factorial(rows - label)
    least = sum(map(_log_factorial, (rows, first, term - first, label - first, rows - term - label + first)))
    chances = np.exp(possible - (least + np.append(0.0, np.cumsum(steps))))
    numbers = np.append(before, float(last))
    logs = math.log2(rows) - math.log2(term) - math.log2(label) + np.log2(np.maximum(numbers, 1))
    # Rounding makes of the chances a sum that is not exactly 1.
    return float((numbers * logs * chances).sum() / chances.sum())


def _log_factorial(number: float) -> float:
    return math.lgamma(number + 1)
