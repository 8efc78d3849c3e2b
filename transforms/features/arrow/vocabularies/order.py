"""The order of terms in a vocabulary."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.transforms.features.arrow.compute.columns import Flags, Ints

# Texts are compared by so many bytes at a time.
_WORD = 8


def descending(terms: pa.LargeBinaryArray, values: npt.NDArray[Any], most: int | None = None) -> Ints:
    """Returns the places of terms by their values, the greatest first; of equal ones the last in the order of texts.

    Args:
      terms: different texts.
      values: int64[n] or float64[n], none of them NaN.
      most: how many are wanted; all without it.
    """
    order = np.arange(len(values))
    if most is not None and most < len(values):
        order = np.flatnonzero(values >= np.partition(values, len(values) - most)[len(values) - most])
    order = order[np.argsort(values[order], kind="stable")]
    begins_group = _changes(values[order])
    texts = _Texts(terms)
    depth = 0
    while len(tied := np.flatnonzero(~(begins_group & np.append(begins_group[1:], True)))):
        places, groups = order[tied], np.cumsum(begins_group[tied])
        keys = texts.keys(places, depth)
        again = np.lexsort((*keys, groups))
        order[tied] = places[again]
        begins_group[tied] |= np.logical_or.reduce([_changes(key[again]) for key in keys])
        depth += 1
    return order[::-1][:most]


def _changes(values: npt.NDArray[Any]) -> Flags:
    """Returns bool[n], where a value is another one than that before it."""
    found = np.ones(len(values), bool)
    found[1:] = values[1:] != values[:-1]
    return found


class _Texts:
    """The words of texts: numbers in the order of their bytes."""

    def __init__(self, terms: pa.LargeBinaryArray) -> None:
        _, offsets, data = terms.buffers()
        self._starts = np.frombuffer(offsets, np.int64)[terms.offset : terms.offset + len(terms) + 1]
        self._sizes = np.diff(self._starts)
        known = np.frombuffer(data or b"", np.uint8)[: self._starts[-1] if len(terms) else 0]
        padded = np.append(known, np.zeros(_WORD, np.uint8))
        self._words = np.ndarray((len(known) + 1,), ">u8", padded.data, strides=(1,))
        self._has_zeros = bool((known == 0).any())

    def keys(self, places: Ints, depth: int) -> list[npt.NDArray[Any]]:
        """Returns what orders texts by their bytes from `_WORD * depth` on, the most important key last."""
        left = np.clip(self._sizes[places] - _WORD * depth, 0, _WORD + 1)
        starts = np.where(left > 0, self._starts[places] + _WORD * depth, 0)
        beyond = (8 * np.maximum(_WORD - left, 0)).astype(np.uint64)
        words = self._words[starts].astype(np.uint64)
        # A shift by 64 bits is none, in C.
        words = np.where(left > 0, words >> (beyond & np.uint64(63)) << (beyond & np.uint64(63)), np.uint64(0))
        # A text that ends is less than one that goes on with zeros.
        return [left, words] if self._has_zeros else [words]
