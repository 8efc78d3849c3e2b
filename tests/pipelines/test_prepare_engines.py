"""Features that Arrow fits and applies: no TensorFlow, the same rows in every way, rejects, and what is said of it."""

import json
import subprocess
import sys

import pytest
from helpers import dead_letters, examples, job, manifest_of, run_prepare, window_examples, write_csv, write_schema_file

from penstock.io.dataset.windowed.manifest import read_window_manifests
from penstock.io.errors import ConfigError
from penstock.io.files.extras import TFT
from penstock.transforms.features.engine import choose_engine
from penstock.transforms.verify import verify_dataset
from pipelines import fit
from pipelines._report.result import DONE, WRONG_USAGE

FEATURES = """
features:
  x: {ops: [scale_to_z_score]}
  bucket: {input: x, ops: [{bucketize: 4}]}
  word: {ops: [{compute_and_apply_vocabulary: {top_k: 3, num_oov_buckets: 2}}]}
  both: {inputs: [word, id_text], ops: [join, {hash_strings: 100}]}
  id: {}
  hour: {input: time, ops: [{time_part: hour}]}
  weight: {input: word, default: é, ops: [{lookup: {map: {a: 1.5, é: 2}, default: .inf}}, {clip_by_value: {max: 9.5}}]}
"""
ROWS = [
    {
        "id": row,
        "id_text": str(row),
        "word": None if row % 9 == 1 else "abcdef"[row % 6],
        "x": row / 3,
        "time": "2026-01-01T05:00" if row != 7 else "soon",
    }
    for row in range(300)
]


@pytest.fixture
def folder(tmp_path):
    write_csv(tmp_path / "in.csv", ROWS, list(ROWS[0]))
    one = "value_count { min: 1 max: 1 }"
    types = {"id": "INT", "id_text": "BYTES", "word": "BYTES", "x": "FLOAT", "time": "BYTES"}
    write_schema_file(tmp_path / "schema.pbtxt", **{name: f"{kind} {one}" for name, kind in types.items()})
    (tmp_path / "features.yaml").write_text(FEATURES)
    return tmp_path


def flags(folder):
    return (
        f"--input={folder}/in.csv",
        f"--schema={folder}/schema.pbtxt",
        "--split=train=0.8,eval=0.2",
        f"--features={folder}/features.yaml",
        f"--output={folder}/out",
    )


# Whatever imports TensorFlow, or what it brings, fails.
_WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in ("tensorflow", "tensorflow_transform", "tfx_bsl"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from pipelines import prepare
sys.exit(prepare.run(sys.argv[1:]))
"""


def test_no_tensorflow_is_needed_to_fit_and_apply(folder):
    command = [sys.executable, "-c", _WITHOUT, *map(str, flags(folder))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == DONE, done.stderr
    assert f"{folder}/out/transform/" in done.stdout
    assert "the fitted features (arrow)" in done.stdout
    assert manifest_of(folder / "out").provenance["features_engine"] == "arrow"
    state = json.loads((folder / "out/transform/features.json").read_text())
    assert state["version"] == 1
    assert {feature["name"] for feature in state["features"]} == {"x", "bucket", "word", "both", "id", "hour", "weight"}
    assert (folder / "out/transform/vocabularies/word").read_text().count("\n") == 3


def test_a_row_that_cannot_be_computed_is_a_dead_letter(folder):
    assert run_prepare(*flags(folder)) == DONE
    (letter,) = dead_letters(folder / "out")
    assert letter["reason"] == "transform.error"
    assert "is no time in ISO 8601" in letter["detail"]
    rows = examples(folder / "out") + examples(folder / "out", "eval")
    assert len(rows) == 299
    assert {row["hour"][0] for row in rows} == {5}
    assert sum("word" not in row for row in rows) == sum(row["word"] is None for row in ROWS)
    assert list(verify_dataset(str(folder / "out"))) == []


def test_what_was_fitted_is_applied_again(folder):
    assert run_prepare(*flags(folder)) == DONE
    given = [flag for flag in flags(folder) if not flag.startswith(("--features", "--output"))]
    again = (*given, f"--transform={folder}/out/transform", f"--output={folder}/again")
    assert run_prepare(*again) == DONE
    assert manifest_of(folder / "again").dataset_id == manifest_of(folder / "out").dataset_id


def test_windows_have_the_same_features(folder):
    assert run_prepare(*flags(folder)) == DONE
    given = [flag for flag in flags(folder) if not flag.startswith(("--features", "--output"))]
    windows = ("--event_time=id:s", "--window=fixed:100s", "--num_shards=1")
    again = (*given, *windows, f"--transform={folder}/out/transform", f"--output={folder}/windows")
    assert run_prepare(*again) == DONE
    for split in ("train", "eval"):
        manifests = list(read_window_manifests(str(folder / "windows")))
        assert len(manifests) == 3
        found = [row for manifest in manifests for row in window_examples(folder / "windows", manifest, split)]
        expected = examples(folder / "out", split)
        assert sorted(found, key=lambda row: row["id"]) == sorted(expected, key=lambda row: row["id"])


def test_features_of_the_label_are_left_out_where_it_is_not_expected(folder):
    (folder / "features.yaml").write_text("features: {x: {ops: [scale_to_0_1]}, label: {input: id_text}}")
    schema = (
        (folder / "schema.pbtxt")
        .read_text()
        .replace('name: "id_text"', 'name: "id_text" not_in_environment: "SERVING"')
    )
    (folder / "schema.pbtxt").write_text(f'default_environment: "TRAINING" default_environment: "SERVING" {schema}')
    assert run_prepare(*flags(folder)) == DONE
    write_csv(folder / "in.csv", ROWS, [name for name in ROWS[0] if name != "id_text"])
    given = [flag for flag in flags(folder) if not flag.startswith(("--features", "--output"))]
    again = (*given, f"--transform={folder}/out/transform", f"--output={folder}/again", "--environment=SERVING")
    assert run_prepare(*again) == DONE
    assert {name for row in examples(folder / "again") for name in row} == {"x"}


def test_a_function_is_not_fitted_by_arrow():
    with pytest.raises(ConfigError, match="--features_engine arrow: has no preprocessing_fn; take auto or tft"):
        choose_engine(dict, "arrow")


def test_fit_says_who_fitted_and_keeps_what_is_there(folder, capsys):
    given = [flag for flag in flags(folder) if "--output" not in flag] + [f"--output={folder}/graph"]
    assert fit.run(given) == DONE
    assert "features.yaml (arrow) on " in capsys.readouterr().out
    code, error = job(*given, run=fit.run)
    assert code == WRONG_USAGE
    assert "holds a graph already" in error


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{}", "is not a file of fitted features"),
        ('{"version": 2}', "has the version 2, this Penstock reads 1; fit again"),
        ('{"version": 1}', "does not hold what it should"),
    ],
)
def test_a_damaged_file_of_fitted_features_is_named(folder, text, told):
    assert run_prepare(*flags(folder)) == DONE
    (folder / "out/transform/features.json").write_text(text)
    given = [flag for flag in flags(folder) if not flag.startswith(("--features", "--output"))]
    code, error = job(*given, f"--transform={folder}/out/transform", f"--output={folder}/again")
    assert code == WRONG_USAGE
    assert f"{folder}/out/transform/features.json: {told}" in error


def test_a_graph_still_needs_the_extra(folder, monkeypatch):
    monkeypatch.setattr(type(TFT), "require", lambda *_: (_ for _ in ()).throw(TFT.missing("features")))
    code, error = job(*flags(folder), "--features_engine=tft")
    assert code == WRONG_USAGE
    assert "pip install '.[tft]'" in error
