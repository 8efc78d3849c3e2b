"""What is said when what runs a pipeline has died or cannot be reached: what it was, what runs on, how to go on."""

import contextlib
import dataclasses
import urllib.request
from typing import Self

import grpc
from apache_beam.options.pipeline_options import PipelineOptions, PortableOptions

from penstock.io.beam.local.prism import Prism
from penstock.io.errors import RunnerError
from pipelines._cli.flink import find_job, flink_address
from pipelines._run.flink_job import ENDED, FlinkJob, call
from pipelines._run.stopping import resuming

# The process may live a little longer than its connections.
_DYING_SECONDS = 2.0
_ASKING_SECONDS = 3.0


def of_prism(error: Exception, prism: Prism, way_on: str | None) -> RunnerError | None:
    """Says that Prism has died under a pipeline, if that is why it has failed; `way_on` is that of a stream."""
    if not prism.has_ended(_DYING_SECONDS if isinstance(error, grpc.RpcError) else 0.0):
        return None
    goes_on = f"what is published is whole, and {way_on}" if way_on else "start the job again"
    return RunnerError(f"Prism, Beam's local runner, has died under the job ({prism.how_it_ended()}); {goes_on}")


@dataclasses.dataclass(frozen=True)
class JobServer:
    """What takes a pipeline to a cluster.

    Attributes:
      endpoint: of Beam's job server, if that runs already.
      flink: the address of the REST interface of Flink's cluster, if there is one.
    """

    endpoint: str | None
    flink: str | None

    @classmethod
    def of(cls, options: PipelineOptions) -> Self:
        """Finds it in the options of a pipeline before that is submitted: Beam forgets the runner then."""
        return cls(options.view_as(PortableOptions).job_endpoint, flink_address(options))

    def __str__(self) -> str:
        return f"Beam's job server at {self.endpoint}" if self.endpoint else "Beam's job server"


def of_server(
    error: Exception, server: JobServer, job: str, streaming: bool, checkpoint: str | None = None
) -> RunnerError | None:
    """Says that a job server or a cluster cannot be reached, if that is why a pipeline has failed.

    Args:
      error: what the pipeline has raised.
      server: that it was submitted to.
      job: Beam's id of the job, "" before it has one.
      streaming: whether its input has no end.
      checkpoint: the last one that is known of the job.
    """
    if isinstance(error, grpc.FutureTimeoutError):
        return RunnerError(f"{server} does not answer (--job_endpoint); start it, and then the job again")
    is_gone = isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.UNAVAILABLE
    if is_gone and not job:
        return RunnerError(f"{server} does not answer any more; start it, and then the job again")
    if server.flink is not None and not _answers(server.flink):
        return RunnerError(without_job_manager(server.flink, checkpoint, streaming))
    if not is_gone:
        return None
    found = find_job(server.flink, job, _ASKING_SECONDS) if server.flink else None
    goes_on = (
        f"the job may run on ({job})" if found is None else _goes_on(FlinkJob(str(server.flink), found), streaming)
    )
    return RunnerError(f"{server} has died, or cannot be reached any more; {goes_on}")


def _answers(address: str) -> bool:
    try:
        call(urllib.request.Request(f"{address}/overview"))
    except OSError:
        return False
    return True


def without_job_manager(address: str, checkpoint: str | None, streaming: bool) -> str:
    """What is said of a JobManager that does not answer: what may run on, and how to go on with a job."""
    text = (
        f"the JobManager at {address} does not answer any more; with high availability the job runs on under another "
        "one, "
    )
    if not streaming:
        return f"{text}else start it again"
    if checkpoint is None:
        return f"{text}else the same command with --savepoint_path=CHECKPOINT goes on from its last checkpoint"
    return f"{text}else go on from its last checkpoint:\n  {resuming(checkpoint)}"


def _goes_on(job: FlinkJob, streaming: bool) -> str:
    with contextlib.suppress(OSError):
        state = job.state()
        if state in ENDED:
            return f"the job is {state}: {job.page}"
    if streaming:
        return f"the job runs on, only this program has ended: {job.page}"
    return f"the job runs on, unattended: cancel it (flink cancel {job.id}), and start it again"
