"""Penstock: the main job with some workers; py-spy may watch it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from _protocol import Task, main

from pipelines._cli.beam import usable_cores

# `run` imports this when it is called; nobody's imports count.
from pipelines._jobs import prepare as prepare
from pipelines.prepare import run

# What py-spy counts: all threads that run or could run, and the one that holds the interpreter lock.
WATCHES = {"active.txt": (), "lock.txt": ("--gil",)}
_SAMPLES_PER_SECOND = "100"
_PR_SET_PTRACER, _ANY = 0x59616D61, ctypes.c_ulong(-1)


def job(task: Task) -> dict[str, Any]:
    """Setting: --shuffle, the number of workers, what they are, and the path of py-spy if it watches."""
    shuffle, workers, mode, *py_spy = task.setting.split()
    output = task.path("dataset")
    sliced = int(workers) > usable_cores() and not _runs_on()
    before = time.process_time()
    with contextlib.ExitStack() as stack:
        for name, flags in WATCHES.items() if py_spy else ():
            stack.enter_context(_watched(*py_spy, task.path(name), flags))
        run(
            [
                f"--input={task.input}",
                f"--output={output}",
                f"--schema={task.schema}",
                f"--shuffle={shuffle}",
                f"--direct_num_workers={workers}",
                f"--direct_running_mode={mode}",
                f"--num_shards={task.shards}",
                "--compression=none",
                "--max_reject_fraction=0.05",
            ]
        )
    return {"own_cpu_seconds": time.process_time() - before, "sliced": sliced}


def _runs_on() -> bool:
    """Lets this process, and those that it forks, run until they wait; False if it may not."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except (AttributeError, PermissionError):  # not on this system, or not to this user
        return False
    return True


@contextlib.contextmanager
def _watched(py_spy: str, path: str, flags: tuple[str, ...]) -> Iterator[None]:
    """Has py-spy watch this process, without stopping it for each sample."""
    if sys.platform == "linux":  # where only parents may watch, unless a process allows it
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PTRACER, _ANY, 0, 0, 0)
    what = ["--pid", str(os.getpid()), "--nonblocking", "--nolineno", "--rate", _SAMPLES_PER_SECOND, *flags]
    command = [py_spy, "record", "--format", "raw", "--output", path, *what]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        said: list[str] = []
        while not any("Sampling process" in line for line in said):
            if not (line := process.stdout.readline()):
                sys.exit(f"py-spy cannot watch a process here: {' '.join(said)[-300:]}")
            said.append(line.strip())
        yield
        process.send_signal(signal.SIGINT)
        process.communicate()


if __name__ == "__main__":
    main(job, tell=lambda told: told)
