# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The fields of CSV records, and columns of them as Arrow lays them out."""

import numpy as np

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy


cdef extern from "words.h" nogil:
    const uint8_t* find_byte(const uint8_t* at, const uint8_t* end, const uint8_t* limit, uint8_t byte)
    const uint8_t* find_byte_and_quotes(
        const uint8_t* at, const uint8_t* end, const uint8_t* limit, uint8_t byte, size_t* quotes)
    const uint8_t* find_either(
        const uint8_t* at, const uint8_t* end, const uint8_t* limit, uint8_t byte, uint8_t other)
    size_t count_byte(const uint8_t* at, const uint8_t* end, uint8_t byte)


cdef extern from "numbers.h" nogil:
    ctypedef enum number "enum number":
        NUMBER_GOOD
    number parse_int(const uint8_t* at, const uint8_t* end, int64_t* value)
    number parse_boolean(const uint8_t* at, const uint8_t* end, int64_t* value)
    number parse_float(const uint8_t* at, const uint8_t* end, double* value)
    bint overflows_float32(double value)


# Positions have 30 bits; the two highest of a size tell how the field is quoted.
MAX_BYTES = 1 << 30
cdef enum:
    SIZE = 0x3FFFFFFF
    QUOTED = 0x40000000
    DOUBLED = 0x80000000

cdef int64_t _MISQUOTED = -1
MISQUOTED = _MISQUOTED

# So many bytes are copied at once where as many may be read and written.
cdef enum:
    SHORT = 16


cdef struct Field:
    uint32_t start
    uint32_t size


cdef class Splitter:
    """Splits records into fields, and keeps where they are until the next records; for one thread."""

    cdef uint8_t _delimiter
    cdef bint _single_lines, _quoting, _spaces
    cdef Py_ssize_t _columns, _wanted, _rows, _capacity
    cdef Py_ssize_t* _slots
    cdef Field* _fields
    cdef bytes _data
    cdef list _nulls

    def __cinit__(
        self, uint8_t delimiter, bint single_lines, slots, null_values, bint quoting=True, bint spaces=False
    ):
        """
        Args:
          delimiter: between fields.
          single_lines: a record with an odd number of quotes is misquoted.
          slots: for each column of the file the slot where its fields are kept, or -1 for one that is not wanted.
          null_values: the texts that, unquoted, are null; the empty one always is.
          quoting: fields may be quoted.
          spaces: spaces at both ends of a field, or beside its quotes, are no part of it.
        """
        self._quoting = quoting
        self._spaces = spaces
        self._delimiter = delimiter
        self._single_lines = single_lines
        self._columns = len(slots)
        self._wanted = max(slots, default=-1) + 1
        self._nulls = [bytes(text) for text in null_values]
        self._slots = <Py_ssize_t*>malloc(max(self._columns, 1) * sizeof(Py_ssize_t))
        if not self._slots:
            raise MemoryError
        for column, slot in enumerate(slots):
            self._slots[column] = max(slot, -1)
        self._reserve(1)

    def __dealloc__(self):
        free(self._slots)
        free(self._fields)

    def split(
        self,
        bytes data not None,
        const int64_t[::1] starts not None,
        const int64_t[::1] ends not None,
        good not None,
    ):
        """Takes the fields of the good records that have one for each column of the file, until the next call.

        Args:
          data: some text.
          starts: int64[n], where each record starts, ascending.
          ends: int64[n], where it ends, without its line end.
          good: bool[n], which records have no fault but maybe one of their quotes or of the number of their fields.

        Returns:
          int64[n], the number of fields of each record: `MISQUOTED` where it is not one record, else 0 if not good.

        Raises:
          ValueError: for records that are not in the data, and data of `MAX_BYTES` or more.
        """
        cdef Py_ssize_t rows = starts.shape[0], row, size = len(data)
        cdef const uint8_t[::1] flags = good.view(np.uint8)
        if ends.shape[0] != rows or flags.shape[0] != rows or len(data) >= MAX_BYTES:
            raise ValueError("records must have a start, an end and a flag each, within less than 1 GiB")
        cdef bint is_inside = True
        with nogil:
            for row in range(rows):
                is_inside &= (0 <= starts[row]) & (starts[row] <= ends[row]) & (ends[row] <= size)
        if not is_inside:
            raise ValueError("a record must lie in the data")
        self._reserve(rows)
        self._data, self._rows = data, rows
        counts = np.empty(rows, np.int64)
        cdef int64_t[::1] found = counts
        cdef const uint8_t* first = data
        with nogil:
            for row in range(rows):
                found[row] = self._split(first, size, starts[row], ends[row], row)
                if not flags[row] and (found[row] != _MISQUOTED or not self._single_lines):
                    found[row] = 0
            self._keep_whole(found, flags)
        return counts

    cdef void _keep_whole(self, const int64_t[::1] counts, const uint8_t[::1] good) noexcept nogil:
        """Leaves only the good records of as many fields as columns."""
        cdef Py_ssize_t row, slot, kept = 0, whole = 0
        cdef Field* fields
        for row in range(self._rows):
            whole += (good[row] != 0) & (counts[row] == self._columns)
        for slot in range(self._wanted if whole < self._rows else 0):
            fields = self._fields + slot * self._capacity
            kept = 0
            for row in range(self._rows):
                fields[kept] = fields[row]
                kept += (good[row] != 0) & (counts[row] == self._columns)
        self._rows = whole

    cdef void _reserve(self, Py_ssize_t rows) except *:
        if rows <= self._capacity:
            return
        free(self._fields)
        self._capacity = 0
        self._fields = <Field*>malloc(max(self._wanted, 1) * rows * sizeof(Field))
        if not self._fields:
            raise MemoryError
        self._capacity = rows

    cdef int64_t _split(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t row) noexcept nogil:
        cdef const uint8_t* at = data + start
        cdef const uint8_t* end = data + stop
        cdef const uint8_t* limit = data + size
        cdef const uint8_t* next
        cdef const uint8_t* close
        cdef int64_t column = 0
        cdef size_t quotes = 0
        cdef uint32_t how
        while True:
            if self._spaces:
                at = _skip_spaces(at, end)
            if self._quoting and at < end and at[0] == b'"':
                at += 1
                how = QUOTED
                next = find_byte(at, end, limit, b'"')
                while next + 1 < end and next[1] == b'"':
                    how = QUOTED | DOUBLED
                    next = find_byte(next + 2, end, limit, b'"')
                if next == end:
                    return _MISQUOTED
                close = next
                next = _skip_spaces(next + 1, end) if self._spaces else next + 1
                if next < end and next[0] != self._delimiter:
                    return _MISQUOTED
                self._take(column, row, at - data, close - at, how)
            else:
                next = find_byte_and_quotes(at, end, limit, self._delimiter, &quotes)
                close = next
                while self._spaces and close > at and (close - 1)[0] == b" ":
                    close -= 1
                self._take(column, row, at - data, close - at, 0)
            column += 1
            if next >= end:
                return _MISQUOTED if self._quoting and self._single_lines and quotes & 1 else column
            at = next + 1

    cdef inline void _take(self, int64_t column, Py_ssize_t row, Py_ssize_t start, Py_ssize_t size, uint32_t how) noexcept nogil:
        cdef Field* field
        if column < self._columns and self._slots[column] >= 0:
            field = self._fields + self._slots[column] * self._capacity + row
            field.start = <uint32_t>start
            field.size = <uint32_t>size | how

    def texts(self, Py_ssize_t slot, const int64_t[::1] only=None):
        """The fields of a slot, as Arrow lays out texts.

        Args:
          slot: one of those that are taken.
          only: int64, the records that are wanted; None for all.

        Returns:
          int32[n + 1] offsets, uint8 bytes, and uint8[n], which are not null, or None when all are there.

        Raises:
          ValueError: when there is no such slot or record.
        """
        cdef const Field* fields = self._of(slot)
        cdef Py_ssize_t row, rows = self._rows
        cdef Field* picked = NULL
        if only is None:
            return self._texts(fields, rows)
        for row in range(only.shape[0]):
            if not 0 <= only[row] < rows:
                raise ValueError("there is no such record")
        picked = <Field*>malloc(max(only.shape[0], 1) * sizeof(Field))
        if not picked:
            raise MemoryError
        try:
            for row in range(only.shape[0]):
                picked[row] = fields[only[row]]
            return self._texts(picked, only.shape[0])
        finally:
            free(picked)

    cdef object _texts(self, const Field* fields, Py_ssize_t rows):
        cdef Py_ssize_t row
        cdef const uint8_t* data = self._data
        cdef const uint8_t* limit = data + len(self._data)
        valid = self._valid(fields, rows)
        cdef const uint8_t[::1] there = valid
        offsets = np.empty(rows + 1, np.int32)
        cdef int32_t[::1] ends = offsets
        ends[0] = 0
        with nogil:
            for row in range(rows):
                ends[row + 1] = ends[row]
                if there is None or there[row]:
                    ends[row + 1] += <int32_t>_text_size(fields[row], data)
        content = np.empty(ends[rows], np.uint8)
        cdef uint8_t[::1] out = content
        with nogil:
            for row in range(rows):
                if ends[row] < ends[row + 1]:
                    _copy_text(fields[row], data, limit, &out[ends[row]], &out[0] + out.shape[0])
        return offsets, content, valid

    def ints(self, Py_ssize_t slot, bint boolean):
        """The fields of a slot as integers.

        Args:
          slot: one of those that are taken.
          boolean: whether the spellings of true and false count.

        Returns:
          int64[n], 0 where there is none; uint8[n], where there is one, or None when all are there; and int64[], the
          records whose field is there and no INT text.

        Raises:
          ValueError: when there is no such slot.
        """
        cdef const Field* fields = self._of(slot)
        cdef Py_ssize_t row, rows = self._rows, count = 0
        cdef const uint8_t* data = self._data
        cdef const uint8_t* at
        cdef const uint8_t* end
        valid = self._valid(fields, rows)
        cdef const uint8_t[::1] there = valid
        values, odd = np.empty(rows, np.int64), np.empty(rows, np.int64)
        cdef int64_t[::1] out = values
        cdef int64_t[::1] found = odd
        with nogil:
            for row in range(rows):
                if there is not None and not there[row]:
                    out[row] = 0
                    continue
                at = data + fields[row].start
                end = at + (fields[row].size & SIZE)
                if (parse_boolean(at, end, &out[row]) if boolean else parse_int(at, end, &out[row])) != NUMBER_GOOD:
                    out[row] = 0
                    found[count] = row
                    count += 1
        return values, _without(valid, rows, odd[:count]), odd[:count].copy()

    def floats(self, Py_ssize_t slot):
        """The same as float64; a number beyond float32, and maybe one that only Arrow reads, count as no FLOAT text."""
        cdef const Field* fields = self._of(slot)
        cdef Py_ssize_t row, rows = self._rows, count = 0
        cdef const uint8_t* data = self._data
        cdef const uint8_t* at
        cdef const uint8_t* end
        valid = self._valid(fields, rows)
        cdef const uint8_t[::1] there = valid
        values, odd = np.empty(rows, np.float64), np.empty(rows, np.int64)
        cdef double[::1] out = values
        cdef int64_t[::1] found = odd
        with nogil:
            for row in range(rows):
                if there is not None and not there[row]:
                    out[row] = 0
                    continue
                at = data + fields[row].start
                end = at + (fields[row].size & SIZE)
                if parse_float(at, end, &out[row]) != NUMBER_GOOD or overflows_float32(out[row]):
                    out[row] = 0
                    found[count] = row
                    count += 1
        return values, _without(valid, rows, odd[:count]), odd[:count].copy()

    cdef const Field* _of(self, Py_ssize_t slot) except NULL:
        if not 0 <= slot < self._wanted:
            raise ValueError("there is no such slot")
        return self._fields + slot * self._capacity

    cdef object _valid(self, const Field* fields, Py_ssize_t rows):
        """bool[n], which fields are not null; None when none is."""
        cdef Py_ssize_t row, empty = 0
        with nogil:
            for row in range(rows):
                empty += not fields[row].size
        if not empty and not self._nulls:
            return None
        valid = np.empty(rows, np.uint8)
        cdef uint8_t[::1] out = valid
        with nogil:
            for row in range(rows):
                out[row] = fields[row].size != 0
        for text in self._nulls:
            empty += _unset_equal(fields, rows, self._data, text, out)
        return valid if empty else None


cdef inline const uint8_t* _skip_spaces(const uint8_t* at, const uint8_t* end) noexcept nogil:
    while at < end and at[0] == b" ":
        at += 1
    return at


cdef object _without(object valid, Py_ssize_t rows, object odd):
    """The mask of what is there, without the odd ones."""
    if len(odd):
        valid = np.ones(rows, np.uint8) if valid is None else valid
        valid[odd] = 0
    return valid


cdef Py_ssize_t _unset_equal(const Field* fields, Py_ssize_t rows, const uint8_t* data, const unsigned char[::1] text, uint8_t[::1] out) except -1:
    """Unsets the unquoted fields of this text; returns how many there are."""
    cdef Py_ssize_t row, found = 0
    cdef uint32_t size = <uint32_t>text.shape[0]
    with nogil:
        for row in range(rows if size else 0):
            if fields[row].size == size and not memcmp(data + fields[row].start, &text[0], size):
                out[row] = 0
                found += 1
    return found


cdef inline size_t _text_size(Field field, const uint8_t* data) noexcept nogil:
    cdef const uint8_t* at = data + field.start
    cdef size_t size = field.size & SIZE
    return size - count_byte(at, at + size, b'"') // 2 if field.size & DOUBLED else size


cdef inline void _copy_text(Field field, const uint8_t* data, const uint8_t* limit, uint8_t* out, uint8_t* out_limit) noexcept nogil:
    """Copies the text of a field, doubled quotes undone; may write on up to the limit of what is written next."""
    cdef const uint8_t* at = data + field.start
    cdef const uint8_t* end = at + (field.size & SIZE)
    if field.size & DOUBLED:
        while at < end:
            out[0] = at[0]
            at += 2 if at[0] == b'"' else 1
            out += 1
    elif end - at <= SHORT and limit - at >= SHORT and out_limit - out >= SHORT:
        memcpy(out, at, SHORT)
    else:
        memcpy(out, at, end - at)


cdef struct Record:
    const uint8_t* stop  # of the record: its line end, or the end of the data; NULL when more text may belong to it
    bint misquoted
    bint lone_cr


def cut_records(bytes data not None, uint8_t delimiter, bint final):
    """The records of text that begins with one, as penstock.io.formats.csv.records has them.

    Returns:
      int64[3, n]: where records start, where they end without and with their line ends; and bool[2, n]: which are
      misquoted, and which others have a lone CR outside quotes.
    """
    cdef const uint8_t* first = data
    cdef const uint8_t* limit = first + len(data)
    cdef const uint8_t* at = first
    cdef Py_ssize_t breaks, records = 0
    cdef Record record
    with nogil:
        breaks = <Py_ssize_t>count_byte(first, limit, b"\n") + 1
    index, faults = np.empty((3, breaks), np.int64), np.empty((2, breaks), np.uint8)
    cdef int64_t[:, ::1] borders = index
    cdef uint8_t[:, ::1] fault = faults
    with nogil:
        while at < limit:
            record = _record(at, limit, delimiter, final)
            if not record.stop:
                break
            borders[0, records] = at - first
            borders[1, records] = record.stop - first
            if record.stop < limit and record.stop > at and (record.stop - 1)[0] == b"\r":
                borders[1, records] -= 1
            fault[0, records] = record.misquoted
            fault[1, records] = record.lone_cr
            at = record.stop + (record.stop < limit)
            borders[2, records] = at - first
            records += 1
    return index[:, :records], faults[:, :records].view(np.bool_)


cdef Record _record(const uint8_t* at, const uint8_t* limit, uint8_t delimiter, bint final) noexcept nogil:
    cdef const uint8_t* next
    cdef Record record
    record.stop, record.misquoted, record.lone_cr = NULL, False, False
    while True:
        if at < limit and at[0] == b'"':
            next = find_byte(at + 1, limit, limit, b'"')
            while limit - next > 1 and next[1] == b'"':
                next = find_byte(next + 2, limit, limit, b'"')
            if next == limit:
                return record
            next += 1
            if limit - next > 1 and next[0] == b"\r" and next[1] == b"\n":
                next += 1
            if next < limit and next[0] != delimiter and next[0] != b"\n":
                record.misquoted, record.lone_cr = True, False
                next = find_byte(next, limit, limit, b"\n")
        else:
            next = find_either(at, limit, limit, delimiter, b"\n")
            if memchr(at, b"\r", next - at) and _has_lone_cr(at, next, limit):
                record.lone_cr = True
        if next == limit:
            if final:
                record.stop = limit
            return record
        if next[0] == b"\n" or record.misquoted:
            record.stop = next
            return record
        at = next + 1


cdef bint _has_lone_cr(const uint8_t* at, const uint8_t* end, const uint8_t* limit) noexcept nogil:
    """Whether the text of an unquoted field has a CR that does not begin a CRLF."""
    while at < end:
        if at[0] == b"\r" and (at + 1 == limit or at[1] != b"\n"):
            return True
        at += 1
    return False
