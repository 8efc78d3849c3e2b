"""JSON documents for both sides of the kernel: where one stands between two values, its faults, and parsed columns."""

from typing import NamedTuple

import numpy as np

# States: outside arrays; after `[`; after a value of an array; after its comma.
BETWEEN, FIRST, AFTER, NEXT = range(4)

# Faults: what comes instead of a value, of a comma, or after one; and what does not end.
NO_VALUE, NO_COMMA, TRAILING_COMMA, LINE_BREAK, OPEN_VALUE, OPEN_ARRAY = range(1, 7)

# Forms of the values of a column: of all integers, int64 and uint64; float64; bool; UTF-8.
INTS, UNSIGNED, FLOATS, BOOLEANS, TEXTS = range(5)


class Cut(NamedTuple):
    """How far a document was cut.

    Attributes:
      state: where it stands then.
      consumed: the bytes before the value that is not complete, or before the fault.
      fault: one of the faults, or 0.
      place: the index of the byte that is at fault; -1 without a fault.
    """

    state: int
    consumed: int
    fault: int
    place: int


class Level(NamedTuple):
    """What is in so many lists.

    Attributes:
      length: how much it is.
      valid: bool[length], which of it is not null; None without nulls.
      starts: int32[length + 1], where the items of lists, or the bytes of texts, start, and the end; None of others.
    """

    length: int
    valid: np.ndarray | None
    starts: np.ndarray | None
