"""Loading at length: from stores, whose latency reading ahead hides, and in memory that does not grow."""

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


def write(folder: pathlib.Path, kind: str, rows: int) -> str:
    batch = pa.record_batch({"id": np.arange(rows), "text": [f"row {number} " * 20 for number in range(rows)]})
    columns = {"columns": batch.schema} if kind in ("parquet", "mds") else {}
    shards.write(folder, [batch], format=kind, compression="none", num_shards=SHARDS, **columns)
    return str(folder)


@pytest.fixture(scope="module", params=["tfrecord", "parquet", "arrayrecord", "mds"])
def local(request, tmp_path_factory) -> str:
    """A dataset on this machine."""
    if request.param == "arrayrecord":
        pytest.importorskip("array_record.python.array_record_module", reason="the extra arrayrecord")
    return write(tmp_path_factory.mktemp(request.param) / "dataset", request.param, ROWS)


@pytest.fixture
def remote(local, bucket, monkeypatch) -> str:
    """The same in the store, which this process reaches through the proxy."""
    for name, value in bucket.env.items():
        monkeypatch.setenv(name, value)
    for folder, _, names in os.walk(local):
        for name in names:
            path = pathlib.Path(folder, name)
            stores.write_file(f"{bucket.url}/{path.relative_to(local).as_posix()}", path.read_bytes())
    return bucket.url


def test_the_rows_are_those_of_the_dataset_on_this_machine(local, remote):
    for rank in range(2):
        here, there = (list(penstock.load(url).shard(rank, 2).shuffle(2, 300).batches(64)) for url in (local, remote))
        assert here == there
    if penstock.load(local).reading.contents.format not in ("parquet", "mds"):
        assert penstock.load(remote).source()[7]["id"] == penstock.load(local).source()[7]["id"]


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


@pytest.mark.parametrize("kind", ["tfrecord", "parquet"])
def test_memory_is_flat_over_epochs(kind, tmp_path):
    dataset = write(tmp_path / "dataset", kind, 100_000)
    done = subprocess.run([sys.executable, "-c", PROGRAM, dataset], capture_output=True, text=True, check=True)
    resident = [int(size) for size in done.stdout.split()]
    assert max(resident[3:]) < resident[2] + (12 << 20), resident
