# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What statistics do to every value: exact sums, buckets of a histogram, hashes, counts of values, patterns of texts.

Nothing here depends on the order of the values, but for the order of a `Counter`'s entries.
"""

import math

import numpy as np
import pyarrow as pa

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memset

from penstock.io.kernel.native._columns cimport LARGE_TEXT, Columns, Span, Values, text_at

from penstock.io.kernel.shared.statistics import INEXACT_SEED, NEAR, PATTERNS, SAMPLE, SEED, SHORT
from penstock.io.kernel.shared.statistics import TIMES_OF_NUMBERS, TIMES_OF_TEXTS, least_repeated

cdef extern from "sums.h" nogil:
    const int64_t SUMS_ROWS
    const int SUMS_WORDS
    const int SUMS_WORDS2
    const int SUMS_WORDS3
    ctypedef struct sums_by_place:
        pass
    ctypedef struct sums_floats:
        int64_t nan
        int64_t positive
        int64_t negative
        int64_t zeros
        double least
        double greatest
        uint64_t[36] plus
        uint64_t[36] minus
        uint64_t[70] squares
    ctypedef struct sums_ints:
        int64_t zeros
        uint64_t least
        uint64_t greatest
        uint64_t carries
    void sums_add_floats(sums_floats*, sums_by_place*, const double*, int64_t)
    void sums_add_counted_floats(sums_floats*, const double*, const int64_t*, int64_t)
    void sums_add_counted_ints(sums_floats*, uint64_t*, uint64_t*, const uint64_t*, const int64_t*, int64_t, int)
    void sums_add_ints(sums_ints*, const uint64_t*, int64_t, int)
    void sums_add_weighted(
        uint64_t (*)[36], uint64_t (*)[70], uint64_t (*)[103], const double*, const double*, int64_t
    )

cdef extern from *:
    """
    #define INTS_TOTAL(sums) ((uint64_t)(sums).total)
    #define INTS_TOTAL_HIGH(sums) ((int64_t)((sums).total >> 64))
    #define INTS_SQUARES(sums) ((uint64_t)(sums).squares)
    #define INTS_SQUARES_HIGH(sums) ((uint64_t)((sums).squares >> 64))
    #define PENSTOCK_SIGN 0x8000000000000000ULL
    #define PENSTOCK_SPREAD 0x9E3779B97F4A7C15ULL
    """
    uint64_t INTS_TOTAL(sums_ints) nogil
    int64_t INTS_TOTAL_HIGH(sums_ints) nogil
    uint64_t INTS_SQUARES(sums_ints) nogil
    uint64_t INTS_SQUARES_HIGH(sums_ints) nogil
    const uint64_t SIGN "PENSTOCK_SIGN"
    const uint64_t SPREAD "PENSTOCK_SPREAD"  # 2^64 by the golden ratio: products have well mixed upper bits

cdef extern from "xxh64.h" nogil:
    uint64_t xxh64(const uint8_t*, uint64_t, uint64_t)

cdef extern from "different.h" nogil:
    const int64_t MANY "DIFFERENT_MANY"
    const int64_t FAR "DIFFERENT_FAR"
    const int64_t NO_MEMORY "DIFFERENT_NO_MEMORY"
    int64_t different_near(const uint64_t*, int64_t, int, uint64_t, uint64_t*, int64_t*, int64_t*)
    int64_t c_numbers "different_numbers" (
        const uint64_t*, int64_t, int64_t, int64_t, uint64_t*, int64_t*, int64_t*
    )
    int64_t c_texts "different_texts" (
        const uint8_t*, const uint8_t*, int, int64_t, int64_t, int64_t, int64_t*, int64_t*, int64_t*
    )

cdef extern from "same.h" nogil:
    bint same_bytes(const uint8_t*, const uint8_t*, int64_t)

cdef extern from "patterns.h" nogil:
    const int PATTERN_JSON
    uint8_t pattern_describe(const uint8_t*, int64_t, int64_t*)

if PATTERN_JSON != len(PATTERNS):
    raise ImportError("the kernel has other patterns than its twin")

cdef uint64_t HASH_SEED = SEED
cdef uint64_t INEXACT = INEXACT_SEED
cdef int64_t SHORT_TEXT = SHORT
cdef int64_t SAMPLE_ROWS = SAMPLE
cdef uint64_t MOST_NEAR = NEAR
cdef int ROW_BITS = 16
# Bytes of a varint of 64 bits.
cdef int MOST_GROUPS = 10


def describe_floats(const double[::1] values not None, counts=None):
    """Counts special values of float64[n], each `counts` times (int64[n]) or once, and sums the finite ones exactly.

    Returns:
      The numbers of NaN, of positive and of negative infinities, and of zeros of either sign; the least and greatest
      finite value (infinity and -infinity without any), where -0.0 is 0.0; the sum of the finite values as a whole
      number of 2^-1074, and that of their squares of 2^-2148.
    """
    cdef sums_floats sums
    cdef const int64_t[::1] times
    memset(&sums, 0, sizeof(sums))
    sums.least, sums.greatest = math.inf, -math.inf
    if counts is None:
        _add_floats(&sums, values)
    elif len(_checked(counts, values.shape[0])):
        times = counts
        with nogil:
            sums_add_counted_floats(&sums, &values[0], &times[0], values.shape[0])
    total, squares = _totals(&sums)
    return sums.nan, sums.positive, sums.negative, sums.zeros, sums.least, sums.greatest, total, squares


cdef int _add_floats(sums_floats* sums, const double[::1] values) except -1:
    cdef int64_t start = 0
    cdef sums_by_place* scratch = <sums_by_place*> calloc(1, sizeof(sums_by_place))
    if scratch == NULL:
        raise MemoryError()
    with nogil:
        while start < values.shape[0]:
            sums_add_floats(sums, scratch, &values[start], min(SUMS_ROWS, values.shape[0] - start))
            start += SUMS_ROWS
    free(scratch)
    return 0


cdef object _checked(object counts, int64_t rows):
    """What belongs to each value: a column, or a batch."""
    cdef int64_t found = counts.num_rows if isinstance(counts, pa.RecordBatch) else len(counts)
    if found != rows:
        raise ValueError(f"counts, weights and texts must be as many as the values, got {found} for {rows}")
    return counts


cdef tuple _totals(const sums_floats* sums):
    return _whole(sums.plus, SUMS_WORDS) - _whole(sums.minus, SUMS_WORDS), _whole(sums.squares, SUMS_WORDS2)


cdef object _whole(const uint64_t* words, int size):
    return int.from_bytes((<const uint8_t*> words)[: 8 * size], "little")


def describe_ints(values not None, counts=None):
    """Describes int64[n] or uint64[n], each `counts` times (int64[n]) or once.

    Returns:
      The number of zeros; the least and the greatest value (both 0 without any); the sum, and the sum of squares.
    """
    cdef const uint64_t[::1] bits = values.view(np.uint64)
    cdef const int64_t[::1] times
    cdef bint is_signed = values.dtype == np.int64
    cdef sums_ints sums
    cdef sums_floats counted
    memset(&sums, 0, sizeof(sums))
    if counts is None:
        if bits.shape[0]:
            sums.least = sums.greatest = bits[0]
            with nogil:
                sums_add_ints(&sums, &bits[0], bits.shape[0], is_signed)
        total, squares = _int_totals(&sums)
    else:
        memset(&counted, 0, sizeof(counted))
        if len(_checked(counts, bits.shape[0])):
            times = counts
            with nogil:
                sums_add_counted_ints(
                    &counted, &sums.least, &sums.greatest, &bits[0], &times[0], bits.shape[0], is_signed
                )
        sums.zeros = counted.zeros
        total, squares = _totals(&counted)
    if is_signed:
        return sums.zeros, <int64_t> sums.least, <int64_t> sums.greatest, total, squares
    return sums.zeros, sums.least, sums.greatest, total, squares


cdef tuple _int_totals(const sums_ints* sums):
    # Python's own integers, before they are shifted.
    cdef object total = INTS_TOTAL_HIGH(sums[0])
    cdef object squares = sums.carries
    return (total << 64) + INTS_TOTAL(sums[0]), (
        ((squares << 64) + INTS_SQUARES_HIGH(sums[0])) << 64
    ) + INTS_SQUARES(sums[0])


def weighted_sums(const double[::1] values not None, const double[::1] weights not None):
    """Sums float64[n] with weights, exactly; all are finite.

    Returns:
      The sum of the weights in units of 2^-1074, of weight * value of 2^-2148, of weight * value^2 of 2^-3222.
    """
    cdef uint64_t[2][36] weight
    cdef uint64_t[2][70] total
    cdef uint64_t[2][103] squares
    _checked(weights, values.shape[0])
    memset(weight, 0, sizeof(weight))
    memset(total, 0, sizeof(total))
    memset(squares, 0, sizeof(squares))
    if values.shape[0]:
        with nogil:
            sums_add_weighted(weight, total, squares, &values[0], &weights[0], values.shape[0])
    return (
        _whole(weight[0], SUMS_WORDS) - _whole(weight[1], SUMS_WORDS),
        _whole(total[0], SUMS_WORDS2) - _whole(total[1], SUMS_WORDS2),
        _whole(squares[0], SUMS_WORDS3) - _whole(squares[1], SUMS_WORDS3),
    )


cdef struct Bucket:
    uint64_t key
    int64_t count  # 0 where the slot is free


cdef class Buckets:
    """Counts of numbers by the upper bits of their 64-bit form, which has the order of the numbers.

    As many bits are kept as leave at most `limit` buckets filled, so the data alone decides.
    """

    # An open hash table, at most half full.
    cdef Bucket* _slots
    cdef int64_t _size
    cdef int _shift  # 64 - log2(_size)
    cdef int64_t _filled
    cdef int64_t _limit
    cdef int _bits
    cdef uint64_t _mask

    def __cinit__(self, int64_t limit):
        """Makes no buckets, for at most `limit` of them, at least 4,096: the sign and the exponent have 12 bits."""
        self._limit = limit
        self._bits = 64
        self._mask = ~<uint64_t> 0
        self._resize(16)

    def __dealloc__(self):
        free(self._slots)

    def add(self, const double[::1] values not None, counts=None):
        """Adds float64[n], of which none is NaN, each `counts` times (int64[n]), or once."""
        cdef const int64_t[::1] times
        cdef int64_t row
        cdef bint is_done = True
        if counts is None:
            with nogil:
                for row in range(values.shape[0]):
                    is_done &= self._put(_form(values[row]), 1)
        else:
            times = _checked(counts, values.shape[0])
            with nogil:
                for row in range(values.shape[0]):
                    is_done &= self._put(_form(values[row]), times[row])
        if not is_done:
            raise MemoryError()

    def merge(self, const uint64_t[::1] keys not None, const int64_t[::1] counts not None, int bits):
        """Adds the `items` of other buckets, of which `bits` bits are kept."""
        cdef int64_t row
        cdef bint is_done = True
        _checked(counts, keys.shape[0])
        with nogil:
            if bits < self._bits:
                is_done = self._coarsen(bits)
            for row in range(keys.shape[0]):
                is_done &= self._put(keys[row], counts[row])
        if not is_done:
            raise MemoryError()

    cdef bint _put(self, uint64_t form, int64_t count) noexcept nogil:
        """Whether there was memory for it."""
        cdef Bucket* slot
        if not count:
            return True
        slot = _slot(self._slots, self._size, self._shift, form & self._mask)
        if slot.count:
            slot.count += count
            return True
        return self._fill(form, count)

    cdef bint _fill(self, uint64_t form, int64_t count) noexcept nogil:
        cdef Bucket* slot
        if self._filled == self._limit:
            # One bucket too many: whether the number still has none of its own is found out with fewer bits.
            return self._make_room(form) and self._put(form, count)
        if 2 * (self._filled + 1) > self._size and not self._resize(2 * self._size):
            return False
        slot = _slot(self._slots, self._size, self._shift, form & self._mask)
        slot.key = form & self._mask
        slot.count = count
        self._filled += 1
        return True

    cdef bint _resize(self, int64_t size) noexcept nogil:
        cdef Bucket* old = self._slots
        cdef int64_t old_size = self._size
        cdef Bucket* slots = <Bucket*> calloc(size, sizeof(Bucket))
        if slots == NULL:
            return False
        self._slots = slots
        self._size = size
        self._shift = 64
        while size > 1:
            size >>= 1
            self._shift -= 1
        self._refill(old, old_size)
        free(old)
        return True

    cdef void _refill(self, const Bucket* old, int64_t old_size) noexcept nogil:
        cdef int64_t index
        cdef Bucket* slot
        self._filled = 0
        for index in range(old_size):
            if old[index].count:
                slot = _slot(self._slots, self._size, self._shift, old[index].key & self._mask)
                self._filled += slot.count == 0
                slot.key = old[index].key & self._mask
                slot.count += old[index].count

    cdef bint _coarsen(self, int bits) noexcept nogil:
        """Keeps fewer bits."""
        self._bits = bits
        self._mask = ~<uint64_t> 0 << (64 - bits)
        return self._resize(self._size)

    cdef bint _make_room(self, uint64_t form) noexcept nogil:
        """Keeps the most bits that leave at most `limit` buckets, with that of one more number."""
        cdef int low = 12
        cdef int high = self._bits - 1  # the most that may do
        cdef int bits = high
        cdef int64_t filled
        cdef Bucket* scratch = <Bucket*> malloc(self._size * sizeof(Bucket))
        if scratch == NULL:
            return False
        while low < high:
            # Mostly one bit less does; if not, halve what is left.
            if self._filled_at(bits, form, scratch) <= self._limit:
                low = bits
            else:
                high = bits - 1
            bits = (low + high + 1) // 2
        free(scratch)
        return self._coarsen(low)

    cdef int64_t _filled_at(self, int bits, uint64_t form, Bucket* scratch) noexcept nogil:
        cdef uint64_t mask = ~<uint64_t> 0 << (64 - bits)
        cdef int64_t index, filled = 1
        cdef Bucket* slot
        memset(scratch, 0, self._size * sizeof(Bucket))
        slot = _slot(scratch, self._size, self._shift, form & mask)
        slot.key, slot.count = form & mask, 1
        for index in range(self._size):
            if self._slots[index].count:
                slot = _slot(scratch, self._size, self._shift, self._slots[index].key & mask)
                filled += slot.count == 0
                slot.key, slot.count = self._slots[index].key & mask, 1
        return filled

    def bits(self):
        """Returns how many of the 64 bits are kept."""
        return self._bits

    def items(self):
        """Returns the filled buckets in order: uint64[m], the form of the least number; and int64[m], the counts."""
        found_keys = np.empty(self._filled, np.uint64)
        found_counts = np.empty(self._filled, np.int64)
        cdef uint64_t[::1] keys = found_keys
        cdef int64_t[::1] counts = found_counts
        cdef int64_t index, place = 0
        for index in range(self._size):
            if self._slots[index].count:
                keys[place] = self._slots[index].key
                counts[place] = self._slots[index].count
                place += 1
        order = np.argsort(found_keys)
        return found_keys[order], found_counts[order]


cdef inline Bucket* _slot(Bucket* slots, int64_t size, int shift, uint64_t key) noexcept nogil:
    """The slot of a key, or the free one for it."""
    cdef int64_t index = <int64_t> (key * SPREAD >> shift)
    while slots[index].count and slots[index].key != key:
        index = (index + 1) & (size - 1)
    return &slots[index]


cdef inline uint64_t _form(double value) noexcept nogil:
    """The 64 bits of a double, turned so that they have its order; of one zero."""
    cdef uint64_t bits
    value += 0.0
    memcpy(&bits, &value, 8)
    return bits ^ (<uint64_t> (<int64_t> bits >> 63) | SIGN)


cdef class LeastHashes:
    """The least of different 64-bit hashes."""

    # An open hash table of all hashes below `_bound`: at least `_limit` of them, once that is not the greatest.
    cdef uint64_t* _slots
    cdef int64_t _size
    cdef int64_t _filled
    cdef int64_t _limit
    cdef uint64_t _bound
    cdef bint _has_zero  # marks free slots
    cdef bint _has_greatest  # is not below any bound

    def __cinit__(self, int64_t limit):
        """Keeps the least `limit` hashes."""
        self._limit = limit
        self._bound = ~<uint64_t> 0
        self._size = 64
        self._slots = <uint64_t*> calloc(self._size, 8)
        if self._slots == NULL:
            raise MemoryError()

    def __dealloc__(self):
        free(self._slots)

    def add(self, const uint64_t[::1] hashes not None):
        """Adds uint64[n], repeated ones too."""
        cdef int64_t row
        cdef bint is_done = True
        with nogil:
            for row in range(hashes.shape[0]):
                if hashes[row] < self._bound:
                    is_done &= self._put(hashes[row])
                elif hashes[row] == ~<uint64_t> 0:
                    self._has_greatest = True
        if not is_done:
            raise MemoryError()

    cdef inline bint _put(self, uint64_t value) noexcept nogil:
        cdef int64_t index = <int64_t> (value & <uint64_t> (self._size - 1))
        if not value:
            self._has_zero = True
            return True
        while self._slots[index] != value:
            if not self._slots[index]:
                self._slots[index] = value
                self._filled += 1
                return 4 * self._filled <= 3 * self._size or self._make_room()
            index = (index + 1) & (self._size - 1)
        return True

    cdef bint _make_room(self) noexcept nogil:
        """Drops what is not among the least, if that is a quarter of them; else doubles the table."""
        cdef uint64_t bound = self._lower_bound()
        cdef int64_t index, kept = 0
        for index in range(self._size):
            kept += self._slots[index] != 0 and self._slots[index] < bound
        if 4 * (self._filled - kept) >= self._filled:
            self._bound = bound
            return self._rebuild(self._size)
        return self._rebuild(2 * self._size)

    cdef uint64_t _lower_bound(self) noexcept nogil:
        """A bound that leaves at least `limit` hashes, by a histogram of 256 ranges up to the present one."""
        cdef int64_t[257] ranges
        cdef uint64_t width = (self._bound >> 8) + 1
        cdef int64_t index, below = 0
        if self._filled <= self._limit:
            return self._bound
        memset(ranges, 0, sizeof(ranges))
        for index in range(self._size):
            if self._slots[index]:
                ranges[self._slots[index] // width] += 1
        for index in range(256):
            below += ranges[index]
            if below >= self._limit:
                return min(self._bound, width * <uint64_t> (index + 1) if index < 255 else self._bound)
        return self._bound

    cdef bint _rebuild(self, int64_t size) noexcept nogil:
        cdef uint64_t* old = self._slots
        cdef int64_t index, old_size = self._size
        cdef uint64_t* slots = <uint64_t*> calloc(size, 8)
        if slots == NULL:
            return False
        self._slots = slots
        self._size = size
        self._filled = 0
        for index in range(old_size):
            if old[index] and old[index] < self._bound:
                self._put(old[index])
        free(old)
        return True

    def items(self):
        """Returns uint64[m] in ascending order."""
        cdef int64_t index
        slots = np.empty(self._size, np.uint64)
        cdef uint64_t[::1] copied = slots
        for index in range(self._size):
            copied[index] = self._slots[index]
        ends = [0] * self._has_zero, [0xFFFF_FFFF_FFFF_FFFF] * self._has_greatest
        zero, greatest = (np.array(end, np.uint64) for end in ends)
        return np.concatenate([zero, np.sort(slots[slots != 0]), greatest])[: self._limit]


def hash_numbers(values not None):
    """Hashes int64[n], uint64[n] or float64[n]: `hash_bits` of the float that is equal to a number.

    Floats have one zero and one NaN. An integer that no float is equal to is hashed as its own bits with a second seed.
    """
    cdef const uint64_t[::1] bits = values.view(np.uint64)
    cdef bint is_float = values.dtype == np.float64, is_signed = values.dtype == np.int64
    cdef int64_t row
    found = np.empty(bits.shape[0], np.uint64)
    cdef uint64_t[::1] hashes = found
    with nogil:
        for row in range(bits.shape[0]):
            hashes[row] = _mixed(
                (_float_bits(bits[row]) if is_float else _int_bits(bits[row], is_signed)) ^ HASH_SEED
            )
    return found


def hash_bits(const uint64_t[::1] bits not None):
    """Hashes uint64[n] by a bijection, so different ones have different hashes: SplitMix64's, with a seed."""
    cdef int64_t row
    found = np.empty(bits.shape[0], np.uint64)
    cdef uint64_t[::1] hashes = found
    with nogil:
        for row in range(bits.shape[0]):
            hashes[row] = _mixed(bits[row] ^ HASH_SEED)
    return found


cdef inline uint64_t _float_bits(uint64_t bits) noexcept nogil:
    cdef double value
    memcpy(&value, &bits, 8)
    return _canonical(value)


cdef inline uint64_t _int_bits(uint64_t bits, bint is_signed) noexcept nogil:
    """The bits of the float that is equal to an integer; without one the integer's, turned by the second seed."""
    cdef uint64_t magnitude = 0 - bits if is_signed and <int64_t> bits < 0 else bits
    if magnitude >> 53 and magnitude // (magnitude & (0 - magnitude)) >> 53:
        return bits ^ INEXACT
    return _canonical(<double> <int64_t> bits if is_signed else <double> bits)


cdef inline uint64_t _canonical(double value) noexcept nogil:
    cdef uint64_t bits
    value += 0.0
    memcpy(&bits, &value, 8)
    return bits if value == value else <uint64_t> 0x7FF8000000000000ULL


cdef inline uint64_t _mixed(uint64_t value) noexcept nogil:
    value = (value ^ value >> 30) * <uint64_t> 0xBF58476D1CE4E5B9ULL
    value = (value ^ value >> 27) * <uint64_t> 0x94D049BB133111EBULL
    return value ^ value >> 31


def unhash_bits(const uint64_t[::1] hashes not None):
    """Returns what `hash_bits` hashed."""
    cdef int64_t row
    cdef uint64_t value
    found = np.empty(hashes.shape[0], np.uint64)
    cdef uint64_t[::1] bits = found
    with nogil:
        for row in range(hashes.shape[0]):
            value = hashes[row]
            # The inverses of the factors modulo 2^64.
            value = (value ^ value >> 31 ^ value >> 62) * <uint64_t> 0x319642B2D24D8EC3ULL
            value = (value ^ value >> 27 ^ value >> 54) * <uint64_t> 0x96DE1B173F119089ULL
            bits[row] = (value ^ value >> 30 ^ value >> 60) ^ HASH_SEED
    return found


def hash_texts(texts not None):
    """Hashes the bytes of each text: XXH64 with a seed of its own.

    Args:
      texts: one column of string, binary or their large forms, without nulls.
    """
    cdef Columns columns = Columns(texts)
    cdef const Values* values = _texts(columns)
    cdef int64_t row
    cdef Span text
    found = np.empty(columns.rows, np.uint64)
    cdef uint64_t[::1] hashes = found
    with nogil:
        for row in range(columns.rows):
            text = text_at(values, row)
            hashes[row] = xxh64(values.data + text.start, text.end - text.start, HASH_SEED)
    return found


cdef const Values* _texts(Columns columns) except NULL:
    """The values of the only column; numbers would have no offsets."""
    if columns.size != 1 or columns.columns[0].is_list or columns.columns[0].kind != 2:
        raise TypeError("texts must be one column of strings or bytes")
    return &columns.columns[0].items


cdef class Counter:
    """Different values with their counts, in the order in which they came.

    Values are known by their hashes; texts by their bytes too.
    """

    # Entries, and an open hash table of 1 + their places, at most half full.
    cdef uint64_t* _hashes
    cdef int64_t* _counts
    cdef int64_t* _ends  # of the texts
    cdef uint8_t* _texts
    cdef int32_t* _slots
    cdef int64_t _filled
    cdef int64_t _room
    cdef int64_t _text_room
    cdef int64_t _size

    def __cinit__(self):
        """Makes an empty counter."""
        if not self._grow_table(16):
            raise MemoryError()

    def __dealloc__(self):
        self._free()

    cdef void _free(self) noexcept:
        free(self._hashes)
        free(self._counts)
        free(self._ends)
        free(self._texts)
        free(self._slots)
        self._hashes, self._counts, self._ends, self._texts, self._slots = NULL, NULL, NULL, NULL, NULL
        self._filled = self._room = self._text_room = self._size = 0

    def add(self, const uint64_t[::1] hashes not None, counts=None, texts=None):
        """Adds values with their hashes, uint64[n], each `counts` times (int64[n]), or once; numbers without `texts`.

        The hashes are those of `hash_bits` or `hash_texts`; a counter holds either numbers or texts.
        """
        cdef const int64_t[::1] times
        cdef const int64_t* each = NULL
        cdef Columns columns
        cdef const Values* values = NULL
        cdef int64_t row
        cdef bint is_done = True
        if counts is not None and len(_checked(counts, hashes.shape[0])):
            times = counts
            each = &times[0]
        if texts is not None:
            columns = Columns(_checked(texts, hashes.shape[0]))
            values = _texts(columns)
        with nogil:
            for row in range(hashes.shape[0]):
                is_done &= self._put(hashes[row], each[row] if each != NULL else 1, values, row)
        if not is_done:
            raise MemoryError()

    cdef inline bint _put(self, uint64_t value_hash, int64_t count, const Values* texts, int64_t row) noexcept nogil:
        cdef Span text = text_at(texts, row) if texts != NULL else Span(0, 0)
        cdef const uint8_t* data = texts.data + text.start if texts != NULL else NULL
        cdef int64_t slot = <int64_t> (value_hash & <uint64_t> (self._size - 1))
        while self._slots[slot]:
            if self._is(self._slots[slot] - 1, value_hash, data, text.end - text.start):
                self._counts[self._slots[slot] - 1] += count
                return True
            slot = (slot + 1) & (self._size - 1)
        if not self._append(value_hash, count, data, text.end - text.start):
            return False
        self._slots[slot] = <int32_t> self._filled
        return 2 * self._filled <= self._size or self._grow_table(2 * self._size)

    cdef inline bint _is(self, int64_t place, uint64_t value_hash, const uint8_t* text, int64_t size) noexcept nogil:
        cdef int64_t start = self._start(place)
        return (
            self._hashes[place] == value_hash
            and self._ends[place] - start == size
            and same_bytes(self._texts + start, text, size)
        )

    cdef inline int64_t _start(self, int64_t place) noexcept nogil:
        return self._ends[place - 1] if place else 0

    cdef bint _append(self, uint64_t value_hash, int64_t count, const uint8_t* text, int64_t size) noexcept nogil:
        cdef int64_t start = self._start(self._filled)
        if self._filled == self._room and not self._grow_entries():
            return False
        if start + size > self._text_room and not self._grow_texts(start + size):
            return False
        if size:
            memcpy(self._texts + start, text, size)
        self._hashes[self._filled] = value_hash
        self._counts[self._filled] = count
        self._ends[self._filled] = start + size
        self._filled += 1
        return True

    cdef bint _grow_entries(self) noexcept nogil:
        cdef int64_t room = max(2 * self._room, 16)
        cdef void* hashes = realloc(self._hashes, 8 * room)
        if hashes == NULL:
            return False
        self._hashes = <uint64_t*> hashes
        cdef void* counts = realloc(self._counts, 8 * room)
        if counts == NULL:
            return False
        self._counts = <int64_t*> counts
        cdef void* ends = realloc(self._ends, 8 * room)
        if ends == NULL:
            return False
        self._ends = <int64_t*> ends
        self._room = room
        return True

    cdef bint _grow_texts(self, int64_t least) noexcept nogil:
        cdef int64_t room = max(2 * self._text_room, least, 64)
        cdef void* texts = realloc(self._texts, room)
        if texts == NULL:
            return False
        self._texts = <uint8_t*> texts
        self._text_room = room
        return True

    cdef bint _grow_table(self, int64_t size) noexcept nogil:
        cdef int64_t place, slot
        cdef int32_t* slots = <int32_t*> calloc(size, sizeof(int32_t))
        if slots == NULL:
            return False
        free(self._slots)
        self._slots = slots
        self._size = size
        for place in range(self._filled):
            slot = <int64_t> (self._hashes[place] & <uint64_t> (size - 1))
            while slots[slot]:
                slot = (slot + 1) & (size - 1)
            slots[slot] = <int32_t> (place + 1)
        return True

    def keep(self, const int64_t[::1] places not None, const int64_t[::1] counts not None):
        """Keeps the entries at these places, int64[m], with new counts, int64[m]."""
        hashes = self.hashes()[np.asarray(places)]
        texts = pa.record_batch([self.texts().take(pa.array(np.asarray(places), pa.int64()))], ["text"])
        self._free()
        if not self._grow_table(16):
            raise MemoryError()
        self.add(hashes, counts, texts)

    def size(self):
        """Returns the number of different values."""
        return self._filled

    def text_bytes(self):
        """Returns how many bytes the texts have."""
        return self._start(self._filled)

    def hashes(self):
        """Returns uint64[size]."""
        return np.frombuffer((<const uint8_t*> self._hashes)[: 8 * self._filled] if self._filled else b"", np.uint64)

    def counts(self):
        """Returns int64[size]."""
        return np.frombuffer((<const uint8_t*> self._counts)[: 8 * self._filled] if self._filled else b"", np.int64)

    def texts(self):
        """Returns the texts, all of them empty for numbers."""
        ends = (<const uint8_t*> self._ends)[: 8 * self._filled] if self._filled else b""
        data = (<const uint8_t*> self._texts)[: self._start(self._filled)] if self._text_room else b""
        buffers = [None, pa.py_buffer(bytes(8) + ends), pa.py_buffer(data)]
        return pa.Array.from_buffers(pa.large_binary(), self._filled, buffers)


def different_numbers(values not None, bint with_places=False):
    """Finds the different ones of int64[n], uint64[n] or float64[n], unless most of them seem to differ.

    That is told by the first values (`penstock.io.kernel.shared.statistics.SAMPLE`), or by their range (`NEAR`).

    Returns:
      None where most differ. Else the m different values of the same type, in any order, floats with one zero and one
      NaN; int64[m], how often each is there; and with `with_places` int64[n], which of these each value is, or None.
    """
    cdef bint is_float = values.dtype == np.float64, is_signed = values.dtype == np.int64
    cdef const uint64_t[::1] bits = _canonical_bits(values) if is_float else values.view(np.uint64)
    cdef int64_t rows = bits.shape[0], found = 0, repeated = least_repeated(rows, TIMES_OF_NUMBERS)
    different, rest = np.empty(rows, np.uint64), np.empty((1 + with_places, rows), np.int64)
    cdef uint64_t[::1] numbers = different
    cdef int64_t[:, ::1] places = rest
    cdef int64_t* each = &places[1, 0] if with_places and rows else NULL
    if rows:
        with nogil:
            found = FAR
            if not is_float:
                found = different_near(&bits[0], rows, is_signed, MOST_NEAR, &numbers[0], &places[0, 0], each)
            if found == FAR:
                found = c_numbers(
                    &bits[0], rows, SAMPLE_ROWS, repeated, &numbers[0], &places[0, 0], each
                )
    if _is_many(found):
        return None
    return different[:found].view(values.dtype).copy(), rest[0, :found].copy(), rest[1] if with_places else None


def different_texts(texts not None, bint with_places=False):
    """Finds the different ones of n texts, as `different_numbers` those of numbers.

    Args:
      texts: one column of string, binary or their large forms, without nulls.
      with_places: whether to say which text is where.

    Returns:
      None where most differ. Else int64[m], a row of each different text; and counts and places.
    """
    cdef Columns columns = Columns(texts)
    cdef const Values* values = _texts(columns)
    cdef int64_t rows = columns.rows, found = 0, repeated = least_repeated(rows, TIMES_OF_TEXTS)
    different, rest = np.empty(rows, np.int64), np.empty((1 + with_places, rows), np.int64)
    cdef int64_t[::1] firsts = different
    cdef int64_t[:, ::1] places = rest
    cdef int64_t* each = &places[1, 0] if with_places and rows else NULL
    if rows:
        with nogil:
            found = c_texts(
                values.data, values.offsets, values.form == LARGE_TEXT, rows, SAMPLE_ROWS, repeated,
                &firsts[0], &places[0, 0], each,
            )
    if _is_many(found):
        return None
    return different[:found].copy(), rest[0, :found].copy(), rest[1] if with_places else None


cdef bint _is_many(int64_t found) except -1:
    if found == NO_MEMORY:
        raise MemoryError()
    return found == MANY


cdef object _canonical_bits(const double[::1] values):
    """uint64[n], of one zero and one NaN."""
    cdef int64_t row
    found = np.empty(values.shape[0], np.uint64)
    cdef uint64_t[::1] bits = found
    with nogil:
        for row in range(values.shape[0]):
            bits[row] = _canonical(values[row])
    return found


def add_counts(int64_t[:, ::1] table not None, const uint64_t[::1] hashes not None, counts=None):
    """Adds uint64[n] to a Count-Min table, each `counts` times, or once.

    Args:
      table: int64[4, width], changed in place; width is a power of two, at most 2^16. A row has 16 bits of the hash.
      hashes: of the values.
      counts: int64[n].
    """
    cdef const int64_t[::1] times
    cdef const int64_t* each = NULL
    cdef int64_t row, index
    cdef uint64_t mask = table.shape[1] - 1
    if counts is not None and len(_checked(counts, hashes.shape[0])):
        times = counts
        each = &times[0]
    with nogil:
        for index in range(hashes.shape[0]):
            for row in range(table.shape[0]):
                table[row, hashes[index] >> (ROW_BITS * row) & mask] += each[index] if each != NULL else 1


def estimate_counts(const int64_t[:, ::1] table not None, const uint64_t[::1] hashes not None):
    """Returns int64[n]: for each hash the least of its counts in a Count-Min table."""
    cdef int64_t row, index, least
    cdef uint64_t mask = table.shape[1] - 1
    found = np.empty(hashes.shape[0], np.int64)
    cdef int64_t[::1] estimates = found
    with nogil:
        for index in range(hashes.shape[0]):
            least = table[0, hashes[index] & mask]
            for row in range(1, table.shape[0]):
                least = min(least, table[row, hashes[index] >> (ROW_BITS * row) & mask])
            estimates[index] = least
    return found


def describe_texts(texts not None, counts=None):
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
    cdef Columns columns = Columns(texts)
    cdef const Values* values = _texts(columns)
    cdef const int64_t[::1] times
    cdef const int64_t* each = NULL
    cdef int64_t row, count, characters, size, found = 0, total = 0, least = -1, greatest = -1
    cdef Span text
    found_codes, found_short = np.zeros(256, np.int64), np.zeros(SHORT, np.int64)
    cdef int64_t[::1] codes = found_codes
    cdef int64_t[::1] short = found_short
    cdef int64_t[:, ::1] longer = np.empty((2, 0), np.int64)
    if counts is not None and len(_checked(counts, columns.rows)):
        times = counts
        each = &times[0]
    if values.end - (text_at(values, 0).start if columns.rows else 0) >= SHORT:
        longer = np.empty((2, columns.rows), np.int64)
    with nogil:
        for row in range(columns.rows):
            count = each[row] if each != NULL else 1
            if not count:
                continue
            text = text_at(values, row)
            size = text.end - text.start
            codes[pattern_describe(values.data + text.start, size, &characters)] += count
            if characters < SHORT_TEXT:
                short[characters] += count
            else:
                longer[0, found], longer[1, found] = characters, count
                found += 1
            total += count * size
            least = size if least < 0 or size < least else least
            greatest = size if size > greatest else greatest
    lengths, others = np.asarray(longer)[:, :found].copy()
    return found_codes, found_short, lengths, others, total, least, greatest


def pack_uints(const uint64_t[::1] values not None):
    """Returns uint64[n] as varints (LEB128), 1 to 10 bytes each."""
    cdef int64_t row, size = 0
    cdef uint64_t value
    cdef uint8_t* data = <uint8_t*> malloc(MOST_GROUPS * values.shape[0] + 1)
    if data == NULL:
        raise MemoryError()
    with nogil:
        for row in range(values.shape[0]):
            value = values[row]
            while value > 0x7F:
                data[size] = <uint8_t> (value | 0x80)
                value >>= 7
                size += 1
            data[size] = <uint8_t> value
            size += 1
    try:
        return data[:size]
    finally:
        free(data)


def unpack_uints(const uint8_t[::1] data not None):
    """Returns uint64[n] of `pack_uints`; bits beyond 64 are dropped.

    Raises:
      ValueError: for more than 10 bytes of one number, and where the last one is cut.
    """
    cdef int64_t place, count = 0, groups = 0
    cdef uint64_t value = 0
    cdef bint is_sound = True
    found = np.empty(data.shape[0], np.uint64)
    cdef uint64_t[::1] values = found
    with nogil:
        for place in range(data.shape[0]):
            if groups == MOST_GROUPS:
                is_sound = False
                break
            value |= <uint64_t> (data[place] & 0x7F) << (7 * groups)
            groups += 1
            if data[place] < 0x80:
                values[count] = value
                count += 1
                value = groups = 0
    if not is_sound or groups:
        raise ValueError("the bytes are no varints")
    return found[:count].copy()
