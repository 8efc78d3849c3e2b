"""A file is replaced only by who knows what it holds."""

import random
import time
from concurrent import futures

import memory_store
import pytest

from penstock.io.errors import StorageError
from penstock.io.files.atomic.conditional import conditional_file
from penstock.io.files.folders import list_files


@pytest.fixture(params=["disk", "store"])
def file(request, tmp_path):
    memory_store.OBJECTS.clear()
    root = str(tmp_path) if request.param == "disk" else "mem://bucket/out"
    return conditional_file(f"{root}/a.json", f"{root}/.tmp-lock-a", f"{root}/.tmp-r")


def test_a_file_that_is_not_there_is_created_once(file):
    assert file.read() is None
    assert file.write(b"1", None)
    assert not file.write(b"2", None)
    assert file.read().content == b"1"


def test_a_file_that_has_changed_stays(file):
    file.write(b"1", None)
    old = file.read()
    assert file.write(b"2", old)
    assert not file.write(b"3", old)
    assert file.write(b"", file.read())
    assert file.read().content == b""
    assert not file.write(b"4", None)


def test_nothing_is_left_beside_it(file):
    file.write(b"1", None)
    file.write(b"2", None)
    assert list(list_files(file.path.rpartition("/")[0])) == ["a.json"]


def test_each_of_many_threads_adds_one(file):
    chance = random.Random(7)

    def add(_):
        while True:
            found = file.read()
            time.sleep(chance.uniform(0, 0.002))
            if file.write(str(int(found.content) + 1 if found else 1).encode(), found):
                return

    with futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert file.read().content == b"40"


def test_a_store_notices_another_process_that_writes_right_after(monkeypatch):
    memory_store.OBJECTS.clear()
    file = conditional_file("mem://bucket/a.json", "mem://bucket/.tmp-lock-a", "mem://bucket/.tmp-r")
    real = memory_store.MemoryObjects.rename

    def overtaken(self, sources, targets):
        real(self, sources, targets)
        memory_store.OBJECTS[targets[0]] = b"other"

    monkeypatch.setattr(memory_store.MemoryObjects, "rename", overtaken)
    assert not file.write(b"1", None)
    assert file.read().content == b"other"


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    file = conditional_file(f"{tmp_path}/a.json", f"{tmp_path}/.tmp-lock-a", f"{tmp_path}/file")
    with pytest.raises(StorageError, match="file"):
        file.write(b"1", None)
