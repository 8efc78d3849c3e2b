import dataclasses
import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import struct
import tracemalloc
import zlib

import apache_beam as beam
import google_crc32c
import pyarrow as pa
import pytest
from apache_beam.io.filesystems import FileSystems
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from penstock.io.dataset.layout import Staging
from penstock.io.dataset.manifest import Manifest, dataset_id, read_manifest
from penstock.io.dataset.publish import read_outcome
from penstock.io.dead_letters.handler import DeadLetterHandler
from penstock.io.examples.encode import encode_examples
from penstock.io.reserved import SPLIT
from penstock.io.schema import schema_fingerprint, write_schema
from penstock.io.write import WriteDataset
from penstock.transforms.features.apply import transform_fingerprint
from penstock.transforms.leftovers import dataset_bytes, leftovers
from penstock.transforms.verify import verify_dataset

ROWS = 200
SCHEMA = text_format.Parse(
    """
    feature { name: "id" type: INT presence { min_fraction: 1 } shape { dim { size: 1 } } int_domain { min: 0 } }
    feature { name: "name" type: BYTES value_count { min: 1 max: 1 } string_domain { value: "a" value: "b" } }
    feature { name: "score" type: FLOAT value_count { min: 0 max: 3 } }
    """,
    schema_pb2.Schema(),
)
PLAIN, GZIP = "train/part-00000-of-00002.tfrecord", "train/part-00000-of-00002.tfrecord.gz"
REJECTS = "dead_letters/part-00000-of-00001.jsonl"


def rows():
    return pa.record_batch(
        {
            "id": pa.array(range(ROWS), pa.int64()),
            "name": pa.array("ab"[i % 2] if i % 5 else None for i in range(ROWS)),
            "score": pa.array([[1.0, None] if i % 50 == 7 else [i / 3] * (i % 3) for i in range(ROWS)]),
            SPLIT: pa.array(["train", "eval"][i % 4 == 0] for i in range(ROWS)),
        }
    )


def _slice(batch, start):
    return batch.slice(start, 60)


def build(output, compression="none", extras=("schema.pbtxt",)):
    """A dataset of 196 rows and 4 dead letters, in 2 splits of 2 shards."""
    staging = Staging(str(output), "r1")
    provenance = {}
    if "schema.pbtxt" in extras:
        write_schema(SCHEMA, staging.path("schema.pbtxt"))
        provenance["schema_fingerprint"] = schema_fingerprint(SCHEMA)
    if "transform" in extras:
        write_schema(SCHEMA, staging.path("transform", "transformed_metadata", "schema.pbtxt"))
        with FileSystems.create(staging.path("transform", "transform_fn", "saved_model.pb")) as file:
            file.write(b"a graph")
        provenance["transform_fingerprint"] = transform_fingerprint(staging.path("transform"))
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        starts = pipeline | beam.Create(list(range(0, ROWS, 60)))
        batches = starts | beam.Map(functools.partial(_slice, rows())).with_output_types(pa.RecordBatch)
        _ = batches | WriteDataset(
            staging.output,
            splits=("train", "eval"),
            num_shards=2,
            compression=compression,
            dead_letters=DeadLetterHandler(staging.dead_letters, "r1"),
            run_id="r1",
            extras=extras,
            provenance=provenance,
        )
    assert read_outcome(staging).status == "published"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Datasets that are built once, by their options."""
    folder = tmp_path_factory.mktemp("datasets")

    @functools.cache
    def get(compression, extras):
        output = folder / f"{compression}{len(extras)}"
        build(output, compression, extras)
        return output

    return get


@pytest.fixture
def dataset(built, tmp_path):
    """Makes a copy that a test may damage."""

    def copy(compression="none", extras=("schema.pbtxt",)):
        return shutil.copytree(built(compression, extras), tmp_path / "out")

    return copy


def faults(path):
    return [(fault.code, fault.path) for fault in verify_dataset(str(path))]


def details(path):
    return "\n".join(str(fault) for fault in verify_dataset(str(path)))


def edit_manifest(path, **changes):
    fields = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps({**fields, **changes}))


def rewrite_shard(path, name, records):
    """Replaces a shard by one with other records and makes the manifest agree with it."""
    framed = b"".join(map(frame, records))
    stored = gzip.compress(framed) if name.endswith(".gz") else framed
    (path / name).write_bytes(stored)
    manifest = read_manifest(str(path))
    shards = [
        dataclasses.replace(
            shard,
            records=len(records),
            bytes=len(stored),
            uncompressed_bytes=len(framed),
            crc32c=f"{google_crc32c.value(stored):08x}",
            sha256=hashlib.sha256(framed).hexdigest(),
        )
        if shard.path == name
        else shard
        for shard in manifest.shards
    ]
    splits = {split: sum(shard.records for shard in shards if shard.split == split) for split in manifest.splits}
    out = sum(splits.values())
    changed = dataclasses.replace(
        manifest,
        shards=tuple(shards),
        splits=splits,
        rows_out=out,
        rows_in=out + manifest.rows_rejected,
        dataset_id=dataset_id(shards),
    )
    (path / "manifest.json").write_text(changed.to_json())


def frame(record):
    def masked(data):
        crc = google_crc32c.value(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    length = struct.pack("<Q", len(record))
    return length + masked(length) + record + masked(record)


def example(**features):
    """A serialized tf.Example, by TensorFlow's own messages."""
    tf = pytest.importorskip("tensorflow")
    lists = {
        int: lambda values: tf.train.Feature(int64_list=tf.train.Int64List(value=values)),
        float: lambda values: tf.train.Feature(float_list=tf.train.FloatList(value=values)),
        bytes: lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values)),
    }
    made = {name: lists[type(values[0])](values) for name, values in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at] ^= 0x10
    file.write_bytes(data)


@pytest.mark.parametrize("extras", [(), ("schema.pbtxt",), ("schema.pbtxt", "transform")], ids=len)
@pytest.mark.parametrize("compression", ["gzip", "zlib", "none"])
def test_good_dataset_has_no_fault(built, compression, extras):
    output = built(compression, extras)
    assert faults(output) == []
    manifest = read_manifest(str(output))
    assert (manifest.rows_in, manifest.rows_out, manifest.rows_rejected) == (ROWS, ROWS - 4, 4)
    assert dataset_bytes(str(output), [manifest]) == sum(
        file.stat().st_size for file in output.rglob("*") if file.is_file()
    )


@pytest.mark.parametrize(
    ("at", "said"),
    [
        (3, r"the length CRC of the record at byte 0 does not match; this is not a TFRecord file"),
        (9, r"the length CRC of the record at byte 0 does not match"),
        (20, r"the data CRC of the record at byte 0 does not match"),
        (-1, r"the data CRC of the record at byte \d+ does not match"),
    ],
    ids=["length", "length_crc", "data", "data_crc"],
)
def test_flipped_bit_in_a_plain_shard(dataset, at, said):
    path = dataset()
    flip(path / PLAIN, at)
    assert faults(path) == [("shard.crc32c", PLAIN), ("shard.broken", PLAIN)]
    assert re.search(said, details(path))


@pytest.mark.parametrize("at", [200, -6, -2], ids=["deflated", "crc32", "size"])
def test_flipped_bit_in_a_compressed_shard(dataset, at):
    path = dataset("gzip")
    flip(path / GZIP, at)
    found = faults(path)
    assert found[0] == ("shard.crc32c", GZIP)
    assert all(code.startswith("shard.") and name == GZIP for code, name in found)
    assert len(found) > 1


def test_flipped_bit_that_changes_no_record_is_found_too(dataset):
    path = dataset("gzip")
    flip(path / GZIP, 5)  # the time in the gzip header
    assert faults(path) == [("shard.crc32c", GZIP)]


@pytest.mark.parametrize("compression", ["gzip", "zlib", "none"])
def test_truncated_shard(dataset, compression):
    path = dataset(compression)
    name = {"gzip": GZIP, "zlib": f"{PLAIN}.zlib", "none": PLAIN}[compression]
    data = (path / name).read_bytes()
    (path / name).write_bytes(data[: len(data) // 2])
    assert faults(path) == [("shard.bytes", name), ("shard.broken", name)]


def test_shard_cut_between_records_or_emptied(dataset):
    path = dataset()
    data = (path / PLAIN).read_bytes()
    (path / PLAIN).write_bytes(data[: 16 + struct.unpack_from("<Q", data)[0]])
    content = [("shard.records", PLAIN), ("shard.uncompressed_bytes", PLAIN), ("shard.sha256", PLAIN)]
    assert faults(path) == [("shard.bytes", PLAIN), *content]
    (path / PLAIN).write_bytes(b"")
    assert faults(path) == [("shard.bytes", PLAIN), *content]


@pytest.mark.parametrize("compression", ["gzip", "zlib", "none"])
def test_bytes_after_the_end_of_a_shard(dataset, compression):
    path = dataset(compression)
    name = {"gzip": GZIP, "zlib": f"{PLAIN}.zlib", "none": PLAIN}[compression]
    with open(path / name, "ab") as file:
        file.write(b"more")
    found = faults(path)
    assert found[0] == ("shard.bytes", name)
    assert {found_in for _, found_in in found} == {name}


def test_another_good_record_after_the_end_of_a_shard(dataset):
    path = dataset("gzip")
    with open(path / GZIP, "ab") as file:
        file.write(gzip.compress(frame(encode_example(id=[5]))))
    assert [code for code, _ in faults(path)] == [
        "shard.bytes", "shard.records", "shard.uncompressed_bytes", "shard.sha256"
    ]  # fmt: skip


def encode_example(**columns):
    encoded = encode_examples(pa.record_batch({name: pa.array([values]) for name, values in columns.items()}))
    return bytes(encoded.data)[12:-4]


def test_shards_that_changed_places(dataset):
    path = dataset()
    other = PLAIN.replace("part-00000", "part-00001")
    os.rename(path / PLAIN, path / "x")
    os.rename(path / other, path / PLAIN)
    os.rename(path / "x", path / other)
    assert {("shard.sha256", PLAIN), ("shard.sha256", other)} < set(faults(path))


def test_missing_renamed_and_unknown_files(dataset):
    path = dataset()
    os.rename(path / PLAIN, path / f"{PLAIN}.bak")
    os.remove(path / "schema.pbtxt")
    os.remove(path / REJECTS)
    (path / ".tmp-r0" / "runs").mkdir(parents=True)
    (path / ".tmp-r0" / "runs" / "a.run").write_bytes(b"")
    (path / "notes.txt").write_text("mine")
    assert faults(path) == [
        ("file.missing", REJECTS),
        ("file.missing", "schema.pbtxt"),
        ("file.missing", PLAIN),
        ("file.orphan", "notes.txt"),
        ("file.orphan", f"{PLAIN}.bak"),
    ]


def test_what_unfinished_runs_left_is_no_fault(dataset):
    path = dataset()
    manifests = [read_manifest(str(path))]
    size = dataset_bytes(str(path), manifests)
    (path / ".tmp-r0" / "runs").mkdir(parents=True)
    (path / ".tmp-r0" / "runs" / "a.run").write_bytes(b"x")
    (path / ".tmp-probe-1a2b3c4d").write_bytes(b"")
    assert faults(path) == []
    assert leftovers(str(path)) == [".tmp-probe-1a2b3c4d", ".tmp-r0"]
    assert dataset_bytes(str(path), manifests) == size


def test_files_inside_the_transform_belong_to_it_and_elsewhere_they_do_not(dataset):
    path = dataset(extras=("schema.pbtxt", "transform"))
    (path / "transformed").mkdir()
    (path / "transformed" / "x").write_text("")
    (path / "transform" / "assets").mkdir()
    (path / "transform" / "assets" / "vocabulary").write_text("a\n")
    assert faults(path) == [("file.orphan", "transformed/x")]
    shutil.rmtree(path / "transform")
    assert faults(path) == [("file.missing", "transform"), ("file.orphan", "transformed/x")]


def test_file_that_cannot_be_read(dataset, monkeypatch):
    path = dataset()
    real = FileSystems.open

    def failing(name, *arguments, **options):
        if name.endswith((PLAIN, REJECTS)):
            raise PermissionError(f"Permission denied: {name}")
        return real(name, *arguments, **options)

    monkeypatch.setattr(FileSystems, "open", failing)
    assert faults(path) == [("file.unreadable", PLAIN), ("file.unreadable", REJECTS)]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows_in": ROWS + 1}, ["rows_in, against rows_out + rows_rejected: 201 and 200"]),
        ({"rows_out": 1, "rows_in": 5}, ["rows_out, against its shards: 1 and 196"]),
        ({"splits": {"train": 148, "eval": 48}}, ["splits.train, against", "splits.eval, against"]),
        ({"splits": {"train": 146}}, ["splits.eval, against its shards: None and"]),
        ({"dataset_id": "0" * 64}, [f"dataset_id, against the digests of its shards: {'0' * 64} and "]),
        ({"rejected_by_stage": {"write": 3}}, ["rows_rejected, against the stages: 4 and 3"]),
    ],
    ids=["rows_in", "rows_out", "splits", "unknown_split", "dataset_id", "stages"],
)
def test_manifest_that_contradicts_itself(dataset, changes, expected):
    path = dataset()
    edit_manifest(path, **changes)
    found = [fault for fault in verify_dataset(str(path)) if fault.code == "manifest.sum"]
    assert len(found) == len(expected)
    for fault, detail in zip(found, expected, strict=True):
        assert detail in str(fault)


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: "",
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: text.replace('"version": 1', '"version": 2'),
        lambda text: text.replace('"rows_in": 200', '"rows_in": "200"'),
        lambda text: text.replace('"rows_in": 200', '"rows_in": null'),
        lambda text: text.replace('"rows_in"', '"row_in"'),
        lambda text: json.dumps({**json.loads(text), "splits": ["train"]}),
        lambda text: json.dumps({**json.loads(text), "extras": None}),
        lambda text: json.dumps({**json.loads(text), "extras": [7]}),
        lambda text: json.dumps({**json.loads(text), "shards": [{}]}),
        lambda text: json.dumps({**json.loads(text), "provenance": 1}),
        lambda text: text.replace('"path": "train', '"path": 5, "pfad": "train'),
        lambda text: text.replace('"crc32c": "', '"crc32c": 5, "x": "'),
        lambda text: json.dumps({**json.loads(text), "dead_letters": [{"path": None, "records": 1}]}),
        lambda text: "\udcff",
        lambda text: "[" * 100_000,
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "version",
        "text_for_int",
        "null",
        "name",
        "splits",
        "extras",
        "extra",
        "shard",
        "provenance",
        "path",
        "crc",
        "rejects",
        "no_utf8",
        "deep",
    ],
)
def test_manifest_that_is_none(dataset, edit):
    path = dataset()
    text = edit((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(text, errors="surrogateescape")
    assert faults(path) == [("manifest.broken", "manifest.json")]


def test_folder_without_a_manifest(dataset):
    path = dataset()
    os.remove(path / "manifest.json")
    assert faults(path) == [("manifest.missing", "manifest.json")]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda lines: lines[1:], "dead_letters.records"),
        (lambda lines: [*lines, lines[0]], "dead_letters.records"),
        (lambda lines: [*lines[1:], "{}"], "dead_letters.broken"),
        (lambda lines: [*lines[1:], "[]"], "dead_letters.broken"),
        (lambda lines: [*lines[1:], ""], "dead_letters.broken"),
        (lambda lines: [*lines[1:], "\udcff"], "dead_letters.broken"),
        (lambda lines: [*lines[1:], "[" * 100_000], "dead_letters.broken"),
        (lambda lines: [*lines[1:], lines[0][:40]], "dead_letters.broken"),
    ],
    ids=["line_missing", "line_twice", "no_fields", "list", "blank", "no_utf8", "deep", "cut"],
)
def test_damaged_dead_letters(dataset, edit, expected):
    path = dataset()
    lines = (path / REJECTS).read_text().splitlines()
    (path / REJECTS).write_text("".join(f"{line}\n" for line in edit(lines)), errors="surrogateescape")
    assert faults(path) == [(expected, REJECTS)]


def test_dead_letters_of_other_reasons_than_the_manifest_counts(dataset):
    path = dataset()
    text = (path / REJECTS).read_text()
    (path / REJECTS).write_text(text.replace("write.null_in_list", "rule.price", 1))
    assert faults(path) == [("dead_letters.rejected_by_reason", "dead_letters")]
    assert "found {'rule.price': 1, 'write.null_in_list': 3}" in details(path)
    (path / REJECTS).write_text(text.replace('"stage": "write"', '"stage": "read"', 1))
    assert faults(path) == [("dead_letters.rejected_by_stage", "dead_letters")]


GOOD = {"id": [1], "name": [b"a"], "score": [0.5]}


@pytest.mark.parametrize(
    ("features", "code", "detail"),
    [
        ({**GOOD, "id": [-1]}, "schema.domain", "id is -1"),
        ({**GOOD, "id": [1, 2]}, "schema.value_count", "id has 2 values"),
        ({**GOOD, "id": [1.0]}, "tfrecord.type", "column 'id': the record holds FLOAT values, not INT"),
        ({**GOOD, "id": [b"1"]}, "tfrecord.type", "column 'id': the record holds BYTES values, not INT"),
        ({**GOOD, "score": [1]}, "tfrecord.type", "column 'score': the record holds INT values, not FLOAT"),
        ({**GOOD, "name": [1]}, "tfrecord.type", "column 'name': the record holds INT values, not BYTES"),
        ({**GOOD, "name": [b"c"]}, "schema.domain", "name is b'c'"),
        ({**GOOD, "score": [1.0] * 4}, "schema.value_count", "score has 4 values"),
        ({**GOOD, "score": [float("nan")]}, "schema.nan", "score"),
        ({**GOOD, "price": [1]}, "schema.unknown", "the schema has no feature 'price'"),
        ({"name": [b"a"]}, "schema.presence", "id is null"),
        ({}, "schema.presence", "id is null"),
    ],
    ids=[
        "domain",
        "two_values",
        "float_for_int",
        "bytes_for_int",
        "int_for_float",
        "int_for_bytes",
        "string_domain",
        "valency",
        "nan",
        "unknown",
        "missing",
        "empty",
    ],
)
@pytest.mark.parametrize("extras", [("schema.pbtxt",), ("schema.pbtxt", "transform")], ids=["schema", "transformed"])
def test_record_that_does_not_conform(dataset, extras, features, code, detail):
    path = dataset(extras=extras)
    records = [example(**GOOD), example(**features), example(**GOOD)]
    rewrite_shard(path, PLAIN, records)
    (fault,) = verify_dataset(str(path))
    assert (fault.code, fault.path) == (code, PLAIN)
    assert fault.detail.startswith("1 record does not conform to the schema: ")
    assert f"at byte {len(frame(records[0]))}: {detail}" in fault.detail


@pytest.mark.parametrize("record", [b"\xff\xff", b"plain text", b"\x12\x00"], ids=["bytes", "text", "sequence"])
def test_record_that_is_no_example(dataset, record):
    path = dataset()
    rewrite_shard(path, PLAIN, [example(**GOOD), record])
    assert faults(path) == [("tfrecord.parse", PLAIN)]


def test_wrong_records_are_all_counted_and_a_few_shown(dataset):
    path = dataset("gzip")
    rewrite_shard(path, GZIP, [example(**{**GOOD, "id": [-index - 1]}) for index in range(500)])
    (fault,) = verify_dataset(str(path))
    assert fault.detail.startswith("500 records do not conform to the schema: at byte 0: id is -1")
    assert fault.detail.endswith("; ...")
    assert fault.detail.count("at byte") == 3


@pytest.fixture
def without_schema(dataset):
    """A dataset as an earlier release left it."""
    path = dataset(extras=())
    (path / "schema.pbtxt").unlink()
    edit_manifest(path, extras=[])
    return path


def test_without_a_schema_any_example_conforms(without_schema):
    rewrite_shard(without_schema, PLAIN, [example(anything=[1.5])])
    assert faults(without_schema) == []


def test_without_a_schema_a_feature_has_one_kind_in_all_shards(without_schema):
    rewrite_shard(without_schema, PLAIN, [example(new=[1.5]), example(new=[1.5]), example(new=[b"x"])])
    other = PLAIN.replace("train", "eval")
    rewrite_shard(without_schema, other, [example(new=[2.5]), example(new=[2])])
    assert [(fault.code, fault.path, fault.detail) for fault in verify_dataset(str(without_schema))] == [
        (
            "shard.kinds",
            path,
            f"column 'new' is FLOAT in {PLAIN}, at byte 0, and {kind} in {path}, at byte {position}: a parser reads "
            "one kind of a feature",
        )
        for path, kind, position in ((PLAIN, "BYTES", 70), (other, "INT", 35))
    ]


def test_with_a_broken_schema_kinds_are_checked_too(dataset):
    path = dataset()
    (path / "schema.pbtxt").write_text("feature {")
    rewrite_shard(path, PLAIN, [example(score=[1.5]), example(score=[1])])
    assert [code for code, _ in faults(path)] == ["schema.broken", "shard.kinds"]


def test_transformed_records_are_held_against_the_schema_of_the_transform(dataset):
    path = dataset(extras=("schema.pbtxt", "transform"))
    other = text_format.Parse('feature { name: "id" type: INT }', schema_pb2.Schema())
    write_schema(other, str(path / "schema.pbtxt"))
    edit_manifest(path, provenance={})
    assert faults(path) == []
    write_schema(other, str(path / "transform/transformed_metadata/schema.pbtxt"))
    assert {code for code, _ in faults(path)} == {"schema.unknown"}


@pytest.mark.parametrize("extras", [("schema.pbtxt",), ("schema.pbtxt", "transform")], ids=len)
def test_corrupt_schema(dataset, extras):
    path = dataset(extras=extras)
    (path / "schema.pbtxt").write_text("feature { nome: 'x' }")
    assert faults(path) == [("schema.broken", "schema.pbtxt")]
    assert "schema.pbtxt:1:11" in details(path) or "1:11" in details(path)
    (path / "schema.pbtxt").write_bytes(b"\xff\xfe")
    assert faults(path) == [("schema.broken", "schema.pbtxt")]


def test_corrupt_or_changed_transform(dataset):
    path = dataset(extras=("schema.pbtxt", "transform"))
    (path / "transform/transform_fn/saved_model.pb").write_bytes(b"another graph")
    assert faults(path) == [("transform.changed", "transform")]
    (path / "transform/transformed_metadata/schema.pbtxt").write_text("}")
    assert faults(path) == [("transform.broken", "transform")]
    os.remove(path / "transform/transformed_metadata/schema.pbtxt")
    assert faults(path) == [("transform.broken", "transform")]


def test_changed_schema(dataset):
    path = dataset()
    text = (path / "schema.pbtxt").read_text()
    (path / "schema.pbtxt").write_text(f"# Read by people.\n{text}")
    assert faults(path) == []
    (path / "schema.pbtxt").write_text(text.replace("min: 0", "min: -1", 1))
    assert faults(path) == [("schema.changed", "schema.pbtxt")]


def test_memory_is_that_of_a_block(tmp_path):
    """A shard of 100 MB, compressed to a fraction, takes a fraction of that."""
    record = frame(encode_example(x=[b"\0" * 100_000]))
    output = tmp_path / "out"
    shard, framed = "train/part-00000-of-00001.tfrecord.gz", hashlib.sha256()
    (output / "train").mkdir(parents=True)
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    with open(output / shard, "wb") as file:
        for _ in range(1000):
            framed.update(record)
            file.write(compressor.compress(record))
        file.write(compressor.flush())
    stored = (output / shard).read_bytes()
    entry = {
        "path": shard,
        "split": "train",
        "records": 1000,
        "bytes": len(stored),
        "uncompressed_bytes": 1000 * len(record),
        "crc32c": f"{google_crc32c.value(stored):08x}",
        "sha256": framed.hexdigest(),
        "event_time": None,
    }
    schema = text_format.Parse('feature { name: "x" type: BYTES }', schema_pb2.Schema())
    write_schema(schema, str(output / "schema.pbtxt"))
    fields = {
        "run_id": "r", "created": "", "rows_in": 1000, "rows_out": 1000, "rows_rejected": 0, "splits": {"train": 1000},
        "dead_letters": [], "rejected_by_reason": {}, "rejected_by_stage": {}, "compression": "gzip", "seed": 0,
        "shuffle": "global", "extras": ["schema.pbtxt"], "provenance": {}, "version": 1, "shards": [entry],
        "dataset_id": hashlib.sha256(f"train {framed.hexdigest()}\n".encode()).hexdigest(),
    }  # fmt: skip
    (output / "manifest.json").write_text(Manifest.from_json(json.dumps(fields)).to_json())
    assert faults(output) == []
    pool = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        assert faults(output) == []
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6
    assert pa.total_allocated_bytes() - pool < 10e6
