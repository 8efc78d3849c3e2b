# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Sorting encoded records, and copying them in that order."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memset

import numpy as np


cdef extern from * nogil:
    """
    #include <fcntl.h>

    static inline void punch_hole(int file, int64_t start, int64_t size) {
    #ifdef FALLOC_FL_PUNCH_HOLE
        (void)!fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, size);
    #endif
    }

    static inline void prefetch_record(const uint8_t *at, int64_t size) {
        for (int64_t line = 0; line < size && line < 512; line += 64) __builtin_prefetch(at + line);
    }
    """
    void punch_hole(int file, int64_t start, int64_t size)
    void prefetch_record(const uint8_t* at, int64_t size)


cdef enum:
    # Bytes of a key, then those of a split.
    _DIGITS = 10
    _VALUES = 256
    # Records that are on their way from memory while one is copied.
    _AHEAD = 4


cdef struct Entry:
    uint64_t key
    uint32_t row
    uint16_t split


cdef struct Records:
    const uint16_t* splits
    const uint64_t* keys
    const uint8_t* data
    const int64_t* offsets
    int64_t count


def discard(int file, int64_t start, int64_t end):
    """Gives back the disk and the cached pages between two places of a file, where the system can: they read as zeros."""
    if start < end:
        with nogil:
            punch_hole(file, start, end - start)


def sort_order(
    const uint16_t[::1] splits not None,
    const uint64_t[::1] keys not None,
    const unsigned char[::1] data not None,
    const int64_t[::1] offsets not None,
):
    """See `penstock.io.kernel.pure.runs`."""
    cdef int64_t count = keys.shape[0]
    _check(data.shape[0], offsets)
    if splits.shape[0] != count or offsets.shape[0] != count + 1:
        raise ValueError("splits, keys and offsets must be of as many records")
    if count > <int64_t>0xFFFFFFFF:
        raise ValueError("too many records")
    if count < 2:
        return None
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    cdef Records records = Records(&splits[0], &keys[0], start, &offsets[0], count)
    cdef bint is_sorted
    cdef Entry* entries
    cdef Entry* spare
    cdef int64_t[::1] order
    cdef int64_t row
    with nogil:
        is_sorted = _is_sorted(&records)
    if is_sorted:
        return None
    found = np.empty(count, np.int64)
    order = found
    entries = <Entry*>malloc(<size_t>count * 2 * sizeof(Entry))
    if entries == NULL:
        raise MemoryError
    spare = entries + count
    with nogil:
        for row in range(count):
            entries[row] = Entry(records.keys[row], <uint32_t>row, records.splits[row])
        if _radix_sort(entries, spare, count):
            entries, spare = spare, entries
        _sort_ties(&records, entries, spare)
        for row in range(count):
            order[row] = entries[row].row
        free(entries if entries < spare else spare)
    return found


def gather(
    const unsigned char[::1] data not None,
    const int64_t[::1] offsets not None,
    const int64_t[::1] order not None,
    int64_t index,
    int64_t skip,
    unsigned char[::1] out not None,
    int64_t filled,
):
    """Copies records in `order`, from byte `skip` of number `index` on, to `out[filled:]` until one of them ends.

    Returns index, skip and filled as they are then.
    """
    cdef int64_t count = order.shape[0], rows = offsets.shape[0] - 1, end = data.shape[0], capacity = out.shape[0]
    cdef int64_t start, size
    cdef bint is_valid = index >= 0 and skip >= 0 and 0 <= filled <= capacity
    with nogil:
        while is_valid and index < count and filled < capacity:
            if index + _AHEAD < count and _has(rows, end, offsets, order[index + _AHEAD]):
                start = offsets[order[index + _AHEAD]]
                prefetch_record(&data[0] + start, offsets[order[index + _AHEAD] + 1] - start)
            is_valid = _has(rows, end, offsets, order[index])
            if not is_valid:
                break
            start = offsets[order[index]] + skip
            size = offsets[order[index] + 1] - start
            is_valid = size >= 0
            if size > capacity - filled:
                size = capacity - filled
                skip += size
            else:
                skip = 0
                index += 1
            if size > 0:
                memcpy(&out[filled], &data[start], <size_t>size)
                filled += size
    if not is_valid:
        raise IndexError("no such record")
    return index, skip, filled


cdef inline bint _has(int64_t rows, int64_t end, const int64_t[::1] offsets, int64_t row) noexcept nogil:
    return 0 <= row < rows and 0 <= offsets[row] <= offsets[row + 1] <= end


cdef int _check(int64_t size, const int64_t[::1] offsets) except -1:
    cdef int64_t count = offsets.shape[0] - 1, row
    cdef bint is_valid
    if count < 0:
        raise ValueError("offsets must have an end")
    is_valid = offsets[0] >= 0 and offsets[count] <= size
    with nogil:
        for row in range(count):
            is_valid &= offsets[row] <= offsets[row + 1]
    if not is_valid:
        raise ValueError("offsets must ascend within the data")
    return 0


cdef inline int _compare_bytes(const Records* records, int64_t one, int64_t other) noexcept nogil:
    cdef int64_t one_size = records.offsets[one + 1] - records.offsets[one]
    cdef int64_t other_size = records.offsets[other + 1] - records.offsets[other]
    cdef int64_t size = one_size if one_size < other_size else other_size
    cdef int found = 0
    if size:
        found = memcmp(records.data + records.offsets[one], records.data + records.offsets[other], <size_t>size)
    return found if found else (one_size > other_size) - (one_size < other_size)


cdef bint _is_sorted(const Records* records) noexcept nogil:
    cdef int64_t row
    for row in range(1, records.count):
        if records.splits[row - 1] != records.splits[row]:
            if records.splits[row - 1] > records.splits[row]:
                return False
        elif records.keys[row - 1] != records.keys[row]:
            if records.keys[row - 1] > records.keys[row]:
                return False
        elif _compare_bytes(records, row - 1, row) > 0:
            return False
    return True


cdef inline int _digit(const Entry* entry, int digit) noexcept nogil:
    return (entry.key >> (8 * digit) if digit < 8 else <uint64_t>entry.split >> (8 * (digit - 8))) & 0xFF


cdef bint _radix_sort(Entry* entries, Entry* spare, int64_t count) noexcept nogil:
    """Sorts by key and split, stable, from the least digit to the greatest; True when `spare` has the result."""
    cdef int64_t counts[_DIGITS][_VALUES]
    cdef int64_t row, start, size
    cdef int digit, value
    cdef bint is_swapped = False
    memset(counts, 0, sizeof(counts))
    for row in range(count):
        for digit in range(_DIGITS):
            counts[digit][_digit(&entries[row], digit)] += 1
    for digit in range(_DIGITS):
        if counts[digit][_digit(&entries[0], digit)] == count:
            continue
        start = 0
        for value in range(_VALUES):
            size = counts[digit][value]
            counts[digit][value] = start
            start += size
        for row in range(count):
            value = _digit(&entries[row], digit)
            spare[counts[digit][value]] = entries[row]
            counts[digit][value] += 1
        entries, spare = spare, entries
        is_swapped = not is_swapped
    return is_swapped


cdef void _sort_ties(const Records* records, Entry* entries, Entry* spare) noexcept nogil:
    """Sorts by their bytes the records that share split and key."""
    cdef int64_t first = 0, last
    while first < records.count:
        last = first + 1
        while (
            last < records.count
            and entries[last].key == entries[first].key
            and entries[last].split == entries[first].split
        ):
            last += 1
        if last - first > 1:
            _merge_sort(records, entries + first, spare + first, last - first)
        first = last


cdef void _merge_sort(const Records* records, Entry* entries, Entry* spare, int64_t count) noexcept nogil:
    cdef int64_t half = count // 2, left = 0, right = half, row
    if count < 2:
        return
    _merge_sort(records, entries, spare, half)
    _merge_sort(records, entries + half, spare + half, count - half)
    if _compare_bytes(records, entries[half - 1].row, entries[half].row) <= 0:
        return
    memcpy(spare, entries, <size_t>half * sizeof(Entry))
    for row in range(count):
        if left == half:
            break
        if right == count or _compare_bytes(records, spare[left].row, entries[right].row) <= 0:
            entries[row] = spare[left]
            left += 1
        else:
            entries[row] = entries[right]
            right += 1
