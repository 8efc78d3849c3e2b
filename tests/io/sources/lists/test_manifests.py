"""Manifests as lists: of datasets, whose shards are read as what they are, and of inventories."""

import gzip
import json
import pathlib
import re

import pytest
from helpers import batches_of, manifest_of, run_prepare, write_csv

from penstock.io.errors import ConfigError, InputError
from penstock.io.files.inputs import check_crc32c
from penstock.io.sources.inputs import find_inputs, find_named
from penstock.io.sources.read import ReadRecords

ROWS = [{"id": row, "time": 60 * (row // 5)} for row in range(20)]


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "rows.csv", ROWS, ["id", "time"])

    def make(*flags):
        assert run_prepare("--input=rows.csv", "--output=out", "--num_shards=2", *flags) == 0
        return pathlib.Path("out")

    return make


def ids(*inputs, **options):
    values = [value for batch in batches_of(ReadRecords(inputs, **options)) for value in batch.column("id").to_pylist()]
    return sorted(value[0] if isinstance(value, list) else value for value in values)


@pytest.mark.parametrize("form", ["tfrecord", "parquet"])
def test_the_shards_of_a_dataset(dataset, form):
    out = dataset("--split=train=0.5,eval=0.5", f"--output_format={form}")
    assert ids("@out/manifest.json") == ids("@out") == ids("@out/") == list(range(20))
    manifest = manifest_of(out)
    found = find_named(["@out/manifest.json"])
    assert {file.uri: file.crc32c for file in found.files} == {f"out/{s.path}": s.crc32c for s in manifest.shards}
    assert [file.version for file in found.files] == [
        str(pathlib.Path(file.uri).stat().st_mtime_ns) for file in found.files
    ]
    [told] = [each.describe() for each in found.lists]
    assert told.items() >= {"kind": "dataset", "files": 4, "dataset_ids": [manifest.dataset_id]}.items()


def test_a_manifest_in_the_working_folder(dataset, monkeypatch):
    out = dataset()
    monkeypatch.chdir(out)
    assert ids("@manifest.json") == ids("@.") == list(range(20))


def test_windows(dataset, monkeypatch):
    dataset("--event_time=time:s", "--window=fixed:60s")
    assert ids("@out") == list(range(20))
    windows = sorted(pathlib.Path("out/windows").iterdir())
    assert ids(f"@{windows[1]}") == [5, 6, 7, 8, 9]
    monkeypatch.chdir("out/windows")
    assert ids(f"@{windows[1].name}") == [5, 6, 7, 8, 9]
    monkeypatch.chdir("..")
    assert ids(f"@windows/{windows[1].name}") == [5, 6, 7, 8, 9]


def test_windows_that_overlap(dataset):
    dataset("--event_time=time:s", "--window=sliding:120s/60s")
    with pytest.raises(InputError, match=r"^@out: the windows of the dataset overlap, .*: name one window, such as "):
        find_inputs(["@out"])
    window = min(pathlib.Path("out/windows").iterdir())
    assert ids(f"@{window}") == [0, 1, 2, 3, 4]


def test_shards_that_are_read_as_something_else(dataset):
    dataset("--output_format=sequence_example")
    with pytest.raises(ConfigError, match=r"^@out: the shards .* are read with --record_type sequence_example$"):
        ids("@out")
    manifest = json.loads(pathlib.Path("out/manifest.json").read_text())
    pathlib.Path("out/manifest.json").write_text(json.dumps({**manifest, "format": "arrayrecord"}))
    with pytest.raises(
        InputError, match=r"^@out: its shards are of the format arrayrecord, which is no input: prepare"
    ):
        find_inputs(["@out"])


def test_a_format_that_the_shards_do_not_have(dataset):
    dataset()
    with pytest.raises(ConfigError, match=r"^@out: the shards of the dataset are TFRecord: pass --format tfrecord$"):
        ids("@out", format="csv")


def flip(shard):
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (
            flip,
            r"part-00000-of-00002\.tfrecord\.gz: its CRC32C is [0-9a-f]{8}, and must be [0-9a-f]{8}, as the manifest",
        ),
        (lambda shard: shard.unlink(), r"@out: names train/part-00000-of-00002\.tfrecord\.gz, which is not there; "),
        (
            lambda shard: shard.write_bytes(b"x"),
            r"out/train/part-00000.*: has 1 bytes, and must have \d+, as the manif",
        ),
    ],
    ids=["flipped", "gone", "short"],
)
def test_a_damaged_shard(dataset, harm, message):
    harm(dataset() / "train" / "part-00000-of-00002.tfrecord.gz")
    with pytest.raises(Exception, match=message):
        ids("@out")


def test_a_shard_that_changed_since_it_was_right(dataset):
    shard = dataset() / "train" / "part-00000-of-00002.tfrecord.gz"
    found = find_inputs(["@out"])
    check_crc32c(found[0])
    flip(shard)
    with pytest.raises(Exception, match=r"part-00000-of-00002\.tfrecord\.gz changed while it was read: written at "):
        batches_of(ReadRecords(found))


def test_a_manifest_that_is_named_as_a_file_is_told(dataset, caplog):
    dataset()
    assert find_inputs(["out/manifest.json"])[0].uri == "out/manifest.json"
    assert "the rows of its shards are --input @out/manifest.json" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.json", "{", r"^@x\.json: the list is not JSON: .*; a list of paths is a \.txt file$"),
        ("x.json", "[]", r"^@x\.json: the list is no manifest of a dataset, nor of an inventory of S3 or Google: "),
        ("x.json", '{"version": 9}', r"^@x\.json: the list is no manifest .*: manifest version must be 1, got 9$"),
        ("in/x.csv", "", r"^@in: the folder has no manifest\.json, so that it is no dataset, or no whole one$"),
        ("x.json", '{"fileSchema": "Bucket, Key", "fileFormat": "ORC"}', r"^@x\.json: the inventory is ORC: only "),
        ("x.json", '{"fileSchema": "Bucket, Key", "fileFormat": "CSV"}', r"^@x\.json: the manifest of .* is damaged: "),
        ("x.json", '{"report_shards_file_names": []}', r"^@x\.json: the manifest of the inventory is damaged: "),
    ],
)
def test_what_is_no_manifest(tmp_path, monkeypatch, name, content, message):
    monkeypatch.chdir(tmp_path)
    pathlib.Path(name).parent.mkdir(exist_ok=True)
    pathlib.Path(name).write_text(content)
    with pytest.raises(InputError, match=message):
        find_inputs([f"@{name.partition('/')[0]}"])


def test_an_inventory_of_s3_that_was_copied_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    day = tmp_path / "cfg" / "2026-05-01T00-00Z"
    for folder in (day, tmp_path / "cfg" / "data"):
        folder.mkdir(parents=True)
    keys = [{"key": f"inv/b/cfg/data/{part}.csv.gz", "size": 9, "MD5checksum": "x"} for part in "12"]
    manifest = {
        "sourceBucket": "b",
        "destinationBucket": "arn:aws:s3:::elsewhere",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, ETag",
        "files": keys,
    }
    (day / "manifest.json").write_text(json.dumps(manifest))
    for part in "12":
        line = f'"b","in/day%3D{part}/a.csv","5","e{part}"\n'
        (tmp_path / "cfg" / "data" / f"{part}.csv.gz").write_bytes(gzip.compress(line.encode()))
    found = find_inputs([f"@{day}/manifest.json"])
    assert [(file.uri, file.size, file.version) for file in found] == [
        ("s3://b/in/day=1/a.csv", 5, '"e1"'),
        ("s3://b/in/day=2/a.csv", 5, '"e2"'),
    ]


@pytest.mark.parametrize("has_header", [True, False])
def test_an_inventory_report_of_google(tmp_path, has_header):
    fields = ["bucket", "name", "size", "generation"]
    manifest = {
        "report_config": {
            "csv_options": {"delimiter": ";", "header_required": has_header, "record_separator": "\n"},
            "object_metadata_report_options": {"metadata_fields": fields},
        },
        "report_shards_file_names": ["r_0.csv"],
    }
    (tmp_path / "r_manifest.json").write_text(json.dumps(manifest))
    header = ";".join(fields) + "\n" if has_header else ""
    (tmp_path / "r_0.csv").write_text(f"{header}b;in/a.csv;5;17\n")
    [found] = find_inputs([f"@{tmp_path}/r_manifest.json"])
    assert (found.uri, found.size, found.version) == ("gs://b/in/a.csv", 5, "17")
    del manifest["report_config"]["csv_options"]
    (tmp_path / "r_manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=re.escape("the inventory is Parquet: only inventories of CSV can be read")):
        find_inputs([f"@{tmp_path}/r_manifest.json"])
