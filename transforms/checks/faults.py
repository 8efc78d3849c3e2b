"""What checks find in a batch: rows that break a constraint, and which of them are rejected for it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from penstock.io.reasons import Note, Reason

Rows = npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Fault:
    """Rows that break one constraint.

    Attributes:
      code: as that of a `Reason`.
      subject: the feature, struct or view that it is about; for a rule, the columns that it uses.
      rows: their indices in the batch, ascending, each once.
      why: a sentence about one of them, by its place in `rows`.
    """

    code: str
    subject: str
    rows: Rows
    why: Callable[[int], str]

    def note(self) -> Note:
        """Returns what is told where the fault rejects no row, with its first row for example."""
        return Note(self.code, self.subject, len(self.rows), self.why(0))


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is wrong with the rows of one batch.

    Attributes:
      reasons: by row index, all reasons to reject the row, in a fixed order.
      warned: what rejects no row. A row that is rejected for something else may be among its rows.
    """

    reasons: dict[int, list[Reason]]
    warned: tuple[Fault, ...] = ()
