"""RecordBatches of any types that have a tf.Example form, for tests that compare the kernel with its twins."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

_INTS = {
    pa.int8(): st.integers(-(2**7), 2**7 - 1),
    pa.int16(): st.integers(-(2**15), 2**15 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.int64(): st.integers(-200, 20_000) | st.integers(-(2**63), 2**63 - 1),
    pa.uint8(): st.integers(0, 2**8 - 1),
    pa.uint16(): st.integers(0, 2**16 - 1),
    pa.uint32(): st.integers(0, 2**32 - 1),
    pa.uint64(): st.integers(0, 20_000) | st.integers(0, 2**64 - 1),
}
_TEXTS = st.text(max_size=5) | st.text(st.characters(max_codepoint=0xFF), min_size=20, max_size=200)
_BYTES = st.binary(max_size=5) | st.binary(min_size=20, max_size=200)
_SCALARS = _INTS | {
    pa.bool_(): st.booleans(),
    pa.float16(): st.floats(width=16).map(np.float16),
    pa.float32(): st.floats(width=32),
    pa.float64(): st.floats() | st.floats(width=32),
    pa.null(): st.none(),
    pa.string(): _TEXTS,
    pa.large_string(): _TEXTS,
    pa.string_view(): _TEXTS,
    pa.binary(): _BYTES,
    pa.large_binary(): _BYTES,
    pa.binary_view(): _BYTES,
    pa.binary(3): st.binary(min_size=3, max_size=3),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["", "a", "é", "x" * 40]),
    pa.dictionary(pa.int32(), pa.int16()): st.integers(-3, 3),
}


@st.composite
def batches(draw: st.DrawFn, with_faults: bool = True) -> pa.RecordBatch:
    """A slice of a batch; `with_faults`, also rows that no tf.Example can hold."""
    rows, start = draw(st.integers(0, 20)), draw(st.integers(0, 9))
    names = draw(
        st.lists(st.text(min_size=1, max_size=4) | st.text(min_size=30, max_size=140), max_size=4, unique=True)
    )
    columns = [draw(_columns(start + rows + draw(st.integers(0, 3)), with_faults)) for _ in names]
    arrays = [column.slice(start, rows) for column in columns]
    if not names:
        return pa.RecordBatch.from_struct_array(pa.array([{}] * rows, pa.struct([])))
    return pa.RecordBatch.from_arrays(arrays, names)


@st.composite
def _columns(draw: st.DrawFn, rows: int, with_faults: bool) -> pa.Array:
    item_type = draw(st.sampled_from(list(_SCALARS)))
    values = _SCALARS[item_type]
    if not with_faults and item_type == pa.uint64():
        values = values.filter(lambda value: value < 2**63)
    if not with_faults and item_type == pa.float64():
        values = st.floats(width=32)
    can_be_listed = with_faults or item_type != pa.null()
    make_list = can_be_listed and draw(
        st.none() | st.sampled_from([pa.list_, pa.large_list, pa.list_view, lambda t: pa.list_(t, 2)])
    )
    arrow_type = make_list(item_type) if make_list else item_type
    if make_list:
        size = arrow_type.list_size if pa.types.is_fixed_size_list(arrow_type) else None
        items = values | st.none() if with_faults and draw(st.booleans()) else values
        values = st.lists(items, min_size=size or 0, max_size=size or 20)
    if draw(st.booleans()):
        values = values | st.none()
    return pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), arrow_type)
