"""The main job on an input larger than it may hold in memory."""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest

from penstock.io.dataset.manifest import read_manifest

CHUNK_ROWS = 500_000
SOURCE = pathlib.Path(__file__).parents[2] / "src"

# The peak of a process counts what the one had that started it; so a small one does.
LAUNCHER = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def chunk(seed):
    """Rows of a taxi company: 12 columns, about 82 bytes each."""
    random = np.random.default_rng(seed)

    def times():
        return (
            pa.array(random.integers(1_600_000_000, 1_700_000_000, CHUNK_ROWS)).cast(pa.timestamp("s")).cast("string")
        )

    def amounts(shape):
        return np.round(random.gamma(shape, 4, CHUNK_ROWS), 2)

    return pa.table(
        {
            "vendor": random.integers(1, 3, CHUNK_ROWS),
            "pickup": times(),
            "dropoff": times(),
            "passengers": random.integers(0, 7, CHUNK_ROWS),
            "distance": amounts(1),
            "rate": random.integers(1, 7, CHUNK_ROWS),
            "flag": np.array(["Y", "N"])[random.integers(0, 2, CHUNK_ROWS)],
            "from": random.integers(1, 266, CHUNK_ROWS),
            "to": random.integers(1, 266, CHUNK_ROWS),
            "fare": amounts(4),
            "tip": amounts(1),
            "total": amounts(5),
        }
    )


@pytest.mark.parametrize(
    ("gigabytes", "most"), [pytest.param(1, 0.75, marks=pytest.mark.slow), pytest.param(5, 1, marks=pytest.mark.soak)]
)
def test_csv_takes_less_memory_than_it_has_bytes(tmp_path, gigabytes, most):
    path, rows = tmp_path / "trips.csv", 0
    with pa.csv.CSVWriter(path, chunk(0).schema) as writer:
        while not path.exists() or path.stat().st_size < gigabytes * 10**9:
            writer.write(chunk(rows))
            rows += CHUNK_ROWS
    command = [sys.executable, "-m", "pipelines.prepare", f"--input={path}", f"--output={tmp_path}/out"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    launch = [sys.executable, "-c", LAUNCHER, *command, "--compression=none"]
    peak = subprocess.run(launch, env=environment, stdout=subprocess.PIPE, check=True).stdout
    assert read_manifest(f"{tmp_path}/out").rows_out == rows
    assert int(peak.split()[-1]) * 1024 < most * 10**9
