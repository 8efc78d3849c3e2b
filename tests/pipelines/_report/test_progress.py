"""How far a job is: on terminals of several widths, and in a log."""

import os
import re
from collections.abc import Sequence

import forked
import pytest
from helpers import write_csv
from terminal import lines_of, on_a_terminal

from pipelines._report.progress import Rate

_WORK = """
import fcntl, struct, sys, termios, time
from penstock.io.beam import progress
from pipelines._report import progress as shown
from pipelines._report.phases import PUBLISH, READ, WRITE
from pipelines._report.progress import progress_bar, showing_progress

PHASES = [READ, WRITE, PUBLISH]
shown._FRAMES_PER_SECOND = 40

def work(_=None, seconds=0.4):
    time.sleep(seconds / 3)
    progress.plan(bytes=1_000_000, parts=1, written=2_000_000, shards=4)
    for step in range(1, 11):
        progress.add(bytes=100_000, rows=1_234_567, rejected=step == 5)
        time.sleep(seconds / 10)
        if step == 6:
            print("a warning\\n", end="", file=sys.stderr)
    progress.add(parts=1)
    for step in range(1, 5):
        progress.add(written=500_000, shards=1)
        time.sleep(seconds / 5)
"""

_JOB = f"""{_WORK}
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from pipelines._run.job import run_pipeline

def run(log_seconds, seconds=0.4):
    with showing_progress(log_seconds):
        for _ in range(2):
            with run_pipeline(PipelineOptions([]), "working", PHASES) as pipeline:
                _ = pipeline | beam.Create([1]) | beam.Map(work, seconds)
    print("the end")
"""

_RESIZED = f"""{_WORK}
for columns in widths:
    fcntl.ioctl(2, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    print(f"columns: {{columns}}", flush=True)
    with progress_bar("working", PHASES):
        work()
"""

# A frame: what comes before the percentage is a spinner, a name and maybe a bar.
_FRAME = re.compile(
    r". (?P<name>[a-z][a-z ]+?)(  [━╸╺]+)?(  \d{1,3}%)?(?P<shards>  \d/4 shards)?(  [\d,]+ rows)?(  1 rejected)?"
    r"(  [\d,]+ rows/s)?(  [\d.]+ [KM]?i?B of [\d.]+ [KM]iB)?(  \d:\d\d:\d\d)?"
)


def frames_of(lines: Sequence[str]) -> list[str]:
    """Those that are of the display: they begin with a spinner."""
    return [line for line in lines if not line[0].isascii()]


@pytest.fixture(scope="module")
def sent() -> str:
    return on_a_terminal("-c", f"{_JOB}\nrun(60, seconds=1.0)")  # a rate takes a second


def test_shows_title_bytes_rows_and_rejects(sent):
    assert "working" in sent
    assert "of 976.6 KiB" in sent
    assert " rows/s" in sent
    assert "1 rejected" in sent


def test_goes_on_to_the_next_phase_when_one_is_full(sent):
    found = [_FRAME.fullmatch(line) for line in frames_of(lines_of(sent))]
    names = [frame["name"] for frame in found]
    changes = [name for name, before in zip(names, [None, *names], strict=False) if name != before]
    assert changes == ["working", "reading", "writing shards", "publishing"] * 2
    assert any(frame["shards"] == "  3/4 shards" for frame in found)


def test_time_runs_on_from_one_pipeline_to_the_next(sent):
    times = re.findall(r"\d:\d\d:\d\d", sent)
    assert times == sorted(times)
    assert times[-1] >= "0:00:03"


def test_a_line_printed_meanwhile_stands_by_itself(sent):
    assert "a warning\r\n" in sent


def test_is_cleared_at_the_end(sent):
    shown = sent.rindex("0:00:0")
    assert "\x1b[2K" in sent[shown:], "the line is erased"
    assert sent[shown:].rpartition("\x1b[2K")[2].strip() == "the end"
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h") == 1, "the cursor is hidden, then shown again"


def test_is_cleared_when_the_job_fails():
    sent = on_a_terminal(
        "-c",
        "from pipelines._report.phases import READ\n"
        "from pipelines._report.progress import progress_bar\n"
        "try:\n"
        "    with progress_bar('working', [READ]): raise ValueError('broken')\n"
        "except ValueError as error: print(error)\n",
    )
    assert sent.rpartition("\x1b[2K")[2].strip() == "broken"
    assert "\x1b[?25h" in sent


_WIDTHS = (80, 60, 40, 25, 10)


@pytest.fixture(scope="module")
def resized() -> dict[int, list[str]]:
    """What is shown by width, while somebody makes the terminal narrower."""
    _, *parts = on_a_terminal("-c", f"widths = {_WIDTHS}{_RESIZED}").split("columns: ")
    return {int(part.split()[0]): frames_of(lines_of(part)[1:]) for part in parts}


@pytest.mark.parametrize("columns", _WIDTHS)
def test_a_line_is_no_wider_than_the_terminal_and_nothing_in_it_is_cut(resized, columns):
    frames = resized[columns]
    assert len(frames) > 10
    assert max(map(len, frames)) <= columns
    if columns >= 40:
        assert [line for line in frames if not _FRAME.fullmatch(line)] == []
    assert any("%" in line for line in frames)
    assert any("rows" in line for line in frames) == (columns >= 40), "what is less important is left out"
    assert any("━" in line for line in frames) == (columns >= 40)


def test_a_real_job_on_a_narrow_terminal(tmp_path):
    write_csv(tmp_path / "in.csv", [{"id": row, "text": "x" * 500} for row in range(150_000)], ("id", "text"))
    flags = (f"--input={tmp_path}/in.csv", f"--output={tmp_path}/out", "--num_shards=2")
    frames = frames_of(lines_of(on_a_terminal("-m", "pipelines.prepare", *flags, columns=40)))
    assert max(map(len, frames)) <= 40
    shown = "\n".join(frames)
    for phase in ("inferring the schema", "reading", "writing shards"):
        assert phase in shown


def test_what_is_printed_meanwhile_to_a_stdout_that_is_no_terminal_stays_there(tmp_path):
    code = (
        "from pipelines._report.phases import READ\n"
        "from pipelines._report.progress import progress_bar\n"
        "with progress_bar('working', [READ]): print('data')\n"
    )
    with (tmp_path / "stdout").open("w") as file:
        assert "data" not in on_a_terminal("-c", code, stdout=file.fileno())
    assert (tmp_path / "stdout").read_text() == "data\n"


@pytest.fixture(scope="module")
def logged() -> tuple[str, str]:
    """What is sent to a log that is due to get a line each minute, then twenty each second."""
    code = f"{_JOB}\nrun(60, seconds=0.2)\nprint('then', file=sys.stderr)\nrun(0.05)"
    environment = os.environ | {"FORCE_COLOR": "1"}
    done = forked.run(["-c", code], check=True, env=environment)
    assert done.stdout == "the end\nthe end\n"
    each_minute, _, each_moment = done.stderr.partition("then\n")
    return each_minute, each_moment


def test_is_silent_when_stderr_is_no_terminal_and_the_job_short(logged):
    assert logged[0] == "a warning\na warning\n"


def test_a_log_gets_a_line_once_in_a_while(logged):
    lines = [line for line in logged[1].splitlines() if line != "a warning"]
    assert len(lines) >= 6
    assert not [line for line in lines if line != line.rstrip() or "\x1b" in line]
    kinds = [r"working: \d:\d\d:\d\d", r"reading: \d+%, [\d,]+ rows,.*, \d:\d\d:\d\d", r"writing shards: \d+%, \d/4 .*"]
    for kind in kinds[1:]:
        assert any(re.fullmatch(kind, line) for line in lines), (kind, lines)
    assert all(re.fullmatch("|".join([*kinds, "publishing: .*"]), line) for line in lines), lines


def test_a_terminal_that_knows_no_cursor_is_a_log():
    sent = on_a_terminal(
        "-c", f"{_WORK}\nwith showing_progress(0.05), progress_bar('working', PHASES): work()", TERM="dumb"
    )
    assert "\x1b" not in sent
    assert "reading: " in sent


def test_an_empty_input_is_no_division_by_zero():
    assert "done" in on_a_terminal(
        "-c",
        "import time\nfrom penstock.io.beam import progress\nfrom pipelines._report.phases import READ\n"
        "from pipelines._report.progress import progress_bar\n"
        "with progress_bar('working', [READ]): progress.plan(bytes=0, parts=0); progress.add(rows=0); time.sleep(0.3)\n"
        "print('done')",
    )


def test_the_rate_is_that_of_the_last_seconds():
    rate = Rate(seconds=30)
    rates = [rate.now(at, rows) for at, rows in ((0, 0), (10, 100), (30, 300), (60, 300), (90, 600), (120, 600))]
    assert rates == [None, 10, 10, 0, 10, 0]


def test_the_rate_of_a_moment_is_none():
    rate = Rate()
    assert [rate.now(5, 7), rate.now(5, 8)] == [None, None]


def test_a_stream_on_this_machine_gets_a_line():
    done = forked.run(["-c", _STREAM], check=True)
    line = r"streaming: [\d,]+ rows/s, 2 windows open, 1 published, 3 late, lag 5, watermark 1970-01-01T00:00:01Z .t/0."
    assert re.search(rf"^{line}, 20 rows, 0:00:\d\d$", done.stderr, re.MULTILINE), done.stderr


_STREAM = """
import time
from penstock.io.beam import progress
from pipelines._report.phases import STREAM
from pipelines._report.progress import progress_bar, showing_progress

with showing_progress(0.1), progress_bar(STREAM.name, [STREAM]):
    progress.add(rows=10, late=3, windows=1, final=1)
    progress.tell(open=2)
    progress.tell_positions({"kafka://a:1/t/0": progress.ReadPosition(1_000_000, 5, 10)})
    time.sleep(0.15)
    progress.add(rows=10)
    time.sleep(0.6)
"""
