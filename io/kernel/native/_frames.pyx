# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The frames of a TFRecord block: where the records are, and whether their CRCs are right. And members of tar files."""

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp, memcpy

import numpy as np

from penstock.io.kernel.shared import tar


cdef extern from "reuse.h" nogil:
    void memory_init()
    void* memory_take(size_t size, size_t* capacity)
    void memory_give(void* data, size_t capacity)


cdef extern from "crc32c.h" nogil:
    void crc32c_init()
    uint32_t crc32c_value(const uint8_t* data, size_t size)
    uint32_t crc32c_masked(const uint8_t* data, size_t size)


cdef extern from * nogil:
    """
    /* As GCC and Clang have it; other compilers do without. */
    #if defined(__GNUC__)
    #define penstock_prefetch(at) __builtin_prefetch(at)
    #else
    #define penstock_prefetch(at)
    #endif
    """
    void penstock_prefetch(const uint8_t* at)


crc32c_init()
memory_init()


cdef enum:
    _LENGTH_BYTES = 8
    _CRC_BYTES = 4
    _HEADER_BYTES = 12
    # How far ahead of a short record memory is asked for, and in which pieces. Between long ones there is time.
    _AHEAD_BYTES = 2048
    _LINE_BYTES = 64
    _PAGE_BYTES = 4096


cdef struct Found:
    # Starts and lengths of the whole frames, by turns.
    int64_t* bounds
    int64_t count
    int64_t capacity
    # Where the whole frames end, and how many bytes the frame that begins there lacks.
    int64_t end
    uint64_t missing
    # Where the first frame of each fault begins; -1 for none.
    int64_t bad_length
    int64_t absurd
    int64_t bad_data


cdef class Memory:
    """See `penstock.io.kernel.pure.frames`."""

    cdef uint8_t* _data
    cdef uint8_t* _start
    cdef size_t _size
    cdef size_t _capacity

    def __cinit__(self, size_t size):
        self._data = <uint8_t*>memory_take(size + _PAGE_BYTES, &self._capacity)
        if self._data == NULL:
            raise MemoryError
        self._start = self._data + (-<size_t>self._data) % _PAGE_BYTES
        self._size = size

    def __dealloc__(self):
        memory_give(self._data, self._capacity)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self._start, <Py_ssize_t>self._size, False, flags)


def scan(const unsigned char[::1] data not None, uint64_t max_record_bytes, bint check_data=True):
    """See `penstock.io.kernel.pure.frames`."""
    cdef Found found = Found(NULL, 0, 0, 0, 0, -1, -1, -1)
    cdef const uint8_t* start = &data[0] if data.shape[0] else NULL
    cdef int64_t size = data.shape[0]
    cdef bint has_memory
    cdef int64_t[:, ::1] bounds
    try:
        with nogil:
            has_memory = _follow(start, size, max_record_bytes, check_data, &found)
        if not has_memory:
            raise MemoryError
        pairs = np.empty((found.count, 2), np.int64)
        if found.count:
            bounds = pairs
            memcpy(&bounds[0, 0], found.bounds, <size_t>found.count * 16)
    finally:
        free(found.bounds)
    starts, lengths = np.ascontiguousarray(pairs.T)
    return starts, lengths, found.end, found.missing, found.bad_length, found.absurd, found.bad_data


cdef bint _follow(
    const uint8_t* data, int64_t size, uint64_t max_record_bytes, bint check_data, Found* found
) noexcept nogil:
    """Walks the chain of lengths; False when memory is short."""
    cdef int64_t position = 0
    cdef uint64_t length, rest
    cdef const uint8_t* record
    while size - position >= _HEADER_BYTES:
        if crc32c_masked(data + position, _LENGTH_BYTES) != _load32(data + position + _LENGTH_BYTES):
            found.bad_length = position
            break
        length = _load64(data + position)
        if length > max_record_bytes and found.absurd < 0:
            found.absurd = position
        rest = size - position - _HEADER_BYTES
        if rest < _CRC_BYTES or length > rest - _CRC_BYTES:
            found.missing = length - rest + _CRC_BYTES
            break
        record = data + position + _HEADER_BYTES
        if not check_data and length < _AHEAD_BYTES // 2:
            _ask(record + _AHEAD_BYTES, length, data + size)
        if check_data and found.bad_data < 0 and crc32c_masked(record, length) != _load32(record + length):
            found.bad_data = position
        if not _add(found, position + _HEADER_BYTES, <int64_t>length):
            return False
        position += _HEADER_BYTES + <int64_t>length + _CRC_BYTES
    found.end = position
    return True


cdef inline void _ask(const uint8_t* at, uint64_t size, const uint8_t* end) noexcept nogil:
    """Asks for memory that headers are in, somewhere: each is where the one before it says, so waits add up."""
    cdef const uint8_t* line = at
    if end - at < <int64_t>size:
        return
    while line < at + size:
        penstock_prefetch(line)
        line += _LINE_BYTES


cdef bint _add(Found* found, int64_t start, int64_t length) noexcept nogil:
    cdef int64_t capacity
    cdef void* grown
    if found.count == found.capacity:
        capacity = found.capacity * 2 if found.capacity else 4096
        grown = realloc(found.bounds, <size_t>capacity * 16)
        if grown == NULL:
            return False
        found.bounds = <int64_t*>grown
        found.capacity = capacity
    found.bounds[found.count * 2] = start
    found.bounds[found.count * 2 + 1] = length
    found.count += 1
    return True


cdef inline uint32_t _load32(const uint8_t* at) noexcept nogil:
    return at[0] | <uint32_t>at[1] << 8 | <uint32_t>at[2] << 16 | <uint32_t>at[3] << 24


cdef inline uint64_t _load64(const uint8_t* at) noexcept nogil:
    return _load32(at) | <uint64_t>_load32(at + 4) << 32


cdef enum:
    _BLOCK = 512
    _KEY_BYTES = 10
    _NAME_BYTES = 90
    _SIZE_START = 124
    _SIZE_END = 135

cdef enum:
    IS_CUT = 0
    IS_NEXT = 1
    IS_ZEROS = 2
    IS_LONG = 3


def follow_members(
    const unsigned char[::1] data not None, int64_t start, bytes first_name not None, int64_t limit, int64_t most
):
    """See `penstock.io.kernel.pure.frames`."""
    cdef int64_t size = data.shape[0], count = 0, at = start, length, end, missing = 0
    cdef int stop = IS_CUT
    cdef const uint8_t* first = &data[0] if size else NULL
    cdef const uint8_t* name = first_name
    cdef bint is_first
    if not 0 <= start <= size or len(first_name) != _NAME_BYTES:
        raise ValueError("a member must begin in the data, and the name have 90 bytes")
    cdef int64_t room = (size - start) // _BLOCK
    sizes, are_first, crcs = np.empty(room, np.int64), np.empty(room, np.bool_), np.empty(room, np.uint32)
    cdef int64_t[::1] own_sizes = sizes
    cdef uint8_t[::1] own_first = are_first.view(np.uint8)
    cdef uint32_t[::1] own_crcs = crcs
    with nogil:
        while True:
            missing = at + _BLOCK - size
            if missing > 0:
                break
            is_first = memcmp(first + at + _KEY_BYTES, name, _NAME_BYTES) == 0
            length = _member_size(first + at)
            if _is_zero(first + at):
                stop = IS_ZEROS
            elif is_first and at >= limit:
                stop = IS_NEXT
            elif length > most:
                stop = IS_LONG
            if stop != IS_CUT:
                break
            end = at + _BLOCK + (length + _BLOCK - 1) // _BLOCK * _BLOCK
            missing = end - size
            if missing > 0:
                break
            own_sizes[count] = length
            own_first[count] = is_first
            own_crcs[count] = crc32c_value(first + at + _BLOCK, end - at - _BLOCK)
            count += 1
            at = end
    return tar.Members(sizes[:count], are_first[:count], crcs[:count], at, stop, max(missing, 0))


cdef int64_t _member_size(const uint8_t* header) noexcept nogil:
    cdef int64_t size = 0
    cdef int place
    for place in range(_SIZE_START, _SIZE_END):
        if not 48 <= header[place] <= 55:
            return 0
        size = size * 8 + header[place] - 48
    return size


cdef bint _is_zero(const uint8_t* block) noexcept nogil:
    cdef uint8_t found = 0
    cdef int place
    if block[0]:
        return False
    for place in range(_BLOCK):
        found |= block[place]
    return not found
