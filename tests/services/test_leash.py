"""A program on a leash ends with the process that has started it, however that ends."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

LEASH = pathlib.Path(__file__).with_name("leash.py")

# Starts a program on a leash, says its number, and waits.
STARTER = f"""
import subprocess, sys, time
program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
subprocess.Popen([sys.executable, {str(LEASH)!r}, sys.executable, "-c", program], start_new_session=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_program_ends_with_who_has_started_it(number):
    with subprocess.Popen([sys.executable, "-c", STARTER], stdout=subprocess.PIPE, text=True) as starter:
        pid = int(starter.stdout.readline())
        os.kill(pid, 0)
        starter.send_signal(number)
        starter.wait(10)
        deadline = time.monotonic() + 10
        while is_there(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_status_is_the_programs():
    command = [sys.executable, LEASH, sys.executable, "-c", "raise SystemExit(7)"]
    assert subprocess.run(command, check=False).returncode == 7


def test_a_leash_that_is_told_to_end_ends_the_program():
    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    command = [sys.executable, LEASH, sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as leash:
        pid = int(leash.stdout.readline())
        leash.terminate()
        assert leash.wait(10) == 256 - signal.SIGTERM
    assert not is_there(pid)
