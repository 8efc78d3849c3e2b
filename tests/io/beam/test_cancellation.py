"""Workers of a pipeline that has failed: those that are late stop as well."""

import pickle
import threading

import forked
import pytest

from penstock.io.beam import cancellation
from penstock.io.beam.cancellation import check, failing_together, pipeline_name, stoppable
from penstock.io.errors import DataError, StoppedError


def a_pipeline(work=lambda name: None):
    """Its name; it fails when `work` is done, and was left."""
    names = []

    def run():
        with stoppable():
            names.append(pipeline_name())
            work(names[0])
            raise DataError("a disk is full")

    with pytest.raises(DataError, match="a disk is full"):
        run()
    return names[0]


def test_a_worker_that_begins_when_the_pipeline_was_left_stops():
    name = a_pipeline()
    for begin in (check, lambda name: failing_together(name).__enter__()):
        with pytest.raises(StoppedError, match="the pipeline has ended"):
            begin(name)


def test_a_worker_between_two_batches_stops_however_late():
    """It had entered its block, and looks again only when the pipeline is forgotten."""
    entered, left, found, threads = threading.Event(), threading.Event(), [], []

    def work(name):
        with failing_together(name):
            entered.set()
            left.wait(30)
            try:
                check(name)
            except StoppedError as error:
                found.append(str(error))

    def start(name):
        threads.append(threading.Thread(target=work, args=(name,)))
        threads[0].start()
        assert entered.wait(30)

    a_pipeline(start)
    left.set()
    threads[0].join(30)
    assert found == ["the pipeline has ended"]


def fail(name):
    with failing_together(name):
        raise DataError("the first")


def test_the_error_of_the_first_worker_is_that_of_all():
    with stoppable():
        name = pipeline_name()
        with pytest.raises(DataError, match="the first"):
            fail(name)
        with pytest.raises(DataError, match="the first"):
            check(name)


def test_nothing_is_kept_of_pipelines_that_have_ended():
    for _ in range(5):
        a_pipeline()
        with stoppable():
            pass
    assert (cancellation._threads, cancellation._stopped) == ({}, {})


def test_outside_of_a_block_and_in_other_processes_nothing_stops():
    check("")
    with stoppable():
        name = pipeline_name()
    code = "import pickle, sys; from penstock.io.beam.cancellation import check; check(pickle.load(sys.stdin.buffer))"
    forked.run(["-c", code], input=pickle.dumps(name), text=False, check=True)
