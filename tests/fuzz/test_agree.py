"""Kernel and Python on the same bytes; `fuzz_decode.py` does this for longer, and under sanitizers."""

import pytest
from depth import scaled
from fuzz import agree, wire
from fuzz.fuzz_decode import fuzz_round
from hypothesis import given
from hypothesis import strategies as st

from penstock.io.kernel import native

pytestmark = pytest.mark.skipif(not native.ENABLED, reason="the kernel is off")

# Seeds, not draws: a record of many random choices is one draw, so that no list of them is too much for Hypothesis.
RANDOM = st.randoms(use_true_random=True)


@given(st.lists(RANDOM.map(wire.example), max_size=8))
def test_odd_records_are_read_alike(records):
    agree.check_decoding(records)


@given(st.lists(RANDOM.map(wire.sequence_example), max_size=8))
def test_odd_sequences_are_read_alike(records):
    agree.check_decoding(records)


@given(st.lists(RANDOM.map(wire.any_record), max_size=8))
def test_damaged_records_are_rejected_alike(records):
    agree.check_decoding(records)


@given(st.lists(st.binary(max_size=40), max_size=8))
def test_noise_is_rejected_alike(records):
    agree.check_decoding(records)


@pytest.mark.parametrize("seed", range(scaled(25)))
def test_rounds_of_the_fuzzer_agree(seed):
    records, rejected = fuzz_round(seed)
    assert 0 <= rejected <= records
