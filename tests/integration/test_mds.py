"""The package `mosaicml-streaming` reads what the format `mds` writes. It is no package of this project."""

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
        pa.field("id", pa.int64(), nullable=False),
        ("price", pa.float32()),
        ("name", pa.string()),
        ("clicks", pa.list_(pa.int64())),
        ("tags", pa.list_(pa.string())),
        ("raw", pa.binary()),
    ]
)

PROGRAM = """
import json, sys
from services.streaming_alone import local_dataset

def plain(value):
    if isinstance(value, bytes):
        return value.hex()
    return value.tolist() if hasattr(value, "tolist") else value

dataset = local_dataset()(sys.argv[1], "train")
for number in range(len(dataset)):
    print(json.dumps({name: plain(value) for name, value in dataset[number].items()}))
"""


def row(number: int) -> dict[str, object]:
    return {
        "id": 2**60 + number,
        "price": None if number % 5 == 0 else number / 8,
        "name": f'näme "{number}"\n' * (number % 3),
        "clicks": None if number % 4 == 0 else list(range(number % 300)),
        "tags": None if number % 6 == 0 else ["é", '"'][: number % 3],
        "raw": None if number % 7 == 0 else bytes(range(number % 256)),
    }


def _row(sample: dict[str, object]) -> dict[str, object]:
    found = {name: value for name, value in sample.items() if sample.get(f"{name}$present", 1) and "$" not in name}
    found = {name: found.get(name) for name in COLUMNS.names}
    return {**found, "raw": None if found["raw"] is None else bytes.fromhex(str(found["raw"]))}


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("rows", [3, 500])
def test_streaming_reads_every_row(streaming, tmp_path, rows, compression):
    """Also where shards have no row."""
    batch = pa.RecordBatch.from_pylist([row(number) for number in range(rows)], COLUMNS)
    output = tmp_path / "out"
    write(output, [batch], num_shards=5, format="mds", columns=COLUMNS, compression=compression)
    assert list(verify_dataset(str(output))) == []
    loaded = [found for one in penstock.load(output).batches(100) for found in one.to_pylist()]
    assert sorted(loaded, key=lambda one: one["id"]) == [row(number) for number in range(rows)]
    if compression == "zstd":
        _unpack(output / "train")
    found = list(map(_row, _printed(streaming, output)))
    assert found == loaded


def _unpack(folder: pathlib.Path) -> None:
    """Does what a `StreamingDataset` does with files that it fetches."""
    for shard in json.loads((folder / "index.json").read_text())["shards"]:
        packed, plain = shard["zip_data"], shard["raw_data"]
        content = (folder / packed["basename"]).read_bytes()
        assert len(content) == packed["bytes"]
        (folder / plain["basename"]).write_bytes(pa.Codec("zstd").decompress(content, plain["bytes"], asbytes=True))


def _printed(packages: pathlib.Path, output: pathlib.Path) -> list[dict[str, object]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(packages), str(pathlib.Path(__file__).parents[1])])}
    command = [sys.executable, "-c", PROGRAM, str(output)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]
