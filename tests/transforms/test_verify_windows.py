import dataclasses
import json

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from quick_windows import write_windows

from penstock.io.batches import origin_array, set_column
from penstock.io.dataset.layout import Staging
from penstock.io.dataset.windowed.manifest import WindowManifest
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.dead_letters.source import keep_source
from penstock.io.reserved import EVENT_TIME, ORIGIN
from penstock.io.write import WriteDataset
from penstock.transforms.verify import verify_dataset
from pipelines.verify import run

FIRST = "windows/19700101T000000Z_19700101T000010Z.json"
SHARD = "train/19700101T000000Z/part-00000-of-00002.tfrecord"


def batch(_):
    times = pa.array([i * 1_000_000 for i in range(30)], pa.timestamp("us", "UTC"))
    values = pa.array([[i] if i != 4 else [1, None] for i in range(30)])
    rows = keep_source(pa.record_batch({"id": range(30), EVENT_TIME: times, ORIGIN: origin_array("f", np.arange(30))}))
    return set_column(rows, "id", values)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "dataset"
    handler = DeadLetterHandler(Staging(str(output), "r1").dead_letters, "r1")
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        rows = pipeline | beam.Create([0]) | beam.Map(batch).with_output_types(pa.RecordBatch)
        _ = rows | WriteDataset(
            str(output), num_shards=2, compression="none", window="fixed:10s", dead_letters=handler, run_id="r1"
        )
    return output


@pytest.fixture
def dataset(written, tmp_path):
    copy = tmp_path / "copy"
    for path in written.rglob("*"):
        if path.is_file():
            (copy / path.relative_to(written)).parent.mkdir(parents=True, exist_ok=True)
            (copy / path.relative_to(written)).write_bytes(path.read_bytes())
    return copy


def faults(dataset):
    return {(fault.code, fault.path) for fault in verify_dataset(str(dataset))}


def test_good_dataset(dataset, capsys):
    assert faults(dataset) == set()
    assert run(["--dataset", str(dataset)]) == 0
    assert "good: 29 records in 6 shards of 3 windows" in capsys.readouterr().out


def test_temporaries_of_a_running_job_are_no_fault(dataset):
    (dataset / ".tmp-r1" / "chunks").mkdir(parents=True)
    (dataset / ".tmp-r1" / "chunks" / "c").write_text("x")
    assert faults(dataset) == set()


def change(dataset, **fields):
    path = dataset / FIRST
    manifest = dataclasses.replace(WindowManifest.from_json(path.read_text()), **fields)
    path.write_text(manifest.to_json())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"rows_late": 1}, {("manifest.sum", FIRST)}),
        ({"rows_in": 11}, {("manifest.sum", FIRST)}),
        ({"inputs": ()}, set()),
        ({"window": ("1970-01-01T00:00:00.000000Z", "1970-01-01T00:00:11.000000Z")}, {("manifest.window", FIRST)}),
    ],
    ids=str,
)
def test_manifest_that_contradicts_itself(dataset, fields, expected):
    change(dataset, **fields)
    assert faults(dataset) == expected


def test_inputs_that_are_not_the_rows(dataset):
    inputs = WindowManifest.from_json((dataset / FIRST).read_text()).inputs
    change(dataset, inputs=(dataclasses.replace(inputs[0], rows=3),))
    assert faults(dataset) == {("manifest.sum", FIRST)}


def test_shard_that_is_gone_changed_or_unknown(dataset):
    shard = dataset / SHARD
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + b"!")
    assert {code for code, path in faults(dataset) if path == SHARD} >= {"shard.crc32c", "shard.broken"}
    shard.unlink()
    assert faults(dataset) == {("file.missing", SHARD)}
    shard.write_bytes(content)
    (dataset / "train/19700101T000000Z/late-00000-of-00002.tfrecord").write_bytes(b"")
    assert faults(dataset) == {("file.orphan", "train/19700101T000000Z/late-00000-of-00002.tfrecord")}


def test_rows_of_another_window(dataset):
    manifest = json.loads((dataset / FIRST).read_text())
    shard = next(shard for shard in manifest["shards"] if shard["path"] == SHARD)
    shard["event_time"][1] = "1970-01-01T00:00:10.000000Z"
    (dataset / FIRST).write_text(json.dumps(manifest))
    assert faults(dataset) == {("shard.event_time", SHARD)}


def test_the_last_window_of_the_year_9999_ends_in_the_year_10000(tmp_path):
    end = 253_402_300_800
    write_windows(tmp_path, [end - 1])
    (path,) = (tmp_path / "windows").iterdir()
    manifest = json.loads(path.read_text())
    assert manifest["window"][1].endswith("10000-01-01T00:00:00.000000Z")
    manifest["shards"][0]["event_time"] = ["9999-12-31T23:59:59.000000Z", "9999-12-31T23:59:59.999999Z"]
    path.write_text(json.dumps(manifest))
    assert faults(tmp_path) == set()


def test_dead_letters_that_are_not_as_counted(dataset):
    path = "dead_letters/19700101T000000Z/part-00000-of-00001.jsonl"
    (dataset / path).write_text("")
    assert ("dead_letters.records", path) in faults(dataset)


def test_broken_manifest_of_a_window(dataset):
    (dataset / FIRST).write_text("{}")
    found = faults(dataset)
    assert ("manifest.broken", FIRST) in found
    assert ("file.orphan", SHARD) in found
