"""Packed records: they take the way of others, and come out in the order of the bytes that they stand for."""

import itertools
import pathlib

import numpy as np
import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.io.sort import runs
from penstock.io.sort.merge import MergedRuns, Written
from penstock.io.sort.records import BlockWriter, records_batch
from penstock.io.sort.runs import RunWriter

KEYS = st.integers(0, 3) | st.integers(0, 2**64 - 1)
ROWS = st.lists(st.tuples(KEYS, st.sampled_from([b"A", b"BB"]), st.binary(max_size=9)), max_size=60)


class Complements:
    """Packed records that lie in the reverse order of their records: complements of their bytes.

    A record begins with its layout; of that a packed one has the first byte, or a zero where it is whole.
    """

    def __init__(self, layouts):
        self.layouts = {layout[0]: layout for layout in layouts}

    def unpacked(self, packed):
        if not packed[0]:
            return packed[1:]
        return self.layouts[packed[0]] + bytes(255 - byte for byte in packed[1:])

    def lengths(self, data, offsets):
        rows = (data[start:end].tobytes() for start, end in itertools.pairwise(offsets))
        return np.array([len(self.unpacked(row)) for row in rows], np.int64)

    def gather(self, data, offsets, order, index, skip, out, filled):
        while index < len(order) and filled < len(out):
            rest = self.unpacked(data[offsets[order[index]] : offsets[order[index] + 1]].tobytes())[skip:]
            part = rest[: len(out) - filled]
            out[filled : filled + len(part)] = np.frombuffer(part, np.uint8)
            filled += len(part)
            index, skip = (index + 1, 0) if len(part) == len(rest) else (index, skip + len(part))
        return index, skip, filled

    def whole(self, data, offsets):
        rows = [self.unpacked(data[start:end].tobytes()) for start, end in itertools.pairwise(offsets)]
        content = b"".join(b"\0" + row for row in rows)
        return np.frombuffer(content, np.uint8), np.cumsum([0, *(1 + len(row) for row in rows)])

    def sort_ties(self, splits, keys, data, offsets, order):
        content = [self.unpacked(data[start:end].tobytes()) for start, end in itertools.pairwise(offsets)]
        order[:] = sorted(order.tolist(), key=lambda row: (splits[row], keys[row], content[row]))


def packed(layout, content):
    return layout[:1] + bytes(255 - byte for byte in content)


def batch_of(rows, layout):
    """A batch of packed rows of one layout."""
    parts = [packed(layout, content) for _, _, content in rows]
    keys = np.array([key for key, *_ in rows], np.uint64)
    offsets = np.cumsum([0, *map(len, parts)]).astype(np.int64)
    return records_batch(
        np.zeros(len(rows), np.uint16), keys, np.frombuffer(b"".join(parts), np.uint8), offsets, None, layout
    )


def spill(directory, rows, chunk, buffer_bytes=1 << 20):
    writer = RunWriter(str(directory), ("train",), buffer_bytes, make_packing=Complements)
    found = []
    for start in range(0, len(rows), chunk):
        for layout in (b"A", b"BB"):
            some = [row for row in rows[start : start + chunk] if row[1] == layout]
            found += writer.add(batch_of(some, layout))
    return [*found, *writer.flush()]


def read(merged, block=7):
    out = bytearray()
    blocks = BlockWriter(out.extend, block)
    written = merged.write(0, 1 << 64, blocks)
    blocks.flush()
    return bytes(out), written


def expected(rows):
    whole = sorted((key, layout + content) for key, layout, content in rows)
    return b"".join(record for _, record in whole), Written(len(rows))


@settings(max_examples=scaled(100))
@given(
    rows=ROWS,
    chunk=st.integers(1, 60),
    buffer_bytes=st.integers(0, 300),
    block=st.integers(1, 50),
    index=st.integers(1, 100),
    piece=st.integers(1, 300),
    layouts=st.integers(0, 2),
)
def test_packed_records_come_out_whole_and_in_order(
    tmp_path_factory, rows, chunk, buffer_bytes, block, index, piece, layouts
):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "_INDEX_BYTES", index)
        patch.setattr(runs, "_MAX_LAYOUTS", layouts)
        found = spill(tmp_path_factory.mktemp("runs"), rows, chunk, buffer_bytes)
        content, written = expected(rows)
        for pieces in (None, piece):
            assert read(MergedRuns(found, pieces, make_packing=Complements), block) == (content, written)
    assert sum(run.unpacked_bytes for run in found) == len(content)


def test_a_layout_is_written_once_beside_the_runs(tmp_path):
    rows = [(key, layout, b"x") for key in range(9, 0, -1) for layout in (b"A", b"BB")]
    found = spill(tmp_path, rows, 1, 20)
    assert len(found) > 1
    files = list(tmp_path.glob("*.layout*"))
    assert sorted(file.read_bytes() for file in files) == [b"A", b"BB"]
    assert {path for run in found for path in run.layouts} == set(map(str, files))


def test_runs_of_one_process_are_read_by_another(tmp_path):
    one = spill(tmp_path, [(1, b"A", b"x"), (3, b"A", b"w")], 2)
    other = spill(tmp_path, [(2, b"BB", b"y"), (0, b"A", b"z")], 2)
    assert read(MergedRuns([*one, *other], make_packing=Complements))[0] == b"AzAxBByAw"
    for path in pathlib.Path(tmp_path).glob("*.layout"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"\.layout"):
        MergedRuns(one, make_packing=Complements)
