"""The steps of feature lists, as columns hold them.

A feature list of a tf.SequenceExample is a list of steps, each of which has values. Its column has the values of all
steps, one after the other. Where each step has one value, that says all. Else a second column, `NAME$step_lengths`, has
the number of values of each step::

    steps                 column `x`        column `x$step_lengths`
    [1] [2] [3]           [1, 2, 3]         null, or [1, 1, 1]
    [1, 2] [] [3]         [1, 2, 3]         [2, 0, 1]
"""

import numpy as np
import numpy.typing as npt

_SUFFIX = "$step_lengths"


def step_lengths_name(name: str) -> str:
    """Returns the name of the column that has the number of values of each step of a feature list.

    >>> step_lengths_name("clicks")
    'clicks$step_lengths'
    """
    return name + _SUFFIX


def rows_with_other_steps(lengths: npt.NDArray[np.int32], offsets: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """Returns bool[n], whether a row has a step of other than one value.

    Args:
      lengths: int32[m], the number of values of each step of all rows.
      offsets: int32[n + 1], where in `lengths` the steps of each row start, and the end.
    """
    others = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths != 1, out=others[1:])
    return np.diff(others[offsets]) > 0
