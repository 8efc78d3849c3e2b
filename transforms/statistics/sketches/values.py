"""The different values of a batch, with their counts and hashes: what is done once for each needs no more."""

import dataclasses

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import types

from penstock.io.kernel import statistics

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]


@dataclasses.dataclass(frozen=True, slots=True)
class ValueCounts:
    """Values of a batch, most of them only once, with counts and hashes.

    Attributes:
      values: pa.Array[m], without nulls: string, binary or their large forms, int64, uint64 or float64. Where most
        values of a batch differ, they are the batch's own, and some are there more than once.
      texts: the same as one column, as the kernel reads them; None for numbers.
      hashes: uint64[m]: XXH64 of the bytes of texts; of numbers a function of the value, the same for an integer and
        the float that is equal to it, and another one for every number of a type. Both have a seed of their own.
      counts: int64[m], how often each is there; None where each is there once.
      places: int64[n], which of `values` each value of the batch is; None where these are the batch's own, or nobody
        has asked.
    """

    values: pa.Array
    texts: pa.RecordBatch | None
    hashes: Hashes
    counts: Ints | None
    places: Ints | None

    def weights(self, weights: Ints) -> Ints:
        """Returns int64[m], the sums of int64[n], the weights of the batch's values (`fixed_point`).

        Raises:
          ValueError: when `count_values` was not asked for places.
        """
        if self.counts is None:
            return weights
        if self.places is None:
            raise ValueError("count_values must be called with_places where values have weights")
        sums = np.zeros(len(self.values), np.int64)
        np.add.at(sums, self.places, weights)
        return sums


def count_values(values: pa.Array, with_places: bool = False) -> ValueCounts:
    """Counts the values of a batch.

    Args:
      values: texts, numbers or booleans of any width, or a dictionary of these, without nulls. Integers but uint64, and
        booleans, become int64, and all floats float64.
      with_places: whether the values have weights.

    Raises:
      TypeError: for an array of another type.
      ValueError: for nulls.
    """
    if values.null_count:
        raise ValueError(f"values must have no nulls, got {values.null_count}; drop and count them before")
    if types.is_dictionary(values.type):
        return _count_dictionary(values)
    plain = _plain(values)
    texts = as_texts(plain)
    return _count_numbers(plain, with_places) if texts is None else _count_texts(plain, texts, with_places)


def _count_numbers(values: pa.Array, with_places: bool) -> ValueCounts:
    numbers = values.to_numpy(zero_copy_only=False)
    found = statistics.different_numbers(numbers, with_places)
    if found is None:
        return ValueCounts(values, None, statistics.hash_numbers(numbers), None, None)
    different, counts, places = found
    return ValueCounts(pa.array(different), None, statistics.hash_numbers(different), counts, places)


def _count_texts(values: pa.Array, texts: pa.RecordBatch, with_places: bool) -> ValueCounts:
    found = statistics.different_texts(texts, with_places)
    if found is None:
        return ValueCounts(values, texts, statistics.hash_texts(texts), None, None)
    rows, counts, places = found
    different = values.take(pa.array(rows))
    texts = pa.record_batch([different], ["text"])
    return ValueCounts(different, texts, statistics.hash_texts(texts), counts, places)


def _count_dictionary(values: pa.DictionaryArray) -> ValueCounts:
    """Counts indices; a dictionary may hold a value twice, and values that no row has."""
    if values.dictionary.null_count:
        return count_values(values.cast(values.type.value_type))
    indices = values.indices.cast(pa.int64()).to_numpy(zero_copy_only=False)
    counts = np.bincount(indices, minlength=len(values.dictionary)).astype(np.int64)
    used = np.flatnonzero(counts)
    places = np.zeros(len(counts), np.int64)
    places[used] = np.arange(len(used))
    plain = _plain(values.dictionary.take(pa.array(used)))
    texts = as_texts(plain)
    hashes = statistics.hash_numbers(plain.to_numpy()) if texts is None else statistics.hash_texts(texts)
    return ValueCounts(plain, texts, hashes, counts[used], places[indices])


def as_texts(values: pa.Array) -> pa.RecordBatch | None:
    """Returns texts in the form that the kernel reads; None for numbers."""
    if types.is_string(values.type) or types.is_binary(values.type):
        return pa.record_batch([values], ["text"])
    if types.is_large_string(values.type) or types.is_large_binary(values.type):
        return pa.record_batch([values], ["text"])
    return None


def _plain(values: pa.Array) -> pa.Array:
    if types.is_floating(values.type):
        return values.cast(pa.float64())
    if types.is_integer(values.type) or types.is_boolean(values.type):
        return values if types.is_uint64(values.type) else values.cast(pa.int64())
    if types.is_string_view(values.type):
        return values.cast(pa.large_string())
    if types.is_binary_view(values.type) or types.is_fixed_size_binary(values.type):
        return values.cast(pa.large_binary())
    if as_texts(values) is None:
        raise TypeError(f"values must be texts, bytes, numbers or booleans, got {values.type}")
    return values
