# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Encoded records: sorting them, copying them in that order, joining them from parts and taking them apart."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
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

    /* Copies of a known size are one or two instructions; there is room for 32 bytes behind `to`. */
    static inline void copy_short(uint8_t *to, const uint8_t *from, const uint8_t *end, int64_t size) {
        if (size <= 16 && end - from >= 16)
            memcpy(to, from, 16);
        else if (size <= 32 && end - from >= 32)
            memcpy(to, from, 32);
        else if (size)
            memcpy(to, from, (size_t)size);
    }

    static inline void copy_fixed(uint8_t *to, const uint8_t *from, int64_t size) {
        if (size == 4)
            memcpy(to, from, 4);
        else if (size == 8)
            memcpy(to, from, 8);
        else
            memcpy(to, from, (size_t)size);
    }

    static inline uint32_t load_length(const uint8_t *at) {
        return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
    }
    """
    void copy_short(uint8_t* to, const uint8_t* source, const uint8_t* end, int64_t size)
    void copy_fixed(uint8_t* to, const uint8_t* source, int64_t size)
    uint32_t load_length(const uint8_t* at)
    void punch_hole(int file, int64_t start, int64_t size)
    void prefetch_record(const uint8_t* at, int64_t size)


cdef enum:
    # Bytes of a key, then those of a split.
    _DIGITS = 10
    _VALUES = 256
    # Records that are on their way from memory while one is copied.
    _AHEAD = 8
    # The room that `copy_short` needs behind an output.
    _SPARE = 32
    # The length of a list, or of a text in one, that is null.
    _NO_LIST = 0xFFFFFFFF


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


cdef struct Part:
    # Bytes of each row, `step` apart; or, of varying sizes, between `bounds`.
    const uint8_t* data
    const uint8_t* end
    const int64_t* bounds
    int64_t size
    int64_t step


cdef struct Taken:
    # A column that is taken out of records: where its fixed part is, and where that goes; the first of its pieces.
    int64_t levels
    int64_t width
    bint is_bytes
    int64_t start
    int64_t fixed
    uint8_t* values
    int64_t piece


cdef struct Output:
    int64_t size
    uint8_t* at


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
            if index + 2 * _AHEAD < count and 0 <= order[index + 2 * _AHEAD] < rows:
                prefetch_record(<const uint8_t*> &offsets[order[index + 2 * _AHEAD]], 8)
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


def join_parts(int64_t rows, fixed, pieces):
    """See `penstock.io.kernel.pure.runs`."""
    cdef int64_t parts = len(fixed), count = len(pieces), index, width = 0, total = 0
    cdef const unsigned char[:, ::1] values
    cdef const unsigned char[::1] data
    cdef const int64_t[::1] bounds
    cdef int64_t[::1] ends
    cdef unsigned char[::1] content
    cdef Part* found = <Part*>calloc(<size_t>(parts + count + 1), sizeof(Part))
    if found == NULL:
        raise MemoryError
    kept = []  # the memory that `found` points to
    try:
        if rows < 0:
            raise ValueError("rows must be a number")
        for index in range(parts):
            values = fixed[index]
            if values.shape[0] != rows and values.shape[0] != 1:
                raise ValueError("fixed parts must be of as many rows")
            kept.append(values)
            found[index].size = values.shape[1]
            found[index].step = values.shape[1] if values.shape[0] == rows else 0
            if values.shape[0] and values.shape[1]:
                found[index].data = &values[0, 0]
            found[index].end = found[index].data + values.shape[0] * values.shape[1]
            width += values.shape[1]
        for index in range(parts, parts + count):
            data, bounds = pieces[index - parts]
            _check(data.shape[0], bounds)
            if bounds.shape[0] != rows + 1:
                raise ValueError("pieces must be of as many rows")
            kept += [data, bounds]
            if data.shape[0]:
                found[index].data = &data[0]
            found[index].end = found[index].data + data.shape[0]
            found[index].bounds = &bounds[0]
            total += bounds[rows] - bounds[0]
        offsets = np.empty(rows + 1, np.int64)
        ends = offsets
        total += rows * width
        joined = np.empty(total + _SPARE, np.uint8)
        content = joined
        with nogil:
            _join(found, parts, count, rows, &ends[0], &content[0])
    finally:
        free(found)
    return joined[:total], offsets


cdef void _join(
    const Part* found, int64_t parts, int64_t count, int64_t rows, int64_t* ends, uint8_t* out
) noexcept nogil:
    cdef int64_t row, index
    cdef uint8_t* at = out
    cdef const Part* part
    for row in range(rows):
        ends[row] = at - out
        for index in range(parts):
            part = found + index
            copy_short(at, part.data + row * part.step, part.end, part.size)
            at += part.size
        for index in range(parts, parts + count):
            part = found + index
            copy_short(at, part.data + part.bounds[row], part.end, part.bounds[row + 1] - part.bounds[row])
            at += part.bounds[row + 1] - part.bounds[row]
    ends[rows] = at - out


def take_apart(
    const unsigned char[::1] data not None, const int64_t[::1] offsets not None, int64_t flag_bytes, columns
):
    """See `penstock.io.kernel.pure.runs`."""
    # The flags are taken as a first column.
    cdef int64_t rows = offsets.shape[0] - 1, count = len(columns) + 1, index, pieces = 0, start = 0
    cdef unsigned char[:, ::1] values
    cdef unsigned char[::1] content
    cdef const uint8_t* records = &data[0] if data.shape[0] else NULL
    cdef bint is_valid
    cdef Taken* taken
    cdef Output* outputs
    _check(data.shape[0], offsets)
    if flag_bytes * 8 < 2 * (count - 1):
        raise ValueError("flags must have two bits for each column")
    for levels, width, is_bytes in columns:
        if levels < is_bytes or width < 1:
            raise ValueError("texts must be lists of bytes")
        pieces += _count(levels, is_bytes)
    taken = <Taken*>calloc(<size_t>count, sizeof(Taken))
    outputs = <Output*>calloc(<size_t>pieces + 1, sizeof(Output))
    try:
        if taken == NULL or outputs == NULL:
            raise MemoryError
        pieces = 0
        for index, (levels, width, is_bytes) in enumerate([(0, flag_bytes, False), *columns]):
            taken[index] = Taken(levels, width, is_bytes, start, 4 if levels else width, NULL, pieces)
            start += taken[index].fixed
            pieces += _count(levels, is_bytes)
        with nogil:
            is_valid = _walk(records, offsets, taken, count, outputs, start, False)
        if not is_valid:
            raise ValueError("a record is not of these columns")
        fixed, found = [], []
        for index in range(count):
            values = made = np.empty((rows, taken[index].fixed), np.uint8)
            fixed.append(made)
            taken[index].values = &values[0, 0] if rows and taken[index].fixed else NULL
        for index in range(pieces):
            content = made = np.empty(outputs[index].size + _SPARE, np.uint8)
            found.append(made[: outputs[index].size])
            outputs[index].at = &content[0]
        with nogil:
            _walk(records, offsets, taken, count, outputs, start, True)
        return fixed[0], fixed[1:], _by_column(found, columns)
    finally:
        free(taken)
        free(outputs)


def _by_column(found, columns):
    pieces = iter(found)
    return [[next(pieces) for _ in range(_count(levels, is_bytes))] for levels, _, is_bytes in columns]


cdef inline int64_t _count(int64_t levels, bint is_bytes) noexcept:
    """Of the pieces of a column: the lengths of each level but the first, nulls of values that are no texts, values."""
    return levels + (levels > 0 and not is_bytes)


cdef bint _walk(
    const uint8_t* data,
    const int64_t[::1] offsets,
    const Taken* columns,
    int64_t count,
    Output* outputs,
    int64_t fixed,
    bint copies,
) noexcept nogil:
    """Adds up the sizes of the pieces, and finds whether the records are whole; or, once they are, copies the pieces."""
    cdef int64_t rows = offsets.shape[0] - 1, row, index, level, items, total, item
    cdef const uint8_t* start
    cdef const uint8_t* at
    cdef const uint8_t* end
    cdef const uint8_t* limit = data + offsets[rows]
    cdef const Taken* column
    cdef Output* output
    cdef bint has_nulls
    for row in range(rows):
        start = data + offsets[row]
        end = data + offsets[row + 1]
        if end - start < fixed:
            return False
        at = start + fixed
        for index in range(count):
            column = columns + index
            if copies:
                copy_fixed(column.values + row * column.fixed, start + column.start, column.fixed)
            if not column.levels:
                continue
            items = load_length(start + column.start)
            output = outputs + column.piece
            for level in range(1, column.levels):
                if items > (end - at) // 4:
                    return False
                total = 0
                for item in range(items):
                    if load_length(at + 4 * item) != _NO_LIST:
                        total += load_length(at + 4 * item)
                at = _take(output, at, limit, 4 * items, copies)
                items = total
                output += 1
            if not column.is_bytes:
                has_nulls = start[(2 * index - 1) >> 3] >> ((2 * index - 1) & 7) & 1
                if has_nulls:
                    if items > end - at:
                        return False
                    at = _take(output, at, limit, items, copies)
                output += 1
            if items > (end - at) // column.width:
                return False
            at = _take(output, at, limit, items * column.width, copies)
        if at != end:
            return False
    return True


cdef inline const uint8_t* _take(
    Output* output, const uint8_t* at, const uint8_t* limit, int64_t size, bint copies
) noexcept nogil:
    if copies:
        copy_short(output.at, at, limit, size)
        output.at += size
    else:
        output.size += size
    return at + size


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
