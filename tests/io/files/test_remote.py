"""The sink and what reads it on a filesystem without directories, as object stores are."""

import contextlib
import functools
import tempfile
from unittest import mock

import apache_beam as beam
import pyarrow as pa
import pytest
import shards
from apache_beam.io.filesystem import BeamIOError
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from memory_store import OBJECTS, MemoryObjects

import penstock
from penstock.io.dataset.layout import Staging, check_output
from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.publish import read_outcome
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.errors import ConfigError, InputError
from penstock.io.files.folders import copy_folder, delete_files, list_files, remove_folder
from penstock.io.files.inputs import find_files, match_files
from penstock.io.formats.csv.format import CsvFormat
from penstock.io.write import WriteDataset
from penstock.transforms.verify import verify_dataset
from pipelines import prepare, verify


@pytest.fixture(autouse=True)
def _empty_store(tmp_path, monkeypatch):
    OBJECTS.clear()
    # Runs of one name spill to one folder of the machine's temporary folder, and tests run side by side.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def batch():
    values = [[float(i)] if i % 40 else [1.0, None] for i in range(400)]
    return pa.record_batch({"id": pa.array(range(400), pa.int64()), "values": pa.array(values)})


def _at(batches, index):
    return batches[index]


def write(output, run_id="r1", spill=True, **options):
    staging = Staging(output, run_id)
    with FileSystems.create(staging.path("transform", "fn", "saved_model.pb")) as file:
        file.write(b"a graph")
    with beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([])) as pipeline:
        parts = [batch().slice(start, 90) for start in range(0, 400, 90)]
        rows = pipeline | beam.Create(list(range(len(parts))))
        rows = rows | beam.Map(functools.partial(_at, parts)).with_output_types(pa.RecordBatch)
        _ = rows | WriteDataset(
            output,
            num_shards=3,
            run_id=run_id,
            spill=spill,
            dead_letters=DeadLetterHandler(staging.dead_letters, run_id),
            extras=("transform",),
            **options,
        )
    return read_outcome(staging)


def faults(output):
    return [fault.code for fault in verify_dataset(output) if fault.path != "transform"]


@pytest.mark.parametrize("spill", [True, False], ids=["spilled", "runner"])
@pytest.mark.parametrize("output", ["mem://bucket/a/data set ü", "mem://bucket/out/"])
def test_dataset_on_an_object_store(output, spill):
    assert write(output, spill=spill).status == "published"
    root = output.rstrip("/")
    assert sorted(OBJECTS) == [
        f"{root}/dead_letters/part-00000-of-00001.jsonl",
        f"{root}/manifest.json",
        f"{root}/schema.pbtxt",
        f"{root}/train/part-00000-of-00003.tfrecord.gz",
        f"{root}/train/part-00001-of-00003.tfrecord.gz",
        f"{root}/train/part-00002-of-00003.tfrecord.gz",
        f"{root}/transform/fn/saved_model.pb",
    ]
    manifest = read_manifest(output)
    assert (manifest.rows_in, manifest.rows_out) == (400, 390)
    assert faults(output) == []


COLUMNS = pa.schema([("id", pa.int64()), ("values", pa.list_(pa.float64()))])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"format": "parquet", "columns": COLUMNS},
        {"format": "arrayrecord"},
        {"format": "webdataset", "columns": COLUMNS},
        {"format": "mds", "columns": COLUMNS},
    ],
    ids=["tfrecord", "parquet", "arrayrecord", "webdataset", "mds"],
)
def test_local_and_remote_datasets_are_the_same(tmp_path, options):
    write("mem://bucket/out", **options)
    assert faults("mem://bucket/out") == []
    local = write(str(tmp_path / "out"), **options).manifest
    assert local.dataset_id == read_manifest("mem://bucket/out").dataset_id
    for shard in local.shards:
        assert (tmp_path / "out" / shard.path).read_bytes() == OBJECTS[f"mem://bucket/out/{shard.path}"]


def test_a_damaged_shard_that_is_copied_from_a_store_is_named_as_it_lies_there():
    rows = pa.RecordBatch.from_pylist([{"id": number} for number in range(100)], COLUMNS)
    shards.write("mem://bucket/out", [rows], format="mds", compression="none", columns=COLUMNS)
    shard = "mem://bucket/out/train/part-00001-of-00003.mds"
    OBJECTS[shard] = OBJECTS[shard][:-1] + bytes([OBJECTS[shard][-1] ^ 4])
    with pytest.raises(InputError, match=f"^{shard}: the shard is damaged: its CRC32C is"):
        list(penstock.load("mem://bucket/out", "train").batches(100))


def test_overwrite_replaces_the_old_dataset_and_what_crashed_runs_left():
    write("mem://bucket/out", "old")
    OBJECTS["mem://bucket/out/.tmp-crashed/runs/x"] = b""
    OBJECTS["mem://bucket/outside"] = b"mine"
    with pytest.raises(ConfigError, match=r"--output mem://bucket/out: is not empty"):
        write("mem://bucket/out", "new")
    assert write("mem://bucket/out", "new", overwrite=True).status == "published"
    assert read_manifest("mem://bucket/out").run_id == "new"
    assert faults("mem://bucket/out") == []
    assert not [path for path in OBJECTS if ".tmp-" in path]
    assert OBJECTS["mem://bucket/outside"] == b"mine"


def test_damage_on_an_object_store_is_found(capsys):
    write("mem://bucket/out")
    shard = "mem://bucket/out/train/part-00001-of-00003.tfrecord.gz"
    OBJECTS[shard] = OBJECTS[shard][:-9]
    assert faults("mem://bucket/out") == ["shard.bytes", "shard.broken"]
    del OBJECTS[shard]
    assert faults("mem://bucket/out") == ["file.missing"]
    OBJECTS["mem://bucket/out/notes"] = b""
    assert faults("mem://bucket/out") == ["file.missing", "file.orphan"]


def test_job_reads_and_writes_an_object_store(capsys):
    lines = "".join(f"{i},näme {i},{i / 2}\n" for i in range(300))
    for day in range(2):
        OBJECTS[f"mem://in/day={day}/data.csv"] = f"id,name,score\n{lines}x\n".encode()
    arguments = ["--input=mem://in/*/data.csv", "--output=mem://bucket/out", "--split=train=0.8,eval=0.2"]
    assert prepare.run([*arguments, "--num_shards=2"]) == 0
    assert read_manifest("mem://bucket/out").rows_in == 602
    assert not [path for path in OBJECTS if ".tmp-" in path]
    assert verify.run(["--dataset=mem://bucket/out"]) == 0
    assert "mem://bucket/out: good: 600 records in 4 shards" in capsys.readouterr().out


def test_objects_are_matched_as_input():
    OBJECTS["mem://in/b.csv"] = b"x\n2\n"
    OBJECTS["mem://in/a.csv"] = b"x\n1\n"
    files = match_files(["mem://in/*.csv"])
    assert [(file.uri, file.size) for file in files] == [("mem://in/a.csv", 4), ("mem://in/b.csv", 4)]
    assert CsvFormat().columns(files[0]) == ("x",)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("mem://in", ["a.csv", "y=1/b.csv"]),
        ("mem://in/", ["a.csv", "y=1/b.csv"]),
        ("mem://in/y=*", ["y=1/b.csv"]),
        ("mem://in/*", ["a.csv"]),
        ("mem://in/**/*.csv", ["a.csv", "y=1/b.csv"]),
        ("mem://in/**.csv", ["a.csv", "y=1/b.csv"]),
        ("mem://in/_t/*", ["_t/c.csv"]),
    ],
)
def test_folders_and_patterns_mean_the_same_as_on_a_disk(pattern, found):
    names = ["a.csv", "y=1/b.csv", "_SUCCESS", "_t/c.csv", "y=1/.b.csv.crc", "y=1/"]
    OBJECTS.update({f"mem://in/{name}": b"x\n1\n" for name in names})
    assert [file.uri.removeprefix("mem://in/") for file in find_files([pattern]).files] == found


def test_markers_of_folders_are_no_files():
    OBJECTS.update({"mem://bucket/out/": b"", "mem://bucket/out/train/": b""})
    assert list_files("mem://bucket/out") == {}
    check_output("mem://bucket/out", overwrite=False)


def test_folder_is_copied_and_removed_with_all_that_is_in_it(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c[1].txt").write_text("x")
    copy_folder(str(tmp_path / "a"), "mem://bucket/copy")
    assert OBJECTS == {"mem://bucket/copy/b/c[1].txt": b"x"}
    OBJECTS["mem://bucket/copy2"] = b""
    remove_folder("mem://bucket/copy")
    assert OBJECTS == {"mem://bucket/copy2": b""}
    remove_folder("mem://bucket/copy")


def test_listing_that_fails_is_an_error_and_not_an_empty_folder():
    write("mem://bucket/out")
    with mock.patch.object(MemoryObjects, "broken", True):
        with pytest.raises(OSError, match="Match operation failed"):
            list_files("mem://bucket/out")
        with pytest.raises(ConfigError, match=r"--output mem://bucket/out: cannot be listed: .*503 try again"):
            check_output("mem://bucket/out", overwrite=True)
    assert read_manifest("mem://bucket/out") is not None


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("nosuch://bucket/out", r"--output nosuch://bucket/out: no filesystem is known for nosuch://; known are"),
        (
            "file:///tmp/out",
            r"--output file:///tmp/out: no filesystem is known for file://; name a local file by its path",
        ),
        ("mem://bucket/out*", r"must not contain '\*', '\?' or '\['"),
        ("mem://bucket/run[1]", r"must not contain '\*', '\?' or '\['"),
    ],
)
def test_output_that_cannot_be_one(output, message):
    with pytest.raises(ConfigError, match=message):
        check_output(output, overwrite=False)
    assert OBJECTS == {}


def test_failure_while_publishing_leaves_no_manifest_and_can_be_repeated():
    write("mem://bucket/out", "old")
    real, calls = MemoryObjects.rename, []

    def failing(self, sources, targets):
        calls.append(sources)
        real(self, sources[:2], targets[:2])
        raise BeamIOError("Rename operation failed", {source: "503" for source in sources[2:]})

    with mock.patch.object(MemoryObjects, "rename", failing), contextlib.suppress(Exception):
        write("mem://bucket/out", "new", overwrite=True)
    assert calls
    assert read_manifest("mem://bucket/out") is None
    assert write("mem://bucket/out", "next", overwrite=True).status == "published"
    assert faults("mem://bucket/out") == []
    assert not [path for path in OBJECTS if ".tmp-" in path]


def test_publication_makes_few_calls():
    """Each call is a round trip to an object store."""
    shards = 300
    calls = mock.Mock(side_effect=lambda path: path in OBJECTS)
    with mock.patch.object(MemoryObjects, "exists", lambda self, path: calls(path)):
        staging = Staging("mem://bucket/out", "r1")
        with beam.Pipeline(runner=FnApiRunner()) as pipeline:
            rows = (
                pipeline | beam.Create([0]) | beam.Map(lambda _: batch().slice(1, 30)).with_output_types(pa.RecordBatch)
            )
            _ = rows | WriteDataset(staging.output, num_shards=shards, run_id="r1")
    assert read_outcome(staging).status == "published"
    assert calls.call_count < 10


def test_files_that_another_process_has_deleted_are_skipped():
    OBJECTS.update({f"mem://bucket/{name}": b"" for name in ("a", "c")})
    delete_files("mem://bucket", ["a", "b", "c"])
    assert OBJECTS == {}
