# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The columns of a RecordBatch, by Arrow's C data interface: for the other modules of the kernel, without pyarrow's C++.

Every length that they rely on is checked when a batch is opened, so that no reader of its values checks again.
"""

import sys

from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int64_t, uint8_t
from libc.stdlib cimport calloc, free
from libc.string cimport strcmp


cdef extern from *:
    """
    struct ArrowSchema {
        const char *format, *name, *metadata;
        int64_t flags, n_children;
        struct ArrowSchema **children, *dictionary;
        void (*release)(struct ArrowSchema *);
        void *private_data;
    };
    struct ArrowArray {
        int64_t length, null_count, offset, n_buffers, n_children;
        const void **buffers;
        struct ArrowArray **children, *dictionary;
        void (*release)(struct ArrowArray *);
        void *private_data;
    };
    """
    cdef struct ArrowSchema:
        const char* format
        int64_t n_children
        ArrowSchema** children

    cdef struct ArrowArray:
        int64_t length
        int64_t null_count
        int64_t offset
        int64_t n_buffers
        int64_t n_children
        const void** buffers
        ArrowArray** children


if sys.byteorder != "little":
    raise ImportError("the kernel is for little-endian machines")


cdef class Columns:
    """The columns of a batch, in its order, and the batch's memory for as long as this object lives.

    Attributes:
      rows: of the batch.
      size: the number of columns.
    """

    def __cinit__(self, batch not None):
        """Opens a batch of types that the kernel reads (`penstock.io.kernel.pure.columns`).

        Raises:
          TypeError: for a column of a type that the kernel does not read.
          ValueError: for offsets that do not ascend.
          pyarrow.ArrowInvalid: for buffers that are too short.
        """
        cdef const ArrowSchema* schema
        cdef const ArrowArray* array
        batch.validate()
        self._capsules = batch.__arrow_c_array__()
        schema = <const ArrowSchema*> PyCapsule_GetPointer(self._capsules[0], "arrow_schema")
        array = <const ArrowArray*> PyCapsule_GetPointer(self._capsules[1], "arrow_array")
        if array.offset or array.n_children != schema.n_children:
            raise ValueError("the batch is not a plain struct of columns")
        self.columns = <Column*> calloc(max(array.n_children, 1), sizeof(Column))
        if self.columns == NULL:
            raise MemoryError()
        self.rows = array.length
        self.size = array.n_children
        for index in range(self.size):
            _open_column(&self.columns[index], schema.children[index], array.children[index])

    def __dealloc__(self):
        free(self.columns)


cdef int _open_column(Column* column, const ArrowSchema* schema, const ArrowArray* array) except -1:
    column.validity = _validity(array)
    column.first_bit = array.offset
    column.is_list = schema.format[0] == b"+"
    if column.is_list:
        column.has_large_offsets = strcmp(schema.format, "+L") == 0
        if not column.has_large_offsets and strcmp(schema.format, "+l"):
            raise _unreadable(schema)
        column.offsets = _open_offsets(array, column.has_large_offsets)
        _open_values(&column.items, schema.children[0], array.children[0])
    else:
        _open_values(&column.items, schema, array)
    column.kind = _kind(column.items.form)
    return 0


cdef int _open_values(Values* values, const ArrowSchema* schema, const ArrowArray* array) except -1:
    values.form = _form(schema)
    values.length = array.length
    values.validity = _validity(array)
    values.first_bit = array.offset
    if values.form == TEXT or values.form == LARGE_TEXT:
        values.offsets = _open_offsets(array, values.form == LARGE_TEXT)
        values.data = <const uint8_t*> array.buffers[2]
        values.end = text_at(values, array.length - 1).end if array.length else 0
        return 0
    values.data = <const uint8_t*> array.buffers[1]
    if values.form != BOOL and values.data != NULL:
        values.data += array.offset * (4 if values.form == FLOAT32 else 8)
    return 0


cdef const uint8_t* _validity(const ArrowArray* array) noexcept:
    cdef const uint8_t* bits = NULL
    if array.null_count:  # or not counted, -1
        bits = <const uint8_t*> array.buffers[0]
    return bits


cdef const uint8_t* _open_offsets(const ArrowArray* array, bint is_large) except? NULL:
    """Where the offsets of row 0 lie; with ascending ones within the buffers that `validate` saw, all are."""
    cdef const uint8_t* offsets
    cdef bint is_broken = False
    cdef int64_t index
    cdef Span span
    if array.length == 0:
        return NULL
    offsets = <const uint8_t*> array.buffers[1] + array.offset * (8 if is_large else 4)
    with nogil:
        for index in range(array.length):
            span = span_at(offsets, is_large, index)
            is_broken |= span.end < span.start
    if is_broken:
        raise ValueError("the offsets of an Arrow array do not ascend")
    return offsets


cdef Form _form(const ArrowSchema* schema) except *:
    for form, letters in enumerate((b"l", b"L", b"b", b"f", b"g", b"uz", b"UZ")):
        if len(schema.format) == 1 and schema.format in letters:
            return <Form> <int> form
    raise _unreadable(schema)


cdef Kind _kind(Form form) noexcept:
    if form == FLOAT32 or form == FLOAT64:
        return FLOAT
    return BYTES if form == TEXT or form == LARGE_TEXT else INT


cdef object _unreadable(const ArrowSchema* schema):
    return TypeError(f"the kernel reads no columns of Arrow format {schema.format.decode()!r}")
