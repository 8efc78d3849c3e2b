"""Where a JSON document stands between two of its values, and its faults; for both sides of the kernel."""

from typing import NamedTuple

# States: outside arrays; after `[`; after a value of an array; after its comma.
BETWEEN, FIRST, AFTER, NEXT = range(4)

# Faults: what comes instead of a value, of a comma, or after one; and what does not end.
NO_VALUE, NO_COMMA, TRAILING_COMMA, LINE_BREAK, OPEN_VALUE, OPEN_ARRAY = range(1, 7)


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
