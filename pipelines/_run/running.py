"""A job on a Flink cluster that still writes a dataset, since only its `prepare` has ended: found, and ended.

The name of a job says which dataset it writes, by the run that first wrote there: it holds for each start of the
stream, wherever it is started, and however the folder is spelled.
"""

import hashlib
import posixpath
import re

from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from penstock.io.dataset.windowed.resume import StreamFile
from penstock.io.errors import ConfigError, RunnerError
from pipelines._cli.flink import flink_address, list_jobs, may_be_flink
from pipelines._cli.streams import OnRunning
from pipelines._report.process import say
from pipelines._run.flink_job import ENDED, FlinkJob

_PREFIX = "penstock"

# Flink ends a TaskManager whose tasks do not end in this time.
_CANCEL_SECONDS = 180.0


def job_name(output: str, dataset: str, run_id: str) -> str:
    """The name of a job: the folder's, its dataset's, and its own.

    >>> job_name("s3://bucket/events", "20260101T000000Z-1a2b3c4d", "20260102T000000Z-5e6f7a8b")
    'penstock-events-e5262eb5288e-20260102T000000Z-5e6f7a8b'

    Args:
      output: the folder of the dataset.
      dataset: the id of the run that first wrote there.
      run_id: of this start.
    """
    folder = re.sub(r"[^A-Za-z0-9._]+", "-", posixpath.basename(output.rstrip("/"))).strip("-") or "dataset"
    return f"{_PREFIX}-{folder}-{_key(dataset)}-{run_id}"


def _key(dataset: str) -> str:
    return hashlib.sha256(dataset.encode()).hexdigest()[:12]


def name_job(options: PipelineOptions, output: str, dataset: str, run_id: str) -> None:
    """Names the job of a stream on Flink, unless the user has named it."""
    view = options.view_as(GoogleCloudOptions)
    if may_be_flink(options) and view.job_name is None:
        view.job_name = job_name(output, dataset, run_id)


def running_job(options: PipelineOptions, output: str, how: OnRunning | None) -> FlinkJob | None:
    """Finds the job that writes a dataset, the newest if there are several; None if none is known to run.

    Args:
      options: of a stream; other runners than Flink's have no such job.
      output: the folder of the dataset.
      how: what the user wants to be done with it, if that is said.

    Raises:
      ConfigError: when the user has said something, and nobody can tell whether a job runs.
    """
    address = flink_address(options)
    if how is not None and (address is None or options.view_as(GoogleCloudOptions).job_name is not None):
        needs = "--flink_master=HOST:PORT, the address of its REST interface" if address is None else "no --job_name"
        raise ConfigError(f"--on_running {how} looks for a job of this dataset on the cluster, and needs {needs}")
    file = StreamFile.read(output) if address is not None else None
    if address is None or file is None:
        return None
    try:
        jobs = list_jobs(address)
    except (OSError, ValueError) as error:
        if how is None:
            return None  # the job server may reach the cluster where this machine does not
        raise ConfigError(f"--on_running {how}: the cluster at {address} does not answer: {error}") from error
    own = re.compile(rf"{_PREFIX}-.+-{_key(file.run_id)}-.+")
    running = [job for job in jobs if job["state"] not in ENDED and own.fullmatch(job["name"])]
    newest = max(running, key=lambda job: int(job["start-time"]), default=None)
    return None if newest is None else FlinkJob(address, str(newest["jid"]))


def make_way(job: FlinkJob, output: str, how: OnRunning | None) -> None:
    """Ends the job that writes a dataset, so that another one can go on.

    Raises:
      ConfigError: when the user wants none to be ended.
      RunnerError: when it cannot be ended.
    """
    if how == "refuse":
        raise ConfigError(
            f"--output {output}: job {job.id} writes there ({job.page}); --on_running attach watches it, and cancel, "
            "the default, ends it and goes on from its windows"
        )
    try:
        job.cancel(_CANCEL_SECONDS)
    except (OSError, RuntimeError) as error:
        raise RunnerError(
            f"job {job.id} writes to {output}, and could not be cancelled: {error} ({job.page}); cancel it, and start "
            "again"
        ) from error
    say(f"Cancelled job {job.id}, which wrote to {output}; --on_running attach watches such a job instead.")
