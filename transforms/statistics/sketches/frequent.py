"""The most frequent values of a column."""

import dataclasses
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from penstock.io.kernel import statistics
from penstock.transforms.statistics.sketches.state import Reader, Writer
from penstock.transforms.statistics.sketches.values import ValueCounts

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
# One column, or None for numbers.
_Texts = TypeVar("_Texts", pa.RecordBatch, pa.RecordBatch | None)

# Up to so many different values, and so many bytes of different texts, counts are exact.
MAX_VALUES = 1 << 16
MAX_TEXT_BYTES = 4 << 20
# Texts longer than that are only counted, as TFDV does.
MAX_VALUE_BYTES = 1024

# Beyond: cells of each of the four rows of the Count-Min table.
_WIDTH = 1 << 14
# A value with one of so many rows becomes a candidate, has a place in the state, is reported.
_CANDIDATE = 8192
_SEALED = 2048
_REPORTED = 1024
# The least own count of a candidate in the state, and of one that is reported, in parts of 1 / _CANDIDATE.
_OWN_PARTS = {_SEALED: 1, _REPORTED: 3}
# Candidates are looked through when there are so many, or so many bytes of them.
_MAX_CANDIDATES = 1 << 15
_MAX_CANDIDATE_BYTES = 16 << 20

_TAG = b"F1"
_COMPLETE_TAG = b"f1"
_TEXT, _INT64, _UINT64 = "text", "int64", "uint64"
_KINDS = ("", _TEXT, _INT64, _UINT64)


@dataclasses.dataclass(frozen=True, slots=True)
class FrequentValues:
    """Values in descending order of their counts; of equal counts the greatest value first, as TFDV has them.

    Attributes:
      values: pa.Array[m] of large_binary, compared byte by byte, int64 or uint64.
      counts: int64[m].
    """

    values: pa.Array
    counts: Ints


class FrequentSketch:
    """The most frequent texts or integers, with their counts.

    Counts are exact while a column has at most 65,536 different values, whose texts have at most 4 MiB; whether it has
    follows from the data. Beyond, a Count-Min table of 4 rows of 16,384 cells has all counts (Cormode and
    Muthukrishnan, "An improved data stream summary", 2005). A value is a candidate from the batch on in which the
    table has 1/8,192 of all counts for it. Reported are the values with at least 1/1,024 of all counts: all of them,
    with counts that are never too low, and too high by more than `error` for one value in 256 at most, far less where
    few values are frequent.

    Which values are candidates, and since when, depends on the order of the data. But whatever the order, a candidate
    lacks less than 1/8,192 of all counts in its own count, which begins where it becomes one. A value whose own count
    is less than three eighths of what is asked for is not reported, whatever the table says. So what is reported, and
    the bytes of `to_bytes`, follow from the data alone, but for rarer values that share cells with frequent ones in all
    four rows at once. With one million values by Zipf's law, the probability that there is one is below 10^-4.

    Once counts are not exact, the bytes of `to_bytes` hold only values with 1/2,048 of all counts. Sketches that are
    read from such bytes and then merged report the same, but their own bytes may differ in values close to that
    threshold. Pickling keeps all candidates, and so does `to_bytes(complete=True)`, for work that goes on elsewhere.

    Memory: for 65,536 short values about 6 MiB, 10 MiB where texts are long, and 40 MiB at worst, where 16,384
    candidates have 1,024 bytes each.

    Attributes:
      total: the sum of all counts.
      long: the sum of the counts of texts of more than 1,024 bytes.
    """

    __slots__ = ("_counter", "_kind", "_table", "long", "total")

    def __init__(self) -> None:
        """Makes the sketch of nothing."""
        self._counter = statistics.Counter()
        self._table: Ints | None = None
        self._kind = ""
        self.total = self.long = 0

    def update(self, values: ValueCounts, weights: Ints | None = None) -> None:
        """Adds values, as `count_values` gives them.

        Args:
          values: texts or integers; of booleans the integers 0 and 1.
          weights: int64[n], one for each value of the batch, not negative (`fixed_point`): counts are then their sums.
            A value whose weights are 0 is none.

        Raises:
          TypeError: for floats, and for other kinds of values than there were before.
        """
        self._set_kind(_kind(values.values.type))
        hashes, texts = values.hashes, values.texts
        if texts is None:
            hashes = statistics.hash_bits(values.values.to_numpy().view(np.uint64))
        counts = values.counts if weights is None else values.weights(weights)
        if weights is not None and counts is not None and not counts.all():
            hashes, texts, counts = _some(np.flatnonzero(counts), hashes, texts, counts)
        self.total += len(hashes) if counts is None else int(counts.sum())
        if texts is not None:
            hashes, texts, counts = self._without_long(hashes, texts, counts)
        self._add(hashes, counts, texts)

    def _set_kind(self, kind: str) -> None:
        if self._kind and kind and self._kind != kind:
            raise TypeError(f"a FrequentSketch of {self._kind} values takes no {kind} values")
        self._kind = self._kind or kind

    def _without_long(
        self, hashes: Hashes, texts: pa.RecordBatch, counts: Ints | None
    ) -> tuple[Hashes, pa.RecordBatch, Ints | None]:
        if texts.nbytes <= MAX_VALUE_BYTES:
            return hashes, texts, counts
        sizes = pc.binary_length(texts.column(0)).to_numpy(zero_copy_only=False)
        if sizes.max(initial=0) <= MAX_VALUE_BYTES:
            return hashes, texts, counts
        is_long = sizes > MAX_VALUE_BYTES
        self.long += int(is_long.sum() if counts is None else counts[is_long].sum())
        return _some(np.flatnonzero(~is_long), hashes, texts, counts)

    def _add(self, hashes: Hashes, counts: Ints | None, texts: pa.RecordBatch | None) -> None:
        if self._table is not None:
            statistics.add_counts(self._table, hashes, counts)
            hashes, texts, counts = _some(
                np.flatnonzero(self._are_candidates(self._table, hashes)), hashes, texts, counts
            )
        self._counter.add(hashes, counts, texts)
        self._shrink()

    def _are_candidates(self, table: Ints, hashes: Hashes) -> npt.NDArray[np.bool_]:
        return statistics.estimate_counts(table, hashes) >= self._part(_CANDIDATE)

    def _part(self, part: int) -> int:
        """Returns the least count that is 1 / part of all counts."""
        return -(-self.total // part)

    def _shrink(self) -> None:
        """Ends exact counts when there are too many values, and from then on drops candidates that are too rare."""
        size, text_bytes = self._counter.size(), self._counter.text_bytes()
        if self._table is None:
            if size > MAX_VALUES or text_bytes > MAX_TEXT_BYTES:
                self._table = self._counted()
                self._drop_rare(self._table)
        elif size > _MAX_CANDIDATES or text_bytes > _MAX_CANDIDATE_BYTES:
            self._drop_rare(self._table)

    def _counted(self) -> Ints:
        """Returns a Count-Min table of the exact counts."""
        table = np.zeros((4, _WIDTH), np.int64)
        statistics.add_counts(table, self._counter.hashes(), self._counter.counts())
        return table

    def _drop_rare(self, table: Ints) -> None:
        counts = self._counter.counts()
        kept = np.flatnonzero(self._are_candidates(table, self._counter.hashes()))
        # Only collisions make so many values seem frequent, and those have the least counts of their own.
        if len(kept) > _CANDIDATE:
            kept = np.sort(kept[np.argsort(-counts[kept], kind="stable")[:_CANDIDATE]])
        self._counter.keep(kept, counts[kept])

    def merge(self, other: Self) -> None:
        """Adds what another sketch holds.

        Raises:
          TypeError: when it holds another kind of values.
        """
        self._set_kind(other._kind)
        self.total += other.total
        self.long += other.long
        if self._table is not None or other._table is not None:
            ours = self._counted() if self._table is None else self._table
            self._table = ours + (other._counted() if other._table is None else other._table)
        self._counter.add(other._counter.hashes(), other._counter.counts(), other._texts())
        self._shrink()

    def _texts(self) -> pa.RecordBatch | None:
        return pa.record_batch([self._counter.texts()], ["text"]) if self._kind == _TEXT else None

    @property
    def is_exact(self) -> bool:
        """Whether all values are known, with their exact counts."""
        return self._table is None

    @property
    def error(self) -> int:
        """By how much a count is too high, for 255 of 256 values at most; it is never too low. 0 where exact."""
        return 0 if self.is_exact else self.total * 4 // _WIDTH

    @property
    def threshold(self) -> int:
        """The least count of a value that is reported; 1 where counts are exact."""
        return 1 if self.is_exact else self._part(_REPORTED)

    def top(self, n: int | None = None) -> FrequentValues:
        """Returns the n most frequent values, or all that are known.

        Fewer are returned where fewer are frequent enough to be told from the rest (`threshold`).
        """
        places, counts = self._frequent(_REPORTED)
        if n is not None and len(counts) > n:
            # All with the count of the last one stay, for the values decide.
            some = counts >= (np.partition(counts, len(counts) - n)[len(counts) - n] if n else np.inf)
            places, counts = places[some], counts[some]
        values = self._values(places)
        table = pa.table({"count": counts, "value": values})
        indices = pc.sort_indices(table, sort_keys=[("count", "descending"), ("value", "descending")])[:n]
        return FrequentValues(values.take(indices), counts[indices.to_numpy()])

    def _frequent(self, part: int) -> tuple[Ints, Ints]:
        """Returns the places of the candidates with at least 1 / part of all counts, and their counts."""
        counts, hashes = self._counter.counts(), self._counter.hashes()
        if self._table is None:
            return np.arange(len(counts)), counts
        estimates = statistics.estimate_counts(self._table, hashes)
        # A value that is frequent enough lacks so little in its own count that it has more than that in any order.
        least = _OWN_PARTS[part] * self._part(_CANDIDATE)
        places = np.flatnonzero((estimates >= self._part(part)) & (counts >= least))
        return places, estimates[places]

    def _values(self, places: Ints) -> pa.Array:
        if self._kind == _TEXT or not self._kind:
            return self._counter.texts().take(pa.array(places))
        numbers = statistics.unhash_bits(self._counter.hashes()[places])
        return pa.array(numbers if self._kind == _UINT64 else numbers.view(np.int64))

    def to_bytes(self, complete: bool = False) -> bytes:
        """Returns the state: the values with their counts, and 64 Ki counts as varints, once counts are not exact.

        Args:
          complete: all candidates, whichever the order of the data has left; for work that goes on elsewhere.
        """
        complete = complete and self._table is not None
        places, counts = self._frequent(_SEALED)
        if complete:
            places, counts = np.arange(self._counter.size()), self._counter.counts()
        writer = Writer(_COMPLETE_TAG if complete else _TAG).put_int(_KINDS.index(self._kind))
        writer.put_int(self.total).put_int(self.long)
        writer.put_uints(np.zeros(0, np.int64) if self._table is None else self._table.ravel())
        if self._kind == _TEXT:
            self._put_texts(writer, places, counts)
        else:
            numbers = statistics.unhash_bits(self._counter.hashes()[places])
            order = np.argsort(numbers)
            writer.put_uints(np.diff(numbers[order], prepend=np.uint64(0))).put_uints(counts[order])
        return writer.to_bytes()

    def _put_texts(self, writer: Writer, places: Ints, counts: Ints) -> None:
        texts = self._counter.texts().take(pa.array(places))
        order = pc.sort_indices(texts)
        texts = texts.take(order)
        writer.put_uints(pc.binary_length(texts).to_numpy(zero_copy_only=False))
        writer.put_blob(_data(texts)).put_uints(counts[order.to_numpy()])

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Returns the sketch of `to_bytes`.

        Raises:
          InputError: for other bytes.
        """
        is_complete = data.startswith(_COMPLETE_TAG)
        reader = Reader(data, _COMPLETE_TAG if is_complete else _TAG)
        sketch = cls()
        sketch._kind = _KINDS[reader.take_count(0, len(_KINDS) - 1)]
        sketch.total, sketch.long = reader.take_count(), reader.take_count()
        table = reader.take_ints()
        hashes, texts = _take_values(reader, sketch._kind)
        counts = reader.take_ints()
        reader.check(len(hashes) == len(counts) and len(table) in (0, 4 * _WIDTH))
        reader.end()
        if len(table):
            sketch._table = table.reshape(4, _WIDTH)
        sketch._counter.add(hashes, counts, texts)
        return sketch

    def __eq__(self, other: object) -> bool:
        """Whether both were given the same values, as far as they can tell."""
        return isinstance(other, FrequentSketch) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_bytes, (self.to_bytes(complete=True),)


def _some(places: Ints, hashes: Hashes, texts: _Texts, counts: Ints | None) -> tuple[Hashes, _Texts, Ints | None]:
    """Returns what is at some places."""
    chosen: Any = None if texts is None else texts.take(pa.array(places))
    return hashes[places], chosen, None if counts is None else counts[places]


def _kind(values: pa.DataType) -> str:
    if pa.types.is_uint64(values):
        return _UINT64
    if pa.types.is_int64(values):
        return _INT64
    if pa.types.is_floating(values):
        raise TypeError(f"a FrequentSketch takes texts or integers, got {values}")
    return _TEXT


def _data(texts: pa.LargeBinaryArray) -> bytes:
    """Returns the bytes of all texts, one after the other."""
    return b"".join(texts.to_pylist())


def _take_values(reader: Reader, kind: str) -> tuple[Hashes, pa.RecordBatch | None]:
    if kind != _TEXT:
        return statistics.hash_bits(np.cumsum(reader.take_uints(), dtype=np.uint64)), None
    sizes = reader.take_ints()
    data = reader.take_blob()
    ends = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    reader.check(int(sizes.max(initial=0)) <= MAX_VALUE_BYTES and int(ends[-1]) == len(data))
    buffers = [None, pa.py_buffer(ends.tobytes()), pa.py_buffer(data)]
    texts = pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)
    batch = pa.record_batch([texts], ["text"])
    return statistics.hash_texts(batch), batch
