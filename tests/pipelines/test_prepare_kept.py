"""Features are fitted and written in one reading: the dataset is that of two, and nothing stays behind."""

import errno
import json
import os
from types import SimpleNamespace

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from helpers import dead_letters, job, manifest_of, run_prepare, write_csv, write_schema_file

from penstock.transforms.checks.severity import SchemaSeverity
from penstock.transforms.features.functions import parse_features
from penstock.transforms.verify import verify_dataset
from pipelines._jobs import graph
from pipelines._plan import kept
from pipelines._plan.fitting import reads_twice
from pipelines._plan.kept import KeptRows
from pipelines._report.result import DATA_FAILED, DONE

FEATURES = """
features:
  x: {ops: [scale_to_z_score]}
  word: {ops: [{compute_and_apply_vocabulary: {top_k: 3, num_oov_buckets: 2}}]}
  hour: {input: time, ops: [{time_part: hour}]}
"""
ROWS = [
    {
        "id": row,
        "word": None if row % 9 == 1 else "abcdef"[row % 6],
        "x": "none" if row % 97 == 5 else row / 3,
        "time": "2026-01-01T05:00" if row != 7 else "soon",
    }
    for row in range(3000)
]


@pytest.fixture
def folder(tmp_path):
    for part in range(3):
        write_csv(tmp_path / f"in{part}.csv", ROWS[part::3], list(ROWS[0]))
    one = "value_count { min: 1 max: 1 }"
    types = {"id": "INT", "word": "BYTES", "x": "FLOAT", "time": "BYTES"}
    write_schema_file(tmp_path / "schema.pbtxt", **{name: f"{kind} {one}" for name, kind in types.items()})
    (tmp_path / "features.yaml").write_text(FEATURES)
    return tmp_path


def flags(folder, output="out"):
    return (
        f"--input={folder}/in*.csv",
        f"--schema={folder}/schema.pbtxt",
        "--split=train=0.8,eval=0.2",
        f"--features={folder}/features.yaml",
        f"--output={folder}/{output}",
    )


def twice(monkeypatch):
    monkeypatch.setattr(graph, "reads_twice", lambda *_: "a test asks for it")


def files(output):
    """The shards, schema and features, by path."""
    kinds = ("train", "eval", "transform", "schema.pbtxt")
    found = [path for path in output.rglob("*") if path.is_file() and path.relative_to(output).parts[0] in kinds]
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def counted(output):
    """What a manifest says of the rows."""
    state = json.loads((output / "manifest.json").read_text())
    for name in ("run_id", "created", "provenance"):
        state.pop(name, None)
    return json.loads(json.dumps(state).replace(manifest_of(output).run_id, "RUN"))


def letters(output):
    return sorted(json.dumps({**letter, "run_id": ""}, sort_keys=True) for letter in dead_letters(output))


@pytest.mark.parametrize(
    "more",
    [
        (),
        ("--shuffle=none",),
        ("--output_format=parquet", "--event_time=id:s"),
        ("--direct_num_workers=2", "--statistics=all"),
    ],
    ids=["plain", "in_order", "parquet", "threads"],
)
def test_the_dataset_is_that_of_two_readings(more, folder, monkeypatch):
    assert run_prepare(*flags(folder), *more) == DONE
    twice(monkeypatch)
    assert run_prepare(*flags(folder, "again"), *more) == DONE
    once, again = folder / "out", folder / "again"
    assert files(once) == files(again)
    assert letters(once) == letters(again)
    assert len(letters(once)) == 32
    assert manifest_of(once).dataset_id == manifest_of(again).dataset_id
    assert manifest_of(once).rows_in == manifest_of(again).rows_in == 3000
    assert list(verify_dataset(str(once))) == []


@pytest.mark.parametrize(
    ("changes", "flags", "windows", "why"),
    [
        ({}, [], False, None),
        ({}, ["--runner=FlinkRunner"], False, "do not share a disk"),
        ({"engine": "tft"}, [], False, "tensorflow-transform fits"),
        ({}, [], True, "rows go to windows"),
        ({"severity": SchemaSeverity("warn")}, [], False, "rows that only warn"),
    ],
    ids=["once", "cluster", "tft", "windows", "warnings"],
)
def test_why_an_input_is_read_twice(changes, flags, windows, why):
    if changes.get("engine") == "tft":
        pytest.importorskip("tensorflow_transform")
    recipe = {"preprocessing": parse_features("features: {x: {}}"), "engine": "auto", "severity": SchemaSeverity()}
    plan = SimpleNamespace(recipe=SimpleNamespace(**{**recipe, **changes}), demanded_by_fit=("x.presence",))
    found = reads_twice(plan, PipelineOptions(flags), windows)
    assert found is None if why is None else why in found


def test_the_summary_says_why_it_was_read_twice(folder, monkeypatch, capsys):
    twice(monkeypatch)
    assert run_prepare(*flags(folder)) == DONE
    assert "The input was read twice, to fit features and to write: a test asks for it" in capsys.readouterr().out


def test_small_files_make_the_same(folder, monkeypatch):
    assert run_prepare(*flags(folder)) == DONE
    monkeypatch.setattr(kept, "_MAX_FILE_BYTES", 1)
    assert run_prepare(*flags(folder, "again")) == DONE
    assert files(folder / "out") == files(folder / "again")


def left(folder):
    """What is kept anywhere."""
    return [path for path in folder.rglob("*") if path.suffix in (".rows", ".rejects") or path.name == "kept"]


@pytest.mark.parametrize("how", ["done", "no_train", "too_many_rejects", "faulty_fit"])
def test_nothing_is_left_behind(how, folder, monkeypatch):
    spill, seen = folder / "spill", []
    remove = KeptRows.remove
    monkeypatch.setattr(KeptRows, "remove", lambda self: (seen.append(self.folder), remove(self)))
    given = (*flags(folder), f"--spill_dir={spill}")
    match how:
        case "no_train":
            write_schema_file(folder / "schema.pbtxt", id="BYTES", word="BYTES", x="INT", time="BYTES")
            for part in (1, 2):
                (folder / f"in{part}.csv").unlink()
            write_csv(folder / "in0.csv", [{"id": 1, "word": "a", "x": 1.5, "time": "t"}], list(ROWS[0]))
        case "too_many_rejects":
            given = (*given, "--max_reject_fraction=0")
        case "faulty_fit":
            (folder / "features.yaml").write_text("features: {time: {ops: [{parse_time: s}, scale_to_z_score]}}")
    code, error = job(*given)
    expected = {
        "done": "",
        "no_train": "the split 'train' has no rows; 1 row is rejected: 1 for ",
        "too_many_rejects": "more than --max_reject_fraction 0 allows",
        "faulty_fit": "is no time in ISO 8601",
    }[how]
    assert expected in error
    assert code == (DONE if how == "done" else DATA_FAILED)
    assert len(seen) == 1
    assert left(folder) == []
    assert {path.name for path in spill.rglob("*") if path.is_file()} <= {"owner.lock"}


def test_a_full_disk_is_named(folder, monkeypatch):
    def fail(self, element):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(kept._KeepRowsFn, "_append", fail)
    code, error = job(*flags(folder))
    assert code == DATA_FAILED
    assert ".rows: No space left on device" in error
    assert "make room there, or pass --spill_dir DIR" in error
    assert left(folder) == []
