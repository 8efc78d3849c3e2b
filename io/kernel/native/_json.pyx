# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Where the values of a JSON document begin and end, and documents to columns; see `penstock.io.kernel.pure.json`."""

import numpy as np

from libc.stdint cimport INT32_MAX, int32_t, int64_t, uint8_t, uint64_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memset

from penstock.io.kernel.shared import documents


cdef extern from "numbers.h" nogil:
    ctypedef enum number "enum number":
        NUMBER_GOOD
        NUMBER_BAD
        NUMBER_HARD
    bint text_is(const uint8_t* at, const uint8_t* end, const char* text)
    number parse_int(const uint8_t* at, const uint8_t* end, int64_t* value)
    number parse_float(const uint8_t* at, const uint8_t* end, double* value)


cdef extern from "json.h" nogil:
    bint is_json_float(const uint8_t* at, const uint8_t* end)
    bint parse_unsigned(const uint8_t* at, const uint8_t* end, uint64_t* value)
    const uint8_t* json_string_end(const uint8_t* at, const uint8_t* end)
    uint8_t* read_json_string(uint8_t* out, const uint8_t* at, const uint8_t* end)


cdef enum:
    BETWEEN = 0
    FIRST = 1
    AFTER = 2
    NEXT = 3

cdef enum:
    NO_VALUE = 1
    NO_COMMA = 2
    TRAILING_COMMA = 3
    LINE_BREAK = 4
    OPEN_VALUE = 5
    OPEN_ARRAY = 6

cdef enum:
    SPACE = 1  # between values
    BORDER = 2  # ends a word
    NESTS = 4  # of interest inside an object: brackets and quotes

cdef uint8_t _kinds[256]


cdef void _fill() noexcept:
    cdef int byte
    for byte in range(256):
        _kinds[byte] = 0
    for byte in (32, 9, 10, 13):
        _kinds[byte] |= SPACE | BORDER
    for byte in b",:":
        _kinds[byte] |= BORDER
    for byte in b'[]{}"':
        _kinds[byte] |= BORDER | NESTS


_fill()


cdef struct Found:
    int64_t values
    int64_t marks
    int64_t state
    int64_t consumed
    int64_t fault
    int64_t place


def cut_values(const uint8_t[::1] data not None, int64_t state, bint final):
    """See `penstock.io.kernel.pure.json.cut_values`."""
    cdef int64_t size = data.shape[0]
    cdef const uint8_t* first = &data[0] if size else NULL
    cdef Found found
    cdef int64_t room = size // 16 + 16
    # Values may be as short as a byte, and are nearly always longer: grow the arrays when they are not.
    while True:
        index = np.empty((3, room), np.int64)
        found = _cut(first, size, state, final, index)
        if found.values >= 0:
            break
        room = size + 1
    starts, ends = index[0, : found.values], index[1, : found.values]
    return starts, ends, index[2, : found.marks], documents.Cut(found.state, found.consumed, found.fault, found.place)


cdef Found _cut(const uint8_t* data, int64_t size, int64_t state, bint final, int64_t[:, ::1] index):
    cdef Found found
    cdef int64_t room = index.shape[1]
    cdef int64_t* starts = &index[0, 0]
    cdef int64_t* ends = &index[1, 0]
    cdef int64_t* marks = &index[2, 0]
    with nogil:
        found = _scan(data, size, state, final, room, starts, ends, marks)
    return found


cdef Found _scan(
    const uint8_t* data, int64_t size, int64_t state, bint final, int64_t room, int64_t* starts, int64_t* ends,
    int64_t* marks
) noexcept nogil:
    cdef Found found
    cdef int64_t at = 0
    cdef int64_t end
    cdef uint8_t byte
    found.values = found.marks = found.fault = 0
    found.place = -1
    found.state = state
    found.consumed = 0
    while at < size:
        byte = data[at]
        if _kinds[byte] & SPACE:
            at += 1
            continue
        if found.values == room or found.marks == room:
            found.values = -1
            return found
        if state == AFTER:
            if byte != b"," and byte != b"]":
                found.fault = NO_COMMA
                break
            state = NEXT if byte == b"," else BETWEEN
            marks[found.marks] = at
            found.marks += 1
            at += 1
        elif byte == b"]" and state == FIRST or byte == b"[" and state == BETWEEN:
            state = BETWEEN if byte == b"]" else FIRST
            marks[found.marks] = at
            found.marks += 1
            at += 1
        elif byte == b"]" and state == NEXT:
            found.fault = TRAILING_COMMA
            break
        elif byte == b"]" or byte == b"}" or byte == b"," or byte == b":":
            found.fault = NO_VALUE
            break
        else:
            end = _value_end(data, at, size, final)
            if end < 0:
                found.fault = LINE_BREAK
                at = -end - 1
                break
            if end > size:
                if final:
                    found.fault = OPEN_VALUE
                    break
                found.state = state
                found.consumed = at
                return found
            starts[found.values] = at
            ends[found.values] = end
            found.values += 1
            at = end
            if state != BETWEEN:
                state = AFTER
    if not found.fault and final and state != BETWEEN:
        found.fault = OPEN_ARRAY
    if found.fault:
        found.place = at
    found.state = state
    found.consumed = at
    return found


cdef int64_t _value_end(const uint8_t* data, int64_t at, int64_t size, bint final) noexcept nogil:
    """The end of the value at `at`; more than `size` when it has none yet; -1 - the index of a text with a line break."""
    cdef int64_t depth = 0
    cdef uint8_t byte = data[at]
    if byte == b'"':
        return _text_end(data, at, size)
    if byte != b"{" and byte != b"[":
        while at < size and not _kinds[data[at]] & BORDER:
            at += 1
        return at if at < size or final else size + 1
    while at < size:
        byte = data[at]
        if not _kinds[byte] & NESTS:
            at += 1
            continue
        if byte == b'"':
            at = _text_end(data, at, size)
            if at < 0:
                return at
            continue
        at += 1
        if byte == b"{" or byte == b"[":
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                return at
    return size + 1


cdef int64_t _text_end(const uint8_t* data, int64_t quote, int64_t size) noexcept nogil:
    """The index after the closing quote; more than `size` without one; -1 - `quote` when a line break comes first."""
    cdef int64_t at = quote + 1
    cdef uint8_t byte
    while at < size:
        byte = data[at]
        at += 1
        if byte == b'"':
            return at
        if byte == b"\n":
            return -1 - quote
        if byte == b"\\" and at < size and data[at] != b"\n":
            at += 1
    return size + 1


cdef enum:
    INTS = 0
    UNSIGNED = 1
    FLOATS = 2
    BOOLEANS = 3
    TEXTS = 4

# Values in more lists are left to Python.
cdef enum:
    MAX_LISTS = 7


cdef struct Buffer:
    uint8_t* data
    size_t size
    size_t room


cdef struct Level:
    # The values in so many lists: whether each is there, and where those that are lists or texts end.
    Buffer valid
    Buffer ends
    int64_t nulls


cdef struct Parsed:
    int form
    int lists
    const uint8_t* before
    size_t before_size
    Level levels[MAX_LISTS + 1]
    Buffer values
    Buffer hard  # of floats that `parse_float` does not find: which value, and where its text starts and ends


# Where the documents lie when there is no byte of them.
cdef uint8_t NOWHERE = 0


cdef class _Columns:
    cdef Parsed* columns
    cdef Py_ssize_t size
    cdef list _before

    def __cinit__(self, list before, forms, lists):
        cdef Parsed* column
        self._before, self.size = before, len(before)
        self.columns = <Parsed*>calloc(max(self.size, 1), sizeof(Parsed))
        if self.columns == NULL:
            raise MemoryError
        for index, (text, form, count) in enumerate(zip(before, forms, lists, strict=True)):
            if count > MAX_LISTS:
                raise ValueError(f"values must be in at most {MAX_LISTS} lists, got {count}")
            column = &self.columns[<Py_ssize_t>index]
            column.before, column.before_size = <const uint8_t*><const char*>text, len(text)
            column.form, column.lists = form, count

    def __dealloc__(self):
        cdef Py_ssize_t index
        cdef int level
        for index in range(self.size if self.columns != NULL else 0):
            for level in range(MAX_LISTS + 1):
                free(self.columns[index].levels[level].valid.data)
                free(self.columns[index].levels[level].ends.data)
            free(self.columns[index].values.data)
            free(self.columns[index].hard.data)
        free(self.columns)

    cdef list found(self, const uint8_t* data):
        """The columns as arrays."""
        cdef Parsed* column
        cdef Py_ssize_t index
        cdef int level
        made = []
        for index in range(self.size):
            column = &self.columns[index]
            levels = []
            for level in range(column.lists + 1):
                is_of_parts = level < column.lists or column.form == TEXTS
                levels.append(_level(&column.levels[level], is_of_parts))
            kind = (np.int64, np.uint64, np.float64, np.bool_, np.uint8)[column.form]
            values = _array(&column.values, kind)
            for place, start, end in _array(&column.hard, np.int64).reshape(-1, 3).tolist():
                values[place] = float((<const char*>data)[start:end])
            made.append((levels, values))
        return made


cdef object _level(const Level* level, bint is_of_parts):
    valid = _array(&level.valid, np.bool_) if level.nulls else None
    starts = np.append(np.zeros(1, np.int32), _array(&level.ends, np.int32)) if is_of_parts else None
    return documents.Level(level.valid.size, valid, starts)


cdef object _array(const Buffer* buffer, kind):
    array = np.empty(buffer.size, np.uint8)
    cdef uint8_t[::1] view = array
    if buffer.size:
        memcpy(&view[0], buffer.data, buffer.size)
    return array.view(kind)


def parse_columns(
    const uint8_t[::1] data not None, const int64_t[::1] starts not None, const int64_t[::1] ends not None,
    list before not None, bytes after not None, forms not None, lists not None,
):
    """See `penstock.io.kernel.pure.json.parse_columns`."""
    cdef const uint8_t* first = &data[0] if data.shape[0] else &NOWHERE
    cdef const uint8_t* last = after
    cdef int64_t rows = starts.shape[0], row, size = data.shape[0]
    cdef size_t last_size = len(after)
    cdef bint is_inside = True, is_good = True
    if ends.shape[0] != rows:
        raise ValueError("each document must have a start and an end")
    if size > INT32_MAX or max(lists, default=0) > MAX_LISTS:
        return None
    cdef _Columns columns = _Columns(before, forms, lists)
    with nogil:
        for row in range(rows):
            is_inside &= (0 <= starts[row]) & (starts[row] <= ends[row]) & (ends[row] <= size)
    if not is_inside:
        raise ValueError("a document must lie in the data")
    with nogil:
        for row in range(rows):
            if not _parse(columns.columns, columns.size, first, first + starts[row], first + ends[row], last, last_size):
                is_good = False
                break
    return columns.found(first) if is_good else None


cdef bint _parse(
    Parsed* columns, Py_ssize_t size, const uint8_t* data, const uint8_t* at, const uint8_t* end, const uint8_t* after,
    size_t after_size,
) noexcept nogil:
    """Takes the values of a document; False to give up."""
    cdef Py_ssize_t index
    cdef Parsed* column
    for index in range(size):
        column = &columns[index]
        if <size_t>(end - at) < column.before_size or memcmp(at, column.before, column.before_size):
            return False
        at = _value(column, 0, data, at + column.before_size, end)
        if at == NULL:
            return False
    return <size_t>(end - at) == after_size and memcmp(at, after, after_size) == 0


cdef const uint8_t* _value(
    Parsed* column, int lists, const uint8_t* data, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    """Takes a value in so many lists; returns where it ends, and NULL to give up, for want of memory, too."""
    cdef Level* level = &column.levels[lists]
    cdef bint is_list = lists < column.lists
    cdef bint is_null = end - at >= 4 and memcmp(at, b"null", 4) == 0
    if is_null:
        at += 4
        level.nulls += 1
        if not is_list and column.form != TEXTS and not _put_zero(column):
            return NULL
    elif is_list:
        at = _items(column, lists, data, at, end)
    elif column.form == TEXTS:
        at = _text(&column.values, at, end)
    else:
        at = _scalar(column, data, at, end)
    if at == NULL or not _room(&level.valid, 1):
        return NULL
    level.valid.data[level.valid.size] = not is_null
    level.valid.size += 1
    if is_list:
        return at if _put32(&level.ends, <int32_t>column.levels[lists + 1].valid.size) else NULL
    if column.form == TEXTS:
        return at if _put32(&level.ends, <int32_t>column.values.size) else NULL
    return at


cdef const uint8_t* _items(
    Parsed* column, int lists, const uint8_t* data, const uint8_t* at, const uint8_t* end
) noexcept nogil:
    if at == end or at[0] != b"[":
        return NULL
    at += 1
    if at < end and at[0] == b"]":
        return at + 1
    while True:
        at = _value(column, lists + 1, data, at, end)
        if at == NULL or at == end or (at[0] != b"]" and at[0] != b","):
            return NULL
        if at[0] == b"]":
            return at + 1
        at += 1


cdef const uint8_t* _scalar(Parsed* column, const uint8_t* data, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef const uint8_t* stop = at
    cdef number found = NUMBER_BAD
    cdef int64_t whole = 0
    cdef uint64_t magnitude = 0
    cdef double real = 0
    while stop < end and stop[0] != b"," and stop[0] != b"]" and stop[0] != b"}":
        stop += 1
    if column.form == INTS:
        found = parse_int(at, stop, &whole)
        return stop if found == NUMBER_GOOD and _put64(&column.values, &whole) else NULL
    if column.form == FLOATS:
        if is_json_float(at, stop):
            found = parse_float(at, stop, &real)
        if found == NUMBER_HARD and not _put_hard(column, at - data, stop - data):
            return NULL
        return stop if found != NUMBER_BAD and _put64(&column.values, &real) else NULL
    if column.form == UNSIGNED:
        return stop if parse_unsigned(at, stop, &magnitude) and _put64(&column.values, &magnitude) else NULL
    whole = text_is(at, stop, b"true")
    if not whole and not text_is(at, stop, b"false") or not _room(&column.values, 1):
        return NULL
    column.values.data[column.values.size] = <uint8_t>whole
    column.values.size += 1
    return stop


cdef const uint8_t* _text(Buffer* values, const uint8_t* at, const uint8_t* end) noexcept nogil:
    cdef const uint8_t* stop = json_string_end(at, end)
    cdef uint8_t* behind
    if stop == NULL or not _room(values, stop - at):
        return NULL
    behind = read_json_string(values.data + values.size, at + 1, stop)
    if behind == NULL:
        return NULL
    values.size = behind - values.data
    return stop + 1


cdef bint _put_zero(Parsed* column) noexcept nogil:
    cdef size_t width = 1 if column.form == BOOLEANS else 8
    if not _room(&column.values, width):
        return False
    memset(column.values.data + column.values.size, 0, width)
    column.values.size += width
    return True


cdef bint _put_hard(Parsed* column, int64_t start, int64_t end) noexcept nogil:
    cdef int64_t place = column.values.size // 8
    return _put64(&column.hard, &place) and _put64(&column.hard, &start) and _put64(&column.hard, &end)


cdef inline bint _put64(Buffer* buffer, const void* value) noexcept nogil:
    if not _room(buffer, 8):
        return False
    memcpy(buffer.data + buffer.size, value, 8)
    buffer.size += 8
    return True


cdef inline bint _put32(Buffer* buffer, int32_t value) noexcept nogil:
    if not _room(buffer, 4):
        return False
    memcpy(buffer.data + buffer.size, &value, 4)
    buffer.size += 4
    return True


cdef inline bint _room(Buffer* buffer, size_t size) noexcept nogil:
    """Makes room for so many bytes more; False where there is no memory."""
    return buffer.room - buffer.size >= size or _grow(buffer, size)


cdef bint _grow(Buffer* buffer, size_t size) noexcept nogil:
    cdef size_t room = buffer.room + (buffer.room >> 1) + size + 256
    cdef void* grown = realloc(buffer.data, room)
    if grown == NULL:
        return False
    buffer.data, buffer.room = <uint8_t*>grown, room
    return True
