"""Terms with their counts or weights, exact and mergeable in any order."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from penstock.io.kernel import statistics
from penstock.io.schema import Kind
from penstock.transforms.features.arrow.compute.columns import Ints
from penstock.transforms.features.arrow.vocabularies.packed import pack, unpack

Floats = npt.NDArray[np.float64]

# int64 in numpy, or texts in Arrow.
TermValues = Any


# Terms are counted in so many tables, by the first bits of their hashes: to grow, to empty or to send one takes little.
_SHARDS, _SHARD_BITS = 16, np.uint64(60)


class Counts:
    """The different terms with how often each is there, about 50 bytes and the text for each."""

    def __init__(self, kind: Kind) -> None:
        """Makes the counts of nothing."""
        self._is_text = kind is Kind.BYTES
        self._counters = [statistics.Counter() for _ in range(_SHARDS)]
        # Those that were pickled, packed; they are taken in when there is something to add them to.
        self._packed: list[pa.Buffer] = []

    def add(self, terms: TermValues) -> None:
        """Adds terms, each once."""
        if self._is_text:
            found = statistics.different_texts(pa.record_batch([terms], ["term"]))
            different = None if found is None else terms.take(pa.array(found[0]))
        else:
            found = statistics.different_numbers(terms)
            different = None if found is None else found[0]
        self._add(*(terms, np.ones(len(terms), np.int64)) if found is None else (different, found[1]))

    def _add(self, terms: TermValues, counts: Ints) -> None:
        if self._is_text:
            hashes = statistics.hash_texts(pa.record_batch([terms], ["term"]))
        else:
            hashes = statistics.hash_bits(terms.view(np.uint64))
        shards = (hashes >> _SHARD_BITS).astype(np.uint8)
        order = np.argsort(shards, kind="stable")
        ends = np.cumsum(np.bincount(shards, minlength=_SHARDS)).tolist()
        hashes, counts = hashes[order], counts[order]
        texts = pa.record_batch([terms.take(pa.array(order))], ["term"]) if self._is_text else None
        for counter, start, end in zip(self._counters, [0, *ends], ends, strict=False):
            if start < end:
                of_shard = None if texts is None else texts.slice(start, end - start)
                counter.add(hashes[start:end], counts[start:end], of_shard)

    def merge(self, other: "Counts") -> None:
        """Adds others, which are empty then: all of them together may be much of the memory."""
        self._unpack()
        self._packed, other._packed = other._packed, []
        self._unpack()
        for part in other._drained():
            self._add(*part)

    def _unpack(self) -> None:
        while self._packed:
            terms, counts = unpack(self._packed.pop())
            self._add(terms if self._is_text else terms.to_numpy(), counts.to_numpy())

    def _items(self, counter: Any) -> tuple[TermValues, Ints]:
        terms = counter.texts() if self._is_text else statistics.unhash_bits(counter.hashes()).view(np.int64)
        return terms, counter.counts()

    def _drained(self) -> Iterator[tuple[TermValues, Ints]]:
        for at, counter in enumerate(self._counters):
            if counter.size():
                self._counters[at] = statistics.Counter()
                yield self._items(counter)

    def drain(self) -> tuple[TermValues, Ints]:
        """Returns the terms, in no order, with their counts; there are none then."""
        self._unpack()
        nothing = pa.array([], pa.large_binary()) if self._is_text else np.zeros(0, np.int64)
        terms, counts = zip((nothing, np.zeros(0, np.int64)), *self._drained(), strict=True)
        return pa.concat_arrays(terms) if self._is_text else np.concatenate(terms), np.concatenate(counts)

    def __getstate__(self) -> dict[str, Any]:
        own = [pack(*self._items(counter)) for counter in self._counters if counter.size()]
        return {"_is_text": self._is_text, "_packed": [*self._packed, *own]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._counters = [statistics.Counter() for _ in range(_SHARDS)]


# A float32 is a whole number of 24 bits, shifted by 0 to 7, times 2^(8 * place - 176): sums of those of one place stay
# whole numbers within int64 for 2^32 of them.
_BITS, _PLACE_BITS, _LEAST_EXPONENT = 24, 8, -176

_KEYS = ["term", "label", "place"]


def _placed(weights: npt.NDArray[np.float32]) -> tuple[Ints, Ints]:
    """Returns the places and the whole numbers of weights."""
    fractions, exponents = np.frexp(weights.astype(np.float64))
    shifted = exponents.astype(np.int64) - _BITS - _LEAST_EXPONENT
    return shifted >> 3, np.ldexp(fractions, _BITS).astype(np.int64) << (shifted & (_PLACE_BITS - 1))


class Sums:
    """The sums of float32 weights by term and label, exact; what they hold at once are their different keys."""

    def __init__(self, kind: Kind) -> None:
        """Makes the sums of nothing."""
        # Offsets of 64 bits: all terms together may be longer than 2 GiB.
        self._type = pa.int64() if kind is Kind.INT else pa.large_binary()
        self._parts: list[pa.Table] = []
        self._merged_rows = self._added_rows = 0

    def add(self, terms: TermValues, labels: Ints | None, weights: npt.NDArray[np.float32] | None) -> None:
        """Adds values with labels, of one label without any, and with weights, all 1 without any."""
        ones = np.ones(len(terms), np.int64)
        places, sums = _placed(ones.astype(np.float32) if weights is None else weights)
        columns = {
            "term": terms.cast(self._type) if isinstance(terms, pa.Array) else terms,
            "label": 0 * ones if labels is None else labels,
            "place": places,
            "sum": sums,
            "count": ones,
        }
        self._append(_grouped(pa.table(columns)))

    def merge(self, other: "Sums") -> None:
        """Adds others."""
        for part in other._parts:
            self._append(part)

    def _append(self, part: pa.Table) -> None:
        self._parts.append(part)
        self._added_rows += part.num_rows
        if self._added_rows > max(2 * self._merged_rows, 1 << 16):
            self._compact()

    def _compact(self) -> None:
        if len(self._parts) > 1:
            self._parts = [_grouped(pa.concat_tables(self._parts)).combine_chunks()]
        self._merged_rows = self._added_rows = sum(part.num_rows for part in self._parts)

    def __getstate__(self) -> dict[str, Any]:
        self._compact()
        return dict(vars(self))

    def items(self) -> tuple[TermValues, Ints, Ints, Floats, Ints]:
        """Returns m terms, and of n pairs of term and label the term's place, the label, the sum and the count.

        Pairs are in the order of places and labels. A sum is the exact one, but for roundings of float64.
        """
        self._compact()
        if not self._parts:
            terms = np.zeros(0, np.int64) if pa.types.is_integer(self._type) else pa.array([], self._type)
            return terms, *(np.zeros(0, np.int64),) * 2, np.zeros(0), np.zeros(0, np.int64)
        table = self._parts[0]
        encoded = table["term"].combine_chunks().dictionary_encode()
        codes, labels, places, sums, counts = (
            column.to_numpy().astype(np.int64)
            for column in (encoded.indices, *(table[name] for name in ("label", "place", "sum", "count")))
        )
        order = np.lexsort((-places, labels, codes))
        pairs = np.stack([codes[order], labels[order]])
        firsts = np.flatnonzero(np.append(True, (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)))
        numbers = np.ldexp(sums.astype(np.float64), (8 * places + _LEAST_EXPONENT).astype(np.int32))
        terms = encoded.dictionary
        return (
            terms.to_numpy() if pa.types.is_integer(self._type) else terms,
            pairs[0, firsts],
            pairs[1, firsts],
            np.add.reduceat(numbers[order], firsts),
            np.add.reduceat(counts[order], firsts),
        )


def _grouped(table: pa.Table) -> pa.Table:
    grouped = table.group_by(_KEYS, use_threads=False).aggregate([("sum", "sum"), ("count", "sum")])
    return grouped.rename_columns({"sum_sum": "sum", "count_sum": "count"}).select([*_KEYS, "sum", "count"])
