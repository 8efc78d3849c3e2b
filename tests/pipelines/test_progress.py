"""The progress bar, on a terminal and off it."""

import os
import pty
import subprocess
import sys

import pytest

_JOB = """
import sys, time
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from penstock.io import progress
from pipelines._job import run_pipeline

def work(_):
    for step in range(1, 11):
        progress.add(bytes=100_000, rows=1_000, rejected=step == 5)
        time.sleep(0.1)
        if step == 6:
            print("a warning", file=sys.stderr)

with run_pipeline(PipelineOptions([]), "working", 1_000_000) as pipeline:
    _ = pipeline | beam.Create([1]) | beam.Map(work)
print("the end")
"""


def on_a_terminal(code: str) -> str:
    """What a terminal of 120 columns is sent, stdout and stderr."""
    controller, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen([sys.executable, "-c", code], stdout=terminal, stderr=terminal, env=environment) as process:
        os.close(terminal)
        sent = b"".join(iter(lambda: _read(controller), b""))
        assert process.wait() == 0, sent.decode()
    os.close(controller)
    return sent.decode()


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # how Linux says that the terminal is closed
        return b""


@pytest.fixture(scope="module")
def sent() -> str:
    return on_a_terminal(_JOB)


def test_shows_title_bytes_rows_and_rejects(sent):
    assert "working" in sent
    assert "/1.0 MB" in sent
    assert " rows/s" in sent
    assert "1 rejected" in sent


def test_a_line_printed_meanwhile_stands_by_itself(sent):
    assert "a warning\r\n" in sent


def test_is_cleared_at_the_end(sent):
    shown = sent.rindex("rows/s")
    assert "\x1b[2K" in sent[shown:], "the line is erased"
    assert sent[shown:].rpartition("\x1b[2K")[2].strip() == "the end"
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1, "the cursor is hidden, then shown again"


def test_is_cleared_when_the_job_fails():
    sent = on_a_terminal(
        "from pipelines._progress import progress_bar\n"
        "try:\n"
        "    with progress_bar('working', 10): raise ValueError('broken')\n"
        "except ValueError as error: print(error)\n"
    )
    assert sent.rpartition("\x1b[2K")[2].strip() == "broken"
    assert "\x1b[?25h" in sent


def test_is_silent_when_stderr_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", _JOB], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("the end\n", "a warning\n")


def test_an_empty_input_is_no_division_by_zero():
    assert "done" in on_a_terminal(
        "import time\nfrom pipelines._progress import progress_bar\n"
        "with progress_bar('working', 0): time.sleep(0.5)\nprint('done')"
    )
