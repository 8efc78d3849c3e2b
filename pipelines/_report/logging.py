"""Filters what a job logs to the terminal: warnings that a user can act on, and a failure once, not five times.

With `--verbose` nothing is left out, and tracebacks are shown.
"""

import contextlib
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from pipelines._report.crash import in_one_line, without_traceback
from pipelines._report.printable import printable, printable_lines
from pipelines._report.signals import ended_by

_ERRORS = "penstock.io.errors"
_FORMAT = "%(levelname)s %(name)s: %(message)s"

_LOGGER = logging.getLogger(__name__)

_verbose = False


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the time: the progress bar replaces it, to stay below the log."""

    def __init__(self) -> None:
        logging.Handler.__init__(self, logging.WARNING)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


class _Formatter(logging.Formatter):
    """One line for each record, without traceback, and without control characters or passwords."""

    def format(self, record: logging.LogRecord) -> str:
        text = without_traceback(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text}: {in_one_line(record.exc_info[1])}"
        return f"{record.levelname} {record.name}: {printable_lines(text)}"


class _VerboseFormatter(logging.Formatter):
    """Whole records, with their tracebacks; control characters and passwords are left out here too."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(map(printable, super().format(record).split("\n")))


def set_up_logging(verbose: bool = False) -> None:
    """Warnings and errors go to stderr, unless somebody has set up logging before.

    Python's warnings about the code of Beam are left out, unless `python -W` asks for them.
    """
    global _verbose
    _verbose = verbose
    root = logging.getLogger()
    if root.handlers:
        return
    handler = _StderrHandler()
    handler.setFormatter(_VerboseFormatter(_FORMAT) if verbose else _Formatter())
    if not verbose:
        handler.addFilter(worth_showing)
    root.addHandler(handler)
    threading.excepthook = _threads_end
    sys.unraisablehook = _ignored
    if not sys.warnoptions:
        warnings.filterwarnings("ignore", module=r"apache_beam\.")


def is_verbose() -> bool:
    """Whether the job shows tracebacks."""
    return _verbose


def _threads_end(end: threading.ExceptHookArgs) -> None:
    # This thread of Beam reads from the runner until the runner is gone; by then the job is done, or reports its error.
    # Where a signal ends the job, or a runner has died, all of Beam's threads end over it.
    if (end.thread is not None and end.thread.name == "read_grpc_client_inputs") or ended_by() is not None:
        return
    if not _verbose and _is_of_a_connection(end.exc_value):
        return
    if _verbose or end.exc_value is None:
        threading.__excepthook__(end)
        return
    name = end.thread.name if end.thread else "a thread"
    _LOGGER.warning("%s has ended: %s", name, in_one_line(end.exc_value))


def _is_of_a_connection(error: BaseException | None) -> bool:
    """Whether a thread of Beam has lost its runner; Beam imports gRPC, which a job that needs no Beam does not."""
    grpc = sys.modules.get("grpc")
    return grpc is not None and isinstance(error, grpc.RpcError)


def _ignored(fault: "sys.UnraisableHookArgs") -> None:
    """Python can raise nothing where it collects garbage, and prints a traceback, after which all goes on."""
    if _verbose:
        sys.__unraisablehook__(fault)


def worth_showing(record: logging.LogRecord) -> bool:
    """False for what the layers between a worker and the job log about a failure: the job reports it, in one line."""
    if ended_by() is not None and record.name.startswith(("apache_beam.", "root")):
        return False
    match record.name:
        case "apache_beam.runners.common":
            raised = record.exc_info[0] if record.exc_info else None
            return raised is None  # the job reports what a worker raised
        case "apache_beam.runners.worker.sdk_worker":
            return not record.getMessage().startswith("Error processing instruction")
        case "apache_beam.runners.portability.fn_api_runner.fn_runner":  # workers in memory are threads all the same
            return not record.getMessage().startswith("If direct_num_workers")
        case "apache_beam.runners.worker.data_plane":  # what it reads from is gone, which the job reports
            return not _is_of_a_connection(record.exc_info[1] if record.exc_info else None)
        case "apache_beam.utils.subprocess_server":  # warns that it stops what it was asked to stop
            return record.levelno > logging.WARNING
        case "PrismRunner":
            return False
        case "root" if _is_of_a_job_server(record.getMessage()) or _is_of_bigquery(record.getMessage()):
            return False
        case _:
            return f"{_ERRORS}." not in record.getMessage()


def _is_of_a_job_server(message: str) -> bool:
    """Whether it only says that a job server takes its time to start, or that a job ended as its user wanted."""
    return message.startswith("Waiting for grpc channel") or "JobCancellationException: Job was cancelled" in message


def _is_of_bigquery(message: str) -> bool:
    """Whether it only says that Beam's reader of BigQuery, which no job uses, has not all that it needs."""
    return message.startswith("apitools not found")


@contextlib.contextmanager
def without_worker_tracebacks() -> Iterator[None]:
    """Holds back the tracebacks that workers in this process print, unless all is told: they also raise the errors."""
    if sys.stderr is None:
        yield
        return
    with contextlib.redirect_stderr(_Stderr(sys.stderr)):
        yield


class _Stderr:
    def __init__(self, stream: TextIO):
        self._stream = stream
        # Threads that wrote a traceback: `print` writes the end of its last line by itself.
        self._dropped: set[int] = set()

    def write(self, text: str) -> int:
        thread = threading.get_ident()
        line_end = thread in self._dropped and text == "\n"
        self._dropped.discard(thread)
        if line_end:
            return len(text)
        if not _verbose and text.startswith("Traceback (most recent call last)") and "/sdk_worker.py" in text:
            self._dropped.add(thread)
            return len(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
