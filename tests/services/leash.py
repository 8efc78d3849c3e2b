"""Runs a program for as long as the process that has started this one lives: `python leash.py PROGRAM ARGUMENT...`.

A test that is killed cannot end its services. This process sees that it has another parent, and ends the program.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time

_POLL_SECONDS = 0.5
_ENDING_SECONDS = 3.0


def main(command: list[str]) -> int:
    """The program's exit status; SIGTERM is passed on to it."""
    parent = os.getppid()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as program:
        signal.signal(signal.SIGTERM, lambda number, frame: program.terminate())
        while program.poll() is None and os.getppid() == parent:
            with contextlib.suppress(subprocess.TimeoutExpired):
                program.wait(_POLL_SECONDS)
        _end(program)
    return program.returncode


def _end(program: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _ENDING_SECONDS
    program.terminate()
    while program.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    program.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
