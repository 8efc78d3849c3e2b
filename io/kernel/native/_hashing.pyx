# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""XXH64 of rows, as `penstock.io.columns.hashing` defines their bytes; those of one row at a time are made, in a small buffer.

And FarmHash's Fingerprint64 of texts (`farmhashna::Hash64`), by which TensorFlow puts them into buckets.
"""

import numpy as np

from libc.math cimport isnan
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from penstock.io.kernel.native._columns cimport (
    BYTES,
    FLOAT,
    INT,
    Column,
    Columns,
    Kind,
    FLOAT64,
    Span,
    Values,
    double_at,
    float_at,
    int_at,
    is_null,
    is_present,
    items_of,
    text_at,
)

cdef extern from *:
    """
    /* Of the specification of XXH64. */
    #define PENSTOCK_PRIME1 0x9E3779B185EBCA87ULL
    #define PENSTOCK_PRIME2 0xC2B2AE3D27D4EB4FULL
    #define PENSTOCK_PRIME3 0x165667B19E3779F9ULL
    #define PENSTOCK_PRIME4 0x85EBCA77C2B2AE63ULL
    #define PENSTOCK_PRIME5 0x27D4EB2F165667C5ULL
    #define PENSTOCK_STRIPE 32
    #define PENSTOCK_BUFFER (32 * PENSTOCK_STRIPE)
    #define PENSTOCK_SHORT 32
    #define PENSTOCK_ROOM 64
    #define PENSTOCK_NAN 0x7FF8000000000000ULL
    /* Of FarmHash. */
    #define PENSTOCK_FARM0 0xC3A5C85C97CB3127ULL
    #define PENSTOCK_FARM1 0xB492B66FBE98F273ULL
    #define PENSTOCK_FARM2 0x9AE16A3B2F90404FULL
    """
    const uint64_t PRIME1 "PENSTOCK_PRIME1"
    const uint64_t PRIME2 "PENSTOCK_PRIME2"
    const uint64_t PRIME3 "PENSTOCK_PRIME3"
    const uint64_t PRIME4 "PENSTOCK_PRIME4"
    const uint64_t PRIME5 "PENSTOCK_PRIME5"
    const int64_t STRIPE "PENSTOCK_STRIPE"
    const int64_t BUFFER "PENSTOCK_BUFFER"
    const int64_t SHORT "PENSTOCK_SHORT"
    const int64_t ROOM "PENSTOCK_ROOM"  # more than a header, a length and a short text
    const uint64_t NAN_BITS "PENSTOCK_NAN"
    const uint64_t FARM0 "PENSTOCK_FARM0"
    const uint64_t FARM1 "PENSTOCK_FARM1"
    const uint64_t FARM2 "PENSTOCK_FARM2"


cdef struct Hasher:
    uint64_t seed
    uint64_t[4] lanes
    uint64_t consumed  # bytes that are in the lanes, whole stripes
    uint8_t[1024] buffer  # BUFFER


def hash_rows(batch not None, uint64_t seed, bint whole=False):
    """uint64[rows], the hash of each row of the columns, in the order that they have.

    With `whole`, whole numbers of any kind hash as integers (version 2 of the hash).
    """
    cdef Columns columns = Columns(batch)
    cdef int64_t row, index
    cdef Hasher hasher
    cdef uint8_t* out
    found = np.empty(columns.rows, np.uint64)
    cdef uint64_t[::1] hashes = found
    with nogil:
        for row in range(columns.rows):
            _start(&hasher, seed)
            out = hasher.buffer
            for index in range(columns.size):
                out = _put_column(&hasher, &columns.columns[index], row, whole, _with_room(&hasher, out))
            hashes[row] = _finish(&hasher, out)
    return found


cdef inline uint8_t* _put_column(
    Hasher* hasher, const Column* column, int64_t row, bint whole, uint8_t* out
) noexcept nogil:
    cdef Span items
    if not is_present(column, row):
        out[0] = 0
        return out + 1
    if not column.is_list:
        return _put_scalar(hasher, column, row, whole, out)
    items = items_of(column, row)
    if whole and column.kind != INT and _are_whole(column, items):
        return _put_wholes(hasher, column, items, out)
    out = _put_header(column.kind, _count(&column.items, items), out)
    for index in range(items.start, items.end):
        if not is_null(&column.items, index):
            out = _put_value(hasher, column, index, _with_room(hasher, out))
    return out


cdef inline uint32_t _count(const Values* items, Span span) noexcept nogil:
    cdef int64_t index, count = span.end - span.start
    if items.validity != NULL:
        for index in range(span.start, span.end):
            count -= is_null(items, index)
    return <uint32_t> count


cdef inline uint8_t* _put_header(Kind kind, uint32_t count, uint8_t* out) noexcept nogil:
    out[0] = 1 if kind == INT else 2 if kind == FLOAT else 3
    memcpy(out + 1, &count, 4)
    return out + 5


cdef inline uint8_t* _put_scalar(
    Hasher* hasher, const Column* column, int64_t row, bint whole, uint8_t* out
) noexcept nogil:
    cdef int64_t number
    if whole and column.kind != INT and _whole_at(column, row, &number):
        out = _put_header(INT, 1, out)
        memcpy(out, &number, 8)
        return out + 8
    return _put_value(hasher, column, row, _put_header(column.kind, 1, out))


cdef bint _are_whole(const Column* column, Span items) noexcept nogil:
    cdef int64_t index, number
    for index in range(items.start, items.end):
        if not is_null(&column.items, index) and not _whole_at(column, index, &number):
            return False
    return True


cdef uint8_t* _put_wholes(Hasher* hasher, const Column* column, Span items, uint8_t* out) noexcept nogil:
    cdef int64_t index, number = 0
    out = _put_header(INT, _count(&column.items, items), out)
    for index in range(items.start, items.end):
        if not is_null(&column.items, index):
            _whole_at(column, index, &number)
            out = _with_room(hasher, out)
            memcpy(out, &number, 8)
            out += 8
    return out


cdef inline bint _whole_at(const Column* column, int64_t index, int64_t* number) noexcept nogil:
    """Whether a float or a text is a whole number within int64, and which."""
    cdef Span text
    cdef float narrow
    cdef bint is_whole
    if column.kind == BYTES:
        text = text_at(&column.items, index)
        return _whole_of_text(column.items.data + text.start, text.end - text.start, number)
    narrow = float_at(&column.items, index)
    is_whole = _whole_of_double(narrow, number)
    # A double that is whole is so as float32 too, perhaps as another number; the greatest would be 2^63.
    if column.items.form == FLOAT64 and (is_whole or narrow == 9223372036854775808.0):
        is_whole |= _whole_of_double(double_at(&column.items, index), number)
    return is_whole


cdef inline bint _whole_of_double(double value, int64_t* number) noexcept nogil:
    if not -9223372036854775808.0 <= value < 9223372036854775808.0 or <double> <int64_t> value != value:
        return False
    number[0] = <int64_t> value
    return True


cdef inline bint _whole_of_text(const uint8_t* text, int64_t size, int64_t* number) noexcept nogil:
    """Reads `0`, `-12`, `5.0`, as the grammar of INT does; not `007`, `-0`, `+5`, `5.`, `1e3`."""
    cdef bint is_negative = size > 0 and text[0] == c'-'
    cdef int64_t position = is_negative
    cdef int64_t first = position
    cdef uint64_t value = 0
    while position < size and c'0' <= text[position] <= c'9':
        if position - first == 19:
            return False
        value = 10 * value + (text[position] - c'0')
        position += 1
    if position == first or (text[first] == c'0' and (is_negative or position - first > 1)):
        return False
    if value > <uint64_t> 0x7FFFFFFFFFFFFFFF + is_negative or not _is_zero_fraction(text + position, size - position):
        return False
    number[0] = <int64_t> (0 - value if is_negative else value)
    return True


cdef inline bint _is_zero_fraction(const uint8_t* text, int64_t size) noexcept nogil:
    """Whether a text is empty, or a point with zeros behind it."""
    cdef int64_t position = 1
    if size and (size == 1 or text[0] != c'.'):
        return False
    while position < size and text[position] == c'0':
        position += 1
    return not size or position == size


cdef inline uint8_t* _put_value(Hasher* hasher, const Column* column, int64_t index, uint8_t* out) noexcept nogil:
    cdef uint64_t bits
    if column.kind == BYTES:
        return _put_text(hasher, &column.items, text_at(&column.items, index), out)
    bits = int_at(&column.items, index) if column.kind == INT else _float_bits(float_at(&column.items, index))
    memcpy(out, &bits, 8)
    return out + 8


cdef inline uint8_t* _put_text(Hasher* hasher, const Values* texts, Span text, uint8_t* out) noexcept nogil:
    cdef int64_t size = text.end - text.start
    cdef uint32_t length = <uint32_t> size
    memcpy(out, &length, 4)
    out += 4
    if size > SHORT or texts.end - text.start < SHORT:
        return _put_long(hasher, texts.data, text, out)
    memcpy(out, texts.data + text.start, SHORT)
    return out + size


cdef uint8_t* _put_long(Hasher* hasher, const uint8_t* data, Span text, uint8_t* out) noexcept nogil:
    cdef int64_t size
    while text.start < text.end:
        out = _with_room(hasher, out)
        size = min(hasher.buffer + BUFFER - out, text.end - text.start)
        memcpy(out, data + text.start, size)
        out += size
        text.start += size
    return out


cdef inline uint64_t _float_bits(float value) noexcept nogil:
    # One zero and one NaN.
    cdef double wide = <double> value + 0.0
    cdef uint64_t bits
    if isnan(wide):
        return NAN_BITS
    memcpy(&bits, &wide, 8)
    return bits


cdef inline void _start(Hasher* hasher, uint64_t seed) noexcept nogil:
    hasher.seed = seed
    hasher.lanes[0] = seed + PRIME1 + PRIME2
    hasher.lanes[1] = seed + PRIME2
    hasher.lanes[2] = seed
    hasher.lanes[3] = seed - PRIME1
    hasher.consumed = 0


cdef inline uint8_t* _with_room(Hasher* hasher, uint8_t* out) noexcept nogil:
    return out if hasher.buffer + BUFFER - out >= ROOM else _emptied(hasher, out)


cdef uint8_t* _emptied(Hasher* hasher, uint8_t* out) noexcept nogil:
    """Where to go on when the lanes have taken what they can."""
    cdef int64_t filled = out - hasher.buffer
    cdef int64_t taken = _consume(hasher, filled)
    memcpy(hasher.buffer, hasher.buffer + taken, filled - taken)
    return hasher.buffer + filled - taken


cdef inline int64_t _consume(Hasher* hasher, int64_t size) noexcept nogil:
    """Takes the whole stripes among the bytes at the start of the buffer into the lanes; returns their size."""
    cdef int64_t position = 0
    cdef int lane
    while size - position >= STRIPE:
        for lane in range(4):
            hasher.lanes[lane] = _round(hasher.lanes[lane], _word(hasher.buffer + position + 8 * lane))
        position += STRIPE
    hasher.consumed += position
    return position


cdef inline uint64_t _finish(Hasher* hasher, const uint8_t* out) noexcept nogil:
    cdef int64_t filled = out - hasher.buffer
    cdef uint64_t total = hasher.consumed + filled
    cdef int64_t taken = _consume(hasher, filled)
    return _avalanche(_tail(_merged(hasher) + total, hasher.buffer + taken, filled - taken))


cdef inline uint64_t _merged(const Hasher* hasher) noexcept nogil:
    cdef uint64_t merged
    cdef int lane
    if not hasher.consumed:
        return hasher.seed + PRIME5
    merged = (
        _rotated(hasher.lanes[0], 1)
        + _rotated(hasher.lanes[1], 7)
        + _rotated(hasher.lanes[2], 12)
        + _rotated(hasher.lanes[3], 18)
    )
    for lane in range(4):
        merged = (merged ^ _round(0, hasher.lanes[lane])) * PRIME1 + PRIME4
    return merged


cdef inline uint64_t _tail(uint64_t value, const uint8_t* data, int64_t size) noexcept nogil:
    cdef uint32_t half
    while size >= 8:
        value = _rotated(value ^ _round(0, _word(data)), 27) * PRIME1 + PRIME4
        data += 8
        size -= 8
    if size >= 4:
        memcpy(&half, data, 4)
        value = _rotated(value ^ half * PRIME1, 23) * PRIME2 + PRIME3
        data += 4
        size -= 4
    while size:
        value = _rotated(value ^ data[0] * PRIME5, 11) * PRIME1
        data += 1
        size -= 1
    return value


cdef inline uint64_t _avalanche(uint64_t value) noexcept nogil:
    value = (value ^ value >> 33) * PRIME2
    value = (value ^ value >> 29) * PRIME3
    return value ^ value >> 32


cdef inline uint64_t _round(uint64_t lane, uint64_t word) noexcept nogil:
    return _rotated(lane + word * PRIME2, 31) * PRIME1


cdef inline uint64_t _rotated(uint64_t value, int bits) noexcept nogil:
    return value << bits | value >> (64 - bits)


cdef inline uint64_t _word(const uint8_t* data) noexcept nogil:
    cdef uint64_t word
    memcpy(&word, data, 8)
    return word


cdef struct Pair:
    uint64_t first
    uint64_t second


def fingerprints(texts not None):
    """uint64[rows], the Fingerprint64 of each text of the one column; 0 where it is null."""
    cdef Columns columns = Columns(texts)
    cdef const Values* items
    cdef int64_t row
    cdef Span text
    if columns.size != 1 or columns.columns[0].kind != BYTES or columns.columns[0].is_list:
        raise TypeError("fingerprints are of one column of texts")
    items = &columns.columns[0].items
    found = np.zeros(columns.rows, np.uint64)
    cdef uint64_t[::1] hashes = found
    with nogil:
        for row in range(columns.rows):
            if not is_null(items, row):
                text = text_at(items, row)
                hashes[row] = _fingerprint(items.data + text.start, text.end - text.start)
    return found


cdef uint64_t _fingerprint(const uint8_t* data, int64_t size) noexcept nogil:
    if size <= 16:
        return _up_to_16(data, size)
    if size <= 32:
        return _up_to_32(data, size)
    return _up_to_64(data, size) if size <= 64 else _beyond_64(data, size)


cdef inline uint64_t _up_to_16(const uint8_t* data, int64_t size) noexcept nogil:
    cdef uint64_t factor = FARM2 + 2 * <uint64_t> size
    cdef uint64_t a, b
    cdef uint32_t low, high
    if size >= 8:
        a, b = _word(data) + FARM2, _word(data + size - 8)
        return _mixed(_turned(b, 37) * factor + a, (_turned(a, 25) + b) * factor, factor)
    if size >= 4:
        memcpy(&low, data, 4)
        memcpy(&high, data + size - 4, 4)
        return _mixed(size + (<uint64_t> low << 3), high, factor)
    if not size:
        return FARM2
    low = data[0] + (<uint32_t> data[size >> 1] << 8)
    high = <uint32_t> size + (<uint32_t> data[size - 1] << 2)
    return _folded(low * FARM2 ^ high * FARM0) * FARM2


cdef inline uint64_t _up_to_32(const uint8_t* data, int64_t size) noexcept nogil:
    cdef uint64_t factor = FARM2 + 2 * <uint64_t> size
    cdef uint64_t a = _word(data) * FARM1
    cdef uint64_t b = _word(data + 8)
    cdef uint64_t c = _word(data + size - 8) * factor
    cdef uint64_t d = _word(data + size - 16) * FARM2
    return _mixed(_turned(a + b, 43) + _turned(c, 30) + d, a + _turned(b + FARM2, 18) + c, factor)


cdef inline uint64_t _up_to_64(const uint8_t* data, int64_t size) noexcept nogil:
    cdef uint64_t factor = FARM2 + 2 * <uint64_t> size
    cdef uint64_t a = _word(data) * FARM2
    cdef uint64_t b = _word(data + 8)
    cdef uint64_t c = _word(data + size - 8) * factor
    cdef uint64_t d = _word(data + size - 16) * FARM2
    cdef uint64_t y = _turned(a + b, 43) + _turned(c, 30) + d
    cdef uint64_t z = _mixed(y, a + _turned(b + FARM2, 18) + c, factor)
    cdef uint64_t e = _word(data + 16) * factor
    cdef uint64_t f = _word(data + 24)
    cdef uint64_t g = (y + _word(data + size - 32)) * factor
    cdef uint64_t h = (z + _word(data + size - 24)) * factor
    return _mixed(_turned(e + f, 43) + _turned(g, 30) + h, e + _turned(f + a, 18) + g, factor)


cdef uint64_t _beyond_64(const uint8_t* data, int64_t size) noexcept nogil:
    """Blocks of 64 bytes, then the last 64 once more."""
    cdef uint64_t x = 81
    cdef uint64_t y = x * FARM1 + 113
    cdef uint64_t z = _folded(y * FARM2 + 113) * FARM2
    cdef uint64_t factor
    cdef Pair v = Pair(0, 0)
    cdef Pair w = Pair(0, 0)
    cdef uint64_t left = <uint64_t> (size - 1) & 63
    cdef const uint8_t* end = data + (size - 1 - <int64_t> left)
    x = x * FARM2 + _word(data)
    while data != end:
        _take_block(data, FARM1, 1, &x, &y, &z, &v, &w)
        data += 64
    factor = FARM1 + ((z & 0xFF) << 1)
    w.first += left
    v.first += w.first
    w.first += v.first
    _take_block(end + left - 63, factor, 9, &x, &y, &z, &v, &w)
    return _mixed(
        _mixed(v.first, w.first, factor) + _folded(y) * FARM0 + z, _mixed(v.second, w.second, factor) + x, factor
    )


cdef inline void _take_block(
    const uint8_t* data, uint64_t factor, uint64_t times, uint64_t* x, uint64_t* y, uint64_t* z, Pair* v, Pair* w
) noexcept nogil:
    cdef uint64_t held
    x[0] = _turned(x[0] + y[0] + v.first + _word(data + 8), 37) * factor
    y[0] = _turned(y[0] + v.second + _word(data + 48), 42) * factor
    x[0] ^= w.second * times
    y[0] += v.first * times + _word(data + 40)
    z[0] = _turned(z[0] + w.first, 33) * factor
    v[0] = _weak(data, v.second * factor, x[0] + w.first)
    w[0] = _weak(data + 32, z[0] + w.second, y[0] + _word(data + 16))
    held = z[0]
    z[0] = x[0]
    x[0] = held


cdef inline Pair _weak(const uint8_t* data, uint64_t a, uint64_t b) noexcept nogil:
    cdef uint64_t last = _word(data + 24)
    cdef uint64_t c
    a += _word(data)
    b = _turned(b + a + last, 21)
    c = a
    a += _word(data + 8) + _word(data + 16)
    b += _turned(a, 44)
    return Pair(a + last, b + c)


cdef inline uint64_t _mixed(uint64_t u, uint64_t v, uint64_t factor) noexcept nogil:
    cdef uint64_t a = _folded((u ^ v) * factor)
    return _folded((v ^ a) * factor) * factor


cdef inline uint64_t _folded(uint64_t value) noexcept nogil:
    return value ^ value >> 47


cdef inline uint64_t _turned(uint64_t value, int bits) noexcept nogil:
    return value >> bits | value << (64 - bits)
