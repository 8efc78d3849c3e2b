"""The pieces of a local cluster that need no Java: programs and their logs, Flink's REST interface, the worker pool."""

import concurrent.futures
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import ClassVar

import grpc
import pytest
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from deploy.flink import worker_pool
from deploy.flink.job_server import job_server_jar, run_maven
from deploy.flink.local_cluster import LocalCluster
from deploy.flink.rest import FlinkRest
from deploy.flink.service import Service, children, free_port, is_listening

WAITS = "import time; print('ready', flush=True); time.sleep(600)"
HAS_CHILD = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {WAITS!r}]); {WAITS}"
IGNORES_SIGTERM = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {WAITS}"


@pytest.fixture
def python(tmp_path):
    """Makes services out of Python code; they end with the test."""
    services = []

    def make(code: str) -> Service:
        services.append(Service(f"service-{len(services)}", [sys.executable, "-c", code], tmp_path))
        return services[-1]

    yield make
    for service in services:
        service.kill()


def is_ready(service: Service) -> bool:
    return "ready" in service.tail()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; in a container nobody may ask for its exit code, and it stays as a zombie."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return not state or state.startswith("Z")


def test_a_service_is_started_waited_for_and_stopped_with_all_that_it_started(python):
    service = python(HAS_CHILD)
    service.start()
    service.wait_for(lambda: service.tail().count("ready") == 2)
    (child,) = children(service.pid)
    service.stop()
    assert not service.is_running
    deadline = time.monotonic() + 30
    while not is_gone(child):
        assert time.monotonic() < deadline, "its child runs on"
        time.sleep(0.05)


def test_a_service_that_does_not_listen_is_killed(python):
    service = python(IGNORES_SIGTERM)
    service.start()
    service.wait_for(lambda: is_ready(service))
    service.stop(seconds=0.2)
    assert not service.is_running


def test_a_service_is_started_again_and_its_log_goes_on(python):
    service = python(WAITS)
    for times in (1, 2):
        service.start()
        service.wait_for(lambda times=times: service.tail().count("ready") == times)
        service.kill()


def test_a_service_that_ends_is_told_with_its_log(python):
    service = python("import sys; sys.exit('no space')")
    service.start()
    with pytest.raises(RuntimeError, match=r"service-0 ended; .*service-0.log:\nno space"):
        service.wait_for(lambda: False)


def test_a_service_that_ends_is_started_again_if_it_may(python, tmp_path):
    service = python(
        f"import pathlib; p = pathlib.Path({str(tmp_path / 'x')!r}); p.exists() or p.touch() or 1 / 0; {WAITS}"
    )
    service.start()
    service.wait_for(lambda: is_ready(service), restarts=1)


def test_a_service_that_is_not_ready_in_time(python):
    service = python(WAITS)
    service.start()
    with pytest.raises(RuntimeError, match=r"service-0 not ready after 0.1 s"):
        service.wait_for(lambda: False, 0.1)


def test_a_service_that_was_never_started(python):
    with pytest.raises(RuntimeError, match="service-0 has not been started"):
        _ = python(WAITS).pid
    python(WAITS).stop()


def test_java_and_maven_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="Java 17 and Maven are needed"):
        job_server_jar(tmp_path)


def test_what_maven_complains_about_is_told(tmp_path, monkeypatch):
    for name in ("mvn", "java"):
        (tmp_path / name).write_text("#!/bin/sh\necho no such artifact\nexit 1\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "x.xml").write_text("")
    (tmp_path / "build").mkdir()
    with pytest.raises(RuntimeError, match=r"mvn .*failed:\nno such artifact"):
        run_maven(tmp_path / "x.xml", tmp_path / "build", "package")


def test_a_port_that_is_taken_is_named(tmp_path):
    with http.server.HTTPServer(("127.0.0.1", 0), _Flink) as server:
        assert is_listening(server.server_port)
        cluster = LocalCluster(tmp_path, tmp_path / "none.jar", server.server_port)
        with pytest.raises(RuntimeError, match=rf"port {server.server_port} is taken"):
            cluster.start()


class _Flink(http.server.BaseHTTPRequestHandler):
    """Answers as Flink does, from a table of the test."""

    answers: ClassVar[dict[str, object]] = {}

    def do_GET(self) -> None:
        answer = self.answers.get(f"{self.command} {self.path}")
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(404 if answer is None else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"errors": ["not here"]} if answer is None else answer).encode())

    do_POST = do_PATCH = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def rest():
    """Flink's REST interface, with the answers that a test gives."""
    _Flink.answers = {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Flink) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield FlinkRest(f"http://127.0.0.1:{server.server_port}/")
        server.shutdown()
        thread.join()


def test_jobs_by_age_and_by_name(rest):
    jobs = [{"jid": "b", "name": "x", "start-time": 2}, {"jid": "a", "name": "x", "start-time": 1}]
    _Flink.answers = {"GET /jobs/overview": {"jobs": jobs}}
    assert [job["jid"] for job in rest.jobs()] == ["a", "b"]
    assert rest.job_of("x") == "b"
    with pytest.raises(TimeoutError, match="no job y after 0 s"):
        rest.job_of("y", seconds=0)


def test_whether_it_is_up(rest):
    assert not rest.is_up(1)
    _Flink.answers = {"GET /overview": {"taskmanagers": 1}}
    assert rest.is_up(1)
    assert not rest.is_up(2)
    assert not FlinkRest(f"http://127.0.0.1:{free_port()}").is_up(1)


def test_an_error_names_the_call_and_what_flink_says(rest):
    with pytest.raises(OSError, match=r"/jobs/x: 404 .*not here"):
        rest.state("x")


def test_cancelling_waits_for_the_end(rest):
    _Flink.answers = {"PATCH /jobs/x": {}, "GET /jobs/x": {"state": "CANCELED"}}
    rest.cancel("x")
    _Flink.answers["GET /jobs/x"] = {"state": "CANCELLING"}
    with pytest.raises(TimeoutError, match="job x is CANCELLING, 0 s after it was to end"):
        rest.cancel("x", seconds=0)


@pytest.mark.parametrize(
    ("operation", "found"), [({"location": "file:/s"}, "file:/s"), ({"failure-cause": "no"}, None)]
)
def test_stopping_gives_the_savepoint(rest, operation, found):
    status = {"status": {"id": "COMPLETED"}, "operation": operation}
    _Flink.answers = {"POST /jobs/x/stop": {"request-id": "1"}, "GET /jobs/x/savepoints/1": status}
    if found:
        assert rest.stop("x", "file:///s") == found
    else:
        with pytest.raises(RuntimeError, match="no savepoint of job x: no"):
            rest.stop("x", "file:///s")


def test_the_worker_pool_listens_until_it_is_asked_to_end(tmp_path):
    port = free_port()
    pool = Service("pool", [sys.executable, worker_pool.__file__, str(port)], tmp_path)
    pool.start()
    try:
        pool.wait_for(lambda: f"worker pool on 127.0.0.1:{port}, workers in {sys.executable}" in pool.tail())
        assert is_listening(port)
        os.kill(pool.pid, signal.SIGTERM)
        pool.wait(30)
    finally:
        pool.kill()


class _Provision(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """What a runner says of a worker's job."""

    def __init__(self, **options: str):
        self._options = {f"beam:option:{name}:v1": value for name, value in options.items()}

    def GetProvisionInfo(self, request, context):
        assert dict(context.invocation_metadata())["worker_id"] == "1-1"
        info = beam_provision_api_pb2.ProvisionInfo()
        info.pipeline_options.update(self._options)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=info)


@pytest.fixture
def provision():
    """Starts a runner's service that says the options of a job; gives its address."""
    servers = []

    def start(**options: str) -> str:
        servers.append(grpc.server(concurrent.futures.ThreadPoolExecutor(1)))
        beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(_Provision(**options), servers[-1])
        port = servers[-1].add_insecure_port("127.0.0.1:0")
        servers[-1].start()
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


@pytest.mark.parametrize(
    ("options", "job"),
    [
        ({"flink_master": "host:8081", "job_name": "x"}, ("host:8081", "x")),
        ({"flink_master": "[local]", "job_name": "x"}, None),
        ({"job_name": "x"}, None),
        ({"flink_master": "host:8081"}, None),
    ],
    ids=["cluster", "inside_the_program", "no_flink", "no_name"],
)
def test_which_job_a_worker_is_for(provision, options, job):
    assert worker_pool.job_of("1-1", provision(**options)) == job


def test_a_runner_that_is_gone_says_nothing():
    assert worker_pool.job_of("1-1", f"127.0.0.1:{free_port()}") is None


@pytest.mark.parametrize(
    ("states", "ended"),
    [
        ([], False),
        (["RUNNING"], False),
        (["RESTARTING"], False),
        (["CANCELED"], True),
        (["FAILED", "FINISHED"], True),
        (["CANCELED", "RUNNING"], False),
    ],
    ids=["unknown", "running", "restarting", "canceled", "each_has_ended", "one_runs_again"],
)
def test_whether_a_job_has_ended(rest, states, ended):
    jobs = [{"name": "x", "state": state} for state in states] + [{"name": "y", "state": "RUNNING"}]
    _Flink.answers = {"GET /jobs/overview": {"jobs": jobs}}
    assert worker_pool.has_ended(rest.address, "x") is ended
    assert worker_pool.has_ended(rest.address.removeprefix("http://"), "x") is ended


def test_a_cluster_that_cannot_be_asked_has_not_ended_a_job(rest):
    assert not worker_pool.has_ended(rest.address, "x")
    assert not worker_pool.has_ended(f"127.0.0.1:{free_port()}", "x")


def pool_with(*workers: tuple[str, subprocess.Popen]) -> worker_pool.WorkerPool:
    pool = worker_pool.WorkerPool()
    pool._workers = [worker_pool._Worker(process, "1-1", address) for address, process in workers]
    return pool


def test_workers_end_with_their_job_and_others_stay(rest, provision, capsys):
    master = rest.address.removeprefix("http://")
    processes = [subprocess.Popen([sys.executable, "-c", code]) for code in (WAITS, IGNORES_SIGTERM, WAITS)]
    ended, deaf, running = processes
    of_ended, of_running = (provision(flink_master=master, job_name=name) for name in ("ended", "running"))
    pool = pool_with((of_ended, ended), (of_ended, deaf), (of_running, running))
    try:
        jobs = [{"name": "ended", "state": "RUNNING"}, {"name": "running", "state": "RUNNING"}]
        _Flink.answers = {"GET /jobs/overview": {"jobs": jobs}}
        for _ in range(2):
            pool.end_idle()
        jobs[0]["state"] = "CANCELED"
        pool.end_idle()
        assert [process.poll() for process in processes] == [None, None, None], "they may end by themselves"
        pool.end_idle()
        assert ended.wait(10) == -signal.SIGTERM
        assert f"process {ended.pid}: its job ended has ended; it is ended too" in capsys.readouterr().out
        pool.end_idle()
        assert deaf.wait(10) in (-signal.SIGTERM, -signal.SIGKILL)
        assert running.poll() is None
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="workers are forked on Linux")
def test_workers_are_forked_also_when_what_forks_them_was_killed(provision):
    pool = worker_pool.WorkerPool()
    # Nobody listens there: a worker tries for a while.
    endpoint = endpoints_pb2.ApiServiceDescriptor(url=f"127.0.0.1:{free_port()}")
    own = endpoints_pb2.ApiServiceDescriptor(url=provision(job_name="x"))
    request = beam_fn_api_pb2.StartWorkerRequest(
        worker_id="1-1", provision_endpoint=own, control_endpoint=endpoint, logging_endpoint=endpoint
    )
    try:
        pool.StartWorker(request, None)
        pool.StartWorker(request, None)
        template = pool._template._process
        workers = [worker.process for worker in pool._workers]
        assert children(template.pid) == [worker.pid for worker in workers]
        workers[0].kill()
        assert workers[0].wait() == workers[0].poll() == 0
        template.kill()
        template.wait()
        assert workers[1].poll() is None
        pool.StartWorker(request, None)
        assert pool._template._process.pid != template.pid
    finally:
        pool.close()
    assert [worker.process.poll() for worker in pool._workers] == [0, 0, 0]
