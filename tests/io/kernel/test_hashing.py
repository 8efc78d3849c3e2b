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
    assert compiled.hash_rows(columns, seed).tolist() == pure.hash_rows(columns, seed).tolist()


@given(batches(), st.integers(0, 2**64 - 1))
def test_the_kernel_hashes_like_python(batch, seed):
    check_same(batch, [*batch.schema.names, "lacking"], seed)


@pytest.mark.parametrize("size", [*range(100), 1023, 1024, 1025, 5000, 70_000])
def test_the_kernel_hashes_texts_of_any_length(size):
    content = np.random.default_rng(size).bytes(2 * size)
    batch = pa.record_batch({"a": [content[:size], b"", content[:7]], "b": [[content, content[size:]], None, []]})
    check_same(batch, ["a", "b"], size)
