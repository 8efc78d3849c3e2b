"""The signals that end a job, as the process of a job gets them."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from pipelines._report.signals import ended_by, ending_cleanly, exit_code, take_signals

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


@pytest.fixture
def job():
    process = subprocess.Popen([sys.executable, "-c", JOB], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
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
