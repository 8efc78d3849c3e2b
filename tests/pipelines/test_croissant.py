"""The metadata of a dataset in Croissant; tests/integration has `mlcroissant` validate and read it."""

import hashlib
import json

import pyarrow as pa
import pytest
from helpers import job, manifest_of, run_prepare, write_csv

from penstock.transforms.verify import verify_dataset
from pipelines import croissant, status
from pipelines._lineage.croissant import Described, StoredFile
from pipelines._lineage.croissant import croissant as metadata

ROWS = [{"x": number, "name": f"n{number}"} for number in range(40)]
COLUMNS = pa.schema(
    [("n", pa.int64()), ("f", pa.list_(pa.float32())), ("a b/é", pa.string()), ("t", pa.timestamp("us", "UTC"))]
)


def made(**changes):
    described = Described("flights", "Flights.", "3.0.0", "2026-11-28T00:00:00Z", **changes)
    files = [StoredFile("train/part-0", "train", 10, "00"), StoredFile("mine/part-0", "mine", 5, "11")]
    return metadata(described, COLUMNS, {"train": 7, "mine": 3}, files, "application/x-tfrecord")


def nodes(found, kind):
    return {node["@id"]: node for node in (*found["distribution"], *found["recordSet"]) if node["@type"] == kind}


def test_shards_are_files_and_splits_are_records_of_sets_of_them():
    found = made()
    assert nodes(found, "cr:FileObject")["mine/part-0"] == {
        "@type": "cr:FileObject",
        "@id": "mine/part-0",
        "name": "mine/part-0",
        "contentUrl": "mine/part-0",
        "contentSize": "5 B",
        "encodingFormat": "application/x-tfrecord",
        "sha256": "11",
    }
    assert {name: node["includes"] for name, node in nodes(found, "cr:FileSet").items()} == {
        "shards-of-train": ["train/part-0"],
        "shards-of-mine": ["mine/part-0"],
    }
    fields = nodes(found, "cr:RecordSet")["records-of-mine"]["field"]
    assert [(field["name"], field["dataType"], field.get("repeated")) for field in fields] == [
        ("n", "cr:Int64", None),
        ("f", "cr:Float32", True),
        ("a b/é", "sc:Text", None),
        ("t", "sc:DateTime", None),
    ]
    assert fields[2]["@id"] == "records-of-mine/a%20b%2F%C3%A9"
    assert fields[2]["source"] == {"fileSet": {"@id": "shards-of-mine"}, "extract": {"column": "a b/é"}}
    purposes = nodes(found, "cr:RecordSet")["names-of-splits"]["data"]
    assert [one["names-of-splits/url"].rpartition("/")[2] for one in purposes] == ["TrainingSplit", "Split"]


def test_what_nobody_said_is_not_there():
    assert not {"license", "url", "creator", "citeAs", "isLiveDataset"} & {*made()}
    said = made(license="MIT", creator="Me", cite_as="Me (2026)", is_live=True)
    assert (said["license"], said["creator"]["name"], said["citeAs"], said["isLiveDataset"]) == (
        "MIT",
        "Me",
        "Me (2026)",
        True,
    )


def test_a_dataset_is_described_beside_its_manifest(tmp_path, capsys):
    dataset = tmp_path / "flights"
    write_csv(tmp_path / "in.csv", ROWS, ["x", "name"])
    flags = ("--input", tmp_path / "in.csv", "--output", dataset, "--split", "train=0.5,eval=0.5")
    assert run_prepare(*flags) == 0
    capsys.readouterr()
    path = dataset / "croissant.json"
    assert croissant.run([str(dataset)]) == 0
    printed = capsys.readouterr().out
    assert croissant.run([str(dataset), "--output", str(path)]) == 0
    assert path.read_text() == printed
    found = json.loads(printed)
    assert (found["name"], found["version"]) == ("flights", "1.0.0")
    assert found["datePublished"] == manifest_of(dataset).created
    for file in nodes(found, "cr:FileObject").values():
        assert file["sha256"] == hashlib.sha256((dataset / file["contentUrl"]).read_bytes()).hexdigest()
    assert list(verify_dataset(str(dataset))) == []
    assert status.run(["--output", str(dataset), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["unknown"] == []
    assert run_prepare(*flags, "--overwrite") == 0
    assert not path.exists(), "it is of the dataset that was replaced"


def test_a_shard_that_is_damaged_is_an_error(tmp_path):
    write_csv(tmp_path / "in.csv", ROWS, ["x", "name"])
    assert run_prepare("--input", tmp_path / "in.csv", "--output", tmp_path / "out") == 0
    shard = tmp_path / "out" / manifest_of(tmp_path / "out").shards[0].path
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    code, said = job(tmp_path / "out", run=croissant.run)
    assert (code, f"{shard}: is not as the manifest says; see penstock verify" in said) == (1, True)


@pytest.mark.parametrize("given", [[], ["a", "b"]])
def test_one_dataset_is_described(given):
    code, said = job(*given, run=croissant.run)
    assert (code, "DATASET is required, one folder that a job wrote" in said) == (2, True)
