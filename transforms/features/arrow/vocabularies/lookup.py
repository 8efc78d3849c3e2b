"""Vocabularies, in which values are looked up."""

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.analysis import Fitted
from penstock.transforms.features.arrow.compute.columns import Column, Ints
from penstock.transforms.features.arrow.compute.texts import fingerprints

# Up to so many terms Arrow's hash table, which is made for each batch, costs less than a search.
_FEW_TERMS = 4096


class Vocabulary:
    """The positions of terms, INT or texts.

    Attributes:
      terms: an Arrow array of texts.
    """

    def __init__(self, terms: pa.Array) -> None:
        """`terms`: texts, the first has position 0."""
        self.terms = terms

    def __len__(self) -> int:
        return len(self.terms)

    def find(self, values: Any) -> Ints:
        """Returns the position of each value, -1 for one that is not there."""
        if not isinstance(values, pa.Array):
            return self._find_sorted(*self._whole, values, lambda places: self._whole[0][places] == values)
        if len(self.terms) <= _FEW_TERMS or self._collide:
            return _numbers(pc.index_in(values, value_set=self.terms.cast(values.type)).fill_null(-1))
        return self._find_sorted(*self._hashed, fingerprints(values), lambda places: self._same(values, places))

    def repeated(self, kind: Kind) -> tuple[int, int] | None:
        """Returns the first two positions of a term that has several; None if each has one. `kind`: of the terms."""
        keys, positions = self._whole if kind is Kind.INT else self._hashed
        same = np.zeros(len(keys), bool)
        same[1:] = keys[1:] == keys[:-1]
        same[:-1] |= same[1:]
        # Few, if any: terms of one fingerprint may be different ones.
        among = np.sort(positions[same])
        terms = self.terms.take(pa.array(among))
        firsts = pc.index_in(terms, value_set=terms.unique()).to_numpy()
        again = np.flatnonzero(firsts != np.arange(len(among)))
        return (int(among[firsts[again[0]]]), int(among[again[0]])) if len(again) else None

    @functools.cached_property
    def _whole(self) -> tuple[Ints, Ints]:
        """Terms as integers in order, with their positions."""
        numbers = self.terms.cast(pa.large_string()).cast(pa.int64()).to_numpy()
        return _sorted(numbers, np.arange(len(numbers)))

    @functools.cached_property
    def _hashed(self) -> tuple[npt.NDArray[np.uint64], Ints]:
        return _sorted(fingerprints(self.terms), np.arange(len(self.terms)))

    @functools.cached_property
    def _collide(self) -> bool:
        """Whether two terms have one fingerprint."""
        keys = self._hashed[0]
        return bool((keys[1:] == keys[:-1]).any())

    def _same(self, values: pa.Array, places: Ints) -> npt.NDArray[np.bool_]:
        terms = self.terms.take(pa.array(self._hashed[1][places])).cast(values.type)
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
