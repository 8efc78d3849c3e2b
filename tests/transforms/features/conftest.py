"""Set-up of the tests of features."""

import contextlib
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def hundreds_of_steps(beam_of_the_tests) -> Iterator[None]:
    """A fit of tensorflow-transform has so many that Beam as it is takes a third of the time; other tests meet that."""
    from quick_runner import quick_runner

    with quick_runner() if os.environ.get("PENSTOCK_PLAIN_BEAM") else contextlib.nullcontext():
        yield
