"""Python programs for tests, a few seconds sooner: forks of a process that has imported Beam and what jobs import.

It has no threads, so that a fork of it is as good as a new process. What is tested of imports, of the environment that
they read, or of a library in another order, needs an interpreter of its own: `subprocess`.
"""

import array
import atexit
import contextlib
import functools
import gc
import importlib
import os
import pickle
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pipelines

# Elsewhere forks of what has imported so much may fail.
_FORKS = sys.platform == "linux"

_SERVE = "import forked, sys; forked._serve(int(sys.argv[1]))()"
_SIZE = struct.Struct("=Q")


class Program(subprocess.Popen):  # type: ignore[type-arg]
    """Python with arguments: `Popen([sys.executable, *arguments])`, where they are `-c CODE` or `-m MODULE` and more.

    Of the options of `Popen`, those of streams and texts, `cwd`, `env` and `start_new_session` are known here.
    """

    def __init__(self, arguments: Sequence[object], **options: Any):
        super().__init__([sys.executable, *map(str, arguments)], **options)

    if _FORKS:

        def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):  # type: ignore[no-untyped-def]
            _, _, shell, *pipes = others[:9]
            _, gid, gids, uid, umask, start_new_session, process_group = others[9:]
            if preexec_fn or pass_fds or shell or (gid, gids, uid, umask, process_group) != (None, None, None, -1, -1):
                raise NotImplementedError("a fork does not know these options: use subprocess")
            streams = (pipes[0], pipes[3], pipes[5])
            try:
                self._ended, child = socket.socketpair()
                with child:
                    given = [number if number >= 0 else default for default, number in enumerate(streams)]
                    environment = dict(os.environ if env is None else env)
                    asked = (args[1:], environment, cwd or os.getcwd(), start_new_session)
                    _send(_server(), pickle.dumps(asked), [child.fileno(), *given])
                (self.pid,) = _SIZE.unpack(_received(self._ended, _SIZE.size))
                self._child_created = True
            finally:
                self._close_pipe_fds(*pipes)

        def _internal_poll(self, *_: object, **__: object) -> int | None:
            if self.returncode is None:
                pid, status = self._try_wait(os.WNOHANG)
                if pid:
                    self._handle_exitstatus(status)
            return self.returncode

        def _try_wait(self, wait_flags: int) -> tuple[int, int]:
            if wait_flags and not select.select([self._ended], [], [], 0)[0]:
                return 0, 0
            (status,) = _SIZE.unpack(_received(self._ended, _SIZE.size))
            self._ended.close()
            return self.pid, status


def run(
    arguments: Sequence[object], input: Any = None, timeout: float | None = None, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[Any]:
    """Runs a program to its end: `subprocess.run([sys.executable, *arguments], capture_output=True)`, as text.

    Args:
      arguments: as a `Program` has them.
      input: what it reads from stdin, if not what this process does.
      timeout: seconds after which it is killed.
      check: whether a failure is an error.
      options: of `Program`.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    with Program(arguments, stdin=None if input is None else subprocess.PIPE, **pipes) as process:
        try:
            stdout, stderr = process.communicate(input, timeout)
        except BaseException:
            process.kill()
            raise
    if check and process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, stdout, stderr)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@functools.cache
def _server() -> socket.socket:
    """The process that forks; it ends when this one has closed its side of a socket."""
    own, other = socket.socketpair()
    with other:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(other.fileno())],
            pass_fds=[other.fileno()],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), os.environ["PYTHONPATH"]])},
            start_new_session=True,
        )
    atexit.register(_end, process, own)
    return own


def _end(process: subprocess.Popen[bytes], own: socket.socket) -> None:
    own.shutdown(socket.SHUT_RDWR)  # its copies in forks of this process too
    own.close()
    process.wait()


def _serve(descriptor: int) -> Callable[[], None]:
    """Forks until nobody can ask any more; gives, in each fork, its program, to be run when nothing else is left."""
    for module in ("pipelines._jobs.fit", "pipelines._jobs.prepare", "pipelines._report.progress"):
        importlib.import_module(module)

    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system forgets those that wait for a program
    requests = socket.socket(fileno=descriptor)
    while True:
        asked, given = _received_with(requests)
        if asked is None:
            return lambda: None
        if os.fork() == 0:
            break
        for number in given:
            os.close(number)
    requests.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    conversation = socket.socket(fileno=given[0])
    if child := os.fork():
        _wait_for(child, conversation, given[1:])
    conversation.close()
    return _program(*pickle.loads(asked), given[1:])


def _wait_for(child: int, conversation: socket.socket, given: Sequence[int]) -> None:
    """Tells of a program that it has begun, and how it has ended."""
    for number in {0, 1, 2, *given}:
        os.close(number)
    with contextlib.suppress(BrokenPipeError):
        conversation.sendall(_SIZE.pack(child))
        conversation.sendall(_SIZE.pack(os.waitpid(child, 0)[1]))
    os._exit(0)


def _program(
    arguments: Sequence[str],
    environment: Mapping[str, str],
    folder: str,
    starts_session: bool,
    streams: Sequence[int],
) -> Callable[[], None]:
    if starts_session:
        os.setsid()
    for number, given in enumerate(streams):
        os.dup2(given, number)
    for given in streams:
        os.close(given)
    buffering = 1 if os.isatty(1) else -1
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", buffering, closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    tempfile.tempdir, pipelines.STARTED = None, time.monotonic()
    kind, what, *rest = arguments
    sys.argv = [kind, *rest]
    sys.path.insert(0, "")
    main = sys.modules["__main__"] = types.ModuleType("__main__")
    if kind == "-c":
        return lambda: exec(compile(what, "<string>", "exec"), vars(main))
    return lambda: runpy.run_module(what, run_name="__main__", alter_sys=True) and None  # type: ignore[func-returns-value]


def _send(to: socket.socket, message: bytes, descriptors: Sequence[int]) -> None:
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes())
    to.sendmsg([_SIZE.pack(len(message))], [rights])
    to.sendall(message)


def _received_with(source: socket.socket) -> tuple[bytes | None, list[int]]:
    head, descriptors, _, _ = socket.recv_fds(source, _SIZE.size, 4)
    return (_received(source, _SIZE.unpack(head)[0]), descriptors) if head else (None, [])


def _received(source: socket.socket, size: int) -> bytes:
    parts = b""
    while len(parts) < size:
        part = source.recv(size - len(parts))
        if not part:
            raise ConnectionError("the process that forks programs has ended")
        parts += part
    return parts
