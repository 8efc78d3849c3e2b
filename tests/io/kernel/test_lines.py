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
        assert lines.suspects(data) == (False, False, b"\r" in data.replace(b"\r\n", b""))


@pytest.mark.parametrize("lines", MODULES)
@pytest.mark.parametrize("data", [b"", b"\0", b"\x80", b"\xff", b"\x7f", b"\r", b"\r\n", b"\0\xc3\xa4\r"])
def test_suspect_bytes_are_found_up_to_the_end(lines, data):
    for padded in (data, b"." * 37 + data, data + b"." * 37):
        lone_cr = b"\r" in padded.replace(b"\r\n", b"")
        assert lines.suspects(padded) == (b"\0" in padded, not padded.isascii(), lone_cr)


@pytest.mark.parametrize("lines", MODULES)
@pytest.mark.parametrize(
    ("pieces", "stop", "expected"),
    [([b"abc"], 3, b"abc"), ([b"abc"], 2, b"ab"), ([b"ab", b"", b"cde"], 1, b"abc"), ([b"a", b""], 0, b"a")],
    ids=["whole", "cut", "several", "empty"],
)
def test_pieces_are_joined(lines, pieces, stop, expected):
    assert lines.joined(pieces, stop) == expected


@pytest.mark.parametrize("lines", MODULES)
@pytest.mark.parametrize(("pieces", "stop"), [([], 0), ([b"a"], 2), ([b"a"], -1)], ids=["none", "beyond", "before"])
def test_no_more_is_joined_than_there_is(lines, pieces, stop):
    with pytest.raises(ValueError, match="as many bytes as are wanted"):
        lines.joined(pieces, stop)
