"""Terms of documents, which are the rows: how often each is there, weighted by how few rows have it."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted
from penstock.transforms.features.arrow.compute.columns import Column, Ints


def _counted(column: Column, vocab_size: int) -> tuple[Ints, Ints, Ints]:
    """Returns the rows of distinct terms of rows, in order, the terms, and how often each is there.

    A term that is not among 0 to vocab_size - 1 is taken modulo their number, as by tensorflow-transform.
    """
    keys = column.owners * vocab_size + np.mod(column.values, vocab_size)
    pairs, counts = np.unique(keys, return_counts=True)
    return pairs // vocab_size, pairs % vocab_size, counts


class Documents(Analysis):
    """How many rows have each term. Memory: 8 bytes for each of `vocab_size`."""

    def __init__(self, kinds: Sequence[Kind], vocab_size: int, **_: Any) -> None:
        self._size = vocab_size
        self._rows = 0
        self._documents = np.zeros(0, np.int64)

    def add(self, columns: Sequence[Column]) -> None:
        """Adds rows; those without a term count too."""
        _, terms, _ = _counted(columns[0], self._size)
        self._rows += len(columns[0])
        self._sum(np.bincount(terms))

    def _sum(self, documents: Ints) -> None:
        if len(documents) > len(self._documents):
            self._documents = np.append(self._documents, np.zeros(len(documents) - len(self._documents), np.int64))
        self._documents[: len(documents)] += documents

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        self._rows += other._rows
        self._sum(other._documents)

    def finish(self) -> Fitted:
        """Returns the number of `rows`, and that of `documents` with each term, up to the last one that is there."""
        return {"rows": self._rows, "documents": self._documents.tolist()}


def tfidf(column: Column, fitted: Fitted, vocab_size: int, smooth: bool = True) -> Column:
    """Returns for each distinct term its share in the row, times 1 + log(rows / rows with the term), float32."""
    rows, terms, counts = _counted(column, vocab_size)
    # Terms behind the last one are in no row.
    documents = np.append(np.array(fitted["documents"], np.float32), np.float32(0))
    one = np.float32(smooth)
    with np.errstate(divide="ignore"):
        inverse = np.log((np.float32(fitted["rows"]) + one) / (one + documents)) + np.float32(1)
    weights = inverse[np.minimum(terms, len(documents) - 1)]
    shares = (counts / column.lengths[rows]).astype(np.float32)
    return Column(shares * weights, np.bincount(rows, minlength=len(column)))


def tfidf_terms(column: Column, vocab_size: int) -> Column:
    """Returns the distinct terms of each row, in order."""
    rows, terms, _ = _counted(column, vocab_size)
    return Column(terms, np.bincount(rows, minlength=len(column)))
