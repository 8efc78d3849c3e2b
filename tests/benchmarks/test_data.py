import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest
from benchmarks.data import BAD_TEXTS, FLIGHTS, LONG, TAXI, WIDE, flights, generate, generate_typed, schema_text
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.manifest import read_manifest
from pipelines.prepare import run

ROWS = 2_000


SIZES = {"taxi": (TAXI, 108), "wide": (WIDE, 3_990), "long": (LONG, 1_950)}


@pytest.mark.parametrize(("columns", "row_bytes"), SIZES.values(), ids=SIZES)
def test_rows_are_of_the_promised_size(tmp_path, columns, row_bytes):
    dataset = generate(tmp_path / "rows.csv", "csv", columns, ROWS)
    assert dataset.bytes / ROWS == pytest.approx(row_bytes, rel=0.2)
    assert 0.003 < dataset.bad_rows / ROWS < 0.02


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    files = [tmp_path / name for name in ("a.csv", "b.csv", "c.csv")]
    for file, seed in zip(files, (0, 0, 1), strict=True):
        generate(file, "csv", TAXI, ROWS, seed)
    first, second, other = (file.read_bytes() for file in files)
    assert first == second != other


def test_a_file_is_made_once(tmp_path):
    path = tmp_path / "rows.csv"
    made = generate(path, "csv", TAXI, ROWS)
    path.write_bytes(b"")
    assert generate(path, "csv", TAXI, ROWS) == made
    assert path.read_bytes() == b""


def test_a_file_that_was_not_finished_is_made_anew(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("half a line")
    assert generate(path, "csv", TAXI, ROWS).bytes == path.stat().st_size > 1000 * ROWS // 12


def is_bad(row):
    fare = row["fare_amount"]
    return any(value in ("", None, *BAD_TEXTS) for value in row.values()) or float(fare) < 0


def test_bad_rows_are_those_of_the_rule(tmp_path):
    dataset = generate(tmp_path / "rows.csv", "csv", TAXI, 20_000)
    with dataset.path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20_000
    assert sum(map(is_bad, rows)) == dataset.bad_rows
    texts = [row["fare_amount"] for row in rows]
    assert set(BAD_TEXTS) & set(texts)
    assert "" in texts
    assert any(text.startswith("-") for text in texts)


def test_typed_rows_have_no_texts_in_columns_of_numbers(tmp_path):
    typed = generate_typed(tmp_path / "typed.csv", "csv", TAXI, 20_000)
    generate(tmp_path / "rows.parquet", "parquet", TAXI, 20_000)
    types = {field.name: field.type for field in pq.read_schema(tmp_path / "rows.parquet")}
    options = arrow_csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    assert arrow_csv.read_csv(typed.path, convert_options=options).equals(pq.read_table(tmp_path / "rows.parquet"))
    assert (typed.rows, typed.bad_rows) == (20_000, 0)


def test_flights_have_numbers_and_gaps(tmp_path):
    found = flights(tmp_path / "flights.csv", "csv", FLIGHTS, 1_000)
    table = arrow_csv.read_csv(found.path)
    assert found.rows == table.num_rows == 1_000
    numbers = [field.name for field in table.schema if pa.types.is_integer(field.type)]
    assert numbers == [column.name for column in FLIGHTS if column.kind == "int"]
    assert table["dep_delay"].null_count == 4


def test_flights_are_csv_alone(tmp_path):
    with pytest.raises(ValueError, match="flights are written as csv, got parquet"):
        flights(tmp_path / "flights.parquet", "parquet", FLIGHTS, 10)


def test_some_fields_are_quoted(tmp_path):
    path = generate(tmp_path / "rows.csv", "csv", TAXI, ROWS).path
    assert '"Governor\'s Island, Ellis Island"' in path.read_text()


def test_all_formats_hold_the_same_rows(tmp_path):
    datasets = {name: generate(tmp_path / f"rows.{name}", name, TAXI, ROWS) for name in ("csv", "jsonl", "parquet")}
    assert len({dataset.bad_rows for dataset in datasets.values()}) == 1
    rows = pq.read_table(datasets["parquet"].path).to_pylist()
    assert [json.loads(line) for line in datasets["jsonl"].path.read_text().splitlines()] == rows
    with datasets["csv"].path.open(newline="") as file:
        texts = list(csv.DictReader(file))
    assert [row["pickup_zone"] or None for row in texts] == [row["pickup_zone"] for row in rows]
    good = [index for index, row in enumerate(texts) if not is_bad(row)]
    fares = [[float(row["fare_amount"]) for row in map(table.__getitem__, good)] for table in (texts, rows)]
    assert np.array_equal(*fares)


def test_the_schema_is_one():
    schema = text_format.Parse(schema_text(TAXI), schema_pb2.Schema())
    assert [feature.name for feature in schema.feature] == [column.name for column in TAXI]
    assert [feature.name for feature in schema.feature if feature.HasField("float_domain")] == ["fare_amount"]


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_penstock_rejects_exactly_the_bad_rows(tmp_path, name):
    dataset = generate(tmp_path / f"rows.{name}", name, TAXI, ROWS)
    (tmp_path / "schema.pbtxt").write_text(schema_text(TAXI))
    paths = [f"--input={dataset.path}", f"--schema={tmp_path}/schema.pbtxt", f"--output={tmp_path}/out"]
    assert run([*paths, "--max_reject_fraction=0.05", "--compression=none", "--shuffle=none"]) == 0
    manifest = read_manifest(f"{tmp_path}/out")
    assert (manifest.rows_in, manifest.rows_rejected) == (ROWS, dataset.bad_rows)
