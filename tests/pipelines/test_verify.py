import json
import os
import re
import runpy
import shutil
import sys
import time

import apache_beam as beam
import forked
import pyarrow as pa
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from penstock.io.errors import ConfigError
from penstock.io.write import WriteDataset
from pipelines import verify
from pipelines._cli.command import main

SHARD = "train/part-00000-of-00001.tfrecord"


def _rows(_):
    return pa.record_batch({"x": pa.array(range(1234), pa.int64())})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A dataset that is written once."""
    path = tmp_path_factory.mktemp("written") / "out"
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        rows = pipeline | beam.Create([0]) | beam.Map(_rows).with_output_types(pa.RecordBatch)
        _ = rows | WriteDataset(str(path), num_shards=1, compression="none")
    return path


@pytest.fixture
def dataset(written, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(written, tmp_path / "out")


def test_good_dataset(dataset, capsys):
    assert main("verify", verify.run, [f"--dataset={dataset}"]) == 0
    text = capsys.readouterr().out
    assert re.fullmatch(rf"{re.escape(str(dataset))}: good: 1,234 records in 1 shard, 3\d\.\d KiB\n", text)


def test_good_dataset_as_json(dataset, capsys):
    assert main("verify", verify.run, [f"--dataset={dataset}", "--json"]) == 0
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert (found["dataset"], found["good"], found["faults"]) == (str(dataset), True, [])
    assert captured.err == ""


def test_each_fault_is_a_line(dataset, capsys):
    (dataset / "note\u00ebs").write_text("")
    assert main("verify", verify.run, ["--dataset", str(dataset)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "note\u00ebs: is not in the manifest [file.orphan]",
        f"{dataset}: 1 fault",
    ]
    os.remove(dataset / SHARD)
    assert main("verify", verify.run, ["--dataset", str(dataset)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{SHARD}: is missing [file.missing]",
        "note\u00ebs: is not in the manifest [file.orphan]",
        f"{dataset}: 2 faults",
    ]


def test_faults_as_json(dataset, capsys):
    with open(dataset / SHARD, "ab") as file:
        file.write(b"xyz")
    assert main("verify", verify.run, ["--dataset", str(dataset), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= {"dataset", "good", "faults"}
    assert found["good"] is False
    assert [(fault["code"], fault["path"]) for fault in found["faults"]] == [
        ("shard.bytes", SHARD),
        ("shard.broken", SHARD),
    ]
    assert all(fault["detail"] for fault in found["faults"])


def test_folder_in_which_no_run_finished(dataset, capsys):
    os.remove(dataset / "manifest.json")
    assert main("verify", verify.run, ["--dataset", str(dataset)]) == 1
    assert "manifest.json: is missing: no run has finished in this folder [manifest.missing]" in capsys.readouterr().out


@pytest.mark.parametrize("given", ["absolute", "relative", "slash", "dot", "link"])
def test_every_way_to_name_the_folder(dataset, given, monkeypatch, capsys):
    monkeypatch.chdir(dataset if given == "dot" else dataset.parent)
    (dataset.parent / "link").symlink_to(dataset)
    name = {"absolute": str(dataset), "relative": "out", "slash": "out/", "dot": ".", "link": "link"}[given]
    assert main("verify", verify.run, ["--dataset", name]) == 0
    assert capsys.readouterr().out.startswith(f"{name}: good: 1,234 records")


def test_folder_whose_name_looks_like_a_pattern(dataset, capsys):
    moved = dataset.rename(dataset.parent / "run [1] *?")
    assert main("verify", verify.run, ["--dataset", str(moved)]) == 0
    (moved / "more").write_text("")
    assert main("verify", verify.run, [str(moved)]) == 1


@pytest.mark.parametrize("arguments", [["one", "two"], ["one", "--dataset=two"]])
def test_one_dataset_is_verified(arguments, capsys):
    with pytest.raises(SystemExit):
        verify.run(arguments)
    assert "unexpected argument 'one'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], r"DATASET is required: the folder that a job wrote"),
        (["--dataset="], r"DATASET is required"),
        (["nowhere"], r"--dataset nowhere: no such folder, or it is empty"),
        (["--dataset=nowhere"], r"--dataset nowhere: no such folder, or it is empty"),
        (["--dataset=empty"], r"--dataset empty: no such folder, or it is empty"),
        (["--dataset=file"], r"--dataset file: is a file; name the folder of a dataset"),
        (
            ["--dataset=nosuch://bucket/out"],
            r"--dataset nosuch://bucket/out: no filesystem is known for nosuch://; known are",
        ),
    ],
)
def test_wrong_usage(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match=message):
        verify.run(arguments)
    assert main("verify", verify.run, arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("python -m pipelines.verify: error: ")


def test_unknown_flag(capsys):
    with pytest.raises(SystemExit, match="2"):
        verify.run(["--datset=out"])
    assert "unknown flag --datset; did you mean --dataset?" in capsys.readouterr().err


def test_command_line(dataset, monkeypatch, capfd):
    arguments = ["--json", "--dataset", str(dataset)]
    # As python -m runs it, and so much sooner than a second process is there.
    monkeypatch.setattr(sys, "argv", ["pipelines.verify", *arguments])
    monkeypatch.delitem(sys.modules, "pipelines.verify")
    monkeypatch.setattr("pipelines._cli.command.end", sys.exit)  # this process goes on
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("pipelines.verify", run_name="__main__", alter_sys=True)
    printed = capfd.readouterr()
    assert (ended.value.code, printed.err) == (0, "")
    assert json.loads(printed.out)["good"] is True
    os.remove(dataset / SHARD)
    done = forked.run(["-m", "pipelines.verify", *arguments])
    assert (done.returncode, done.stderr) == (1, "")
    assert [fault["code"] for fault in json.loads(done.stdout)["faults"]] == ["file.missing"]


def _age(path, seconds):
    then = time.time() - seconds
    os.utime(path, (then, then))


def _leave(dataset, name, age):
    path = dataset / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    _age(path, age)
    return path


DAY = 86_400


def test_clean_deletes_what_is_old_and_no_part_of_the_dataset(dataset, capsys):
    before = {path for path in dataset.rglob("*") if path.is_file()}
    for path in before:
        _age(path, 9 * DAY)
    _leave(dataset, "old/part-00000-of-00001.tfrecord", 2 * DAY)
    _leave(dataset, ".tmp-killed/train/part-00000-of-00001.tfrecord", 2 * DAY)
    _leave(dataset, ".tmp-at-work/train/part-00000-of-00001.tfrecord", 2 * DAY)
    kept = {_leave(dataset, ".tmp-at-work/train/part-00001-of-00002.tfrecord", 60), _leave(dataset, "new.txt", 60)}
    kept |= {dataset / ".tmp-at-work/train/part-00000-of-00001.tfrecord", _leave(dataset, "_history/L0-1", 9 * DAY)}
    assert main("verify", verify.run, [f"--dataset={dataset}", "--clean"]) == 1
    assert {path for path in dataset.rglob("*") if path.is_file()} == before | kept
    assert not (dataset / "old").exists()
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [
        ".tmp-killed/train/part-00000-of-00001.tfrecord: deleted",
        "old/part-00000-of-00001.tfrecord: deleted",
    ]
    assert "new.txt: is not in the manifest [file.orphan]" in lines
    assert main("verify", verify.run, [f"--dataset={dataset}", "--clean", "--clean_age=10s"]) == 0
    assert {path for path in dataset.rglob("*") if path.is_file()} == before | {dataset / "_history/L0-1"}


def test_clean_deletes_nothing_where_a_manifest_cannot_be_read(dataset, capsys):
    (dataset / "manifest.json").write_text("{")
    path = _leave(dataset, "old.txt", 2 * DAY)
    assert main("verify", verify.run, [f"--dataset={dataset}", "--clean"]) == 1
    assert "nothing is deleted, since manifest.json: " in capsys.readouterr().err
    assert path.exists()


def test_the_age_alone_is_refused(dataset):
    with pytest.raises(ConfigError, match="--clean_age says what --clean deletes: give that too"):
        verify.run([f"--dataset={dataset}", "--clean_age=1d"])


def test_a_report_has_each_fault_as_an_alert(dataset, tmp_path, capsys):
    report = tmp_path / "report.html"
    assert main("verify", verify.run, ["--dataset", str(dataset), "--report", str(report)]) == 0
    assert f"the report: {report}" in capsys.readouterr().out
    page = report.read_text()
    assert "No anomaly was found." in page
    assert "There are no statistics." in page  # WriteDataset alone computes none
    (dataset / "notes").write_text("")
    (dataset / SHARD).write_bytes(b"")
    assert main("verify", verify.run, ["--dataset", str(dataset), "--report", str(report), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(report)
    page = report.read_text()
    assert found["faults"]
    for fault in found["faults"]:
        assert f"<code>{fault['code']}</code>" in page


def test_a_report_of_a_dataset_whose_manifest_is_broken(dataset, tmp_path, capsys):
    (dataset / "manifest.json").write_text("{")
    report = tmp_path / "report.html"
    assert main("verify", verify.run, ["--dataset", str(dataset), "--report", str(report)]) == 1
    assert report.read_text().count("<code>manifest.broken</code>") == 1


def test_a_report_in_the_dataset_is_refused(dataset, capsys):
    assert main("verify", verify.run, [f"--dataset={dataset}", f"--report={dataset}/report.html"]) == 2
    assert "lies in --dataset" in capsys.readouterr().err
