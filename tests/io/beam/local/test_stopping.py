"""A stream whose workers are threads of this process reads no more, and what it has read is finished."""

import threading
import time

from apache_beam.utils import thread_pool_executor

from penstock.io.beam.local.stopping import is_stopping, stop_reading, stream, stream_name, wait_until_idle


def test_a_stream_has_a_name_that_is_its_own_while_it_is_built():
    assert stream_name() == ""
    with stream() as first:
        assert stream_name() == first
    with stream() as second:
        stop_reading(second)
        assert (is_stopping(first), is_stopping(second), is_stopping("")) == (False, True, False)
    assert not is_stopping(second)
    assert stream_name() == ""


def test_waiting_until_no_worker_has_work():
    begun = time.monotonic()
    assert wait_until_idle(10)
    assert time.monotonic() - begun < 5
    done = threading.Event()
    work = thread_pool_executor.shared_unbounded_instance().submit(done.wait, 60)
    try:
        assert not wait_until_idle(0.6)
        threading.Timer(0.2, done.set).start()
        assert wait_until_idle(10)
        assert work.result() is True
    finally:
        done.set()


def test_work_after_a_short_pause_is_waited_for():
    """A runner starts a step a while after the one before it has ended."""
    pool, done = thread_pool_executor.shared_unbounded_instance(), threading.Event()

    def second():
        time.sleep(0.3)
        done.set()

    pool.submit(time.sleep, 0.1)
    threading.Timer(0.3, pool.submit, [second]).start()
    assert wait_until_idle(10)
    assert done.is_set()
