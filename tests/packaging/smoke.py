"""Every format in, a dataset out, verified; with any Python that has Penstock, and nothing that only tests have.

::

    python tests/packaging/smoke.py
"""

import csv
import json
import pathlib
import sys
import tempfile
from typing import Any

import fastavro
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet

from penstock.io import read_manifest
from penstock.io.formats.registry import FORMATS
from pipelines import prepare, verify

ROWS = [
    {"id": index, "fare": None if index % 7 == 0 else index / 4, "name": f"näme {index % 13}"} for index in range(1000)
]
_SCHEMA = """
feature { name: "id" type: INT presence { min_fraction: 1 } }
feature { name: "fare" type: FLOAT }
feature { name: "name" type: BYTES }
"""
_AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "fare", "type": ["null", "double"]},
        {"name": "name", "type": "string"},
    ],
}


def main(scratch: pathlib.Path) -> None:
    """Prepares one dataset from each format; all must have the same rows, and so the same id."""
    schema = scratch / "schema.pbtxt"
    schema.write_text(_SCHEMA)
    inputs = {suffix: str(scratch / f"rows.{suffix}") for suffix in ("csv", "jsonl", "avro", "parquet", "orc")}
    write_rows(**inputs)
    inputs["tfrecord"] = str(scratch / "csv" / "train" / "*.tfrecord.gz")  # the first one's output
    ids = {name: make_dataset(source, scratch / name, schema) for name, source in inputs.items()}
    if len(set(ids.values())) != 1:
        sys.exit(f"the datasets differ: {ids}")
    infer(inputs["csv"], scratch / "inferred")
    infer(inputs["csv"], scratch / "columns", "--output_format=parquet")
    text = scratch / "rows.txt"
    text.write_bytes(pathlib.Path(inputs["csv"]).read_bytes())
    infer(str(text), scratch / "text")
    if missing := {*FORMATS} - {*ids, "text"}:
        sys.exit(f"no file of {', '.join(missing)}")
    print(f"good: {', '.join([*ids, 'text'])}")


def write_rows(csv: str, jsonl: str, avro: str, parquet: str, orc: str) -> None:
    """`ROWS`, in a file of each format."""
    write_csv(csv)
    pathlib.Path(jsonl).write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    with open(avro, "wb") as file:
        fastavro.writer(file, _AVRO, ROWS)
    pyarrow.parquet.write_table(pa.Table.from_pylist(ROWS), parquet)
    pyarrow.orc.write_table(pa.Table.from_pylist(ROWS), orc)


def write_csv(path: str) -> None:
    """A missing value is an empty field."""
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, ROWS[0])
        writer.writeheader()
        writer.writerows(ROWS)


def make_dataset(source: str, output: pathlib.Path, schema: pathlib.Path) -> str:
    """The id of a dataset that is prepared, with a rule, and verified."""
    rules = schema.with_name("rules.yaml")
    rules.write_text("rules:\n  - {name: id_range, sql: id <> 3}\n")
    run(prepare, f"--input={source}", f"--output={output}", f"--schema={schema}", f"--rules={rules}", "--num_shards=2")
    run(verify, f"--dataset={output}")
    manifest = read_manifest(str(output))
    # A TFRecord file of this smoke test is what a job with this rule wrote.
    expected = len(ROWS) - 1
    if manifest.rows_out != expected or manifest.rows_in != manifest.rows_out + manifest.rows_rejected:
        sys.exit(f"{source}: {manifest.rows_in} in, {manifest.rows_out} out, {manifest.rows_rejected} rejected")
    return manifest.dataset_id


def infer(source: str, output: pathlib.Path, *flags: str) -> None:
    """A dataset whose schema nobody gives, verified."""
    run(prepare, f"--input={source}", f"--output={output}", *flags)
    run(verify, f"--dataset={output}")


def run(job: Any, *argv: str) -> None:
    """Runs a job, and ends with it if it fails."""
    if code := job.run(argv):
        sys.exit(f"{job.__name__} {' '.join(argv)}: exit code {code}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        main(pathlib.Path(directory))
