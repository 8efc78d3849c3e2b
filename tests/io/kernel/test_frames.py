"""Frames of TFRecord: the kernel against numpy."""

import pytest
from fuzz.agree import check_frames, outcome
from fuzz.wire import frame
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import twins
from kernel_cases.damaged_frames import damaged_blocks, flip

compiled, pure = twins.both("frames")


@given(st.one_of(damaged_blocks(), st.binary(min_size=1, max_size=60)))
def test_kernel_and_python_find_the_same_frames_and_faults(data):
    check_frames(data)


def test_the_kernel_reports_the_fault_that_python_reports_where_there_are_several():
    good, bad_data = frame(b"abc"), flip(frame(b"abc"), 13)
    blocks = [bad_data + flip(good, 3), bad_data + frame(b"", 1 << 40), bad_data + bad_data, flip(good, 9) + bad_data]
    for block in blocks:
        assert isinstance(outcome(pure, good + block), str)
        check_frames(good + block)


@pytest.mark.parametrize("module", twins.each("frames"))
def test_the_crcs_of_records_are_checked_by_others_if_one_says_so(module):
    data = frame(b"abc") + flip(frame(b"abc"), 13) + flip(frame(b"abc"), 9)
    *_, bad_length, absurd, bad_data = module.scan(data, 100)
    assert (bad_length, absurd, bad_data) == (38, -1, 19)
    *_, bad_length, absurd, bad_data = module.scan(data, 100, False)
    assert (bad_length, absurd, bad_data) == (38, -1, -1)
