"""Datasets of tf.SequenceExample shards, read by TensorFlow."""

import json

import pyarrow as pa
import pytest
import tensorflow as tf
from helpers import dead_letters, job, run_prepare, write_jsonl
from shards import write

from penstock.io.dataset.manifest import read_manifest
from penstock.io.dataset.shard_formats import load_format
from penstock.io.dataset.spec import DatasetSpec
from penstock.io.errors import ConfigError
from penstock.io.formats.tfrecord import TFRecordFormat
from penstock.io.messages.registry import DECODERS
from penstock.io.reserved import SPLIT
from penstock.transforms.verify import verify_dataset
from pipelines import replay
from pipelines._report.result import DONE

ROWS = 90
COLUMNS = pa.schema(
    {"id": pa.int64(), "name": pa.string(), "tags": pa.string(), "xs": pa.list_(pa.float32()), "gone": pa.int64()}
)


def table():
    return pa.record_batch(
        {
            "id": pa.array(range(ROWS)),
            "name": pa.array(f"näme {i}" if i % 3 else None for i in range(ROWS)),
            "tags": pa.array([["a", "b"][: i % 3] for i in range(ROWS)], pa.list_(pa.string())),
            "xs": pa.array([[i / 2] * (i % 4) if i % 5 else None for i in range(ROWS)], pa.list_(pa.float64())),
            SPLIT: pa.array("eval" if i % 4 == 0 else "train" for i in range(ROWS)),
        }
    )


OPTIONS = {"splits": ("train", "eval"), "format": "sequence_example", "columns": COLUMNS}


def files(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in output.rglob("*.tfrecord.gz")}


def messages(output):
    return messages_in(map(str, output.glob("*/*.tfrecord.gz")))


def messages_in(paths):
    records = tf.data.TFRecordDataset(sorted(paths), compression_type="GZIP").as_numpy_iterator()
    return [tf.train.SequenceExample.FromString(record) for record in records]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    output = tmp_path_factory.mktemp("sequences") / "out"
    write(output, [table().slice(0, 50), table().slice(50)], **OPTIONS)
    return output


def test_what_is_declared_as_a_list_is_a_feature_list(dataset):
    found = {message.context.feature["id"].int64_list.value[0]: message for message in messages(dataset)}
    assert sorted(found) == [*range(ROWS)]
    for row in table().to_pylist():
        message = found[row["id"]]
        assert list(message.context.feature["tags"].bytes_list.value) == [tag.encode() for tag in row["tags"]]
        assert ("name" in message.context.feature) == (row["name"] is not None)
        assert ("xs" in message.feature_lists.feature_list) == (row["xs"] is not None)
        steps = message.feature_lists.feature_list["xs"].feature
        assert [list(step.float_list.value) for step in steps] == [[value] for value in row["xs"] or []]


def test_the_manifest_says_what_is_a_feature_list_and_the_dataset_is_good(dataset):
    manifest = read_manifest(str(dataset))
    assert (manifest.format, manifest.compression) == ("sequence_example", "gzip")
    assert manifest.media_type == "application/x-tfrecord"
    assert manifest.provenance["feature_lists"] == ["xs"]
    assert list(verify_dataset(str(dataset))) == []


@pytest.mark.parametrize("changes", [{"workers": 2}, {"spill": False}], ids=["workers", "runner"])
def test_files_do_not_depend_on_how_the_rows_came(dataset, tmp_path, changes):
    pieces = [table().slice(start, 7) for start in range(0, ROWS, 7)][::-1]
    write(tmp_path, pieces, **OPTIONS, **changes)
    assert files(tmp_path) == files(dataset)


def test_a_row_without_a_form_is_a_dead_letter(tmp_path):
    rows = pa.record_batch({"id": [1, 2], "xs": [[1.0], [1e300]]})
    write(tmp_path, [rows], letters=True, max_reject_fraction=1, **OPTIONS | {"splits": ("train",)})
    assert [letter["reason"] for letter in dead_letters(tmp_path)] == ["write.float_overflow"]
    assert len(messages(tmp_path)) == 1


@pytest.mark.parametrize(
    ("spoil", "codes"),
    [
        (lambda data: data[: len(data) // 2], {"shard.bytes", "shard.broken"}),
        (lambda data: b"", {"shard.bytes", "shard.records", "shard.uncompressed_bytes", "shard.sha256"}),
        (lambda data: data[:60] + bytes([data[60] ^ 1]) + data[61:], {"shard.crc32c", "shard.broken"}),
    ],
    ids=["half", "empty", "bit"],
)
def test_verify_finds_a_damaged_shard(dataset, tmp_path, spoil, codes):
    shard = read_manifest(str(dataset)).shards[0].path
    for path in (path for path in dataset.rglob("*") if path.is_file()):
        copy = tmp_path / path.relative_to(dataset)
        copy.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        copy.write_bytes(spoil(content) if str(path.relative_to(dataset)) == shard else content)
    assert {fault.code for fault in verify_dataset(str(tmp_path))} == codes


def test_columns_must_be_declared():
    with pytest.raises(ConfigError, match="the format sequence_example needs columns"):
        DatasetSpec("out", format="sequence_example").shard_format()
    with pytest.raises(ConfigError, match="columns are for formats that need them, which tfrecord does not"):
        DatasetSpec("out", columns=COLUMNS)
    shards = load_format("sequence_example", "gzip", COLUMNS)
    with pytest.raises(ConfigError, match=r"column 'n' is not declared.*the columns are id, name, tags, xs, gone"):
        shards.encode(pa.record_batch({"n": [1]}))


def test_sequences_with_lists_are_not_read_as_examples(dataset):
    path = str(next(dataset.glob("train/*.gz")))
    (piece,) = load_format("tfrecord", "gzip").read(path, "a")
    _, faults = piece.decode([])
    assert len(faults) == sum(bool(message.feature_lists.feature_list) for message in messages_in([path]))
    assert "pass --record_type sequence_example" in str(faults)


LINES = [{"user": i, "clicks": [i, i + 1, i + 2][: i % 3 + 1], "tags": ["a", "b"]} for i in range(20)]


def test_job_writes_sequences_and_reads_them_again(tmp_path):
    source, out, again = write_jsonl(tmp_path / "rows.jsonl", LINES), tmp_path / "out", tmp_path / "again"
    flags = ("--output_format=sequence_example", "--sequence_features=clicks", "--num_shards=1")
    assert run_prepare("--input", source, "--output", out, *flags) == DONE
    assert list(verify_dataset(str(out))) == []
    for message in messages(out):
        user = message.context.feature["user"].int64_list.value[0]
        clicks = [step.int64_list.value[0] for step in message.feature_lists.feature_list["clicks"].feature]
        assert clicks == LINES[user]["clicks"]
        assert len(message.context.feature["tags"].bytes_list.value) == 2
    read = ("--record_type=sequence_example", "--schema", out / "schema.pbtxt")
    assert run_prepare("--input", f"{out}/train/*", *read, "--output", again, *flags) == DONE
    assert read_manifest(str(again)).dataset_id == read_manifest(str(out)).dataset_id


def test_job_makes_lists_of_what_the_schema_has_several_of(tmp_path):
    source, out = write_jsonl(tmp_path / "rows.jsonl", LINES), tmp_path / "out"
    assert run_prepare("--input", source, "--output", out, "--output_format=sequence_example") == DONE
    assert json.loads((out / "manifest.json").read_text())["provenance"]["feature_lists"] == ["clicks", "tags"]


def test_dead_letters_hold_the_sequences_and_are_replayed(tmp_path):
    sequence = tf.train.SequenceExample()
    sequence.context.feature["user"].int64_list.value.append(1)
    for values in ([1, 2], [3]):
        sequence.feature_lists.feature_list["clicks"].feature.add().int64_list.value.extend(values)
    path, out = tmp_path / "in.tfrecord", tmp_path / "out"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(sequence.SerializeToString(deterministic=True))
        del sequence.feature_lists.feature_list["clicks"].feature[0]
        writer.write(sequence.SerializeToString(deterministic=True))
    feature = 'feature {{ name: "{}" type: INT }}'.format
    (tmp_path / "one.pbtxt").write_text(feature("user") + feature("clicks"))
    (tmp_path / "two.pbtxt").write_text(feature("user") + feature("clicks") + feature("clicks$step_lengths"))
    flags = ("--record_type=sequence_example", "--schema", tmp_path / "one.pbtxt", "--max_reject_fraction=1")
    assert run_prepare("--input", path, *flags, "--output", out) == DONE
    assert [letter["reason"] for letter in dead_letters(out)] == ["tfrecord.steps"]
    letters = ("--dead_letters", f"{out}/dead_letters/*.jsonl", "--schema", tmp_path / "two.pbtxt")
    flags = ("--output_format=sequence_example", "--sequence_features=clicks,clicks$step_lengths")
    assert job(*letters, *flags, "--output", tmp_path / "repaired", run=replay.run) == (DONE, "")
    (message,) = messages(tmp_path / "repaired")
    steps = message.feature_lists.feature_list["clicks"].feature
    assert [list(step.int64_list.value) for step in steps] == [[1, 2], [3]]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--sequence_features=x"], "--sequence_features are for --output_format sequence_example: pass it too"),
        (
            ["--output_format=sequence_example", "--sequence_features=clics", "--schema={schema}"],
            "--sequence_features 'clics' is no column of the dataset; did you mean 'clicks'? the columns are user",
        ),
        (["--record_type=sequence"], "--record_type"),
    ],
    ids=["other_format", "unknown_column", "unknown_type"],
)
def test_wrong_flags_are_refused_before_anything_is_read(tmp_path, flags, words):
    schema, source = tmp_path / "schema.pbtxt", tmp_path / "rows.jsonl"
    schema.write_text('feature { name: "user" type: INT } feature { name: "clicks" type: INT }')
    source.write_text("no JSON")
    code, said = job("--input", source, "--output", tmp_path / "o", *(flag.format(schema=schema) for flag in flags))
    assert (code, words in said) == (2, True), said
    assert not (tmp_path / "o").exists()


def test_messages_are_sequences_too():
    sequence = tf.train.SequenceExample()
    sequence.feature_lists.feature_list["n"].feature.add().int64_list.value.append(5)
    values = pa.array([sequence.SerializeToString(), b"", b"\x1a\0"])
    decoded = DECODERS["tfexample"].make(None, record_type="sequence_example")().decode(values)
    assert decoded.columns["n"].to_pylist() == [[5], None]
    assert [*decoded.faults] == [2]
    with pytest.raises(ConfigError, match="record_type must be one of"):
        DECODERS["tfexample"].make(None, record_type="sequence")


def test_files_of_another_type_are_refused():
    with pytest.raises(ConfigError, match="record_type must be one of"):
        TFRecordFormat(record_type="sequence")
