import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_samples import HOSTILE

from penstock.transforms.report.text import number, script_json, share, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("", "⟨empty⟩", id="empty"),
        pytest.param("größe 💩", "größe 💩", id="unicode"),
        pytest.param("a\u202eb", "a⟨U+202E⟩b", id="right to left"),
        pytest.param("a\u2028b", "a⟨U+2028⟩b", id="line separator"),
        pytest.param("\x00", "⟨U+0000⟩", id="nul"),
        pytest.param("\ud800", "⟨U+D800⟩", id="lone surrogate"),
        pytest.param("\U000e0041", "⟨U+E0041⟩", id="tag"),
        pytest.param("<b>", "<b>", id="markup is the template's business"),
        pytest.param("x" * 201, "x" * 200 + "… (201 characters)", id="long"),
    ],
)
def test_visible(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "–"),
        (0, "0"),
        (-0.0, "0"),
        (1e15, "1e+15"),
        (999999999999999.0, "999,999,999,999,999"),
        (1234.5678, "1,235"),
        (0.00012345, "0.0001234"),
        (0.000012345, "1.234e-5"),
        (-2.5, "-2.5"),
        (1.7976931348623157e308, "1.798e+308"),
        (5e-324, "4.941e-324"),
    ],
)
def test_number(value, shown):
    assert number(value) == shown


@given(st.floats(-1e308, 1e308))
def test_a_number_keeps_its_first_four_digits(value):
    assert math.isclose(float(number(value).replace(",", "")), value, rel_tol=5.1e-4)


def test_a_share_is_never_0_or_100_percent_unless_it_is():
    assert [share(part, 10**9) for part in (0, 1, 10**9 - 1, 10**9)] == ["0 %", "<0.1 %", ">99.9 %", "100 %"]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_in_a_script_holds_no_markup_and_reads_back(text):
    written = script_json({text: [text]})
    assert json.loads(written) == {text: [text]}
    assert written.isascii()
    assert not set(written) & set("<>&'")


def test_numbers_that_json_lacks_become_what_javascript_reads():
    assert json.loads(script_json([math.nan, math.inf, -math.inf, 1.0, 0.12345678])) == [
        "NaN", "Infinity", "-Infinity", 1, 0.123457]  # fmt: skip
