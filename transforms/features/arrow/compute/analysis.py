"""What a fit computes of the rows: mergeable, so that workers each look at a part, in any order."""

import abc
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.reasons import Note
from penstock.transforms.features.arrow.compute.columns import Column

# JSON values by name, and texts of a vocabulary as an Arrow array.
Fitted = dict[str, Any]


class Analysis(abc.ABC):
    """An accumulator of one fitted operation. It pickles; the result depends on the values alone, not on their order.

    It is made from the kinds of the operation's inputs and its arguments.
    """

    @abc.abstractmethod
    def add(self, columns: Sequence[Column]) -> None:
        """Adds the rows of a batch: the inputs of the operation."""

    @abc.abstractmethod
    def merge(self, other: Self) -> None:
        """Adds what another one was given, which may be empty then."""

    @abc.abstractmethod
    def finish(self) -> Fitted:
        """Returns what the operation needs to be applied; called once, at the end."""

    def notes(self, column: str) -> Iterable[Note]:
        """Returns what is to be told of the values, those of a column."""
        return ()


def written_keys(keys: Iterable[bytes]) -> list[str]:
    """Returns texts as JSON holds them: bytes that are not UTF-8 are lone surrogates."""
    return [key.decode("utf-8", "surrogateescape") for key in keys]


def read_bytes(keys: Iterable[str]) -> list[bytes]:
    """Returns the texts of `written_keys`."""
    return [key.encode("utf-8", "surrogateescape") for key in keys]


def read_keys(fitted: Fitted, keys: pa.Array) -> npt.NDArray[np.int64]:
    """Returns the place of each key among those of the fit; their number for one that the fit did not see."""
    known = pa.array(read_bytes(fitted["keys"]), pa.binary())
    return pc.index_in(keys, value_set=known).fill_null(len(known)).to_numpy().astype(np.int64)
