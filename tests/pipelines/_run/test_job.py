"""What all jobs share: the runner that is pinned, one clean line for a failure, exit codes."""

import logging
import re
import signal
import subprocess
import sys
import tempfile
import threading

import apache_beam as beam
import grpc
import pytest
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from helpers import job

from penstock.io.beam.local.prism import OwnPrismRunner
from penstock.io.errors import ConfigError, DataError, InputError, RejectedRecordError, RunnerError, StorageError
from penstock.io.files.system_errors import out_of_memory
from pipelines._cli import beam as _beam
from pipelines._cli.beam import beam_options, usable_cores
from pipelines._cli.command import command
from pipelines._report.logging import (
    _FORMAT,
    _Formatter,
    _VerboseFormatter,
    set_up_logging,
    without_worker_tracebacks,
    worth_showing,
)
from pipelines._report.process import started_for_a_job
from pipelines._report.result import DATA_FAILED, WRONG_USAGE
from pipelines._run import job as _job
from pipelines._run.job import is_local, run_pipeline
from pipelines._run.worker_errors import worker_error

AWKWARD = "/data/it's \"q\" [x].csv: line 3 [while running 'x']: bad \\n, {ü}\nnext line"
AWKWARD_LINE = "/data/it's \"q\" [x].csv: line 3 [while running 'x']: bad \\n, {ü} next line"
TRACEBACK = (
    "Traceback (most recent call last):\n"
    '  File "apache_beam/runners/common.py", line 1512, in process\n'
    f"penstock.io.errors.InputError: {AWKWARD}\n"
    "\nDuring handling of the above exception, another exception occurred:\n\n"
    "Traceback (most recent call last):\n"
    '  File "/lib/apache_beam/runners/worker/sdk_worker.py", line 310, in _execute\n'
    f"penstock.io.errors.InputError: {AWKWARD} [while running 'Read/It's']\n"
)


class _FailFn(beam.DoFn):
    def __init__(self, error: Exception):
        self._error = error

    def process(self, _: int) -> None:
        raise self._error


def failing(error: Exception, *flags: str):
    """A job whose workers fail."""

    def run(argv):
        with run_pipeline(PipelineOptions([*flags, *argv]), "failing") as pipeline:
            _ = pipeline | beam.Create([1]) | "It's a step" >> beam.ParDo(_FailFn(error))
        return 0

    return run


@pytest.mark.parametrize("name", [None, "DirectRunner", "FnApiRunner"])
def test_the_local_runner_is_pinned(name):
    options = PipelineOptions([f"--runner={name}"] if name else [])
    with run_pipeline(options, "title") as pipeline:
        _ = pipeline | beam.Create([1])
    assert isinstance(pipeline.runner, FnApiRunner)
    assert is_local(options)


def test_other_runners_are_taken_by_name():
    assert _job._runner(PipelineOptions(["--runner=FlinkRunner"])) == "FlinkRunner"
    options = PipelineOptions(["--runner=PrismRunner"])
    assert isinstance(_job._runner(options), OwnPrismRunner)
    elsewhere = PipelineOptions(["--runner=PrismRunner", "--job_endpoint=host:1"])
    assert _job._runner(elsewhere) == "PrismRunner", "it is there already"
    assert is_local(PipelineOptions(["--runner=PrismRunner"]))
    assert not is_local(PipelineOptions(["--runner=FlinkRunner"]))


def test_workers_see_the_options_of_the_pipeline():
    with run_pipeline(PipelineOptions(["--job_name=its_name"]), "title") as pipeline:
        _ = pipeline | beam.Create([1])
    assert "its_name" in str(pipeline.runner._provision_info.provision_info.pipeline_options)


class _MeetFn(beam.DoFn):
    """Ends only when another one is at work at the same time."""

    together = threading.Barrier(2, timeout=30)

    def process(self, _: int) -> None:
        _MeetFn.together.wait()


def test_the_local_runner_works_in_threads_of_this_process():
    flags = ["--direct_num_workers=2", "--direct_running_mode=in_memory"]
    with run_pipeline(beam_options(flags), "title") as pipeline:
        _ = pipeline | beam.Create(range(2)) | beam.ParDo(_MeetFn())


def test_the_mode_that_loses_rows_is_refused():
    options = PipelineOptions(["--direct_running_mode=multi_threading"])
    with pytest.raises(ConfigError, match=r"multi_threading loses rows .*; take in_memory for"):
        _job._runner(options)


def test_fewer_workers_than_none_are_refused():
    with pytest.raises(ConfigError, match=r"--direct_num_workers must be at least 1, or 0 .*, got -5"):
        _job._runner(PipelineOptions(["--direct_num_workers=-5"]))


def test_one_worker_for_each_core_unless_told_otherwise():
    def workers(*flags: str) -> int:
        return beam_options(flags).view_as(DirectOptions).direct_num_workers

    assert workers() == usable_cores() >= 1
    assert workers("--direct_num_workers=7") == 7


@pytest.mark.parametrize(("cores", "mode"), [(7, "in_memory"), (8, "multi_processing")])
def test_workers_of_a_command_are_processes_on_many_cores_unless_told_otherwise(monkeypatch, cores, mode):
    def found(*flags: str) -> str:
        return beam_options(flags).view_as(DirectOptions).direct_running_mode

    monkeypatch.setattr(_beam, "usable_cores", lambda: cores)
    assert found() == "in_memory", "a program may have threads of its own, which a fork would lack"
    with started_for_a_job("penstock "):
        assert found() == mode
        assert found("--direct_running_mode=in_memory") == "in_memory"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (RuntimeError(TRACEBACK), InputError, AWKWARD_LINE),
        (RuntimeError(f"bundle inst001 failed:{TRACEBACK}"), InputError, AWKWARD_LINE),
        (InputError(f"{AWKWARD} [while running 'Read/It's']"), InputError, AWKWARD_LINE),
        (InputError("x [while running 'y'] z"), InputError, "x [while running 'y'] z"),
        (RejectedRecordError("x.csv at 3: \t rule"), RejectedRecordError, "x.csv at 3: \t rule"),
        (
            RuntimeError(
                "Traceback:\\n  File x\\npenstock.io.errors.ConfigError: no column 'x' [while running 'y']\\n"
            ),
            ConfigError,
            "no column 'x'",
        ),
        (
            RuntimeError("java.Error: penstock.io.errors.DataError: too bad\n\tat org.apache.beam.Run(X.java:3)"),
            DataError,
            "too bad",
        ),
        (
            RuntimeError("x\nPermissionError: [Errno 13] Permission denied: '/d/x' [while running 'WriteRuns']"),
            StorageError,
            "/d/x: Permission denied; ask its owner for the permission, or name another one",
        ),
        (
            RuntimeError("x\npyarrow.lib.ArrowMemoryError: malloc of size 9 failed [while running 'Read/Parts']\n\n"),
            DataError,
            out_of_memory("malloc of size 9 failed", "Read/Parts"),
        ),
        (RuntimeError("x\nMemoryError: [while running 'Read/Parts']\n"), DataError, out_of_memory("", "Read/Parts")),
        (RuntimeError("bundle failed: std::bad_alloc"), DataError, out_of_memory()),
        (MemoryError(), DataError, out_of_memory()),
        (
            RuntimeError(
                "Pipeline BeamApp-x_1 failed in state FAILED: java.io.IOException: too few buffers.\n\tat a.B(C:1)"
            ),
            RunnerError,
            "the runner has failed the job: java.io.IOException: too few buffers.; its own log may say more",
        ),
    ],
    ids=[
        "in_a_text",
        "of_prism",
        "itself",
        "no_step_at_the_end",
        "own_type",
        "escaped",
        "before_a_stack",
        "system",
        "memory_of_arrow",
        "memory",
        "memory_of_c",
        "memory_here",
        "java",
    ],
)
def test_the_error_of_a_worker_is_found(error, kind, message):
    found = worker_error(error)
    assert type(found) is kind
    assert str(found) == message


@pytest.mark.parametrize(
    "error",
    [
        TypeError("a bug"),
        RuntimeError("Traceback:\nKeyError: 'bundle_4'"),
        RuntimeError(""),
        RuntimeError(
            "Pipeline x failed in state FAILED: java.lang.RuntimeException: Error received from SDK harness for "
            "instruction 5: Traceback (most recent call last):\nKeyError: 'a bug'"
        ),
    ],
)
def test_other_errors_are_left_alone(error):
    assert worker_error(error) is None


@pytest.mark.parametrize("flags", [(), ("--direct_num_workers=4",)])
def test_a_failure_is_one_line_and_an_exit_code(flags):
    assert job(run=failing(InputError(AWKWARD), *flags)) == (
        DATA_FAILED,
        f"python -m pipelines.prepare: error: {AWKWARD_LINE}\n",
    )


def test_a_fault_of_the_configuration_found_by_a_worker():
    assert job(run=failing(ConfigError("no"))) == (WRONG_USAGE, "python -m pipelines.prepare: error: no\n")


def test_a_full_disk_is_no_stack_trace():
    code, message = job(run=failing(OSError(28, "No space left on device", "/data/x")))
    assert code == DATA_FAILED
    assert re.fullmatch(
        r"python -m pipelines\.prepare: error: /data/x: No space left on device \(.* of .* are free\); make room "
        r"there, or use another disk \(--output, and --spill_dir for temporary files\)\n",
        message,
    )


def test_memory_that_runs_out_on_a_worker_names_the_step_and_the_flag():
    code, message = job(run=failing(MemoryError("malloc of size 9 failed")))
    assert (code, message.count("\n")) == (DATA_FAILED, 1)
    assert "memory ran out in It's a step (malloc of size 9 failed)" in message
    assert "--direct_num_workers 1" in message


def test_a_bug_in_a_worker_is_one_line_and_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, message = job(run=failing(TypeError("a bug\nwith \x1b[2J")))
    (kept,) = tmp_path.glob("penstock-crash-*.txt")
    assert code == DATA_FAILED
    assert message == (
        "python -m pipelines.prepare: error: TypeError: a bug with \\x1b[2J [while running 'It's a step']; this is a "
        f"fault of Penstock: please report it, with its traceback ({kept})\n"
    )
    assert "Traceback (most recent call last):" in kept.read_text()


def test_a_bug_that_cannot_be_written_down_names_the_flag(monkeypatch):
    monkeypatch.setattr("pipelines._cli.command.keep_traceback", lambda _: None)
    assert job(run=failing(TypeError("a bug")))[1].endswith("with its traceback (--verbose shows it)\n")


@pytest.mark.parametrize("error", [TypeError("a bug"), InputError("a fault")])
def test_verbose_shows_the_traceback_of_any_failure(error, tmp_path, monkeypatch):
    def run(_):
        raise error

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code, message = job("--verbose", run=run)
    assert code == DATA_FAILED
    assert message.startswith("Traceback (most recent call last):\n")
    assert f"{type(error).__name__}: {error}" in message.splitlines()[-1] + message
    assert not list(tmp_path.iterdir())
    assert "Traceback" not in job(run=run)[1]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ConfigError("rule x:\n  a >\n     ^"), WRONG_USAGE, "rule x:\n  a >\n     ^"),
        (DataError("too many"), DATA_FAILED, "too many"),
        (ImportError("pip install '.[tft]'"), WRONG_USAGE, "pip install '.[tft]'"),
        (
            PermissionError(13, "Permission denied", "/x"),
            DATA_FAILED,
            "/x: Permission denied; ask its owner for the permission, or name another one",
        ),
        (MemoryError("malloc of size 9 failed"), DATA_FAILED, out_of_memory("malloc of size 9 failed")),
        (DataError("/a\n/b\x1b[2J: http://u:secret@h"), DATA_FAILED, "/a\\n/b\\x1b[2J: http://u:***@h"),
        (KeyboardInterrupt(), 130, "interrupted; nothing was published"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_failures_outside_of_workers(error, code, message):
    def run(_):
        raise error

    assert job(run=run) == (code, f"python -m pipelines.prepare: error: {message}\n")


def _record(name: str, level: int, message: str, error: BaseException | None = None) -> logging.LogRecord:
    return logging.LogRecord(name, level, __file__, 1, message, (), (type(error), error, None) if error else None)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (_record("apache_beam.runners.common", logging.ERROR, "x", InputError("x")), False),
        (_record("apache_beam.runners.common", logging.ERROR, "x", TypeError("x")), False),
        (_record("apache_beam.runners.common", logging.WARNING, "x"), True),
        (_record("apache_beam.runners.worker.sdk_worker", logging.ERROR, "Error processing instruction 1."), False),
        (_record("apache_beam.runners.worker.sdk_worker", logging.WARNING, "Operation ongoing"), True),
        (_record("apache_beam.runners.worker.data_plane", logging.ERROR, "Failed to read.", grpc.RpcError()), False),
        (_record("apache_beam.runners.worker.data_plane", logging.ERROR, "Failed to read.", TypeError()), True),
        (_record("PrismRunner", logging.ERROR, "job failed"), False),
        (_record("root", logging.ERROR, TRACEBACK), False),
        (_record("root", logging.WARNING, "Waiting for grpc channel to be ready at localhost:1."), False),
        (_record("root", logging.ERROR, "org.x.JobCancellationException: Job was cancelled."), False),
        (_record("root", logging.ERROR, "java.io.IOException: no space"), True),
        (_record("apache_beam.utils.subprocess_server", logging.WARNING, "Really destroying service"), False),
        (_record("apache_beam.utils.subprocess_server", logging.ERROR, "cannot start"), True),
        (
            _record("root", logging.WARNING, "apitools not found, and bigquery client libraries are not available"),
            False,
        ),
        (_record("apache_beam.io.gcp", logging.WARNING, "no credentials"), True),
    ],
)
def test_what_is_logged(record, shown):
    assert worth_showing(record) is shown


def test_after_a_signal_only_penstock_is_heard(monkeypatch):
    monkeypatch.setattr("pipelines._report.logging.ended_by", lambda: signal.SIGINT)
    heard = [
        name
        for name in ("root", "apache_beam.x", "penstock.io.kafka.client")
        if worth_showing(_record(name, logging.ERROR, "bundle failed: SDK worker disconnected"))
    ]
    assert heard == ["penstock.io.kafka.client"]


@pytest.mark.parametrize(
    ("record", "line"),
    [
        (_record("x", logging.WARNING, "a\x1b[2J"), r"WARNING x: a\x1b[2J"),
        (_record("x", logging.ERROR, "a", ValueError("b\nc")), "ERROR x: a: ValueError: b c"),
        (_record("x", logging.ERROR, f"failed: {TRACEBACK}"), f"ERROR x: failed: {TRACEBACK.splitlines()[-1]}"),
        (_record("x", logging.ERROR, "http://u:p@h"), "ERROR x: http://u:***@h"),
    ],
    ids=["control", "error", "traceback", "password"],
)
def test_a_record_is_one_line(record, line):
    assert _Formatter().format(record) == line


def test_verbose_records_are_whole():
    try:
        raise ValueError("b\x1b")
    except ValueError as error:
        text = _VerboseFormatter(_FORMAT).format(_record("x", logging.ERROR, "a", error))
    assert "\x1b" not in text
    assert "Traceback (most recent call last):\n" not in text  # the record has no traceback of its own
    assert text.splitlines()[0] == "ERROR x: a"


def test_worker_tracebacks_are_not_printed(capsys):
    with without_worker_tracebacks():
        print(TRACEBACK, file=sys.stderr)
        print("a warning", file=sys.stderr)
        print("Traceback (most recent call last): of the user's code", file=sys.stderr)
        sys.stderr.flush()
    assert capsys.readouterr().err == "a warning\nTraceback (most recent call last): of the user's code\n"


def test_worker_tracebacks_are_printed_where_all_is_told(capsys, monkeypatch):
    monkeypatch.setattr("pipelines._report.logging._verbose", True)
    with without_worker_tracebacks():
        print(TRACEBACK, file=sys.stderr)
    assert capsys.readouterr().err == TRACEBACK + "\n"


def test_threads_print_beside_a_traceback(capsys):
    """`print` writes a text and its line end apart; another thread may write between them."""
    with without_worker_tracebacks():
        sys.stderr.write(TRACEBACK)
        other = threading.Thread(target=print, args=("a warning",), kwargs={"file": sys.stderr})
        other.start()
        other.join()
        sys.stderr.write("\n")
    assert capsys.readouterr().err == "a warning\n"


def test_what_fails_while_a_runner_is_closed_prints_no_traceback(capsys, monkeypatch):
    class Closing(OwnPrismRunner):
        def close(self):
            print(TRACEBACK, file=sys.stderr)

    monkeypatch.setattr(_job, "_runner", lambda options, streaming: Closing(options))
    with pytest.raises(DataError, match="disk"), run_pipeline(PipelineOptions(), "failing"):
        raise DataError("disk")
    assert capsys.readouterr().err == ""


def test_what_fails_while_a_failed_job_cleans_up_prints_no_traceback(capsys):
    def run(argv):
        try:
            raise DataError("disk")
        finally:
            print(TRACEBACK, file=sys.stderr)

    assert command("prepare", run, argv=[]) == DATA_FAILED
    assert capsys.readouterr().err == "python -m pipelines.prepare: error: disk\n"


def test_logging_that_is_set_up_is_left_alone():
    handlers = list(logging.getLogger().handlers)
    assert handlers, "pytest has its own"
    set_up_logging()
    assert logging.getLogger().handlers == handlers


def test_what_a_job_shows_beside_its_own_output():
    code = (
        "import contextlib, io, logging, sys\n"
        "from pipelines._report.logging import set_up_logging\n"
        "set_up_logging(); set_up_logging()\n"
        "logging.getLogger('x').warning('first'); logging.getLogger('x').info('silent')\n"
        "held = io.StringIO()\n"
        "with contextlib.redirect_stderr(held): logging.getLogger('x').error('second')\n"
        "print(repr(held.getvalue()))\n"
        "import threading\n"
        "for name in ('read_grpc_client_inputs', 'other'):\n"
        "    thread = threading.Thread(target=lambda: 1 / 0, name=name); thread.start(); thread.join()\n"
        "import warnings; warnings.warn_explicit('old', FutureWarning, 'x.py', 1, module='apache_beam.io')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "'ERROR x: second\\n'\n"
    lines = [line for line in done.stderr.splitlines() if not line.startswith("  ")]
    assert lines == [
        "WARNING x: first",
        "WARNING pipelines._report.logging: other has ended: ZeroDivisionError: division by zero",
    ]
