"""Starts Beam's Python workers on this machine, for a Flink or Spark cluster that runs here too.

::

    python -m deploy.flink.worker_pool 50000
    penstock prepare ... --environment_type=EXTERNAL --environment_config=localhost:50000

Beam's own pool (`apache_beam.runners.worker.worker_pool_main`) listens on all interfaces and runs whatever `python` is
in the PATH. This one listens on loopback and its workers run in the interpreter that it runs in: what is installed
there is what a job can use. Nothing that a job stages (`--setup_file`, `--requirements_file`) is installed.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
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


class WorkerPool(beam_fn_api_pb2_grpc.BeamFnExternalWorkerPoolServicer):
    """A process for each worker that a runner asks for.

    A worker ends when the runner that it talks to closes the connection, or dies. It is not ended by its id: each
    TaskManager counts from 1, so that two of them on one machine mean different workers by the same id (Beam's own pool
    ends the wrong one).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._workers: list[subprocess.Popen[bytes]] = []

    def StartWorker(self, request: Any, context: Any) -> Any:
        """Beam's request for a worker; it finds out by itself, from the runner, what it is for."""
        worker = subprocess.Popen(
            [
                sys.executable,
                os.path.abspath(__file__),
                f"--worker={request.worker_id}",
                f"--provision={request.provision_endpoint.url}",
                f"--control={request.control_endpoint.url}",
                f"--logging={request.logging_endpoint.url}",
            ]
        )
        with self._lock:
            # `poll` also frees what the system keeps of those that have ended.
            self._workers = [known for known in self._workers if known.poll() is None] + [worker]
        print(f"worker {request.worker_id} of {request.control_endpoint.url}: process {worker.pid}", flush=True)
        return beam_fn_api_pb2.StartWorkerResponse()

    def StopWorker(self, request: Any, context: Any) -> Any:
        """Beam's request to end a worker: the runner closes the connection next."""
        return beam_fn_api_pb2.StopWorkerResponse()

    def close(self) -> None:
        """Ends all workers."""
        with self._lock:
            for worker in self._workers:
                worker.terminate()
            for worker in self._workers:
                worker.wait()


def serve(port: int) -> None:
    """Starts workers on request, until the process is asked to end."""
    pool, ended = WorkerPool(), threading.Event()
    server = grpc.server(shared_unbounded_instance(), options=[("grpc.http2.max_ping_strikes", 0)])
    beam_fn_api_pb2_grpc.add_BeamFnExternalWorkerPoolServicer_to_server(pool, server)
    if server.add_insecure_port(f"127.0.0.1:{port}") == 0:
        raise OSError(f"port {port} cannot be listened on")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    server.start()
    print(f"worker pool on 127.0.0.1:{port}, workers in {sys.executable}", flush=True)
    ended.wait()
    server.stop(grace=None)
    pool.close()


def become_worker(worker: str, provision: str, control: str, logging: str) -> None:
    """Turns this process into a worker: asks the runner for the job's options, then runs Beam's main program.

    The names in the environment are those that Beam's container sets (beam/sdks/python/container/boot.go).
    """
    with grpc.insecure_channel(provision) as channel:
        info = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel).GetProvisionInfo(
            beam_provision_api_pb2.GetProvisionInfoRequest(), metadata=(("worker_id", worker),), timeout=60
        )
    os.environ |= {
        "WORKER_ID": worker,
        "PIPELINE_OPTIONS": json_format.MessageToJson(info.info.pipeline_options),
        "CONTROL_API_SERVICE_DESCRIPTOR": _descriptor(info.info.control_endpoint.url or control),
        "LOGGING_API_SERVICE_DESCRIPTOR": _descriptor(info.info.logging_endpoint.url or logging),
        "RUNNER_CAPABILITIES": " ".join(info.info.runner_capabilities),
        "SEMI_PERSISTENT_DIRECTORY": tempfile.gettempdir(),
    }
    if info.info.status_endpoint.url:
        os.environ["STATUS_API_SERVICE_DESCRIPTOR"] = _descriptor(info.info.status_endpoint.url)
    os.execv(sys.executable, [sys.executable, "-m", "apache_beam.runners.worker.sdk_worker_main"])


def _descriptor(url: str) -> str:
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))


def main() -> None:
    """A pool on a port, or one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int, nargs="?", default=50000)
    for name in ("worker", "provision", "control", "logging"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        become_worker(arguments.worker, arguments.provision, arguments.control, arguments.logging)
    else:
        serve(arguments.port)


if __name__ == "__main__":
    main()
