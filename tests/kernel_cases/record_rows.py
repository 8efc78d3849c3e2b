"""Encoded records, for tests of their order and of where they are copied to."""

import pyarrow as pa
from hypothesis import strategies as st

from penstock.io.sort.records import RECORDS

KEYS = st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 7, 2**63, 2**64 - 1]))
ROWS = st.lists(
    st.tuples(st.sampled_from([0, 1, 300]), KEYS, st.binary(max_size=40), st.none() | st.integers(0, 9)), max_size=60
)
FEW_KEYS = st.lists(
    st.tuples(st.sampled_from([0, 1]), st.integers(0, 1), st.binary(max_size=2), st.none()), min_size=2, max_size=60
)


def batch_of(rows):
    """A batch of (split, key, bytes, event time) rows."""
    columns = zip(*rows, strict=True) if rows else [()] * 4
    return pa.record_batch([pa.array(column, field.type) for column, field in zip(columns, RECORDS, strict=True)],
                           schema=RECORDS)  # fmt: skip
