# A batch's columns for the other modules of the kernel: where their values lie in Arrow's buffers.
from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy


cdef enum Kind:
    INT
    FLOAT
    BYTES


cdef enum Form:
    INT64
    UINT64
    BOOL
    FLOAT32
    FLOAT64
    TEXT
    LARGE_TEXT


cdef struct Values:
    # One Arrow array of scalars; buffers may be unaligned, and are NULL where they have no bytes.
    Form form
    int64_t length
    const uint8_t* validity  # NULL where nothing is null
    int64_t first_bit  # of element 0, in `validity` and in the data of BOOL
    const uint8_t* offsets  # of texts: of element 0
    const uint8_t* data  # of numbers: element 0; of texts: what the offsets count from
    int64_t end  # of texts: of the last one, in the data


cdef struct Column:
    # A scalar column is one of lists that all have one item; then the validity of the items is that of the rows.
    Kind kind
    bint is_list
    bint has_large_offsets
    const uint8_t* validity  # of the rows; NULL where nothing is null
    int64_t first_bit
    const uint8_t* offsets  # of lists: of row 0
    Values items


cdef struct Span:
    int64_t start
    int64_t end


cdef inline bint bit_at(const uint8_t* bits, int64_t position) noexcept nogil:
    return bits[position >> 3] >> (position & 7) & 1


cdef inline int64_t int64_at(const uint8_t* data, int64_t index) noexcept nogil:
    cdef int64_t value
    memcpy(&value, data + index * 8, 8)
    return value


cdef inline Span span_at(const uint8_t* offsets, bint is_large, int64_t index) noexcept nogil:
    cdef int64_t[2] wide
    cdef int32_t[2] narrow
    if is_large:
        memcpy(wide, offsets + index * 8, 16)
        return Span(wide[0], wide[1])
    memcpy(narrow, offsets + index * 4, 8)
    return Span(narrow[0], narrow[1])


cdef inline bint is_present(const Column* column, int64_t row) noexcept nogil:
    return column.validity == NULL or bit_at(column.validity, column.first_bit + row)


cdef inline Span items_of(const Column* column, int64_t row) noexcept nogil:
    # Which of the items are those of a row that is present.
    if column.is_list:
        return span_at(column.offsets, column.has_large_offsets, row)
    return Span(row, row + 1)


cdef inline bint is_null(const Values* items, int64_t index) noexcept nogil:
    return items.validity != NULL and not bit_at(items.validity, items.first_bit + index)


cdef inline Span text_at(const Values* texts, int64_t index) noexcept nogil:
    return span_at(texts.offsets, texts.form == LARGE_TEXT, index)


cdef inline uint64_t int_at(const Values* ints, int64_t index) noexcept nogil:
    # The bits of the number as int64; uint64 wraps.
    if ints.form == BOOL:
        return bit_at(ints.data, ints.first_bit + index)
    return <uint64_t> int64_at(ints.data, index)


cdef inline double double_at(const Values* doubles, int64_t index) noexcept nogil:
    cdef double value
    memcpy(&value, doubles.data + index * 8, 8)
    return value


cdef inline float float_at(const Values* floats, int64_t index) noexcept nogil:
    # float64 is narrowed, and may become infinite.
    cdef float value
    if floats.form == FLOAT64:
        return <float> double_at(floats, index)
    memcpy(&value, floats.data + index * 4, 4)
    return value


cdef class Columns:
    cdef readonly int64_t rows
    cdef readonly int64_t size
    cdef Column* columns
    cdef object _capsules
