"""What is said when what runs a pipeline has died."""

import types

import grpc
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from flink_rest import JOB, NAME, flink_rest

from pipelines._cli.beam import beam_options
from pipelines._run.unreachable import JobServer, of_prism, of_server


class Gone(grpc.RpcError):
    """A connection that is lost."""

    def __init__(self, code=grpc.StatusCode.UNAVAILABLE):
        super().__init__()
        self._code = code

    def code(self):
        return self._code


@pytest.fixture
def cluster():
    with flink_rest() as cluster:
        yield cluster


def flink(address: str, *flags: str) -> PipelineOptions:
    return beam_options(["--runner=FlinkRunner", f"--flink_master={address}", "--job_endpoint=host:9", *flags])


def said(error, options, job=NAME, streaming=True, checkpoint=None):
    found = of_server(error, JobServer.of(options), job, streaming, checkpoint)
    return found and str(found)


def prism(how):
    return types.SimpleNamespace(has_ended=lambda seconds: how is not None, how_it_ended=lambda: how)


def test_prism():
    dead, alive = prism("killed by SIGKILL"), prism(None)
    assert str(of_prism(Gone(), dead, "the same command goes on")) == (
        "Prism, Beam's local runner, has died under the job (killed by SIGKILL); what is published is whole, and the "
        "same command goes on"
    )
    assert str(of_prism(RuntimeError("x"), dead, None)).endswith("(killed by SIGKILL); start the job again")
    assert of_prism(Gone(), alive, None) is None


def test_a_job_server_that_does_not_answer_or_no_more_before_it_has_the_job():
    options = beam_options(["--runner=PortableRunner", "--job_endpoint=host:9"])
    assert said(grpc.FutureTimeoutError(), options, "") == (
        "Beam's job server at host:9 does not answer (--job_endpoint); start it, and then the job again"
    )
    assert said(Gone(), options, "") == (
        "Beam's job server at host:9 does not answer any more; start it, and then the job again"
    )
    assert said(Gone(), options) == (
        f"Beam's job server at host:9 has died, or cannot be reached any more; the job may run on ({NAME})"
    )


def test_other_failures_are_left_alone(cluster):
    assert said(RuntimeError("a fault of a worker"), flink(cluster.address)) is None
    assert said(Gone(grpc.StatusCode.INTERNAL), flink(cluster.address)) is None
    assert said(RuntimeError("x"), beam_options(["--runner=DataflowRunner"])) is None


@pytest.mark.parametrize(
    ("state", "streaming", "goes_on"),
    [
        ("RUNNING", True, "the job runs on, only this program has ended: {page}"),
        ("RESTARTING", False, "the job runs on, unattended: cancel it (flink cancel b), and start it again"),
        ("FAILED", True, "the job is FAILED: {page}"),
        ("FAILED", False, "the job is FAILED: {page}"),
    ],
)
def test_a_job_server_that_dies_under_a_job(cluster, state, streaming, goes_on):
    cluster.answers[f"/jobs/{JOB}"] = [{"state": state}]
    page = f"{cluster.address}/#/job/{JOB}"
    assert said(Gone(), flink(cluster.address), streaming=streaming) == (
        f"Beam's job server at host:9 has died, or cannot be reached any more; {goes_on.format(page=page)}"
    )


@pytest.mark.parametrize("error", [Gone(), RuntimeError("java.net.ConnectException: Connection refused")])
@pytest.mark.parametrize(
    ("streaming", "checkpoint", "way_on"),
    [
        (
            True,
            "s3://c/chk-7",
            "go on from its last checkpoint:\n  this command with --savepoint_path=s3://c/chk-7",
        ),
        (True, None, "the same command with --savepoint_path=CHECKPOINT goes on from its last checkpoint"),
        (False, None, "start it again"),
    ],
    ids=["checkpoint", "no checkpoint", "batch"],
)
def test_a_job_manager_that_dies(error, streaming, checkpoint, way_on):
    assert said(error, flink("127.0.0.1:1"), streaming=streaming, checkpoint=checkpoint) == (
        "the JobManager at http://127.0.0.1:1 does not answer any more; with high availability the job runs on under "
        f"another one, else {way_on}"
    )
