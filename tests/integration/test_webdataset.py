"""The package `webdataset` reads what the format of that name writes. It is no package of this project."""

import json
import os
import pathlib
import subprocess
import sys

import pyarrow as pa
import pytest
from shards import write

import penstock
from penstock.transforms.verify import verify_dataset

pytestmark = pytest.mark.integration

COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("price", pa.float64()),
        ("name", pa.string()),
        ("clicks", pa.list_(pa.int64())),
        ("raw", pa.binary()),
        ("view.bin", pa.list_(pa.binary())),
    ]
)

# Bytes are written as their hexadecimal digits.
PROGRAM = """
import glob, json, sys
import webdataset

paths = sorted(glob.glob(sys.argv[1]))
for sample in webdataset.WebDataset(paths, shardshuffle=False).decode():
    found = {name: value.hex() if isinstance(value, bytes) else value for name, value in sample.items()}
    print(json.dumps(found))
"""


def row(number: int) -> dict[str, object]:
    return {
        "id": 2**60 + number,
        "price": None if number % 5 == 0 else number / 7,
        "name": f'näme "{number}"\n' * (number % 3),
        "clicks": None if number % 4 == 0 else list(range(number % 3)),
        "raw": None if number % 7 == 0 else bytes(range(number % 256)),
        "view.bin": None if number % 6 == 0 else [b"\xff" * number] * (number % 4),
    }


def _row(sample: dict[str, object]) -> dict[str, object]:
    found = dict(sample["json"])
    names = found["view.bin"]
    found["view.bin"] = None if names is None else [bytes.fromhex(sample[name]) for name in names]
    return {**found, "raw": bytes.fromhex(sample["raw"]) if "raw" in sample else None}


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("rows", [4, 500])
def test_webdataset_reads_every_row(webdataset, tmp_path, rows, compression):
    """Also where shards have no row, or one only, so that samples that follow each other have the same key."""
    batch = pa.RecordBatch.from_pylist([row(number) for number in range(rows)], COLUMNS)
    output = tmp_path / "out"
    write(output, [batch], num_shards=4, format="webdataset", columns=COLUMNS, compression=compression)
    found = _printed(webdataset, output)
    assert sorted(map(_row, found), key=lambda one: one["id"]) == [row(number) for number in range(rows)]
    assert [one["json"]["id"] for one in found] == [
        number for loaded in penstock.load(output).batches(100) for number in loaded["id"].to_pylist()
    ]
    assert list(verify_dataset(str(output))) == []


def _printed(packages: pathlib.Path, output: pathlib.Path) -> list[dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-c", PROGRAM, f"{output}/train/*"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
