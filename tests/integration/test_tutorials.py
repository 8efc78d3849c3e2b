"""The tutorial of a stream prints what it says, on Prism."""

import contextlib
import os
import pathlib
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

TESTS = pathlib.Path(__file__).parents[1]


def test_a_stream_of_files(tmp_path, prism):
    page = TESTS.parent / "docs" / "tutorials" / "stream.md"
    command = [sys.executable, str(TESTS / "tutorials" / "page.py"), str(page)]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PRISM": prism}, capture_output=True, text=True)
    if done.returncode and (tmp_path / "job.pid").exists():  # the page ends its job only at its end
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int((tmp_path / "job.pid").read_text()), signal.SIGKILL)
    assert done.returncode == 0, done.stderr
