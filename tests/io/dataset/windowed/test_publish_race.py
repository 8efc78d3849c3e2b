"""Versions of windows that are published at the same time: each row is found once, and the final version stays."""

import collections
import pathlib
import random
import threading
import time
from concurrent import futures

import forked
import memory_store
import pytest
import window_versions
from window_versions import publish_all, publisher, rows_found, rows_of, versions

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.files.folders import list_files


def staged(output, count):
    return [item for number in range(count) for item in versions(str(output), number)]


def check(output, count):
    manifests = list(read_window_manifests(str(output)))
    assert [(manifest.sequence, manifest.final) for manifest in manifests] == [(2, True)] * count
    due = collections.Counter(row for number in range(count) for row in rows_of(number))
    assert set(due.values()) == {1}
    assert rows_found(str(output)) == due
    named = {path for manifest in manifests for path in (*manifest.files(), f"windows/{manifest.name}.json")}
    assert set(list_files(str(output))) == named


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(30, id="few"),
        pytest.param(1000, marks=pytest.mark.slow, id="thousand"),
        pytest.param(10_000, marks=pytest.mark.soak, id="ten_thousand"),
    ],
)
def test_threads_of_several_processes(tmp_path, count):
    output = tmp_path / "out"
    window_versions.store(tmp_path / "versions", staged(output, count))
    writers = forked.run(["-m", "window_versions", "race", output, tmp_path / "versions", 7])
    assert writers.returncode == 0, writers.stderr
    check(output, count)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(20, id="few"),
        pytest.param(100, marks=pytest.mark.slow, id="hundred"),
        pytest.param(500, marks=pytest.mark.soak, id="five_hundred"),
    ],
)
def test_writers_that_are_killed(tmp_path, count):
    output = tmp_path / "out"
    window_versions.store(tmp_path / "versions", staged(output, count))
    killed = forked.run(["-m", "window_versions", "kill", output, tmp_path / "versions", 7])
    assert killed.returncode == 0, killed.stderr
    assert int(killed.stdout) > count / 4
    leftovers = {path for path in list_files(str(output)) if path.startswith(".tmp-r1/windows/")}
    for path in leftovers:  # contents that were not complete; they go with the staging folder
        pathlib.Path(output, path).unlink()
    check(output, count)


@pytest.fixture
def slow_store(monkeypatch):
    """Makes the store in memory answer slowly."""
    memory_store.OBJECTS.clear()
    for name in ("copy", "delete", "exists"):
        real = getattr(memory_store.MemoryObjects, name)
        monkeypatch.setattr(memory_store.MemoryObjects, name, slowly(real))


def slowly(real):
    chance = random.Random(7)

    def slow(*args):
        time.sleep(chance.uniform(0, 0.04))
        done = real(*args)
        time.sleep(chance.uniform(0, 0.04))
        return done

    return slow


def test_threads_on_a_slow_store(slow_store):
    output, count = "mem://bucket/out", 10
    publish_all(output, window_versions.in_random_order(random.Random(3), staged(output, count)), threads=16)
    check(output, count)


def test_late_rows_that_come_while_the_rows_on_time_are_published(monkeypatch):
    """The store is slow with the manifest of the first version, which has seen that nothing is published yet."""
    memory_store.OBJECTS.clear()
    output, real, is_there = "mem://bucket/out", memory_store.MemoryObjects.copy, threading.Event()
    first, second = versions(output, 0)

    def copy(self, sources, targets):
        if "/windows/" in targets[0] and b'"sequence": 1' in memory_store.OBJECTS[sources[0]]:
            is_there.set()
            time.sleep(0.4)
        real(self, sources, targets)

    monkeypatch.setattr(memory_store.MemoryObjects, "copy", copy)
    with futures.ThreadPoolExecutor(1) as pool:
        earlier = pool.submit(publisher(output).publish, first)
        assert is_there.wait(10)
        assert publisher(output).publish(second) == second.manifest
    assert earlier.result() == first.manifest
    assert publisher(output).publish(first) == second.manifest
    check(output, 1)
