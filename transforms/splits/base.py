"""What a kind of split is."""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.batches import set_column
from penstock.io.reasons import EXCLUDED, Reason
from penstock.io.reserved import SPLIT
from penstock.io.schema import Feature

Codes = npt.NDArray[np.int32]

# The steps that dead letters name: of rows that have no split by a fault of theirs, and that a flag keeps out.
FAULT, LEFT_OUT = "split", EXCLUDED


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The splits of some rows.

    Attributes:
      codes: int32[rows], an index into the names of the kind; of rows with a reason, any.
      faults: why rows can have no split, by row.
      left_out: why rows are kept out of all splits, by row.
    """

    codes: Codes
    faults: Mapping[int, Reason] = dataclasses.field(default_factory=dict)
    left_out: Mapping[int, Reason] = dataclasses.field(default_factory=dict)


class SplitKind(abc.ABC):
    """One way to choose the split of a row, by the row alone.

    Attributes:
      names: of all splits, in their order.
      may_reject: whether there may be rows without a split.
      needs_event_time: whether the rows must have `_event_time`.
    """

    names: tuple[str, ...]
    may_reject = True
    needs_event_time = False

    @abc.abstractmethod
    def choose(self, batch: pa.RecordBatch) -> Chosen:
        """Chooses the split of each row.

        Raises:
          DataError: when the batch lacks what the kind goes by.
        """

    def bind(self, features: Sequence[Feature]) -> None:
        """Checks that a schema has the columns that the kind goes by.

        Raises:
          ConfigError: naming what it lacks.
        """
        del features  # by default, it goes by none

    def check_files(self, uris: Sequence[str]) -> None:
        """Checks that each file of an input has rows of a split.

        Raises:
          ConfigError: naming a file that has none, or a split that has no file.
        """
        del uris  # by default, files say nothing

    @abc.abstractmethod
    def describe(self) -> dict[str, Any]:
        """Says in JSON values how rows are split, for the manifest."""


def with_split(batch: pa.RecordBatch, codes: Codes, names: Sequence[str]) -> pa.RecordBatch:
    """Adds `_split` to a batch: dictionary<int32, string> of the names."""
    return set_column(batch, SPLIT, pa.DictionaryArray.from_arrays(pa.array(codes), pa.array(names, pa.string())))
