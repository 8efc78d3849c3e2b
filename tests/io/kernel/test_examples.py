"""Rows as tf.Examples: the kernel against numpy."""

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import batches
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.examples.encode import try_encode_examples, try_pack_examples

compiled, pure = twins.both("examples")
runs = dict(zip((compiled, pure), twins.both("runs"), strict=True))


def unpacked(packed, kernel, order, block=1 << 20):
    """The frames of packed rows in an order, by blocks of so many bytes."""
    layouts, frames = kernel.Layouts([packed.layout]), b""
    out, index, skip = np.empty(block, np.uint8), 0, 0
    while index < len(order):
        index, skip, filled = layouts.gather(packed.data, packed.offsets, np.array(order), index, skip, out, 0)
        frames += out[:filled].tobytes()
    assert skip == 0
    return frames


def check_same(batch):
    ours, theirs = (
        (encoded.data.tobytes(), encoded.offsets.tolist(), faults)
        for encoded, faults in (try_encode_examples(batch, kernel=kernel) for kernel in (compiled, pure))
    )
    assert ours == theirs
    for kernel in (compiled, pure):
        packed, faults = try_pack_examples(batch, kernel)
        lengths = kernel.Layouts([packed.layout]).lengths(packed.data, packed.offsets)
        assert (faults, np.cumsum([0, *lengths]).tolist()) == (ours[2], ours[1])
        assert unpacked(packed, kernel, np.arange(len(packed))) == ours[0]


@given(batches())
def test_the_kernel_encodes_like_python(batch):
    check_same(batch)


@given(batches(), st.integers(1, 500), st.randoms())
def test_rows_are_unpacked_in_any_order_to_blocks_of_any_size(batch, block, random):
    encoded, _ = try_encode_examples(batch)
    order = random.sample(range(len(encoded)), len(encoded))
    expected = b"".join(encoded.data[encoded.offsets[row] : encoded.offsets[row + 1]].tobytes() for row in order)
    for kernel in (compiled, pure):
        packed, _ = try_pack_examples(batch, kernel)
        assert unpacked(packed, kernel, np.array(order, np.int64), block) == expected


def test_rows_of_several_layouts_lie_side_by_side():
    batches = [pa.record_batch({"a": [1, None, 3]}), pa.record_batch({"a": ["x", "yy"], "b": [[0.5], []]})]
    packed = [try_pack_examples(batch, compiled)[0] for batch in batches]
    data = np.concatenate([one.data for one in packed])
    offsets = np.append(packed[0].offsets, packed[0].offsets[-1] + packed[1].offsets[1:])
    layouts = compiled.Layouts([one.layout for one in packed])
    out, order = np.empty(int(layouts.lengths(data, offsets).sum()), np.uint8), np.arange(5)
    assert layouts.gather(data, offsets, order, 0, 0, out, 0) == (5, 0, len(out))
    assert out.tobytes() == b"".join(try_encode_examples(batch)[0].data.tobytes() for batch in batches)
    for known in ([], [packed[0].layout]):
        with pytest.raises(ValueError, match="a row is not of these layouts"):
            compiled.Layouts(known).gather(data, offsets, order, 0, 0, out, 0)


@given(batches(), st.integers(0, 3), st.data())
def test_rows_of_one_key_are_sorted_by_their_frames(batch, keys, data):
    encoded, _ = try_encode_examples(batch)
    frames = [encoded.data[start:end].tobytes() for start, end in itertools.pairwise(encoded.offsets)]
    count = len(frames)
    of_rows = np.array(data.draw(st.lists(st.integers(0, keys), min_size=count, max_size=count)), np.uint64)
    splits = np.zeros(count, np.uint16)
    for kernel in (compiled, pure):
        packed, _ = try_pack_examples(batch, kernel)
        found = runs[kernel].sort_order(splits, of_rows, packed.data, packed.offsets)
        order = np.arange(count) if found is None else found
        kernel.Layouts([packed.layout]).sort_ties(splits, of_rows, packed.data, packed.offsets, order)
        assert sorted(order.tolist()) == list(range(count))
        assert [(of_rows[row], frames[row]) for row in order] == sorted(zip(of_rows, frames, strict=True))


@given(batches(), st.integers(1, 9))
def test_rows_can_be_kept_without_a_layout(batch, block):
    expected = try_encode_examples(batch)[0].data.tobytes()
    for kernel in (compiled, pure):
        packed, _ = try_pack_examples(batch, kernel)
        data, offsets = kernel.Layouts([packed.layout]).whole(packed.data, packed.offsets)
        whole = dataclasses.replace(packed, data=data, offsets=offsets, layout=b"")
        assert unpacked(whole, kernel, np.arange(len(packed))) == expected


def test_rows_of_missing_values_take_no_more_than_their_frames():
    batch = pa.record_batch({f"c{number}": pa.array([None, None, number], pa.int64()) for number in range(99)})
    for rows, smaller in ((batch.slice(0, 2), False), (batch.slice(2), True)):
        packed, encoded = try_pack_examples(rows, compiled)[0], try_encode_examples(rows)[0]
        assert (len(packed.data) < len(encoded.data)) == smaller
        assert len(packed.data) <= len(encoded.data) + 8 * len(rows)
        assert unpacked(packed, compiled, np.arange(len(packed))) == encoded.data.tobytes()


def test_the_twin_refuses_rows_that_it_did_not_pack():
    packed, _ = try_pack_examples(pa.record_batch({"a": [1]}), compiled)
    with pytest.raises(ValueError, match="packed by the compiled kernel"):
        pure.Layouts([packed.layout])


@pytest.mark.parametrize("kinds", ["iftIFT", "t", "i" * 20])
def test_the_kernel_refuses_damaged_rows(kinds):
    values = {"i": 7, "f": 0.5, "t": "text" * 9, "I": [1, 1 << 40], "F": [0.5, 1.5], "T": ["a", "b" * 40]}
    batch = pa.record_batch({f"{number}-{kind}": [values[kind]] for number, kind in enumerate(kinds)})
    packed, _ = try_pack_examples(batch, compiled)
    layouts, whole = compiled.Layouts([packed.layout]), unpacked(packed, compiled, [0])
    out, order = np.empty(len(whole), np.uint8), np.zeros(1, np.int64)
    for size in range(len(packed.data)):
        with pytest.raises(ValueError, match="a row is not of these layouts"):
            layouts.gather(packed.data[:size].copy(), np.array([0, size]), order, 0, 0, out, 0)
    for place in range(len(packed.data)):
        for bit in range(8):
            data = packed.data.copy()
            data[place] ^= 1 << bit
            try:
                *_, filled = layouts.gather(data, packed.offsets, order, 0, 0, out, 0)
            except ValueError:
                continue
            assert filled <= len(out)  # and a sanitizer looks on


@pytest.mark.parametrize("order", [[-1], [1], [5]])
def test_the_kernel_refuses_to_unpack_what_is_not_there(order):
    packed, _ = try_pack_examples(pa.record_batch({"a": [1]}), compiled)
    with pytest.raises(ValueError, match="a row is not of these layouts"):
        unpacked(packed, compiled, order)


@pytest.mark.parametrize("name_size", [1, 20, *range(50, 60), 100, 130, 20_000])
def test_the_kernel_encodes_pieces_of_any_size(name_size):
    sizes = [*range(140), 16_000, 16_300, 16_400, 70_000]
    name = "é" + "n" * name_size
    columns = {
        "bytes": [b"x" * size for size in sizes],
        "lists of bytes": [[b"y" * size, b""] for size in sizes],
        "floats": pa.array([np.ones(size) for size in sizes], pa.list_(pa.float32())),
        "ints": [1 << size % 63 for size in sizes],
        "lists of ints": [np.full(size, 300) for size in sizes],
    }
    check_same(pa.record_batch({name + key: values for key, values in columns.items()}))


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_the_largest_example_is_measured(rows):
    batch = pa.record_batch({"b": pa.array([b"x" * 300, b"", b"y" * 1000][:rows], pa.binary())})
    for kernel in (compiled, pure):
        offsets = np.empty(rows + 1, np.int64)
        largest = kernel.Examples(batch).measure(offsets)
        assert largest == max((size - 16 for size in np.diff(offsets).tolist()), default=0)
