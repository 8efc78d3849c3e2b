"""Several shards that are read at once, ahead of who takes their rows."""

import itertools
import os
import random
import shutil
import threading
import time

import forked
import pyarrow as pa
import pytest
import shards

import penstock
from penstock.io.dataset.load.ahead import Source, ahead_of_all
from penstock.io.dataset.load.shards import readers
from penstock.io.errors import ConfigError, DataError, InputError

ROWS, SHARDS = 900, 9

KINDS = [("tfrecord", "gzip"), ("arrayrecord", "none"), ("parquet", "zstd"), ("webdataset", "none"), ("mds", "none")]

# The program ends while threads read, or wait for room.
ENDS = """
import sys, penstock
loops = []
for buffer_bytes in (1000, 8 << 20):
    batches = penstock.load(sys.argv[1]).shuffle(1, 50).prefetch(buffer_bytes, shards=5).batches(64)
    print(sum(map(len, batches)) + sum(map(len, batches)))
    loops.append(iter(batches))
    next(loops[-1])
"""

FORKS = """
import os, sys, penstock
loaded = penstock.load(sys.argv[1]).prefetch(4000, shards=3)
batches = loaded.batches(50)
one = iter(batches)
count = len(next(one))
if child := os.fork():
    status = os.waitpid(child, 0)[1]
    print(count + sum(map(len, one)), status)
else:
    try:
        list(one)
    except RuntimeError as error:
        print(error, flush=True)
    del one
    print(sum(map(len, loaded.batches(50))), flush=True)
"""


@pytest.fixture(scope="module", params=KINDS, ids="-".join)
def dataset(request, tmp_path_factory) -> str:
    format, compression = request.param
    if format == "arrayrecord":
        pytest.importorskip("array_record.python.array_record_module", reason="the extra arrayrecord")
    return write(tmp_path_factory.mktemp(format) / "dataset", format, compression)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    return write(tmp_path_factory.mktemp("plain") / "dataset", "tfrecord", "none")


def write(folder, format, compression) -> str:
    schema = pa.schema([("id", pa.int64()), ("text", pa.string())])
    rows = pa.record_batch([list(range(ROWS)), [f"row {number} " * (number % 9) for number in range(ROWS)]], schema)
    columns = {} if format in ("tfrecord", "arrayrecord") else {"columns": schema}
    shards.write(folder, [rows], format=format, compression=compression, num_shards=SHARDS, **columns)
    return str(folder)


def wait_for(condition) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize(("max_bytes", "at_once"), [*itertools.product([1, 40, 10_000], [1, 2, 5, 50])])
def test_items_come_source_by_source(max_bytes, at_once):
    numbers = [[(source, item) for item in range(source * 7 % 5)] for source in range(20)]
    sources = [Source(lambda own=own: iter(own), 3) for own in numbers]
    assert list(ahead_of_all(sources, lambda _: 4, max_bytes, 10, at_once)) == list(
        itertools.chain.from_iterable(numbers)
    )
    assert list(ahead_of_all([], len, max_bytes, 10, at_once)) == []


def test_what_is_read_ahead_is_bounded_and_ends_with_its_reader():
    begun, read = [], []

    def reading(source):
        begun.append(source)
        for item in range(100):
            read.append((source, item))
            yield item

    before = threading.active_count()
    sources = [Source(lambda number=number: reading(number), 10) for number in range(20)]
    items = ahead_of_all(sources, lambda _: 10, 100, 30, 8)
    assert next(items) == 0
    wait_for(lambda: len(begun) == 3 and len(read) >= 14)
    time.sleep(0.05)
    assert sorted(begun) == [0, 1, 2], "three sources have the 30 bytes that may be read at once"
    assert len(read) <= 15, "one was taken, ten are kept or one more of the first, and each thread has one in its hands"
    items.close()
    wait_for(lambda: threading.active_count() == before)


def test_an_error_comes_in_place_of_its_item():
    has_failed = threading.Event()

    def broken():
        yield 2
        has_failed.set()
        raise InputError("the shard is damaged")

    def first():
        assert has_failed.wait(120)
        yield 1

    items = ahead_of_all([Source(first, 1), Source(broken, 1), Source(lambda: iter([3]), 1)], lambda _: 1, 10, 10, 3)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(InputError, match="the shard is damaged"):
        next(items)


def test_shards_are_opened_at_once(plain, monkeypatch):
    together, opened = threading.Barrier(4), readers.open_unpacked

    def open_unpacked(path, size):
        if "-00008-" not in path:  # the ninth one is alone
            together.wait(120)
        return opened(path, size)

    monkeypatch.setattr(readers, "open_unpacked", open_unpacked)
    loaded = penstock.load(plain).prefetch(shards=4)
    assert sum(len(batch) for batch in loaded.batches(100)) == ROWS
    with pytest.raises(ConfigError, match="shards must be >= 1, got 0"):
        loaded.prefetch(shards=0)


@pytest.mark.parametrize("buffer_bytes", [1, 5000, 1 << 20])
def test_rows_and_states_are_those_of_one_thread(dataset, buffer_bytes):
    for loaded in (penstock.load(dataset), penstock.load(dataset).shard(1, 2).shuffle(3, 70)):
        ahead, alone = loaded.prefetch(buffer_bytes, shards=4).batches(32), loaded.batches(32)
        for _ in range(2):
            assert [one.to_pylist() for one in ahead] == [one.to_pylist() for one in alone]
            assert ahead.state_dict() == alone.state_dict()
        for taken in random.Random(buffer_bytes).sample(range(len(alone)), 3):
            list(itertools.islice(ahead, taken))
            other = loaded.batches(32)
            other.load_state_dict(ahead.state_dict())
            assert [one.to_pylist() for one in ahead] == [one.to_pylist() for one in other]


def test_damage_is_found_in_its_place(plain, tmp_path):
    shutil.copytree(plain, tmp_path / "copy")
    stored = penstock.load(plain).reading.shards
    for number in (3, 5):
        shard = tmp_path / "copy" / stored[number].path
        data = bytearray(shard.read_bytes())
        data[20] ^= 1
        shard.write_bytes(data)
    loaded = penstock.load(tmp_path / "copy").prefetch(shards=8)
    batches = iter(loaded.batches(stored[0].records))
    expected = list(penstock.load(plain).batches(stored[0].records))
    whole = sum(shard.records for shard in stored[:3]) // stored[0].records
    assert list(itertools.islice(batches, whole)) == expected[:whole]
    with pytest.raises(InputError, match=r"part-00003.*the record at byte 0"):
        list(batches)
    skipping = penstock.load(tmp_path / "copy", damaged="skip").prefetch(shards=8).batches(50)
    assert (sum(len(batch) for batch in skipping), skipping.skipped) == (ROWS - 2, 2)
    assert ["part-00003" in loss.reason for loss in skipping.losses] == [True, False]
    (tmp_path / "copy" / stored[2].path).unlink()
    with pytest.raises(DataError, match=r"part-00002.*the shard cannot be read"):
        list(loaded.batches(50))


def test_a_program_may_end_while_threads_read(dataset):
    done = forked.run(["-c", ENDS, dataset])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{2 * ROWS}\n" * 2, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_is_told_that_it_has_no_threads(plain):
    done = forked.run(["-c", FORKS, plain], timeout=300)
    told, own, after = done.stdout.splitlines()
    assert "this is a fork of it: begin another loop" in told
    assert (own, after, done.stderr) == (f"{ROWS}", f"{ROWS} 0", "")
