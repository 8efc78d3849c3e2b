"""Prism as a process of one pipeline: its start, its end, and what is said of an end that came too early."""

import os
import pathlib
import signal
import stat
import sys
import textwrap
import time

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.portability.prism_runner import PrismRunner

from penstock.io.beam.local.prism import OwnPrismRunner, Prism
from penstock.io.errors import RunnerError

SERVES = """
import sys, time
from concurrent import futures
import grpc
server = grpc.server(futures.ThreadPoolExecutor(1))
server.add_insecure_port(f"127.0.0.1:{sys.argv[sys.argv.index('--job_port') + 1]}")
server.start()
print(*sys.argv[1:], flush=True)
time.sleep(60)
"""


@pytest.fixture
def prism(tmp_path):
    """Makes a stand-in for Prism from the text of a program."""
    made = []

    def make(program: str) -> Prism:
        path = tmp_path / "prism"
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(program)}")
        path.chmod(path.stat().st_mode | stat.S_IEXEC)
        made.append(Prism(PipelineOptions([f"--prism_location={path}"])))
        return made[-1]

    yield make
    for server in made:
        server.stop()


def wait_for(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_serves_in_a_session_of_its_own_until_it_is_stopped(prism):
    server = prism(SERVES)
    assert (server.pid, server.has_ended(), server.how_it_ended()) == (None, False, None)
    assert hasattr(server.start(), "Prepare")
    wait_for(lambda: server._last)
    assert "--serve_http=false --idle_shutdown_timeout 120s" in server._last[0]
    assert os.getsid(server.pid) == server.pid, "Ctrl-C on the terminal of the job must not reach it"
    assert not server.has_ended()
    server.stop()
    assert server.has_ended()
    assert not pathlib.Path(f"/proc/{server.pid}").exists()
    server.stop()


def test_one_that_is_deaf_to_sigterm_is_killed(prism, monkeypatch):
    monkeypatch.setattr("penstock.io.beam.local.prism._END_SECONDS", 0.1)
    server = prism(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{SERVES}")
    server.start()
    server.stop()
    assert server.how_it_ended() == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("program", "how"),
    [
        pytest.param("import sys; print('no port'); sys.exit(3)", "exit code 3: no port", id="last words"),
        pytest.param("import sys; print('panic: x\\n\\nmain()'); sys.exit(2)", "exit code 2: panic: x", id="panic"),
        pytest.param("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL", id="signal"),
        pytest.param("", "exit code 0", id="silent"),
    ],
)
def test_one_that_does_not_start(prism, program, how):
    server = prism(program)
    with pytest.raises(RunnerError, match=rf"Prism, Beam's local runner, does not start \({how}\)"):
        server.start()


def test_one_that_never_answers(prism, monkeypatch):
    monkeypatch.setattr("penstock.io.beam.local.prism._START_SECONDS", 0.3)
    server = prism("import time; time.sleep(60)")
    with pytest.raises(RunnerError, match=r"does not start \(no answer for 0.3 s\)"):
        server.start()
    assert server.has_ended()


def test_one_that_is_killed_later(prism):
    server = prism(SERVES)
    server.start()
    os.kill(server.pid, signal.SIGKILL)
    assert server.has_ended(20)
    assert server.how_it_ended() == "killed by SIGKILL"


SPEAKS = SERVES.replace(
    "server.start()",
    """
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
class Job(beam_job_api_pb2_grpc.JobServiceServicer):
    def GetStateStream(self, request, context):
        yield beam_job_api_pb2.JobStateEvent(state=4)
        time.sleep(1)
        yield beam_job_api_pb2.JobStateEvent(state=5)
    def GetMessageStream(self, request, context):
        time.sleep(1)
        yield beam_job_api_pb2.JobMessagesResponse()
beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(Job(), server)
server.start()
""",
).replace("ThreadPoolExecutor(1)", "ThreadPoolExecutor(2)")


def test_a_job_may_take_longer_than_a_request(prism):
    """As Beam asks: with the deadline of a request."""
    stub = prism(SPEAKS).start()
    states = stub.GetStateStream(beam_job_api_pb2.GetJobStateRequest(job_id="job"), timeout=0.3)
    messages = stub.GetMessageStream(beam_job_api_pb2.JobMessagesRequest(job_id="job"), timeout=0.3)
    assert [event.state for event in states] == [4, 5]
    assert len(list(messages)) == 1


def test_the_runner_is_beams_with_this_server():
    options = PipelineOptions(["--experiments=own"])
    runner = OwnPrismRunner(options)
    assert options.view_as(DebugOptions).experiments == ["own", "prism_disable_sdf_split"]
    assert isinstance(runner, PrismRunner)
    assert runner.default_job_server(None) is runner.server
    runner.close()
