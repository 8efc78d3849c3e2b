"""Loading at length: from stores, whose latency reading ahead hides, and in memory that does not grow."""

import functools
import os
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pytest
import shards
from dealt import dealt
from services.fault_proxy.plan import Fault

import penstock
from penstock.io.files import stores

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROWS, SHARDS, BATCH = 4000, 16, 125
LATENCY_SECONDS = 0.05

PROGRAM = """
import sys, penstock
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
batches = penstock.load(sys.argv[1]).shuffle(1).prefetch(8 << 20).batches(512)
print(*[(sum(batch.num_rows for batch in batches), resident())[1] for _ in range(6)])
"""

# Seconds of the processor: of Amazon's client for one object, and from the import of Penstock to the first batch.
CLIENT = """
import sys, time
started = time.process_time()
import boto3
bucket, _, key = sys.argv[1].removeprefix("s3://").partition("/")
boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
print(time.process_time() - started)
"""
FIRST = """
import sys, time, penstock
started = time.process_time()
next(iter(penstock.load(sys.argv[1]).batches(125)))
print(time.process_time() - started)
"""

FORK = """
import os, signal, sys, penstock
loaded = penstock.load(sys.argv[1])
print(sum(map(len, loaded.prefetch().batches(125))), flush=True)
if child := os.fork():
    print(os.waitpid(child, 0)[1])
else:
    signal.alarm(120)
    try:
        next(iter(loaded.batches(125)))
    except OSError as error:
        print(error, flush=True)
"""


def write(folder: pathlib.Path, kind: str, rows: int) -> str:
    batch = pa.record_batch({"id": np.arange(rows), "text": [f"row {number} " * 20 for number in range(rows)]})
    columns = {"columns": batch.schema} if kind in ("parquet", "mds") else {}
    shards.write(folder, [batch], format=kind, compression="none", num_shards=SHARDS, **columns)
    return str(folder)


KINDS = ("tfrecord", "parquet", "arrayrecord", "mds")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder of a dataset, by its kind of shards."""
    return functools.cache(lambda kind: write(tmp_path_factory.mktemp(kind) / "dataset", kind, ROWS))


@pytest.fixture
def local(kind, written) -> str:
    """A dataset on this machine."""
    if kind == "arrayrecord":
        pytest.importorskip("array_record.python.array_record_module", reason="the extra arrayrecord")
    return written(kind)


@pytest.fixture
def remote(local, bucket, monkeypatch) -> str:
    """The same in the store, which this process reaches through the proxy."""
    return upload(local, bucket, monkeypatch)


def upload(local, bucket, monkeypatch) -> str:
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    for folder, _, names in os.walk(local):
        for name in names:
            path = pathlib.Path(folder, name)
            stores.write_file(f"{bucket.url}/{path.relative_to(local).as_posix()}", path.read_bytes())
    return bucket.url


@dealt("kind", KINDS, "s3")
def test_the_rows_are_those_of_the_dataset_on_this_machine(local, remote):
    for rank in range(2):
        here, there = (list(penstock.load(url).shard(rank, 2).shuffle(2, 300).batches(64)) for url in (local, remote))
        assert here == there
    if penstock.load(local).reading.contents.format not in ("parquet", "mds"):
        assert penstock.load(remote).source()[7]["id"] == penstock.load(local).source()[7]["id"]


@dealt("kind", KINDS, "az")
def test_reading_ahead_asks_a_slow_store_before_rows_are_needed(remote, proxy):
    loaded = penstock.load(remote)
    proxy.plan(Fault("latency", seconds=LATENCY_SECONDS))
    batches = iter(loaded.prefetch().batches(BATCH))
    rows = next(batches).num_rows
    deadline = time.monotonic() + 120
    while any(one.name == "penstock-prefetch" for one in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    proxy.plan(Fault("status", status=403))
    assert rows + sum(batch.num_rows for batch in batches) == ROWS


@dealt("kind", KINDS, "gs")
def test_shards_of_a_slow_store_are_asked_for_at_once(remote, proxy):
    loaded = penstock.load(remote)
    proxy.plan(Fault("latency", seconds=0.3))
    proxy.count_anew()
    assert sum(batch.num_rows for batch in loaded.prefetch().batches(BATCH)) == ROWS
    assert proxy.passed().most_at_once >= SHARDS // 2
    proxy.plan(Fault("latency", seconds=LATENCY_SECONDS))
    proxy.count_anew()
    assert sum(batch.num_rows for batch in loaded.prefetch(shards=2).batches(BATCH)) == ROWS
    assert proxy.passed().most_at_once <= 2


def seconds(batches) -> float:
    started = time.monotonic()
    assert sum(batch.num_rows for batch in batches) == ROWS
    return time.monotonic() - started


@pytest.mark.parametrize("emulator", ["s3"], indirect=True)
def test_the_latency_of_a_store_is_hidden(proxy, bucket, tmp_path, monkeypatch):
    loaded = penstock.load(upload(write(tmp_path / "dataset", "tfrecord", ROWS), bucket, monkeypatch))
    proxy.plan(Fault("latency", seconds=LATENCY_SECONDS))
    found = []
    for _ in range(5):  # others on the machine may hold one up
        found.append((seconds(loaded.batches(BATCH)), seconds(loaded.prefetch().batches(BATCH))))
        if found[-1][1] < found[-1][0] / 3:
            return
    pytest.fail(f"seconds without and with reading ahead: {found}")


@pytest.mark.parametrize("emulator", ["s3"], indirect=True)
def test_the_first_batch_of_a_slow_store_takes_few_requests_and_little_time(proxy, bucket, tmp_path, monkeypatch):
    remote = upload(write(tmp_path / "dataset", "tfrecord", ROWS), bucket, monkeypatch)
    proxy.plan(Fault("latency", seconds=LATENCY_SECONDS))
    proxy.count_anew()
    firsts = [processor_seconds(FIRST, remote)]
    assert proxy.passed().total <= 3  # one after the other: manifest, schema, shard
    client = min(processor_seconds(CLIENT, f"{remote}/manifest.json") for _ in range(2))
    while min(firsts) >= 3 * client and len(firsts) < 4:  # others on the machine may hold one up
        firsts.append(processor_seconds(FIRST, remote))
    assert min(firsts) < 3 * client, (firsts, client)


def processor_seconds(program: str, *arguments: str) -> float:
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.parametrize("emulator", ["s3"], indirect=True)
def test_a_fork_that_cannot_ask_the_store_is_told(bucket, tmp_path, monkeypatch):
    remote = upload(write(tmp_path / "dataset", "tfrecord", ROWS), bucket, monkeypatch)
    program = [sys.executable, "-W", "ignore", "-c", FORK, remote]
    done = subprocess.run(program, capture_output=True, text=True, timeout=300)
    rows, told, status = done.stdout.splitlines()
    assert (rows, status) == (str(ROWS), "0")
    assert "this process is a fork of one that has asked a store" in told


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_memory_is_flat_over_epochs(kind, tmp_path):
    dataset = write(tmp_path / "dataset", kind, 50_000)
    done = subprocess.run([sys.executable, "-c", PROGRAM, dataset], capture_output=True, text=True, check=True)
    resident = [int(size) for size in done.stdout.split()]
    assert max(resident[3:]) < resident[2] + (12 << 20), resident
