"""What a signal does to a stream: here it is finished and ends; on a cluster, what `--stop_with` says."""

import dataclasses
import urllib.request
from collections.abc import Callable, Sequence

import numpy as np

from penstock.io.beam.local.stopping import stop_reading, wait_until_idle
from penstock.io.beam.windows import parse_time_name
from penstock.io.errors import ConfigError, PenstockError
from pipelines._cli.streams import StopWith
from pipelines._report.process import say, typed
from pipelines._report.signals import NotStopped, Stopped
from pipelines._run.flink_job import FlinkJob, call

# `docker stop` kills after 10 s, and Prism has to end as well.
FINISH_SECONDS = 6.0

GOES_ON = "the same command goes on"

_SAVEPOINT_DIRS = ("execution.checkpointing.savepoint-dir", "state.savepoints.dir")


@dataclasses.dataclass(frozen=True)
class Stopping:
    """How a stream is stopped.

    Attributes:
      open_windows: the names of the windows that are not final yet.
      stop_with: what becomes of a job on a cluster.
      savepoint_dir: where its savepoint goes; None for the cluster's own folder.
      goes_on: whether the same command reads again, and goes on with, what is not published.
      stream: the name of the stream in this process, if its workers are here.
    """

    open_windows: Callable[[], Sequence[str]] = tuple
    stop_with: StopWith = "leave"
    savepoint_dir: str | None = None
    goes_on: bool = True
    stream: str = ""

    def way_on(self, windows: int) -> str:
        """How to go on with a stream on this machine after so many windows that are open."""
        if not self.goes_on:
            return "the next start reads from the beginning, into another folder"
        return f"the same command goes on with {'it' if windows == 1 else 'them'}" if windows else GOES_ON


def check_stopping(stopping: Stopping, address: str | None) -> None:
    """Refuses what a cluster cannot do when the stream is to stop.

    Args:
      stopping: how to stop.
      address: of the cluster's REST interface, if it is known.

    Raises:
      ConfigError: says what to pass.
    """
    if stopping.stop_with == "leave":
        return
    if address is None:
        raise ConfigError(
            f"--stop_with {stopping.stop_with} asks the cluster to end the job: pass --flink_master=HOST:PORT, the "
            "address of its REST interface"
        )
    if stopping.stop_with == "savepoint" and stopping.savepoint_dir is None and not _has_savepoint_dir(address):
        raise ConfigError(
            f"--stop_with savepoint: the cluster at {address} has no folder for savepoints: pass --savepoint_dir, or "
            "set execution.checkpointing.savepoint-dir there (before Flink 1.20: state.savepoints.dir)"
        )


def _has_savepoint_dir(address: str) -> bool:
    try:
        settings = call(urllib.request.Request(f"{address}/jobmanager/config"))
    except OSError:
        return True  # which the job server will learn; it may reach the cluster where this machine does not
    return any(item["key"] in _SAVEPOINT_DIRS and item["value"] for item in settings)


def stop_here(stopping: Stopping) -> Stopped:
    """Stops reading and finishes what was read; returns what to say of it."""
    say("Stopping: nothing more is read, and what was read is finished. Another Ctrl-C ends it at once.")
    stop_reading(stopping.stream)
    is_finished = wait_until_idle(FINISH_SECONDS)
    return Stopped(_stopped_here(stopping, is_finished))


def _stopped_here(stopping: Stopping, is_finished: bool) -> str:
    unfinished = "" if is_finished else f" What was not finished after {FINISH_SECONDS:g} s is read again."
    if not stopping.goes_on:
        unfinished = ""
    try:
        windows = stopping.open_windows()
    except (OSError, PenstockError) as error:
        return f"Stopped; which windows are open cannot be read ({error}); {stopping.way_on(0)}.{unfinished}"
    if not windows:
        return f"Stopped. No window is open; {stopping.way_on(0)}.{unfinished}"
    stay = "window stays" if len(windows) == 1 else "windows stay"
    open_ = f"{len(windows):,} {stay} open (from {_start(windows[0])})"
    return f"Stopped. {open_}; {stopping.way_on(len(windows))}.{unfinished}"


def _start(window: str) -> str:
    """The start of a window by its name, to be read.

    >>> _start("20260101T000020.500000Z_20260101T000030Z")
    '2026-01-01T00:00:20.500000Z'
    """
    start = np.datetime64(parse_time_name(window.partition("_")[0]), "us")
    return f"{np.datetime_as_string(start, 'us').removesuffix('.000000')}Z"


def stop_on_flink(job: FlinkJob | None, name: str, stopping: Stopping) -> KeyboardInterrupt:
    """Does what `stop_with` says to a job on a cluster; returns what to say of it.

    Args:
      job: None if the cluster does not know it, or does not answer.
      name: Beam's id of the job.
      stopping: how to stop.
    """
    if job is None and stopping.stop_with != "leave":
        return NotStopped(f"the job {name} may run on: the cluster does not answer, or does not know it yet")
    if job is None or stopping.stop_with == "leave":
        return Stopped(f"The job runs on: {job.page if job else name}")
    try:
        if stopping.stop_with == "cancel":
            return _cancelled(job)
        say(f"Stopping job {job.id} with a savepoint. Another Ctrl-C ends only this program.")
        savepoint = job.stop(stopping.savepoint_dir)
    except (OSError, RuntimeError) as error:
        return NotStopped(f"the job runs on, it could not be stopped: {error} ({job.page})")
    return Stopped(f"Stopped with the savepoint {savepoint}; to go on:\n  {resuming(savepoint)}")


def _cancelled(job: FlinkJob) -> Stopped:
    checkpoint = job.last_checkpoint()
    job.cancel()
    if checkpoint is None:
        return Stopped(f"Cancelled job {job.id}, which has no checkpoint yet. Windows that are published are whole.")
    return Stopped(f"Cancelled job {job.id}. To go on from its last checkpoint:\n  {resuming(checkpoint)}")


def resuming(savepoint: str) -> str:
    """The command that goes on from a savepoint or checkpoint."""
    return typed({"savepoint_path": savepoint})
