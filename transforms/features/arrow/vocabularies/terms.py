"""The terms of a vocabulary: by counts, weights or what they tell of a label; which are kept, and in what order."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.errors import DataError
from penstock.io.reasons import Note
from penstock.io.schema import Kind
from penstock.transforms.features.analyses.losses import unheld_note
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted, written_keys
from penstock.transforms.features.arrow.compute.columns import Column, Flags, Ints, RowFaultsError
from penstock.transforms.features.arrow.compute.texts import bytes_of
from penstock.transforms.features.arrow.vocabularies.counts import Counts, Sums
from penstock.transforms.features.arrow.vocabularies.information import mutual_information
from penstock.transforms.features.arrow.vocabularies.order import descending
from penstock.transforms.features.entries.vocabulary import check_classes

Floats = npt.NDArray[np.float64]

# The one line of a vocabulary of nothing, as tensorflow-transform writes it.
_NOTHING = {Kind.INT: b"-1", Kind.BYTES: b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"}

# Terms that a text file, one a line, does not hold.
_UNHELD = "\\A\\z|[\\n\\r]"

# So many numbers of terms by label are there at once.
_CELLS = 1 << 20


class Terms(Analysis):
    """The terms of a vocabulary, the most frequent first; of those as frequent, the last in the order of texts.

    With weights these count instead of 1. With labels, what terms tell of these orders them (`mutual_information`).
    Counts and sums are exact. Memory: the different terms, with about 50 bytes for each; with weights or labels the
    terms once for each label and magnitude of weights.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        top_k: int | None = None,
        frequency_threshold: float | None = None,
        reserved_tokens: Sequence[str] = (),
        fingerprint_shuffle: bool = False,
        weights: str | None = None,
        labels: str | None = None,
        use_adjusted_mutual_info: bool = False,
        min_diff_from_avg: float = 0,
        file_format: str = "text",
        **_: Any,
    ) -> None:
        """Takes the arguments of the operation, in which `weights` and `labels` are the names of columns."""
        self._kind = kinds[0]
        self._top_k = top_k
        self._threshold = frequency_threshold
        self._reserved = [token.encode() for token in reserved_tokens]
        self._is_shuffled = fingerprint_shuffle
        self._weights = weights
        self._label = labels
        self._information = use_adjusted_mutual_info, min_diff_from_avg
        self._holds_all = self._kind is Kind.INT or file_format != "text"
        self._found: Any = Sums(self._kind) if weights or labels else Counts(self._kind)
        # Those of the rows, one for each class.
        self._rows = Sums(Kind.INT)
        # How many values are lost, and the first of them.
        self._lost: tuple[int, bytes] | None = None

    def add(self, columns: Sequence[Column], weights: Column | None = None, labels: Column | None = None) -> None:
        """Adds the terms of columns; with the weight and the label of each row, one value each.

        Raises:
          DataError: for a label that is no class.
          RowFaultsError: for a weight that is not finite, or with labels less than 0.
        """
        given = None if weights is None else self._checked(weights.values.astype(np.float32))
        classes = None if labels is None else labels.values
        if classes is not None:
            check_classes(str(self._label), classes)
            self._rows.add(classes, None, given)
        for column in columns:
            self._add(column, given, classes)

    def _checked(self, weights: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        wrong = ~np.isfinite(weights) if self._label is None else ~(np.isfinite(weights) & (weights >= 0))
        if wrong.any():
            rule = "finite" if self._label is None else "finite and at least 0"
            rows = np.flatnonzero(wrong).tolist()
            raise RowFaultsError({row: f"a weight must be {rule}, {self._weights!r} is {weights[row]}" for row in rows})
        return weights

    def _add(self, column: Column, weights: Any, labels: Ints | None) -> None:
        values, held = column.values, None if self._holds_all else _held(column.values)
        if held is not None:
            lost = column.values.filter(pa.array(~held))
            self._lose((len(lost), min(lost.to_pylist())))
            values = values.filter(pa.array(held))
        if isinstance(self._found, Counts):
            self._found.add(values)
            return
        rows = column.owners if held is None else column.owners[held]
        self._found.add(values, None if labels is None else labels[rows], None if weights is None else weights[rows])

    def _lose(self, lost: tuple[int, bytes] | None) -> None:
        if self._lost is None or lost is None:
            self._lost = self._lost or lost
        else:
            self._lost = self._lost[0] + lost[0], min(self._lost[1], lost[1])

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        self._found.merge(other._found)
        self._rows.merge(other._rows)
        self._lose(other._lost)

    def finish(self) -> Fitted:
        """Returns `terms`, an Arrow array of texts in order; the counts are gone then.

        Raises:
          DataError: when a term is in more rows than there are: lists hold it several times.
        """
        values, measured = self._measured()
        terms = _texts(values)
        # What terms tell may be less than 0.
        if self._threshold or (self._threshold is not None and self._label is not None):
            kept = measured >= self._threshold
            terms, measured = terms.filter(pa.array(kept)), measured[kept]
        ordered = terms.take(pa.array(descending(terms, measured, self._top_k)))
        if self._top_k is not None and not len(ordered):
            ordered = pa.array([_NOTHING[self._kind]], pa.large_binary())
        if self._is_shuffled:
            ordered = pa.array(sorted(ordered.to_pylist(), key=_digest), pa.large_binary())
        if self._reserved:
            reserved = pa.array(self._reserved, pa.large_binary())
            others = ordered.filter(pc.invert(pc.is_in(ordered, value_set=reserved)))
            ordered = pa.concat_arrays([reserved, others])
        return {"terms": ordered if len(ordered) else pa.array([_NOTHING[self._kind]], pa.large_binary())}

    def _measured(self) -> tuple[Any, npt.NDArray[Any]]:
        """Returns the terms, each with what it is ordered by."""
        if isinstance(self._found, Counts):
            return self._found.drain()
        terms, places, labels, sums, counts = self._found.items()
        if self._label is None:
            return terms, sums
        return terms, self._informed(len(terms), places, labels, sums, counts)

    def _informed(self, size: int, places: Ints, labels: Ints, sums: Floats, counts: Ints) -> Floats:
        classes, _, _, of_rows, rows = self._rows.items()
        of_label = np.zeros(int(classes.max(initial=0)) + 1)
        of_label[classes] = of_rows
        step = max(_CELLS // len(of_label), 1)
        found = np.zeros(size)
        for start in range(0, size, step):
            first, last = np.searchsorted(places, [start, start + step])
            table = np.zeros((min(step, size - start), len(of_label)))
            table[places[first:last] - start, labels[first:last]] = sums[first:last]
            each = np.bincount(places[first:last] - start, counts[first:last], len(table)).astype(np.int64)
            if (np.rint(table.sum(axis=1)) > np.rint(of_label.sum())).any():
                raise DataError(
                    "cannot fit: the mutual information of terms and labels is of rows that have a term or not, and "
                    f"lists repeat terms; leave labels ({self._label}) out, or take bag_of_words before"
                )
            found[start : start + step] = mutual_information(table, each, of_label, int(rows.sum()), *self._information)
        return found

    def notes(self, column: str) -> Iterator[Note]:
        """Yields a note of values that a text file does not hold."""
        if self._lost is not None:
            yield unheld_note(column, *self._lost)


def _held(terms: pa.Array) -> Flags | None:
    """Returns which terms a text file holds; None for all of them."""
    data, starts = bytes_of(terms)
    data = data[starts[0] : starts[-1]]
    if not len(terms) or ((starts[1:] > starts[:-1]).all() and not (data == 10).any() and not (data == 13).any()):
        return None
    held: Flags = pc.invert(pc.match_substring_regex(terms, _UNHELD)).to_numpy(zero_copy_only=False)
    return None if held.all() else held


def _texts(values: Any) -> pa.Array:
    """Returns terms as texts."""
    if isinstance(values, pa.Array):
        return values.cast(pa.large_binary())
    return pa.array(values).cast(pa.large_string()).cast(pa.large_binary())


def _digest(term: bytes) -> bytes:
    return hashlib.sha1(term, usedforsecurity=False).digest()


class MostFrequent(Terms):
    """The most frequent term, whatever is in it: of several, the last in the order of their texts."""

    def __init__(self, kinds: Sequence[Kind], **_: Any) -> None:
        super().__init__(kinds, file_format="tfrecord_gzip")

    def finish(self) -> Fitted:
        """Returns `value`, and how many terms there are."""
        values, counts = self._found.drain()
        count = int(counts.sum())
        texts = _texts(values)
        if not count:
            return {"value": 0 if self._kind is Kind.INT else "", "count": 0}
        first = texts[int(descending(texts, counts, 1)[0])].as_py()
        return {"value": int(first) if self._kind is Kind.INT else written_keys([first])[0], "count": count}
