"""Vocabularies: terms counted, ordered as tensorflow-transform orders them, and looked up."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.reasons import Note
from penstock.io.schema import Kind
from penstock.transforms.features.analyses.losses import unheld_note
from penstock.transforms.features.arrow.compute.analysis import Analysis, Fitted, written_keys
from penstock.transforms.features.arrow.compute.columns import Column, Ints
from penstock.transforms.features.arrow.compute.texts import fingerprints

# The one line of a vocabulary of nothing, as tensorflow-transform writes it.
_NOTHING = {Kind.INT: b"-1", Kind.BYTES: b"49d0cd50-04bb-48c0-bc6f-5b575dce351a"}

# Terms that a text file, one a line, does not hold.
_UNHELD = "\\A\\z|[\\n\\r]"

# Up to so many terms Arrow's hash table, which is made for each batch, costs less than a search.
_FEW_TERMS = 4096


class Terms(Analysis):
    """Counts terms, and keeps the most frequent ones: of those as frequent, the last in the order of texts come first.

    Exact. Memory: the different terms, with 12 to 16 bytes for each.
    """

    def __init__(
        self,
        kinds: Sequence[Kind],
        top_k: int | None = None,
        frequency_threshold: float | None = None,
        **_: Any,
    ) -> None:
        self._kind = kinds[0]
        # Offsets of 64 bits: all terms together may be longer than 2 GiB.
        self._type = pa.int64() if self._kind is Kind.INT else pa.large_binary()
        self._top_k = top_k
        self._threshold = frequency_threshold
        self._parts: list[pa.Table] = []
        self._merged_rows = self._added_rows = 0

    def add(self, columns: Sequence[Column]) -> None:
        """Adds the terms of the first column."""
        terms = columns[0].values
        found = pc.value_counts(terms if isinstance(terms, pa.Array) else pa.array(terms))
        self._append(pa.table({"term": found.field("values").cast(self._type), "count": found.field("counts")}))

    def merge(self, other: Any) -> None:
        """Adds those of another analysis."""
        for part in other._parts:
            self._append(part)

    def _append(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._added_rows += part.num_rows
        if self._added_rows > max(2 * self._merged_rows, 1 << 16):
            self._compact()

    def _compact(self) -> pa.Table:
        """Returns each term once, with its count."""
        if not self._parts:
            return pa.table({"term": pa.array([], self._type), "count": pa.array([], pa.int64())})
        grouped = pa.concat_tables(self._parts).group_by("term", use_threads=False).aggregate([("count", "sum")])
        self._parts = [grouped.rename_columns({"count_sum": "count"}).select(["term", "count"]).combine_chunks()]
        self._merged_rows = self._added_rows = grouped.num_rows
        return self._parts[0]

    def __getstate__(self) -> dict[str, Any]:
        self._compact()
        return dict(vars(self))

    def finish(self) -> Fitted:
        """Returns `terms`, an Arrow array of texts in order."""
        table = self._compact()
        terms = table["term"].combine_chunks().cast(pa.string() if self._kind is Kind.INT else pa.large_binary())
        terms = terms.cast(pa.large_string()).cast(pa.large_binary()) if self._kind is Kind.INT else terms
        table = pa.table({"term": terms, "count": table["count"]})
        if self._kind is Kind.BYTES:
            table = table.filter(pc.invert(_unheld(terms)))
        if self._threshold is not None:
            table = table.filter(pc.greater_equal(table["count"], self._threshold))
        order = [("count", "descending"), ("term", "descending")]
        ordered = table["term"].take(pc.sort_indices(table, sort_keys=order))[: self._top_k]
        chunks = ordered.combine_chunks()
        return {"terms": chunks if len(chunks) else pa.array([_NOTHING[self._kind]], pa.large_binary())}

    def notes(self, column: str) -> Iterator[Note]:
        """Yields a note of values that a text file does not hold."""
        if self._kind is not Kind.BYTES:
            return
        table = self._compact()
        lost = table.filter(_unheld(table["term"].combine_chunks()))
        if lost.num_rows:
            count = pc.sum(lost["count"]).as_py()
            yield unheld_note(column, count, min(lost["term"].to_pylist()))


def _unheld(terms: pa.Array) -> pa.Array:
    return pc.match_substring_regex(terms, _UNHELD)


class MostFrequent(Terms):
    """The most frequent term, whatever is in it: of several, the last in the order of their texts."""

    def finish(self) -> Fitted:
        """Returns `value`, and how many terms there are."""
        table = self._compact()
        terms = table["term"].combine_chunks()
        texts = terms.cast(pa.large_string()).cast(pa.large_binary()) if self._kind is Kind.INT else terms
        order = [("count", "descending"), ("text", "descending")]
        places = pc.sort_indices(pa.table({"text": texts, "count": table["count"]}), sort_keys=order)
        first: Any = 0 if self._kind is Kind.INT else b""
        first = terms[places[0].as_py()].as_py() if len(places) else first
        return {
            "value": first if self._kind is Kind.INT else written_keys([first])[0],
            "count": pc.sum(table["count"]).as_py() or 0,
        }

    def notes(self, column: str) -> Iterator[Note]:
        """Yields nothing: no term is lost."""
        yield from ()


class Vocabulary:
    """The positions of terms, INT or texts."""

    def __init__(self, terms: pa.Array) -> None:
        """`terms`: texts, the first has position 0."""
        self._terms = terms

    def __len__(self) -> int:
        return len(self._terms)

    def find(self, values: Any) -> Ints:
        """Returns the position of each value, -1 for one that is not there."""
        if not isinstance(values, pa.Array):
            return self._find_sorted(*self._whole, values, lambda places: self._whole[0][places] == values)
        if len(self._terms) <= _FEW_TERMS or self._collide:
            return _numbers(pc.index_in(values, value_set=self._terms.cast(values.type)).fill_null(-1))
        return self._find_sorted(*self._hashed, fingerprints(values), lambda places: self._same(values, places))

    @functools.cached_property
    def _whole(self) -> tuple[Ints, Ints]:
        """Terms as integers in order, with their positions; a line that is no integer is never found."""
        texts = self._terms.cast(pa.large_string())
        is_whole = pc.match_substring_regex(texts, r"^-?[0-9]+$")
        positions = np.flatnonzero(is_whole.to_numpy(zero_copy_only=False))
        return _sorted(texts.filter(is_whole).cast(pa.int64()).to_numpy(), positions)

    @functools.cached_property
    def _hashed(self) -> tuple[npt.NDArray[np.uint64], Ints]:
        return _sorted(fingerprints(self._terms), np.arange(len(self._terms)))

    @functools.cached_property
    def _collide(self) -> bool:
        """Whether two terms have one fingerprint."""
        keys = self._hashed[0]
        return bool((keys[1:] == keys[:-1]).any())

    def _same(self, values: pa.Array, places: Ints) -> npt.NDArray[np.bool_]:
        terms = self._terms.take(pa.array(self._hashed[1][places])).cast(values.type)
        return pc.equal(terms, values).to_numpy(zero_copy_only=False)

    @staticmethod
    def _find_sorted(keys: Any, positions: Ints, wanted: Any, is_same: Any) -> Ints:
        if not len(keys):
            return np.full(len(wanted), -1)
        places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[places] == wanted) & is_same(places), positions[places], -1)


def _sorted(keys: Any, positions: Ints) -> Any:
    order = np.argsort(keys, kind="stable")
    return keys[order], positions[order]


def _numbers(array: pa.Array) -> Ints:
    return array.to_numpy(zero_copy_only=False).astype(np.int64)


def apply_vocabulary(
    column: Column, fitted: Fitted, num_oov_buckets: int = 0, default_value: int = -1, **_: Any
) -> Column:
    """Returns the position of each value, int64; of others a bucket behind all terms, or the default value."""
    vocabulary: Vocabulary = fitted["vocabulary"]
    positions = vocabulary.find(column.values)
    missed = positions < 0
    if not missed.any():
        return column.with_values(positions)
    if not num_oov_buckets:
        return column.with_values(np.where(missed, default_value, positions))
    others = column.values.filter(pa.array(missed)) if column.is_text else pa.array(column.values[missed])
    if not column.is_text:
        others = others.cast(pa.string()).cast(pa.binary())
    hashed = (fingerprints(others) % np.uint64(num_oov_buckets)).astype(np.int64)
    positions = positions.copy()
    positions[missed] = len(vocabulary) + hashed
    return column.with_values(positions)
