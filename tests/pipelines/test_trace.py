"""From a record of a dataset back to the row that it was made of."""

import collections
import contextlib
import io
import json

import pyarrow as pa
import pytest
from helpers import job, manifest_of, run_prepare, write_csv, write_jsonl, write_parquet, write_schema_file

import penstock
from penstock.io.columns.of_schema import check_no_origin_columns
from penstock.io.dataset.encode import with_origin_columns
from penstock.io.errors import ConfigError
from penstock.io.examples.decode import decode_examples
from penstock.io.examples.frames import read_frames
from penstock.io.files.inputs import open_decompressed, stat_file
from penstock.transforms.verify import verify_dataset
from pipelines import replay, spans, trace

ROWS = [{"x": number, "name": f"n, {number}"} for number in range(60)]


def prepared(tmp_path, *flags, name="out", rows=ROWS):
    """A dataset of a CSV file, whose records keep their origins."""
    if not (tmp_path / "in.csv").exists():
        write_csv(tmp_path / "in.csv", rows, ["x", "name"])
    assert run_prepare("--input", tmp_path / "in.csv", "--output", tmp_path / name, "--keep_origin", *flags) == 0
    return tmp_path / name


def traced(dataset, *argv):
    """What `trace --json` prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert trace.run([str(dataset), *map(str, argv), "--json"]) == 0
    return json.loads(out.getvalue())


def refused(*argv):
    code, said = job(*argv, run=trace.run)
    assert code == 2
    return said


def line_of(text):
    return f'{text["x"]},"n, {text["x"]}"'


@pytest.mark.parametrize("shards", ["tfrecord", "sequence_example", "parquet", "webdataset", "mds", "arrayrecord"])
def test_each_record_leads_to_its_line(tmp_path, shards):
    pytest.importorskip("array_record" if shards == "arrayrecord" else "pyarrow")
    dataset = prepared(tmp_path, "--output_format", shards, "--num_shards", 2, "--split", "train=0.5,eval=0.5")
    assert list(verify_dataset(str(dataset))) == []
    shard = next(one for one in manifest_of(dataset).shards if one.split == "eval" and one.records > 2)
    rows = pa.Table.from_batches(penstock.load(str(dataset), "eval").batches(100)).to_pylist()
    first = sum(one.records for one in manifest_of(dataset).shards if one.split == "eval" and one.path < shard.path)
    for number in (0, shard.records - 1):
        found = traced(dataset, shard.path, "--record", number)
        assert (found["uri"], found["unit"]) == (str(tmp_path / "in.csv"), "byte")
        assert found["text"] == line_of(rows[first + number])
        assert found["line"] == rows[first + number]["x"] + 2
        assert found["why"] is None


def test_loaders_leave_origins_out_unless_they_are_asked_for(tmp_path):
    write_csv(tmp_path / "in.csv", ROWS, ["x", "name"])
    assert run_prepare("--input", tmp_path / "in.csv", "--output", tmp_path / "plain") == 0
    dataset = prepared(tmp_path)
    plain = pa.Table.from_batches(penstock.load(str(tmp_path / "plain")).batches(100))
    assert pa.Table.from_batches(penstock.load(str(dataset)).batches(100)) == plain
    asked = penstock.load(str(dataset), columns=["x", "_origin.position"])
    assert asked.schema.names == ["x", "_origin.position"]
    with open_decompressed(stat_file(str(dataset / manifest_of(dataset).shards[0].path))) as stream:
        stored = decode_examples(next(read_frames(stream, "shard")), None).batch
    assert {*stored.schema.names} == {"x", "name", "_origin.uri", "_origin.position"}
    assert "_origin" not in (dataset / "schema.pbtxt").read_text()
    with pytest.raises(ConfigError, match=r"_origin\.uri"):
        penstock.load(str(tmp_path / "plain"), columns=["_origin.uri"])


def test_a_byte_of_a_shard_is_of_the_record_that_has_it(tmp_path):
    dataset = prepared(tmp_path, "--num_shards", 1)
    (shard,) = manifest_of(dataset).shards
    with open_decompressed(stat_file(str(dataset / shard.path))) as stream:
        offsets = [int(offset) for frames in read_frames(stream, shard.path) for offset in frames.offsets]
    for offset in (offsets[7], offsets[8] - 1):
        assert traced(dataset, dataset / shard.path, offset)["record"] == 7
    assert traced(dataset, shard.path, offsets[59])["text"] == traced(dataset, shard.path, "--record", 59)["text"]
    assert "has no byte 999999" in refused(dataset, shard.path, 999999)


def test_other_sources_and_features_keep_their_origins(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    write_parquet(tmp_path / "b.parquet", pa.Table.from_pylist(ROWS))
    (tmp_path / "features.yaml").write_text("features:\n  x: {ops: [scale_to_z_score]}\n")
    for source, unit in (("a.jsonl", "byte"), ("b.parquet", "row")):
        output = tmp_path / source[0]
        flags = ("--features", tmp_path / "features.yaml", "--output", output, "--keep_origin", "--num_shards", 1)
        assert run_prepare("--input", tmp_path / source, *flags) == 0
        assert list(verify_dataset(str(output))) == []
        found = traced(output, manifest_of(output).shards[0].path, "--record", 3)
        assert found["unit"] == unit
        assert json.loads(found["text"]) in ROWS


def test_windows_keep_origins(tmp_path):
    rows = [{"x": number, "name": "n, 1", "at": number * 10} for number in range(12)]
    write_csv(tmp_path / "in.csv", rows, ["x", "name", "at"])
    schema = write_schema_file(tmp_path / "schema.pbtxt", x="INT", name="BYTES", at="INT")
    window = ("--event_time", "at:s", "--window", "fixed:60s", "--num_shards", 1)
    dataset = prepared(tmp_path, "--schema", schema, *window)
    assert list(verify_dataset(str(dataset))) == []
    (shard, *_) = sorted((dataset / "train").rglob("part-*"))
    found = traced(dataset, shard, "--record", 0)
    assert found["text"].endswith(f",{found['line'] * 10 - 20}")


def test_an_input_that_changed_or_went_is_said_in_one_line(tmp_path):
    dataset = prepared(tmp_path, "--num_shards", 1)
    shard = manifest_of(dataset).shards[0].path
    with (tmp_path / "in.csv").open("a") as file:
        file.write("60,more\n")
    found = traced(dataset, shard, "--record", 0)
    assert (found["text"], found["position"] > 0) == (None, True)
    assert "in.csv" in found["why"]
    assert "bytes at the start" in found["why"]
    (tmp_path / "in.csv").unlink()
    assert traced(dataset, shard, "--record", 0)["why"].endswith("the file is gone or cannot be read")


def test_what_is_printed(tmp_path, capsys):
    dataset = prepared(tmp_path, "--num_shards", 1)
    shard = manifest_of(dataset).shards[0].path
    capsys.readouterr()
    trace.run([str(dataset), shard, "--record", "0"])
    first, origin, line = capsys.readouterr().out.splitlines()
    assert first == f"record 0 of {dataset}/{shard}"
    assert origin.startswith(f"  from {tmp_path}/in.csv, byte ")
    assert ", line " in origin
    assert '"n, ' in line


def test_what_is_added_keeps_origins_if_the_dataset_does(tmp_path):
    dataset = prepared(tmp_path)
    write_jsonl(tmp_path / "more.dat", ROWS[:9])
    assert run_prepare("--append", "--input", tmp_path / "more.dat", "--output", dataset, "--format", "json") == 0
    shard = next(one for one in manifest_of(dataset).shards if one.path.startswith("run-"))
    assert traced(dataset, shard.path, "--record", 0)["uri"] == str(tmp_path / "more.dat")
    for _ in range(2):
        assert spans.compact([str(dataset)]) == 0
    (shard,) = manifest_of(dataset).shards
    found = [traced(dataset, shard.path, "--record", number) for number in range(69)]
    counts = collections.Counter(one["uri"] for one in found)
    assert counts == {str(tmp_path / "in.csv"): 60, str(tmp_path / "more.dat"): 9}
    assert {one["why"] for one in found} == {None}, "each file is read as the run did that read it"


def test_a_replay_keeps_the_origins_of_what_was_rejected(tmp_path):
    for name, least in (("strict", 5), ("loose", 0)):
        (tmp_path / f"{name}.yaml").write_text(f"rules:\n- {{name: least, sql: x >= {least}}}\n")
    dataset = prepared(tmp_path, "--rules", tmp_path / "strict.yaml", "--max_reject_fraction", 1)
    flags = ("--rules", tmp_path / "loose.yaml", "--output", tmp_path / "repaired", "--num_shards", 1)
    letters = f"{dataset}/dead_letters/*.jsonl"
    assert replay.run([*map(str, ("--dead_letters", letters, *flags))]) == 0
    (shard,) = manifest_of(tmp_path / "repaired").shards
    found = traced(tmp_path / "repaired", shard.path, "--record", 4)
    assert (found["uri"], found["line"] < 7) == (str(tmp_path / "in.csv"), True)
    assert found["why"] == "the manifest does not tell whether the file is as it was"


def test_what_is_added_to_a_dataset_without_origins_has_none(tmp_path):
    write_csv(tmp_path / "in.csv", ROWS, ["x", "name"])
    write_csv(tmp_path / "more.csv", ROWS[:9], ["x", "name"])
    assert run_prepare("--input", tmp_path / "in.csv", "--output", tmp_path / "out") == 0
    code, said = job("--append", "--keep_origin", "--input", tmp_path / "more.csv", "--output", tmp_path / "out")
    assert code == 2
    assert "--keep_origin: records of the dataset" in said
    shard = manifest_of(tmp_path / "out").shards[0].path
    assert "its records do not say where they came from: prepare it with --keep_origin" in refused(
        tmp_path / "out", shard, 0
    )


def test_a_record_that_is_not_there_is_refused(tmp_path):
    dataset = prepared(tmp_path, "--num_shards", 1)
    shard = manifest_of(dataset).shards[0].path
    assert f"has no shard train/none; there is {shard}" in refused(dataset, "train/none", 0)
    assert "has 60 records, from 0, and no record 60" in refused(dataset, shard, "--record", 60)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["d"], "DATASET SHARD OFFSET are required, or DATASET SHARD --record N: got 1 arguments"),
        (["d", "s", "1", "--record", "1"], "got 3 arguments and --record"),
        (["d", "s", "x"], "OFFSET must be a whole number from 0, got 'x'"),
        (["d", "s", "--record", "-1"], "--record must be a whole number from 0, got -1"),
    ],
)
def test_a_command_line_that_names_no_record_is_refused(argv, message):
    assert message in refused(*argv)


def test_rows_without_origins_cannot_keep_them():
    with pytest.raises(ConfigError, match="keep_origin needs rows that say where they come from"):
        with_origin_columns(pa.RecordBatch.from_pylist([{"x": 1}]))


def test_a_column_that_has_the_name_of_an_origin_is_refused():
    with pytest.raises(ConfigError, match=r"column '_origin\.uri' has the name of one that keep_origin adds"):
        check_no_origin_columns(["x", "_origin.uri"])
