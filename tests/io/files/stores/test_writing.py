"""Many objects that are closed side by side."""

import threading
import time

import pytest

from penstock.io.files.stores import writing
from penstock.io.files.stores.writing import PIECE_BYTES, Uploads


class Closing:
    """What is closed, and how many of it at a time."""

    def __init__(self, seconds=0.01):
        self.seconds, self.now, self.most, self.done = seconds, 0, 0, 0
        self._guard = threading.Lock()

    def __call__(self):
        with self._guard:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._guard:
            self.now -= 1
            self.done += 1


def test_small_files_are_closed_side_by_side():
    uploads, closing = Uploads(), Closing(0.05)
    begin = time.monotonic()
    for _ in range(200):
        uploads.add(closing, 1000)
    uploads.wait()
    assert closing.done == 200
    assert closing.most > 8
    assert time.monotonic() - begin < 200 * 0.05 / 2


def test_few_large_ones_are_under_way(monkeypatch):
    monkeypatch.setattr(writing, "_MAX_UNDER_WAY_BYTES", 3 * PIECE_BYTES)
    uploads, closing = Uploads(), Closing()
    for _ in range(20):
        uploads.add(closing, 100 * PIECE_BYTES)  # all but the last piece of each was sent before
    uploads.wait()
    assert closing.done == 20
    assert closing.most <= 4


def test_an_error_is_told_and_nothing_is_under_way_afterwards():
    def fail():
        raise OSError("full")

    uploads, closing = Uploads(), Closing()
    uploads.add(fail, 1)
    for _ in range(20):
        uploads.add(closing, 1)
    with pytest.raises(OSError, match="full"):
        uploads.wait()
    uploads.give_up()
    assert closing.now == 0
    seen = closing.done
    time.sleep(0.05)
    assert closing.done == seen
    uploads.wait()
