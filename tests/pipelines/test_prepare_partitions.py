"""Folders as inputs, columns from the names of folders, and inputs that lie in the output; through the jobs."""

import pathlib

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that, equal_to
from helpers import dead_letters, examples, job, manifest_of, run_prepare, write_csv, write_jsonl, write_schema_file
from pyarrow import parquet

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.schema import Feature, Kind, load_schema, named_features
from penstock.io.sources.watch import WatchRecords
from penstock.transforms.verify import verify_dataset
from pipelines import replay
from pipelines._report.result import DONE, WRONG_USAGE

CITIES = ["São Paulo", "a/b", None]


@pytest.fixture
def weather(tmp_path):
    rows = [
        {"year": 2013 + day % 2, "city": CITIES[day % 3], "day": day, "wind": f"{day % 5} bft", "temp": day / 4}
        for day in range(60)
    ]
    root = tmp_path / "weather"
    parquet.write_to_dataset(pa.Table.from_pylist(rows), str(root), partition_cols=["year", "city"])
    (root / "_SUCCESS").touch()
    (root / "README.md").write_text("weather of two years\n")
    return root, rows


def test_hive_parquet_becomes_a_dataset_at_the_first_try(weather, tmp_path, caplog):
    root, rows = weather
    assert run_prepare("--input", root, "--output", tmp_path / "out") == DONE
    told = " ".join(record.getMessage() for record in caplog.records)
    assert "columns from the names of folders: year (whole numbers), city (texts);" in told
    assert "README.md, whose suffixes tell no format" in told
    read = examples(tmp_path / "out")
    found = [(example["year"][0], example.get("city", [None])[0], example["day"][0]) for example in read]
    assert sorted(found, key=lambda row: row[2]) == [(row["year"], row["city"], row["day"]) for row in rows]
    features = named_features(load_schema(str(tmp_path / "out" / "schema.pbtxt")))
    assert features["year"].presence.min_fraction == 1
    assert sorted(features["city"].string_domain.value) == ["São Paulo", "a/b"]
    assert not list(verify_dataset(str(tmp_path / "out")))


def write_days(root: pathlib.Path, suffix: str) -> None:
    for year in (2013, 2014):
        for month in ("02", "11"):
            path = root / f"year={year}" / f"month={month}" / f"days.{suffix}"
            path.parent.mkdir(parents=True)
            rows = [{"day": day, "wind": day % 5} for day in range(5)]
            write_csv(path, rows, ["day", "wind"]) if suffix == "csv" else write_jsonl(path, rows)


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_rejected_rows_are_replayed_with_the_columns_of_their_folders(tmp_path, suffix):
    write_days(tmp_path / "in", suffix)
    required = "INT presence { min_fraction: 1 min_count: 1 }"
    schema = write_schema_file(tmp_path / "schema.pbtxt", day=required, year=required, month=required, wind="INT")
    (tmp_path / "rules.yaml").write_text("rules: [{name: early, sql: NOT (month = 2 AND day > 2)}]")
    out, repaired = tmp_path / "out", tmp_path / "repaired"
    flags = ("--schema", schema, "--rules", tmp_path / "rules.yaml", "--max_reject_fraction=1", "--output", out)
    assert run_prepare("--input", tmp_path / "in", *flags) == DONE
    assert manifest_of(out).rejected_by_reason == {"rule.early": 4}
    assert {letter["uri"].rsplit("/", 2)[1] for letter in dead_letters(out)} == {"month=02"}
    (tmp_path / "rules.yaml").write_text("rules: [{name: early, sql: month = 2 AND year > 2000}]")
    replayed = ("--dead_letters", f"{out}/dead_letters/*.jsonl", "--rules", tmp_path / "rules.yaml")
    assert job(*replayed, "--output", repaired, run=replay.run) == (DONE, "")
    found = sorted((example["year"][0], example["month"][0], example["day"][0]) for example in examples(repaired))
    assert found == [(2013, 2, 3), (2013, 2, 4), (2014, 2, 3), (2014, 2, 4)]


def test_without_partitioning_a_folder_is_a_name(tmp_path):
    write_days(tmp_path / "in", "csv")
    assert run_prepare("--input", tmp_path / "in", "--partitioning=none", "--output", tmp_path / "out") == DONE
    assert {name for example in examples(tmp_path / "out") for name in example} == {"day", "wind"}


def test_files_that_come_have_the_columns_of_their_folders(tmp_path):
    write_days(tmp_path / "in", "csv")
    features = [Feature("day", Kind.INT), Feature("month", Kind.INT, required=True, complete=True)]
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        batches = pipeline | WatchRecords([str(tmp_path / "in")], "100ms", "csv", features, looks=3)
        months = batches | beam.FlatMap(lambda batch: batch.column("month").to_pylist())
        assert_that(months, equal_to([2] * 10 + [11] * 10))


@pytest.fixture
def dataset(tmp_path):
    write_csv(tmp_path / "in.csv", [{"a": row, "b": f"x{row}"} for row in range(100)], "ab")
    (tmp_path / "rules.yaml").write_text("rules: [{name: small, sql: a < 99}]")
    flags = ("--split", "train=0.8,eval=0.2", "--rules", tmp_path / "rules.yaml", "--output", tmp_path / "ds")
    assert run_prepare("--input", tmp_path / "in.csv", *flags) == DONE
    (tmp_path / "linked").symlink_to(tmp_path / "ds")
    (tmp_path / "beside").mkdir()
    (shard,) = (tmp_path / "ds" / "train").iterdir()
    (tmp_path / "beside" / "shard.tfrecord.gz").symlink_to(shard)
    return tmp_path / "ds"


def test_a_job_never_deletes_its_input(dataset, tmp_path):
    rules, letters = dataset / "rules.yaml", f"{dataset}/dead_letters/*.jsonl"
    (tmp_path / "rules.yaml").rename(rules)
    before = {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()}
    for flags in (
        ("--input", f"{dataset}/train/*.gz", "--output", dataset),
        ("--input", f"{dataset}/train", "--output", tmp_path / "linked"),
        ("--input", f"{tmp_path}/linked/train/*.gz", "--output", f"{tmp_path}/beside/../ds/"),
        ("--input", f"{tmp_path}/beside/*.gz", "--output", dataset),
        ("--input", f"{tmp_path}/*/train/*.gz", "--output", dataset),
        ("--input", f"{tmp_path}/in.csv", "--rules", rules, "--output", dataset),
        ("--input", f"{dataset}/train/*.gz", "--output", dataset, "--dry_run"),
    ):
        code, stderr = job(*flags, "--overwrite")
        assert code == WRONG_USAGE, flags
        assert "lies in --output" in stderr or "matches what the job writes to --output" in stderr
    code, stderr = job("--dead_letters", letters, "--output", dataset, "--overwrite", run=replay.run)
    assert (code, "lies in --output" in stderr) == (WRONG_USAGE, True)
    code, stderr = job("--dead_letters", letters, "--output", dataset.parent, "--watch", "1", run=replay.run)
    assert (code, "lies in --output" in stderr) == (WRONG_USAGE, True)
    assert {path: path.read_bytes() for path in sorted(dataset.rglob("*")) if path.is_file()} == before


def test_notes_of_columns_are_about_the_rows_of_each_window_whatever_the_rows_pass_through(tmp_path):
    for month in (1, 2):
        path = tmp_path / "in" / f"month={month}" / "rides.csv"
        path.parent.mkdir(parents=True)
        rows = [{"card": f"c{n % 5}", "n": n % 12, "t": 86_400 * (n % 3) + n} for n in range(24)]
        write_csv(path, rows, ["card", "n", "t"])
    whole = "presence { min_fraction: 1 }"
    schema = write_schema_file(tmp_path / "s.pbtxt", card=f"BYTES {whole}", n="INT", t=f"INT {whole}", month="INT")
    (tmp_path / "rules.yaml").write_text("unique: [month, n]")
    (tmp_path / "rolling.yaml").write_text("rolling: {key: card, window: 1h, features: {rides: {op: count}}}")
    steps = ("--rules", tmp_path / "rules.yaml", "--rolling", tmp_path / "rolling.yaml", "--max_reject_fraction=1")
    flags = (
        "--schema",
        schema,
        "--event_time=t:s",
        "--window=fixed:1d",
        "--num_shards=1",
        *steps,
        "--output",
        tmp_path / "out",
    )
    assert run_prepare("--input", tmp_path / "in", *flags) == DONE
    manifests = list(read_window_manifests(str(tmp_path / "out")))
    noted = [[(note.subject, note.count) for note in manifest.notes] for manifest in manifests]
    written = [sum(manifest.splits.values()) for manifest in manifests]
    assert noted == [[("month", rows)] for rows in written]
    assert len(written) == 3
    assert sum(written) == 24, "each key is there twice"
