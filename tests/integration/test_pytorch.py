"""The checks of `tests/pytorch`, with a PyTorch of their own, on datasets of each format of shards."""

import os
import pathlib
import subprocess
import sys

import pyarrow as pa
import pytest
import shards
from quick_windows import write_windows

pytestmark = pytest.mark.integration

ROOT = pathlib.Path(__file__).parents[2]
CHECKS = ROOT / "tests" / "pytorch"
COLUMNS = pa.schema(
    [("id", pa.int64()), ("fare", pa.float64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))]
)
KINDS = [
    ("tfrecord", "gzip"),
    ("tfrecord", "none"),
    ("sequence_example", "gzip"),
    ("parquet", "zstd"),
    ("arrayrecord", "none"),
]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("datasets")
    rows = [
        {
            "id": number,
            "fare": None if number % 10 == 0 else number / 4,
            "name": f"näme {number}" * (number % 5),
            "clicks": None if number % 7 == 0 else list(range(number % 4)),
        }
        for number in range(1500)
    ]
    for format, compression in KINDS:
        columns = {"columns": COLUMNS} if format in ("parquet", "sequence_example") else {}
        batches = [pa.RecordBatch.from_pylist(rows, COLUMNS)]
        shards.write(folder / f"{format}-{compression}", batches, format=format, compression=compression, **columns)
    return folder


@pytest.fixture(scope="module")
def windows(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("windows")
    write_windows(folder, range(6))
    return folder


@pytest.mark.parametrize(
    ("checks", "variables"),
    [
        ("check_batches.py", {}),
        pytest.param("check_batches.py", {"PENSTOCK_TEST_AT_LENGTH": "1"}, marks=pytest.mark.soak),
        ("check_ddp.py", {}),
        ("check_follow.py", {}),
    ],
)
def test_pytorch(checks, variables, datasets, windows, pytorch):
    paths = [str(pytorch), str(ROOT / "src"), str(ROOT / "tests")]
    folders = {"PENSTOCK_TEST_DATASETS": str(datasets), "PENSTOCK_TEST_WINDOWS": str(windows)}
    variables = {"PYTHONPATH": os.pathsep.join(paths), **folders, **variables}
    # A loader forks, so that nothing of Beam and its threads may be in that process. Where it hangs is told.
    options = ["--noconftest", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=120"]
    command = [sys.executable, "-m", "pytest", "-v", "-x", *options, CHECKS / checks]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
