"""Workers in forked processes: their results, what they tell, how they and their errors end."""

import contextlib
import errno
import faulthandler
import logging
import os
import pathlib
import signal
import sys
import threading
import time

import apache_beam as beam
import pytest
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.testing.util import assert_that, equal_to
from forked import Program

from penstock.io.beam import progress
from penstock.io.beam.local import worker_processes
from penstock.io.beam.local.runner import local_runner
from penstock.io.errors import InputError, RunnerError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no forks elsewhere")

FLAGS = ("--direct_num_workers=3", "--direct_running_mode=multi_processing")


@contextlib.contextmanager
def pipeline_on_processes(*flags):
    options = PipelineOptions([*(flags or FLAGS), "--no_save_main_session"])
    with beam.Pipeline(local_runner(options), options) as pipeline:
        yield pipeline
    assert options.view_as(DirectOptions).direct_running_mode == "multi_processing"


def spread(pipeline, numbers):
    return pipeline | beam.Create(numbers) | beam.Reshuffle()


@pytest.fixture(autouse=True)
def forked(monkeypatch):
    """The processes that a test forks, whatever others have imported; all of them have ended at its end."""
    monkeypatch.setattr(worker_processes, "_WITH_THREADS", ())
    pids = []

    def fork():
        pids.append(fork_process())
        return pids[-1]

    fork_process = os.fork
    monkeypatch.setattr(os, "fork", fork)
    yield pids
    assert not any(map(is_alive, pids))


def is_alive(pid):
    """Whether a process runs; one that has ended may still be listed, if nobody asks for its exit code."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_bundles_run_in_other_processes_with_side_inputs_and_metrics():
    counter = Metrics.counter("test", "seen")

    def work(number, factor):
        counter.inc()
        progress.add(rows=number)
        return os.getpid() == here, number * factor

    here = os.getpid()
    progress.reset()
    with pipeline_on_processes() as pipeline:
        factor = pipeline | "Factor" >> beam.Create([10])
        results = spread(pipeline, range(100)) | beam.Map(work, beam.pvalue.AsSingleton(factor))
        assert_that(results, equal_to([(False, number * 10) for number in range(100)]))
    (found,) = pipeline.result.metrics().query(beam.metrics.MetricsFilter().with_name("seen"))["counters"]
    assert found.committed == 100
    assert progress.snapshot().done == {"rows": 4950}


def test_stages_after_one_another_share_processes(forked):
    here = os.getpid()
    with pipeline_on_processes() as pipeline:
        numbers = spread(pipeline, range(30)) | "One" >> beam.Map(lambda n: (n % 3, os.getpid() == here))
        are_here = numbers | beam.GroupByKey() | "Two" >> beam.Map(lambda item: any(item[1]) or os.getpid() == here)
        assert_that(are_here, equal_to([False] * 3))
    assert len(forked) == 3


def test_a_stage_with_one_element_has_no_process():
    here = os.getpid()
    with pipeline_on_processes() as pipeline:
        assert_that(pipeline | beam.Create([1]) | beam.Map(lambda _: os.getpid() == here), equal_to([True]))


def fail(number):
    if number == 7:
        raise InputError("file.csv: line 7 is torn")
    time.sleep(0.01)


def test_an_error_is_that_of_the_worker_and_ends_all():
    with pytest.raises(InputError, match=r"^file\.csv: line 7 is torn"), pipeline_on_processes() as pipeline:
        _ = spread(pipeline, range(1000)) | beam.Map(fail)


class UnpicklableError(Exception):
    def __init__(self, one, other):
        super().__init__(f"{one} {other}")


def leave(number):
    raise SystemExit(f"number {number}")


def test_an_exit_is_passed_on():
    with pytest.raises(SystemExit, match="number 1"), pipeline_on_processes() as pipeline:
        _ = spread(pipeline, [1, 1, 1]) | beam.Map(leave)


def fail_oddly(number):
    raise UnpicklableError("not", number)


def test_an_error_that_cannot_be_pickled_is_a_text():
    with (
        pytest.raises(RuntimeError, match=r"UnpicklableError: not 1 \[while running 'Map\(fail_oddly\)"),
        pipeline_on_processes() as pipeline,
    ):
        _ = spread(pipeline, [1, 1, 1]) | beam.Map(fail_oddly)


@pytest.mark.parametrize(
    ("number", "cause"),
    [
        pytest.param(signal.SIGKILL, "killed, or out of memory", id="killed"),
        pytest.param(signal.SIGBUS, r"it has crashed \(SIGBUS\)", id="crashed"),
    ],
)
def test_a_worker_that_dies_is_an_error(number, cause):
    here = os.getpid()

    def die(element):
        if element == 7 and os.getpid() != here:
            faulthandler.disable()
            os.kill(os.getpid(), number)

    with (
        pytest.raises(RunnerError, match=rf"a worker process .* ended: {cause}"),
        pipeline_on_processes() as pipeline,
    ):
        _ = spread(pipeline, range(10)) | beam.Map(die)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_of_the_job_are_not_those_of_its_workers(number, monkeypatch):
    fork = os.fork

    def fork_and_signal():
        if pid := fork():
            return pid
        signal.raise_signal(number)  # before the worker has done anything
        return 0

    def work(element):
        os.kill(os.getpid(), number)
        return element

    def end_job(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fork", fork_and_signal)
    before = signal.signal(number, end_job)
    try:
        with pipeline_on_processes() as pipeline:
            assert_that(spread(pipeline, range(9)) | beam.Map(work), equal_to(range(9)))
        assert number not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.signal(number, before)


def test_a_system_that_gives_no_processes_is_an_error(monkeypatch):
    def fork():
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "fork", fork)
    message = r"^worker process 1 of 3 cannot be started: Resource temporarily unavailable; take fewer"
    with pytest.raises(RunnerError, match=message), pipeline_on_processes() as pipeline:
        _ = spread(pipeline, range(10)) | beam.Map(str)


def test_what_workers_log_is_logged_here(caplog):
    def log(number):
        logging.getLogger("a.worker").warning("number %d", number, extra={"of_this_process": threading.Lock()})

    with caplog.at_level(logging.WARNING), pipeline_on_processes() as pipeline:
        _ = spread(pipeline, [1, 2, 3]) | beam.Map(log)
    assert sorted(record.getMessage() for record in caplog.records if record.name == "a.worker") == [
        "number 1",
        "number 2",
        "number 3",
    ]


PROGRAM = """
import os, pathlib, sys, time
import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from penstock.io.beam.local.runner import local_runner

def tell(_):
    pathlib.Path(sys.argv[1], str(os.getpid())).touch()
    time.sleep(60)

options = PipelineOptions(sys.argv[2:])
with beam.Pipeline(local_runner(options), options) as pipeline:
    pipeline | beam.Create(range(3)) | beam.Reshuffle() | beam.Map(tell)
"""


def test_workers_end_when_their_parent_is_killed(tmp_path):
    with Program(["-c", PROGRAM, tmp_path, *FLAGS]) as parent:
        assert wait_until(lambda: len(workers(tmp_path)) == 3)
        parent.kill()
    assert wait_until(lambda: not any(map(is_alive, workers(tmp_path))))


def workers(folder):
    return [int(path.name) for path in folder.iterdir()]


def wait_until(condition):
    deadline = time.monotonic() + 20
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_no_fork_beside_libraries_whose_threads_it_would_lack(monkeypatch):
    monkeypatch.setattr(worker_processes, "_WITH_THREADS", ("contextlib",))
    here = os.getpid()
    with pipeline_on_processes() as pipeline:
        results = spread(pipeline, range(6)) | beam.Map(lambda _: os.getpid() == here)
        assert_that(results, equal_to([True] * 6))
