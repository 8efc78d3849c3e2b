# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows as framed tf.Examples or tf.SequenceExamples; `penstock.io.examples.encode` says how they lie.

First every row is measured, column by column; then blocks of rows that stay in the cache are written, column by column.
The bytes in front of the values of a feature are a template, with the lengths in it still to be set, wherever these are
below 128. Short pieces are moved by copies of a fixed size, which may write more than the piece where the row goes on.
"""

from libc.math cimport isinf
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from penstock.io.kernel.native._columns cimport (
    BYTES,
    FLOAT,
    FLOAT64,
    INT,
    UINT64,
    Column,
    Columns,
    Kind,
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

cdef extern from "crc32c.h" nogil:
    void crc32c_init()
    uint32_t crc32c_masked(const uint8_t* data, size_t size)

crc32c_init()


cdef extern from *:
    """
    #define PENSTOCK_BLOCK 64
    #define PENSTOCK_TEMPLATE 64
    #define PENSTOCK_SHORT 32
    /* The number of bits that a value takes, 1 for 0. */
    static inline int penstock_bits(uint64_t value) { return 64 - __builtin_clzll(value | 1); }
    /* The varint of `size` bytes, at most eight, of a value: seven bits to each byte, in three steps of halves. */
    static inline uint64_t penstock_varint(uint64_t value, int size) {
        value = (value & 0x000000000FFFFFFF) | (value & 0x00FFFFFFF0000000) << 4;
        value = (value & 0x00003FFF00003FFF) | (value & 0x0FFFC0000FFFC000) << 2;
        value = (value & 0x007F007F007F007F) | (value & 0x3F803F803F803F80) << 1;
        return value | (0x0080808080808080 & (((uint64_t)1 << 8 * (size - 1)) - 1));
    }
    """
    const int64_t BLOCK "PENSTOCK_BLOCK"  # rows
    const int64_t TEMPLATE "PENSTOCK_TEMPLATE"
    const int64_t SHORT "PENSTOCK_SHORT"
    int bits_of "penstock_bits"(uint64_t value) noexcept nogil
    uint64_t short_varint "penstock_varint"(uint64_t value, int size) noexcept nogil


cdef enum:
    FRAME_HEADER = 12
    FRAME_FOOTER = 4
    FLOAT_SIZE = 4


cdef struct Feature:
    const Column* column
    const uint8_t* label  # all between the length of the entry and that of the feature
    int64_t label_size
    uint8_t tag
    bint is_bare  # the values are no list in a Feature: they are the Features of a feature list, serialized
    # The header for the payload `least`; it serves payloads up to `most`, none where that is negative.
    uint8_t[64] header  # TEMPLATE
    int64_t header_size
    int64_t least
    int64_t most


cdef struct Lengths:
    int64_t packed  # of the values, in front of numbers; 0 where there are none
    int64_t list
    int64_t feature
    int64_t entry


cdef struct Block:
    int64_t start
    int64_t end
    const int64_t* offsets
    const int64_t* contexts  # the sizes of the features of the contexts; NULL for tf.Examples
    uint8_t* data
    uint8_t* cursors[64]  # BLOCK: where the rows go on


cdef class Examples:
    """The rows of some columns as framed tf.Examples or tf.SequenceExamples, to be measured and then written."""

    cdef Columns _columns
    cdef list _labels
    cdef Feature* _features
    cdef const int64_t[::1] _offsets
    # For tf.SequenceExamples: how many columns are in the context, and the sizes of the features there.
    cdef int64_t _context
    cdef int64_t* _contexts

    def __cinit__(self, batch not None, int64_t context=-1):
        """Takes the columns of a batch, which must be in the order of their names.

        With `context`, so many columns are features of the context; the others are the feature lists, each a list of
        serialized Features.

        Raises:
          ValueError: if there are not so many, or a feature list is none of bytes.
        """
        cdef Columns columns = Columns(batch)
        self._columns = columns
        self._context = columns.size if context < 0 else context
        if self._context > columns.size:
            raise ValueError(f"{context} columns of the context, of {columns.size}")
        if context >= 0:
            self._contexts = <int64_t*> calloc(columns.rows + 1, sizeof(int64_t))
            if self._contexts == NULL:
                raise MemoryError()
        self._labels = [_label(name.encode()) for name in batch.schema.names]
        self._features = <Feature*> calloc(max(columns.size, 1), sizeof(Feature))
        if self._features == NULL:
            raise MemoryError()
        for index, label in enumerate(self._labels):
            is_list = index >= self._context
            if is_list and not (columns.columns[index].is_list and columns.columns[index].kind == BYTES):
                raise ValueError(f"column {index} is no list of serialized Features")
            _open_feature(&self._features[index], &columns.columns[index], label, is_list)

    def __dealloc__(self):
        free(self._features)
        free(self._contexts)

    def measure(self, int64_t[::1] offsets not None):
        """Writes where each frame starts, and the end.

        Returns:
          The size of the largest record, without its frame, or -1 if some row has no faithful form.

        Raises:
          ValueError: unless there is one offset more than rows.
        """
        cdef int64_t index, largest
        cdef int64_t* sizes
        cdef bint is_faulty = False
        if offsets.shape[0] != self._columns.rows + 1:
            raise ValueError(f"{offsets.shape[0]} offsets for {self._columns.rows} rows")
        with nogil:
            offsets[:] = 0
            if self._contexts != NULL:
                memset(self._contexts, 0, self._columns.rows * sizeof(int64_t))
            for index in range(self._columns.size):
                sizes = &offsets[1] if self._contexts == NULL or index >= self._context else self._contexts
                is_faulty |= _measure_column(&self._features[index], self._columns.rows, sizes)
            largest = _place_frames(offsets, self._contexts)
        self._offsets = offsets
        return -1 if is_faulty else largest

    def write(self, uint8_t[::1] data not None):
        """Writes the frames that were measured.

        Raises:
          ValueError: unless they take just the bytes of `data`.
        """
        cdef int64_t index
        cdef Block block
        if self._offsets is None or data.shape[0] != self._offsets[self._columns.rows]:
            raise ValueError(f"{data.shape[0]} bytes are not those that were measured")
        if not self._columns.rows:
            return
        block.offsets = &self._offsets[0]
        block.contexts = self._contexts
        block.data = &data[0]
        block.start = 0
        with nogil:
            while block.start < self._columns.rows:
                block.end = min(block.start + BLOCK, self._columns.rows)
                _start_frames(&block)
                for index in range(self._context):
                    _put_column(&self._features[index], &block)
                if self._contexts != NULL:
                    _start_lists(&block)
                for index in range(self._context, self._columns.size):
                    _put_column(&self._features[index], &block)
                _end_frames(&block)
                block.start = block.end


cdef class Features:
    """The rows of one column, each as a serialized Feature, to be measured and then written."""

    cdef Columns _columns
    cdef Feature _feature
    cdef const int64_t[::1] _offsets

    def __cinit__(self, batch not None):
        """Takes a batch of one column.

        Raises:
          ValueError: for a batch of other than one column.
        """
        self._columns = Columns(batch)
        if self._columns.size != 1:
            raise ValueError(f"{self._columns.size} columns are not one")
        _open_feature(&self._feature, &self._columns.columns[0], b"", False)

    def measure(self, int64_t[::1] offsets not None):
        """Writes where each Feature starts, and the end; a null has no bytes.

        Returns:
          Whether all rows have a faithful form.

        Raises:
          ValueError: unless there is one offset more than rows.
        """
        cdef int64_t row, index
        cdef Span items
        cdef bint is_faulty = False
        cdef const Column* column = self._feature.column
        if offsets.shape[0] != self._columns.rows + 1:
            raise ValueError(f"{offsets.shape[0]} offsets for {self._columns.rows} rows")
        with nogil:
            offsets[0] = 0
            for row in range(self._columns.rows):
                offsets[row + 1] = offsets[row]
                if is_present(column, row):
                    items = items_of(column, row) if column.is_list else Span(row, row + 1)
                    for index in range(items.start, items.end):
                        is_faulty |= column.is_list and is_null(&column.items, index)
                        is_faulty |= _overflows(&column.items, index, column.kind)
                    offsets[row + 1] += _bare_size(&self._feature, _payload(&column.items, items, column.kind))
        self._offsets = offsets
        return not is_faulty

    def write(self, uint8_t[::1] data not None):
        """Writes the Features that were measured.

        Raises:
          ValueError: unless they take just the bytes of `data`.
        """
        cdef int64_t row, index
        cdef Span items
        cdef uint8_t* out
        cdef uint8_t* end
        cdef const Column* column = self._feature.column
        if self._offsets is None or data.shape[0] != self._offsets[self._columns.rows]:
            raise ValueError(f"{data.shape[0]} bytes are not those that were measured")
        if not data.shape[0]:
            return
        out = &data[0]
        end = out + data.shape[0]
        with nogil:
            for row in range(self._columns.rows):
                if is_present(column, row):
                    items = items_of(column, row) if column.is_list else Span(row, row + 1)
                    out = _put_bare(&self._feature, _payload(&column.items, items, column.kind), out)
                    for index in range(items.start, items.end):
                        out = _put_value(&column.items, index, column.kind, out, end)


cdef inline int64_t _bare_size(const Feature* feature, int64_t payload) noexcept nogil:
    """The size of a Feature without its entry."""
    return _lengths(feature, payload).feature


cdef inline uint8_t* _put_bare(const Feature* feature, int64_t payload, uint8_t* out) noexcept nogil:
    return _put_list_header(feature, _lengths(feature, payload), payload, out)


cdef bytes _label(bytes name):
    cdef uint8_t[10] size
    cdef int64_t width = _put_varint(size, <uint64_t> len(name)) - size
    return b"\n" + size[:width] + name + b"\x12"


cdef void _open_feature(Feature* feature, const Column* column, bytes label, bint is_bare) noexcept:
    cdef Lengths lengths
    feature.column = column
    feature.label = label
    feature.label_size = len(label)
    feature.tag = 0x0A if column.kind == BYTES else 0x12 if column.kind == FLOAT else 0x1A
    feature.least = 0 if column.kind == BYTES else 1
    feature.most = -1
    feature.is_bare = is_bare
    if is_bare:
        return
    lengths = _lengths(feature, feature.least)
    if lengths.entry < 128 and lengths.entry + 2 <= TEMPLATE:
        feature.most = feature.least + 127 - lengths.entry
        feature.header_size = _put_long_header(feature, feature.least, feature.header) - feature.header


cdef bint _measure_column(const Feature* feature, int64_t rows, int64_t* sizes) noexcept nogil:
    """Adds the sizes of the entries; returns whether some row has no faithful form."""
    # The constants make a loop of its own of each case.
    if feature.column.is_list:
        if feature.column.kind == INT:
            return _measure_rows(feature, rows, sizes, INT, True)
        if feature.column.kind == FLOAT:
            return _measure_rows(feature, rows, sizes, FLOAT, True)
        return _measure_rows(feature, rows, sizes, BYTES, True)
    if feature.column.kind == INT:
        return _measure_rows(feature, rows, sizes, INT, False)
    if feature.column.kind == FLOAT:
        return _measure_rows(feature, rows, sizes, FLOAT, False)
    return _measure_rows(feature, rows, sizes, BYTES, False)


cdef inline bint _measure_rows(
    const Feature* feature, int64_t rows, int64_t* sizes, Kind kind, bint is_list
) noexcept nogil:
    cdef const Column* column = feature.column
    cdef bint is_faulty = False
    cdef int64_t row, index
    cdef Span items
    for row in range(rows):
        if is_present(column, row):
            items = items_of(column, row) if is_list else Span(row, row + 1)
            for index in range(items.start, items.end):
                is_faulty |= is_list and is_null(&column.items, index)
                is_faulty |= _overflows(&column.items, index, kind)
            sizes[row] += _entry_size(feature, _payload(&column.items, items, kind), kind)
    return is_faulty


cdef inline bint _overflows(const Values* items, int64_t index, Kind kind) noexcept nogil:
    if kind == INT:
        return items.form == UINT64 and int_at(items, index) >> 63
    if kind == FLOAT:
        return items.form == FLOAT64 and isinf(float_at(items, index)) and not isinf(double_at(items, index))
    return False


cdef inline int64_t _payload(const Values* items, Span span, Kind kind) noexcept nogil:
    """The size of the values."""
    cdef int64_t index, size = 0
    if kind == FLOAT:
        return FLOAT_SIZE * (span.end - span.start)
    for index in range(span.start, span.end):
        size += _varint_size(int_at(items, index)) if kind == INT else _text_size(text_at(items, index))
    return size


cdef inline int64_t _text_size(Span text) noexcept nogil:
    cdef int64_t length = text.end - text.start
    return 1 + _varint_size(length) + length


cdef inline int64_t _entry_size(const Feature* feature, int64_t payload, Kind kind) noexcept nogil:
    cdef int64_t entry
    if feature.least <= payload <= feature.most:
        return feature.header_size + payload
    entry = _lengths(feature, payload).entry
    return 1 + _varint_size(entry) + entry


cdef inline Lengths _lengths(const Feature* feature, int64_t payload) noexcept nogil:
    cdef Lengths lengths
    lengths.packed = 1 + _varint_size(payload) if payload and feature.column.kind != BYTES else 0
    lengths.list = lengths.packed + payload
    lengths.feature = lengths.list if feature.is_bare else 1 + _varint_size(lengths.list) + lengths.list
    lengths.entry = feature.label_size + _varint_size(lengths.feature) + lengths.feature
    return lengths


cdef int64_t _place_frames(int64_t[::1] offsets, const int64_t* contexts) noexcept nogil:
    """Makes offsets of the sizes of the rows' features; returns the size of the largest record."""
    cdef int64_t row, size, largest = 0
    for row in range(1, offsets.shape[0]):
        size = 1 + _varint_size(offsets[row]) + offsets[row]
        if contexts != NULL:
            size += 1 + _varint_size(contexts[row - 1]) + contexts[row - 1]
        largest = max(largest, size)
        offsets[row] = offsets[row - 1] + FRAME_HEADER + size + FRAME_FOOTER
    return largest


cdef void _start_frames(Block* block) noexcept nogil:
    """Writes the lengths of the frames and all in front of the features."""
    cdef int64_t row, size
    cdef uint32_t crc
    cdef uint8_t* frame
    for row in range(block.start, block.end):
        frame = block.data + block.offsets[row]
        size = block.offsets[row + 1] - block.offsets[row] - FRAME_HEADER - FRAME_FOOTER
        memcpy(frame, &size, 8)
        crc = crc32c_masked(frame, 8)
        memcpy(frame + 8, &crc, 4)
        frame[FRAME_HEADER] = 0x0A
        size = _features_size(size) if block.contexts == NULL else block.contexts[row]
        block.cursors[row - block.start] = _put_varint(frame + FRAME_HEADER + 1, size)


cdef void _start_lists(Block* block) noexcept nogil:
    """Writes what is in front of the feature lists, which are the rest of the record."""
    cdef int64_t row
    cdef uint8_t* out
    for row in range(block.start, block.end):
        out = block.cursors[row - block.start]
        out[0] = 0x12
        block.cursors[row - block.start] = _put_varint(
            out + 1, _features_size(block.data + block.offsets[row + 1] - FRAME_FOOTER - out)
        )


cdef inline int64_t _features_size(int64_t example) noexcept nogil:
    """What is left of so many bytes behind a tag and the length of the rest."""
    cdef int64_t width = 1
    while _varint_size(example - 1 - width) != width:
        width += 1
    return example - 1 - width


cdef void _end_frames(Block* block) noexcept nogil:
    cdef int64_t row
    cdef uint32_t crc
    cdef uint8_t* example
    for row in range(block.start, block.end):
        example = block.data + block.offsets[row] + FRAME_HEADER
        crc = crc32c_masked(example, block.cursors[row - block.start] - example)
        memcpy(block.cursors[row - block.start], &crc, 4)


cdef void _put_column(const Feature* feature, Block* block) noexcept nogil:
    # The constants make a loop of its own of each case.
    if feature.column.is_list:
        if feature.column.kind == INT:
            _put_rows(feature, block, INT, True)
        elif feature.column.kind == FLOAT:
            _put_rows(feature, block, FLOAT, True)
        else:
            _put_rows(feature, block, BYTES, True)
    elif feature.column.kind == INT:
        _put_rows(feature, block, INT, False)
    elif feature.column.kind == FLOAT:
        _put_rows(feature, block, FLOAT, False)
    else:
        _put_rows(feature, block, BYTES, False)


cdef inline void _put_rows(const Feature* feature, Block* block, Kind kind, bint is_list) noexcept nogil:
    cdef const Column* column = feature.column
    cdef int64_t row, index
    cdef Span items
    cdef uint8_t* out
    cdef uint8_t* end
    for row in range(block.start, block.end):
        if is_present(column, row):
            items = items_of(column, row) if is_list else Span(row, row + 1)
            end = block.data + block.offsets[row + 1]
            out = block.cursors[row - block.start]
            out = _put_header(feature, _payload(&column.items, items, kind), kind, out, end)
            for index in range(items.start, items.end):
                out = _put_value(&column.items, index, kind, out, end)
            block.cursors[row - block.start] = out


cdef inline uint8_t* _put_header(
    const Feature* feature, int64_t payload, Kind kind, uint8_t* out, const uint8_t* end
) noexcept nogil:
    cdef uint8_t more
    cdef uint8_t* lengths
    if not feature.least <= payload <= feature.most:
        return _put_long_header(feature, payload, out)
    more = <uint8_t> (payload - feature.least)
    if end - out < TEMPLATE:
        memcpy(out, feature.header, feature.header_size)
    elif feature.header_size > SHORT:
        memcpy(out, feature.header, TEMPLATE)
    else:
        memcpy(out, feature.header, SHORT)
    out[1] += more
    lengths = out + 2 + feature.label_size
    lengths[0] += more
    lengths[2] += more
    if kind != BYTES:
        lengths[4] += more
    return out + feature.header_size


cdef uint8_t* _put_long_header(const Feature* feature, int64_t payload, uint8_t* out) noexcept nogil:
    cdef Lengths lengths = _lengths(feature, payload)
    out[0] = 0x0A
    out = _put_varint(out + 1, lengths.entry)
    memcpy(out, feature.label, feature.label_size)
    out = _put_varint(out + feature.label_size, lengths.feature)
    return out if feature.is_bare else _put_list_header(feature, lengths, payload, out)


cdef inline uint8_t* _put_list_header(
    const Feature* feature, Lengths lengths, int64_t payload, uint8_t* out
) noexcept nogil:
    out[0] = feature.tag
    out = _put_varint(out + 1, lengths.list)
    if lengths.packed:
        out[0] = 0x0A
        out = _put_varint(out + 1, payload)
    return out


cdef inline uint8_t* _put_value(
    const Values* items, int64_t index, Kind kind, uint8_t* out, const uint8_t* end
) noexcept nogil:
    cdef float number
    if kind == INT:
        return _put_int(int_at(items, index), out, end)
    if kind == BYTES:
        return _put_text(items, text_at(items, index), out, end)
    number = float_at(items, index)
    memcpy(out, &number, FLOAT_SIZE)
    return out + FLOAT_SIZE


cdef inline uint8_t* _put_int(uint64_t value, uint8_t* out, const uint8_t* end) noexcept nogil:
    cdef int size
    if value >> 56 or end - out < 8:
        return _put_varint(out, value)
    size = _varint_size(value)
    value = short_varint(value, size)
    memcpy(out, &value, 8)
    return out + size


cdef inline uint8_t* _put_text(const Values* texts, Span text, uint8_t* out, const uint8_t* end) noexcept nogil:
    cdef int64_t length = text.end - text.start
    out[0] = 0x0A
    out = _put_varint(out + 1, length)
    if length <= SHORT and texts.end - text.start >= SHORT and end - out >= SHORT:
        memcpy(out, texts.data + text.start, SHORT)
    elif length:
        memcpy(out, texts.data + text.start, length)
    return out + length


cdef inline int _varint_size(uint64_t value) noexcept nogil:
    return (9 * bits_of(value) + 64) >> 6


cdef inline uint8_t* _put_varint(uint8_t* out, uint64_t value) noexcept nogil:
    while value > 0x7F:
        out[0] = <uint8_t> (value | 0x80)
        value >>= 7
        out += 1
    out[0] = <uint8_t> value
    return out + 1
