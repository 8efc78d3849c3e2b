# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Rows as framed tf.Examples or tf.SequenceExamples; `penstock.io.examples.encode` says how they lie.

Rows can be packed for a while: without the names of the columns and all else that follows from them. All integers of a
packed row are little-endian::

    row    = id of the layout: uint64 | size of the frame: uint32 | flags | parts | pieces
    flags  = one bit for each column: whether the row has a value
    part   = of each column: int64, float32, or uint32, the size of the piece, of texts and lists; 0 without a value
    piece  = the bytes of a text; or the values of a list as they lie in the tf.Example

The layout is the kinds and names of the columns. Where that would not be smaller, as where nearly all values are missing,
a row is its frame behind the id 0.

First every row is measured, column by column; then blocks of rows that stay in the cache are written, column by column.
The bytes in front of the values of a feature are a template, with the lengths in it still to be set, wherever these are
below 128. Short pieces are moved by copies of a fixed size, which may write more than the piece where the row goes on.
"""

import hashlib

import numpy as np

from libc.math cimport isinf
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

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
    static inline void prefetch_bytes(const uint8_t *at, int64_t size) {
        for (int64_t line = 0; line < size; line += 64) __builtin_prefetch(at + line);
    }
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
    void prefetch_bytes(const uint8_t* at, int64_t size) noexcept nogil
    int bits_of "penstock_bits"(uint64_t value) noexcept nogil
    uint64_t short_varint "penstock_varint"(uint64_t value, int size) noexcept nogil


_OTHER_LAYOUT = "a row is not of these layouts"

cdef enum:
    FRAME_HEADER = 12
    FRAME_FOOTER = 4
    FLOAT_SIZE = 4
    # A packed row begins with the id of its layout and the size of its frame.
    ID_SIZE = 8
    PACKED_HEADER = 12
    LIST = 4  # added to the kind of a column of lists, in a layout
    AHEAD = 8  # rows that are on their way from memory while one is unpacked
    PREFETCHED = 256  # bytes of each


cdef struct Feature:
    const Column* column  # NULL where rows are unpacked
    Kind kind
    bint is_list
    int64_t part  # where it lies in a packed row
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
    # For packed rows: the id of the layout, where they start, and the bytes of each that are there in any case.
    cdef uint64_t _id
    cdef const int64_t[::1] _packed
    cdef int64_t _fixed
    cdef bint _is_packed

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
            _open_column(&self._features[index], &columns.columns[index], label, is_list)
        self._id = _layout_id(self.layout())
        self._fixed = _place_parts(self._features, columns.size)

    def __dealloc__(self):
        free(self._features)
        free(self._contexts)

    def layout(self):
        """Returns the kinds and names of the columns, without which packed rows cannot be read."""
        cdef Columns columns
        columns = self._columns
        kinds = [columns.columns[index].kind + LIST * columns.columns[index].is_list for index in range(columns.size)]
        return b"".join(bytes([kind]) + label for kind, label in zip(kinds, self._labels, strict=True))

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

    def measure_packed(self, int64_t[::1] offsets not None):
        """Writes where each row starts that is packed, and the end; the rows must have been measured.

        Returns:
          Whether they take less than their frames behind ids, as which they are written otherwise.

        Raises:
          ValueError: for rows that were not measured, or are sequences; unless there is one offset more than rows.
        """
        cdef int64_t index, row
        if self._offsets is None or self._contexts != NULL or offsets.shape[0] != self._columns.rows + 1:
            raise ValueError("rows must have been measured, be no sequences, and one less than offsets")
        with nogil:
            offsets[0] = 0
            offsets[1:] = self._fixed
            for index in range(self._columns.size):
                _measure_pieces(&self._features[index], self._columns.rows, &offsets[1])
            for row in range(self._columns.rows):
                offsets[row + 1] += offsets[row]
            self._is_packed = offsets[self._columns.rows] < self._offsets[self._columns.rows]
            if not self._is_packed:
                for row in range(self._columns.rows + 1):
                    offsets[row] = self._offsets[row] + ID_SIZE * row
        self._packed = offsets
        return self._is_packed

    def write_packed(self, uint8_t[::1] data not None):
        """Writes the packed rows that were measured.

        Raises:
          ValueError: unless they take just the bytes of `data`.
        """
        cdef int64_t index
        cdef Block block
        if self._packed is None or data.shape[0] != self._packed[self._columns.rows]:
            raise ValueError(f"{data.shape[0]} bytes are not those that were measured")
        if not self._columns.rows:
            return
        if not self._is_packed:
            frames = np.empty(self._offsets[self._columns.rows], np.uint8)
            self.write(frames)
            _put_frames(frames, self._offsets, data)
            return
        block.offsets = &self._packed[0]
        block.contexts = NULL
        block.data = &data[0]
        block.start = 0
        with nogil:
            while block.start < self._columns.rows:
                block.end = min(block.start + BLOCK, self._columns.rows)
                _start_packed(&block, self._id, &self._offsets[0], self._fixed)
                for index in range(self._columns.size):
                    _pack_column(&self._features[index], &block, index)
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
        _open_column(&self._feature, &self._columns.columns[0], b"", False)

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


cdef inline int64_t _part_size(Kind kind, bint is_list) noexcept nogil:
    """The size of the part of a packed row that each column has: a number, or the size of its piece."""
    return 8 if kind == INT and not is_list else 4


cdef int64_t _place_parts(Feature* features, int64_t size) noexcept nogil:
    """Says where the part of each column lies in a packed row; returns the end of the last."""
    cdef int64_t index, end = PACKED_HEADER + (size + 7) // 8
    for index in range(size):
        features[index].part = end
        end += _part_size(features[index].kind, features[index].is_list)
    return end


cdef void _measure_pieces(const Feature* feature, int64_t rows, int64_t* sizes) noexcept nogil:
    """Adds the sizes of what lies behind the parts."""
    cdef const Column* column = feature.column
    cdef int64_t row
    cdef Span text
    if column.is_list:
        for row in range(rows):
            if is_present(column, row):
                sizes[row] += _payload(&column.items, items_of(column, row), feature.kind)
    elif feature.kind == BYTES:
        for row in range(rows):
            if is_present(column, row):
                text = text_at(&column.items, row)
                sizes[row] += text.end - text.start


cdef void _put_frames(const uint8_t[::1] frames, const int64_t[::1] offsets, uint8_t[::1] out):
    """Writes frames behind ids of 0."""
    cdef int64_t row, size
    cdef uint8_t* at
    if not out.shape[0]:
        return
    at = &out[0]
    with nogil:
        for row in range(offsets.shape[0] - 1):
            size = offsets[row + 1] - offsets[row]
            memset(at, 0, ID_SIZE)
            memcpy(at + ID_SIZE, &frames[offsets[row]], size)
            at += ID_SIZE + size


cdef void _start_packed(Block* block, uint64_t layout, const int64_t* frames, int64_t fixed) noexcept nogil:
    cdef int64_t row
    cdef uint32_t size
    cdef uint8_t* out
    for row in range(block.start, block.end):
        out = block.data + block.offsets[row]
        size = <uint32_t> (frames[row + 1] - frames[row])
        memcpy(out, &layout, 8)
        memcpy(out + 8, &size, 4)
        memset(out + PACKED_HEADER, 0, fixed - PACKED_HEADER)
        block.cursors[row - block.start] = out + fixed


cdef void _pack_column(const Feature* feature, Block* block, int64_t number) noexcept nogil:
    # The constants make a loop of its own of each case.
    if feature.is_list:
        if feature.kind == INT:
            _pack_rows(feature, block, number, INT, True)
        elif feature.kind == FLOAT:
            _pack_rows(feature, block, number, FLOAT, True)
        else:
            _pack_rows(feature, block, number, BYTES, True)
    elif feature.kind == INT:
        _pack_rows(feature, block, number, INT, False)
    elif feature.kind == FLOAT:
        _pack_rows(feature, block, number, FLOAT, False)
    else:
        _pack_rows(feature, block, number, BYTES, False)


cdef inline void _pack_rows(
    const Feature* feature, Block* block, int64_t number, Kind kind, bint is_list
) noexcept nogil:
    cdef const Column* column = feature.column
    cdef int64_t row, index
    cdef Span items
    cdef uint64_t integer
    cdef uint32_t size
    cdef float real
    cdef uint8_t* packed
    cdef uint8_t* out
    cdef uint8_t* end
    for row in range(block.start, block.end):
        if not is_present(column, row):
            continue
        packed = block.data + block.offsets[row]
        packed[PACKED_HEADER + (number >> 3)] |= <uint8_t> (1 << (number & 7))
        if kind == INT and not is_list:
            integer = int_at(&column.items, row)
            memcpy(packed + feature.part, &integer, 8)
        elif kind == FLOAT and not is_list:
            real = float_at(&column.items, row)
            memcpy(packed + feature.part, &real, 4)
        else:
            out = block.cursors[row - block.start]
            end = block.data + block.offsets[row + 1]
            if is_list:
                items = items_of(column, row)
                for index in range(items.start, items.end):
                    out = _put_value(&column.items, index, kind, out, end)
            else:
                out = _put_bytes(&column.items, text_at(&column.items, row), out, end)
            size = <uint32_t> (out - block.cursors[row - block.start])
            memcpy(packed + feature.part, &size, 4)
            block.cursors[row - block.start] = out


def _layout_id(bytes layout not None):
    """A hash of a layout; never 0."""
    return int.from_bytes(hashlib.blake2b(layout, digest_size=ID_SIZE).digest(), "little") or 1


cdef struct Layout:
    uint64_t number  # its id
    int64_t size  # the number of its columns
    int64_t fixed  # the bytes of a packed row in front of the pieces
    Feature* features


cdef struct Packed:
    const Layout* layout  # NULL for a frame
    const uint8_t* at
    const uint8_t* end
    const uint8_t* limit  # of all rows
    int64_t frame  # its size


cdef inline bint _are_equal(
    const uint8_t[::1] data, const int64_t[::1] offsets, int64_t one, int64_t other
) noexcept nogil:
    """Whether two packed rows are; none is that is not within the data."""
    cdef int64_t size = offsets[one + 1] - offsets[one]
    if not (0 <= offsets[one] <= offsets[one + 1] <= data.shape[0]):
        return False
    if not (0 <= offsets[other] <= offsets[other + 1] <= data.shape[0]):
        return False
    return offsets[other + 1] - offsets[other] == size and (
        size == 0 or memcmp(&data[offsets[one]], &data[offsets[other]], size) == 0
    )


cdef struct Frames:
    # Two that are compared.
    uint8_t* data[2]
    int64_t sizes[2]


cdef inline int _compare_frames(const Frames* frames) noexcept nogil:
    cdef int64_t size = min(frames.sizes[0], frames.sizes[1])
    cdef int found = memcmp(frames.data[0], frames.data[1], size)
    return found if found else (frames.sizes[0] > frames.sizes[1]) - (frames.sizes[0] < frames.sizes[1])


cdef class Layouts:
    """The layouts of packed rows: makes frames of them again."""

    cdef list _labels
    cdef Layout* _layouts
    cdef int64_t _size
    cdef Layout* _last
    # A frame that lies across the end of an output, and the row that it is of; it is read only where `skip` says so.
    cdef uint8_t[::1] _spare
    cdef int64_t _held
    # Two frames that are compared.
    cdef uint8_t[::1] _left
    cdef uint8_t[::1] _right

    def __cinit__(self, layouts not None):
        """Takes what `Examples.layout` is for the rows."""
        cdef Layout* made
        layouts = list(layouts)
        self._held = -1
        self._spare = self._left = self._right = np.empty(0, np.uint8)
        self._labels = []
        self._layouts = <Layout*> calloc(len(layouts) + 1, sizeof(Layout))
        if self._layouts == NULL:
            raise MemoryError
        for layout in layouts:
            made = &self._layouts[self._size]
            features = list(_features_of(layout))
            made.number = _layout_id(layout)
            made.features = <Feature*> calloc(len(features) + 1, sizeof(Feature))
            if made.features == NULL:
                raise MemoryError
            self._size += 1
            for kind, label in features:
                self._labels.append(label)
                _open_feature(&made.features[made.size], kind & (LIST - 1), kind & LIST, label, False)
                made.size += 1
            made.fixed = _place_parts(made.features, made.size)
        self._last = self._layouts

    def __dealloc__(self):
        for index in range(self._size):
            free(self._layouts[index].features)
        free(self._layouts)

    def lengths(self, const uint8_t[::1] data not None, const int64_t[::1] offsets not None):
        """Returns int64[n], the sizes of the frames of rows.

        Raises:
          ValueError: for rows that are not of these layouts.
        """
        cdef int64_t row, rows = offsets.shape[0] - 1
        cdef bint is_valid = True
        cdef Packed packed
        found = np.empty(rows, np.int64)
        cdef int64_t[::1] sizes = found
        with nogil:
            for row in range(rows):
                is_valid = self._open(data, offsets, row, &packed)
                if not is_valid:
                    break
                sizes[row] = packed.frame
        if not is_valid:
            raise ValueError(_OTHER_LAYOUT)
        return found

    def gather(
        self,
        const uint8_t[::1] data not None,
        const int64_t[::1] offsets not None,
        const int64_t[::1] order not None,
        int64_t index,
        int64_t skip,
        uint8_t[::1] out not None,
        int64_t filled,
    ):
        """Writes the frames of rows in `order`, from byte `skip` of number `index` on, to `out[filled:]` until one ends.

        Returns index, skip and filled as they are then.

        Raises:
          ValueError: for rows that are not there, or not of these layouts.
        """
        cdef int64_t count = order.shape[0], rows = offsets.shape[0] - 1, capacity = out.shape[0], size
        cdef bint is_valid = index >= 0 and skip >= 0 and 0 <= filled <= capacity
        cdef Packed packed
        with nogil:
            while is_valid and index < count and filled < capacity:
                if index + 2 * AHEAD < count and 0 <= order[index + 2 * AHEAD] < rows:
                    prefetch_bytes(<const uint8_t*> &offsets[order[index + 2 * AHEAD]], 8)
                if index + AHEAD < count and 0 <= order[index + AHEAD] < rows:
                    prefetch_bytes(&data[0] + offsets[order[index + AHEAD]], PREFETCHED)
                is_valid = 0 <= order[index] < rows and self._open(data, offsets, order[index], &packed)
                if not is_valid:
                    break
                if not skip and packed.frame <= capacity - filled:
                    is_valid = _unpack(&packed, &out[filled])
                    filled += packed.frame
                    index += 1
                    continue
                if not skip or self._held != order[index]:
                    is_valid = self._hold(&packed, order[index])
                size = min(packed.frame - skip, capacity - filled)
                is_valid = is_valid and size > 0
                if is_valid:
                    memcpy(&out[filled], &self._spare[skip], size)
                    filled += size
                    skip += size
                    if skip == packed.frame:
                        skip = 0
                        index += 1
        if not is_valid:
            raise ValueError(_OTHER_LAYOUT)
        return index, skip, filled

    def whole(self, const uint8_t[::1] data not None, const int64_t[::1] offsets not None):
        """Returns the same rows such that they need no layout, as uint8, and int64[n + 1], where they start, and the end.

        Raises:
          ValueError: for rows that are not of these layouts.
        """
        lengths = self.lengths(data, offsets)
        cdef int64_t rows = lengths.size
        starts = np.append(0, np.cumsum(lengths))
        frames, found = np.empty(lengths.sum(), np.uint8), np.empty(lengths.sum() + ID_SIZE * rows, np.uint8)
        self.gather(data, offsets, np.arange(rows), 0, 0, frames, 0)
        _put_frames(frames, starts, found)
        return found, starts + ID_SIZE * np.arange(rows + 1)

    def sort_ties(
        self,
        const uint16_t[::1] splits not None,
        const uint64_t[::1] keys not None,
        const uint8_t[::1] data not None,
        const int64_t[::1] offsets not None,
        int64_t[::1] order not None,
    ):
        """Sorts those rows of an order by split and key that share both, in place, by their frames.

        It is stable, and takes the memory of two frames, which it makes anew for each of the steps of a merge sort.

        Raises:
          ValueError: for rows that are not there, or not of these layouts.
        """
        cdef int64_t count = order.shape[0], rows = keys.shape[0], first = 0, place
        cdef bint is_valid = splits.shape[0] == rows and offsets.shape[0] == rows + 1, differs = False
        cdef int64_t[::1] spare = np.empty(count, np.int64)
        with nogil:
            for place in range(count):
                is_valid = is_valid and 0 <= order[place] < rows
            for place in range(1, count + 1):
                if not is_valid:
                    break
                if (
                    place < count
                    and keys[order[place]] == keys[order[first]]
                    and splits[order[place]] == splits[order[first]]
                ):
                    differs = differs or not _are_equal(data, offsets, order[place - 1], order[place])
                    continue
                if differs:
                    is_valid = self._sort(data, offsets, order, spare, first, place)
                first = place
                differs = False
        if not is_valid:
            raise ValueError(_OTHER_LAYOUT)

    cdef bint _sort(
        self,
        const uint8_t[::1] data,
        const int64_t[::1] offsets,
        int64_t[::1] order,
        int64_t[::1] spare,
        int64_t first,
        int64_t end,
    ) except -1 nogil:
        cdef int64_t width = 1, start, place, largest = 1
        cdef Packed packed
        cdef Frames frames
        for place in range(first, end):
            if not self._open(data, offsets, order[place], &packed):
                return False
            largest = max(largest, packed.frame)
        with gil:
            if self._left.shape[0] < largest:
                self._left, self._right = np.empty(largest, np.uint8), np.empty(largest, np.uint8)
        frames.data[0] = &self._left[0]
        frames.data[1] = &self._right[0]
        while width < end - first:
            start = first
            while start < end:
                if not self._merge(
                    data, offsets, order, spare, start, min(start + width, end), min(start + 2 * width, end), &frames
                ):
                    return False
                start += 2 * width
            memcpy(&order[first], &spare[first], (end - first) * sizeof(int64_t))
            width *= 2
        return True

    cdef bint _merge(
        self,
        const uint8_t[::1] data,
        const int64_t[::1] offsets,
        const int64_t[::1] order,
        int64_t[::1] out,
        int64_t left,
        int64_t middle,
        int64_t end,
        Frames* frames,
    ) noexcept nogil:
        """Merges two sorted parts of an order; each frame is made once."""
        cdef int64_t right = middle, place
        cdef bint has_left = False, has_right = False, is_left
        for place in range(left, end):
            if left < middle and not has_left:
                has_left = self._make(data, offsets, order[left], frames, 0)
                if not has_left:
                    return False
            if right < end and not has_right:
                has_right = self._make(data, offsets, order[right], frames, 1)
                if not has_right:
                    return False
            is_left = left < middle and (right == end or _compare_frames(frames) <= 0)
            if is_left:
                out[place] = order[left]
                left += 1
                has_left = False
            else:
                out[place] = order[right]
                right += 1
                has_right = False
        return True

    cdef bint _make(
        self, const uint8_t[::1] data, const int64_t[::1] offsets, int64_t row, Frames* frames, int side
    ) noexcept nogil:
        cdef Packed packed
        if not self._open(data, offsets, row, &packed):
            return False
        frames.sizes[side] = packed.frame
        return _unpack(&packed, frames.data[side])

    cdef bint _hold(self, const Packed* packed, int64_t row) except -1 nogil:
        with gil:
            if self._spare.shape[0] < packed.frame:
                self._spare = np.empty(packed.frame, np.uint8)
        self._held = row
        return _unpack(packed, &self._spare[0])

    cdef inline bint _open(
        self, const uint8_t[::1] data, const int64_t[::1] offsets, int64_t row, Packed* packed
    ) noexcept nogil:
        cdef int64_t start = offsets[row], end = offsets[row + 1], index
        cdef uint64_t number
        cdef uint32_t size
        if not (0 <= start <= end <= data.shape[0] and end - start >= PACKED_HEADER):
            return False
        packed.at = &data[start]
        packed.end = packed.at + (end - start)
        packed.limit = &data[0] + data.shape[0]
        memcpy(&number, packed.at, 8)
        if not number:
            packed.layout = NULL
            packed.frame = end - start - ID_SIZE
            return True
        if number != self._last.number:
            for index in range(self._size):
                if self._layouts[index].number == number:
                    self._last = &self._layouts[index]
                    break
        packed.layout = self._last
        if not self._size or number != self._last.number or end - start < self._last.fixed:
            return False
        memcpy(&size, packed.at + 8, 4)
        packed.frame = size
        return size >= FRAME_HEADER + 2 + FRAME_FOOTER


cdef bint _unpack(const Packed* packed, uint8_t* frame) noexcept nogil:
    """Writes a frame; returns whether the packed row is whole, and of its layout."""
    cdef const Feature* feature
    cdef const uint8_t* at
    cdef int64_t index, size = packed.frame - FRAME_HEADER - FRAME_FOOTER, features
    cdef uint8_t* out
    cdef uint8_t* end = frame + packed.frame - FRAME_FOOTER
    cdef uint32_t crc
    if packed.layout == NULL:
        memcpy(frame, packed.at + ID_SIZE, packed.frame)
        return True
    features = _features_size(size)
    if features < 0:
        return False
    memcpy(frame, &size, 8)
    crc = crc32c_masked(frame, 8)
    memcpy(frame + 8, &crc, 4)
    frame[FRAME_HEADER] = 0x0A
    out = _put_varint(frame + FRAME_HEADER + 1, features)
    at = packed.at + packed.layout.fixed
    for index in range(packed.layout.size):
        if packed.at[PACKED_HEADER + (index >> 3)] >> (index & 7) & 1:
            feature = &packed.layout.features[index]
            if feature.is_list or feature.kind == BYTES:
                out = _unpack_piece(feature, packed, &at, out, end)
            elif feature.kind == INT:
                out = _unpack_int(feature, packed.at + feature.part, out, end)
            else:
                out = _unpack_float(feature, packed.at + feature.part, out, end)
            if out == NULL:
                return False
    if at != packed.end or out != end:
        return False
    crc = crc32c_masked(frame + FRAME_HEADER, size)
    memcpy(out, &crc, 4)
    return True


cdef inline uint8_t* _unpack_int(
    const Feature* feature, const uint8_t* part, uint8_t* out, const uint8_t* end
) noexcept nogil:
    cdef uint64_t value
    memcpy(&value, part, 8)
    cdef int64_t payload = _varint_size(value)
    if _entry_size(feature, payload, INT) > end - out:
        return NULL
    return _put_int(value, _put_header(feature, payload, INT, out, end), end)


cdef inline uint8_t* _unpack_float(
    const Feature* feature, const uint8_t* part, uint8_t* out, const uint8_t* end
) noexcept nogil:
    if _entry_size(feature, FLOAT_SIZE, FLOAT) > end - out:
        return NULL
    out = _put_header(feature, FLOAT_SIZE, FLOAT, out, end)
    memcpy(out, part, FLOAT_SIZE)
    return out + FLOAT_SIZE


cdef inline uint8_t* _unpack_piece(
    const Feature* feature, const Packed* packed, const uint8_t** at, uint8_t* out, const uint8_t* end
) noexcept nogil:
    """Writes a text, or the values of a list."""
    cdef uint32_t size
    cdef int64_t payload
    cdef const uint8_t* piece = at[0]
    memcpy(&size, packed.at + feature.part, 4)
    payload = size if feature.is_list else 1 + _varint_size(size) + <int64_t> size
    if size > packed.end - piece or _entry_size(feature, payload, feature.kind) > end - out:
        return NULL
    out = _put_header(feature, payload, feature.kind, out, end)
    if not feature.is_list:
        out[0] = 0x0A
        out = _put_varint(out + 1, size)
    if size <= SHORT and packed.limit - piece >= SHORT and end - out >= SHORT:
        memcpy(out, piece, SHORT)
    elif size:
        memcpy(out, piece, size)
    at[0] = piece + size
    return out + size


def _features_of(bytes layout):
    at = 0
    while at < len(layout):
        kind = layout[at]
        start = at + 2  # behind the kind and the tag of a name
        size = shift = 0
        while True:
            size |= (layout[start] & 0x7F) << shift
            shift += 7
            start += 1
            if layout[start - 1] < 0x80:
                break
        end = start + size + 1
        yield kind, layout[at + 1 : end]
        at = end


cdef bytes _label(bytes name):
    cdef uint8_t[10] size
    cdef int64_t width = _put_varint(size, <uint64_t> len(name)) - size
    return b"\n" + size[:width] + name + b"\x12"


cdef void _open_column(Feature* feature, const Column* column, bytes label, bint is_bare) noexcept:
    feature.column = column
    _open_feature(feature, column.kind, column.is_list, label, is_bare)


cdef void _open_feature(Feature* feature, Kind kind, bint is_list, bytes label, bint is_bare) noexcept:
    cdef Lengths lengths
    feature.kind = kind
    feature.is_list = is_list
    feature.label = label
    feature.label_size = len(label)
    feature.tag = 0x0A if kind == BYTES else 0x12 if kind == FLOAT else 0x1A
    feature.least = 0 if kind == BYTES else 1
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
    lengths.packed = 1 + _varint_size(payload) if payload and feature.kind != BYTES else 0
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
    """What is left of so many bytes behind a tag and the length of the rest; -1 if no length makes so many."""
    cdef int64_t width
    for width in range(1, 6):
        if _varint_size(example - 1 - width) == width:
            return example - 1 - width
    return -1


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
    out[0] = 0x0A
    return _put_bytes(texts, text, _put_varint(out + 1, text.end - text.start), end)


cdef inline uint8_t* _put_bytes(const Values* texts, Span text, uint8_t* out, const uint8_t* end) noexcept nogil:
    cdef int64_t length = text.end - text.start
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
