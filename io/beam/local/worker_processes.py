"""Workers of the local runner in processes of their own, forked from this one when it has everything imported.

Threads of one process share an interpreter lock. Processes do not, and a fork has no imports to do: it costs some
milliseconds. What crosses between them are elements between stages, which on the local runner are references to files,
small summaries, and counters.

A process serves one bundle at a time, over a pipe. While it works it may ask for a side input, tell what it has done
(`penstock.io.beam.progress`) and pass on what it logs. When a bundle fails, all processes are ended. A process ends by
itself when its pipe is closed, at the latest a moment after its parent has died.

Some libraries have threads that a fork lacks, and then hang; where one of them is imported, there are no processes
(`can_fork`). Beam's worker handler, its data channel and the connection to a worker are internal to Beam.
"""

import contextlib
import gc
import logging
import multiprocessing
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator, MutableMapping
from multiprocessing.connection import Connection
from types import SimpleNamespace
from typing import Any, NoReturn

from apache_beam.portability.api import beam_fn_api_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlFuture, EmbeddedWorkerHandler
from apache_beam.runners.worker.sdk_worker import StateHandler

from penstock.io.beam import progress
from penstock.io.errors import RunnerError, StoppedError

_FORKS = sys.platform == "linux"

# Modules whose threads, once started, are missing in a fork: it would wait for them for ever.
_WITH_THREADS = ("tensorflow", "obstore", "confluent_kafka", "torch", "jax")

# Signals that the job takes, and its workers do not.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# Values of a record that is logged which any process can unpickle.
_PLAIN = (str, int, float, type(None))

# How often a worker tells what it has done.
_TELL_SECONDS = 0.25

# Messages of a worker: it ends with one of the first two.
_DONE, _FAILED, _STATE, _TOLD, _LOGGED = range(5)

_Elements = list[tuple[str, bytes]]


def can_fork() -> bool:
    """Whether this process can be forked safely, as far as that is known."""
    return _FORKS and not any(name in sys.modules for name in _WITH_THREADS)


class WorkerProcesses:
    """Processes for the workers of one pipeline; bundles of any of its stages go to any that is idle.

    Args:
      at_end: what a process does before it ends by itself.
    """

    def __init__(self, at_end: Callable[[], object]) -> None:
        self._at_end = at_end
        self._lock = threading.Lock()
        self._all: list[_Process] = []
        self._idle: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        self._error: BaseException | None = None

    def serve(self, handlers: list[Any], workers: int) -> None:
        """Makes bundles that are sent to handlers run in processes, of which there are as many as asked for, or more.

        To be called by the main thread, while no bundle runs.

        Raises:
          RunnerError: when the system gives no more processes, or no memory for them.
        """
        while len(self._all) < workers:
            try:
                process = _Process(handlers[0], [other.connection for other in self._all], self._at_end)
            except OSError as error:
                raise RunnerError(
                    f"worker process {len(self._all) + 1} of {workers} cannot be started: {error.strerror}; take fewer "
                    "(--direct_num_workers), or threads (--direct_running_mode=in_memory)"
                ) from error
            self._all.append(process)
            self._idle.put(process)
        for handler in handlers:
            handler.control_conn = _Control(handler, self)

    def run(self, handler: EmbeddedWorkerHandler, request: Any) -> Any:
        """Runs a bundle in a process that is idle, and returns Beam's response.

        Raises:
          StoppedError: when another bundle has failed.
          RunnerError: when the process has died.
          Exception: what the bundle raised.
        """
        process = self._idle.get()
        try:
            return process.run(handler, request)
        except BaseException as error:
            first = self._stop(error)
            if first is error:
                raise
            raise first from None
        finally:
            self._idle.put(process)

    def _stop(self, error: BaseException) -> BaseException:
        """Ends all processes for an error; returns the first one."""
        with self._lock:
            if self._error is None:
                self._error = error
                for process in self._all:
                    process.kill()
            return self._error

    def close(self) -> None:
        """Ends all processes, and waits until they have ended: at once if a bundle runs or has failed."""
        with self._lock:
            self._error = self._error or StoppedError("the pipeline has ended")
            for process in self._all:
                process.close()


class _Control:
    """The connection of a handler to its worker, as Beam's runner uses it, which leads to processes."""

    def __init__(self, handler: EmbeddedWorkerHandler, processes: WorkerProcesses):
        self._handler = handler
        self._processes = processes

    def push(self, request: Any) -> ControlFuture:
        return ControlFuture(request.instruction_id, self._processes.run(self._handler, request))


class _Process:
    """A forked worker, seen from its parent."""

    def __init__(self, handler: EmbeddedWorkerHandler, others: list[Connection], at_end: Callable[[], object]):
        self.connection, there = multiprocessing.Pipe()
        self._is_busy = False
        self._known: set[str] = set()
        parent = os.getpid()

        def make() -> _Worker:
            for connection in (self.connection, *others):  # so that they end when the parent does
                connection.close()
            return _Worker(there, parent, handler.provision_info)

        # A signal in a new worker would raise what the parent raises, and the worker would clean up and tell for it.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with progress.at_rest(), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of Python 3.12, about forks beside threads
                self._pid = os.fork()
            if not self._pid:
                _serve(make, at_end, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        there.close()

    def run(self, handler: EmbeddedWorkerHandler, request: Any) -> Any:
        """Runs a bundle, with the elements that wait for it in the handler's channel."""
        self._is_busy = True
        fns: MutableMapping[str, Any] = handler.bundle_processor_cache.fns
        stage = request.process_bundle.process_bundle_descriptor_id
        new = fns[stage].SerializeToString() if stage not in self._known else None
        self._known.add(stage)
        try:
            self.connection.send((request.SerializeToString(), new, _taken(handler.data_plane_handler.inverse())))
            kind, *values = self._answer(handler)
        except (EOFError, OSError) as error:
            raise RunnerError(f"a worker process ({self._pid}) has ended: {self._cause()}") from error
        self._is_busy = False
        if kind == _FAILED:
            raise _unpacked(*values)
        response, elements = values
        _put(handler.data_plane_handler, elements)
        return beam_fn_api_pb2.InstructionResponse.FromString(response)

    def _answer(self, handler: EmbeddedWorkerHandler) -> tuple[Any, ...]:
        """Waits for the end of a bundle, and does what the worker asks for until then."""
        while True:
            message: tuple[Any, ...] = self.connection.recv()
            match message:
                case (kind, key, token) if kind == _STATE:
                    state_key = beam_fn_api_pb2.StateKey.FromString(key)
                    self.connection.send(handler.state.get_raw(state_key, token))
                case (kind, done, planned) if kind == _TOLD:
                    progress.add(**done)
                    progress.plan(**planned)
                case (kind, record) if kind == _LOGGED:
                    logging.getLogger(record.name).handle(record)
                case _:
                    return message

    def _cause(self) -> str:
        """Waits for the end of a process that answers no more, and says what has ended it."""
        self.kill()  # if it has ended by itself, that stays the cause
        try:
            end = os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOWAIT)
        except ChildProcessError:
            end = None
        if end is None or (end.si_code == os.CLD_KILLED and end.si_status == signal.SIGKILL):
            return "killed, or out of memory"
        if end.si_code == os.CLD_EXITED:
            return f"its exit code is {end.si_status}"
        return f"it has crashed ({signal.Signals(end.si_status).name})"

    def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Ends the process, and waits for it."""
        if self._is_busy:
            self.kill()
        self.connection.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _taken(channel: Any) -> _Elements:
    """Takes all elements out of one side of a channel."""
    elements = [(type(element).__name__, element.SerializeToString()) for element in channel._inputs]
    channel._inputs = []
    return elements


def _put(channel: Any, elements: _Elements) -> None:
    kinds: dict[str, Any] = {"Data": beam_fn_api_pb2.Elements.Data, "Timers": beam_fn_api_pb2.Elements.Timers}
    channel._inputs += [kinds[name].FromString(element) for name, element in elements]


def _unpacked(packed: bytes | None, text: str) -> BaseException:
    """The error of a worker; with its text alone if it cannot be pickled."""
    error: BaseException = pickle.loads(packed) if packed else RuntimeError(text)
    error.add_note(text)
    return error


def _packed(error: BaseException) -> tuple[bytes | None, str]:
    text = "".join(traceback.format_exception(error))
    try:
        packed = pickle.dumps(error)
        pickle.loads(packed)
    except Exception:
        return None, text
    return packed, text


class _Worker:
    """A forked worker, seen from inside."""

    def __init__(self, connection: Connection, parent: int, provision_info: Any):
        self._connection = connection
        self._parent = parent
        self._sending = threading.Lock()
        self._fns: dict[str, Any] = {}
        manager: Any = SimpleNamespace(_process_bundle_descriptors=self._fns)
        self._handler = EmbeddedWorkerHandler(None, _ParentState(self), provision_info, manager)

    def send(self, *message: Any) -> None:
        """Sends a message to the parent, whole."""
        with self._sending:
            self._connection.send(message)

    def ask(self, *message: Any) -> Any:
        """Sends a message to the parent and waits for its answer; only the thread of the bundle asks."""
        self.send(*message)
        return self._connection.recv()

    def serve(self) -> None:
        """Runs bundles until the parent closes the pipe."""
        while True:
            try:
                request, stage, elements = self._connection.recv()
            except EOFError:
                break
            if stage is not None:
                descriptor = beam_fn_api_pb2.ProcessBundleDescriptor.FromString(stage)
                self._fns[descriptor.id] = descriptor
            answer: tuple[Any, ...]
            try:
                answer = _DONE, *self._run(beam_fn_api_pb2.InstructionRequest.FromString(request), elements)
            except BaseException as error:  # as a thread passes on all of them
                answer = _FAILED, *_packed(error)
            self.tell()
            self.send(*answer)
        self._handler.stop_worker()

    def _run(self, request: Any, elements: _Elements) -> tuple[bytes, _Elements]:
        _put(self._handler.data_plane_handler.inverse(), elements)
        response = self._handler.worker.do_instruction(request)
        return response.SerializeToString(), _taken(self._handler.data_plane_handler)

    def tell(self) -> None:
        """Tells the parent what was done since the last time."""
        counts = progress.take()
        if counts.done or counts.planned:
            self.send(_TOLD, dict(counts.done), dict(counts.planned))

    def tell_often(self) -> NoReturn:
        """Tells it again and again; the whole process ends when its parent has died."""
        while os.getppid() == self._parent:
            time.sleep(_TELL_SECONDS)
            with contextlib.suppress(OSError):
                self.tell()
        os._exit(1)


class _ParentState(StateHandler):
    """The state of the runner, which is in the parent: side inputs. A stage with state of its own has no processes."""

    def __init__(self, worker: _Worker):
        self._worker = worker

    @contextlib.contextmanager
    def process_instruction_id(self, bundle_id: str) -> Iterator[None]:
        yield

    def get_raw(self, state_key: Any, continuation_token: bytes | None = None) -> Any:
        return self._worker.ask(_STATE, state_key.SerializeToString(), continuation_token)

    def append_raw(self, state_key: Any, data: bytes) -> NoReturn:
        raise NotImplementedError

    def clear(self, state_key: Any) -> NoReturn:
        raise NotImplementedError

    def done(self) -> None:
        pass


class _ParentLog(logging.Handler):
    """Passes on what a worker logs, and what the handlers of its parent would not leave out."""

    def __init__(self, worker: _Worker, handlers: list[logging.Handler]):
        super().__init__()
        self._worker = worker
        self.filters = [found for handler in handlers for found in handler.filters]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # What a library adds to a record may not be for other processes.
            plain = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
            told = logging.makeLogRecord({**plain, "msg": self.format(record), "args": None, "exc_info": None})
            with contextlib.suppress(OSError):
                self._worker.send(_LOGGED, told)
        except Exception:  # as every handler does: what is logged wrongly ends no job
            self.handleError(record)


def _serve(make: Callable[[], _Worker], at_end: Callable[[], object], mask: Collection[int]) -> NoReturn:
    """Is a worker, in a fork, until it ends; `mask` are the signals that were blocked before it."""
    code = 1
    try:
        gc.freeze()
        signal.set_wakeup_fd(-1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # the parent gets it too, and decides
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        worker = make()
        # Locks of these may have been held by threads that the fork lacks.
        sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
        root = logging.getLogger()
        root.handlers = [_ParentLog(worker, root.handlers)]
        progress.reset()
        threading.Thread(target=worker.tell_often, daemon=True).start()
        worker.serve()
        at_end()
        code = 0
    finally:
        os._exit(code)
