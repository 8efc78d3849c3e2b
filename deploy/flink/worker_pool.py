"""Starts Beam's Python workers on this machine, for a Flink or Spark cluster that runs here too.

::

    python -m deploy.flink.worker_pool 50000
    penstock prepare ... --environment_type=EXTERNAL --environment_config=localhost:50000

Beam's own pool (`apache_beam.runners.worker.worker_pool_main`) listens on all interfaces and runs whatever `python` is
in the PATH. This one listens on loopback and its workers run in the interpreter that it runs in: what is installed
there is what a job can use. Nothing that a job stages (`--setup_file`, `--requirements_file`) is installed. On Linux
they are forked from a process that has imported Beam, which costs 2 s of a core; what else a job needs each of them
imports anew, as it is at that time.
"""

import argparse
import contextlib
import dataclasses
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
import warnings
from collections.abc import Sequence
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    endpoints_pb2,
)
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance
from google.protobuf import json_format, text_format

# How often it is looked for workers whose jobs have ended, and how long an answer may take.
_LOOK_SECONDS = 10
_SECONDS = 5

# Beam's main program of a worker.
_WORKER = "apache_beam.runners.worker.sdk_worker_main"


@dataclasses.dataclass
class _Worker:
    """A process, and which job of which Flink cluster it serves, once that is known."""

    process: "subprocess.Popen[bytes] | _Forked"
    worker_id: str
    provision: str
    job: tuple[str, str] | None = None
    asked_to_end: bool = False


def _started(*arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[bytes]:
    """Starts this program with other arguments."""
    # Workers share the cores already.
    environment = {"OPENBLAS_NUM_THREADS": "1", **os.environ}
    program = [sys.executable, os.path.abspath(__file__), *arguments]
    return subprocess.Popen(program, env=environment, pass_fds=pass_fds)


class _Forked:
    """A process that another one has forked, as `subprocess.Popen` has it; its exit code is not known."""

    def __init__(self, pid: int, fd: int):
        self.pid = pid
        self._fd = fd

    def poll(self) -> int | None:
        """0 when it has ended, else None."""
        return 0 if select.select([self._fd], [], [], 0)[0] else None

    def wait(self) -> int:
        """Returns when it has ended."""
        select.select([self._fd], [], [])
        return 0

    def terminate(self) -> None:
        """Asks it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it at once."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, number)

    def __del__(self) -> None:
        os.close(self._fd)


class _Template:
    """A process that has imported Beam and forks workers on request; it ends with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._process = _started(f"--template={theirs.fileno()}", pass_fds=[theirs.fileno()])
            self._file = ours.makefile("rw")

    def fork(self, arguments: Sequence[str]) -> _Forked:
        """Makes a worker with arguments of the command line.

        Raises:
          OSError: when the template, or already the worker, has been killed.
        """
        print(json.dumps(arguments), file=self._file, flush=True)
        answer = self._file.readline()
        if not answer:
            raise ChildProcessError("the template has ended")
        pid = int(answer)
        return _Forked(pid, os.pidfd_open(pid))

    def close(self) -> None:
        """Ends it, and not its workers."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(OSError):
            self._file.close()


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """A process for each worker that a runner asks for.

    A worker ends when the runner that it talks to closes the connection, or dies. It is not ended by its id: each
    TaskManager counts from 1, so that two of them on one machine mean different workers by the same id (Beam's own pool
    ends the wrong one).

    A job that ends while its workers start leaves them behind: Beam's runner forgets them, and its TaskManager keeps
    the connection to them for ever. `end_idle` ends those whose job Flink says has ended.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[_Worker] = []
        self._ended_before: set[tuple[str, str]] = set()
        self._template: _Template | None = None

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Beam's request for a worker; it finds out by itself, from the runner, what it is for."""
        arguments = [
            f"--worker={request.worker_id}",
            f"--provision={request.provision_endpoint.url}",
            f"--control={request.control_endpoint.url}",
            f"--logging={request.logging_endpoint.url}",
        ]
        with self._lock:
            worker = self._start(arguments)
            self._workers.append(_Worker(worker, request.worker_id, request.provision_endpoint.url))
        print(f"worker {request.worker_id} of {request.control_endpoint.url}: process {worker.pid}", flush=True)
        return beam_fn_api_pb2.StartWorkerResponse()

    def warm_up(self) -> None:
        """Makes the first worker start sooner."""
        if self._template is None and hasattr(os, "pidfd_open"):
            self._template = _Template()

    def _start(self, arguments: Sequence[str]) -> subprocess.Popen[bytes] | _Forked:
        """Makes a worker: by a fork, where the system has what that needs."""
        self.warm_up()
        if self._template is None:
            return _started(*arguments)
        try:
            return self._template.fork(arguments)
        except OSError:  # somebody has killed it
            self._template.close()
            self._template = _Template()
            return self._template.fork(arguments)

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Beam's request to end a worker: the runner closes the connection next."""
        return beam_fn_api_pb2.StopWorkerResponse()

    def end_idle(self) -> None:
        """Ends the workers whose jobs had ended the time before, too: time for those that end by themselves."""
        with self._lock:
            # `poll` also frees what the system keeps of those that have ended.
            self._workers = [known for known in self._workers if known.process.poll() is None]
            workers = list(self._workers)
        for worker in workers:
            worker.job = worker.job or job_of(worker.worker_id, worker.provision)
        ended = {job for job in {worker.job for worker in workers if worker.job} if has_ended(*job)}
        for worker in workers:
            if worker.job in ended & self._ended_before:
                _end(worker)
        self._ended_before = ended

    def close(self) -> None:
        """Ends all workers."""
        with self._lock:
            if self._template is not None:
                self._template.close()
            for worker in self._workers:
                worker.process.terminate()
            for worker in self._workers:
                worker.process.wait()


def _end(worker: _Worker) -> None:
    """Politely at first."""
    print(f"process {worker.process.pid}: its job {(worker.job or ('', ''))[1]} has ended; it is ended too", flush=True)
    (worker.process.kill if worker.asked_to_end else worker.process.terminate)()
    worker.asked_to_end = True


def job_of(worker_id: str, provision: str) -> tuple[str, str] | None:
    """The address of the Flink cluster and the name of the job that a worker is for; None where nobody says.

    A runner that is no Flink cluster, or is one inside the submitting program, has no address.
    """
    try:
        options = _provision_info(worker_id, provision, _SECONDS).pipeline_options
    except grpc.RpcError:
        return None
    values = json_format.MessageToDict(options)
    found = [str(values.get(f"beam:option:{name}:v1", "")) for name in ("flink_master", "job_name")]
    address, name = found
    return (address, name) if name and address and not address.startswith("[") else None


def has_ended(address: str, name: str) -> bool:
    """Whether Flink knows a job of that name, and each such job has ended; False where Flink cannot be asked."""
    url = address if "://" in address else f"http://{address}"
    try:
        with urllib.request.urlopen(f"{url}/jobs/overview", timeout=_SECONDS) as answer:
            jobs = json.load(answer)["jobs"]
    except (OSError, ValueError, KeyError):
        return False
    states = {job["state"] for job in jobs if job["name"] == name}
    return bool(states) and states <= {"CANCELED", "FAILED", "FINISHED"}


def _provision_info(worker_id: str, provision: str, seconds: float) -> Any:
    """What the runner says of a worker's job.

    Raises:
      grpc.RpcError: when it does not, in that time.
    """
    with grpc.insecure_channel(provision) as channel:
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        metadata = (("worker_id", worker_id),)
        stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        return stub.GetProvisionInfo(request, metadata=metadata, timeout=seconds).info


def serve(port: int) -> None:
    """Starts workers on request, until the process is asked to end."""
    pool, ended = WorkerPool(), threading.Event()
    pool.warm_up()
    server = grpc.server(shared_unbounded_instance(), options=[("grpc.http2.max_ping_strikes", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    if server.add_insecure_port(f"127.0.0.1:{port}") == 0:
        raise OSError(f"port {port} cannot be listened on")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    print(f"worker pool on 127.0.0.1:{port}, workers in {sys.executable}", flush=True)
    while not ended.wait(_LOOK_SECONDS):
        pool.end_idle()
    server.stop(grace=None)
    pool.close()


def be_template(number: int) -> None:
    """Forks workers on request, with Beam imported; returns at the end, of each worker too."""
    before = [(each, signal.signal(each, signal.SIG_IGN)) for each in (signal.SIGCHLD, signal.SIGINT)]
    importlib.import_module(_WORKER)
    gc.freeze()
    arguments = _forked_with(number)
    if arguments is not None:
        for each, handler in before:
            signal.signal(each, handler)
        become_worker(_parser().parse_args(arguments))


def _forked_with(number: int) -> list[str] | None:
    """Makes a fork for each line of a socket; returns the line's arguments there, and None here when it is closed."""
    with socket.socket(fileno=number) as requests, requests.makefile("rw") as file:
        for line in file:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about forks beside threads
                pid = os.fork()
            if not pid:
                return list(json.loads(line))
            print(pid, file=file, flush=True)
    return None


def become_worker(arguments: argparse.Namespace) -> None:
    """Turns this process into a worker: asks the runner for the job's options, then runs Beam's main program.

    The names in the environment are those that Beam's container sets (beam/sdks/python/container/boot.go).
    """
    info = _provision_info(arguments.worker, arguments.provision, 60)
    os.environ |= {
        "WORKER_ID": arguments.worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.control_endpoint.url or arguments.control),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.logging_endpoint.url or arguments.logging),
        "RUNNER_CAPABILITIES": " ".join(info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": tempfile.gettempdir(),
    }
    if info.status_endpoint.url:
        os.environ["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.status_endpoint.url)
    # As `python -m` would have it.
    sys.argv, sys.path[0] = [_WORKER], os.getcwd()
    program = sys.modules["__main__"] = importlib.import_module(_WORKER)
    program.main(sys.argv)


def _descriptor(url: str) -> str:
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, nargs="?", default=50000)
    for name in ("worker", "provision", "control", "logging"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--template", type=int, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    """A pool on a port, one of its workers, or what these are forked from."""
    arguments = _parser().parse_args()
    if arguments.template is not None:
        be_template(arguments.template)
    elif arguments.worker:
        become_worker(arguments)
    else:
        serve(arguments.port)


if __name__ == "__main__":
    main()
