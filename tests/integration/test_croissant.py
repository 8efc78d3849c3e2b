"""The package `mlcroissant` validates what `penstock croissant` writes, and reads the records of Parquet by it."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from helpers import run_prepare, write_parquet, write_schema_file

import penstock
from pipelines import croissant

pytestmark = pytest.mark.integration

# Of each dataset, what is wrong or could be better, and of Parquet the records of a split.
PROGRAM = """
import json, sys
import mlcroissant

found = {}
for path in sys.argv[1:]:
    dataset = mlcroissant.Dataset(jsonld=f"{path}/croissant.json")
    issues = dataset.metadata.ctx.issues
    found[path] = {"errors": sorted(issues.errors), "warnings": sorted(issues.warnings)}
    found[path]["splits"] = list(dataset.records(record_set="names-of-splits"))
    if path.endswith("parquet"):
        records = list(dataset.records(record_set="records-of-eval"))
        names = {name.partition("/")[2] for record in records for name in record}
        found[path]["names"] = sorted(names)
        for name in ("x", "y"):
            values = [record[f"records-of-eval/{name}"] for record in records]
            found[path][name] = [None if value is None else float(value) for value in values]
print(json.dumps(found))
"""


def test_mlcroissant_takes_the_metadata_and_reads_parquet_by_it(tmp_path, mlcroissant):
    rows = [{"x": number, "a b/é:": f"n{number}", "y": None if number % 3 else number / 8} for number in range(60)]
    write_parquet(tmp_path / "in.parquet", pa.Table.from_pylist(rows))
    one = "value_count { min: 1 max: 1 }"
    types = {"x": f"INT {one}", "a b/é:": f"BYTES {one}", "y": f"FLOAT {one}"}
    schema = write_schema_file(tmp_path / "schema.pbtxt", **types)
    paths = []
    for shards in ("parquet", "tfrecord", "webdataset"):
        output = tmp_path / shards
        flags = ("--output", output, "--output_format", shards, "--split", "train=0.5,eval=0.5", "--num_shards", 2)
        assert run_prepare("--input", tmp_path / "in.parquet", "--schema", schema, *flags) == 0
        said = ["--license", "CC-BY-4.0", "--cite_as", "Nobody (2026)", "--creator", "Me", "--url", "http://127.0.0.1"]
        assert croissant.run([str(output), "--output", str(output / "croissant.json"), *said]) == 0
        paths.append(str(output))
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, *paths],
        env={**os.environ, "PYTHONPATH": str(mlcroissant)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for path in paths:
        assert (found[path]["errors"], found[path]["warnings"]) == ([], [])
        assert [one["names-of-splits/name"] for one in found[path]["splits"]] == ["train", "eval"]
    expected = pa.Table.from_batches(penstock.load(paths[0], "eval").batches(100)).to_pylist()
    read = found[paths[0]]
    assert read["names"] == ["a%20b%2F%C3%A9%3A", "x", "y"]
    for name in ("x", "y"):
        assert read[name] == [one[name] for one in expected]
