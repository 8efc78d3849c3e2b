"""Hashes of rows: the kernel against xxhash."""

import numpy as np
import pyarrow as pa
import pytest
from arrow_batches import batches
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins

from penstock.io.columns.lists import kernel_columns

compiled, pure = twins.both("hashing")


def check_same(batch, names, seed):
    columns = kernel_columns(batch, sorted(names))
    for whole in (False, True):
        assert compiled.hash_rows(columns, seed, whole).tolist() == pure.hash_rows(columns, seed, whole).tolist()


@given(batches(), st.integers(0, 2**64 - 1))
def test_the_kernel_hashes_like_python(batch, seed):
    check_same(batch, [*batch.schema.names, "lacking"], seed)


# Where a whole number begins and ends, as text and as float.
EDGES = [
    *("", "-", "0", "-0", "00", "7", "-7", "007", "+7", " 7", "7 ", "7.", "7.0", "7.000", "7.5", "7.01", ".0", "0.0"),
    *("-0.0", "1e3", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809"),
    *("9" * 19, "1" + "0" * 18, "1" + "0" * 19, "9" * 40, "7\n", "7\0", "\u0667"),
]


def test_the_kernel_knows_the_whole_numbers_that_python_knows():
    floats = [0.0, -0.0, 7.0, 7.5, -3.0, 2.0**63, -(2.0**63), 2.0**63 - 1024, 2.0**53, 1e300, 16777217.0, 16777216.5]
    floats += [float("inf"), float("nan")]
    batch = pa.record_batch({"text": EDGES, "float": pa.array([*floats, *[None] * (len(EDGES) - len(floats))])})
    lists = [[left, None, right] for left in EDGES[:6] for right in EDGES]
    check_same(batch, ["text", "float"], 3)
    check_same(pa.record_batch({"list": lists}), ["list"], 3)
    check_same(pa.record_batch({"float": pa.array([7.0, 1.5, None], pa.float32())}), ["float"], 3)


@pytest.mark.parametrize("size", [*range(100), 1023, 1024, 1025, 5000, 70_000])
def test_the_kernel_hashes_texts_of_any_length(size):
    content = np.random.default_rng(size).bytes(2 * size)
    batch = pa.record_batch({"a": [content[:size], b"", content[:7]], "b": [[content, content[size:]], None, []]})
    check_same(batch, ["a", "b"], size)


# What tf.strings.to_hash_bucket_fast takes the remainder of: of the bytes 0, 7, 14, ..., by their number.
FINGERPRINTS = {
    0: 11160318154034397263,
    1: 13718060045003475796,
    3: 7836721383716570152,
    4: 365121004050576997,
    8: 15872949792654440359,
    16: 18136686206037405083,
    17: 11915285948536389748,
    32: 764915578794662492,
    33: 18105585573320925255,
    64: 16160162133541714314,
    65: 1750252573709625707,
    128: 12084765434445350011,
    200: 1800212452726993940,
}


@pytest.mark.parametrize("side", [compiled, pure], ids=["compiled", "pure"])
def test_fingerprints_are_those_of_farmhash(side):
    texts = [bytes(at * 7 % 256 for at in range(size)) for size in FINGERPRINTS]
    batch = pa.record_batch({"text": pa.array([*texts, None, texts[0]], pa.binary())})
    assert side.fingerprints(batch).tolist() == [*FINGERPRINTS.values(), 0, FINGERPRINTS[0]]
    assert side.fingerprints(batch.slice(3, 2)).tolist() == list(FINGERPRINTS.values())[3:5]
    large = pa.record_batch({"text": pa.array(texts, pa.large_binary())})
    assert side.fingerprints(large).tolist() == list(FINGERPRINTS.values())
    assert side.fingerprints(batch.slice(0, 0)).tolist() == []


@pytest.mark.parametrize("side", [compiled, pure], ids=["compiled", "pure"])
@pytest.mark.parametrize("column", [pa.array([1]), pa.array([[b"a"]])], ids=["numbers", "lists"])
def test_fingerprints_are_of_texts(side, column):
    with pytest.raises(TypeError, match="fingerprints are of one column of texts"):
        side.fingerprints(pa.record_batch({"x": column}))


@given(st.lists(st.binary(max_size=300)))
def test_the_kernel_takes_fingerprints_like_python(texts):
    batch = pa.record_batch({"text": pa.array(texts, pa.binary())})
    assert compiled.fingerprints(batch).tolist() == pure.fingerprints(batch).tolist()
