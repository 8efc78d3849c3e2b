"""Which bytes of an object are asked for, and when."""

import itertools
import threading

import numpy as np
import pytest

from penstock.io.files.stores.reading import HEAD_BYTES, ObjectReader, in_parallel

MB = 1 << 20
CONTENT = np.random.default_rng(1).bytes(40 * MB)


class Object:
    """An object, and the ranges that it was asked for."""

    def __init__(self, content=CONTENT):
        self.content = content
        self.asked = []

    def begin(self, length):
        return self.fetch(0, min(length, len(self.content))), len(self.content)

    def size(self):
        return len(self.content)

    def fetch(self, start, end):
        assert 0 <= start < end <= len(self.content) or start == end == 0
        self.asked.append((start, end - start))
        return self.content[start:end]

    def sizes(self):
        """Of the pieces in MiB; that they follow each other is checked."""
        asked = sorted(self.asked)
        assert all(start + size == following for (start, size), (following, _) in itertools.pairwise(asked))
        return [round(size / MB, 2) for _, size in asked]


def test_a_range_comes_in_even_pieces_and_nothing_behind_it():
    one = Object()
    reader = ObjectReader(one, len(CONTENT), until=32 * MB)
    for position in (8 * MB, 8 * MB + 100):  # who looks for the begin of a line does so
        reader.seek(position)
        assert reader.read(65_536) == CONTENT[position : position + 65_536]
    while reader.tell() < 32 * MB:
        reader.read(min(3 * MB, 32 * MB - reader.tell()))
    assert one.sizes() == [8, 8, 8]
    assert min(one.asked)[0] == 8 * MB
    assert reader.read(10) == CONTENT[32 * MB : 32 * MB + 10], "what is behind it may be read all the same"
    assert one.sizes() == [8, 8, 8, 0.25]


def test_a_large_read_comes_side_by_side_and_nothing_behind_it():
    one = Object()
    reader = ObjectReader(one, len(CONTENT))
    reader.seek(5 * MB)
    assert reader.read(24 * MB) == CONTENT[5 * MB : 29 * MB]
    reader.close()
    assert one.sizes() == [8, 8, 8]


@pytest.mark.parametrize(
    ("step", "pieces"),
    [(100_000, [1, 2, 2, 2, 4, 8, 8, 8, 5]), (8 * MB, [8, 8, 8, 8, 8])],
    ids=["small", "large"],
)
def test_pieces_grow_while_bytes_are_read_in_order(step, pieces):
    one = Object()
    reader = ObjectReader(one, len(CONTENT))
    assert b"".join(iter(lambda: reader.read(step), b"")) == CONTENT
    assert one.sizes() == pieces


def test_who_jumps_gets_little():
    one = Object()
    reader = ObjectReader(one, len(CONTENT))
    for position in (30 * MB, 10 * MB, 20 * MB):
        reader.seek(position)
        assert reader.read(5) == CONTENT[position : position + 5]
    reader.close()
    assert [size for _, size in one.asked] == [HEAD_BYTES] * 3


def test_the_beginning_may_be_known():
    one = Object()
    reader = ObjectReader(one, len(CONTENT), head=lambda: CONTENT[:HEAD_BYTES])
    assert reader.read(1000) == CONTENT[:1000]
    assert one.asked == []
    reader.seek(HEAD_BYTES - 5)
    assert reader.read(10) == CONTENT[HEAD_BYTES - 5 : HEAD_BYTES + 5]
    assert min(one.asked)[0] == HEAD_BYTES


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_reads(seed):
    random = np.random.default_rng(seed)
    content = CONTENT[: random.choice([0, 1, 1000, 300_000, 3 * MB, 20 * MB])]
    reader = ObjectReader(
        Object(content),
        random.choice([None, len(content)]),
        random.choice([None, int(random.integers(1, 21 * MB))]),
        random.choice([None, lambda: content[:HEAD_BYTES]]) if len(content) > HEAD_BYTES else None,
    )
    for _ in range(10):
        if random.random() < 0.5:
            reader.seek(int(random.integers(0, len(content) + 10)))
        at, size = reader.tell(), int(random.choice([0, 5, 100_000, 3 * MB, 9 * MB, -1]))
        if size > 0 and random.random() < 0.5:
            buffer = bytearray(size)
            found = bytes(buffer[: reader.readinto(buffer)])
        else:
            found = reader.read(size)
        assert found == (content[at:] if size < 0 else content[at : at + size])
        assert reader.tell() == at + len(found)
    reader.close()


def test_in_parallel_tells_the_first_error_once_all_is_done():
    done, gate = [], threading.Event()

    def work(item):
        if item == "bad":
            gate.set()
            raise ValueError(item)
        gate.wait(10)
        done.append(item)

    with pytest.raises(ValueError, match="bad"):
        in_parallel(work, ["a", "bad", "b"])
    assert sorted(done) == ["a", "b"]
