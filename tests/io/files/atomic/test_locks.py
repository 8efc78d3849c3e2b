"""A lock has one holder at a time, and none that was killed."""

import errno
import fcntl
import logging
import os
import signal
import subprocess
import time
from concurrent import futures

import forked
import pytest
from forked import Program

from penstock.io.errors import StorageError
from penstock.io.files.atomic import locks
from penstock.io.files.atomic.locks import alone

HOLDS = """
import sys
from penstock.io.files.atomic.locks import alone
with alone(sys.argv[1]):
    print("holds", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "out" / ".tmp-lock-x")


@pytest.fixture
def holder(path):
    """Another process that holds the lock."""
    process = Program(["-c", HOLDS, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"holds\n"
    yield process
    process.kill()
    process.communicate()


def count_alone(path):
    """The most threads of 8 that were in the block at once."""
    inside, most = [], []

    def enter(_):
        with alone(path):
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(enter, range(24)))
    return max(most)


def test_threads_hold_it_one_after_the_other(path):
    assert count_alone(path) == 1
    assert not os.path.exists(path)
    assert count_alone("gs://bucket/out/.tmp-lock-x") == 1


def test_another_name_is_another_lock(path):
    with alone(path), futures.ThreadPoolExecutor(1) as pool:
        assert pool.submit(count_alone, f"{path}2").result(10) == 1


def test_a_thread_may_hold_it_twice(path):
    with alone(path):
        with alone(path):
            assert os.path.exists(path)
        assert os.path.exists(path)
    assert not os.path.exists(path)


def test_a_process_waits_for_another_one(holder, path):
    with futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(count_alone, path)
        with pytest.raises(futures.TimeoutError):
            waiting.result(0.2)
        holder.communicate()
        assert waiting.result(10) == 1


def test_a_killed_holder_blocks_nobody(holder, path):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert os.path.exists(path)
    assert count_alone(path) == 1
    assert not os.path.exists(path)


def test_whoever_waits_long_says_for_whom(holder, path, monkeypatch, caplog):
    monkeypatch.setattr(locks, "_PATIENCE_SECONDS", 0.1)
    with caplog.at_level(logging.WARNING), futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(count_alone, path)
        time.sleep(0.3)
        holder.communicate()
        waiting.result(10)
    (message,) = (record.getMessage() for record in caplog.records if record.name == locks.__name__)
    assert message.startswith(f"{path}: has waited 0 s for process {holder.pid} on ")
    assert message.endswith(", which holds this lock; if that process hangs, end it")


def test_an_error_in_the_block_releases_it(path):
    with pytest.raises(KeyError), alone(path):
        raise KeyError
    assert count_alone(path) == 1


def test_a_fork_does_not_wait_for_threads_that_it_does_not_have(path):
    """The child of a process in which a thread holds a lock of a store, which is none but in this process."""
    name = "gs://bucket/lock"
    code = f"""
import os, threading
from penstock.io.files.atomic.locks import alone
with alone({name!r}):
    def forked():
        child = os.fork()
        if not child:
            with alone({name!r}):
                os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    thread = threading.Thread(target=forked)
    thread.start()
    thread.join(20)
"""
    assert forked.run(["-c", code], timeout=60).stdout == "7\n"


def test_a_filesystem_without_locks_excludes_threads_alone(path, monkeypatch):
    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert count_alone(path) == 1


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"file/\.tmp-lock-x: "), alone(str(tmp_path / "file" / ".tmp-lock-x")):
        pass


def test_locks_that_nobody_holds_are_forgotten(path):
    count_alone(path)
    assert path not in locks._turns.by_path
