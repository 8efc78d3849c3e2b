"""Datasets of Parquet shards, read by pyarrow, DuckDB and Polars."""

import json

import duckdb
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import job, run_prepare, write_csv, write_schema_file
from shards import write

import penstock
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shard_formats import parquet
from penstock.io.dataset.shard_formats.declared import fit_columns, shard_columns
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import ConfigError
from penstock.io.reserved import SPLIT
from penstock.io.write import WriteDataset
from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DONE

ROWS = 300
COLUMNS = pa.schema(
    [
        ("id", pa.int64()),
        ("price", pa.float64()),
        ("name", pa.string()),
        ("grid", pa.list_(pa.list_(pa.float64()))),
        ("raw", pa.binary()),
    ]
)


def table(rows=ROWS):
    return pa.RecordBatch.from_pylist(
        [
            {
                "id": i,
                "price": i + 0.1 if i % 5 else None,
                "name": f"näme {i}",
                "grid": [[0.1 * i, None], None, []] if i % 3 else None,
                "raw": b"\xff" * (i % 4),
            }
            for i in range(rows)
        ],
        schema=COLUMNS,
    )


def split_table():
    return table().append_column(SPLIT, pa.array(["eval" if i % 4 == 0 else "train" for i in range(ROWS)]))


def files(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in output.glob("[!_]*/**/*.parquet")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = tmp_path_factory.mktemp("parquet") / "out"
    batch = split_table()
    write(output, [batch.slice(0, 100), batch.slice(100)], splits=("train", "eval"), format="parquet", columns=COLUMNS)
    return output


def test_what_tf_examples_cannot_hold_is_kept(dataset):
    found = pa.concat_tables(pq.read_table(path) for path in sorted(dataset.rglob("*.parquet"))).sort_by("id")
    assert found.schema.equals(COLUMNS)
    assert found.to_pylist() == table().to_pylist()
    assert found.column("price")[1].as_py() == 1.1
    assert found.column("grid")[1].as_py() == [[0.1, None], None, []]


def test_duckdb_and_polars_read_the_same(dataset):
    query = f"select count(*), sum(price), max(name), sum(grid[1][1]) from '{dataset}/*/*.parquet'"
    (counted,) = duckdb.sql(query).fetchall()
    frame = polars.read_parquet(f"{dataset}/*/*.parquet")
    assert counted[:3] == (ROWS, pytest.approx(frame["price"].sum()), frame["name"].max())
    assert sorted(frame["id"]) == list(range(ROWS))
    assert frame.schema["grid"] == polars.List(polars.List(polars.Float64))


def test_manifest_names_the_format_and_the_dataset_is_good(dataset):
    manifest = read_manifest(str(dataset))
    assert (manifest.format, manifest.compression) == ("parquet", "zstd")
    assert manifest.media_type == "application/vnd.apache.parquet"
    assert list(verify_dataset(str(dataset))) == []


@pytest.mark.parametrize("changes", [{"workers": 2}, {"spill": False}, {}], ids=["workers", "runner", "batches"])
def test_files_do_not_depend_on_how_the_rows_came(dataset, tmp_path, changes):
    batch = split_table()
    pieces = [batch.slice(start, 17) for start in range(0, ROWS, 17)][::-1]
    write(tmp_path, pieces, splits=("train", "eval"), format="parquet", columns=COLUMNS, **changes)
    assert files(tmp_path) == files(dataset)


def test_id_does_not_depend_on_the_compression_but_on_names_and_types(tmp_path):
    def dataset_id(name, columns=COLUMNS, **options):
        write(tmp_path / name, [table()], format="parquet", columns=columns, **options)
        return read_manifest(str(tmp_path / name)).dataset_id

    plain, none = dataset_id("a"), dataset_id("b", compression="none")
    assert plain == none
    assert dataset_id("c", COLUMNS.append(pa.field("more", pa.int64()))) != plain
    text = COLUMNS.set(4, pa.field("raw", pa.list_(pa.binary())))
    assert dataset_id("d", text) != plain


def test_shard_without_rows_has_the_columns(tmp_path):
    write(tmp_path, [table(1)], num_shards=4, format="parquet", columns=COLUMNS)
    shards = [pq.ParquetFile(path) for path in sorted((tmp_path / "train").iterdir())]
    assert sorted(shard.metadata.num_rows for shard in shards) == [0, 0, 0, 1]
    assert all(shard.schema_arrow.equals(COLUMNS) for shard in shards)
    assert list(verify_dataset(str(tmp_path))) == []


def test_row_groups_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_MAX_GROUP_ROWS", 64)
    write(tmp_path, [table()], num_shards=1, format="parquet", columns=COLUMNS)
    metadata = pq.ParquetFile(tmp_path / "train" / "part-00000-of-00001.parquet").metadata
    assert [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)] == [64] * 4 + [44]


def test_rows_without_a_form_become_dead_letters(tmp_path):
    columns = pa.schema([("t", pa.string()), ("n", pa.int64()), ("l", pa.list_(pa.string()))])
    rows = pa.record_batch(
        {
            "t": pa.array([b"a", b"\xff", b"c", None]),
            "n": pa.array([[1], [2], [3, 4], None]),
            "l": pa.array([[b"x"], None, [b"y"], [b"z", b"\xfe"]]),
        }
    )
    write(tmp_path, [rows], format="parquet", columns=columns, letters=True, max_reject_fraction=1.0)
    manifest = read_manifest(str(tmp_path))
    assert (manifest.rows_out, manifest.rows_rejected) == (1, 3)
    assert manifest.rejected_by_reason == {"write.not_one_value": 1, "write.not_utf8": 2}
    letters = [json.loads(line) for line in (tmp_path / manifest.dead_letters[0].path).read_text().splitlines()]
    assert {letter["detail"].partition(":")[0] for letter in letters} == {"column 't'", "column 'n'", "column 'l'"}
    assert list(verify_dataset(str(tmp_path))) == []


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_a_null_in_a_list_is_written_and_no_fault(tmp_path, kind):
    columns = pa.schema([("n", pa.list_(pa.int64())), ("t", pa.list_(pa.string()))])
    rows = pa.record_batch({"n": [[1, None], None, [2]], "t": [["a"], [None], []]}, schema=columns)
    write(tmp_path, [rows], format=kind, columns=columns)
    found = [row for batch in penstock.load(tmp_path).batches(10) for row in batch.to_pylist()]
    assert sorted(found, key=str) == sorted(rows.to_pylist(), key=str)
    assert list(verify_dataset(str(tmp_path))) == []


@pytest.mark.parametrize(
    ("array", "target", "expected"),
    [
        (pa.array([1, None], pa.int8()), pa.int64(), [1, None]),
        (pa.array([1, 255], pa.uint8()), pa.int16(), [1, 255]),
        (pa.array([True, None]), pa.int64(), [1, None]),
        (pa.array([0.5, None], pa.float32()), pa.float64(), [0.5, None]),
        (pa.array(["a", None]), pa.binary(), [b"a", None]),
        (pa.array(["a", "b"]).dictionary_encode(), pa.string(), ["a", "b"]),
        (pa.array(["a", "b"], pa.large_string()), pa.string(), ["a", "b"]),
        (pa.array(["a", "b"], pa.string_view()), pa.string(), ["a", "b"]),
        (pa.array([1, None]), pa.list_(pa.int64()), [[1], None]),
        (pa.array([[1], None, [2]], pa.large_list(pa.int32())), pa.list_(pa.int64()), [[1], None, [2]]),
        (pa.array([[1, 2]], pa.list_(pa.int64(), 2)), pa.list_(pa.int64()), [[1, 2]]),
        (pa.array([[1], None, [None]]), pa.int64(), [1, None, None]),
        (pa.nulls(2), pa.list_(pa.string()), [None, None]),
    ],
    ids=str,
)
def test_columns_of_narrower_types_are_widened(array, target, expected):
    rows, faults = fit_columns(pa.record_batch({"x": array}), pa.schema([("x", target)]))
    assert (rows.column("x").type, rows.column("x").to_pylist(), faults) == (target, expected, {})


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (pa.int64(), pa.float64()),
        (pa.float64(), pa.float32()),
        (pa.int64(), pa.int32()),
        (pa.uint64(), pa.int64()),
        (pa.int64(), pa.uint64()),
        (pa.int64(), pa.string()),
        (pa.string(), pa.int64()),
        (pa.list_(pa.list_(pa.int64())), pa.list_(pa.int32())),
    ],
    ids=str,
)
def test_types_that_might_lose_a_value_are_refused(source, target):
    batch = pa.record_batch([pa.array([], source)], ["x"])
    with pytest.raises(ConfigError, match=r"column 'x' has type .*, and the dataset declares it as"):
        fit_columns(batch, pa.schema([("x", target)]))


def test_columns_that_are_not_declared_are_refused():
    with pytest.raises(ConfigError, match=r"column 'y' is not among the columns of the dataset \(x\): declare"):
        fit_columns(pa.record_batch({"x": [1], "y": [1]}), pa.schema([("x", pa.int64())]))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (None, "the format parquet needs columns: the Arrow schema that all shards share"),
        (pa.schema([("x", pa.int64()), ("x", pa.int64())]), "column names must be unique, got x, x"),
        (pa.schema([("x", pa.struct([]))]), "column 'x' has type struct<>"),
    ],
)
def test_columns_that_shards_cannot_have_are_refused_early(columns, message):
    with pytest.raises(ConfigError, match=message):
        WriteDataset("out", format="parquet", columns=columns).spec.shard_format()


def test_columns_are_stored_in_plain_types():
    given = pa.schema([pa.field("x", pa.large_list(pa.large_string()), nullable=False, metadata={"a": "b"})])
    assert shard_columns(given) == pa.schema([("x", pa.list_(pa.string()))])


def damage(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)


def test_verify_finds_a_damaged_shard(dataset, tmp_path):
    write(tmp_path, [table()], num_shards=1, format="parquet", columns=COLUMNS)
    damage(tmp_path / "train" / "part-00000-of-00001.parquet")
    assert {fault.code for fault in verify_dataset(str(tmp_path))} >= {"shard.crc32c", "shard.broken"}
    (tmp_path / "train" / "part-00000-of-00001.parquet").write_bytes(b"PAR1")
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {"shard.bytes", "shard.broken"}


def test_verify_finds_rows_that_were_exchanged(tmp_path):
    """A whole file of Parquet, but of other rows: its own checksums are right, those of the manifest are not."""
    write(tmp_path, [table()], num_shards=1, format="parquet", columns=COLUMNS)
    path = tmp_path / "train" / "part-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).slice(0, ROWS - 1), path)
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == {
        "shard.bytes",
        "shard.records",
        "shard.sha256",
        "shard.uncompressed_bytes",
    }
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps({**manifest, "format": "orc"}))
    assert "manifest.format" in {fault.code for fault in verify_dataset(str(tmp_path))}


def numbers(path, rows=200):
    return write_csv(path, [{"id": i, "x": repr(i / 7), "time": 60 * i} for i in range(rows)], ("id", "x", "time"))


def test_job_from_csv_to_parquet_and_back_to_the_same_numbers(tmp_path):
    source, out = numbers(tmp_path / "rows.csv"), tmp_path / "out"
    flags = ("--output_format=parquet", "--split=train=0.5,eval=0.5", "--num_shards=2")
    assert run_prepare("--input", source, "--output", out, *flags) == DONE
    found = pq.read_table(out / "train").to_pylist() + pq.read_table(out / "eval").to_pylist()
    assert sorted((row["id"], row["x"]) for row in found) == [(i, i / 7) for i in range(200)]
    assert list(verify_dataset(str(out))) == []
    assert run_prepare("--input", f"{out}/*/*.parquet", "--output", tmp_path / "again", *flags) == DONE
    assert files(tmp_path / "again") == files(out)


def test_verify_finds_rows_that_do_not_conform_to_the_schema(tmp_path):
    source, out = numbers(tmp_path / "rows.csv"), tmp_path / "out"
    schema = write_schema_file(tmp_path / "schema.pbtxt", id="INT", x="FLOAT", time="INT")
    flags = ("--output_format=parquet", "--num_shards=1")
    assert run_prepare("--input", source, "--schema", schema, "--output", out, *flags) == DONE
    narrow = (out / "schema.pbtxt").read_text().replace('name: "id"', 'name: "id" int_domain { max: 197 }')
    (out / "schema.pbtxt").write_text(narrow)
    faults = {fault.code: fault.detail for fault in verify_dataset(str(out))}
    assert set(faults) == {"schema.changed", "schema.domain"}
    assert faults["schema.domain"].startswith("2 records do not conform to the schema: row ")


def test_windows_are_parquet_too(tmp_path):
    source, out = numbers(tmp_path / "rows.csv", 20), tmp_path / "out"
    flags = ("--output_format=parquet", "--event_time=time:s", "--window=fixed:10m", "--num_shards=1")
    assert run_prepare("--input", source, "--output", out, *flags) == DONE
    windows = list(read_window_manifests(str(out)))
    assert [(window.format, window.rows_out) for window in windows] == [("parquet", 10)] * 2
    assert [pq.read_table(out / window.shards[0].path).num_rows for window in windows] == [10, 10]
    assert list(verify_dataset(str(out))) == []


def test_job_refuses_a_compression_that_the_format_does_not_have(tmp_path):
    source = numbers(tmp_path / "rows.csv", 2)
    code, said = job("--input", source, "--output", tmp_path / "o", "--output_format=parquet", "--compression=zlib")
    assert (code, "must be one of zstd, snappy, gzip, none for the format parquet, got 'zlib'" in said) == (2, True)
