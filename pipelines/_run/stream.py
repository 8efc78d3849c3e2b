"""The runner of a stream: which one, with which options, and its messages to the user at the start and the end."""

import dataclasses
import threading
import time
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.prism_runner import PrismJobServer

from penstock.io.beam import progress
from penstock.io.beam.runner_jobs import job_id
from penstock.io.errors import ConfigError, RunnerError
from pipelines._cli.flink import find_job, flink_address, may_be_flink, set_stream_defaults
from pipelines._report.printable import printable
from pipelines._report.process import say
from pipelines._run.flink_job import ENDED, FlinkJob, reason_of, repeated_failure, without_numbers
from pipelines._run.stopping import Stopping, stop_here, stop_on_flink
from pipelines._run.unreachable import without_job_manager

_PRISM = "PrismRunner"

# How often a job on Flink is looked at, and how many failures for one reason are no accident.
_WATCH_SECONDS = 10.0
_RESTARTS = 3
# A JobManager that starts again, or another one, is back sooner.
_SILENCE_SECONDS = 30.0
# After so long, as Beam's client, a job that is watched is given up.
_LOST_SECONDS = 90.0
_POLL_SECONDS = 1.0
# Windows that have closed are published within seconds, or one after the other.
_STALL_SECONDS = 120.0
# A job that runs is found at once.
_FIND_SECONDS = 10.0


@dataclasses.dataclass
class StreamRunner:
    """What runs a stream.

    Attributes:
      name: Beam's name of the runner.
      flink: where it is Flink's, the address of the cluster.
      checkpoint: the last checkpoint of the job that is known.
    """

    name: str
    flink: str | None = None
    checkpoint: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether the stream ends with this program."""
        return self.name == _PRISM


def stream_runner(options: PipelineOptions) -> StreamRunner:
    """The runner for a stream, and its options set, where the user has not; local streams run on Prism.

    Raises:
      ConfigError: for a runner that cannot run a stream, or when Prism is not here and cannot be fetched.
    """
    standard = options.view_as(StandardOptions)
    standard.streaming = True
    match standard.runner:
        case None | "DirectRunner" | "PrismRunner":
            _find_prism(options)
            return StreamRunner(_PRISM)
        case "SparkRunner":
            raise ConfigError("--runner=SparkRunner cannot run a Python pipeline on a stream; --runner=FlinkRunner can")
        case str(name) if name.endswith("FnApiRunner"):
            raise ConfigError(f"--runner={name} cannot run a stream; leave it out, for a local run on Prism")
        case name:
            if may_be_flink(options):
                set_stream_defaults(options)
            return StreamRunner(name, flink_address(options))


def _find_prism(options: PipelineOptions) -> None:
    try:
        PrismJobServer(options).subprocess_cmd_and_endpoint()  # fetches it; `path_to_binary` only says from where
    except Exception as error:  # whatever looking for a file, fetching it or unpacking it can raise
        raise ConfigError(
            "a stream on this machine runs on Prism, Beam's local runner, which is not here and cannot be fetched "
            f"({type(error).__name__}: {error}); build it with Go: go install "
            f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam.__version__}, then pass --prism_location="
            "$(go env GOPATH)/bin/prism"
        ) from error


def wait_for_stream(result: Any, runner: StreamRunner, stopping: Stopping) -> None:
    """Waits until a stream has ended, or has been cancelled, telling its user how to stop it and what is wrong with it.

    Raises:
      Stopped: at a signal, saying what goes on and what has ended; `NotStopped` when a cluster did not do it.
    """
    name, done = job_id(result), threading.Event()
    # Flink has the job a while after Beam's job server has it; a job that fails at once is not to wait for that.
    threading.Thread(target=_watch, args=(name, runner, stopping, done), daemon=True).start()
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        raise _stopped(name, runner, stopping) from None
    except Exception as error:
        if is_interrupt(error):
            raise _stopped(name, runner, stopping) from None
        if not _was_cancelled(error):
            raise
        _tell("The job was cancelled.")
    finally:
        done.set()


def watch_stream(job: FlinkJob, stopping: Stopping) -> None:
    """Watches a stream that runs on a cluster as if it had been started here, until it has ended.

    Raises:
      RunnerError: when it has failed, or the cluster does not answer any more, or has lost it.
      Stopped: as in `wait_for_stream`.
    """
    runner, done = StreamRunner("FlinkRunner", job.address), threading.Event()
    _tell_how_to_stop(job.id, job, runner, stopping)
    threading.Thread(target=_watch_flink, args=(job, runner, done), daemon=True).start()
    try:
        state = _end_of(job, runner)
    except KeyboardInterrupt:
        raise stop_on_flink(job, job.id, stopping) from None
    finally:
        done.set()
    if state == "FAILED":
        raise RunnerError(f"the job has failed: {next(map(reason_of, job.failures()), 'Flink gives no reason')}")
    if state == "CANCELED":
        _tell("The job was cancelled.")


def _end_of(job: FlinkJob, runner: StreamRunner) -> str:
    answered = time.monotonic()
    while True:
        try:
            state, answered = job.state(), time.monotonic()
        except OSError as error:
            if time.monotonic() - answered > _LOST_SECONDS:
                lost = without_job_manager(job.address, runner.checkpoint, streaming=True)
                raise RunnerError(f"job {job.id} is not to be found any more ({error}): {lost}") from error
        else:
            if state in ENDED:
                return state
        time.sleep(_POLL_SECONDS)


def _stopped(name: str, runner: StreamRunner, stopping: Stopping) -> KeyboardInterrupt:
    if runner.is_local:
        return stop_here(stopping)
    found = find_job(runner.flink, name, _FIND_SECONDS) if runner.flink else None
    return stop_on_flink(FlinkJob(str(runner.flink), found) if found else None, name, stopping)


def is_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error: Beam wraps it like any other where it meets a worker in this thread."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def _was_cancelled(error: Exception) -> bool:
    text = str(error)
    return "JobCancellationException: Job was cancelled" in text or "failed in state CANCELLED" in text


def _watch(name: str, runner: StreamRunner, stopping: Stopping, done: threading.Event) -> None:
    """Says how to stop a stream, and what keeps it from going on."""
    found = find_job(runner.flink, name) if runner.flink else None
    job = FlinkJob(str(runner.flink), found) if found else None
    _tell_how_to_stop(name, job, runner, stopping)
    if job is not None:
        _watch_flink(job, runner, done)
    elif runner.is_local:
        _watch_here(stopping, done)


def _watch_here(stopping: Stopping, done: threading.Event) -> None:
    """Says when windows that have closed are not published, and nothing else happens: Prism may lose sight of them."""
    seen, since, told = (0, 0), time.monotonic(), False
    while not done.wait(_WATCH_SECONDS):
        values = progress.snapshot().values
        now = closed, noted = values.get("closed", 0), values.get("noted", 0)
        if now != seen or closed <= noted or "noted" not in values:
            seen, since, told = now, time.monotonic(), False
        elif time.monotonic() - since > _STALL_SECONDS and not told:
            told = True
            _tell(
                f"{closed - noted} versions of windows that have closed are not published, and nothing has happened "
                f"for {_STALL_SECONDS:g} s: the runner may have lost sight of them. Their rows are not lost: stop it "
                f"(Ctrl-C), and {stopping.way_on(0)}."
            )


def _watch_flink(job: FlinkJob, runner: StreamRunner, done: threading.Event) -> None:
    told: set[str] = set()
    answered, is_missed = time.monotonic(), False
    while not done.wait(_WATCH_SECONDS):
        try:
            runner.checkpoint = job.last_checkpoint() or runner.checkpoint
            reason = repeated_failure(job.failures(), _RESTARTS)
        except OSError:
            if time.monotonic() - answered > _SILENCE_SECONDS and not is_missed:
                is_missed = True
                _tell(f"Still waiting: {without_job_manager(job.address, runner.checkpoint, streaming=True)}")
            continue
        answered, is_missed = time.monotonic(), False
        if reason is not None and without_numbers(reason) not in told:
            told.add(without_numbers(reason))
            _tell(f"The job has failed {_RESTARTS} times for one reason, and Flink starts it again: {reason}")


def _tell_how_to_stop(name: str, job: FlinkJob | None, runner: StreamRunner, stopping: Stopping) -> None:
    if runner.is_local:
        _tell(f"Streaming; Ctrl-C stops it, with its windows whole; {stopping.way_on(0)}.")
    elif job is None:
        _tell(f"Streaming as job {name}; Ctrl-C ends only this program.")
    elif stopping.stop_with == "leave":
        _tell(
            f"Flink runs the stream: {job.page}\n"
            f"  stop it, keeping its state:  flink stop -p FOLDER {job.id}\n"
            "  go on from there:            this command with --savepoint_path=SAVEPOINT\n"
            "Ctrl-C ends only this program."
        )
    else:
        does = "cancels the job" if stopping.stop_with == "cancel" else "ends the job with a savepoint"
        _tell(f"Flink runs the stream: {job.page}\nCtrl-C {does}.")


def _tell(text: str) -> None:
    say("\n".join(map(printable, text.splitlines())))
