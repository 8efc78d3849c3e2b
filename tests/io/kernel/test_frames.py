"""Frames of TFRecord, and members of tar files: the kernel against numpy."""

import os

import numpy as np
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


NAME = b"json".ljust(90, b"\0")


@st.composite
def members(draw):
    name = draw(st.sampled_from([NAME, b"json7".ljust(90, b"\0"), b"\0" * 90]))
    size = draw(st.sampled_from([0, 1, 511, 512, 513, 2000]))
    digits = draw(st.sampled_from([b"%011o" % size, b"%011d" % 8, b" " * 11, b"7" * 11, b"\0" * 11]))
    data = draw(st.sampled_from([b"\0", b"\xff"])) * (size + -size % 512)
    return b"000000000." + name + b"\0" * 24 + digits + b"\0" * 377 + data


@given(
    st.lists(members() | st.just(bytes(512)), max_size=4).map(b"".join),
    st.integers(0, 600),
    st.sampled_from([0, 512]),
    st.sampled_from([0, 512, 1024, 1 << 40]),
    st.sampled_from([1, 512, 1 << 40]),
)
def test_kernel_and_python_find_the_same_members(data, left_out, start, limit, most):
    data = data[: max(len(data) - left_out, 0)]
    start = min(start, len(data))
    first, second = (module.follow_members(data, start, NAME, limit, most) for module in (compiled, pure))
    assert [array.tolist() for array in first[:3]] == [array.tolist() for array in second[:3]]
    assert [array.dtype for array in first[:3]] == [array.dtype for array in second[:3]]
    assert first[3:] == second[3:]


@pytest.mark.parametrize(("start", "name"), [(-1, NAME), (513, NAME), (0, b"json")])
def test_members_must_begin_in_the_data(start, name):
    with pytest.raises(ValueError, match="must begin in the data"):
        compiled.follow_members(bytes(512), start, name, 0, 0)


def _address(memory):
    return np.frombuffer(memory, np.uint8).ctypes.data


@pytest.mark.parametrize("module", twins.each("frames"))
def test_memory_begins_at_a_page_and_a_fork_has_its_own(module):
    memory = module.Memory(100_000)
    view = memoryview(memory)
    assert (len(view), _address(memory) % 4096) == (100_000, 0)
    view[:1] = b"a"
    child = os.fork()
    if not child:
        view[:1] = b"b"
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert bytes(view[:1]) == b"a"


def test_memory_that_was_given_back_last_is_used_next():
    held = [compiled.Memory(777_777) for _ in range(3)]
    addresses = [_address(memory) for memory in held]
    for place in (1, 0, 2):
        held[place] = None
    held = [compiled.Memory(777_777) for _ in range(3)]
    assert [_address(memory) for memory in held] == [addresses[place] for place in (2, 0, 1)]
