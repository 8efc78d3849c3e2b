"""Files in real object stores: what is written is read, as a whole or not at all."""

import contextlib
import io
import os
import threading

import pytest
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.errors import MissingFileError, StorageError
from penstock.io.files import stores
from penstock.io.files.atomic.conditional import conditional_file
from penstock.io.files.stores import config, reading, writing


def write(url, content=b"hello"):
    stores.write_file(url, content)


@pytest.mark.parametrize("key", ["a.csv", "a/data set ü/x[1].csv", "city=S%C3%A3o%20Paulo/a", "a b#%?.csv", ".tmp-1/x"])
def test_any_name_is_kept(bucket, key):  # noqa: F811
    write(f"{bucket}/{key}")
    assert stores.read_file(f"{bucket}/{key}") == b"hello"
    assert [(entry.path, entry.size) for entry in stores.files_below(bucket)] == [(f"{bucket}/{key}", 5)]
    assert stores.exists(f"{bucket}/{key}")
    stores.delete([f"{bucket}/{key}", f"{bucket}/never-there"])
    assert stores.files_below(bucket) == []
    assert not stores.exists(f"{bucket}/{key}")


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_001, 17_000_000])
def test_content_of_any_size(bucket, size):  # noqa: F811
    content = os.urandom(size)
    with stores.create_file(f"{bucket}/x") as file:
        for start in range(0, size, 700_001):
            file.write(memoryview(content)[start : start + 700_001])
    assert stores.stat(f"{bucket}/x").size == size
    for known in (None, size):
        with stores.open_file(f"{bucket}/x", known) as file:
            assert file.read() == content
            assert file.read() == b""
    with stores.open_file(f"{bucket}/x") as file:
        pieces = list(iter(lambda: file.read(300_007), b""))
    assert b"".join(pieces) == content


def test_reading_in_any_order(bucket):  # noqa: F811
    content = os.urandom(3_000_000)
    write(f"{bucket}/x", content)
    with stores.open_file(f"{bucket}/x", len(content)) as file:
        for at, length in [(2_999_992, 8), (0, 4), (1_000_000, 1_500_000), (2_500_000, 10), (10, 5), (3_000_000, 5)]:
            assert file.seek(at) == at
            assert file.read(length) == content[at : at + length]
            assert file.tell() == min(at + length, len(content))
        assert file.seek(-8, io.SEEK_END) == 2_999_992
        assert file.read() == content[-8:]


def test_what_fails_while_it_is_written_does_not_appear(bucket):  # noqa: F811
    for size in (10, writing.PIECE_BYTES + 10):
        with contextlib.suppress(ZeroDivisionError), stores.create_file(f"{bucket}/x") as file:
            file.write(bytes(size))
            _ = 1 / 0
    abandoned = stores.create_file(f"{bucket}/x")
    abandoned.write(b"x")
    del abandoned
    assert stores.files_below(bucket) == []


def test_an_object_that_is_replaced_while_it_is_read(bucket, monkeypatch):  # noqa: F811
    monkeypatch.setattr(reading, "_FIRST_BYTES", 1000)
    write(f"{bucket}/x", b"a" * 3_000_000)
    with stores.open_file(f"{bucket}/x") as file:
        assert file.read(10) == b"a" * 10
        write(f"{bucket}/x", b"b" * 3_000_000)
        with pytest.raises(OSError, match=r"/x: the object was replaced while it was read"):
            file.read()


def test_a_missing_object_says_so(bucket):  # noqa: F811
    with pytest.raises(MissingFileError, match=rf"^{bucket}/x: no such object in "):
        stores.open_file(f"{bucket}/x")
    with pytest.raises(FileNotFoundError):
        stores.stat(f"{bucket}/x")


def test_a_missing_bucket_says_so(bucket):  # noqa: F811
    url = f"{bucket}-of-nobody"
    for action in (lambda: stores.files_below(f"{url}/x"), lambda: write(f"{url}/x")):
        with pytest.raises(StorageError, match=rf"^{url}/x: {url} does not exist in .*; correct its name$"):
            action()


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("in/*.csv", ["in/a.csv"]),
        ("in/**.csv", ["in/a.csv", "in/y=1/b.csv"]),
        ("in/*/b.csv", ["in/y=1/b.csv"]),
        ("in/a.csv", ["in/a.csv"]),
        ("in", []),
        ("*/a.csv", ["in/a.csv", "in2/a.csv"]),
        ("in/?.csv", ["in/a.csv"]),
        ("no/*", []),
    ],
)
def test_patterns(bucket, pattern, found):  # noqa: F811
    for name in ("in/a.csv", "in/y=1/b.csv", "in2/a.csv", "x"):
        write(f"{bucket}/{name}")
    assert sorted(entry.path.removeprefix(f"{bucket}/") for entry in stores.match(f"{bucket}/{pattern}")) == found


def test_objects_are_moved(bucket):  # noqa: F811
    for number in range(20):
        write(f"{bucket}/a/{number}", b"%d" % number)
    stores.move({f"{bucket}/a/{number}": f"{bucket}/b/{number}" for number in range(20)})
    assert sorted(entry.path for entry in stores.files_below(bucket)) == sorted(f"{bucket}/b/{n}" for n in range(20))
    assert stores.read_file(f"{bucket}/b/7") == b"7"


def test_markers_of_folders_are_no_files(bucket, emulator):  # noqa: F811
    if emulator.scheme != "s3":
        pytest.skip("consoles of S3 make them")
    for name in ("out/", "out/train/"):
        emulator._request("PUT", f"/{bucket.partition('://')[2]}/{name}")
    write(f"{bucket}/out/empty", b"")
    assert [entry.path for entry in stores.files_below(f"{bucket}/out")] == [f"{bucket}/out/empty"]


def test_of_many_that_write_at_once_one_wins(bucket):  # noqa: F811
    file = conditional_file(f"{bucket}/x", f"{bucket}/.lock", f"{bucket}/.tmp")
    assert file.read() is None
    assert file.write(b"first", None)
    before = file.read()
    assert before.content == b"first"
    won = []

    def write_own(number):
        if stores.write_if(f"{bucket}/x", b"%d" % number, before):  # without the lock of this process
            won.append(number)

    threads = [threading.Thread(target=write_own, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert file.read().content == b"%d" % won[0]
    assert not file.write(b"late", before)
    assert not file.write(b"late", None)
    assert file.write(b"last", file.read())


def test_flags_win_over_the_environment(bucket, emulator, monkeypatch):  # noqa: F811
    write(f"{bucket}/x")
    flag, variable = {
        "s3": ("s3_endpoint_url", "AWS_ENDPOINT_URL"),
        "az": ("blob_service_endpoint", "AZURE_STORAGE_CONNECTION_STRING"),
        "gs": ("gcs_endpoint_url", "STORAGE_EMULATOR_HOST"),
    }[emulator.scheme]
    monkeypatch.delenv(variable)
    endpoint = emulator.endpoint + (f"/{emulator.account}" if emulator.scheme == "az" else "")
    arguments = (f"--{flag}={endpoint}", "--runner=FlinkRunner")
    monkeypatch.setattr(config, "_configured", config.StoreConfig.from_arguments(arguments))
    assert stores.read_file(f"{bucket}/x") == b"hello"
    # Workers have the options of their pipeline.
    monkeypatch.setattr(config, "_configured", None)
    monkeypatch.setattr(config, "worker_flags", lambda: arguments)
    assert stores.read_file(f"{bucket}/x") == b"hello"
