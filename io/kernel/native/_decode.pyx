# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Serialized tf.Examples and tf.SequenceExamples to columns, in one pass over their bytes.

The wire format is read as protobuf reads it: fields in any order and any number of times, numbers packed or not,
unknown fields and groups skipped. What a record adds to the columns is settled when the record is at its end, and
dropped where it is malformed; so is what a key held before it came again.

Records mostly hold the same keys in the same order: each column knows which one followed it last, and the bytes that
its entry begins with, so that a key is one comparison of bytes. Other keys are looked up by a seeded hash.

The context of a tf.SequenceExample is read as a tf.Example's features. Of a feature list, the values of all steps are
one after the other, as if the row had them in one Feature, and beside them is how many each step has.
"""

import os
import sys

from penstock.io.kernel.shared.faults import FAULTS, TYPES

from cpython.buffer cimport PyBuffer_FillInfo
from libc.stdint cimport INT32_MAX, UINT32_MAX, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

cdef extern from "reuse.h" nogil:
    void memory_init()
    void* memory_take(size_t size, size_t* capacity)
    void* memory_grow(void* data, size_t used, size_t size, size_t* capacity)
    void memory_give(void* data, size_t capacity)


cdef extern from "crc32c.h" nogil:
    void crc32c_init()
    uint32_t crc32c_masked(const uint8_t* data, size_t size)


cdef extern from * nogil:
    """
    #define penstock_first_set(word) __builtin_ctzll(word)
    """
    int penstock_first_set(uint64_t word)


if sys.byteorder != "little":
    raise ImportError("the kernel reads little-endian numbers as they are in memory")

crc32c_init()
memory_init()

cdef uint64_t _SEED = int.from_bytes(os.urandom(8), "little")
# What empty memory points to.
cdef uint8_t _NOTHING = 0

cdef enum:
    _CRC_BYTES = 4
    # The kinds, in the order of their fields in a Feature and of `penstock.io.kernel.pure.decode.KINDS`.
    _BYTES = 0
    _FLOAT = 1
    _INT = 2
    _KINDS = 3
    # What a record that is rejected has, in the order of `FAULTS`.
    _SEQUENCES = 0
    _NO_FEATURES = 1
    _CUT_OFF = 2
    _BAD_TAG = 3
    _BAD_VARINT = 4
    _BAD_FLOATS = 5
    _BAD_KEY = 6
    _BAD_GROUP = 7
    _NO_PARTS = 8
    _IN_BOTH = 9
    _MIXED_STEPS = 10
    _BAD_CRC = 11
    _NO_MEMORY = 12
    # Tags: the number of the field, and how it is written.
    _TAG_1_VARINT = 0x08
    _TAG_1_BYTES = 0x0A
    _TAG_1_FIXED32 = 0x0D
    _TAG_2_BYTES = 0x12
    # protobuf refuses messages and groups that are nested deeper.
    _MAX_DEPTH = 100
    # Shorter texts are copied with what is behind them, which would be overwritten in the block.
    _LEAST_PLACED = 64


cdef struct Buffer:
    uint8_t* data
    size_t size
    size_t capacity


cdef struct Held:
    # The values of one kind under one key: the rows that have them, and for each where its values end, int32.
    Buffer rows
    Buffer ends
    # int64 or float32, or of bytes where each ends in `data`, int32 with a 0 in front.
    Buffer values
    Buffer data
    # How much of `values` is from records that are at their end.
    size_t settled
    # How many rows have values. While they are all from 0 on, there are none in `rows`; while each has one value, there
    # is nothing behind the 0 in `ends`.
    int64_t count
    bint is_dense
    bint one_each
    # Whether `data` lies in the block of the records.
    bint is_placed


cdef struct Column:
    # What the entry of this key begins with: its tag and length, the key, the tag of the value.
    uint8_t* head
    size_t head_size
    const uint8_t* key
    size_t key_size
    uint64_t hash
    # The column that followed this one last.
    Column* following
    bint is_wanted
    # One for each kind, once there are any; of an unwanted column only `rows` is kept.
    Held* held
    Buffer rows
    # The last row that has the key, and the kind that it holds there so far.
    int64_t row
    int kind
    # Whether that row has it among its feature lists, and whether the steps there have several kinds. The rows that
    # have; for each where its steps end, int32; how many values each step has, int32, and how much of that is from
    # records that are at their end.
    bint is_listed
    bint is_mixed
    Buffer list_rows
    Buffer step_ends
    Buffer steps
    size_t steps_settled


cdef struct Decoder:
    Column** columns
    size_t count
    # A hash table with open addressing; its size is a power of 2, and there is room for half as many columns.
    Column** slots
    size_t slot_count
    bint wants_all
    # Whether records are tf.SequenceExamples, and what is read is in their feature lists.
    bint is_sequence
    bint in_lists
    # Whether the masked CRC of each record is behind it, and must match.
    bint has_crcs
    # Takes the values of the columns that nobody wants, which must be well-formed all the same.
    Held sink[_KINDS]
    # This record, its columns, and the column of its last entry; `first` comes before its first entry.
    int64_t row
    size_t record_size
    Column** touched
    size_t touched_count
    Column* last
    Column first
    # Bytes of all records, and of those up to this one: what is still to come.
    double total
    double done
    # Where the bytes of all records end.
    const uint8_t* limit
    # The block, if texts may lie in it behind each other, before what is still to be read; NULL once some do.
    uint8_t* block
    int fault
    const uint8_t* fault_at
    Column* fault_column


# Buffers.


cdef bint _grow(Decoder* decoder, Buffer* buffer, size_t extra) noexcept nogil:
    """Makes room for what is still to come, if that goes on as it did; False when memory is short."""
    cdef size_t expected = <size_t>(<double>(buffer.size + extra) * (decoder.total / decoder.done) * 1.05) + 64
    cdef size_t capacity = buffer.capacity + buffer.capacity // 4
    cdef void* grown
    capacity = max(capacity, max(expected, buffer.size + extra))
    grown = memory_grow(buffer.data, buffer.size, capacity, &buffer.capacity)
    if grown == NULL:
        return False
    buffer.data = <uint8_t*>grown
    return True


cdef inline bint _reserve(Decoder* decoder, Buffer* buffer, size_t extra) noexcept nogil:
    return buffer.capacity - buffer.size >= extra or _grow(decoder, buffer, extra)


cdef inline bint _append(Decoder* decoder, Buffer* buffer, const void* data, size_t size) noexcept nogil:
    if not _reserve(decoder, buffer, size):
        return False
    if size:
        memcpy(buffer.data + buffer.size, data, size)
        buffer.size += size
    return True


cdef inline bint _append32(Decoder* decoder, Buffer* buffer, size_t value) noexcept nogil:
    cdef int32_t narrow = <int32_t>value
    return _append(decoder, buffer, &narrow, 4)


cdef inline bint _append_bytes(Decoder* decoder, Buffer* buffer, const uint8_t* at, size_t size) noexcept nogil:
    """Appends bytes of a record: with one move of 32 where they are fewer, and there are so many to read and write."""
    if size <= 32 and decoder.limit - at >= 32 and buffer.capacity - buffer.size >= 32:
        memcpy(buffer.data + buffer.size, at, 32)
        buffer.size += size
        return True
    return _append(decoder, buffer, at, size)


cdef inline bint _append_text(Decoder* decoder, Held* held, const uint8_t* at, size_t size) noexcept nogil:
    """Appends a text. Those of one column that fill most of a record stay in the block, where they are in the cache."""
    if held.is_placed:
        memmove(held.data.data + held.data.size, at, size)
        held.data.size += size
    elif decoder.block != NULL and size >= _LEAST_PLACED and _place(decoder, held, size):
        return _append_text(decoder, held, at, size)
    elif not _append_bytes(decoder, &held.data, at, size):
        return False
    return _append32(decoder, &held.values, held.data.size)


cdef bint _place(Decoder* decoder, Held* held, size_t size) noexcept nogil:
    """Lays the texts of a column into the block, if it has none yet and this one is half of its record."""
    if held.data.size or 2 * size < decoder.record_size or held == &decoder.sink[_BYTES]:
        return False
    _free_buffer(&held.data)
    held.data = Buffer(decoder.block, 0, 0)
    held.is_placed = True
    decoder.block = NULL
    return True


cdef inline int32_t _last32(const Buffer* buffer) noexcept nogil:
    cdef int32_t value
    memcpy(&value, buffer.data + buffer.size - 4, 4)
    return value


cdef inline void _free_buffer(Buffer* buffer) noexcept nogil:
    memory_give(buffer.data, buffer.capacity)


# Wire format. What reads something returns where it ends; NULL for a fault, which is then in the decoder.


cdef const uint8_t* _fail(Decoder* decoder, int fault, const uint8_t* at) noexcept nogil:
    decoder.fault = fault
    decoder.fault_at = at
    return NULL


cdef const uint8_t* _long_varint(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, uint64_t* value
) noexcept nogil:
    cdef const uint8_t* start = at
    cdef uint64_t found = 0
    cdef int shift
    for shift in range(0, 70, 7):
        if at == end:
            return _fail(decoder, _CUT_OFF, start)
        found |= <uint64_t>(at[0] & 0x7F) << shift
        if at[0] < 0x80:
            value[0] = found
            return at + 1
        at += 1
    return _fail(decoder, _BAD_VARINT, start)


cdef inline const uint8_t* _varint(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, uint64_t* value
) noexcept nogil:
    if at < end and at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    return _long_varint(decoder, at, end, value)


cdef inline const uint8_t* _tag(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, uint64_t* tag
) noexcept nogil:
    cdef const uint8_t* after = _varint(decoder, at, end, tag)
    if after != NULL and (after - at > 5 or tag[0] > UINT32_MAX):
        return _fail(decoder, _BAD_TAG, at)
    return after


cdef inline const uint8_t* _length(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, uint64_t* size
) noexcept nogil:
    """Reads a length that `end` leaves room for."""
    cdef const uint8_t* after = _varint(decoder, at, end, size)
    if after != NULL and size[0] > <uint64_t>(end - after):
        return _fail(decoder, _CUT_OFF, at)
    return after


cdef inline const uint8_t* _field(
    Decoder* decoder,
    const uint8_t* at,
    const uint8_t* end,
    int depth,
    int sized,
    uint64_t single,
    uint64_t* tag,
    uint64_t* size,
) noexcept nogil:
    """Reads up to the content of the next field, if that is known: one of the first `sized` ones with a length, or of
    the tag `single`. Goes over any other, with the tag 0 and no size."""
    cdef const uint8_t* content = _tag(decoder, at, end, tag)
    size[0] = 0
    if content == NULL:
        return NULL
    if tag[0] & 7 == 2 and 1 <= tag[0] >> 3 <= <uint64_t>sized:
        return _length(decoder, content, end, size)
    if single and tag[0] == single:
        return content
    tag[0] = 0
    return _skip(decoder, at, end, depth)


cdef const uint8_t* _skip(Decoder* decoder, const uint8_t* at, const uint8_t* end, int depth) noexcept nogil:
    """Goes over a field, with all that is in it if it is a group."""
    cdef uint64_t[_MAX_DEPTH] groups
    cdef int level = 0
    cdef uint64_t tag, size
    cdef const uint8_t* field
    while True:
        field = at
        if field == end:
            return _fail(decoder, _BAD_GROUP, field)
        at = _tag(decoder, field, end, &tag)
        if at == NULL:
            return NULL
        if tag >> 3 == 0:
            return _fail(decoder, _BAD_TAG, field)
        size = 0
        if tag & 7 == 0:
            at = _varint(decoder, at, end, &size)
            size = 0
        elif tag & 7 == 1:
            size = 8
        elif tag & 7 == 2:
            at = _length(decoder, at, end, &size)
        elif tag & 7 == 3:
            if level + depth == _MAX_DEPTH:
                return _fail(decoder, _BAD_GROUP, field)
            groups[level] = tag >> 3
            level += 1
        elif tag & 7 == 4:
            if level == 0 or groups[level - 1] != tag >> 3:
                return _fail(decoder, _BAD_GROUP, field)
            level -= 1
        elif tag & 7 == 5:
            size = 4
        else:
            return _fail(decoder, _BAD_TAG, field)
        if at == NULL:
            return NULL
        if size > <uint64_t>(end - at):
            return _fail(decoder, _CUT_OFF, field)
        at += size
        if level == 0:
            return at


cdef inline bint _is_continuation(uint8_t byte) noexcept nogil:
    return byte & 0xC0 == 0x80


cdef bint _is_utf8(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Whether the bytes are UTF-8 in its shortest form, without surrogates."""
    cdef uint64_t word
    cdef uint32_t lead
    while at < end:
        if end - at >= 8:
            memcpy(&word, at, 8)
            if word & <uint64_t>0x8080808080808080 == 0:
                at += 8
                continue
        lead = at[0]
        if lead < 0x80:
            at += 1
        elif 0xC2 <= lead < 0xE0:
            if end - at < 2 or not _is_continuation(at[1]):
                return False
            at += 2
        elif 0xE0 <= lead < 0xF0:
            if end - at < 3 or not (_is_continuation(at[1]) and _is_continuation(at[2])):
                return False
            if (lead == 0xE0 and at[1] < 0xA0) or (lead == 0xED and at[1] >= 0xA0):
                return False
            at += 3
        elif 0xF0 <= lead < 0xF5:
            if end - at < 4 or not (
                _is_continuation(at[1]) and _is_continuation(at[2]) and _is_continuation(at[3])
            ):
                return False
            if (lead == 0xF0 and at[1] < 0x90) or (lead == 0xF4 and at[1] >= 0x90):
                return False
            at += 4
        else:
            return False
    return True


# Columns.


cdef inline bint _equal(const uint8_t* one, const uint8_t* other, size_t size) noexcept nogil:
    """memcmp, for some bytes only."""
    cdef uint64_t left, right
    cdef uint32_t[4] narrow
    if size < 8:
        if size >= 4:
            memcpy(&narrow[0], one, 4)
            memcpy(&narrow[1], other, 4)
            memcpy(&narrow[2], one + size - 4, 4)
            memcpy(&narrow[3], other + size - 4, 4)
            return narrow[0] == narrow[1] and narrow[2] == narrow[3]
        while size:
            size -= 1
            if one[size] != other[size]:
                return False
        return True
    memcpy(&left, one + size - 8, 8)
    memcpy(&right, other + size - 8, 8)
    while left == right:
        if size <= 8:
            return True
        size -= 8
        if size < 8:
            size = 8
        memcpy(&left, one + size - 8, 8)
        memcpy(&right, other + size - 8, 8)
    return False


cdef uint64_t _hash(const uint8_t* key, size_t size) noexcept nogil:
    """Eight bytes at a time; the last eight overlap with those before them."""
    cdef uint64_t found = _SEED ^ size
    cdef uint64_t word = 0
    cdef size_t at = 0
    if size < 8:
        memcpy(&word, key, size)
        return _mixed(found, word)
    while at + 8 < size:
        memcpy(&word, key + at, 8)
        found = _mixed(found, word)
        at += 8
    memcpy(&word, key + size - 8, 8)
    return _mixed(found, word)


cdef inline uint64_t _mixed(uint64_t found, uint64_t word) noexcept nogil:
    found = (found ^ word) * <uint64_t>0x9E3779B97F4A7C15
    found = (found ^ (found >> 32)) * <uint64_t>0xD6E8FEB86659FD93
    return found ^ (found >> 32)


cdef Column* _column_of(Decoder* decoder, const uint8_t* key, size_t size) noexcept nogil:
    """The column of a key, a new one where there is none; NULL when memory is short."""
    cdef uint64_t hashed = _hash(key, size)
    cdef Column** slot
    cdef Column* column
    if 2 * decoder.count >= decoder.slot_count and not _rehash(decoder):
        return NULL
    slot = _slot_of(decoder, hashed, key, size)
    if slot[0] == NULL:
        column = _new_column(key, size)
        if column == NULL:
            return NULL
        column.hash = hashed
        column.is_wanted = decoder.wants_all
        slot[0] = column
        decoder.columns[decoder.count] = column
        decoder.count += 1
    return slot[0]


cdef Column** _slot_of(Decoder* decoder, uint64_t hashed, const uint8_t* key, size_t size) noexcept nogil:
    cdef size_t mask = decoder.slot_count - 1
    cdef size_t index = hashed & mask
    cdef Column* column
    while True:
        column = decoder.slots[index]
        if column == NULL or (column.hash == hashed and column.key_size == size and _equal(column.key, key, size)):
            return &decoder.slots[index]
        index = (index + 1) & mask


cdef bint _rehash(Decoder* decoder) noexcept nogil:
    """Doubles the hash table, and the room for columns with it."""
    cdef size_t count = 2 * decoder.slot_count if decoder.slot_count else 128
    cdef Column** slots
    cdef size_t index
    cdef Column* column
    if not (_resize(&decoder.columns, count // 2) and _resize(&decoder.touched, count // 2)):
        return False
    slots = <Column**>calloc(count, sizeof(Column*))
    if slots == NULL:
        return False
    free(decoder.slots)
    decoder.slots = slots
    decoder.slot_count = count
    for index in range(decoder.count):
        column = decoder.columns[index]
        _slot_of(decoder, column.hash, column.key, column.key_size)[0] = column
    return True


cdef bint _resize(Column*** columns, size_t count) noexcept nogil:
    cdef void* resized = realloc(columns[0], count * sizeof(Column*))
    if resized == NULL:
        return False
    columns[0] = <Column**>resized
    return True


cdef Column* _new_column(const uint8_t* key, size_t size) noexcept nogil:
    cdef Column* column = <Column*>calloc(1, sizeof(Column))
    cdef uint8_t* at
    cdef uint64_t rest = size
    if column == NULL:
        return NULL
    column.head = <uint8_t*>malloc(size + 12)
    if column.head == NULL:
        free(column)
        return NULL
    at = column.head
    at[0] = _TAG_1_BYTES
    at += 1
    while rest > 0x7F:
        at[0] = rest & 0x7F | 0x80
        rest >>= 7
        at += 1
    at[0] = <uint8_t>rest
    at += 1
    if size:
        memcpy(at, key, size)
    column.key = at
    column.key_size = size
    at[size] = _TAG_2_BYTES
    column.head_size = at + size + 1 - column.head
    column.row = -1
    return column


cdef bint _init_held(Decoder* decoder, Held* held, int kind) noexcept nogil:
    held.one_each = True
    held.is_dense = True
    if kind == _BYTES:
        if not _append32(decoder, &held.values, 0):
            return False
        held.settled = held.values.size
    return _append32(decoder, &held.ends, 0)


cdef void _free_held(Held* held) noexcept nogil:
    cdef int kind
    for kind in range(_KINDS):
        _free_buffer(&held[kind].rows)
        _free_buffer(&held[kind].ends)
        _free_buffer(&held[kind].values)
        if not held[kind].is_placed:
            _free_buffer(&held[kind].data)


cdef void _free_column(Column* column) noexcept nogil:
    if column.held != NULL:
        _free_held(column.held)
        free(column.held)
    _free_buffer(&column.rows)
    _free_buffer(&column.list_rows)
    _free_buffer(&column.step_ends)
    _free_buffer(&column.steps)
    free(column.head)
    free(column)


# What one record adds.


cdef inline Held* _held_of(Decoder* decoder, Column* column, int kind) noexcept nogil:
    return &decoder.sink[kind] if column.held == NULL else &column.held[kind]


cdef inline void _drop(Held* held, int kind) noexcept nogil:
    """Takes back what this record added."""
    held.values.size = held.settled
    if kind == _BYTES:
        held.data.size = _last32(&held.values)


cdef inline bint _begin(Decoder* decoder, Column* column) noexcept nogil:
    """Begins with a value of the key; the one that it had in this record is no more. False if that was elsewhere."""
    if column.row == decoder.row:
        if column.is_wanted and column.is_listed != decoder.in_lists:
            decoder.fault_column = column
            return False
        _take_back(decoder, column)
        column.is_listed |= decoder.in_lists
    else:
        column.is_listed = decoder.in_lists
        column.row = decoder.row
        decoder.touched[decoder.touched_count] = column
        decoder.touched_count += 1
    column.kind = -1
    column.is_mixed = False
    return True


cdef inline void _take_back(Decoder* decoder, Column* column) noexcept nogil:
    """Takes back what this record added to the column."""
    if column.kind >= 0:
        _drop(_held_of(decoder, column, column.kind), column.kind)
    column.steps.size = column.steps_settled


cdef inline Held* _choose(Decoder* decoder, Column* column, int kind) noexcept nogil:
    """What to add values of this kind to; what another kind held is no more, as of any oneof."""
    cdef Held* held
    if column.is_wanted and column.held == NULL:
        column.held = <Held*>calloc(_KINDS, sizeof(Held))
        if column.held == NULL:
            return NULL
    held = _held_of(decoder, column, kind)
    if held.ends.size == 0 and not _init_held(decoder, held, kind):
        return NULL
    if column.kind != kind:
        if column.kind >= 0:
            _drop(_held_of(decoder, column, column.kind), column.kind)
        _drop(held, kind)
        column.kind = kind
    return held


cdef bint _count_up(Decoder* decoder, Buffer* buffer, int64_t count) noexcept nogil:
    """Appends the numbers of so many rows, from 0; behind a 0, the ends of one value each. False as `_settle`."""
    cdef int32_t first = buffer.size > 0
    cdef int32_t* numbers
    cdef int32_t row
    if count and not _reserve(decoder, buffer, 4 * <size_t>count):
        return False
    numbers = <int32_t*>(buffer.data + buffer.size)
    for row in range(<int32_t>count):
        numbers[row] = row + first
    buffer.size += 4 * <size_t>count
    return True


cdef bint _settle(Decoder* decoder) noexcept nogil:
    """Keeps what this record added; False when memory is short."""
    cdef size_t index, count
    cdef bint is_one
    cdef Column* column
    cdef Held* held
    for index in range(decoder.touched_count):
        column = decoder.touched[index]
        if column.kind < 0 and not column.is_listed:
            continue
        if not column.is_wanted:
            if not _append32(decoder, &column.rows, decoder.row):
                return False
            continue
        if column.is_listed and not _settle_steps(decoder, column):
            return False
        if column.kind < 0:
            continue
        held = &column.held[column.kind]
        is_one = held.values.size - held.settled == (8 if column.kind == _INT else 4)
        held.settled = held.values.size
        if held.is_dense and held.count != decoder.row:
            held.is_dense = False
            if not _count_up(decoder, &held.rows, held.count):
                return False
        if held.one_each and not is_one:
            held.one_each = False
            if not _count_up(decoder, &held.ends, held.count):
                return False
        held.count += 1
        if not held.is_dense and not _append32(decoder, &held.rows, decoder.row):
            return False
        if held.one_each:
            continue
        count = held.settled // 8 if column.kind == _INT else held.settled // 4 - (column.kind == _BYTES)
        if not _append32(decoder, &held.ends, count):
            return False
    return True


cdef bint _settle_steps(Decoder* decoder, Column* column) noexcept nogil:
    column.steps_settled = column.steps.size
    return _append32(decoder, &column.list_rows, decoder.row) and _append32(
        decoder, &column.step_ends, column.steps_settled // 4
    )


cdef void _unsettle(Decoder* decoder) noexcept nogil:
    """Takes back what this record added."""
    cdef size_t index
    for index in range(decoder.touched_count):
        _take_back(decoder, decoder.touched[index])


# The messages of a tf.Example, from the innermost out. Of those in a feature list, each lies one message deeper.


cdef inline const uint8_t* _bytes_list(
    Decoder* decoder, Held* held, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    cdef uint64_t tag, size
    while at < end:
        at = _field(decoder, at, end, 4 + decoder.in_lists, 1, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag and not _append_text(decoder, held, at, size):
            return _fail(decoder, _NO_MEMORY, at)
        at += size
    return at


cdef inline const uint8_t* _float_list(
    Decoder* decoder, Held* held, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    cdef uint64_t tag, size
    while at < end:
        at = _field(decoder, at, end, 4 + decoder.in_lists, 1, _TAG_1_FIXED32, &tag, &size)
        if at == NULL:
            return NULL
        if tag == _TAG_1_FIXED32:
            if end - at < 4:
                return _fail(decoder, _CUT_OFF, at)
            size = 4
        if size % 4:
            return _fail(decoder, _BAD_FLOATS, at)
        if not _append(decoder, &held.values, at, size):
            return _fail(decoder, _NO_MEMORY, at)
        at += size
    return at


cdef inline const uint8_t* _quick_varint(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, uint64_t* value
) noexcept nogil:
    """As `_varint`; up to 8 bytes are read at once, without a branch for each, since lengths vary by chance."""
    cdef uint64_t word, stops
    cdef int size
    if at < end and at[0] < 0x80:
        value[0] = at[0]
        return at + 1
    if decoder.limit - at < 8:
        return _long_varint(decoder, at, end, value)
    memcpy(&word, at, 8)
    stops = ~word & <uint64_t>0x8080808080808080
    if stops == 0:
        return _long_varint(decoder, at, end, value)
    size = (penstock_first_set(stops) >> 3) + 1
    if size > end - at:
        return _fail(decoder, _CUT_OFF, at)
    word &= (stops ^ (stops - 1)) & <uint64_t>0x7F7F7F7F7F7F7F7F
    word = (word & <uint64_t>0x007F007F007F007F) | (word & <uint64_t>0x7F007F007F007F00) >> 1
    word = (word & <uint64_t>0x00003FFF00003FFF) | (word & <uint64_t>0x3FFF00003FFF0000) >> 2
    value[0] = (word & <uint64_t>0x000000000FFFFFFF) | (word & <uint64_t>0x0FFFFFFF00000000) >> 4
    return at + size


cdef inline const uint8_t* _int(Decoder* decoder, Held* held, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef uint64_t value = 0
    at = _quick_varint(decoder, at, end, &value)
    if at != NULL and not _append(decoder, &held.values, &value, 8):
        return _fail(decoder, _NO_MEMORY, at)
    return at


cdef size_t _count_varints(const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef size_t count = 0
    while at < end:
        count += at[0] < 0x80
        at += 1
    return count


cdef inline const uint8_t* _packed_ints(
    Decoder* decoder, Held* held, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    """Adds the varints that fill some bytes; room for them is asked for once."""
    cdef uint64_t value = 0
    cdef uint8_t* target
    if (held.values.capacity - held.values.size) // 8 < <size_t>(end - at) and not _reserve(
        decoder, &held.values, 8 * _count_varints(at, end)
    ):
        return _fail(decoder, _NO_MEMORY, at)
    target = held.values.data + held.values.size
    while at < end:
        at = _quick_varint(decoder, at, end, &value)
        if at == NULL:
            return NULL
        memcpy(target, &value, 8)
        target += 8
    held.values.size = target - held.values.data
    return at


cdef inline const uint8_t* _int_list(
    Decoder* decoder, Held* held, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    cdef uint64_t tag, size
    while at < end:
        at = _field(decoder, at, end, 4 + decoder.in_lists, 1, _TAG_1_VARINT, &tag, &size)
        if at == NULL:
            return NULL
        if tag == _TAG_1_VARINT:
            at = _int(decoder, held, at, end)
        elif size:
            at = _packed_ints(decoder, held, at, at + size)
        if at == NULL:
            return NULL
    return at


cdef inline const uint8_t* _list(
    Decoder* decoder, Held* held, int kind, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    if kind == _BYTES:
        return _bytes_list(decoder, held, at, end)
    if kind == _FLOAT:
        return _float_list(decoder, held, at, end)
    return _int_list(decoder, held, at, end)


cdef inline const uint8_t* _short_field(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Where the content of a field begins that has a length of one or two bytes and ends at `end`; else NULL."""
    if end - at < 2:
        return NULL
    if at[1] < 0x80:
        return at + 2 if at[1] == end - at - 2 else NULL
    if end - at < 3 or at[2] >= 0x80:
        return NULL
    return at + 3 if (at[1] & 0x7F | <int64_t>at[2] << 7) == end - at - 3 else NULL


cdef inline const uint8_t* _plain_content(const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Where the values of a Feature begin that is one list of one field with a length, as they mostly are; else NULL.

    That is packed numbers, or one text.
    """
    cdef const uint8_t* field = _short_field(at, end)
    if field == NULL or at[0] & 7 != 2 or not 0x0A <= at[0] <= 0x1A or field == end or field[0] != _TAG_1_BYTES:
        return NULL
    return _short_field(field, end)


cdef inline const uint8_t* _plain_feature(
    Decoder* decoder, Column* column, int kind, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    """Adds the values of a Feature that is plain."""
    cdef Held* held = _choose(decoder, column, kind)
    if held == NULL:
        return _fail(decoder, _NO_MEMORY, at)
    if kind == _INT:
        return _packed_ints(decoder, held, at, end)
    if kind == _FLOAT:
        if (end - at) % 4:
            return _fail(decoder, _BAD_FLOATS, at)
        if not _append_bytes(decoder, &held.values, at, end - at):
            return _fail(decoder, _NO_MEMORY, at)
        return end
    if not _append_text(decoder, held, at, end - at):
        return _fail(decoder, _NO_MEMORY, at)
    return end


cdef const uint8_t* _feature(Decoder* decoder, Column* column, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef uint64_t tag, size
    cdef int kind
    cdef Held* held
    while at < end:
        at = _field(decoder, at, end, 3, 3, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag == 0:
            continue
        kind = <int>(tag >> 3) - 1
        held = _choose(decoder, column, kind)
        if held == NULL:
            return _fail(decoder, _NO_MEMORY, at)
        at = _list(decoder, held, kind, at, at + size)
        if at == NULL:
            return NULL
    return at


cdef const uint8_t* _last_run(
    Decoder* decoder, const uint8_t* at, const uint8_t* end, int* kind, const uint8_t** start
) noexcept nogil:
    """Finds the kind of a step, -1 for none, and where its last lists begin, which no list of another kind follows."""
    cdef uint64_t tag, size
    cdef const uint8_t* field
    kind[0] = -1
    start[0] = end
    while at < end:
        field = at
        at = _field(decoder, at, end, 4, 3, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag and <int>(tag >> 3) - 1 != kind[0]:
            kind[0] = <int>(tag >> 3) - 1
            start[0] = field
        at += size
    return at


cdef const uint8_t* _step(Decoder* decoder, Column* column, const uint8_t* at, const uint8_t* end) noexcept nogil:
    """Adds the values of one step behind those of the steps before it."""
    cdef uint64_t tag, size
    cdef int kind
    cdef const uint8_t* start
    cdef const uint8_t* field
    cdef Held* held = NULL
    cdef Held* target
    cdef size_t before = 0
    if _last_run(decoder, at, end, &kind, &start) == NULL:
        return NULL
    if kind >= 0:
        # No fault yet: the key may come again, and then counts.
        column.is_mixed |= column.is_wanted and column.kind >= 0 and column.kind != kind
        held = _choose(decoder, column, kind)
        if held == NULL:
            return _fail(decoder, _NO_MEMORY, at)
        before = held.values.size
    while at < end:
        field = at
        at = _field(decoder, at, end, 4, 3, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag == 0:
            continue
        target = held
        if field < start:
            # No values of the step, but well-formed all the same.
            target = &decoder.sink[(tag >> 3) - 1]
            if target.ends.size == 0 and not _init_held(decoder, target, <int>(tag >> 3) - 1):
                return _fail(decoder, _NO_MEMORY, at)
            _drop(target, <int>(tag >> 3) - 1)
        at = _list(decoder, target, <int>(tag >> 3) - 1, at, at + size)
        if at == NULL:
            return NULL
    size = 0 if held == NULL else held.values.size - before
    if column.is_wanted and not _append32(decoder, &column.steps, size // (8 if kind == _INT else 4)):
        return _fail(decoder, _NO_MEMORY, start)
    return at


cdef const uint8_t* _feature_list(
    Decoder* decoder, Column* column, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    cdef uint64_t tag, size
    while at < end:
        at = _field(decoder, at, end, 3, 1, 0, &tag, &size)
        if at != NULL and tag:
            at = _step(decoder, column, at, at + size)
        if at == NULL:
            return NULL
    return at


cdef inline const uint8_t* _entry_value(
    Decoder* decoder, Column* column, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    if decoder.in_lists:
        return _feature_list(decoder, column, at, end)
    return _feature(decoder, column, at, end)


cdef const uint8_t* _any_entry(Decoder* decoder, const uint8_t* start, const uint8_t* end) noexcept nogil:
    """An entry as it may be: keys and values in any order and number; the last key counts, and values are merged."""
    cdef const uint8_t* key = start
    cdef uint64_t key_size = 0
    cdef uint64_t tag, size
    cdef const uint8_t* at = start
    cdef Column* column
    while at < end:
        at = _field(decoder, at, end, 2, 2, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag == _TAG_1_BYTES:
            if not _is_utf8(at, at + size):
                return _fail(decoder, _BAD_KEY, at)
            key, key_size = at, size
        at += size
    column = _column_of(decoder, key, key_size)
    if column == NULL:
        return _fail(decoder, _NO_MEMORY, start)
    decoder.last.following = column
    decoder.last = column
    if not _begin(decoder, column):
        return _fail(decoder, _IN_BOTH, start)
    at = start
    while at < end:
        at = _field(decoder, at, end, 2, 2, 0, &tag, &size)
        if at == NULL or (tag == _TAG_2_BYTES and _entry_value(decoder, column, at, at + size) == NULL):
            return NULL
        at += size
    return at


cdef inline const uint8_t* _entry(Decoder* decoder, const uint8_t* start, const uint8_t* end) noexcept nogil:
    cdef Column* column = decoder.last.following
    cdef const uint8_t* at
    cdef const uint8_t* content
    cdef uint64_t size
    if column != NULL and <size_t>(end - start) > column.head_size and _equal(start, column.head, column.head_size):
        at = _length(decoder, start + column.head_size, end, &size)
        if at == NULL:
            return NULL
        if at + size == end:
            decoder.last = column
            if not _begin(decoder, column):
                return _fail(decoder, _IN_BOTH, start)
            if not decoder.in_lists:
                content = _plain_content(at, end)
                if content != NULL:
                    return _plain_feature(decoder, column, (at[0] >> 3) - 1, content, end)
            return _entry_value(decoder, column, at, end)
    return _any_entry(decoder, start, end)


cdef const uint8_t* _features(Decoder* decoder, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef uint64_t tag, size
    while at < end:
        at = _field(decoder, at, end, 1, 1, 0, &tag, &size)
        if at != NULL and tag:
            at = _entry(decoder, at, at + size)
        if at == NULL:
            return NULL
    return at


cdef const uint8_t* _example(Decoder* decoder, const uint8_t* start, const uint8_t* end) noexcept nogil:
    cdef uint64_t tag, size
    cdef uint64_t sequences = 0
    cdef bint has_features = False
    cdef const uint8_t* at = start
    while at < end:
        at = _field(decoder, at, end, 0, 2, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag == _TAG_1_BYTES:
            has_features = True
            if _features(decoder, at, at + size) == NULL:
                return NULL
        elif tag == _TAG_2_BYTES:
            sequences = size
        at += size
    if sequences:
        return _fail(decoder, _SEQUENCES, start)
    if start < end and not has_features:
        return _fail(decoder, _NO_FEATURES, start)
    return at


cdef const uint8_t* _sequence_example(Decoder* decoder, const uint8_t* start, const uint8_t* end) noexcept nogil:
    cdef uint64_t tag, size
    cdef bint has_parts = False
    cdef const uint8_t* at = start
    while at < end:
        at = _field(decoder, at, end, 0, 2, 0, &tag, &size)
        if at == NULL:
            return NULL
        if tag:
            has_parts = True
            # Both parts are maps, of the same layout up to what a value is.
            decoder.in_lists = tag == _TAG_2_BYTES
            if _features(decoder, at, at + size) == NULL:
                return NULL
        at += size
    if start < end and not has_parts:
        return _fail(decoder, _NO_PARTS, start)
    return at


cdef bint _record(Decoder* decoder, const uint8_t* start, size_t size) noexcept nogil:
    """Adds one record to the columns; False for one with a fault, which adds nothing."""
    cdef size_t index
    decoder.record_size = size
    decoder.touched_count = 0
    decoder.last = &decoder.first
    decoder.in_lists = False
    if (_sequence_example if decoder.is_sequence else _example)(decoder, start, start + size) == NULL:
        _unsettle(decoder)
        return False
    for index in range(decoder.touched_count if decoder.is_sequence else 0):
        if decoder.touched[index].is_mixed:
            decoder.fault_column = decoder.touched[index]
            _fail(decoder, _MIXED_STEPS, start)
            _unsettle(decoder)
            return False
    if not _settle(decoder):
        _fail(decoder, _NO_MEMORY, start)
        return False
    return True


# Python's side.


cdef class _Memory:
    """Bytes that the kernel allocated, for numpy and Arrow to look at; read-only, unless nobody else has them."""

    cdef bint _is_writable
    cdef uint8_t* _data
    cdef Py_ssize_t _size
    cdef size_t _capacity

    def __dealloc__(self):
        memory_give(self._data, self._capacity)

    def __getbuffer__(self, Py_buffer* buffer, int flags):
        cdef uint8_t* data = self._data if self._data != NULL else &_NOTHING
        PyBuffer_FillInfo(buffer, self, data, self._size, not self._is_writable, flags)


cdef object _take(Buffer* buffer, bint is_writable=False):
    """The content of a buffer, which is empty from then on."""
    cdef _Memory memory = _Memory()
    cdef void* shrunk
    # What was expected may not have come.
    if buffer.size < buffer.capacity // 2:
        shrunk = memory_grow(buffer.data, buffer.size, buffer.size, &buffer.capacity)
        buffer.data = buffer.data if shrunk == NULL else <uint8_t*>shrunk
    memory._is_writable = is_writable
    memory._data, memory._size, memory._capacity = buffer.data, buffer.size, buffer.capacity
    memset(buffer, 0, sizeof(Buffer))
    return memoryview(memory)


cdef object _counted(Decoder* decoder, int64_t count, dict counted):
    """The numbers from 0 up to `count`, int32: made once for all columns, which look at the same memory."""
    cdef Buffer numbers
    if count not in counted:
        memset(&numbers, 0, sizeof(Buffer))
        if not _append32(decoder, &numbers, 0) or not _count_up(decoder, &numbers, count):
            _free_buffer(&numbers)
            raise MemoryError
        counted[count] = _take(&numbers)
    return counted[count]


cdef object _taken_text(Held* held, block):
    """The content of texts; of those in the block a copy where they are less than three quarters of it."""
    cdef Buffer copied
    if not held.is_placed:
        return _take(&held.data, is_writable=True)
    if held.data.size >= <size_t>len(block) // 4 * 3:
        return memoryview(block)[: held.data.size]
    memset(&copied, 0, sizeof(Buffer))
    copied.data = <uint8_t*>memory_take(held.data.size, &copied.capacity)
    if copied.data == NULL:
        raise MemoryError
    copied.size = held.data.size
    memcpy(copied.data, held.data.data, copied.size)
    return _take(&copied, is_writable=True)


cdef object _taken(Decoder* decoder, Column* column, dict counted, block):
    """What `read` returns of a column: what it holds by kind."""
    cdef int kind
    cdef Held* held
    taken = {}
    for kind in range(_KINDS):
        held = &column.held[kind]
        if held.count:
            taken[kind] = (
                _counted(decoder, held.count, counted)[: 4 * held.count] if held.is_dense else _take(&held.rows),
                _counted(decoder, held.count, counted) if held.one_each else _take(&held.ends),
                _take(&held.values),
                _taken_text(held, block),
                bool(held.one_each),
            )
    return taken


cdef object _taken_steps(Decoder* decoder, Column* column):
    cdef size_t count = column.step_ends.size
    if not _reserve(decoder, &column.step_ends, 4):
        raise MemoryError
    memmove(column.step_ends.data + 4, column.step_ends.data, count)
    memset(column.step_ends.data, 0, 4)
    column.step_ends.size = count + 4
    return _take(&column.list_rows), _take(&column.step_ends), _take(&column.steps)


cdef str _fault_key(Decoder* decoder):
    """The key that the fault is about, for the faults that are about one."""
    cdef Column* column = decoder.fault_column
    return "" if column == NULL else column.key[:column.key_size].decode()


cdef class _Owner:
    """A decoder that is freed with the object."""

    cdef Decoder decoder

    def __cinit__(self):
        memset(&self.decoder, 0, sizeof(Decoder))

    def __dealloc__(self):
        cdef size_t index
        for index in range(self.decoder.count):
            _free_column(self.decoder.columns[index])
        _free_held(self.decoder.sink)
        free(self.decoder.columns)
        free(self.decoder.slots)
        free(self.decoder.touched)


def read(
    const unsigned char[::1] data not None,
    const int64_t[::1] starts not None,
    const int64_t[::1] lengths not None,
    names,
    bint is_sequence=False,
    bint has_crcs=False,
    block=None,
):
    """The values of the records `data[starts[i]:][:lengths[i]]`.

    Args:
      data: the bytes.
      starts: int64[n].
      lengths: int64[n].
      names: the keys to read; None for all.
      is_sequence: whether the records are tf.SequenceExamples.
      has_crcs: whether the masked CRC of each record is behind it, and must match.
      block: `data`, if it may be overwritten, and the content of bytes may lie in it; records must then ascend.

    Returns:
      Four things. By key and by kind (0 bytes, 1 float, 2 int) what at least one record holds: the rows, int32; the
      ends of their values, int32 with a 0 in front; the values, of bytes their ends, int32 with a 0 in front; the
      content of bytes, which may be written to; whether each of the rows has one value. By key that is not among the
      names, the rows that hold it, int32. By row why a record is none of its type. And by key that is a feature list:
      the rows where it is, int32; the ends of their steps, int32 with a 0 in front; the number of values of each step,
      int32.

    Raises:
      ValueError: for records that are not in `data`, or more than 2 GiB of them.
    """
    cdef _Owner owner = _Owner()
    cdef Decoder* decoder = &owner.decoder
    cdef Column* column
    cdef int64_t row
    cdef size_t index
    cdef int64_t total = 0
    cdef bytes key
    cdef int64_t footer = _CRC_BYTES if has_crcs else 0
    cdef unsigned char[::1] room
    if starts.shape[0] != lengths.shape[0]:
        raise ValueError("as many starts as lengths are needed")
    for row in range(starts.shape[0]):
        if not 0 <= starts[row] <= data.shape[0] or not 0 <= lengths[row] <= data.shape[0] - starts[row] - footer:
            raise ValueError(f"record {row} is not in the data")
        total += lengths[row]
        if total > INT32_MAX:
            raise ValueError("the records have more than 2 GiB")
        if block is not None and row and starts[row] < starts[row - 1] + lengths[row - 1]:
            raise ValueError("records in a block that may be overwritten must ascend")
    if block is not None and total:
        room = block
        if &room[0] != &data[0]:
            raise ValueError("the block must be the data")
        decoder.block = &room[0]
    decoder.is_sequence = is_sequence
    decoder.has_crcs = has_crcs
    decoder.total = total
    decoder.limit = &data[0] + data.shape[0] if data.shape[0] else NULL
    decoder.wants_all = True
    for name in names or ():
        key = name.encode()
        if _column_of(decoder, key, len(key)) == NULL:
            raise MemoryError
    decoder.wants_all = names is None
    rejects = {}
    what = TYPES[is_sequence]
    if total or has_crcs:
        row = 0
        while row < starts.shape[0]:
            with nogil:
                row = _records(decoder, &data[0], &starts[0], &lengths[0], row, starts.shape[0])
            if row < starts.shape[0]:
                if decoder.fault == _NO_MEMORY:
                    raise MemoryError
                rejects[row] = FAULTS[decoder.fault].format(
                    decoder.fault_at - &data[0] - starts[row], what=what, key=_fault_key(decoder)
                )
            row += 1
    values, unknown, steps, counted = {}, {}, {}, {}
    for index in range(decoder.count):
        column = decoder.columns[index]
        if column.list_rows.size:
            steps[column.key[:column.key_size].decode()] = _taken_steps(decoder, column)
        if column.held != NULL:
            taken = _taken(decoder, column, counted, block)
            if taken:
                values[column.key[:column.key_size].decode()] = taken
        elif column.rows.size:
            unknown[column.key[:column.key_size].decode()] = _take(&column.rows)
    return values, unknown, rejects, steps


cdef inline bint _has_its_crc(const uint8_t* record, size_t size) noexcept nogil:
    cdef uint32_t stored
    memcpy(&stored, record + size, _CRC_BYTES)
    return crc32c_masked(record, size) == stored


cdef int64_t _records(
    Decoder* decoder, const uint8_t* data, const int64_t* starts, const int64_t* lengths, int64_t row, int64_t rows
) noexcept nogil:
    """Adds records to the columns up to the first with a fault, whose row it returns; without one `rows`."""
    while row < rows:
        decoder.row = row
        decoder.done += <double>lengths[row]
        # The record comes into the cache for both.
        if decoder.has_crcs and not _has_its_crc(data + starts[row], lengths[row]):
            _fail(decoder, _BAD_CRC, data + starts[row])
            return row
        if not _record(decoder, data + starts[row], lengths[row]):
            return row
        row += 1
    return rows
