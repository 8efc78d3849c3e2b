"""The signals that end a job, as the process of a job gets them."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time

import forked
import pytest
from forked import Program

from penstock.io.errors import DataError
from pipelines._cli.command import command
from pipelines._report import signals
from pipelines._report.process import beginning_now, started_for_a_job
from pipelines._report.result import Result
from pipelines._report.signals import ended_by, ending_cleanly, exit_code, take_signals
from pipelines._report.summary import tell

JOB = """
import signal, sys, time
from pipelines._report.signals import ended_by, ending_cleanly, exit_code
with ending_cleanly():
    try:
        print("working", flush=True)
        time.sleep(30)
    except KeyboardInterrupt:
        print("cleaning", flush=True)
        sys.stdin.readline()
        print("cleaned", flush=True)
        sys.exit(exit_code())
"""


# A library that catches all, while the graph is built, takes the signal away.
CATCHES = """
import os, signal, sys
from pipelines import prepare
from pipelines._cli import beam
from pipelines._cli.command import command
options = beam.beam_options
def catching(*arguments):
    try:
        os.kill(os.getpid(), signal.SIGTERM)
    except BaseException:
        print("caught", flush=True)
    return options(*arguments)
beam.beam_options = catching
sys.exit(command("prepare", prepare.run, argv=sys.argv[1:]))
"""


@pytest.fixture
def own_signals(monkeypatch):
    """Signals are handled in this process, and not behind the test."""
    monkeypatch.setattr(signals, "_received", None)
    monkeypatch.setattr(signals, "_has_ended", False)
    before = {number: signal.getsignal(number) for number in signals._SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Interrupting(io.StringIO):
    """Gets a signal when it has been written to first."""

    def write(self, text):
        is_first, count = not self.getvalue(), super().write(text)
        if is_first:
            signal.raise_signal(signal.SIGTERM)
        return count


def fails(argv):
    raise DataError("no rows")


@pytest.mark.parametrize(
    ("run", "expected"),
    [(lambda _: tell(Result(job="verify"), as_json=True), (0, None)), (fails, (1, "no rows"))],
    ids=["done", "failed"],
)
def test_a_signal_while_the_result_is_printed_changes_nothing(run, expected, own_signals, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stdout := Interrupting())
    code = command("verify", run, argv=["--json"])
    (result,) = map(json.loads, stdout.getvalue().splitlines())
    assert (code, result["error"]) == (result["exit_code"], result["error"]) == expected
    assert ended_by() is signal.SIGTERM


def test_a_job_of_several_turns_goes_on_behind_a_result(own_signals):
    with ending_cleanly(), started_for_a_job("penstock "):
        turn = beginning_now()
        turn.__enter__()
        tell(Result(job="replay"), as_json=True)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(signals.Interrupted):
            turn.__exit__(None, None, None)


@pytest.fixture
def job():
    process = Program(["-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "working\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.parametrize(
    ("first", "others"),
    [
        (signal.SIGTERM, [signal.SIGTERM, signal.SIGHUP]),
        (signal.SIGHUP, [signal.SIGHUP, signal.SIGTERM]),
        (signal.SIGINT, [signal.SIGTERM]),
    ],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_a_signal_interrupts_and_the_next_ones_let_it_clean_up(job, first, others):
    job.send_signal(first)
    assert job.stdout.readline() == "cleaning\n"
    for number in others:
        job.send_signal(number)
    assert job.communicate("\n")[0] == "cleaned\n"
    assert job.returncode == 128 + first


def test_a_second_ctrl_c_ends_at_once(job):
    job.send_signal(signal.SIGTERM)
    assert job.stdout.readline() == "cleaning\n"
    job.send_signal(signal.SIGINT)
    assert job.wait(10) == 128 + signal.SIGTERM
    assert job.stdout.read() == ""


def test_what_was_ignored_stays_ignored_and_all_is_as_it_was_afterwards():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_cleanly():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert (ended_by(), exit_code()) == (None, 130)


def test_what_was_ignored_is_ignored_again_when_others_took_it():
    """Beam's job servers take SIGINT, also under `nohup`, or in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_cleanly():
            signal.signal(signal.SIGINT, lambda *_: None)
            take_signals()
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_ctrl_c_also_ends_the_processes_that_do_not_get_it(tmp_path):
    own = "import subprocess, sys; from pipelines._report.signals import ending_with_us\n"
    own += "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True)\n"
    program = JOB.replace("with ending_cleanly():", "with ending_cleanly(), ending_with_us(child.pid):")
    program = program.replace('print("working", flush=True)', "print(child.pid, flush=True)")
    job = Program(["-c", own + program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(job.stdout.readline())
    job.send_signal(signal.SIGTERM)
    assert job.stdout.readline() == "cleaning\n"
    os.kill(child, 0)
    job.send_signal(signal.SIGINT)
    assert job.wait(10) == 128 + signal.SIGTERM
    job.communicate()
    deadline = time.monotonic() + 10
    while is_alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended stays in the list until somebody looks."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(listed.strip()) and not listed.startswith("Z")


def test_a_signal_that_was_taken_away_is_taken_again():
    with ending_cleanly():
        own = signal.getsignal(signal.SIGINT)
        signal.signal(signal.SIGINT, lambda *_: None)
        take_signals()
        assert signal.getsignal(signal.SIGINT) is own
    assert signal.getsignal(signal.SIGINT) is not own
    take_signals()
    assert signal.getsignal(signal.SIGINT) is not own


def test_a_thread_that_is_not_the_main_one_gets_no_signals():
    found = []

    def work():
        with ending_cleanly():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]


def test_a_signal_that_was_caught_on_its_way_ends_the_job_before_it_runs(tmp_path):
    (tmp_path / "a.csv").write_text("a\n1\n")
    arguments = ["--input", str(tmp_path / "a.csv"), "--output", str(tmp_path / "out")]
    ended = forked.run(["-c", CATCHES, *arguments])
    assert (ended.stdout, ended.returncode) == ("caught\n", 128 + signal.SIGTERM), ended.stderr
    assert not (tmp_path / "out" / "manifest.json").exists()
