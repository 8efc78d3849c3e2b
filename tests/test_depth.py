"""How much of the made-up input is tried: quick by default, full in CI."""

import pathlib
import re

import pytest
from depth import on_shared_path, scaled
from hypothesis import settings

TESTS = pathlib.Path(__file__).parent


@pytest.fixture
def profile(request):
    before = settings.get_current_profile_name()
    settings.load_profile(request.param)
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("profile", "expected"), [("full", (600, 10, 3)), ("quick", (120, 2, 1))], indirect=["profile"]
)
def test_the_profile_scales_what_a_test_asks_for(profile, expected):
    assert tuple(map(scaled, (600, 10, 3))) == expected
    assert on_shared_path(10).max_examples == expected[1]
    assert on_shared_path(10).deadline is None


def test_no_test_asks_for_a_number_that_no_profile_scales():
    for path in TESTS.rglob("*.py"):
        if path.name != "conftest.py":
            found = re.search(r"max_examples=(?!scaled\()\w+", path.read_text())
            assert not found, f"{path.relative_to(TESTS)}: {found[0]}; see depth.py"
