"""The index of a shard, as `source()` uses it, `verify` checks it, and any other program can read it."""

import dataclasses
import glob
import json
import shutil
import struct

import numpy as np
import pyarrow as pa
import pytest
import shards

import penstock
from penstock.io.dataset.load.shards import index as indexes
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError, DataError, InputError
from penstock.transforms.verify import verify_dataset

ROWS = 700
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("clicks", pa.list_(pa.int64()))])


@pytest.fixture(scope="module", params=["tfrecord", "sequence_example"])
def written(request, tmp_path_factory):
    columns = {"columns": SCHEMA} if request.param == "sequence_example" else {}
    folder = tmp_path_factory.mktemp(request.param) / "dataset"
    shards.write(folder, [rows(ROWS)], index=True, format=request.param, **columns)
    return folder


def rows(count):
    some = [{"id": n, "name": "n" * (n % 50), "clicks": list(range(n % 4))} for n in range(count)]
    return pa.RecordBatch.from_pylist(some, SCHEMA)


@pytest.fixture
def dataset(written, tmp_path):
    return shutil.copytree(written, tmp_path / "dataset")


def frames_of(content):
    """Where frames begin, and the last one ends, by nothing but the format of TFRecord."""
    offsets = [0]
    while offsets[-1] < len(content):
        (length,) = struct.unpack_from("<Q", content, offsets[-1])
        offsets.append(offsets[-1] + 8 + 4 + length + 4)
    return offsets


def codes(folder):
    return [(fault.code, fault.path) for fault in verify_dataset(str(folder))]


def first(folder):
    return read_manifest(str(folder)).shards[0]


def edit_index(folder, **changes):
    fields = json.loads((folder / "manifest.json").read_text())
    fields["shards"][0]["index"].update(changes)
    (folder / "manifest.json").write_text(json.dumps(fields))


def test_an_index_is_where_the_frames_are(written):
    found = read_manifest(str(written))
    assert (found.compression, len(found.shards)) == ("none", 3)
    for shard in found.shards:
        assert shard.index.path == f"_index/{shard.path}.index"
        content = (written / shard.index.path).read_bytes()
        offsets = struct.unpack(f"<{shard.records + 1}Q", content)
        assert list(offsets) == frames_of((written / shard.path).read_bytes())
        assert len(content) == shard.index.bytes
    assert codes(written) == []
    assert len(glob.glob(f"{written}/train/*")) == 3, "a pattern of shards finds no index"


def test_a_source_reads_no_shard_to_find_records(written, monkeypatch):
    expected = next(iter(penstock.load(written, "train").batches(ROWS)))["id"].to_pylist()
    monkeypatch.setattr(indexes, "read_frames", lambda *_, **__: pytest.fail("the shard was read"))
    source = penstock.load(written, "train").source()
    assert [int(row["id"]) for row in source.__getitems__(range(ROWS))] == expected
    assert int(source[ROWS - 1]["id"]) == expected[-1]


def test_shards_without_records_have_an_index_too(tmp_path):
    shards.write(tmp_path / "few", [rows(2)], index=True, num_shards=7)
    found = read_manifest(str(tmp_path / "few"))
    assert sorted(shard.index.bytes for shard in found.shards)[:5] == [8] * 5
    assert codes(tmp_path / "few") == []
    assert {int(row["id"]) for row in penstock.load(tmp_path / "few").source()} == {0, 1}


def test_a_shard_without_an_index_is_read_once(dataset, tmp_path):
    fields = json.loads((dataset / "manifest.json").read_text())
    for shard in fields["shards"]:
        del shard["index"]
    (dataset / "manifest.json").write_text(json.dumps(fields))
    shutil.rmtree(dataset / "_index")
    assert codes(dataset) == []
    assert '"index"' not in read_manifest(str(dataset)).to_json()
    assert len({int(row["id"]) for row in penstock.load(dataset, "train").source()}) == ROWS


@pytest.mark.parametrize(
    ("damage", "message", "code"),
    [
        (lambda path: path.unlink(), "the index cannot be read: .*No such file", "file.missing"),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-8]),
            "the index has .* bytes, and",
            "index.wrong",
        ),
        (
            lambda path: path.write_bytes(path.read_bytes()[:16] + b"\xff" + path.read_bytes()[17:]),
            "the index is damaged, .*: its CRC32C is not that of the manifest; copy the dataset again",
            "index.wrong",
        ),
    ],
    ids=["missing", "cut off", "damaged"],
)
def test_an_index_that_is_not_as_the_manifest_says_is_an_error(dataset, damage, message, code):
    path = first(dataset).index.path
    damage(dataset / path)
    assert codes(dataset) == [(code, path)]
    with pytest.raises(DataError, match=rf"{path}: {message}"):
        penstock.load(dataset, "train").source()[0]
    assert sum(len(batch) for batch in penstock.load(dataset, "train").batches(100)) == ROWS, "batches need none"


def test_an_index_of_another_shard_is_found(dataset):
    mine, other = read_manifest(str(dataset)).shards[:2]
    edit_index(dataset, **dataclasses.asdict(other.index))
    assert codes(dataset) == [("file.orphan", mine.index.path), ("index.wrong", other.index.path)]
    with pytest.raises(DataError, match=f"the index is not that of {mine.path}, which has {mine.records} records"):
        penstock.load(dataset, "train").source()[0]


def test_offsets_that_were_written_wrong_are_found(dataset):
    index = first(dataset).index
    offsets = np.fromfile(dataset / index.path, "<u8")
    offsets[3] += 1
    (dataset / index.path).write_bytes(offsets.tobytes())
    edit_index(dataset, crc32c=f"{indexes.crc32c.extend(0, offsets.tobytes()):08x}")
    (fault,) = verify_dataset(str(dataset))
    wrong, right = int(offsets[3]), int(offsets[3]) - 1
    assert fault.detail == f"says that record 2 ends at byte {wrong}, and it does at byte {right}"
    with pytest.raises(InputError, match="does not match its CRC"):
        penstock.load(dataset, "train").source()[2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compression": "gzip"}, "shards with gzip can only be read from their beginning: pass compression none"),
        ({"format": "parquet"}, "of the formats tfrecord and sequence_example, and the format parquet finds its rows"),
        ({"format": "webdataset"}, "and the format webdataset finds its rows in its own way"),
    ],
)
def test_what_has_no_index_is_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DatasetSpec("out", index=True, **options)


def test_with_an_index_shards_are_not_compressed():
    assert (DatasetSpec("out", index=True).suffix, DatasetSpec("out").suffix) == (".tfrecord", ".tfrecord.gz")
    with pytest.raises(ConfigError, match="a split must be named"):
        DatasetSpec("out", splits=("_index",))
