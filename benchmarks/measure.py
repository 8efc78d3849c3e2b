"""Runs a program and measures it together with every process that it starts.

On Linux this process adopts orphans below it (PR_SET_CHILD_SUBREAPER), so it also counts servers and workers that
outlive the program. Elsewhere it counts only processes that the program itself waits for.
"""

import contextlib
import ctypes
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence

_PR_SET_CHILD_SUBREAPER = 36
_SAMPLE_SECONDS = 0.1
_ORPHAN_SECONDS = 20.0
_PAGE_BYTES, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")
_PROC = pathlib.Path("/proc")

# The unit of ru_maxrss: bytes on a Mac, KiB elsewhere.
_MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclasses.dataclass(frozen=True)
class Usage:
    """How a program ended and what it used.

    Attributes:
      code: its exit code; negative for a signal.
      wall_seconds: the time from its start to its end.
      cpu_seconds: the CPU time of all its processes.
      peak_bytes: the peak memory of all its processes together, sampled ten times a second: the private memory of each,
        plus the shared memory of the one with the most, since shared pages exist once. For one process it is the
        resident memory.
    """

    code: int
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def adopt_orphans() -> None:
    """Adopts orphans from now on; does nothing on systems without this feature."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(
    command: Sequence[str], environment: Mapping[str, str], stdout: pathlib.Path, stderr: pathlib.Path, timeout: float
) -> Usage:
    """Runs a program to its end, or kills it after `timeout` seconds."""
    tree = _Tree()
    with stdout.open("wb") as out, stderr.open("wb") as error:
        start = time.monotonic()
        process = subprocess.Popen(command, env=dict(environment), stdout=out, stderr=error, stdin=subprocess.DEVNULL)
        while (status := tree.sample_until_end(process.pid)) is None:
            if time.monotonic() - start > timeout:
                os.kill(process.pid, signal.SIGKILL)  # Popen's own kill may wait for it and lose its usage
        wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    tree.wait_for_orphans()
    return Usage(process.returncode, wall, tree.cpu_seconds, tree.peak_bytes)


class _Tree:
    """The processes below this one that start from now on."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._others = _children().get(os.getpid(), set())
        # CPU seconds of each process as last seen, and of those waited for: a process that ignores its children's end,
        # as Ray does, does not pass on their time.
        self._seen: dict[int, float] = {}
        self._reaped = 0.0

    @property
    def cpu_seconds(self) -> float:
        """Returns the CPU seconds of all of them, so far."""
        return max(self._reaped, sum(self._seen.values()))

    def sample_until_end(self, pid: int) -> int | None:
        """Samples for a moment; returns the status of a child that has ended, or None while it runs."""
        self._sample()
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if not ended:
            time.sleep(_SAMPLE_SECONDS)
            return None
        self._reaped += usage.ru_utime + usage.ru_stime
        if not _PROC.exists():  # on Linux, ru_maxrss includes what this process had when it started the child
            self.peak_bytes = max(self.peak_bytes, usage.ru_maxrss * _MAXRSS_BYTES)
        return status

    def wait_for_orphans(self) -> None:
        """Waits for the processes that the program left behind, and kills those that do not end soon."""
        deadline = time.monotonic() + _ORPHAN_SECONDS
        while orphans := _children().get(os.getpid(), set()) - self._others:
            for pid in orphans:
                if time.monotonic() > deadline:
                    os.kill(pid, signal.SIGKILL)
                self.sample_until_end(pid)

    def _sample(self) -> None:
        private = shared = 0
        for pid in self._processes():
            with contextlib.suppress(OSError, ValueError, IndexError):
                pages = (_PROC / str(pid) / "statm").read_text().split()
                private += int(pages[1]) - int(pages[2])
                shared = max(shared, int(pages[2]))
                user, system = _stat(pid)[11:13]
                self._seen[pid] = (int(user) + int(system)) / _TICKS
        self.peak_bytes = max(self.peak_bytes, (private + shared) * _PAGE_BYTES)

    def _processes(self) -> Iterator[int]:
        children = _children()
        waiting = list(children.get(os.getpid(), set()) - self._others)
        while waiting:
            pid = waiting.pop()
            yield pid
            waiting += children.get(pid, ())


def _children() -> dict[int, set[int]]:
    """Returns the processes that each process started or adopted; none where there is no /proc."""
    children: dict[int, set[int]] = {}
    for entry in _PROC.glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            children.setdefault(int(_stat(entry.name)[1]), set()).add(int(entry.name))
    return children


def _stat(pid: int | str) -> list[str]:
    """Returns the fields of /proc/PID/stat after the name, which is in parentheses and may contain spaces."""
    return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
