"""Datasets of ArrayRecord shards, read by the package `array_record`."""

import numpy as np
import pyarrow as pa
import pytest
from array_record.python.array_record_data_source import ArrayRecordDataSource
from array_record.python.array_record_module import ArrayRecordReader
from helpers import run_prepare, write_csv
from hypothesis import given
from hypothesis import strategies as st
from shards import write

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shard_formats import arrayrecord, shard_kind
from penstock.io.dataset.shard_formats.arrayrecord import framed
from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import MissingExtraError
from penstock.io.examples.encode import encode_examples
from penstock.io.examples.frames import read_frames
from penstock.io.files import extras
from penstock.io.reserved import SPLIT
from penstock.transforms.verify import verify_dataset
from pipelines._report.result import DONE

ROWS = 300


def table():
    return pa.record_batch(
        {
            "id": pa.array(range(ROWS)),
            "name": pa.array(f"näme {i}" if i % 3 else None for i in range(ROWS)),
            "xs": pa.array([[i / 2] * (i % 4) for i in range(ROWS)], pa.list_(pa.float64())),
            SPLIT: pa.array("eval" if i % 4 == 0 else "train" for i in range(ROWS)),
        }
    )


def files(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.array_record")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = tmp_path_factory.mktemp("arrayrecord") / "out"
    write(output, [table().slice(0, 100), table().slice(100)], splits=("train", "eval"), format="arrayrecord")
    return output


def test_array_record_reads_the_records_of_tfrecord_in_the_same_order(dataset, tmp_path):
    write(tmp_path, [table()], splits=("train", "eval"), compression="none")
    for path in sorted(dataset.rglob("*.array_record")):
        other = tmp_path / path.parent.name / path.with_suffix(".tfrecord").name
        with open(other, "rb") as file:
            expected = [record for frames in read_frames(file, str(other)) for record in frames.records()]
        assert ArrayRecordReader(str(path)).read_all() == expected
    assert read_manifest(str(dataset)).dataset_id == read_manifest(str(tmp_path)).dataset_id


def test_records_are_read_in_any_order(dataset, caplog):
    """As Grain does, which wants each record to be a group of its own."""
    paths = sorted(map(str, (dataset / "train").iterdir()))
    with ArrayRecordDataSource(paths) as source:
        order = np.random.default_rng(1).permutation(len(source))
        found = source.__getitems__(order.tolist())
    examples = {bytes(encoded) for encoded in _examples(table())}
    assert len(found) == len(set(found)) == read_manifest(str(dataset)).splits["train"]
    assert set(found) <= examples
    assert "group_size" not in caplog.text


def _examples(batch):
    encoded = encode_examples(batch)
    return [
        encoded.data[start + 12 : end - 4] for start, end in zip(encoded.offsets, encoded.offsets[1:], strict=False)
    ]


def test_manifest_names_the_format_and_the_dataset_is_good(dataset):
    manifest = read_manifest(str(dataset))
    assert (manifest.format, manifest.compression) == ("arrayrecord", "zstd")
    assert manifest.media_type == "application/x-arrayrecord"
    assert list(verify_dataset(str(dataset))) == []


@pytest.mark.parametrize("changes", [{"workers": 2}, {"spill": False}], ids=["workers", "runner"])
def test_files_do_not_depend_on_how_the_rows_came(dataset, tmp_path, monkeypatch, changes):
    pieces = [table().slice(start, 17) for start in range(0, ROWS, 17)][::-1]
    monkeypatch.setattr(arrayrecord, "_MAX_GROUP_RECORDS", 7)
    write(tmp_path, pieces, splits=("train", "eval"), format="arrayrecord", **changes)
    assert files(tmp_path) == files(dataset)


@pytest.mark.parametrize("compression", shard_kind("arrayrecord").suffixes)
def test_each_compression_is_that_of_the_file(tmp_path, compression):
    write(tmp_path, [table().drop_columns([SPLIT])], num_shards=1, format="arrayrecord", compression=compression)
    reader = ArrayRecordReader(str(tmp_path / "train" / "part-00000-of-00001.array_record"))
    assert {"none": "uncompressed"}.get(compression, compression) in reader.writer_options_string()
    assert reader.num_records() == ROWS
    assert list(verify_dataset(str(tmp_path))) == []


def test_shard_without_rows_is_a_file(tmp_path):
    write(tmp_path, [table().slice(0, 1)], splits=("train", "eval"), num_shards=1, format="arrayrecord")
    assert ArrayRecordReader(str(tmp_path / "train" / "part-00000-of-00001.array_record")).num_records() == 0
    assert list(verify_dataset(str(tmp_path))) == []


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (lambda data: data[: len(data) // 2], {"shard.bytes", "shard.broken"}),
        (lambda data: b"", {"shard.bytes", "shard.broken"}),
        (lambda data: data[:500] + bytes([data[500] ^ 1]) + data[501:], {"shard.crc32c", "shard.broken"}),
    ],
    ids=["half", "empty", "bit"],
)
def test_verify_finds_a_damaged_shard(tmp_path, spoil, codes):
    write(tmp_path, [table().drop_columns([SPLIT])], num_shards=1, format="arrayrecord")
    path = tmp_path / "train" / "part-00000-of-00001.array_record"
    path.write_bytes(spoil(path.read_bytes()))
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == codes


def test_verify_finds_shards_that_were_exchanged(dataset, tmp_path):
    write(tmp_path, [table().drop_columns([SPLIT])], num_shards=2, format="arrayrecord")
    first, second = sorted((tmp_path / "train").iterdir())
    content = first.read_bytes(), second.read_bytes()
    second.write_bytes(content[0])
    assert {fault.code for fault in verify_dataset(str(tmp_path))} >= {"shard.sha256"}


@given(records=st.lists(st.binary(max_size=30), max_size=10))
def test_frames_are_those_of_tfrecord(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("frames") / "f.tfrecord"
    frames = framed(records)
    path.write_bytes(frames.data)
    with open(path, "rb") as file:
        assert [record for found in read_frames(file, "f") for record in found.records()] == records
    assert frames.records() == records


def test_job_with_windows(tmp_path):
    rows = write_csv(tmp_path / "rows.csv", [{"id": i, "time": 60 * i} for i in range(20)], ("id", "time"))
    out = tmp_path / "out"
    flags = ("--output_format=arrayrecord", "--event_time=time:s", "--window=fixed:10m", "--num_shards=1")
    assert run_prepare("--input", rows, "--output", out, *flags) == DONE
    windows = list(read_window_manifests(str(out)))
    assert [(window.format, window.rows_out) for window in windows] == [("arrayrecord", 10)] * 2
    assert [ArrayRecordReader(str(out / one.shards[0].path)).num_records() for one in windows] == [10, 10]
    assert list(verify_dataset(str(out))) == []


def test_without_the_extra_its_name_is_told(dataset, monkeypatch):
    monkeypatch.setattr(extras, "_is_found", lambda _: False)
    message = r"the output format arrayrecord needs array_record: pip install '.\[arrayrecord\]'"
    with pytest.raises(MissingExtraError, match=message):
        shard_kind("arrayrecord")
    with pytest.raises(MissingExtraError, match=message):
        list(verify_dataset(str(dataset)))
