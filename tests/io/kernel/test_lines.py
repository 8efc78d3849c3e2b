"""What is found in blocks of text, by the kernel and by its twin."""

import pytest
from depth import scaled
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import twins

MODULES = twins.each("lines")


@pytest.mark.parametrize("lines", MODULES)
@pytest.mark.parametrize("data", [b"", b"N", b"Na", b"NaN", b"xNaN", b"Inf,", b"NANaNa", b"nan", b"In", b"InNaf"])
def test_letters_of_nan_and_infinity_are_found_up_to_the_end(lines, data):
    for padded in (data, b"." * 37 + data, data + b"." * 37):
        assert lines.has_nan_or_inf(padded) == (b"NaN" in padded or b"Inf" in padded)


@settings(max_examples=scaled(300))
@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b""]), max_size=20).map(b"".join))
def test_lines_and_lone_crs(data):
    expected = [line + b"\n" for line in data.split(b"\n")]
    expected[-1] = expected[-1][:-1]
    expected = [line for line in expected if line]
    for lines in MODULES:
        starts, ends, nexts = lines.index_lines(data)
        assert [data[start:end] for start, end in zip(starts, nexts, strict=True)] == expected
        ended = [line[:-1].removesuffix(b"\r") if line.endswith(b"\n") else line for line in expected]
        assert [data[start:end] for start, end in zip(starts, ends, strict=True)] == ended
        assert lines.has_lone_cr(data) == (b"\r" in data.replace(b"\r\n", b""))
