"""A program that runs beside this one: started, waited for, stopped or killed, with its output in a log file."""

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

_POLL_SECONDS = 0.1


class Service:
    """One program, in a session of its own: ending it ends all processes that it has started."""

    def __init__(
        self, name: str, command: Sequence[str | os.PathLike[str]], folder: pathlib.Path, env: Mapping[str, str] = {}
    ):
        self.name = name
        self.log = folder / f"{name}.log"
        self.command = [os.fspath(part) for part in command]
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None
        self._has_ended = True

    @property
    def pid(self) -> int:
        """Of the process that was started last.

        Raises:
          RuntimeError: when there was none.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts it, or starts it again; its log goes on."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
        self._has_ended = False

    def wait_for(self, is_ready: Callable[[], bool], seconds: float = 180, restarts: int = 0) -> None:
        """Returns when it is ready; where it ends before, it is started again that often.

        Raises:
          RuntimeError: when it ends, or the time is over; with the end of its log.
        """
        deadline = time.monotonic() + seconds
        while not is_ready():
            if not self.is_running and restarts:
                restarts -= 1
                self.start()
            if not self.is_running or time.monotonic() > deadline:
                what = f"not ready after {seconds:g} s" if self.is_running else "ended"
                raise RuntimeError(f"{self.name} {what}; {self.log}:\n{self.tail()}")
            time.sleep(_POLL_SECONDS)

    def tail(self, characters: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def stop(self, seconds: float = 10) -> None:
        """Ends it politely; what is left of it after some seconds is killed."""
        if self.is_running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """Ends it, and all that it has started, at once."""
        if not self._has_ended:
            self._signal(signal.SIGKILL)
            self.wait()
        # Its number may be another program's from now on.
        self._has_ended = True

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, seconds: float | None = None) -> None:
        """Returns when it has ended.

        Raises:
          subprocess.TimeoutExpired: when it has not, after some seconds.
        """
        if self._process is not None:
            self._process.wait(seconds)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def is_listening(port: int) -> bool:
    """Whether somebody listens on a port of the loopback interface."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def children(pid: int) -> list[int]:
    """The processes that a process has started, those that are still there."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in listed.splitlines())
    return [int(child) for child, parent, state, *_ in rows if int(parent) == pid and not state.startswith("Z")]


def pool_workers(pid: int) -> list[int]:
    """The workers of a pool (`worker_pool.py`) by its process; on Linux the pool's only child forks them."""
    started = children(pid)
    return [worker for child in started for worker in children(child)] if sys.platform == "linux" else started
