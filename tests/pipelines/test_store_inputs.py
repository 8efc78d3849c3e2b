"""Inputs in object stores: lists that lie there or name what does, and objects that change under a job."""

import datetime
import json
import urllib.parse

import pytest
from dealt import on_stores
from helpers import run_prepare
from store_fixtures import bucket, emulator  # noqa: F401

from penstock.io.dataset.manifest import read_manifest
from penstock.io.errors import ChangedFileError, InputError
from penstock.io.files import stores
from penstock.io.files.inputs import find_files, stat_file
from penstock.io.sources.inputs import find_inputs
from penstock.io.sources.read import ReadRecords
from pipelines import profile
from pipelines._jobs import prepare as prepare_job

SMALL = "".join(f"{row},{row / 2}\n" for row in range(300))
LARGE = "".join(f"{row},{row / 2}\n" for row in range(60_000))
HEADER = "id,x\n"


@pytest.fixture
def folder(bucket):  # noqa: F811
    for day in (1, 2):
        stores.write_file(f"{bucket}/in/day={day}/dätä [1]+.csv", (HEADER + SMALL).encode())
    return f"{bucket}/in"


def objects(folder):
    return sorted(find_files([f"{folder}/"]).files)


def test_versions_are_the_same_however_an_object_is_found(folder):
    found = objects(folder)
    assert all(file.version for file in found)
    assert found == [stat_file(file.uri) for file in found]
    for file in found:
        with stores.open_file(file.uri, file.size, file.version) as opened:
            assert len(opened.read()) == file.size
        stores.write_file(file.uri, b"other")
        with (
            stores.open_file(file.uri, file.size, file.version) as opened,
            pytest.raises(ChangedFileError, match="the object was replaced while it was read"),
        ):
            opened.read()


def test_a_list_in_a_store(folder, bucket):  # noqa: F811
    text = "# days\n../in/day=1/*.csv\n" + folder + "/day=2/\n" + folder + "/day=1/dätä [1]+.csv\n"
    stores.write_file(f"{bucket}/lists/may.txt", text.encode())
    assert find_inputs([f"@{bucket}/lists/may.txt"]) == tuple(objects(folder))
    stores.write_file(f"{bucket}/lists/may.txt", f"{folder}/day=1/*.csv\n{folder}/none.csv\n".encode())
    with pytest.raises(InputError, match=rf"^{bucket}/lists/may\.txt:2: no file matches {folder}/none\.csv"):
        find_inputs([f"@{bucket}/lists/may.txt"])
    with pytest.raises(
        InputError, match=rf"^@{bucket}/lists/none\.txt: the list cannot be read: .*: no such object in"
    ):
        find_inputs([f"@{bucket}/lists/none.txt"])


@on_stores("az")
def test_a_dataset_in_a_store(folder, bucket):  # noqa: F811
    assert run_prepare(f"--input={folder}/", f"--output={bucket}/one", "--num_shards=2") == 0
    assert run_prepare(f"--input=@{bucket}/one/manifest.json", f"--output={bucket}/two", "--num_shards=2") == 0
    one, two = read_manifest(f"{bucket}/one"), read_manifest(f"{bucket}/two")
    assert two.rows_out == one.rows_out == 600
    assert {entry["crc32c"] for entry in two.provenance["inputs"]} == {shard.crc32c for shard in one.shards}
    shard = f"{bucket}/one/{one.shards[0].path}"
    content = bytearray(stores.read_file(shard))
    content[len(content) // 2] ^= 1
    stores.write_file(shard, bytes(content))
    with pytest.raises(InputError, match=r"its CRC32C is [0-9a-f]{8}, and must be [0-9a-f]{8}, as the manifest"):
        run_prepare(f"--input=@{bucket}/one", f"--output={bucket}/three")


def inventory(files):
    """An inventory as the store of these files would write it."""
    rows = []
    for file in files:
        name, _, key = file.uri.partition("://")[2].partition("/")
        time = datetime.datetime.fromtimestamp(file.mtime, datetime.UTC).isoformat(timespec="milliseconds")
        tag = file.version.strip('"')
        match file.uri.partition("://")[0]:
            case "s3":
                rows.append(f'"{name}","{urllib.parse.quote(key)}","{file.size}","{time}","{tag}"')
            case "gs":
                rows.append(f"{name},{key},{file.size},{time},{tag}")
            case _:
                rows.append(f"{name}/{key},{file.size},{time},{tag}")
    names = {"s3": "Bucket,Key,Size,LastModifiedDate,ETag", "gs": "bucket,name,size,updated,generation"}
    header = names.get(files[0].uri.partition("://")[0], "Name,Content-Length,Last-Modified,Etag")
    return header, "\n".join(rows) + "\n"


def test_an_inventory(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    header, rows = inventory(objects(folder))
    (tmp_path / "named.csv").write_text(f"{header}\n{rows}")
    (tmp_path / "bare.csv").write_text(rows)
    named, there = find_inputs(["@named.csv"]), objects(folder)
    assert [(file.uri, file.size, file.version) for file in named] == [
        (file.uri, file.size, file.version) for file in there
    ]
    assert profile.run(["--input=@bare.csv", f"--inventory_columns={header}"]) == 0
    assert "600 rows" in capsys.readouterr().out
    stores.write_file(there[0].uri, (HEADER + SMALL).encode() + b"1,1\n")
    with pytest.raises(
        InputError, match=r"changed while it was read: it is no longer version .* in a list that names it"
    ):
        profile.run(["--input=@named.csv"])


def test_an_inventory_without_versions(folder, tmp_path):
    files = objects(folder)
    header, rows = inventory(files)
    if not header.startswith("Bucket"):
        pytest.skip("the columns of one store will do")
    bare = "".join(",".join(line.split(",")[:4]) + "\n" for line in rows.splitlines())
    (tmp_path / "i.csv").write_text(f"Bucket,Key,Size,LastModifiedDate\n{bare}")
    assert profile.run([f"--input=@{tmp_path}/i.csv"]) == 0
    stores.write_file(files[0].uri, (HEADER + SMALL).encode() + b"1,1\n")
    with pytest.raises(InputError, match=r"changed while it was read: \d+ bytes at the start, \d+ now"):
        profile.run([f"--input=@{tmp_path}/i.csv"])


@pytest.mark.parametrize("step", ["look_at", "write_schema"])
def test_an_object_that_is_replaced_under_a_job(bucket, monkeypatch, tmp_path, step):  # noqa: F811
    """Before its first row is read, and between the schema and the rows, by one of the same size."""
    uri = f"{bucket}/in/a.csv"
    stores.write_file(uri, (HEADER + LARGE).encode())
    before = stat_file(uri)
    do = getattr(prepare_job, step)

    def replace_and_do(*args):
        stores.write_file(uri, (HEADER + LARGE.replace("0", "1")).encode())
        return do(*args)

    monkeypatch.setattr(prepare_job, step, replace_and_do)
    with pytest.raises(
        InputError, match=rf"{uri} changed while it was read: it is no longer version {before.version}, "
    ):
        run_prepare(f"--input={uri}", f"--output={tmp_path}/out")
    assert not (tmp_path / "out" / "manifest.json").exists()
    assert before.size == stat_file(uri).size


def test_the_manifest_has_the_versions(folder, tmp_path):
    assert run_prepare(f"--input={folder}/", f"--output={tmp_path}/out") == 0
    provenance = json.loads((tmp_path / "out" / "manifest.json").read_text())["provenance"]
    assert [(entry["uri"], entry["version"]) for entry in provenance["inputs"]] == [
        (file.uri, file.version) for file in objects(folder)
    ]


def test_files_that_were_found_before(folder):
    files = objects(folder)
    assert ReadRecords(files)._found().files == tuple(files)
