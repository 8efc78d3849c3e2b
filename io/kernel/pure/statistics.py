"""What statistics do to every value: exact sums, buckets of a histogram, hashes, counts of values, patterns of texts.

Nothing here depends on the order of the values, but for the order of a `Counter`'s entries.
"""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pyarrow import types

from penstock.io.kernel.shared.statistics import (
    INEXACT_SEED,
    INVALID_UTF8,
    NEAR,
    NO_PATTERN,
    PATTERNS,
    SAMPLE,
    SEED,
    SHORT,
    TIMES_OF_NUMBERS,
    TIMES_OF_TEXTS,
    least_repeated,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Codes = npt.NDArray[np.uint8]
_Column = TypeVar("_Column", bound=npt.NDArray[Any])

# A float is a whole number of these units, its square one of their squares.
_LEAST_EXPONENT = -1074
_MANTISSA = 53
# A sum of parts of so many rows is exact as a double: three parts of 18 bits make a mantissa.
_PART = 18
_BLOCK_ROWS = 1 << 14
_SIGN = np.uint64(1 << 63)
_ALL = np.uint64(0xFFFF_FFFF_FFFF_FFFF)
# Of the mixing function of SplitMix64 (Stafford's variant 13), and their inverses modulo 2^64.
_MIX = (0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB)
_UNMIX = tuple(pow(factor, -1, 1 << 64) for factor in _MIX)
_ROW_BITS = 16
# Of a varint: bits of a byte, and bytes of 64 bits.
_GROUP_BITS = 7
_MOST_GROUPS = 10
_NAN = np.uint64(0x7FF8_0000_0000_0000)


def describe_floats(values: Floats, counts: Ints | None = None) -> tuple[int, int, int, int, float, float, int, int]:
    """Counts special values of float64[n], each `counts` times (int64[n]) or once, and sums the finite ones exactly.

    Returns:
      The numbers of NaN, of positive and of negative infinities, and of zeros of either sign; the least and greatest
      finite value (infinity and -infinity without any), where -0.0 is 0.0; the sum of the finite values as a whole
      number of 2^-1074, and that of their squares of 2^-2148.
    """
    times = np.ones(len(values), np.int64) if counts is None else _checked(counts, len(values))
    with np.errstate(invalid="ignore"):  # of NaN that signal
        values, times = values[times != 0] + 0.0, times[times != 0]
    is_finite = np.isfinite(values)
    masks = (np.isnan(values), values == np.inf, values == -np.inf, values == 0)
    nan, positive, negative, zeros = (int(times[mask].sum()) for mask in masks)
    finite, times = values[is_finite], times[is_finite]
    total, squares = _exact_sums(finite) if counts is None else _counted_sums(finite, times)
    least, greatest = float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))
    return nan, positive, negative, zeros, least, greatest, total, squares


def _checked(counts: _Column, rows: int) -> _Column:
    """What belongs to each value."""
    if len(counts) != rows:
        raise ValueError(f"counts, weights and texts must be as many as the values, got {len(counts)} for {rows}")
    return counts


def _counted_sums(values: Floats, counts: Ints) -> tuple[int, int]:
    total = squares = 0
    columns = (*_scaled(values), counts)
    for mantissa, place, count in zip(*(column.tolist() for column in columns), strict=True):
        total += (count * mantissa) << place
        squares += (count * mantissa**2) << (2 * place)
    return total, squares


def _exact_sums(values: Floats) -> tuple[int, int]:
    total = squares = 0
    for start in range(0, len(values), _BLOCK_ROWS):
        block = _block_sums(values[start : start + _BLOCK_ROWS])
        total, squares = total + block[0], squares + block[1]
    return total, squares


def _block_sums(values: Floats) -> tuple[int, int]:
    """Sums mantissas and their squares by exponent, in parts that doubles hold exactly."""
    mantissas, places = _scaled(values)
    signs = np.where(mantissas < 0, -1, 1)
    magnitudes = np.abs(mantissas)
    parts = [(magnitudes >> (_PART * index) & ((1 << _PART) - 1)).astype(np.float64) for index in range(3)]
    total = squares = 0
    for index, part in enumerate(parts):
        total += _shifted(np.bincount(places, signs * part), _PART * index, 1)
        for other_index, other in enumerate(parts):
            squares += _shifted(np.bincount(places, part * other), _PART * (index + other_index), 2)
    return total, squares


def _scaled(values: Floats) -> tuple[Ints, Ints]:
    """Splits floats into whole numbers of at most 53 bits and the places to shift them to, in units of 2^-1074."""
    fractions, exponents = np.frexp(values)
    places = exponents.astype(np.int64) - (_MANTISSA + _LEAST_EXPONENT)
    mantissas = np.ldexp(fractions, _MANTISSA).astype(np.int64)
    # Subnormal numbers have fewer bits: their mantissas end with zeros.
    below = np.maximum(-places, 0)
    return np.where(mantissas < 0, -(-mantissas >> below), mantissas >> below), np.maximum(places, 0)


def _shifted(sums: npt.NDArray[Any], shift: int, power: int) -> int:
    used = np.flatnonzero(sums)
    return sum(int(part) << (shift + power * place) for part, place in zip(sums[used], used.tolist(), strict=True))


def describe_ints(values: Ints | Hashes, counts: Ints | None = None) -> tuple[int, int, int, int, int]:
    """Describes int64[n] or uint64[n], each `counts` times (int64[n]) or once.

    Returns:
      The number of zeros; the least and the greatest value (both 0 without any); the sum, and the sum of squares.
    """
    if counts is not None:
        some = _checked(counts, len(values)) != 0
        values, times = values[some], counts[some].tolist()
    if not len(values):
        return 0, 0, 0, 0, 0
    zeros, least, greatest = values == 0, int(values.min()), int(values.max())
    if counts is not None:
        total = sum(value * count for value, count in zip(values.tolist(), times, strict=True))
        squares = sum(value * value * count for value, count in zip(values.tolist(), times, strict=True))
        return int(counts[some][zeros].sum()), least, greatest, total, squares
    digits = [(values >> values.dtype.type(16 * index)).astype(np.int64) for index in range(4)]
    low = [digit & 0xFFFF for digit in digits[:3]]
    digits = [*low, digits[3] if values.dtype == np.int64 else digits[3] & 0xFFFF]
    total = sum(int(digit.sum()) << (16 * index) for index, digit in enumerate(digits))
    squares = sum(
        int(np.dot(one, other)) << (16 * (index + other_index))
        for index, one in enumerate(digits)
        for other_index, other in enumerate(digits)
    )
    return int(zeros.sum()), least, greatest, total, squares


def weighted_sums(values: Floats, weights: Floats) -> tuple[int, int, int]:
    """Sums float64[n] with weights, exactly; all are finite.

    Returns:
      The sum of the weights in units of 2^-1074, of weight * value of 2^-2148, of weight * value^2 of 2^-3222.
    """
    mantissas, places = _scaled(values)
    weight_mantissas, weight_places = _scaled(_checked(weights, len(values)))
    weight = weighted = squares = 0
    columns = (mantissas, places, weight_mantissas, weight_places)
    for value, place, factor, factor_place in zip(*(column.tolist() for column in columns), strict=True):
        weight += factor << factor_place
        weighted += (factor * value) << (factor_place + place)
        squares += (factor * value * value) << (factor_place + 2 * place)
    return weight, weighted, squares


class Buckets:
    """Counts of numbers by the upper bits of their 64-bit form, which has the order of the numbers.

    As many bits are kept as leave at most `limit` buckets filled, so the data alone decides.
    """

    def __init__(self, limit: int) -> None:
        """Makes no buckets, for at most `limit` of them, at least 4,096: the sign and the exponent have 12 bits."""
        self._limit = limit
        self._bits = 64
        self._keys = np.zeros(0, np.uint64)
        self._counts = np.zeros(0, np.int64)

    def add(self, values: Floats, counts: Ints | None = None) -> None:
        """Adds float64[n], of which none is NaN, each `counts` times (int64[n]), or once."""
        times = np.ones(len(values), np.int64) if counts is None else _checked(counts, len(values))
        bits = (values + 0.0).view(np.uint64)
        keys = np.where(bits & _SIGN, ~bits, bits | _SIGN)
        self.merge(keys, times, 64)

    def merge(self, keys: Hashes, counts: Ints, bits: int) -> None:
        """Adds the `items` of other buckets, of which `bits` bits are kept."""
        some = _checked(counts, len(keys)) != 0
        self._bits = min(self._bits, bits)
        self._gather(np.concatenate([self._keys, keys[some]]), np.concatenate([self._counts, counts[some]]))
        if len(self._keys) > self._limit:
            borders = self._keys[1:] ^ self._keys[:-1]
            while np.count_nonzero(borders >> np.uint64(64 - self._bits)) >= self._limit:
                self._bits -= 1
            self._gather(self._keys, self._counts)

    def _gather(self, keys: Hashes, counts: Ints) -> None:
        keys = keys & (_ALL << np.uint64(64 - self._bits))
        self._keys, places = np.unique(keys, return_inverse=True)
        self._counts = np.zeros(len(self._keys), np.int64)
        np.add.at(self._counts, places, counts)

    def bits(self) -> int:
        """Returns how many of the 64 bits are kept."""
        return self._bits

    def items(self) -> tuple[Hashes, Ints]:
        """Returns the filled buckets in order: uint64[m], the form of the least number; and int64[m], the counts."""
        return self._keys, self._counts


class LeastHashes:
    """The least of different 64-bit hashes."""

    def __init__(self, limit: int) -> None:
        """Keeps the least `limit` hashes."""
        self._limit = limit
        self._least = np.zeros(0, np.uint64)

    def add(self, hashes: Hashes) -> None:
        """Adds uint64[n], repeated ones too."""
        if len(self._least) == self._limit:
            hashes = hashes[hashes < self._least[-1]]
        self._least = np.unique(np.concatenate([self._least, hashes]))[: self._limit]

    def items(self) -> Hashes:
        """Returns uint64[m] in ascending order."""
        return self._least


def hash_numbers(values: npt.NDArray[Any]) -> Hashes:
    """Hashes int64[n], uint64[n] or float64[n]: `hash_bits` of the float that is equal to a number.

    Floats have one zero and one NaN. An integer that no float is equal to is hashed as its own bits with a second seed.
    """
    if values.dtype == np.float64:
        return hash_bits(_canonical(values))
    bits = values.view(np.uint64)
    magnitudes = np.where(values < 0, -bits, bits) if values.dtype == np.int64 else bits
    odd = magnitudes // np.maximum(magnitudes & -magnitudes, np.uint64(1))
    return hash_bits(
        np.where(odd >> np.uint64(_MANTISSA), bits ^ np.uint64(INEXACT_SEED), _canonical(values.astype(np.float64)))
    )


def _canonical(values: Floats) -> Hashes:
    """Returns the bits of floats, with one zero and one NaN."""
    with np.errstate(invalid="ignore"):  # of NaN that signal
        return np.where(np.isnan(values), _NAN, (values + 0.0).view(np.uint64))


def hash_bits(bits: Hashes) -> Hashes:
    """Hashes uint64[n] by a bijection, so different ones have different hashes: SplitMix64's, with a seed."""
    mixed = bits ^ np.uint64(SEED)
    for factor, shift in zip(_MIX, (30, 27), strict=True):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed ^ (mixed >> np.uint64(31))


def unhash_bits(hashes: Hashes) -> Hashes:
    """Returns what `hash_bits` hashed."""
    mixed = _unshifted(hashes, 31)
    for factor, shift in zip(reversed(_UNMIX), (27, 30), strict=True):
        mixed = _unshifted(mixed * np.uint64(factor), shift)
    return mixed ^ np.uint64(SEED)


def _unshifted(mixed: Hashes, shift: int) -> Hashes:
    """Undoes `x ^ (x >> shift)`, for a shift above 64 / 3."""
    return mixed ^ (mixed >> np.uint64(shift)) ^ (mixed >> np.uint64(2 * shift))


def hash_texts(texts: pa.RecordBatch) -> Hashes:
    """Hashes the bytes of each text: XXH64 with a seed of its own.

    Args:
      texts: one column of string, binary or their large forms, without nulls.
    """
    values = _contents(texts)
    return np.fromiter((xxhash.xxh64_intdigest(text, SEED) for text in values), np.uint64, len(values))


class Counter:
    """Different values with their counts, in the order in which they came.

    Values are known by their hashes; texts by their bytes too.
    """

    def __init__(self) -> None:
        """Makes an empty counter."""
        self._hashes: list[int] = []
        self._counts: list[int] = []
        self._texts: list[bytes] = []
        self._places: dict[tuple[int, bytes], int] = {}
        self._text_bytes = 0

    def add(self, hashes: Hashes, counts: Ints | None = None, texts: pa.RecordBatch | None = None) -> None:
        """Adds values with their hashes, uint64[n], each `counts` times (int64[n]), or once; numbers without `texts`.

        The hashes are those of `hash_bits` or `hash_texts`; a counter holds either numbers or texts.
        """
        contents = [b""] * len(hashes) if texts is None else _contents(texts, len(hashes))
        times = [1] * len(hashes) if counts is None else _checked(counts, len(hashes)).tolist()
        for key, count in zip(zip(hashes.tolist(), contents, strict=True), times, strict=True):
            place = self._places.setdefault(key, len(self._counts))
            if place == len(self._counts):
                self._append(*key, 0)
            self._counts[place] += count

    def _append(self, value_hash: int, text: bytes, count: int) -> None:
        self._hashes.append(value_hash)
        self._counts.append(count)
        self._texts.append(text)
        self._text_bytes += len(text)

    def keep(self, places: Ints, counts: Ints) -> None:
        """Keeps the entries at these places, int64[m], with new counts, int64[m]."""
        kept = [(self._hashes[place], self._texts[place]) for place in places.tolist()]
        self.__init__()  # type: ignore[misc]
        for key, count in zip(kept, counts.tolist(), strict=True):
            self._places[key] = len(self._counts)
            self._append(*key, count)

    def size(self) -> int:
        """Returns the number of different values."""
        return len(self._counts)

    def text_bytes(self) -> int:
        """Returns how many bytes the texts have."""
        return self._text_bytes

    def hashes(self) -> Hashes:
        """Returns uint64[size]."""
        return np.array(self._hashes, np.uint64)

    def counts(self) -> Ints:
        """Returns int64[size]."""
        return np.array(self._counts, np.int64)

    def texts(self) -> pa.LargeBinaryArray:
        """Returns the texts, all of them empty for numbers."""
        return pa.array(self._texts, pa.large_binary())


def different_numbers(
    values: npt.NDArray[Any], with_places: bool = False
) -> tuple[npt.NDArray[Any], Ints, Ints | None] | None:
    """Finds the different ones of int64[n], uint64[n] or float64[n], unless most of them seem to differ.

    That is told by the first values (`penstock.io.kernel.shared.statistics.SAMPLE`), or by their range (`NEAR`).

    Returns:
      None where most differ. Else the m different values of the same type, in any order, floats with one zero and one
      NaN; int64[m], how often each is there; and with `with_places` int64[n], which of these each value is, or None.
    """
    bits = _canonical(values) if values.dtype == np.float64 else values.view(np.uint64)
    if not _are_near(values) and _are_many(len(np.unique(bits[:SAMPLE])), len(bits), TIMES_OF_NUMBERS):
        return None
    different, places, counts = np.unique(bits, return_inverse=True, return_counts=True)
    return different.view(values.dtype), counts.astype(np.int64), places.astype(np.int64) if with_places else None


def different_texts(texts: pa.RecordBatch, with_places: bool = False) -> tuple[Ints, Ints, Ints | None] | None:
    """Finds the different ones of n texts, as `different_numbers` those of numbers.

    Args:
      texts: one column of string, binary or their large forms, without nulls.
      with_places: whether to say which text is where.

    Returns:
      None where most differ. Else int64[m], a row of each different text; and counts and places.
    """
    contents = _contents(texts)
    if _are_many(len(set(contents[:SAMPLE])), len(contents), TIMES_OF_TEXTS):
        return None
    known: dict[bytes, int] = {}
    places = np.fromiter((known.setdefault(text, len(known)) for text in contents), np.int64, len(contents))
    _, firsts, counts = np.unique(places, return_index=True, return_counts=True)
    return firsts.astype(np.int64), counts.astype(np.int64), places if with_places else None


def _are_near(values: npt.NDArray[Any]) -> bool:
    span = 0 if values.dtype == np.float64 or not len(values) else int(values.max()) - int(values.min()) + 1
    return 0 < span <= min(2 * len(values), NEAR)


def _are_many(different: int, rows: int, times: int) -> bool:
    """Whether most values seem to differ, by how many of the first ones do."""
    return min(rows, SAMPLE) - different < least_repeated(rows, times)


def add_counts(table: Ints, hashes: Hashes, counts: Ints | None = None) -> None:
    """Adds uint64[n] to a Count-Min table, each `counts` times, or once.

    Args:
      table: int64[4, width], changed in place; width is a power of two, at most 2^16. A row has 16 bits of the hash.
      hashes: of the values.
      counts: int64[n].
    """
    for cells, places in _cells(table, hashes):
        np.add.at(cells, places, 1 if counts is None else _checked(counts, len(hashes)))


def estimate_counts(table: Ints, hashes: Hashes) -> Ints:
    """Returns int64[n]: for each hash the least of its counts in a Count-Min table."""
    return np.min([cells[places] for cells, places in _cells(table, hashes)], axis=0).astype(np.int64)


def _cells(table: Ints, hashes: Hashes) -> Iterator[tuple[Ints, Ints]]:
    for row, cells in enumerate(table):
        places = (hashes >> np.uint64(_ROW_BITS * row)) & np.uint64(len(cells) - 1)
        yield cells, places.astype(np.int64)


def describe_texts(texts: pa.RecordBatch, counts: Ints | None = None) -> tuple[Ints, Ints, Ints, Ints, int, int, int]:
    """Measures texts, each `counts` times (int64[n]) or once, and finds their patterns.

    The patterns are those of `penstock.io.kernel.shared.statistics`. Characters of bytes that are no UTF-8 are the
    bytes that do not continue one.

    Args:
      texts: one column of string, binary or their large forms, without nulls.
      counts: of the texts.

    Returns:
      int64[256], how many texts have each pattern, by 1 + its index, NO_PATTERN or INVALID_UTF8; int64[SHORT], how many
      texts have each number of characters below SHORT; int64[m] twice, the numbers of characters of the other texts
      that are there and how often; the sum, least and greatest number of bytes of a text, of none 0, -1 and -1.
    """
    contents = _contents(texts)
    times = np.ones(len(contents), np.int64) if counts is None else _checked(counts, len(contents))
    contents = [text for text, count in zip(contents, times, strict=True) if count]
    times = times[times != 0]
    codes, short = np.zeros(256, np.int64), np.zeros(SHORT, np.int64)
    np.add.at(codes, _codes(contents), times)
    lengths = np.fromiter((_characters(text) for text in contents), np.int64, len(contents))
    is_short = lengths < SHORT
    np.add.at(short, lengths[is_short], times[is_short])
    sizes = [len(text) for text in contents]
    total = sum(size * count for size, count in zip(sizes, times.tolist(), strict=True))
    ends = min(sizes, default=-1), max(sizes, default=-1)
    return codes, short, lengths[~is_short], times[~is_short], total, *ends


def pack_uints(values: Hashes) -> bytes:
    """Returns uint64[n] as varints (LEB128), 1 to 10 bytes each."""
    shifts = np.arange(_MOST_GROUPS, dtype=np.uint64) * np.uint64(_GROUP_BITS)
    sizes = 1 + sum((values >> shift > 0).astype(np.int64) for shift in shifts[1:])
    widest = int(np.max(sizes, initial=1))
    groups = (values[:, None] >> shifts[:widest]).astype(np.uint8) & np.uint8(0x7F)
    columns = np.arange(widest)
    groups |= np.where(columns < (sizes - 1)[:, None], np.uint8(0x80), np.uint8(0))
    return groups[columns < sizes[:, None]].tobytes()


def unpack_uints(data: bytes) -> Hashes:
    """Returns uint64[n] of `pack_uints`; bits beyond 64 are dropped.

    Raises:
      ValueError: for more than 10 bytes of one number, and where the last one is cut.
    """
    groups = np.frombuffer(data, np.uint8)
    if not len(groups):
        return np.zeros(0, np.uint64)
    ends = np.flatnonzero(groups < 0x80)
    if not len(ends) or ends[-1] != len(groups) - 1:
        raise ValueError("the bytes are no varints")
    starts = np.concatenate([[0], ends[:-1] + 1])
    if int((ends - starts).max()) >= _MOST_GROUPS:
        raise ValueError("the bytes are no varints")
    places = np.arange(len(groups)) - np.repeat(starts, ends - starts + 1)
    parts = (groups & np.uint8(0x7F)).astype(np.uint64) << (places * _GROUP_BITS).astype(np.uint64)
    return np.add.reduceat(parts, starts)


def _codes(contents: list[bytes]) -> Codes:
    valid = np.fromiter((_is_utf8(text) for text in contents), bool, len(contents))
    strings = pa.array([text if good else b"\0" for text, good in zip(contents, valid, strict=True)], pa.binary())
    codes = np.full(len(contents), NO_PATTERN, np.uint8)
    for code, expression in reversed(list(enumerate(PATTERNS.values(), start=1))):
        found = pc.match_substring_regex(strings.cast(pa.string()), f"^(?:{expression})$")
        codes[found.to_numpy(zero_copy_only=False)] = code
    codes[~valid] = INVALID_UTF8
    return codes


def _characters(text: bytes) -> int:
    return len(text) - sum(text.count(byte) for byte in _CONTINUING) if not text.isascii() else len(text)


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _contents(texts: pa.RecordBatch, rows: int | None = None) -> list[bytes]:
    if texts.num_columns != 1 or not _is_text(texts.column(0).type):
        raise TypeError("texts must be one column of strings or bytes")
    contents = texts.column(0).cast(pa.large_binary()).to_pylist()
    if rows is not None and len(contents) != rows:
        raise ValueError(f"counts, weights and texts must be as many as the values, got {len(contents)} for {rows}")
    return contents


def _is_text(item: pa.DataType) -> bool:
    checks = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
    return any(check(item) for check in checks)


_CONTINUING = range(0x80, 0xC0)
