"""The order of terms in a vocabulary."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.transforms.features.arrow.compute.columns import Flags, Ints

# Texts are compared by so many bytes at a time.
_WORD = 8
_SHIFT = np.uint64(63)

# So many at once: what is computed of them takes some memory.
_ROWS = 1 << 16


def descending(terms: pa.LargeBinaryArray, values: npt.NDArray[Any], most: int | None = None) -> Ints:
    """Returns the places of terms by their values, the greatest first; of equal ones the last in the order of texts.

    Args:
      terms: different texts.
      values: int64[n] or float64[n], none of them NaN.
      most: how many are wanted; all without it.
    """
    order: npt.NDArray[Any] = np.arange(len(values), dtype=np.uint32 if len(values) < 2**32 else np.int64)
    if most is not None and most < len(values):
        order = order[values >= np.partition(values, len(values) - most)[len(values) - most]]
    order = order[np.argsort(values[order], kind="stable")]
    begins_group = _changes(values[order])
    texts = _Texts(terms)
    depth = 0
    while len(tied := np.flatnonzero(~(begins_group & np.append(begins_group[1:], True))).astype(order.dtype)):
        keys, groups = texts.keys(order[tied], depth), np.cumsum(begins_group[tied], dtype=order.dtype)
        again = np.lexsort((*keys, groups)) if groups[-1] > 1 or len(keys) > 1 else np.argsort(keys[0], kind="stable")
        order[tied] = order[tied[again]]
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
        self._offsets = np.frombuffer(offsets or bytes(_WORD), np.int64)[terms.offset : terms.offset + len(terms) + 1]
        known = np.frombuffer(data or b"", np.uint8)[: self._offsets[-1]]
        self._has_zeros = np.count_nonzero(known) < len(known)
        # The last place at which a word begins.
        self._last = max(len(known) - _WORD, 0)
        room = known if len(known) >= _WORD else np.append(known, np.zeros(_WORD - len(known), np.uint8))
        self._words = np.ndarray((self._last + 1,), ">u8", room.data, strides=(1,))

    def keys(self, places: npt.NDArray[Any], depth: int) -> list[npt.NDArray[Any]]:
        """Returns what orders texts by their bytes from `_WORD * depth` on, the most important key last."""
        words, left = np.empty(len(places), np.uint64), np.empty(len(places), np.uint8)
        for start in range(0, len(places), _ROWS):
            end = start + _ROWS
            words[start:end], left[start:end] = self._words_of(places[start:end].astype(np.int64), depth)
        # A text that ends is less than one that goes on with zeros.
        return [left, words] if self._has_zeros else [words]

    def _words_of(self, places: Ints, depth: int) -> tuple[npt.NDArray[np.uint64], Ints]:
        starts = self._offsets[places] + _WORD * depth
        left = np.clip(self._offsets[places + 1] - starts, 0, _WORD + 1)
        begins = np.clip(starts, 0, self._last)
        before = (8 * (starts - begins)).astype(np.uint64)
        beyond = (8 * np.maximum(_WORD - left, 0)).astype(np.uint64)
        # A text of no more bytes is one of zeros: a shift by 64 bits is none, in C.
        words = np.where(left > 0, self._words[begins].astype(np.uint64) << (before & _SHIFT), np.uint64(0))
        return words >> (beyond & _SHIFT) << (beyond & _SHIFT), left
