"""The runner of a stream: which one, with which options, and its messages to the user at the start and the end."""

import dataclasses
import threading
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.prism_runner import PrismJobServer

from penstock.io.beam.runner_jobs import job_id
from penstock.io.errors import ConfigError
from pipelines._cli.flink import find_job, flink_address, may_be_flink, set_stream_defaults
from pipelines._report.printable import printable
from pipelines._report.process import say

_PRISM = "PrismRunner"


@dataclasses.dataclass(frozen=True)
class StreamRunner:
    """What runs a stream: Beam's name of the runner and, where it is Flink's, the address of the cluster."""

    name: str
    flink: str | None = None

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
        PrismJobServer(options).path_to_binary()
    except Exception as error:  # whatever looking for a file, fetching it or unpacking it can raise
        raise ConfigError(
            "a stream on this machine runs on Prism, Beam's local runner, which is not here and cannot be fetched "
            f"({type(error).__name__}: {error}); build it with Go: go install "
            f"github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam.__version__}, then pass --prism_location="
            "$(go env GOPATH)/bin/prism"
        ) from error


def wait_for_stream(result: Any, runner: StreamRunner) -> None:
    """Waits until a stream has ended, or has been cancelled, telling its user how to stop it.

    Raises:
      KeyboardInterrupt: at Ctrl-C, saying what goes on and what has ended.
    """
    # Flink has the job a while after Beam's job server has it; a job that fails at once is not to wait for that.
    threading.Thread(target=_tell_how_to_stop, args=(job_id(result), runner), daemon=True).start()
    try:
        result.wait_until_finish()
    except KeyboardInterrupt:
        goes_on = f"the job runs on: {job_id(result)}"
        message = "stopped; the windows that are published are whole" if runner.is_local else goes_on
        raise KeyboardInterrupt(message) from None
    except RuntimeError as error:
        if not _was_cancelled(error):
            raise
        _tell("The job was cancelled.")


def _was_cancelled(error: RuntimeError) -> bool:
    return "JobCancellationException: Job was cancelled" in str(error) or "failed in state CANCELLED" in str(error)


def _tell_how_to_stop(beam_job: str, runner: StreamRunner) -> None:
    job = find_job(runner.flink, beam_job) if runner.flink else None
    if runner.is_local:
        _tell("Streaming; Ctrl-C stops it. Windows that are published are whole then, the rest is lost.")
    elif job is None:
        _tell(f"Streaming as job {beam_job}; Ctrl-C ends only this program.")
    else:
        _tell(
            f"Flink runs the stream: {runner.flink}/#/job/{job}\n"
            f"  stop it, keeping its state:  flink stop -p FOLDER {job}\n"
            "  go on from there:            this command with --resume --savepoint_path=SAVEPOINT\n"
            "Ctrl-C ends only this program."
        )


def _tell(text: str) -> None:
    say("\n".join(map(printable, text.splitlines())))
