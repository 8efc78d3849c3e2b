"""Signals that end a job: SIGTERM and SIGHUP as Ctrl-C does, with everything cleaned up.

A signal raises a KeyboardInterrupt (`Interrupted`) in the main thread, which all that cleans up knows. After the first
one, further ones of a supervisor or a closed terminal, which both may send several, do not disturb the cleaning;
another Ctrl-C ends the process at once. One that comes when a job has ended does not disturb the telling of it.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_received: signal.Signals | None = None
_has_ended = False
# Processes of the job that do not get the signals of its terminal; they end with it when it ends at once.
_children: set[int] = set()
# What was there before, in the block of `ending_cleanly`, and what was ignored.
_before: dict[signal.Signals, Any] = {}
_ignored: set[signal.Signals] = set()


class Interrupted(KeyboardInterrupt):
    """A signal has come. Of the class itself, Python would end by SIGINT, whatever code the program exits with.

    It does so when one was raised in code that is compiled from a string, as of dataclasses, even if it was caught
    (`_Py_UnhandledKeyboardInterrupt`, which is set for that class alone).
    """


class Stopped(KeyboardInterrupt):
    """A signal has ended a job that has no other end; what it says is no error."""


class NotStopped(KeyboardInterrupt):
    """A signal was to stop a job elsewhere, which could not be done."""


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Turns the first signal that comes in the block into a KeyboardInterrupt.

    A signal that was ignored before, as by `nohup`, stays ignored. Outside of the main thread, which alone can receive
    signals, nothing happens.
    """
    global _received, _has_ended, _before, _ignored
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received, _has_ended = None, False
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    _before = {number: handler for number, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}
    _ignored = {number for number, handler in handlers.items() if handler == signal.SIG_IGN}
    take_signals()
    try:
        yield
    finally:
        # What is still to be ended when Python exits, such as a job server, must not be left behind.
        if _received is None:
            for number, handler in _before.items():
                signal.signal(number, handler)
        _before, _ignored = {}, set()


def take_signals() -> None:
    """Takes the signals again that others took in the block: Beam's job servers would stop before the job knows why."""
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if number in _before:
                signal.signal(number, _end)
            elif number in _ignored:
                signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def ending_with_us(pid: int | None) -> Iterator[None]:
    """Also ends a process if another Ctrl-C ends this one at once in the block."""
    if pid is None:
        yield
        return
    _children.add(pid)
    try:
        yield
    finally:
        _children.discard(pid)


def job_has_ended(has: bool = True) -> None:
    """Says that all is done and only the result is left to be printed; or that there is more to do.

    The first signal that comes then changes nothing: the result is told whole, and once. The next one ends the process.
    """
    global _has_ended
    _has_ended = has


def ended_by() -> signal.Signals | None:
    """Returns the signal that came in the last block of `ending_cleanly`; None for none."""
    return _received


def exit_code() -> int:
    """Returns the exit code of a program that was interrupted: 128 and the number of the signal."""
    return 128 + (_received or signal.SIGINT)


def _end(number: int, frame: FrameType | None) -> None:
    global _received
    if _received is None:
        _received = signal.Signals(number)
        if not _has_ended:
            raise Interrupted
    elif _has_ended:
        os._exit(exit_code())
    elif number == signal.SIGINT:
        with contextlib.suppress(OSError):  # not through `sys.stderr`, which may be writing just now
            os.write(2, b"interrupted again: temporary files are left behind, which the next run removes\n")
        for pid in _children:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        os._exit(exit_code())
