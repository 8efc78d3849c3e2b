"""Order and copies of records: the kernel against Arrow and numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins
from kernel_cases.record_rows import FEW_KEYS, ROWS, batch_of

from penstock.io.sort.records import EncodedRecords

compiled, pure = twins.both("runs")


def as_parts(found):
    return found.splits, found.keys, found.data, found.offsets


@given(rows=ROWS | FEW_KEYS)
def test_order_is_the_same_in_the_kernel(rows):
    parts = as_parts(EncodedRecords.of(batch_of(rows)))
    ours, theirs = compiled.sort_order(*parts), pure.sort_order(*parts)
    assert (ours is None) == (theirs is None)
    assert ours is None or ours.tolist() == theirs.tolist()


@given(rows=ROWS, room=st.integers(1, 100), filled=st.integers(0, 9), data=st.data())
def test_copies_are_the_same_in_the_kernel(rows, room, filled, data):
    found = EncodedRecords.of(batch_of(rows))
    order = np.array(data.draw(st.permutations(range(len(found)))), np.int64)
    expected = b"".join(rows[row][2] for row in order)
    for kernel in (compiled, pure):
        out, copied = np.zeros(filled + room, np.uint8), b""
        index = skip = 0
        while index < len(order):
            index, skip, end = kernel.gather(found.data, found.offsets, order, index, skip, out, filled)
            assert end == len(out) or index == len(order)
            copied += out[filled:end].tobytes()
        assert (copied, skip) == (expected, 0)


@pytest.mark.parametrize("offsets", [[0, 5], [0, 2, 1, 3], [-1, 0], []])
def test_kernel_refuses_offsets_that_lead_out_of_the_data(offsets):
    count = max(len(offsets) - 1, 0)
    parts = np.zeros(count, np.uint16), np.zeros(count, np.uint64), np.zeros(3, np.uint8), np.array(offsets, np.int64)
    with pytest.raises(ValueError, match="offsets must"):
        compiled.sort_order(*parts)


@pytest.mark.parametrize(
    "arguments", [([0, 9], 0, 0, 0), ([2], 0, 0, 0), ([-1], 0, 0, 0), ([0], 0, 3, 0), ([0], -1, 0, 0)]
)
def test_kernel_refuses_to_copy_what_is_not_there(arguments):
    order, index, skip, filled = arguments
    data, offsets = np.zeros(3, np.uint8), np.array([0, 2, 9], np.int64)
    with pytest.raises(IndexError, match="no such record"):
        compiled.gather(data, offsets, np.array(order), index, skip, np.zeros(8, np.uint8), filled)


PARTS = st.integers(0, 6).flatmap(
    lambda rows: st.tuples(
        st.just(rows),
        st.lists(st.tuples(st.sampled_from([1, rows]), st.integers(0, 9)), min_size=1, max_size=3),
        st.lists(st.lists(st.sampled_from([0, 1, 15, 16, 17, 32, 33, 90]), min_size=rows, max_size=rows), max_size=3),
    )
)


def some_bytes(*shape):
    return (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)


@given(parts=PARTS)
def test_parts_are_joined_alike(parts):
    rows, fixed, pieces = parts
    fixed = [some_bytes(count, width) for count, width in fixed]
    pieces = [(some_bytes(sum(sizes)), np.cumsum([0, *sizes])) for sizes in pieces]
    (data, offsets), (known, known_offsets) = (kernel.join_parts(rows, fixed, pieces) for kernel in (compiled, pure))
    assert (data.tobytes(), offsets.tolist()) == (known.tobytes(), known_offsets.tolist())
    expected = b"".join(
        b"".join(part[row % len(part)].tobytes() for part in fixed)
        + b"".join(content[bounds[row] : bounds[row + 1]].tobytes() for content, bounds in pieces)
        for row in range(rows)
    )
    assert data.tobytes() == expected


@pytest.mark.parametrize("kernel", [compiled, pure], ids=["compiled", "pure"])
def test_parts_of_other_numbers_of_rows_are_refused(kernel):
    with pytest.raises(ValueError, match="must be of as many rows"):
        kernel.join_parts(3, [some_bytes(2, 4)], [])
    with pytest.raises(ValueError, match="must be of as many rows"):
        kernel.join_parts(3, [some_bytes(1, 4)], [(some_bytes(2), np.array([0, 1, 2]))])


# Flags of six columns, then these: levels of lists, bytes of a value, whether the innermost level is texts.
COLUMNS = [(0, 8, False), (1, 1, True), (1, 4, False), (2, 1, True), (2, 2, False), (3, 1, True)]
RECORD = (
    [b"\xff\xff", bytes(range(8))]
    + [np.array(lengths, "<u4").tobytes() for lengths in ([3], [2], [3], [2], [1])]
    + [b"abc", b"\1\0" + b"12345678"]
    + [np.array([20, 0xFFFFFFFF, 1], "<u4").tobytes(), b"t" * 21]
    + [np.array([1, 0xFFFFFFFF], "<u4").tobytes(), b"\1", b"zz"]
    + [np.array([2], "<u4").tobytes(), np.array([0xFFFFFFFF, 4], "<u4").tobytes(), b"deep"]
)
PIECES = [[], [b"abc"], [b"\1\0", b"12345678"], [RECORD[9], RECORD[10]], [*RECORD[11:14]], [*RECORD[14:]]]


def taken(kernel, records, columns=COLUMNS):
    data, offsets = np.frombuffer(b"".join(records), np.uint8), np.cumsum([0, *map(len, records)])
    flags, fixed, pieces = kernel.take_apart(data, offsets, 2, columns)
    return flags.tobytes(), [each.tobytes() for each in fixed], [[one.tobytes() for one in each] for each in pieces]


@pytest.mark.parametrize("kernel", [compiled, pure], ids=["compiled", "pure"])
@pytest.mark.parametrize("rows", [0, 1, 3])
def test_records_are_taken_apart_into_their_pieces(kernel, rows):
    flags, fixed, pieces = taken(kernel, [b"".join(RECORD)] * rows)
    assert flags == b"\xff\xff" * rows
    assert fixed == [part * rows for part in RECORD[1:7]]
    assert pieces == [[piece * rows for piece in each] for each in PIECES]


@given(changed=st.dictionaries(st.integers(0, 200), st.integers(0, 255), max_size=3), cut=st.integers(0, 200))
def test_damaged_records_are_refused_or_taken_apart_alike(changed, cut):
    record = bytearray(b"".join(RECORD))
    for at, value in changed.items():
        record[at % len(record)] = value
    whole = b"".join(RECORD)
    records = [whole, bytes(record[: len(record) - cut] if cut < 20 else record), whole]

    def outcome(kernel):
        try:
            return taken(kernel, records)
        except ValueError as error:
            return str(error)

    assert outcome(compiled) == outcome(pure)


@pytest.mark.parametrize(
    ("flag_bytes", "column", "message"),
    [(1, (0, 8, False), "two bits for each column"), (2, (0, 1, True), "lists of bytes"), (2, (0, 0, False), "bytes")],
)
def test_columns_that_cannot_be_are_refused_by_the_kernel(flag_bytes, column, message):
    with pytest.raises(ValueError, match=message):
        compiled.take_apart(np.zeros(0, np.uint8), np.zeros(1, np.int64), flag_bytes, [column] * 6)
