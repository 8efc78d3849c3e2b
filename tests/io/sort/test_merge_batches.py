"""Batches as one sorted sequence: read by pieces, as often as one likes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.kernel.shared.offsets import starts_of
from penstock.io.sort.merge import merge_batches
from penstock.io.sort.records import EncodedRecords, records_batch, reorder_records


def records(pairs):
    keys, data = [key for key, _ in pairs], [text for _, text in pairs]
    offsets = starts_of(np.array([*map(len, data)], np.int64))
    content = np.frombuffer(b"".join(data), np.uint8)
    return records_batch(np.zeros(len(keys), np.uint16), np.array(keys, np.uint64), content, offsets, None)


def pairs_of(part):
    return [
        (int(key), part.data[start:end].tobytes())
        for key, start, end in zip(part.keys, part.offsets[:-1], part.offsets[1:], strict=True)
    ]


PAIRS = st.lists(st.tuples(st.sampled_from([0, 1, 5, 2**63, 2**64 - 1]), st.binary(max_size=12)), max_size=60)


@given(PAIRS, st.integers(1, 20), st.sampled_from([40, 200, 1 << 20]))
def test_pieces_are_all_records_in_order(tmp_path_factory, pairs, size, run_bytes):
    batches = [records(pairs[start : start + size]) for start in range(0, len(pairs), size)]
    merged = merge_batches(batches, str(tmp_path_factory.mktemp("runs")), run_bytes=run_bytes)
    for _ in range(2):  # they stay
        assert [pair for part in merged.pieces() for pair in pairs_of(part)] == sorted(pairs)
    inner = [pair for part in merged.pieces(1, 2**63) for pair in pairs_of(part)]
    assert inner == sorted(pair for pair in pairs if 1 <= pair[0] < 2**63)
    assert list(merged.pieces(5, 5)) == []


def test_pieces_are_small(tmp_path):
    """Also those of one key."""
    pairs = [(7, b"%06d" % (index * 7919 % 100_003)) for index in range(40_000)]
    batches = [records(pairs[start : start + 1000]) for start in range(0, len(pairs), 1000)]
    merged = merge_batches(batches, str(tmp_path), run_bytes=80_000)
    parts = [pairs_of(part) for part in merged.pieces()]
    assert [pair for part in parts for pair in part] == sorted(pairs)
    # At least a block of each run.
    assert max(map(len, parts)) <= 4 * (64 << 10) // 6
    assert len(parts) > 1


@pytest.mark.parametrize("order", [[], [1], [2, 0, 1]])
def test_records_in_another_order(order):
    batch = records([(3, b"a"), (2, b""), (1, b"ccc")])
    found = reorder_records(EncodedRecords.of(batch), np.array(order, np.int64))
    wanted = batch.take(pa.array(order, pa.int64()))
    assert pairs_of(found) == pairs_of(EncodedRecords.of(wanted))
