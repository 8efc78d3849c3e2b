"""Prism, Beam's local runner for streams, as a process that ends when its pipeline does, and not before.

Beam starts Prism in the process group of the job, where Ctrl-C on a terminal ends it before the job can finish what it
has read (no issue is filed at Beam). Here it has a session of its own. If the job is killed, Prism ends by itself a
while later, for want of another job. The server, its logs and how its binary is found are internal to Beam.

Prism gives the second half of the elements of a slow bundle to another bundle, and counts them as they lie with it,
timers among them, where a worker counts elements alone (`splitBundle` in prism/internal/engine/elementmanager.go,
https://github.com/apache/beam/issues/35771). Splits are off: they serve parallel work, and a local stream has none.
"""

import collections
import contextlib
import logging
import signal
import subprocess
import threading
import time
from typing import IO, Any

import grpc
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions
from apache_beam.portability.api import beam_job_api_pb2_grpc
from apache_beam.runners.portability.job_server import JobServer
from apache_beam.runners.portability.prism_runner import PrismJobServer, PrismRunner
from apache_beam.utils.subprocess_server import pick_port

from penstock.io.errors import RunnerError

_START_SECONDS = 60.0
_END_SECONDS = 5.0
_LAST_WORDS_SECONDS = 1.0

# Prism must not end between its start and the job's submission, which stages files.
_IDLE_SHUTDOWN = "120s"

# A graph and its options can be large, and a job that only waits sends nothing for hours.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_timeout_ms", 600_000),
    ("grpc.http2.max_pings_without_data", 0),
)

# Beam's name, though it is about any bundle.
_NO_SPLITS = "prism_disable_sdf_split"

_LOGGER = logging.getLogger("PrismJobServer")


class _PatientStub(beam_job_api_pb2_grpc.JobServiceStub):
    """A job service whose states and messages come for as long as the job runs.

    Beam gives these answers the deadline of a request, `--job_server_timeout`, 300 s. Other servers refuse the first
    such call, and Beam then asks again without a deadline; Prism does not, and each job would end after five minutes.
    """

    def __init__(self, channel: grpc.Channel):
        super().__init__(channel)
        states, messages = self.GetStateStream, self.GetMessageStream
        self.GetStateStream = lambda request, timeout=None: states(request)
        self.GetMessageStream = lambda request, timeout=None: messages(request)


class Prism(JobServer):
    """A Prism that one pipeline runs on; `stop` ends it."""

    def __init__(self, options: PipelineOptions):
        self._beam = PrismJobServer(options)
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        self._last: collections.deque[str] = collections.deque(maxlen=100)

    def start(self) -> beam_job_api_pb2_grpc.JobServiceStub:
        """Starts the process; returns its job service.

        Raises:
          RunnerError: when it does not start.
        """
        (port,) = pick_port(self._beam._job_port)
        command = [self._beam._get_executable_path(), *self._beam.prism_arguments(port)]
        command += ["--idle_shutdown_timeout", _IDLE_SHUTDOWN]
        self._process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        if self._beam._log_filter is not None:
            _LOGGER.addFilter(self._beam._log_filter)
            _LOGGER.setLevel(logging.INFO)  # the filter gives each record its own level
        assert self._process.stdout is not None
        self._log = threading.Thread(target=self.log_stdout, args=(self._process.stdout,), daemon=True)
        self._log.start()
        self._channel = grpc.insecure_channel(f"localhost:{port}", options=_CHANNEL_OPTIONS)
        self._wait_for(self._channel)
        return _PatientStub(self._channel)

    def _wait_for(self, channel: grpc.Channel) -> None:
        ready, deadline = grpc.channel_ready_future(channel), time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline and not self.has_ended():
            with contextlib.suppress(grpc.FutureTimeoutError):
                ready.result(timeout=0.1)
                return
        how = self.how_it_ended() or f"no answer for {_START_SECONDS:g} s"
        self.stop()
        raise RunnerError(f"Prism, Beam's local runner, does not start ({how})")

    # The filter knows what Prism logs by the name of this function.
    def log_stdout(self, output: IO[bytes]) -> None:
        """Logs what the process prints, until it ends."""
        with output:
            for line in output:
                text = line.decode(errors="backslashreplace").rstrip()
                self._last.append(text)
                _LOGGER.info(text)

    def has_ended(self, seconds: float = 0.0) -> bool:
        """Returns whether the process has ended, or ends in some seconds."""
        if self._process is None:
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.poll() is not None

    def how_it_ended(self) -> str | None:
        """Returns how the process has ended; None if it has not."""
        code = self._process.poll() if self._process else None
        if code is None:
            return None
        self._log.join(_LAST_WORDS_SECONDS)
        if code < 0:
            return f"killed by {signal.Signals(-code).name}"
        why = next((line for line in self._last if line.startswith(("panic: ", "fatal error: "))), None)
        why = why or (self._last[-1] if self._last and code else None)
        return f"exit code {code}: {why}" if why else f"exit code {code}"

    @property
    def pid(self) -> int | None:
        """The process; None before its start."""
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Ends the process."""
        if self._beam._log_filter is not None:
            _LOGGER.removeFilter(self._beam._log_filter)
        if self._channel is not None:
            self._channel.close()
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        if not self.has_ended(_END_SECONDS):
            self._process.kill()
            self._process.wait()
        self._log.join(_LAST_WORDS_SECONDS)


class OwnPrismRunner(PrismRunner):
    """Runs one pipeline on a Prism of its own, which `close` ends."""

    def __init__(self, options: PipelineOptions):
        super().__init__()
        options.view_as(DebugOptions).add_experiment(_NO_SPLITS)
        self.server = Prism(options)

    def default_job_server(self, options: Any) -> JobServer:
        """Gives Beam the server."""
        return self.server

    def close(self) -> None:
        """Ends Prism."""
        self.server.stop()
